//! Dialing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::stream::Socket;
use crate::tls::Role;
use crate::{Address, Connection, ConnectionOptions, Error, PeerIdentity, Target, TlsConfig};

/// Time for connecting and the TLS handshake unless set otherwise. The default of
/// `zone_sync_connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How peers are dialled.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// TLS, or `None` for plain text: then nobody is authenticated.
    pub tls: Option<TlsConfig>,
    /// Time for connecting and the TLS handshake together; default 5 s.
    pub connect_timeout: Duration,
    /// How frames go in and out.
    pub connection: ConnectionOptions,
}

impl Default for ConnectOptions {
    /// Plain text: a certificate cannot be guessed.
    fn default() -> Self {
        Self { tls: None, connect_timeout: CONNECT_TIMEOUT, connection: ConnectionOptions::default() }
    }
}

/// Dials peers.
#[derive(Clone, Debug)]
pub struct Connector {
    options: Arc<ConnectOptions>,
}

impl Connector {
    /// A connector that dials with these options.
    pub fn new(options: ConnectOptions) -> Self {
        Self { options: Arc::new(options) }
    }

    /// Connects to a target and, with TLS, verifies that it is who it should be.
    ///
    /// In TLS 1.3 this returns before the peer has looked at our certificate: that it was refused is an
    /// error of the first [`recv`](crate::FrameReceiver::recv).
    ///
    /// # Errors
    /// [`Error::Connect`] and [`Error::ConnectTimeout`] if nobody answers;
    /// [`Error::BadPeerCertificate`] if we refuse the peer; [`Error::RefusedByPeer`] if it refuses us
    /// (TLS 1.2, or no common ground); [`Error::NotTls`], [`Error::HandshakeClosed`] and
    /// [`Error::HandshakeTimeout`] if it is something else; [`Error::InvalidName`] if the host of the
    /// target cannot be in a certificate; [`Error::NoQuic`].
    pub async fn connect(&self, target: &Target) -> Result<Connection, Error> {
        let peer = &target.address;
        let after = self.options.connect_timeout;
        if let Address::Quic(address) = *peer {
            return self.connect_quic(target, address).await;
        }
        let deadline = Instant::now() + after;
        let socket = match timeout_at(deadline, dial(peer)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(source)) => return Err(Error::Connect { peer: peer.clone(), source }),
            Err(_) => return Err(Error::ConnectTimeout { peer: peer.clone(), after }),
        };
        let Some(tls) = &self.options.tls else {
            let identity = PeerIdentity { address: peer.clone(), names: Vec::new(), tls: None };
            return Ok(Connection::plain(socket, identity, &self.options.connection, None));
        };
        let tls = tls.handshake();
        let name = tls.loaded.name(&target.host)?;
        let handshake =
            TlsConnector::from(Arc::clone(&tls.loaded.client)).connect(name, socket).into_fallible();
        let stream = match timeout_at(deadline, handshake).await {
            Ok(Ok(stream)) => TlsStream::from(stream),
            Ok(Err((error, socket))) => {
                socket.linger().await;
                return Err(handshake_error(peer, error));
            }
            Err(_) => return Err(Error::HandshakeTimeout { peer: peer.clone(), after }),
        };
        let role = Role::Dialled { host: target.host.clone() };
        let (identity, trust) = tls.identify(peer, role, stream.get_ref().1)?;
        Ok(Connection::secure(stream, identity, trust, &self.options.connection, None))
    }

    #[cfg(feature = "quic")]
    async fn connect_quic(&self, target: &Target, address: SocketAddr) -> Result<Connection, Error> {
        let ConnectOptions { tls, connect_timeout, connection } = &*self.options;
        crate::quic::connect(target, address, tls.as_ref(), connection, *connect_timeout).await
    }

    #[cfg(not(feature = "quic"))]
    async fn connect_quic(&self, target: &Target, _: SocketAddr) -> Result<Connection, Error> {
        Err(Error::NoQuic { address: target.address.clone(), reason: crate::NO_QUIC })
    }
}

async fn dial(address: &Address) -> std::io::Result<Socket> {
    match address {
        Address::Tcp(address) => TcpStream::connect(address).await.map(Socket::tcp),
        Address::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
        // Dialled elsewhere: it has no byte stream.
        Address::Quic(_) => Err(std::io::ErrorKind::Unsupported.into()),
    }
}

/// What an error during the handshake means.
pub(crate) fn handshake_error(peer: &Address, error: std::io::Error) -> Error {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            Error::HandshakeClosed { peer: peer.clone() }
        }
        _ => Error::from_io(peer, error),
    }
}
