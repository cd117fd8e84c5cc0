//! The tables of zones, and what no two of them may have.

use super::reader::Section;
use super::values::{self, Parsed, count, flag, mode, name, positive_time, size, text};
use super::{Delay, KeyvalType, KeyvalZone, LimitReqZone, Place, StickyZone};
use crate::StateSync;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use sync_store::{Prefault, Rate, Region};
use toml::de::DeValue;

const STICKY_TIMEOUT: Duration = Duration::from_secs(600);
/// A key of 16 bytes and a value of 32: what zones take for usual if not said otherwise.
const RECORD_SIZE: u64 = 48;

/// What a zone has to have for itself, with the place of the zone that has it.
#[derive(Default)]
pub(super) struct Taken {
    /// With the kind of the zone.
    names: BTreeMap<String, (&'static str, Place)>,
    files: BTreeMap<PathBuf, Place>,
}

impl Taken {
    fn name(&mut self, section: &Section<'_, '_>, kind: &'static str, name: &str) {
        let place = section.report().place(section.position("name"));
        if let Some((_, first)) = self.names.insert(name.to_owned(), (kind, place)) {
            let message =
                format!("zone `{name}` exists already, at line {}; give this one another name", first.line);
            section.problem("name", message);
        }
    }

    /// The names of the zones of a kind.
    #[cfg(any(feature = "envoy_rls", feature = "haproxy", feature = "redis"))]
    pub(super) fn of_kind(&self, kind: &str) -> std::collections::BTreeSet<String> {
        let names = self.names.iter().filter(|(_, (known, _))| *known == kind);
        names.map(|(name, _)| name.clone()).collect()
    }

    fn file(&mut self, section: &Section<'_, '_>, key: &str, path: &Path) {
        let place = section.report().place(section.position(key));
        if let Some(first) = self.files.insert(path.to_owned(), place) {
            let message = format!(
                "`{key}` {} holds the zone at line {} already; give this one another file",
                path.display(),
                first.line
            );
            section.problem(key, message);
        }
    }
}

/// Where the memory of a zone comes from.
fn region(table: &mut Section<'_, '_>, taken: &mut Taken) -> Region {
    let folder = table.report().folder().to_owned();
    let file = table.read("map_file", |value| zone_file(&folder, value, "/dev/shm/sessions.zone"));
    let mode = table.read("map_mode", mode);
    let huge_pages = table.read("huge_pages", flag);
    let prefault = table.read("prefault", prefault);
    if table.has("map_mode") && !table.has("map_file") {
        table.problem(
            "map_mode",
            "`map_mode` says nothing without `map_file`; add that, or remove `map_mode`",
        );
    }
    let mut region = file.map_or_else(Region::anonymous, Region::map_file);
    region.path().into_iter().for_each(|path| taken.file(table, "map_file", path));
    if let Some(mode) = mode {
        region = region.mode(mode);
    }
    if let Some(huge_pages) = huge_pages {
        region = region.huge_pages(huge_pages);
    }
    // Touching the pages of a file makes the system write them to the disk that it may lie on.
    let default = if region.path().is_some() { Prefault::Never } else { Prefault::Beside };
    region.prefault(prefault.unwrap_or(default))
}

pub(super) fn keyval_zone(
    mut table: Section<'_, '_>,
    retention: Duration,
    taken: &mut Taken,
) -> Option<KeyvalZone> {
    let name = table.require("name", "\"one\"", name);
    name.iter().for_each(|name| taken.name(&table, "keyval_zone", name));
    let size = table.require("size", "\"1m\"", size);
    let timeout = table.read("timeout", positive_time);
    let kind = table.read("type", keyval_type).unwrap_or_default();
    let sync = table.read("sync", flag).unwrap_or(true);
    let tombstone_retention = table.read("tombstone_retention", positive_time).unwrap_or(retention);
    let record_size = record_size(&mut table);
    let region = region(&mut table, taken);
    let (state, state_sync) = state(&mut table, taken);
    table.finish();
    Some(KeyvalZone {
        name: name?,
        size: size?,
        timeout,
        kind,
        sync,
        tombstone_retention,
        record_size,
        region,
        state,
        state_sync,
    })
}

/// The file that a zone's records are kept in.
fn state(table: &mut Section<'_, '_>, taken: &mut Taken) -> (Option<PathBuf>, StateSync) {
    let folder = table.report().folder().to_owned();
    let state = table.read("state", |value| zone_file(&folder, value, "one.keyval"));
    let sync = table.read("state_sync", state_sync);
    state.iter().for_each(|path| taken.file(table, "state", path));
    if table.has("state") && table.has("map_file") {
        // One would have to be believed where they differ, and a process that attaches writes to one of them only.
        table.problem(
            "state",
            "`state` is not possible with `map_file`: the zone would have two truths after a restart; remove one of them",
        );
    }
    if table.has("state_sync") && !table.has("state") {
        table.problem(
            "state_sync",
            "`state_sync` says nothing without `state`; add that, or remove `state_sync`",
        );
    }
    (state, sync.unwrap_or_default())
}

pub(super) fn sticky_zone(
    mut table: Section<'_, '_>,
    retention: Duration,
    taken: &mut Taken,
) -> Option<StickyZone> {
    let name = table.require("name", "\"sessions\"", name);
    name.iter().for_each(|name| taken.name(&table, "sticky_zone", name));
    let size = table.require("size", "\"1m\"", size);
    let timeout = table.read("timeout", positive_time).unwrap_or(STICKY_TIMEOUT);
    let sync = table.read("sync", flag).unwrap_or(true);
    let tombstone_retention = table.read("tombstone_retention", positive_time).unwrap_or(retention);
    let record_size = record_size(&mut table);
    let region = region(&mut table, taken);
    table.finish();
    Some(StickyZone { name: name?, size: size?, timeout, sync, tombstone_retention, record_size, region })
}

pub(super) fn limit_req_zone(mut table: Section<'_, '_>, taken: &mut Taken) -> Option<LimitReqZone> {
    let name = table.require("name", "\"req\"", name);
    name.iter().for_each(|name| taken.name(&table, "limit_req_zone", name));
    let size = table.require("size", "\"1m\"", size);
    let rate = table.require("rate", "\"100r/s\"", rate);
    let burst = table.read("burst", count).unwrap_or(0);
    let delay_after = table.read("delay", count);
    let nodelay = table.read("nodelay", flag).unwrap_or(false);
    let dry_run = table.read("dry_run", flag).unwrap_or(false);
    let strict = table.read("strict", flag).unwrap_or(false);
    let sync = table.read("sync", flag).unwrap_or(true);
    if strict && !sync {
        table.problem(
            "strict",
            "`strict` says nothing about a zone that is not shared; remove it, or `sync = false`",
        );
    }
    if delay_after.is_some() && nodelay {
        table.problem("nodelay", "`nodelay` contradicts `delay`; remove one of them");
    }
    let region = region(&mut table, taken);
    table.finish();
    let delay = if nodelay { Delay::Nodelay } else { Delay::After(delay_after.unwrap_or(0)) };
    Some(LimitReqZone { name: name?, size: size?, rate: rate?, burst, delay, dry_run, strict, sync, region })
}

fn record_size(table: &mut Section<'_, '_>) -> u64 {
    table.read("record_size", size).unwrap_or(RECORD_SIZE)
}

fn rate(value: &DeValue<'_>) -> Parsed<Rate> {
    let text = text(value)?;
    text.parse().map_err(|error: sync_store::Error| match error {
        sync_store::Error::InvalidRate { rate, expected } => {
            format!("{rate:?} is not a rate; it must be {expected}")
        }
        error => error.to_string(),
    })
}

fn prefault(value: &DeValue<'_>) -> Parsed<Prefault> {
    match (value.as_bool(), value.as_str()) {
        (Some(true), _) => Ok(Prefault::First),
        (Some(false), _) => Ok(Prefault::Never),
        (None, Some("beside")) => Ok(Prefault::Beside),
        (None, Some(other)) => {
            Err(format!("{other:?} is not a way to touch memory; write true, false or \"beside\""))
        }
        (None, None) => Err(format!("must be true, false or \"beside\", not {}", values::kind(value))),
    }
}

fn keyval_type(value: &DeValue<'_>) -> Parsed<KeyvalType> {
    Ok(match text(value)?.as_str() {
        "string" => KeyvalType::String,
        "ip" => KeyvalType::Ip,
        "prefix" => KeyvalType::Prefix,
        other => return Err(format!("{other:?} is not a type of keys; write string, ip or prefix")),
    })
}

fn state_sync(value: &DeValue<'_>) -> Parsed<StateSync> {
    Ok(match text(value)?.as_str() {
        "always" => StateSync::Always,
        "interval" => StateSync::Interval,
        other => return Err(format!("{other:?} is not possible; write always or interval")),
    })
}

/// A file that is there or can be made. It is not opened: a running node may have it.
fn zone_file(folder: &Path, value: &DeValue<'_>, example: &str) -> Parsed<PathBuf> {
    let path = folder.join(text(value)?);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.as_os_str().is_empty() || path.is_dir() {
        return Err(format!("must name a file, such as {example:?}"));
    }
    if !folder.is_dir() {
        return Err(format!(
            "cannot be made: there is no folder {}; make it, or name another",
            folder.display()
        ));
    }
    Ok(path)
}
