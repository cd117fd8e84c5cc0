//! A cluster of nodes on one machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::{
    Api, Config, Encryption, Loopback, Node, SYNC_PORT, Transport, ZoneStatus, run_to_end, wait_for,
};

/// More than any change takes to reach all nodes of a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Time-outs far beyond what a machine stalls that builds and tests at once: a link that is lost for that reason would be right
/// to be lost, but is not what these tests are about. Tests of time-outs set their own.
const PATIENCE: [&str; 3] =
    ["connect_timeout = \"1m\"", "shutdown_timeout = \"1m\"", "max_clock_skew = \"1m\""];
const TIMEOUT: &str = "timeout = \"1m\"";
/// Over QUIC nothing else tells a node that a dialler was killed, and only then does it ask others for the last that this one wrote: well within [`LIMIT`].
const TIMEOUT_QUIC: &str = "timeout = \"12s\"";

/// A peer that has just started is found soon.
const RETRY: &str = "connect_retry_interval = \"100ms\"";

/// Names and addresses of a cluster's nodes, their certificates, and a directory for their files. Holds no node.
#[derive(Debug)]
pub struct Cluster {
    directory: TempDir,
    members: Vec<(String, Loopback)>,
    zones: String,
    transport: Transport,
}

impl Cluster {
    /// A cluster whose members are called `names`, with zones as given in TOML, and certificates made by `sync-node cert`.
    ///
    /// # Panics
    /// If a certificate cannot be made.
    pub fn new(names: &[&str], zones: &str) -> Self {
        Self::with_host(names, zones, "localhost")
    }

    /// As [`Cluster::new`], with links over a transport of the caller's choice.
    ///
    /// # Panics
    /// If a certificate cannot be made.
    pub fn over(transport: Transport, names: &[&str], zones: &str) -> Self {
        Self { transport, ..Self::new(names, zones) }
    }

    /// As [`Cluster::new`], with a further host name in every certificate.
    ///
    /// # Panics
    /// If a certificate cannot be made.
    pub fn with_host(names: &[&str], zones: &str, host: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let members = names.iter().map(|name| ((*name).to_owned(), Loopback::claim())).collect();
        let cluster = Self { directory, members, zones: zones.to_owned(), transport: Transport::Tls };
        cluster.cert(&["ca", "--out", "certs"]);
        for (name, loopback) in &cluster.members {
            let ip = loopback.ip().to_string();
            cluster.cert(&["node", name, "--ca", "certs", "--out", "certs", "--host", &ip, "--host", host]);
        }
        cluster
    }

    /// Runs `sync-node cert` in the directory of the cluster, whose CA lies in `certs`.
    ///
    /// # Panics
    /// If it fails.
    pub fn cert(&self, arguments: &[&str]) {
        let ended = run_to_end(self.directory(), &[&["cert"], arguments].concat(), LIMIT);
        assert!(ended.status.success(), "sync-node cert {arguments:?}: {ended:?}");
    }

    /// The directory with the files of the nodes.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The address of a member.
    ///
    /// # Panics
    /// If there is no member of that name.
    pub fn loopback(&self, name: &str) -> &Loopback {
        let member = self.members.iter().find(|(member, _)| member == name);
        &member.unwrap_or_else(|| panic!("no member {name}")).1
    }

    /// Where peers dial a member.
    pub fn address(&self, name: &str) -> String {
        let tcp = self.loopback(name).port(SYNC_PORT);
        match self.transport {
            Transport::Tcp | Transport::Tls => tcp.to_string(),
            Transport::Quic => format!("quic://{tcp}"),
            Transport::Unix => format!("unix:{}", self.directory().join(format!("{name}.sock")).display()),
        }
    }

    /// The configuration of a member: mutual TLS unless the transport is without, all members as `servers` (itself too, as operators write it).
    pub fn config(&self, name: &str) -> Config {
        let certs = self.directory().join("certs");
        let timeout = if self.transport == Transport::Quic { TIMEOUT_QUIC } else { TIMEOUT };
        Config {
            name: name.to_owned(),
            cluster: "edge".to_owned(),
            ip: self.loopback(name).ip(),
            listen: match self.transport {
                Transport::Tcp | Transport::Tls => vec![],
                Transport::Quic | Transport::Unix => vec![self.address(name)],
            },
            servers: self.members.iter().map(|(name, _)| self.address(name)).collect(),
            zone_sync: PATIENCE.iter().chain(&[RETRY, timeout]).map(|line| (*line).to_owned()).collect(),
            encryption: match self.transport {
                Transport::Tcp | Transport::Unix => Encryption::Plain,
                Transport::Tls | Transport::Quic => Encryption::Tls {
                    certificate: certs.join(format!("{name}.pem")),
                    key: certs.join(format!("{name}.key")),
                    trusted: certs.join("ca.pem"),
                },
            },
            ssl: vec![],
            zones: self.zones.clone(),
            doors: String::new(),
            write: true,
            api: vec![],
            launcher: vec![],
        }
    }

    /// Starts a member with its usual configuration.
    pub fn start(&self, name: &str) -> Node {
        self.start_with(self.config(name))
    }

    /// Starts a node with a configuration of the caller's.
    pub fn start_with(&self, config: Config) -> Node {
        Node::start(config, self.directory())
    }

    /// Starts `N` members and waits until each is ready and connected to all others.
    pub fn start_all<const N: usize>(&self, names: [&str; N]) -> [Node; N] {
        let mut nodes = names.map(|name| self.start(name));
        for node in &mut nodes {
            node.wait_ready();
        }
        for node in &nodes {
            node.wait_online(nodes.len() as u64 - 1);
        }
        nodes
    }
}

/// Waits until all nodes hold the same records in every zone, and returns the zones.
///
/// # Panics
/// If they do not in time: with the zones of each node.
pub fn digests_equal(nodes: &[&Node]) -> BTreeMap<String, ZoneStatus> {
    let apis: Vec<&Api> = nodes.iter().map(|node| &node.api).collect();
    wait_for("equal digests, and nothing pending, on all nodes", LIMIT, || same_records(&apis, |_| true))
}

/// The zones, if all nodes hold the same records in every zone that is `meant` and nothing is under way in any.
///
/// # Errors
/// If they do not: the zones of each node.
///
/// # Panics
/// If a status is not as documented.
pub fn same_records(
    nodes: &[&Api],
    meant: impl Fn(&ZoneStatus) -> bool,
) -> Result<BTreeMap<String, ZoneStatus>, String> {
    let mut all = Vec::new();
    for node in nodes {
        all.push(node.status()?.zones);
    }
    let settled = all.iter().flat_map(BTreeMap::values).all(|zone| zone.records_pending == 0);
    let digests = |zones: &BTreeMap<String, ZoneStatus>| -> Vec<(String, String)> {
        let digest = |(name, zone): (&String, &ZoneStatus)| {
            (name.clone(), zone.digest.clone().expect("the status carries digests"))
        };
        zones.iter().filter(|(_, zone)| meant(zone)).map(digest).collect()
    };
    if settled && all.iter().all(|zones| digests(zones) == digests(&all[0])) {
        Ok(all.swap_remove(0))
    } else {
        Err(format!("{all:#?}"))
    }
}

/// Adds a pair of a key not used before through `from`, and waits until it is read through every one of `to`.
///
/// # Panics
/// If it does not arrive.
pub fn put_reaches(zone: &str, key: &str, from: &Api, to: &[&Api]) {
    from.add(zone, key, "sent");
    for api in to {
        wait_for(&format!("{key} to arrive"), LIMIT, || {
            api.value(zone, key).map(|_| ()).ok_or_else(|| "it is not there".to_owned())
        });
    }
}
