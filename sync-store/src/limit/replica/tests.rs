use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::{Check, Delay};

const HOUR: u64 = 3_600_000_000_000;
const START: u64 = 1_000 * HOUR;

fn at(nanos: u64) -> Time {
    Time::from_nanos(START + nanos)
}

fn origin(raw: u64) -> Origin {
    Origin::from_raw(raw).expect("not 0")
}

fn zone(raw: u64, rate: &str, burst: u64) -> LimitZone {
    let builder = LimitZone::builder("z").size(32 << 10).rate(rate.parse().expect("a rate")).burst(burst);
    builder.delay(Delay::Nodelay).origin(origin(raw)).build().expect("a zone")
}

fn spend(zone: &LimitZone, key: &str, tries: usize, now: Time) -> usize {
    (0..tries).filter(|_| zone.check(key, &Check::default(), now).is_admitted()).count()
}

fn left(zone: &LimitZone, key: &str, now: Time) -> u64 {
    zone.check(key, &Check { cost: 0, ..Check::default() }, now).remaining()
}

/// What travels: (key, tat, debt).
type Row = (Vec<u8>, u64, i64);

#[derive(Clone, Debug)]
struct Batch {
    origin: Origin,
    from_seq_excluded: u64,
    through_seq: u64,
    rows: Vec<Row>,
}

fn row(record: &Record<'_>) -> Row {
    let State::Limit { tat_ns, debt_ns } = record.state else { panic!("not a limit") };
    (record.key.to_vec(), tat_ns, debt_ns)
}

fn records(rows: &[Row], origin: Origin) -> impl Iterator<Item = Record<'_>> {
    rows.iter().enumerate().map(move |(i, (key, tat_ns, debt_ns))| Record {
        key,
        dot: Dot { origin, seq: i as u64 },
        state: State::Limit { tat_ns: *tat_ns, debt_ns: *debt_ns },
    })
}

fn publish(zone: &LimitZone, now: Time) -> Batch {
    let mut rows = Vec::new();
    let (from_seq_excluded, through_seq) = zone.publish(now, &mut |record| {
        rows.push(row(record));
        true
    });
    Batch { origin: zone.origin(), from_seq_excluded, through_seq, rows }
}

fn apply(zone: &LimitZone, batch: &Batch, now: Time) -> Applied {
    let Batch { origin, from_seq_excluded, through_seq, rows } = batch;
    zone.apply_batch(now, *origin, *from_seq_excluded, *through_seq, &mut records(rows, *origin))
        .expect("good rows")
}

/// A whole catch-up of what `from` holds of everybody.
fn catch_up(from: &LimitZone, to: &LimitZone, now: Time) {
    let vector = from.vector();
    let mut origins: Vec<Origin> = vector.iter().map(|(origin, _)| origin).collect();
    origins.push(from.origin());
    let (known, mut cursor) = (to.vector(), Some(Cursor::default()));
    while let Some(at) = cursor {
        let mut rows = Vec::new();
        cursor = from.scan(now, &origins, &known, at, &mut |record| {
            rows.push(row(record));
            rows.len() < 3 || {
                rows.pop();
                false
            }
        });
        to.apply_states(now, &mut records(&rows, from.origin())).expect("good rows");
    }
    to.cover(&vector);
}

#[test]
fn work_of_three_nodes_adds_up() {
    let zones = [1, 2, 3].map(|raw| zone(raw, "10r/h", 9));
    let long = "a key too long to be kept as it is";
    for key in ["short", long] {
        assert_eq!(spend(&zones[0], key, 3, at(0)), 3);
        assert_eq!(spend(&zones[1], key, 2, at(0)), 2);
        let batches = [publish(&zones[0], at(0)), publish(&zones[1], at(0))];
        apply(&zones[1], &batches[0], at(5));
        apply(&zones[0], &batches[1], at(5));
        for batch in batches.iter().rev() {
            assert_eq!(apply(&zones[2], batch, at(5)).applied, 1);
            assert_eq!(apply(&zones[2], batch, at(5)).superseded, 1, "once");
        }
        for zone in &zones {
            assert_eq!(left(zone, key, at(6)), 5);
            assert_eq!(zone.dirty_count(), 0, "what is applied is not dirty");
        }
    }
    let digests = zones.each_ref().map(|zone| zone.digest(at(6)));
    assert_eq!((digests[0], digests[1]), (digests[1], digests[2]));
    assert_ne!(digests[0], zone(4, "10r/h", 9).digest(at(6)));
    assert_eq!(zones[0].digest(at(HOUR)), 0, "all are idle");
    assert_eq!(zones[2].vector(), [(origin(1), 2), (origin(2), 2)].into_iter().collect());
}

#[test]
fn what_is_spent_survives_the_replacement_of_every_node() {
    let mut zones = [1, 2, 3].map(|raw| zone(raw, "10r/h", 9));
    assert_eq!(spend(&zones[0], "client", 3, at(0)) + spend(&zones[2], "client", 1, at(0)), 4);
    for from in [0, 2] {
        let batch = publish(&zones[from], at(0));
        (0..3).filter(|&to| to != from).for_each(|to| {
            apply(&zones[to], &batch, at(1));
        });
    }
    for replaced in 0..3 {
        zones[replaced] = zone(10 + replaced as u64, "10r/h", 9);
        for other in (0..3).filter(|&other| other != replaced) {
            catch_up(&zones[other], &zones[replaced], at(2));
        }
    }
    assert_eq!(spend(&zones[1], "client", 20, at(3)), 6);
    let batch = publish(&zones[1], at(3));
    apply(&zones[0], &batch, at(4));
    assert_eq!(spend(&zones[0], "client", 20, at(4)), 0);
}

#[test]
fn a_record_that_publish_was_refused_stays_dirty() {
    let zone = zone(1, "10r/h", 9);
    for key in ["a", "b", "c"] {
        spend(&zone, key, 1, at(0));
    }
    let mut seen = Vec::new();
    let range = zone.publish(at(0), &mut |record| {
        seen.push((record.key.to_vec(), record.dot.seq));
        seen.len() < 3
    });
    assert_eq!((range, zone.published_seq(), zone.dirty_count()), ((0, 2), 2, 1));
    let rest = publish(&zone, at(0));
    assert_eq!((rest.from_seq_excluded, rest.through_seq), (2, 3));
    assert_eq!(rest.rows, [(seen[2].0.clone(), START + HOUR / 10, (HOUR / 10) as i64)]);
    assert_eq!(publish(&zone, at(0)).rows, []);
}

#[test]
fn a_join_under_load_is_exact() {
    let [a, b, fresh] = [1, 2, 3].map(|raw| zone(raw, "1000r/h", 999));
    for zone in [&a, &b] {
        spend(zone, "k", 10, at(0));
        spend(zone, "quiet", 10, at(0));
    }
    let batches = [publish(&a, at(0)), publish(&b, at(0))];
    apply(&b, &batches[0], at(1));
    apply(&a, &batches[1], at(1));
    // The link from a begins: the stream goes on from here, and leaves nothing out of what follows.
    let covers = a.vector();
    spend(&a, "k", 10, at(2));
    let later = publish(&a, at(2));
    assert_eq!(apply(&fresh, &later, at(3)).applied, 1);
    assert_eq!(left(&fresh, "k", at(3)), 1000 - 30, "the stream row brings what catch-up will leave out");
    apply(&fresh, &later, at(3));
    let mut rows = Vec::new();
    a.scan(at(3), &[origin(1)], &VersionVector::new(), Cursor::default(), &mut |record| {
        if record.dot.seq <= covers.get(origin(1)) {
            rows.push(row(record));
        }
        true
    });
    spend(&a, "k", 5, at(4));
    let last = publish(&a, at(4));
    apply(&fresh, &last, at(5));
    fresh.apply_states(at(5), &mut records(&rows, origin(1))).expect("good rows");
    assert_eq!(fresh.vector().get(origin(1)), 0);
    fresh.cover(&covers);
    assert_eq!(fresh.vector().get(origin(1)), last.through_seq);
    apply(&fresh, &later, at(6));
    assert_eq!((left(&fresh, "k", at(6)), left(&fresh, "quiet", at(6))), (965, 980));
}

#[test]
fn a_scan_tells_own_from_foreign_work() {
    let [a, b] = [1, 2].map(|raw| zone(raw, "10r/h", 9));
    spend(&a, "own", 2, at(0));
    spend(&b, "foreign", 3, at(0));
    publish(&a, at(0));
    spend(&a, "own", 1, at(0));
    spend(&a, "unpublished", 1, at(0));
    apply(&a, &publish(&b, at(0)), at(0));
    let scan = |origins: &[Origin], known: &VersionVector, now| {
        let mut keys = Vec::new();
        let end = a.scan(now, origins, known, Cursor::default(), &mut |record| {
            keys.push((String::from_utf8_lossy(record.key).into_owned(), record.dot.seq, row(record).1));
            true
        });
        assert!(end.is_none());
        keys
    };
    let nothing = VersionVector::new();
    let tenth = HOUR / 10;
    let own = ("own".to_owned(), 1, START + 2 * tenth);
    let foreign = ("foreign".to_owned(), 0, START + 3 * tenth);
    assert_eq!(scan(&[origin(1)], &nothing, at(0)), [own], "without the debt");
    assert_eq!(scan(&[origin(1)], &[(origin(1), 1)].into_iter().collect(), at(0)), []);
    assert_eq!(scan(&[origin(7)], &nothing, at(0)), [foreign]);
    assert_eq!(scan(&[origin(1), origin(7)], &nothing, at(0)).len(), 2);
    assert_eq!(scan(&[origin(1), origin(7)], &nothing, at(HOUR)), [], "idle");
}

#[test]
fn refunds_travel() {
    let [a, b] = [1, 2].map(|raw| zone(raw, "10r/h", 9));
    spend(&a, "k", 8, at(0));
    apply(&b, &publish(&a, at(0)), at(1));
    assert_eq!(left(&b, "k", at(1)), 2);
    b.check("k", &Check { cost: -5, ..Check::default() }, at(2));
    apply(&a, &publish(&b, at(2)), at(3));
    assert_eq!((left(&a, "k", at(3)), left(&b, "k", at(3))), (7, 7));
    assert!(a.forget("k", at(4)));
    apply(&b, &publish(&a, at(4)), at(5));
    assert_eq!(left(&b, "k", at(5)), 10);
}

#[test]
fn a_refund_that_is_not_published_yet_is_not_in_a_state_either() {
    let [a, fresh] = [1, 2].map(|raw| zone(raw, "10r/h", 9));
    spend(&a, "k", 8, at(0));
    publish(&a, at(0));
    a.check("k", &Check { cost: -3, ..Check::default() }, at(1));
    catch_up(&a, &fresh, at(1));
    assert_eq!(left(&fresh, "k", at(1)), 2);
    apply(&fresh, &publish(&a, at(2)), at(2));
    assert_eq!((left(&a, "k", at(2)), left(&fresh, "k", at(2))), (5, 5), "it is taken off once");
}

#[test]
fn hostile_batches_are_refused() {
    let zone = zone(1, "10r/h", 9);
    let try_rows = |from: Origin, range: (u64, u64), rows: &[Row]| {
        zone.apply_batch(at(0), from, range.0, range.1, &mut records(rows, from)).expect_err("hostile")
    };
    let good: Row = (b"k".to_vec(), START + 1, 1);
    let with_key = |key: &[u8]| vec![(key.to_vec(), START, 0)];
    assert!(matches!(try_rows(origin(1), (0, 1), std::slice::from_ref(&good)), Error::OwnOrigin { .. }));
    assert!(matches!(try_rows(origin(2), (5, 4), &[]), Error::InvalidBatch { .. }));
    assert!(matches!(try_rows(origin(2), (0, u64::MAX), &[]), Error::InvalidBatch { .. }));
    assert!(matches!(try_rows(origin(2), (0, 1), &with_key(b"")), Error::EmptyKey { .. }));
    assert!(matches!(try_rows(origin(2), (0, 1), &with_key(&[7; 17])), Error::InvalidKey { .. }));
    assert!(matches!(try_rows(origin(2), (0, 1), &with_key(&[1; 18])), Error::KeyTooLong { length: 18, .. }));
    assert_eq!(zone.vector().get(origin(2)), 0);
    let two = [good.clone(), good.clone()];
    let error = try_rows(origin(2), (0, 1), &two);
    assert!(matches!(error, Error::InvalidBatch { rows: 2, .. }), "{error}");
    assert_eq!(zone.vector().get(origin(2)), 1, "what was applied is not applied again");
    assert!(matches!(try_rows(origin(2), (1, 4), &two), Error::InvalidBatch { rows: 2, .. }));
    let value = State::Value { value: b"", stamp: crate::Stamp::NEVER, writer: origin(2), time_ms: 0 };
    let record = Record { key: b"k", dot: Dot { origin: origin(2), seq: 1 }, state: value };
    let error = zone.apply_states(at(0), &mut std::iter::once(record)).expect_err("hostile");
    assert!(matches!(error, Error::WrongKind { .. }));
}

#[test]
fn more_origins_than_fit_are_forgotten_and_not_refused() {
    let zone = zone(1, "10r/h", 9);
    for raw in 2..200 {
        let batch = Batch {
            origin: origin(raw),
            from_seq_excluded: 0,
            through_seq: 1,
            rows: vec![(b"k".to_vec(), START + 10, 1)],
        };
        apply(&zone, &batch, at(0));
    }
    assert_eq!(zone.vector().get(origin(199)), 1);
    assert!(zone.vector().len() <= 32);
}

/// One step of a cluster, at one of its zones.
#[derive(Clone, Debug)]
enum Act {
    Check(i64),
    Publish,
    /// Delivers one of all batches there ever were.
    Deliver(usize),
    CatchUpFrom(usize),
}

type Step = (usize, u64, Act);

fn steps(catch_up: u32) -> impl Strategy<Value = Vec<Step>> {
    let act = prop_oneof![
        5 => (1_i64..20).prop_map(Act::Check),
        3 => Just(Act::Publish),
        8 => any::<usize>().prop_map(Act::Deliver),
        catch_up => (0_usize..3).prop_map(Act::CatchUpFrom),
    ];
    vec((0_usize..3, 0_u64..5, act), 1..120)
}

/// Three zones with one key, and everything they ever published.
struct Cluster {
    zones: [LimitZone; 3],
    batches: Vec<Batch>,
    /// Of each batch: when the earliest of its work was admitted.
    began: Vec<u64>,
    /// Whether a zone was handed a batch.
    delivered: Vec<[bool; 3]>,
    unpublished_since: [u64; 3],
    /// The longest time from admission to arrival.
    delay: u64,
    /// All work, with its times.
    work: Vec<(u64, u64)>,
    now: u64,
}

impl Cluster {
    const COST_NS: u64 = 10;

    fn new() -> Self {
        Self {
            zones: [1, 2, 3].map(|raw| zone(raw, "100000000r/s", u64::MAX)),
            batches: Vec::new(),
            began: Vec::new(),
            delivered: Vec::new(),
            unpublished_since: [u64::MAX; 3],
            delay: 0,
            work: Vec::new(),
            now: 0,
        }
    }

    fn check(&mut self, who: usize, cost: i64) {
        let check = Check { cost, ..Check::default() };
        assert!(self.zones[who].check("k", &check, at(self.now)).is_admitted());
        self.work.push((START + self.now, cost.unsigned_abs() * Self::COST_NS));
        self.unpublished_since[who] = self.unpublished_since[who].min(self.now);
    }

    fn publish(&mut self, who: usize) {
        let batch = publish(&self.zones[who], at(self.now));
        if !batch.rows.is_empty() {
            self.batches.push(batch);
            self.began.push(std::mem::replace(&mut self.unpublished_since[who], u64::MAX));
            self.delivered.push([false; 3]);
        }
    }

    /// Whether the zone has all that the batch's origin published before.
    fn is_next(&self, who: usize, n: usize) -> bool {
        self.batches[n].from_seq_excluded <= self.zones[who].vector().get(self.batches[n].origin)
    }

    fn deliver(&mut self, who: usize, n: usize) {
        if self.batches[n].origin != self.zones[who].origin() {
            if !self.delivered[n][who] {
                self.delay = self.delay.max(self.now - self.began[n]);
                self.delivered[n][who] = true;
            }
            apply(&self.zones[who], &self.batches[n], at(self.now));
        }
    }

    fn deliver_all(&mut self) {
        for n in 0..self.batches.len() {
            (0..3).for_each(|who| self.deliver(who, n));
        }
    }

    fn view(&self, who: usize) -> u64 {
        let look = Check { cost: 0, ..Check::default() };
        START + self.now + self.zones[who].check("k", &look, at(self.now)).reset().as_nanos() as u64
    }

    /// The bucket that decides about everything in one place.
    fn truth(&self) -> u64 {
        let tat = self.work.iter().fold(0, |tat: u64, &(at, cost)| tat.max(at) + cost);
        tat.max(START + self.now)
    }

    fn assert_equal(&self) {
        let digests = self.zones.each_ref().map(|zone| zone.digest(at(self.now)));
        assert_eq!((digests[0], digests[1]), (digests[1], digests[2]));
        let vectors = self.zones.each_ref().map(Replica::vector);
        assert_eq!((&vectors[0], &vectors[1]), (&vectors[1], &vectors[2]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Each origin's batches come in order, as links bring them; otherwise any order, any delay, any repetition: nobody ever knows
    /// of more work than there was, but for the longest delay.
    #[test]
    fn no_exchange_exceeds_the_truth(steps in steps(0)) {
        let mut cluster = Cluster::new();
        for (who, step, act) in steps {
            cluster.now += step;
            match act {
                Act::Check(cost) => cluster.check(who, cost),
                Act::Publish => cluster.publish(who),
                Act::Deliver(n) => {
                    let next: Vec<usize> =
                        (0..cluster.batches.len()).filter(|&n| cluster.is_next(who, n)).collect();
                    if !next.is_empty() {
                        cluster.deliver(who, next[n % next.len()]);
                    }
                }
                Act::CatchUpFrom(_) => {}
            }
            for who in 0..3 {
                prop_assert!(cluster.view(who) <= cluster.truth() + cluster.delay, "{}", cluster.delay);
            }
        }
        (0..3).for_each(|who| cluster.publish(who));
        cluster.deliver_all();
        for who in 0..3 {
            prop_assert!(cluster.view(who) <= cluster.truth() + cluster.delay);
        }
    }

    /// Batches in any order whatever, and catch-up between any two at any time: once links are up and writes stop, all are equal.
    #[test]
    fn any_exchange_ends_equal(steps in steps(1)) {
        let mut cluster = Cluster::new();
        for (who, step, act) in steps {
            cluster.now += step;
            match act {
                Act::Check(cost) => cluster.check(who, cost),
                Act::Publish => cluster.publish(who),
                Act::Deliver(n) if !cluster.batches.is_empty() => cluster.deliver(who, n % cluster.batches.len()),
                Act::Deliver(_) => {}
                Act::CatchUpFrom(from) if from != who => {
                    catch_up(&cluster.zones[from], &cluster.zones[who], at(cluster.now));
                }
                Act::CatchUpFrom(_) => {}
            }
        }
        (0..3).for_each(|who| cluster.publish(who));
        cluster.deliver_all();
        let origins = [1, 2, 3].map(origin);
        for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)].repeat(2) {
            let mut rows = Vec::new();
            cluster.zones[from].scan(at(cluster.now), &origins, &VersionVector::new(), Cursor::default(), &mut |record| {
                rows.push(row(record));
                true
            });
            let rows = &mut records(&rows, origins[from]);
            cluster.zones[to].apply_states(at(cluster.now), rows).expect("good rows");
        }
        cluster.assert_equal();
    }

    /// A bucket that is overloaded from the start: every order of delivery gives every node the whole truth.
    #[test]
    fn any_order_between_origins_adds_up(
        costs in vec((0_usize..3, 1_i64..20), 1..40),
        order in vec(any::<usize>(), 40),
    ) {
        let zones = [1, 2, 3].map(|raw| zone(raw, "1r/s", u64::MAX));
        let mut streams: [std::collections::VecDeque<Batch>; 3] = Default::default();
        let mut total = 0;
        for (who, cost) in costs {
            zones[who].check("k", &Check { cost, ..Check::default() }, at(0));
            total += cost.unsigned_abs() * 1_000_000_000;
            streams[who].push_back(publish(&zones[who], at(0)));
        }
        // Origins interleave differently at each node; each origin's batches come in order.
        for (who, zone) in zones.iter().enumerate() {
            let mut streams = streams.clone();
            streams[who].clear();
            let mut order = order.iter().cycle().skip(who * 7);
            while let Some(longest) = streams.iter().map(std::collections::VecDeque::len).max().filter(|&n| n > 0) {
                let pick = order.next().expect("a cycle") % 3;
                let stream = if streams[pick].is_empty() { streams.iter_mut().find(|s| s.len() == longest).expect("one") } else { &mut streams[pick] };
                let batch = stream.pop_front().expect("not empty");
                apply(zone, &batch, at(500));
                apply(zone, &batch, at(500));
            }
            let decision = zone.check("k", &Check { cost: 0, ..Check::default() }, at(0));
            prop_assert_eq!(decision.reset().as_nanos() as u64, total);
        }
        let digests = zones.each_ref().map(|zone| zone.digest(at(500)));
        prop_assert_eq!((digests[0], digests[1]), (digests[1], digests[2]));
    }

    #[test]
    fn extreme_rows_never_panic(
        rows in vec((vec(any::<u8>(), 0..20), prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)], prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)]), 0..20),
        range in prop_oneof![Just((0, 20)), any::<(u64, u64)>(), (0_u64..30, 0_u64..30)],
        now in prop_oneof![any::<u64>(), Just(0), Just(START)],
    ) {
        let zone = zone(1, "1r/d", 9);
        let now = Time::from_nanos(now);
        let _ = zone.apply_batch(now, origin(2), range.0, range.1, &mut records(&rows, origin(2)));
        let _ = zone.apply_states(now, &mut records(&rows, origin(2)));
        for (key, _, _) in &rows {
            zone.check(key, &Check::default(), now);
            zone.check(key, &Check { cost: i64::MIN, ..Check::default() }, now);
        }
        let _ = zone.apply_batch(now, origin(2), range.0, range.1, &mut records(&rows, origin(2)));
        zone.cover(&[(origin(3), u64::MAX), (origin(1), 7)].into_iter().collect());
        publish(&zone, now);
        zone.digest(now);
        zone.scan(now, &[origin(1), origin(2)], &zone.vector(), Cursor::default(), &mut |_| true);
    }
}

#[test]
fn what_is_left_in_an_empty_entry_is_not_dirty_for_ever() {
    let zone = zone(1, "1r/s", 1);
    // As an aborted insert leaves it.
    zone.entry(0).add_debt(5);
    zone.dirty.mark(&zone.region, 0);
    zone.publish(at(START), &mut |_| true);
    assert_eq!(zone.dirty_count(), 0);
}

#[test]
fn a_batch_that_is_refused_as_a_whole_changes_nothing_about_the_next() {
    let (refusing, other) = (zone(1, "1r/s", 9), zone(1, "1r/s", 9));
    assert!(refusing.apply_batch(at(0), origin(2), 1000, 1001, &mut std::iter::empty()).is_err());
    for zone in [&refusing, &other] {
        let row = |tat_ns, debt_ns| [(b"k".to_vec(), START + tat_ns, debt_ns)];
        for (seq, row) in [(4, row(1_000_000_000, 1_000_000_000)), (5, row(3_000_000_000, 1_000_000_000))] {
            zone.apply_batch(at(0), origin(2), seq, seq + 1, &mut records(&row, origin(2))).expect("fine");
        }
    }
    assert_eq!(left(&refusing, "k", at(0)), left(&other, "k", at(0)));
}

#[test]
fn an_arrival_time_at_the_end_of_time_can_be_forgotten() {
    let zone = zone(1, "1r/s", 9);
    let row = [(b"k".to_vec(), u64::MAX, 1)];
    zone.apply_states(at(0), &mut records(&row, origin(2))).expect("fine");
    assert_eq!(left(&zone, "k", at(0)), 0);
    assert!(zone.forget("k", at(0)));
    assert_eq!(left(&zone, "k", at(0)), 10);
}
