//! What was applied of an origin beyond a gap in its sequence.
//!
//! Debts must be added exactly once. Below the version vector that is certain. But when a link begins above it, the stream goes on
//! beyond the gap while catch-up fills it, and if that link is lost, the same batches may come again on the next. So the zone
//! remembers, for an origin with a gap, the one *run* of sequences applied beyond it. When catch-up covers where the run began,
//! the vector moves over it.
//!
//! Inside a run a row counts twofold: its debt is added, and then its arrival time merged by maximum, since the catch-up
//! leaves out what was published after it began and relies on the stream to bring all of it. What lies below the run and comes after
//! all, as it may with batches out of order, is contained in those maxima already: it is merged only.

use crate::stamp::Origin;

/// What to do with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing: it was applied.
    Nothing,
    /// Add its debt.
    Add,
    /// Add its debt, then merge its arrival time.
    AddAndMerge,
    /// Merge its arrival time.
    Merge,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    origin: Origin,
    from_seq_excluded: u64,
    through_seq: u64,
}

/// The runs of all origins that have a gap; mostly none.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<Run>);

impl Runs {
    fn at(&self, origin: Origin) -> Option<usize> {
        self.0.iter().position(|run| run.origin == origin)
    }

    /// A batch of `origin` begins after `from_seq_excluded`, while everything through `covered_seq` is known. `capacity` bounds how
    /// many origins may have a gap.
    pub(super) fn begin(
        &mut self,
        origin: Origin,
        covered_seq: u64,
        from_seq_excluded: u64,
        capacity: usize,
    ) {
        if from_seq_excluded <= covered_seq {
            return;
        }
        let fresh = Run { origin, from_seq_excluded, through_seq: from_seq_excluded };
        match self.at(origin) {
            // A second gap, above the run. The run is forgotten: it lies below the new one now.
            Some(at) if from_seq_excluded > self.0[at].through_seq => self.0[at] = fresh,
            Some(_) => {}
            None => {
                if self.0.len() >= capacity {
                    self.0.remove(0);
                }
                self.0.push(fresh);
            }
        }
    }

    /// What to do with the row `seq` of `origin`, when everything through `covered_seq` is known; notes that it is done.
    pub(super) fn due(&mut self, origin: Origin, covered_seq: u64, seq: u64) -> Due {
        if seq <= covered_seq {
            return Due::Nothing;
        }
        let Some(at) = self.at(origin) else { return Due::Add };
        let run = &mut self.0[at];
        if seq <= run.from_seq_excluded {
            Due::Merge
        } else if seq <= run.through_seq {
            Due::Nothing
        } else {
            run.through_seq = seq;
            Due::AddAndMerge
        }
    }

    /// Everything of `origin` through `covered_seq` is known now. Answers how far it is with the run that this may have reached,
    /// which ends then.
    pub(super) fn cover(&mut self, origin: Origin, covered_seq: u64) -> u64 {
        match self.at(origin) {
            Some(at) if self.0[at].from_seq_excluded <= covered_seq => {
                self.0.swap_remove(at).through_seq.max(covered_seq)
            }
            Some(_) | None => covered_seq,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::from_raw(1).expect("not 0")
    }

    /// Applies `from_seq_excluded..=through_seq` and answers what was due of each row, and the vector afterwards.
    fn batch(runs: &mut Runs, covered: &mut u64, from_seq_excluded: u64, through_seq: u64) -> Vec<Due> {
        runs.begin(origin(), *covered, from_seq_excluded, 9);
        let due =
            (from_seq_excluded + 1..=through_seq).map(|seq| runs.due(origin(), *covered, seq)).collect();
        if from_seq_excluded <= *covered {
            *covered = runs.cover(origin(), through_seq.max(*covered));
        }
        due
    }

    #[test]
    fn in_order_everything_is_added_once() {
        let (mut runs, mut covered) = (Runs::default(), 0);
        assert_eq!(batch(&mut runs, &mut covered, 0, 2), [Due::Add; 2]);
        assert_eq!(batch(&mut runs, &mut covered, 0, 2), [Due::Nothing; 2]);
        assert_eq!(batch(&mut runs, &mut covered, 1, 3), [Due::Nothing, Due::Add]);
        assert_eq!(covered, 3);
        assert!(runs.0.is_empty());
    }

    #[test]
    fn beyond_a_gap_everything_is_added_once_and_catch_up_closes_it() {
        let (mut runs, mut covered) = (Runs::default(), 3);
        assert_eq!(batch(&mut runs, &mut covered, 10, 12), [Due::AddAndMerge; 2]);
        assert_eq!(batch(&mut runs, &mut covered, 12, 13), [Due::AddAndMerge]);
        assert_eq!(batch(&mut runs, &mut covered, 10, 13), [Due::Nothing; 3], "the link was lost");
        assert_eq!(batch(&mut runs, &mut covered, 8, 10), [Due::Merge; 2]);
        assert_eq!(runs.cover(origin(), 9), 9);
        covered = runs.cover(origin(), 10);
        assert_eq!(covered, 13);
        assert_eq!(batch(&mut runs, &mut covered, 13, 14), [Due::Add]);
    }

    #[test]
    fn a_second_gap_and_late_rows_below() {
        let (mut runs, mut covered) = (Runs::default(), 0);
        assert_eq!(batch(&mut runs, &mut covered, 4, 5), [Due::AddAndMerge]);
        assert_eq!(batch(&mut runs, &mut covered, 8, 9), [Due::AddAndMerge]);
        assert_eq!(batch(&mut runs, &mut covered, 4, 5), [Due::Merge]);
        assert_eq!(batch(&mut runs, &mut covered, 0, 8), [Due::Merge; 8]);
        assert_eq!(covered, 9);
    }
}
