//! The integration tests, one binary.

mod cases;
mod conformance;
mod engines;
mod flow;
mod cli;
mod conformance;
mod control;
mod engines;
mod isa;
mod kernel;
mod llvm;
mod maps_oracle;
mod ports;
mod maps_oracle;
mod random;
mod regressions;
mod semantics;
mod shared;
mod stage;
mod tidy;
