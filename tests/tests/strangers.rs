//! What comes from a socket that is no node of ours: another protocol version, garbage, a stalled peer.

use std::io::Read;
use std::net::TcpListener;

use bytes::Bytes;
use sync_proto::wire::frame::Kind;
use sync_proto::wire::refuse::Code;
use sync_proto::wire::{Batch, Heartbeat, Hello, Zone, ZoneKind};
use sync_proto::{BatchEncoder, DEFAULT_FRAME_LIMIT, Message, RowRef, VERSION, encode};
use tests::{Cluster, Config, Encryption, Node, SYNC_PORT, Stranger, put_reaches, since_1970};

const ZONES: &str = "[[keyval_zone]]\nname = \"one\"\nsize = \"1m\"\n";

fn start(cluster: &Cluster, encrypted: bool) -> [Node; 2] {
    start_with(cluster, encrypted, &[])
}

/// As `start`; unless `zone_sync` is empty, it replaces the lines of `[zone_sync]` that the harness chooses.
fn start_with(cluster: &Cluster, encrypted: bool, zone_sync: &[&str]) -> [Node; 2] {
    let mut nodes = ["a", "b"].map(|name| {
        let mut config = cluster.config(name);
        if !zone_sync.is_empty() {
            config.zone_sync = zone_sync.iter().map(|line| (*line).to_owned()).collect();
        }
        if !encrypted {
            config = Config { encryption: Encryption::Plain, ..config };
        }
        cluster.start_with(config)
    });
    nodes.iter_mut().for_each(Node::wait_ready);
    nodes
}

fn goes_on([a, b]: &[Node; 2], key: &str) {
    put_reaches("one", &format!("{key}-a"), &a.api, &[&b.api]);
    put_reaches("one", &format!("{key}-b"), &b.api, &[&a.api]);
}

fn hello(version: u32) -> Hello {
    Hello {
        version,
        cluster: "edge".to_owned(),
        origin: 0x5354_5241_4e47_4552,
        node: "stranger".to_owned(),
        ..Hello::default()
    }
}

#[test]
fn another_protocol_version_that_dials_is_refused_by_name() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let mut nodes = start(&cluster, false);
    for version in [0, VERSION + 1, u32::MAX] {
        let mut stranger = Stranger::dial(cluster.loopback("a").port(SYNC_PORT));
        stranger.say(&encode(&Kind::Hello(hello(version))));
        let (code, message) = stranger.hear_refusal();
        assert_eq!(code, Code::Version, "{message}");
        for number in [version, VERSION] {
            assert!(message.contains(&number.to_string()), "no {number} in {message:?}");
        }
        nodes[0].wait_complaint(&["version", &version.to_string(), &stranger.local()]);
    }
    goes_on(&nodes, "after");
}

#[test]
fn another_protocol_version_that_is_dialled_is_refused_by_name() {
    let cluster = Cluster::new(&["a", "b", "stranger"], ZONES);
    let address = cluster.loopback("stranger").port(SYNC_PORT);
    let listener = TcpListener::bind(address).expect("a claimed address is free");
    let mut nodes = ["a", "b"]
        .map(|name| cluster.start_with(Config { encryption: Encryption::Plain, ..cluster.config(name) }));
    nodes.iter().for_each(Node::wait_live);
    let mut stranger = Stranger::new(listener.accept().expect("the node dials").0);
    let Some(Message::Hello(theirs)) = stranger.hear() else { panic!("the dialler speaks first") };
    assert_eq!((theirs.version, theirs.cluster.as_str()), (VERSION, "edge"));
    assert!(["a", "b"].contains(&theirs.node.as_str()), "{theirs:?}");
    stranger.say(&encode(&Kind::Hello(hello(VERSION + 1))));
    let (code, message) = stranger.hear_refusal();
    assert_eq!(code, Code::Version, "{message}");
    let dialler = nodes.iter_mut().find(|node| node.config.name == theirs.node).expect("one of the two");
    dialler.wait_complaint(&["version", &(VERSION + 1).to_string(), &address.to_string()]);
    goes_on(&nodes, "after");
}

#[test]
fn a_peer_of_another_make_is_heard_to_the_last_frame_of_a_burst() {
    // A peer that is not our code, only our protocol: it sends many batches in one write, and each of them counts. Repair would
    // bring what gets lost only after a while, and only from those who have it.
    const BATCHES: u64 = 100;
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let nodes = start(&cluster, false);
    let mut stranger = Stranger::dial(cluster.loopback("a").port(SYNC_PORT));
    let zone = Zone { name: "one".to_owned(), kind: ZoneKind::Keyval.into(), vector: vec![] };
    let clock_us = u64::try_from(since_1970().as_micros()).expect("microseconds fit");
    let greeting = Hello { zones: vec![zone], clock_us, ..hello(VERSION) };
    let origin = greeting.origin;
    stranger.say(&encode(&Kind::Hello(greeting)));
    let Some(Message::Hello(_)) = stranger.hear() else { panic!("a Hello is answered with a Hello") };

    let mut burst = encode(&Kind::Heartbeat(Heartbeat { clock_us, ..Heartbeat::default() })).to_vec();
    for number in 0..BATCHES {
        let mut batch = BatchEncoder::new(0, number, origin, DEFAULT_FRAME_LIMIT);
        let key = format!("burst-{number}");
        let row = RowRef {
            key: key.as_bytes(),
            value: b"v",
            stamp: (clock_us / 1000) << 16 | number,
            ..RowRef::default()
        };
        assert!(batch.push(&row), "one row fits");
        burst.extend_from_slice(&batch.finish());
    }
    stranger.say(&burst);
    let mut acknowledged = 0;
    while acknowledged < BATCHES {
        match stranger.hear() {
            Some(Message::Acknowledge(acknowledge)) => acknowledged = acknowledge.zones[0].through_seq,
            Some(Message::Heartbeat(_)) => {}
            other => panic!("{other:?} after {acknowledged} of {BATCHES} batches"),
        }
    }
    assert_eq!(nodes[0].api.pairs("one").len() as u64, BATCHES);
}

#[test]
fn garbage_is_refused_by_name() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let mut nodes = start(&cluster, false);
    let request = format!("GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: {}\r\n\r\n", "x".repeat(100));
    let batch = Kind::Batch(Batch { zone: 0, from_seq_excluded: 0, ..Batch::default() });
    let cases: [(&str, Bytes, &[Code]); 6] = [
        ("an HTTP request", request.into(), &[Code::Malformed]),
        ("a length that is no varint", vec![0xff; 64].into(), &[Code::Malformed, Code::Limit]),
        (
            "a frame of half a gigabyte",
            vec![0x80, 0x80, 0x80, 0x80, 0x02].into(),
            &[Code::Limit, Code::Malformed],
        ),
        ("a Hello that ends early", vec![4, 0x0a, 0x20, 1, 2].into(), &[Code::Malformed]),
        ("a Hello that is not UTF-8", vec![7, 0x0a, 5, 8, 1, 0x12, 1, 0xff].into(), &[Code::Malformed]),
        ("a Batch before Hello", encode(&batch), &[Code::Malformed]),
    ];
    for (what, bytes, expected) in cases {
        let mut stranger = Stranger::dial(cluster.loopback("a").port(SYNC_PORT));
        stranger.say(&bytes);
        let (code, message) = stranger.hear_refusal();
        assert!(expected.contains(&code), "{what}: {code:?} {message:?}");
        assert!(!message.is_empty(), "{what}: {code:?} without a word");
        nodes[0].wait_complaint(&[&stranger.local()]);
    }
    goes_on(&nodes, "after");
}

#[test]
fn a_flood_of_garbage_and_peers_that_stall_disturb_nobody() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let nodes = start_with(&cluster, false, &["timeout = \"3s\"", "connect_timeout = \"3s\""]);
    let address = cluster.loopback("a").port(SYNC_PORT);
    // Silent from the start, and silent in the middle of a frame: held open while the others go on.
    let mut stalled: Vec<Stranger> = (0..8).map(|_| Stranger::dial(address)).collect();
    for stranger in &mut stalled[4..] {
        stranger.say(&[200, 1, 0x0a]);
    }
    // Pseudo-random bytes, the same in every run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..20 {
        let noise: Vec<u8> = (0..64 << 10)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        Stranger::dial(address).say(&noise);
    }
    goes_on(&nodes, "during");
    for stranger in &mut stalled {
        // The node gives up on them; whether it says why first is its choice.
        while stranger.hear().is_some() {}
    }
    goes_on(&nodes, "after");
}

#[test]
fn garbage_to_a_tls_port_is_refused_by_name() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let mut nodes = start(&cluster, true);
    let mut stranger = Stranger::dial(cluster.loopback("a").port(SYNC_PORT));
    stranger.say(&[0xff; 512]);
    let mut answer = Vec::new();
    let _ = stranger.socket.read_to_end(&mut answer);
    assert!(answer.len() < 64, "an alert at the most: {answer:02x?}");
    nodes[0].wait_complaint(&["tls", &stranger.local()]);
    goes_on(&nodes, "after");
}
