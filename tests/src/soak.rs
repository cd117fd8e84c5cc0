//! A long soak: real processes under mixed load and random faults, watched for what they lose and what they use.
//!
//! Every node dials every other through a [`Proxy`](crate::Proxy), so that each way can be cut, blocked and slowed. Workers write
//! through the API and remember what was acknowledged; faults come and go as a seed says; memory, descriptors and threads of every
//! process are sampled. In the end everything is put right, the nodes have to become equal, and each has to hold what was acknowledged.
//! The first node is never started anew, so that what it might lose to a leak adds up from the first minute to the last.

mod faults;
mod ledger;
mod load;
mod samples;
mod site;

use std::fmt;
use std::time::Duration;

use crate::{Elapsed, same_records};
use faults::Faults;
use ledger::Ledger;
use load::Load;
use samples::Samples;
use site::Site;

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(20);
/// Between two samples at the most; a short run takes [`SAMPLES_MIN`].
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// Samples of the shortest run: two in each quarter.
const SAMPLES_MIN: u32 = 8;
/// How long the nodes have to become equal after the last fault.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
/// Violations that are told; of more there is only the number.
const TOLD_MAX: usize = 20;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long load and faults go on.
    pub duration: Duration,
    /// Nodes, 2 at the least.
    pub nodes: usize,
    /// Decides which faults come when, and what is written. Not how the threads of all processes interleave.
    pub seed: u64,
}

/// How it was. Its text ends with the line `N minutes, F faults, W writes, V violations`.
#[derive(Clone, Debug)]
pub struct Report {
    /// How long load and faults went on.
    pub duration: Duration,
    /// Faults that were made.
    pub faults: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// What did not hold, a sentence each.
    pub violations: Vec<String>,
    /// What the processes used: a table.
    pub usage: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.usage)?;
        for violation in self.violations.iter().take(TOLD_MAX) {
            writeln!(f, "VIOLATION: {violation}")?;
        }
        if self.violations.len() > TOLD_MAX {
            writeln!(f, "and {} more", self.violations.len() - TOLD_MAX)?;
        }
        let (minutes, faults, writes) = (self.duration.as_secs_f64() / 60.0, self.faults, self.writes);
        write!(
            f,
            "{minutes:.1} minutes, {faults} faults, {writes} writes, {} violations",
            self.violations.len()
        )
    }
}

/// Runs a soak. `say` is told how it goes, a line at a time.
///
/// # Panics
/// If the nodes cannot be started in the beginning, or one that was stopped does not end.
pub fn soak(options: Options, mut say: impl FnMut(&str)) -> Report {
    let Options { duration, nodes, seed } = options;
    let mut site = Site::start(nodes);
    let clock = Elapsed::start();
    let load = Load::start(&site, clock, seed);
    let mut faults = Faults::new(seed);
    let mut samples = Samples::new(duration);
    let interval = SAMPLE_INTERVAL.min(duration / SAMPLES_MIN);
    let mut sample_at = interval;
    loop {
        let now = clock.get();
        if now >= duration {
            break;
        }
        site.revive();
        faults.advance(now, &mut site);
        if now >= sample_at {
            sample_at += interval;
            samples.take(now, &site);
            let (made, writes, latest) = (faults.made(), load.writes(), samples.latest());
            say(&format!(
                "{:6} s  {made} faults  {writes} writes  {latest}  {}",
                now.as_secs(),
                faults.active()
            ));
        }
        std::thread::sleep(TICK);
    }
    faults.end_all(&mut site);
    let writes = load.writes();
    let ledgers = load.stop();
    say("everything is put right; waiting for the nodes to become equal");
    let mut violations = site.misdeeds();
    violations.extend(settle(&site));
    violations.extend(ledgers.iter().flat_map(|ledger: &Ledger| ledger.violations(&site, clock)));
    violations.extend(samples.violations());
    Report {
        duration: clock.get().min(duration),
        faults: faults.made(),
        writes,
        violations,
        usage: samples.table(&site),
    }
}

/// Waits until all nodes are equal; a violation if they do not become so. Limits may differ: who was cut off from one peer alone may count twice what that one
/// admitted meanwhile, until it has drained, which takes an hour here (docs/semantics.md). The ledgers say whether it is still counted, and the simulation how far.
fn settle(site: &Site) -> Option<String> {
    let waited = Elapsed::start();
    loop {
        let apis: Vec<_> = site.apis().collect();
        match same_records(&apis, |zone| zone.kind != "limit") {
            Ok(_) => return None,
            Err(last) if waited.get() > SETTLE_LIMIT => {
                return Some(format!(
                    "the nodes are not equal {SETTLE_LIMIT:?} after the last fault: {last}"
                ));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}
