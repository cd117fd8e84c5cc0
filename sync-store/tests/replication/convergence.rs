//! Whatever the order, repetition and loss of batches: once everything has been exchanged, all zones hold the same.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Batch, catch_up, deliver, publish};
use proptest::prelude::*;
use sync_store::{Expiry, KeyvalZone, Origin, Replica, StickyZone, Time};

const ZONES: usize = 3;
const START_MS: u64 = 1_000_000;

#[derive(Clone, Debug)]
enum Act {
    Set {
        zone: usize,
        key: u8,
        value: u8,
        expires_ms: Option<u64>,
    },
    Remove {
        zone: usize,
        key: u8,
    },
    Touch {
        zone: usize,
        key: u8,
    },
    Publish {
        zone: usize,
        most: usize,
    },
    /// One of the batches published so far, perhaps for the second time, perhaps before earlier ones.
    Deliver {
        to: usize,
        batch: usize,
    },
    CatchUp {
        from: usize,
        to: usize,
    },
    Wait {
        ms: u64,
    },
    Sweep {
        zone: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let zone = || 0..ZONES;
    let key = || 0..6u8;
    prop_oneof![
        6 => (zone(), key(), any::<u8>(), proptest::option::weighted(0.3, 1..3_000u64))
            .prop_map(|(zone, key, value, expires_ms)| Act::Set { zone, key, value, expires_ms }),
        2 => (zone(), key()).prop_map(|(zone, key)| Act::Remove { zone, key }),
        2 => (zone(), key()).prop_map(|(zone, key)| Act::Touch { zone, key }),
        4 => (zone(), 1..4usize).prop_map(|(zone, most)| Act::Publish { zone, most }),
        8 => (zone(), any::<usize>()).prop_map(|(to, batch)| Act::Deliver { to, batch }),
        1 => (zone(), zone()).prop_map(|(from, to)| Act::CatchUp { from, to }),
        2 => (0..1_500u64).prop_map(|ms| Act::Wait { ms }),
        1 => zone().prop_map(|zone| Act::Sweep { zone }),
    ]
}

trait Subject: Replica {
    fn set(&self, key: u8, value: u8, now: Time, expires_ms: Option<u64>);
    fn remove(&self, key: u8, now: Time);
    fn touch(&self, key: u8, now: Time);
    fn content(&self, now: Time) -> BTreeMap<Vec<u8>, Vec<u8>>;
}

impl Subject for KeyvalZone {
    fn set(&self, key: u8, value: u8, now: Time, expires_ms: Option<u64>) {
        let expiry = expires_ms.map_or(Expiry::Never, |ms| Expiry::After(Duration::from_millis(ms)));
        Self::set(self, [key], [value; 3], now, expiry).expect("room");
    }

    fn remove(&self, key: u8, now: Time) {
        Self::remove(self, [key], now).expect("room");
    }

    fn touch(&self, key: u8, now: Time) {
        let _ = self.get([key], now);
    }

    fn content(&self, now: Time) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.iter(now).map(|(key, entry)| (key.into_vec(), entry.value.into_vec())).collect()
    }
}

impl Subject for StickyZone {
    fn set(&self, key: u8, value: u8, now: Time, _: Option<u64>) {
        self.learn([key], [value % 4], now).expect("room");
    }

    fn remove(&self, key: u8, now: Time) {
        self.forget([key], now).expect("room");
    }

    fn touch(&self, key: u8, now: Time) {
        self.lookup([key], now);
    }

    fn content(&self, now: Time) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.iter(now).map(|(key, session)| (key.into_vec(), session.server.into_vec())).collect()
    }
}

fn converges(zones: &[Box<dyn Subject>], acts: &[Act], patience: u64) {
    let mut now = Time::from_millis(START_MS);
    let mut batches: Vec<Batch> = Vec::new();
    for act in acts {
        match *act {
            Act::Set { zone, key, value, expires_ms } => zones[zone].set(key, value, now, expires_ms),
            Act::Remove { zone, key } => zones[zone].remove(key, now),
            Act::Touch { zone, key } => zones[zone].touch(key, now),
            Act::Publish { zone, most } => batches.push(publish(&*zones[zone], now, most)),
            Act::Deliver { to, batch } if !batches.is_empty() => {
                let batch = &batches[batch % batches.len()];
                if batch.origin != zones[to].origin() {
                    deliver(&*zones[to], now, batch);
                }
            }
            Act::Deliver { .. } => {}
            Act::CatchUp { from, to } if from != to => {
                // As the node does: what the scan leaves out because it is dirty is published before the catch-up ends.
                let dirty = publish(&*zones[from], now, usize::MAX);
                catch_up(&*zones[from], &*zones[to], now);
                batches.push(dirty);
            }
            Act::CatchUp { .. } => {}
            Act::Wait { ms } => now = now.saturating_add(Duration::from_millis(ms * patience)),
            Act::Sweep { zone } => _ = zones[zone].sweep(now, usize::MAX),
        }
    }
    // The network heals: everything is published, every vector is brought up to date.
    for zone in zones {
        publish(&**zone, now, usize::MAX);
    }
    for from in zones {
        for to in zones.iter().filter(|to| to.origin() != from.origin()) {
            catch_up(&**from, &**to, now);
        }
    }
    let content = zones[0].content(now);
    for zone in zones {
        assert_eq!(zone.content(now), content);
        assert_eq!(zone.digest(now), zones[0].digest(now), "equal content, other stamps");
        assert_eq!(zone.vector(), zones[0].vector());
        assert_eq!(zone.dirty_count(), 0);
    }
    // A second round of catch-up has nothing to send.
    assert_eq!(catch_up(&*zones[0], &*zones[1], now), 0);
}

fn origin(zone: usize) -> Origin {
    Origin::from_raw(zone as u64 + 1).expect("not 0")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn keyval_zones_converge(acts in prop::collection::vec(act(), 0..150)) {
        let zone = |zone| -> Box<dyn Subject> {
            Box::new(KeyvalZone::builder("z").size(64 << 10).origin(origin(zone)).build().expect("a zone"))
        };
        converges(&(0..ZONES).map(zone).collect::<Vec<_>>(), &acts, 1);
    }

    #[test]
    fn sticky_zones_converge(acts in prop::collection::vec(act(), 0..150)) {
        let zone = |zone| -> Box<dyn Subject> {
            // Long enough that no session expires, which happens on one node before the other; with the longer waits short enough
            // that accesses are published.
            let timeout = Duration::from_secs(36_000);
            let zone = StickyZone::builder("z").size(64 << 10).origin(origin(zone)).timeout(timeout);
            Box::new(zone.tombstone_retention(timeout).build().expect("a zone"))
        };
        converges(&(0..ZONES).map(zone).collect::<Vec<_>>(), &acts, 1_000);
    }
}
