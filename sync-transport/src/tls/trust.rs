//! Trust in a peer for as long as its connection stands.
//!
//! A handshake proves that a certificate is good at that moment. Connections live for days; meanwhile
//! certificates expire, are revoked, or come from an authority that is trusted no more.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::time::sleep;

use super::explain::explain;
use super::identity::{not_after, now};
use super::{Loaded, TlsConfig};
use crate::{Address, CertificateFault, Error};

/// The longest time between two looks at the clock, which may be set, or stand still while the machine
/// sleeps.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Which side of the handshake the peer was on.
#[derive(Clone)]
pub(crate) enum Role {
    /// It was dialled, as this host.
    Dialled { host: String },
    /// It dialled us.
    Dialling,
}

/// What makes a peer trusted: its certificate, and what that was verified with.
/// Made by [`Connection::trust`](crate::Connection::trust).
#[derive(Clone)]
pub struct Trust {
    peer: Address,
    chain: Vec<CertificateDer<'static>>,
    role: Role,
    loaded: watch::Receiver<Arc<Loaded>>,
    /// Sees to it that there is somebody to hear from.
    _config: TlsConfig,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Trust {
    /// `loaded` is what the handshake was done with, and marks it as seen.
    pub(super) fn new(
        peer: Address,
        chain: Vec<CertificateDer<'static>>,
        role: Role,
        loaded: watch::Receiver<Arc<Loaded>>,
        config: TlsConfig,
    ) -> Self {
        Self { peer, chain, role, loaded, _config: config }
    }

    /// Waits until the peer's certificate is no longer good enough, and says why: it has expired, or what
    /// [`TlsConfig::reload`] or [`TlsConfig::replace`] has brought speaks against it.
    ///
    /// Closing the connection is up to the caller.
    pub async fn lost(mut self) -> Error {
        loop {
            let look = self.next_look();
            let is_reloaded = tokio::select! {
                // The sender lives as long as `_config`.
                _ = self.loaded.changed() => true,
                () = sleep(look) => false,
            };
            let loaded = Arc::clone(&self.loaded.borrow_and_update());
            match self.verify(&loaded) {
                Ok(()) => {}
                // That a list goes out of date is no news of the peer, and would cut a whole cluster.
                Err(Error::BadPeerCertificate { fault: CertificateFault::RevocationUnknown, .. })
                    if !is_reloaded => {}
                Err(error) => return error,
            }
        }
    }

    /// Verifies the certificate as a handshake at this moment would.
    pub(crate) fn verify(&self, loaded: &Loaded) -> Result<(), Error> {
        loaded.verify(&self.chain, &self.role).map_err(|error| explain(self.peer.clone(), &error))
    }

    /// Time until a certificate of the chain expires that has not yet: it is valid through that second.
    fn next_look(&self) -> Duration {
        let now = now();
        let expiries = self.chain.iter().filter_map(not_after).map(|last| last.saturating_add(1));
        let next = expiries.filter(|expiry| *expiry > now).min();
        let seconds = next.and_then(|expiry| u64::try_from(expiry.saturating_sub(now)).ok());
        seconds.map_or(LOOK_INTERVAL, |seconds| Duration::from_secs(seconds).min(LOOK_INTERVAL))
    }
}
