//! The integration tests, one binary.

mod cases;
mod conformance;
mod engines;
mod flow;
mod cli;
mod control;
mod isa;
mod kernel;
mod llvm;
mod maps_oracle;
mod ports;
mod random;
mod regressions;
mod semantics;
mod shared;
mod stage;
mod control;
mod tidy;
