//! The HAProxy door: a member of the peers protocol of HAProxy, versions 2.0 and 2.1, which an unchanged HAProxy takes for one of its kind.
//!
//! | module | job |
//! |---|---|
//! | `wire` | integers and messages |
//! | `hello`, `definition`, `entry` | what they say: who is there, the shape of a table, what a table has for a key |
//! | `tables` | which zone a table lies in |
//! | `counts` | counters and rates of several HAProxies, and their sums |
//! | `session`, `lesson` | the conversation with one HAProxy, and what it is taught; no I/O, no clock |
//! | `connection` | the task that feeds a session from a socket, with bounds and time-outs |
//!
//! HAProxies dial, and the node never does. Sessions lie in a sticky zone, and what one HAProxy learns the others know. Counters are another matter: among themselves HAProxies send each other
//! absolute values, and the last one wins, so counts are lost. Here each has a record of its own, and gets back the sum of all in a second table. See
//! `docs/integrations/haproxy.md`.
//!
//! ```no_run
//! use sync_node::haproxy::{Haproxy, Mapping, Options};
//! use sync_node::{Listener, Node};
//!
//! # async fn example(node: Node) -> Result<(), Box<dyn std::error::Error>> {
//! let mut options = Options::default();
//! options.tables.insert("app".to_owned(), Mapping::Sessions { zone: "sessions".to_owned(), servers: [].into() });
//! let listener = Listener::bind(&"127.0.0.1:10000".parse()?).await?;
//! Haproxy::new(node, options)?.serve(listener, std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod connection;
mod counts;
mod definition;
mod entry;
mod hello;
mod lesson;
mod session;
mod tables;
mod wire;

use crate::api::access::AccessList;
use crate::door::Door;
use crate::{Error, Node};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tables::Role;
use tokio::sync::oneshot;

/// Connections at a time, if not said otherwise: HAProxies, not their clients.
pub const CONNECTIONS: usize = 1024;
/// How long an HAProxy may be silent, if not said otherwise: it says something every three seconds.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// What a stick-table lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mapping {
    /// Sessions and their servers in this sticky zone.
    Sessions {
        /// The sticky zone.
        zone: String,
        /// The numbers, `server_id`, that servers have by name in the HAProxies of this node; for tables that do not store the name, `server_key`.
        servers: BTreeMap<String, u32>,
    },
    /// Counters and rates of each HAProxy in this keyval zone, and their sums in another table.
    Counters {
        /// The keyval zone.
        zone: String,
        /// The table that is filled with the sums.
        sum: String,
    },
}

/// What a door shows, and to whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of the peer that the node is, in the configuration of the HAProxies. Default: the name of the node.
    pub name: Option<String>,
    /// Stick-tables by name; others are passed over.
    pub tables: BTreeMap<String, Mapping>,
    /// HAProxies by address. Default: everybody.
    pub access: AccessList,
    /// Connections at a time.
    pub connections: usize,
    /// How long an HAProxy may be silent.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            tables: BTreeMap::new(),
            access: AccessList::default(),
            connections: CONNECTIONS,
            timeout: TIMEOUT,
        }
    }
}

/// The HAProxy door of one node; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Haproxy {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    door: Door,
    name: Arc<str>,
    roles: Arc<BTreeMap<String, Role>>,
    access: RwLock<AccessList>,
    /// HAProxies that are connected, each with the word that ends its connection.
    peers: Mutex<BTreeMap<String, oneshot::Sender<()>>>,
    connections: usize,
    timeout: Duration,
}

impl Haproxy {
    /// A door of a node, closed yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchZone`]; [`Error::Setting`] if a table would have two meanings.
    pub fn new(node: Node, options: Options) -> Result<Self, Error> {
        let inner = Inner {
            name: options.name.as_deref().unwrap_or_else(|| node.name()).into(),
            roles: Arc::new(tables::roles(&node, &options)?),
            access: RwLock::new(options.access),
            peers: Mutex::default(),
            connections: options.connections,
            timeout: options.timeout,
            door: Door::new(node, "haproxy_peers"),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Replaces who may connect. Who would not be let in any more is disconnected when it next says something.
    pub fn set_access(&self, access: AccessList) {
        *self.inner.access.write() = access;
    }

    /// Takes nothing more from now on, and returns when nothing is being taken any more. What was acknowledged before is in the zones then.
    pub fn stop_changes(&self) {
        self.inner.door.stop_changes();
    }
}

impl Inner {
    /// An HAProxy has connected: the connection that it had before, which it has given up or is about to, is ended. What is returned says when this one is.
    fn remember(&self, peer: &str) -> oneshot::Receiver<()> {
        let (end, ended) = oneshot::channel();
        // The former sender is dropped, which is the word.
        self.peers.lock().insert(peer.to_owned(), end);
        ended
    }

    /// An HAProxy has gone, unless it has connected once more.
    fn forget(&self, peer: &str, ended: Option<&mut oneshot::Receiver<()>>) {
        let mut peers = self.peers.lock();
        let is_last = ended.is_some_and(|ended| ended.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        if is_last {
            peers.remove(peer);
        }
    }
}
