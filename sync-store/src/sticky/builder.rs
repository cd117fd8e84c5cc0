//! The settings of a sticky zone.

use std::path::Path;
use std::time::Duration;

use crate::block::KEY_MAX;
use crate::lengths::MatchBy;
use crate::region::{OpenRegion, Parameters, Region};
use crate::stamp::MAX_CLOCK_SKEW;
use crate::table::{self, Settings, Table, millis};
use crate::{Error, Origin, ZoneKind};

use super::{LAG_SHARE, StickyZone, idle_ms};

/// The settings of a [`StickyZone`] to be made; see [`StickyZone::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct StickyZoneBuilder {
    name: String,
    size: u64,
    region: Region,
    origin: Option<Origin>,
    timeout: Duration,
    max_record: usize,
    record_size: usize,
    tombstone_retention: Duration,
    max_clock_skew: Duration,
}

impl StickyZoneBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            size: table::SIZE,
            region: Region::anonymous(),
            origin: None,
            timeout: Duration::from_secs(600),
            max_record: table::MAX_RECORD,
            record_size: table::RECORD_SIZE,
            tombstone_retention: table::TOMBSTONE_RETENTION,
            max_clock_skew: MAX_CLOCK_SKEW,
        }
    }

    /// Bytes of the zone, everything included; it never takes more. A session takes 24 bytes, and its key and server each padded to 8; rounded up to
    /// 32 (a key of 32 and a server of 20 bytes: 96). The index adds 33 at half load, see [`record_size`](Self::record_size). Default: 1 MiB.
    pub fn size(mut self, size: u64) -> Self {
        self.size = size;
        self
    }

    /// The identity that this node publishes under. Default: a random one.
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// After which time without an access a session is forgotten (and 9/64 of it, see [`StickyZone`]). At least a millisecond. Default: ten
    /// minutes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The most bytes of session and server together, up to 64 KiB. Default: 16 KiB.
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.max_record = bytes;
        self
    }

    /// The usual size of key and value together in bytes: how the zone shares its memory between index and records. A zone of much larger records
    /// runs out of memory for them while slots are left, one of much smaller ones the other way round. Default: 48.
    pub fn record_size(mut self, bytes: usize) -> Self {
        self.record_size = bytes;
        self
    }

    /// How long a tombstone is kept: longer than any node is cut off and comes back with older sessions, but never longer than the time-out, after which those
    /// have expired. Default: an hour.
    pub fn tombstone_retention(mut self, retention: Duration) -> Self {
        self.tombstone_retention = retention;
        self
    }

    /// How far ahead of ours the clocks of peers may be. Default: [`MAX_CLOCK_SKEW`].
    pub fn max_clock_skew(mut self, skew: Duration) -> Self {
        self.max_clock_skew = skew;
        self
    }

    /// Where the memory of the zone comes from. Default: [`Region::anonymous`].
    pub fn region(mut self, region: Region) -> Self {
        self.region = region;
        self
    }

    /// Makes the zone; in a mapped region that holds it already, opens it with its sessions.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSize`], [`Error::InvalidSetting`]; in a mapped region also [`Error::Region`], [`Error::NotARegion`],
    /// [`Error::RegionMismatch`], [`Error::RegionInUse`].
    pub fn build(self) -> Result<StickyZone, Error> {
        table::check_record_sizes(&self.name, self.max_record, self.record_size)?;
        let timeout_ms = millis(self.timeout);
        if timeout_ms == 0 {
            return Err(Error::InvalidSetting {
                zone: self.name,
                setting: "timeout",
                value: format!("{:?}", self.timeout),
                expected: "a millisecond at least",
            });
        }
        Ok(StickyZone { table: Table::new(self.settings())?, timeout_ms })
    }

    /// Attaches to the zone that another process has made in a mapped region; see [`StickyZone::attach`].
    pub(super) fn attach(path: &Path) -> Result<StickyZone, Error> {
        let region = OpenRegion::attach(path, ZoneKind::Sticky)?;
        let invalid = || Error::NotARegion { path: path.to_owned() };
        let [max_record, record_size] = region.fixed();
        let [timeout_ms, retention_ms, skew_ms] = region.current();
        let builder = Self {
            size: region.size(),
            region: Region::map_file(path),
            timeout: Duration::from_millis(timeout_ms),
            max_record: usize::try_from(max_record).map_err(|_| invalid())?,
            record_size: usize::try_from(record_size).map_err(|_| invalid())?,
            tombstone_retention: Duration::from_millis(retention_ms),
            max_clock_skew: Duration::from_millis(skew_ms),
            ..Self::new(region.name().ok_or_else(invalid)?)
        };
        table::check_record_sizes(&builder.name, builder.max_record, builder.record_size)?;
        Ok(StickyZone { table: Table::attached(builder.settings(), region)?, timeout_ms })
    }

    fn settings(self) -> Settings {
        let timeout_ms = millis(self.timeout);
        let parameters = Parameters {
            fixed: vec![("max_record", self.max_record as u64), ("record_size", self.record_size as u64)],
            current: vec![timeout_ms, millis(self.tombstone_retention), millis(self.max_clock_skew)],
        };
        Settings {
            kind: ZoneKind::Sticky,
            origin: self.origin.unwrap_or_else(Origin::random),
            size: self.size,
            region: self.region,
            match_by: MatchBy::Exact,
            max_key: KEY_MAX.min(self.max_record),
            is_key: |_| true,
            max_record: self.max_record,
            record_size: self.record_size,
            idle_ms: idle_ms(timeout_ms),
            lag_unit_ms: (timeout_ms / LAG_SHARE).max(1),
            retention_ms: millis(self.tombstone_retention).min(timeout_ms),
            max_clock_skew: self.max_clock_skew,
            parameters,
            name: self.name,
        }
    }
}
