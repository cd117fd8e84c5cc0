//! How much a cluster admits over a limit: real zones and real replication under a simulated clock and network, beside one central bucket that is
//! offered the same requests, beside other ways to count ([`Rule`]), and beside the bound that `docs/semantics.md` states.

mod case;
mod cluster;
mod load;
mod model;
mod plot;
mod run;

pub use case::{Case, Traffic, documented, grid};
pub use plot::svg;
pub use run::Tally;

use cluster::Cluster;
use load::Load;
use model::{Central, Messages, Split, Windows};
use run::run;

/// A way to count for several nodes, as a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Every node admits its share, rate / N.
    Split,
    /// Counters of whole seconds, summed over the nodes every 100 ms.
    Windows,
    /// The greatest arrival time that was heard of.
    Maximum,
    /// What others admitted is added, without regard to when.
    Sum,
    /// The same, and what they admit on average within a delay is taken as admitted already.
    Expecting,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Split, Self::Windows, Self::Maximum, Self::Sum, Self::Expecting];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Split => "rate / N",
            Self::Windows => "fixed windows",
            Self::Maximum => "maximum",
            Self::Sum => "sum",
            Self::Expecting => "sum, expecting",
        }
    }
}

/// What came of a case.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The case.
    pub case: Case,
    /// One central bucket.
    pub ideal: Tally,
    /// The cluster.
    pub cluster: Tally,
    /// How many requests above r·t + b + 1 the cluster may admit in any time t.
    pub bound: f64,
}

impl Measured {
    /// What the cluster admitted above the central bucket, in all.
    pub fn excess(&self) -> f64 {
        self.cluster.admitted - self.ideal.admitted
    }

    /// The line of the document's table.
    pub fn row(&self) -> String {
        let Self { case, ideal, cluster, bound } = self;
        format!(
            "| {} | {:.0} | {:.0} | {:+.0} ({:+.1} %) | {:.1} | {:.1} | {} |",
            case.columns(),
            ideal.admitted,
            cluster.admitted,
            self.excess(),
            100.0 * self.excess() / ideal.admitted.max(1.0),
            cluster.over,
            bound,
            cluster.refused_early
        )
    }
}

/// Runs a case through the real thing.
///
/// # Errors
/// A cluster that does not come together, or a link that ends, in a network without faults.
pub fn measure(case: &Case) -> Result<Measured, String> {
    let load = Load::new(case);
    let ideal = run(case, &load, &mut Central::new(case))?;
    let cluster = run(case, &load, &mut Cluster::new(case)?)?;
    Ok(Measured { case: case.clone(), ideal, cluster, bound: load.bound(case) })
}

/// Runs a case through a model.
///
/// # Errors
/// None: models have no links.
pub fn model(case: &Case, rule: Rule) -> Result<Tally, String> {
    let load = Load::new(case);
    match rule {
        Rule::Split => run(case, &load, &mut Split::new(case)),
        Rule::Windows => run(case, &load, &mut Windows::new(case)),
        Rule::Maximum | Rule::Sum | Rule::Expecting => run(case, &load, &mut Messages::new(case, rule)),
    }
}
