//! Records going out and coming in.
//!
//! **What is published.** A dirty slot is published if its record has *news*: it was written here, or it was accessed here later than the cluster knows, or
//! it was adopted: its dot was taken away, because it names an origin that cannot answer for it any more.
//! A slot can be dirty without: a local write that a peer's later write replaced before it was published is nothing to send any
//! more, and the peer's record keeps the peer's dot. To send it under our name would be harmless for the content, but every node that
//! lost such a race would send it once more.
//!
//! **What a scan leaves out.** By the same rule: a dirty record with news, which will be published with a sequence above any that the scan's
//! vector covers. A dirty record *without* news will not be, so the scan has to take it.
//!
//! **Dots.** A dot belongs to a slot and is written under the replication lock only, so it may lag behind the slot: after a local write until that is published, after
//! the slot was emptied until it is used again. In both cases the slot is dirty, or about to be marked, and publication puts it right.
//! A scan that meets that moment sends a record under an older dot; its real one follows, and the receiver takes the later dot over.

use std::ops::ControlFlow;
use std::task::{Context, Poll};

use crate::block::Header;
use crate::counters::Counter;
use crate::origins::{MAX_SEQ, OWN, PackedDot};
use crate::time::Time;
use crate::words::Ordering;
use crate::{Applied, Dot, Error, Origin, Record, Stamp, State, VersionVector};

use super::{Found, Step, Table, Value, Written};

/// What the holder of the replication lock works with.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    key: Vec<u8>,
    value: Vec<u8>,
    /// The slot where the next publication begins, so that none starves when frames are full.
    from: usize,
}

/// What became of a row.
enum Outcome {
    Applied,
    Superseded,
    Refused,
}

/// A row with a state that a table can hold.
#[derive(Clone, Copy)]
struct Row<'a> {
    key: &'a [u8],
    value: &'a [u8],
    header: Header,
}

impl Table {
    pub(crate) fn poll_dirty(&self, cx: &Context<'_>) -> Poll<()> {
        self.parts.dirty.poll(&self.region, cx)
    }

    pub(crate) fn dirty_count(&self) -> usize {
        self.parts.dirty.count(&self.region)
    }

    pub(crate) fn published_seq(&self) -> u64 {
        self.parts.origins.through(&self.region, OWN)
    }

    pub(crate) fn adopt(&self, except: &[Origin]) -> bool {
        let _turn = self.replication.lock();
        let origins = self.parts.origins;
        let mut are_left = false;
        for at in 0..self.slots() {
            let dot = self.dot(at);
            if dot.seq() <= origins.through(&self.region, dot.index()) || self.meta_at(at).is_none() {
                continue;
            }
            if origins.get(&self.region, dot.index()).is_some_and(|origin| except.contains(&origin)) {
                are_left = true;
            } else {
                self.make_own(at);
            }
        }
        are_left
    }

    /// Has a record published as our own, whoever wrote it.
    fn make_own(&self, at: usize) {
        self.set_dot(at, PackedDot::from_raw(0));
        self.mark(at);
    }

    pub(crate) fn vector(&self) -> VersionVector {
        let _turn = self.replication.lock();
        self.parts.origins.vector(&self.region)
    }

    fn dot(&self, at: usize) -> PackedDot {
        // Acquire pairs with the Release of `set_dot`, for scans, which go without the lock: who sees the dot sees its origin.
        PackedDot::from_raw(self.region.words(self.parts.dots)[at].load(Ordering::Acquire))
    }

    fn set_dot(&self, at: usize, dot: PackedDot) {
        self.region.words(self.parts.dots)[at].store(dot.raw(), Ordering::Release);
    }

    /// See the module's head.
    fn has_news(&self, found: &Found) -> bool {
        let header = &found.meta.header;
        header.writer == self.settings.origin
            || self.dot(found.at).seq() == 0
            || self.is_sticky() && !header.removed && self.time_ms(found) > header.time_ms
    }

    fn record<'a>(
        &self,
        dot: Dot,
        found: &Found,
        removed: bool,
        key: &'a [u8],
        value: &'a [u8],
    ) -> Record<'a> {
        let Header { stamp, writer, .. } = found.meta.header;
        let state = if removed {
            State::Removed { stamp, writer }
        } else {
            State::Value { value, stamp, writer, time_ms: self.time_ms(found) }
        };
        Record { key, dot, state }
    }

    pub(crate) fn publish(&self, now: Time, f: &mut dyn FnMut(&Record<'_>) -> bool) -> (u64, u64) {
        let mut buffers = self.replication.lock();
        let Buffers { key, value, from } = &mut *buffers;
        let before = self.published_seq();
        let mut seq = before;
        *from = self.parts.dirty.drain(&self.region, *from, |at| {
            let Some(found) = self.copy_at(at, key, value).filter(|found| self.has_news(found)) else {
                return ControlFlow::Continue(());
            };
            let dot = Dot { origin: self.settings.origin, seq: seq + 1 };
            let record = self.record(dot, &found, found.meta.header.removed, key, value);
            if !f(&record) {
                return ControlFlow::Break(());
            }
            seq += 1;
            self.set_dot(at, PackedDot::new(OWN, seq));
            self.parts.origins.advance(&self.region, OWN, seq);
            if let State::Value { time_ms, .. } = record.state
                && self.is_sticky()
                && time_ms > found.meta.header.time_ms
            {
                self.set_known_time(now, &found, key, value, time_ms);
            }
            ControlFlow::Continue(())
        });
        (before, seq)
    }

    /// Sticky: makes `time_ms` the last access that the cluster knows of. Should that fail, the record is published once more than
    /// needed.
    fn set_known_time(&self, now: Time, found: &Found, key: &[u8], value: &[u8], time_ms: u64) {
        let header = Header { time_ms, ..found.meta.header };
        let draft = crate::block::Draft { key, value, header };
        _ = self.replace(now, found, &draft);
    }

    /// The index of an origin in the table. Makes room if need be, by forgetting origins without records; should all have some, by
    /// adopting the records of those that were not heard for longest.
    fn enter_origin(&self, origin: Origin) -> Result<u16, Error> {
        let origins = self.parts.origins;
        if let Some(index) = origins.enter(&self.region, origin) {
            return Ok(index);
        }
        let mut in_use = vec![false; origins.len()];
        for at in 0..self.slots() {
            if let Some(used) = in_use.get_mut(usize::from(self.dot(at).index()))
                && self.meta_at(at).is_some()
            {
                *used = true;
            }
        }
        let mut forgotten = origins.forget(&self.region, &in_use);
        if forgotten.is_empty() {
            forgotten = origins.forget(&self.region, &vec![false; origins.len()]);
        }
        for at in 0..self.slots() {
            let dot = self.dot(at);
            if dot.seq() == 0 || !forgotten.contains(&dot.index()) {
                continue;
            }
            if self.meta_at(at).is_some() {
                self.make_own(at);
            } else {
                self.set_dot(at, PackedDot::from_raw(0));
            }
        }
        origins
            .enter(&self.region, origin)
            .ok_or_else(|| Error::TooManyOrigins { zone: self.settings.name.clone(), max: origins.len() })
    }

    /// Checks a row and reads its state.
    fn row<'a>(&self, now: Time, record: &Record<'a>) -> Result<Row<'a>, Error> {
        let (value, header) = match record.state {
            State::Value { value, stamp, writer, time_ms } => {
                (value, Header { removed: false, stamp, writer, time_ms })
            }
            State::Removed { stamp, writer } => {
                (&[][..], Header { removed: true, stamp, writer, time_ms: 0 })
            }
            State::Limit { .. } => {
                return Err(Error::WrongKind { zone: self.settings.name.clone(), kind: self.settings.kind });
            }
        };
        self.check(record.key, value)?;
        if !(self.settings.is_key)(record.key) {
            return Err(Error::InvalidKey {
                zone: self.settings.name.clone(),
                key: format!("{:02x?}", record.key),
                expected: "a key in the form that this type of zone sends",
            });
        }
        header.stamp.check_skew(&self.settings.name, now, self.settings.max_clock_skew)?;
        let mut header = header;
        if self.is_sticky() {
            // A last access is a clock reading like a stamp, but only a hint: bounded, not refused.
            let latest = now.saturating_add(self.settings.max_clock_skew);
            header.time_ms = header.time_ms.min(latest.as_millis());
        }
        Ok(Row { key: record.key, value, header })
    }

    /// Merges a row. The later (stamp, writer) wins; an equal one is the same record, and its dot is taken over. In a sticky zone the
    /// later last access counts, whichever record it came with.
    fn apply_row(&self, now: Time, row: &Row<'_>, dot: PackedDot) -> Outcome {
        let order = |header: &Header| -> (Stamp, Origin) { (header.stamp, header.writer) };
        // Before the record can be seen, so that who replaces it has a later stamp.
        self.region.hlc().observe(row.header.stamp);
        let mut raised = false;
        let written = self.upsert(now, row.key, Value::New(row.value), |found| {
            raised = false;
            let Some(found) = found else {
                return if self.is_over(row, now) { Step::Stop } else { Step::Write(row.header) };
            };
            let ours = &found.meta.header;
            // What both know counts as known to the cluster; what only this node knows stays in the hot word or is news.
            let time_ms =
                if self.is_sticky() { row.header.time_ms.max(ours.time_ms) } else { row.header.time_ms };
            match order(&row.header).cmp(&order(ours)) {
                std::cmp::Ordering::Greater => Step::Write(Header { time_ms, ..row.header }),
                std::cmp::Ordering::Equal | std::cmp::Ordering::Less => {
                    raised = self.is_sticky() && time_ms > ours.time_ms;
                    Step::Stop
                }
            }
        });
        match written {
            Ok(Written::Inserted(at)) => {
                self.set_dot(at, dot);
                Outcome::Applied
            }
            Ok(Written::Replaced(old)) => {
                self.keep_hot(&old);
                self.set_dot(old.at, dot);
                Outcome::Applied
            }
            Ok(Written::Stopped(Some(found))) => {
                if raised {
                    self.raise_known(now, row.key, row.header.time_ms);
                }
                let held = self.dot(found.at);
                let same = order(&found.meta.header) == order(&row.header);
                // Never back to an earlier publication of the same origin.
                if same && (held.index() != dot.index() || held.seq() < dot.seq()) {
                    self.set_dot(found.at, dot);
                }
                if raised { Outcome::Applied } else { Outcome::Superseded }
            }
            Ok(Written::Stopped(None) | Written::Overtaken) => Outcome::Superseded,
            // An expired record is only worth its room. Refusing one that nobody would miss would stop the whole stream.
            Err(_) if self.is_expired(&row.header, row.header.time_ms, now) && !self.has(row.key) => {
                Outcome::Superseded
            }
            Err(_) => Outcome::Refused,
        }
    }

    fn has(&self, key: &[u8]) -> bool {
        self.find(key, self.hash(key), None).is_some()
    }

    /// Whether a row for a key that is not here says nothing any more: it expired, or the time of its tombstone is over.
    fn is_over(&self, row: &Row<'_>, now: Time) -> bool {
        let Header { removed, stamp, time_ms, .. } = row.header;
        let kept_until = stamp.millis().saturating_add(self.settings.retention_ms);
        let retained_no_more = kept_until <= now.as_millis();
        if removed {
            return retained_no_more;
        }
        self.is_expired(&row.header, time_ms, now) && (self.is_sticky() || retained_no_more)
    }

    /// Sticky: the last access here of a record that a row has replaced counts for the session, too.
    fn keep_hot(&self, old: &Found) {
        if self.is_sticky()
            && let Some(new) = self.meta_at(old.at)
        {
            self.raise_time(&new, self.time_ms(old));
        }
    }

    /// Sticky: a row knows of a later access than the cluster did, of a record that stays.
    fn raise_known(&self, now: Time, key: &[u8], time_ms: u64) {
        let mut replaced = None;
        let written = self.upsert(now, key, Value::Kept, |found| {
            replaced = found.copied();
            match found {
                Some(found) if found.meta.header.time_ms < time_ms => {
                    Step::Write(Header { time_ms, ..found.meta.header })
                }
                _ => Step::Stop,
            }
        });
        if let (Ok(Written::Replaced(_)), Some(old)) = (written, replaced) {
            self.keep_hot(&old);
        }
    }

    fn tally_outcome(&self, outcome: &Outcome, applied: &mut Applied) {
        let (figure, counter) = match outcome {
            Outcome::Applied => (&mut applied.applied, Counter::Applied),
            Outcome::Superseded => (&mut applied.superseded, Counter::Superseded),
            Outcome::Refused => {
                applied.refused += 1;
                return; // counted where it was refused
            }
        };
        *figure += 1;
        self.count(counter, 1);
    }

    pub(crate) fn apply_batch(
        &self,
        now: Time,
        origin: Origin,
        from_seq_excluded: u64,
        through_seq: u64,
        rows: &mut dyn Iterator<Item = Record<'_>>,
    ) -> Result<Applied, Error> {
        if origin == self.settings.origin {
            return Err(self.own_origin());
        }
        let invalid = |rows| Error::InvalidBatch {
            zone: self.settings.name.clone(),
            from_seq_excluded,
            through_seq,
            rows,
        };
        if from_seq_excluded > through_seq || through_seq > MAX_SEQ {
            return Err(invalid(0));
        }
        let _turn = self.replication.lock();
        let index = self.enter_origin(origin)?;
        let known = self.parts.origins.through(&self.region, index);
        let mut applied = Applied::default();
        let mut seq = from_seq_excluded;
        for record in rows {
            seq += 1;
            if seq > through_seq {
                return Err(invalid(seq - from_seq_excluded));
            }
            let outcome = if seq <= known {
                Outcome::Superseded
            } else {
                self.apply_row(now, &self.row(now, &record)?, PackedDot::new(index, seq))
            };
            self.tally_outcome(&outcome, &mut applied);
        }
        if seq != through_seq {
            return Err(invalid(seq - from_seq_excluded));
        }
        if applied.refused == 0 && known >= from_seq_excluded {
            self.parts.origins.advance(&self.region, index, through_seq);
        }
        Ok(applied)
    }

    pub(crate) fn apply_states(
        &self,
        now: Time,
        rows: &mut dyn Iterator<Item = Record<'_>>,
    ) -> Result<Applied, Error> {
        let _turn = self.replication.lock();
        let mut applied = Applied::default();
        // Rows come slot by slot, so origins alternate; but there are few, and most tables are small.
        let mut last: Option<(Origin, u16)> = None;
        for record in rows {
            let Dot { origin, seq } = record.dot;
            let index = match last {
                Some((entered, index)) if entered == origin => index,
                _ => self.enter_origin(origin)?,
            };
            last = Some((origin, index));
            if index == OWN && seq > self.published_seq() {
                return Err(self.own_origin());
            }
            if seq == 0 || seq > MAX_SEQ {
                return Err(Error::InvalidBatch {
                    zone: self.settings.name.clone(),
                    from_seq_excluded: 0,
                    through_seq: seq,
                    rows: 1,
                });
            }
            let row = self.row(now, &record)?;
            let outcome = self.apply_row(now, &row, PackedDot::new(index, seq));
            self.tally_outcome(&outcome, &mut applied);
        }
        Ok(applied)
    }

    fn own_origin(&self) -> Error {
        Error::OwnOrigin { zone: self.settings.name.clone(), origin: self.settings.origin }
    }

    pub(crate) fn cover(&self, vector: &VersionVector) {
        let _turn = self.replication.lock();
        for (origin, seq) in vector.iter() {
            // Our own sequence is ours to give. An origin for which there is no room stays unknown, and is asked for again.
            if origin != self.settings.origin
                && let Ok(index) = self.enter_origin(origin)
            {
                self.parts.origins.advance(&self.region, index, seq.min(MAX_SEQ));
            }
        }
    }

    pub(crate) fn scan(
        &self,
        now: Time,
        origins: &[Origin],
        known: &VersionVector,
        cursor: u64,
        f: &mut dyn FnMut(&Record<'_>) -> bool,
    ) -> Option<u64> {
        // By index: the origin if it is asked for, and what is known of it.
        let table = self.parts.origins;
        let wanted: Vec<Option<(Origin, u64)>> = (0..table.len() as u16)
            .map(|index| table.get(&self.region, index))
            .map(|origin| origin.filter(|origin| origins.contains(origin)))
            .map(|origin| origin.map(|origin| (origin, known.get(origin))))
            .collect();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for at in usize::try_from(cursor).unwrap_or(usize::MAX)..self.slots() {
            let dot = self.dot(at);
            let Some(&Some((origin, known))) = wanted.get(usize::from(dot.index())) else { continue };
            if dot.seq() <= known {
                continue;
            }
            let Some(found) = self.copy_at(at, &mut key, &mut value) else { continue };
            if self.parts.dirty.is_marked(&self.region, at) && self.has_news(&found) {
                continue;
            }
            // An expired keyval record is what a tombstone of its stamp is, so it travels as one; an expired session is nothing.
            let header = &found.meta.header;
            let expired = self.is_expired(header, self.time_ms(&found), now);
            if expired && self.is_sticky() {
                continue;
            }
            let dot = Dot { origin, seq: dot.seq() };
            if !f(&self.record(dot, &found, header.removed || expired, &key, &value)) {
                return Some(at as u64);
            }
        }
        None
    }

    pub(crate) fn digest(&self, now: Time) -> u64 {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut sum = 0u64;
        for at in 0..self.slots() {
            let Some(found) = self.copy_at(at, &mut key, &mut value) else { continue };
            if !self.is_live(&found, now) {
                continue;
            }
            let Header { stamp, writer, time_ms, .. } = found.meta.header;
            let time_ms = if self.is_sticky() { 0 } else { time_ms };
            let mut hasher = blake3::Hasher::new();
            for number in [key.len() as u64, stamp.raw(), writer.raw(), time_ms] {
                hasher.update(&number.to_le_bytes());
            }
            hasher.update(&key).update(&value);
            let mut first = [0; 8];
            hasher.finalize_xof().fill(&mut first);
            // A sum does not depend on the order, and records that occur twice do not cancel out.
            sum = sum.wrapping_add(u64::from_le_bytes(first));
        }
        sum
    }
}
