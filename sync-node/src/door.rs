//! What every door of a node has in common, whatever is spoken at it: a socket with bounds, who is there, a moment from which nothing is changed
//! any more, turns for what takes long, and figures.
//!
//! A door is a protocol by which other programs use the zones of this node: the [HTTP API](crate::api), Redis, the peers protocol of HAProxy. Peers of the cluster do not come by a door.

mod counters;
mod listener;
mod patient;

pub(crate) use counters::Counters;
pub use listener::Listener;

use crate::Node;
use listener::Stream;
use parking_lot::{RwLock, RwLockReadGuard};
use patient::Patient;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// A client's connection.
pub(crate) type Connection = Patient<Box<dyn Stream>>;

/// Requests at a time that keep a thread busy for long: whole zones read, passwords verified. More of them wait, in order.
const HEAVY_MAX: usize = 2;

/// The client of a request; a server that mounts [`Api::router`](crate::api::Api::router) puts it into the extensions of every request. Without it the client
/// counts as one of a Unix socket.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Client {
    /// Its address; `None` on a Unix socket.
    pub address: Option<IpAddr>,
}

impl Client {
    /// A client at an address, or of a Unix socket.
    pub const fn new(address: Option<IpAddr>) -> Self {
        Self { address }
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("unix:"),
        }
    }
}

/// One door of a node.
#[derive(Debug)]
pub(crate) struct Door {
    node: Node,
    counters: Arc<Counters>,
    /// Whether changes are taken. A change holds it for reading while it is made, so that after [`Door::stop_changes`] none is under way.
    taking_changes: RwLock<bool>,
    heavy: Semaphore,
}

impl Door {
    /// A door whose figures are shown by the node under this name.
    pub(crate) fn new(node: Node, name: &'static str) -> Self {
        let counters = node.door_counters(name);
        Self { node, counters, taking_changes: RwLock::new(true), heavy: Semaphore::new(HEAVY_MAX) }
    }

    pub(crate) const fn node(&self) -> &Node {
        &self.node
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Refuses changes from now on, and returns when none is under way any more. What was acknowledged before is in the zones then.
    pub(crate) fn stop_changes(&self) {
        *self.taking_changes.write() = false;
    }

    /// To be held while a change is made; `None`: the node is stopping, and there is to be none.
    pub(crate) fn begin_change(&self) -> Option<RwLockReadGuard<'_, bool>> {
        let taking_changes = self.taking_changes.read();
        (*taking_changes && !self.node.is_stopping()).then_some(taking_changes)
    }

    /// Runs what keeps a thread busy for long where it holds up nobody else. `None`: it panicked.
    pub(crate) async fn heavy<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // The semaphore is never closed.
        let _turn = self.heavy.acquire().await.ok()?;
        tokio::task::spawn_blocking(work).await.ok()
    }
}
