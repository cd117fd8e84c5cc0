//! What a worker was told, and whether the nodes hold to it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::site::Site;
use crate::{Api, Elapsed};

/// `burst` of the limits that are checked.
pub(super) const BURST: u64 = 9;
/// The same as in the zone: one a time that is long beside what the checks at the end take.
const RATE_PER_SECOND: f64 = 10.0 / 3_600.0;
/// How much a sweep, a thread and the machine may be late with an expiry.
const EXPIRY_MARGIN: Duration = Duration::from_secs(3);
/// Checks of each limit on each node in the end, and how many of them may be admitted: one is due every six minutes.
const CHECKS: usize = 3;
const CHECKS_ADMITTED_MAX: usize = 2;

/// A value that a key may have, or that it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) value: Option<String>,
    /// The earliest and the latest moment at which it expires.
    pub(super) expires: Option<(Duration, Duration)>,
}

impl Held {
    pub(super) const NOTHING: Self = Self { value: None, expires: None };

    /// Whether this may have been found by who asked and was answered then.
    fn allows(&self, found: Option<&str>, asked: Duration, answered: Duration) -> bool {
        let is_there = found.is_some() && found == self.value.as_deref();
        match self.expires {
            Some((earliest, _)) if answered < earliest => is_there,
            Some((_, latest)) if asked > latest + EXPIRY_MARGIN => found.is_none(),
            Some(_) => is_there || found.is_none(),
            None => found == self.value.as_deref(),
        }
    }
}

/// What is known of a key: one [`Held`] after an acknowledgement, several once an answer was missing. Such a key is never written again: a node that was stopped
/// may still carry out what it was asked.
pub(super) type Known = Vec<Held>;

/// What one worker knows. Nobody else writes its keys.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) pairs: BTreeMap<String, Known>,
    pub(super) sessions: BTreeMap<String, Known>,
    pub(super) limit_key: String,
    pub(super) admitted: u64,
}

impl Ledger {
    /// Asks every node, and says in a sentence each what is not as it was acknowledged.
    pub(super) fn violations(&self, site: &Site, clock: Elapsed) -> Vec<String> {
        let mut found = Vec::new();
        for (node, api) in site.apis().enumerate() {
            let name = site.name(node);
            let asked = clock.get();
            let pairs = api.pairs("one");
            let answered = clock.get();
            let wrong = |known: &Known, value: Option<&str>| {
                !known.iter().any(|held| held.allows(value, asked, answered))
            };
            for (key, known) in &self.pairs {
                let value = pairs.get(key).map(String::as_str);
                if wrong(known, value) {
                    found.push(format!(
                        "{name} has {value:?} for {key:?} at {answered:?}, acknowledged was one of {known:?}"
                    ));
                }
            }
            for (session, known) in &self.sessions {
                let server = server(api, session);
                if wrong(known, server.as_deref()) {
                    found.push(format!(
                        "{name} has {server:?} for session {session:?}, acknowledged was one of {known:?}"
                    ));
                }
            }
        }
        found.extend(self.limit_violation(site, clock));
        found
    }

    /// Cut off from each other, nodes admit a burst and the rate each; nothing else adds to it, however many restarts there were. And what is spent stays spent.
    fn limit_violation(&self, site: &Site, clock: Elapsed) -> Option<String> {
        let nodes = site.count() as f64;
        let most = nodes * ((BURST + 1) as f64 + RATE_PER_SECOND * clock.seconds());
        let (key, admitted) = (&self.limit_key, self.admitted);
        if admitted as f64 > most {
            return Some(format!("{admitted} admitted of limit {key:?}, {most:.0} are the most"));
        }
        if admitted <= BURST {
            return None;
        }
        let again = site
            .apis()
            .flat_map(|api| std::iter::repeat_n(api, CHECKS))
            .filter(|api| check(api, key) == Some(true));
        let again = again.count();
        (again > CHECKS_ADMITTED_MAX)
            .then(|| format!("limit {key:?} was spent, and {again} more were admitted in the end"))
    }
}

fn server(api: &Api, session: &str) -> Option<String> {
    let reply = api.get(&format!("/v1/sticky/sessions/{session}"));
    (reply.status == 200).then(|| reply.json()["server"].as_str().unwrap_or_default().to_owned())
}

/// Checks a limit; `None` without a decision.
pub(super) fn check(api: &Api, key: &str) -> Option<bool> {
    let body = json!({"key": key, "burst": BURST, "nodelay": true}).to_string();
    match api.request("POST", "/v1/limit_req/req", Some(&body)).ok()?.status {
        200 => Some(true),
        429 => Some(false),
        _ => None,
    }
}
