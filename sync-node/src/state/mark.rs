//! How far the records of a file reach: everything through this vector is there or was overtaken, and the cluster was heard at this time.

use sync_store::{Origin, Time, VersionVector};

/// More origins than any zone keeps apart.
const ORIGINS_MAX: usize = 1 << 14;

/// What is written behind the records that it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) vector: VersionVector,
    /// When the node had last caught up with its cluster: removals of before are known.
    pub(crate) contact: Time,
}

impl Mark {
    /// Before the first record.
    pub(crate) const fn new(contact: Time) -> Self {
        Self { vector: VersionVector::new(), contact }
    }

    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.contact.as_millis().to_le_bytes());
        for (origin, through_seq) in self.vector.iter().take(ORIGINS_MAX) {
            bytes.extend(origin.raw().to_le_bytes());
            bytes.extend(through_seq.to_le_bytes());
        }
    }

    /// Reads what [`Mark::encode`] wrote; `None` for anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let (contact, entries) = words.split_first()?;
        let (entries, []) = entries.as_chunks::<2>() else { return None };
        if entries.len() > ORIGINS_MAX {
            return None;
        }
        let entry = |[origin, seq]: &[[u8; 8]; 2]| {
            Some((Origin::from_raw(u64::from_le_bytes(*origin))?, u64::from_le_bytes(*seq)))
        };
        let vector = entries.iter().map(entry).collect::<Option<_>>()?;
        Some(Self { vector, contact: Time::from_millis(u64::from_le_bytes(*contact)) })
    }
}
