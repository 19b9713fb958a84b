//! Why a host could not do what it was asked.

use std::io;

use crate::cage::CageError;
use crate::limits::{
    CHANGE_MS_MAX, FRAME_LEN_MAX, FRAME_LEN_MIN, FUEL_MAX, HOOK_PROGRAMS_MAX, PORT_NAME_LEN_MAX, WORKERS_MAX,
};
use crate::maps::Errno;
use crate::port::PortError;
use crate::vm::LoadError;

/// Why a host could not do what it was asked. Nothing was changed, but by what ended in [`HostError::Late`].
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
    /// A run would have no fuel, or more than lets a worker be stopped.
    #[error("host {host}: fuel {fuel}; choose 1 to {FUEL_MAX}")]
    Fuel {
        /// Name of the host.
        host: String,
        /// What was asked for.
        fuel: u64,
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
    /// A worker ended by a mistake of kumite's.
    #[error("host {host}: worker {worker} failed; report its panic and start the host again")]
    WorkerLost {
        /// Name of the host.
        host: String,
        /// Number of the worker.
        worker: u32,
    },
    /// A worker did not take a change in time: the frame that it judges takes long. The change is in force for the others, and
    /// for it after that frame.
    #[error(
        "host {host}: worker {worker} still acts on what was before, {CHANGE_MS_MAX} ms after the change; it takes the change after its frame: wait, or run with less fuel"
    )]
    Late {
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
    /// An object could not be brought to life, or a program of it was refused.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No object has the number.
    #[error("object {id}: not loaded; list the objects for their numbers")]
    NoInstance {
        /// The number.
        id: u32,
    },
    /// A program of the object sits on a hook.
    #[error("object {object}: its program {program} sits on hook {hook}; detach it first")]
    InUse {
        /// Name of the object.
        object: String,
        /// Name of the program.
        program: String,
        /// Name of the hook.
        hook: String,
    },
    /// No map has the name.
    #[error("map {map}: not loaded; load an object that has it")]
    NoMap {
        /// The name.
        map: String,
    },
    /// The map holds no programs.
    #[error("map {map}: a map of type {kind} holds no programs; name one of type prog_array")]
    NotProgramArray {
        /// Name of the map.
        map: String,
        /// Its type.
        kind: String,
    },
    /// The program array does not take the program.
    #[error(
        "map {map}: slot {index} of {slot_count} does not take the program ({errno}); choose another slot or a program of the array's kind"
    )]
    Slot {
        /// Name of the map.
        map: String,
        /// Which slot.
        index: u32,
        /// How many there are.
        slot_count: u32,
        /// The map's answer.
        errno: Errno,
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
        hook: String,
    },
    /// The program is not among those of the hook.
    #[error("program {program}: does not sit on hook {hook}; list the hooks for what does")]
    NotThere {
        /// Name of the program.
        program: String,
        /// Name of the hook.
        hook: String,
    },
    /// A tc program is to have chain-call actions.
    #[error("program {program}: hook {hook} knows no chain-call actions; leave them out, TC_ACT_UNSPEC goes on")]
    Actions {
        /// Name of the program.
        program: String,
        /// Name of the hook.
        hook: &'static str,
    },
    /// The hook has as many programs as it takes.
    #[error("hook {place}: more than {HOOK_PROGRAMS_MAX} programs; detach one first")]
    HookFull {
        /// Name of the hook.
        place: String,
    },
    /// No port has the name.
    #[error("port {port}: no such port; list the ports for their names")]
    NoPort {
        /// The name.
        port: String,
    },
    /// A port of the host has the name.
    #[error("port {port}: there is one of this name; choose another or remove it first")]
    PortTaken {
        /// The name.
        port: String,
    },
    /// The name is none for a further port.
    #[error(
        "port {port:?}: no name for a further port; use 1 to {PORT_NAME_LEN_MAX} letters, digits, -, _ and ., but not wire or stack"
    )]
    PortName {
        /// The name.
        port: String,
    },
    /// The host's workers have no chunks for another port.
    #[error("port {port}: the host takes {count} ports and has them; remove one, or name it when the host starts")]
    PortsFull {
        /// Name of the port.
        port: String,
        /// Ports that the host takes.
        count: usize,
    },
    /// The wire stays.
    #[error("port wire: a host keeps its wire; stop the host instead")]
    WirePort,
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
            HostError::Fuel { host: host(), fuel: 0 }.to_string(),
            HostError::Thread { host: host(), worker: 3, source: source() }.to_string(),
            HostError::WorkerLost { host: host(), worker: 3 }.to_string(),
            HostError::Late { host: host(), worker: 3 }.to_string(),
            HostError::Stopped { host: host() }.to_string(),
            HostError::FrameLen { index: 2, len: 9000 }.to_string(),
            HostError::NoInstance { id: 7 }.to_string(),
            HostError::InUse { object: "a.o".to_owned(), program: program(), hook: "xdp".to_owned() }.to_string(),
            HostError::NoMap { map: "jumps".to_owned() }.to_string(),
            HostError::NotProgramArray { map: "jumps".to_owned(), kind: "hash".to_owned() }.to_string(),
            HostError::Slot { map: "jumps".to_owned(), index: 9, slot_count: 8, errno: Errno::E2BIG }.to_string(),
            HostError::NoProgram { program: program() }.to_string(),
            HostError::Kind { program: program(), kind: "tc", hook: "xdp" }.to_string(),
            HostError::NothingAttached { hook: "xdp".to_owned() }.to_string(),
            HostError::NotThere { program: program(), hook: "lan/xdp".to_owned() }.to_string(),
            HostError::Actions { program: program(), hook: "tc-egress" }.to_string(),
            HostError::HookFull { place: "xdp".to_owned() }.to_string(),
            HostError::NoPort { port: "lan".to_owned() }.to_string(),
            HostError::PortTaken { port: "lan".to_owned() }.to_string(),
            HostError::PortsFull { port: "lan".to_owned(), count: 4 }.to_string(),
            HostError::WirePort.to_string(),
        ];
        assert_eq!(
            texts,
            [
                "host red: 65 workers; choose 1 to 64",
                "host red: fuel 0; choose 1 to 67108864",
                "host red: cannot start worker 3: Resource temporarily unavailable (os error 11); raise `ulimit -u`",
                "host red: worker 3 failed; report its panic and start the host again",
                "host red: worker 3 still acts on what was before, 1000 ms after the change; it takes the change after its \
                 frame: wait, or run with less fuel",
                "host red: stopped; start another",
                "frame 2 of 9000 bytes: cannot be sent; send frames of 14 to 1792 bytes",
                "object 7: not loaded; list the objects for their numbers",
                "object a.o: its program count sits on hook xdp; detach it first",
                "map jumps: not loaded; load an object that has it",
                "map jumps: a map of type hash holds no programs; name one of type prog_array",
                "map jumps: slot 9 of 8 does not take the program (E2BIG); choose another slot or a program of the \
                 array's kind",
                "program count: not loaded; load an object that has it",
                "program count: a tc program cannot sit on hook xdp; attach a program of the hook's kind",
                "hook xdp: no program is attached; attach one first",
                "program count: does not sit on hook lan/xdp; list the hooks for what does",
                "program count: hook tc-egress knows no chain-call actions; leave them out, TC_ACT_UNSPEC goes on",
                "hook xdp: more than 16 programs; detach one first",
                "port lan: no such port; list the ports for their names",
                "port lan: there is one of this name; choose another or remove it first",
                "port lan: the host takes 4 ports and has them; remove one, or name it when the host starts",
                "port wire: a host keeps its wire; stop the host instead",
            ]
        );
    }
}
