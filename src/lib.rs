//! Kumite (組手, practice with a partner): a virtual machine server for BPF network programs.
//!
//! Two hosts, each a network card with hooks that lives in user space, spar: people register unchanged BPF objects on
//! them and send packets from one to the other. Start with the README; the design is in the `manual` module.

pub mod cage;
pub mod cli;
pub mod control;
pub mod elf;
pub mod flow;
pub mod fuzz;
pub mod helpers;
pub mod isa;
pub mod kernel;
pub mod limits;
pub mod manual;
pub mod maps;
pub mod port;
pub mod program;
pub mod report;
pub mod run;
pub mod trap;
pub mod verdict;
pub mod vm;
