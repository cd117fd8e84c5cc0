//! A peer of another make: it speaks the protocol, and says whatever a test wants.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use sync_proto::wire::frame::Kind;
use sync_proto::wire::{Heartbeat, Hello, Zone, ZoneKind, ZoneVector};
use sync_proto::{BatchEncoder, DEFAULT_FRAME_LIMIT, Message, RowRef, VERSION, encode};
use tests::{Cluster, Config, Encryption, Node, SYNC_PORT, Stranger, since_1970, wait_for};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) const ZONES: &str = r#"
    [[keyval_zone]]
    name = "one"
    size = "1m"

    [[limit_req_zone]]
    name = "req"
    size = "1m"
    rate = "1r/m"
    burst = 1000
"#;

/// The zones of the attacker's Hello, in this order.
pub(crate) const ONE: u32 = 0;
pub(crate) const REQ: u32 = 1;
/// A zone that nobody else has.
pub(crate) const NOWHERE: u32 = 2;
pub(crate) const ORIGIN: u64 = 0x4154_5441_434b_4552;

pub(crate) fn start(cluster: &Cluster, zone_sync: &[&str]) -> [Node; 2] {
    let mut nodes = ["a", "b"].map(|name| {
        let mut config = Config { encryption: Encryption::Plain, ..cluster.config(name) };
        config.zone_sync.retain(|line| !zone_sync.iter().any(|other| key_of(other) == key_of(line)));
        config.zone_sync.extend(zone_sync.iter().map(|line| (*line).to_owned()));
        cluster.start_with(config)
    });
    nodes.iter_mut().for_each(Node::wait_ready);
    nodes
}

pub(crate) fn key_of(line: &str) -> Option<&str> {
    line.split('=').next().map(str::trim)
}

pub(crate) fn clock_us() -> u64 {
    u64::try_from(since_1970().as_micros()).expect("microseconds fit")
}

pub(crate) fn hello() -> Hello {
    let zone = |name: &str, kind: ZoneKind| Zone { name: name.to_owned(), kind: kind.into(), vector: vec![] };
    Hello {
        version: VERSION,
        cluster: "edge".to_owned(),
        origin: ORIGIN,
        node: "attacker".to_owned(),
        clock_us: clock_us(),
        zones: vec![
            zone("one", ZoneKind::Keyval),
            zone("req", ZoneKind::Limit),
            zone("nowhere", ZoneKind::Keyval),
        ],
        ..Hello::default()
    }
}

pub(crate) fn heartbeat(vectors: Vec<ZoneVector>) -> Bytes {
    encode(&Kind::Heartbeat(Heartbeat { clock_us: clock_us(), vectors, ..Heartbeat::default() }))
}

/// A peer that was let in, and has said nothing wrong yet.
pub(crate) fn active(cluster: &Cluster) -> Stranger {
    let mut peer = Stranger::dial(cluster.loopback("a").port(SYNC_PORT));
    peer.say(&encode(&Kind::Hello(hello())));
    let Some(Message::Hello(_)) = peer.hear() else { panic!("a Hello is answered with a Hello") };
    peer.say(&heartbeat(vec![]));
    peer
}

pub(crate) fn batch(zone: u32, from_seq_excluded: u64, rows: &[RowRef<'_>]) -> Bytes {
    let mut batch = BatchEncoder::new(zone, from_seq_excluded, ORIGIN, DEFAULT_FRAME_LIMIT);
    assert!(rows.iter().all(|row| batch.push(row)), "a few rows fit");
    batch.finish()
}

pub(crate) fn pair(key: &str, ahead: Duration) -> RowRef<'_> {
    let stamp_ms = since_1970() + ahead;
    RowRef {
        key: key.as_bytes(),
        value: b"hostile",
        stamp: u64::try_from(stamp_ms.as_millis()).expect("milliseconds fit") << 16,
        ..RowRef::default()
    }
}

pub(crate) fn refusals(node: &Node) -> Value {
    node.api.status().expect("an answer").document["refusals"].clone()
}

pub(crate) fn count(node: &Node, cause: &str) -> u64 {
    refusals(node)[cause].as_u64().unwrap_or(0)
}

pub(crate) fn wait_counted(node: &Node, what: &str, cause: &str, expected: u64) {
    wait_for(&format!("{what} to be counted as {cause}"), LIMIT, || {
        if count(node, cause) >= expected { Ok(()) } else { Err(refusals(node).to_string()) }
    });
}

/// Waits until the node has acknowledged so much of a zone on this link.
pub(crate) fn hear_acknowledged(peer: &mut Stranger, zone: u32, through_seq: u64) {
    loop {
        match peer.hear() {
            Some(Message::Acknowledge(found))
                if found.zones.iter().any(|entry| entry.zone == zone && entry.through_seq >= through_seq) =>
            {
                return;
            }
            Some(Message::Acknowledge(_) | Message::Heartbeat(_)) => {}
            other => panic!("{other:?} instead of an acknowledgement of {through_seq}"),
        }
    }
}
