//! What can go wrong, whose fault it is, and with whom.

use std::io;
use std::time::Duration;

use crate::{Address, Server};

/// Every error of this crate. The variants are grouped by whose fault it is; each names the other side.
///
/// After an error from [`recv`](crate::FrameReceiver::recv) or [`send`](crate::FrameSender::send) the
/// connection is of no more use in that direction, and which of the frames sent reached the peer is
/// unknown. An error of one direction does not spoil the other: when `send` fails, what the peer said
/// before it hung up is still there for `recv`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Ours: what was configured or asked for.
    /// A text is not an [`Address`].
    #[error("{text:?} is not an address: {reason}")]
    InvalidAddress {
        /// What was written.
        text: String,
        /// What is wrong with it, and what to write instead.
        reason: &'static str,
    },
    /// A text is not a [`Server`].
    #[error("{text:?} is not a server: {reason}")]
    InvalidServer {
        /// What was written.
        text: String,
        /// What is wrong with it, and what to write instead.
        reason: &'static str,
    },
    /// An option has a value that makes no sense.
    #[error("{option}: {reason}")]
    InvalidOption {
        /// The option, by the name operators know.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate, key or authority cannot be used.
    #[error("{option} {file}: {cause}")]
    Certificate {
        /// The setting, such as `certificate_key` or `crl`.
        option: &'static str,
        /// The file, or `(in memory)`.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The name to verify in the peer's certificate is neither a host name nor an IP address.
    #[error("{name:?} cannot be verified in a certificate: it is neither a host name nor an IP address")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// QUIC cannot be used: this build is without it, or TLS is set up so that there can be none.
    #[error("{address} cannot be used: {reason}")]
    NoQuic {
        /// The address.
        address: Address,
        /// What is missing.
        reason: &'static str,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {}", describe_io(.source))]
    Bind {
        /// The address.
        address: Address,
        /// The cause.
        source: io::Error,
    },
    /// The listener is broken and will accept nobody any more.
    #[error("cannot accept connections on {address}: {}", describe_io(.source))]
    Accept {
        /// The address listened on.
        address: Address,
        /// The cause.
        source: io::Error,
    },
    /// A previous [`send`](crate::FrameSender::send) failed or was dropped half-way, so that the stream may
    /// end within a frame.
    #[error("nothing more can be sent to {peer}: an earlier send was not completed")]
    SendInterrupted {
        /// The peer.
        peer: Address,
    },
    /// A peer was turned away because this side holds as many connections as it may.
    #[error("refused {peer}: {limit} connections are open already, the limit")]
    TooManyConnections {
        /// The peer turned away; its connection was closed.
        peer: Address,
        /// The limit.
        limit: usize,
    },
    /// A peer was turned away because its address holds as many connections as one may.
    #[error(
        "refused {peer}: {limit} connections from its address are open already, the limit for one address"
    )]
    TooManyFromAddress {
        /// The peer turned away; its connection was closed.
        peer: Address,
        /// The limit.
        limit: usize,
    },
    /// A peer was turned away because it had not finished its handshake when the limit of others had begun theirs.
    #[error("refused {peer}: its handshake is the oldest of {limit}, the limit, and another peer has come")]
    TooManyHandshakes {
        /// The peer turned away; its connection was closed.
        peer: Address,
        /// The limit.
        limit: usize,
    },

    // The network's, or of a peer that is not there.
    /// A name cannot be looked up. The addresses known before stay in use.
    #[error("cannot look up {server}: {cause}")]
    Lookup {
        /// The entry of the list of servers.
        server: Server,
        /// The cause.
        cause: String,
    },
    /// No connection to the peer.
    #[error("cannot connect to {peer}: {}", describe_io(.source))]
    Connect {
        /// The peer.
        peer: Address,
        /// The cause.
        source: io::Error,
    },
    /// No connection to the peer in time.
    #[error("cannot connect to {peer}: no answer within {after:?}")]
    ConnectTimeout {
        /// The peer.
        peer: Address,
        /// How long was waited.
        after: Duration,
    },
    /// The peer sent nothing for too long.
    #[error("{peer} sent nothing for {after:?}")]
    IdleTimeout {
        /// The peer.
        peer: Address,
        /// How long was waited.
        after: Duration,
    },
    /// The peer took nothing for too long: it is stuck, or the network between is.
    #[error("{peer} took nothing of what was sent for {after:?}")]
    WriteTimeout {
        /// The peer.
        peer: Address,
        /// How long was waited.
        after: Duration,
    },
    /// The connection was cut: the peer died, gave up on unread data, or something between did.
    #[error("connection to {peer} lost: {}", describe_io(.source))]
    Reset {
        /// The peer.
        peer: Address,
        /// The cause.
        source: io::Error,
    },
    /// The TCP connection was closed but the TLS session in it was not: the peer died, or somebody cut
    /// the stream short.
    #[error(
        "{peer} closed the connection without ending the TLS session: it died, or the stream was cut short"
    )]
    TlsTruncated {
        /// The peer.
        peer: Address,
    },
    /// The peer closed the connection in the middle of a frame.
    #[error("{peer} closed the connection in the middle of a frame, {received} bytes into it")]
    FrameTruncated {
        /// The peer.
        peer: Address,
        /// How much of the frame, prefix included, had arrived.
        received: usize,
    },

    // The peer's, or a misunderstanding between the two sides.
    /// The peer did not finish its handshake in time.
    #[error("{peer} did not finish the TLS handshake within {after:?}")]
    HandshakeTimeout {
        /// The peer.
        peer: Address,
        /// How long was waited.
        after: Duration,
    },
    /// The peer closed the connection in the middle of the handshake, without an alert.
    #[error(
        "{peer} closed the connection during the TLS handshake: it does not speak TLS, is at its limit of \
         connections, or died"
    )]
    HandshakeClosed {
        /// The peer.
        peer: Address,
    },
    /// The peer announced a frame larger than this side accepts.
    #[error("{peer} announced a frame of {length} bytes, {max_frame} are accepted")]
    FrameTooLarge {
        /// The peer.
        peer: Address,
        /// Length of the body as announced, bytes.
        length: u64,
        /// The bound, bytes.
        max_frame: usize,
    },
    /// What the peer sent does not begin with the length of a frame.
    #[error("{peer} sent something that is not a frame (the length is malformed)")]
    NotFrames {
        /// The peer.
        peer: Address,
    },
    /// This side speaks TLS, the peer does not.
    #[error("{peer} does not speak TLS: it spoke plain text on a TLS port, or something else altogether")]
    NotTls {
        /// The peer.
        peer: Address,
    },
    /// This side speaks plain text, the peer speaks TLS.
    #[error("{peer} speaks TLS, but this side is set to plain text (ssl = false)")]
    NotPlain {
        /// The peer.
        peer: Address,
    },
    /// The peer's certificate is not good enough for this side. At the handshake, the peer was told with an
    /// alert; later ([`Trust::lost`](crate::Trust::lost)) it was not told yet.
    #[error("{peer} presented {cause}")]
    BadPeerCertificate {
        /// The peer.
        peer: Address,
        /// What is wrong, for counting.
        fault: CertificateFault,
        /// What is wrong, as the rest of the sentence "peer presented …".
        cause: String,
    },
    /// The peer refused this side with a TLS alert, usually for its certificate.
    ///
    /// In TLS 1.3 the dialing side learns of this only when it reads: it is then an error of the first
    /// [`recv`](crate::FrameReceiver::recv), not of [`connect`](crate::Connector::connect).
    #[error("{peer} refused us: {cause}")]
    RefusedByPeer {
        /// The peer.
        peer: Address,
        /// The meaning of the alert, and its name.
        cause: String,
    },
    /// The two sides have no version, cipher suite or the like of TLS in common.
    #[error("no common ground for TLS with {peer}: {cause}")]
    TlsIncompatible {
        /// The peer.
        peer: Address,
        /// What is not in common.
        cause: String,
    },
    /// The TLS session failed in a way that none of the other variants describes.
    #[error("TLS with {peer} failed: {cause}")]
    Tls {
        /// The peer.
        peer: Address,
        /// The cause.
        cause: String,
    },
}

/// What is wrong with a peer's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CertificateFault {
    /// There is none.
    Missing,
    /// It, or one that leads to it, has expired.
    Expired,
    /// It, or one that leads to it, is not valid yet.
    NotYetValid,
    /// It, or one that leads to it, is revoked.
    Revoked,
    /// Whether it is revoked cannot be said: a CRL is missing, out of date or wrong.
    RevocationUnknown,
    /// No trusted authority has signed it.
    UnknownAuthority,
    /// It is not for the name that was dialled.
    WrongName,
    /// It is good, but none of its names is allowed.
    NameNotAllowed,
    /// Anything else: unreadable, a chain too long, not meant for this.
    Other,
}

impl CertificateFault {
    /// A word for counters and logs: `certificate_revoked`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "certificate_missing",
            Self::Expired => "certificate_expired",
            Self::NotYetValid => "certificate_not_yet_valid",
            Self::Revoked => "certificate_revoked",
            Self::RevocationUnknown => "revocation_unknown",
            Self::UnknownAuthority => "unknown_authority",
            Self::WrongName => "wrong_name",
            Self::NameNotAllowed => "name_not_allowed",
            Self::Other => "certificate_unfit",
        }
    }
}

impl Error {
    /// Why a connection came to nothing, in a word for counters: a handshake that failed, or a limit. `None` if that is not what it is about.
    pub const fn refusal(&self) -> Option<&'static str> {
        Some(match self {
            Self::TooManyConnections { .. } | Self::TooManyHandshakes { .. } => "limit",
            Self::TooManyFromAddress { .. } => "address_limit",
            Self::HandshakeTimeout { .. } => "timeout",
            Self::HandshakeClosed { .. } => "closed",
            Self::NotTls { .. } => "not_tls",
            Self::BadPeerCertificate { fault, .. } => fault.as_str(),
            Self::RefusedByPeer { .. } => "refused_by_peer",
            Self::TlsIncompatible { .. } => "incompatible",
            Self::Tls { .. } => "other",
            _ => return None,
        })
    }

    /// Whether a TLS handshake with a peer failed, as opposed to the connection under it or frames above it.
    pub const fn is_handshake_failure(&self) -> bool {
        matches!(
            self,
            Self::HandshakeTimeout { .. }
                | Self::HandshakeClosed { .. }
                | Self::NotTls { .. }
                | Self::BadPeerCertificate { .. }
                | Self::RefusedByPeer { .. }
                | Self::TlsIncompatible { .. }
                | Self::Tls { .. }
        )
    }

    /// Sorts an error of an established connection, or of its handshake, by what it means.
    pub(crate) fn from_io(peer: &Address, error: io::Error) -> Self {
        let peer = peer.clone();
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return crate::tls::explain::explain(peer, tls);
        }
        Self::Reset { peer, source: error }
    }
}

/// An I/O error in words, without the number of the operating system where the words say it all.
fn describe_io(error: &io::Error) -> String {
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused: nothing listens there",
        io::ErrorKind::ConnectionReset => "reset by the peer",
        io::ErrorKind::BrokenPipe => "the peer has closed it",
        io::ErrorKind::AddrInUse => "the address is in use",
        io::ErrorKind::AddrNotAvailable => "the address is not one of this host",
        io::ErrorKind::PermissionDenied => "permission denied",
        io::ErrorKind::NotFound => "no such file or directory",
        io::ErrorKind::HostUnreachable => "the host cannot be reached",
        io::ErrorKind::NetworkUnreachable => "the network cannot be reached",
        _ => return error.to_string(),
    };
    words.to_owned()
}
