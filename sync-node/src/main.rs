//! The `sync-node` daemon.
fn main() {}
