//! Which operations, on which keys: sequences made before the clock runs.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::rounds::Scale;

/// Marks an operation that writes. The other bits are the index of the key.
pub(crate) const WRITE: u32 = 1 << 31;

/// Exponent of the Zipf distribution: the k-th most frequent key occurs in proportion to k^-0.99, as in YCSB.
const EXPONENT: f64 = 0.99;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distribution {
    Uniform,
    Zipf,
}

impl Distribution {
    pub(crate) const ALL: [Self; 2] = [Self::Uniform, Self::Zipf];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
        }
    }

    /// A sequence for each thread, of reads.
    pub(crate) fn sequences(self, scale: Scale, keys: u32, threads: usize) -> Vec<Vec<u32>> {
        let cumulated = match self {
            Self::Uniform => Vec::new(),
            Self::Zipf => cumulate(keys),
        };
        let sequence = |thread| {
            let mut rng = SmallRng::seed_from_u64(thread as u64 + 1);
            let index = |_| match cumulated.last() {
                None => rng.random_range(0..keys),
                Some(&sum) => {
                    let at = rng.random_range(0.0..sum);
                    let rank = cumulated.partition_point(|&before| before <= at) as u64;
                    // Frequent keys are not neighbours: the zone was filled in the order of indices.
                    (rank * 2_654_435_761 % u64::from(keys)) as u32
                }
            };
            (0..scale.sequence).map(index).collect()
        };
        (0..threads).map(sequence).collect()
    }
}

fn cumulate(keys: u32) -> Vec<f64> {
    let mut sum = 0.0;
    let add = |rank| {
        sum += f64::from(rank).powf(-EXPONENT);
        sum
    };
    (1..=keys).map(add).collect()
}

/// The same with so many percent of writes.
pub(crate) fn with_writes(sequences: &[Vec<u32>], percent: u32) -> Vec<Vec<u32>> {
    let mut rng = SmallRng::seed_from_u64(99);
    let mut mark = |&op: &u32| if rng.random_range(0..100) < percent { op | WRITE } else { op };
    sequences.iter().map(|sequence| sequence.iter().map(&mut mark).collect()).collect()
}
