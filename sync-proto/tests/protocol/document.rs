//! `docs/protocol.md` says what the code does: its limits, its messages, its codes, and its example byte for byte.

use std::path::Path;

use bytes::Bytes;
use prost::Message as _;
use sync_proto::framing::FrameBuffer;
use sync_proto::wire::{self, frame::Kind, refuse::Code};
use sync_proto::{
    BatchEncoder, DEFAULT_FRAME_LIMIT, MAX_FRAME_LIMIT, MAX_NAME, MAX_ORIGINS, MAX_ROW_OVERHEAD, MAX_ROWS,
    MAX_TABLE, MAX_TEXT, MAX_ZONES, MIN_FRAME_LIMIT, Message, RowRef, VERSION, decode, encode,
};

const ORIGIN: u64 = 0x1122_3344_5566_7788;
const OTHER: u64 = 0x99aa_bbcc_ddee_ff00;

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    std::fs::read_to_string(path).expect("docs/protocol.md lies beside the crate")
}

/// The bytes of the block after the heading `heading`: two hex digits each, before the `#` of each line.
fn example(heading: &str) -> Bytes {
    let document = document();
    let (_, after) = document.split_once(heading).expect("the heading");
    let (_, block) = after.split_once("```text\n").expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    (block.lines())
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>())
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits"))
        .collect::<Vec<_>>()
        .into()
}

#[test]
fn the_batch_of_the_document() {
    let first = RowRef {
        key: b"k1",
        value: b"on",
        stamp: 1_767_225_600_000 << 16,
        writer: ORIGIN,
        origin: ORIGIN,
        seq: 42,
        ..RowRef::default()
    };
    let second = RowRef {
        key: b"k2",
        value: b"off",
        stamp: first.stamp + 1,
        writer: OTHER,
        time_ms: 1_767_229_200_000,
        seq: 43,
        ..first
    };
    let stamp = first.stamp + (1 << 16) + 2;
    let third = RowRef { key: b"k3", value: b"", stamp, removed: true, seq: 44, ..first };
    let rows = [first, second, third];

    let mut encoder = BatchEncoder::new(1, 41, ORIGIN, DEFAULT_FRAME_LIMIT);
    assert!(rows.iter().all(|row| encoder.push(row)));
    let frame = encoder.finish();
    let documented = example("### A Batch, byte by byte");
    assert_eq!(format!("{:02x}", documented), format!("{:02x}", frame));

    let mut buffer = FrameBuffer::new(DEFAULT_FRAME_LIMIT);
    buffer.push(&documented);
    let body = buffer.next_frame().unwrap().expect("a whole frame");
    let Ok(Message::Batch(view)) = decode(body.clone()) else { panic!("not a Batch") };
    assert_eq!((view.zone(), view.from_seq_excluded(), view.through_seq()), (1, 41, 44));
    assert_eq!(view.rows(ORIGIN).collect::<Vec<_>>(), rows);
    assert!(matches!(wire::Frame::decode(body).unwrap().kind, Some(Kind::Batch(_))));
}

#[test]
fn the_hello_of_the_document() {
    let hello = Kind::Hello(wire::Hello {
        version: 1,
        cluster: "edge".into(),
        origin: ORIGIN,
        node: "edge-1".into(),
        clock_us: 1_767_225_600_000_000,
        zones: vec![wire::Zone {
            name: "one".into(),
            kind: wire::ZoneKind::Keyval.into(),
            vector: vec![wire::Known { origin: ORIGIN, through_seq: 41 }],
        }],
        max_frame: 1 << 20,
    });
    assert_eq!(format!("{:02x}", example("### A Hello, byte by byte")), format!("{:02x}", encode(&hello)));
}

#[test]
fn the_limits_of_the_document() {
    let document = document();
    for (name, value) in [
        ("VERSION", VERSION as usize),
        ("DEFAULT_FRAME_LIMIT", DEFAULT_FRAME_LIMIT),
        ("MIN_FRAME_LIMIT", MIN_FRAME_LIMIT),
        ("MAX_FRAME_LIMIT", MAX_FRAME_LIMIT),
        ("MAX_ZONES", MAX_ZONES),
        ("MAX_ORIGINS", MAX_ORIGINS),
        ("MAX_TABLE", MAX_TABLE),
        ("MAX_ROWS", MAX_ROWS),
        ("MAX_NAME", MAX_NAME),
        ("MAX_TEXT", MAX_TEXT),
        ("MAX_ROW_OVERHEAD", MAX_ROW_OVERHEAD),
    ] {
        let row = format!("| `{name}` | {value} |");
        assert!(document.contains(&row), "docs/protocol.md has no row {row}");
    }
}

#[test]
fn the_messages_and_codes_of_the_document() {
    let document = document();
    let schema = include_str!("../../proto/zonesync/v1/sync.proto");
    for message in schema.lines().filter_map(|line| line.strip_prefix("message ")) {
        let name = message.trim_end_matches(" {");
        assert!(document.contains(&format!("**{name}**")), "docs/protocol.md does not describe {name}");
    }
    for code in (0..).map_while(|number| Code::try_from(number).ok()) {
        let name = code.as_str_name().trim_start_matches("CODE_");
        let row = format!("| {} | `{name}` |", code as i32);
        assert!(document.contains(&row), "docs/protocol.md has no row {row}");
    }
}
