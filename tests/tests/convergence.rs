//! Merging is commutative, associative and idempotent: whatever is written where, and however batches are reordered and repeated
//! on the way, three stores end equal, and end with what was written last. Written from the rules of the zones, not from their code.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use sync_store::{
    Check, Delay, Dot, Expiry, KeyvalZone, LimitZone, Origin, Outcome, Rate, Record, Replica, Stamp, State,
    StickyZone, Time,
};

const NODES: usize = 3;

/// A published row that has left its zone.
#[derive(Clone, Debug)]
struct Row {
    key: Vec<u8>,
    dot: Dot,
    state: RowState,
}

#[derive(Clone, Debug)]
enum RowState {
    Value { value: Vec<u8>, stamp: Stamp, writer: Origin, time_ms: u64 },
    Removed { stamp: Stamp, writer: Origin },
    Limit { tat_ns: u64, debt_ns: i64 },
}

impl Row {
    fn new(record: &Record<'_>) -> Self {
        let state = match record.state {
            State::Value { value, stamp, writer, time_ms } => {
                RowState::Value { value: value.to_vec(), stamp, writer, time_ms }
            }
            State::Removed { stamp, writer } => RowState::Removed { stamp, writer },
            State::Limit { tat_ns, debt_ns } => RowState::Limit { tat_ns, debt_ns },
        };
        Self { key: record.key.to_vec(), dot: record.dot, state }
    }

    fn record(&self) -> Record<'_> {
        let state = match &self.state {
            RowState::Value { value, stamp, writer, time_ms } => {
                State::Value { value, stamp: *stamp, writer: *writer, time_ms: *time_ms }
            }
            RowState::Removed { stamp, writer } => State::Removed { stamp: *stamp, writer: *writer },
            RowState::Limit { tat_ns, debt_ns } => State::Limit { tat_ns: *tat_ns, debt_ns: *debt_ns },
        };
        Record { key: &self.key, dot: self.dot, state }
    }
}

/// One batch of an origin's steady stream.
#[derive(Clone, Debug)]
struct Batch {
    origin: Origin,
    from_seq_excluded: u64,
    through_seq: u64,
    rows: Vec<Row>,
}

/// Publishes at most `most` records.
fn publish(zone: &dyn Replica, now: Time, most: usize) -> Option<Batch> {
    let mut rows = Vec::new();
    let (from_seq_excluded, through_seq) = zone.publish(now, &mut |record| {
        if rows.len() == most {
            return false;
        }
        rows.push(Row::new(record));
        true
    });
    assert_eq!(through_seq - from_seq_excluded, rows.len() as u64, "every row has a number");
    for (row, seq) in rows.iter().zip(from_seq_excluded + 1..) {
        assert_eq!(row.dot, Dot { origin: zone.origin(), seq });
    }
    let batch = Batch { origin: zone.origin(), from_seq_excluded, through_seq, rows };
    (through_seq > from_seq_excluded).then_some(batch)
}

fn apply(zone: &dyn Replica, now: Time, batch: &Batch) {
    let mut rows = batch.rows.iter().map(Row::record);
    let applied = zone
        .apply_batch(now, batch.origin, batch.from_seq_excluded, batch.through_seq, &mut rows)
        .expect("within the skew");
    assert_eq!(applied.refused, 0, "the zones are large enough");
}

/// What can happen. Nodes and keys are numbers.
#[derive(Clone, Debug)]
enum Event {
    Put {
        node: usize,
        key: u8,
        value: u8,
    },
    Remove {
        node: usize,
        key: u8,
    },
    Publish {
        node: usize,
        most: usize,
    },
    /// Gives a batch on its way from one node to another, chosen by `which`, perhaps leaving it there to come again.
    Deliver {
        from: usize,
        to: usize,
        which: usize,
        again: bool,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..NODES, 0..5_u8, any::<u8>()).prop_map(|(node, key, value)| Event::Put { node, key, value }),
        2 => (0..NODES, 0..5_u8).prop_map(|(node, key)| Event::Remove { node, key }),
        3 => (0..NODES, 1..4_usize).prop_map(|(node, most)| Event::Publish { node, most }),
        6 => (0..NODES, 0..NODES, any::<usize>(), any::<bool>())
            .prop_map(|(from, to, which, again)| Event::Deliver { from, to, which, again }),
    ];
    proptest::collection::vec(event, 0..80)
}

/// The two zone types whose records are replaced as a whole.
trait Table: Replica {
    fn put(&self, key: &[u8], value: &[u8], now: Time);
    fn remove(&self, key: &[u8], now: Time);
    fn read(&self, key: &[u8], now: Time) -> Option<Vec<u8>>;
    /// Whether putting what is there already is a write, with a stamp. Learning a session's server again is an access only.
    fn writes_the_same(&self) -> bool;
}

impl Table for KeyvalZone {
    fn writes_the_same(&self) -> bool {
        true
    }

    fn put(&self, key: &[u8], value: &[u8], now: Time) {
        self.set(key, value, now, Expiry::Default).expect("there is room");
    }

    fn remove(&self, key: &[u8], now: Time) {
        Self::remove(self, key, now).expect("removing needs no room that is not there");
    }

    fn read(&self, key: &[u8], now: Time) -> Option<Vec<u8>> {
        self.get(key, now).map(Into::into)
    }
}

impl Table for StickyZone {
    fn writes_the_same(&self) -> bool {
        false
    }

    fn put(&self, key: &[u8], value: &[u8], now: Time) {
        self.learn(key, value, now).expect("there is room");
    }

    fn remove(&self, key: &[u8], now: Time) {
        self.forget(key, now).expect("removing needs no room that is not there");
    }

    fn read(&self, key: &[u8], now: Time) -> Option<Vec<u8>> {
        self.peek(key, now).map(Into::into)
    }
}

const START: Time = Time::from_millis(1_700_000_000_000);

fn run(zones: &[Box<dyn Table>; NODES], skews_ms: [u64; NODES], events: &[Event]) {
    let mut ms = 0;
    let at = |ms: u64, node: usize| START.saturating_add(Duration::from_millis(ms + skews_ms[node]));
    let mut under_way: BTreeMap<(usize, usize), Vec<Batch>> = BTreeMap::new();
    let mut history: [VecDeque<Batch>; NODES] = Default::default();
    let mut expected: BTreeMap<u8, Option<Vec<u8>>> = BTreeMap::new();
    for event in events {
        // Time passes between events, so that without skew the order of writes is the order of stamps.
        ms += 1;
        match *event {
            Event::Put { node, key, value } => {
                let written = Some(vec![value, key]);
                let same = zones[node].read(&[key], at(ms, node)) == written;
                zones[node].put(&[key], &[value, key], at(ms, node));
                if !same || zones[node].writes_the_same() {
                    expected.insert(key, written);
                }
            }
            Event::Remove { node, key } => {
                // Removing what a node does not know says nothing to the others: there is no record to remove.
                if zones[node].read(&[key], at(ms, node)).is_some() {
                    zones[node].remove(&[key], at(ms, node));
                    expected.insert(key, None);
                }
            }
            Event::Publish { node, most } => {
                if let Some(batch) = publish(&*zones[node], at(ms, node), most) {
                    for to in (0..NODES).filter(|to| *to != node) {
                        under_way.entry((node, to)).or_default().push(batch.clone());
                    }
                    history[node].push_back(batch);
                }
            }
            Event::Deliver { from, to, which, again } => {
                let Some(batches) = under_way.get_mut(&(from, to)).filter(|batches| !batches.is_empty())
                else {
                    continue;
                };
                let which = which % batches.len();
                let batch = if again { batches[which].clone() } else { batches.swap_remove(which) };
                apply(&*zones[to], at(ms, to), &batch);
            }
        }
    }
    // Everything is published and arrives at last, in order, whether it came before or not.
    ms += 1;
    for (node, history) in history.iter_mut().enumerate() {
        while let Some(batch) = publish(&*zones[node], at(ms, node), 3) {
            history.push_back(batch);
        }
    }
    for (from, history) in history.iter().enumerate() {
        for to in (0..NODES).filter(|to| *to != from) {
            for batch in history {
                apply(&*zones[to], at(ms, to), batch);
            }
        }
    }
    let now = at(ms + 10_000, 0);
    for zone in zones {
        assert_eq!(zone.digest(now), zones[0].digest(now), "digests");
        assert_eq!(zone.dirty_count(), 0, "what came from others is not published again");
        for other in zones {
            assert_eq!(zone.vector().get(other.origin()), other.published_seq(), "vectors");
        }
        for (key, value) in &expected {
            let read = zone.read(&[*key], now);
            assert_eq!(read, zones[0].read(&[*key], now), "key {key}");
            if skews_ms == [0; NODES] {
                assert_eq!(&read, value, "the last write of key {key}");
            }
        }
    }
}

fn keyval() -> [Box<dyn Table>; NODES] {
    std::array::from_fn(|_| {
        let zone = KeyvalZone::builder("one").size(64 << 10).origin(Origin::random());
        Box::new(zone.build().expect("a zone")) as Box<dyn Table>
    })
}

fn sticky() -> [Box<dyn Table>; NODES] {
    std::array::from_fn(|_| {
        let zone = StickyZone::builder("one").size(64 << 10).origin(Origin::random());
        Box::new(zone.build().expect("a zone")) as Box<dyn Table>
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        // Beside this file, to be committed with the fix.
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/convergence.proptest-regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn keyval_zones_end_equal_with_the_last_write(events in events()) {
        run(&keyval(), [0; NODES], &events);
    }

    #[test]
    fn sticky_zones_end_equal_with_the_last_write(events in events()) {
        run(&sticky(), [0; NODES], &events);
    }

    #[test]
    fn keyval_zones_end_equal_whatever_their_clocks_say(events in events(), skews in [0..3_000_u64, 0..3_000, 0..3_000]) {
        run(&keyval(), skews, &events);
    }

    #[test]
    fn sticky_zones_end_equal_whatever_their_clocks_say(events in events(), skews in [0..3_000_u64, 0..3_000, 0..3_000]) {
        run(&sticky(), skews, &events);
    }

    /// Batches of an origin arrive in order on a link, and are repeated after a link was lost: every debt counts exactly once.
    #[test]
    fn limit_zones_count_every_admission_exactly_once(
        events in proptest::collection::vec((0..NODES, 0..NODES, 0..3_u8, any::<bool>()), 0..120),
    ) {
        let zones: [LimitZone; NODES] = std::array::from_fn(|_| {
            let rate: Rate = "1r/h".parse().expect("a rate");
            LimitZone::builder("req").size(64 << 10).origin(Origin::random()).rate(rate).build().expect("a zone")
        });
        const BURST: u64 = 1_000;
        let check = |zone: &LimitZone, cost: i64, now: Time| {
            let check = Check { cost, burst: Some(BURST), delay: Some(Delay::Nodelay), ..Check::default() };
            zone.check(b"k", &check, now)
        };
        // Positions in each origin's history: how far each other node has applied it.
        let mut history: [Vec<Batch>; NODES] = Default::default();
        let mut applied = [[0; NODES]; NODES];
        let mut admitted = 0;
        let mut now = START;
        for (node, other, what, repeat) in events {
            now = now.saturating_add(Duration::from_millis(1));
            match what {
                0 => {
                    prop_assert_eq!(check(&zones[node], 1, now).outcome, Outcome::Passed);
                    admitted += 1;
                }
                1 => history[node].extend(publish(&zones[node], now, 3)),
                _ if node == other => {}
                _ => {
                    let at: &mut usize = &mut applied[node][other];
                    if repeat {
                        *at = at.saturating_sub(2);
                    }
                    if let Some(batch) = history[other].get(*at) {
                        apply(&zones[node], now, batch);
                        *at += 1;
                    }
                }
            }
        }
        for (zone, history) in zones.iter().zip(&mut history) {
            while let Some(batch) = publish(zone, now, 3) {
                history.push(batch);
            }
        }
        for (node, zone) in zones.iter().enumerate() {
            for history in history.iter().enumerate().filter(|(other, _)| *other != node).map(|(_, history)| history) {
                // From the start: what was applied is repeated.
                for batch in history {
                    apply(zone, now, batch);
                }
            }
        }
        for zone in &zones {
            // 1 r/h gives nothing back in the meantime. An idle key admits burst + 1, one of which a peek does not count.
            prop_assert_eq!(check(zone, 0, now).remaining(), BURST + 1 - admitted, "{} admitted", admitted);
        }
    }
}
