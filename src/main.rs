//! The `kumite` binary: hands the command line to the library.

use std::io::{stderr, stdout};

use kumite::cli::{Exit, main as command};

fn main() -> Exit {
    command(std::env::args_os(), &mut stdout().lock(), &mut stderr())
}
