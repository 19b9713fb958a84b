//! Case files: `tests/cases/*.case`, each a program with its world and what must come of it, run in every mode.
//!
//! A line `-- section arguments` begins a section; what follows is its body. `-- about` says in a sentence what the
//! mistake would be.
//!
//! | section | body |
//! |---|---|
//! | `kind xdp` | the hook, `raw` where absent |
//! | `fuel N` | fuel of the run |
//! | `map NAME TYPE KEY VALUE ENTRIES` | a map; programs name it by its place, from 0 |
//! | `element MAP KEY` | value of an element before the run, in hexadecimal |
//! | `sockets` | sockets of the host, as `--sockets` takes them |
//! | `asm NAME` | a program; the first is run |
//! | `slot MAP INDEX NAME` | a program in a program array |
//! | `memory`, `frame` | bytes in hexadecimal; `00*60` repeats |
//! | `r0 N`, `fuel_left N`, `tail_calls N`, `redirect N` | what must be at the end |
//! | `trap` | the trap in words, with the program's name |
//! | `after` | memory, or metadata and frame, at the end |
//! | `value MAP KEY` | value of an element at the end |
//! | `findings` | identifier and pc a line: what verify mode must notice, and nothing else |
//! | `line` | lines of `bpf_trace_printk` |

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use kumite::maps::{Map, MapDef, MapId, MapKind, Target};
use kumite::run::sockets::Socket;
use kumite::verdict::ProgramKind;
use kumite::vm::{Loaded, Mode};

use crate::stage::{Ran, Stage, slots};

/// One section of a case file.
struct Section<'text> {
    name: &'text str,
    args: Vec<&'text str>,
    body: String,
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("-- ") {
            let mut words = heading.split_whitespace();
            let name = words.next().expect("a section has a name");
            sections.push(Section { name, args: words.collect(), body: String::new() });
        } else if let Some(section) = sections.last_mut() {
            section.body.push_str(line);
            section.body.push('\n');
        }
    }
    sections
}

impl Section<'_> {
    fn number(&self, index: usize) -> u64 {
        number(self.args[index])
    }

    fn bytes(&self) -> Vec<u8> {
        let words = self.body.split_whitespace();
        words
            .flat_map(|word| match word.split_once('*') {
                Some((hex, count)) => bytes(hex).repeat(count.parse().expect("a count")),
                None => bytes(word),
            })
            .collect()
    }
}

fn number(word: &str) -> u64 {
    let parsed = match (word.strip_prefix("0x"), word.strip_prefix('-')) {
        (Some(hex), _) => u64::from_str_radix(hex, 16),
        (None, Some(below_zero)) => below_zero.parse().map(u64::wrapping_neg),
        (None, None) => word.parse(),
    };
    parsed.unwrap_or_else(|error| panic!("{word}: {error}"))
}

fn bytes(hex: &str) -> Vec<u8> {
    kumite::report::from_hex(hex).unwrap_or_else(|| panic!("{hex}: two digits make a byte"))
}

fn kind(word: &str) -> ProgramKind {
    ProgramKind::by_name(word).expect("a kind of program")
}

fn map_kind(word: &str) -> MapKind {
    (0..64).map(MapKind).find(|kind| kind.to_string() == word).expect("a type of map")
}

/// The world of a case.
struct Scene<'case> {
    sections: &'case [Section<'case>],
    stage: Stage,
    maps: Vec<(MapId, Arc<dyn Map>)>,
    programs: Vec<Arc<Loaded>>,
}

impl<'case> Scene<'case> {
    fn set(sections: &'case [Section<'case>]) -> Self {
        let mut scene = Self { sections, stage: Stage::new(), maps: Vec::new(), programs: Vec::new() };
        if let Some(fuel) = scene.one("fuel") {
            scene.stage.fuel = fuel.number(0);
        }
        for section in scene.all("map") {
            let word = |index: usize| u32::try_from(section.number(index)).expect("32 bits");
            let def = MapDef {
                name: section.args[0].to_owned(),
                kind: map_kind(section.args[1]),
                key_len: word(2),
                value_len: word(3),
                max_entries: word(4),
                flags: if section.args.len() > 5 { word(5) } else { 0 },
                ..MapDef::default()
            };
            let map = scene.stage.map(&def);
            scene.maps.push(map);
        }
        for section in scene.all("element") {
            scene.map(section.args[0]).host_update(&bytes(section.args[1]), &section.bytes(), 0).expect("an element");
        }
        if let Some(sockets) = scene.one("sockets") {
            scene
                .stage
                .world
                .sockets
                .replace(Socket::parse_list(&sockets.body).expect("a list of sockets"))
                .expect("room");
        }
        let kind = scene.one("kind").map_or(ProgramKind::Raw, |section| kind(section.args[0]));
        for section in scene.all("asm") {
            let loaded = scene.stage.load(section.args[0], kind, slots(&section.body), &scene.maps);
            scene.programs.push(loaded);
        }
        let names: HashMap<&str, usize> = scene.all("asm").enumerate().map(|(at, asm)| (asm.args[0], at)).collect();
        for section in scene.all("slot") {
            let array = scene.map(section.args[0]);
            let index = u32::try_from(section.number(1)).expect("32 bits");
            let slot = scene.programs[names[section.args[2]]].slot();
            array.as_program_array().expect("a program array").replace(index, Some(slot)).expect("a slot");
        }
        scene
    }

    fn all(&self, name: &'static str) -> impl Iterator<Item = &'case Section<'case>> + use<'case> {
        self.sections.iter().filter(move |section| section.name == name)
    }

    fn one(&self, name: &'static str) -> Option<&'case Section<'case>> {
        self.all(name).next()
    }

    fn map(&self, name: &str) -> &Arc<dyn Map> {
        let index = self.all("map").position(|section| section.args[0] == name).expect("a map of the case");
        &self.maps[index].1
    }

    fn run(&self, mode: Mode) -> Ran {
        let program = self.programs.first().expect("a case has a program");
        match self.one("frame") {
            Some(frame) => self.stage.run_frame(mode, program, &frame.bytes()),
            None => {
                let memory = self.one("memory").map(Section::bytes).unwrap_or_default();
                self.stage.run_raw(mode, program, &memory)
            }
        }
    }

    /// What differs from what the case says.
    fn differences(&self, mode: Mode, ran: &Ran) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut compare = |what: &str, is: String, should: String| {
            if is != should {
                wrong.push(format!("{what} is {is}, should be {should}"));
            }
        };
        let trap = ran.trapped_in.as_ref().map(|name| format!("{name} {}", ran.trap_text()));
        let expected = self.one("trap").map(|section| section.body.trim().to_owned());
        compare("trap", trap.unwrap_or_default(), expected.unwrap_or_default());
        let numbers = [
            ("r0", ran.r0),
            ("fuel_left", ran.fuel_left),
            ("tail_calls", u64::from(ran.tail_calls)),
            (
                "redirect",
                ran.redirect.map_or(0, |redirect| match redirect.target {
                    Target::Port(ifindex) => u64::from(ifindex),
                    other @ (Target::Processor(_) | Target::Socket(_) | Target::Ports { .. }) => {
                        panic!("no single port: {other}")
                    }
                }),
            ),
        ];
        for (name, is) in numbers {
            if let Some(section) = self.one(name) {
                compare(name, format!("{is:#x}"), format!("{:#x}", section.number(0)));
            }
        }
        if let Some(section) = self.one("after") {
            compare("memory", format!("{:02x?}", ran.memory), format!("{:02x?}", section.bytes()));
        }
        for section in self.all("value") {
            let value = self.map(section.args[0]).host_lookup(&bytes(section.args[1]));
            compare("value", format!("{value:02x?}"), format!("{:02x?}", Ok::<_, ()>(section.bytes())));
        }
        if let Some(section) = self.one("line") {
            let lines = self.stage.lines.lock().expect("no panic").join("\n");
            compare("lines", lines, section.body.trim_end().to_owned());
        }
        if mode == Mode::Verify {
            let found = ran.findings.iter().map(|finding| format!("{} {}", finding.id, finding.pc));
            let expected = self.one("findings").map(|section| section.body.trim().to_owned());
            compare("findings", found.collect::<Vec<_>>().join("\n"), expected.unwrap_or_default());
        }
        wrong
    }
}

#[test]
fn every_case_ends_as_it_says_in_every_mode() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"));
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("case files").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    let mut wrong = Vec::new();
    for path in &paths {
        let text = fs::read_to_string(path).expect("a case file");
        let sections = sections(&text);
        assert!(
            sections.iter().any(|section| section.name == "about"),
            "{}: says not what it is about",
            path.display()
        );
        for mode in Mode::ALL {
            let scene = Scene::set(&sections);
            let ran = scene.run(mode);
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            wrong.extend(scene.differences(mode, &ran).into_iter().map(|what| format!("{file} {mode}: {what}")));
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(!paths.is_empty(), "there are case files");
}
