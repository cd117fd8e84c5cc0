//! When a zone is published: as soon as something is dirty, but not again within the interval. So the first change after a pause
//! leaves at once, and a steady stream is gathered.

use std::time::Duration;

use super::{Now, Shared};

/// The publisher of one zone.
#[derive(Debug)]
pub(crate) struct Publisher {
    zone: usize,
    interval: Duration,
    not_before: Duration,
}

impl Publisher {
    /// At most one publication of the zone in an `interval`.
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
        let pause = if is_behind { Duration::ZERO } else { self.interval };
        self.not_before = now.elapsed.saturating_add(pause);
        published
    }
}
