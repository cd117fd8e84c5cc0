//! A node that keeps zones of shared proxy state equal across a cluster: library and daemon.
//!
//! # The model
//!
//! A **node** holds **zones** in memory ([`sync_store`]): keyval zones (a table of keys and values), sticky zones (which server a session
//! belongs to), limit zones (how far a key is over its rate). The program that embeds the node reads and writes them directly; a read never
//! waits for anybody. What changes is published by itself, within about a network round trip, to every **peer**: each node that is in
//! its list of **servers** and has a zone of the same name and kind. Deletes travel, conflicts have one answer on all nodes, and a limit counts
//! for the whole cluster. What is promised, and what is not, is in `docs/semantics.md`.
//!
//! Two nodes share a **link** in each direction: who dials, sends. Peers prove who they are with certificates (mutual TLS) unless
//! plain text was asked for. A link that breaks is dialled again; what a peer lacks then is found by comparing version vectors and
//! sent. A node is **ready** when it has caught up with every peer that it can reach.
//!
//! ```
//! use std::time::Duration;
//! use sync_node::Node;
//! use sync_store::{Check, Expiry, KeyvalZone, LimitZone};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = |name: &str| {
//!     Node::builder(name)
//!         .plain_text() // in earnest: .tls(TlsOptions::new(certificate, key, authority))
//!         .listen("127.0.0.1:0".parse().expect("an address"))
//!         .keyval(KeyvalZone::builder("blocked").size(1 << 20))
//!         .limit(LimitZone::builder("clients").size(1 << 20).rate("100r/s".parse().expect("a rate")))
//! };
//! let (a, b) = (node("a").start().await?, node("b").start().await?);
//! // Where b listens is known only now; usually `servers` is a name in DNS, given to the builder.
//! a.set_servers(vec![b.listening()[0].to_string().parse()?]);
//!
//! let blocked = a.keyval("blocked").expect("the zone");
//! blocked.set("203.0.113.9", "spam", a.now(), Expiry::After(Duration::from_secs(600)))?;
//!
//! let elsewhere = b.keyval("blocked").expect("the zone");
//! while elsewhere.get("203.0.113.9", b.now()).is_none() {
//!     tokio::time::sleep(Duration::from_millis(1)).await;
//! }
//! let decision = b.limit("clients").expect("the zone").check("198.51.100.7", &Check::default(), b.now());
//! assert!(decision.is_admitted());
//!
//! assert!(a.shutdown(Duration::from_secs(5)).await, "everything was acknowledged");
//! # b.stop();
//! # Ok(())
//! # }
//! ```
//!
//! # The house
//!
//! | module | job |
//! |---|---|
//! | `replication`, `membership`, `link` | state machines, free of I/O: what to send, whom to dial, how a link lives and ends |
//! | `driver` | tasks that connect them to sockets, timers and the clock |
//! | [`NodeBuilder`], [`Node`], [`status`] | the way in, for programs |
//! | `state` | the files that keyval zones are kept in |
//! | [`config`], [`api`] | the way in, for operators: the file, and HTTP |
//! | `door`, `envoy_rls`, `haproxy`, `redis` | the ways in for other proxies: what all doors have in common, Envoy's rate limit service, the peers protocol of HAProxy, the Redis protocol |
//!
//! The binary `sync-node` is this library with a command line.

pub mod api;
mod builder;
pub mod config;
mod door;
mod driver;
#[cfg(feature = "envoy_rls")]
pub mod envoy_rls;
mod error;
#[cfg(feature = "haproxy")]
pub mod haproxy;
mod link;
mod membership;
mod node;
#[cfg(feature = "redis")]
pub mod redis;
mod replication;
#[cfg(feature = "simulation")]
pub mod simulation;
mod state;
pub mod status;

pub use builder::NodeBuilder;
pub use door::Listener;
pub use error::Error;
pub use node::Node;
pub use state::StateSync;

/// The examples of the documents compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
#[cfg(doctest)]
#[doc = include_str!("../../docs/embedding.md")]
struct Embedding;
#[cfg(doctest)]
#[doc = include_str!("../../docs/operations.md")]
struct Operations;
