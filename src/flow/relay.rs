//! Frames that one worker hands to another, which drives the port that they are for.
//!
//! Invariant: neither side blocks or allocates; when every place is taken, [`Relay::put`] says no.

use crossbeam::queue::ArrayQueue;

use super::carried::Carried;
use crate::limits::{FRAME_LEN_MAX, RELAY_FRAMES_MAX};

/// Where a frame enters a port's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Behind xdp, as if it had come in there.
    Ingress,
    /// Before tc egress, sent there by a program.
    Redirected,
    /// Before tc egress, passed on from another port.
    Forwarded,
    /// Behind every hook.
    Out,
}

/// How a frame goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// The port's place in the plan.
    pub(super) slot: usize,
    pub(super) entry: Entry,
    /// Redirects so far.
    pub(super) hops: u32,
    pub(super) carried: Carried,
}

/// A frame on its way.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) way: Way,
    pub(super) len: usize,
    pub(super) bytes: [u8; FRAME_LEN_MAX as usize],
}

/// Frames for one worker.
#[derive(Debug)]
pub(super) struct Relay {
    free: ArrayQueue<Box<Handed>>,
    ready: ArrayQueue<Box<Handed>>,
}

impl Relay {
    /// For a worker among so many; one that is alone gets nothing from others.
    pub(super) fn new(worker_count: u32) -> Self {
        let free = ArrayQueue::new(RELAY_FRAMES_MAX);
        let ready = ArrayQueue::new(RELAY_FRAMES_MAX);
        for _ in 0..if worker_count > 1 { RELAY_FRAMES_MAX } else { 0 } {
            let way = Way { slot: 0, entry: Entry::Out, hops: 0, carried: Carried::new(0) };
            let handed = Box::new(Handed { way, len: 0, bytes: [0; FRAME_LEN_MAX as usize] });
            free.push(handed).expect("there is a place for each");
        }
        Self { free, ready }
    }

    /// Queues a frame that `read` copies out. The worker must then be woken. Says no when no place is free.
    pub(super) fn put(&self, way: Way, read: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let Some(mut handed) = self.free.pop() else { return false };
        handed.way = way;
        handed.len = read(&mut handed.bytes);
        self.ready.push(handed).expect("there is a place for each");
        true
    }

    /// The frame that was put first.
    pub(super) fn take(&self) -> Option<Box<Handed>> {
        self.ready.pop()
    }

    /// Gives a place back.
    pub(super) fn give(&self, handed: Box<Handed>) {
        self.free.push(handed).expect("there is a place for each");
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_relay_says_no_and_keeps_the_order() {
        let relay = Relay::new(2);
        let put = |number: usize| {
            let way = Way { slot: number, entry: Entry::Out, hops: 0, carried: Carried::new(0) };
            relay.put(way, |bytes| {
                bytes[0] = 7;
                1
            })
        };
        assert!((0..RELAY_FRAMES_MAX).all(put) && !put(0) && relay.has_ready());
        let first = relay.take().expect("put first");
        assert_eq!((first.way.slot, first.len, first.bytes[0]), (0, 1, 7));
        relay.give(first);
        assert!(put(9));
        assert!(!Relay::new(1).put(relay.take().expect("the second").way, |_| 0), "nobody is there to put");
    }
}
