//! The door for Envoy, and for all that asks a rate limit service as Envoy does: `envoy.service.ratelimit.v3` and `envoy.service.rate_limit_quota.v3` over gRPC.
//!
//! | module | job |
//! |---|---|
//! | `schema` | what is generated from Envoy's schema |
//! | `rules`, `yaml` | which limit is in force for a descriptor; reading that from files |
//! | `decide`, `headers` | from a request to its answer; no I/O, no clock |
//! | `quota` | from reports to assignments, of one stream; no I/O, no clock |
//! | `stream` | streams of reports and assignments, with their time-outs |
//! | `service` | the gRPC services: decisions, quotas, health, reflection |
//! | `connection` | HTTP/2 with bounds and time-outs, and who may come in |
//!
//! One limit zone counts for all rules, and so for the whole cluster; see `docs/integrations/envoy.md`.
//!
//! ```no_run
//! use sync_node::envoy_rls::{EnvoyRls, Options, Rules};
//! use sync_node::{Listener, Node};
//!
//! # async fn example(node: Node) -> Result<(), Box<dyn std::error::Error>> {
//! let rules = Rules::load(&["envoy-rules.yaml".into()])?;
//! let door = EnvoyRls::new(node, Options { limit: "req".to_owned(), rules, ..Options::default() })?;
//! let listener = Listener::bind(&"127.0.0.1:8081".parse()?).await?;
//! door.serve(listener, std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod connection;
mod decide;
mod headers;
mod quota;
mod rules;
mod schema;
mod service;
mod stream;
mod yaml;

pub use headers::Form;
pub use rules::{Rules, RulesError};

use crate::api::access::AccessList;
use crate::api::users::UsersFile;
use crate::door::Door;
use crate::{Error, Node};
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;
use sync_store::LimitZone;

/// Connections at a time, if not said otherwise: as many as of the API.
pub const CONNECTIONS: usize = 1024;
/// How long a connection may be without a request, if not said otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// What a door decides by, and for whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// The limit zone that counts. Its own rate and burst mean nothing here: rules have theirs.
    pub limit: String,
    /// The rules.
    pub rules: Rules,
    /// Which headers answers carry, for Envoy to add to its response.
    pub response_headers: Vec<Form>,
    /// Clients, by address.
    pub access: AccessList,
    /// Clients, by password; `None`: all whose address is allowed. Health is answered without one.
    pub users: Option<UsersFile>,
    /// Connections at a time.
    pub connections: usize,
    /// How long a connection may be without a request, and a stream without a report; `None`: for ever.
    pub timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limit: String::new(),
            rules: Rules::default(),
            response_headers: Vec::new(),
            access: AccessList::default(),
            users: None,
            connections: CONNECTIONS,
            timeout: Some(TIMEOUT),
        }
    }
}

/// The door of one node; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct EnvoyRls {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    door: Door,
    zone: Arc<LimitZone>,
    /// Of these, what a reload may change is looked up for each request.
    options: RwLock<Arc<Options>>,
}

impl EnvoyRls {
    /// A door of a node, closed yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchZone`].
    pub fn new(node: Node, options: Options) -> Result<Self, Error> {
        let zone = node.limit(&options.limit).ok_or_else(|| Error::NoSuchZone {
            name: options.limit.clone(),
            purpose: "of the kind limit for the door for Envoy",
        })?;
        let inner =
            Inner { zone, options: RwLock::new(Arc::new(options)), door: Door::new(node, "envoy_rls") };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Replaces the rules, the headers and who may come in, from the next request on. The zone and the bounds stay. What was counted stays too: a rule that is
    /// still there goes on from where it was.
    pub fn set_options(&self, options: Options) {
        *self.inner.options.write() = Arc::new(options);
    }

    /// Refuses to decide from now on, and returns when no decision is under way any more. What was charged before is in the zone then.
    pub fn stop_changes(&self) {
        self.inner.door.stop_changes();
    }
}

impl Inner {
    fn options(&self) -> Arc<Options> {
        Arc::clone(&self.options.read())
    }
}
