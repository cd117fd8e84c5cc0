//! What can go wrong with a zone, grouped by whose doing it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ZoneKind;
use crate::stamp::Origin;

/// Why a zone could not be made, or would not do what it was asked.
///
/// Every message names the zone and the bound that was passed. Unless a variant says otherwise, the zone is as it was before
/// the call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The configuration's fault. No zone was made.
    /// The size asked for cannot hold a zone of this kind, or is more than one can address.
    #[error("zone `{zone}`: a size of {size} bytes is outside {min}..={max}")]
    InvalidSize {
        /// The zone's name.
        zone: String,
        /// Bytes asked for.
        size: u64,
        /// The smallest size in bytes that works.
        min: u64,
        /// The largest size in bytes that works.
        max: u64,
    },
    /// A setting has a value that makes no sense.
    #[error("zone `{zone}`: {setting} = {value}: {expected}")]
    InvalidSetting {
        /// The zone's name.
        zone: String,
        /// The setting, by its name in the configuration.
        setting: &'static str,
        /// The value it was given.
        value: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// The text or the numbers of a rate make no sense.
    #[error("rate `{rate}`: {expected}")]
    InvalidRate {
        /// The rate as it was given.
        rate: String,
        /// What it should have been.
        expected: &'static str,
    },

    /// A mapped region could not be opened, made or mapped.
    #[error("region `{}`: {reason}", path.display())]
    Region {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file holds something else than a zone, and is left as it is: give another path, or move it away.
    #[error("region `{}` holds no zone; it is left as it is", path.display())]
    NotARegion {
        /// The file.
        path: PathBuf,
    },
    /// The file holds a zone that was made otherwise: give the settings that it has, or another path.
    #[error("region `{}` has {what} {found}, not {expected}", path.display())]
    RegionMismatch {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// What the file says.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// Another process owns the zone in the file. Attach to it instead.
    #[error("region `{}` is owned by another process", path.display())]
    RegionInUse {
        /// The file.
        path: PathBuf,
    },
    /// As many processes are attached as there are places for; those of killed ones are free again when the owner next sweeps.
    #[error("region `{}`: {max} processes are attached, which is the most", path.display())]
    TooManyProcesses {
        /// The file.
        path: PathBuf,
        /// How many places there are.
        max: usize,
    },

    // The caller's fault. Nothing was changed.
    /// Replication is for the process that owns the zone; this one is attached to it.
    #[error("zone `{zone}` belongs to another process, which replicates it")]
    NotTheOwner {
        /// The zone's name.
        zone: String,
    },
    /// A key must have at least one byte.
    #[error("zone `{zone}`: the key is empty")]
    EmptyKey {
        /// The zone's name.
        zone: String,
    },
    /// The key is longer than the zone accepts.
    #[error("zone `{zone}`: a key of {length} bytes is longer than {max}")]
    KeyTooLong {
        /// The zone's name.
        zone: String,
        /// Bytes of the key.
        length: usize,
        /// The longest key accepted, in bytes.
        max: usize,
    },
    /// The key has not the form that a zone of this type needs (an address or a range in an `ip` zone).
    #[error("zone `{zone}`: key `{key}`: {expected}")]
    InvalidKey {
        /// The zone's name.
        zone: String,
        /// The key, at most the first 64 bytes of it; bytes that are no text are shown as replacement characters.
        key: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// Key and value together are larger than the zone accepts.
    #[error("zone `{zone}`: a record of {size} bytes (key and value) is larger than {max}")]
    RecordTooLarge {
        /// The zone's name.
        zone: String,
        /// Bytes of key and value.
        size: usize,
        /// The most bytes of key and value accepted.
        max: usize,
    },
    /// The key is already there, and was to be inserted only if absent.
    #[error("zone `{zone}`: the key exists")]
    KeyExists {
        /// The zone's name.
        zone: String,
    },
    /// The key is not there, and was to be changed only if present.
    #[error("zone `{zone}`: the key does not exist")]
    KeyNotFound {
        /// The zone's name.
        zone: String,
    },

    // Nobody's fault. Nothing was changed; the same call may succeed later.
    /// A keyval zone has no room left, and never evicts live records.
    #[error("zone `{zone}` is full: no room for a record of {size} bytes in {capacity}")]
    ZoneFull {
        /// The zone's name.
        zone: String,
        /// Bytes of key and value.
        size: usize,
        /// The size of the zone in bytes.
        capacity: u64,
    },

    // A peer's fault. Rows before the refused one may have been applied, which is harmless: the version vector covers only what was.
    /// A stamp from a peer is further in the future than clocks may differ: its clock or ours is wrong.
    #[error(
        "zone `{zone}`: a stamp of {stamp_ms} ms is more than {max_skew:?} ahead of our clock, {now_ms} ms"
    )]
    StampAhead {
        /// The zone's name.
        zone: String,
        /// The stamp's time, milliseconds since the Unix epoch.
        stamp_ms: u64,
        /// Our time, milliseconds since the Unix epoch.
        now_ms: u64,
        /// The most that stamps may be ahead.
        max_skew: Duration,
    },
    /// More origins than the zone can keep apart.
    #[error("zone `{zone}`: more than {max} origins")]
    TooManyOrigins {
        /// The zone's name.
        zone: String,
        /// How many the zone has room for.
        max: usize,
    },
    /// A batch in our own name, or a dot that our own origin has not published: an echo, or two nodes with one identity.
    #[error("zone `{zone}`: rows of our own origin {origin} came from outside")]
    OwnOrigin {
        /// The zone's name.
        zone: String,
        /// Our origin.
        origin: Origin,
    },
    /// A row holds the state of another kind of zone.
    #[error("zone `{zone}` is a {kind} zone; the row is not for one")]
    WrongKind {
        /// The zone's name.
        zone: String,
        /// Its kind.
        kind: ZoneKind,
    },
    /// The sequence numbers and the rows of a batch do not fit together.
    #[error(
        "zone `{zone}`: a batch from {from_seq_excluded} (excluded) through {through_seq} has {rows} rows"
    )]
    InvalidBatch {
        /// The zone's name.
        zone: String,
        /// The batch begins after this sequence.
        from_seq_excluded: u64,
        /// The batch ends with this sequence.
        through_seq: u64,
        /// How many rows it had, as far as they were read.
        rows: u64,
    },
}

/// As much of a key as an error shows.
pub(crate) fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(&key[..key.len().min(64)]).into_owned()
}

impl Error {
    pub(crate) fn region(path: &Path, error: &std::io::Error) -> Self {
        Self::Region { path: path.to_owned(), reason: error.to_string() }
    }

    pub(crate) fn mismatch(path: &Path, what: &'static str, found: u64, expected: u64) -> Self {
        Self::RegionMismatch {
            path: path.to_owned(),
            what,
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }
}
