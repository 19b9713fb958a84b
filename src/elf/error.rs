//! Why an object, or one program of it, was refused: the guest's fault, as a value.
//!
//! Invariant: each text is one line that names the file, what is wrong with it and how to mend it.

use crate::maps::MapKind;
use crate::program::Rejection;

/// An object, or one program of it, was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {defect}")]
pub struct ObjectError {
    /// The object, as the caller named it.
    pub file: String,
    /// What is wrong with it.
    pub defect: Defect,
}

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// More bytes than [`crate::limits::OBJECT_LEN_MAX`].
    #[error("{len} bytes are more than {max}; strip it with `llvm-strip -g`")]
    TooLong {
        /// Its bytes.
        len: u64,
        /// Most that are read.
        max: u64,
    },
    /// Not an ELF file, or none that a BPF compiler writes.
    #[error("not a BPF object: {what}; build it with `clang -target bpf -c`")]
    NotBpf {
        /// What shows it.
        what: &'static str,
    },
    /// The ELF header or the section table leads out of the file.
    #[error("damaged object: {what}; rebuild it")]
    Damaged {
        /// What is damaged.
        what: &'static str,
    },
    /// A section's header or contents are wrong.
    #[error("section {section}: {what}; rebuild the object")]
    Section {
        /// Its name, or `#` and its index.
        section: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The type information is wrong.
    #[error("section {section} at {at:#x}: {what}; rebuild the object with `-g`")]
    Btf {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// Offset into the section.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// More of something than one object may hold.
    #[error("{count} {what} are more than {max}; split the object")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// Most that are allowed.
        max: usize,
    },
    /// The definition of a map is wrong.
    #[error("map {map}: {what}; correct its definition")]
    Map {
        /// Its name.
        map: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A map that an instruction refers to is of a type that kumite does not have.
    #[error("{function} insn {pc}: map {map}: type {kind} is not supported; use another map type")]
    MapType {
        /// Name of the function.
        function: String,
        /// Slot index in the function.
        pc: usize,
        /// Name of the map.
        map: String,
        /// Its type.
        kind: MapKind,
    },
    /// A program has a function of its own for exceptions.
    #[error("{function}: {callback} as its function for exceptions is not supported; take exception_callback off")]
    ExceptionCallback {
        /// Name of the function.
        function: String,
        /// Name of the function for exceptions.
        callback: String,
    },
    /// A map that is spoken of from outside is not there.
    #[error("no map is called {map}; take a name that `kumite inspect` shows")]
    NoSuchMap {
        /// The name.
        map: String,
    },
    /// A variable cannot have the value that was said from outside.
    #[error("{name}={value}: {what}; see `kumite inspect` for the object's variables")]
    Constant {
        /// Name of the variable.
        name: String,
        /// The value.
        value: String,
        /// What is wrong.
        what: String,
    },
    /// A variable of the kernel's configuration is wrong.
    #[error("variable {name} of .kconfig: {what}; correct its declaration, or its value in `--kconfig`")]
    Configuration {
        /// Its name.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A relocation of a map's initial values is wrong.
    #[error("map {map}: initial value at {offset:#x}: {what}; correct its `values`")]
    MapValue {
        /// Name of the map.
        map: String,
        /// Offset into the section of maps.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A function's text is wrong.
    #[error("function {function} in {section}: {what}; rebuild the object")]
    Function {
        /// Its name.
        function: String,
        /// Its section.
        section: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A relocation cannot be carried out.
    #[error("{function} insn {pc}: relocation {kind} against {symbol}: {what}; rebuild the object")]
    Relocation {
        /// Name of the function.
        function: String,
        /// Slot index in the function.
        pc: usize,
        /// Type of the relocation, `R_BPF_*`.
        kind: u32,
        /// The symbol.
        symbol: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A symbol is defined nowhere.
    #[error("{function} insn {pc}: {symbol} is defined nowhere; {mend}")]
    Extern {
        /// Name of the function that uses it.
        function: String,
        /// Slot index in the function.
        pc: usize,
        /// The symbol.
        symbol: String,
        /// How to mend it.
        mend: &'static str,
    },
    /// A call to where no function begins.
    #[error(
        "{function} insn {pc}: the call leads to {section} slot {target}, where no function begins; rebuild the object"
    )]
    CallTarget {
        /// Name of the function that calls.
        function: String,
        /// Slot index in the function.
        pc: usize,
        /// Section of the target.
        section: String,
        /// Slot of the target in that section.
        target: i64,
    },
    /// An instruction that depends on the kernel's types cannot be rewritten for them.
    #[error("{function} insn {pc}: CO-RE relocation ({question}): {what}; rebuild the object")]
    CoRe {
        /// Name of the function.
        function: String,
        /// Slot index in the function.
        pc: usize,
        /// What it asks, in words.
        question: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Nothing says which hook a program is for.
    #[error("{program}: section {section:?} names no hook; name it xdp, tc or socket, or say `--type {program}=KIND`")]
    SectionName {
        /// Name of the program.
        program: String,
        /// Name of its section.
        section: String,
    },
    /// The program is of a kind that kumite does not run.
    #[error(
        "{program}: section {section:?} holds {what} programs, which are not run: {because}; build it for another hook"
    )]
    ProgramKind {
        /// Name of the program.
        program: String,
        /// Name of its section.
        section: String,
        /// What its section holds.
        what: &'static str,
        /// Why they are not run.
        because: &'static str,
    },
    /// A section that is to fill a slot names a map that the object does not have.
    #[error("{program}: section {section:?} names a program array that the object does not have; correct its number")]
    SlotArray {
        /// Name of the program.
        program: String,
        /// Name of its section.
        section: String,
    },
    /// The object has no program of this name.
    #[error("no program is called {program}; it has {}", if .names.is_empty() { "none".to_owned() } else { .names.join(", ") })]
    NoProgram {
        /// The name asked for.
        program: String,
        /// Those that it has.
        names: Vec<String>,
    },
    /// The program is not well-formed.
    #[error("{0}")]
    Rejected(Box<Rejection>),
}

impl Defect {
    pub(super) fn in_file(self, file: &str) -> ObjectError {
        ObjectError { file: file.to_owned(), defect: self }
    }
}
