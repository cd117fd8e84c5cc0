//! Records found by key: what keyval and sticky zones have in common.
//!
//! | file | job |
//! |---|---|
//! | `read` | find a record and copy it, while others change it |
//! | `write` | replace a record, insert a new one without a latch |
//! | `room` | make room: evict, reclaim, sweep |
//! | `replicate` | publish, apply, cover, scan, digest |
//!
//! Everything but `replicate` is lock-free: a thread stopped anywhere stops nobody else. Publishing, applying and covering take turns by a
//! mutex that no request ever meets.

mod read;
mod replica;
mod replicate;
mod room;
mod write;

use std::time::Duration;

use parking_lot::Mutex;

use crate::block::{self, Header};
use crate::blocks::{Blocks, Demand};
use crate::counters::{Counter, Counters};
use crate::dirty::Dirty;
use crate::index::{BUCKET, Index};
use crate::lengths::{Lengths, MatchBy};
use crate::origins::Origins;
use crate::region::{self, Layout, Region, Section};
use crate::time::Time;
use crate::words::{LINE, Ordering, WORD};
use crate::{Error, Origin, ZoneKind, ZoneStats};

pub(crate) use read::Found;
pub(crate) use replica::replica_by_table;
pub(crate) use write::{Step, Value, Written};

/// How long tombstones are kept unless the zone says otherwise.
pub(crate) const TOMBSTONE_RETENTION: Duration = Duration::from_secs(3600);
/// The most bytes of key and value unless the zone says otherwise.
pub(crate) const MAX_RECORD: usize = 16 << 10;
/// The size of a zone in bytes unless it says otherwise.
pub(crate) const SIZE: u64 = 1 << 20;

/// What a table is to be like.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    /// Keyval or sticky.
    pub(crate) kind: ZoneKind,
    pub(crate) origin: Origin,
    /// Bytes of the region, everything included.
    pub(crate) size: u64,
    pub(crate) match_by: MatchBy,
    /// The longest key in bytes.
    pub(crate) max_key: usize,
    /// Whether a peer's key can be one of this zone.
    pub(crate) is_key: fn(&[u8]) -> bool,
    /// The most bytes of key and value.
    pub(crate) max_record: usize,
    /// Sticky: milliseconds from the last access until a session is gone. Keyval: unused, records say when they expire.
    pub(crate) idle_ms: u64,
    /// Milliseconds that a tombstone is kept.
    pub(crate) retention_ms: u64,
    /// How far ahead stamps of peers may be.
    pub(crate) max_clock_skew: Duration,
}

/// Where in a region the parts of a table lie.
#[derive(Debug)]
struct Parts {
    counters: Counters,
    origins: Origins,
    lengths: Lengths,
    index: Index,
    /// A word for each slot: which publication its record is, see [`crate::origins::PackedDot`]. Written under the replication lock only.
    dots: Section,
    /// Sticky: a word for each slot, the *hot word*: the last access here, 48 bits of milliseconds below the generation of the slot.
    hot: Section,
    dirty: Dirty,
    blocks: Blocks,
}

/// Bits of a hot word that hold the time: milliseconds, good until the year 10889.
const HOT_MS_BITS: u32 = 48;
const HOT_MS_MAX: u64 = (1 << HOT_MS_BITS) - 1;

/// Memory for records that goes with a slot: at half load a record has two slots, and 128 bytes are the common record.
const LINES_PER_BUCKET: usize = BUCKET / 2 * 2;

impl Parts {
    fn plan(settings: &Settings, size: u64) -> Option<Self> {
        let Settings { max_key, max_record, match_by, kind, .. } = *settings;
        let demand = Demand { size, max_key, max_record };
        let sticky = kind == ZoneKind::Sticky;
        let mut layout = Layout::new(size);
        let fixed = Counters::WORDS + Origins::words(size) + Lengths::words(match_by) + demand.fixed_words();
        let columns = if sticky { 3 } else { 2 };
        // A word of a bucket for the bitmaps, and a 64th for the overflow area.
        let per_bucket = columns * BUCKET + LINES_PER_BUCKET * LINE + 1 + BUCKET / 4;
        // Two buckets at least, or the second look would be at the first one; 64 words for what the sections are padded by.
        let buckets = (layout.left().checked_sub(fixed + 64)? / per_bucket).max(2);
        let counters = Counters::new(&mut layout)?;
        let origins = Origins::new(&mut layout, size)?;
        let lengths = Lengths::new(&mut layout, match_by)?;
        let index = Index::new(&mut layout, buckets, !sticky)?;
        let dots = layout.take(index.len())?;
        let hot = layout.take(if sticky { index.len() } else { 0 })?;
        let dirty = Dirty::new(&mut layout, index.len())?;
        let blocks = Blocks::new(&mut layout, &demand)?;
        Some(Self { counters, origins, lengths, index, dots, hot, dirty, blocks })
    }
}

/// Records found by key, in one region.
#[derive(Debug)]
pub(crate) struct Table {
    settings: Settings,
    region: Region,
    parts: Parts,
    /// Held while publishing, applying and covering. Of this process, like the waker in [`Dirty`].
    replication: Mutex<replicate::Buffers>,
}

impl Table {
    /// An empty table in a fresh region.
    pub(crate) fn new(settings: Settings) -> Result<Self, Error> {
        let size = settings.size;
        let parts = Some(size).filter(|&size| size <= region::MAX_SIZE);
        let parts =
            parts.and_then(|size| Parts::plan(&settings, size)).ok_or_else(|| Error::InvalidSize {
                zone: settings.name.clone(),
                size,
                min: Self::min_size(&settings),
                max: region::MAX_SIZE,
            })?;
        let region = Region::create(&settings.name, settings.kind, size)?;
        parts.origins.set_own(&region, settings.origin);
        parts.blocks.prepare(&region);
        region.seal();
        Ok(Self { settings, region, parts, replication: Mutex::default() })
    }

    /// The smallest size that works, in steps of a KiB.
    fn min_size(settings: &Settings) -> u64 {
        const STEP: u64 = 1 << 10;
        let works = |size: &u64| Parts::plan(settings, *size).is_some();
        (1..)
            .map(|step| step * STEP)
            .take_while(|&size| size < region::MAX_SIZE)
            .find(works)
            .unwrap_or(region::MAX_SIZE)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> usize {
        self.parts.index.len()
    }

    /// Whether keys of that length, or ranges of that length with that first byte, may be there.
    pub(crate) fn has_length(&self, key_len: usize, lead: u8) -> bool {
        self.parts.lengths.present(&self.region, key_len, lead)
    }

    fn is_sticky(&self) -> bool {
        self.settings.kind == ZoneKind::Sticky
    }

    fn count(&self, counter: Counter, count: i64) -> u64 {
        self.parts.counters.add(&self.region, counter, count)
    }

    /// Refuses what can never be stored.
    pub(crate) fn check(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let Settings { max_key, max_record, .. } = self.settings;
        let zone = || self.settings.name.clone();
        if key.is_empty() {
            return Err(Error::EmptyKey { zone: zone() });
        }
        if key.len() > max_key {
            return Err(Error::KeyTooLong { zone: zone(), length: key.len(), max: max_key });
        }
        let size = key.len() + value.len();
        if size > max_record {
            return Err(Error::RecordTooLarge { zone: zone(), size, max: max_record });
        }
        Ok(())
    }

    fn full(&self, key: &[u8], value: &[u8]) -> Error {
        self.count(Counter::Refused, 1);
        Error::ZoneFull {
            zone: self.settings.name.clone(),
            size: key.len() + value.len(),
            capacity: self.settings.size,
        }
    }

    /// The stamp of a write made now. Later than that of any record seen in the table: a record's stamp was ticked or observed before the
    /// record was put there.
    pub(crate) fn tick(&self, now: Time) -> crate::Stamp {
        self.region.hlc().tick(now)
    }

    /// Whether the record's time is over.
    fn is_expired(&self, header: &Header, time_ms: u64, now: Time) -> bool {
        !header.removed
            && if self.is_sticky() {
                time_ms.saturating_add(self.settings.idle_ms) <= now.as_millis()
            } else {
                time_ms != 0 && time_ms <= now.as_millis()
            }
    }

    /// Whether a record reads as present.
    pub(crate) fn is_live(&self, found: &Found, now: Time) -> bool {
        let header = &found.meta.header;
        !header.removed && !self.is_expired(header, self.time_ms(found), now)
    }

    /// How many records read as present.
    pub(crate) fn count_live(&self, now: Time) -> usize {
        self.live(now).count()
    }

    /// Whether one does.
    pub(crate) fn any_live(&self, now: Time) -> bool {
        self.live(now).next().is_some()
    }

    fn live(&self, now: Time) -> impl Iterator<Item = Found> {
        (0..self.slots()).filter_map(|at| self.meta_at(at)).filter(move |found| self.is_live(found, now))
    }

    /// Keyval: when the record expires. Sticky: its last access, as far as it is known here.
    pub(crate) fn time_ms(&self, found: &Found) -> u64 {
        let known = found.meta.header.time_ms;
        if !self.is_sticky() {
            return known;
        }
        // Relaxed: a hint guards nothing.
        let hot = self.region.words(self.parts.hot)[found.at].load(Ordering::Relaxed);
        // A hot word of another record counts for nothing; one that is older by a whole turn of generations is too low to.
        if hot >> HOT_MS_BITS == found.slot.generation() { known.max(hot & HOT_MS_MAX) } else { known }
    }

    /// Sticky: raises the last access of a record in its hot word; false if there is nothing to raise, or somebody else was quicker.
    pub(crate) fn raise_time(&self, found: &Found, ms: u64) -> bool {
        let word = &self.region.words(self.parts.hot)[found.at];
        // Acquire pairs with the Release below: if this word was written for a later record, the load of the slot that follows
        // cannot find the earlier one any more.
        let hot = word.load(Ordering::Acquire);
        if self.time_ms(found) >= ms || self.parts.index.load(&self.region, found.at) != found.slot {
            return false;
        }
        let raised = found.slot.generation() << HOT_MS_BITS | ms.min(HOT_MS_MAX);
        word.compare_exchange(hot, raised, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Marks a slot to be published.
    pub(crate) fn mark(&self, at: usize) {
        self.parts.dirty.mark(&self.region, at);
    }

    /// What a record in a slot adds to the figures.
    fn tally(&self, meta_removed: bool, lines: u32, sign: i64) {
        self.count(if meta_removed { Counter::Tombstones } else { Counter::Records }, sign);
        self.count(Counter::Lines, sign * i64::from(lines));
    }

    pub(crate) fn stats(&self) -> ZoneStats {
        let get = |counter| self.parts.counters.get(&self.region, counter);
        let line = (LINE * WORD) as u64;
        let records_area = self.parts.blocks.capacity_lines() * line;
        ZoneStats {
            records: get(Counter::Records),
            tombstones: get(Counter::Tombstones),
            size_bytes: self.settings.size,
            used_bytes: self.settings.size - records_area + (get(Counter::Lines) * line).min(records_area),
            evicted: get(Counter::Evicted),
            refused: get(Counter::Refused),
            expired: get(Counter::Expired),
            applied: get(Counter::Applied),
            superseded: get(Counter::Superseded),
        }
    }
}

/// Milliseconds of a duration, as far as a word goes.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Checks `max_record` of a builder.
pub(crate) fn check_max_record(zone: &str, max_record: usize) -> Result<(), Error> {
    if (1..=block::RECORD_MAX).contains(&max_record) {
        return Ok(());
    }
    Err(Error::InvalidSetting {
        zone: zone.to_owned(),
        setting: "max_record",
        value: max_record.to_string(),
        expected: "1 byte to 64 KiB for key and value together",
    })
}

#[cfg(test)]
mod tests;
