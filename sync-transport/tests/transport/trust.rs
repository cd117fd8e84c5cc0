//! Trust ends when certificates expire, are revoked or are no longer allowed; and files are followed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sync_transport::{
    CertificateFault, Connection, Error, Listener, Pem, TlsConfig, TlsOptions, TlsVersion, Trust,
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::certificates::{Authority, Node, at_1970};
use crate::link::{connector, exchange, listener, meet};
use crate::refusals::SOON;

/// Long enough that running into it is a failure, even on a busy machine.
const NEVER: Duration = Duration::from_secs(60);

/// Two ends that are connected, and the configuration of each.
struct Scene {
    here: TlsConfig,
    there: TlsConfig,
    _listener: Listener,
    dialed: Connection,
    accepted: Connection,
}

impl Scene {
    async fn new(dialing: &TlsOptions, accepting: &TlsOptions) -> Self {
        let (here, there) = (TlsConfig::load(dialing).unwrap(), TlsConfig::load(accepting).unwrap());
        let listener = listener(Some(there.clone())).await;
        let (dialed, accepted) = meet(&connector(Some(here.clone())), &listener).await;
        Self { here, there, _listener: listener, dialed: dialed.unwrap(), accepted: accepted.unwrap() }
    }

    /// Trust in the peer, of the dialing and of the accepting side.
    fn trusts(&self) -> [Trust; 2] {
        [&self.dialed, &self.accepted].map(|end| end.trust().unwrap())
    }
}

async fn fault(trust: Trust) -> CertificateFault {
    match timeout(NEVER, trust.lost()).await.expect("trusted for ever") {
        Error::BadPeerCertificate { fault, .. } => fault,
        error => panic!("{error}"),
    }
}

/// Whether trust stands after everything that has happened was looked at.
async fn stands(trust: Trust) -> bool {
    timeout(Duration::from_millis(50), trust.lost()).await.is_err()
}

#[tokio::test]
async fn trust_ends_on_either_side_when_what_is_loaded_speaks_against_the_peer() {
    let (authority, other) = (Authority::new("test"), Authority::new("other"));
    let node = authority.node(&["127.0.0.1"]);
    let options = node.options(&authority);
    for (changed, expected) in [
        (
            TlsOptions { crl: Some(Pem::memory(authority.crl(&[&node.serial]))), ..options.clone() },
            CertificateFault::Revoked,
        ),
        (
            TlsOptions { trusted_certificate: Some(Pem::memory(&other.pem)), ..options.clone() },
            CertificateFault::UnknownAuthority,
        ),
        (
            TlsOptions { allowed_names: vec!["edge.test".parse().unwrap()], ..options.clone() },
            CertificateFault::NameNotAllowed,
        ),
        (
            TlsOptions { crl: Some(Pem::memory(other.crl(&[]))), ..options.clone() },
            CertificateFault::RevocationUnknown,
        ),
    ] {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let options = TlsOptions { protocols: vec![version], ..options.clone() };
            let scene = Scene::new(&options, &options).await;
            let [dialing, accepting] = scene.trusts();
            // What changes nothing for the peer is no matter to it.
            scene.here.reload().unwrap();
            scene
                .there
                .replace(&TlsOptions { allowed_names: vec!["127.0.0.1".parse().unwrap()], ..options.clone() })
                .unwrap();
            assert!(stands(dialing.clone()).await && stands(accepting.clone()).await);
            scene.here.replace(&changed).unwrap();
            assert_eq!(fault(dialing).await, expected);
            assert!(stands(accepting.clone()).await);
            scene.there.replace(&changed).unwrap();
            assert_eq!(fault(accepting).await, expected);
        }
    }
}

#[tokio::test]
async fn the_name_that_was_dialled_goes_on_to_be_verified() {
    let authority = Authority::new("test");
    let options = authority.node(&["127.0.0.1"]).options(&authority);
    let scene = Scene::new(&options, &options).await;
    let [dialing, accepting] = scene.trusts();
    let renamed = TlsOptions { name: Some("edge.test".to_owned()), ..options };
    for config in [&scene.here, &scene.there] {
        config.replace(&renamed).unwrap();
    }
    assert_eq!(fault(dialing).await, CertificateFault::WrongName);
    assert!(stands(accepting).await, "who dials need not have the name of whom it dials");
}

#[tokio::test]
async fn trust_ends_when_the_certificate_expires() {
    let authority = Authority::new("test");
    let lasting = authority.node(&["127.0.0.1"]).options(&authority);
    let expiring = || authority.expires_in(&["127.0.0.1"], SOON).options(&authority);
    let (dials, accepts) = tokio::join!(
        async {
            let [dialing, accepting] = Scene::new(&expiring(), &lasting).await.trusts();
            assert!(stands(dialing).await);
            fault(accepting).await
        },
        async {
            let [dialing, accepting] = Scene::new(&lasting, &expiring()).await.trusts();
            assert!(stands(accepting).await);
            fault(dialing).await
        }
    );
    assert_eq!([dials, accepts], [CertificateFault::Expired; 2]);
}

/// Nothing is known of the peer that was not before; its certificate expires all the same.
#[tokio::test]
async fn a_list_that_goes_out_of_date_leaves_connections_alone() {
    let authority = Authority::new("test");
    let ours = authority.node(&["127.0.0.1"]);
    let crl = authority.crl_until(&[], at_1970() + SOON);
    let options = TlsOptions { crl: Some(Pem::memory(crl)), ..ours.options(&authority) };
    let mut peer = authority.expires_in(&["127.0.0.1"], SOON + Duration::from_secs(2));
    // Not needed for the chain, but looked at when it expires, which is after the list does.
    peer.certificate.push_str(&authority.expires_in(&["x.test"], SOON + Duration::from_secs(1)).certificate);
    let scene = Scene::new(&peer.options(&authority), &options).await;
    let [_, accepting] = scene.trusts();
    assert_eq!(fault(accepting).await, CertificateFault::Expired);
}

#[tokio::test]
async fn a_reload_during_the_handshake_is_not_missed() {
    let authority = Authority::new("test");
    let node = authority.node(&["127.0.0.1"]);
    let options = node.options(&authority);
    let (here, there) = (TlsConfig::load(&options).unwrap(), TlsConfig::load(&options).unwrap());
    let listener = listener(Some(there.clone())).await;
    let (connector, target) = (connector(Some(here)), listener.address().clone().into());
    let crl = Some(Pem::memory(authority.crl(&[&node.serial])));
    let dialing = tokio::spawn(async move { connector.connect(&target).await });
    let mut handshake = std::pin::pin!(listener.accept().await.unwrap().handshake());
    // It has begun, with what was loaded then.
    assert!(futures_poll_once(handshake.as_mut()).await.is_none());
    there.replace(&TlsOptions { crl, ..options }).unwrap();
    let accepted = handshake.await.unwrap();
    assert_eq!(fault(accepted.trust().unwrap()).await, CertificateFault::Revoked);
    dialing.await.unwrap().unwrap();
}

/// What a future has to say at the first time of asking.
async fn futures_poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

fn store(directory: &Path, authority: &Authority, node: &Node) -> TlsOptions {
    let write = |name: &str, text: &str| {
        fs::write(directory.join(name), text).unwrap();
        Pem::file(directory.join(name))
    };
    TlsOptions::new(
        write("node.pem", &node.certificate),
        write("node.key", &node.key),
        write("ca.pem", &authority.pem),
    )
}

#[tokio::test]
async fn changed_files_are_read_once_they_keep_still_and_broken_ones_complained_of_once() {
    let directory = TempDir::new().unwrap();
    let authority = Authority::new("test");
    let options = store(directory.path(), &authority, &authority.node(&["127.0.0.1", "first.test"]));
    let tls = TlsConfig::load(&options).unwrap();
    let (connector, listener) = (connector(Some(tls.clone())), listener(Some(tls.clone())).await);
    let name = async || meet(&connector, &listener).await.0.unwrap().peer().names[1].clone();
    assert!(tls.reload_changed().is_none());
    assert_eq!(name().await, "first.test");

    let second = authority.node(&["127.0.0.1", "second.test"]);
    fs::write(directory.path().join("node.pem"), &second.certificate).unwrap();
    assert!(tls.reload_changed().is_none(), "the key may be still to come");
    fs::write(directory.path().join("node.key"), &second.key).unwrap();
    assert!(tls.reload_changed().is_none());
    assert_eq!(name().await, "first.test");
    tls.reload_changed().expect("changed").unwrap();
    assert_eq!(name().await, "second.test");
    assert!(tls.reload_changed().is_none());

    fs::write(directory.path().join("node.pem"), "broken").unwrap();
    assert!(tls.reload_changed().is_none());
    let error = tls.reload_changed().expect("changed").unwrap_err().to_string();
    assert!(error.contains("node.pem: no certificate in it"), "{error}");
    assert!(tls.reload_changed().is_none(), "said once");
    fs::remove_file(directory.path().join("node.pem")).unwrap();
    assert!(tls.reload_changed().is_none());
    let error = tls.reload_changed().expect("changed").unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
    assert_eq!(name().await, "second.test");

    let third = authority.node(&["127.0.0.1", "third.test"]);
    store(directory.path(), &authority, &third);
    assert!(tls.reload_changed().is_none());
    tls.reload_changed().expect("changed").unwrap();
    assert_eq!(name().await, "third.test");
    let (dialed, accepted) = exchange(&connector, &listener).await;
    dialed.and(accepted).unwrap();
}

/// Kubernetes puts a new folder beside the old one and swaps a link that the names lead through.
#[test]
fn a_link_that_is_swapped_is_noticed() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let authority = Authority::new("test");
    for folder in ["..1", "..2"] {
        fs::create_dir(at(folder)).unwrap();
        store(&at(folder), &authority, &authority.node(&["127.0.0.1"]));
    }
    std::os::unix::fs::symlink("..1", at("..data")).unwrap();
    let file = |name: &str| {
        std::os::unix::fs::symlink(format!("..data/{name}"), at(name)).unwrap();
        Pem::file(at(name))
    };
    let options = TlsOptions::new(file("node.pem"), file("node.key"), file("ca.pem"));
    let tls = TlsConfig::load(&options).unwrap();
    assert!(tls.reload_changed().is_none());
    std::os::unix::fs::symlink("..2", at("..new")).unwrap();
    fs::rename(at("..new"), at("..data")).unwrap();
    assert!(tls.reload_changed().is_none());
    tls.reload_changed().expect("changed").unwrap();
    assert!(tls.reload_changed().is_none());
}
