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

#[test]
fn a_row_into_an_empty_bucket_is_the_senders_bucket() {
    let view = View { tat: 40, since: 10 };
    assert_eq!(view.add(105, 120, 20), View { tat: 120, since: 100 });
    assert_eq!(View::default().add(105, 120, 20), View { tat: 120, since: 100 });
}

#[test]
fn a_row_into_a_busy_bucket_is_added() {
    assert_eq!(View { tat: 200, since: 10 }.add(105, 120, 20), View { tat: 220, since: 10 });
}

#[test]
fn what_had_drained_before_the_busy_period_is_not_added() {
    // 20 from 80 on; busy since 95: 15 of them are gone.
    assert_eq!(View { tat: 200, since: 95 }.add(105, 100, 20), View { tat: 205, since: 80 });
    // All of them are.
    assert_eq!(View { tat: 200, since: 100 }.add(105, 100, 20), View { tat: 200, since: 100 });
    assert_eq!(View { tat: 200, since: 150 }.add(160, 100, 20), View { tat: 200, since: 150 });
}

#[test]
fn late_rows_in_either_order_come_to_the_same() {
    // True: 20 at 0, 20 at 3, 20 at 8.
    let rows = [(20, 20_i64), (23, 20), (28, 20)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let view = order.iter().fold(View::default(), |view, &i| view.add(9, rows[i].0, rows[i].1));
        assert_eq!(view, View { tat: 60, since: 0 }, "{order:?}");
    }
}

#[test]
fn a_refund_counts_unless_the_busy_period_began_after_it() {
    assert_eq!(View { tat: 200, since: 10 }.add(105, 120, -20), View { tat: 180, since: 10 });
    assert_eq!(View { tat: 200, since: 130 }.add(140, 120, -20), View { tat: 200, since: 130 });
    assert_eq!(View { tat: 5, since: 0 }.add(1, 0, i64::MIN).tat, 0);
}

/// One node of the brute-force schedules: the pure rules, without memory or threads.
#[derive(Clone, Debug, Default)]
struct Node {
    view: View,
    debt: i64,
    /// Rows on their way here: (arrives, tat, debt).
    inbox: Vec<(u64, u64, i64)>,
}

/// A step of the schedule: who acts, how long after the step before, and how much work is admitted (nothing: publish).
type Step = (usize, u64, u64);

/// The true bucket: all work at the time when it was admitted.
fn truth(work: &[(u64, u64)], until: u64) -> u64 {
    work.iter().filter(|(at, _)| *at <= until).fold(0, |tat: u64, &(at, cost)| tat.max(at) + cost)
}

/// Runs a schedule with message delays of `delay` to `delay + jitter`, and compares every view with the truth after each step.
/// Answers the views at the end, when everything has arrived, and the truth.
fn run(steps: &[Step], jitters: &[u64]) -> ([View; 3], u64) {
    let mut nodes: [Node; 3] = Default::default();
    let mut work = Vec::new();
    let mut now = 1_000_000;
    let mut oldest_debt = [u64::MAX; 3];
    let mut delta = 0; // the longest time from admission to arrival so far
    let mut jitters = jitters.iter().cycle();
    let deliver = |nodes: &mut [Node; 3], now: u64| {
        for node in nodes {
            node.inbox.sort_unstable();
            while node.inbox.first().is_some_and(|row| row.0 <= now) {
                let (at, tat, debt) = node.inbox.remove(0);
                node.view = node.view.add(at, tat, debt);
            }
        }
    };
    let publish = |nodes: &mut [Node; 3], who: usize, now: u64, jitters: &mut dyn Iterator<Item = &u64>| {
        let debt = std::mem::take(&mut nodes[who].debt);
        let tat = nodes[who].view.tat;
        let mut latest = 0;
        for other in (0..3).filter(|&other| other != who && debt != 0) {
            let arrives = now + jitters.next().expect("a cycle");
            latest = latest.max(arrives);
            nodes[other].inbox.push((arrives, tat, debt));
        }
        latest
    };
    for &(who, step, cost) in steps {
        now += step;
        deliver(&mut nodes, now);
        if cost == 0 {
            let latest = publish(&mut nodes, who, now, &mut jitters);
            if oldest_debt[who] != u64::MAX {
                delta = delta.max(latest.saturating_sub(oldest_debt[who]));
            }
            oldest_debt[who] = u64::MAX;
        } else {
            let node = &mut nodes[who];
            if node.view.tat <= now {
                node.view.since = node.view.since.max(now);
            }
            node.view.tat = node.view.tat.max(now) + cost;
            node.debt += cost as i64;
            oldest_debt[who] = oldest_debt[who].min(now);
            work.push((now, cost));
        }
        for node in &nodes {
            let truth = truth(&work, now);
            assert!(node.view.tat.max(now) <= truth.max(now) + delta, "{node:?} {truth} {delta}");
        }
    }
    let end = now;
    for (who, oldest) in oldest_debt.into_iter().enumerate() {
        let latest = publish(&mut nodes, who, end, &mut jitters);
        if oldest != u64::MAX {
            delta = delta.max(latest.saturating_sub(oldest));
        }
    }
    deliver(&mut nodes, u64::MAX - 1);
    let truth = truth(&work, now);
    for node in &nodes {
        assert!(node.view.tat <= truth.max(end) + delta, "{node:?} {truth} {delta}");
    }
    (nodes.map(|node| node.view), truth)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Any schedule, any delays, any order between senders: never above the truth by more than the longest delay.
    #[test]
    fn no_view_exceeds_the_truth(
        steps in vec((0_usize..3, 0_u64..30, prop_oneof![Just(0_u64), 1_u64..40]), 1..60),
        jitters in vec(0_u64..50, 1..20),
    ) {
        run(&steps, &jitters);
    }

    /// A bucket that stays busy loses at most what was in flight when it became so: here, the work of the first delay.
    #[test]
    fn an_overloaded_key_is_counted_in_full(
        steps in vec((0_usize..3, 0_u64..10, prop_oneof![Just(0_u64), 30_u64..40]), 20..60),
        jitters in vec(0_u64..20, 1..20),
    ) {
        let (views, truth) = run(&steps, &jitters);
        for view in views {
            prop_assert!(view.tat + 3 * 30 >= truth, "{view:?} {truth}");
        }
    }
}
