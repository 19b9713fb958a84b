//! CO-RE: instructions that depend on the kernel's types, rewritten for the types that programs meet here.
//!
//! An object says for each of them what it asks: where a field lies, how long it is, whether it exists. The answer is looked
//! for in types given from outside, then in the embedded ones, then in the running kernel's. Where there is none, the
//! instruction becomes one that traps when it is reached, as libbpf does it: programs ask first whether a field exists.
//!
//! Source: libbpf's `relo_core.c`.
//!
//! Invariant: the work for one object is bounded, whatever its types and those of the target say.

mod answer;
mod kernel;
mod matching;
mod notation;
mod patch;
mod spec;
mod types;

pub use kernel::kernel_types;
pub use types::Types;

use std::collections::HashMap;
use std::sync::Arc;

use self::answer::{Number, Question, may_resize, number, question};
use self::matching::{Matcher, Spent};
use self::patch::{Patched, patch};
use self::spec::Spec;
use self::types::essential;
use super::btf::{Btf, Kind, TypeId};
use super::btf_ext::CoreRecord;
use crate::limits::CORE_STEPS_MAX;

/// Comparisons that a question costs at least: bounds the questions.
const QUESTION_COST: u64 = 64;
/// Bytes of a question in words.
const WORDS_LEN_MAX: usize = 160;

/// Gives the running kernel's types, if they can be had.
pub type KernelTypes = fn() -> Option<Arc<Types>>;

/// Where the types come from that programs are fitted to, besides the embedded ones.
#[derive(Clone, Debug, Default)]
pub struct TypeSources {
    /// Asked first.
    pub given: Option<Arc<Types>>,
    /// Asked for types that neither those nor the embedded ones have.
    pub kernel: Option<KernelTypes>,
}

/// An answer, with what is to be changed.
#[derive(Clone, Debug)]
struct Found {
    /// The object's own number.
    original: u64,
    /// The number that takes its place.
    value: u64,
    is_checked: bool,
    /// Bytes that the field has for the object, and for the target, where they differ.
    resize: Option<(u32, u32)>,
    /// Whether such a difference does no harm.
    may_resize: bool,
}

#[derive(Clone, Debug)]
enum Answer {
    Found(Found),
    /// The target has nothing like it.
    Missing,
}

/// A relocation that has been worked out.
#[derive(Clone, Debug)]
struct Worked {
    answer: Answer,
    words: Arc<str>,
}

/// A relocation that cannot be carried out at all.
#[derive(Debug)]
pub(super) struct Wrong {
    /// The question in words.
    pub(super) words: String,
    pub(super) what: &'static str,
}

/// Carries out the relocations of an object.
#[derive(Debug)]
pub(super) struct Relocator<'a> {
    local: &'a Btf,
    sources: &'a TypeSources,
    /// The kernel's types, once they have been asked for.
    kernel: Option<Option<Arc<Types>>>,
    worked: HashMap<(TypeId, u32, u32), Worked>,
    budget: u64,
}

impl<'a> Relocator<'a> {
    pub(super) fn new(local: &'a Btf, sources: &'a TypeSources) -> Self {
        Self { local, sources, kernel: None, worked: HashMap::new(), budget: CORE_STEPS_MAX }
    }

    /// Rewrites the instruction at `pc`; what it asks for in words, where the target has no answer.
    pub(super) fn apply(
        &mut self,
        slots: &mut [[u8; 8]],
        pc: usize,
        record: &CoreRecord,
    ) -> Result<Option<Arc<str>>, Wrong> {
        let key = (record.local_type, record.access, record.kind);
        if !self.worked.contains_key(&key) {
            let words = self.words(record);
            let answer = self.work_out(record).map_err(|what| Wrong { words: words.clone(), what })?;
            self.worked.insert(key, Worked { answer, words: words.into() });
        }
        let worked = &self.worked[&key];
        match patch(slots, pc, &worked.answer) {
            Ok(Patched::Answered) => Ok(None),
            Ok(Patched::Poisoned) => Ok(Some(Arc::clone(&worked.words))),
            Err(what) => Err(Wrong { words: worked.words.to_string(), what }),
        }
    }

    fn words(&self, record: &CoreRecord) -> String {
        let words = question(record.kind).map_or("unknown question", |(_, words)| words);
        let name = self.local.name(record.local_type);
        let name = if name.is_empty() { "a type without name" } else { name };
        let access = self.local.text(record.access);
        let spec = self.local_spec(record, access);
        let path = match spec.as_ref().map(|spec| (spec.value(self.local), spec)) {
            Some((Some((value, _)), _)) => format!("::{}", self.local.text(value)),
            Some((None, spec)) => spec.path(self.local),
            None => String::new(),
        };
        let mut text = format!("{words} of {name}{path}");
        let mut end = text.len().min(WORDS_LEN_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text
    }

    fn local_spec(&self, record: &CoreRecord, access: &str) -> Option<Spec> {
        match question(record.kind)?.0 {
            Question::TypeIdLocal
            | Question::TypeIdTarget
            | Question::TypeExists
            | Question::TypeLen
            | Question::TypeMatches => (access == "0").then(|| Spec::of_type(record.local_type)),
            Question::ValueExists | Question::Value => Spec::of_value(self.local, record.local_type, access),
            Question::FieldByteOffset
            | Question::FieldByteLen
            | Question::FieldExists
            | Question::FieldSigned
            | Question::FieldShiftLeft
            | Question::FieldShiftRight => Spec::of_field(self.local, record.local_type, access),
        }
    }

    fn work_out(&mut self, record: &CoreRecord) -> Result<Answer, &'static str> {
        let spent = |Spent| "the object's relocations take too long to compare with the types";
        self.budget = self.budget.checked_sub(QUESTION_COST).ok_or_else(|| spent(Spent))?;
        let (question, _) = question(record.kind).ok_or("kumite knows no such question")?;
        let access = self.local.text(record.access);
        let local = self.local_spec(record, access).ok_or("the object's types have no such thing")?;
        let ours = number(self.local, question, &local);
        if question == Question::TypeIdLocal {
            let value = record.local_type.0.into();
            return Ok(found(ours.unwrap_or(Number::of(value)), Number::of(value)));
        }
        let name = essential(self.local.name(record.local_type));
        if name.is_empty() {
            return Err("the type has no name to look for");
        }
        let ours = ours.ok_or("the object's types give it no number")?;
        let mut answer: Option<(Number, u64, bool)> = None;
        let targets = self.targets(record.local_type, name);
        for types in targets.iter() {
            let target = types.btf();
            for candidate in types.named(name) {
                let mut matcher = Matcher { local: self.local, target, budget: &mut self.budget };
                matcher.spend(1).map_err(spent)?;
                if !same_kind(self.local.kind(record.local_type), target.kind(*candidate)) {
                    continue;
                }
                let Some(spec) = fit(&mut matcher, question, record.local_type, &local, *candidate).map_err(spent)?
                else {
                    continue;
                };
                let theirs = number(target, question, &spec).ok_or("the types give it no number")?;
                let may = match (ours.field, theirs.field) {
                    (Some((one, from)), Some((other, to))) => one == other || may_resize(self.local, from, target, to),
                    _ => true,
                };
                match answer {
                    Some((known, bits, _)) if known.value != theirs.value || bits != spec.bit_offset => {
                        return Err("several types of this name give different answers");
                    }
                    Some(_) => {}
                    None => answer = Some((theirs, spec.bit_offset, may)),
                }
            }
        }
        Ok(match (answer, question) {
            (Some((theirs, _, may_resize)), _) => match found(ours, theirs) {
                Answer::Found(found) => Answer::Found(Found { may_resize, ..found }),
                Answer::Missing => Answer::Missing,
            },
            (
                None,
                Question::FieldExists
                | Question::ValueExists
                | Question::TypeExists
                | Question::TypeMatches
                | Question::TypeLen
                | Question::TypeIdTarget,
            ) => found(ours, Number::of(0)),
            (None, _) => Answer::Missing,
        })
    }

    /// The types to look in: the first ones that have this name in a like kind.
    fn targets(&mut self, local: TypeId, name: &str) -> Option<TypesRef> {
        let kind = self.local.kind(local);
        let has = |types: &Types| types.named(name).iter().any(|id| same_kind(kind, types.btf().kind(*id)));
        if let Some(given) = self.sources.given.as_ref().filter(|given| has(given)) {
            return Some(TypesRef::Shared(Arc::clone(given)));
        }
        if has(Types::embedded()) {
            return Some(TypesRef::Embedded);
        }
        let kernel = self.sources.kernel?;
        let kernel = self.kernel.get_or_insert_with(kernel).as_ref()?;
        Some(TypesRef::Shared(Arc::clone(kernel)))
    }
}

/// Types that one object borrows.
enum TypesRef {
    Embedded,
    Shared(Arc<Types>),
}

impl std::ops::Deref for TypesRef {
    type Target = Types;

    fn deref(&self) -> &Types {
        match self {
            Self::Embedded => Types::embedded(),
            Self::Shared(types) => types,
        }
    }
}

fn found(ours: Number, theirs: Number) -> Answer {
    let lens = ours.field.zip(theirs.field).map(|((one, _), (other, _))| (one, other));
    Answer::Found(Found {
        original: ours.value,
        value: theirs.value,
        is_checked: ours.is_checked,
        resize: lens.filter(|(one, other)| one != other),
        may_resize: true,
    })
}

fn same_kind(local: &Kind, target: &Kind) -> bool {
    std::mem::discriminant(local) == std::mem::discriminant(target)
}

/// The way to what the question is about, in the target.
fn fit(
    matcher: &mut Matcher<'_>,
    question: Question,
    local_type: TypeId,
    local: &Spec,
    candidate: TypeId,
) -> Result<Option<Spec>, Spent> {
    match question {
        Question::TypeMatches => {
            let matches = matcher.types_match(local_type, candidate)?;
            Ok(matches.then(|| Spec::of_type(candidate)))
        }
        Question::TypeIdLocal | Question::TypeIdTarget | Question::TypeExists | Question::TypeLen => {
            let fits = matcher.types_fit(local_type, candidate)?;
            Ok(fits.then(|| Spec::of_type(candidate)))
        }
        Question::ValueExists | Question::Value => matcher.value(local, candidate),
        Question::FieldByteOffset
        | Question::FieldByteLen
        | Question::FieldExists
        | Question::FieldSigned
        | Question::FieldShiftLeft
        | Question::FieldShiftRight => matcher.field(local, candidate),
    }
}
