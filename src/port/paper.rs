//! A file that ports write to without waiting for it: a thread of its own does.
//!
//! Invariant: a writer that falls behind, or a disk that is full, costs what is written and never the port.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Pieces that wait for the writer at most; more are counted and dropped.
const WAITING_MAX: usize = 4096;
/// Bytes after which pieces are written.
const BUFFER_LEN: usize = 64 * 1024;
/// How long a piece stays in memory when nothing follows it.
const QUIET: Duration = Duration::from_millis(100);

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Paper {
    pieces: Option<SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
    lost: Arc<AtomicU64>,
}

impl Paper {
    /// Makes the file anew, with `first` at its beginning.
    pub(super) fn new(path: &Path, first: &[u8]) -> io::Result<Self> {
        let mut file = File::create(path)?;
        file.write_all(first)?;
        let (sender, pieces) = sync_channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        let writer = thread::Builder::new().name("paper".to_owned()).spawn(move || write(file, &pieces, &counter))?;
        Ok(Self { pieces: Some(sender), writer: Some(writer), lost })
    }

    /// Hands a piece over, or counts it as lost.
    pub(super) fn put(&self, piece: Vec<u8>) {
        let taken = self.pieces.as_ref().is_some_and(|pieces| pieces.try_send(piece).is_ok());
        if !taken {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Pieces that are not in the file, or of which that is not known, each told once: workers share a file, and their counts are added up.
    pub(super) fn take_lost(&self) -> u64 {
        // Asked for with every turn, and hardly ever more than nothing.
        if self.lost.load(Ordering::Relaxed) == 0 { 0 } else { self.lost.swap(0, Ordering::Relaxed) }
    }
}

fn write(mut file: impl Write, pieces: &Receiver<Vec<u8>>, lost: &AtomicU64) {
    let (mut buffer, mut count, mut is_broken) = (Vec::with_capacity(2 * BUFFER_LEN), 0, false);
    loop {
        let (is_due, is_over) = match pieces.recv_timeout(QUIET) {
            // What stands behind half a piece could not be read.
            Ok(_) if is_broken => {
                lost.fetch_add(1, Ordering::Relaxed);
                (false, false)
            }
            Ok(piece) => {
                buffer.extend_from_slice(&piece);
                count += 1;
                (buffer.len() >= BUFFER_LEN, false)
            }
            Err(RecvTimeoutError::Timeout) => (true, false),
            Err(RecvTimeoutError::Disconnected) => (true, true),
        };
        if is_due && count > 0 {
            if file.write_all(&buffer).is_err() {
                is_broken = true;
                lost.fetch_add(count, Ordering::Relaxed);
            }
            buffer.clear();
            count = 0;
        }
        if is_over && matches!(pieces.try_recv(), Err(TryRecvError::Disconnected)) {
            return;
        }
    }
}

impl Drop for Paper {
    /// Waits for the writer: what was handed over is in the file then.
    fn drop(&mut self) {
        self.pieces = None;
        if let Some(writer) = self.writer.take() {
            // It holds no lock of ours, so a panic of it harms nobody.
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn what_a_full_disk_does_not_take_is_counted() {
        let paper = Paper::new(Path::new("/dev/full"), &[]).expect("every Linux has it");
        let deadline = Instant::now() + Duration::from_secs(20);
        let (mut put, mut lost) = (0, 0);
        while lost < 100 {
            paper.put(vec![7; 1000]);
            put += 1;
            lost += paper.take_lost();
            thread::yield_now();
            assert!(Instant::now() < deadline, "{put} put, {lost} lost");
        }
        let rest = Arc::clone(&paper.lost);
        drop(paper);
        assert_eq!(lost + rest.load(Ordering::Relaxed), put, "nothing is in the file");
    }
}
