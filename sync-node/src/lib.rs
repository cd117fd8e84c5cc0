//! A node that keeps zones of shared proxy state equal across a cluster: library and daemon.

pub mod api;
pub mod config;
pub mod status;
