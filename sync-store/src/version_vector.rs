//! What is known of every origin.
//!
//! A version vector maps an origin to the highest sequence *up to which everything* of that origin is known: applied, or
//! superseded by something newer. It therefore names a prefix of each origin's publications, never a set with holes; a batch
//! that would leave a hole does not advance it. That prefix is what makes exactly-once application, acknowledgement and
//! catch-up the same comparison of numbers.

use crate::stamp::{Dot, Origin};

/// Origin → highest sequence through which everything is known; 0, and not stored, for an origin never heard of.
///
/// A sorted vector: a cluster has a handful of origins, and their order makes comparison and encoding deterministic.
///
/// ```
/// use sync_store::{Dot, Origin, VersionVector};
///
/// let a = Origin::from_raw(1).expect("not 0");
/// let b = Origin::from_raw(2).expect("not 0");
/// let mut ours: VersionVector = [(a, 5)].into_iter().collect();
/// let theirs: VersionVector = [(a, 3), (b, 9)].into_iter().collect();
/// assert!(ours.covers(Dot { origin: a, seq: 5 }));
/// assert_eq!(ours.lacks(&theirs).collect::<Vec<_>>(), [(b, 0, 9)]);
/// ours.merge(&theirs);
/// assert_eq!((ours.get(a), ours.get(b)), (5, 9));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionVector(Vec<(Origin, u64)>);

impl VersionVector {
    /// A vector that knows nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    fn position(&self, origin: Origin) -> Result<usize, usize> {
        self.0.binary_search_by_key(&origin, |&(origin, _)| origin)
    }

    /// The sequence through which everything of `origin` is known; 0 if it was never heard of.
    pub fn get(&self, origin: Origin) -> u64 {
        self.position(origin).ok().and_then(|at| self.0.get(at)).map_or(0, |&(_, seq)| seq)
    }

    /// Everything of `origin` through `through_seq` is known from here on. Never goes back.
    pub fn advance(&mut self, origin: Origin, through_seq: u64) {
        if through_seq == 0 {
            return; // equal vectors stay equal in memory
        }
        match self.position(origin) {
            Ok(at) => self.0[at].1 = self.0[at].1.max(through_seq),
            Err(at) => self.0.insert(at, (origin, through_seq)),
        }
    }

    /// Whether the publication that `dot` names is known.
    pub fn covers(&self, dot: Dot) -> bool {
        self.get(dot.origin) >= dot.seq
    }

    /// Knows what either knew: the maximum of each origin.
    pub fn merge(&mut self, other: &Self) {
        for (origin, seq) in other.iter() {
            self.advance(origin, seq);
        }
    }

    /// Forgets an origin. For one that is gone for good and whose records are covered by others.
    pub fn remove(&mut self, origin: Origin) {
        if let Ok(at) = self.position(origin) {
            self.0.remove(at);
        }
    }

    /// Every origin with its sequence, in ascending order of origins.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Origin, u64)> + '_ {
        self.0.iter().copied()
    }

    /// What `other` knows and we do not: (origin, the sequence we have, the sequence it has).
    pub fn lacks<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (Origin, u64, u64)> + 'a {
        other
            .iter()
            .map(|(origin, want)| (origin, self.get(origin), want))
            .filter(|(_, have, want)| have < want)
    }

    /// How many origins have been heard of.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Origin, u64)> for VersionVector {
    /// Of an origin that occurs more than once the highest sequence counts.
    fn from_iter<I: IntoIterator<Item = (Origin, u64)>>(iter: I) -> Self {
        let mut entries: Vec<_> = iter.into_iter().filter(|&(_, seq)| seq > 0).collect();
        // The highest sequence of an origin first, since that is the one that is kept.
        entries.sort_unstable_by_key(|&(origin, seq)| (origin, std::cmp::Reverse(seq)));
        entries.dedup_by_key(|&mut (origin, _)| origin);
        Self(entries)
    }
}

#[cfg(test)]
mod tests;
