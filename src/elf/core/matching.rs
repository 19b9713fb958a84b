//! Whether a type of the object and one of the target are the same to a relocation.
//!
//! Source: `bpf_core_fields_are_compat`, `bpf_core_types_are_compat` and `bpf_core_types_match` of libbpf.
//!
//! Invariant: every comparison is paid for out of the object's budget, so that no pair of types takes for ever.

use super::types::essential;
use crate::elf::btf::{Btf, Kind, Member, TypeId};

/// Links that are followed along a chain of types.
const DEPTH_MAX: u32 = 32;
/// In the encoding of an integer: it is signed.
pub(super) const SIGNED: u8 = 1;

/// The object's budget of comparisons is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent;

/// How closely two types must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// As what it is.
    Itself,
    /// Only by name: it stands behind a pointer.
    BehindPointer,
}

/// Compares types.
pub(super) struct Matcher<'a> {
    pub(super) local: &'a Btf,
    pub(super) target: &'a Btf,
    pub(super) budget: &'a mut u64,
}

/// The two types behind two numbers, and those numbers, typedefs and qualifiers removed.
type Pair = (TypeId, TypeId);

impl<'a> Matcher<'a> {
    pub(super) fn spend(&mut self, count: u64) -> Result<(), Spent> {
        *self.budget = self.budget.checked_sub(count).ok_or(Spent)?;
        Ok(())
    }

    fn resolve(&self, local: TypeId, target: TypeId) -> Option<Pair> {
        Some((self.local.resolve(local)?, self.target.resolve(target)?))
    }

    fn kinds(&self, (local, target): Pair) -> (&'a Kind, &'a Kind) {
        (self.local.kind(local), self.target.kind(target))
    }

    /// Names without flavours agree, or one is missing.
    fn names_agree(&self, (local, target): Pair) -> bool {
        let (local, target) = (self.local.name(local), self.target.name(target));
        local.is_empty() || target.is_empty() || essential(local) == essential(target)
    }

    /// Whether a field of one type may be read as the other.
    pub(super) fn fields_fit(&mut self, local: TypeId, target: TypeId) -> Result<bool, Spent> {
        let (mut local, mut target) = (local, target);
        for _ in 0..DEPTH_MAX {
            self.spend(1)?;
            let Some(pair) = self.resolve(local, target) else { return Ok(false) };
            return Ok(match self.kinds(pair) {
                (Kind::Struct { .. } | Kind::Union { .. }, Kind::Struct { .. } | Kind::Union { .. })
                | (Kind::Ptr(_), Kind::Ptr(_))
                | (Kind::Float(_), Kind::Float(_))
                | (Kind::Int { .. }, Kind::Int { .. }) => true,
                (Kind::Enum { .. }, Kind::Enum { .. }) | (Kind::Forward, Kind::Forward) => self.names_agree(pair),
                (Kind::Array { element: one, .. }, Kind::Array { element: other, .. }) => {
                    (local, target) = (*one, *other);
                    continue;
                }
                _ => false,
            });
        }
        Ok(false)
    }

    /// Whether two types of one name are of one kind, down to where names count.
    pub(super) fn types_fit(&mut self, local: TypeId, target: TypeId) -> Result<bool, Spent> {
        self.types_fit_within(local, target, DEPTH_MAX)
    }

    fn types_fit_within(&mut self, local: TypeId, target: TypeId, depth: u32) -> Result<bool, Spent> {
        let (mut local, mut target) = (local, target);
        for depth in (0..depth).rev() {
            self.spend(1)?;
            let Some(pair) = self.resolve(local, target) else { return Ok(false) };
            return Ok(match self.kinds(pair) {
                (Kind::Void, Kind::Void)
                | (Kind::Struct { .. }, Kind::Struct { .. })
                | (Kind::Union { .. }, Kind::Union { .. })
                | (Kind::Enum { .. }, Kind::Enum { .. })
                | (Kind::Forward, Kind::Forward)
                | (Kind::Int { .. }, Kind::Int { .. }) => true,
                (Kind::Ptr(one), Kind::Ptr(other))
                | (Kind::Array { element: one, .. }, Kind::Array { element: other, .. }) => {
                    (local, target) = (*one, *other);
                    continue;
                }
                (
                    Kind::FuncProto { returns: one, params: ours },
                    Kind::FuncProto { returns: other, params: theirs },
                ) if ours.len() == theirs.len() => {
                    for (one, other) in ours.iter().zip(theirs) {
                        if !self.types_fit_within(*one, *other, depth)? {
                            return Ok(false);
                        }
                    }
                    (local, target) = (*one, *other);
                    continue;
                }
                _ => false,
            });
        }
        Ok(false)
    }

    /// Whether all that the object's type says is said by the target's too.
    pub(super) fn types_match(&mut self, local: TypeId, target: TypeId) -> Result<bool, Spent> {
        self.match_within(local, target, Place::Itself, DEPTH_MAX)
    }

    fn match_within(&mut self, local: TypeId, target: TypeId, place: Place, depth: u32) -> Result<bool, Spent> {
        let (mut local, mut target, mut place) = (local, target, place);
        for depth in (0..depth).rev() {
            self.spend(1)?;
            let Some(pair) = self.resolve(local, target) else { return Ok(false) };
            let same_names = essential(self.local.name(pair.0)) == essential(self.target.name(pair.1));
            if !same_names {
                return Ok(false);
            }
            let behind_pointer = place == Place::BehindPointer;
            return Ok(match self.kinds(pair) {
                (Kind::Void, Kind::Void) | (Kind::Forward, Kind::Forward) => true,
                (Kind::Forward, Kind::Struct { .. } | Kind::Union { .. })
                | (Kind::Struct { .. } | Kind::Union { .. }, Kind::Forward)
                | (Kind::Struct { .. }, Kind::Struct { .. })
                | (Kind::Union { .. }, Kind::Union { .. })
                    if behind_pointer =>
                {
                    true
                }
                (Kind::Struct { members: ours, .. }, Kind::Struct { members: theirs, .. })
                | (Kind::Union { members: ours, .. }, Kind::Union { members: theirs, .. }) => {
                    self.members_match(ours, theirs, depth)?
                }
                (Kind::Enum { len: one, values: ours, .. }, Kind::Enum { len: other, values: theirs, .. }) => {
                    self.spend((ours.len() + theirs.len()) as u64)?;
                    let theirs: std::collections::HashSet<&str> =
                        theirs.iter().map(|value| essential(self.target.text(value.name))).collect();
                    let known = |name| theirs.contains(essential(self.local.text(name)));
                    one == other && ours.iter().all(|value| known(value.name))
                }
                (Kind::Int { len: one, encoding: ours, .. }, Kind::Int { len: other, encoding: theirs, .. }) => {
                    one == other && ours & SIGNED == theirs & SIGNED
                }
                (Kind::Ptr(one), Kind::Ptr(other)) => {
                    (local, target, place) = (*one, *other, Place::BehindPointer);
                    continue;
                }
                (Kind::Array { element: one, count: ours }, Kind::Array { element: other, count: theirs })
                    if ours == theirs =>
                {
                    (local, target) = (*one, *other);
                    continue;
                }
                (
                    Kind::FuncProto { returns: one, params: ours },
                    Kind::FuncProto { returns: other, params: theirs },
                ) if ours.len() == theirs.len() => {
                    for (one, other) in ours.iter().zip(theirs) {
                        if !self.match_within(*one, *other, place, depth)? {
                            return Ok(false);
                        }
                    }
                    (local, target) = (*one, *other);
                    continue;
                }
                _ => false,
            });
        }
        Ok(false)
    }

    /// Every member of the object's structure has one in the target's, by name, that matches.
    fn members_match(&mut self, ours: &[Member], theirs: &[Member], depth: u32) -> Result<bool, Spent> {
        for our in ours {
            let name = essential(self.local.text(our.name));
            let mut found = false;
            for their in theirs {
                self.spend(1)?;
                if essential(self.target.text(their.name)) == name
                    && self.match_within(our.member_type, their.member_type, Place::Itself, depth)?
                {
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
