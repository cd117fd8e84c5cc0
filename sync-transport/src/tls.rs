//! Who we are and whom we trust: certificates, keys and authorities, for both directions.
//!
//! Authentication is mutual unless it is turned off: whoever dials verifies that the peer's certificate
//! is signed by a trusted authority *and* is for the name dialled; whoever accepts demands a certificate
//! and verifies that it is signed by a trusted authority. Both can be told more: which names are let in,
//! which certificates are revoked. One certificate serves both directions unless there is another for
//! dialing; an extended key usage, if there is one, has to allow `serverAuth`, `clientAuth` or both
//! accordingly.
//!
//! Trust is not for ever: [`Trust`] says when a certificate that a connection was made with is no longer
//! good enough.
//!
//! Sessions are resumed only if asked for. It saves 150 µs of the 310 that both sides of a handshake take
//! together (TLS 1.3, P-256, measured), and a link lives for days. The price: a connection that is closed
//! while tickets lie unread makes the kernel reset it, and the reset overtakes data (measured: 3 MB of
//! 1 GiB lost); and a peer whose certificate is no longer good gets no alert that says so. What makes it
//! sound all the same: the sessions belong to what was loaded, so that any reload forgets them; a peer that
//! resumes is verified as in a full handshake; and tickets come before anything else that the accepting side
//! sends, so whoever has read a frame has read them.

mod cipher;
pub(crate) mod explain;
mod files;
mod identity;
mod key;
mod key_log;
mod loaded;
mod options;
mod pattern;
mod pem;
mod trust;
mod verify;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::{CommonState, HandshakeKind, ProtocolVersion};
use tokio::sync::watch;

pub use cipher::CipherSuite;
pub(crate) use loaded::Loaded;
pub use options::{TlsOptions, TlsVersion};
pub use pattern::NamePattern;
pub use pem::Pem;
pub(crate) use trust::Role;
pub use trust::Trust;
#[cfg(feature = "quic")]
pub(crate) use verify::signatures_by_inner;

use crate::connection::TlsSession;
use crate::{Address, Error, PeerIdentity};
use files::Stamps;

/// TLS, ready for use by connectors and listeners, and replaceable under them.
///
/// Clones share one state: [`reload`](Self::reload) on any of them changes all. Connections that are
/// established go on with what they were made with; [`Trust::lost`] tells if they should not.
#[derive(Clone)]
pub struct TlsConfig {
    shared: Arc<Shared>,
}

struct Shared {
    loaded: watch::Sender<Arc<Loaded>>,
    files: Mutex<Files>,
}

/// What the files were like.
#[derive(Default)]
struct Files {
    /// When they were last read, with or without success.
    read: Stamps,
    /// When they were last looked at.
    seen: Stamps,
}

/// What a handshake is done with.
pub(crate) struct Handshake {
    pub(crate) loaded: Arc<Loaded>,
    receiver: watch::Receiver<Arc<Loaded>>,
    config: TlsConfig,
}

impl TlsConfig {
    /// Reads and checks everything that the options name.
    ///
    /// # Errors
    /// [`Error::Certificate`] names the setting, the file and the cause: not found, nothing of the kind
    /// in it, the key belongs to another certificate, our certificate is expired or not valid yet, a CRL
    /// is out of date, and so on. [`Error::InvalidName`] and [`Error::InvalidOption`] for the rest of the
    /// options.
    pub fn load(options: &TlsOptions) -> Result<Self, Error> {
        let stamps = Stamps::of(options.files());
        let loaded = watch::Sender::new(Arc::new(Loaded::new(options)?));
        let files = Mutex::new(Files { read: stamps.clone(), seen: stamps });
        Ok(Self { shared: Arc::new(Shared { loaded, files }) })
    }

    /// Reads the same files again, for handshakes from now on.
    ///
    /// # Errors
    /// As [`load`](Self::load); then what was in use before stays in use.
    pub fn reload(&self) -> Result<(), Error> {
        let (mut files, options) = (self.files(), self.options());
        // Also if they are refused: once is enough.
        files.read = Stamps::of(options.files());
        self.replace_under(&mut files, &options)
    }

    /// Reads the files again if they have changed since they were read, and have kept still since the
    /// call before this one: who writes several files takes a moment. `None` if there was nothing to do.
    /// To be called every few seconds, where blocking is allowed.
    ///
    /// # Errors
    /// As [`load`](Self::load), once for each change; then what was in use before stays in use.
    pub fn reload_changed(&self) -> Option<Result<(), Error>> {
        let mut files = self.files();
        let options = self.options();
        let stamps = Stamps::of(options.files());
        let is_due = stamps != files.read && stamps == files.seen;
        files.seen = stamps;
        is_due.then(|| {
            files.read = files.seen.clone();
            self.replace_under(&mut files, &options)
        })
    }

    /// Changes to other options, for handshakes from now on.
    ///
    /// # Errors
    /// As [`load`](Self::load); then what was in use before stays in use.
    pub fn replace(&self, options: &TlsOptions) -> Result<(), Error> {
        self.replace_under(&mut self.files(), options)
    }

    fn replace_under(&self, files: &mut Files, options: &TlsOptions) -> Result<(), Error> {
        // Looked at before they are read: what changes in between is noticed.
        let stamps = Stamps::of(options.files());
        let loaded = Arc::new(Loaded::new(options)?);
        *files = Files { read: stamps.clone(), seen: stamps };
        self.shared.loaded.send_replace(loaded);
        Ok(())
    }

    fn options(&self) -> TlsOptions {
        self.shared.loaded.borrow().options.clone()
    }

    fn files(&self) -> std::sync::MutexGuard<'_, Files> {
        self.shared.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn handshake(&self) -> Handshake {
        let mut receiver = self.shared.loaded.subscribe();
        let loaded = Arc::clone(&receiver.borrow_and_update());
        Handshake { loaded, receiver, config: self.clone() }
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").field("options", &self.options()).finish_non_exhaustive()
    }
}

impl Handshake {
    /// Who the peer turned out to be, the handshake being done, and what makes it trusted.
    pub(crate) fn identify(
        self,
        peer: &Address,
        role: Role,
        session: &CommonState,
    ) -> Result<(PeerIdentity, Trust), Error> {
        let chain: Vec<_> =
            session.peer_certificates().unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect();
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
            // No other version is implemented.
            _ => TlsVersion::Tls13,
        };
        let is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let group = session.negotiated_key_exchange_group();
        let tls = TlsSession {
            version,
            cipher_suite: session.negotiated_cipher_suite().map(cipher::iana_name),
            key_exchange: group.map(|group| format!("{:?}", group.name())),
            is_resumed,
        };
        let loaded = Arc::clone(&self.loaded);
        let (identity, trust) = self.trusted(peer, role, chain, tls);
        if is_resumed {
            // rustls takes it that who was good once is good still.
            trust.verify(&loaded)?;
        }
        Ok((identity, trust))
    }

    /// Who the peer is that has shown this chain in a handshake that is done, and what makes it trusted.
    pub(crate) fn trusted(
        self,
        peer: &Address,
        role: Role,
        chain: Vec<CertificateDer<'static>>,
        session: TlsSession,
    ) -> (PeerIdentity, Trust) {
        let Self { loaded, receiver, config } = self;
        let names = loaded.peer_names(&chain);
        let trust = Trust::new(peer.clone(), chain, role, receiver, config);
        (PeerIdentity { address: peer.clone(), names, tls: Some(session) }, trust)
    }
}
