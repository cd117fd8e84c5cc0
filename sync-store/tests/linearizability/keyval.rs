//! Keyval zones, and maps that are like one but for a planted bug.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use sync_store::{Error, Expiry, KeyvalZone, Replica as _, Time};

use crate::checker::{assert_contradicted, assert_linearizable};
use crate::history::{Action, Id, Outcome, Subject};

/// The time of all operations.
const NOW: Time = Time::from_millis(1_700_000_000_000);
/// A time whose records of a second have expired.
const EARLIER: Time = Time::from_millis(1_699_999_000_000);
const SECOND: Duration = Duration::from_secs(1);

const WRITES_AND_READS: [fn(Id) -> Action; 12] = [
    Action::Set,
    Action::Set,
    Action::Insert,
    Action::Insert,
    Action::Update,
    |_| Action::Renew,
    |_| Action::Remove,
    |_| Action::Remove,
    |_| Action::Get,
    |_| Action::GetInto,
    |_| Action::GetInto,
    |_| Action::Peek,
];

const WITH_EXPIRY: [fn(Id) -> Action; 12] = [
    Action::Set,
    Action::SetExpired,
    Action::SetExpired,
    Action::Insert,
    Action::Insert,
    Action::Update,
    |_| Action::Renew,
    |_| Action::Expire,
    |_| Action::Remove,
    |_| Action::Get,
    |_| Action::GetInto,
    |_| Action::Peek,
];

/// Outcomes that every mix has.
const OUTCOMES: [&str; 7] =
    ["done", "exists", "missing", "removed", "nothing to remove", "nothing", "a value"];

/// Some records have no end, the others have a second left.
const fn expiry(id: Id) -> Expiry {
    if id.is_multiple_of(3) { Expiry::Never } else { Expiry::After(SECOND) }
}

fn outcome<V>(result: Result<(), Error>) -> Outcome<V> {
    match result {
        Ok(()) => Outcome::Done,
        Err(Error::KeyExists { .. }) => Outcome::Exists,
        Err(Error::KeyNotFound { .. }) => Outcome::Missing,
        Err(Error::ZoneFull { .. }) => Outcome::Full,
        Err(other) => Outcome::Failed(other.to_string()),
    }
}

impl Subject for KeyvalZone {
    fn act(&self, key: &[u8], action: Action, value: &[u8]) -> Outcome<Vec<u8>> {
        match action {
            Action::Set(id) => outcome(self.set(key, value, NOW, expiry(id))),
            Action::SetExpired(_) => outcome(self.set(key, value, EARLIER, Expiry::After(SECOND))),
            Action::Insert(id) => outcome(self.insert(key, value, NOW, expiry(id))),
            Action::Update(id) => outcome(self.update(key, Some(value), NOW, Some(expiry(id)))),
            Action::Renew => outcome(self.update(key, None, NOW, Some(Expiry::After(SECOND)))),
            Action::Expire => outcome(self.update(key, None, NOW, Some(Expiry::After(Duration::ZERO)))),
            Action::Remove => match self.remove(key, NOW) {
                Ok(was) => Outcome::Removed(was),
                Err(error) => outcome(Err(error)),
            },
            Action::Get => Outcome::Read(self.get(key, NOW).map(|value| value.to_vec())),
            Action::GetInto => {
                let mut value = Vec::new();
                Outcome::Read(self.get_into(key, NOW, &mut value).then_some(value))
            }
            Action::Peek => Outcome::Read(self.entry(key, NOW).map(|entry| entry.value.to_vec())),
        }
    }

    fn tend(&self) {
        self.sweep(NOW, usize::MAX);
        self.publish(NOW, &mut |_| true);
    }
}

/// A zone with room for all that is written, but so small that the keys meet in few buckets. Half of the zones forget tombstones
/// at the next sweep, so that keys are inserted into empty slots again and again.
fn roomy(seed: u64) -> KeyvalZone {
    let zone = KeyvalZone::builder("roomy").size(16 << 10).max_record(256);
    let zone = if seed.is_multiple_of(2) { zone.tombstone_retention(Duration::ZERO) } else { zone };
    zone.build().expect("a zone")
}

/// A zone full of other records but for what a few of them have left behind.
fn nearly_full(seed: u64) -> KeyvalZone {
    let zone = KeyvalZone::builder("nearly full").size(8 << 10).max_record(256);
    let zone = zone.tombstone_retention(Duration::ZERO).build().expect("a zone");
    let others = (0_u16..).map(|number| [b'-', (number >> 8) as u8, number as u8]);
    let held: Vec<_> =
        others.take_while(|other| zone.set(other, "other", NOW, Expiry::Never).is_ok()).collect();
    for other in held.iter().take((seed % 8) as usize) {
        zone.remove(other, NOW).expect("no other thread removes anything");
    }
    zone
}

#[test]
fn a_roomy_zone() {
    assert_linearizable(&OUTCOMES, &WRITES_AND_READS, roomy);
}

#[test]
fn a_zone_where_records_expire() {
    assert_linearizable(&OUTCOMES, &WITH_EXPIRY, roomy);
}

#[test]
fn a_zone_that_is_nearly_full() {
    assert_linearizable(&[&OUTCOMES[..], &["full"]].concat(), &WITH_EXPIRY, nearly_full);
}

/// What is wrong with a map.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flaw {
    Nothing,
    /// Inserts look and write under two locks.
    InsertInTwoSteps,
    /// Removals do.
    RemoveInTwoSteps,
    /// Renewals write back the value they found, even if there is a newer one.
    RenewByCopy,
    /// Reads fill a cache, even if what they found was overwritten meanwhile.
    StaleCache,
    /// Values are written in two halves.
    TornWrite,
    /// A write that finds no room has already removed what was there.
    FullAfterRemoval,
    /// Writes that find nothing there leave what comes meanwhile, and say that they have written.
    SetOvertaken,
    /// Inserts look again whether theirs is what the key has, and else say that the key exists.
    InsertDisowned,
    /// Sticky: accesses write back the server they found.
    AccessByCopy,
}

/// Operations as a zone has them on a map with a lock, of which it is easy to say whether they are linearizable.
#[derive(Debug)]
pub(crate) struct Map {
    flaw: Flaw,
    records: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    cache: Mutex<HashMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl Map {
    /// The longest value in bytes that it has room for.
    const LONGEST: usize = 150;

    pub(crate) fn new(flaw: Flaw) -> Self {
        Self { flaw, records: Mutex::default(), cache: Mutex::default() }
    }

    fn read(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.records.lock().get(key).cloned()
    }

    fn write(&self, key: &[u8], value: &[u8]) {
        self.records.lock().insert(key.to_vec(), value.to_vec());
    }

    /// Performs an operation as it should be, under one lock.
    fn act_well(&self, key: &[u8], action: Action, value: &[u8]) -> Outcome<Vec<u8>> {
        let mut records = self.records.lock();
        let exists = records.contains_key(key);
        match action {
            Action::Insert(_) if exists => Outcome::Exists,
            Action::Update(_) | Action::Renew | Action::Expire if !exists => Outcome::Missing,
            Action::Set(_) | Action::Insert(_) | Action::Update(_) => {
                if value.len() > Self::LONGEST {
                    return Outcome::Full;
                }
                records.insert(key.to_vec(), value.to_vec());
                Outcome::Done
            }
            Action::Renew => Outcome::Done,
            Action::SetExpired(_) | Action::Expire => {
                records.remove(key);
                Outcome::Done
            }
            Action::Remove => Outcome::Removed(records.remove(key).is_some()),
            Action::Get | Action::GetInto | Action::Peek => Outcome::Read(records.get(key).cloned()),
        }
    }
}

impl Subject for Map {
    fn act(&self, key: &[u8], action: Action, value: &[u8]) -> Outcome<Vec<u8>> {
        // Where another thread has to come for the flaw to show.
        let gap = thread::yield_now;
        match (self.flaw, action) {
            (Flaw::InsertInTwoSteps, Action::Insert(id)) => {
                if self.read(key).is_some() {
                    return Outcome::Exists;
                }
                gap();
                self.act_well(key, Action::Set(id), value)
            }
            (Flaw::RemoveInTwoSteps, Action::Remove) => {
                let was = self.read(key).is_some();
                gap();
                self.records.lock().remove(key);
                Outcome::Removed(was)
            }
            (Flaw::RenewByCopy, Action::Renew) => {
                let Some(found) = self.read(key) else { return Outcome::Missing };
                gap();
                self.write(key, &found);
                Outcome::Done
            }
            (Flaw::StaleCache, read) if read.is_read() => {
                if let Some(cached) = self.cache.lock().get(key) {
                    return Outcome::Read(cached.clone());
                }
                let found = self.read(key);
                gap();
                self.cache.lock().insert(key.to_vec(), found.clone());
                Outcome::Read(found)
            }
            (Flaw::StaleCache, write) => {
                let outcome = self.act_well(key, write, value);
                self.cache.lock().remove(key);
                outcome
            }
            (Flaw::TornWrite, Action::Set(_)) if value.len() > 1 => {
                self.write(key, &value[..value.len() / 2]);
                gap();
                self.act_well(key, action, value)
            }
            (Flaw::FullAfterRemoval, Action::Set(_)) if value.len() > Self::LONGEST => {
                self.records.lock().remove(key);
                Outcome::Full
            }
            (Flaw::SetOvertaken, Action::Set(id)) if self.read(key).is_none() => {
                gap();
                match self.act_well(key, Action::Insert(id), value) {
                    Outcome::Exists => Outcome::Done,
                    outcome => outcome,
                }
            }
            (Flaw::InsertDisowned, Action::Insert(_)) => {
                let outcome = self.act_well(key, action, value);
                gap();
                let disowned = outcome == Outcome::Done && self.read(key).is_none_or(|found| found != value);
                if disowned { Outcome::Exists } else { outcome }
            }
            (Flaw::AccessByCopy, Action::Get | Action::GetInto) => {
                let found = self.read(key);
                gap();
                if let Some(found) = &found {
                    self.write(key, found);
                }
                Outcome::Read(found)
            }
            _ => self.act_well(key, action, value),
        }
    }
}

#[test]
fn a_map_with_a_lock_is_linearizable() {
    assert_linearizable(&[&OUTCOMES[..], &["full"]].concat(), &WITH_EXPIRY, |_| Map::new(Flaw::Nothing));
}

#[test]
fn planted_bugs_are_found() {
    let flaws = [
        Flaw::InsertInTwoSteps,
        Flaw::RemoveInTwoSteps,
        Flaw::RenewByCopy,
        Flaw::StaleCache,
        Flaw::TornWrite,
        Flaw::FullAfterRemoval,
        Flaw::SetOvertaken,
        Flaw::InsertDisowned,
    ];
    for flaw in flaws {
        assert_contradicted(flaw, &WRITES_AND_READS, |_| Map::new(flaw));
    }
}
