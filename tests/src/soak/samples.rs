//! What the processes use over the time of a run.

use std::fmt::Write as _;
use std::time::Duration;

use super::site::Site;
use crate::Usage;

const MIB: f64 = (1_u64 << 20) as f64;

/// How much more than in the first quarter of a run a process may use in the last: an allocator's and a cache's ways, which do not grow with time.
const MEMORY_GROWTH_MAX: u64 = 16 << 20;
/// The same for descriptors: connections that come and go, two for each peer and worker.
const DESCRIPTORS_GROWTH_MAX: u64 = 32;
/// And for threads: those that wait for disks come and go.
const THREADS_GROWTH_MAX: u64 = 16;

#[derive(Debug)]
struct Sample {
    at: Duration,
    node: usize,
    usage: Usage,
}

/// All samples of a run.
#[derive(Debug)]
pub(super) struct Samples {
    duration: Duration,
    all: Vec<Sample>,
    names: Vec<String>,
}

impl Samples {
    pub(super) fn new(duration: Duration) -> Self {
        Self { duration, all: Vec::new(), names: Vec::new() }
    }

    /// Samples every node that is up.
    pub(super) fn take(&mut self, at: Duration, site: &Site) {
        self.names = (0..site.count()).map(|node| site.name(node).to_owned()).collect();
        for node in 0..site.count() {
            // One that is dying has nothing any more.
            if let Some(usage) = site.node(node).and_then(|node| node.try_usage()) {
                self.all.push(Sample { at, node, usage });
            }
        }
    }

    /// The latest sample in a few words: the largest figures of all nodes.
    pub(super) fn latest(&self) -> String {
        let last = self.all.last().map(|sample| sample.at);
        let latest: Vec<Usage> = self
            .all
            .iter()
            .rev()
            .take_while(|sample| Some(sample.at) == last)
            .map(|sample| sample.usage)
            .collect();
        format!(
            "memory up to {:.1} MiB, {} descriptors, {} threads",
            most(&latest, |usage| usage.memory_bytes) as f64 / MIB,
            most(&latest, |usage| usage.descriptors),
            most(&latest, |usage| usage.threads),
        )
    }

    fn between(&self, node: usize, from: Duration, to: Duration) -> Vec<Usage> {
        let of_node =
            self.all.iter().filter(|sample| sample.node == node && (from..=to).contains(&sample.at));
        of_node.map(|sample| sample.usage).collect()
    }

    /// The first and the last quarter of the run.
    fn quarters(&self, node: usize) -> [Vec<Usage>; 2] {
        let quarter = self.duration / 4;
        [self.between(node, Duration::ZERO, quarter), self.between(node, quarter * 3, Duration::MAX)]
    }

    /// A sentence for each figure that has grown beyond its bound.
    pub(super) fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (node, name) in self.names.iter().enumerate() {
            let [first, last] = self.quarters(node);
            if first.is_empty() || last.is_empty() {
                continue;
            }
            let mut grown = |what: &str, figure: fn(&Usage) -> u64, growth_max: u64| {
                let (before, after) = (most(&first, figure), most(&last, figure));
                // A quarter more is what a busier minute may need.
                if after > before + before / 4 + growth_max {
                    found.push(format!(
                        "{what} of {name} grew from {before} in the first quarter to {after} in the last, the bound is a quarter and {growth_max} more"
                    ));
                }
            };
            grown("memory", |usage| usage.memory_bytes, MEMORY_GROWTH_MAX);
            grown("descriptors", |usage| usage.descriptors, DESCRIPTORS_GROWTH_MAX);
            grown("threads", |usage| usage.threads, THREADS_GROWTH_MAX);
        }
        found
    }

    /// A line for each node: its first, last and largest figures, and the largest of the first and last quarter.
    pub(super) fn table(&self, site: &Site) -> String {
        let mut text = "node  restarts  memory MiB: first  last  max  (quarter 1, 4)  descriptors: first  last  max  (quarter 1, 4)  threads: max".to_owned();
        for (node, name) in self.names.iter().enumerate() {
            let all = self.between(node, Duration::ZERO, Duration::MAX);
            let (Some(first), Some(last)) = (all.first(), all.last()) else { continue };
            let [quarter1, quarter4] = self.quarters(node);
            let mib = |bytes: u64| bytes as f64 / MIB;
            let memory = |usages: &[Usage]| mib(most(usages, |usage| usage.memory_bytes));
            let descriptors = |usages: &[Usage]| most(usages, |usage| usage.descriptors);
            write!(
                text,
                "\n{name:4}  {:8}  {:17.1}  {:4.1}  {:3.1}  ({:.1}, {:.1})  {:18}  {:4}  {:3}  ({}, {})  {:12}",
                site.restarts(node),
                mib(first.memory_bytes),
                mib(last.memory_bytes),
                memory(&all),
                memory(&quarter1),
                memory(&quarter4),
                first.descriptors,
                last.descriptors,
                descriptors(&all),
                descriptors(&quarter1),
                descriptors(&quarter4),
                most(&all, |usage| usage.threads),
            )
            .expect("writing to a string succeeds");
        }
        text
    }
}

fn most(usages: &[Usage], figure: impl Fn(&Usage) -> u64) -> u64 {
    usages.iter().map(figure).max().unwrap_or_default()
}
