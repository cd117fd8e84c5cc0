//! Revoked certificates, and what cannot be said to be one or not.

use std::fs;

use proptest::prelude::*;
use sync_transport::{CertificateFault, Connector, Error, Listener, Pem, TlsConfig, TlsOptions};
use tempfile::TempDir;

use crate::certificates::{Authority, Node, at_1970};
use crate::keys::openssl;
use crate::link::{connector, exchange, listener};
use crate::refusals::{SOON, assert_says};

async fn ends(dialing: TlsOptions, accepting: TlsOptions) -> (Connector, Listener) {
    let load = |options| Some(TlsConfig::load(&options).unwrap());
    (connector(load(dialing)), listener(load(accepting)).await)
}

fn with_crl(node: &Node, authority: &Authority, crl: &str) -> TlsOptions {
    TlsOptions { crl: Some(Pem::memory(crl)), ..node.options(authority) }
}

fn fault(result: Result<(), Error>) -> CertificateFault {
    match result {
        Err(Error::BadPeerCertificate { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_on_either_side_and_others_are_not() {
    let authority = Authority::new("test");
    let [good, revoked] = [(); 2].map(|()| authority.node(&["127.0.0.1"]));
    let crl = authority.crl(&[&revoked.serial]);

    let (connector, listener) = ends(revoked.options(&authority), with_crl(&good, &authority, &crl)).await;
    let (dialed, accepted) = exchange(&connector, &listener).await;
    assert_says(&accepted, "presented a certificate that is revoked");
    assert_says(&dialed, "refused us: our certificate is revoked");
    assert_eq!(fault(accepted), CertificateFault::Revoked);

    let (connector, listener) = ends(with_crl(&good, &authority, &crl), revoked.options(&authority)).await;
    let (dialed, accepted) = exchange(&connector, &listener).await;
    assert_says(&accepted, "refused us: our certificate is revoked");
    assert_eq!(fault(dialed), CertificateFault::Revoked);

    let both = with_crl(&good, &authority, &crl);
    let (connector, listener) = ends(both.clone(), both).await;
    let (dialed, accepted) = exchange(&connector, &listener).await;
    dialed.and(accepted).unwrap();
}

#[tokio::test]
async fn every_authority_of_a_chain_needs_a_list_and_a_revoked_intermediate_takes_its_nodes_along() {
    let root = Authority::new("root");
    let (first, second) = (root.intermediate("first"), root.intermediate("second"));
    let node_of = |authority: &Authority| {
        let mut node = authority.node(&["127.0.0.1"]);
        node.certificate.push_str(&authority.pem);
        node
    };
    let direct = root.node(&["127.0.0.1"]);
    let meet = async |peer: &Node, crl: String| {
        let (connector, listener) = ends(peer.options(&root), with_crl(&direct, &root, &crl)).await;
        exchange(&connector, &listener).await.1
    };

    let all = [root.crl(&[&second.serial]), first.crl(&[]), second.crl(&[])].concat();
    meet(&node_of(&first), all.clone()).await.unwrap();
    assert_eq!(fault(meet(&node_of(&second), all.clone()).await), CertificateFault::Revoked);

    let lacking = root.crl(&[]);
    let refused = meet(&node_of(&first), lacking).await;
    assert_says(&refused, "an authority whose CRL is not in `crl`");
    assert_eq!(fault(refused), CertificateFault::RevocationUnknown);

    // Of the same name, by another key.
    let forged = [root.crl(&[]), Authority::new("first").crl(&[])].concat();
    let refused = meet(&node_of(&first), forged).await;
    assert_eq!(fault(refused), CertificateFault::RevocationUnknown);
}

#[tokio::test]
async fn a_list_that_goes_out_of_date_refuses_new_connections() {
    let authority = Authority::new("test");
    let node = authority.node(&["127.0.0.1"]);
    let crl = authority.crl_until(&[], at_1970() + SOON);
    let (connector, listener) = ends(node.options(&authority), with_crl(&node, &authority, &crl)).await;
    let refused = loop {
        match exchange(&connector, &listener).await {
            (Ok(()), Ok(())) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            (_, refused) => break refused,
        }
    };
    assert_says(&refused, "whose CRL in `crl` is out of date");
    let error = TlsConfig::load(&with_crl(&node, &authority, &crl)).unwrap_err().to_string();
    for part in ["crl (in memory)", "CRL 1 in it, of CN=", "is out of date since", "a new one"] {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}

/// A root, an intermediate and two nodes, signed and revoked by OpenSSL alone.
#[tokio::test]
async fn chains_and_lists_of_openssl_are_understood() {
    const CONFIG: &str = "[ca]\ndefault_ca = it\n[it]\ndatabase = index\nserial = serial\ncrlnumber = crlnumber\nnew_certs_dir = .\n\
        default_md = sha256\npolicy = any\n[any]\ncommonName = supplied\n[node]\nsubjectAltName = IP:127.0.0.1\n";
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let run = |arguments: &str| openssl(directory.path(), arguments);
    let read = |name: &str| fs::read_to_string(at(name)).unwrap();
    fs::write(at("config"), CONFIG).unwrap();
    fs::write(at("index"), "").unwrap();
    for number in ["serial", "crlnumber"] {
        fs::write(at(number), "1000\n").unwrap();
    }
    run("req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 2 -subj /CN=root");
    run(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout between.key -out between.pem -days 2 \
         -subj /CN=between -CA root.pem -CAkey root.key -addext basicConstraints=critical,CA:true",
    );
    for node in ["good", "lost"] {
        run(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {node}.key -out {node}.csr -subj /CN={node}"
        ));
        run(&format!(
            "ca -batch -config config -cert between.pem -keyfile between.key -extensions node -notext -days 2 \
             -in {node}.csr -out {node}.pem"
        ));
    }
    run("ca -config config -cert between.pem -keyfile between.key -revoke lost.pem");
    run("ca -config config -cert between.pem -keyfile between.key -gencrl -crldays 2 -out between.crl");
    fs::write(at("index"), "").unwrap();
    run("ca -config config -cert root.pem -keyfile root.key -gencrl -crldays 2 -out root.crl");

    let crl = Pem::memory([read("root.crl"), read("between.crl")].concat());
    let options = |node: &str| TlsOptions {
        crl: Some(crl.clone()),
        ..TlsOptions::new(
            Pem::memory([read(&format!("{node}.pem")), read("between.pem")].concat()),
            Pem::memory(read(&format!("{node}.key"))),
            Pem::file(at("root.pem")),
        )
    };
    let (dialer, accepting) = ends(options("good"), options("good")).await;
    let (dialed, accepted) = exchange(&dialer, &accepting).await;
    dialed.and(accepted).unwrap();
    let (dialer, accepting) = ends(options("lost"), options("good")).await;
    assert_eq!(fault(exchange(&dialer, &accepting).await.1), CertificateFault::Revoked);

    // Without a number OpenSSL makes lists of version 1, which have no place for what is needed.
    fs::write(at("config"), CONFIG.replace("crlnumber = crlnumber\n", "")).unwrap();
    run("ca -config config -cert root.pem -keyfile root.key -gencrl -crldays 2 -out old.crl");
    let old = TlsOptions { crl: Some(Pem::file(at("old.crl"))), ..options("good") };
    let error = TlsConfig::load(&old).unwrap_err().to_string();
    assert!(
        error.contains("old.crl") && error.contains("version 1") && error.contains("crlnumber"),
        "{error}"
    );
}

#[test]
fn what_is_no_list_is_refused_with_its_name() {
    let authority = Authority::new("test");
    let node = authority.node(&["127.0.0.1"]);
    let broken = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    for (text, part) in [
        ("", "no CRL in it (it is not PEM)"),
        (node.certificate.as_str(), "no CRL in it, only CERTIFICATE"),
        (broken, "CRL 1 in it cannot be read"),
        (&authority.crl(&[])[..100], "not valid PEM"),
    ] {
        let error = TlsConfig::load(&with_crl(&node, &authority, text)).unwrap_err().to_string();
        assert!(error.contains(part) && error.starts_with("crl (in memory): "), "{error:?}: {part:?}");
    }
    let unverified = TlsOptions { verify: false, ..with_crl(&node, &authority, &authority.crl(&[])) };
    let error = TlsConfig::load(&unverified).unwrap_err().to_string();
    assert!(error.contains("crl: it means nothing without verification"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is in the files, and wherever a good one is damaged: an error or a good configuration.
    #[test]
    fn arbitrary_bytes_in_any_file_cost_an_error(
        noise in prop::collection::vec(any::<u8>(), 0..600),
        at in 0_usize..10_000,
        damage in any::<u8>(),
        which in 0_usize..4,
    ) {
        thread_local! {
            static MATERIAL: (Authority, Node, String) = {
                let authority = Authority::new("test");
                let node = authority.node(&["127.0.0.1"]);
                let crl = authority.crl(&[&node.serial]);
                (authority, node, crl)
            };
        }
        MATERIAL.with(|(authority, node, crl)| {
            let good: &String = [&node.certificate, &node.key, &authority.pem, crl][which];
            let mut damaged = good.clone().into_bytes();
            let length = damaged.len();
            damaged[at % length] = damage;
            let base64 = |label: &str| format!(
                "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
                noise.iter().map(|byte| char::from(b'A' + byte % 26)).take(noise.len() / 4 * 4).collect::<String>()
            );
            let labels = ["CERTIFICATE", "ENCRYPTED PRIVATE KEY", "CERTIFICATE", "X509 CRL"];
            for text in [noise.clone(), damaged, base64(labels[which]).into_bytes()] {
                let pem = Pem::memory(text);
                let mut options = with_crl(node, authority, crl);
                match which {
                    0 => options.certificate = pem,
                    1 => options.certificate_key = pem,
                    2 => options.trusted_certificate = Some(pem),
                    _ => options.crl = Some(pem),
                }
                let _ = TlsConfig::load(&options);
            }
        });
    }
}
