//! Groups: eight entries each, found straight from the hash. A key may live anywhere in two of them.
//!
//! There is no index. A lookup begins at the entry that the hash names as the key's home, goes on beside it, then through the rest of the group, then looks at the second
//! one; a new key takes the first free place in that order, so nearly all lookups touch one cache line. Keys never move.
//!
//! The second group is for when the first one is crowded: eight entries that are found at random fill so unevenly that of a zone four fifths full one key in fifteen
//! would have to go; with a second choice, taken from the seventh key of a group on, it is one in five hundred (simulated and measured).
//! Which the second one is follows from the first and the tag, either way round, so that an entry tells both.
//!
//! # At most one live entry per key
//!
//! Two threads that find a key missing may choose different places for it. As in an index bucket (DESIGN §3.1), an entry is
//! therefore first *pending*, and turns *live* only after a *second look* that begins after it was published and goes over both
//! groups ([`Group::settle`]):
//!
//! - a live copy: the pending one is aborted;
//! - a pending copy at a higher place: that one is aborted;
//! - a pending copy at a lower place: ours is aborted, and the second look taken for that one, from the start.
//!
//! Take two copies A and B that both became live. Either the look that promoted A read B's entry after B was published, or the other
//! way round (publication and look are SeqCst). The look that saw the other saw it live, and would have aborted its own; or
//! pending and higher, and aborted it before promoting its own; or pending and lower, and did not promote its own. Anybody who
//! meets a pending entry may settle it, so nobody waits for a thread that was stopped; a thread stopped while it has an entry *claimed*
//! costs the group that one entry.
//!
//! # Making room
//!
//! In this order: an empty entry; an idle one (arrival time past and no debt: it holds no information); of the others without
//! debt the one with the earliest arrival time; and only if all have debts the earliest of them. An entry may be charged by somebody
//! while it is taken: after claiming, the taker looks again, and if it holds more than it did, publishes it as it is, by the same two
//! steps. Whoever charged it at just that moment may take it for lost and charge again: one request counted twice.
//!
//! What is not exact, shown by stopping threads (`zone/tests/stopped.rs`), all of it only while entries are given up: a thread that is stopped between
//! its look at an entry and its change of a word may charge or refund the key that has the entry by then, if its words are the same; and a taker that is stopped both
//! between its look and its claim and again before it gives the entry back hides what was charged meanwhile, so that up to one bucket of that key may be admitted
//! once more.

use crate::words::{AtomicU64, loom_fence};

use super::entry::{ENTRY, Entry, Fresh, Head, Phase};
use super::found::Found;
use super::key::LimitKey;

/// Entries of a group.
pub(super) const GROUP: usize = 8;
/// A group that holds so many keys is crowded: new ones go to the emptier of their two.
const CROWDED: usize = 6;

/// Where a key belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The first slot of its first group.
    pub(super) first: usize,
    /// How many groups there are. The second one is computed from that when it is asked for, which is seldom.
    pub(super) groups: usize,
    /// How far behind them the key's home is.
    pub(super) home: usize,
    /// Bits of the hash that neither of these used.
    pub(super) tag: u16,
}

impl Place {
    /// Where a key with this hash belongs among `slots`, a multiple of [`GROUP`].
    #[inline]
    pub(super) const fn of(hash: u64, slots: usize) -> Self {
        let groups = slots / GROUP;
        // The high bits choose the group, the low ones the home and the tag.
        let group = ((hash as u128 * groups as u128) >> 64) as usize;
        Self { first: group * GROUP, groups, home: hash as usize % GROUP, tag: (hash >> 3) as u16 }
    }

    /// Where a key with this tag belongs that lives at `slot`, for whoever goes by slots.
    pub(super) const fn around(slot: usize, tag: u16, slots: usize) -> Self {
        Self { first: slot / GROUP * GROUP, groups: slots / GROUP, home: 0, tag }
    }

    /// The first slots of the two groups; twice the same if there is no other.
    pub(super) const fn both(self) -> [usize; 2] {
        [self.first, other(self.first / GROUP, self.tag, self.groups) * GROUP]
    }
}

/// The other group of a key: the two add up to a number that follows from the tag, so each tells the other.
const fn other(group: usize, tag: u16, groups: usize) -> usize {
    // 2^64 / golden ratio: spreads the 16 bits over all groups.
    let spread = (tag as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let sum = ((spread as u128 * groups as u128) >> 64) as usize;
    if sum >= group { sum - group } else { sum + groups - group }
}

/// How an insertion ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Inserted {
    /// The key lives at this slot, with what it was given. `evicted`: an entry that held information had to make room.
    Live { slot: usize, evicted: bool },
    /// Somebody else inserted the key, or took the entry away again: look again. Nothing was recorded.
    Again { evicted: bool },
    /// Every entry of both groups is in the hands of another thread.
    Busy,
}

/// The entries of the two groups of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'r> {
    words: &'r [AtomicU64],
    place: Place,
    /// [`GROUP`]; the models take less.
    len: usize,
}

impl<'r> Group<'r> {
    /// The groups of `place` in the words of all entries.
    #[inline]
    pub(super) fn new(words: &'r [AtomicU64], place: Place) -> Self {
        Self { words, place, len: GROUP.min(words.len() / ENTRY) }
    }

    /// The slots of one group: the key's home, the one beside it, the others.
    fn slots_from(self, first: usize) -> impl Iterator<Item = usize> {
        (0..self.len).map(move |i| first + (self.place.home ^ i) % self.len)
    }

    /// All slots of both groups.
    fn slots(self) -> impl Iterator<Item = usize> {
        let [one, two] = self.place.both();
        let two = (two != one).then_some(two);
        self.slots_from(one).chain(two.into_iter().flat_map(move |two| self.slots_from(two)))
    }

    #[inline]
    fn entry(self, slot: usize) -> Entry<'r> {
        Entry::at(self.words, slot)
    }

    /// The live entry of `key`. What is read on the way may be torn: whoever acts on the entry checks its head.
    pub(super) fn find(self, key: &LimitKey) -> Option<Found<'r>> {
        self.slots().find_map(|slot| self.find_at(slot, key))
    }

    /// The same, at the key's home or beside it first, where nine in ten are in a zone half full.
    ///
    /// Which of the two it is, is chosen and not branched on: of four keys one is not at home, and a branch that hangs on a cache miss costs that miss again if it is guessed
    /// wrongly. A second line, asked for at the same time, costs less.
    #[inline(always)]
    pub(super) fn find_soon(self, key: &LimitKey) -> Option<Found<'r>> {
        let home = self.place.first + self.place.home;
        self.entry(home ^ 1).prefetch();
        let is_there = self.entry(home).head().is_live(self.place.tag, key.len);
        self.find_at(home ^ usize::from(!is_there), key).or_else(|| self.find_late(key))
    }

    #[inline(never)]
    fn find_late(self, key: &LimitKey) -> Option<Found<'r>> {
        self.find(key)
    }

    #[inline]
    fn find_at(self, slot: usize, key: &LimitKey) -> Option<Found<'r>> {
        let entry = self.entry(slot);
        let head = entry.head();
        entry.is_live(head, key, self.place.tag).then_some(Found { entry, slot, head })
    }

    /// Inserts a key that was not found.
    pub(super) fn insert(self, fresh: &Fresh, now: u64) -> Inserted {
        let Some((slot, claimed, evicted)) = self.claim(now) else { return Inserted::Busy };
        let pending = self.entry(slot).publish(claimed, fresh);
        self.settle(slot, pending, &fresh.key);
        // Promoted by whomever: the head then differs in its state only.
        let head = self.entry(slot).head();
        if head.phase() == Phase::Live && head.same_key(pending) {
            Inserted::Live { slot, evicted }
        } else {
            Inserted::Again { evicted }
        }
    }

    /// Takes an entry into our hands; whether it held information.
    fn claim(self, now: u64) -> Option<(usize, Head, bool)> {
        // Each failure means that somebody else took or charged the entry: the groups have changed, look again.
        for _ in 0..4 * GROUP {
            let (rank, slot, head) = match self.vacancy() {
                Some((slot, head)) => (Rank::Empty, slot, head),
                None => self.slots().filter_map(|slot| self.rank(slot, now)).min_by_key(|of| of.0)?,
            };
            let entry = self.entry(slot);
            let Some(claimed) = entry.claim(head) else { continue };
            // An admission changes the arrival time, then checks the head; we have changed the head and check the arrival time.
            // One of the two sees the other (SeqCst): it comes back and finds the key missing, or we keep its entry.
            if rank != Rank::Empty && Self::weigh(entry, now) != rank {
                self.give_back(slot, head, claimed);
                continue;
            }
            return Some((slot, claimed, rank > Rank::Idle));
        }
        None
    }

    /// An empty entry: of the first group while that is not crowded, else of the emptier one.
    fn vacancy(self) -> Option<(usize, Head)> {
        let look = |first: usize| {
            let (mut vacant, mut empty) = (None, 0);
            for slot in self.slots_from(first) {
                let head = self.entry(slot).head();
                if head.phase() == Phase::Empty {
                    empty += 1;
                    vacant = vacant.or(Some((slot, head)));
                }
            }
            (vacant, empty)
        };
        let [first, second] = self.place.both();
        let one = look(first);
        if one.0.is_some() && self.len - one.1 < CROWDED {
            return one.0;
        }
        let two = look(second);
        if two.1 > one.1 { two.0 } else { one.0 }
    }

    fn rank(self, slot: usize, now: u64) -> Option<(Rank, usize, Head)> {
        let entry = self.entry(slot);
        let head = entry.head();
        let rank = match head.phase() {
            Phase::Empty => Rank::Empty,
            Phase::Live => Self::weigh(entry, now),
            Phase::Claimed | Phase::Pending => return None,
        };
        Some((rank, slot, head))
    }

    /// What it would cost to give up what an entry holds.
    fn weigh(entry: Entry<'_>, now: u64) -> Rank {
        match (entry.tat(), entry.debt()) {
            (tat, 0) if tat <= now => Rank::Idle,
            (tat, 0) => Rank::Busy(tat),
            (tat, _) => Rank::Indebted(tat),
        }
    }

    /// Empties the entry at `slot`, around which this was made, if it is idle; whether it was.
    pub(super) fn sweep(self, slot: usize, now: u64) -> bool {
        let Some((Rank::Idle, _, head)) = self.rank(slot, now) else { return false };
        // Another key's by now: these are not its groups.
        if head.tag() != self.place.tag {
            return false;
        }
        let entry = self.entry(slot);
        let Some(claimed) = entry.claim(head) else { return false };
        if Self::weigh(entry, now) == Rank::Idle {
            entry.release(claimed);
            return true;
        }
        self.give_back(slot, head, claimed);
        false
    }

    /// Settles an insert at `slot`, around which this was made, that may have been abandoned.
    pub(super) fn finish(self, slot: usize) {
        let entry = self.entry(slot);
        let head = entry.head();
        if head.phase() == Phase::Pending
            && head.tag() == self.place.tag
            && let Some(key) = entry.key(head)
            && entry.is_still(head)
        {
            self.settle(slot, head, &key);
        }
    }

    /// Publishes a claimed entry as it was.
    fn give_back(self, slot: usize, before: Head, claimed: Head) {
        let entry = self.entry(slot);
        match entry.key(before) {
            Some(key) => {
                let pending = entry.republish(Entry::renamed(claimed, before));
                self.settle(slot, pending, &key);
            }
            // Not reached: it was live.
            None => entry.release(claimed),
        }
    }

    /// The second look for the pending entry at `slot`: makes it live, or aborts it; see the module's head.
    fn settle(self, mut slot: usize, mut pending: Head, key: &LimitKey) {
        'look: loop {
            loom_fence();
            for other in self.slots() {
                if other == slot {
                    continue;
                }
                let entry = self.entry(other);
                let head = entry.head();
                if !matches!(head.phase(), Phase::Live | Phase::Pending)
                    || !entry.names(head, key, pending.tag())
                {
                    continue;
                }
                if !entry.is_still(head) {
                    continue 'look;
                }
                if head.phase() == Phase::Live {
                    self.entry(slot).empty(pending);
                    return;
                }
                if other > slot {
                    if !entry.empty(head) {
                        continue 'look;
                    }
                } else {
                    self.entry(slot).empty(pending);
                    (slot, pending) = (other, head);
                    continue 'look;
                }
            }
            self.entry(slot).promote(pending);
            return;
        }
    }
}

/// How gladly an entry is given up: the lower the sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Empty,
    Idle,
    /// Its arrival time.
    Busy(u64),
    /// Its arrival time; the debt would be lost.
    Indebted(u64),
}

#[cfg(test)]
mod tests;
