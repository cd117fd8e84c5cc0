//! What the targets `handshake` and `links` share: a node without sockets, and a peer that says anything a frame can hold.

use std::time::Duration;

use arbitrary::Arbitrary;
use bytes::Bytes;
use sync_node::simulation::{Action, Moment, Node};
use sync_proto::framing::parse_length;
use sync_proto::wire::frame::Kind;
use sync_proto::wire::{
    Acknowledge, CatchUpEnd, Goodbye, Heartbeat, Hello, Known, Refuse, Request, Zone, ZoneAcknowledge,
    ZoneKind, ZoneVector,
};
use sync_proto::{BatchEncoder, CatchUpEncoder, MIN_FRAME_LIMIT, Message, RowRef, VERSION, decode, encode};
use sync_store::{KeyvalZone, LimitZone, Origin, Region, StickyZone, Time};
use sync_transport::{Address, Target};

/// The node's origin; that of its peer is another of these small numbers.
pub const OWN: u64 = 1;
/// Time of day when the node starts.
pub const START: Time = Time::from_millis(1_700_000_000_000);
/// The zones of the node, and so the numbers of zones that mean something.
const ZONES: [(&str, ZoneKind); 3] =
    [("kv", ZoneKind::Keyval), ("st", ZoneKind::Sticky), ("li", ZoneKind::Limit)];

/// A node with a zone of each kind, and somebody to dial.
///
/// # Panics
/// If it cannot be made.
pub fn node() -> Node {
    let region = || Region::anonymous().huge_pages(false).seed(7);
    let rate = "100r/h".parse().expect("a rate");
    let builder = sync_node::Node::builder("fuzzed")
        .plain_text()
        .buffers(4, 1024)
        .keyval(KeyvalZone::builder("kv").size(32 << 10).region(region()))
        .sticky(StickyZone::builder("st").size(32 << 10).region(region()))
        .limit(LimitZone::builder("li").size(32 << 10).rate(rate).burst(99).region(region()));
    let mut node = builder.simulate(Origin::from_raw(OWN).expect("not 0"), 7).expect("a node");
    let target = Target::from(Address::Tcp(([192, 0, 2, 1], 9000).into()));
    node.handle_targets(moment(Duration::ZERO), &[target], true);
    node
}

/// A moment so long after the start.
pub fn moment(elapsed: Duration) -> Moment {
    Moment { time: START.saturating_add(elapsed), elapsed }
}

/// A number that is mostly near others, and sometimes anything.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Number {
    /// Near the beginning.
    Small(u8),
    /// Anything.
    Any(u64),
}

impl Number {
    /// The number.
    pub fn get(self) -> u64 {
        match self {
            Self::Small(number) => number.into(),
            Self::Any(number) => number,
        }
    }
}

/// A row of a zone of any kind.
#[derive(Arbitrary, Debug)]
pub struct Row {
    key: Vec<u8>,
    value: Vec<u8>,
    /// Milliseconds after the start.
    stamp: i16,
    writer: u8,
    time: Number,
    removed: bool,
    origin: u8,
    seq: Number,
    debt_ns: i64,
    tat: Number,
}

impl Row {
    fn wire(&self) -> RowRef<'_> {
        RowRef {
            key: &self.key,
            value: &self.value,
            stamp: START.as_millis().saturating_add_signed(self.stamp.into()) << 16,
            writer: self.writer.into(),
            time_ms: self.time.get(),
            removed: self.removed,
            origin: u64::from(self.origin).max(1),
            seq: self.seq.get(),
            debt_ns: self.debt_ns,
            tat_ns: START.as_nanos().wrapping_add(self.tat.get()),
        }
    }
}

/// What a peer says. With everything 0 it is what an honest one would.
#[derive(Arbitrary, Debug)]
pub enum Say {
    /// A greeting; `wrong` has a bit for everything that may be wrong with it.
    Hello {
        /// The peer, but for the node itself.
        origin: u8,
        /// Bits.
        wrong: u8,
        /// What it knows, by origin, in all zones.
        known: Vec<(u8, Number)>,
    },
    /// A batch.
    Batch {
        /// Zone.
        zone: u8,
        /// Where it begins.
        from: Number,
        /// Who sends.
        sender: u8,
        /// Its rows.
        rows: Vec<Row>,
    },
    /// A piece of a catch-up.
    CatchUp {
        /// Zone.
        zone: u8,
        /// The request that it answers.
        request: Number,
        /// Who sends.
        sender: u8,
        /// Its rows.
        rows: Vec<Row>,
    },
    /// The end of a catch-up.
    CatchUpEnd {
        /// Zone.
        zone: u8,
        /// The request that it answers.
        request: Number,
        /// What is covered.
        covers: Vec<(u8, Number)>,
    },
    /// Acknowledgements by zone.
    Acknowledge(Vec<(u8, Number)>),
    /// A request.
    Request {
        /// Zone.
        zone: u8,
        /// Its id.
        request: Number,
        /// Whose records.
        origins: Vec<u8>,
        /// What is known of them.
        known: Vec<(u8, Number)>,
    },
    /// Vectors by zone.
    Heartbeat(Vec<(u8, Vec<(u8, Number)>)>),
    /// The last frame.
    Goodbye,
    /// The last frame, with its code.
    Refuse(u8),
    /// Anything.
    Raw(Vec<u8>),
}

fn known(entries: &[(u8, Number)]) -> Vec<Known> {
    entries.iter().map(|&(origin, seq)| Known { origin: origin.into(), through_seq: seq.get() }).collect()
}

impl Say {
    /// The body of the frame.
    pub fn body(&self) -> Bytes {
        let frame = match self {
            Self::Hello { origin, wrong, known } => encode(&Kind::Hello(hello(*origin, *wrong, known))),
            Self::Batch { zone, from, sender, rows } => {
                let sender = u64::from(*sender).max(OWN + 1);
                let mut batch = BatchEncoder::new((*zone).into(), from.get() >> 1, sender, MIN_FRAME_LIMIT);
                rows.iter().take_while(|row| batch.push(&row.wire())).for_each(drop);
                batch.finish()
            }
            Self::CatchUp { zone, request, sender, rows } => {
                let sender = u64::from(*sender).max(OWN + 1);
                let mut catch_up =
                    CatchUpEncoder::new((*zone).into(), request.get(), sender, MIN_FRAME_LIMIT);
                rows.iter().take_while(|row| catch_up.push(&row.wire())).for_each(drop);
                catch_up.finish()
            }
            Self::CatchUpEnd { zone, request, covers } => encode(&Kind::CatchUpEnd(CatchUpEnd {
                zone: (*zone).into(),
                request: request.get(),
                vector: known(covers),
                rows: 0,
            })),
            Self::Acknowledge(zones) => encode(&Kind::Acknowledge(Acknowledge {
                zones: zones
                    .iter()
                    .map(|&(zone, seq)| ZoneAcknowledge { zone: zone.into(), through_seq: seq.get() })
                    .collect(),
                catch_up_frames: 0,
            })),
            Self::Request { zone, request, origins, known: entries } => encode(&Kind::Request(Request {
                zone: (*zone).into(),
                request: request.get(),
                origins: origins.iter().map(|&origin| origin.into()).collect(),
                known: known(entries),
            })),
            Self::Heartbeat(vectors) => encode(&Kind::Heartbeat(Heartbeat {
                clock_us: START.as_millis() * 1000,
                vectors: vectors
                    .iter()
                    .map(|(zone, vector)| ZoneVector { zone: (*zone).into(), vector: known(vector) })
                    .collect(),
                ..Heartbeat::default()
            })),
            Self::Goodbye => encode(&Kind::Goodbye(Goodbye { reason: "fuzzed".to_owned() })),
            Self::Refuse(code) => {
                encode(&Kind::Refuse(Refuse { code: (*code).into(), message: "fuzzed".to_owned() }))
            }
            Self::Raw(bytes) => return bytes.clone().into(),
        };
        let (prefix, _) = parse_length(&frame).expect("a whole frame");
        frame.slice(prefix..)
    }
}

fn hello(origin: u8, wrong: u8, entries: &[(u8, Number)]) -> Hello {
    let is = |bit: u8| wrong & 1 << bit != 0;
    let zones = ZONES.iter().map(|&(name, kind)| Zone {
        name: name.to_owned(),
        kind: if is(0) { ZoneKind::KeyvalIp } else { kind }.into(),
        vector: known(entries),
    });
    let mut zones: Vec<_> = zones.collect();
    if is(1) {
        zones.extend(zones.clone());
    }
    if is(2) {
        zones.reverse();
        zones.truncate(2);
    }
    Hello {
        version: if is(3) { VERSION + 1 } else { VERSION },
        cluster: if is(4) { "other" } else { "default" }.to_owned(),
        origin: if is(5) { origin.into() } else { u64::from(origin).max(OWN + 1) },
        node: "peer".to_owned(),
        clock_us: if is(6) { u64::MAX } else { START.as_millis() * 1000 },
        zones,
        max_frame: if is(7) { 0 } else { 1 << 20 },
    }
}

/// What the node sends can be read, and is a kind that it may send.
///
/// # Panics
/// If not.
pub fn look_at_sent(frame: &Bytes) -> Message {
    let (prefix, length) = parse_length(frame).expect("a whole frame");
    assert_eq!((frame.len() - prefix) as u64, length, "one frame and nothing else");
    decode(frame.slice(prefix..)).expect("the node speaks the protocol")
}

/// Does what the node says; answers the link to dial, if it is one.
pub fn act(node: &mut Node, now: Moment, action: Action) -> Option<u64> {
    match action {
        Action::Dial(link, _) => {
            node.connected(now, link);
            Some(link)
        }
        Action::Close(link, last_words) => {
            last_words.iter().for_each(|frame| drop(look_at_sent(frame)));
            node.ended(now, link);
            None
        }
    }
}

/// What no peer may change.
///
/// # Panics
/// If one did.
pub fn check(node: &Node) {
    for replica in node.replicas() {
        let (own, published) = (replica.vector().get(node.origin()), replica.published_seq());
        assert_eq!(own, published, "the node's own sequence of {}", replica.name());
    }
    for backlog in node.backlogs() {
        assert!(
            backlog.held <= backlog.bound,
            "{} {}: {} are the most",
            backlog.held,
            backlog.what,
            backlog.bound
        );
    }
}
