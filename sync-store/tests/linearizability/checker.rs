//! The search for an order of a history's operations that explains every answer.
//!
//! A history is linearizable if its operations can be put in an order that keeps those apart that did not overlap in time, and in
//! which a plain, sequential model gives the same answers (Herlihy and Wing, *Linearizability: A Correctness Condition for
//! Concurrent Objects*, ACM TOPLAS 12(3), 1990).
//!
//! The search is that of Wing and Gong (*Testing and Verifying Concurrent Objects*, Journal of Parallel and Distributed Computing
//! 17, 1993): take any operation that began before the first end of all that are left, if the model gives its answer, and go on; if
//! nothing is left to take, go back. Lowe (*Testing for Linearizability*, Concurrency and Computation: Practice and Experience
//! 29(4), 2017) adds a memory: whatever the order, the same operations taken and the same state of the model have the same future,
//! so that is explored once. The operations taken are a bitmask.
//!
//! Linearizability is local, and a zone is a map from keys to independent objects: a history is linearizable if the operations on
//! each key are. So each key is searched by itself, which makes one exponential search several small ones. Horn and Kroening
//! (*Faster Linearizability Checking via P-Compositionality*, FORTE 2015) say when such a split is allowed.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use crate::history::{
    Action, History, Id, KEYS_MAX, Mix, OPERATIONS_MAX, Operation, Outcome, Seen, Subject, histories, number,
};
use crate::{HISTORIES, HISTORIES_MIN};

/// Operations taken, a bit for each.
type Taken = u64;
const _: () = assert!(OPERATIONS_MAX <= Taken::BITS as usize);

/// The model: what a key has. An expired record is none.
type State = Option<Id>;

/// What the key has after an operation; `None` if it cannot have answered that.
fn step(state: State, action: Action, outcome: &Outcome) -> Option<State> {
    let (present, absent) = (state.is_some(), state.is_none());
    match (action, outcome) {
        (Action::Get | Action::GetInto | Action::Peek, Outcome::Read(seen)) => {
            (*seen == state.map(Seen::Value)).then_some(state)
        }
        (Action::Set(id), Outcome::Done) => Some(Some(id)),
        (Action::SetExpired(_), Outcome::Done) => Some(None),
        (Action::Insert(id), Outcome::Done) => absent.then_some(Some(id)),
        (Action::Insert(_), Outcome::Exists) => present.then_some(state),
        (Action::Update(id), Outcome::Done) => present.then_some(Some(id)),
        (Action::Renew, Outcome::Done) => present.then_some(state),
        (Action::Expire, Outcome::Done) => present.then_some(None),
        (Action::Update(_) | Action::Renew | Action::Expire, Outcome::Missing) => absent.then_some(state),
        (Action::Remove, Outcome::Removed(was)) => (*was == present).then_some(None),
        // A write that found no room is as if it had never been, whenever it was.
        (write, Outcome::Full) => (!write.is_read()).then_some(state),
        _ => None,
    }
}

/// The search for an order of the operations on one key.
struct Search<'a> {
    operations: &'a [&'a Operation],
    explored: HashSet<(Taken, State)>,
    order: Vec<usize>,
    /// The longest order that the model agrees with, for people.
    longest: Vec<usize>,
}

impl Search<'_> {
    /// Whether the operations not taken yet can follow those that are.
    fn go_on(&mut self, taken: Taken, state: State) -> bool {
        let operations = self.operations;
        let is_left = |at: &usize| taken & 1 << at == 0;
        let Some(first_end) = (0..operations.len()).filter(is_left).map(|at| operations[at].end).min() else {
            return true;
        };
        if !self.explored.insert((taken, state)) {
            return false;
        }
        for at in (0..operations.len()).filter(is_left) {
            let Operation { start, action, ref outcome, .. } = *operations[at];
            if start > first_end {
                continue; // what ended there comes before
            }
            let Some(next) = step(state, action, outcome) else { continue };
            self.order.push(at);
            if self.order.len() > self.longest.len() {
                self.longest.clone_from(&self.order);
            }
            if self.go_on(taken | 1 << at, next) {
                return true;
            }
            self.order.pop();
        }
        false
    }
}

/// A key whose operations have no order.
#[derive(Clone, Debug)]
pub(crate) struct Contradiction {
    /// The longest order of some of them.
    explained: Vec<Operation>,
    /// The others.
    unexplained: Vec<Operation>,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "in this order the first operations on a key have the right answers:")?;
        self.explained.iter().try_for_each(|operation| writeln!(f, "  {operation}"))?;
        writeln!(f, "but none of these can come next, nor is there a longer order:")?;
        self.unexplained.iter().try_for_each(|operation| writeln!(f, "  {operation}"))
    }
}

/// Checks a history, of which each key begins with nothing.
pub(crate) fn check(operations: &[Operation]) -> Result<(), Contradiction> {
    for key in 0..KEYS_MAX {
        let operations: Vec<&Operation> =
            operations.iter().filter(|operation| operation.key == key).collect();
        let (order, longest) = (Vec::new(), Vec::new());
        let mut search = Search { operations: &operations, explored: HashSet::new(), order, longest };
        if !search.go_on(0, None) {
            let longest = search.longest;
            let others = (0..operations.len()).filter(|at| !longest.contains(at));
            return Err(Contradiction {
                unexplained: others.map(|at| operations[at].clone()).collect(),
                explained: longest.iter().map(|&at| operations[at].clone()).collect(),
            });
        }
    }
    Ok(())
}

/// Fails if one of many histories has a key whose operations have no order. The kinds of outcomes that occur must be those
/// `expected`: others are wrong, and if one is missing the test tests less than it says.
pub(crate) fn assert_linearizable<S: Subject + Send>(expected: &[&str], mix: &Mix, make: impl Fn(u64) -> S) {
    let count = number("HISTORIES").map_or(HISTORIES, |count| (count as usize).max(HISTORIES_MIN));
    let mut kinds = BTreeSet::new();
    let (mut operations, mut overlapping) = (0, 0);
    for history in histories(count, mix, make) {
        if let Err(contradiction) = check(&history.operations) {
            panic!("not linearizable\n{history}{contradiction}");
        }
        kinds.extend(history.operations.iter().map(|operation| operation.outcome.kind()));
        operations += history.operations.len();
        overlapping += overlaps(&history);
    }
    println!(
        "{operations} operations in {count} histories, {overlapping} began while one on that key was under way"
    );
    // The same operations in all histories need not have all outcomes.
    if number("SEED").is_none() {
        assert!(overlapping > 0);
        assert_eq!(kinds, expected.iter().copied().collect());
    }
}

/// Fails if none of many histories has a key whose operations have no order.
pub(crate) fn assert_contradicted<S: Subject + Send>(
    what: impl fmt::Debug,
    mix: &Mix,
    make: impl Fn(u64) -> S,
) {
    let after = histories(HISTORIES, mix, make).position(|history| check(&history.operations).is_err());
    let after = after.unwrap_or_else(|| panic!("{what:?} was not found in {HISTORIES} histories"));
    println!("{what:?} was found after {after} other histories");
}

/// How many operations began while another one on the same key was under way.
fn overlaps(history: &History) -> usize {
    let mut last_ends = [0; KEYS_MAX];
    let overlaps = |operation: &&Operation| {
        let last_end = &mut last_ends[operation.key];
        let overlaps = *last_end > operation.start;
        *last_end = operation.end.max(*last_end);
        overlaps
    };
    history.operations.iter().filter(overlaps).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    use rand::rngs::SmallRng;
    use rand::seq::IndexedRandom as _;
    use rand::{Rng as _, SeedableRng as _};

    use crate::history::Actor;

    /// An operation from one time to another.
    fn on(key: usize, start: u64, end: u64, action: Action, outcome: Outcome) -> Operation {
        Operation { actor: Actor::Thread(0), start, end, key, action, outcome }
    }

    fn op(start: u64, end: u64, action: Action, outcome: Outcome) -> Operation {
        on(0, start, end, action, outcome)
    }

    fn value(id: Id) -> Outcome {
        Outcome::Read(Some(Seen::Value(id)))
    }

    const NOTHING: Outcome = Outcome::Read(None);

    use Action::{Expire, Get, Insert, Peek, Remove, Renew, Set, SetExpired, Update};
    use Outcome::{Done, Exists, Failed, Full, Missing, Removed};

    #[test]
    fn linearizable_histories_are_accepted() {
        let histories = [
            ("nothing at all", vec![]),
            (
                "one after the other",
                vec![
                    op(1, 2, Get, NOTHING),
                    op(3, 4, Insert(1), Done),
                    op(5, 6, Get, value(1)),
                    op(7, 8, Update(2), Done),
                    op(9, 10, Renew, Done),
                    op(11, 12, Peek, value(2)),
                    op(13, 14, Remove, Removed(true)),
                    op(15, 16, Remove, Removed(false)),
                    op(17, 18, Update(3), Missing),
                ],
            ),
            (
                "a write is seen from some moment on while it is under way",
                vec![
                    op(1, 8, Set(1), Done),
                    op(2, 3, Get, NOTHING),
                    op(4, 5, Get, value(1)),
                    op(6, 7, Get, value(1)),
                ],
            ),
            (
                "one of two inserts succeeds",
                vec![op(1, 4, Insert(1), Done), op(2, 3, Insert(2), Exists), op(5, 6, Get, value(1))],
            ),
            (
                "the write that began first comes last",
                vec![
                    op(1, 6, Set(1), Done),
                    op(2, 3, Set(2), Done),
                    op(4, 5, Get, value(2)),
                    op(7, 8, Get, value(1)),
                ],
            ),
            (
                "one of two removals finds it",
                vec![
                    op(1, 2, Set(1), Done),
                    op(3, 6, Remove, Removed(false)),
                    op(4, 5, Remove, Removed(true)),
                ],
            ),
            (
                "an insert that fails because of a record that is gone when it ends",
                vec![
                    op(1, 8, Insert(1), Exists),
                    op(2, 3, Set(2), Done),
                    op(4, 5, Remove, Removed(true)),
                    op(6, 7, Get, NOTHING),
                ],
            ),
            (
                "what finds no room changes nothing, anywhere",
                vec![
                    op(1, 2, Set(1), Full),
                    op(3, 4, Get, NOTHING),
                    op(5, 6, Set(2), Done),
                    op(7, 8, Insert(3), Full),
                    op(9, 10, Remove, Full),
                    op(11, 12, Get, value(2)),
                ],
            ),
            (
                "what has expired is not there",
                vec![
                    op(1, 2, SetExpired(1), Done),
                    op(3, 4, Get, NOTHING),
                    op(5, 6, Update(2), Missing),
                    op(7, 8, Insert(3), Done),
                    op(9, 10, Expire, Done),
                    op(11, 12, Remove, Removed(false)),
                ],
            ),
            (
                "keys have nothing to do with each other",
                vec![
                    on(0, 1, 2, Set(1), Done),
                    on(1, 3, 4, Get, NOTHING),
                    on(1, 5, 6, Insert(2), Done),
                    on(0, 7, 8, Get, value(1)),
                ],
            ),
        ];
        for (what, operations) in histories {
            assert!(check(&operations).is_ok(), "{what}");
        }
    }

    #[test]
    fn other_histories_are_not() {
        let histories = [
            ("a stale read", vec![op(1, 2, Set(1), Done), op(3, 4, Set(2), Done), op(5, 6, Get, value(1))]),
            (
                "a read that goes back to before a write",
                vec![
                    op(1, 2, Set(1), Done),
                    op(3, 8, Set(2), Done),
                    op(4, 5, Get, value(2)),
                    op(6, 7, Get, value(1)),
                ],
            ),
            (
                "a lost update",
                vec![
                    op(1, 2, Set(1), Done),
                    op(3, 6, Update(2), Done),
                    op(4, 5, Update(3), Done),
                    op(7, 8, Get, value(1)),
                ],
            ),
            (
                "a lost write",
                vec![op(1, 4, Set(1), Done), op(2, 3, Insert(2), Done), op(5, 6, Get, value(2))],
            ),
            ("two inserts that succeed", vec![op(1, 4, Insert(1), Done), op(2, 3, Insert(2), Done)]),
            ("two inserts that fail", vec![op(1, 4, Insert(1), Exists), op(2, 3, Insert(2), Exists)]),
            (
                "an insert that fails because of its own record",
                vec![op(1, 6, Insert(1), Exists), op(2, 3, Get, value(1)), op(4, 5, Remove, Removed(true))],
            ),
            ("a value never written", vec![op(1, 2, Set(1), Done), op(3, 4, Get, value(2))]),
            ("a value before it is written", vec![op(1, 2, Get, value(1)), op(3, 4, Set(1), Done)]),
            (
                "half a value",
                vec![op(1, 4, Set(1), Done), op(2, 3, Get, Outcome::Read(Some(Seen::Garbled(vec![1]))))],
            ),
            (
                "two removals of one record",
                vec![
                    op(1, 2, Set(1), Done),
                    op(3, 6, Remove, Removed(true)),
                    op(4, 5, Remove, Removed(true)),
                ],
            ),
            (
                "a removal that comes undone",
                vec![
                    op(1, 2, Set(1), Done),
                    op(3, 6, Renew, Done),
                    op(4, 5, Remove, Removed(true)),
                    op(7, 8, Get, value(1)),
                ],
            ),
            ("an update of nothing", vec![op(1, 2, Update(1), Done)]),
            ("a missing record that is there", vec![op(1, 2, Set(1), Done), op(3, 4, Renew, Missing)]),
            ("an expired record", vec![op(1, 2, SetExpired(1), Done), op(3, 4, Get, value(1))]),
            ("a write that found no room", vec![op(1, 2, Set(1), Full), op(3, 4, Get, value(1))]),
            (
                "a full zone that removes",
                vec![op(1, 2, Set(1), Done), op(3, 4, Set(2), Full), op(5, 6, Get, NOTHING)],
            ),
            ("a read that finds no room", vec![op(1, 2, Get, Full)]),
            ("an answer of another operation", vec![op(1, 2, Get, Done)]),
            ("a failure", vec![op(1, 2, Set(1), Failed("why".to_owned()))]),
            ("the second key", vec![on(0, 1, 2, Set(1), Done), on(1, 3, 4, Get, value(1))]),
        ];
        for (what, operations) in histories {
            assert!(check(&operations).is_err(), "{what}");
        }
    }

    /// Whether some order of these operations explains them, by trying all.
    fn is_explained(left: &[Operation], state: State) -> bool {
        left.is_empty()
            || (0..left.len()).any(|at| {
                let mut left = left.to_vec();
                let operation = left.remove(at);
                // Nothing that is still to come may have ended before this one began.
                let in_time = left.iter().all(|other| other.end > operation.start);
                let next = step(state, operation.action, &operation.outcome);
                in_time && next.is_some_and(|next| is_explained(&left, next))
            })
    }

    /// The search takes shortcuts; on histories so small that all orders can be tried it says the same.
    #[test]
    fn trying_all_orders_says_the_same() {
        const CASES: usize = 3_000;
        let kinds = [
            (Set(1), Done),
            (Set(2), Done),
            (Insert(3), Done),
            (Insert(3), Exists),
            (Update(4), Done),
            (Renew, Missing),
            (Remove, Removed(true)),
            (Get, NOTHING),
            (Get, value(1)),
            (Get, value(2)),
            (Get, value(3)),
        ];
        let mut rng = SmallRng::seed_from_u64(1);
        let mut accepted = 0;
        for _ in 0..CASES {
            let mut times: Vec<u64> = (0..10).collect();
            let operations: Vec<Operation> = (0..5)
                .map(|_| {
                    let mut time = || times.swap_remove(rng.random_range(0..times.len()));
                    let (one, other) = (time(), time());
                    let (action, outcome) = kinds.choose(&mut rng).expect("some kinds").clone();
                    op(one.min(other), one.max(other), action, outcome)
                })
                .collect();
            let explained = is_explained(&operations, None);
            assert_eq!(check(&operations).is_ok(), explained, "{operations:?}");
            accepted += usize::from(explained);
        }
        assert!((CASES / 10..CASES * 9 / 10).contains(&accepted), "{accepted} of {CASES}");
    }
}
