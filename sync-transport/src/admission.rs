//! Who may hold how many connections: all peers together, and each address.
//!
//! Without the second bound whoever reaches the port could take every connection that there is. The addresses of an IPv6 network of 64 bits count as one:
//! whoever has one of them has all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Address, Error};

/// The bits of an IPv6 address that name a network.
const NETWORK: u128 = !0 << 64;

/// From where a peer dials; `None` for Unix sockets, where nobody has an address.
pub(crate) fn origin(peer: &Address) -> Option<IpAddr> {
    match peer {
        Address::Tcp(peer) | Address::Quic(peer) => Some(match peer.ip() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & NETWORK)),
            ip @ IpAddr::V4(_) => ip,
        }),
        Address::Unix(_) => None,
    }
}

/// The connections that are open.
#[derive(Debug)]
pub(crate) struct Admission {
    all: Arc<Semaphore>,
    max: usize,
    max_per_address: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's share, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    address: Option<IpAddr>,
    admission: Arc<Admission>,
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Arc<Self> {
        Arc::new(Self { all: Arc::new(Semaphore::new(max)), max, max_per_address, open: Mutex::default() })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a peer, unless that were one too many.
    pub(crate) fn admit(self: &Arc<Self>, peer: &Address) -> Result<Admitted, Error> {
        let Ok(permit) = Arc::clone(&self.all).try_acquire_owned() else {
            return Err(Error::TooManyConnections { peer: peer.clone(), limit: self.max });
        };
        let address = origin(peer);
        if let Some(address) = address {
            let mut open = self.open();
            let count = open.entry(address).or_default();
            if *count >= self.max_per_address {
                return Err(Error::TooManyFromAddress { peer: peer.clone(), limit: self.max_per_address });
            }
            *count += 1;
        }
        Ok(Admitted { address, admission: Arc::clone(self), _permit: permit })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut open = self.admission.open();
        if let Some(count) = open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Address {
        address.parse().expect("an address")
    }

    #[test]
    fn an_address_has_its_share_and_networks_are_one() {
        let admission = Admission::new(5, 2);
        let admit = |address: &str| admission.admit(&peer(address));
        let first = admit("192.0.2.1:1").expect("room");
        let _second = admit("192.0.2.1:2").expect("room");
        let error = admit("192.0.2.1:3").expect_err("one too many");
        assert!(matches!(error, Error::TooManyFromAddress { limit: 2, .. }), "{error}");
        let _other = [admit("[2001:db8::1]:1").expect("room"), admit("[2001:db8::ffff:2]:1").expect("room")];
        admit("[2001:db8::3]:1").expect_err("the same network");
        drop(first);
        let _again = admit("192.0.2.1:3").expect("one has left");
        let _last = admit("unix:/nowhere").expect("room, and no address");
        let error = admit("unix:/nowhere").expect_err("all are taken");
        assert!(matches!(error, Error::TooManyConnections { limit: 5, .. }), "{error}");
        drop(_again);
        assert_eq!(admission.open().len(), 2, "who has none is not remembered");
    }
}
