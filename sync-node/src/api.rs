//! The HTTP API of a node.
//!
//! | path | methods | needs | module |
//! |---|---|---|---|
//! | `/healthz`, `/readyz` | GET | an allowed address | `health` |
//! | `/v1/status` | GET | | `health` |
//! | `/api/…` | GET; POST, PATCH, DELETE | `write` for the latter | `plus`, as the API of NGINX Plus answers |
//! | `/v1/limit_req/{zone}` | POST | `decide` | `decide` |
//! | `/v1/auth_request` | GET | `decide`, if it asks about a limit | `auth_request` |
//! | `/v1/sticky/{zone}/{session}` | GET; PUT, DELETE | `decide` for the latter | `decide` |
//!
//! Every request passes the `guard` first: the client's address, then its password. GET implies HEAD.
//!
//! Two switches, because there are two kinds of clients. `write` is for people and their tools, who put keys into tables. `decide` is for
//! the proxy beside the node, which asks and in asking uses up rate; whoever may ask can exhaust somebody's limit, so it has to be
//! granted too, but a proxy has no business in the tables.
//!
//! axum routes and extracts; `server` drives its router with hyper, for the limits that `axum::serve` has no words for (time for the
//! head of a request, its size, connections). A program that has a server of its own mounts [`Api::router`].

pub mod access;
mod auth_request;
mod decide;
pub(crate) mod guard;
mod health;
mod json;
mod pairs;
mod plus;
mod problem;
mod server;
mod timestamp;
pub mod users;

pub use crate::door::Client;

use crate::Node;
use crate::door::{Counters, Door};
use access::AccessList;
use axum::Router;
use axum::routing::{any, get, post};
use parking_lot::RwLock;
use problem::Problem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use sync_store::{KeyvalZone, Replica, Time};
use users::UsersFile;

/// What clients of the API may do. The default is what a configuration without a word grants: everybody may read.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Change zones and reset counters: POST, PATCH and DELETE under `/api`. Default: false. (`api write=on`)
    pub write: bool,
    /// Decide: `POST /v1/limit_req` and `GET /v1/auth_request`, which use up rate, and PUT and DELETE on `/v1/sticky`. Default here false, in a file as `write`.
    pub decide: bool,
    /// Clients by address. Default: everybody. (`allow`, `deny`)
    pub access: AccessList,
    /// Users and the hashes of their passwords. Default: no password is asked for. (`auth_basic_user_file`)
    pub users: Option<UsersFile>,
}

/// The HTTP API of one node; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    door: Door,
    grants: RwLock<Arc<Grants>>,
    /// Configurations loaded so far, and when the last was.
    generation: AtomicU64,
    loaded_at: AtomicU64,
}

impl Api {
    /// An API for a node, with what its clients may do.
    pub fn new(node: Node, grants: Grants) -> Self {
        let loaded_at = AtomicU64::new(node.now().as_millis());
        let inner = Inner {
            door: Door::new(node, "api"),
            grants: RwLock::new(Arc::new(grants)),
            generation: AtomicU64::new(1),
            loaded_at,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Every path of the API, to be served by [`Api::serve`] or by a server of your own.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/healthz", get(health::alive))
            .route("/readyz", get(health::ready))
            .route("/v1/status", get(health::status))
            .route("/v1/limit_req/{zone}", post(decide::limit_req))
            .route("/v1/auth_request", get(auth_request::answer))
            .route(
                "/v1/sticky/{zone}/{session}",
                get(decide::lookup).put(decide::learn).delete(decide::forget),
            )
            .route("/v1/keyval/{zone}", get(pairs::export).post(pairs::import))
            .route("/api", any(plus::answer))
            .route("/api/", any(plus::answer))
            .route("/api/{*path}", any(plus::answer))
            .fallback(async || Problem::path_not_found())
            .method_not_allowed_fallback(async || Problem::method_not_allowed())
            .layer(axum::middleware::from_fn_with_state(self.clone(), guard::guard))
            .with_state(self.clone())
    }

    /// Replaces what clients may do, from the next request on.
    pub fn set_grants(&self, grants: Grants) {
        *self.inner.grants.write() = Arc::new(grants);
        self.inner.generation.fetch_add(1, Ordering::Relaxed);
        self.inner.loaded_at.store(self.node().now().as_millis(), Ordering::Relaxed);
    }

    /// Refuses changes from now on (503), and returns when none is under way any more. What was acknowledged before is in the zones then.
    pub fn stop_changes(&self) {
        self.inner.door.stop_changes();
    }

    fn node(&self) -> &Node {
        self.inner.door.node()
    }

    fn grants(&self) -> Arc<Grants> {
        Arc::clone(&self.inner.grants.read())
    }

    fn counters(&self) -> &Counters {
        self.inner.door.counters()
    }

    /// Makes a change to a zone, unless the node is stopping.
    fn change<T>(&self, change: impl FnOnce(Time) -> Result<T, Problem>) -> Result<T, Problem> {
        let _changing = self.inner.door.begin_change().ok_or_else(Problem::stopping)?;
        change(self.node().now())
    }

    /// Waits until the changes made to a zone so far are in its state file, if it has one.
    async fn saved(&self, zone: &KeyvalZone) -> Result<(), Problem> {
        self.node().saved(zone.name()).await.map_err(|error| Problem::unsaved(&error))
    }

    /// Runs what keeps a thread busy for long where it holds up nobody else.
    async fn heavy<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let api = self.clone();
        // The work does not panic by its own contract; it would be our fault.
        self.inner.door.heavy(move || work(&api)).await.ok_or_else(Problem::internal)
    }
}
