//! What may be done to an entry that was found: charge it, refund it, apply a row to it, tell of it.
//!
//! Each act changes the arrival time by one compare-and-swap, and then makes sure that the entry was not taken away meanwhile; if it
//! was, the answer is `None`, and the act has not happened.

use super::bucket::{Idle, Terms, Verdict, View};
use super::entry::{Entry, Head, Missed, Phase};
use super::key::LimitKey;
use crate::words::Pairs;

/// A live entry that was found, and the head under which it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'r> {
    pub(super) entry: Entry<'r>,
    pub(super) slot: usize,
    pub(super) head: Head,
}

/// What a charge came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charged {
    pub(super) verdict: Verdict,
    /// The arrival time afterwards.
    pub(super) tat: u64,
    /// Whether the entry has changed, and must be marked dirty.
    pub(super) changed: bool,
}

impl Charged {
    pub(super) const fn unchanged(verdict: Verdict, tat: u64) -> Self {
        Self { verdict, tat, changed: false }
    }
}

impl Found<'_> {
    #[inline]
    fn is_still_there(&self) -> bool {
        self.entry.is_still(self.head)
    }

    /// Judges a request, and charges it if it is admitted. A denied one writes nothing.
    pub(super) fn charge(&self, pairs: Option<Pairs>, terms: &Terms, now: u64, cost: u64) -> Option<Charged> {
        loop {
            match self.try_charge(pairs, terms, now, cost) {
                Ok(charged) => return Some(charged),
                Err(Missed::Changed) => {}
                Err(Missed::Gone) => return None,
            }
        }
    }

    /// The same, unless somebody else changes the entry at this moment.
    #[inline]
    pub(super) fn try_charge(
        &self,
        pairs: Option<Pairs>,
        terms: &Terms,
        now: u64,
        cost: u64,
    ) -> Result<Charged, Missed> {
        let before = self.entry.tat();
        if !self.is_still_there() {
            return Err(Missed::Gone);
        }
        let verdict = terms.judge(before, now, cost);
        let Verdict::Admitted { tat, work, .. } = verdict else {
            return Ok(Charged::unchanged(verdict, before));
        };
        if cost == 0 {
            return Ok(Charged::unchanged(verdict, before));
        }
        self.entry.admit(pairs, before, tat, terms.admitted(work), || self.is_still_there())?;
        if before < now {
            self.entry.was_idle(Idle { start: before, end: now });
        }
        Ok(Charged { verdict, tat, changed: true })
    }

    /// Takes back work, as much of it as there is. Answers the arrival time afterwards, and whether it has changed.
    pub(super) fn refund(&self, terms: &Terms, now: u64, cost: u64) -> Option<(u64, bool)> {
        loop {
            let before = self.entry.tat();
            let work = terms.refund(before, now, cost);
            if !self.is_still_there() {
                return None;
            }
            if work == 0 {
                return Some((before, false));
            }
            if self.entry.move_tat(before, before - work) {
                if !self.is_still_there() {
                    return None;
                }
                // A snapshot taken before this has the refund in the state, and it is published as well: the price of two words that are not changed at once.
                self.entry.add_debt(-work.cast_signed());
                return Some((before - work, true));
            }
        }
    }

    /// Applies what a row says; whether that changed anything. For one applier at a time.
    pub(super) fn apply(&self, change: impl Fn(View) -> View) -> Option<bool> {
        loop {
            let before = self.entry.view();
            let after = change(before);
            if !self.is_still_there() {
                return None;
            }
            if after == before {
                return Some(false);
            }
            self.entry.set_foreign();
            if after.tat != before.tat && !self.entry.move_tat(before.tat, after.tat) {
                continue;
            }
            self.entry.change_idle(before.idle, after.idle);
            return self.is_still_there().then_some(true);
        }
    }
}

/// What one entry says to other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) key: LimitKey,
    /// The arrival time, none of the work in it that was admitted after `debt` was read; while others are admitting it may be less.
    pub(super) tat: u64,
    pub(super) debt: i64,
}

impl Snapshot {
    /// Of a live entry; `None` if it is not, or changed hands while we read.
    pub(super) fn of(entry: Entry<'_>) -> Option<Self> {
        let head = entry.head();
        if head.phase() != Phase::Live {
            return None;
        }
        let key = entry.key(head)?;
        loop {
            let debt = entry.debt();
            let tat = entry.tat();
            // A refund in between may be in the one and not in the other; the next reading has both.
            if let Ok(later) = u64::try_from(entry.debt().wrapping_sub(debt)) {
                let tat = tat.saturating_sub(later);
                return entry.is_still(head).then_some(Self { key, tat, debt });
            }
        }
    }

    /// The arrival time without unpublished work, and with what was refunded and that is not published: either follows.
    pub(super) fn published_tat(&self) -> u64 {
        self.tat.saturating_sub_signed(self.debt)
    }
}
