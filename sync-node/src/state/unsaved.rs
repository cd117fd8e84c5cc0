//! What has changed in a zone since it was last written to its files: one record a key, whoever wrote it.
//!
//! Whoever publishes or applies holds the lock meanwhile and notes every record, so whoever has the lock sees a zone whose version vector
//! covers nothing that is not noted or written. Memory: a copy of what changed, at most of every record of the zone.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sync_store::Record;

use super::saved::Saved;

pub(crate) type Records = HashMap<Box<[u8]>, Saved<Box<[u8]>>>;

/// A key and its record.
pub(crate) type Pair = (Box<[u8]>, Saved<Box<[u8]>>);

/// The records to be written next.
#[derive(Debug, Default)]
pub(crate) struct Unsaved(Records);

impl Unsaved {
    /// Notes a record that was published or has arrived. The order does not matter: the later one stays, as in the zone.
    pub(crate) fn note(&mut self, record: &Record<'_>) {
        let Some(saved) = Saved::of(record) else { return };
        match self.0.entry(record.key.into()) {
            Entry::Vacant(entry) => _ = entry.insert(saved.to_owned()),
            Entry::Occupied(mut entry) if saved.replaces(entry.get()) => _ = entry.insert(saved.to_owned()),
            Entry::Occupied(_) => {}
        }
    }

    /// Hands over what is noted.
    pub(crate) fn take(&mut self) -> Records {
        std::mem::take(&mut self.0)
    }

    /// Takes back what could not be written.
    pub(crate) fn put_back(&mut self, records: Records) {
        for (key, saved) in records {
            if self.0.get(&key).is_none_or(|newer| saved.replaces(newer)) {
                self.0.insert(key, saved);
            }
        }
    }
}
