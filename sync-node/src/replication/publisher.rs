//! When a zone is published: as soon as something is dirty, but not again before a pause. So the first change after a pause
//! leaves at once, and a steady stream is gathered.
//!
//! A publication costs a system call for each peer, however little there is to send: some ten microseconds. The pause is five times that, so that small
//! publications take a sixth of a processor at the most; with twenty peers that is a millisecond, and no pause is longer than the interval.

use std::time::Duration;

use super::{Now, Shared};

/// The pause after a publication, for each peer that it goes to.
const PAUSE_PER_PEER: Duration = Duration::from_micros(50);

/// The publisher of one zone.
#[derive(Debug)]
pub(crate) struct Publisher {
    zone: usize,
    interval: Duration,
    not_before: Duration,
}

impl Publisher {
    /// Changes gather for an `interval` at the most.
    pub(crate) fn new(zone: usize, interval: Duration) -> Self {
        Self { zone, interval, not_before: Duration::ZERO }
    }

    /// Something that is dirty waits until then.
    pub(crate) fn not_before(&self) -> Duration {
        self.not_before
    }

    /// Publishes what is dirty; true if anything was.
    pub(crate) fn publish(&mut self, shared: &Shared, now: Now) -> bool {
        let published = shared.publish(self.zone, now);
        // What is left over goes as soon as the links have had their turn.
        let is_behind = shared.zones[self.zone].log.lock().is_behind();
        let pause = if is_behind { Duration::ZERO } else { self.pause(shared) };
        self.not_before = now.elapsed.saturating_add(pause);
        published
    }

    fn pause(&self, shared: &Shared) -> Duration {
        match u32::try_from(shared.membership.lock().nodes_online()) {
            Ok(peers @ 1..) => self.interval.min(PAUSE_PER_PEER.saturating_mul(peers)),
            // Nobody is waiting.
            Ok(0) | Err(_) => self.interval,
        }
    }
}
