//! Lookups of sessions, each of which is an access: 32-byte sessions, 20-byte servers.
//!
//! The zone records an access only if it is 1/64 of the time-out later than the recorded one. So that this happens as often as in
//! a busy proxy, sessions begin with recorded accesses spread over that span, and time moves with the lookups such that one lookup in a
//! hundred records: a session is looked up every RECORDS lookups, a recorded access stands for 1/64 of the time-out and the wait for
//! the next lookup, and the first of these is 99 times the second. (With Zipf keys fewer record: frequent ones are looked up more often
//! in the same span.)
//!
//! moka keeps an idle time, too (`time_to_idle`), and records every access; quick_cache has no notion of time and never forgets
//! an idle session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use benches::{SERVER, session, session_zone_size};
use foldhash::fast::RandomState;
use moka::sync::Cache as Moka;
use sync_store::{Replica, StickyZone, Time};

use crate::START;
use crate::operations::Distribution;
use crate::peers::{MokaCache, Quick, quick_cache, room};
use crate::rounds::{Contender, Lab, Worker};

const TIMEOUT: Duration = Duration::from_secs(600);
/// An access that is so much later than the recorded one is recorded.
const RECORD_AFTER: Duration = Duration::from_nanos(TIMEOUT.as_nanos() as u64 / 64);
/// Lookups of a session for each one that records.
const LOOKUPS_PER_RECORDED: u32 = 100;

struct Zone {
    zone: StickyZone,
    /// Between two lookups of all threads together.
    lookup_time: Duration,
    /// How far time has come; the next group goes on from there.
    reached: AtomicU64,
}

impl Zone {
    fn new(sessions: u32) -> Self {
        let size = session_zone_size(sessions);
        let zone = StickyZone::builder("bench").size(size).timeout(TIMEOUT).build().expect("a zone");
        for index in 0..sessions {
            // In the order of keys, which lookups do not follow.
            let learned = START.saturating_add(RECORD_AFTER.mul_f64(f64::from(index) / f64::from(sessions)));
            zone.learn(session(index), SERVER, learned).expect("room");
        }
        while zone.dirty_count() > 0 {
            zone.publish(START.saturating_add(RECORD_AFTER), &mut |_| true);
        }
        let reached = AtomicU64::new(START.saturating_add(RECORD_AFTER).as_nanos());
        Self { zone, lookup_time: RECORD_AFTER / (LOOKUPS_PER_RECORDED - 1) / sessions, reached }
    }
}

/// A zone as a number of threads sees it: the more of them, the less time from one thread's lookup to its next.
struct Shared<'a> {
    zone: &'a Zone,
    threads: u32,
}

impl Contender for Shared<'_> {
    fn name(&self) -> &'static str {
        "sync-store"
    }

    fn worker(&self, _thread: usize) -> Worker<'_> {
        let Zone { zone, lookup_time, reached } = self.zone;
        let step = *lookup_time * self.threads;
        let mut now = Time::from_nanos(reached.load(Ordering::Relaxed));
        let mut server = Vec::with_capacity(SERVER.len());
        Box::new(move |ops| {
            let mut found = 0;
            for &op in ops {
                now = now.saturating_add(step);
                found += usize::from(zone.lookup_into(session(op), now, &mut server));
            }
            reached.fetch_max(now.as_nanos(), Ordering::Relaxed);
            assert_eq!(found, ops.len());
            ops.len()
        })
    }
}

struct Cache<C>(&'static str, C);

impl<C: Get> Contender for Cache<C> {
    fn name(&self) -> &'static str {
        self.0
    }

    fn worker(&self, _thread: usize) -> Worker<'_> {
        let mut server = Vec::with_capacity(SERVER.len());
        Box::new(move |ops| {
            let mut found = 0;
            for &op in ops {
                if let Some(value) = self.1.look_up(&session(op)) {
                    server.clear();
                    server.extend_from_slice(&value);
                    found += 1;
                }
            }
            assert_eq!(found, ops.len());
            ops.len()
        })
    }
}

trait Get: Sync {
    fn look_up(&self, session: &[u8]) -> Option<Arc<[u8]>>;
}

impl Get for MokaCache {
    fn look_up(&self, session: &[u8]) -> Option<Arc<[u8]>> {
        self.get(session)
    }
}

impl Get for Quick {
    fn look_up(&self, session: &[u8]) -> Option<Arc<[u8]>> {
        self.get(session)
    }
}

pub(crate) fn lookups(lab: &mut Lab) {
    let group = |keys: Distribution, threads| format!("sticky-lookup-{}-{threads}t", keys.name());
    let mut names = Distribution::ALL.into_iter().flat_map(|keys| [1, 2].map(|threads| group(keys, threads)));
    if !names.any(|name| lab.wants(&name)) {
        return;
    }
    let sessions = lab.scale.records;
    let zone = Zone::new(sessions);
    let moka = Moka::builder().max_capacity(room(sessions)).time_to_idle(TIMEOUT);
    let moka = Cache("moka", moka.build_with_hasher(RandomState::default()));
    let quick = Cache("quick_cache", quick_cache(sessions));
    for index in 0..sessions {
        moka.1.insert(session(index).into(), Arc::from(&SERVER[..]));
        quick.1.insert(session(index).into(), Arc::from(&SERVER[..]));
    }
    for distribution in Distribution::ALL {
        let sequences = distribution.sequences(lab.scale, sessions, 2);
        for threads in [1_u32, 2] {
            let shared = Shared { zone: &zone, threads };
            let sequences = &sequences[..threads as usize];
            lab.group(&group(distribution, threads), sequences, &[&shared, &moka, &quick]);
        }
    }
}
