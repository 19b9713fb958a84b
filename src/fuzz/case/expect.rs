//! What came of a case held against what the case says.

use super::{Case, Expected};
use crate::fuzz::Ran;
use crate::maps::Target;
use crate::report::to_hex;
use crate::vm::Mode;

impl Case {
    /// What differs from what the case says, a line each.
    #[must_use]
    pub fn differences(&self, mode: Mode, ran: &Ran) -> Vec<String> {
        let expected = &self.expected;
        let mut wrong = Vec::new();
        let mut compare = |what: &str, is: String, should: String| {
            if is != should {
                wrong.push(format!("{what} is {is}, should be {should}"));
            }
        };
        compare("trap", ran.trap_text(), expected.trap.clone().unwrap_or_default());
        let numbers = [
            ("r0", Some(ran.r0), expected.r0),
            ("fuel_left", Some(ran.fuel_left), expected.fuel_left),
            ("tail_calls", Some(ran.tail_calls.into()), expected.tail_calls.map(u64::from)),
            ("redirect", ran.port().map(u64::from), expected.redirect.map(u64::from)),
        ];
        for (name, is, should) in numbers {
            if let Some(should) = should {
                compare(name, is.map_or("elsewhere".to_owned(), |is| format!("{is:#x}")), format!("{should:#x}"));
            }
        }
        if let Some(after) = &expected.after {
            compare("memory", to_hex(&ran.memory), to_hex(after));
        }
        for (map, key, value) in &expected.values {
            let is = ran.value(*map, key).map_or("absent".to_owned(), to_hex);
            compare(&format!("value {}", to_hex(key)), is, to_hex(value));
        }
        if let Some(lines) = &expected.lines {
            compare("lines", ran.lines.join("\n"), lines.clone());
        }
        if mode == Mode::Verify {
            compare("findings", ran.findings_text(), expected.findings.clone().unwrap_or_default());
        }
        wrong
    }
}

impl Expected {
    /// That all comes as it did in a run of verify mode.
    #[must_use]
    pub fn of(ran: &Ran) -> Self {
        let none_if_empty = |text: String| Some(text).filter(|text| !text.is_empty());
        let traps = ran.trap.is_some();
        let values = ran.maps.iter().enumerate();
        let values = values.flat_map(|(map, elements)| {
            elements
                .iter()
                .filter(|(key, _)| !key.is_empty())
                .map(move |(key, value)| (map, key.clone(), value.clone()))
        });
        Self {
            r0: (!traps).then_some(ran.r0),
            fuel_left: (!traps).then_some(ran.fuel_left),
            tail_calls: (!traps && ran.tail_calls > 0).then_some(ran.tail_calls),
            redirect: ran.redirect.and(ran.port()),
            trap: none_if_empty(ran.trap_text()),
            after: Some(ran.memory.clone()).filter(|memory| !memory.is_empty()),
            values: values.collect(),
            findings: none_if_empty(ran.findings_text()),
            lines: none_if_empty(ran.lines.join("\n")),
        }
    }
}

impl Ran {
    /// The port that the frame was redirected to, 0 for none; nothing where it is no single port.
    fn port(&self) -> Option<u32> {
        match self.redirect.map(|redirect| redirect.target) {
            None => Some(0),
            Some(Target::Port(ifindex)) => Some(ifindex),
            Some(Target::Processor(_) | Target::Socket(_) | Target::Ports { .. }) => None,
        }
    }

    /// Identifier and pc of each finding, a line each.
    fn findings_text(&self) -> String {
        let found = self.findings.iter().map(|finding| format!("{} {}", finding.id, finding.pc));
        found.collect::<Vec<_>>().join("\n")
    }
}
