//! Being dialled.

mod unix;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::admission::{Admission, Admitted, origin};
use crate::connector::handshake_error;
use crate::handshakes::{Handshakes, Place};
#[cfg(feature = "quic")]
use crate::quic;
use crate::stream::Socket;
use crate::tls::Role;
use crate::{Address, Connection, ConnectionOptions, Error, PeerIdentity, TlsConfig};

/// Connections that may wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;
/// Time for the TLS handshake unless set otherwise.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections open at the same time unless set otherwise. A cluster is tens of nodes, each dials once.
const CONNECTIONS_MAX: usize = 1024;
/// Connections from one address unless set otherwise: of all there may be, an eighth. A node dials once, but many nodes may be behind one address.
const CONNECTIONS_PER_ADDRESS_MAX: usize = CONNECTIONS_MAX / 8;
/// Handshakes at the same time unless set otherwise. Each costs about a millisecond of one processor.
const HANDSHAKES_MAX: usize = 64;
/// Pause after the system has run out of something that accepting needs (files, memory). It doubles while that lasts: each try is a line of the log.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause: how long peers wait at the most when the shortage ends.
const EXHAUSTED_PAUSE_MAX: Duration = Duration::from_secs(2);

/// How peers are accepted.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// TLS, or `None` for plain text: then anybody is accepted.
    pub tls: Option<TlsConfig>,
    /// Time for the TLS handshake; default 5 s.
    pub handshake_timeout: Duration,
    /// Connections open at the same time, handshakes included; default 1024. Who comes above that is
    /// refused.
    pub max_connections: usize,
    /// Of these, connections from one address (of IPv6, one network of 64 bits); default 128. Who comes above that is refused.
    pub max_connections_per_address: usize,
    /// Handshakes under way at the same time; default 64. For one above that, the oldest of the address that has the most is given up.
    pub max_handshakes: usize,
    /// How frames go in and out.
    pub connection: ConnectionOptions,
}

impl Default for ListenOptions {
    /// Plain text: a certificate cannot be guessed.
    fn default() -> Self {
        Self {
            tls: None,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            max_connections: CONNECTIONS_MAX,
            max_connections_per_address: CONNECTIONS_PER_ADDRESS_MAX,
            max_handshakes: HANDSHAKES_MAX,
            connection: ConnectionOptions::default(),
        }
    }
}

/// Accepts peers on one address. A Unix socket's file is removed when the listener is dropped.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: Bound,
    limits: Limits,
}

/// How peers are accepted, and how many there are: of one address that is listened on, or of several.
#[derive(Clone, Debug)]
struct Limits {
    options: Arc<ListenOptions>,
    admission: Arc<Admission>,
    handshakes: Arc<Handshakes>,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        _file: unix::SocketFile,
    },
    #[cfg(feature = "quic")]
    Quic(quic::Bound),
}

impl Limits {
    fn new(options: ListenOptions) -> Result<Self, Error> {
        for (option, limit) in [
            ("max_connections", options.max_connections),
            ("max_connections_per_address", options.max_connections_per_address),
            ("max_handshakes", options.max_handshakes),
        ] {
            if !(1..=Semaphore::MAX_PERMITS).contains(&limit) {
                let reason = format!("{limit} is not from 1 to {}", Semaphore::MAX_PERMITS);
                return Err(Error::InvalidOption { option, reason });
            }
        }
        Ok(Self {
            admission: Admission::new(options.max_connections, options.max_connections_per_address),
            handshakes: Handshakes::new(options.max_handshakes),
            options: Arc::new(options),
        })
    }
}

impl Listener {
    /// Binds an address and starts to listen. Port 0 lets the system choose one.
    ///
    /// A Unix socket is readable and writable for the owner only (0600). A socket file that is left
    /// over from a process that died is replaced; one on which somebody listens, or a file of another
    /// kind, is not.
    ///
    /// # Errors
    /// [`Error::Bind`] with the cause; [`Error::InvalidOption`] for a limit of 0; [`Error::NoQuic`].
    pub async fn bind(address: &Address, options: ListenOptions) -> Result<Self, Error> {
        Self::bind_within(address, &Limits::new(options)?).await
    }

    /// Binds several addresses, as [`bind`](Self::bind) does. What is limited is so for all of them together: who dials each is one peer nevertheless.
    ///
    /// # Errors
    /// As [`bind`](Self::bind); nothing is bound then.
    pub async fn bind_all(addresses: &[Address], options: ListenOptions) -> Result<Vec<Self>, Error> {
        let limits = Limits::new(options)?;
        let mut listeners = Vec::new();
        for address in addresses {
            listeners.push(Self::bind_within(address, &limits).await?);
        }
        Ok(listeners)
    }

    async fn bind_within(address: &Address, limits: &Limits) -> Result<Self, Error> {
        let failed = |source| Error::Bind { address: address.clone(), source };
        let (bound_address, socket) = match address {
            Address::Tcp(socket) => {
                let listener = bind_tcp(*socket).map_err(failed)?;
                let address = listener.local_addr().map_or_else(|_| address.clone(), Address::Tcp);
                (address, Bound::Tcp(listener))
            }
            #[cfg(feature = "quic")]
            Address::Quic(socket) => {
                let ListenOptions { tls, connection, .. } = &*limits.options;
                let bound = quic::Bound::bind(address, *socket, tls.as_ref(), connection)?;
                let address = bound.local_addr().map_or_else(|_| address.clone(), Address::Quic);
                (address, Bound::Quic(bound))
            }
            #[cfg(not(feature = "quic"))]
            Address::Quic(_) => {
                return Err(Error::NoQuic { address: address.clone(), reason: crate::NO_QUIC });
            }
            Address::Unix(path) => {
                let (listener, file) = unix::bind(path).await.map_err(failed)?;
                (address.clone(), Bound::Unix { listener, _file: file })
            }
        };
        Ok(Self { address: bound_address, socket, limits: limits.clone() })
    }

    /// The address listened on, with the port that the system chose if it was to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next peer that dials. What takes time happens in [`Incoming::handshake`], to be called in a
    /// task of its own, so that a slow peer delays nobody.
    ///
    /// Waits when the system is out of files or memory, and warns. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Accept`] if the listening socket itself is broken; nobody will be accepted any more.
    pub async fn accept(&self) -> Result<Incoming, Error> {
        let mut pause = EXHAUSTED_PAUSE;
        loop {
            let accepted = match &self.socket {
                Bound::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                    // On a socket for both families an IPv4 peer looks like ::ffff:192.0.2.1.
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    (Accepted::Socket(Socket::tcp(stream)), Address::Tcp(peer))
                }),
                Bound::Unix { listener, .. } => listener
                    .accept()
                    .await
                    .map(|(stream, _)| (Accepted::Socket(Socket::Unix(stream)), self.address.clone())),
                #[cfg(feature = "quic")]
                Bound::Quic(bound) => {
                    bound.accept().await.map(|(dialling, peer)| (Accepted::Quic(Box::new(dialling)), peer))
                }
            };
            match accepted {
                Ok((socket, peer)) => return Ok(self.admit(socket, peer)),
                Err(error) => self.survive(error, &mut pause).await?,
            }
        }
    }

    fn admit(&self, socket: Accepted, peer: Address) -> Incoming {
        let Limits { options, admission, handshakes } = &self.limits;
        let admitted = admission
            .admit(&peer)
            .map(|connection| Permits { connection, handshake: handshakes.take(origin(&peer)) });
        Incoming { socket, peer, admitted, options: Arc::clone(options) }
    }

    /// Decides which errors of accepting pass. Most belong to the one connection that was to be accepted
    /// (accept(2): "errors on the new socket"), some to a shortage that ends.
    async fn survive(&self, error: io::Error, pause: &mut Duration) -> Result<(), Error> {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::InvalidInput | Kind::Unsupported | Kind::NotConnected => {
                Err(Error::Accept { address: self.address.clone(), source: error })
            }
            Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::Interrupted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::TimedOut => Ok(()),
            _ => {
                tracing::warn!(address = %self.address, %error, "cannot accept for now");
                sleep(*pause).await;
                *pause = EXHAUSTED_PAUSE_MAX.min(*pause * 2);
                Ok(())
            }
        }
    }
}

/// A peer that has dialled and not been looked at yet.
#[derive(Debug)]
pub struct Incoming {
    socket: Accepted,
    peer: Address,
    /// An error above a limit of connections.
    admitted: Result<Permits, Error>,
    options: Arc<ListenOptions>,
}

/// What was accepted.
#[derive(Debug)]
enum Accepted {
    Socket(Socket),
    /// Boxed, since it holds the peer's first packet.
    #[cfg(feature = "quic")]
    Quic(Box<quic::Dialling>),
}

#[derive(Debug)]
struct Permits {
    connection: Admitted,
    handshake: Place,
}

impl Incoming {
    /// Where the peer dials from; for a Unix socket, the path listened on.
    pub fn peer(&self) -> &Address {
        &self.peer
    }

    /// Does the TLS handshake, if TLS is on, and verifies the peer's certificate.
    ///
    /// # Errors
    /// [`Error::TooManyConnections`] or [`Error::TooManyFromAddress`] at once, if the peer came above that limit; [`Error::TooManyHandshakes`] if
    /// it took so long that a newer one needed its place; [`Error::BadPeerCertificate`] if we refuse the peer; [`Error::RefusedByPeer`] if it
    /// refuses us; [`Error::NotTls`], [`Error::HandshakeClosed`] and [`Error::HandshakeTimeout`] if it
    /// is something else.
    pub async fn handshake(self) -> Result<Connection, Error> {
        let Self { socket, peer, admitted, options } = self;
        let Permits { connection, handshake: mut place } = admitted?;
        #[cfg(not(feature = "quic"))]
        let Accepted::Socket(socket) = socket;
        #[cfg(feature = "quic")]
        let socket = match socket {
            Accepted::Socket(socket) => socket,
            Accepted::Quic(dialling) => {
                let ListenOptions { tls, connection: frames, handshake_timeout: after, .. } = &*options;
                let handshake = timeout(*after, dialling.handshake(&peer, tls.as_ref(), frames, connection));
                return tokio::select! {
                    outcome = handshake => outcome.unwrap_or(Err(Error::HandshakeTimeout { peer: peer.clone(), after: *after })),
                    () = place.lost() => {
                        Err(Error::TooManyHandshakes { peer: peer.clone(), limit: options.max_handshakes })
                    }
                };
            }
        };
        let Some(tls) = &options.tls else {
            let identity = PeerIdentity { address: peer, names: Vec::new(), tls: None };
            return Ok(Connection::plain(socket, identity, &options.connection, Some(connection)));
        };
        let tls = tls.handshake();
        let handshake = TlsAcceptor::from(Arc::clone(&tls.loaded.server)).accept(socket).into_fallible();
        let handshake = timeout(options.handshake_timeout, handshake);
        let outcome = tokio::select! {
            outcome = handshake => outcome,
            () = place.lost() => {
                return Err(Error::TooManyHandshakes { peer, limit: options.max_handshakes });
            }
        };
        let stream = match outcome {
            Ok(Ok(stream)) => TlsStream::from(stream),
            Ok(Err((error, socket))) => {
                socket.linger().await;
                return Err(handshake_error(&peer, error));
            }
            Err(_) => return Err(Error::HandshakeTimeout { peer, after: options.handshake_timeout }),
        };
        let (identity, trust) = tls.identify(&peer, Role::Dialling, stream.get_ref().1)?;
        Ok(Connection::secure(stream, identity, trust, &options.connection, Some(connection)))
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Or a restarted process could not bind while connections of the old one linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
