//! How keys of a zone are matched, and which key lengths are present: a lookup by range or prefix probes only those.

use crate::block::KEY_MAX;
use crate::layout::{Layout, Section};
use crate::region::OpenRegion;
use crate::words::{LINE, Ordering};

/// How a keyval zone finds the record for a key that is looked up: the `type` of the zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MatchBy {
    /// The same bytes (`type = "string"`).
    #[default]
    Exact,
    /// The most specific address range that contains the address (`type = "ip"`). Keys are addresses and ranges.
    Ip,
    /// The longest key that the looked-up one begins with (`type = "prefix"`). Keys have 255 bytes at most.
    Prefix,
}

impl MatchBy {
    pub(crate) const fn number(self) -> u64 {
        match self {
            Self::Exact => 0,
            Self::Ip => 1,
            Self::Prefix => 2,
        }
    }

    pub(crate) const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Exact),
            1 => Some(Self::Ip),
            2 => Some(Self::Prefix),
            _ => None,
        }
    }
}

/// Key bytes of an IPv4 and of an IPv6 range: the length of the range, then the address.
pub(crate) const V4_KEY: usize = 5;
pub(crate) const V6_KEY: usize = 17;
/// IPv6 ranges are counted behind the 33 lengths of IPv4 ranges.
const V6_FIRST: usize = 33;
const V6_COUNT: usize = 129;
const PREFIX_MAX: usize = 255;

/// One counter per key length: how many records (not tombstones) have it. Raised before a record can be found and lowered after it
/// cannot any more, so a length that is not counted is not there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    match_by: MatchBy,
    counts: Section,
}

impl Lengths {
    pub(crate) fn new(layout: &mut Layout, match_by: MatchBy) -> Option<Self> {
        Some(Self { match_by, counts: layout.take(Self::count(match_by))? })
    }

    const fn count(match_by: MatchBy) -> usize {
        match match_by {
            MatchBy::Exact => 0,
            MatchBy::Ip => V6_FIRST + V6_COUNT,
            MatchBy::Prefix => PREFIX_MAX + 1,
        }
    }

    /// How many words [`Self::new`] takes at most.
    pub(crate) const fn words(match_by: MatchBy) -> usize {
        Self::count(match_by) + LINE
    }

    /// The longest key in bytes.
    pub(crate) const fn max_key(match_by: MatchBy) -> usize {
        match match_by {
            MatchBy::Exact => KEY_MAX,
            MatchBy::Ip => V6_KEY,
            MatchBy::Prefix => PREFIX_MAX,
        }
    }

    /// How many counters there are.
    pub(crate) const fn len(self) -> usize {
        self.counts.len()
    }

    /// By how much each counter differs from what it should be.
    pub(crate) fn off_by(self, region: &OpenRegion, should_be: &[i64]) -> Vec<i64> {
        let counts = region.words(self.counts).iter().zip(should_be);
        counts.map(|(count, is)| is - count.load(Ordering::Acquire).cast_signed()).collect()
    }

    /// Corrects the counters.
    pub(crate) fn correct(self, region: &OpenRegion, differences: &[i64]) {
        for (count, difference) in region.words(self.counts).iter().zip(differences) {
            count.fetch_add(difference.cast_unsigned(), Ordering::AcqRel);
        }
    }

    /// Which length a key has, by its bytes and its first byte.
    pub(crate) fn id(self, key_len: usize, lead: u8) -> Option<usize> {
        let id = match self.match_by {
            MatchBy::Exact => return None,
            MatchBy::Ip if key_len == V4_KEY => usize::from(lead),
            MatchBy::Ip => V6_FIRST + usize::from(lead),
            MatchBy::Prefix => key_len,
        };
        (id < self.counts.len()).then_some(id)
    }

    /// Counts a record with such a key, or uncounts it, given -1. The caller orders it (see above): AcqRel, between the changes of the
    /// slot around it.
    pub(crate) fn add(self, region: &OpenRegion, key_len: usize, lead: u8, count: i64) {
        if let Some(id) = self.id(key_len, lead) {
            region.words(self.counts)[id].fetch_add(count.cast_unsigned(), Ordering::AcqRel);
        }
    }

    /// Whether keys of that length may be there.
    pub(crate) fn present(self, region: &OpenRegion, key_len: usize, lead: u8) -> bool {
        // Acquire pairs with `add`: who has seen that a record was put there finds its length.
        self.id(key_len, lead).is_some_and(|id| region.words(self.counts)[id].load(Ordering::Acquire) != 0)
    }
}
