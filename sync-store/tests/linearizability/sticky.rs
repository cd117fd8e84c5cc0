//! Sticky zones whose sessions are accessed all the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sync_store::{Error, Replica as _, StickyZone, Time};

use crate::checker::{assert_contradicted, assert_linearizable};
use crate::history::{ACTS_MAX, Action, Id, KEYS_MAX, Outcome, REPEATED, Subject, THREADS};
use crate::keyval::{Flaw, Map};

const START: Time = Time::from_millis(1_700_000_000_000);
const TIMEOUT: Duration = Duration::from_secs(6_400);
/// Every so many operations the time leaps…
const LEAP_EVERY: u64 = 3;
/// …by more than the 64th of the time-out by which an access must be later than the recorded one to be recorded, but by so
/// little that no session of a history expires even if it is never accessed.
const LEAP: Duration = Duration::from_secs(TIMEOUT.as_secs() / 50);
/// Operations of a history at most.
const OPERATIONS: u64 = (THREADS * ACTS_MAX + 2 * KEYS_MAX) as u64;
const _: () = assert!(LEAP.as_secs() > TIMEOUT.as_secs() / 64);
const _: () = assert!(LEAP.as_secs() * OPERATIONS / LEAP_EVERY < TIMEOUT.as_secs());

const MIX: [fn(Id) -> Action; 9] = [
    Action::Set,
    Action::Set,
    |_| Action::Set(REPEATED),
    |_| Action::Remove,
    |_| Action::Remove,
    |_| Action::Get,
    |_| Action::GetInto,
    |_| Action::GetInto,
    |_| Action::Peek,
];

/// A zone whose time goes on with every operation.
struct Sessions {
    zone: StickyZone,
    operations: AtomicU64,
}

impl Sessions {
    /// A zone so large that nothing is evicted. Half of them forget tombstones at the next sweep.
    fn new(seed: u64) -> Self {
        let zone = StickyZone::builder("sessions").size(16 << 10).max_record(256).timeout(TIMEOUT);
        let zone = if seed.is_multiple_of(2) { zone.tombstone_retention(Duration::ZERO) } else { zone };
        Self { zone: zone.build().expect("a zone"), operations: AtomicU64::new(0) }
    }

    fn after(operations: u64) -> Time {
        START.saturating_add(Duration::from_secs(LEAP.as_secs() * (operations / LEAP_EVERY)))
    }
}

impl Subject for Sessions {
    fn act(&self, key: &[u8], action: Action, value: &[u8]) -> Outcome<Vec<u8>> {
        // Threads may use these times in another order than they got them, as those of a node do.
        let now = Self::after(self.operations.fetch_add(1, Ordering::Relaxed));
        let failed = |error: Error| Outcome::Failed(error.to_string());
        let read = |server| match self.zone.stats().evicted {
            evicted @ 1.. => Outcome::Failed(format!("there is room for all, but {evicted} evicted")),
            0 => Outcome::Read(server),
        };
        match action {
            Action::Set(_) => self.zone.learn(key, value, now).map_or_else(failed, |()| Outcome::Done),
            Action::Remove => self.zone.forget(key, now).map_or_else(failed, Outcome::Removed),
            Action::Get => read(self.zone.lookup(key, now).map(|server| server.to_vec())),
            Action::GetInto => {
                let mut server = Vec::new();
                read(self.zone.lookup_into(key, now, &mut server).then_some(server))
            }
            Action::Peek => read(self.zone.peek(key, now).map(|server| server.to_vec())),
            other => Outcome::Failed(format!("a sticky zone has no {other}")),
        }
    }

    fn tend(&self) {
        let now = Self::after(self.operations.load(Ordering::Relaxed));
        self.zone.sweep(now, usize::MAX);
        self.zone.publish(now, &mut |_| true);
    }
}

#[test]
fn a_sticky_zone() {
    let outcomes = ["done", "removed", "nothing to remove", "nothing", "a value"];
    assert_linearizable(&outcomes, &MIX, Sessions::new);
}

#[test]
fn an_access_that_brings_a_session_back_is_found() {
    assert_contradicted(Flaw::AccessByCopy, &MIX, |_| Map::new(Flaw::AccessByCopy));
}
