//! A zone while an operation is stopped: what is done to it meanwhile, and what has to be true afterwards.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Wake, Waker};

use super::super::*;
use crate::index::{BUCKET, Candidates};
use crate::slot::{Slot, SlotState};
use crate::stopped::{Beside, Stops, Then, Worlds, beside, bounded};
use crate::{Cursor, Dot, Expiry, KeyvalZone, Record, Replica, State, StickyZone, VersionVector};

/// When zones are prepared.
pub(super) const BEFORE: Time = Time::from_millis(1_000_000);
/// When everything else happens.
pub(super) const NOW: Time = Time::from_millis(1_010_000);

/// The key of the stopped operation.
pub(super) const KEY: usize = 0;
/// Keys of the same buckets. They leave room for others.
pub(super) const NEAR: Range<usize> = 1..BUCKET + 5;
/// More of them: enough to fill all three buckets.
const CROWD: Range<usize> = NEAR.end..3 * BUCKET + 1;
/// Keys of none of these buckets.
const FAR: Range<usize> = CROWD.end..CROWD.end + 3;

pub(super) enum Zone {
    Keyval(KeyvalZone),
    Sticky(StickyZone),
}

/// What is done to a key. Numbers are values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Get,
    /// Without an access.
    Peek,
    Set(u8),
    Insert(u8),
    /// `None`: the value stays.
    Update(Option<u8>),
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Said {
    Value(Option<u8>),
    Done,
    /// The key is there and must not be, or the other way round.
    Refused,
    Full,
}

/// A turn of a script.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    On(usize, Act),
    /// All keys of the same buckets.
    Near(Act),
    Sweep,
    Publish,
    Visit,
}

/// What the stopped thread does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stopped {
    On(Act),
    Visit,
    Scan,
    Sweep,
    Publish,
    /// Applies a row of a peer, later than everything that is there.
    Row(Act),
    /// The same, when the table of origins is full.
    RowOfNewcomer(Act),
    /// Applies a row that tells of an access and nothing else.
    RowOfAccess,
    Adopt,
}

impl Stopped {
    const fn is_row(self) -> bool {
        matches!(self, Self::Row(_) | Self::RowOfNewcomer(_) | Self::RowOfAccess)
    }

    /// Whether it holds the replication lock.
    const fn locks(self) -> bool {
        self.is_row() || matches!(self, Self::Publish | Self::Adopt)
    }
}

/// How much room a zone has.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Room {
    Enough,
    /// None for another record.
    Full,
    /// Records are evicted at any time.
    Evicting,
}

/// The zone of some scenarios, and what is done to it meanwhile.
pub(super) struct Setting {
    pub(super) room: Room,
    pub(super) zone: fn() -> Zone,
    pub(super) scripts: &'static [&'static str],
}

pub(super) struct Scenario {
    pub(super) prepare: fn(&Case),
    pub(super) stopped: Stopped,
}

/// A script is words: an act on the key of the stopped operation, `near/` and an act on all its neighbours, or another turn. A number is a value.
pub(super) fn parse(script: &str) -> Vec<Turn> {
    let act = |word: &str| {
        let (act, to) = word.split_once(':').unwrap_or((word, ""));
        let to = to.parse().ok();
        match (act, to) {
            ("get", _) => Act::Get,
            ("peek", _) => Act::Peek,
            ("set", Some(to)) => Act::Set(to),
            ("insert", Some(to)) => Act::Insert(to),
            ("update", to) => Act::Update(to),
            ("remove", _) => Act::Remove,
            _ => panic!("what is {word}?"),
        }
    };
    let turn = |word: &str| match (word, word.strip_prefix("near/")) {
        ("sweep", _) => Turn::Sweep,
        ("publish", _) => Turn::Publish,
        ("visit", _) => Turn::Visit,
        (_, Some(word)) => Turn::Near(act(word)),
        (word, None) => Turn::On(KEY, act(word)),
    };
    script.split_whitespace().map(turn).collect()
}

/// A value of one of three lengths.
pub(super) fn value(number: u8) -> Vec<u8> {
    vec![number; 8 + 16 * usize::from(number % 3)]
}

fn number(bytes: &[u8]) -> u8 {
    assert_eq!(bytes, value(bytes[0]), "torn");
    bytes[0]
}

/// What the state of a key, the number of its value, becomes.
fn outcomes(state: &Option<u8>, act: &Act) -> Vec<(Option<u8>, Said)> {
    let outcome = match (*act, *state) {
        (Act::Get | Act::Peek, state) => (state, Said::Value(state)),
        (Act::Set(to), _) | (Act::Insert(to), None) | (Act::Update(Some(to)), Some(_)) => {
            (Some(to), Said::Done)
        }
        (Act::Update(None), Some(kept)) => (Some(kept), Said::Done),
        (Act::Remove, Some(_)) => (None, Said::Done),
        (Act::Insert(_), Some(_)) | (Act::Update(_) | Act::Remove, None) => (*state, Said::Refused),
    };
    vec![outcome]
}

/// Where new records may find no room. Those of existing ones must, unless they are larger.
fn outcomes_if_full(state: &Option<u8>, act: &Act) -> Vec<(Option<u8>, Said)> {
    let mut outcomes = outcomes(state, act);
    if let (None, Act::Set(_) | Act::Insert(_)) = (state, act) {
        outcomes.push((None, Said::Full));
    }
    outcomes
}

/// Where a record may be gone at any time.
fn outcomes_if_evicted(state: &Option<u8>, act: &Act) -> Vec<(Option<u8>, Said)> {
    let mut all = outcomes(state, act);
    all.extend(outcomes(&None, act));
    all
}

/// A zone, the keys, and what a peer knows.
pub(super) struct Case {
    pub(super) zone: Zone,
    pub(super) keys: Vec<[u8; 8]>,
    peer: StdMutex<HashMap<Vec<u8>, Option<u8>>>,
}

impl Case {
    fn new(setting: &Setting, scenario: &Scenario) -> Self {
        let mut case =
            Self { zone: (setting.zone)(), keys: vec![0u64.to_le_bytes()], peer: StdMutex::default() };
        let table = case.table();
        let candidates = |key: &[u8]| table.parts.index.candidates(table.hash(key));
        let of_key = candidates(&case.keys[KEY]);
        let is_near = |other: Candidates| other.main == of_key.main && other.slots().eq(of_key.slots());
        let is_far = |other: Candidates| other.main.iter().all(|first| !of_key.main.contains(first));
        let mut tags = HashSet::from([Slot::tag_of(table.hash(&case.keys[KEY]))]);
        let (mut near, mut far) = (Vec::new(), Vec::new());
        let mut numbers = 1..u64::MAX;
        while near.len() < CROWD.end - 1 || far.len() < FAR.len() {
            let key = numbers.next().expect("one of seventy").to_le_bytes();
            let other = candidates(&key);
            if is_near(other) {
                // With the same tag its record would be looked at, too.
                if tags.insert(Slot::tag_of(table.hash(&key))) {
                    near.push(key);
                }
            } else if is_far(other) && far.len() < FAR.len() {
                far.push(key);
            }
        }
        near.truncate(CROWD.end - 1);
        case.keys.extend(near);
        case.keys.extend(far);
        (scenario.prepare)(&case);
        case
    }

    pub(super) fn table(&self) -> &Table {
        match &self.zone {
            Zone::Keyval(zone) => &zone.table,
            Zone::Sticky(zone) => &zone.table,
        }
    }

    pub(super) fn replica(&self) -> &dyn Replica {
        match &self.zone {
            Zone::Keyval(zone) => zone,
            Zone::Sticky(zone) => zone,
        }
    }

    pub(super) fn act(&self, key: &[u8], act: Act, now: Time) -> Said {
        let read = |value: Option<crate::Value>| Said::Value(value.map(|value| number(&value)));
        let done = |done: bool| if done { Said::Done } else { Said::Refused };
        let result = match (&self.zone, act) {
            (Zone::Keyval(zone), Act::Get) => return read(zone.lookup(key, now)),
            (Zone::Keyval(zone), Act::Peek) => return read(zone.get(key, now)),
            (Zone::Keyval(zone), Act::Set(to)) => {
                zone.set(key, value(to), now, Expiry::Default).map(|()| true)
            }
            (Zone::Keyval(zone), Act::Insert(to)) => {
                zone.insert(key, value(to), now, Expiry::Never).map(|()| true)
            }
            (Zone::Keyval(zone), Act::Update(to)) => {
                let expiry = Some(Expiry::After(Duration::from_secs(100)));
                zone.update(key, to.map(value).as_deref(), now, expiry).map(|()| true)
            }
            (Zone::Keyval(zone), Act::Remove) => zone.remove(key, now),
            (Zone::Sticky(zone), Act::Get) => return read(zone.lookup(key, now)),
            (Zone::Sticky(zone), Act::Peek) => return read(zone.peek(key, now)),
            (Zone::Sticky(zone), Act::Set(to)) => zone.learn(key, value(to), now).map(|()| true),
            (Zone::Sticky(zone), Act::Remove) => zone.forget(key, now),
            (Zone::Sticky(_), Act::Insert(_) | Act::Update(_)) => unreachable!("sessions are learned"),
        };
        match result {
            Ok(is_done) => done(is_done),
            Err(Error::KeyExists { .. } | Error::KeyNotFound { .. }) => Said::Refused,
            Err(Error::ZoneFull { .. }) => Said::Full,
            Err(error) => panic!("{error}"),
        }
    }

    /// Prepares the state of keys.
    pub(super) fn set_before(&self, keys: impl IntoIterator<Item = usize>, number: u8) {
        for key in keys {
            assert_eq!(self.act(&self.keys[key], Act::Set(number), BEFORE), Said::Done);
        }
    }

    /// Fills the zone with records as large as those of values 1, 4, 7.
    pub(super) fn fill(&self) {
        let fill = |key: u64| self.act(&(u64::MAX - key).to_le_bytes(), Act::Set(1), BEFORE) == Said::Done;
        for key in (0..u64::MAX).take_while(|&key| fill(key)) {
            if self.table().stats().evicted > 0 && key % 16 == 0 {
                break;
            }
        }
    }

    pub(super) fn publish(&self) {
        self.replica().publish(NOW, &mut |record| {
            let value = match record.state {
                State::Value { value, .. } => Some(number(value)),
                State::Removed { .. } | State::Limit { .. } => None,
            };
            self.peer.lock().expect("no panic").insert(record.key.to_vec(), value);
            true
        });
    }

    /// What a peer knows of a key.
    fn known(&self, key: usize) -> Option<u8> {
        self.peer.lock().expect("no panic").get(&self.keys[key][..]).copied().flatten()
    }

    fn visit(&self) -> HashMap<Vec<u8>, u8> {
        let read = |key: crate::Value, value: crate::Value| (key.to_vec(), number(&value));
        match &self.zone {
            Zone::Keyval(zone) => zone.iter(NOW).map(|(key, entry)| read(key, entry.value)).collect(),
            Zone::Sticky(zone) => zone.iter(NOW).map(|(key, session)| read(key, session.server)).collect(),
        }
    }

    pub(super) fn apply(&self, origin: u64, act: Act, stamp_ms: u64, is_state: bool) {
        let origin = Origin::from_raw(origin).expect("not 0");
        let stamp = Stamp::from_time(Time::from_millis(stamp_ms));
        let time_ms = if self.table().is_sticky() { NOW.as_millis() } else { 0 };
        let bytes = if let Act::Set(to) = act { value(to) } else { Vec::new() };
        let state = match act {
            Act::Set(_) => State::Value { value: &bytes, stamp, writer: origin, time_ms },
            _ => State::Removed { stamp, writer: origin },
        };
        let mut rows = [Record { key: &self.keys[KEY], dot: Dot { origin, seq: 1 }, state }].into_iter();
        let applied = if is_state {
            self.replica().apply_states(NOW, &mut rows)
        } else {
            self.replica().apply_batch(NOW, origin, 0, 1, &mut rows)
        };
        assert_eq!(applied.expect("a good row").refused, 0);
    }

    /// What the stopped thread does.
    fn run(&self, stopped: Stopped) -> Option<Said> {
        match stopped {
            Stopped::On(act) => return Some(self.act(&self.keys[KEY], act, NOW)),
            Stopped::Visit => _ = self.visit(),
            Stopped::Scan => {
                let origins = [self.replica().origin()];
                self.replica().scan(
                    NOW,
                    &origins,
                    &VersionVector::default(),
                    Cursor::default(),
                    &mut |record| {
                        if let State::Value { value, .. } = record.state {
                            number(value);
                        }
                        true
                    },
                );
            }
            Stopped::Sweep => _ = self.replica().sweep(NOW, usize::MAX),
            Stopped::Publish => self.publish(),
            Stopped::Row(act) => self.apply(2, act, NOW.as_millis() + 1_000, false),
            Stopped::RowOfNewcomer(act) => self.apply(1_000, act, NOW.as_millis() + 1_000, false),
            Stopped::RowOfAccess => self.apply(2, Act::Set(3), BEFORE.as_millis() - 1_000, false),
            Stopped::Adopt => _ = self.replica().adopt(&[]),
        }
        None
    }
}

/// Follows a script in this thread, beside the stopped one.
struct Follower<'a> {
    case: &'a Case,
    worlds: Vec<Worlds<Option<u8>, Act, Said>>,
    /// Whether the replication lock is taken.
    locked: bool,
}

impl<'a> Follower<'a> {
    fn new(case: &'a Case, setting: &Setting, scenario: &Scenario) -> Self {
        let outcomes = match setting.room {
            Room::Enough => outcomes,
            Room::Full => outcomes_if_full,
            Room::Evicting => outcomes_if_evicted,
        };
        let state = |key: &[u8; 8]| match case.act(key, Act::Peek, NOW) {
            Said::Value(number) => number,
            other => panic!("{other:?}"),
        };
        let act = match scenario.stopped {
            Stopped::On(act) | Stopped::Row(act) | Stopped::RowOfNewcomer(act) => Some(act),
            _ => None,
        };
        let stopped = |at| act.filter(|_| at == KEY);
        let worlds = case.keys.iter().enumerate();
        let worlds = worlds.map(|(at, key)| Worlds::new(outcomes, state(key), stopped(at))).collect();
        Self { case, worlds, locked: scenario.stopped.locks() }
    }

    fn act(&mut self, key: usize, act: Act) {
        let said = bounded(|| self.case.act(&self.case.keys[key], act, NOW));
        self.worlds[key].saw(&act, &said);
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::On(key, act) => self.act(key, act),
            Turn::Near(act) => NEAR.for_each(|key| self.act(key, act)),
            Turn::Sweep => _ = bounded(|| self.case.replica().sweep(NOW, usize::MAX)),
            Turn::Publish if self.locked => {}
            Turn::Publish => bounded(|| self.case.publish()),
            Turn::Visit => {
                let found = bounded(|| self.case.visit());
                for (key, worlds) in self.case.keys.iter().zip(&mut self.worlds) {
                    worlds.saw(&Act::Peek, &Said::Value(found.get(&key[..]).copied()));
                }
            }
        }
    }

    fn follow(&mut self, script: &[Turn]) {
        script.iter().for_each(|turn| self.turn(*turn));
    }

    fn peek_at_all(&mut self) {
        (0..self.worlds.len()).for_each(|key| self.act(key, Act::Peek));
    }

    /// A write is published, whoever else may be stopped.
    fn write_and_publish(&mut self, key: usize, number: u8) {
        self.act(key, Act::Set(number));
        self.turn(Turn::Publish);
        let known = self.case.known(key);
        // It was refused or evicted if not.
        let is_there = self.case.act(&self.case.keys[key], Act::Peek, NOW) == Said::Value(Some(number));
        assert!(self.locked || !is_there || known == Some(number), "{known:?}");
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs a scenario with one script and one way to stop.
pub(super) fn run(setting: &Setting, scenario: &Scenario, script: &[Turn], first: u64, then: Then) -> Stops {
    let case = Case::new(setting, scenario);
    let mut follower = Follower::new(&case, setting, scenario);
    // The publisher has nothing to do and waits, where it is not the one to be stopped. In zones that are full nothing was published yet.
    if !follower.locked && setting.room == Room::Enough {
        case.publish();
    }
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let waits = case.replica().poll_dirty(&mut Context::from_waker(&waker)).is_pending();
    beside(
        || case.run(scenario.stopped),
        |other: Beside<Option<Said>>| {
            let (stops, answer) = other.stop(first, then, script, |script| {
                follower.act(FAR.start, Act::Set(4));
                assert!(!waits || woken.0.load(Ordering::Relaxed) > 0, "the publisher is not woken");
                follower.follow(script);
            });
            let Some(answer) = answer else {
                follower.write_and_publish(FAR.start, 7);
                follower.write_and_publish(KEY, 10);
                follower.peek_at_all();
                loss_is_small(case.table());
                return stops;
            };
            follower.worlds.iter_mut().enumerate().for_each(|(key, worlds)| {
                worlds.ended(answer.as_ref().filter(|_| key == KEY));
            });
            follower.locked = false;
            follower.peek_at_all();
            follower.turn(Turn::Visit);
            is_handed_out(&case, setting, scenario);
            is_in_order(case.table());
            follower.write_and_publish(KEY, 10);
            all_memory_is_there(case.table());
            stops
        },
    )
}

/// What a peer knows is what is there.
fn is_handed_out(case: &Case, setting: &Setting, scenario: &Scenario) {
    case.publish();
    assert_eq!(case.replica().dirty_count(), 0);
    for (at, key) in case.keys.iter().enumerate() {
        // What came from a peer is not published again.
        let by_peer = at == KEY && scenario.stopped.is_row();
        match case.act(key, Act::Peek, NOW) {
            Said::Value(None) if setting.room == Room::Evicting => {}
            _ if by_peer => {}
            said => assert_eq!(said, Said::Value(case.known(at)), "key {at}"),
        }
    }
}

/// No key is there twice, nothing is pending or aborted, all figures agree, and no block is lost.
fn is_in_order(table: &Table) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for at in 0..table.slots() {
        match table.parts.index.load(&table.region, at).state() {
            SlotState::Empty => {}
            SlotState::Live => {
                table.copy_at(at, &mut key, &mut value).expect("nobody else is there");
                assert!(seen.insert(key.clone()), "a key in two slots");
                assert_eq!(table.find_meta(&key, table.hash(&key)).map(|found| found.at), Some(at));
            }
            state => panic!("{state:?}"),
        }
    }
    let stats = table.stats();
    assert_eq!(stats.records + stats.tombstones, seen.len() as u64);
    let audit = table.audit();
    assert!(audit.aborted.is_empty() && audit.leaked.is_empty() && audit.leaked_reserve == 0, "{audit:?}");
    assert!(audit.corrections.iter().all(|&(_, by)| by == 0), "{audit:?}");
    assert!(audit.lengths.iter().all(|&by| by == 0) && audit.overflow == 0, "{audit:?}");
}

/// What a thread that was killed may cost: a slot, two blocks, and one in each figure. The owner of a shared region puts that right.
fn loss_is_small(table: &Table) {
    /// Units of the largest record.
    const UNITS: usize = 3;
    (0..table.slots()).for_each(|at| table.finish_pending(at));
    let audit = table.audit();
    let reserves = audit.leaked_reserve.count_ones() as usize;
    assert!(audit.aborted.len() <= 1, "{audit:?}");
    assert!(audit.leaked.len() <= UNITS * (2 - reserves.min(2)), "{audit:?}");
    for &(counter, by) in &audit.corrections {
        let most = if matches!(counter, Counter::Units) { UNITS as i64 } else { 1 };
        assert!(by.abs() <= most, "{audit:?}");
    }
    assert!(
        audit.lengths.iter().map(|by| by.abs()).sum::<i64>() <= 1 && audit.overflow.abs() <= 1,
        "{audit:?}"
    );
    table.correct(&audit);
    is_in_order(table);
    all_memory_is_there(table);
}

fn all_memory_is_there(table: &Table) {
    for at in 0..table.slots() {
        if let Some(found) = table.meta_at(at) {
            table.free(table.unlink(found.at, found.slot).expect("nobody else is there"));
        }
    }
    let stats = table.stats();
    assert_eq!((stats.records, stats.tombstones), (0, 0));
    let capacity = table.parts.blocks.capacity_units() as u32;
    let all = table.parts.blocks.take_thoroughly(&table.region, capacity);
    assert!(all.is_some(), "a block was lost");
}
