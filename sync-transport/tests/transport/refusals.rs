//! Peers that are not who or what they should be: the error names the cause, on both sides.

use std::time::Duration;

use sync_transport::{
    Address, Connector, Error, ListenOptions, Listener, Target, TlsConfig, TlsOptions, TlsVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::certificates::{Authority, Node};
use crate::foreign;
use crate::link::{any_port, connector, exchange, listener};

/// A life of a certificate: long enough to load and use it on a busy machine, in whole seconds, of which the first may be nearly over.
pub(crate) const SOON: Duration = Duration::from_secs(4);

/// What a handshake is done over.
#[derive(Clone, Copy)]
struct Way {
    version: TlsVersion,
    address: fn() -> Address,
}

const WAYS: &[Way] = &[
    Way { version: TlsVersion::Tls12, address: any_port },
    Way { version: TlsVersion::Tls13, address: any_port },
    #[cfg(feature = "quic")]
    Way { version: TlsVersion::Tls13, address: crate::link::any_quic_port },
];

impl Way {
    async fn listener(self, options: TlsOptions) -> Listener {
        let options = ListenOptions { tls: only(self.version, options), ..ListenOptions::default() };
        Listener::bind(&(self.address)(), options).await.unwrap()
    }

    fn connector(self, options: TlsOptions) -> Connector {
        connector(only(self.version, options))
    }
}

fn only(version: TlsVersion, options: TlsOptions) -> Option<TlsConfig> {
    Some(TlsConfig::load(&TlsOptions { protocols: vec![version], ..options }).unwrap())
}

#[track_caller]
pub(crate) fn assert_says(result: &Result<(), Error>, part: &str) {
    let error = result.as_ref().expect_err(part).to_string();
    assert!(error.contains(part), "{error:?} does not say {part:?}");
    assert!(error.contains("127.0.0.1:"), "{error:?} does not say with whom");
}

#[tokio::test]
async fn a_dialing_peer_of_another_authority_is_refused() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    for way in WAYS {
        let listener = way.listener(ours.node(&["127.0.0.1"]).options(&ours)).await;
        let connector = way.connector(other.node(&["127.0.0.1"]).options(&ours));
        let (dialed, accepted) = exchange(&connector, &listener).await;
        assert_says(&accepted, "presented a certificate signed by an unknown authority");
        assert_says(&dialed, "refused us: our certificate is signed by an authority that it does not know");
    }
}

#[tokio::test]
async fn an_accepting_peer_of_another_authority_is_refused() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    for way in WAYS {
        let listener = way.listener(other.node(&["127.0.0.1"]).options(&ours)).await;
        let connector = way.connector(ours.node(&["127.0.0.1"]).options(&ours));
        let (dialed, accepted) = exchange(&connector, &listener).await;
        assert_says(&dialed, "presented a certificate signed by an unknown authority");
        assert_says(&accepted, "refused us: our certificate is signed by an authority that it does not know");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new("test");
    for way in WAYS {
        let listener = way.listener(authority.node(&["b.test", "192.0.2.1"]).options(&authority)).await;
        let connector = way.connector(authority.node(&["a.test"]).options(&authority));
        let (dialed, accepted) = exchange(&connector, &listener).await;
        assert_says(&dialed, "presented a certificate for another name");
        assert_says(&dialed, "b.test");
        assert_says(&accepted, "refused us: our certificate is bad, or not for the name that it dialled");
    }
}

#[tokio::test]
async fn a_certificate_not_meant_for_clients_is_refused() {
    let authority = Authority::new("test");
    for way in WAYS {
        let server_only = authority.node_with(&["127.0.0.1"], |params| {
            params.extended_key_usages.truncate(1);
        });
        let listener = way.listener(server_only.options(&authority)).await;
        let connector = way.connector(server_only.options(&authority));
        let (dialed, accepted) = exchange(&connector, &listener).await;
        assert_says(&accepted, "clientAuth");
        assert_says(&dialed, "extended key usage");
    }
}

#[tokio::test]
async fn a_certificate_that_expires_while_in_use_is_refused_from_then_on() {
    let authority = Authority::new("test");
    for way in WAYS {
        let listener = way.listener(authority.node(&["127.0.0.1"]).options(&authority)).await;
        let expiring = authority.expires_in(&["127.0.0.1"], SOON);
        let connector = way.connector(expiring.options(&authority));
        let (dialed, accepted) = loop {
            match exchange(&connector, &listener).await {
                (Ok(()), Ok(())) => tokio::time::sleep(Duration::from_millis(100)).await,
                refused => break refused,
            }
        };
        assert_says(&accepted, "presented a certificate that is expired");
        assert_says(&dialed, "refused us: our certificate is expired");
    }
}

#[tokio::test]
async fn an_accepting_peer_with_an_expired_certificate_is_refused() {
    let authority = Authority::new("test");
    let expired = authority.expired(&["127.0.0.1"]);
    let config = foreign::server(&expired);
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::from(Address::Tcp(socket.local_addr().unwrap()));
    let accept = async {
        let (stream, _) = socket.accept().await.unwrap();
        tokio_rustls::TlsAcceptor::from(config).accept(stream).await.map(drop)
    };
    let connector = connector(Some(authority.node(&["127.0.0.1"]).tls(&authority)));
    let (dialed, accepted) = tokio::join!(connector.connect(&target), accept);
    assert_says(&dialed.map(drop), "presented a certificate that is expired");
    assert!(accepted.unwrap_err().to_string().contains("CertificateExpired"));
}

/// Dials as somebody else's client, and reads to the end of it.
async fn foreign_end(address: &Address, authority: &Authority, node: Option<&Node>) -> std::io::Result<()> {
    foreign::dial(address, authority, node).await?.read_u8().await.map(drop)
}

#[tokio::test]
async fn a_dialing_peer_without_or_with_an_expired_certificate_is_refused() {
    let authority = Authority::new("test");
    let listener = listener(Some(authority.node(&["127.0.0.1"]).tls(&authority))).await;
    let expired = authority.expired(&["127.0.0.1"]);
    for (node, cause, alert) in [
        (None, "presented no certificate, but one is required", "CertificateRequired"),
        (Some(&expired), "presented a certificate that is expired", "CertificateExpired"),
    ] {
        let (client, accepted) = tokio::join!(foreign_end(listener.address(), &authority, node), async {
            listener.accept().await?.handshake().await.map(drop)
        });
        assert_says(&accepted, cause);
        let client = client.unwrap_err().to_string();
        assert!(client.contains(alert), "{client}");
    }
}

#[tokio::test]
async fn no_version_in_common_is_called_that() {
    let authority = Authority::new("test");
    let node = authority.node(&["127.0.0.1"]);
    let listener = listener(only(TlsVersion::Tls13, node.options(&authority))).await;
    let connector = connector(only(TlsVersion::Tls12, node.options(&authority)));
    let (dialed, accepted) = exchange(&connector, &listener).await;
    assert_says(&accepted, "no common ground for TLS");
    assert_says(&dialed, "no TLS version in common");
}

#[tokio::test]
async fn plain_text_to_a_tls_port_is_called_that_on_both_sides() {
    let authority = Authority::new("test");
    let listener = listener(Some(authority.node(&["127.0.0.1"]).tls(&authority))).await;
    let (dialed, accepted) = exchange(&connector(None), &listener).await;
    assert_says(&accepted, "plain text on a TLS port");
    assert_says(&dialed, "speaks TLS, but this side is set to plain text");
}

#[tokio::test]
async fn tls_to_a_plain_port_is_called_that_on_both_sides() {
    let authority = Authority::new("test");
    let connector = connector(Some(authority.node(&["127.0.0.1"]).tls(&authority)));
    let (dialed, accepted) = exchange(&connector, &listener(None).await).await;
    assert_says(&accepted, "speaks TLS, but this side is set to plain text");
    assert_says(&dialed, "it does not speak TLS");
}

/// Sends bytes to a listener and gives what comes back, to the end of the stream.
async fn garbage(listener: &Listener, bytes: &[u8]) -> Vec<u8> {
    let Address::Tcp(address) = listener.address() else { panic!("not TCP") };
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn garbage_on_a_tls_port_is_refused_with_an_alert() {
    let authority = Authority::new("test");
    let listener = listener(Some(authority.node(&["127.0.0.1"]).tls(&authority))).await;
    // More than a read takes, so that closing without care would reset the connection and lose the alert.
    let noise: Vec<u8> = b"GET / HTTP/1.1\r\n".repeat(5000);
    let (answer, accepted) = tokio::join!(garbage(&listener, &noise), async {
        listener.accept().await?.handshake().await.map(drop)
    });
    assert_says(&accepted, "does not speak TLS");
    assert_eq!(answer.first(), Some(&21), "an alert record: {answer:?}");
}

#[tokio::test]
async fn garbage_on_a_plain_port_is_refused() {
    let listener = listener(None).await;
    let (answer, received) = tokio::join!(garbage(&listener, b"GET / HTTP/1.1\r\n\r\n"), async {
        let (sender, mut receiver) = listener.accept().await?.handshake().await?.split();
        let received = receiver.recv().await.map(drop);
        sender.close().await?;
        received
    });
    assert_says(&received, "announced a frame of 1195725856 bytes, 1048576 are accepted");
    assert!(answer.is_empty());
}

#[tokio::test]
async fn a_chain_longer_than_verify_depth_is_refused_on_either_side() {
    let root = Authority::new("root");
    let first = root.intermediate("first");
    let second = first.intermediate("second");
    let mut node = second.node(&["127.0.0.1"]);
    node.certificate = format!("{}{}{}", node.certificate, second.pem, first.pem);
    let direct = root.node(&["127.0.0.1"]);
    let depth = |node: &Node, verify_depth| {
        Some(TlsConfig::load(&TlsOptions { verify_depth, ..node.options(&root) }).unwrap())
    };

    let (dialed, accepted) = exchange(&connector(depth(&node, 2)), &listener(depth(&node, 2)).await).await;
    dialed.unwrap();
    accepted.unwrap();

    let (dialed, accepted) = exchange(&connector(depth(&node, 0)), &listener(depth(&direct, 1)).await).await;
    assert_says(&accepted, "verify_depth = 1");
    assert_says(&dialed, "verify_depth");

    let (dialed, accepted) = exchange(&connector(depth(&direct, 1)), &listener(depth(&node, 0)).await).await;
    assert_says(&dialed, "verify_depth = 1");
    assert_says(&accepted, "verify_depth");

    let (dialed, accepted) =
        exchange(&connector(depth(&direct, 0)), &listener(depth(&direct, 0)).await).await;
    dialed.unwrap();
    accepted.unwrap();
}
