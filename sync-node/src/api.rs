//! The HTTP API of a node.

pub mod access;
pub mod users;
