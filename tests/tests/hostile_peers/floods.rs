//! Peers that do too much of what is allowed: it costs bounded memory and work, and the others notice nothing.

use std::net::TcpListener;

use sync_proto::wire::frame::Kind;
use sync_proto::wire::refuse::Code;
use sync_proto::wire::{Known, Request, ZoneVector};
use sync_proto::{Message, encode};
use tests::{Cluster, Config, Encryption, Node, SYNC_PORT, Stranger, put_reaches};

use crate::attacker::{ONE, ZONES, active, heartbeat, hello, start, wait_counted};

/// The allocator's and the kernel's ways, and whatever the node does beside.
const MARGIN: u64 = 32 << 20;

#[test]
fn a_flood_of_heartbeats_costs_no_memory() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let nodes = start(&cluster, &[]);
    let before = nodes[0].usage().memory_bytes;
    let mut peer = active(&cluster);
    // Of origins that are nowhere, always others: each heartbeat takes the place of the one before.
    for round in 0..3_000_u64 {
        let vector = (1..=200).map(|at| Known { origin: round * 1_000 + at, through_seq: 9 }).collect();
        peer.say(&heartbeat(vec![ZoneVector { zone: ONE, vector }]));
    }
    put_reaches("one", "after", &nodes[1].api, &[&nodes[0].api]);
    let grown = nodes[0].usage().memory_bytes.saturating_sub(before);
    assert!(grown < MARGIN, "{grown} bytes more");
}

#[test]
fn frames_that_do_not_end_cost_no_more_than_their_bound() {
    const PEERS: u64 = 40;
    const MAX_FRAME: u64 = 1 << 20;
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let nodes = start(&cluster, &["timeout = \"20s\""]);
    let before = nodes[0].usage().memory_bytes;
    let mut held = Vec::new();
    for _ in 0..PEERS {
        let mut peer = Stranger::dial(cluster.loopback("a").port(SYNC_PORT));
        // A Hello of nearly 1 MiB, but for its last byte.
        let mut frame = vec![0; MAX_FRAME as usize - 1];
        frame[..3].copy_from_slice(&[0xfd, 0xff, 0x3f]);
        peer.say(&frame);
        held.push(peer);
    }
    put_reaches("one", "during", &nodes[1].api, &[&nodes[0].api]);
    let grown = nodes[0].usage().memory_bytes.saturating_sub(before);
    // A frame that is arriving has a buffer of up to twice its size.
    assert!(grown < PEERS * 2 * MAX_FRAME + MARGIN, "{grown} bytes more");
    drop(held);
    wait_counted(&nodes[0], "the unfinished frames", "truncated", PEERS);
}

/// Nodes dial the attacker, for only who is dialled may request.
fn dialled(cluster: &Cluster) -> ([Node; 2], Stranger) {
    let listener =
        TcpListener::bind(cluster.loopback("attacker").port(SYNC_PORT)).expect("a claimed address");
    let mut nodes = ["a", "b"].map(|name| {
        let mut config = Config { encryption: Encryption::Plain, ..cluster.config(name) };
        let attacker = cluster.loopback("attacker").port(SYNC_PORT).to_string();
        config.servers.retain(|server| name == "a" || *server != attacker);
        cluster.start_with(config)
    });
    nodes[1].wait_live();
    let mut attacker = Stranger::new(listener.accept().expect("the node dials").0);
    let Some(Message::Hello(theirs)) = attacker.hear() else { panic!("the dialler speaks first") };
    assert_eq!(theirs.node, "a");
    attacker.say(&encode(&Kind::Hello(hello())));
    nodes.iter_mut().for_each(|node| node.wait_online(if node.name() == "a" { 2 } else { 1 }));
    (nodes, attacker)
}

fn request(request: u64) -> Kind {
    // All of everything, by whoever knows nothing.
    Kind::Request(Request { zone: ONE, request, origins: (1..=4_000).collect(), known: vec![] })
}

#[test]
fn a_flood_of_requests_is_refused() {
    let cluster = Cluster::new(&["a", "b", "attacker"], ZONES);
    let (nodes, mut attacker) = dialled(&cluster);
    let before = nodes[0].usage().memory_bytes;
    for id in 1..=1_000 {
        attacker.say(&encode(&request(id)));
    }
    let (code, message) = attacker.hear_refusal();
    assert_eq!(code, Code::Limit, "{message}");
    wait_counted(&nodes[0], "the flood", "too_large", 1);
    let grown = nodes[0].usage().memory_bytes.saturating_sub(before);
    assert!(grown < MARGIN, "{grown} bytes more");
    put_reaches("one", "after", &nodes[1].api, &[&nodes[0].api]);
}
