//! Objects: what is read of them, and how wrong ones are refused.

mod builder;
mod core;
mod defects;
mod definitions;
mod dialects;
mod hostile;
mod instances;
mod outside;
mod typed;

pub(crate) use builder::{Builder, Names};

use kumite::elf::Object;

/// Why an object is refused, without its name.
fn error_of(bytes: &[u8]) -> String {
    let error = Object::parse("test.o", bytes).expect_err("a wrong object").to_string();
    error.strip_prefix("test.o: ").expect("the file comes first").to_owned()
}

/// Why the only program of an object is refused, without the object's name.
fn refusal_of(bytes: &[u8]) -> String {
    let object = Object::parse("test.o", bytes).unwrap_or_else(|error| panic!("{error}"));
    assert!(object.programs.is_empty(), "a program that should have been refused");
    assert_eq!(object.refused.len(), 1);
    let reason = object.refused[0].reason.to_string();
    reason.strip_prefix("test.o: ").expect("the file comes first").to_owned()
}
