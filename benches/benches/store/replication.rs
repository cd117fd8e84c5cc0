//! What replication costs a zone, per record: draining what was changed, scanning for what a peer lacks, applying what a peer has
//! sent. None of the other crates does such work, so the zone is alone here with the control.

use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use benches::{key, zone_size};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sync_store::{
    Cursor, Dot, Expiry, KeyvalZone, Origin, Record, Replica, Stamp, State, Time, VersionVector,
};

use crate::START;
use crate::rounds::{Contender, Lab, Worker};

const VALUE: [u8; 32] = [9; 32];
/// Records changed between two drains.
const CHANGED: u32 = 10_000;
const ROWS_PER_BATCH: usize = 100;
/// Rows of a round, all of which are prepared before it.
const ROWS: usize = 500 * ROWS_PER_BATCH;
/// From one round to the next, so that what is applied is later than what is there.
const STEP: Duration = Duration::from_secs(1);

fn filled(records: u32) -> KeyvalZone {
    let record_size = key(0).len() + VALUE.len();
    let size = zone_size(records, record_size);
    let zone = KeyvalZone::builder("bench").size(size).record_size(record_size).build().expect("a zone");
    for index in 0..records {
        zone.set(key(index), VALUE, START, Expiry::Default).expect("room");
    }
    zone.publish(START, &mut |_| true);
    zone
}

/// Reads a record as the encoder of a frame does.
fn copy(record: &Record<'_>, to: &mut Vec<u8>) {
    to.clear();
    to.extend_from_slice(record.key);
    if let State::Value { value, .. } = record.state {
        to.extend_from_slice(value);
    }
    black_box(&*to);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Drain<'a> {
    zone: &'a KeyvalZone,
    records: u32,
    rng: Mutex<SmallRng>,
}

impl Contender for Drain<'_> {
    fn name(&self) -> &'static str {
        "sync-store"
    }

    fn warms_up(&self) -> bool {
        false
    }

    fn prepare(&self) {
        let mut rng = lock(&self.rng);
        for _ in 0..CHANGED {
            let index = rng.random_range(0..self.records);
            self.zone.set(key(index), VALUE, START, Expiry::Default).expect("room");
        }
    }

    fn worker(&self, _thread: usize) -> Worker<'_> {
        let mut copied = Vec::with_capacity(64);
        Box::new(move |_| {
            let (from, through) = self.zone.publish(START, &mut |record| {
                copy(record, &mut copied);
                true
            });
            usize::try_from(through - from).expect("fits")
        })
    }
}

/// `known` is what the peer has.
struct Scan<'a> {
    zone: &'a KeyvalZone,
    records: u32,
    known: VersionVector,
    copies: bool,
}

impl Contender for Scan<'_> {
    fn name(&self) -> &'static str {
        "sync-store"
    }

    fn warms_up(&self) -> bool {
        false
    }

    fn worker(&self, _thread: usize) -> Worker<'_> {
        let mut copied = Vec::with_capacity(64);
        Box::new(move |_| {
            let origins = [self.zone.origin()];
            let mut count = 0;
            let mut cursor = Some(Cursor::default());
            while let Some(from) = cursor {
                cursor = self.zone.scan(START, &origins, &self.known, from, &mut |record| {
                    copy(record, &mut copied);
                    count += 1;
                    true
                });
            }
            assert_eq!(count, if self.copies { self.records } else { 0 });
            self.records as usize
        })
    }
}

/// Updates by a peer. Its zone is not here: rows are made as the codec would find them.
struct Apply<'a> {
    zone: &'a KeyvalZone,
    records: u32,
    rng: Mutex<SmallRng>,
    sent: Mutex<Sent>,
}

struct Sent {
    keys: Vec<[u8; 16]>,
    now: Time,
    through_seq: u64,
}

impl Contender for Apply<'_> {
    fn name(&self) -> &'static str {
        "sync-store"
    }

    fn warms_up(&self) -> bool {
        false
    }

    fn prepare(&self) {
        let (mut sent, mut rng) = (lock(&self.sent), lock(&self.rng));
        sent.now = sent.now.saturating_add(STEP);
        sent.keys = (0..ROWS).map(|_| key(rng.random_range(0..self.records))).collect();
    }

    fn worker(&self, _thread: usize) -> Worker<'_> {
        let origin = Origin::from_raw(7).expect("not 0");
        Box::new(move |_| {
            let mut sent = lock(&self.sent);
            let Sent { keys, now, through_seq } = &mut *sent;
            let state =
                State::Value { value: &VALUE, stamp: Stamp::from_time(*now), writer: origin, time_ms: 0 };
            for batch in keys.chunks(ROWS_PER_BATCH) {
                let from = *through_seq;
                *through_seq += batch.len() as u64;
                let mut rows = batch.iter().zip(from + 1..).map(|(key, seq)| Record {
                    key,
                    dot: Dot { origin, seq },
                    state,
                });
                let applied = self.zone.apply_batch(*now, origin, from, *through_seq, &mut rows);
                assert_eq!(applied.expect("a valid batch").refused, 0);
            }
            keys.len()
        })
    }
}

pub(crate) fn all(lab: &mut Lab) {
    if !["drain", "scan", "scan-copy", "apply"].into_iter().any(|name| lab.wants(name)) {
        return;
    }
    let records = lab.scale.records;
    let zone = &filled(records);
    // These make a round of their own size and read no sequence.
    let one = [vec![0; lab.scale.sequence]];
    let rng = || Mutex::new(SmallRng::seed_from_u64(1));
    let filter = Scan { zone, records, known: zone.vector(), copies: false };
    lab.group("scan", &one, &[&filter]);
    let copy = Scan { zone, records, known: VersionVector::new(), copies: true };
    lab.group("scan-copy", &one, &[&copy]);
    lab.group("drain", &one, &[&Drain { zone, records, rng: rng() }]);
    let sent = Mutex::new(Sent { keys: Vec::new(), now: START, through_seq: 0 });
    lab.group("apply", &one, &[&Apply { zone, records, rng: rng(), sent }]);
}
