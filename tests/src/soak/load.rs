//! The load: workers that write, read and check through the API of whichever node is up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::ledger::{Held, Known, Ledger, check};
use super::site::Site;
use crate::{Api, Elapsed};

/// Workers for each node.
const WORKERS_PER_NODE: usize = 1;
/// Between two operations of one worker: the processors belong to the nodes.
const PAUSE: Duration = Duration::from_millis(5);
/// Keys of a worker that are in use at a time. It writes them in turn, so that the clock has long moved on when one is written again, perhaps on another node.
const KEYS: usize = 400;
/// Sessions of a worker.
const SESSIONS: usize = 100;
/// The longest value, bytes.
const VALUE_MAX: usize = 300;

/// Running workers.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Ledger>>,
}

impl Load {
    pub(super) fn start(site: &Site, clock: Elapsed, seed: u64) -> Self {
        let (stop, writes) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let workers = (0..site.count() * WORKERS_PER_NODE).map(|number| Worker {
            apis: site.impatient().cloned().collect(),
            open: site.open(),
            stop: Arc::clone(&stop),
            writes: Arc::clone(&writes),
            clock,
            random: SmallRng::seed_from_u64(seed ^ (number as u64 + 1)),
            keys: Names::new(format!("w{number}"), KEYS),
            sessions: Names::new(format!("w{number}"), SESSIONS),
            ledger: Ledger { limit_key: format!("w{number}"), ..Ledger::default() },
        });
        let threads = workers.map(|worker| std::thread::spawn(move || worker.run())).collect();
        Self { stop, writes, threads }
    }

    /// Writes that were acknowledged so far.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Stops all workers; each says what it knows.
    pub(super) fn stop(self) -> Vec<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("workers do not panic")).collect()
    }
}

/// Names that are used in turn. One that must not be used again is replaced.
#[derive(Debug)]
struct Names {
    prefix: String,
    generations: Vec<u32>,
    next: usize,
}

impl Names {
    fn new(prefix: String, count: usize) -> Self {
        Self { prefix, generations: vec![0; count], next: 0 }
    }

    fn next(&mut self) -> String {
        self.next = (self.next + 1) % self.generations.len();
        format!("{}-{}-{}", self.prefix, self.next, self.generations[self.next])
    }

    /// Replaces the name that was given out last.
    fn retire(&mut self) {
        self.generations[self.next] += 1;
    }
}

/// What came of a change.
enum Outcome {
    Acknowledged,
    /// Nothing was there to be changed.
    Nothing,
    /// No answer, or none that says what is.
    Unknown,
}

struct Worker {
    apis: Vec<Api>,
    open: Arc<[AtomicBool]>,
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
    clock: Elapsed,
    random: SmallRng,
    keys: Names,
    sessions: Names,
    ledger: Ledger,
}

impl Worker {
    fn run(mut self) -> Ledger {
        while !self.stop.load(Ordering::Relaxed) {
            let up: Vec<usize> =
                (0..self.apis.len()).filter(|&node| self.open[node].load(Ordering::Relaxed)).collect();
            if !up.is_empty() {
                let api = self.apis[up[self.random.random_range(0..up.len())]].clone();
                match self.random.random_range(0..100) {
                    0..45 => self.set(&api),
                    45..55 => self.remove(&api),
                    55..70 => self.learn(&api),
                    70..75 => self.forget(&api),
                    75..85 => self.touch(&api),
                    _ => self.check(&api),
                }
            }
            std::thread::sleep(PAUSE);
        }
        self.ledger
    }

    fn set(&mut self, api: &Api) {
        let key = self.keys.next();
        let length = self.random.random_range(1..VALUE_MAX);
        let value = format!("{:x}-{}", self.random.random::<u64>(), "v".repeat(length));
        let expire = self
            .random
            .random_bool(0.25)
            .then(|| Duration::from_millis(self.random.random_range(1_000..30_000)));
        let body = json!({ &key: {"value": value, "expire": expire.map(|time| time.as_millis() as u64)} });
        let before = self.clock.get();
        let reply = api.request("POST", "/v1/keyval/one", Some(&body.to_string()));
        let expires = expire.map(|time| (before + time, self.clock.get() + time));
        let outcome = match reply {
            Ok(reply) if reply.status == 200 && reply.json()["failed"] == json!({}) => Outcome::Acknowledged,
            _ => Outcome::Unknown,
        };
        let held = Held { value: Some(value), expires };
        note(&mut self.ledger.pairs, &mut self.keys, &self.writes, key, held, &outcome);
    }

    fn remove(&mut self, api: &Api) {
        let key = self.keys.next();
        let reply = api.request("PATCH", "/api/9/http/keyvals/one", Some(&json!({ &key: null }).to_string()));
        let outcome = match reply.map(|reply| reply.status) {
            Ok(204) => Outcome::Acknowledged,
            Ok(404) => Outcome::Nothing,
            _ => Outcome::Unknown,
        };
        note(&mut self.ledger.pairs, &mut self.keys, &self.writes, key, Held::NOTHING, &outcome);
    }

    fn learn(&mut self, api: &Api) {
        let session = self.sessions.next();
        let server = format!("10.0.{}.{}:80", self.random.random::<u8>(), self.random.random::<u8>());
        let reply = api.request("PUT", &path(&session), Some(&json!({"server": server}).to_string()));
        let outcome = if reply.is_ok_and(|reply| reply.status == 204) {
            Outcome::Acknowledged
        } else {
            Outcome::Unknown
        };
        let held = Held { value: Some(server), expires: None };
        note(&mut self.ledger.sessions, &mut self.sessions, &self.writes, session, held, &outcome);
    }

    fn forget(&mut self, api: &Api) {
        let session = self.sessions.next();
        let outcome = match api.request("DELETE", &path(&session), None).map(|reply| reply.status) {
            Ok(204) => Outcome::Acknowledged,
            Ok(404) => Outcome::Nothing,
            _ => Outcome::Unknown,
        };
        note(&mut self.ledger.sessions, &mut self.sessions, &self.writes, session, Held::NOTHING, &outcome);
    }

    fn touch(&mut self, api: &Api) {
        // Whether the session has got there yet is not known; that it is used counts.
        let session = self.sessions.next();
        let _ = api.request("GET", &path(&session), None);
    }

    fn check(&mut self, api: &Api) {
        self.ledger.admitted += u64::from(check(api, &self.ledger.limit_key) == Some(true));
    }
}

fn path(session: &str) -> String {
    format!("/v1/sticky/sessions/{session}")
}

fn note(
    all: &mut BTreeMap<String, Known>,
    names: &mut Names,
    writes: &AtomicU64,
    key: String,
    held: Held,
    outcome: &Outcome,
) {
    match outcome {
        Outcome::Nothing => {}
        Outcome::Acknowledged => {
            writes.fetch_add(1, Ordering::Relaxed);
            all.insert(key, vec![held]);
        }
        Outcome::Unknown => {
            names.retire();
            all.entry(key).or_insert_with(|| vec![Held::NOTHING]).push(held);
        }
    }
}
