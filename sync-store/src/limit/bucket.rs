//! The arithmetic of a limit: no memory, no atomics, only numbers in nanoseconds.
//!
//! A leaky bucket is kept as one number, the *theoretical arrival time* (GCRA): when the work admitted so far will have drained. A
//! request costs the interval of the rate; it is admitted if the bucket then reaches no further into the future than the burst
//! allows. An arrival time in the past says nothing but "empty".
//!
//! # What is true, and what a node knows
//!
//! Were all requests of the cluster decided in one place, the arrival time would be X = max over τ of (τ + W(τ)), where W(τ) is the
//! work admitted at τ or later: the bucket has been busy without a break since the τ that gives the maximum. A [`View`] is one
//! node's estimate of X: `tat`, and `idle`, when the bucket was last seen empty.
//!
//! A peer publishes its *debt*, the work d it has admitted since it last did, and m, its own arrival time then. The work began at
//! u = m − d if the peer's bucket was empty; otherwise u lies later, but never after the row arrives, so u = min(m − d, now).
//! The row is an admission of d at u that we hear of late ([`View::add`]). Leaking from u on, it finds room where the bucket was
//! empty after u, and only what is left then adds to what has been admitted since:
//!
//! - our bucket was empty at u (tat ≤ u): the row begins a busy period, tat' = u + d, and the bucket was idle from tat to u;
//! - otherwise d fills the idle time after u, which is not idle any more; the rest is added, tat' = tat + rest.
//!
//! Were all idle times remembered, this would be the bucket H that decides about everything *heard of*, whenever it comes. One
//! is remembered, the last; work that an earlier one would have taken is added in full.
//!
//! **Never too much.** Every step adds at most d to max(tat, now), where `now` is when the row arrives. So tat ≤ τ + (work heard of
//! at τ or later) for some τ. What was heard of after τ was admitted after τ − Δ, where Δ is the longest time from admission to
//! arrival. Hence tat ≤ Δ + (τ − Δ) + W(τ − Δ) ≤ X + Δ: nobody is refused for work that did not happen, and for work that did no
//! longer than one message takes. Nothing accumulates, since Δ counts once, at the beginning of a busy period.
//!
//! **Never less than what was heard of**: tat ≥ H. What a view holds for idle, H has idle too. This stays so, for both fill from u
//! on: H, which has more to fill, is done with d no later than the view, so what is left of the view's is left of H's; and of
//! d at least as much goes into H's idle time, so at least as much is added to the view. So a node that admits misses of X only what
//! is in flight, and how much that can be bounds how far a cluster goes over the limit.
//!
//! **Why idle time is used up.** A rule that lets all time before the present busy period take what comes late, and not only the
//! idle part, and that once, is wrong without bound: a bucket that runs empty between two rows, because they are late, forgets a
//! part of each of them.
//!
//! **Why not the maximum with m in the stream.** It is tempting: m is what the peer knows, and it would heal every loss. But m holds
//! the work of third nodes, whose own rows may come after it: that work would be counted twice, the error would travel on with
//! our own m, and an overloaded key would be refused far below its rate. The maximum ([`View::merge`]) is for catch-up, where there
//! are no debts. There the same may happen once, to the node that joins and to no other: it counts twice what was on its way to it
//! from a third node when it received a state that contained it.
//!
//! **Refunds** are negative debts. A node refunds at most what it sees in the bucket, so that no credit arises: before it took off r, its arrival time was m + r.
//! Whoever had heard of all that this node had would have been busy until then. If its busy period began at e, later than m + r, what was refunded has drained there, and
//! it takes off nothing. If e lies before that, some of that work has yet to arrive, and will be added in full although the true bucket was empty at m; so it takes off what is left of the
//! refund at e, r − (e − m), or all of it if e ≤ m.

/// The most work a bucket holds, 292 years: debts are signed, and must not overflow.
pub(super) const CAPACITY_MAX: u64 = i64::MAX.unsigned_abs();

/// By what terms a request is judged, multiplied out: nothing is left to be computed that does not depend on the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// What a request is charged: the interval of the rate, or so many times that as there are members. At least 1.
    pub(super) interval_ns: u64,
    /// How far the arrival time may lie in the future.
    pub(super) capacity_ns: u64,
    /// How much of that need not be waited for.
    pub(super) free_ns: u64,
    /// How many times a request is charged: once, or in a strict zone once for each member. At least 1.
    pub(super) members: u64,
}

/// The judgement on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Admitted: the new arrival time, the work that is charged, and how long the request shall wait.
    Admitted { tat: u64, work: u64, wait_ns: u64 },
    /// Not admitted: how long until it would be; `None` if its cost is more than the bucket holds.
    Denied { retry_ns: Option<u64> },
}

impl Terms {
    /// `burst` requests may come before their time, `free` of which need not wait; `None`: none needs to.
    pub(super) fn new(interval_ns: u64, burst: u64, free: Option<u64>) -> Self {
        Self {
            interval_ns,
            capacity_ns: burst.saturating_add(1).saturating_mul(interval_ns).min(CAPACITY_MAX),
            free_ns: free.map_or(u64::MAX, |requests| requests.saturating_mul(interval_ns)),
            members: 1,
        }
    }

    /// The same, where every request is charged `members` times.
    pub(super) const fn divided(self, members: u64) -> Self {
        Self { interval_ns: self.interval_ns.saturating_mul(members), members, ..self }
    }

    /// How much of the work that a bucket was charged was really admitted.
    #[inline]
    pub(super) const fn admitted(&self, work: u64) -> u64 {
        if self.members == 1 { work } else { work / self.members }
    }

    /// What `cost` requests cost.
    #[inline]
    pub(super) const fn work(&self, cost: u64) -> u64 {
        cost.saturating_mul(self.interval_ns)
    }

    /// Judges a request of `cost` when the arrival time is `tat`.
    #[inline]
    pub(super) fn judge(&self, tat: u64, now: u64, cost: u64) -> Verdict {
        let (capacity, work) = (self.capacity_ns, self.work(cost));
        let base = tat.max(now);
        let backlog = base - now;
        // The year 2554 is as far as arrival times go; whoever gets there is not admitted any more.
        let reached = base.checked_add(work);
        if let (Some(room), Some(tat)) = (capacity.checked_sub(backlog), reached)
            && work <= room
        {
            return Verdict::Admitted { tat, work, wait_ns: backlog.saturating_sub(self.free_ns) };
        }
        let retry_ns = (work <= capacity).then(|| backlog.saturating_sub(capacity - work));
        Verdict::Denied { retry_ns }
    }

    /// How much work a refund of `cost` takes back: never more than there is in the bucket, and once, however often it was charged.
    pub(super) fn refund(&self, tat: u64, now: u64, cost: u64) -> u64 {
        self.admitted(self.work(cost)).min(tat.saturating_sub(now)).min(CAPACITY_MAX)
    }
}

/// For how long after a bucket has run empty its entry is kept: rows that come late may still find it.
pub(super) const LATE_MAX_NS: u64 = 250_000_000;

/// A time in which a bucket was empty. Exact to the nanosecond: whoever rounds comes to another arrival time than the node that admitted first, and zones
/// would never be equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Idle {
    pub(super) start: u64,
    /// No later than the start: none.
    pub(super) end: u64,
}

impl Idle {
    #[inline]
    pub(super) const fn is_none(self) -> bool {
        self.end <= self.start
    }

    /// Lets work leak from `began` on as long as the bucket was idle. Answers what is left of the idle time, the later part if there are two,
    /// and how much work it took.
    fn fill(self, began: u64, work: u64) -> (Self, u64) {
        let start = began.max(self.start);
        let room = self.end.saturating_sub(start);
        match room {
            0 => (self, 0),
            _ if work < room => (Self { start: start + work, ..self }, work),
            _ => (Self { end: start, ..self }, room),
        }
    }
}

/// What a node knows of the bucket of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// The arrival time; 0 before all others.
    pub(super) tat: u64,
    /// When the bucket was last idle, before the busy period that `tat` tells of.
    pub(super) idle: Idle,
}

impl View {
    /// Adds a row of the stream: `debt` nanoseconds of work after which the sender's arrival time was `tat`.
    pub(super) fn add(self, now: u64, tat: u64, debt: i64) -> Self {
        let work = debt.unsigned_abs();
        if debt < 0 {
            // What had drained of it when this busy period began.
            let drained = if self.idle.is_none() { 0 } else { self.idle.end.saturating_sub(tat) };
            return Self { tat: self.tat.saturating_sub(work.saturating_sub(drained)), ..self };
        }
        let began = tat.saturating_sub(work).min(now);
        if self.tat <= began {
            let idle = Idle { start: self.tat, end: began };
            let idle = if idle.is_none() { self.idle } else { idle };
            return Self { tat: began.saturating_add(work), idle };
        }
        let (idle, leaked) = self.idle.fill(began, work);
        // After a refund the bucket may be emptier than its busy period was long.
        Self { tat: self.tat.saturating_add(work - leaked).max(began.saturating_add(work)), idle }
    }

    /// Merges a full state by maximum.
    ///
    /// When the bucket was idle is not told. The cautious guess is until now: of older rows that come late, which the state may
    /// contain, less is added.
    pub(super) fn merge(self, now: u64, tat: u64) -> Self {
        if tat <= self.tat { self } else { Self { tat, idle: Idle { start: 0, end: now.min(tat) } } }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
