//! Offers the requests of a case to something that counts, and judges what it decides by a bucket that contains all that was really admitted.

use std::collections::VecDeque;
use std::time::Duration;

use super::case::Case;
use super::load::Load;

/// A refunded request is refunded so much later.
const REFUND: Duration = Duration::from_millis(20);

/// Something that decides for several nodes.
pub(super) trait Counter {
    /// Lets the time pass up to a moment.
    fn advance(&mut self, to: Duration) -> Result<(), String>;
    /// Whether a node admits a request.
    fn admit(&mut self, now: Duration, node: usize, cost: u64) -> bool;
    /// A node takes back an admitted request; answers how much work that was, nanoseconds.
    fn refund(&mut self, now: Duration, node: usize, cost: u64) -> u64;
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// How many requests were admitted, by cost, less refunds.
    pub admitted: f64,
    /// How many more than r·t + b + 1 were admitted in some time t, at most.
    pub over: f64,
    /// Requests refused although a bucket with all that was admitted until then had room.
    pub refused_early: u64,
    /// Of those, the ones for which it had had room for longer than a message takes.
    pub refused_wrongly: u64,
}

/// A leaky bucket, as an arrival time in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    pub(super) tat: u64,
}

impl Bucket {
    pub(super) fn backlog(self, now: u64) -> u64 {
        self.tat.saturating_sub(now)
    }

    pub(super) fn add(&mut self, now: u64, work: u64) {
        self.tat = self.tat.max(now) + work;
    }

    /// Adds the work if the bucket has room for it.
    pub(super) fn admit(&mut self, now: u64, work: u64, capacity: u64) -> bool {
        let has_room = self.backlog(now) + work <= capacity;
        if has_room {
            self.add(now, work);
        }
        has_room
    }

    /// Takes off the work, as far as it is there.
    pub(super) fn refund(&mut self, now: u64, work: u64) -> u64 {
        let refunded = work.min(self.backlog(now));
        self.tat -= refunded;
        refunded
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Runs a case.
pub(super) fn run(case: &Case, load: &Load, counter: &mut dyn Counter) -> Result<Tally, String> {
    let (interval, capacity) = (case.interval_ns(), case.capacity_ns());
    // The second hears of refunds as late as anybody does.
    let (mut truth, mut heard, mut tally) = (Bucket::default(), Bucket::default(), Tally::default());
    let mut refunds: VecDeque<(Duration, usize, u64)> = VecDeque::new();
    let mut unheard: VecDeque<(Duration, u64)> = VecDeque::new();
    for request in &load.0 {
        while let Some(&(at, node, cost)) = refunds.front().filter(|refund| refund.0 <= request.at) {
            refunds.pop_front();
            counter.advance(at)?;
            let refunded = counter.refund(at, node, cost);
            truth.refund(nanos(at), refunded);
            unheard.push_back((at + case.delta(), refunded));
            tally.admitted -= refunded as f64 / interval as f64;
        }
        while let Some(&(at, refunded)) = unheard.front().filter(|refund| refund.0 <= request.at) {
            unheard.pop_front();
            heard.refund(nanos(at), refunded);
        }
        let (now, work) = (nanos(request.at), request.cost * interval);
        counter.advance(request.at)?;
        if counter.admit(request.at, request.node, request.cost) {
            truth.add(now, work);
            heard.add(now, work);
            tally.admitted += request.cost as f64;
            let over = truth.backlog(now) as f64 - capacity as f64;
            tally.over = tally.over.max(over / interval as f64);
            if request.refunded {
                refunds.push_back((request.at + REFUND, request.node, request.cost));
            }
        } else if truth.backlog(now) + work <= capacity {
            tally.refused_early += 1;
            if heard.backlog(now) + work + nanos(case.delta()) <= capacity {
                tally.refused_wrongly += 1;
            }
        }
    }
    Ok(tally)
}
