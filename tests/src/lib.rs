//! Harness for tests of real nodes: `sync-node` processes on loopback addresses of their own, real certificates,
//! a real DNS server, and HTTP as a client sees it.
//!
//! The other half is [`simulation`]: whole nodes without sockets, under a clock, a network and faults that a seed decides.
//!
//! A test claims a [`Cluster`], starts [`Node`]s in it, talks to their [`Api`], and waits with [`wait_for`]. Three
//! rules keep such tests honest and quick:
//!
//! - *No port is guessed.* Every node has a loopback address to itself ([`Loopback`]), claimed through the operating
//!   system, so ports are fixed and tests run in parallel, in one process or in several.
//! - *Every wait has a deadline* and says, when it passes, what was waited for and what was seen last.
//! - *Every process is ended by its id* when its handle is dropped; its log is printed if the test is failing.

mod api;
mod binary;
mod cluster;
mod config;
mod dns;
mod loopback;
mod network;
mod nginx;
mod node;
pub mod over_admission;
mod pki;
mod process;
mod proxy;
mod python;
mod repository;
pub mod simulation;
mod small_disk;
pub mod soak;
mod stranger;
mod traffic;
mod usage;
mod wait;

pub use api::{Api, Reply, Status, ZoneStatus};
pub use binary::{Ended, c_libraries, run_to_end, sync_node};
pub use cluster::{Cluster, digests_equal, put_reaches, same_records};
pub use config::{API_PORT, Config, Encryption, SYNC_PORT, Transport};
pub use dns::Dns;
pub use loopback::Loopback;
pub use network::Network;
pub use nginx::Nginx;
pub use node::Node;
pub use pki::{Authority, Identity};
pub use process::{Process, Signal};
pub use proxy::{Fault, Proxy};
pub use python::{python, run};
pub use repository::{Fence, block, change, fences, files, root};
pub use small_disk::SmallDisk;
pub use stranger::Stranger;
pub use traffic::{Acknowledged, Writers};
pub use usage::Usage;
pub use wait::{Elapsed, since_1970, wait_for};
