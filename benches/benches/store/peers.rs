//! The crates that keyval zones are compared with, each used as its documentation advises for speed.

use std::sync::Arc;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use moka::sync::Cache as Moka;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache as QuickCache, DefaultLifecycle};
use sync_store::{Expiry, KeyvalZone, Replica};

use crate::START;
use crate::keyval::{Store, Turn};

type Bytes = Box<[u8]>;

/// Room of a cache in records: none is evicted, however unevenly they fall on its shards.
pub(crate) const fn room(records: u32) -> u64 {
    records as u64 * 2
}

fn copy(from: &[u8], to: &mut Vec<u8>) {
    to.clear();
    to.extend_from_slice(from);
}

/// Overwrites a value where it is if the new one has its length, which is the peers' best case: none of them has to allocate.
fn overwrite(old: &mut Bytes, new: &[u8]) {
    if old.len() == new.len() {
        old.copy_from_slice(new);
    } else {
        *old = new.into();
    }
}

impl Store for KeyvalZone {
    const NAME: &str = "sync-store";

    fn fill(&self, key: &[u8], value: &[u8]) {
        self.set(key, value, START, Expiry::Default).expect("room");
    }

    /// Publishes, so that what the round writes is dirty for the first time, as it is with peers that keep up.
    fn prepare(&self) {
        while self.dirty_count() > 0 {
            self.publish(START, &mut |_| true);
        }
    }

    fn turn(&self, turn: Turn<'_>) -> usize {
        let now = turn.now;
        turn.run(
            |key, value| self.get_into(key, now, value),
            |key, value| self.set(key, value, now, Expiry::Default).expect("room"),
        )
    }
}

/// Pinned once a turn: pinning costs about as much as a lock, but nothing is freed while a pin lasts. Every update allocates a key and a
/// value; the map replaces values and never writes to one.
pub(crate) type Papaya = papaya::HashMap<Bytes, Bytes, RandomState>;

impl Store for Papaya {
    const NAME: &str = "papaya";

    fn fill(&self, key: &[u8], value: &[u8]) {
        self.pin().insert(key.into(), value.into());
    }

    fn turn(&self, turn: Turn<'_>) -> usize {
        let map = self.pin();
        turn.run(
            |key, value| map.get(key).map(|found| copy(found, value)).is_some(),
            |key, value| {
                map.insert(key.into(), value.into());
            },
        )
    }
}

pub(crate) type Dashmap = DashMap<Bytes, Bytes, RandomState>;

impl Store for Dashmap {
    const NAME: &str = "dashmap";

    fn fill(&self, key: &[u8], value: &[u8]) {
        self.insert(key.into(), value.into());
    }

    fn turn(&self, turn: Turn<'_>) -> usize {
        turn.run(
            |key, value| self.get(key).map(|found| copy(&found, value)).is_some(),
            |key, value| match self.get_mut(key) {
                Some(mut found) => overwrite(&mut found, value),
                None => self.fill(key, value),
            },
        )
    }
}

/// The hash map and not the hash index, whose reads take no lock but whose updates copy.
pub(crate) type Scc = scc::HashMap<Bytes, Bytes, RandomState>;

impl Store for Scc {
    const NAME: &str = "scc";

    fn fill(&self, key: &[u8], value: &[u8]) {
        self.upsert_sync(key.into(), value.into());
    }

    fn turn(&self, turn: Turn<'_>) -> usize {
        turn.run(
            |key, value| self.read_sync(key, |_, found| copy(found, value)).is_some(),
            |key, value| {
                if self.update_sync(key, |_, found| overwrite(found, value)).is_none() {
                    self.fill(key, value);
                }
            },
        )
    }
}

/// Keys and values of fixed size, in the table itself: not what a zone does, but where it loses.
pub(crate) type SccInline = scc::HashMap<[u8; 16], [u8; 32], RandomState>;

impl Store for SccInline {
    const NAME: &str = "scc-inline";

    fn fill(&self, key: &[u8], value: &[u8]) {
        let key = key.try_into().expect("16 bytes");
        self.upsert_sync(key, value.try_into().expect("32 bytes"));
    }

    fn turn(&self, turn: Turn<'_>) -> usize {
        let fixed = |key: &[u8]| <[u8; 16]>::try_from(key).expect("16 bytes");
        turn.run(
            |key, value| self.read_sync(&fixed(key), |_, found| copy(found, value)).is_some(),
            |key, value| {
                if self.update_sync(&fixed(key), |_, found| found.copy_from_slice(value)).is_none() {
                    self.fill(key, value);
                }
            },
        )
    }
}

pub(crate) type MokaCache = Moka<Bytes, Arc<[u8]>, RandomState>;

impl Store for MokaCache {
    const NAME: &str = "moka";

    fn fill(&self, key: &[u8], value: &[u8]) {
        self.insert(key.into(), value.into());
    }

    fn turn(&self, turn: Turn<'_>) -> usize {
        turn.run(
            |key, value| self.get(key).map(|found| copy(&found, value)).is_some(),
            |key, value| self.insert(key.into(), value.into()),
        )
    }
}

pub(crate) type Quick = QuickCache<Bytes, Arc<[u8]>, UnitWeighter, RandomState>;

pub(crate) fn quick_cache(records: u32) -> Quick {
    let items = usize::try_from(room(records)).expect("fits");
    QuickCache::with(items, room(records), UnitWeighter, RandomState::default(), DefaultLifecycle::default())
}

impl Store for Quick {
    const NAME: &str = "quick_cache";

    fn fill(&self, key: &[u8], value: &[u8]) {
        self.insert(key.into(), value.into());
    }

    fn turn(&self, turn: Turn<'_>) -> usize {
        turn.run(
            |key, value| self.get(key).map(|found| copy(&found, value)).is_some(),
            |key, value| self.insert(key.into(), value.into()),
        )
    }
}
