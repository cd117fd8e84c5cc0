//! Handshakes under way, bounded: where there is no room for one more, the oldest gives way, of the address that has the most of them.
//!
//! Whoever is still at it after so many others have come most likely says nothing. If the newest were refused instead, a few
//! dozen connections that say nothing, opened anew whenever they are given up, would keep every peer out. And a crowd from one address gives up its own
//! places, not those of others, however fast it comes.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
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
    /// By age, with the address that took it. A dropped sender tells its place to give way.
    taken: BTreeMap<u64, (Option<IpAddr>, oneshot::Sender<()>)>,
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

    /// Takes a place for a peer that dials from `address`. If all are taken, another gives way.
    pub(crate) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Place {
        let (keep, lost) = oneshot::channel();
        let mut places = self.places();
        if places.taken.len() >= self.max {
            places.give_way();
        }
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, (address, keep));
        Place { number, lost, handshakes: Arc::clone(self) }
    }
}

impl Places {
    fn give_way(&mut self) {
        let mut counts: HashMap<Option<IpAddr>, usize> = HashMap::new();
        self.taken.values().for_each(|(address, _)| *counts.entry(*address).or_default() += 1);
        let most = counts.values().copied().max();
        let oldest = self.taken.iter().find(|(_, (address, _))| counts.get(address).copied() == most);
        if let Some(number) = oldest.map(|(&number, _)| number) {
            self.taken.remove(&number);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_from_one_address_gives_up_its_own_places() {
        let handshakes = Handshakes::new(4);
        let [crowd, other] = [1, 2].map(|last| Some(IpAddr::from([192, 0, 2, last])));
        let mut first = handshakes.take(other);
        let places: Vec<Place> = (0..100).map(|_| handshakes.take(crowd)).collect();
        assert!(first.lost.try_recv() == Err(oneshot::error::TryRecvError::Empty), "it keeps its place");
        let kept = |mut place: Place| place.lost.try_recv() == Err(oneshot::error::TryRecvError::Empty);
        assert_eq!(places.into_iter().map(kept).collect::<Vec<_>>()[97..], [true; 3]);
    }
}
