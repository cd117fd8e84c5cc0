//! Loading, names and reloading.

use std::path::Path;

use sync_transport::{Error, Listener, Pem, Server, Target, TlsConfig, TlsOptions};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use crate::certificates::{Authority, Node};
use crate::foreign;
use crate::link::{connector as dialer, exchange, frame, listener as accepting, meet, target};

fn write(directory: &Path, name: &str, text: impl AsRef<[u8]>) -> Pem {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    Pem::file(path)
}

#[test]
fn errors_name_the_setting_the_file_and_the_cause() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str, text: &str| write(directory.path(), name, text);
    let authority = Authority::new("test");
    let node = authority.node(&["a.test"]);
    let good = TlsOptions::new(
        at("good.pem", &node.certificate),
        at("good.key", &node.key),
        at("ca.pem", &authority.pem),
    );
    TlsConfig::load(&good).unwrap();

    let certificate = |pem| TlsOptions { certificate: pem, ..good.clone() };
    let key = |pem| TlsOptions { certificate_key: pem, ..good.clone() };
    let trusted = |pem| TlsOptions { trusted_certificate: Some(pem), ..good.clone() };
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let future =
        authority.node_with(&["a.test"], |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
    for (options, parts) in [
        (certificate(Pem::file("missing.pem")), ["certificate missing.pem", "No such file"]),
        (certificate(at("empty.pem", "")), ["empty.pem", "no certificate in it (it is not PEM)"]),
        (
            certificate(at("swapped.pem", &node.key)),
            ["swapped.pem", "no certificate in it, only PRIVATE KEY"],
        ),
        (certificate(at("torn.pem", &node.certificate[..200])), ["torn.pem", "not valid PEM"]),
        (certificate(at("broken.pem", broken)), ["broken.pem", "cannot be read"]),
        (
            certificate(at("expired.pem", &authority.expired(&["a.test"]).certificate)),
            ["expired.pem", "expired since Jan"],
        ),
        (certificate(at("future.pem", &future.certificate)), ["future.pem", "not valid before"]),
        (key(Pem::file("missing.key")), ["certificate_key missing.key", "No such file"]),
        (
            key(at("swapped.key", &node.certificate)),
            ["swapped.key", "no private key in it, only CERTIFICATE"],
        ),
        (key(at("locked.key", encrypted)), ["locked.key", "the key is encrypted; name a password_file"]),
        (
            key(at("other.key", &authority.node(&["a.test"]).key)),
            ["other.key", "does not belong to the certificate"],
        ),
        (trusted(Pem::file("missing-ca.pem")), ["trusted_certificate missing-ca.pem", "No such file"]),
        (trusted(at("key-ca.pem", &node.key)), ["key-ca.pem", "no certificate in it"]),
        (trusted(at("broken-ca.pem", broken)), ["broken-ca.pem", "certificate 1 in it cannot be used"]),
        (TlsOptions { trusted_certificate: None, ..good.clone() }, ["trusted_certificate", "verify = false"]),
        (TlsOptions { protocols: Vec::new(), ..good.clone() }, ["protocols", "no"]),
        (TlsOptions { name: Some("not a name".to_owned()), ..good.clone() }, ["not a name", "host name"]),
    ] {
        let error = TlsConfig::load(&options).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }
}

#[test]
fn a_key_in_memory_is_never_shown() {
    let authority = Authority::new("test");
    let node = authority.node(&["a.test"]);
    let shown = format!("{:?} {:?}", node.options(&authority), node.tls(&authority));
    assert!(shown.contains("(in memory)"), "{shown}");
    assert!(!shown.contains("BEGIN") && !shown.contains(&node.key[40..60]), "{shown}");
}

/// Dials `listener` as if it were an entry of the list of servers with this host.
async fn dial_as(tls: TlsConfig, listener: &Listener, host: &str) -> Result<Vec<String>, Error> {
    let server = Server::Host { host: host.to_owned(), port: 1, transport: sync_transport::Transport::Tcp };
    let target = Target { server, host: host.to_owned(), ..target(listener) };
    let connector = dialer(Some(tls));
    let (dialed, accepted) =
        tokio::join!(connector.connect(&target), async { listener.accept().await?.handshake().await });
    let names = dialed?.peer().names.clone();
    accepted.map(|_| names)
}

#[tokio::test]
async fn the_host_dialled_is_verified_unless_a_name_is_set() {
    let authority = Authority::new("test");
    let node = authority.node(&["a.test", "*.b.test", "192.0.2.7", "2001:db8::7"]);
    let listener = accepting(Some(node.tls(&authority))).await;
    for host in ["a.test", "A.test", "x.b.test", "192.0.2.7", "2001:db8::7"] {
        let names = dial_as(node.tls(&authority), &listener, host).await.unwrap();
        assert_eq!(names, ["a.test", "*.b.test", "192.0.2.7", "2001:db8::7"]);
    }
    for host in ["c.test", "x.y.b.test", "192.0.2.8", "2001:db8::8"] {
        let error = dial_as(node.tls(&authority), &listener, host).await.unwrap_err();
        assert!(matches!(error, Error::BadPeerCertificate { .. }), "{host}: {error}");
    }
    let named = TlsOptions { name: Some("a.test".to_owned()), server_name: true, ..node.options(&authority) };
    dial_as(TlsConfig::load(&named).unwrap(), &listener, "c.test").await.unwrap();
    let named = TlsOptions { name: Some("d.test".to_owned()), ..named };
    let error = dial_as(TlsConfig::load(&named).unwrap(), &listener, "a.test").await.unwrap_err();
    assert!(error.to_string().contains("d.test was expected"), "{error}");
    let error = dial_as(node.tls(&authority), &listener, "not a name").await.unwrap_err();
    assert!(matches!(error, Error::InvalidName { .. }), "{error}");
}

#[tokio::test]
async fn without_verification_anybody_is_a_peer_and_nobody_has_a_name() {
    let stranger = Authority::new("other").node(&["x.test"]);
    let options = TlsOptions {
        verify: false,
        trusted_certificate: None,
        ..stranger.options(&Authority::new("unused"))
    };
    let tls = TlsConfig::load(&options).unwrap();
    let (dialed, accepted) = meet(&dialer(Some(tls.clone())), &accepting(Some(tls)).await).await;
    for end in [dialed.unwrap(), accepted.unwrap()] {
        assert!(end.peer().names.is_empty() && end.peer().tls.is_some(), "{:?}", end.peer());
    }
}

#[tokio::test]
async fn the_common_name_counts_where_there_is_no_other() {
    let authority = Authority::new("test");
    let mut common = authority.node(&["127.0.0.1"]);
    let bare = authority.node_with(&[], |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "edge-1");
    });
    let listener = accepting(Some(common.tls(&authority))).await;
    common = bare;
    let (_, accepted) = meet(&dialer(Some(common.tls(&authority))), &listener).await;
    assert_eq!(accepted.unwrap().peer().names, ["edge-1"]);
}

#[tokio::test]
async fn certificates_and_authorities_are_replaced_under_listener_and_connector() {
    let directory = TempDir::new().unwrap();
    let store = |authority: &Authority, node: &Node| {
        TlsOptions::new(
            write(directory.path(), "node.pem", &node.certificate),
            write(directory.path(), "node.key", &node.key),
            write(directory.path(), "ca.pem", &authority.pem),
        )
    };
    let old = Authority::new("old");
    let options = store(&old, &old.node(&["127.0.0.1"]));
    let (here, there) = (TlsConfig::load(&options).unwrap(), TlsConfig::load(&options).unwrap());
    let (connector, listener) = (dialer(Some(here.clone())), accepting(Some(there.clone())).await);
    let (dialed, accepted) = meet(&connector, &listener).await;
    let (mut sender, _receiver) = dialed.unwrap().split();
    let (_sender, mut receiver) = accepted.unwrap().split();

    // Half-written files: an error, and everything goes on as before.
    std::fs::write(directory.path().join("node.key"), "").unwrap();
    let error = here.reload().unwrap_err().to_string();
    assert!(error.contains("node.key"), "{error}");
    let (dialed, accepted) = exchange(&connector, &listener).await;
    dialed.and(accepted).unwrap();

    let new = Authority::new("new");
    store(&new, &new.node(&["127.0.0.1"]));
    here.reload().unwrap();
    let (dialed, accepted) = exchange(&connector, &listener).await;
    assert!(matches!(dialed, Err(Error::BadPeerCertificate { .. })), "{dialed:?}");
    assert!(matches!(accepted, Err(Error::RefusedByPeer { .. })), "{accepted:?}");
    there.reload().unwrap();
    let (dialed, accepted) = exchange(&connector, &listener).await;
    dialed.and(accepted).unwrap();

    sender.send(&[frame("still here")]).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "still here");
}

/// Unread tickets turn a close into a reset that overtakes data.
#[tokio::test]
async fn no_session_tickets_are_sent_unless_asked_for() {
    let authority = Authority::new("test");
    let node = authority.node(&["127.0.0.1"]);
    let listener = accepting(Some(node.tls(&authority))).await;
    let (client, accepted) =
        tokio::join!(foreign::dial(listener.address(), &authority, Some(&node)), async {
            let (mut sender, _receiver) = listener.accept().await.unwrap().handshake().await.unwrap().split();
            // Tickets would come before this.
            sender.send(&[frame("first")]).await.unwrap();
            sender.close().await
        });
    accepted.unwrap();
    let mut client = client.unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, frame("first"));
    assert_eq!(client.get_ref().1.tls13_tickets_received(), 0);
}
