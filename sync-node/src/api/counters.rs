//! What the API counts about itself, for `connections`, `http/requests` and `workers`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Connections and requests since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    accepted: AtomicU64,
    dropped: AtomicU64,
    open: AtomicU64,
    requests: AtomicU64,
    current: AtomicU64,
}

impl Counters {
    /// Counts a connection while what is returned lives.
    pub(super) fn connection(&self) -> Counted<'_> {
        self.accepted.fetch_add(1, Relaxed);
        Counted::new(&self.open)
    }

    /// Counts a connection that is closed for lack of room.
    pub(super) fn dropped_connection(&self) {
        self.accepted.fetch_add(1, Relaxed);
        self.dropped.fetch_add(1, Relaxed);
    }

    /// Counts a request while what is returned lives.
    pub(super) fn request(&self) -> Counted<'_> {
        self.requests.fetch_add(1, Relaxed);
        Counted::new(&self.current)
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Connections with a request under way: HTTP/1 has one at a time.
    pub(super) fn active(&self) -> u64 {
        self.current()
    }

    pub(super) fn idle(&self) -> u64 {
        self.open.load(Relaxed).saturating_sub(self.current())
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub(super) fn current(&self) -> u64 {
        self.current.load(Relaxed)
    }
}

/// Something that is counted as long as it lives.
#[derive(Debug)]
pub(super) struct Counted<'c> {
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
