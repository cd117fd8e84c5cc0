//! What a record costs in memory: how much a process grows by a million of them.
//!
//! Each figure is that of a fresh child process, this program called again, since an allocator keeps what it once had. A zone has the
//! size that the library `benches` rates, and takes no more whatever it holds; the figure is what of it was touched.
//!
//! ```text
//! cargo bench -p benches --bench memory
//! ```

use std::hint::black_box;
use std::num::NonZeroU32;
use std::process::Command;
use std::sync::Arc;

use benches::{limit_zone_size, session_zone_size, zone_size};
use foldhash::fast::RandomState;
use governor::{Quota, RateLimiter};
use quick_cache::UnitWeighter;
use quick_cache::sync::DefaultLifecycle;
use sync_store::{Check, Expiry, KeyvalZone, LimitZone, Prefault, Rate, Region, StickyZone, Time};

const NOW: Time = Time::from_millis(1_700_000_000_000);
const RECORDS: u32 = 1_000_000;
/// `cargo test` only asks whether it runs.
const RECORDS_TEST: u32 = 1_000;

type Bytes = Box<[u8]>;

/// Bytes of key and value.
#[derive(Clone, Copy)]
struct Shape {
    what: &'static str,
    key: usize,
    value: usize,
}

const SHAPES: [Shape; 5] = [
    Shape { what: "keyval", key: 16, value: 8 },
    Shape { what: "keyval", key: 16, value: 32 },
    Shape { what: "keyval", key: 32, value: 256 },
    Shape { what: "sticky", key: 32, value: 20 },
    Shape { what: "limit", key: 16, value: 0 },
];

const MAPS: [&str; 6] = ["sync-store", "papaya", "dashmap", "scc", "moka", "quick_cache"];
const LIMITERS: [&str; 2] = ["sync-store", "governor"];

impl Shape {
    const fn contenders(self) -> &'static [&'static str] {
        if self.value == 0 { &LIMITERS } else { &MAPS }
    }

    fn key(self, index: u32) -> Vec<u8> {
        let mut key = vec![b'k'; self.key];
        key[..4].copy_from_slice(&index.to_be_bytes());
        key
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [child, shape, who, records] = &args[..]
        && child == "--child"
    {
        let shape = SHAPES[shape.parse::<usize>().expect("a number")];
        return println!("{}", grown(shape, who, records.parse().expect("a number")));
    }
    let records = if args.iter().any(|arg| arg == "--bench") { RECORDS } else { RECORDS_TEST };
    let program = std::env::current_exe().expect("this program");
    println!("Bytes of resident memory for each of {records} records.\n");
    println!("| zone | key + value | who | bytes | beside key and value |\n|---|---|---|--:|--:|");
    for (at, shape) in SHAPES.iter().enumerate() {
        for who in shape.contenders() {
            let mut child = Command::new(&program);
            child.args(["--child", &at.to_string(), who, &records.to_string()]);
            let output = child.output().expect("a child").stdout;
            let grown = String::from_utf8_lossy(&output).trim().parse::<f64>().expect("a figure");
            let bytes = grown / f64::from(records);
            let Shape { what, key, value } = shape;
            println!(
                "| {what} | {key} + {value} | {who} | {bytes:.0} | {:.0} |",
                bytes - (key + value) as f64
            );
        }
    }
}

/// Bytes of memory that this process has.
fn resident() -> usize {
    // The second number of statm; pages have 4 KiB on every machine that this runs on.
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split(' ').nth(1).expect("pages").parse().expect("a number");
    pages * 4096
}

/// A zone is as large as it was made; what it has not touched yet counts, too.
fn all() -> Region {
    Region::anonymous().prefault(Prefault::First)
}

fn grown(shape: Shape, who: &str, records: u32) -> usize {
    match (shape.what, who) {
        ("sticky", "sync-store") => {
            let size = session_zone_size(records);
            let zone = || StickyZone::builder("bench").size(size).region(all()).build().expect("a zone");
            measure(shape, records, zone, |zone, key| {
                zone.learn(key, vec![7; shape.value], NOW).expect("room");
            })
        }
        ("limit", "sync-store") => {
            let size = limit_zone_size(records);
            let zone = LimitZone::builder("bench")
                .size(size)
                .region(all())
                .rate(Rate::per_minute(1).expect("a rate"));
            measure(
                shape,
                records,
                || zone.build().expect("a zone"),
                |zone, key| {
                    zone.check(key, &Check::default(), NOW);
                },
            )
        }
        (_, "sync-store") => {
            let record_size = shape.key + shape.value;
            let zone = KeyvalZone::builder("bench").size(zone_size(records, record_size));
            let zone = || zone.record_size(record_size).region(all()).build().expect("a zone");
            measure(shape, records, zone, |zone, key| {
                zone.set(key, vec![7; shape.value], NOW, Expiry::Default).expect("room");
            })
        }
        (_, "governor") => {
            let quota = Quota::per_minute(NonZeroU32::MIN);
            let limiter = || RateLimiter::dashmap_with_hasher(quota, RandomState::default());
            measure(shape, records, limiter, |limiter, key| {
                limiter.check_key(&<[u8; 16]>::try_from(key).expect("16 bytes")).expect("the first");
            })
        }
        _ => grown_map(shape, who, records),
    }
}

fn grown_map(shape: Shape, who: &str, records: u32) -> usize {
    let boxed = || vec![7; shape.value].into_boxed_slice();
    let shared = || Arc::<[u8]>::from(vec![7; shape.value]);
    match who {
        "papaya" => {
            let map = papaya::HashMap::<Bytes, Bytes, RandomState>::default;
            measure(shape, records, map, |map, key| {
                map.pin().insert(key.into(), boxed());
            })
        }
        "dashmap" => {
            let map = dashmap::DashMap::<Bytes, Bytes, RandomState>::default;
            measure(shape, records, map, |map, key| {
                map.insert(key.into(), boxed());
            })
        }
        "scc" => {
            let map = scc::HashMap::<Bytes, Bytes, RandomState>::default;
            measure(shape, records, map, |map, key| {
                map.upsert_sync(key.into(), boxed());
            })
        }
        "moka" => {
            let cache = moka::sync::Cache::builder().max_capacity(u64::from(records) * 2);
            let cache = || cache.build_with_hasher::<RandomState>(RandomState::default());
            measure(shape, records, cache, |cache: &moka::sync::Cache<Bytes, Arc<[u8]>, _>, key| {
                cache.insert(key.into(), shared());
            })
        }
        "quick_cache" => {
            let (items, weight) = (records as usize * 2, u64::from(records) * 2);
            let cache = || {
                let hasher = RandomState::default();
                quick_cache::sync::Cache::with(
                    items,
                    weight,
                    UnitWeighter,
                    hasher,
                    DefaultLifecycle::default(),
                )
            };
            measure(shape, records, cache, |cache, key| cache.insert(Bytes::from(key), shared()))
        }
        other => panic!("nobody is called {other}"),
    }
}

/// The growth by the records. `store` is a function, so that what an empty one takes counts, too.
fn measure<S>(shape: Shape, records: u32, store: impl FnOnce() -> S, insert: impl Fn(&S, &[u8])) -> usize {
    let before = resident();
    let store = store();
    for index in 0..records {
        insert(&store, &shape.key(index));
    }
    let grown = resident().saturating_sub(before);
    black_box(store);
    grown
}
