//! The door for clients of Redis, with the clients themselves: redis-cli, redis-benchmark, libraries in Rust, Python and Lua, and sockets that say nonsense. Two
//! nodes, each with a door of its own.

mod hostile;
mod nginx;
mod operation;
mod python;
mod rust;
mod tools;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tests::{Cluster, Config, Node};

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

const PORT: u16 = 6379;

/// A block of the document whose configurations are run here, with other addresses for those that it has.
fn block(language: &str, addresses: &[(&str, String)]) -> String {
    tests::change(tests::block("docs/integrations/redis.md", language, 0), addresses)
}

/// The configuration of a member with the door that the document describes, and changes to its table.
fn config(cluster: &Cluster, name: &str, changes: &[(&str, &str)]) -> Config {
    let mut config = cluster.config(name);
    let text = block("toml", &[("127.0.0.1:6379", door(config.ip).to_string())]);
    let (zones, door) = text.split_once("[redis]").expect("the table");
    config.zones = zones.to_owned();
    config.doors = format!("[redis]{door}");
    for (old, new) in changes {
        assert!(config.doors.contains(old), "{old} in {}", config.doors);
        config.doors = config.doors.replace(old, new);
    }
    config
}

/// Where the door of a node is.
fn door(ip: Ipv4Addr) -> SocketAddr {
    (ip, PORT).into()
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
