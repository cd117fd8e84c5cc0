//! Between a zone's records and the rows of the wire.

use sync_proto::RowRef;
use sync_store::{Dot, Origin, Record, Stamp, State, ZoneKind};

/// A record as a row. `sender` fills the writer of rows that have none.
pub(crate) fn row<'a>(record: &Record<'a>) -> RowRef<'a> {
    let origin = record.dot.origin.raw();
    let row = RowRef { key: record.key, origin, seq: record.dot.seq, writer: origin, ..RowRef::default() };
    match record.state {
        State::Value { value, stamp, writer, time_ms } => {
            RowRef { value, stamp: stamp.raw(), writer: writer.raw(), time_ms, ..row }
        }
        State::Removed { stamp, writer } => {
            RowRef { removed: true, stamp: stamp.raw(), writer: writer.raw(), ..row }
        }
        State::Limit { tat_ns, debt_ns } => RowRef { tat_ns, debt_ns, ..row },
    }
}

/// A row as a record of a zone of `kind`; `None` if it names no origin or writer, which no zone can keep.
pub(crate) fn record<'a>(kind: ZoneKind, row: &RowRef<'a>) -> Option<Record<'a>> {
    let dot = Dot { origin: Origin::from_raw(row.origin)?, seq: row.seq };
    let state = match kind {
        ZoneKind::Limit => State::Limit { tat_ns: row.tat_ns, debt_ns: row.debt_ns },
        ZoneKind::Keyval | ZoneKind::Sticky => {
            let (stamp, writer) = (Stamp::from_raw(row.stamp), Origin::from_raw(row.writer)?);
            if row.removed {
                State::Removed { stamp, writer }
            } else {
                State::Value { value: row.value, stamp, writer, time_ms: row.time_ms }
            }
        }
    };
    Some(Record { key: row.key, dot, state })
}
