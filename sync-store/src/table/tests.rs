use super::*;
use crate::ZoneKind;

pub(super) fn settings(kind: ZoneKind, size: u64) -> Settings {
    Settings {
        name: "z".to_owned(),
        kind,
        origin: Origin::from_raw(1).expect("not 0"),
        size,
        region: Region::anonymous(),
        parameters: Parameters::default(),
        match_by: MatchBy::Exact,
        max_key: 16,
        is_key: |_| true,
        max_record: 64,
        record_size: 48,
        idle_ms: 1_000,
        lag_unit_ms: 1,
        retention_ms: 1_000,
        max_clock_skew: Duration::from_secs(5),
    }
}

pub(super) fn table(kind: ZoneKind, size: u64) -> Table {
    Table::new(settings(kind, size)).expect("a table")
}

/// Writes a record without marking it.
pub(super) fn upsert(
    table: &Table,
    now: Time,
    key: &[u8],
    value: Put<'_>,
    decide: impl FnMut(Option<&Found>) -> Step,
) -> Result<Written, Error> {
    table.upsert(now, key, table.hash(key), value, decide)
}

/// Writes a record as a local writer would, without marking it.
pub(super) fn set(table: &Table, key: &[u8], value: &[u8], now: Time) -> Written {
    let written =
        upsert(table, now, key, Put::New(value), |found| Step::Write(table.header(found, now, false, 0)));
    written.expect("room")
}

pub(super) fn get(table: &Table, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    let found = table.find(key, table.hash(key), Some(&mut value))?;
    (!found.header().removed).then_some(value)
}

/// Takes a record out as an eviction would; false if it is not there or was changed.
pub(super) fn evict(table: &Table, key: &[u8]) -> bool {
    let found = table.find_meta(key, table.hash(key));
    let block = found.and_then(|found| table.unlink(found.at, found.slot));
    block.map(|block| table.free(block)).is_some()
}

/// In how many slots a key is.
pub(super) fn copies(table: &Table, key: &[u8]) -> usize {
    let (mut found, mut value) = (Vec::new(), Vec::new());
    (0..table.slots())
        .filter(|&at| table.copy_at(at, &mut found, &mut value).is_some() && found == key)
        .count()
}

#[cfg(loom)]
mod loom_models;
#[cfg(not(loom))]
mod plain;
#[cfg(not(loom))]
mod recover;
#[cfg(not(loom))]
mod stopped;
#[cfg(not(loom))]
mod stress;
