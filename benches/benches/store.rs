//! The zones alone, one thread: what a request pays. Groups are named by work, functions by who does it.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sync_store::{Check, Expiry, KeyvalZone, LimitZone, Rate, Replica, StickyZone, Time};

/// Enough to be larger than the caches.
const RECORDS: u32 = 1_000_000;
/// Records changed between two drains.
const CHANGED: u32 = 10_000;
const NOW: Time = Time::from_millis(1_700_000_000_000);

/// 16 bytes.
fn key(index: u32) -> [u8; 16] {
    let mut key = *b"key-000000000000";
    key[4..8].copy_from_slice(&index.to_be_bytes());
    key
}

fn keyval() -> KeyvalZone {
    let zone = KeyvalZone::builder("bench").size(512 << 20).build().expect("a zone");
    for index in 0..RECORDS {
        zone.set(key(index), [7; 32], NOW, Expiry::Default).expect("room");
    }
    zone
}

fn keyval_ops(c: &mut Criterion) {
    let zone = keyval();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut value = Vec::with_capacity(64);
    c.benchmark_group("keyval-get-uniform-1t").throughput(Throughput::Elements(1)).bench_function(
        "sync-store",
        |b| {
            b.iter(|| {
                value.clear();
                zone.get_into(key(rng.random_range(0..RECORDS)), NOW, black_box(&mut value))
            });
        },
    );
    c.benchmark_group("keyval-set-uniform-1t")
        .throughput(Throughput::Elements(1))
        .bench_function("sync-store", |b| {
            b.iter(|| zone.set(key(rng.random_range(0..RECORDS)), [8; 32], NOW, Expiry::Default))
        });
    while zone.dirty_count() > 0 {
        zone.publish(NOW, &mut |_| true);
    }
    c.benchmark_group("drain").throughput(Throughput::Elements(u64::from(CHANGED))).bench_function(
        "sync-store",
        |b| {
            b.iter_batched(
                || {
                    for _ in 0..CHANGED {
                        let index = rng.random_range(0..RECORDS);
                        zone.set(key(index), [9; 32], NOW, Expiry::Default).expect("room");
                    }
                },
                |()| zone.publish(NOW, &mut |record| black_box(record.key.len()) > 0),
                BatchSize::PerIteration,
            );
        },
    );
}

fn limit_ops(c: &mut Criterion) {
    let rate: Rate = "1000000r/s".parse().expect("a rate");
    let zone = LimitZone::builder("bench").size(64 << 20).rate(rate).burst(1 << 20).build().expect("a zone");
    let mut rng = SmallRng::seed_from_u64(1);
    let mut now = NOW;
    c.benchmark_group("limit-check-uniform-1t").throughput(Throughput::Elements(1)).bench_function(
        "sync-store",
        |b| {
            b.iter(|| {
                now = now.saturating_add(Duration::from_nanos(100));
                zone.check(key(rng.random_range(0..100_000)), &Check::default(), now)
            });
        },
    );
    let strict = LimitZone::builder("denied").size(1 << 20).rate("1r/h".parse().expect("a rate"));
    let strict = strict.build().expect("a zone");
    c.benchmark_group("limit-denied-one-1t")
        .throughput(Throughput::Elements(1))
        .bench_function("sync-store", |b| b.iter(|| strict.check(b"one client", &Check::default(), NOW)));
}

fn sticky_ops(c: &mut Criterion) {
    let zone = StickyZone::builder("bench").size(256 << 20).build().expect("a zone");
    for index in 0..RECORDS / 2 {
        zone.learn(key(index), b"10.0.0.1:8080", NOW).expect("room");
    }
    let mut rng = SmallRng::seed_from_u64(1);
    c.benchmark_group("sticky-lookup-uniform-1t")
        .throughput(Throughput::Elements(1))
        .bench_function("sync-store", |b| b.iter(|| zone.lookup(key(rng.random_range(0..RECORDS / 2)), NOW)));
}

criterion_group!(benches, keyval_ops, limit_ops, sticky_ops);
criterion_main!(benches);
