//! The integration tests, one binary.

mod cases;
mod conformance;
mod engines;
mod flow;
mod isa;
mod kernel;
mod llvm;
mod maps_oracle;
mod random;
mod regressions;
mod semantics;
mod llvm;
mod ports;
mod shared;
mod stage;
mod tidy;
