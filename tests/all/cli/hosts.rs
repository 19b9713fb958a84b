//! Host processes for tests: started on loopback addresses of their own, awaited by conditions, never left behind.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{kumite, said};
use crate::control::socket::Folder;

/// How long anything here may take.
const TIME_MAX: Duration = Duration::from_secs(30);

/// The objects of the demonstration.
pub(crate) const BALANCER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/demo/balancer.o");
pub(crate) const FIREWALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/demo/firewall.o");

/// Two addresses on loopback that no other test of any process has.
pub(crate) fn wire_ends() -> [String; 2] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    [1, 2].map(|end| format!("127.{}.{middle}.{low}:{}", 128 | high & 0x3f, 7000 + 2 * number + end))
}

/// Waits until `done` gives something.
pub(crate) fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + TIME_MAX;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < give_up, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A host process; killed where a test fails.
pub(crate) struct HostProcess {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) api: String,
    /// Its first lines: where it listens.
    pub(crate) started: String,
}

impl HostProcess {
    /// Starts a host and waits until it says that it listens.
    pub(crate) fn start(folder: &Folder, name: &str, ends: [&str; 2], words: &[&str]) -> Self {
        let api = folder.address(name).to_string();
        let wire = format!("udp:{},peer={}", ends[0], ends[1]);
        let mut command = kumite(&["host", "--name", name, "--wire", &wire, "--api", &api]);
        command.args(words).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut started = String::new();
        for _ in 0..2 {
            stdout.read_line(&mut started).expect("a line");
        }
        Self { child, stdout, api, started }
    }

    /// A command for this host that must succeed; what it writes.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let (code, out, complaints) = self.said(words);
        assert_eq!((code, complaints.as_str()), (0, ""), "{words:?}: {out}");
        out
    }

    /// A command for this host: exit code and both texts.
    pub(crate) fn said(&self, words: &[&str]) -> (i32, String, String) {
        said(&[words, &["--api", &self.api]].concat())
    }

    /// The same, as JSON.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ask(&[words, &["--json"]].concat())).expect("JSON")
    }

    /// A count of the wire port.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.json(&["stat"])["ports"][0][name].as_u64().expect("a count")
    }

    /// Sends a signal and waits for the end: exit code and what it wrote since its start.
    pub(crate) fn end_by(self, signal: &str) -> (i32, String) {
        let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success(), "the host still runs");
        self.ended()
    }

    /// Waits for the end: exit code and what it wrote since its start.
    pub(crate) fn ended(mut self) -> (i32, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        let status = wait_for("the end of a host", || self.child.try_wait().expect("our child"));
        (status.code().expect("no signal ends it"), rest)
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        // Both fail where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the books that a host wrote at its end are exact.
pub(crate) fn assert_exact(books: &str) {
    assert!(books.contains("(exact)") && !books.contains("NOT EXACT"), "{books}");
}
