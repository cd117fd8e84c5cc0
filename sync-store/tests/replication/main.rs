//! Keyval and sticky zones as replication uses them: whatever becomes of the batches on the way, all nodes end equal.
#![cfg(not(loom))]

mod convergence;
mod full;
mod merge;
mod scan;
mod support;
