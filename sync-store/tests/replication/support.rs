//! Rows that own what they hold, so that they can be kept, shuffled and repeated.

use sync_store::{Cursor, Dot, Origin, Record, Replica, Stamp, State, Time};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnedState {
    Value { value: Vec<u8>, stamp: Stamp, writer: Origin, time_ms: u64 },
    Removed { stamp: Stamp, writer: Origin },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: Vec<u8>,
    pub(crate) dot: Dot,
    pub(crate) state: OwnedState,
}

impl Row {
    pub(crate) fn of(record: &Record<'_>) -> Self {
        let state = match record.state {
            State::Value { value, stamp, writer, time_ms } => {
                OwnedState::Value { value: value.to_vec(), stamp, writer, time_ms }
            }
            State::Removed { stamp, writer } => OwnedState::Removed { stamp, writer },
            State::Limit { .. } => panic!("not in a keyval or sticky zone"),
        };
        Self { key: record.key.to_vec(), dot: record.dot, state }
    }

    pub(crate) fn record(&self) -> Record<'_> {
        let state = match &self.state {
            OwnedState::Value { value, stamp, writer, time_ms } => {
                State::Value { value, stamp: *stamp, writer: *writer, time_ms: *time_ms }
            }
            OwnedState::Removed { stamp, writer } => State::Removed { stamp: *stamp, writer: *writer },
        };
        Record { key: &self.key, dot: self.dot, state }
    }
}

/// A batch of the steady stream.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) origin: Origin,
    pub(crate) from_seq_excluded: u64,
    pub(crate) through_seq: u64,
    pub(crate) rows: Vec<Row>,
}

/// Publishes up to `most` records.
pub(crate) fn publish(zone: &dyn Replica, now: Time, most: usize) -> Batch {
    let mut rows = Vec::new();
    let (from_seq_excluded, through_seq) = zone.publish(now, &mut |record| {
        if rows.len() == most {
            return false;
        }
        rows.push(Row::of(record));
        true
    });
    Batch { origin: zone.origin(), from_seq_excluded, through_seq, rows }
}

pub(crate) fn deliver(zone: &dyn Replica, now: Time, batch: &Batch) {
    zone.apply_batch(
        now,
        batch.origin,
        batch.from_seq_excluded,
        batch.through_seq,
        &mut batch.rows.iter().map(Row::record),
    )
    .expect("a valid batch");
}

/// Sends everything that `to` lacks from `from`, a few records at a time.
pub(crate) fn catch_up(from: &dyn Replica, to: &dyn Replica, now: Time) -> usize {
    let covered = from.vector();
    let known = to.vector();
    let origins: Vec<Origin> =
        covered.iter().map(|(origin, _)| origin).filter(|&origin| origin != to.origin()).collect();
    let mut cursor = Some(Cursor::default());
    let mut sent = 0;
    while let Some(at) = cursor {
        let mut rows = Vec::new();
        cursor = from.scan(now, &origins, &known, at, &mut |record| {
            if rows.len() == 3 {
                return false;
            }
            rows.push(Row::of(record));
            true
        });
        sent += rows.len();
        let applied = to.apply_states(now, &mut rows.iter().map(Row::record)).expect("valid rows");
        assert_eq!(applied.refused, 0);
    }
    to.cover(&covered);
    sent
}
