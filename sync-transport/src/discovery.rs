//! From the list of servers to the set of targets, followed as DNS changes.
//!
//! Every entry with a name has a task that looks it up, waits as long as the answer is valid, and looks
//! it up again. An answer, also the answer that there is nothing, replaces what was known; a resolver
//! that fails to answer does not: the last good set stays, and the failure is kept beside it and logged
//! when it first appears or changes.

mod dns;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::{Backoff, Error, Server, Target};
use dns::Follower;

/// No name is looked up more often than this, whatever its TTL.
const REFRESH_MIN: Duration = Duration::from_secs(1);
/// No name is looked up less often than this: a TTL of a day is a day in which a new node is not found.
const REFRESH_MAX: Duration = Duration::from_secs(3600);
/// First wait after a failed lookup.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest wait after a failed lookup.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How names become addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryOptions {
    /// Whether to follow changes; default on. Off: each name is looked up at the start, again and again
    /// until there is an answer with addresses, and then never again.
    pub resolve: bool,
    /// DNS servers to ask, in this order: the next one when one does not answer, or answers that it
    /// cannot. Empty: those the system is configured to use, with its search list and hosts file; changes
    /// to these are followed too.
    pub resolver: Vec<SocketAddr>,
    /// Longest time to use an answer, below its TTL. An answer is used for a second at least and an
    /// hour at most.
    pub valid: Option<Duration>,
}

impl Default for DiscoveryOptions {
    fn default() -> Self {
        Self { resolve: true, resolver: Vec::new(), valid: None }
    }
}

impl DiscoveryOptions {
    /// When to look up again what was answered with `ttl`.
    fn refresh_after(&self, ttl: Duration) -> Duration {
        self.valid.map_or(ttl, |valid| ttl.min(valid)).clamp(REFRESH_MIN, REFRESH_MAX)
    }
}

/// What is known about all servers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetSet {
    /// Places to dial, each address once (under the first server that has it), in the order of the
    /// servers; the addresses of a name in ascending order, those of SRV records by priority first.
    pub targets: Vec<Target>,
    /// The state of each server of the list, in its order.
    pub servers: Vec<ServerState>,
}

impl TargetSet {
    /// Whether every server has been answered for at least once, so that the set is complete as far as
    /// anybody knows.
    pub fn is_complete(&self) -> bool {
        self.servers.iter().all(|server| server.is_known)
    }
}

/// What is known about one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// The entry of the list.
    pub server: Server,
    /// Whether it needs no lookup, or one was answered at least once (perhaps with: no such name).
    pub is_known: bool,
    /// Why the latest lookup failed; `None` if it did not. What was known before is still in the set.
    pub error: Option<String>,
}

/// Follows a list of servers.
///
/// Has to be made within a tokio runtime. Dropping it ends the lookups; the last set stays readable.
#[derive(Debug)]
pub struct Discovery {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    list: Mutex<List>,
    set: watch::Sender<Arc<TargetSet>>,
}

#[derive(Debug, Default)]
struct List {
    options: DiscoveryOptions,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    state: ServerState,
    targets: Vec<Target>,
    task: Option<Task>,
}

/// A task that ends with its handle.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Discovery {
    /// Starts to follow `servers`. Addresses are targets at once, names as soon as they are answered for.
    pub fn start(servers: Vec<Server>, options: DiscoveryOptions) -> Self {
        let (set, _) = watch::channel(Arc::default());
        let discovery = Self { shared: Arc::new(Shared { list: Mutex::default(), set }) };
        discovery.reconfigure(servers, options);
        discovery
    }

    /// The set of targets, now and whenever it changes.
    pub fn targets(&self) -> watch::Receiver<Arc<TargetSet>> {
        self.shared.set.subscribe()
    }

    /// Changes to another list or other options. Servers that stay keep what is known about them, so
    /// that nobody is disconnected for the time of a lookup.
    pub fn reconfigure(&self, servers: Vec<Server>, options: DiscoveryOptions) {
        let mut list = self.shared.lock();
        let keeps_tasks = list.options == options;
        let mut old = std::mem::take(&mut list.entries);
        let mut seen = HashSet::new();
        for server in servers {
            if !seen.insert(server.clone()) {
                continue;
            }
            let kept =
                old.iter().position(|entry| entry.state.server == server).map(|at| old.swap_remove(at));
            let mut entry = kept.unwrap_or_else(|| Entry::new(server));
            if entry.state.server.fixed().is_none() && !(keeps_tasks && entry.task.is_some()) {
                entry.task = Some(Task(tokio::spawn(follow(
                    Follower::new(entry.state.server.clone(), &entry.targets),
                    options.clone(),
                    Arc::downgrade(&self.shared),
                ))));
            }
            list.entries.push(entry);
        }
        list.options = options;
        self.shared.publish(&list);
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.shared.lock().entries.clear();
    }
}

impl Entry {
    fn new(server: Server) -> Self {
        let fixed = server.fixed();
        let state = ServerState { server, is_known: fixed.is_some(), error: None };
        Self { state, targets: fixed.into_iter().collect(), task: None }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the outcome of a lookup.
    fn update(&self, server: &Server, round: &dns::Round) {
        let mut list = self.lock();
        let Some(entry) = list.entries.iter_mut().find(|entry| entry.state.server == *server) else { return };
        if entry.state.error != round.error {
            match &round.error {
                Some(cause) => {
                    let error = Error::Lookup { server: server.clone(), cause: cause.clone() };
                    let targets = round.targets.len();
                    tracing::warn!(%error, targets, "the targets known before stay in use");
                }
                None => tracing::info!(%server, "the name can be looked up again"),
            }
        }
        let is_first = round.is_known && !entry.state.is_known;
        if round.error.is_none() && round.targets.is_empty() && (is_first || !entry.targets.is_empty()) {
            tracing::warn!(%server, "the name has no addresses (any more)");
        }
        if entry.targets != round.targets {
            let (before, now) = (entry.targets.len(), round.targets.len());
            tracing::info!(%server, before, now, "targets have changed");
        }
        entry.targets.clone_from(&round.targets);
        entry.state.error.clone_from(&round.error);
        entry.state.is_known |= round.is_known;
        self.publish(&list);
    }

    /// Puts the set together; receivers wake only if it differs.
    fn publish(&self, list: &List) {
        let mut seen = HashSet::new();
        let targets = list.entries.iter().flat_map(|entry| &entry.targets);
        let set = TargetSet {
            targets: targets.filter(|target| seen.insert(&target.address)).cloned().collect(),
            servers: list.entries.iter().map(|entry| entry.state.clone()).collect(),
        };
        self.set.send_if_modified(|current| {
            let is_changed = **current != set;
            if is_changed {
                *current = Arc::new(set);
            }
            is_changed
        });
    }
}

/// Looks one server up for as long as anybody cares.
async fn follow(mut follower: Follower, options: DiscoveryOptions, shared: std::sync::Weak<Shared>) {
    let retry_max = options.refresh_after(RETRY_MAX);
    let Ok(mut backoff) = Backoff::new(RETRY_MIN.min(retry_max), retry_max) else { return };
    loop {
        let round = follower.round(&options.resolver).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.update(follower.server(), &round);
        drop(shared);
        let wait = match round.error {
            Some(_) => backoff.next(&mut rand::rng()),
            None => {
                if !options.resolve && !round.targets.is_empty() {
                    return;
                }
                backoff.reset();
                options.refresh_after(round.ttl)
            }
        };
        sleep(wait).await;
    }
}

#[cfg(test)]
mod tests;
