//! Values that describe themselves, under threads that replace, remove, evict and read them as fast as they can. A bounded number of
//! operations; run it in release with `SYNC_STORE_STRESS` set to a higher number of rounds to look longer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

const NOW: Time = Time::from_millis(1_000);
const THREADS: u64 = 4;

fn rounds() -> u64 {
    std::env::var("SYNC_STORE_STRESS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20_000)
}

/// A value that says which key it belongs to, and in which each byte follows from the first eight.
fn describe(key: u64, salt: u64, value: &mut Vec<u8>) {
    let seed = salt << 16 | key;
    let length = (salt % 25) as usize * 8;
    value.clear();
    value.extend(seed.to_le_bytes());
    value.extend((0..length).map(|at| seed.wrapping_mul(at as u64 + 3).to_le_bytes()[5]));
}

fn verify(key: u64, value: &[u8]) {
    let seed = u64::from_le_bytes(value[..8].try_into().expect("eight bytes"));
    let mut expected = Vec::new();
    describe(key, seed >> 16, &mut expected);
    assert_eq!(seed & 0xffff, key, "the value of another key");
    assert_eq!(value, expected, "torn");
}

fn run(table: &Table, keys: u64, seed: u64, misses: &AtomicU64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut value, mut read) = (Vec::new(), Vec::new());
    for round in 0..rounds() {
        let number = rng.random_range(0..keys);
        let key = number.to_le_bytes();
        match rng.random_range(0..10) {
            0..4 => match table.find(&key, table.hash(&key), Some(&mut read)) {
                Some(found) if !found.header().removed => verify(number, &read),
                _ => _ = misses.fetch_add(1, Ordering::Relaxed),
            },
            4..8 => {
                describe(number, rng.random::<u64>() >> 16, &mut value);
                let time_ms = if table.is_sticky() { NOW.as_millis() } else { 0 };
                let written = upsert(table, NOW, &key, Put::New(&value), |found| {
                    Step::Write(table.header(found, NOW, false, time_ms))
                });
                if let Ok(Written::Inserted(at)) = written {
                    table.mark(at);
                }
            }
            8 => {
                // May fail in a full zone when several threads need the reserve at once.
                _ = upsert(table, NOW, &key, Put::New(&[]), |found| match found {
                    Some(_) => Step::Write(table.header(found, NOW, true, 0)),
                    None => Step::Stop,
                });
            }
            _ => _ = evict(table, &key),
        }
        if seed == 0 && round % 64 == 0 {
            table.publish(NOW, &mut |record| {
                if let crate::State::Value { value, .. } = record.state {
                    verify(u64::from_le_bytes(record.key.try_into().expect("a key")), value);
                }
                true
            });
        }
    }
}

fn stress(kind: ZoneKind, size: u64, keys: u64) {
    let table = Table::new(Settings { max_record: 256, ..settings(kind, size) }).expect("a table");
    let misses = AtomicU64::new(0);
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let (table, misses) = (&table, &misses);
            scope.spawn(move || run(table, keys, seed, misses));
        }
    });
    // Afterwards: no key twice, no slot left pending, figures that agree, and all memory in one piece once everything is out.
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let mut seen = std::collections::HashSet::new();
    for at in 0..table.slots() {
        table.finish_pending(at);
        if let Some(found) = table.copy_at(at, &mut key, &mut value) {
            assert!(seen.insert(key.clone()), "a key in two slots");
            assert_eq!(table.find_meta(&key, table.hash(&key)).map(|found| found.at), Some(at));
            if !found.header().removed {
                verify(u64::from_le_bytes(key[..].try_into().expect("a key")), &value);
            }
        }
    }
    let stats = table.stats();
    assert_eq!(stats.records + stats.tombstones, seen.len() as u64);
    seen.iter().for_each(|key| assert!(evict(&table, key)));
    let stats = table.stats();
    assert_eq!((stats.records, stats.tombstones), (0, 0));
    let capacity = table.parts.blocks.capacity_units() as u32;
    let all = table.parts.blocks.take_thoroughly(&table.region, capacity);
    assert!(all.is_some(), "a block was lost");
}

#[test]
fn few_keys_fought_over() {
    stress(ZoneKind::Keyval, 32 << 10, 24);
}

#[test]
fn many_keys_in_a_keyval_zone_with_room() {
    stress(ZoneKind::Keyval, 512 << 10, 1_000);
}

#[test]
fn a_keyval_zone_that_is_full() {
    stress(ZoneKind::Keyval, 32 << 10, 400);
}

#[test]
fn a_sticky_zone_that_evicts_all_the_time() {
    stress(ZoneKind::Sticky, 32 << 10, 1_000);
}
