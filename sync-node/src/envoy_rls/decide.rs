//! From a request to its answer: all descriptors are decided together.
//!
//! A rule of n requests a unit is a bucket that holds n and drains by n a unit: the whole of it may come at once, and nothing resets at the turn of a unit. If one descriptor is over
//! its limit nothing is charged to the others. There is no lock over several keys; instead those that are likely to refuse are asked first, and what was charged before a later one
//! refused all the same, because another request came in between, is given back.

use super::headers::{Form, headers};
use super::rules::{Found, Limit, Measure, Rules};
use super::schema::{
    Code, DescriptorStatus, RateLimit, RateLimitDescriptor, RateLimitRequest, RateLimitResponse,
};
use std::collections::HashSet;
use std::time::Duration;
use sync_store::{Check, Decision, Delay, LimitZone, Outcome, Rate, Time};

/// Descriptors of a request; Envoy's have a handful.
pub(super) const DESCRIPTORS_MAX: usize = 256;

/// Decides about a request, and charges it if it passes.
///
/// # Errors
///
/// What is wrong with the request.
pub(super) fn decide(
    rules: &Rules,
    zone: &LimitZone,
    request: &RateLimitRequest,
    forms: &[Form],
    now: Time,
) -> Result<RateLimitResponse, String> {
    if request.domain.is_empty() {
        return Err("the domain is empty; Envoy's filter names one in `domain`".to_owned());
    }
    let count = request.descriptors.len();
    if !(1..=DESCRIPTORS_MAX).contains(&count) {
        return Err(format!("there are {count} descriptors; from 1 to {DESCRIPTORS_MAX} are possible"));
    }
    let found: Vec<Option<Found<'_>>> = request
        .descriptors
        .iter()
        .map(|descriptor| rules.find(&request.domain, descriptor))
        .collect::<Result<_, _>>()?;
    let replaced: HashSet<&str> =
        found.iter().flatten().flat_map(|found| &found.limit.replaces).map(String::as_str).collect();
    let mut asked: Vec<Asked<'_>> = Vec::with_capacity(count);
    for (descriptor, found) in request.descriptors.iter().zip(&found) {
        let found = found.as_ref().filter(|found| {
            // A limit does not replace itself, whatever it says.
            let own = found.limit.replaces.contains(&found.limit.name);
            !replaced.contains(found.limit.name.as_str()) || own
        });
        asked.push(Asked::new(found, cost(descriptor, request.hits_addend)));
    }
    let is_over = charge(&mut asked, zone, now);
    let statuses: Vec<DescriptorStatus> = asked.iter().map(|asked| asked.status(zone, now)).collect();
    Ok(RateLimitResponse {
        overall_code: if is_over { Code::OverLimit } else { Code::Ok }.into(),
        response_headers_to_add: headers(&statuses, forms),
        statuses,
    })
}

/// How many requests a descriptor counts for; negative to give back.
fn cost(descriptor: &RateLimitDescriptor, of_request: u32) -> i64 {
    let hits = descriptor.hits_addend.unwrap_or_else(|| u64::from(of_request.max(1)));
    let cost = i64::try_from(hits).unwrap_or(i64::MAX);
    if descriptor.is_negative_hits { -cost } else { cost }
}

/// A descriptor, and how far the decision about it has come.
struct Asked<'r> {
    /// Its limit, if one is in force.
    limit: Option<&'r Limit>,
    /// What is counted: key, rate and burst.
    bucket: Option<(&'r [u8], Rate, u64)>,
    cost: i64,
    decision: Option<Decision>,
}

impl<'r> Asked<'r> {
    fn new(found: Option<&'r Found<'r>>, cost: i64) -> Self {
        let limit = found.map(|found| &*found.limit);
        let bucket = found.and_then(|found| match found.limit.measure {
            Measure::Counted { requests, rate: Some(rate), .. } => {
                Some((&*found.key, rate, u64::from(requests) - 1))
            }
            Measure::Counted { rate: None, .. } | Measure::Unlimited => None,
        });
        Self { limit, bucket, cost, decision: None }
    }

    /// Asks the zone. A limit in shadow mode lets everything pass, and counts what it would have let pass.
    fn check(&self, zone: &LimitZone, now: Time, cost: i64) -> Option<Decision> {
        let (key, rate, burst) = self.bucket?;
        let dry_run = self.limit.is_some_and(|limit| limit.is_shadow).then_some(true);
        let check =
            Check { cost, burst: Some(burst), delay: Some(Delay::Nodelay), rate: Some(rate), dry_run };
        Some(zone.check(key, &check, now))
    }

    /// Whether the limit admits nothing at all, and this is not nothing.
    fn is_closed(&self) -> bool {
        let closed = |limit: &Limit| matches!(limit.measure, Measure::Counted { rate: None, .. });
        self.cost > 0 && self.limit.is_some_and(closed)
    }

    fn is_shadow(&self) -> bool {
        self.limit.is_some_and(|limit| limit.is_shadow)
    }

    /// Whether it would probably be refused.
    fn is_doubtful(&self, zone: &LimitZone, now: Time) -> bool {
        let left = || self.check(zone, now, 0).map_or(u64::MAX, |decision| decision.remaining());
        self.cost > 0 && left() < self.cost.unsigned_abs()
    }

    fn status(&self, zone: &LimitZone, now: Time) -> DescriptorStatus {
        let Some(limit) = self.limit else {
            return DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() };
        };
        let Measure::Counted { requests, unit, .. } = limit.measure else {
            return DescriptorStatus {
                code: Code::Ok.into(),
                limit_remaining: u32::MAX,
                ..DescriptorStatus::default()
            };
        };
        let current_limit =
            Some(RateLimit { name: limit.name.clone(), requests_per_unit: requests, unit: unit.into() });
        // Of one that was not asked, because another refused, or not charged: as it is.
        let Some(decision) = self.decision.or_else(|| self.check(zone, now, 0)) else {
            let code = if self.is_closed() && !self.is_shadow() { Code::OverLimit } else { Code::Ok };
            return DescriptorStatus { code: code.into(), current_limit, ..DescriptorStatus::default() };
        };
        let is_over = match self.decision {
            Some(decision) => decision.outcome == Outcome::Rejected,
            None => !self.is_shadow() && self.cost > 0 && decision.remaining() < self.cost.unsigned_abs(),
        };
        let until = decision.retry_after().unwrap_or_else(|| decision.reset());
        DescriptorStatus {
            code: if is_over { Code::OverLimit } else { Code::Ok }.into(),
            current_limit,
            limit_remaining: u32::try_from(decision.remaining()).unwrap_or(u32::MAX),
            duration_until_reset: Some(seconds_up(until)),
        }
    }
}

/// Charges all, or none if one refuses. Whether one does.
fn charge(asked: &mut [Asked<'_>], zone: &LimitZone, now: Time) -> bool {
    let is_closed = asked.iter().any(|asked| asked.is_closed() && !asked.is_shadow());
    if is_closed {
        return true;
    }
    let mut order: Vec<usize> = (0..asked.len()).collect();
    if asked.len() > 1 {
        // The doubtful first, what gives back last: then it need not be taken again.
        order.sort_by_cached_key(|&at| (asked[at].cost < 0, !asked[at].is_doubtful(zone, now)));
    }
    for (done, &at) in order.iter().enumerate() {
        let decision = asked[at].check(zone, now, asked[at].cost);
        asked[at].decision = decision;
        if decision.is_some_and(|decision| decision.outcome == Outcome::Rejected) {
            for &before in &order[..done] {
                give_back(&mut asked[before], zone, now);
            }
            return true;
        }
    }
    false
}

/// Undoes what a descriptor was charged.
fn give_back(asked: &mut Asked<'_>, zone: &LimitZone, now: Time) {
    let was_charged = asked.decision.take().is_some_and(|decision| decision.outcome == Outcome::Passed);
    if asked.cost > 0 && was_charged {
        asked.check(zone, now, -asked.cost);
    }
}

/// In whole seconds, up: Envoy puts them into headers, without what is behind the point.
fn seconds_up(time: Duration) -> prost_types::Duration {
    let seconds = time.as_nanos().div_ceil(1_000_000_000);
    prost_types::Duration { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 }
}

#[cfg(test)]
mod tests;
