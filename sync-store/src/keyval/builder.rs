//! The settings of a keyval zone.

use std::path::Path;
use std::time::Duration;

use crate::lengths::{Lengths, MatchBy};
use crate::region::{OpenRegion, Parameters, Region};
use crate::stamp::MAX_CLOCK_SKEW;
use crate::table::{self, Settings, Table, millis};
use crate::{Error, Origin, ZoneKind};

use super::KeyvalZone;
use super::address::Range;

/// The settings of a [`KeyvalZone`] to be made; see [`KeyvalZone::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyvalZoneBuilder {
    name: String,
    size: u64,
    region: Region,
    origin: Option<Origin>,
    timeout: Option<Duration>,
    match_by: MatchBy,
    max_record: usize,
    record_size: usize,
    tombstone_retention: Duration,
    max_clock_skew: Duration,
}

impl KeyvalZoneBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            size: table::SIZE,
            region: Region::anonymous(),
            origin: None,
            timeout: None,
            match_by: MatchBy::default(),
            max_record: table::MAX_RECORD,
            record_size: table::RECORD_SIZE,
            tombstone_retention: table::TOMBSTONE_RETENTION,
            max_clock_skew: MAX_CLOCK_SKEW,
        }
    }

    /// Bytes of the zone, everything included; it never takes more. A record takes 16 bytes, 8 more if it expires, and its key and value each padded to 8; rounded up to
    /// 32 (a key of 16 and a value of 32 bytes: 64). The index adds 33 at half load, see [`record_size`](Self::record_size). Default: 1 MiB.
    pub fn size(mut self, size: u64) -> Self {
        self.size = size;
        self
    }

    /// The name that it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The size that it was given.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.size
    }

    /// Whether it lies in a [mapped file](Region::map_file).
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.region.path().is_some()
    }

    /// The identity that this node publishes under. Default: a random one.
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// After which time records expire that do not say so themselves. Default: never.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How looked-up keys find records. Default: exactly.
    pub fn match_by(mut self, match_by: MatchBy) -> Self {
        self.match_by = match_by;
        self
    }

    /// The most bytes of key and value together, up to 64 KiB. Default: 16 KiB.
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

    /// How long a tombstone is kept, and an expired record while there is room: longer than any node is cut off and comes back with older writes. Default: an hour.
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

    /// Makes the zone; in a mapped region that holds it already, opens it with its records.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSize`], [`Error::InvalidSetting`]; in a mapped region also [`Error::Region`], [`Error::NotARegion`],
    /// [`Error::RegionMismatch`], [`Error::RegionInUse`].
    pub fn build(self) -> Result<KeyvalZone, Error> {
        table::check_record_sizes(&self.name, self.max_record, self.record_size)?;
        let (match_by, timeout_ms) = (self.match_by, self.timeout.map(millis));
        Ok(KeyvalZone { table: Table::new(self.settings())?, match_by, timeout_ms })
    }

    /// Attaches to the zone that another process has made in a mapped region; see [`KeyvalZone::attach`].
    pub(super) fn attach(path: &Path) -> Result<KeyvalZone, Error> {
        let region = OpenRegion::attach(path, ZoneKind::Keyval)?;
        let invalid = || Error::NotARegion { path: path.to_owned() };
        let [match_by, max_record, record_size] = region.fixed();
        let [timeout, retention_ms, skew_ms] = region.current();
        let builder = Self {
            size: region.size(),
            region: Region::map_file(path),
            timeout: timeout.checked_sub(1).map(Duration::from_millis),
            match_by: MatchBy::from_number(match_by).ok_or_else(invalid)?,
            max_record: usize::try_from(max_record).map_err(|_| invalid())?,
            record_size: usize::try_from(record_size).map_err(|_| invalid())?,
            tombstone_retention: Duration::from_millis(retention_ms),
            max_clock_skew: Duration::from_millis(skew_ms),
            ..Self::new(region.name().ok_or_else(invalid)?)
        };
        table::check_record_sizes(&builder.name, builder.max_record, builder.record_size)?;
        let (match_by, timeout_ms) = (builder.match_by, builder.timeout.map(millis));
        Ok(KeyvalZone { table: Table::attached(builder.settings(), region)?, match_by, timeout_ms })
    }

    fn settings(self) -> Settings {
        let parameters = Parameters {
            fixed: vec![
                ("type", self.match_by.number()),
                ("max_record", self.max_record as u64),
                ("record_size", self.record_size as u64),
            ],
            current: vec![
                self.timeout.map_or(0, |timeout| millis(timeout).saturating_add(1)),
                millis(self.tombstone_retention),
                millis(self.max_clock_skew),
            ],
        };
        Settings {
            kind: ZoneKind::Keyval,
            origin: self.origin.unwrap_or_else(Origin::random),
            size: self.size,
            region: self.region,
            match_by: self.match_by,
            max_key: Lengths::max_key(self.match_by).min(self.max_record),
            is_key: match self.match_by {
                MatchBy::Exact | MatchBy::Prefix => |_| true,
                MatchBy::Ip => |key| Range::from_bytes(key).is_some(),
            },
            max_record: self.max_record,
            record_size: self.record_size,
            idle_ms: 0,
            lag_unit_ms: 1,
            retention_ms: millis(self.tombstone_retention),
            max_clock_skew: self.max_clock_skew,
            parameters,
            name: self.name,
        }
    }
}
