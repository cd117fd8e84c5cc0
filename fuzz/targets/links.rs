//! A node in the middle of peers that say anything, in any order, while it writes and time passes.

#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use fuzz::{Number, Say, act, check, look_at_sent, moment, node};
use libfuzzer_sys::fuzz_target;
use sync_node::simulation::{Moment, Node};
use sync_store::{Check, Expiry};

/// Acts of one run, and frames sent in an answer to one: more tell nothing new.
const ACTS_MAX: usize = 64;
const FRAMES_MAX: usize = 1_000;

#[derive(Arbitrary, Debug)]
enum Act {
    Accept,
    /// A link is greeted as an honest peer would, and made active.
    Greet {
        link: u8,
        origin: u8,
    },
    Say {
        link: u8,
        say: Say,
    },
    /// The same with a byte changed.
    Mutate {
        link: u8,
        say: Say,
        at: u8,
        bits: u8,
    },
    /// The same frame again.
    Replay {
        link: u8,
        say: Say,
    },
    HangUp {
        link: u8,
    },
    Wait {
        ms: u16,
    },
    Write {
        key: u8,
        expires: Option<u8>,
    },
    Remove {
        key: u8,
    },
    Learn {
        key: u8,
    },
    Check {
        key: u8,
        cost: i8,
    },
}

struct World {
    node: Node,
    links: Vec<u64>,
    elapsed: Duration,
}

impl World {
    fn now(&self) -> Moment {
        moment(self.elapsed)
    }

    fn hear(&mut self, link: u8, say: &[bytes::Bytes]) {
        let Some(&link) = self.links.get(usize::from(link) % self.links.len().max(1)) else { return };
        for body in say {
            self.node.handle_frame(self.now(), link, Some(body.clone()));
        }
    }

    fn settle(&mut self) {
        let now = self.now();
        self.node.poll(now);
        while let Some(action) = self.node.poll_action() {
            self.links.extend(act(&mut self.node, now, action));
        }
        for link in self.node.take_woken() {
            for _ in 0..FRAMES_MAX {
                let Some((_, frame)) = self.node.poll_transmit(now, link, &|_| true) else { break };
                look_at_sent(&frame);
            }
        }
        check(&self.node);
    }

    fn does(&mut self, what: &Act) {
        let now = self.now();
        match what {
            Act::Accept => {
                let link = self.node.accept(now);
                self.links.push(link);
            }
            Act::Greet { link, origin } => {
                let hello = Say::Hello { origin: *origin, wrong: 0, known: vec![] };
                self.hear(*link, &[hello.body(), Say::Heartbeat(vec![]).body()]);
            }
            Act::Say { link, say } => self.hear(*link, &[say.body()]),
            Act::Mutate { link, say, at, bits } => {
                let mut body = say.body().to_vec();
                if let Some(byte) = body.get_mut(usize::from(*at)) {
                    *byte ^= bits;
                }
                self.hear(*link, &[body.into()]);
            }
            Act::Replay { link, say } => self.hear(*link, &[say.body(), say.body()]),
            Act::HangUp { link } => {
                let at = usize::from(*link) % self.links.len().max(1);
                if let Some(&link) = self.links.get(at) {
                    self.node.failed(now, link, "fuzzed");
                    self.links.remove(at);
                }
            }
            Act::Wait { ms } => self.elapsed += Duration::from_millis((*ms).into()),
            Act::Write { key, expires } => {
                let zone = self.node.keyval("kv").expect("a zone");
                let after = expires.map(|ms| Expiry::After(Duration::from_millis(Number::Small(ms).get())));
                // A full zone refuses.
                let _ = zone.set([*key], "value", now.time, after.unwrap_or(Expiry::Default));
            }
            Act::Remove { key } => {
                let _ = self.node.keyval("kv").expect("a zone").remove([*key], now.time);
            }
            Act::Learn { key } => {
                let _ = self.node.sticky("st").expect("a zone").learn([*key], "server", now.time);
            }
            Act::Check { key, cost } => {
                let check = Check { cost: (*cost).into(), ..Check::default() };
                self.node.limit("li").expect("a zone").check([*key], &check, now.time);
            }
        }
    }
}

fuzz_target!(|acts: Vec<Act>| {
    let mut world = World { node: node(), links: Vec::new(), elapsed: Duration::ZERO };
    world.settle();
    for what in acts.iter().take(ACTS_MAX) {
        world.does(what);
        world.settle();
    }
});
