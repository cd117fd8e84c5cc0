//! Two ends of a connection, over each transport.

use bytes::Bytes;
use sync_transport::{
    Address, ConnectOptions, Connection, ConnectionOptions, Connector, Error, ListenOptions, Listener,
    Target, TlsConfig, TlsOptions, TlsVersion, length_prefixed,
};
use tempfile::TempDir;

use crate::certificates::Authority;

/// What the frame suite runs over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    Tcp,
    Tls13,
    Tls12,
    Unix,
    UnixTls,
    #[cfg(feature = "quic")]
    Quic,
}

/// The two ends; the dialing one first.
pub(crate) struct Pair {
    pub(crate) dialing: Connection,
    pub(crate) accepting: Connection,
    /// Keeps the socket file.
    _directory: TempDir,
    _listener: Listener,
}

impl Transport {
    pub(crate) fn is_tls(self) -> bool {
        !matches!(self, Self::Tcp | Self::Unix)
    }

    pub(crate) fn tls(self) -> Option<TlsConfig> {
        if !self.is_tls() {
            return None;
        }
        let authority = Authority::new("test authority");
        let node = authority.node(&["127.0.0.1", "localhost"]);
        let version = if matches!(self, Self::Tls12) { TlsVersion::Tls12 } else { TlsVersion::Tls13 };
        let options = TlsOptions { protocols: vec![version], ..node.options(&authority) };
        Some(TlsConfig::load(&options).unwrap())
    }

    pub(crate) async fn pair(self, connection: ConnectionOptions) -> Pair {
        let tls = self.tls();
        let directory = TempDir::new().unwrap();
        let address = match self {
            Self::Tcp | Self::Tls13 | Self::Tls12 => any_port(),
            Self::Unix | Self::UnixTls => Address::Unix(directory.path().join("socket")),
            #[cfg(feature = "quic")]
            Self::Quic => any_quic_port(),
        };
        let options =
            ListenOptions { tls: tls.clone(), connection: connection.clone(), ..ListenOptions::default() };
        let listener = Listener::bind(&address, options).await.unwrap();
        let connector = Connector::new(ConnectOptions { tls, connection, ..ConnectOptions::default() });
        let (dialing, accepting) = meet(&connector, &listener).await;
        Pair {
            dialing: dialing.unwrap(),
            accepting: accepting.unwrap(),
            _directory: directory,
            _listener: listener,
        }
    }
}

pub(crate) fn any_port() -> Address {
    "127.0.0.1:0".parse().unwrap()
}

#[cfg(feature = "quic")]
pub(crate) fn any_quic_port() -> Address {
    "quic://127.0.0.1:0".parse().unwrap()
}

pub(crate) async fn listener(tls: Option<TlsConfig>) -> Listener {
    Listener::bind(&any_port(), ListenOptions { tls, ..ListenOptions::default() }).await.unwrap()
}

pub(crate) fn connector(tls: Option<TlsConfig>) -> Connector {
    Connector::new(ConnectOptions { tls, ..ConnectOptions::default() })
}

pub(crate) fn target(listener: &Listener) -> Target {
    listener.address().clone().into()
}

pub(crate) fn frame(body: impl AsRef<[u8]>) -> Bytes {
    length_prefixed(body.as_ref()).unwrap()
}

/// Connects, and gives what came out on both sides.
pub(crate) async fn meet(
    connector: &Connector,
    listener: &Listener,
) -> (Result<Connection, Error>, Result<Connection, Error>) {
    let target = target(listener);
    tokio::join!(connector.connect(&target), async { listener.accept().await?.handshake().await })
}

/// Connects and sends a frame each way; gives what came out on both sides.
pub(crate) async fn exchange(
    connector: &Connector,
    listener: &Listener,
) -> (Result<(), Error>, Result<(), Error>) {
    let target = target(listener);
    let dial = async {
        let (mut sender, mut receiver) = connector.connect(&target).await?.split();
        let sent = sender.send(&[frame("ping")]).await;
        // What the peer has to say goes before "it did not take what I sent".
        let received = receiver.recv().await?;
        sent?;
        assert_eq!(received.as_deref(), Some(&b"pong"[..]));
        Ok(())
    };
    let accept = async {
        let (mut sender, mut receiver) = listener.accept().await?.handshake().await?.split();
        assert_eq!(receiver.recv().await?.as_deref(), Some(&b"ping"[..]));
        sender.send(&[frame("pong")]).await?;
        sender.close().await
    };
    tokio::join!(dial, accept)
}
