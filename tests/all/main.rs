//! The integration tests, one binary.

mod c_programs;
mod cases;
mod cli;
mod conformance;
mod control;
mod engines;
mod flow;
mod isa;
mod isa_kernel;
mod kernel;
mod kernel_runs;
mod llvm;
mod maps_model;
mod maps_oracle;
mod maps_regressions;
mod maps_threads;
mod objects;
mod ports;
mod programs;
mod random;
mod regressions;
mod semantics;
mod shared;
mod stage;
mod tail_calls;
mod tidy;
