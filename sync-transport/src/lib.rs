//! Authenticated peers, discovered by DNS, that exchange frames: TCP, TLS, Unix sockets and QUIC.
//!
//! # Model
//!
//! A **frame** is an opaque body behind a length prefix ([`Framing`]). A [`Connection`] carries frames
//! both ways and splits into a [`FrameSender`] and a [`FrameReceiver`] for two tasks. Who is at the
//! other end is settled before the first frame: with TLS both sides show certificates that a common
//! authority has signed ([`TlsConfig`]), and the dialing side also checks the name. A [`PeerIdentity`]
//! tells what came out, and [`Trust`] when it holds no longer.
//!
//! With the feature `quic`, addresses may be of QUIC ([`Address::Quic`]). A connection then has *lanes* beside the order of its other frames: see
//! [`FrameSender`]. Everything else is the same, and so are certificates, limits and errors.
//!
//! A [`Connector`] dials a [`Target`]; a [`Listener`] accepts, and leaves everything slow to the task
//! that calls [`Incoming::handshake`]. Targets come from a list of [`Server`]s, as operators write it:
//! addresses, Unix sockets, names with several addresses, SRV records. [`Discovery`] keeps the
//! [`TargetSet`] up to date as DNS changes. When to dial, and when to give up on a peer, is the
//! caller's business; [`Backoff`] says how long to wait.
//!
//! # Promises
//!
//! - Every wait has a time-out and every buffer a bound; see the options. A frame larger than the bound
//!   is refused before its body is waited for.
//! - Every error says whose fault it is and with whom ([`Error`]), also when all there is to go by is a
//!   TLS alert.
//! - *Sent* is not *delivered*: `Ok` from [`FrameSender::send`] means that the operating system has the
//!   bytes. Only the peer can say that they arrived. The end of a stream is told from its loss where
//!   the transport can: a TLS session that is not closed is an error, a TCP connection closed by a
//!   dying process is not.
//! - Received frames are slices of the read buffer, not copies.
//! - A resolver that is down takes no peer away; the answer that a name is gone does.
//!
//! # Example
//!
//! Peers that trust the same authority, found by DNS, exchange frames:
//!
//! ```
//! use sync_transport::{
//!     ConnectOptions, Connector, Discovery, DiscoveryOptions, ListenOptions, Listener, Pem, TlsConfig, TlsOptions,
//!     length_prefixed,
//! };
//!
//! # fn pem() -> Result<[String; 3], rcgen::Error> {
//! #     let key = rcgen::KeyPair::generate()?;
//! #     let mut params = rcgen::CertificateParams::new(vec![])?;
//! #     params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
//! #     let (ca, issuer) = (params.self_signed(&key)?.pem(), rcgen::Issuer::new(params, key));
//! #     let key = rcgen::KeyPair::generate()?;
//! #     let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
//! #     Ok([params.signed_by(&key, &issuer)?.pem(), key.serialize_pem(), ca])
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let [certificate, key, ca] = pem()?;
//! // Or `Pem::file("node.pem")`, which `reload` reads again.
//! let tls = TlsConfig::load(&TlsOptions::new(Pem::memory(certificate), Pem::memory(key), Pem::memory(ca)))?;
//! let options = ListenOptions { tls: Some(tls.clone()), ..ListenOptions::default() };
//! let listener = Listener::bind(&"127.0.0.1:0".parse()?, options).await?;
//! # let port = match listener.address() {
//! #     sync_transport::Address::Tcp(address) => address.port(),
//! #     address => unreachable!("{address}"),
//! # };
//! tokio::spawn(async move {
//!     let connection = listener.accept().await?.handshake().await?;
//!     println!("{:?} is here", connection.peer().names);
//!     let (mut sender, mut receiver) = connection.split();
//!     while let Some(frame) = receiver.recv().await? {
//!         sender.send(&[length_prefixed(&frame).expect("as long as it came")]).await?;
//!     }
//!     sender.close().await
//! });
//!
//! let servers = vec![format!("localhost:{port}").parse()?]; // or "_sync._tcp.example.com"
//! let discovery = Discovery::start(servers, DiscoveryOptions::default());
//! let targets = discovery.targets().wait_for(|set| !set.targets.is_empty()).await?.clone();
//! let connector = Connector::new(ConnectOptions { tls: Some(tls), ..ConnectOptions::default() });
//! let (mut sender, mut receiver) = connector.connect(&targets.targets[0]).await?.split();
//! sender.send(&[length_prefixed(b"hello").expect("short")]).await?;
//! assert_eq!(receiver.recv().await?.as_deref(), Some(&b"hello"[..]));
//! sender.close().await?;
//! assert_eq!(receiver.recv().await?, None);
//! # Ok(())
//! # }
//! ```

mod address;
mod admission;
mod backoff;
mod connection;
mod connector;
mod discovery;
mod error;
mod framing;
mod handshakes;
mod listener;
#[cfg(feature = "quic")]
mod quic;
mod stream;
mod tls;

/// Why there is no QUIC.
#[cfg(not(feature = "quic"))]
const NO_QUIC: &str = "this program was built without QUIC (the feature `quic`)";

pub use address::{Address, Server, Target, Transport};
pub use backoff::Backoff;
pub use connection::{
    Connection, ConnectionOptions, Counters, FrameReceiver, FrameSender, PeerIdentity, TlsSession,
};
pub use connector::{ConnectOptions, Connector};
pub use discovery::{Discovery, DiscoveryOptions, ServerState, TargetSet};
pub use error::{CertificateFault, Error};
pub use framing::{Framing, length_prefixed};
pub use listener::{Incoming, ListenOptions, Listener};
pub use tls::{CipherSuite, NamePattern, Pem, TlsConfig, TlsOptions, TlsVersion, Trust};
