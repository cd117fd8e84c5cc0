//! The door for HAProxies, with real ones, by the very files of the document: two HAProxies, each beside its own node. And sockets that say nonsense.

mod counters;
mod haproxy;
mod hostile;
mod sessions;
mod ways;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tests::{Cluster, Config, Node, fences, root};

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

const PORT: u16 = 10_000;

/// The nth block of a language in the document, with other words for those that it has.
fn block(language: &str, nth: usize, changes: &[(&str, String)]) -> String {
    let document =
        std::fs::read_to_string(root().join("docs/integrations/haproxy.md")).expect("the document");
    let block = fences(&document).into_iter().filter(|fence| fence.info == language).nth(nth);
    let mut text = block.unwrap_or_else(|| panic!("block {nth} of {language}")).text;
    for (old, new) in changes {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    text
}

/// The configuration of a member with the door that the document describes, and further lines of its table.
fn config(cluster: &Cluster, name: &str, further: &str) -> Config {
    let mut config = cluster.config(name);
    let changes = [
        ("127.0.0.1:10000", door(config.ip).to_string()),
        ("64m", "4m".to_owned()),
        ("name = \"edge-1\"", String::new()),
    ];
    let text = block("toml", 0, &changes);
    let (zones, door) = text.split_once("[haproxy_peers]").expect("the table");
    config.zones = zones.to_owned();
    config.doors = format!("[haproxy_peers]{door}{further}");
    config
}

/// Where the door of a node is.
fn door(ip: Ipv4Addr) -> SocketAddr {
    (ip, PORT).into()
}

/// Nodes with that door, connected to each other.
fn nodes<const N: usize>(cluster: &Cluster, names: [&str; N]) -> [Node; N] {
    let mut nodes = names.map(|name| cluster.start_with(config(cluster, name, "")));
    nodes.iter_mut().for_each(Node::wait_ready);
    nodes.iter().for_each(|node| node.wait_online(N as u64 - 1));
    nodes
}
