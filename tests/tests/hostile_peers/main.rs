//! Peers that attack: each is refused for what it does, the refusal is counted by its cause, and the cluster goes on.
//!
//! Mostly over plain text, where anybody is a peer; `handshakes` is about what TLS keeps out.

mod attacker;
mod floods;
mod handshakes;

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use sync_proto::wire::frame::Kind;
use sync_proto::wire::refuse::Code;
use sync_proto::wire::{CatchUpEnd, Goodbye, Hello, Known, Zone, ZoneKind, ZoneVector};
use sync_proto::{Message, RowRef, encode};
use tests::{Cluster, SYNC_PORT, Stranger, put_reaches, since_1970, wait_for};

use attacker::{
    LIMIT, NOWHERE, ONE, REQ, ZONES, active, batch, count, hear_acknowledged, heartbeat, hello, pair,
    refusals, start, wait_counted,
};

#[test]
fn each_attack_is_refused_and_counted_by_its_cause() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let nodes = start(&cluster, &[]);
    let a = &nodes[0];
    let address = cluster.loopback("a").port(SYNC_PORT);
    let own = a.api.status().expect("an answer").document["origin"].clone();

    let crowded = |origins: u64| {
        let vector = (1..=origins).map(|origin| Known { origin, through_seq: u64::MAX }).collect();
        Hello { zones: vec![Zone { vector, ..hello().zones.remove(0) }], ..hello() }
    };
    let greetings: [(&str, Hello, Code, &str); 6] = [
        ("another version", Hello { version: 0, ..hello() }, Code::Version, "version"),
        ("another cluster", Hello { cluster: "other".to_owned(), ..hello() }, Code::Cluster, "cluster"),
        ("a clock of 1970", Hello { clock_us: 1, ..hello() }, Code::Clock, "clock"),
        ("10,000 zones", Hello { zones: many_zones(10_000), ..hello() }, Code::Limit, "too_large"),
        ("a vector of 5000 origins", crowded(5_000), Code::Limit, "too_large"),
        ("2000 zones", Hello { zones: many_zones(2000), ..hello() }, Code::Limit, "too_large"),
    ];
    for (what, hello, code, cause) in greetings {
        let before = count(a, cause);
        let mut peer = Stranger::dial(address);
        peer.say(&encode(&Kind::Hello(hello)));
        let (heard, message) = peer.hear_refusal();
        assert_eq!(heard, code, "{what}: {message}");
        wait_counted(a, what, cause, before + 1);
    }

    let unasked = CatchUpEnd { zone: ONE, request: 77, vector: vec![], rows: 0 };
    let attacks: [(&str, Bytes, Code, &str); 6] = [
        ("a second Hello", encode(&Kind::Hello(hello())), Code::Malformed, "malformed"),
        ("an unlisted zone", batch(99, 0, &[pair("x", Duration::ZERO)]), Code::Malformed, "malformed"),
        ("an answer to nothing", encode(&Kind::CatchUpEnd(unasked)), Code::Malformed, "malformed"),
        (
            "a stamp of tomorrow",
            batch(ONE, 0, &[pair("x", Duration::from_secs(86_400))]),
            Code::Clock,
            "clock",
        ),
        ("a frame of half a gigabyte", vec![0x80, 0x80, 0x80, 0x80, 0x02].into(), Code::Limit, "too_large"),
        ("a length without end", vec![0xff; 16].into(), Code::Malformed, "malformed"),
    ];
    for (what, frame, code, cause) in attacks {
        let before = count(a, cause);
        let mut peer = active(&cluster);
        peer.say(&frame);
        let (heard, message) = peer.hear_refusal();
        assert_eq!(heard, code, "{what}: {message}");
        wait_counted(a, what, cause, before + 1);
    }

    // It says that it knows more of this node than there is: the node would believe it to be up to date.
    let Some(own) = own.as_str().and_then(|own| u64::from_str_radix(own, 16).ok()) else {
        panic!("no origin in the status: {own}");
    };
    let before = count(a, "malformed");
    let mut peer = active(&cluster);
    let vector = vec![Known { origin: own, through_seq: 1 << 40 }];
    peer.say(&heartbeat(vec![ZoneVector { zone: ONE, vector }]));
    assert_eq!(peer.hear_refusal().0, Code::Malformed);
    wait_counted(a, "a false vector", "malformed", before + 1);

    let mut peer = Stranger::dial(address);
    peer.say(&encode(&Kind::Hello(hello()))[..10]);
    drop(peer);
    wait_counted(a, "a frame cut short", "truncated", 1);

    assert_eq!(a.api.value("one", "x"), None, "nothing of it was applied");
    put_reaches("one", "after-a", &nodes[0].api, &[&nodes[1].api]);
    put_reaches("one", "after-b", &nodes[1].api, &[&nodes[0].api]);
}

fn many_zones(number: usize) -> Vec<Zone> {
    let zone = |at| Zone { name: format!("zone-{at}"), kind: ZoneKind::Keyval.into(), vector: vec![] };
    (0..number).map(zone).collect()
}

#[test]
fn who_greets_too_slowly_is_given_up_however_steadily_it_drips() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let nodes = start(&cluster, &["connect_timeout = \"2s\""]);
    let address = cluster.loopback("a").port(SYNC_PORT);
    // Held open until the node has given up on both.
    let silent = Stranger::dial(address);
    let mut drip = Stranger::dial(address);
    let greeting = encode(&Kind::Hello(Hello { node: "x".repeat(200), ..hello() }));
    let mut bytes = greeting.iter().cycle();
    wait_for("the node to give up on both", LIMIT, || {
        // Each byte is a sign of life; together they are no Hello in time.
        drip.say(&[*bytes.next().expect("without end")]);
        if count(&nodes[0], "no_hello") >= 2 { Ok(()) } else { Err(refusals(&nodes[0]).to_string()) }
    });
    drop(silent);
    put_reaches("one", "after", &nodes[0].api, &[&nodes[1].api]);
}

#[test]
fn what_is_replayed_or_comes_out_of_order_counts_once() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let nodes = start(&cluster, &[]);
    let mut peer = active(&cluster);
    // A hundred requests of a minute each.
    let debt = RowRef {
        key: b"client",
        debt_ns: 100 * 60_000_000_000,
        tat_ns: u64::try_from(since_1970().as_nanos()).expect("nanoseconds fit") + 6_000_000_000_000,
        ..RowRef::default()
    };
    let first = batch(REQ, 0, &[debt]);
    peer.say(&first);
    hear_acknowledged(&mut peer, REQ, 1);
    let remaining = || {
        let reply = nodes[0].api.post("/v1/limit_req/req", &json!({"key": "client", "cost": 0}));
        reply.expect(200).json()["remaining"].as_u64().expect("a number")
    };
    let once = remaining();
    assert!(once < 950, "{once}: the debt counts");
    for _ in 0..3 {
        peer.say(&first);
    }
    // Of a zone that only the attacker has, and beyond a gap: the first is skipped, the second moves no vector.
    peer.say(&batch(NOWHERE, 0, &[pair("nowhere", Duration::ZERO)]));
    peer.say(&batch(ONE, 2, &[pair("third", Duration::ZERO)]));
    peer.say(&batch(ONE, 0, &[pair("first", Duration::ZERO)]));
    hear_acknowledged(&mut peer, ONE, 1);
    let twice = remaining();
    assert!(twice >= once, "{once} were left, then {twice}: a replayed debt counted again");
    for key in ["first", "third"] {
        assert_eq!(nodes[0].api.value("one", key).as_deref(), Some("hostile"));
    }
    peer.say(&batch(ONE, 1, &[pair("second", Duration::ZERO)]));
    hear_acknowledged(&mut peer, ONE, 2);
    peer.say(&encode(&Kind::Goodbye(Goodbye { reason: "done".to_owned() })));
    while peer.hear().is_some() {}
}

#[test]
fn a_flood_of_refusals_fills_no_log() {
    const ATTEMPTS: u64 = 60;
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let nodes = start(&cluster, &[]);
    for _ in 0..ATTEMPTS {
        let mut peer = Stranger::dial(cluster.loopback("a").port(SYNC_PORT));
        peer.say(&encode(&Kind::Hello(Hello { version: 99, ..hello() })));
        peer.hear_refusal();
    }
    wait_counted(&nodes[0], "the flood", "version", ATTEMPTS);
    let log = nodes[0].log();
    let lines = log.lines().filter(|line| line.contains("link from peer failed")).count() as u64;
    assert!((1..ATTEMPTS).contains(&lines), "{lines} lines:\n{log}");
    put_reaches("one", "after", &nodes[0].api, &[&nodes[1].api]);
}

/// Everything about `b`, and yet nothing: nobody may speak for it while it is there.
#[test]
fn a_peer_that_claims_to_know_more_of_another_is_not_asked_for_it() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    // A heartbeat is due every third of it, and answers the node's: two thirds are left to a machine that stalls.
    let nodes = start(&cluster, &["timeout = \"9s\""]);
    let of_b = nodes[1].api.status().expect("an answer").document["origin"].clone();
    let of_b = of_b.as_str().and_then(|origin| u64::from_str_radix(origin, 16).ok()).expect("an origin");
    let vector = vec![Known { origin: of_b, through_seq: 1 << 40 }];
    let mut peer = active(&cluster);
    // The node's patience with what is missing of a connected origin is three of its heartbeats.
    let mut heartbeats = 0;
    while heartbeats < 5 {
        peer.say(&heartbeat(vec![ZoneVector { zone: ONE, vector: vector.clone() }]));
        match peer.hear() {
            Some(Message::Heartbeat(_)) => heartbeats += 1,
            other => panic!("{other:?} after {heartbeats} heartbeats"),
        }
    }
    put_reaches("one", "after-b", &nodes[1].api, &[&nodes[0].api]);
    put_reaches("one", "after-a", &nodes[0].api, &[&nodes[1].api]);
}

#[test]
fn what_is_sent_of_a_zone_of_another_type_changes_nothing() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let nodes = start(&cluster, &[]);
    let mut peer = Stranger::dial(cluster.loopback("a").port(SYNC_PORT));
    let mut greeting = hello();
    // What the node has as keyval is sticky here, and the other way round a limit is keyval.
    greeting.zones[0].kind = ZoneKind::Sticky.into();
    greeting.zones[1].kind = ZoneKind::Keyval.into();
    peer.say(&encode(&Kind::Hello(greeting)));
    let Some(Message::Hello(_)) = peer.hear() else { panic!("a Hello is answered with a Hello") };
    peer.say(&heartbeat(vec![]));
    for zone in [ONE, REQ] {
        peer.say(&batch(zone, 0, &[pair("crossed", Duration::ZERO)]));
    }
    peer.say(&encode(&Kind::Goodbye(Goodbye { reason: "done".to_owned() })));
    while peer.hear().is_some() {}
    assert_eq!(nodes[0].api.value("one", "crossed"), None);
    put_reaches("one", "after", &nodes[0].api, &[&nodes[1].api]);
}

#[test]
fn a_peer_that_falls_silent_in_the_middle_is_given_up() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let nodes = start(&cluster, &["timeout = \"2s\""]);
    // Both are held open: one after its first heartbeat, one in the middle of a frame.
    let silent = active(&cluster);
    wait_counted(&nodes[0], "who says nothing more", "stalled", 1);
    let mut half = active(&cluster);
    half.say(&batch(ONE, 0, &[pair("half", Duration::ZERO)])[..8]);
    wait_counted(&nodes[0], "half a frame", "stalled", 2);
    drop((silent, half));
    assert_eq!(nodes[0].api.value("one", "half"), None);
    put_reaches("one", "after", &nodes[0].api, &[&nodes[1].api]);
}
