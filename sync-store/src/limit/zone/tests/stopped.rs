//! Every operation on a limit is stopped before each of its accesses, and others must go on; see [`crate::stopped`].
//!
//! The stopped operation works on one key. Meanwhile this thread checks, refunds and forgets that key, keys of the same group, and others, publishes
//! and sweeps. All at one moment, so that a bucket is a number of requests.
//!
//! In groups that have room no request is lost or counted twice. In *crowded* ones the limit that makes room for another is forgotten, and the
//! stopped request may be counted twice: again after its entry was given up, or for the key that got the entry, if that happens between the look
//! at its words and their change, and the words are the same.
//!
//! Who makes room or sweeps, and is stopped twice, may have in hand what was charged between its look and its claim, until it gives that back. It is
//! missing meanwhile, and is given up if a new entry has taken its place. The answers are then not compared; all else is.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Mutex as StdMutex;

use super::*;
use crate::stopped::{Beside, Stops, Then, Worlds, at_every_access, beside, bounded};
use crate::{Dot, Record, State};

/// Long before everything else: what was charged then has drained.
const BEFORE: Time = Time::from_nanos(1_000_000_000_000);
const NOW: Time = Time::from_nanos(1_100_000_000_000);
const INTERVAL: u64 = 1_000_000_000;
/// Requests that a bucket holds.
const CAPACITY: u64 = 4;

/// The key of the stopped operation.
const KEY: usize = 0;
/// Keys of the same two groups: more than those have entries.
const NEAR: Range<usize> = 1..2 * GROUP + 2;
/// Keys of other groups.
const FAR: Range<usize> = NEAR.end..NEAR.end + 2;

#[derive(Clone, Copy, Debug)]
enum Act {
    Check(i64),
    Forget,
    /// A peer has admitted so many requests.
    Row(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    /// How many more there may be.
    Admitted(u64),
    Denied(u64),
    Forgotten(bool),
}

/// A turn of a script.
#[derive(Clone, Copy, Debug)]
enum Turn {
    On(usize, Act),
    /// So many of the keys nearby.
    Near(usize, Act),
    Sweep,
    Publish,
}

/// What the stopped thread does.
#[derive(Clone, Copy, Debug)]
enum Stopped {
    On(Act),
    Sweep,
    Publish,
}

/// The groups of some scenarios, and what is done to them meanwhile.
struct Setting {
    /// Whether entries are given up.
    crowded: bool,
    scripts: &'static [&'static str],
}

struct Scenario {
    /// Done long ago, and published.
    before: &'static str,
    /// Done just now.
    now: &'static str,
    stopped: Stopped,
}

/// A script is words: an act on the key of the stopped operation; an act on a neighbour by its number, on as many as have room (`full/`), on as many
/// as have room beside the key (`beside/`), or on all (`near/`); or another turn. The number behind a check is its cost.
fn parse(script: &str) -> Vec<Turn> {
    let act = |word: &str| match word.strip_prefix("check:").map(str::parse) {
        Some(Ok(cost)) => Act::Check(cost),
        _ if word == "forget" => Act::Forget,
        _ => panic!("what is {word}?"),
    };
    let turn = |word: &str| match (word, word.split_once('/')) {
        ("sweep", _) => Turn::Sweep,
        ("publish", _) => Turn::Publish,
        (_, Some(("near", word))) => Turn::Near(NEAR.len(), act(word)),
        (_, Some(("full", word))) => Turn::Near(2 * GROUP, act(word)),
        (_, Some(("beside", word))) => Turn::Near(2 * GROUP - 1, act(word)),
        (_, Some((key, word))) => Turn::On(key.parse().expect("the number of a key"), act(word)),
        (word, None) => Turn::On(KEY, act(word)),
    };
    script.split_whitespace().map(turn).collect()
}

/// What a check says that costs nothing.
fn look(used: u64) -> Said {
    CAPACITY.checked_sub(used).map_or(Said::Denied(0), Said::Admitted)
}

/// What becomes of a bucket with so many requests in it.
fn outcomes(used: &u64, act: &Act) -> Vec<(u64, Said)> {
    let used = *used;
    vec![match *act {
        Act::Check(cost) if cost < 0 => {
            let left = used.saturating_sub(cost.unsigned_abs());
            (left, look(left))
        }
        Act::Check(cost) if used + cost.unsigned_abs() > CAPACITY => {
            (used, Said::Denied(CAPACITY.saturating_sub(used)))
        }
        Act::Check(cost) => {
            let used = used + cost.unsigned_abs();
            (used, look(used))
        }
        Act::Forget => (0, Said::Forgotten(used > 0)),
        Act::Row(requests) => (used + requests, Said::Admitted(0)),
    }]
}

/// The same where a limit may be forgotten at any time.
fn outcomes_if_crowded(used: &u64, act: &Act) -> Vec<(u64, Said)> {
    let mut all = outcomes(used, act);
    all.extend(outcomes(&0, act));
    all
}

struct Case {
    zone: LimitZone,
    keys: Vec<[u8; 8]>,
    /// The work that was published, by key.
    told: StdMutex<HashMap<Vec<u8>, i64>>,
}

impl Case {
    fn new(scenario: &Scenario) -> Self {
        let builder = LimitZone::builder("z").size(MIN_SIZE).origin(Origin::from_raw(1).expect("not 0"));
        let builder = builder.region(Region::anonymous().huge_pages(false)).delay(Delay::Nodelay);
        let rate = Rate::per_second(1).expect("valid");
        let zone = builder.rate(rate).burst(CAPACITY - 1).build().expect("a zone");
        let place = |number: u64| {
            let key = number.to_le_bytes();
            (key, zone.place(&LimitKey::new(&key).expect("not empty")))
        };
        let mut places = (0..u64::MAX).map(place);
        let (first, of_key) =
            places.find(|(_, place)| place.both()[0] != place.both()[1]).expect("most have two");
        let mut tags = HashSet::from([of_key.tag]);
        let (mut near, mut far) = (Vec::new(), Vec::new());
        while near.len() < NEAR.len() || far.len() < FAR.len() {
            let (key, other) = places.next().expect("one of fifty");
            // With the same tag its words would be looked at, too.
            if other.first == of_key.first && near.len() < NEAR.len() && tags.insert(other.tag) {
                near.push(key);
            } else if other.both().iter().all(|first| !of_key.both().contains(first)) && far.len() < FAR.len()
            {
                far.push(key);
            }
        }
        let keys = std::iter::once(first).chain(near).chain(far).collect();
        let case = Self { zone, keys, told: StdMutex::default() };
        case.prepare(scenario.before, BEFORE);
        case.publish();
        case.told.lock().expect("no panic").clear();
        case.prepare(scenario.now, NOW);
        case
    }

    fn prepare(&self, script: &str, now: Time) {
        for turn in parse(script) {
            match turn {
                Turn::On(key, act) => _ = self.act(key, act, now),
                Turn::Near(keys, act) => NEAR.take(keys).for_each(|key| _ = self.act(key, act, now)),
                Turn::Sweep => _ = self.zone.sweep(now, usize::MAX),
                Turn::Publish => self.publish(),
            }
        }
    }

    fn act(&self, key: usize, act: Act, now: Time) -> Said {
        let decision = match act {
            Act::Check(cost) => self.zone.check(self.keys[key], &of(cost), now),
            Act::Forget => return Said::Forgotten(self.zone.forget(self.keys[key], now)),
            Act::Row(requests) => {
                self.apply(requests);
                return Said::Admitted(0);
            }
        };
        if decision.is_admitted() {
            Said::Admitted(decision.remaining())
        } else {
            Said::Denied(decision.remaining())
        }
    }

    fn apply(&self, requests: u64) {
        let (origin, debt) = (Origin::from_raw(2).expect("not 0"), requests * INTERVAL);
        let state = State::Limit { tat_ns: NOW.as_nanos() + debt, debt_ns: debt.cast_signed() };
        let row = Record { key: &self.keys[KEY], dot: Dot { origin, seq: 1 }, state };
        let applied = self.zone.apply_batch(NOW, origin, 0, 1, &mut std::iter::once(row));
        assert_eq!(applied.expect("a good row").applied, 1);
    }

    /// How many requests are in a bucket.
    fn used(&self, key: usize) -> u64 {
        let decision = self.zone.check(self.keys[key], &of(0), NOW);
        decision.reset().as_nanos() as u64 / INTERVAL
    }

    fn publish(&self) {
        self.zone.publish(NOW, &mut |record| {
            let State::Limit { debt_ns, .. } = record.state else { unreachable!("a limit") };
            *self.told.lock().expect("no panic").entry(record.key.to_vec()).or_default() += debt_ns;
            true
        });
    }

    fn run(&self, stopped: Stopped) -> Option<Said> {
        match stopped {
            Stopped::On(act) => return Some(self.act(KEY, act, NOW)),
            Stopped::Sweep => _ = self.zone.sweep(NOW, usize::MAX),
            Stopped::Publish => self.publish(),
        }
        None
    }
}

/// Follows a script in this thread, beside the stopped one.
struct Follower<'a> {
    case: &'a Case,
    worlds: Vec<Worlds<u64, Act, Said>>,
    /// Requests that were admitted here, by key.
    admitted: Vec<u64>,
    /// Whether the replication lock is taken.
    locked: bool,
    crowded: bool,
    /// Whether the answers can be told.
    sure: bool,
}

impl<'a> Follower<'a> {
    fn new(case: &'a Case, scenario: &Scenario, crowded: bool) -> Self {
        let act = match scenario.stopped {
            Stopped::On(act) => Some(act),
            Stopped::Sweep | Stopped::Publish => None,
        };
        let mut admitted: Vec<u64> = (0..case.keys.len()).map(|key| case.used(key)).collect();
        let worlds = admitted.iter().enumerate().map(|(key, &used)| match key {
            KEY if crowded => Worlds::new(outcomes_if_crowded, used, act).twice(),
            KEY => Worlds::new(outcomes, used, act),
            _ if crowded => Worlds::new(outcomes_if_crowded, used, act),
            _ => Worlds::new(outcomes, used, None),
        });
        let worlds = worlds.collect();
        if let Some(Act::Check(cost @ 1..)) = act {
            let counted = |key| if crowded { 1 + u64::from(key == KEY) } else { u64::from(key == KEY) };
            for (key, admitted) in admitted.iter_mut().enumerate() {
                *admitted += counted(key) * cost.unsigned_abs();
            }
        }
        let locked = matches!(scenario.stopped, Stopped::Publish | Stopped::On(Act::Row(_)));
        Self { case, worlds, admitted, locked, crowded, sure: true }
    }

    fn act(&mut self, key: usize, act: Act) {
        let said = bounded(|| self.case.act(key, act, NOW));
        if let (Act::Check(cost @ 1..), Said::Admitted(_)) = (act, said) {
            self.admitted[key] += cost.unsigned_abs();
        }
        if self.sure {
            self.worlds[key].saw(&act, &said);
        }
    }

    fn follow(&mut self, script: &[Turn]) {
        for turn in script {
            match *turn {
                Turn::On(key, act) => self.act(key, act),
                Turn::Near(keys, act) => NEAR.take(keys).for_each(|key| self.act(key, act)),
                Turn::Sweep => _ = bounded(|| self.case.zone.sweep(NOW, usize::MAX)),
                Turn::Publish if self.locked => {}
                Turn::Publish => bounded(|| self.case.publish()),
            }
        }
        FAR.for_each(|key| self.act(key, Act::Check(1)));
    }

    fn look_at_all(&mut self) {
        (0..self.worlds.len()).for_each(|key| self.act(key, Act::Check(0)));
    }

    fn ended(&mut self, answer: Option<&Said>) {
        if self.sure {
            self.worlds[KEY].ended(answer);
        }
        self.worlds[KEY + 1..].iter_mut().for_each(Worlds::over);
        self.locked = false;
    }

    /// What was published is what is in the buckets.
    fn is_handed_out(&self, stopped: Stopped) {
        self.case.publish();
        assert_eq!(self.case.zone.dirty_count(), 0);
        let told = self.case.told.lock().expect("no panic");
        for (at, key) in self.case.keys.iter().enumerate() {
            let theirs = match stopped {
                Stopped::On(Act::Row(requests)) if at == KEY => requests,
                _ => 0,
            };
            let ours = self.case.used(at).cast_signed() - theirs.cast_signed();
            let told = told.get(&key[..]).copied().unwrap_or_default();
            let is_exact = self.sure && !self.crowded;
            assert!(!is_exact || told == ours * INTERVAL.cast_signed(), "key {at}: {told} of {ours}");
            assert!(told <= (self.admitted[at] * INTERVAL).cast_signed(), "key {at}: {told}");
        }
    }
}

fn run(setting: &Setting, scenario: &Scenario, script: &[Turn], first: u64, then: Then) -> Stops {
    let case = Case::new(scenario);
    let mut follower = Follower::new(&case, scenario, setting.crowded);
    let claims = setting.crowded || matches!(scenario.stopped, Stopped::Sweep);
    follower.sure = !(claims && matches!(then, Then::StopAgain(_)));
    beside(
        || case.run(scenario.stopped),
        |other: Beside<Option<Said>>| {
            let (stops, answer) = other.stop(first, then, script, |script| follower.follow(script));
            let Some(answer) = answer else {
                follower.look_at_all();
                is_in_order(&case.zone, 1);
                return stops;
            };
            follower.ended(answer.as_ref());
            follower.look_at_all();
            is_in_order(&case.zone, 0);
            follower.is_handed_out(scenario.stopped);
            stops
        },
    )
}

/// No key is there twice, and at most so many entries are in anybody's hands.
fn is_in_order(zone: &LimitZone, most_claimed: usize) {
    (0..zone.slots()).for_each(|slot| zone.around(slot).finish(slot));
    let mut claimed = 0;
    let mut seen = HashSet::new();
    for slot in 0..zone.slots() {
        match zone.entry(slot).head().phase() {
            Phase::Empty => {}
            Phase::Claimed => claimed += 1,
            Phase::Pending => panic!("it was finished"),
            Phase::Live => {
                let key = zone.live(slot).expect("nobody else is there");
                assert!(seen.insert((key.words, key.len)), "a key in two entries");
            }
        }
    }
    assert!(claimed <= most_claimed, "{claimed} claimed");
}

fn check(setting: &Setting, scenarios: &[(&'static str, &'static str, &'static str, Stopped)]) {
    let scripts: Vec<_> = setting.scripts.iter().map(|script| parse(script)).collect();
    for &(name, before, now, stopped) in scenarios {
        let scenario = Scenario { before, now, stopped };
        at_every_access(name, scripts.len(), |script, first, then| {
            run(setting, &scenario, &scripts[script], first, then)
        });
    }
}

#[test]
fn a_stopped_limit_request_stops_nobody() {
    let setting = Setting {
        crowded: false,
        scripts: &[
            "check:0 check:1 check:1 publish check:0 check:2 check:-1 check:0 sweep check:1",
            "sweep check:1 publish check:1 forget check:3 check:0 publish",
            "publish check:1 check:1 check:1 check:1 check:1 publish",
            "forget check:1 sweep check:0 check:1 forget",
        ],
    };
    check(
        &setting,
        &[
            ("check of a new key", "", "1/check:1", Stopped::On(Act::Check(1))),
            ("check", "", "check:1", Stopped::On(Act::Check(1))),
            ("check of an idle key", "check:1", "", Stopped::On(Act::Check(1))),
            ("check that is denied", "", "check:4", Stopped::On(Act::Check(1))),
            ("refund", "", "check:3", Stopped::On(Act::Check(-2))),
            ("forget", "", "check:3 publish check:1", Stopped::On(Act::Forget)),
            ("sweep", "check:1 1/check:1", "2/check:1", Stopped::Sweep),
            ("publish", "", "check:2 1/check:1", Stopped::Publish),
            ("row of a new key", "", "1/check:1", Stopped::On(Act::Row(1))),
            ("row", "", "check:1", Stopped::On(Act::Row(1))),
        ],
    );
}

#[test]
fn a_stopped_request_to_a_full_group_stops_nobody() {
    let setting = Setting {
        crowded: true,
        scripts: &[
            "near/check:1 check:1 near/check:1 publish check:1 sweep",
            "check:1 publish near/check:1 near/check:-1 sweep check:2",
            "near/check:3 publish check:0 sweep",
            "near/check:1 publish near/check:0",
            "near/check:0 near/check:4 publish check:3 near/forget sweep near/check:1",
        ],
    };
    check(
        &setting,
        &[
            ("check in a group of idle keys", "full/check:1", "", Stopped::On(Act::Check(1))),
            ("check in a group of busy keys", "", "full/check:1 publish", Stopped::On(Act::Check(1))),
            ("check in a group of debts", "", "full/check:1", Stopped::On(Act::Check(1))),
            ("refund in full groups", "", "check:2 beside/check:1 publish", Stopped::On(Act::Check(-1))),
            (
                "check of a key in a full group",
                "",
                "check:1 beside/check:1 publish",
                Stopped::On(Act::Check(1)),
            ),
        ],
    );
}
