//! The Redis door: keyval and limit zones for whoever speaks the Redis protocol, RESP2 or RESP3.
//!
//! | module | job |
//! |---|---|
//! | `request`, `reply` | the protocol: bytes to requests, answers to bytes |
//! | `session` | what one client is, what it may do, and what each request of it comes to; no I/O, no clock |
//! | `command` | the table of commands |
//! | `databases` | which zone a key lies in |
//! | `keys`, `walk`, `throttle`, `info` | the commands: on keys, on all keys, on limits, about the node |
//! | `connection` | the task that feeds a session from a socket, with bounds and time-outs |
//!
//! A key is written and read as over any other door, and what was written on one node is read on the others. Only what proxies' plug-ins for sessions and
//! rate limits ask for is understood; see `docs/integrations/redis.md`.
//!
//! ```no_run
//! use sync_node::api::Grants;
//! use sync_node::redis::{Options, Redis};
//! use sync_node::{Listener, Node};
//!
//! # async fn example(node: Node) -> Result<(), Box<dyn std::error::Error>> {
//! let grants = Grants { write: true, decide: true, ..Grants::default() };
//! let options =
//!     Options { databases: vec!["one".to_owned()], limit: Some("req".to_owned()), grants, ..Options::default() };
//! let listener = Listener::bind(&"127.0.0.1:6379".parse()?).await?;
//! Redis::new(node, options)?.serve(listener, std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod command;
mod connection;
mod databases;
mod info;
mod keys;
mod pattern;
mod reply;
mod request;
mod session;
mod throttle;
mod walk;

use crate::api::Grants;
use crate::door::Door;
use crate::{Error, Node};
use databases::Databases;
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use sync_store::{LimitZone, Time};

/// Connections at a time, if not said otherwise: as many as of the API.
pub const CONNECTIONS: usize = 1024;
/// How long a client may be silent, if not said otherwise: beyond the pools of idle connections that proxies keep.
pub const TIMEOUT: Duration = Duration::from_secs(300);
/// Prefixes that a door can have.
pub const PREFIXES_MAX: usize = walk::PREFIXES_MAX;

/// The version of Redis whose commands these are, for clients that ask.
const VERSION: &str = "7.0.0";
/// What is answered to a change while the node stops. Clients take the code for a server that was demoted, and look for another.
const STOPPING: &str = "READONLY the node is stopping and takes no changes";

/// What a door shows, and to whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// The keyval zones of databases 0, 1, 2…
    pub databases: Vec<String>,
    /// Prefixes of keys that, in database 0, lie in a zone of their own, with the keyval zone; the longest counts. At most [`PREFIXES_MAX`].
    pub prefixes: BTreeMap<String, String>,
    /// The limit zone of `CL.THROTTLE`.
    pub limit: Option<String>,
    /// What clients may do. A client that sends a password alone is the user `default`.
    pub grants: Grants,
    /// Users who may read and no more, whatever the grants say.
    pub read_only_users: BTreeSet<String>,
    /// Connections at a time.
    pub connections: usize,
    /// How long a client may be silent; `None`: for ever.
    pub timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            databases: Vec::new(),
            prefixes: BTreeMap::new(),
            limit: None,
            grants: Grants::default(),
            read_only_users: BTreeSet::new(),
            connections: CONNECTIONS,
            timeout: Some(TIMEOUT),
        }
    }
}

/// The Redis door of one node; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    door: Door,
    databases: Databases,
    limit: Option<Arc<LimitZone>>,
    rules: RwLock<Arc<Rules>>,
    /// How often the rules were replaced; a session that knows an earlier figure looks at them again.
    generation: AtomicU64,
    /// The number of the next client.
    next_client: AtomicU64,
    connections: usize,
    timeout: Option<Duration>,
    opened_at: Time,
}

/// Who may do what.
#[derive(Debug, Default)]
struct Rules {
    grants: Grants,
    read_only_users: BTreeSet<String>,
}

impl Redis {
    /// A door of a node, closed yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchZone`]; [`Error::Setting`] for too many prefixes.
    pub fn new(node: Node, options: Options) -> Result<Self, Error> {
        if options.prefixes.len() > PREFIXES_MAX {
            return Err(Error::Setting {
                setting: "prefixes",
                problem: format!("{} are more than {PREFIXES_MAX}", options.prefixes.len()),
            });
        }
        let limit = options.limit.as_ref().map(|name| {
            node.limit(name).ok_or_else(|| Error::NoSuchZone {
                name: name.clone(),
                purpose: "of the kind limit for CL.THROTTLE",
            })
        });
        let inner = Inner {
            databases: Databases::new(&node, &options)?,
            limit: limit.transpose()?,
            rules: RwLock::new(Arc::new(Rules {
                grants: options.grants,
                read_only_users: options.read_only_users,
            })),
            generation: AtomicU64::new(0),
            next_client: AtomicU64::new(1),
            connections: options.connections,
            timeout: options.timeout,
            opened_at: node.now(),
            door: Door::new(node, "redis"),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Replaces what clients may do, from the next request on. Clients who would not be let in any more are disconnected when they next ask.
    pub fn set_grants(&self, grants: Grants, read_only_users: BTreeSet<String>) {
        *self.inner.rules.write() = Arc::new(Rules { grants, read_only_users });
        self.inner.generation.fetch_add(1, Ordering::Release);
    }

    /// Refuses changes from now on, and returns when none is under way any more. What was acknowledged before is in the zones then.
    pub fn stop_changes(&self) {
        self.inner.door.stop_changes();
    }
}

impl Inner {
    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read())
    }
}
