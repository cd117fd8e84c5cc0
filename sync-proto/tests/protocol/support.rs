//! Rows to write, messages of prost to compare with, and frames as a foreign implementation may write them.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint};
use sync_proto::wire::{self, frame::Kind};
use sync_proto::{Message, RowRef, framing};

/// The dialer in all tests.
pub(crate) const SENDER: u64 = 0xd1a1;

/// A row that owns its key and value.
#[derive(Clone, Debug)]
pub(crate) struct OwnedRow {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// Everything else.
    pub(crate) rest: RowRef<'static>,
}

impl OwnedRow {
    pub(crate) fn borrowed(&self) -> RowRef<'_> {
        RowRef { key: &self.key, value: &self.value, ..self.rest }
    }
}

/// Any number, small ones and the edges more often.
pub(crate) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        0..300_u64,
        any::<u64>(),
        (0..64_u32, any::<u64>()).prop_map(|(shift, value)| value >> shift),
    ]
}

/// One of a few origins, the sender among them.
pub(crate) fn origin() -> impl Strategy<Value = u64> {
    select(vec![SENDER, 1, 2, u64::MAX])
}

pub(crate) fn row() -> impl Strategy<Value = OwnedRow> {
    let bytes = || vec(any::<u8>(), 0..200);
    // Any stamp, or one of a few milliseconds.
    let stamp = prop_oneof![number(), (0..16_u64, 0..5000_u64).prop_map(|(ms, count)| ms << 16 | count)];
    let numbers = (stamp, number(), number(), number(), number());
    (bytes(), bytes(), origin(), origin(), any::<bool>(), numbers).prop_map(
        |(key, value, writer, origin, removed, (stamp, time_ms, seq, debt, tat_ns))| OwnedRow {
            key,
            value,
            rest: RowRef {
                stamp,
                writer,
                time_ms,
                removed,
                origin,
                seq,
                debt_ns: debt as i64,
                tat_ns,
                ..RowRef::default()
            },
        },
    )
}

/// A row of prost whose indices may be up to `index_max`.
fn wire_row(index_max: u32) -> impl Strategy<Value = wire::Row> {
    let bytes = || vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let signed = || number().prop_map(|number| number as i64);
    let times = (signed(), option::of(signed()), signed(), signed(), signed(), number());
    (bytes(), bytes(), 0..=index_max, 0..=index_max, any::<bool>(), times).prop_map(
        |(key, value, writer, origin, removed, (stamp_ms, time, seq, debt_ns, tat, near))| wire::Row {
            key,
            value,
            stamp_ms,
            stamp_count: tat as u32,
            stamp_near: near as u32,
            writer,
            time,
            removed,
            origin,
            seq,
            debt_ns,
            tat,
        },
    )
}

fn origins() -> impl Strategy<Value = Vec<u64>> {
    vec(1..=u64::MAX, 0..4)
}

pub(crate) fn wire_batch() -> impl Strategy<Value = wire::Batch> {
    let bases = (number(), number(), number());
    (origins(), 0..1024_u32, 0..u64::MAX / 2, bases).prop_flat_map(|(origins, zone, from, bases)| {
        let (stamp_base, time_base, tat_base) = bases;
        vec(wire_row(origins.len() as u32), 0..8).prop_map(move |rows| wire::Batch {
            zone,
            from_seq_excluded: from,
            stamp_base,
            time_base,
            tat_base,
            rows,
            origins: origins.clone(),
        })
    })
}

pub(crate) fn wire_catch_up() -> impl Strategy<Value = wire::CatchUp> {
    (wire_batch(), number(), number()).prop_map(|(batch, request, seq_base)| wire::CatchUp {
        zone: batch.zone,
        request,
        stamp_base: batch.stamp_base,
        time_base: batch.time_base,
        tat_base: batch.tat_base,
        rows: batch.rows,
        origins: batch.origins,
        seq_base,
    })
}

fn known() -> impl Strategy<Value = Vec<wire::Known>> {
    vec((1..=u64::MAX, number()).prop_map(|(origin, through_seq)| wire::Known { origin, through_seq }), 0..4)
}

fn hello() -> impl Strategy<Value = wire::Hello> {
    let zone = |index: usize| {
        (0..5_i32, known()).prop_map(move |(kind, vector)| wire::Zone {
            name: format!("zone-{index}"),
            kind,
            vector,
        })
    };
    let zones = (0..4_usize).prop_flat_map(move |zones| (0..zones).map(zone).collect::<Vec<_>>());
    (".{0,20}", ".{0,20}", 1..=u64::MAX, number(), zones, 4096..=u32::MAX).prop_map(
        |(cluster, node, origin, clock_us, zones, max_frame)| wire::Hello {
            version: sync_proto::VERSION,
            cluster,
            origin,
            node,
            clock_us,
            zones,
            max_frame,
        },
    )
}

/// A frame of any kind that keeps all rules.
pub(crate) fn kind() -> impl Strategy<Value = Kind> {
    let zone = || 0..1024_u32;
    let acknowledge =
        (zone(), number()).prop_map(|(zone, through_seq)| wire::ZoneAcknowledge { zone, through_seq });
    let vectors = (zone(), known()).prop_map(|(zone, vector)| wire::ZoneVector { zone, vector });
    prop_oneof![
        hello().prop_map(Kind::Hello),
        (0..12_i32, ".{0,40}").prop_map(|(code, message)| Kind::Refuse(wire::Refuse { code, message })),
        wire_batch().prop_map(Kind::Batch),
        wire_catch_up().prop_map(Kind::CatchUp),
        (zone(), known(), number(), number()).prop_map(|(zone, vector, request, rows)| {
            Kind::CatchUpEnd(wire::CatchUpEnd { zone, vector, request, rows })
        }),
        (vec(acknowledge, 0..5), number()).prop_map(|(zones, catch_up_frames)| {
            Kind::Acknowledge(wire::Acknowledge { zones, catch_up_frames })
        }),
        (zone(), 1..=u64::MAX, origins(), known()).prop_map(|(zone, request, origins, known)| {
            Kind::Request(wire::Request { zone, request, origins, known })
        }),
        (number(), number(), number(), vec(vectors, 0..5)).prop_map(
            |(clock_us, echo_clock_us, echo_delay_us, vectors)| {
                Kind::Heartbeat(wire::Heartbeat { clock_us, echo_clock_us, echo_delay_us, vectors })
            }
        ),
        ".{0,40}".prop_map(|reason| Kind::Goodbye(wire::Goodbye { reason })),
    ]
}

/// The body of a frame without its prefix, which must be right.
pub(crate) fn body(frame: &Bytes) -> Bytes {
    let (prefix, length) = framing::parse_length(frame).expect("a whole prefix");
    let body = frame.slice(prefix..);
    assert_eq!(body.len() as u64, length);
    body
}

/// What prost makes of a body.
pub(crate) fn by_prost(body: &[u8]) -> Option<Kind> {
    wire::Frame::decode(body).expect("prost reads what we wrote").kind
}

/// Sums of the rows so far, the bases first.
struct Sums {
    stamp_ms: u64,
    time: u64,
    tat: u64,
    seq: u64,
}

impl Sums {
    fn add(&mut self, row: &wire::Row) {
        // Zigzag of three bits.
        let step = [0, -1, 1, -2, 2, -3, 3, -4][row.stamp_near as usize % 8];
        self.stamp_ms = self.stamp_ms.wrapping_add_signed(row.stamp_ms).wrapping_add_signed(step);
        self.time = self.time.wrapping_add_signed(row.time.unwrap_or_default());
        self.tat = self.tat.wrapping_add_signed(row.tat);
        self.seq = self.seq.wrapping_add_signed(row.seq);
    }

    fn stamp(&self, row: &wire::Row) -> u64 {
        let count = u64::from(row.stamp_count) + u64::from(row.stamp_near) / 8;
        self.stamp_ms.wrapping_mul(65536).wrapping_add(count)
    }
}

fn origin_at(table: &[u64], index: u32, default: u64) -> u64 {
    if index == 0 { default } else { table[index as usize - 1] }
}

/// The rows of a Batch, as the schema says and prost reads it.
pub(crate) fn batch_rows(batch: &wire::Batch) -> Vec<RowRef<'_>> {
    let wire::Batch { stamp_base: stamp_ms, time_base: time, tat_base: tat, .. } = *batch;
    let mut sums = Sums { stamp_ms, time, tat, seq: 0 };
    (batch.rows.iter().zip(batch.from_seq_excluded + 1..))
        .map(|(row, seq)| {
            sums.add(row);
            RowRef {
                key: &row.key,
                value: &row.value,
                stamp: sums.stamp(row),
                writer: origin_at(&batch.origins, row.writer, SENDER),
                time_ms: row.time.map_or(0, |_| sums.time),
                removed: row.removed,
                origin: SENDER,
                seq,
                debt_ns: row.debt_ns,
                tat_ns: sums.tat,
            }
        })
        .collect()
}

/// The rows of a CatchUp, as the schema says and prost reads it.
pub(crate) fn catch_up_rows(catch_up: &wire::CatchUp) -> Vec<RowRef<'_>> {
    let wire::CatchUp { stamp_base: stamp_ms, time_base: time, tat_base: tat, seq_base: seq, .. } = *catch_up;
    let mut sums = Sums { stamp_ms, time, tat, seq };
    (catch_up.rows.iter())
        .map(|row| {
            sums.add(row);
            let origin = origin_at(&catch_up.origins, row.origin, SENDER);
            RowRef {
                key: &row.key,
                value: &row.value,
                stamp: sums.stamp(row),
                writer: origin_at(&catch_up.origins, row.writer, origin),
                time_ms: row.time.map_or(0, |_| sums.time),
                removed: row.removed,
                origin,
                seq: sums.seq,
                debt_ns: row.debt_ns,
                tat_ns: sums.tat,
            }
        })
        .collect()
}

/// Fails unless what we decoded is what prost decoded.
pub(crate) fn assert_same(ours: &Message, prost: Option<&Kind>) {
    match (ours, prost) {
        (Message::Batch(view), Some(Kind::Batch(batch))) => {
            assert_eq!((view.zone(), view.from_seq_excluded()), (batch.zone, batch.from_seq_excluded));
            assert_eq!((view.len(), view.is_empty()), (batch.rows.len(), batch.rows.is_empty()));
            assert_eq!(view.through_seq(), batch.from_seq_excluded + batch.rows.len() as u64);
            assert_eq!(view.rows(SENDER).len(), batch.rows.len());
            assert_eq!(view.rows(SENDER).collect::<Vec<_>>(), batch_rows(batch));
        }
        (Message::CatchUp(view), Some(Kind::CatchUp(catch_up))) => {
            assert_eq!((view.zone(), view.request()), (catch_up.zone, catch_up.request));
            assert_eq!((view.len(), view.is_empty()), (catch_up.rows.len(), catch_up.rows.is_empty()));
            assert_eq!(view.rows(SENDER).collect::<Vec<_>>(), catch_up_rows(catch_up));
        }
        (Message::Hello(ours), Some(Kind::Hello(prost))) if ours.max_frame != prost.max_frame => {
            assert_eq!(prost.max_frame, 0);
            assert_eq!(ours, &wire::Hello { max_frame: 1 << 20, ..prost.clone() });
        }
        (Message::Hello(ours), Some(Kind::Hello(prost))) => assert_eq!(ours, prost),
        (Message::Refuse(ours), Some(Kind::Refuse(prost))) => assert_eq!(ours, prost),
        (Message::CatchUpEnd(ours), Some(Kind::CatchUpEnd(prost))) => assert_eq!(ours, prost),
        (Message::Acknowledge(ours), Some(Kind::Acknowledge(prost))) => assert_eq!(ours, prost),
        (Message::Request(ours), Some(Kind::Request(prost))) => assert_eq!(ours, prost),
        (Message::Heartbeat(ours), Some(Kind::Heartbeat(prost))) => assert_eq!(ours, prost),
        (Message::Goodbye(ours), Some(Kind::Goodbye(prost))) => assert_eq!(ours, prost),
        (Message::Unknown, None) => {}
        (ours, prost) => panic!("{ours:?} is not {prost:?}"),
    }
}

/// One field of a message as it lies on the wire: number, wire type, the bytes after the key.
struct Field {
    number: u64,
    wire_type: u64,
    value: Vec<u8>,
}

fn fields(mut message: &[u8]) -> Vec<Field> {
    fn take<'a>(input: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (head, tail) = input.split_at(length);
        *input = tail;
        head
    }
    fn varint(input: &mut &[u8]) -> u64 {
        prost::encoding::decode_varint(input).expect("a varint")
    }
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let value = match key & 7 {
            0 => {
                let mut value = Vec::new();
                encode_varint(varint(&mut message), &mut value);
                value
            }
            1 => take(&mut message, 8).to_vec(),
            2 => {
                let length = varint(&mut message) as usize;
                take(&mut message, length).to_vec()
            }
            other => panic!("wire type {other}"),
        };
        fields.push(Field { number: key >> 3, wire_type: key & 7, value });
    }
    fields
}

/// Writes a varint one byte longer than it has to be, which is allowed, if there is room for that.
fn long_varint(value: u64, out: &mut Vec<u8>) {
    let short = encoded_len_varint(value);
    encode_varint(value, out);
    if short < 9 {
        *out.last_mut().expect("a byte") |= 0x80;
        out.push(0);
    }
}

/// The same message as another implementation may write it: fields in another order (those of one number stay in theirs),
/// unknown fields between them, tables unpacked, varints longer than minimal, scalars said twice. `choices` decide.
pub(crate) fn foreign(message: &[u8], rows: Option<u64>, table: Option<u64>, choices: &[Index]) -> Vec<u8> {
    let mut at = 0;
    let mut choose = |from: usize| {
        at += 1;
        choices[at % choices.len()].index(from)
    };
    let mut list = Vec::new();
    for mut field in fields(message) {
        if rows == Some(field.number) {
            field.value = foreign(&field.value, None, None, &choices[1..]);
        }
        if table == Some(field.number) && choose(2) == 0 {
            list.extend(field.value.chunks(8).map(|origin| Field {
                number: field.number,
                wire_type: 1,
                value: origin.to_vec(),
            }));
            continue;
        }
        list.push(field);
    }
    for number in [200, 1 << 20, (1 << 29) - 1] {
        list.push(match choose(3) {
            0 => Field { number, wire_type: 0, value: vec![0x80, 0x01] },
            1 => Field { number, wire_type: 2, value: b"later".to_vec() },
            // A group: one field, and its end.
            _ => {
                let mut value = vec![0x08, 0x01];
                encode_varint(number << 3 | 4, &mut value);
                Field { number, wire_type: 3, value }
            }
        });
    }
    // Merge the numbers in a random order, each number's own fields in theirs.
    let mut out = Vec::new();
    while !list.is_empty() {
        let number = list[choose(list.len())].number;
        let position = list.iter().position(|field| field.number == number).expect("it is there");
        let field = list.remove(position);
        long_varint(number << 3 | field.wire_type, &mut out);
        if field.wire_type == 2 {
            long_varint(field.value.len() as u64, &mut out);
        }
        if field.wire_type == 0 && number < 16 && choose(2) == 0 {
            // A value that the real one replaces.
            out.extend([0x05]);
            long_varint(number << 3, &mut out);
        }
        out.extend(&field.value);
    }
    out
}
