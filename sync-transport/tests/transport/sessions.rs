//! What two sides agree on: groups, cipher suites, versions; and sessions that are resumed.

use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose as Purpose;
use sync_transport::{
    CertificateFault, CipherSuite, Connection, Connector, Error, Listener, Pem, TlsConfig, TlsOptions,
    TlsSession, TlsVersion,
};

use crate::certificates::{Authority, Node};
use crate::link::{connector, exchange, frame, listener, meet};
use crate::refusals::{SOON, assert_says};

const VERSIONS: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];

fn session(connection: &Connection) -> &TlsSession {
    connection.peer().tls.as_ref().unwrap()
}

async fn ends(options: &TlsOptions) -> (Connector, Listener) {
    let load = || Some(TlsConfig::load(options).unwrap());
    (connector(load()), listener(load()).await)
}

#[tokio::test]
async fn the_hybrid_group_is_preferred() {
    let authority = Authority::new("test");
    let options = authority.node(&["127.0.0.1"]).options(&authority);
    let (connector, listener) = ends(&options).await;
    let (dialed, accepted) = meet(&connector, &listener).await;
    for end in [dialed.unwrap(), accepted.unwrap()] {
        assert_eq!(session(&end).version, TlsVersion::Tls13);
        assert_eq!(session(&end).key_exchange.as_deref(), Some("X25519MLKEM768"));
        assert!(!session(&end).is_resumed);
    }
}

#[tokio::test]
async fn every_cipher_suite_is_used_where_it_is_the_only_one() {
    let authority = Authority::new("test");
    let node = authority.node(&["127.0.0.1"]);
    let mut tried = 0;
    // A certificate with an elliptic curve says nothing to suites with RSA.
    for suite in CipherSuite::all().filter(|suite| !suite.to_string().contains("RSA")) {
        let is_13 = !suite.to_string().contains("_WITH_");
        let options = TlsOptions {
            ciphers: vec![suite],
            protocols: vec![if is_13 { TlsVersion::Tls13 } else { TlsVersion::Tls12 }],
            ..node.options(&authority)
        };
        let (connector, listener) = ends(&options).await;
        let (dialed, accepted) = meet(&connector, &listener).await;
        for end in [dialed.unwrap(), accepted.unwrap()] {
            assert_eq!(session(&end).cipher_suite, Some(suite.to_string()));
        }
        tried += 1;
    }
    assert_eq!(tried, 6, "three for each version");
}

#[tokio::test]
async fn no_cipher_suite_in_common_is_called_that() {
    let authority = Authority::new("test");
    let node = authority.node(&["127.0.0.1"]);
    let with = |name: &str| {
        let options = TlsOptions {
            ciphers: vec![name.parse().unwrap()],
            protocols: vec![TlsVersion::Tls13],
            ..node.options(&authority)
        };
        Some(TlsConfig::load(&options).unwrap())
    };
    let listener = listener(with("TLS_AES_128_GCM_SHA256")).await;
    let (dialed, accepted) = exchange(&connector(with("TLS13_AES_256_GCM_SHA384")), &listener).await;
    assert_says(&accepted, "no common ground for TLS");
    assert_says(&dialed, "no TLS parameters in common");
}

#[test]
fn a_version_without_a_cipher_suite_and_an_unknown_suite_are_refused_with_the_known_ones() {
    let authority = Authority::new("test");
    let node = authority.node(&["127.0.0.1"]);
    let options =
        TlsOptions { ciphers: vec!["TLS_AES_128_GCM_SHA256".parse().unwrap()], ..node.options(&authority) };
    let error = TlsConfig::load(&options).unwrap_err().to_string();
    for part in ["ciphers: there is none of TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "protocols"]
    {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
    let error = "HIGH:!aNULL".parse::<CipherSuite>().unwrap_err().to_string();
    assert!(CipherSuite::all().all(|suite| error.contains(&suite.to_string())), "{error}");
    for suite in CipherSuite::all() {
        assert_eq!(suite.to_string().parse::<CipherSuite>().unwrap(), suite);
    }
}

#[tokio::test]
async fn another_certificate_is_shown_when_dialing() {
    let authority = Authority::new("test");
    let only = |name: &str, purpose: Purpose| {
        authority.node_with(&["127.0.0.1", name], |params| params.extended_key_usages = vec![purpose])
    };
    let server = only("server.test", Purpose::ServerAuth);
    let client = only("client.test", Purpose::ClientAuth);
    let dial = |node: &Node| Some((Pem::memory(&node.certificate), Pem::memory(&node.key)));
    for version in VERSIONS {
        let options = TlsOptions {
            dial_certificate: dial(&client),
            protocols: vec![version],
            ..server.options(&authority)
        };
        let (connector, listener) = ends(&options).await;
        let (dialed, accepted) = meet(&connector, &listener).await;
        assert_eq!(dialed.unwrap().peer().names, ["127.0.0.1", "server.test"]);
        assert_eq!(accepted.unwrap().peer().names, ["127.0.0.1", "client.test"]);
    }
    let mixed = Some((Pem::memory(&client.certificate), Pem::memory(&server.key)));
    let options = TlsOptions { dial_certificate: mixed, ..server.options(&authority) };
    let error = TlsConfig::load(&options).unwrap_err().to_string();
    assert!(error.starts_with("dial_certificate_key") && error.contains("does not belong"), "{error}");
    let expired = authority.expired(&["127.0.0.1"]);
    let options = TlsOptions { dial_certificate: dial(&expired), ..server.options(&authority) };
    let error = TlsConfig::load(&options).unwrap_err().to_string();
    assert!(error.starts_with("dial_certificate ") && error.contains("expired since"), "{error}");
}

/// Meets, sends a frame each way, and says whether both sides resumed a session.
async fn is_resumed(connector: &Connector, listener: &Listener) -> bool {
    let (dialed, accepted) = meet(connector, listener).await;
    let (dialed, accepted) = (dialed.unwrap(), accepted.unwrap());
    let resumed = session(&dialed).is_resumed;
    assert_eq!(resumed, session(&accepted).is_resumed);
    assert_eq!(dialed.peer().names, ["127.0.0.1"]);
    assert_eq!(accepted.peer().names, ["127.0.0.1"]);
    let (mut sender, _) = accepted.split();
    let (_sender, mut receiver) = dialed.split();
    sender.send(&[frame("hello")]).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "hello");
    resumed
}

#[tokio::test]
async fn sessions_are_resumed_if_asked_for_until_a_reload_on_either_side() {
    let authority = Authority::new("test");
    let node = authority.node(&["127.0.0.1"]);
    for version in VERSIONS {
        for session_reuse in [true, false] {
            let options = TlsOptions { session_reuse, protocols: vec![version], ..node.options(&authority) };
            let (here, there) = (TlsConfig::load(&options).unwrap(), TlsConfig::load(&options).unwrap());
            let (connector, listener) = (connector(Some(here.clone())), listener(Some(there.clone())).await);
            assert!(!is_resumed(&connector, &listener).await);
            assert_eq!(is_resumed(&connector, &listener).await, session_reuse);
            assert_eq!(is_resumed(&connector, &listener).await, session_reuse);
            for reloaded in [here, there] {
                reloaded.reload().unwrap();
                assert!(!is_resumed(&connector, &listener).await, "{version:?}");
                assert_eq!(is_resumed(&connector, &listener).await, session_reuse);
            }
        }
    }
}

#[tokio::test]
async fn a_peer_that_resumes_is_verified_anew() {
    let authority = Authority::new("test");
    let lasting = authority.node(&["127.0.0.1"]);
    for version in VERSIONS {
        for dialing_expires in [true, false] {
            let expiring = authority.expires_in(&["127.0.0.1"], SOON);
            let load = |node: &Node| {
                let options =
                    TlsOptions { session_reuse: true, protocols: vec![version], ..node.options(&authority) };
                Some(TlsConfig::load(&options).unwrap())
            };
            let (dials, accepts) =
                if dialing_expires { (&expiring, &lasting) } else { (&lasting, &expiring) };
            let (connector, listener) = (connector(load(dials)), listener(load(accepts)).await);
            let mut resumed = 0;
            let refused = loop {
                let (dialed, accepted) = meet(&connector, &listener).await;
                match (dialing_expires, dialed, accepted) {
                    (true, _, Err(error)) | (false, Err(error), _) => break error,
                    (_, Ok(dialed), Ok(accepted)) => {
                        resumed += u32::from(session(&dialed).is_resumed);
                        // Frames bring the ticket along.
                        let (mut sender, _) = accepted.split();
                        let (_sender, mut receiver) = dialed.split();
                        sender.send(&[frame("hello")]).await.unwrap();
                        receiver.recv().await.unwrap().unwrap();
                    }
                    (_, dialed, accepted) => panic!("{dialed:?} {accepted:?}"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            assert!(resumed > 0, "nothing was resumed");
            assert!(
                matches!(&refused, Error::BadPeerCertificate { fault: CertificateFault::Expired, .. }),
                "{version:?}, dialing_expires {dialing_expires}: {refused}"
            );
        }
    }
}
