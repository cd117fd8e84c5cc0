//! A node that keeps zones of shared proxy state equal across a cluster: library and daemon.

pub mod api;
mod builder;
pub mod config;
mod driver;
mod error;
mod membership;
mod node;
mod replication;
pub mod status;

pub use builder::NodeBuilder;
pub use error::Error;
pub use node::Node;
