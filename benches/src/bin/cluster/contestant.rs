//! What a scenario needs of a cluster, ours or a peer's.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use benches::Certificates;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::options::{Options, Transport};
use crate::process::Stopped;
use crate::way::{HERE, THERE};

/// Longer than anything takes that is under way, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What every cluster of a run is started with.
#[derive(Debug)]
pub(crate) struct Setup {
    folder: TempDir,
    pub(crate) certificates: Certificates,
    pub(crate) transport: Transport,
    pub(crate) processes: bool,
    has_way: bool,
    /// Records that its tables have room for.
    pub(crate) records: u32,
}

impl Setup {
    pub(crate) fn new(options: &Options, records: u32) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for temporary files")?;
        let certificates = Certificates::new();
        let file = |name: &str| folder.path().join(name);
        for (name, text) in [
            ("ca.pem", &certificates.authority),
            ("node.pem", &certificates.node),
            ("node.key", &certificates.key),
            ("both.pem", &format!("{}{}", certificates.node, certificates.key)),
        ] {
            std::fs::write(file(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        let Options { transport, processes, .. } = *options;
        Ok(Self { folder, certificates, transport, processes, has_way: options.loss().is_some(), records })
    }

    /// Where nodes listen.
    pub(crate) fn here(&self) -> Ipv4Addr {
        if self.has_way { HERE } else { Ipv4Addr::LOCALHOST }
    }

    /// Where they find each other.
    pub(crate) fn there(&self) -> Ipv4Addr {
        if self.has_way { THERE } else { Ipv4Addr::LOCALHOST }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Starts a cluster of so many nodes, which have found each other when it answers.
pub(crate) type Start = dyn for<'a> Fn(&'a Setup, u32) -> Result<Box<dyn Cluster + 'a>>;

/// Some nodes at work. Writes go to the first unless said otherwise; "everywhere" is asked of the others.
pub(crate) trait Cluster {
    /// Single writes on the first node, and looks at the last.
    fn prober(&self) -> Result<Box<dyn Prober>>;

    /// Writes records on a node.
    fn writer(&self, node: usize, kind: Kind) -> Result<Box<dyn Writer>>;

    /// Counts requests of one client on a node.
    fn counter(&self, node: usize) -> Result<Box<dyn Counter>>;

    /// How many of the requests counted anywhere each node knows of.
    fn counted(&self) -> Result<Vec<u64>>;

    /// Starts one more node, empty, and waits until it has every record of the others.
    fn join(&mut self, records: u64) -> Result<()>;

    /// Starts one more node, empty. Until it has every record of the first, sessions are written there, one after the other.
    fn join_watched(&mut self, _records: u64) -> Result<Watched> {
        bail!("only nodes of ours can be watched while they join")
    }

    /// Whether every node has all that was written on the first.
    fn is_settled(&mut self) -> Result<bool>;

    /// Records of the first node that the slowest of the others has applied, if that can be told without disturbing them.
    fn applied(&self) -> Option<u64>;

    /// Bytes of key and value of a record that [`Writer`] writes.
    fn payload(&self) -> u64;

    /// Records that the node that came last has received, more than once counted as often; `None` if nobody counts them.
    fn received_last(&self) -> Option<u64>;

    /// Bytes that all nodes have sent to others since they were started, before encryption.
    fn wire_bytes(&self) -> Result<u64>;

    /// Processor time of each node since it was started. Of a server that is asked for its clients' work, too.
    fn cpu(&self) -> Result<Vec<Duration>>;

    /// Stops a node until the answer is dropped: it is there, and does nothing.
    fn stop(&self, node: usize) -> Result<Stopped>;

    /// The most writes a second that its clients can bring to one node, if they are what bounds it.
    fn rate_max(&self) -> Option<u32> {
        None
    }
}

/// A node that was watched while it joined.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Microseconds until it knew of each session that was written meanwhile.
    pub(crate) micros: Vec<f64>,
    /// From the first of these until it had every record.
    pub(crate) took: Duration,
}

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Pair,
    Session,
}

/// Writes one key again and again, and looks for it at the other end.
pub(crate) trait Prober {
    fn write(&mut self, number: u32) -> Result<()>;
    fn is_seen(&mut self, number: u32) -> Result<bool>;
}

/// Writes records of consecutive numbers, 16 bytes and 32; returns when the node has taken them.
pub(crate) trait Writer: Send {
    fn write(&mut self, numbers: Range<u32>) -> Result<()>;

    /// Waits for answers that are still under way.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Counts one request; returns when the node has answered.
pub(crate) trait Counter: Send {
    fn count(&mut self) -> Result<()>;
}

/// Waits, looking every `pause`, until `done` says so.
pub(crate) fn wait_until(what: &str, pause: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !done()? {
        if start.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} in vain for {what}");
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

/// The value of a record: 32 bytes that differ from key to key and from round to round.
pub(crate) fn value(number: u32, round: u32) -> [u8; 32] {
    let word = (u64::from(number) << 32 | u64::from(round)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut value = [0; 32];
    for (index, byte) in value.iter_mut().enumerate() {
        *byte = b'a' + (word >> (2 * index) & 15) as u8;
    }
    value
}
