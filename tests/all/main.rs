//! The integration tests, one binary.

mod isa;
mod shared;
mod tidy;
