//! Zones of every kind that are written, read and replicated alike, and rows that own what they hold.

use std::collections::BTreeMap;

use sync_store::{
    Applied, Check, Delay, Dot, Error, Expiry, KeyvalZone, LimitZone, MatchBy, Origin, Record, Replica,
    Stamp, State, StickyZone, Time, VersionVector,
};

pub(crate) const NOW: Time = Time::from_millis(1_700_000_000_000);
/// The last time there is, in the year 2554.
pub(crate) const END: Time = Time::from_nanos(u64::MAX);

/// The own origin of the zone under attack.
pub(crate) const OWN: u64 = 1;
/// The origin of the hostile peer.
pub(crate) const EVE: u64 = 666;
/// Honest peers have origins from here on; hostile rows never name them.
pub(crate) const HONEST: u64 = 1 << 60;
/// What a limit zone admits of a key at once.
const ADMITTED: u64 = 10;

pub(crate) fn origin(raw: u64) -> Origin {
    Origin::from_raw(raw).expect("not 0")
}

pub(crate) fn dot(raw: u64, seq: u64) -> Dot {
    Dot { origin: origin(raw), seq }
}

/// Numbers without a pattern, the same in every run.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// splitmix64
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(len).collect()
    }
}

/// Every form of key and of state that a zone can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Exact,
    Ip,
    Prefix,
    Sticky,
    Limit,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Exact, Self::Ip, Self::Prefix, Self::Sticky, Self::Limit];
    /// Those that keep whole records, with stamps.
    pub(crate) const TABLES: [Self; 4] = [Self::Exact, Self::Ip, Self::Prefix, Self::Sticky];

    /// Records of up to 2048 bytes; sessions never expire, a limit admits ten requests and then one a day.
    pub(crate) fn zone(self, size: u64, own: u64) -> Zone {
        let keyval = |match_by| {
            let zone = KeyvalZone::builder("z").size(size).origin(origin(own)).match_by(match_by);
            Zone::Keyval(zone.max_record(2048).build().expect("a zone"))
        };
        match self {
            Self::Exact => keyval(MatchBy::Exact),
            Self::Ip => keyval(MatchBy::Ip),
            Self::Prefix => keyval(MatchBy::Prefix),
            Self::Sticky => {
                let zone = StickyZone::builder("z").size(size).origin(origin(own)).max_record(2048);
                Zone::Sticky(zone.timeout(std::time::Duration::MAX).build().expect("a zone"))
            }
            Self::Limit => {
                let zone = LimitZone::builder("z").size(size).origin(origin(own)).burst(ADMITTED - 1);
                let zone = zone.rate("1r/d".parse().expect("a rate")).delay(Delay::Nodelay);
                Zone::Limit(Box::new(zone.build().expect("a zone")))
            }
        }
    }

    /// The key of number `n`, as callers write it.
    pub(crate) fn key(self, n: u32) -> String {
        let [a, b, c, _] = n.to_le_bytes();
        if self == Self::Ip { format!("198.{c}.{b}.{a}") } else { format!("honest-{n}") }
    }

    /// The same as it travels.
    pub(crate) fn wire_key(self, n: u32) -> Vec<u8> {
        let [a, b, c, _] = n.to_le_bytes();
        if self == Self::Ip { vec![32, 198, c, b, a] } else { self.key(n).into_bytes() }
    }

    /// A row that nobody could object to.
    pub(crate) fn row(self, n: u32, dot: Dot) -> Row {
        let state = if self == Self::Limit {
            let day = 86_400_000_000_000;
            OwnedState::Limit { tat_ns: NOW.as_nanos() + day, debt_ns: day as i64 }
        } else {
            let stamp = Stamp::from_time(NOW);
            OwnedState::Value { value: b"hers".to_vec(), stamp, writer: dot.origin, time_ms: 0 }
        };
        // Sessions say when they were accessed; of a keyval record 0 means never to expire.
        let state = match state {
            OwnedState::Value { value, stamp, writer, .. } if self == Self::Sticky => {
                OwnedState::Value { value, stamp, writer, time_ms: NOW.as_millis() }
            }
            state => state,
        };
        Row { key: self.wire_key(n), dot, state }
    }
}

#[derive(Debug)]
pub(crate) enum Zone {
    Keyval(KeyvalZone),
    Sticky(StickyZone),
    Limit(Box<LimitZone>),
}

impl Zone {
    pub(crate) fn replica(&self) -> &dyn Replica {
        match self {
            Self::Keyval(zone) => zone,
            Self::Sticky(zone) => zone,
            Self::Limit(zone) => zone.as_ref(),
        }
    }

    pub(crate) fn write(&self, key: &str, now: Time) -> Result<(), Error> {
        match self {
            Self::Keyval(zone) => zone.set(key, "ours", now, Expiry::Never),
            Self::Sticky(zone) => zone.learn(key, "ours", now),
            Self::Limit(zone) => {
                zone.check(key, &Check::default(), now);
                Ok(())
            }
        }
    }

    pub(crate) fn remove(&self, key: &str, now: Time) -> Result<bool, Error> {
        match self {
            Self::Keyval(zone) => zone.remove(key, now),
            Self::Sticky(zone) => zone.forget(key, now),
            Self::Limit(zone) => Ok(zone.forget(key, now)),
        }
    }

    /// Whether something is known of a key.
    pub(crate) fn holds(&self, key: &str, now: Time) -> bool {
        match self {
            Self::Keyval(zone) => zone.get(key, now).is_some(),
            Self::Sticky(zone) => zone.peek(key, now).is_some(),
            Self::Limit(zone) => {
                zone.check(key, &Check { cost: 0, ..Check::default() }, now).remaining() < ADMITTED
            }
        }
    }

    /// Keys and values, and when they expire or were last accessed. Of a limit zone nothing; its digest says what it holds.
    pub(crate) fn content(&self, now: Time) -> BTreeMap<Vec<u8>, (Vec<u8>, Option<Time>)> {
        let mut content = BTreeMap::new();
        let mut add = |key: &[u8], value: &[u8], time| {
            let twice = content.insert(key.to_vec(), (value.to_vec(), time));
            assert_eq!(twice, None, "{key:?} is there twice");
        };
        match self {
            Self::Keyval(zone) => zone.iter(now).for_each(|(key, of)| add(&key, &of.value, of.expires_at)),
            Self::Sticky(zone) => {
                zone.iter(now).for_each(|(key, of)| add(&key, &of.server, Some(of.last_access)));
            }
            Self::Limit(_) => {}
        }
        content
    }

    pub(crate) fn apply_batch(
        &self,
        origin: Origin,
        from_seq_excluded: u64,
        through_seq: u64,
        rows: &[Row],
    ) -> Result<Applied, Error> {
        let mut rows = rows.iter().map(Row::record);
        self.replica().apply_batch(NOW, origin, from_seq_excluded, through_seq, &mut rows)
    }

    pub(crate) fn apply_states(&self, rows: &[Row]) -> Result<Applied, Error> {
        self.replica().apply_states(NOW, &mut rows.iter().map(Row::record))
    }

    /// What the zone's vector says of an origin.
    pub(crate) fn known(&self, origin: Origin) -> u64 {
        self.replica().vector().get(origin)
    }
}

/// Everything that a refused call must leave as it was.
#[derive(Debug, PartialEq)]
pub(crate) struct Snapshot {
    content: BTreeMap<Vec<u8>, (Vec<u8>, Option<Time>)>,
    records: u64,
    tombstones: u64,
    used_bytes: u64,
    dirty: usize,
    published_seq: u64,
    digest: u64,
    vector: VersionVector,
}

impl Snapshot {
    pub(crate) fn of(zone: &Zone) -> Self {
        let replica = zone.replica();
        let stats = replica.stats();
        Self {
            content: zone.content(NOW),
            records: stats.records,
            tombstones: stats.tombstones,
            used_bytes: stats.used_bytes,
            dirty: replica.dirty_count(),
            published_seq: replica.published_seq(),
            digest: replica.digest(NOW),
            vector: replica.vector(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnedState {
    Value { value: Vec<u8>, stamp: Stamp, writer: Origin, time_ms: u64 },
    Removed { stamp: Stamp, writer: Origin },
    Limit { tat_ns: u64, debt_ns: i64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: Vec<u8>,
    pub(crate) dot: Dot,
    pub(crate) state: OwnedState,
}

impl Row {
    pub(crate) fn of(record: &Record<'_>) -> Self {
        let state = match record.state {
            State::Value { value, stamp, writer, time_ms } => {
                OwnedState::Value { value: value.to_vec(), stamp, writer, time_ms }
            }
            State::Removed { stamp, writer } => OwnedState::Removed { stamp, writer },
            State::Limit { tat_ns, debt_ns } => OwnedState::Limit { tat_ns, debt_ns },
        };
        Self { key: record.key.to_vec(), dot: record.dot, state }
    }

    pub(crate) fn record(&self) -> Record<'_> {
        let state = match &self.state {
            OwnedState::Value { value, stamp, writer, time_ms } => {
                State::Value { value, stamp: *stamp, writer: *writer, time_ms: *time_ms }
            }
            OwnedState::Removed { stamp, writer } => State::Removed { stamp: *stamp, writer: *writer },
            OwnedState::Limit { tat_ns, debt_ns } => State::Limit { tat_ns: *tat_ns, debt_ns: *debt_ns },
        };
        Record { key: &self.key, dot: self.dot, state }
    }
}

/// Publishes everything that is dirty: the sequence before, and the rows.
pub(crate) fn publish(zone: &dyn Replica, now: Time) -> (u64, Vec<Row>) {
    let mut rows = Vec::new();
    let (from, through) = zone.publish(now, &mut |record| {
        rows.push(Row::of(record));
        true
    });
    assert_eq!(through - from, rows.len() as u64);
    (from, rows)
}

/// Asserts that a zone does its work still: it takes a write, and a batch of an honest peer that has not been heard of before. `n` names
/// two keys and a peer, and must not be used twice for one zone.
pub(crate) fn assert_works(kind: Kind, zone: &Zone, n: u32) {
    let (ours, theirs) = (kind.key(2 * n), kind.key(2 * n + 1));
    zone.write(&ours, NOW).expect("a valid write");
    assert!(zone.holds(&ours, NOW), "{kind:?}: its own write");

    let peer = kind.zone(32 << 10, HONEST + u64::from(n));
    peer.write(&theirs, NOW).expect("a valid write");
    let (from, rows) = publish(peer.replica(), NOW);
    let applied = zone.apply_batch(peer.replica().origin(), from, from + rows.len() as u64, &rows);
    assert_eq!(applied, Ok(Applied { applied: 1, ..Applied::default() }), "{kind:?}");
    assert!(zone.holds(&theirs, NOW), "{kind:?}: the peer's write");
    assert_eq!(zone.known(peer.replica().origin()), 1, "{kind:?}");
}
