//! Zones of all kinds, and random work on them with values that describe themselves.

use std::path::Path;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::SmallRng;
use sync_store::{
    Check, Clock as _, Delay, Error, Expiry, KeyvalZone, KeyvalZoneBuilder, LimitZone, LimitZoneBuilder,
    MatchBy, Region, Replica, StickyZone, StickyZoneBuilder, SystemClock, Time,
};

use crate::rows::pass_on;

/// Keys of each zone. More than have room in the tight one, the evicting one and the limits.
const ROOMY: u64 = 1_500;
const TIGHT: u64 = 400;
const SESSIONS: u64 = 200;
const EVICTING: u64 = 1_500;
const LIMITS: u64 = 3_000;
/// Keys of the one zone of those tests that have one.
const FEW: u64 = 300;

/// The fast clock makes much of it when a process is kept waiting.
pub(crate) const SKEW: Duration = Duration::from_secs(600);

/// A clock that all processes of a test share and that runs ten times as fast as the real one, so that minutes pass in a test: what is
/// older than one is treated otherwise when a process has died.
pub(crate) struct FastClock {
    start: Time,
}

impl FastClock {
    const FILE: &str = "clock";

    pub(crate) fn start(dir: &Path) -> Self {
        let start = SystemClock.now();
        std::fs::write(dir.join(Self::FILE), start.as_nanos().to_string()).expect("a file");
        Self { start }
    }

    pub(crate) fn join(dir: &Path) -> Self {
        let start = std::fs::read_to_string(dir.join(Self::FILE)).expect("the test has made it");
        Self { start: Time::from_nanos(start.parse().expect("a number")) }
    }

    pub(crate) fn now(&self) -> Time {
        Time::from_millis(1_700_000_000_000)
            .saturating_add(SystemClock.now().saturating_sub(self.start).saturating_mul(10))
    }
}

/// A value that says which key it belongs to, and in which each byte follows from the first eight.
fn describe(number: u64, salt: u64) -> Vec<u8> {
    let seed = salt << 16 | number;
    let length = (salt % 25) as usize * 8;
    let rest = (0..length).map(|at| seed.wrapping_mul(at as u64 + 3).to_le_bytes()[5]);
    seed.to_le_bytes().into_iter().chain(rest).collect()
}

/// The number of the key that a value belongs to.
fn number_of(value: &[u8]) -> u64 {
    let seed = u64::from_le_bytes(value[..8].try_into().expect("eight bytes"));
    let number = seed & 0xffff;
    assert_eq!(value, describe(number, seed >> 16), "torn");
    number
}

/// Keys of different lengths.
pub(crate) fn key(number: u64) -> String {
    format!("{number:0width$}", width = 4 + (number % 20) as usize)
}

fn few(number: u64) -> String {
    format!("few-{number}")
}

/// Keys that are prefixes of others.
pub(crate) fn prefix(number: u64) -> String {
    format!("p{number}")
}

pub(crate) fn verify(key: &[u8], value: &[u8], key_of: fn(u64) -> String) {
    assert_eq!(key, key_of(number_of(value)).as_bytes(), "the value of another key");
}

/// A zone of each kind, with room and without.
pub(crate) struct Zones {
    pub(crate) roomy: KeyvalZone,
    pub(crate) tight: KeyvalZone,
    pub(crate) sessions: StickyZone,
    pub(crate) evicting: StickyZone,
    pub(crate) limits: LimitZone,
}

/// Runs out of slots first when it is filled with small records.
fn roomy() -> KeyvalZoneBuilder {
    KeyvalZone::builder("roomy").size(1 << 20).record_size(200)
}

/// This one and the next two run out of memory first, whatever they are filled with.
fn tight() -> KeyvalZoneBuilder {
    KeyvalZone::builder("tight").size(64 << 10).record_size(8).match_by(MatchBy::Prefix)
}

fn sessions() -> StickyZoneBuilder {
    sticky("sessions", 96 << 10)
}

fn evicting() -> StickyZoneBuilder {
    sticky("evicting", 64 << 10)
}

fn sticky(name: &str, size: u64) -> StickyZoneBuilder {
    StickyZone::builder(name)
        .size(size)
        .timeout(Duration::from_secs(3600))
        .record_size(1)
        .max_record(64 << 10)
}

fn limits() -> LimitZoneBuilder {
    LimitZone::builder("limits")
        .size(64 << 10)
        .rate("10r/s".parse().expect("a rate"))
        .burst(20)
        .delay(Delay::Nodelay)
}

impl Zones {
    /// Those in files of a directory, to own them.
    pub(crate) fn own(dir: &Path) -> Result<Self, Error> {
        let region = |name: &str| Region::map_file(dir.join(name));
        Ok(Self {
            roomy: roomy().region(region("roomy")).build()?,
            tight: tight().region(region("tight")).build()?,
            sessions: sessions().region(region("sessions")).build()?,
            evicting: evicting().region(region("evicting")).build()?,
            limits: limits().region(region("limits")).build()?,
        })
    }

    pub(crate) fn attach(dir: &Path) -> Result<Self, Error> {
        Ok(Self {
            roomy: KeyvalZone::attach(dir.join("roomy"))?,
            tight: KeyvalZone::attach(dir.join("tight"))?,
            sessions: StickyZone::attach(dir.join("sessions"))?,
            evicting: StickyZone::attach(dir.join("evicting"))?,
            limits: LimitZone::attach(dir.join("limits"))?,
        })
    }

    pub(crate) fn all(&self) -> [&dyn Replica; 5] {
        [&self.roomy, &self.tight, &self.sessions, &self.evicting, &self.limits]
    }

    /// Something with one of them, at random.
    pub(crate) fn act(&self, rng: &mut SmallRng, now: Time) {
        match rng.random_range(0..100) {
            0..35 => act_on_keyval(&self.roomy, ROOMY, key, rng, now),
            35..55 => act_on_keyval(&self.tight, TIGHT, prefix, rng, now),
            55..75 => act_on_sticky(&self.sessions, SESSIONS, rng, now),
            75..90 => act_on_sticky(&self.evicting, EVICTING, rng, now),
            _ => act_on_limit(&self.limits, rng, now),
        }
    }
}

/// Something with a keyval zone that has room, at random.
pub(crate) fn act(zone: &KeyvalZone, rng: &mut SmallRng, now: Time) {
    act_on_keyval(zone, FEW, few, rng, now);
}

fn act_on_keyval(zone: &KeyvalZone, keys: u64, key_of: fn(u64) -> String, rng: &mut SmallRng, now: Time) {
    let number = rng.random_range(0..keys);
    let key = key_of(number);
    let salt = rng.random::<u64>() >> 16;
    let written = match rng.random_range(0..1000) {
        0..450 => {
            if let Some(value) = zone.get(&key, now) {
                verify(key.as_bytes(), &value, key_of);
            }
            Ok(())
        }
        450..500 => {
            if let Some(value) = zone.lookup(format!("{key}/more"), now) {
                assert!(key.starts_with(&key_of(number_of(&value))), "the value of a key that is no prefix");
            }
            Ok(())
        }
        500..700 => zone.set(&key, describe(number, salt), now, Expiry::Never),
        700..750 => zone.insert(&key, describe(number, salt), now, Expiry::Default),
        750..770 => zone.set(&key, describe(number, salt), now, Expiry::After(Duration::from_secs(20))),
        770..850 => zone.update(&key, Some(&describe(number, salt)), now, None),
        850..899 => zone.update(&key, None, now, Some(Expiry::Never)),
        899 => {
            // Other tests have other keys beside these.
            let is_one = |key: &[u8]| key.starts_with(&key_of(0).as_bytes()[..1]);
            let records = zone.iter(now).filter(|(key, _)| is_one(key));
            records.for_each(|(key, entry)| verify(&key, &entry.value, key_of));
            Ok(())
        }
        _ => zone.remove(&key, now).map(|_| ()),
    };
    match written {
        Ok(()) | Err(Error::ZoneFull { .. } | Error::KeyExists { .. } | Error::KeyNotFound { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn act_on_sticky(zone: &StickyZone, sessions: u64, rng: &mut SmallRng, now: Time) {
    let number = rng.random_range(0..sessions);
    let key = key(number);
    match rng.random_range(0..100) {
        0..50 => {
            if let Some(server) = zone.lookup(&key, now) {
                verify(key.as_bytes(), &server, self::key);
            }
        }
        // Often the server that it has already.
        50..90 => match zone.learn(&key, describe(number, rng.random_range(0..4)), now) {
            Ok(()) | Err(Error::ZoneFull { .. }) => {}
            Err(error) => panic!("{error}"),
        },
        _ => match zone.forget(&key, now) {
            Ok(_) | Err(Error::ZoneFull { .. }) => {}
            Err(error) => panic!("{error}"),
        },
    }
}

fn act_on_limit(zone: &LimitZone, rng: &mut SmallRng, now: Time) {
    let key = key(rng.random_range(0..LIMITS));
    let cost = if rng.random_range(0..10) == 0 { -1 } else { 1 };
    zone.check(key, &Check { cost, ..Check::default() }, now);
}

/// What peers have of the zones, as far as those agree on every node: eviction is local, and limits drain.
pub(crate) struct Replicas {
    roomy: KeyvalZone,
    tight: KeyvalZone,
    sessions: StickyZone,
    evicting: StickyZone,
}

impl Replicas {
    /// In memory; with room for everything.
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self {
            roomy: roomy().max_clock_skew(SKEW).build()?,
            tight: tight().size(1 << 20).max_clock_skew(SKEW).build()?,
            sessions: sessions().max_clock_skew(SKEW).build()?,
            evicting: evicting().size(1 << 20).max_clock_skew(SKEW).build()?,
        })
    }

    /// Brings what is dirty to the replicas, at most so many rows of each zone. Answers how many.
    pub(crate) fn take(&self, zones: &Zones, now: Time, most: usize) -> usize {
        let pairs: [(&dyn Replica, &dyn Replica); 4] = [
            (&zones.roomy, &self.roomy),
            (&zones.tight, &self.tight),
            (&zones.sessions, &self.sessions),
            (&zones.evicting, &self.evicting),
        ];
        let sent: usize = pairs.map(|(from, to)| pass_on(from, to, now, most)).iter().sum();
        pairs.iter().for_each(|(_, to)| _ = to.sweep(now, 64));
        let mut limits = 0;
        zones.limits.publish(now, &mut |_| {
            limits += 1;
            limits <= most
        });
        sent
    }

    /// Nothing that was changed was never published.
    pub(crate) fn check(&self, zones: &Zones, now: Time) {
        while zones.all().iter().any(|zone| zone.dirty_count() > 0) {
            self.take(zones, now, usize::MAX);
        }
        assert_eq!(zones.roomy.digest(now), self.roomy.digest(now), "roomy");
        assert_eq!(zones.tight.digest(now), self.tight.digest(now), "tight");
        assert_eq!(zones.sessions.digest(now), self.sessions.digest(now), "sessions");
    }
}
