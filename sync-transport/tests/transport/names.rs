//! Peers are authorized, not only authenticated.

use rcgen::SanType;
use sync_transport::{CertificateFault, Error, TlsConfig, TlsOptions, TlsVersion};

use crate::certificates::{Authority, Node};
use crate::link::{connector, exchange, listener};
use crate::refusals::assert_says;

fn allowing(node: &Node, authority: &Authority, names: &[&str]) -> TlsOptions {
    let allowed_names = names.iter().map(|name| name.parse().unwrap()).collect();
    TlsOptions { allowed_names, ..node.options(authority) }
}

fn load(options: &TlsOptions) -> Option<TlsConfig> {
    Some(TlsConfig::load(options).unwrap())
}

#[tokio::test]
async fn a_peer_whose_name_is_not_allowed_is_refused_on_either_side() {
    let authority = Authority::new("test");
    let ours = authority.node(&["127.0.0.1", "ours.test"]);
    let other = authority.node(&["127.0.0.1", "other.test", "a.b.edge.test"]);
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let only = |options: TlsOptions| load(&TlsOptions { protocols: vec![version], ..options });
        let choosy = || only(allowing(&ours, &authority, &["ours.test", "*.edge.test"]));
        let any = || only(other.options(&authority));

        let (dialed, accepted) = exchange(&connector(any()), &listener(choosy()).await).await;
        assert_says(
            &accepted,
            "none of its names is among allowed_names: 127.0.0.1, other.test, a.b.edge.test",
        );
        assert_says(
            &dialed,
            "refused us: our certificate is not acceptable (its allowed_names may lack our names",
        );
        assert!(matches!(
            accepted,
            Err(Error::BadPeerCertificate { fault: CertificateFault::NameNotAllowed, .. })
        ));

        let (dialed, accepted) = exchange(&connector(choosy()), &listener(any()).await).await;
        assert_says(&dialed, "none of its names is among allowed_names");
        assert_says(&accepted, "refused us");

        let (dialed, accepted) = exchange(&connector(choosy()), &listener(choosy()).await).await;
        dialed.and(accepted).unwrap();
    }
}

#[tokio::test]
async fn names_of_every_kind_are_compared_with_patterns_of_their_kind() {
    let authority = Authority::new("test");
    let ours = authority.node(&["127.0.0.1"]);
    let peer = authority.node_with(&["127.0.0.1", "edge-7.edge.test"], |params| {
        let id = "spiffe://edge.test/sync/edge-7";
        params.subject_alt_names.push(SanType::URI(id.try_into().unwrap()));
        params.distinguished_name.push(rcgen::DnType::CommonName, "common.test");
    });
    let bare = authority.node_with(&[], |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "common.test");
    });
    for (node, pattern, allowed) in [
        (&peer, "edge-7.edge.test", true),
        (&peer, "*.edge.test", true),
        (&peer, "127.0.0.1", true),
        (&peer, "spiffe://edge.test/sync/*", true),
        (&peer, "spiffe://edge.test/*", false),
        (&peer, "10.0.0.7", false),
        // The common name is a name only where there is no other.
        (&peer, "common.test", false),
        (&bare, "common.test", true),
    ] {
        let listener = listener(load(&allowing(&ours, &authority, &[pattern]))).await;
        let (_, accepted) = exchange(&connector(load(&node.options(&authority))), &listener).await;
        assert_eq!(accepted.is_ok(), allowed, "{pattern}: {accepted:?}");
    }
    let nameless =
        authority.node_with(&[], |params| params.distinguished_name = rcgen::DistinguishedName::new());
    let listener = listener(load(&allowing(&ours, &authority, &["*.edge.test"]))).await;
    let (_, accepted) = exchange(&connector(load(&nameless.options(&authority))), &listener).await;
    assert_says(&accepted, "it has no name");
}

#[tokio::test]
async fn names_are_compared_after_the_authority_and_only_then() {
    let (authority, other) = (Authority::new("test"), Authority::new("other"));
    let ours = authority.node(&["127.0.0.1"]);
    let impostor = other.node(&["127.0.0.1"]);
    let listener = listener(load(&allowing(&ours, &authority, &["127.0.0.1"]))).await;
    let (_, accepted) = exchange(&connector(load(&impostor.options(&authority))), &listener).await;
    assert_says(&accepted, "signed by an unknown authority");

    let unverified = TlsOptions { verify: false, ..allowing(&ours, &authority, &["127.0.0.1"]) };
    let error = TlsConfig::load(&unverified).unwrap_err().to_string();
    assert!(error.contains("allowed_names: it means nothing without verification"), "{error}");
}
