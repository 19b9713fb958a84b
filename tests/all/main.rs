//! The integration tests, one binary.

mod cases;
mod conformance;
mod engines;
mod isa;
mod regressions;
mod semantics;
mod llvm;
mod shared;
mod stage;
mod tidy;
mod kernel;
mod maps_oracle;
mod random;
