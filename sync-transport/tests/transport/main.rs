//! Behaviour of the crate over real sockets on loopback, with certificates made on the spot.

#![allow(clippy::unwrap_used, reason = "clippy allows it in test functions, but not in what they share")]

mod certificates;
mod discovery;
mod foreign;
mod frames;
mod keys;
mod limits;
mod link;
mod names;
#[cfg(feature = "quic")]
mod quic;
mod refusals;
mod revocation;
mod sessions;
mod tls;
mod trust;
mod unix;
