//! Records found by key: what keyval and sticky zones have in common.
//!
//! | file | job |
//! |---|---|
//! | `read` | find a record and copy it, while others change it |
//! | `write` | replace a record, insert a new one without a latch |
//! | `room` | make room: evict, reclaim, sweep |
//! | `replicate` | publish, apply, cover, scan, digest |
//! | `recover` | put right what killed processes left in a region that several share |
//!
//! Everything but `replicate` is lock-free: a thread stopped anywhere stops nobody else (`tests/stopped` stops one before each access). Publishing,
//! applying and covering take turns by a mutex that no request ever meets.

mod read;
mod recover;
mod replica;
mod replicate;
mod room;
mod write;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;

use crate::block::{self, Header, LAG_MAX};
use crate::blocks::{Blocks, Demand};
use crate::counters::{Counter, Counters};
use crate::dirty::Dirty;
use crate::index::{BUCKET, Index};
use crate::layout::{Layout, Section};
use crate::lengths::{Lengths, MatchBy};
use crate::origins::Origins;
use crate::region::{MAX_SIZE, OpenRegion, Origination, Parameters, Region};
use crate::sharing::Change;
use crate::time::Time;
use crate::words::{Ordering, UNIT, WORD, fence};
use crate::{Error, Origin, Stamp, ZoneKind, ZoneStats};

use recover::Leaks;

pub(crate) use read::Found;
pub(crate) use replica::replica_by_table;
pub(crate) use write::{Put, Step, Written};

/// How long tombstones are kept unless the zone says otherwise.
pub(crate) const TOMBSTONE_RETENTION: Duration = Duration::from_secs(3600);
/// The most bytes of key and value unless the zone says otherwise.
pub(crate) const MAX_RECORD: usize = 16 << 10;
/// The size of a zone in bytes unless it says otherwise.
pub(crate) const SIZE: u64 = 1 << 20;
/// Bytes of key and value of the usual record unless the zone says otherwise: a 16-byte key with a 32-byte value.
pub(crate) const RECORD_SIZE: usize = 48;

/// What a table is to be like.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    /// Keyval or sticky.
    pub(crate) kind: ZoneKind,
    pub(crate) origin: Origin,
    /// Bytes of the region, everything included.
    pub(crate) size: u64,
    /// Where its memory comes from.
    pub(crate) region: Region,
    pub(crate) match_by: MatchBy,
    /// The longest key in bytes.
    pub(crate) max_key: usize,
    /// Whether a peer's key can be one of this zone.
    pub(crate) is_key: fn(&[u8]) -> bool,
    /// The most bytes of key and value.
    pub(crate) max_record: usize,
    /// Bytes of key and value of the usual record: how the memory is shared between index and blocks.
    pub(crate) record_size: usize,
    /// Sticky: milliseconds from the last access until a session is gone. Keyval: unused, records say when they expire.
    pub(crate) idle_ms: u64,
    /// Sticky: milliseconds of a unit in which lags are counted. At least 1.
    pub(crate) lag_unit_ms: u64,
    /// Milliseconds that a tombstone is kept.
    pub(crate) retention_ms: u64,
    /// How far ahead stamps of peers may be.
    pub(crate) max_clock_skew: Duration,
    /// How the zone's builder is kept in a mapped region.
    pub(crate) parameters: Parameters,
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
    dirty: Dirty,
    blocks: Blocks,
}

impl Parts {
    fn plan(settings: &Settings, size: u64) -> Option<Self> {
        /// Buckets that share one word of the dirty bitmap.
        const GROUP: usize = u64::BITS as usize / BUCKET;
        let Settings { max_key, max_record, match_by, kind, record_size, .. } = *settings;
        let demand = Demand { size, max_key, max_record };
        let sticky = kind == ZoneKind::Sticky;
        let mut layout = Layout::new(size, OpenRegion::header_words(&settings.region));
        let fixed = Counters::WORDS + Origins::words(size) + Lengths::words(match_by) + demand.fixed_words();
        // At half load a bucket goes with as many records of the usual size: the memory for those and a bit for each of their units;
        // two words a slot, the slot and its dot; a bit for each slot; in a keyval zone a 64th for the overflow area.
        let units = block::units_needed(record_size, 0, sticky) as usize;
        let per_group = GROUP * BUCKET / 2 * units * UNIT
            + (GROUP * BUCKET / 2 * units).div_ceil(u64::BITS as usize)
            + GROUP * BUCKET * 2
            + 1
            + if sticky { 0 } else { GROUP * BUCKET * 2 / 64 };
        // Two buckets at least, or the second look would be at the first one; 64 words for what the sections are padded by.
        let buckets = (layout.left().checked_sub(fixed + 64)? * GROUP / per_group).max(2);
        let counters = Counters::new(&mut layout)?;
        let origins = Origins::new(&mut layout, size)?;
        let lengths = Lengths::new(&mut layout, match_by)?;
        let index = Index::new(&mut layout, buckets, !sticky)?;
        let dots = layout.take(index.len())?;
        let dirty = Dirty::new(&mut layout, index.len())?;
        let blocks = Blocks::new(&mut layout, &demand)?;
        Some(Self { counters, origins, lengths, index, dots, dirty, blocks })
    }
}

/// Records found by key, in one region.
#[derive(Debug)]
pub(crate) struct Table {
    settings: Settings,
    region: OpenRegion,
    parts: Parts,
    leaks: Leaks,
    /// Held while what dead processes have left is put right.
    recovery: Mutex<()>,
    /// Nobody writes in the name of an earlier origin of ours any more.
    is_settled: AtomicBool,
    /// Held while publishing, applying and covering. Of this process, like the waker in [`Dirty`].
    replication: Mutex<replicate::Buffers>,
}

impl Table {
    /// A table in the region that the settings name: empty, or with the records that are there.
    pub(crate) fn new(settings: Settings) -> Result<Self, Error> {
        let parts = Self::plan(&settings)?;
        let Settings { name, kind, size, region, parameters, origin, .. } = &settings;
        let (region, origination) = OpenRegion::open(region, name, *kind, *size, parameters)?;
        let origin = *origin;
        let mut table = Self::of(settings, region, parts);
        match origination {
            Origination::Fresh => {
                let origins = table.parts.origins;
                if let Some(own) = origins.enter(&table.region, origin) {
                    origins.set_own(&table.region, own);
                }
                table.parts.blocks.prepare(&table.region);
                table.region.seal();
            }
            Origination::Reopened => table.reopen(origin)?,
        }
        table.parts.dirty.listen(&table.region);
        Ok(table)
    }

    /// The table of another process.
    pub(crate) fn attached(settings: Settings, region: OpenRegion) -> Result<Self, Error> {
        let parts = Self::plan(&settings)?;
        let own = parts.origins.get(&region, parts.origins.own(&region));
        let settings = Settings { origin: own.unwrap_or(settings.origin), ..settings };
        Ok(Self::of(settings, region, parts))
    }

    fn of(settings: Settings, region: OpenRegion, parts: Parts) -> Self {
        Self {
            settings,
            region,
            parts,
            leaks: Leaks::default(),
            recovery: Mutex::default(),
            is_settled: AtomicBool::new(false),
            replication: Mutex::default(),
        }
    }

    fn plan(settings: &Settings) -> Result<Parts, Error> {
        let size = settings.size;
        let parts = Some(size).filter(|&size| size <= MAX_SIZE);
        parts.and_then(|size| Parts::plan(settings, size)).ok_or_else(|| Error::InvalidSize {
            zone: settings.name.clone(),
            size,
            min: Self::min_size(settings),
            max: MAX_SIZE,
        })
    }

    /// The smallest size that works, in steps of a KiB.
    fn min_size(settings: &Settings) -> u64 {
        const STEP: u64 = 1 << 10;
        let works = |size: &u64| Parts::plan(settings, *size).is_some();
        (1..).map(|step| step * STEP).take_while(|&size| size < MAX_SIZE).find(works).unwrap_or(MAX_SIZE)
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
    #[inline]
    pub(crate) fn check(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if self.is_fit(key, value) { Ok(()) } else { Err(self.refusal(key, value)) }
    }

    /// Whether a record with this key and value can be stored.
    #[inline]
    pub(crate) fn is_fit(&self, key: &[u8], value: &[u8]) -> bool {
        let Settings { max_key, max_record, .. } = self.settings;
        (1..=max_key).contains(&key.len()) && key.len() + value.len() <= max_record
    }

    #[cold]
    fn refusal(&self, key: &[u8], value: &[u8]) -> Error {
        let Settings { max_key, max_record, .. } = self.settings;
        let zone = self.settings.name.clone();
        match key.len() {
            0 => Error::EmptyKey { zone },
            length if length > max_key => Error::KeyTooLong { zone, length, max: max_key },
            length => Error::RecordTooLarge { zone, size: length + value.len(), max: max_record },
        }
    }

    fn full(&self, key: &[u8], value: &[u8]) -> Error {
        self.count(Counter::Refused, 1);
        Error::ZoneFull {
            zone: self.settings.name.clone(),
            size: key.len() + value.len(),
            capacity: self.settings.size,
        }
    }

    /// The header of a record to be written here and now in place of `found`.
    ///
    /// Its stamp is later than that of any record of the key that was ever here: later than the one that it replaces; and if there is none,
    /// later than everything that ever left the table or was passed over on its way in ([`Self::see`]). Stamps of different keys need
    /// no order among themselves, so replacing a record changes no word that other keys' writers need. That a stamp is unique for its key and writer is seen
    /// to by parity: inserts have odd ones from the shared clock, replacements even ones, and a record has one successor.
    pub(crate) fn header(&self, found: Option<&Found>, now: Time, removed: bool, time_ms: u64) -> Header {
        let stamp = match found {
            Some(found) => found.header().stamp.next_even(now),
            None => self.region.hlc().tick(now),
        };
        self.header_with(stamp, removed, time_ms)
    }

    #[inline]
    fn header_with(&self, stamp: Stamp, removed: bool, time_ms: u64) -> Header {
        Header { removed, stamp, writer: self.parts.origins.own(&self.region), time_ms, lag: 0 }
    }

    /// Sticky: a time span as a lag, rounded up.
    pub(crate) fn lag(&self, ms: u64) -> u16 {
        u16::try_from(ms.div_ceil(self.settings.lag_unit_ms)).unwrap_or(u16::MAX).min(LAG_MAX)
    }

    /// Sticky: the last access that the cluster knows of, at least; 0 if that is long ago.
    pub(crate) fn known_ms(&self, header: &Header) -> u64 {
        if header.lag == LAG_MAX {
            return 0;
        }
        header.time_ms.saturating_sub(u64::from(header.lag).saturating_mul(self.settings.lag_unit_ms))
    }

    /// A record leaves the table, or is kept out of it: inserts that follow are later.
    fn see(&self, stamp: Stamp) {
        self.region.hlc().observe(stamp);
    }

    /// The origin that wrote a record; `None` if the record has changed meanwhile.
    pub(crate) fn writer(&self, found: &Found) -> Option<Origin> {
        let origin = self.origin_at(found.header().writer);
        // An entry of the table is given to another origin only when no slot's record names it. Acquire pairs with the Release of
        // `Origins::enter`: if that has happened, the slot is seen changed.
        fence(Ordering::Acquire);
        self.is_still(found.at, found.slot).then_some(origin)
    }

    /// The origin at an index that a record names. Should it be gone, it was ours: a process was stopped in the middle of a write for as long as it took this node
    /// to have had so many others.
    fn origin_at(&self, index: u16) -> Origin {
        self.parts.origins.get(&self.region, index).unwrap_or(self.settings.origin)
    }

    /// Whether the record's time is over.
    fn is_expired(&self, header: &Header, now: Time) -> bool {
        let time_ms = header.time_ms;
        !header.removed
            && if self.is_sticky() {
                time_ms.saturating_add(self.settings.idle_ms) <= now.as_millis()
            } else {
                time_ms != 0 && time_ms <= now.as_millis()
            }
    }

    /// Whether a record reads as present.
    pub(crate) fn is_live(&self, found: &Found, now: Time) -> bool {
        let header = &found.header();
        !header.removed && !self.is_expired(header, now)
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

    /// Says that a change begins, see [`crate::sharing`].
    #[inline]
    pub(crate) fn begin(&self) -> Option<Change<'_>> {
        self.region.begin()
    }

    /// Marks a slot to be published.
    #[inline]
    pub(crate) fn mark(&self, at: usize) {
        self.parts.dirty.mark(&self.region, at);
    }

    /// What a record in a slot adds to the figures.
    fn tally(&self, removed: bool, units: u32, sign: i64) {
        self.count(if removed { Counter::Tombstones } else { Counter::Records }, sign);
        self.count(Counter::Units, sign * i64::from(units));
    }

    pub(crate) fn stats(&self) -> ZoneStats {
        let get = |counter| self.parts.counters.get(&self.region, counter);
        let unit = (UNIT * WORD) as u64;
        let records_area = self.parts.blocks.capacity_units() * unit;
        ZoneStats {
            records: get(Counter::Records),
            tombstones: get(Counter::Tombstones),
            size_bytes: self.settings.size,
            used_bytes: self.settings.size - records_area + (get(Counter::Units) * unit).min(records_area),
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

/// Checks `max_record` and `record_size` of a builder.
pub(crate) fn check_record_sizes(zone: &str, max_record: usize, record_size: usize) -> Result<(), Error> {
    for (setting, bytes) in [("max_record", max_record), ("record_size", record_size)] {
        if !(1..=block::RECORD_MAX).contains(&bytes) {
            return Err(Error::InvalidSetting {
                zone: zone.to_owned(),
                setting,
                value: bytes.to_string(),
                expected: "1 byte to 64 KiB for key and value together",
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
