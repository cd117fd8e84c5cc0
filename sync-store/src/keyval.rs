//! Keys and values; the last write wins.

mod address;
mod builder;

use std::path::Path;
use std::time::Duration;

use crate::block::Buffer;
use crate::block::Header;
use crate::lengths::MatchBy;
use crate::table::{Found, Put, Step, Table, Written, millis, replica_by_table};
use crate::time::Time;
use crate::{Error, Origin, Seen, Stamp, Value};

pub use builder::KeyvalZoneBuilder;

use address::Range;

/// When a record expires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expiry {
    /// After the time-out of the zone; never if it has none.
    #[default]
    Default,
    /// After this time, counted in whole milliseconds.
    After(Duration),
    /// Not at all.
    Never,
}

/// A record, as [`KeyvalZone::entry`] answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// When it expires; `None` = never.
    pub expires_at: Option<Time>,
    /// When it was written.
    pub stamp: Stamp,
    /// Who wrote it.
    pub writer: Origin,
}

/// On what condition [`KeyvalZone::swap`] writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// None: the key may be there or not.
    #[default]
    Any,
    /// The key is there.
    Present,
    /// The key is not there.
    Absent,
}

/// What [`KeyvalZone::swap`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swapped {
    /// Whether the record was written.
    pub written: bool,
    /// The value that was there in that moment; `None`: there was none.
    pub old: Option<Value>,
}

/// A key as the table holds it.
enum Key<'a> {
    Plain(&'a [u8]),
    Range(Range),
}

impl Key<'_> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(key) => key,
            Self::Range(range) => range.bytes(),
        }
    }
}

/// A keyval zone: keys and values of any bytes, each record with its own expiry, found exactly, by address range or by prefix.
///
/// Reads never wait and never write shared memory; writes never wait either. A zone that is full refuses new records
/// ([`Error::ZoneFull`]) but still lets its records be removed, and replaced by ones that are no larger, if those have no more than a
/// 1/128 of its size (1 KiB in any case): for so much a little room is kept.
///
/// The keys of an `ip` zone are addresses and ranges in text form (`10.1.2.3`, `10.0.0.0/8`, `2001:db8::/32`). They are normalised: bits beyond the range are
/// cleared, an IPv4 address mapped into IPv6 is an IPv4 address, an address alone is the range of just that address. Inside, and on the way to
/// other nodes, such a key is the length of the range in bits (one byte) and the 4 or 16 bytes of the address.
///
/// ```
/// use std::time::Duration;
/// use sync_store::{Expiry, KeyvalZone, MatchBy, Time};
///
/// let now = Time::from_millis(1_000);
/// let blocked = KeyvalZone::builder("blocked").size(64 << 10).match_by(MatchBy::Ip).build()?;
/// blocked.set("10.0.0.0/8", "internal", now, Expiry::Never)?;
/// blocked.set("10.9.0.0/16", "blocked", now, Expiry::After(Duration::from_secs(60)))?;
/// assert_eq!(blocked.lookup("10.9.1.2", now).as_deref(), Some(&b"blocked"[..]));
///
/// let later = Time::from_millis(61_000);
/// assert_eq!(blocked.lookup("10.9.1.2", later).as_deref(), Some(&b"internal"[..]));
/// assert_eq!(blocked.lookup("192.0.2.1", later), None);
/// # Ok::<(), sync_store::Error>(())
/// ```
#[derive(Debug)]
pub struct KeyvalZone {
    pub(crate) table: Table,
    match_by: MatchBy,
    timeout_ms: Option<u64>,
}

replica_by_table!(KeyvalZone, match_by);

impl KeyvalZone {
    /// Begins a zone; `name` is what other nodes know it by.
    pub fn builder(name: impl Into<String>) -> KeyvalZoneBuilder {
        KeyvalZoneBuilder::new(name.into())
    }

    /// Attaches to the zone that another process owns in this file; see [`Region::map_file`](crate::Region::map_file). Reads and writes the same records; the owner
    /// replicates what is written here. Its settings are the owner's as they were at this moment.
    ///
    /// # Errors
    ///
    /// [`Error::Region`], [`Error::NotARegion`], [`Error::RegionMismatch`], [`Error::TooManyProcesses`].
    pub fn attach(path: impl AsRef<Path>) -> Result<Self, Error> {
        KeyvalZoneBuilder::attach(path.as_ref())
    }

    /// How [`Self::lookup`] finds records.
    #[must_use]
    pub fn match_by(&self) -> MatchBy {
        self.match_by
    }

    /// How long a record lives that does not say so itself; `None`: for ever.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_ms.map(Duration::from_millis)
    }

    /// The value of exactly this key.
    #[must_use]
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>, now: Time) -> Option<Value> {
        let mut value = Value::new();
        self.get_to(key.as_ref(), now, &mut value).then_some(value)
    }

    /// The same into a buffer, whose content is replaced. Answers whether the key is there; if not, the buffer holds anything.
    ///
    /// Allocates nothing if the buffer is large enough.
    #[inline]
    pub fn get_into(&self, key: impl AsRef<[u8]>, now: Time, value: &mut Vec<u8>) -> bool {
        self.get_to(key.as_ref(), now, value)
    }

    #[inline]
    fn get_to(&self, key: &[u8], now: Time, value: &mut impl Buffer) -> bool {
        // What cannot be a key is not there.
        match self.match_by {
            MatchBy::Exact | MatchBy::Prefix => self.find(key, now, value).is_some(),
            MatchBy::Ip => {
                Range::parse(key).is_some_and(|range| self.find(range.bytes(), now, value).is_some())
            }
        }
    }

    /// The value for a key by the zone's type: the same key, the most specific range that contains the address, or the longest key
    /// that is a prefix of this one.
    #[must_use]
    pub fn lookup(&self, key: impl AsRef<[u8]>, now: Time) -> Option<Value> {
        let mut value = Value::new();
        self.lookup_to(key.as_ref(), now, &mut value).then_some(value)
    }

    /// The same into a buffer, like [`Self::get_into`].
    pub fn lookup_into(&self, key: impl AsRef<[u8]>, now: Time, value: &mut Vec<u8>) -> bool {
        self.lookup_to(key.as_ref(), now, value)
    }

    fn lookup_to(&self, key: &[u8], now: Time, value: &mut impl Buffer) -> bool {
        match self.match_by {
            MatchBy::Exact => self.find(key, now, value).is_some(),
            MatchBy::Ip => {
                let Some(address) = address::parse_address(key) else { return false };
                let host = Range::host(address);
                (0..=host.bits()).rev().any(|bits| {
                    self.table.has_length(host.bytes().len(), bits)
                        && self.find(host.widened(bits).bytes(), now, value).is_some()
                })
            }
            MatchBy::Prefix => {
                let longest = key.len().min(self.table.settings().max_key);
                (1..=longest).rev().any(|length| {
                    self.table.has_length(length, 0) && self.find(&key[..length], now, value).is_some()
                })
            }
        }
    }

    /// The whole record of exactly this key.
    #[must_use]
    pub fn entry(&self, key: impl AsRef<[u8]>, now: Time) -> Option<Entry> {
        let key = self.key(key.as_ref(), &[]).ok()?;
        loop {
            let mut value = Value::new();
            let found = self.find(key.bytes(), now, &mut value)?;
            let Header { stamp, time_ms, .. } = found.header();
            if let Some(writer) = self.table.writer(&found) {
                return Some(Entry { value, expires_at: expires_at(time_ms), stamp, writer });
            }
        }
    }

    #[inline(always)]
    fn find(&self, key: &[u8], now: Time, value: &mut impl Buffer) -> Option<Found> {
        let found = self.table.find(key, self.table.hash(key), Some(value))?;
        self.table.is_live(&found, now).then_some(found)
    }

    /// Writes a record, whether the key is there or not.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyKey`], [`Error::KeyTooLong`], [`Error::InvalidKey`], [`Error::RecordTooLarge`]; [`Error::ZoneFull`].
    #[inline]
    pub fn set(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        now: Time,
        expiry: Expiry,
    ) -> Result<(), Error> {
        self.set_to(key.as_ref(), value.as_ref(), now, expiry)
    }

    #[inline]
    fn set_to(&self, key: &[u8], value: &[u8], now: Time, expiry: Expiry) -> Result<(), Error> {
        let time_ms = self.expiry_ms(now, expiry);
        if self.match_by != MatchBy::Ip
            && self.table.is_fit(key, value)
            && self.table.overwrite(now, key, value, time_ms)
        {
            return Ok(());
        }
        self.set_any(key, value, now, time_ms)
    }

    /// What could not be overwritten at once: a range, a record that has another length or is not there, one that does not fit.
    #[inline(never)]
    fn set_any(&self, key: &[u8], value: &[u8], now: Time, time_ms: u64) -> Result<(), Error> {
        let checked = self.key(key, value)?;
        let is_range = matches!(checked, Key::Range(_));
        if !(is_range && self.table.overwrite(now, checked.bytes(), value, time_ms)) {
            self.write(key, Put::New(value), now, |_| Some(time_ms))?;
        }
        Ok(())
    }

    /// Writes a record only if the key is not there.
    ///
    /// # Errors
    ///
    /// [`Error::KeyExists`], and those of [`Self::set`].
    pub fn insert(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        now: Time,
        expiry: Expiry,
    ) -> Result<(), Error> {
        let written = self.write(key.as_ref(), Put::New(value.as_ref()), now, |found| {
            found.is_none().then(|| self.expiry_ms(now, expiry))
        })?;
        match written {
            Written::Inserted(_) | Written::Replaced(_) => Ok(()),
            Written::Stopped(_) => Err(Error::KeyExists { zone: self.table.settings().name.clone() }),
        }
    }

    /// Changes value or expiry of a record only if the key is there; `None` leaves the one or the other as it is.
    ///
    /// # Errors
    ///
    /// [`Error::KeyNotFound`], and those of [`Self::set`].
    pub fn update(
        &self,
        key: impl AsRef<[u8]>,
        value: Option<&[u8]>,
        now: Time,
        expiry: Option<Expiry>,
    ) -> Result<(), Error> {
        let value = value.map_or(Put::Kept, Put::New);
        let written = self.write(key.as_ref(), value, now, |found| {
            let kept = found?.header().time_ms;
            Some(expiry.map_or(kept, |expiry| self.expiry_ms(now, expiry)))
        })?;
        match written {
            Written::Replaced(_) => Ok(()),
            Written::Inserted(_) | Written::Stopped(_) => {
                Err(Error::KeyNotFound { zone: self.table.settings().name.clone() })
            }
        }
    }

    /// Writes a record on a condition and answers the value that was there before, both in one moment as other callers on this node see it. An expiry of `None`
    /// leaves that of the record that is replaced, and is the [default](Expiry::Default) where there is none.
    ///
    /// Another node may write the same key in the same moment: then the last stamp wins, as for every write.
    ///
    /// ```
    /// use sync_store::{Condition, Expiry, KeyvalZone, Time};
    ///
    /// let zone = KeyvalZone::builder("z").build()?;
    /// let now = Time::from_millis(1);
    /// assert!(zone.swap("lock", "a", now, Some(Expiry::Never), Condition::Absent)?.written);
    /// let second = zone.swap("lock", "b", now, Some(Expiry::Never), Condition::Absent)?;
    /// assert!(!second.written);
    /// assert_eq!(second.old.as_deref(), Some(&b"a"[..]));
    /// # Ok::<(), sync_store::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Self::set`].
    pub fn swap(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        now: Time,
        expiry: Option<Expiry>,
        condition: Condition,
    ) -> Result<Swapped, Error> {
        let (key, value) = (key.as_ref(), value.as_ref());
        let checked = self.key(key, value)?;
        loop {
            let mut old = Value::new();
            let seen = self.find(checked.bytes(), now, &mut old);
            let old = seen.map(|_| old);
            let is_met = match condition {
                Condition::Any => true,
                Condition::Present => old.is_some(),
                Condition::Absent => old.is_none(),
            };
            if !is_met {
                return Ok(Swapped { written: false, old });
            }
            // The word of a slot changes with every change of its record: equal words, same record.
            let place = |found: &Found| (found.at, found.slot);
            let written = self.write(key, Put::New(value), now, |found| {
                let kept = found.map_or_else(|| self.expiry_ms(now, Expiry::Default), |f| f.header().time_ms);
                let time_ms = expiry.map_or(kept, |expiry| self.expiry_ms(now, expiry));
                (found.map(place) == seen.as_ref().map(place)).then_some(time_ms)
            })?;
            match written {
                Written::Inserted(_) | Written::Replaced(_) => return Ok(Swapped { written: true, old }),
                Written::Stopped(_) => {}
            }
        }
    }

    /// Removes a record; false if the key is not there. What remains is a tombstone, so that the removal reaches every node.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyKey`], [`Error::KeyTooLong`], [`Error::InvalidKey`]; [`Error::ZoneFull`] only if several threads remove records of a
    /// full zone in the same moment.
    pub fn remove(&self, key: impl AsRef<[u8]>, now: Time) -> Result<bool, Error> {
        self.remove_bytes(self.key(key.as_ref(), &[])?.bytes(), now)
    }

    fn remove_bytes(&self, key: &[u8], now: Time) -> Result<bool, Error> {
        let written = self.table.write(now, key, Put::New(&[]), |found| match found {
            Some(found) if self.table.is_live(found, now) => {
                Step::Write(self.table.header(Some(found), now, true, 0))
            }
            _ => Step::Stop,
        })?;
        Ok(matches!(written, Written::Replaced(_)))
    }

    /// Removes every record that is there when its turn comes. Answers how many.
    ///
    /// # Errors
    ///
    /// As [`Self::remove`]; records before the failure are removed.
    pub fn clear(&self, now: Time) -> Result<usize, Error> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut removed = 0;
        for at in 0..self.table.slots() {
            if let Some(found) = self.table.copy_at(at, &mut key, &mut value)
                && self.table.is_live(&found, now)
            {
                removed += usize::from(self.remove_bytes(&key, now)?);
            }
        }
        Ok(removed)
    }

    /// Forgets a record, on this node alone: no tombstone remains, and no peer hears of it. Only if it is still the one of that stamp and writer; answers whether it
    /// was. The key is in the form in which it [travels](crate::Record::key).
    ///
    /// For whoever keeps records beside the zone and learns that the cluster removed one longer ago than tombstones are kept.
    pub fn forget(&self, key: &[u8], stamp: Stamp, writer: Origin) -> bool {
        self.table.forget(key, stamp, writer)
    }

    /// All records, with their keys as they were written, ranges in canonical text.
    ///
    /// In no order, and not all as of one moment: each record is copied whole when its turn comes. A record that is there all the while is met
    /// exactly once, whether or not its value changes meanwhile; one that comes or goes meanwhile may be met or not, and a key that is removed and set again
    /// may be met twice. Nobody waits: neither those who write meanwhile nor the iteration.
    pub fn iter(&self, now: Time) -> impl Iterator<Item = (Value, Entry)> {
        self.iter_from(now, 0).map(|(_, key, entry)| (key, entry))
    }

    /// The same in parts, for whoever cannot hold on to the zone meanwhile: from a place on, 0 at first. With each record comes the place behind it, to go on from.
    pub fn iter_from(&self, now: Time, place: u64) -> impl Iterator<Item = (u64, Value, Entry)> {
        let first = usize::try_from(place).unwrap_or(usize::MAX);
        self.table.iter_from(now, first).filter_map(|(at, record)| {
            let (key, entry) = self.as_written(record)?;
            Some((at as u64 + 1, key, entry))
        })
    }

    /// Records that were written since `seen` came by; with a new one all that are there. See [`Seen`].
    pub fn changed(&self, seen: &mut Seen, now: Time) -> impl Iterator<Item = (Value, Entry)> {
        self.table.changed(seen, now).filter_map(|record| self.as_written(record))
    }

    /// A record of the table with its key as it was written.
    fn as_written(
        &self,
        (key, value, header, writer): (Value, Value, Header, Origin),
    ) -> Option<(Value, Entry)> {
        let key = match self.match_by {
            MatchBy::Ip => Range::from_bytes(&key)?.to_string().as_bytes().into(),
            MatchBy::Exact | MatchBy::Prefix => key,
        };
        let Header { stamp, time_ms, .. } = header;
        Some((key, Entry { value, expires_at: expires_at(time_ms), stamp, writer }))
    }

    /// How many records there are. Looks at all of them; [`Replica::stats`](crate::Replica::stats) has a cheap count that includes expired ones.
    #[must_use]
    pub fn len(&self, now: Time) -> usize {
        self.table.count_live(now)
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self, now: Time) -> bool {
        !self.table.any_live(now)
    }

    /// Writes a record that expires when `decide` says, given the live record; `None` = leave it.
    fn write(
        &self,
        key: &[u8],
        value: Put<'_>,
        now: Time,
        decide: impl Fn(Option<&Found>) -> Option<u64>,
    ) -> Result<Written, Error> {
        let checked = if let Put::New(value) = value { value } else { &[] };
        let key = self.key(key, checked)?;
        self.table.write(now, key.bytes(), value, |found| {
            let live = found.filter(|found| self.table.is_live(found, now));
            match decide(live) {
                Some(time_ms) => Step::Write(self.table.header(found, now, false, time_ms)),
                None => Step::Stop,
            }
        })
    }

    /// The key as the table holds it, if it can be one, with a value of that length.
    #[inline]
    fn key<'a>(&self, key: &'a [u8], value: &[u8]) -> Result<Key<'a>, Error> {
        let key = match self.match_by {
            MatchBy::Exact | MatchBy::Prefix => Key::Plain(key),
            MatchBy::Ip => Key::Range(self.range(key)?),
        };
        self.table.check(key.bytes(), value)?;
        Ok(key)
    }

    fn range(&self, key: &[u8]) -> Result<Range, Error> {
        Range::parse(key).ok_or_else(|| Error::InvalidKey {
            zone: self.table.settings().name.clone(),
            key: crate::error::shown(key),
            expected: "an address or a range, such as 10.1.2.3, 10.0.0.0/8 or 2001:db8::/32",
        })
    }

    fn expiry_ms(&self, now: Time, expiry: Expiry) -> u64 {
        let after = match expiry {
            Expiry::Default => self.timeout_ms,
            Expiry::After(after) => Some(millis(after)),
            Expiry::Never => None,
        };
        // At least 1: 0 means never.
        after.map_or(0, |after| now.as_millis().saturating_add(after).max(1))
    }
}

fn expires_at(time_ms: u64) -> Option<Time> {
    (time_ms != 0).then(|| Time::from_millis(time_ms))
}

#[cfg(all(test, not(loom)))]
mod tests;
