//! When a zone is published: as soon as something is dirty, but not again before a pause. So the first change after a pause
//! leaves at once, and a steady stream is gathered.
//!
//! A publication costs a system call for each peer, however little there is to send: some ten microseconds. The pause is five times that, so that small
//! publications take a sixth of a processor at the most; with twenty peers that is a millisecond, and no pause is longer than the interval. Limits wait for all of the interval:
//! each request changes one, and what a few of them cost is as well known in one record as in three.

use std::time::Duration;

use sync_store::ZoneKind;

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
        let pause = if is_behind {
            Duration::ZERO
        } else {
            let peers = shared.membership.lock().nodes_online();
            pause(shared.zones[self.zone].replica.kind(), peers, self.interval)
        };
        self.not_before = now.elapsed.saturating_add(pause);
        published
    }
}

/// How long after a publication of a zone nothing of it is published, with so many peers.
fn pause(kind: ZoneKind, peers: usize, interval: Duration) -> Duration {
    match (kind, u32::try_from(peers)) {
        (ZoneKind::Keyval | ZoneKind::Sticky, Ok(peers @ 1..)) => {
            interval.min(PAUSE_PER_PEER.saturating_mul(peers))
        }
        // The second: nobody is waiting.
        (ZoneKind::Limit, _) | (_, Ok(0) | Err(_)) => interval,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_peers_up_to_the_interval_and_limits_take_all_of_it() {
        let micros = |kind, peers| pause(kind, peers, Duration::from_millis(1)).as_micros();
        assert_eq!(
            [0, 1, 7, 20, 21, usize::MAX].map(|peers| micros(ZoneKind::Keyval, peers)),
            [1_000, 50, 350, 1_000, 1_000, 1_000]
        );
        assert_eq!([0, 1, 7, 64].map(|peers| micros(ZoneKind::Limit, peers)), [1_000; 4]);
        let shortest = Duration::from_micros(10);
        assert_eq!(pause(ZoneKind::Sticky, 3, shortest), shortest, "an interval below it counts");
    }
}
