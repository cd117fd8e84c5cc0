//! Real faults of real processes. Each file is one fault; the bodies say what has to hold while it lasts and after it.
//!
//! Faults of the network are made in namespaces of their own, with links and addresses of their own, where the tests run as
//! root, and by a proxy of the harness everywhere. The kernel that these tests were written on has no netem, so packets are
//! not delayed, reordered or lost at random in the namespaces: a rate limit with its queue (tbf) delays and drops, and the proxy delays.
//! Where a fault cannot be made, its test says `skipped:` and why.

mod clock;
mod descriptors;
mod disk;
mod namespaces;
mod paths;
mod restarts;
mod silence;
mod soak;
mod stopped;

use std::time::Duration;

use tests::{Cluster, Config, Node};

/// More than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Short enough that a test sees it pass, and long beside what a busy machine stalls.
const TIMEOUT: &str = "3s";

const ZONES: &str = r#"
    [[keyval_zone]]
    name = "one"
    size = "16m"

    [[sticky_zone]]
    name = "sessions"
    size = "1m"

    [[limit_req_zone]]
    name = "req"
    size = "1m"
    rate = "100r/s"
"#;

/// The usual configuration of a member, but peers that are silent for [`TIMEOUT`] are given up.
fn impatient(cluster: &Cluster, name: &str) -> Config {
    patient_for(TIMEOUT, cluster, name)
}

/// The same with another time-out: for tests in which no peer is silent, but one may stall with its machine.
fn patient_for(timeout: &str, cluster: &Cluster, name: &str) -> Config {
    let mut config = cluster.config(name);
    config.zone_sync = ["timeout", "connect_timeout"].map(|key| format!("{key} = {timeout:?}")).to_vec();
    let further = ["connect_retry_interval = \"100ms\"", "shutdown_timeout = \"20s\""];
    config.zone_sync.extend(further.map(str::to_owned));
    config
}

/// Starts nodes and waits until all are ready and see each other.
fn start_all<const N: usize>(cluster: &Cluster, configs: [Config; N]) -> [Node; N] {
    let mut nodes = configs.map(|config| cluster.start_with(config));
    nodes.iter_mut().for_each(Node::wait_ready);
    nodes.iter().for_each(|node| node.wait_online(N as u64 - 1));
    nodes
}
