//! Control messages: what goes in comes out, and each rule of the protocol has an error.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use sync_proto::wire::{self, frame::Kind, refuse::Code};
use sync_proto::{
    DEFAULT_FRAME_LIMIT, Error, MAX_NAME, MAX_ORIGINS, MAX_ROWS, MAX_TABLE, MAX_TEXT, MAX_ZONES, Message,
    VERSION, decode, encode,
};

use crate::support::{assert_same, body, kind};

proptest! {
    #[test]
    fn every_kind_comes_back(kind in kind()) {
        assert_same(&decode(body(&encode(&kind))).unwrap(), Some(&kind));
    }
}

fn error(kind: &Kind) -> Error {
    match decode(body(&encode(kind))) {
        Ok(message) => panic!("{message:?} was accepted"),
        Err(error) => error,
    }
}

/// The error's text and the code that the peer is told.
fn refusal(kind: &Kind) -> (String, Code) {
    let error = error(kind);
    (error.to_string(), error.refuse_code())
}

fn invalid(text: &str) -> (String, Code) {
    (text.to_owned(), Code::Malformed)
}

fn too_many(text: &str) -> (String, Code) {
    (text.to_owned(), Code::Limit)
}

fn hello() -> wire::Hello {
    wire::Hello {
        version: VERSION,
        cluster: "edge".into(),
        origin: 1,
        node: "edge-1".into(),
        clock_us: 5,
        zones: vec![zone("one")],
        max_frame: 1 << 16,
    }
}

fn zone(name: &str) -> wire::Zone {
    wire::Zone { name: name.into(), kind: wire::ZoneKind::Keyval.into(), vector: Vec::new() }
}

fn vector(origins: usize) -> Vec<wire::Known> {
    (1..=origins as u64).map(|origin| wire::Known { origin, through_seq: 1 }).collect()
}

#[test]
fn hello_keeps_its_limits() {
    let long = "n".repeat(MAX_NAME + 1);
    let refused = |hello| refusal(&Kind::Hello(hello));
    assert_eq!(refused(wire::Hello { origin: 0, ..hello() }), invalid("invalid Hello: its origin is 0"));
    assert_eq!(
        refused(wire::Hello { max_frame: 4095, ..hello() }),
        invalid("invalid Hello: max_frame 4095 is below 4096")
    );
    assert_eq!(
        refused(wire::Hello { cluster: long.clone(), ..hello() }),
        too_many("Hello with 256 bytes of cluster name, at most 255 are allowed")
    );
    assert_eq!(
        refused(wire::Hello { node: long.clone(), ..hello() }),
        too_many("Hello with 256 bytes of node name, at most 255 are allowed")
    );
    let zones = |zones| wire::Hello { zones, ..hello() };
    assert_eq!(
        refused(zones(vec![zone(&long)])),
        too_many("Hello with 256 bytes of zone name, at most 255 are allowed")
    );
    assert_eq!(refused(zones(vec![zone("")])), invalid("invalid Hello: a zone has no name"));
    assert_eq!(
        refused(zones(vec![zone("one"), zone("one")])),
        invalid("invalid Hello: zone \"one\" is there twice")
    );
    assert_eq!(
        refused(zones((0..=MAX_ZONES).map(|index| zone(&index.to_string())).collect())),
        too_many("Hello with 1025 zones, at most 1024 are allowed")
    );
    assert_eq!(
        refused(zones(vec![wire::Zone { vector: vector(MAX_ORIGINS + 1), ..zone("one") }])),
        too_many("Hello with 4097 origins, at most 4096 are allowed")
    );
    let nobody = vec![wire::Known { origin: 0, through_seq: 1 }];
    assert_eq!(
        refused(zones(vec![wire::Zone { vector: nobody, ..zone("one") }])),
        invalid("invalid Hello: an origin is 0")
    );
}

#[test]
fn hello_at_its_limits_is_accepted() {
    let mut hello = hello();
    hello.cluster = "c".repeat(MAX_NAME);
    hello.zones = (0..MAX_ZONES).map(|index| zone(&index.to_string())).collect();
    hello.zones[0].vector = vector(MAX_ORIGINS);
    // A kind of the future is for the node to report, not a defect.
    hello.zones[1].kind = 77;
    let kind = Kind::Hello(hello);
    assert_same(&decode(body(&encode(&kind))).unwrap(), Some(&kind));
}

#[test]
fn hello_without_max_frame_has_the_default() {
    let frame = encode(&Kind::Hello(wire::Hello { max_frame: 0, ..hello() }));
    let Ok(Message::Hello(hello)) = decode(body(&frame)) else { panic!("not a Hello") };
    assert_eq!(hello.max_frame as usize, DEFAULT_FRAME_LIMIT);
}

#[test]
fn hello_of_another_version_says_only_that() {
    // Version 2, in which the cluster is a number, the origin a string, and the zones are gone.
    let body = [0x0a, 9, 0x10, 0x01, 0x1a, 0x01, b'x', 0x08, 0x02, 0x30, 0x05];
    let Ok(Message::Hello(hello)) = decode(Bytes::copy_from_slice(&body)) else { panic!("not a Hello") };
    assert_eq!(hello, wire::Hello { version: 2, ..wire::Hello::default() });
    // None at all.
    let Ok(Message::Hello(hello)) = decode(Bytes::from_static(&[0x0a, 0])) else { panic!("not a Hello") };
    assert_eq!(hello.version, 0);
}

#[test]
fn texts_are_cut_between_characters() {
    let long = format!("{}é", "t".repeat(MAX_TEXT - 1));
    let cut = "t".repeat(MAX_TEXT - 1);
    let refuse = wire::Refuse { code: Code::Clock.into(), message: long.clone() };
    let Ok(Message::Refuse(refuse)) = decode(body(&encode(&Kind::Refuse(refuse)))) else {
        panic!("no Refuse")
    };
    assert_eq!((refuse.code(), refuse.message), (Code::Clock, cut.clone()));
    let goodbye = Kind::Goodbye(wire::Goodbye { reason: long });
    let Ok(Message::Goodbye(goodbye)) = decode(body(&encode(&goodbye))) else { panic!("no Goodbye") };
    assert_eq!(goodbye.reason, cut);
}

#[test]
fn unknown_codes_stay_readable() {
    let refuse = wire::Refuse { code: 99, message: "of the future".into() };
    let Ok(Message::Refuse(refuse)) = decode(body(&encode(&Kind::Refuse(refuse)))) else {
        panic!("no Refuse")
    };
    assert_eq!((refuse.code, refuse.code()), (99, Code::Unspecified));
}

#[test]
fn zone_indices_are_bounded() {
    let zone = MAX_ZONES as u32;
    let kinds = [
        Kind::Batch(wire::Batch { zone, ..wire::Batch::default() }),
        Kind::CatchUp(wire::CatchUp { zone, ..wire::CatchUp::default() }),
        Kind::CatchUpEnd(wire::CatchUpEnd { zone, ..wire::CatchUpEnd::default() }),
        Kind::Acknowledge(wire::Acknowledge {
            zones: vec![wire::ZoneAcknowledge { zone, through_seq: 1 }],
            catch_up_frames: 0,
        }),
        Kind::Request(wire::Request { zone, request: 1, ..wire::Request::default() }),
        Kind::Heartbeat(wire::Heartbeat {
            vectors: vec![wire::ZoneVector { zone, vector: Vec::new() }],
            ..wire::Heartbeat::default()
        }),
    ];
    for kind in kinds {
        let text = error(&kind).to_string();
        assert!(text.ends_with(": zone 1024 of at most 1024"), "{text}");
    }
}

#[test]
fn vectors_are_bounded_everywhere() {
    let vector = vector(MAX_ORIGINS + 1);
    let kinds = [
        Kind::CatchUpEnd(wire::CatchUpEnd { vector: vector.clone(), ..wire::CatchUpEnd::default() }),
        Kind::Request(wire::Request { request: 1, known: vector.clone(), ..wire::Request::default() }),
        Kind::Request(wire::Request {
            request: 1,
            origins: vec![1; MAX_ORIGINS + 1],
            ..wire::Request::default()
        }),
        Kind::Heartbeat(wire::Heartbeat {
            vectors: vec![wire::ZoneVector { zone: 0, vector }],
            ..wire::Heartbeat::default()
        }),
    ];
    for kind in kinds {
        let text = error(&kind).to_string();
        assert!(text.ends_with("with 4097 origins, at most 4096 are allowed"), "{text}");
    }
    let zones = vec![wire::ZoneAcknowledge::default(); MAX_ZONES + 1];
    assert_eq!(
        refusal(&Kind::Acknowledge(wire::Acknowledge { zones, catch_up_frames: 0 })),
        too_many("Acknowledge with 1025 zones, at most 1024 are allowed")
    );
    let vectors = vec![wire::ZoneVector::default(); MAX_ZONES + 1];
    assert_eq!(
        refusal(&Kind::Heartbeat(wire::Heartbeat { vectors, ..wire::Heartbeat::default() })),
        too_many("Heartbeat with 1025 zones, at most 1024 are allowed")
    );
}

#[test]
fn requests_are_named_and_ask_for_someone() {
    let request = wire::Request { request: 1, origins: vec![1], ..wire::Request::default() };
    let refused = |request| refusal(&Kind::Request(request));
    assert_eq!(
        refused(wire::Request { request: 0, ..request.clone() }),
        invalid("invalid Request: its id is 0")
    );
    assert_eq!(
        refused(wire::Request { origins: vec![1, 0], ..request }),
        invalid("invalid Request: an origin is 0")
    );
}

#[test]
fn rows_keep_their_limits() {
    let refused = |batch| refusal(&Kind::Batch(batch));
    let batch = wire::Batch::default;
    let row = wire::Row { writer: 2, ..wire::Row::default() };
    assert_eq!(
        refused(wire::Batch { rows: vec![row.clone()], origins: vec![1], ..batch() }),
        invalid("invalid Batch: a row names origin 2 of 1 in the table")
    );
    assert_eq!(
        refused(wire::Batch { origins: vec![1, 0], ..batch() }),
        invalid("invalid Batch: an origin is 0")
    );
    assert_eq!(
        refused(wire::Batch { origins: vec![1; MAX_TABLE + 1], ..batch() }),
        too_many("Batch with 257 origins, at most 256 are allowed")
    );
    assert_eq!(
        refused(wire::Batch { rows: vec![wire::Row::default(); MAX_ROWS + 1], ..batch() }),
        too_many("Batch with 65537 rows, at most 65536 are allowed")
    );
    assert_eq!(
        refused(wire::Batch { from_seq_excluded: u64::MAX, rows: vec![wire::Row::default()], ..batch() }),
        invalid("invalid Batch: its sequence numbers pass 64 bits")
    );
    // The origin of a row means nothing in a Batch, but does in a CatchUp.
    let row = wire::Row { writer: 0, origin: 2, ..row };
    let frame = encode(&Kind::Batch(wire::Batch { rows: vec![row.clone()], ..batch() }));
    assert!(decode(body(&frame)).is_ok());
    assert_eq!(
        refusal(&Kind::CatchUp(wire::CatchUp { rows: vec![row], ..wire::CatchUp::default() })),
        invalid("invalid CatchUp: a row names origin 2 of 0 in the table")
    );
}

#[test]
fn a_frame_has_one_kind() {
    let twice = [Kind::Goodbye(wire::Goodbye::default()), Kind::Refuse(wire::Refuse::default())];
    let bodies: Vec<u8> = twice.iter().flat_map(|kind| body(&encode(kind)).to_vec()).collect();
    let error = decode(bodies.into()).unwrap_err();
    assert_eq!(error.to_string(), "invalid Frame: it has more than one kind");
    // None, and one of the future, are skipped.
    assert!(matches!(decode(Bytes::new()), Ok(Message::Unknown)));
    assert!(matches!(decode(Bytes::from_static(&[0x7a, 1, 9])), Ok(Message::Unknown)));
    assert_eq!(wire::Frame::decode(&[0x7a, 1, 9][..]), Ok(wire::Frame { kind: None }));
}
