//! Records going out and coming in.
//!
//! **What is published.** A dirty slot is published if its record has *news*: it was written here, in this run or an earlier one, or it was accessed here later than the cluster knows, or
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

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::block::{Draft, Header, units_needed};
use crate::blocks::Owned;
use crate::counters::Counter;
use crate::origins::{MAX_SEQ, PackedDot};
use crate::record::Outcome;
use crate::slot::Slot;
use crate::time::Time;
use crate::words::{Ordering, prefetch};
use crate::{Applied, Cursor, Dot, Error, Origin, Record, State, VersionVector};

use super::write::Hand;
use super::{Found, Put, Step, Table, Written};

/// Rows that are looked at ahead of applying them: as many cache misses as a processor has under way at a time.
const ROWS_AHEAD: usize = 16;

/// A row that is to be applied.
struct Ahead<'a> {
    hash: u64,
    record: Record<'a>,
    /// Where it will most likely be, if there was no record of its key when its memory was asked for.
    block: Option<Owned>,
}

/// Blocks of one size for rows that are to come, and how many of them are taken next time.
#[derive(Default)]
struct Stock {
    blocks: Vec<Owned>,
    units: u32,
    count: usize,
}

/// What the holder of the replication lock works with.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    key: Vec<u8>,
    value: Vec<u8>,
    /// The slot where the next publication begins, so that none starves when frames are full.
    from: usize,
}

/// A row with a state that a table can hold.
#[derive(Clone, Copy)]
struct Row<'a> {
    key: &'a [u8],
    value: &'a [u8],
    header: Header,
    /// What `header.writer` is the index of.
    writer: Origin,
}

/// Origins that were just entered in the table: rows name the same few over and over.
#[derive(Default)]
struct Entered(Vec<(Origin, u16)>);

impl Entered {
    /// As many as a catch-up may alternate between.
    const MAX: usize = 8;

    fn get(&self, origin: Origin) -> Option<u16> {
        self.0.iter().find(|(entered, _)| *entered == origin).map(|(_, index)| *index)
    }

    fn index(&mut self, table: &Table, origin: Origin) -> Result<u16, Error> {
        if let Some(index) = self.get(origin) {
            return Ok(index);
        }
        let index = match table.parts.origins.enter(&table.region, origin) {
            Some(index) => index,
            None => {
                self.0.clear(); // making room takes entries away
                table.enter_origin(origin)?
            }
        };
        if self.0.len() == Self::MAX {
            self.0.clear();
        }
        self.0.push((origin, index));
        Ok(index)
    }

    /// The indices of who published a row and of who wrote it. Both are in the table afterwards: should the second have driven out the
    /// first, it is entered again, and what was heard just now is not driven out.
    fn both(&mut self, table: &Table, publisher: Origin, writer: Origin) -> Result<(u16, u16), Error> {
        loop {
            let publisher_index = self.index(table, publisher)?;
            let writer_index = self.index(table, writer)?;
            if self.get(publisher) == Some(publisher_index) {
                return Ok((publisher_index, writer_index));
            }
        }
    }
}

impl Table {
    pub(crate) fn poll_dirty(&self, cx: &Context<'_>) -> Poll<()> {
        self.parts.dirty.poll(&self.region, cx)
    }

    pub(crate) fn wait_dirty(&self, timeout: Duration) -> bool {
        self.parts.dirty.wait(&self.region, timeout)
    }

    pub(crate) fn call_for_dirty(&self) {
        self.parts.dirty.call_for_all(&self.region);
    }

    pub(crate) fn dirty_count(&self) -> usize {
        self.parts.dirty.count(&self.region)
    }

    pub(crate) fn published_seq(&self) -> u64 {
        self.parts.origins.published(&self.region)
    }

    pub(crate) fn adopt(&self, except: &[Origin]) -> bool {
        if self.region.sharing().is_guest() {
            return false;
        }
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

    pub(crate) fn vector(&self) -> VersionVector {
        let _turn = self.replication.lock();
        self.parts.origins.vector(&self.region)
    }

    fn dot(&self, at: usize) -> PackedDot {
        // Acquire pairs with the Release of `set_dot`, for scans, which go without the lock: who sees the dot sees its origin.
        PackedDot::from_raw(self.region.words(self.parts.dots)[at].load(Ordering::Acquire))
    }

    pub(super) fn set_dot(&self, at: usize, dot: PackedDot) {
        self.region.words(self.parts.dots)[at].store(dot.raw(), Ordering::Release);
    }

    /// See the module's head.
    pub(super) fn has_news(&self, found: &Found) -> bool {
        let header = found.header();
        let origins = self.parts.origins;
        origins.is_ours(&self.region, header.writer)
            || origins.get(&self.region, header.writer).is_none()
            || self.dot(found.at).seq() == 0
            || !header.removed && header.lag > 0
    }

    fn record<'a>(
        &self,
        dot: Dot,
        found: &Found,
        writer: Origin,
        removed: bool,
        key: &'a [u8],
        value: &'a [u8],
    ) -> Record<'a> {
        let Header { stamp, time_ms, .. } = found.header();
        let state = if removed {
            State::Removed { stamp, writer }
        } else {
            State::Value { value, stamp, writer, time_ms }
        };
        Record { key, dot, state }
    }

    pub(crate) fn publish(&self, _now: Time, f: &mut dyn FnMut(&Record<'_>) -> bool) -> (u64, u64) {
        let mut buffers = self.replication.lock();
        let Buffers { key, value, from } = &mut *buffers;
        let before = self.published_seq();
        if self.region.sharing().is_guest() {
            return (before, before);
        }
        let mut seq = before;
        let _change = self.region.begin();
        let own = self.parts.origins.own(&self.region);
        let ahead = |slots: &[usize]| self.look_ahead(slots);
        *from = self.parts.dirty.drain(&self.region, *from, ahead, |at| {
            let Some(found) = self.copy_at(at, key, value).filter(|found| self.has_news(found)) else {
                return ControlFlow::Continue(());
            };
            let header = &found.header();
            // No origin leaves the table while we hold the lock.
            let writer = self.origin_at(header.writer);
            let dot = Dot { origin: self.settings.origin, seq: seq + 1 };
            if !f(&self.record(dot, &found, writer, header.removed, key, value)) {
                return ControlFlow::Break(());
            }
            seq += 1;
            self.set_dot(at, PackedDot::new(own, seq));
            self.parts.origins.advance(&self.region, own, seq);
            if header.lag > 0 {
                self.set_known(&found, key, value);
            }
            ControlFlow::Continue(())
        });
        (before, seq)
    }

    /// Asks for the memory of slots before it is needed: all slots and dots first, then, when those are there, the blocks.
    fn look_ahead(&self, slots: &[usize]) {
        slots.iter().for_each(|&at| self.ask_for_slot(at));
        slots.iter().for_each(|&at| self.ask_for_block(at));
    }

    #[inline]
    fn ask_for_slot(&self, at: usize) {
        prefetch(self.parts.index.word(&self.region, at));
        prefetch(&self.region.words(self.parts.dots)[at]);
    }

    #[inline]
    fn ask_for_block(&self, at: usize) {
        self.prefetch_block(self.parts.index.load(&self.region, at));
    }

    /// Sticky: the cluster knows the last access of a record now. Should saying so fail, the record is published once more than needed.
    fn set_known(&self, found: &Found, key: &[u8], value: &[u8]) {
        let header = Header { lag: 0, ..found.header() };
        _ = self.replace_within(found, &Draft { key, value, header });
    }

    /// The index of an origin in the table. Makes room if need be, by forgetting origins without records; should all have some, by
    /// making records of those that were not heard for longest our own.
    pub(super) fn enter_origin(&self, origin: Origin) -> Result<u16, Error> {
        let origins = self.parts.origins;
        if let Some(index) = origins.enter(&self.region, origin) {
            return Ok(index);
        }
        // Blocks are in flight below.
        let _change = self.region.begin();
        let under_way = origins.under_way(&self.region);
        let mut in_use = under_way.clone();
        for at in 0..self.slots() {
            let Some(found) = self.meta_at(at) else { continue };
            for index in [self.dot(at).index(), found.header().writer] {
                if let Some(used) = in_use.get_mut(usize::from(index)) {
                    *used = true;
                }
            }
        }
        let mut forgotten = origins.forgettable(&self.region, &in_use);
        // A write in the name of a forgotten origin is published all the same, see `has_news`, unless another origin has its entry by then.
        for spared in [under_way, vec![false; origins.len()]] {
            if !forgotten.is_empty() {
                break;
            }
            forgotten = origins.forgettable(&self.region, &spared);
            let kept = self.take_over(&forgotten);
            forgotten.retain(|index| !kept.contains(index));
        }
        for at in 0..self.slots() {
            if forgotten.contains(&self.dot(at).index()) {
                self.set_dot(at, PackedDot::from_raw(0));
            }
        }
        origins.forget(&self.region, &forgotten);
        origins
            .enter(&self.region, origin)
            .ok_or_else(|| Error::TooManyOrigins { zone: self.settings.name.clone(), max: origins.len() })
    }

    /// Makes the records that name one of these origins our own, for want of room in the table.
    ///
    /// The stamp stays: with another writer the same value of the same moment is, for merging, one more candidate of equal content, and all nodes still agree on
    /// the largest. Only a tie with a third write of exactly this stamp may now be decided the other way, everywhere.
    ///
    /// Answers the origins for which that failed, because a zone that is full to the brim had no block to do it with.
    fn take_over(&self, origins: &[u16]) -> Vec<u16> {
        let mut kept = Vec::new();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let own = self.parts.origins.own(&self.region);
        for at in 0..self.slots() {
            while let Some(found) = self.copy_at(at, &mut key, &mut value) {
                let published_by = self.dot(at);
                let by_one = published_by.seq() != 0 && origins.contains(&published_by.index());
                if origins.contains(&found.header().writer) {
                    let header = Header { writer: own, ..found.header() };
                    let draft = Draft { key: &key, value: &value, header };
                    match self.replace_within(&found, &draft) {
                        Some(true) => {}
                        Some(false) => continue, // it has changed
                        None => {
                            kept.push(found.header().writer);
                            break;
                        }
                    }
                } else if !by_one {
                    break;
                }
                self.make_own(at);
                break;
            }
        }
        kept
    }

    /// Checks a row and reads its state; its dot as the table keeps it.
    fn row<'a>(
        &self,
        now: Time,
        record: &Record<'a>,
        entered: &mut Entered,
    ) -> Result<(Row<'a>, PackedDot), Error> {
        let (value, removed, stamp, writer, time_ms) = match record.state {
            State::Value { value, stamp, writer, time_ms } => (value, false, stamp, writer, time_ms),
            State::Removed { stamp, writer } => (&[][..], true, stamp, writer, 0),
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
        stamp.check_skew(&self.settings.name, now, self.settings.max_clock_skew)?;
        // A last access is a clock reading like a stamp, but only a hint: bounded, not refused.
        let latest = now.saturating_add(self.settings.max_clock_skew).as_millis();
        let time_ms = if self.is_sticky() { time_ms.min(latest) } else { time_ms };
        let (publisher, index) = entered.both(self, record.dot.origin, writer)?;
        let header = Header { removed, stamp, writer: index, time_ms, lag: 0 };
        Ok((Row { key: record.key, value, header, writer }, PackedDot::new(publisher, record.dot.seq)))
    }

    /// Merges a row. The later (stamp, writer) wins; an equal one is the same record, and its dot is taken over. In a sticky zone the
    /// later last access counts, whichever record it came with.
    fn apply_row(&self, hand: &mut Hand, now: Time, hash: u64, row: &Row<'_>, dot: PackedDot) -> Outcome {
        let mut raised = false;
        let written = self.upsert_by(hand, now, row.key, hash, Put::New(row.value), |found| {
            raised = false;
            let Some(found) = found else {
                return if self.is_over(row, now) { Step::Stop } else { Step::Write(row.header) };
            };
            let ours = &found.header();
            if self.order(row, ours).is_gt() {
                return Step::Write(self.accessed(&row.header, ours.time_ms));
            }
            // Of what stays: the cluster knows of a later access than it did as far as we know.
            raised = self.is_known_later(ours, row.header.time_ms);
            Step::Stop
        });
        match written {
            Ok(Written::Inserted(at)) => {
                self.set_dot(at, dot);
                Outcome::Applied
            }
            Ok(Written::Replaced(old)) => {
                self.set_dot(old.at, dot);
                Outcome::Applied
            }
            Ok(Written::Stopped(Some(found))) => {
                if raised {
                    self.raise_known(now, row.key, row.header.time_ms);
                }
                let held = self.dot(found.at);
                let same = self.order(row, &found.header()).is_eq();
                // Never back to an earlier publication of the same origin.
                if same && (held.index() != dot.index() || held.seq() < dot.seq()) {
                    self.set_dot(found.at, dot);
                }
                if raised { Outcome::Applied } else { Outcome::Superseded }
            }
            Ok(Written::Stopped(None)) => {
                self.see(row.header.stamp);
                Outcome::Superseded
            }
            // An expired record is only worth its room. Refusing one that nobody would miss would stop the whole stream.
            Err(_) if self.is_expired(&row.header, now) && self.find_meta(row.key, hash).is_none() => {
                self.see(row.header.stamp);
                Outcome::Superseded
            }
            Err(_) => Outcome::Refused,
        }
    }

    /// How a row compares with the record that is here.
    fn order(&self, row: &Row<'_>, ours: &Header) -> std::cmp::Ordering {
        // No origin leaves the table while we hold the lock.
        let writer = || self.parts.origins.get(&self.region, ours.writer);
        row.header.stamp.cmp(&ours.stamp).then_with(|| Some(row.writer).cmp(&writer()))
    }

    /// Sticky: the header of a record whose last access is known to the cluster, when this node knows of one at `time_ms`. Tombstones keep
    /// it, too: an older session and its removal may arrive in either order, and a newer session after both ends with the same last access.
    fn accessed(&self, header: &Header, time_ms: u64) -> Header {
        if !self.is_sticky() || time_ms <= header.time_ms {
            return *header;
        }
        Header { time_ms, lag: self.lag(time_ms - header.time_ms), ..*header }
    }

    /// Sticky: whether a session of this header is known to the cluster to have been accessed later, at `time_ms`, than the header says.
    fn is_known_later(&self, header: &Header, time_ms: u64) -> bool {
        let is_news = || header.time_ms < time_ms || self.lag(header.time_ms - time_ms) < header.lag;
        self.is_sticky() && is_news()
    }

    /// Sticky: a row tells that the cluster knows of an access at `time_ms`, of a record that stays.
    fn raise_known(&self, now: Time, key: &[u8], time_ms: u64) {
        // Should it fail for want of room, an access is told once more than needed, or this session ends here a little early.
        _ = self.upsert(now, key, self.hash(key), Put::Kept, |found| match found {
            Some(found) if self.is_known_later(&found.header(), time_ms) => {
                let ours = &found.header();
                Step::Write(self.accessed(&Header { time_ms, lag: 0, ..*ours }, ours.time_ms))
            }
            Some(_) | None => Step::Stop,
        });
    }

    /// Whether a row for a key that is not here says nothing any more: it expired, or the time of its tombstone is over.
    fn is_over(&self, row: &Row<'_>, now: Time) -> bool {
        let Header { removed, stamp, .. } = row.header;
        let kept_until = stamp.millis().saturating_add(self.settings.retention_ms);
        let retained_no_more = kept_until <= now.as_millis();
        if removed {
            return retained_no_more;
        }
        self.is_expired(&row.header, now) && (self.is_sticky() || retained_no_more)
    }

    /// Counts rows when all of them are through: a locked instruction a row would wait for the misses of that row. Those that were refused are counted where
    /// they were.
    fn tally_applied(&self, applied: &Applied) {
        self.count(Counter::Applied, applied.applied as i64);
        self.count(Counter::Superseded, applied.superseded as i64);
    }

    pub(crate) fn apply_batch(
        &self,
        now: Time,
        origin: Origin,
        from_seq_excluded: u64,
        through_seq: u64,
        rows: &mut dyn Iterator<Item = Record<'_>>,
    ) -> Result<Applied, Error> {
        self.check_owner()?;
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
        let mut entered = Entered::default();
        let known = self.parts.origins.through(&self.region, entered.index(self, origin)?);
        let mut applied = Applied::default();
        let mut seq = from_seq_excluded;
        let whole = self.for_each_row(rows, |hand, hash, record| {
            seq += 1;
            if seq > through_seq {
                return Err(invalid(seq - from_seq_excluded));
            }
            let outcome = if seq <= known {
                Outcome::Superseded
            } else {
                // The dot is the batch's to say, whatever the row does.
                let record = Record { dot: Dot { origin, seq }, ..*record };
                let (row, dot) = self.row(now, &record, &mut entered)?;
                self.apply_row(hand, now, hash, &row, dot)
            };
            applied.add(&outcome);
            Ok(())
        });
        self.tally_applied(&applied);
        whole?;
        if seq != through_seq {
            return Err(invalid(seq - from_seq_excluded));
        }
        if applied.refused == 0 && known >= from_seq_excluded {
            let index = entered.index(self, origin)?;
            self.parts.origins.advance(&self.region, index, through_seq);
        }
        Ok(applied)
    }

    /// Hands rows to `f` with the hashes of their keys, and has asked for the memory of their records before: for their slots when they come, for their blocks when there are
    /// [`ROWS_AHEAD`] before them.
    fn for_each_row<'a>(
        &self,
        rows: &mut dyn Iterator<Item = Record<'a>>,
        mut f: impl FnMut(&mut Hand, u64, &Record<'a>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _change = self.region.begin();
        let (mut hand, mut stock) = (Hand::default(), Stock::default());
        let mut ahead = VecDeque::with_capacity(2 * ROWS_AHEAD);
        let (mut asked, mut is_new) = (0, false);
        let mut whole = Ok(());
        while whole.is_ok() {
            while ahead.len() < 2 * ROWS_AHEAD
                && let Some(record) = rows.next()
            {
                let hash = self.hash(record.key);
                self.ask_for_slots(hash, is_new);
                ahead.push_back(Ahead { hash, record, block: None });
            }
            while asked < ahead.len().min(ROWS_AHEAD) {
                let Ahead { hash, record, block } = &mut ahead[asked];
                is_new = self.ask_for_record(*hash);
                if is_new {
                    let following = rows.size_hint().1.map_or(ROWS_AHEAD, |left| left + 1);
                    *block = self.take_ahead(record, following, &mut stock);
                }
                asked += 1;
            }
            let Some(Ahead { hash, record, block }) = ahead.front_mut() else { break };
            if let Some(unused) = std::mem::replace(&mut hand.block, block.take()) {
                self.free(unused);
            }
            whole = f(&mut hand, *hash, record);
            ahead.pop_front();
            asked -= 1;
        }
        self.put_down(&mut hand);
        stock
            .blocks
            .into_iter()
            .chain(ahead.into_iter().filter_map(|row| row.block))
            .for_each(|block| self.free(block));
        whole
    }

    /// Asks for the slots where a key may lie: for those of its first bucket, and if it is likely to be new of the second one, too.
    #[inline]
    fn ask_for_slots(&self, hash: u64, is_new: bool) {
        self.parts.index.prefetch_first(&self.region, hash);
        if is_new {
            let [_, second] = self.parts.index.candidates(hash).main;
            prefetch(self.parts.index.word(&self.region, second));
        }
    }

    /// Asks for the block and the dot of a key's record; true if there is none.
    #[inline]
    fn ask_for_record(&self, hash: u64) -> bool {
        let index = self.parts.index;
        let dots = self.region.words(self.parts.dots);
        let tag = Slot::tag_of(hash);
        for bucket in index.buckets_in_use(&self.region, hash) {
            if index.may_hold(&self.region, bucket, tag) {
                let mut live = index.live_in(&self.region, bucket, tag);
                prefetch(&dots[bucket]);
                while live != 0 {
                    let at = bucket + live.trailing_zeros() as usize;
                    self.prefetch_block(index.load(&self.region, at));
                    live &= live - 1;
                }
                return false;
            }
        }
        prefetch(&dots[index.first(hash)]);
        true
    }

    /// A block for a row that is most likely new, whose memory was asked for; taken with others for the `following` rows, twice as many of a size as before, since those are likely to be of it too. Not
    /// from a zone that is nearly full: one row would take what another needs.
    #[inline]
    fn take_ahead(&self, record: &Record<'_>, following: usize, stock: &mut Stock) -> Option<Owned> {
        let units = match record.state {
            State::Value { value, time_ms, .. } => units_needed(record.key.len(), value.len(), time_ms != 0),
            State::Removed { .. } | State::Limit { .. } => units_needed(record.key.len(), 0, false),
        };
        if stock.units != units {
            stock.blocks.drain(..).for_each(|block| self.free(block));
            (stock.units, stock.count) = (units, 1);
        }
        if stock.blocks.is_empty() && self.has_plenty() {
            let count = stock.count.min(following);
            self.parts.blocks.take_some(&self.region, units, count, |block| stock.blocks.push(block));
            stock.count = ROWS_AHEAD.min(2 * stock.count);
        }
        let block = stock.blocks.pop()?;
        self.parts.blocks.at(&self.region, block.unit).prefetch();
        Some(block)
    }

    pub(crate) fn apply_states(
        &self,
        now: Time,
        rows: &mut dyn Iterator<Item = Record<'_>>,
    ) -> Result<Applied, Error> {
        self.check_owner()?;
        let _turn = self.replication.lock();
        let own = self.parts.origins.own(&self.region);
        let mut applied = Applied::default();
        let mut entered = Entered::default();
        let whole = self.for_each_row(rows, |hand, hash, record| {
            let Dot { origin, seq } = record.dot;
            if entered.index(self, origin)? == own && seq > self.published_seq() {
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
            let (row, dot) = self.row(now, record, &mut entered)?;
            applied.add(&self.apply_row(hand, now, hash, &row, dot));
            Ok(())
        });
        self.tally_applied(&applied);
        whole.map(|()| applied)
    }

    fn own_origin(&self) -> Error {
        Error::OwnOrigin { zone: self.settings.name.clone(), origin: self.settings.origin }
    }

    fn check_owner(&self) -> Result<(), Error> {
        if self.region.sharing().is_guest() {
            return Err(Error::NotTheOwner { zone: self.settings.name.clone() });
        }
        Ok(())
    }

    pub(crate) fn cover(&self, vector: &VersionVector) {
        if self.region.sharing().is_guest() {
            return;
        }
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

    pub(crate) fn uncover(&self, origin: Origin, through_seq: u64) {
        if self.region.sharing().is_guest() || origin == self.settings.origin {
            return;
        }
        let _turn = self.replication.lock();
        if let Some(index) = self.parts.origins.find(&self.region, origin) {
            self.parts.origins.recede(&self.region, index, through_seq);
        }
    }

    pub(crate) fn scan(
        &self,
        now: Time,
        origins: &[Origin],
        known: &VersionVector,
        mut cursor: Cursor,
        f: &mut dyn FnMut(&Record<'_>) -> bool,
    ) -> Option<Cursor> {
        // By index: the origin if it is asked for, and what is known of it.
        let table = self.parts.origins;
        let wanted: Vec<Option<(Origin, u64)>> = table
            .indices(&self.region)
            .map(|index| table.get(&self.region, index))
            .map(|origin| origin.filter(|origin| origins.contains(origin)))
            .map(|origin| origin.map(|origin| (origin, known.get(origin))))
            .collect();
        let is_wanted = |at: usize| {
            let dot = self.dot(at);
            let known = wanted.get(usize::from(dot.index())).copied().flatten();
            known.filter(|(_, known)| dot.seq() > *known).map(|(origin, _)| Dot { origin, seq: dot.seq() })
        };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let slots = self.slots();
        let bound = cursor.bound(slots);
        while cursor.look(slots, bound, |at| is_wanted(at).map(|dot| dot.seq)) {
            // What will be met by and by: first the slots are asked for, then, when those are there, the blocks.
            cursor.upcoming().take(2 * ROWS_AHEAD).for_each(|at| self.ask_for_slot(at));
            cursor.upcoming().take(ROWS_AHEAD).for_each(|at| self.ask_for_block(at));
            while let Some(at) = cursor.nth(0) {
                // Once more: it may have been published again since.
                let goes_on =
                    is_wanted(at).is_none_or(|dot| self.meet(now, at, dot, &mut key, &mut value, f));
                if !goes_on {
                    return Some(cursor);
                }
                cursor.advance();
                if let Some(at) = cursor.nth(ROWS_AHEAD - 1) {
                    self.ask_for_block(at);
                }
                if let Some(at) = cursor.nth(2 * ROWS_AHEAD - 1) {
                    self.ask_for_slot(at);
                }
            }
        }
        (!cursor.is_at_end(slots)).then_some(cursor)
    }

    /// Hands the record of a slot to `f`, unless it is not for a scan; false if the scan is to stop in front of it.
    fn meet(
        &self,
        now: Time,
        at: usize,
        dot: Dot,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
        f: &mut dyn FnMut(&Record<'_>) -> bool,
    ) -> bool {
        let Some((found, writer)) = self.copy_with_writer(at, key, value) else { return true };
        if self.parts.dirty.is_marked(&self.region, at) && self.has_news(&found) {
            return true;
        }
        // An expired keyval record is what a tombstone of its stamp is, so it travels as one; an expired session is nothing.
        let header = found.header();
        let expired = self.is_expired(&header, now);
        if expired && self.is_sticky() {
            return true;
        }
        f(&self.record(dot, &found, writer, header.removed || expired, key, value))
    }

    pub(crate) fn digest(&self, now: Time) -> u64 {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut sum = 0u64;
        for at in 0..self.slots() {
            let Some(found) = self.copy_at(at, &mut key, &mut value) else { continue };
            if !self.is_live(&found, now) {
                continue;
            }
            let Header { stamp, time_ms, .. } = found.header();
            let time_ms = if self.is_sticky() { 0 } else { time_ms };
            let mut hasher = blake3::Hasher::new();
            for number in [key.len() as u64, stamp.raw(), time_ms] {
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
