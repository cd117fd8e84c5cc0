//! QUIC: a connection is one QUIC connection, and its lanes are streams of it.
//!
//! Each side opens one unidirectional stream for its control frames, always its first, and one more for each lane that it uses. A stream
//! carries frames as a TCP connection would. What is lost of one stream delays no other, and a stream that the peer does not read
//! leaves room for the others: each has a window of its own, and all together have none.
//!
//! Who the peer is comes out of the same certificates, verifiers and options as for TLS over TCP ([`crypto`]). Addresses are always validated (a
//! Retry, one round trip) before a peer costs anything: what counts against an address must not be forged. Sessions are not resumed, so
//! there is no 0-RTT, in which state could be replayed.

mod crypto;
mod explain;
mod reader;
mod writer;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use socket2::SockRef;
use tokio::time::{Instant, timeout_at};

pub(crate) use crypto::reset_key;
pub(crate) use reader::Reader;
pub(crate) use writer::Writer;

use crate::admission::Admitted;
use crate::connection::TlsSession;
use crate::tls::{Handshake, Role};
use crate::{Address, Connection, ConnectionOptions, Error, Target, TlsConfig, TlsVersion};

/// The application protocol, which QUIC requires to be named (RFC 9001 §8.1).
const ALPN: &[u8] = b"zonesync";
/// What a stream may have under way, bytes: 10 MB/s over a way of 100 ms. It is what a link may hold in memory, at each end, for each lane.
const STREAM_WINDOW: u32 = 1 << 20;
/// Room asked for in the kernel for datagrams that nobody has read yet, bytes; it gives what `net.core.rmem_max` allows. A burst that finds no room is lost.
const SOCKET_BUFFER: usize = 4 << 20;
/// Streams that a peer may open before it is [greeted](crate::FrameReceiver::open_lanes): the one for control frames.
const CONTROL_STREAMS: u32 = 1;
/// Keep-alives in one idle time-out: two may be lost.
const KEEP_ALIVES: u32 = 3;

/// Ends of streams and connections that say more than "closed".
mod code {
    use quinn::VarInt;

    /// The sender has gone away in the middle.
    pub(super) const ABANDONED: VarInt = VarInt::from_u32(1);
}

/// How connections behave, for quinn.
fn transport(options: &ConnectionOptions) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let idle = options.idle_timeout.and_then(|idle| IdleTimeout::try_from(idle).ok());
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(CONTROL_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::MAX)
        .send_window(u64::from(STREAM_WINDOW))
        .max_idle_timeout(idle)
        .keep_alive_interval(options.idle_timeout.map(|idle| idle / KEEP_ALIVES))
        .datagram_receive_buffer_size(None);
    Arc::new(transport)
}

/// Dials a target.
pub(crate) async fn connect(
    target: &Target,
    address: SocketAddr,
    tls: Option<&TlsConfig>,
    options: &ConnectionOptions,
    after: Duration,
) -> Result<Connection, Error> {
    let peer = &target.address;
    let deadline = Instant::now() + after;
    let tls = crypto::required(peer, tls)?.handshake();
    let name = tls.loaded.name(&target.host)?;
    let (crypto, fault) = crypto::client(&tls.loaded).map_err(|reason| no_quic(peer, reason))?;
    let mut config = quinn::ClientConfig::new(crypto);
    config.transport_config(transport(options));
    // A socket for each connection, as with TCP: a burst on one takes no room from the others.
    let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let failed = |source| Error::Connect { peer: peer.clone(), source };
    let endpoint = Endpoint::client(SocketAddr::new(any, 0)).map_err(failed)?;
    let connecting = endpoint
        .connect_with(config, address, &name.to_str())
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let establish = async {
        let connection = connecting.await?;
        Writer::open(connection.clone()).await.map(|writer| (connection, writer))
    };
    let outcome = tokio::select! {
        outcome = timeout_at(deadline, establish) => outcome,
        error = refused(SocketAddr::new(any, 0), address) => return Err(failed(error)),
    };
    let (connection, writer) = match outcome {
        Ok(Ok(established)) => established,
        Ok(Err(quinn::ConnectionError::TimedOut)) | Err(_) => {
            return Err(Error::ConnectTimeout { peer: peer.clone(), after });
        }
        Ok(Err(error)) => return Err(explain::handshake(peer, &error, &fault)),
    };
    let role = Role::Dialled { host: target.host.clone() };
    established(tls, peer, role, connection, writer, options, None)
}

/// Resolves when the peer's host says that nothing listens there, which a socket learns only of the one address it is connected to, as that of the
/// endpoint is not. Without it, nobody would be told before the time-out.
async fn refused(any: SocketAddr, address: SocketAddr) -> io::Error {
    let probe = async {
        let socket = tokio::net::UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        // No packet of QUIC, so nobody answers it who listens.
        socket.send(&[0]).await?;
        socket.recv(&mut [0]).await
    };
    match probe.await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => error,
        _ => std::future::pending().await,
    }
}

/// A socket that peers dial.
#[derive(Debug)]
pub(crate) struct Bound {
    endpoint: Endpoint,
    config: quinn::ServerConfig,
}

impl Bound {
    pub(crate) fn bind(
        address: &Address,
        socket: SocketAddr,
        tls: Option<&TlsConfig>,
        options: &ConnectionOptions,
    ) -> Result<Self, Error> {
        let tls = crypto::required(address, tls)?.handshake();
        let (crypto, _) = crypto::server(&tls.loaded).map_err(|reason| no_quic(address, reason))?;
        let reset_key = Arc::new(tls.loaded.reset_key.clone());
        let mut config = quinn::ServerConfig::with_crypto(crypto);
        config.transport_config(transport(options));
        let bind = || {
            let socket = UdpSocket::bind(socket)?;
            // As much as the system allows; with less, more is sent again.
            let _ = SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER);
            let runtime = Arc::new(TokioRuntime);
            let mut endpoint = EndpointConfig::new(reset_key);
            endpoint.cid_generator(|| Box::new(crypto::ConnectionIds));
            Endpoint::new(endpoint, Some(config.clone()), socket, runtime)
        };
        let endpoint = bind().map_err(|source| Error::Bind { address: address.clone(), source })?;
        Ok(Self { endpoint, config })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next peer whose address is its own. Cancel safe.
    pub(crate) async fn accept(&self) -> io::Result<(Dialling, Address)> {
        loop {
            let Some(incoming) = self.endpoint.accept().await else {
                return Err(io::Error::new(io::ErrorKind::NotConnected, "the socket is broken"));
            };
            if !incoming.remote_address_validated() {
                // What cannot be answered with a Retry is validated.
                let _ = incoming.retry();
                continue;
            }
            let peer = incoming.remote_address();
            let peer = Address::Quic(SocketAddr::new(peer.ip().to_canonical(), peer.port()));
            return Ok((Dialling { incoming, config: self.config.clone() }, peer));
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Connections that are established go on, as with TCP. Nobody else is let in.
        self.endpoint.set_server_config(None);
    }
}

/// A peer that has dialled and not been answered yet. It is refused when this is dropped.
#[derive(Debug)]
pub(crate) struct Dialling {
    incoming: quinn::Incoming,
    config: quinn::ServerConfig,
}

impl Dialling {
    /// Does the handshake; to be given a time-out.
    pub(crate) async fn handshake(
        mut self,
        peer: &Address,
        tls: Option<&TlsConfig>,
        options: &ConnectionOptions,
        permit: Admitted,
    ) -> Result<Connection, Error> {
        let tls = crypto::required(peer, tls)?.handshake();
        let (crypto, fault) = crypto::server(&tls.loaded).map_err(|reason| no_quic(peer, reason))?;
        self.config.crypto = crypto;
        let establish = async {
            let connection = self.incoming.accept_with(Arc::new(self.config))?.await?;
            Writer::open(connection.clone()).await.map(|writer| (connection, writer))
        };
        let (connection, writer) =
            establish.await.map_err(|error| explain::handshake(peer, &error, &fault))?;
        established(tls, peer, Role::Dialling, connection, writer, options, Some(permit))
    }
}

fn established(
    tls: Handshake,
    peer: &Address,
    role: Role,
    connection: quinn::Connection,
    writer: Writer,
    options: &ConnectionOptions,
    permit: Option<Admitted>,
) -> Result<Connection, Error> {
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    // quinn does not tell which of the cipher suites and groups that both sides allow was chosen.
    let session =
        TlsSession { version: TlsVersion::Tls13, cipher_suite: None, key_exchange: None, is_resumed: false };
    let (identity, trust) = tls.trusted(peer, role, chain.map(|chain| *chain).unwrap_or_default(), session);
    let reader = Reader::new(connection, options);
    Ok(Connection::quic(writer, reader, identity, trust, options, permit))
}

fn no_quic(address: &Address, reason: &'static str) -> Error {
    Error::NoQuic { address: address.clone(), reason }
}
