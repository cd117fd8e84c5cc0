//! Anything in any order: random hostile calls never panic, never let the vector claim more than was said, and never keep an honest batch
//! from being applied.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use sync_store::{Cursor, Dot, Origin, Stamp, Time, VersionVector};

use crate::support::{END, Kind, NOW, OWN, OwnedState, Row, Zone, assert_works, origin};

const SIZE: u64 = 128 << 10;
/// A zone of that size keeps apart as many origins as it has KiB.
const ORIGINS: usize = 128;
/// The last sequence there is.
const SEQ_MAX: u64 = (1 << 48) - 1;

/// Numbers that are at an end of something, and some that are not.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..6u64,
        1 => Just(NOW.as_millis()),
        1 => Just(NOW.as_nanos() + 86_400_000_000_000),
        1 => Just((NOW.as_millis() + 5_000) << 16),
        1 => (SEQ_MAX - 2)..(SEQ_MAX + 3),
        1 => Just(1 << 63),
        1 => (u64::MAX - 2)..=u64::MAX,
        1 => any::<u64>(),
    ]
}

fn moment() -> impl Strategy<Value = Time> {
    prop_oneof![
        6 => Just(NOW),
        1 => Just(Time::EPOCH),
        1 => Just(END),
        1 => Just(Time::from_nanos(NOW.as_nanos() + 36_000_000_000_000)),
        1 => any::<u64>().prop_map(Time::from_nanos),
    ]
}

/// Ourselves, a few that come again and again, others: fewer than there is room for, so that none is forgotten.
fn who() -> impl Strategy<Value = Origin> {
    prop_oneof![1 => Just(OWN), 6 => 2..6u64, 2 => (6..100u64).prop_map(|n| n << 52)].prop_map(origin)
}

/// No key of [`assert_works`].
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0..4u8).prop_map(|number| vec![b'k', number]),
        // Ranges, some of them with bits behind their end.
        2 => (0..34u8, 0..4u8).prop_map(|(bits, last)| vec![bits, 10, 0, 0, last]),
        2 => (0..130u8, 0..4u8).prop_map(|(bits, last)| [&[bits, 0x20, 1][..], &[0; 13], &[last]].concat()),
        1 => vec(any::<u8>(), 0..20),
        1 => Just(vec![1; 17]),
        1 => prop_oneof![Just(255), Just(256), Just(1_024), Just(1_025), Just(5_000)].prop_map(|len| vec![7; len]),
    ]
}

fn stamp() -> impl Strategy<Value = Stamp> {
    prop_oneof![4 => Just(Stamp::from_time(NOW)), 3 => number().prop_map(Stamp::from_raw)]
}

fn state() -> impl Strategy<Value = OwnedState> {
    let value = prop_oneof![6 => vec(any::<u8>(), 0..40), 1 => Just(vec![7; 3_000])];
    prop_oneof![
        3 => (value, stamp(), who(), number())
            .prop_map(|(value, stamp, writer, time_ms)| OwnedState::Value { value, stamp, writer, time_ms }),
        1 => (stamp(), who()).prop_map(|(stamp, writer)| OwnedState::Removed { stamp, writer }),
        3 => (number(), number(), any::<bool>()).prop_map(|(tat_ns, debt, refund)| {
            let debt_ns = if refund { debt.cast_signed().wrapping_neg() } else { debt.cast_signed() };
            OwnedState::Limit { tat_ns, debt_ns }
        }),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    (key(), who(), number(), state()).prop_map(|(key, origin, seq, state)| Row {
        key,
        dot: Dot { origin, seq },
        state,
    })
}

#[derive(Clone, Debug)]
enum Act {
    /// As many rows as it says, if it does not say otherwise.
    Batch {
        origin: Origin,
        from: u64,
        through: Option<u64>,
        rows: Vec<Row>,
    },
    States {
        rows: Vec<Row>,
    },
    Cover {
        claims: Vec<(Origin, u64)>,
    },
    Adopt {
        except: Vec<Origin>,
    },
    Scan {
        origins: Vec<Origin>,
        known: Vec<(Origin, u64)>,
        most: usize,
    },
    Publish {
        most: usize,
    },
    Sweep {
        budget: u64,
    },
    Write {
        key: u8,
    },
    Remove {
        key: u8,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let claims = || vec((who(), number()), 0..6);
    let rows = || vec(row(), 0..4);
    prop_oneof![
        8 => (who(), number(), proptest::option::weighted(0.3, number()), rows())
            .prop_map(|(origin, from, through, rows)| Act::Batch { origin, from, through, rows }),
        6 => rows().prop_map(|rows| Act::States { rows }),
        2 => claims().prop_map(|claims| Act::Cover { claims }),
        1 => vec(who(), 0..3).prop_map(|except| Act::Adopt { except }),
        2 => (vec(who(), 0..4), claims(), 0..4usize)
            .prop_map(|(origins, known, most)| Act::Scan { origins, known, most }),
        2 => (0..4usize).prop_map(|most| Act::Publish { most }),
        1 => number().prop_map(|budget| Act::Sweep { budget }),
        2 => (0..4u8).prop_map(|key| Act::Write { key }),
        1 => (0..4u8).prop_map(|key| Act::Remove { key }),
    ]
}

/// A zone, and the most that was ever said of each origin.
struct Subject {
    kind: Kind,
    zone: Zone,
    said: HashMap<Origin, u64>,
}

impl Subject {
    fn say(&mut self, origin: Origin, seq: u64) {
        let said = self.said.entry(origin).or_default();
        *said = seq.min(SEQ_MAX).max(*said);
    }

    fn act(&mut self, now: Time, act: &Act) {
        let before = self.zone.replica().vector();
        let mut batch = None;
        match act {
            Act::Batch { origin, from, through, rows } => {
                let through = through.unwrap_or_else(|| from.saturating_add(rows.len() as u64));
                let replica = self.zone.replica();
                let result =
                    replica.apply_batch(now, *origin, *from, through, &mut rows.iter().map(Row::record));
                if *origin == replica.origin() {
                    assert!(result.is_err(), "a batch in our own name");
                } else {
                    self.say(*origin, through.min(from.saturating_add(rows.len() as u64)));
                    // Rows before a refused one count in a limit zone, and a gap is closed by what was applied beyond it.
                    let whole = result.is_ok_and(|applied| applied.refused == 0);
                    let expected = if whole && *from <= before.get(*origin) { through } else { 0 };
                    batch = Some((*origin, expected.max(before.get(*origin))));
                }
            }
            Act::States { rows } => {
                let result = self.zone.replica().apply_states(now, &mut rows.iter().map(Row::record));
                let wrong = rows.iter().any(|row| match row.state {
                    OwnedState::Limit { .. } => self.kind != Kind::Limit,
                    _ => self.kind == Kind::Limit,
                });
                assert!(!wrong || result.is_err(), "a row of another kind was taken");
            }
            Act::Cover { claims } => {
                let vector: VersionVector = claims.iter().copied().collect();
                self.zone.replica().cover(&vector);
                for (origin, seq) in vector.iter().filter(|&(origin, _)| origin.raw() != OWN) {
                    self.say(origin, seq);
                    let known = self.zone.known(origin);
                    assert!(known >= seq.min(SEQ_MAX).max(before.get(origin)), "{origin} is not covered");
                }
            }
            Act::Adopt { except } => _ = self.zone.replica().adopt(except),
            Act::Scan { origins, known, most } => {
                let known: VersionVector = known.iter().copied().collect();
                let mut left = *most;
                self.zone.replica().scan(now, origins, &known, Cursor::default(), &mut |record| {
                    // A limit zone answers for the others' work in its own name.
                    assert!(origins.contains(&record.dot.origin) || self.kind == Kind::Limit);
                    assert!(!known.covers(record.dot) || record.dot.seq == 0);
                    left = left.saturating_sub(1);
                    left > 0
                });
            }
            Act::Publish { most } => {
                let before = self.zone.replica().published_seq();
                let mut published = 0;
                let (from, through) = self.zone.replica().publish(now, &mut |record| {
                    assert_eq!(record.dot, Dot { origin: origin(OWN), seq: before + published + 1 });
                    let wanted = published < *most as u64;
                    published += u64::from(wanted);
                    wanted
                });
                assert_eq!((from, through), (before, before + published));
            }
            Act::Sweep { budget } => _ = self.zone.replica().sweep(now, *budget as usize),
            Act::Write { key } => self.zone.write(&self.kind.key(900 + u32::from(*key)), now).expect("room"),
            Act::Remove { key } => {
                _ = self.zone.remove(&self.kind.key(900 + u32::from(*key)), now).expect("room");
            }
        }
        self.check(now, &before, batch);
    }

    /// `batch`: whose, and what must be known of it now.
    fn check(&self, now: Time, before: &VersionVector, batch: Option<(Origin, u64)>) {
        let replica = self.zone.replica();
        let vector = replica.vector();
        assert!(vector.len() <= ORIGINS, "{} origins", vector.len());
        assert_eq!(vector.get(replica.origin()), replica.published_seq());
        if let Some((origin, expected)) = batch {
            let known = vector.get(origin);
            if self.kind == Kind::Limit {
                assert!(known >= expected, "{origin}: {known}, not {expected}");
            } else {
                assert_eq!(known, expected, "{origin}");
            }
        }
        for (origin, known) in vector.iter().filter(|&(origin, _)| origin.raw() != OWN) {
            let said = self.said.get(&origin).copied().unwrap_or_default();
            assert!(known <= said, "{origin}: {known} is known, {said} was said");
            assert!(known >= before.get(origin), "{origin} went back");
        }
        let stats = replica.stats();
        assert!(stats.used_bytes <= SIZE && stats.size_bytes == SIZE, "{stats:?}");
        assert!(stats.records < 1_000 && stats.tombstones < 1_000, "a figure fell below 0: {stats:?}");
        replica.digest(now);
        self.zone.content(now);
    }
}

fn survives(kind: Kind, acts: &[(Time, Act)]) {
    let mut subject = Subject { kind, zone: kind.zone(SIZE, OWN), said: HashMap::new() };
    for (now, act) in acts {
        subject.act(*now, act);
    }
    for n in 0..2 {
        assert_works(kind, &subject.zone, n);
    }
}

fn acts() -> impl Strategy<Value = Vec<(Time, Act)>> {
    vec((moment(), act()), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn an_exact_zone_survives(acts in acts()) {
        survives(Kind::Exact, &acts);
    }

    #[test]
    fn an_ip_zone_survives(acts in acts()) {
        survives(Kind::Ip, &acts);
    }

    #[test]
    fn a_prefix_zone_survives(acts in acts()) {
        survives(Kind::Prefix, &acts);
    }

    #[test]
    fn a_sticky_zone_survives(acts in acts()) {
        survives(Kind::Sticky, &acts);
    }

    #[test]
    fn a_limit_zone_survives(acts in acts()) {
        survives(Kind::Limit, &acts);
    }
}
