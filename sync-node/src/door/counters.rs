//! What a door counts about itself: for the status of the node, and for `connections`, `http/requests` and `workers` of the API.

use crate::status::DoorStatus;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Connections and requests since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    dropped: AtomicU64,
    open: AtomicU64,
    requests: AtomicU64,
    current: AtomicU64,
    errors: AtomicU64,
}

impl Counters {
    /// Counts a connection while what is returned lives.
    pub(crate) fn connection(&self) -> Counted<'_> {
        self.accepted.fetch_add(1, Relaxed);
        Counted::new(&self.open)
    }

    /// Counts a connection that is closed for lack of room.
    pub(crate) fn dropped_connection(&self) {
        self.accepted.fetch_add(1, Relaxed);
        self.dropped.fetch_add(1, Relaxed);
    }

    /// Counts a request while what is returned lives.
    pub(crate) fn request(&self) -> Counted<'_> {
        self.requests.fetch_add(1, Relaxed);
        Counted::new(&self.current)
    }

    /// Counts requests of a door that answers many at once, so many of them with an error.
    #[cfg(any(feature = "haproxy", feature = "redis"))]
    pub(crate) fn answered(&self, requests: u64, errors: u64) {
        self.requests.fetch_add(requests, Relaxed);
        if errors > 0 {
            self.errors.fetch_add(errors, Relaxed);
        }
    }

    /// Counts an answer that is an error.
    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(crate) fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Connections with a request under way: HTTP/1 has one at a time.
    pub(crate) fn active(&self) -> u64 {
        self.current()
    }

    pub(crate) fn idle(&self) -> u64 {
        self.open().saturating_sub(self.current())
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub(crate) fn current(&self) -> u64 {
        self.current.load(Relaxed)
    }

    /// As the node's status shows them.
    pub(crate) fn status(&self) -> DoorStatus {
        DoorStatus {
            connections: self.open(),
            connections_accepted: self.accepted(),
            connections_dropped: self.dropped(),
            requests: self.requests(),
            errors: self.errors.load(Relaxed),
        }
    }
}

/// Something that is counted as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted<'c> {
    gauge: &'c AtomicU64,
}

impl<'c> Counted<'c> {
    fn new(gauge: &'c AtomicU64) -> Self {
        gauge.fetch_add(1, Relaxed);
        Self { gauge }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.gauge.fetch_sub(1, Relaxed);
    }
}
