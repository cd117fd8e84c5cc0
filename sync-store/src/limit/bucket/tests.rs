use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn merging_states_is_commutative_associative_idempotent(a in 0_u64..90, b in 0_u64..90, c in 0_u64..90, now in 0_u64..90) {
        let merge = |tats: &[u64]| tats.iter().fold(View::default(), |view, &tat| view.merge(now, tat)).tat;
        prop_assert_eq!(merge(&[a, b]), merge(&[b, a]));
        prop_assert_eq!(merge(&[merge(&[a, b]), c]), merge(&[a, merge(&[b, c])]));
        prop_assert_eq!(merge(&[a, a]), a);
    }
}

/// Of work and time.
const UNIT: u64 = 1_000;

/// Moments and work in units.
fn view(tat: u64, idle: Option<(u64, u64)>) -> View {
    let idle = idle.map(|(start, end)| Idle { start: start * UNIT, end: end * UNIT }).unwrap_or_default();
    View { tat: tat * UNIT, idle }
}

fn add(view: View, now: u64, tat: u64, debt: i64) -> View {
    view.add(now * UNIT, tat * UNIT, debt * UNIT.cast_signed())
}

#[test]
fn a_row_into_an_empty_bucket_is_the_senders_bucket() {
    assert_eq!(add(view(40, Some((5, 10))), 105, 120, 20), view(120, Some((40, 100))));
    assert_eq!(add(View::default(), 105, 120, 20), view(120, Some((0, 100))));
}

#[test]
fn a_row_into_a_busy_bucket_is_added() {
    assert_eq!(add(view(200, None), 105, 120, 20), view(220, None));
    assert_eq!(add(view(200, Some((5, 10))), 105, 120, 20), view(220, Some((5, 10))));
}

#[test]
fn a_row_fills_the_time_that_the_bucket_was_idle_after_it() {
    let busy = view(200, Some((60, 95)));
    // 20 from 80 on: 15 of them leak until 95.
    assert_eq!(add(busy, 105, 100, 20), view(205, Some((60, 80))));
    // From 70 on all of them do; what is left later counts.
    assert_eq!(add(busy, 105, 90, 20), view(200, Some((90, 95))));
    // Before it was idle: from 60 on.
    assert_eq!(add(busy, 105, 60, 20), view(200, Some((80, 95))));
    assert_eq!(add(busy, 105, 60, 40), view(205, Some((60, 60))));
}

#[test]
fn idle_time_is_filled_once() {
    // 30 from 85 on, four times.
    let view = (0..4).fold(view(200, Some((60, 95))), |view, _| add(view, 105, 115, 30));
    assert_eq!(view.tat, (200 + 4 * 30 - 10) * UNIT);
}

#[test]
fn two_nodes_that_begin_without_knowing_of_each_other_end_equal() {
    let cost = 3_600_000_000_007;
    for (first, second) in [(1_000, 1_001), (1_000, 77_777_777), (5, 5)] {
        let mut nodes = [Node::default(), Node::default()];
        nodes[0].admit(first, cost);
        nodes[1].admit(second, cost);
        let rows = nodes.each_ref().map(|node| (node.view.tat, cost.cast_signed()));
        let [a, b] = [
            nodes[0].view.add(90_000_000, rows[1].0, rows[1].1),
            nodes[1].view.add(90_000_001, rows[0].0, rows[0].1),
        ];
        assert_eq!((a.tat, b.tat), (first + 2 * cost, first + 2 * cost), "{first} {second}");
    }
}

#[test]
fn late_rows_in_either_order_come_to_the_same() {
    // True: 20 at 0, 20 at 3, 20 at 8.
    let rows = [(20, 20_i64), (23, 20), (28, 20)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let sum = order.iter().fold(View::default(), |view, &i| add(view, 9, rows[i].0, rows[i].1));
        assert_eq!(sum.tat, 60 * UNIT, "{order:?}");
    }
}

#[test]
fn a_refund_counts_unless_the_busy_period_began_after_it() {
    assert_eq!(add(view(200, Some((5, 10))), 105, 120, -20), view(180, Some((5, 10))));
    assert_eq!(add(view(200, Some((5, 145))), 150, 120, -20), view(200, Some((5, 145))));
    assert_eq!(View { tat: 5, idle: Idle::default() }.add(1, 0, i64::MIN).tat, 0);
}

/// A third node admitted 100 at 0, and the sender, which heard of that, 20 at 10; at 20 it refunded 60, and all was over at 60. We hear of the 100 last.
#[test]
fn a_refund_of_work_that_has_yet_to_arrive_is_not_forgotten() {
    let charged = add(View::default(), 90, 120, 20);
    assert_eq!(charged, view(110, Some((0, 90))), "nobody has told that it was busy before");
    let refunded = add(charged, 90, 60, -60);
    assert_eq!(refunded, view(80, Some((0, 90))), "without the 100, 30 of the 60 have drained");
    assert_eq!(add(refunded, 91, 100, 100).tat, 100 * UNIT, "no more than by what is late");
}

/// One node of the brute-force schedules: the pure rules, without memory or threads.
#[derive(Clone, Debug, Default)]
struct Node {
    view: View,
    debt: u64,
    /// Rows on their way here: (arrives, tat, debt).
    inbox: Vec<(u64, u64, u64)>,
    /// All that it admitted or heard of: when it began, and how much.
    heard: Vec<(u64, u64)>,
}

impl Node {
    fn admit(&mut self, now: u64, work: u64) {
        if self.view.tat < now {
            self.view.idle = Idle { start: self.view.tat, end: now };
        }
        self.view.tat = self.view.tat.max(now) + work;
        self.debt += work;
        self.heard.push((now, work));
    }

    fn deliver(&mut self, now: u64) {
        self.inbox.sort_unstable();
        while self.inbox.first().is_some_and(|row| row.0 <= now) {
            let (at, tat, debt) = self.inbox.remove(0);
            self.view = self.view.add(at, tat, debt.cast_signed());
            self.heard.push((tat.saturating_sub(debt).min(at), debt));
        }
    }
}

/// A step of the schedule: who acts, how long after the step before, and how much work is admitted (nothing: publish).
type Step = (usize, u64, u64);

/// The bucket that decides about all this work in one place.
fn together(work: &[(u64, u64)]) -> u64 {
    let mut work = work.to_vec();
    work.sort_unstable();
    work.iter().fold(0, |tat: u64, &(at, work)| tat.max(at) + work)
}

/// Runs a schedule with such message delays, all in units, and compares every view with the truth, and with what it heard of, after each step.
/// Answers the views at the end, when everything has arrived, and the truth.
fn run(steps: &[Step], jitters: &[u64]) -> ([View; 3], u64) {
    let mut nodes: [Node; 3] = Default::default();
    let mut work = Vec::new();
    let mut now = 1_000_000 * UNIT;
    let mut oldest_debt = [u64::MAX; 3];
    let mut delta = 0; // the longest time from admission to arrival so far
    let mut jitters = jitters.iter().cycle();
    let mut publish = |nodes: &mut [Node; 3], who: usize, now: u64, oldest: u64| {
        let debt = std::mem::take(&mut nodes[who].debt);
        let tat = nodes[who].view.tat;
        let mut latest = 0;
        for other in (0..3).filter(|&other| other != who && debt != 0) {
            let arrives = now + jitters.next().expect("a cycle") * UNIT;
            latest = latest.max(arrives);
            nodes[other].inbox.push((arrives, tat, debt));
        }
        latest.saturating_sub(oldest)
    };
    for &(who, step, cost) in steps {
        now += step * UNIT;
        nodes.iter_mut().for_each(|node| node.deliver(now));
        if cost == 0 {
            delta = delta.max(publish(&mut nodes, who, now, oldest_debt[who]));
            oldest_debt[who] = u64::MAX;
        } else {
            nodes[who].admit(now, cost * UNIT);
            oldest_debt[who] = oldest_debt[who].min(now);
            work.push((now, cost * UNIT));
        }
        let truth = together(&work);
        for node in &nodes {
            assert!(node.view.tat >= together(&node.heard), "{node:?}");
            assert!(node.view.tat.max(now) <= truth.max(now) + delta, "{node:?} {truth} {delta}");
        }
    }
    for (who, oldest) in oldest_debt.into_iter().enumerate() {
        delta = delta.max(publish(&mut nodes, who, now, oldest));
    }
    nodes.iter_mut().for_each(|node| node.deliver(u64::MAX - 1));
    let truth = together(&work);
    for node in &nodes {
        assert!(node.view.tat >= together(&node.heard), "{node:?}");
        assert!(node.view.tat <= truth.max(now) + delta, "{node:?} {truth} {delta}");
    }
    (nodes.map(|node| node.view), truth)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Any schedule, any delays, any order between senders: never above the truth by more than the longest delay, never below what was heard of.
    #[test]
    fn no_view_exceeds_the_truth(
        steps in vec((0_usize..3, 0_u64..30, prop_oneof![Just(0_u64), 1_u64..40]), 1..60),
        jitters in vec(0_u64..50, 1..20),
    ) {
        run(&steps, &jitters);
    }

    /// Once everything has arrived, nothing of it is missing, however late it came and however often buckets ran empty meanwhile.
    #[test]
    fn all_that_has_arrived_is_counted_in_full(
        steps in vec((0_usize..3, 0_u64..30, prop_oneof![Just(0_u64), 1_u64..40]), 1..60),
        jitters in vec(0_u64..200, 1..20),
    ) {
        let (views, truth) = run(&steps, &jitters);
        for view in views {
            prop_assert!(view.tat >= truth, "{view:?} {truth}");
        }
    }
}
