//! What the command line asks for.

/// Measures or only checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// The table, and what follows it.
    Measure,
    /// Every engine once: what `cargo test --benches` does.
    Check,
    /// The machine code of the rows, into files.
    Dump,
    /// Loads and unloads alone.
    Loads,
}

/// How thoroughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    Full,
    Quick,
}

/// Statistics of criterion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Statistics {
    No,
    Yes,
    Save(String),
    Compare(String),
}

/// The command line.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) task: Task,
    pub(crate) care: Care,
    pub(crate) statistics: Statistics,
    /// Parts of names of rows; none for all.
    rows: Vec<String>,
}

/// The options, for who gets one wrong.
pub(crate) const USAGE: &str = "cargo bench --bench jit -- [ROW...] [--quick] [--check] [--dump] [--loads] \
                                [--criterion | --save-baseline NAME | --baseline NAME]";

impl Arguments {
    /// Reads them; `None` for what is no option.
    pub(crate) fn read(words: impl Iterator<Item = String>) -> Option<Self> {
        let mut arguments = Self { task: Task::Check, care: Care::Full, statistics: Statistics::No, rows: Vec::new() };
        let mut words = words;
        while let Some(word) = words.next() {
            match word.as_str() {
                // What cargo adds to say that it benches.
                "--bench" => {
                    if arguments.task == Task::Check {
                        arguments.task = Task::Measure;
                    }
                }
                "--quick" => arguments.care = Care::Quick,
                "--dump" => arguments.task = Task::Dump,
                "--loads" => arguments.task = Task::Loads,
                "--criterion" => arguments.statistics = Statistics::Yes,
                "--save-baseline" => arguments.statistics = Statistics::Save(words.next()?),
                "--baseline" => arguments.statistics = Statistics::Compare(words.next()?),
                "--check" | "--test" => {
                    return Some(Self {
                        task: Task::Check,
                        rows: words.filter(|word| word != "--bench").collect(),
                        ..arguments
                    });
                }
                row if !row.starts_with('-') => arguments.rows.push(word),
                _ => return None,
            }
        }
        Some(arguments)
    }

    /// Whether a row is asked for.
    pub(crate) fn wants(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|part| row.contains(part.as_str()))
    }

    /// Whether all rows are.
    pub(crate) fn wants_all(&self) -> bool {
        self.rows.is_empty()
    }
}
