//! Handshakes under way, bounded: where there is no room for one more, the oldest gives way.
//!
//! Whoever is still at it after so many others have come most likely says nothing. If the newest were refused instead, a few
//! dozen connections that say nothing, opened anew whenever they are given up, would keep every peer out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Who is in a handshake.
#[derive(Debug)]
pub(crate) struct Handshakes {
    max: usize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    /// By age. A dropped sender tells its place to give way.
    taken: BTreeMap<u64, oneshot::Sender<()>>,
}

/// The place of one handshake, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    lost: oneshot::Receiver<()>,
    handshakes: Arc<Handshakes>,
}

impl Handshakes {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, places: Mutex::default() })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, that of the oldest if all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Place {
        let (keep, lost) = oneshot::channel();
        let mut places = self.places();
        if places.taken.len() >= self.max {
            places.taken.pop_first();
        }
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, keep);
        Place { number, lost, handshakes: Arc::clone(self) }
    }
}

impl Place {
    /// Resolves when a newer handshake has taken this place.
    pub(crate) async fn lost(&mut self) {
        // Nothing is ever sent: this ends when the sender is dropped.
        let _ = (&mut self.lost).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handshakes.places().taken.remove(&self.number);
    }
}
