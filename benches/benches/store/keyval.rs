//! Reading and updating records: 16-byte keys, 32-byte values and larger ones, copied out into the caller's buffer.
//!
//! A set is an update of a record that is there.

use std::time::Duration;

use benches::{key, zone_size};
use moka::sync::Cache as Moka;
use sync_store::{KeyvalZone, Time};

use crate::START;
use crate::operations::{Distribution, WRITE, with_writes};
use crate::peers::{Dashmap, MokaCache, Papaya, Scc, SccInline, quick_cache, room};
use crate::rounds::{Contender, Lab, Worker};

/// Operations in one turn of an event loop: what a proxy does between two looks at its clock.
const TURN: usize = 128;
/// How long a turn takes, as far as the zone is told.
const TURN_TIME: Duration = Duration::from_micros(20);
const VALUE: usize = 32;
/// Bytes of values in the groups of larger ones.
const LARGE_BYTES: usize = 256 << 20;
/// Work and its percentage of writes, in the order in which it leaves the stores as the next work expects them.
const WORK: [(&str, u32); 3] = [("get", 0), ("mix90", 10), ("set", 100)];

/// A map, or a zone.
pub(crate) trait Store: Send + Sync {
    const NAME: &str;

    fn fill(&self, key: &[u8], value: &[u8]);

    /// Before a round.
    fn prepare(&self) {}

    /// Operations of one turn, by [`Turn::run`]. Answers how many of its reads found nothing.
    fn turn(&self, turn: Turn<'_>) -> usize;
}

/// Operations of one turn, and what they need.
pub(crate) struct Turn<'a> {
    pub(crate) now: Time,
    ops: &'a [u32],
    value: &'a [u8],
    buffer: &'a mut Vec<u8>,
}

impl Turn<'_> {
    #[inline(always)]
    pub(crate) fn run(self, get: impl Fn(&[u8], &mut Vec<u8>) -> bool, set: impl Fn(&[u8], &[u8])) -> usize {
        let mut missed = 0;
        for &op in self.ops {
            let key = key(op & !WRITE);
            if op & WRITE == 0 {
                missed += usize::from(!get(&key, self.buffer));
            } else {
                set(&key, self.value);
            }
        }
        missed
    }
}

struct Filled<S> {
    store: S,
    value_len: usize,
}

impl<S: Store> Filled<S> {
    fn new(store: S, records: u32, value_len: usize) -> Self {
        let value = vec![7; value_len];
        for index in 0..records {
            store.fill(&key(index), &value);
        }
        Self { store, value_len }
    }
}

impl<S: Store> Contender for Filled<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn prepare(&self) {
        self.store.prepare();
    }

    fn worker(&self, _thread: usize) -> Worker<'_> {
        let mut value = vec![0_u8; self.value_len];
        let mut buffer = Vec::with_capacity(self.value_len);
        let mut now = START;
        Box::new(move |ops| {
            let mut missed = 0;
            for ops in ops.chunks(TURN) {
                now = now.saturating_add(TURN_TIME);
                value[0] = value[0].wrapping_add(1);
                missed += self.store.turn(Turn { now, ops, value: &value, buffer: &mut buffer });
            }
            assert_eq!(missed, 0, "{} lost records", S::NAME);
            ops.len()
        })
    }
}

fn zone(records: u32, value_len: usize) -> KeyvalZone {
    let record_size = key(0).len() + value_len;
    let size = zone_size(records, record_size);
    KeyvalZone::builder("bench").size(size).record_size(record_size).build().expect("a zone")
}

/// 32-byte values: get, set, and nine gets to one set.
pub(crate) fn small(lab: &mut Lab) {
    let group = |work, keys: Distribution, threads| format!("keyval-{work}-{}-{threads}t", keys.name());
    let mut names = WORK.iter().flat_map(|&(work, _)| {
        Distribution::ALL.into_iter().flat_map(move |keys| [1, 2].map(|threads| group(work, keys, threads)))
    });
    if !names.any(|name| lab.wants(&name)) {
        return;
    }
    let records = lab.scale.records;
    let filled = Filled::new(zone(records, VALUE), records, VALUE);
    let papaya = Filled::new(Papaya::default(), records, VALUE);
    let dashmap = Filled::new(Dashmap::default(), records, VALUE);
    let scc = Filled::new(Scc::default(), records, VALUE);
    let moka: MokaCache = Moka::builder().max_capacity(room(records)).build_with_hasher(Default::default());
    let moka = Filled::new(moka, records, VALUE);
    let quick = Filled::new(quick_cache(records), records, VALUE);
    let inline = Filled::new(SccInline::default(), records, VALUE);
    for (work, writes) in WORK {
        for keys in Distribution::ALL {
            let sequences = with_writes(&keys.sequences(lab.scale, records, 2), writes);
            let mut contenders: Vec<&dyn Contender> = vec![&filled, &papaya, &dashmap, &scc, &moka, &quick];
            if keys == Distribution::Uniform {
                contenders.push(&inline);
            }
            for threads in [1, 2] {
                lab.group(&group(work, keys, threads), &sequences[..threads], &contenders);
            }
        }
    }
}

/// Larger values, about 256 MiB of them.
pub(crate) fn large(lab: &mut Lab) {
    for (size, value_len) in [("256b", 256), ("1k", 1 << 10), ("4k", 4 << 10)] {
        let group = |(work, threads)| format!("keyval-{work}-{size}-{threads}t");
        let groups = [("get", 1), ("get", 2), ("set", 1)];
        if !groups.into_iter().any(|it| lab.wants(&group(it))) {
            continue;
        }
        let records = u32::try_from(LARGE_BYTES / value_len).expect("fits").min(lab.scale.records);
        let filled = Filled::new(zone(records, value_len), records, value_len);
        let papaya = Filled::new(Papaya::default(), records, value_len);
        let dashmap = Filled::new(Dashmap::default(), records, value_len);
        let scc = Filled::new(Scc::default(), records, value_len);
        let reads = Distribution::Uniform.sequences(lab.scale, records, 2);
        let writes = with_writes(&reads, 100);
        for it @ (work, threads) in groups {
            let sequences = if work == "get" { &reads } else { &writes };
            lab.group(&group(it), &sequences[..threads], &[&filled, &papaya, &dashmap, &scc]);
        }
    }
}
