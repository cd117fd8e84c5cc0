//! What this binary does when it is started as a child. Every role ends when its input is closed, so none outlives the test.

use std::path::Path;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use sync_store::{Check, Expiry, KeyvalZone, LimitZone, StickyZone, Time};

use crate::support::{argument, has_ended, hear, say, watch};
use crate::work::{FastClock, Zones};
use crate::{guests, limits, memory, owners, refusals};

/// The time in tests where no time passes.
pub(crate) const NOW: Time = Time::from_millis(1_700_000_000_000);

pub(crate) fn run(role: &str) {
    // A thread that finds something wrong must not leave the others working.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        std::process::exit(101);
    }));
    let argument = argument();
    match role {
        "keyval" => keyval(&argument),
        "sticky" => sticky(&argument),
        "limit" => limit(&argument),
        "work" => work(&argument),
        "come-and-go" => come_and_go(&argument),
        "write-large" => write_large(&argument),
        "daemon" => guests::child_daemon(&argument),
        "owner" => owners::child_owner(&argument),
        "stuck-publisher" => owners::child_stuck_publisher(&argument),
        "large-owner" => owners::child_large_owner(&argument),
        "brief-owner" => owners::child_brief_owner(&argument),
        "counter" => owners::child_counter(&argument),
        "limit-owner" => limits::child_owner(&argument),
        "claims" => limits::child_claims(&argument),
        "umasks" => refusals::child_with_umasks(&argument),
        "no-room" => memory::child_without_room(&argument),
        role => panic!("no role {role}"),
    }
}

fn text(bytes: Option<impl AsRef<[u8]>>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| String::from_utf8_lossy(bytes.as_ref()).into_owned())
}

/// Does what the test says, a line at a time, and answers each.
fn obey(mut perform: impl FnMut(&[&str]) -> String) {
    say("attached");
    while let Some(line) = hear() {
        say(&perform(&line.split(' ').collect::<Vec<_>>()));
    }
}

fn keyval(path: &Path) {
    let zone = match KeyvalZone::attach(path) {
        Ok(zone) => zone,
        Err(error) => return say(&format!("{error:?}")),
    };
    obey(|words| match words {
        ["set", key, value] => format!("{:?}", zone.set(key, value, NOW, Expiry::Default)),
        ["get", key] => text(zone.get(key, NOW)),
        ["lookup", key] => text(zone.lookup(key, NOW)),
        ["remove", key] => format!("{:?}", zone.remove(key, NOW)),
        words => panic!("{words:?}"),
    });
}

fn sticky(path: &Path) {
    let zone = StickyZone::attach(path).expect("an owner");
    obey(|words| match words {
        ["learn", session, server] => format!("{:?}", zone.learn(session, server, NOW)),
        ["lookup", session] => text(zone.lookup(session, NOW)),
        ["lookup-later", session, ms] => {
            let later = Time::from_millis(NOW.as_millis() + ms.parse::<u64>().expect("a number"));
            text(zone.lookup(session, later))
        }
        ["forget", session] => format!("{:?}", zone.forget(session, NOW)),
        words => panic!("{words:?}"),
    });
}

fn limit(path: &Path) {
    let zone = LimitZone::attach(path).expect("an owner");
    obey(|words| match words {
        ["check", key] => zone.check(key, &Check::default(), NOW).outcome.as_str().to_owned(),
        ["forget", key] => format!("{:?}", zone.forget(key, NOW)),
        words => panic!("{words:?}"),
    });
}

/// Random work on zones of all kinds, in two threads, as fast as it goes.
fn work(dir: &Path) {
    watch();
    let clock = FastClock::join(dir);
    let zones = Zones::attach(dir).expect("there are fewer guests than places");
    say("attached");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut rng = SmallRng::from_os_rng();
                while !has_ended() {
                    zones.act(&mut rng, clock.now());
                }
            });
        }
    });
}

/// Attaches, writes, leaves, and again.
fn come_and_go(path: &Path) {
    watch();
    say("begins");
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            scope.spawn(move || {
                let mut round = 0u64;
                while !has_ended() {
                    let zone = KeyvalZone::attach(path).expect("there are fewer guests than places");
                    round += 1;
                    let (key, value) = (format!("{}-{thread}", std::process::id()), round.to_string());
                    zone.set(&key, &value, NOW, Expiry::Never).expect("room");
                    assert_eq!(zone.get(&key, NOW).expect("just written"), value);
                }
            });
        }
    });
}

/// Replaces large records, so that it is nearly always in the middle of one; each once, until it is told to end.
fn write_large(path: &Path) {
    let zone = KeyvalZone::attach(path).expect("an owner");
    say("attached");
    let value = vec![b'x'; 60_000];
    while zone.get("stop", NOW).is_none() {
        for number in 0..8 {
            if zone.get("stop", NOW).is_none() {
                zone.set(format!("large-{number}"), &value, NOW, Expiry::Never).expect("room");
            }
        }
    }
    say("stopped");
    assert_eq!(hear(), None);
}
