//! What replication would send, kept and delivered in one process.

use sync_store::{Cursor, Dot, Origin, Record, Replica, Stamp, State, Time};

#[derive(Clone, Debug)]
enum OwnedState {
    Value { value: Vec<u8>, stamp: Stamp, writer: Origin, time_ms: u64 },
    Removed { stamp: Stamp, writer: Origin },
    Limit { tat_ns: u64, debt_ns: i64 },
}

/// A row that owns what it holds.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    key: Vec<u8>,
    dot: Dot,
    state: OwnedState,
}

impl Row {
    pub(crate) fn of(record: &Record<'_>) -> Self {
        let state = match record.state {
            State::Value { value, stamp, writer, time_ms } => {
                OwnedState::Value { value: value.to_vec(), stamp, writer, time_ms }
            }
            State::Removed { stamp, writer } => OwnedState::Removed { stamp, writer },
            State::Limit { tat_ns, debt_ns } => OwnedState::Limit { tat_ns, debt_ns },
        };
        Self { key: record.key.to_vec(), dot: record.dot, state }
    }

    pub(crate) fn record(&self) -> Record<'_> {
        let state = match &self.state {
            OwnedState::Value { value, stamp, writer, time_ms } => {
                State::Value { value, stamp: *stamp, writer: *writer, time_ms: *time_ms }
            }
            OwnedState::Removed { stamp, writer } => State::Removed { stamp: *stamp, writer: *writer },
            OwnedState::Limit { tat_ns, debt_ns } => State::Limit { tat_ns: *tat_ns, debt_ns: *debt_ns },
        };
        Record { key: &self.key, dot: self.dot, state }
    }
}

/// Publishes at most so many rows of `from` and applies them to `to`. Answers how many.
pub(crate) fn pass_on(from: &dyn Replica, to: &dyn Replica, now: Time, most: usize) -> usize {
    let mut rows = Vec::new();
    let (from_seq_excluded, through_seq) = from.publish(now, &mut |record| {
        if rows.len() == most {
            return false;
        }
        rows.push(Row::of(record));
        true
    });
    let mut records = rows.iter().map(Row::record);
    let applied = to
        .apply_batch(now, from.origin(), from_seq_excluded, through_seq, &mut records)
        .expect("a valid batch");
    assert_eq!(applied.refused, 0, "the replica is large enough");
    rows.len()
}

/// Sends everything that `to` lacks from `from` and that `from` will not publish. Answers how many rows that took.
pub(crate) fn catch_up(from: &dyn Replica, to: &dyn Replica, now: Time) -> usize {
    let (covered, known) = (from.vector(), to.vector());
    let origins: Vec<Origin> =
        covered.iter().map(|(origin, _)| origin).filter(|&origin| origin != to.origin()).collect();
    let mut rows = Vec::new();
    let end = from.scan(now, &origins, &known, Cursor::default(), &mut |record| {
        rows.push(Row::of(record));
        true
    });
    assert!(end.is_none(), "scanned to the end");
    let applied = to.apply_states(now, &mut rows.iter().map(Row::record)).expect("valid rows");
    assert_eq!(applied.refused, 0, "the replica is large enough");
    to.cover(&covered);
    rows.len()
}
