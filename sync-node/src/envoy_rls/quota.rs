//! The quotas of one stream: what one Envoy may let through without asking.
//!
//! An assignment is an *allowance*: so many requests more, until the next assignment. The limit zone is charged for it when it is given, and what turns out not to have been used is
//! given back. So what all nodes agree on already, the bucket of the limit, divides the limit among all Envoys, and no node has to know of the Envoys of others. Who has used up
//! its allowance takes what has drained since somebody else last did, at random moments, ten times a second: in the long run Envoys that want more than there is get about
//! equal parts, and those that want less get most of it.
//!
//! The zone was charged, at any time, for what was reported as let through, `live` and `void`. What an Envoy lets through beyond its allowances (it has none yet, or uses the old one
//! while the next is on its way) is charged when it is reported.
//!
//! Envoy has no allowances, but buckets of tokens; one that gets a token a year is one. A bucket is full if it comes after something that is not a bucket, else Envoy fills it only as far as the
//! last was filled: so an allowance comes behind a refusal, which nobody sees, since both are carried out at once.

use super::rules::{Found, Measure, Rules};
use super::schema::{
    AbandonAction, Action, BlanketRule, BucketAction, BucketId, BucketQuotaUsage, QuotaAssignmentAction,
    RateLimitStrategy, Strategy, TokenBucket,
};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;
use sync_store::{Check, Delay, LimitZone, Outcome, Rate, Time};

/// Buckets of a stream; more of them are given no assignment.
pub(super) const BUCKETS_MAX: usize = 1024;
/// Keys of a bucket, and bytes of all of them with their values. With the number of buckets this bounds a stream to a mebibyte, and with [`STREAMS_MAX`] all of them.
const ENTRIES_MAX: usize = 8;
const ID_MAX: usize = 1024;
/// Streams of a door at a time; an Envoy has one for each filter.
pub(super) const STREAMS_MAX: usize = 64;
/// How long an Envoy goes by an assignment when it hears nothing more. Whole seconds: Envoy reads no others.
const LIFE: Duration = Duration::from_secs(10);
/// How old an assignment is when it is prolonged.
const RENEWAL: Duration = Duration::from_secs(4);
/// How long a bucket without requests is kept.
const IDLE: Duration = Duration::from_secs(60);
/// What stands for the time between two reports until there were two.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// The slowest that Envoy fills a bucket.
const YEAR: i64 = 365 * 86_400;
/// Of what is left of a limit, one in so many requests stands ready with each Envoy, so that not everything that comes of a sudden is refused.
const READY: u64 = 4;

/// What a bucket is named by.
type Id = BTreeMap<String, String>;

/// The buckets of one stream.
#[derive(Debug)]
pub(super) struct Quotas {
    zone: Arc<LimitZone>,
    buckets: BTreeMap<Id, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    terms: Terms,
    /// Requests of the allowance in force that are not known to be used.
    live: u64,
    /// The same of those before, which are worth nothing as soon as the next has arrived.
    void: u64,
    /// When `live` was last changed.
    changed: Time,
    /// Requests between the last two reports, let through or not, and the time between them.
    demand: u64,
    interval: Duration,
    reported: Option<Time>,
    /// The last report of any request.
    busy: Time,
    /// What was assigned, and when it was last said; `None`: nothing yet.
    assigned: Option<(Strategy, Time)>,
}

/// What a bucket may do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Terms {
    /// Everything; what passes is counted there.
    Open(Option<Limit>),
    Closed,
    Limited(Limit),
}

/// The limit of a bucket in the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limit {
    key: Vec<u8>,
    rate: Rate,
    requests: u32,
}

impl Terms {
    fn new(found: Option<Found<'_>>, is_dry_run: bool) -> Self {
        let Some(Found { limit, key }) = found else { return Self::Open(None) };
        let is_open = limit.is_shadow || is_dry_run;
        match limit.measure {
            Measure::Unlimited => Self::Open(None),
            Measure::Counted { rate: None, .. } if is_open => Self::Open(None),
            Measure::Counted { rate: None, .. } => Self::Closed,
            Measure::Counted { requests, rate: Some(rate), .. } => {
                let limit = Limit { key, rate, requests };
                if is_open { Self::Open(Some(limit)) } else { Self::Limited(limit) }
            }
        }
    }
}

impl Limit {
    fn check(&self, zone: &LimitZone, cost: i64, capacity: u64, now: Time) -> sync_store::Decision {
        let check = Check {
            cost,
            burst: Some(capacity - 1),
            delay: Some(Delay::Nodelay),
            rate: Some(self.rate),
            dry_run: None,
        };
        zone.check(&self.key, &check, now)
    }

    fn left(&self, zone: &LimitZone, now: Time) -> u64 {
        self.check(zone, 0, self.capacity(), now).remaining()
    }

    /// Charges so many requests, or as many as are left; answers how many.
    fn take(&self, zone: &LimitZone, wanted: u64, capacity: u64, now: Time) -> u64 {
        let left = self.check(zone, 0, capacity, now).remaining();
        let cost = wanted.min(left).min(u64::from(u32::MAX));
        if cost == 0 || self.check(zone, cost as i64, capacity, now).outcome != Outcome::Passed {
            // Somebody else was quicker.
            return 0;
        }
        cost
    }

    fn give_back(&self, zone: &LimitZone, requests: u64, now: Time) {
        if requests > 0 {
            self.check(zone, -i64::try_from(requests).unwrap_or(i64::MAX), self.capacity(), now);
        }
    }

    fn capacity(&self) -> u64 {
        u64::from(self.requests)
    }
}

impl Bucket {
    fn new(terms: Terms, now: Time) -> Self {
        Self {
            terms,
            live: 0,
            void: 0,
            changed: now,
            demand: 0,
            interval: FIRST_INTERVAL,
            reported: None,
            busy: now,
            assigned: None,
        }
    }

    /// Takes note of a report.
    fn report(&mut self, zone: &LimitZone, allowed: u64, denied: u64, now: Time) {
        let of_void = self.void.min(allowed);
        let of_live = self.live.min(allowed - of_void);
        let beyond = allowed - of_void - of_live;
        self.live -= of_live;
        match &self.terms {
            Terms::Open(None) | Terms::Closed => {}
            Terms::Open(Some(limit)) => _ = limit.take(zone, beyond, limit.capacity(), now),
            Terms::Limited(limit) => {
                limit.give_back(zone, self.void - of_void, now);
                // It has happened, so it is charged though the bucket be full; but a wrong report closes a limit for no more than one unit.
                limit.take(zone, beyond, 2 * limit.capacity(), now);
            }
        }
        self.void = 0;
        self.changed = now;
        self.demand = allowed.saturating_add(denied);
        self.interval = self.reported.map_or(FIRST_INTERVAL, |reported| now.saturating_sub(reported));
        self.reported = Some(now);
        if self.demand > 0 {
            self.busy = now;
        }
    }

    /// Gives back what is not used.
    fn close(&mut self, zone: &LimitZone, now: Time) {
        if let Terms::Limited(limit) = &self.terms {
            limit.give_back(zone, self.live + self.void, now);
        }
        (self.live, self.void) = (0, 0);
    }

    /// What it should have until the next report: twice what it used between the last two, or what stands ready.
    fn wanted(&self, left: u64) -> u64 {
        let ready = left.saturating_add(self.live + self.void).div_ceil(READY);
        self.demand.saturating_mul(2).max(ready).max(1)
    }

    /// Whether the allowance is used up, if requests come as they did.
    fn is_used_up(&self, now: Time) -> bool {
        let lasts = self.interval.as_nanos().saturating_mul(self.live.into());
        let spent = now.saturating_sub(self.changed).as_nanos().saturating_mul(self.demand.into());
        self.live == 0 || (self.demand > 0 && spent >= lasts)
    }

    /// A new assignment, if there is one to be made.
    fn assign(&mut self, zone: &LimitZone, is_short: bool, now: Time) -> Option<Strategy> {
        let strategy = match &self.terms {
            Terms::Open(_) => blanket(BlanketRule::AllowAll),
            Terms::Closed => blanket(BlanketRule::DenyAll),
            Terms::Limited(limit) => {
                let wanted = self.wanted(limit.left(zone, now));
                let allowance = if self.live > wanted {
                    self.void += self.live - wanted;
                    wanted
                } else if is_short {
                    // An Envoy that says nothing any more is not given more and more.
                    let more = wanted.saturating_sub(self.live + self.void);
                    let taken = limit.take(zone, more, limit.capacity(), now);
                    if taken > 0 {
                        self.void += self.live;
                    }
                    taken
                } else {
                    0
                };
                match u32::try_from(allowance).unwrap_or(u32::MAX) {
                    0 if self.assigned.is_some() => return None,
                    0 => blanket(BlanketRule::DenyAll),
                    allowance => {
                        (self.live, self.changed) = (allowance.into(), now);
                        Strategy::TokenBucket(TokenBucket {
                            max_tokens: allowance,
                            tokens_per_fill: Some(1),
                            fill_interval: Some(prost_types::Duration { seconds: YEAR, nanos: 0 }),
                        })
                    }
                }
            }
        };
        Some(strategy)
    }

    /// Says an assignment: a new one if there is, else the last one again if it is time to.
    fn say(&mut self, new: Option<Strategy>, id: &Id, now: Time, actions: &mut Vec<BucketAction>) {
        let strategy = match (new, &mut self.assigned) {
            (Some(new), assigned) => {
                if let Some((Strategy::TokenBucket(_), _)) = assigned {
                    actions.push(assignment(id, blanket(BlanketRule::DenyAll)));
                }
                *assigned = Some((new, now));
                new
            }
            (None, Some((last, said))) if now.saturating_sub(*said) >= RENEWAL => {
                *said = now;
                *last
            }
            (None, _) => return,
        };
        actions.push(assignment(id, strategy));
    }
}

fn blanket(rule: BlanketRule) -> Strategy {
    Strategy::BlanketRule(rule.into())
}

fn assignment(id: &Id, strategy: Strategy) -> BucketAction {
    let assignment = QuotaAssignmentAction {
        assignment_time_to_live: Some(prost_types::Duration { seconds: LIFE.as_secs() as i64, nanos: 0 }),
        rate_limit_strategy: Some(RateLimitStrategy { strategy: Some(strategy) }),
    };
    action(id, Action::QuotaAssignmentAction(assignment))
}

fn action(id: &Id, action: Action) -> BucketAction {
    BucketAction { bucket_id: Some(BucketId { bucket: id.clone() }), bucket_action: Some(action) }
}

impl Quotas {
    pub(super) const fn new(zone: Arc<LimitZone>) -> Self {
        Self { zone, buckets: BTreeMap::new() }
    }

    /// Takes note of what an Envoy says of one bucket, and adds what it shall do.
    pub(super) fn report(
        &mut self,
        rules: &Rules,
        domain: &str,
        usage: BucketQuotaUsage,
        now: Time,
        actions: &mut Vec<BucketAction>,
    ) {
        let Some(BucketId { bucket: id }) = usage.bucket_id else { return };
        let bytes: usize = id.iter().map(|(key, value)| key.len() + value.len()).sum();
        if !(1..=ENTRIES_MAX).contains(&id.len()) || bytes > ID_MAX {
            return;
        }
        let terms = Terms::new(rules.find_unordered(domain, &id), self.zone.is_dry_run());
        let is_full = self.buckets.len() >= BUCKETS_MAX;
        let mut entry = match self.buckets.entry(id) {
            Entry::Vacant(_) if is_full => return,
            Entry::Vacant(vacant) => vacant.insert_entry(Bucket::new(terms.clone(), now)),
            Entry::Occupied(occupied) => occupied,
        };
        let id = entry.key().clone();
        let bucket = entry.get_mut();
        bucket.report(&self.zone, usage.num_requests_allowed, usage.num_requests_denied, now);
        if now.saturating_sub(bucket.busy) >= IDLE {
            bucket.close(&self.zone, now);
            entry.remove();
            actions.push(action(&id, Action::AbandonAction(AbandonAction {})));
            return;
        }
        if bucket.terms != terms {
            bucket.close(&self.zone, now);
            (bucket.terms, bucket.assigned) = (terms, None);
        }
        let is_settled = bucket.assigned.is_some() && !matches!(bucket.terms, Terms::Limited(_));
        let is_short = bucket.live == 0 || bucket.live < bucket.demand;
        let new = if is_settled { None } else { bucket.assign(&self.zone, is_short, now) };
        bucket.say(new, &id, now, actions);
    }

    /// To be called about ten times a second, at random moments: adds what buckets shall do whose allowance is used up, and what is to be said again.
    pub(super) fn tick(&mut self, now: Time, actions: &mut Vec<BucketAction>) {
        for (id, bucket) in &mut self.buckets {
            let is_short = matches!(bucket.terms, Terms::Limited(_)) && bucket.is_used_up(now);
            let new = if is_short { bucket.assign(&self.zone, true, now) } else { None };
            bucket.say(new, id, now, actions);
        }
    }

    /// Gives back what is not known to be used: the Envoy is gone, or will report what it used after all on another stream.
    pub(super) fn close(&mut self, now: Time) {
        for bucket in self.buckets.values_mut() {
            bucket.close(&self.zone, now);
        }
        self.forget();
    }

    /// Leaves charged what is not known to be used.
    pub(super) fn forget(&mut self) {
        self.buckets.clear();
    }
}

#[cfg(test)]
mod tests;
