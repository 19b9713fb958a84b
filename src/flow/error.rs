//! Why a host could not do what it was asked.

use std::io;

use crate::cage::CageError;
use crate::limits::{FRAME_LEN_MAX, FRAME_LEN_MIN, WORKERS_MAX};
use crate::port::PortError;

/// Why a host could not do what it was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The port could not be opened.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The cage could not be made or is full.
    #[error(transparent)]
    Cage(#[from] CageError),
    /// The number of workers is none or too large.
    #[error("host {host}: {count} workers; choose 1 to {WORKERS_MAX}")]
    WorkerCount {
        /// Name of the host.
        host: String,
        /// How many were asked for.
        count: u32,
    },
    /// A thread could not be started.
    #[error("host {host}: cannot start worker {worker}: {source}; raise `ulimit -u`")]
    Thread {
        /// Name of the host.
        host: String,
        /// Number of the worker.
        worker: u32,
        /// What the system answered.
        source: io::Error,
    },
    /// A worker ended before it was ready.
    #[error("host {host}: worker {worker} failed at its start; report the panic above")]
    WorkerLost {
        /// Name of the host.
        host: String,
        /// Number of the worker.
        worker: u32,
    },
    /// The host does not run any more.
    #[error("host {host}: stopped; start another")]
    Stopped {
        /// Name of the host.
        host: String,
    },
    /// A frame cannot be sent.
    #[error("frame {index} of {len} bytes: cannot be sent; send frames of {FRAME_LEN_MIN} to {FRAME_LEN_MAX} bytes")]
    FrameLen {
        /// Which of the frames.
        index: usize,
        /// Its length in bytes.
        len: usize,
    },
    /// No program has the name.
    #[error("program {program}: not loaded; load an object that has it")]
    NoProgram {
        /// The name.
        program: String,
    },
    /// The program is for another hook.
    #[error("program {program}: a {kind} program cannot sit on hook {hook}; attach a program of the hook's kind")]
    Kind {
        /// Name of the program.
        program: String,
        /// Its kind.
        kind: &'static str,
        /// Name of the hook.
        hook: &'static str,
    },
    /// Nothing is attached.
    #[error("hook {hook}: no program is attached; attach one first")]
    NothingAttached {
        /// Name of the hook.
        hook: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_where_and_how_to_mend() {
        let host = || "red".to_owned();
        let program = || "count".to_owned();
        let source = || io::Error::from_raw_os_error(libc::EAGAIN);
        let texts = [
            HostError::WorkerCount { host: host(), count: 65 }.to_string(),
            HostError::Thread { host: host(), worker: 3, source: source() }.to_string(),
            HostError::WorkerLost { host: host(), worker: 3 }.to_string(),
            HostError::Stopped { host: host() }.to_string(),
            HostError::FrameLen { index: 2, len: 9000 }.to_string(),
            HostError::NoProgram { program: program() }.to_string(),
            HostError::Kind { program: program(), kind: "tc", hook: "xdp" }.to_string(),
            HostError::NothingAttached { hook: "xdp" }.to_string(),
        ];
        assert_eq!(
            texts,
            [
                "host red: 65 workers; choose 1 to 64",
                "host red: cannot start worker 3: Resource temporarily unavailable (os error 11); raise `ulimit -u`",
                "host red: worker 3 failed at its start; report the panic above",
                "host red: stopped; start another",
                "frame 2 of 9000 bytes: cannot be sent; send frames of 14 to 1792 bytes",
                "program count: not loaded; load an object that has it",
                "program count: a tc program cannot sit on hook xdp; attach a program of the hook's kind",
                "hook xdp: no program is attached; attach one first",
            ]
        );
    }
}
