//! The store against hostile input: keys, sizes, clocks, numbers and rows that somebody chose to do harm.
#![cfg(not(loom))]

mod batches;
mod clocks;
mod extremes;
mod flooding;
mod keys;
mod rows;
mod sequences;
mod sizes;
mod support;
