//! The limit zone as callers see it.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::bucket::{Idle, LATE_MAX_NS, Terms, Verdict, View};
use super::check::{Check, Decision, Delay, Outcome};
use super::counters::{Counters, LimitCounters};
use super::entry::{ENTRY, Entry, Fresh, Head, Phase};
use super::found::Charged;
use super::group::{GROUP, Group, Inserted, Place};
use super::key::LimitKey;
use super::runs::Runs;
use crate::dirty::Dirty;
use crate::layout::{Layout, Section};
use crate::origins::Origins;
use crate::region::{MAX_SIZE, OpenRegion, Origination, Parameters, Region};
use crate::sharing::Dead;
use crate::words::{AtomicU64 as Word, Pairs, WORD, Words};
use crate::{Error, Origin, Rate, Time, ZoneKind};

/// Among the settings in force: how many times a request is charged; 0 if the zone is not strict.
const MEMBERS_AT: usize = 6;

/// Bytes of the smallest limit zone: its fixed structures take about one KiB, and dozens of keys have room in the rest.
const MIN_SIZE: u64 = 4096;

/// Request limits, counted for the whole cluster.
///
/// Each key has a leaky bucket that drains at the zone's rate (or at the one a check brings along) and holds `burst` + 1 requests; the
/// semantics are those of nginx's `limit_req`. Work admitted here reaches the other nodes through [`Replica`](crate::Replica), and
/// theirs counts here.
///
/// An entry takes 64 bytes. Keys of up to 16 bytes are kept as they are, longer ones as a digest of 16 bytes, which is also what
/// travels: all nodes compute the same. Two keys with one digest share a bucket; that takes 2⁶⁴ tries to bring about. The empty
/// key is not limited, as in nginx.
///
/// A zone that is full makes room by dropping keys whose buckets are empty, which loses nothing, and then those that will be empty
/// soonest.
#[derive(Debug)]
pub struct LimitZone {
    pub(super) name: String,
    pub(super) origin: Origin,
    pub(super) region: OpenRegion,
    pub(super) origins: Origins,
    pub(super) dirty: Dirty,
    /// Of the region, by themselves.
    entries: Words,
    pub(super) replication: Mutex<Replication>,
    /// Held while what dead processes have left is put right: entries that may be claimed for ever.
    recovery: Mutex<Vec<(usize, Head)>>,
    pub(super) tally: Tally,
    counters: Counters,
    sweep_next: AtomicUsize,
    rate: Rate,
    burst: u64,
    delay: Delay,
    /// What follows from the three.
    terms: Terms,
    dry_run: bool,
    is_strict: bool,
    /// The terms of the zone are those of every check that does not bring its own, and nobody attaches.
    is_plain: bool,
    pairs: Option<Pairs>,
}

/// What publishing, applying and covering take turns with.
#[derive(Debug, Default)]
pub(super) struct Replication {
    /// The slot at which the publisher goes on.
    pub(super) publish_next: usize,
    pub(super) runs: Runs,
}

/// Figures for people.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) evicted: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) applied: AtomicU64,
    pub(super) superseded: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Tally {
    pub(super) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// Describes a [`LimitZone`] to be made.
#[derive(Clone, Debug)]
pub struct LimitZoneBuilder {
    name: String,
    size: u64,
    region: Region,
    origin: Option<Origin>,
    rate: Option<Rate>,
    burst: u64,
    delay: Delay,
    dry_run: bool,
    strict: bool,
}

impl LimitZoneBuilder {
    /// The zone's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many bytes it takes: exactly so many, whatever it holds. A key takes 80 if hardly one in a thousand is to go early, 64 at the least.
    /// Default 1 MiB, room for 13,000 keys.
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// Who publishes. Default: a random origin.
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// The rate of each key. Required.
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// How many requests may come before their time. Default 0.
    pub fn burst(mut self, requests: u64) -> Self {
        self.burst = requests;
        self
    }

    /// Which of those have to wait. Default: all.
    pub fn delay(mut self, delay: Delay) -> Self {
        self.delay = delay;
        self
    }

    /// Whether to let everything pass and only count. Default: no.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Whether the limit is more important than availability: see [`LimitZone::divide`]. Default: no.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Where the memory of the zone comes from. Default: [`Region::anonymous`].
    pub fn region(mut self, region: Region) -> Self {
        self.region = region;
        self
    }

    /// Makes the zone; in a mapped region that holds it already, opens it with its keys.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSize`] below 4 KiB (8 KiB in a mapped region) and above 16 GiB; [`Error::InvalidSetting`] if there is no rate, or no memory;
    /// in a mapped region also [`Error::Region`], [`Error::NotARegion`], [`Error::RegionMismatch`], [`Error::RegionInUse`].
    pub fn build(self) -> Result<LimitZone, Error> {
        let Some(rate) = self.rate else {
            return Err(Error::InvalidSetting {
                zone: self.name,
                setting: "rate",
                value: "(none)".to_owned(),
                expected: "a limit zone needs a rate, such as 100r/s",
            });
        };
        let parts = self.plan()?;
        let parameters = Parameters { fixed: Vec::new(), current: self.in_force(rate).to_vec() };
        let (region, origination) =
            OpenRegion::open(&self.region, &self.name, ZoneKind::Limit, self.size, &parameters)?;
        let mut zone = self.zone(rate, region, parts);
        zone.enter_own();
        match origination {
            Origination::Fresh => zone.region.seal(),
            Origination::Reopened => zone.reopen(),
        }
        zone.dirty.listen(&zone.region);
        Ok(zone)
    }

    /// Attaches to the zone that another process has made in a mapped region; see [`LimitZone::attach`].
    fn attach(path: &Path) -> Result<LimitZone, Error> {
        let region = OpenRegion::attach(path, ZoneKind::Limit)?;
        let invalid = || Error::NotARegion { path: path.to_owned() };
        let [requests, period, burst, delay, free, dry_run, members] = region.current();
        let rate = Rate::from_words([requests, period]).ok_or_else(invalid)?;
        let builder = LimitZone::builder(region.name().ok_or_else(invalid)?)
            .size(region.size())
            .region(Region::map_file(path))
            .burst(burst)
            .delay(Delay::from_words([delay, free]))
            .dry_run(dry_run != 0)
            .strict(members != 0);
        let parts = builder.plan()?;
        Ok(builder.zone(rate, region, parts))
    }

    /// The settings as a mapped region keeps them.
    fn in_force(&self, rate: Rate) -> [u64; 7] {
        let ([requests, period], [delay, free]) = (rate.to_words(), self.delay.to_words());
        [requests, period, self.burst, delay, free, u64::from(self.dry_run), u64::from(self.strict)]
    }

    fn plan(&self) -> Result<(Origins, Dirty, Section), Error> {
        let size = self.size;
        let min = if self.region.path().is_some() { 2 * MIN_SIZE } else { MIN_SIZE };
        let invalid = || Error::InvalidSize { zone: self.name.clone(), size, min, max: MAX_SIZE };
        if !(min..=MAX_SIZE).contains(&size) {
            return Err(invalid());
        }
        let mut layout = Layout::new(size, OpenRegion::header_words(&self.region));
        let origins = Origins::new(&mut layout, size).ok_or_else(invalid)?;
        let slots = slots(layout.left());
        let dirty = Dirty::new(&mut layout, slots).ok_or_else(invalid)?;
        let entries = layout.take(slots * ENTRY).ok_or_else(invalid)?;
        Ok((origins, dirty, entries))
    }

    fn zone(self, rate: Rate, region: OpenRegion, parts: (Origins, Dirty, Section)) -> LimitZone {
        let (origins, dirty, entries) = parts;
        LimitZone {
            is_strict: self.strict,
            is_plain: !self.strict && !region.is_shared(),
            pairs: Pairs::of_this_processor(),
            entries: region.section(entries),
            name: self.name,
            origin: self.origin.unwrap_or_else(Origin::random),
            region,
            origins,
            dirty,
            replication: Mutex::default(),
            recovery: Mutex::default(),
            tally: Tally::default(),
            counters: Counters::default(),
            sweep_next: AtomicUsize::new(0),
            rate,
            burst: self.burst,
            delay: self.delay,
            terms: Terms::new(rate.interval_ns(), self.burst, self.delay.free()),
            dry_run: self.dry_run,
        }
    }
}

/// The most entries, in whole groups, for which `words` words are enough together with their dirty bits.
fn slots(words: usize) -> usize {
    let mut slots = words / ENTRY / GROUP * GROUP;
    while slots > 0 && Dirty::words(slots) + slots * ENTRY > words {
        slots -= GROUP;
    }
    slots
}

impl LimitZone {
    /// Begins to describe a zone.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sync_store::{Check, Delay, LimitZone, Outcome, Time};
    ///
    /// let zone = LimitZone::builder("req")
    ///     .size(1 << 20)
    ///     .rate("10r/h".parse()?)
    ///     .burst(9)
    ///     .delay(Delay::Nodelay)
    ///     .build()?;
    /// let now = Time::from_millis(1_700_000_000_000);
    /// for left in (0..10).rev() {
    ///     let decision = zone.check("198.51.100.7", &Check::default(), now);
    ///     assert_eq!((decision.outcome, decision.remaining()), (Outcome::Passed, left));
    /// }
    /// let refused = zone.check("198.51.100.7", &Check::default(), now);
    /// assert_eq!(refused.outcome, Outcome::Rejected);
    /// assert_eq!(refused.retry_after(), Some(Duration::from_secs(360)));
    /// # Ok::<(), sync_store::Error>(())
    /// ```
    pub fn builder(name: impl Into<String>) -> LimitZoneBuilder {
        LimitZoneBuilder {
            name: name.into(),
            size: 1 << 20,
            region: Region::anonymous(),
            origin: None,
            rate: None,
            burst: 0,
            delay: Delay::None,
            dry_run: false,
            strict: false,
        }
    }

    /// Attaches to the zone that another process owns in this file; see [`Region::map_file`]. Counts the same keys; the owner replicates what is
    /// admitted here. Its settings are the owner's as they were at this moment; the outcome counters are this process' own.
    ///
    /// # Errors
    ///
    /// [`Error::Region`], [`Error::NotARegion`], [`Error::RegionMismatch`], [`Error::TooManyProcesses`].
    pub fn attach(path: impl AsRef<Path>) -> Result<Self, Error> {
        LimitZoneBuilder::attach(path.as_ref())
    }

    /// The zone's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Decides about a request, and charges it to its key if it is admitted. A request that is refused changes nothing.
    ///
    /// A dry run charges as the real one would, so that the figures mean something, and lets everything pass.
    ///
    /// In the one case that every entry of the key's group is just being claimed by another thread, the request is judged by an empty
    /// bucket, and not recorded.
    #[inline(always)]
    pub fn check(&self, key: impl AsRef<[u8]>, check: &Check, now: Time) -> Decision {
        let (key, now) = (key.as_ref(), now.as_nanos());
        self.check_usual(key, check, now).unwrap_or_else(|| self.check_any(key, check, now))
    }

    /// The check that nearly all are: of a short key that is there, by the terms of the zone, in memory of this process, with nobody in the way. Straight on, with
    /// nothing that would have to be kept for another try. `None`: it is another one, and nothing has happened.
    #[inline(always)]
    fn check_usual(&self, key: &[u8], check: &Check, now: u64) -> Option<Decision> {
        let Check { cost, burst: None, delay: None, rate: None, dry_run } = *check else { return None };
        let cost = u64::try_from(cost).ok().filter(|&cost| cost > 0)?;
        if !self.is_plain {
            return None;
        }
        let key = LimitKey::inline(key)?;
        let found = self.group(self.place(&key)).find_soon(&key)?;
        let charged = found.try_charge(self.pairs, &self.terms, now, cost).ok()?;
        if charged.changed {
            self.dirty.mark(&self.region, found.slot);
        }
        let decision = decision(&self.terms, charged, now, dry_run.unwrap_or(self.dry_run));
        self.counters.count(decision.outcome);
        Some(decision)
    }

    #[inline(never)]
    fn check_any(&self, key: &[u8], check: &Check, now: u64) -> Decision {
        let terms = &self.terms(check);
        let Some(key) = LimitKey::new(key) else {
            return decision(terms, Charged::unchanged(terms.judge(0, now, 0), 0), now, false);
        };
        let Ok(cost) = u64::try_from(check.cost) else {
            let tat = self.refund(&key, terms, now, check.cost.unsigned_abs()).0;
            return decision(terms, Charged::unchanged(terms.judge(tat, now, 0), tat), now, true);
        };
        let charged = self.charge(&key, terms, now, cost);
        let decision = decision(terms, charged, now, check.dry_run.unwrap_or(self.dry_run));
        if cost > 0 {
            self.counters.count(decision.outcome);
        }
        decision
    }

    /// Says to a [strict](LimitZoneBuilder::strict) zone how many nodes may admit requests without knowing of each other: 1, as at first, if this node hears of all that others
    /// admit; otherwise as many as there are members. Each request is then charged to the bucket so many times, so that this node admits its share of rate and burst, and all
    /// members together no more than the limit. None at all if the burst is smaller than that. What is published is what was admitted. Nothing happens if the zone is not strict.
    pub fn divide(&self, members: u64) {
        if self.is_strict && !self.region.sharing().is_guest() {
            self.region.current_word(MEMBERS_AT).store(members.max(1), Ordering::Release);
        }
    }

    /// Whether the zone is [strict](LimitZoneBuilder::strict).
    pub fn is_strict(&self) -> bool {
        self.is_strict
    }

    /// Whether the zone only counts, and lets everything pass.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// How many times a request is charged; see [`divide`](Self::divide).
    pub fn members(&self) -> u64 {
        if self.is_strict { self.region.current_word(MEMBERS_AT).load(Ordering::Acquire).max(1) } else { 1 }
    }

    /// Empties the bucket of a key, here and on the other nodes: all that is known here of its work is refunded. Answers whether
    /// there was any.
    pub fn forget(&self, key: impl AsRef<[u8]>, now: Time) -> bool {
        let Some(key) = LimitKey::new(key.as_ref()) else { return false };
        self.refund(&key, &self.terms, now.as_nanos(), u64::MAX).1
    }

    /// [Forgets](Self::forget) all keys. Answers how many.
    pub fn clear(&self, now: Time) -> usize {
        (0..self.slots())
            .filter_map(|slot| self.live(slot))
            .filter(|key| self.refund(key, &self.terms, now.as_nanos(), u64::MAX).1)
            .count()
    }

    /// How many requests met which outcome, on this node, since the zone was made or the counters were reset.
    #[must_use]
    pub fn counters(&self) -> LimitCounters {
        self.counters.get()
    }

    /// Sets the counters to 0.
    pub fn reset_counters(&self) {
        self.counters.reset();
    }

    /// The zone's terms, and what a check says otherwise.
    fn terms(&self, check: &Check) -> Terms {
        if check.rate.is_none() && check.burst.is_none() && check.delay.is_none() {
            return self.terms.divided(self.members());
        }
        let rate = check.rate.unwrap_or(self.rate);
        let (burst, delay) = (check.burst.unwrap_or(self.burst), check.delay.unwrap_or(self.delay));
        Terms::new(rate.interval_ns(), burst, delay.free()).divided(self.members())
    }

    fn charge(&self, key: &LimitKey, terms: &Terms, now: u64, cost: u64) -> Charged {
        let _change = self.region.begin();
        let place = self.place(key);
        loop {
            let charged = match self.group(place).find(key) {
                Some(found) => {
                    let charged = found.charge(self.pairs, terms, now, cost);
                    if charged.is_some_and(|charged| charged.changed) {
                        self.dirty.mark(&self.region, found.slot);
                    }
                    charged
                }
                None => self.charge_new(key, place, terms, now, cost),
            };
            if let Some(charged) = charged {
                return charged;
            }
        }
    }

    /// Charges a key that was not found; `None`: look again.
    fn charge_new(
        &self,
        key: &LimitKey,
        place: Place,
        terms: &Terms,
        now: u64,
        cost: u64,
    ) -> Option<Charged> {
        let verdict = terms.judge(0, now, cost);
        let Verdict::Admitted { tat, work, .. } = verdict else {
            return Some(Charged::unchanged(verdict, 0));
        };
        if cost == 0 {
            return Some(Charged::unchanged(verdict, 0));
        }
        let view = View { tat, idle: Idle { start: 0, end: now } };
        let fresh = Fresh {
            key: *key,
            tag: place.tag,
            view,
            debt: terms.admitted(work).cast_signed(),
            foreign: false,
        };
        match self.insert(place, &fresh, now) {
            Inserted::Live { slot, .. } => self.dirty.mark(&self.region, slot),
            Inserted::Again { .. } => return None,
            Inserted::Busy => Tally::add(&self.tally.refused, 1),
        }
        Some(Charged { verdict, tat, changed: true })
    }

    /// The arrival time afterwards, and whether there was anything to refund.
    fn refund(&self, key: &LimitKey, terms: &Terms, now: u64, cost: u64) -> (u64, bool) {
        let _change = self.region.begin();
        let place = self.place(key);
        while let Some(found) = self.group(place).find(key) {
            let Some((tat, refunded)) = found.refund(terms, now, cost) else { continue };
            if refunded {
                self.dirty.mark(&self.region, found.slot);
            }
            return (tat, refunded);
        }
        (0, false)
    }

    pub(super) fn insert(&self, place: Place, fresh: &Fresh, now: u64) -> Inserted {
        let inserted = self.group(place).insert(fresh, now);
        if let Inserted::Live { evicted: true, .. } | Inserted::Again { evicted: true } = inserted {
            Tally::add(&self.tally.evicted, 1);
        }
        inserted
    }

    pub(super) fn slots(&self) -> usize {
        self.entries.len() / ENTRY
    }

    #[inline]
    pub(super) fn place(&self, key: &LimitKey) -> Place {
        Place::of(key.hash(&self.region), self.slots())
    }

    #[inline]
    pub(super) fn group(&self, place: Place) -> Group<'_> {
        Group::new(self.words(), place)
    }

    /// The groups of the key that lives at a slot.
    fn around(&self, slot: usize) -> Group<'_> {
        self.group(Place::around(slot, self.entry(slot).head().tag(), self.slots()))
    }

    #[inline]
    pub(super) fn words(&self) -> &[Word] {
        &self.entries
    }

    pub(super) fn entry(&self, slot: usize) -> Entry<'_> {
        Entry::at(self.words(), slot)
    }

    /// Enters our origin in the table. The table of a region that was used before may be full of others; no record names them.
    fn enter_own(&self) {
        if let Ok(own) = self.enter(self.origin) {
            self.origins.set_own(&self.region, own);
        }
    }

    /// Takes over what another process, or an earlier run of this one, has left. What that one had published is, for the others, the work of an
    /// origin that is gone; what it had not published is ours to publish.
    fn reopen(&self) {
        for slot in 0..self.slots() {
            let entry = self.entry(slot);
            if entry.head().phase() == Phase::Live {
                entry.set_foreign();
                entry.set_seq(0);
            }
        }
        self.put_right(&mut self.recovery.lock(), self.region.dead_guests());
    }

    /// Owner: puts right what guests that were killed have left.
    pub(super) fn look_after_guests(&self) {
        // Two threads that free the same entry would free it under whoever has claimed it in between.
        let Some(mut claims) = self.recovery.try_lock() else { return };
        let dead = self.region.dead_guests();
        if dead.is_empty() {
            self.release_abandoned(&mut claims, &dead);
        } else {
            self.put_right(&mut claims, dead);
        }
    }

    /// Work that may not be marked is marked; entries that a dead process has claimed are free again, as soon as it is quiet enough to tell.
    fn put_right(&self, claims: &mut Vec<(usize, Head)>, dead: Vec<Dead>) {
        for slot in 0..self.slots() {
            let entry = self.entry(slot);
            let head = entry.head();
            match head.phase() {
                Phase::Live if entry.debt() != 0 => self.dirty.mark(&self.region, slot),
                Phase::Pending => self.around(slot).finish(slot),
                Phase::Claimed => claims.push((slot, head)),
                Phase::Empty | Phase::Live => {}
            }
        }
        // What was marked already may be so without a call.
        self.dirty.call_for_marks(&self.region);
        self.release_abandoned(claims, &dead);
        self.region.bury(dead);
    }

    /// Frees the claimed entries among these that are nobody's; keeps those of which that cannot be told yet.
    fn release_abandoned(&self, claims: &mut Vec<(usize, Head)>, dead: &[Dead]) {
        claims.retain(|&(slot, head)| {
            let entry = self.entry(slot);
            // A claim takes nanoseconds: one that is still there in a quiet moment is nobody's.
            match self.region.in_quiet(dead, || entry.is_still(head)) {
                Some(true) => {
                    entry.release(head);
                    false
                }
                Some(false) => false,
                None => entry.is_still(head),
            }
        });
    }

    /// The key that lives at a slot.
    fn live(&self, slot: usize) -> Option<LimitKey> {
        let entry = self.entry(slot);
        let head = entry.head();
        let key = entry.key(head)?;
        (head.phase() == Phase::Live && entry.is_still(head)).then_some(key)
    }

    /// Empties up to `budget` idle entries.
    pub(super) fn sweep_idle(&self, now: u64, budget: usize) -> usize {
        let _change = self.region.begin();
        // What was empty but a moment ago may yet take work that we hear of late.
        let long_ago = now.saturating_sub(LATE_MAX_NS);
        let (slots, budget) = (self.slots(), budget.min(self.slots()));
        let first = self.sweep_next.fetch_add(budget, Ordering::Relaxed);
        let freed = (0..budget)
            .map(|i| first.wrapping_add(i) % slots)
            .filter(|&slot| self.around(slot).sweep(slot, long_ago))
            .count();
        Tally::add(&self.tally.expired, freed);
        freed
    }

    pub(super) fn used_bytes(&self, records: u64) -> u64 {
        let free = self.slots() as u64 - records.min(self.slots() as u64);
        self.region.size() - free * (ENTRY * WORD) as u64
    }

    pub(super) fn records(&self) -> u64 {
        (0..self.slots()).filter(|&slot| self.entry(slot).head().phase() == Phase::Live).count() as u64
    }
}

impl fmt::Display for LimitZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limit zone {}, {}", self.name, self.rate)
    }
}

#[inline]
fn decision(terms: &Terms, charged: Charged, now: u64, dry_run: bool) -> Decision {
    let (outcome, wait_ns) = match charged.verdict {
        Verdict::Admitted { wait_ns: 0, .. } => (Outcome::Passed, None),
        Verdict::Admitted { .. } if dry_run => (Outcome::DelayedDryRun, None),
        Verdict::Admitted { wait_ns, .. } => (Outcome::Delayed, Some(wait_ns)),
        Verdict::Denied { retry_ns } if dry_run => (Outcome::RejectedDryRun, retry_ns),
        Verdict::Denied { retry_ns } => (Outcome::Rejected, retry_ns),
    };
    Decision {
        outcome,
        wait_ns,
        backlog_ns: charged.tat.saturating_sub(now),
        capacity_ns: terms.capacity_ns,
        interval_ns: terms.interval_ns,
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
