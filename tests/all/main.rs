//! The integration tests, one binary.

mod conformance;
mod isa;
mod shared;
mod tidy;
