//! The way from a type to what a relocation asks about: a field, a value of an enumeration, or the type itself.
//!
//! Source: `bpf_core_parse_spec` and `bpf_core_spec_match` in libbpf's `relo_core.c`.
//!
//! Invariant: a way has at most [`STEPS_MAX`] steps, and every comparison is paid for.

use super::matching::{Matcher, Spent};
use super::types::essential;
use crate::elf::btf::{Btf, Kind, Member, TypeId};

/// Steps of a way.
const STEPS_MAX: usize = 64;

/// A step of a way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// The structure, union or enumeration whose member or value it is; the type of the element, for arrays.
    pub(super) holder: TypeId,
    /// Which member, value or element.
    pub(super) index: u32,
    /// Whether it is a member with a name.
    pub(super) is_member: bool,
}

/// A way.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) root: TypeId,
    pub(super) steps: Vec<Step>,
    /// Bits from the start of the root; 0 for values and types.
    pub(super) bit_offset: u64,
}

impl Spec {
    /// The root alone.
    pub(super) fn of_type(root: TypeId) -> Self {
        Self { root, steps: Vec::new(), bit_offset: 0 }
    }

    /// The value with this index of an enumeration.
    pub(super) fn of_value(btf: &Btf, root: TypeId, access: &str) -> Option<Self> {
        let holder = btf.resolve(root)?;
        let index: u32 = access.parse().ok()?;
        let Kind::Enum { values, .. } = btf.kind(holder) else { return None };
        values.get(index as usize)?;
        Some(Self { root, steps: vec![Step { holder, index, is_member: false }], bit_offset: 0 })
    }

    /// The field that an object says by numbers: `0:1:2` is member 2 of member 1 of what the pointer leads to.
    pub(super) fn of_field(btf: &Btf, root: TypeId, access: &str) -> Option<Self> {
        let mut numbers = access.split(':').map(str::parse::<u32>);
        let mut spec = Self::of_type(root);
        let mut id = btf.resolve(root)?;
        spec.element(btf, id, numbers.next()?.ok()?)?;
        for number in numbers {
            let index = number.ok()?;
            if spec.steps.len() == STEPS_MAX {
                return None;
            }
            if let Kind::Array { element, count } = btf.kind(id) {
                if *count != 0 && index >= *count {
                    return None;
                }
                id = btf.resolve(*element)?;
                spec.element(btf, id, index)?;
                continue;
            }
            let step = Step { holder: id, index, is_member: true };
            let member = member_of(btf, step)?;
            spec.bit_offset = spec.bit_offset.checked_add(member.bit_offset.into())?;
            if !btf.text(member.name).is_empty() {
                spec.steps.push(step);
            }
            id = btf.resolve(member.member_type)?;
        }
        Some(spec)
    }

    /// Goes on to an element of an array of `element`.
    fn element(&mut self, btf: &Btf, element: TypeId, index: u32) -> Option<()> {
        let bits = u64::from(btf.len_of(element)?) * 8 * u64::from(index);
        self.bit_offset = self.bit_offset.checked_add(bits)?;
        self.steps.push(Step { holder: element, index, is_member: false });
        Some(())
    }

    /// The member that the way ends at, where it ends at one.
    pub(super) fn member<'a>(&self, btf: &'a Btf) -> Option<&'a Member> {
        let last = self.steps.last().filter(|last| last.is_member)?;
        member_of(btf, *last)
    }

    /// The value that the way ends at.
    pub(super) fn value(&self, btf: &Btf) -> Option<(u32, i64)> {
        let last = self.steps.last()?;
        let Kind::Enum { values, .. } = btf.kind(last.holder) else { return None };
        values.get(last.index as usize).map(|value| (value.name, value.value))
    }

    /// The way in words, without its root.
    pub(super) fn path(&self, btf: &Btf) -> String {
        let mut path = String::new();
        for (number, step) in self.steps.iter().enumerate() {
            match member_of(btf, *step).filter(|_| step.is_member) {
                Some(member) => path += &format!(".{}", btf.text(member.name)),
                None if number > 0 => path += &format!("[{}]", step.index),
                None => {}
            }
        }
        path
    }
}

fn member_of(btf: &Btf, step: Step) -> Option<&Member> {
    let (Kind::Struct { members, .. } | Kind::Union { members, .. }) = btf.kind(step.holder) else { return None };
    members.get(step.index as usize)
}

impl Matcher<'_> {
    /// The value of the target's enumeration that has the name of the object's.
    pub(super) fn value(&mut self, local: &Spec, root: TypeId) -> Result<Option<Spec>, Spent> {
        let Some((name, _)) = local.value(self.local) else { return Ok(None) };
        let wanted = essential(self.local.text(name));
        let Some(holder) = self.target.resolve(root) else { return Ok(None) };
        let target = self.target;
        let Kind::Enum { values, .. } = target.kind(holder) else { return Ok(None) };
        for (index, value) in (0..).zip(values) {
            self.spend(1)?;
            if essential(target.text(value.name)) == wanted {
                let steps = vec![Step { holder, index, is_member: false }];
                return Ok(Some(Spec { root, steps, bit_offset: 0 }));
            }
        }
        Ok(None)
    }

    /// The way in the target that has the names of the object's.
    pub(super) fn field(&mut self, local: &Spec, root: TypeId) -> Result<Option<Spec>, Spent> {
        let mut spec = Spec::of_type(root);
        let mut id = root;
        for (number, step) in local.steps.iter().enumerate() {
            let Some(here) = self.target.resolve(id) else { return Ok(None) };
            id = here;
            if step.is_member {
                let Some(member) = member_of(self.local, *step) else { return Ok(None) };
                let Some(next) = self.find_member(member, here, &mut spec, 0)? else { return Ok(None) };
                id = next;
                continue;
            }
            if number > 0 {
                let Kind::Array { element, count } = self.target.kind(here) else { return Ok(None) };
                if *count != 0 && step.index >= *count {
                    return Ok(None);
                }
                let Some(element) = self.target.resolve(*element) else { return Ok(None) };
                id = element;
            }
            if spec.element(self.target, id, step.index).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(spec))
    }

    /// The member with the name and a fitting type, nameless structures in between looked through; its type.
    fn find_member(
        &mut self,
        local: &Member,
        holder: TypeId,
        spec: &mut Spec,
        depth: usize,
    ) -> Result<Option<TypeId>, Spent> {
        let target = self.target;
        let (Kind::Struct { members, .. } | Kind::Union { members, .. }) = target.kind(holder) else { return Ok(None) };
        if depth == STEPS_MAX || spec.steps.len() >= STEPS_MAX {
            return Ok(None);
        }
        let wanted = self.local.text(local.name);
        for (index, member) in (0..).zip(members) {
            self.spend(1)?;
            let start = spec.bit_offset;
            spec.bit_offset = start.saturating_add(member.bit_offset.into());
            let name = target.text(member.name);
            if name.is_empty() {
                let inner = target.resolve(member.member_type);
                let found = inner.map(|inner| self.find_member(local, inner, spec, depth + 1)).transpose()?.flatten();
                if found.is_some() {
                    return Ok(found);
                }
            } else if name == wanted {
                let fits = self.fields_fit(local.member_type, member.member_type)?;
                spec.steps.push(Step { holder, index, is_member: true });
                return Ok(fits.then_some(member.member_type));
            }
            spec.bit_offset = start;
        }
        Ok(None)
    }
}
