//! Checks of request limits beside governor, whose keys live in a dashmap.
//!
//! The zone is told the time, governor reads its clock: that is their APIs. Its keys are `[u8; 16]`, since it takes no borrowed
//! ones; the zone takes keys of any length.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use benches::{key, limit_zone_size};
use foldhash::fast::RandomState;
use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use sync_store::{Check, Delay, LimitZone, Rate, Replica, Time};

use crate::START;
use crate::operations::Distribution;
use crate::rounds::{Contender, Lab, Worker};

const KEYS: u32 = 100_000;
/// Requests per second of a key: more than all threads do together on all keys, so that every check is admitted and writes.
/// As many may come early, which is governor's default: threads do not agree on the time.
const HIGH: u32 = 100_000_000;
/// Between two checks, as far as the zone is told.
const CHECK_TIME: Duration = Duration::from_nanos(100);
/// One request a day: after the first, none is admitted.
const DAY: Duration = Duration::from_secs(86_400);

struct Zone {
    zone: LimitZone,
    admits: bool,
    /// How far time has come; the next group goes on from there.
    reached: AtomicU64,
}

impl Zone {
    /// Of twice the rated size, so that it is not quite half full, like the index of the other zones: in a crowded group a check looks at several entries.
    fn new(keys: u32, rate: Rate, burst: u32, admits: bool) -> Self {
        let size = 2 * limit_zone_size(keys);
        let zone = LimitZone::builder("bench").size(size).rate(rate);
        let zone = zone.burst(u64::from(burst)).delay(Delay::Nodelay).build().expect("a zone");
        for index in 0..keys {
            zone.check(key(index), &Check::default(), START);
        }
        Self { zone, admits, reached: AtomicU64::new(START.as_nanos()) }
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.reached.load(Ordering::Relaxed))
    }
}

impl Contender for Zone {
    fn name(&self) -> &'static str {
        "sync-store"
    }

    /// Publishes, so that keys are dirty for the first time when a round charges them.
    fn prepare(&self) {
        while self.zone.dirty_count() > 0 {
            self.zone.publish(self.now(), &mut |_| true);
        }
    }

    fn worker(&self, _thread: usize) -> Worker<'_> {
        let mut now = self.now();
        Box::new(move |ops| {
            let mut admitted = 0;
            for &op in ops {
                now = now.saturating_add(CHECK_TIME);
                admitted += usize::from(self.zone.check(key(op), &Check::default(), now).is_admitted());
            }
            self.reached.fetch_max(now.as_nanos(), Ordering::Relaxed);
            assert_eq!(admitted, if self.admits { ops.len() } else { 0 });
            ops.len()
        })
    }
}

struct Governor {
    limiter: RateLimiter<[u8; 16], DashMapStateStore<[u8; 16], RandomState>, DefaultClock>,
    admits: bool,
}

impl Governor {
    fn new(keys: u32, quota: Quota, admits: bool) -> Self {
        let clock = DefaultClock::default();
        let limiter = RateLimiter::dashmap_with_clock_and_hasher(quota, clock, RandomState::default());
        for index in 0..keys {
            limiter.check_key(&key(index)).expect("the first is admitted");
        }
        Self { limiter, admits }
    }
}

impl Contender for Governor {
    fn name(&self) -> &'static str {
        "governor"
    }

    fn worker(&self, _thread: usize) -> Worker<'_> {
        Box::new(move |ops| {
            let admitted = ops.iter().filter(|&&op| self.limiter.check_key(&key(op)).is_ok()).count();
            assert_eq!(admitted, if self.admits { ops.len() } else { 0 });
            ops.len()
        })
    }
}

/// Every check admitted, on many keys; and every check refused, on one.
pub(crate) fn checks(lab: &mut Lab) {
    let group = |keys: Distribution, threads| format!("limit-check-{}-{threads}t", keys.name());
    let mut names = Distribution::ALL.into_iter().flat_map(|keys| [1, 2].map(|threads| group(keys, threads)));
    if names.any(|name| lab.wants(&name)) {
        let keys = KEYS.min(lab.scale.records);
        let zone = Zone::new(keys, Rate::per_second(u64::from(HIGH)).expect("a rate"), HIGH, true);
        let quota = Quota::per_second(NonZeroU32::new(HIGH).expect("not 0"));
        let governor = Governor::new(keys, quota, true);
        for distribution in Distribution::ALL {
            let sequences = distribution.sequences(lab.scale, keys, 2);
            for threads in [1, 2] {
                lab.group(&group(distribution, threads), &sequences[..threads], &[&zone, &governor]);
            }
        }
    }
    let zone = Zone::new(1, Rate::per_day(1).expect("a rate"), 0, false);
    let quota = Quota::with_period(DAY).expect("not 0").allow_burst(NonZeroU32::MIN);
    let governor = Governor::new(1, quota, false);
    let sequences = vec![vec![0; lab.scale.sequence]; 2];
    for threads in [1, 2] {
        let name = format!("limit-denied-one-{threads}t");
        lab.group(&name, &sequences[..threads], &[&zone, &governor]);
    }
}
