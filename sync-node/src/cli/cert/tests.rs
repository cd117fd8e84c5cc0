use super::*;
use std::os::unix::fs::PermissionsExt;

fn cert(arguments: &[&str]) -> Result<()> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }
    let line = <Line as clap::Parser>::try_parse_from([&["cert"], arguments].concat())?;
    main(&line.command)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn a_ca_and_a_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("certs");
    let dir = path.to_str().expect("a name");
    cert(&["ca", "--out", dir]).expect("a CA");
    cert(&["node", "edge-1", "--ca", dir, "--out", dir, "--host", "10.0.0.1", "--host", "sync.example.com"])
        .expect("a node");
    for name in ["ca", "edge-1"] {
        assert_eq!(mode(&path.join(format!("{name}.key"))), 0o600);
        assert!(
            read(&path.join(format!("{name}.pem")))
                .expect("written")
                .starts_with("-----BEGIN CERTIFICATE-----")
        );
    }
}

#[test]
fn nothing_is_written_over_unless_told_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("a name");
    cert(&["ca", "--out", dir]).expect("a CA");
    let before = read(&folder.path().join("ca.key")).expect("written");
    let error = cert(&["ca", "--out", dir]).expect_err("refused").to_string();
    assert_eq!(error, format!("{dir}/ca.pem exists already; give --force to replace it"));
    assert_eq!(read(&folder.path().join("ca.key")).expect("written"), before);
    cert(&["ca", "--out", dir, "--force"]).expect("a CA");
    assert_ne!(read(&folder.path().join("ca.key")).expect("written"), before);
    assert_eq!(mode(&folder.path().join("ca.key")), 0o600);
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("a name");
    let error = format!("{:#}", cert(&["node", "a", "--ca", dir, "--out", dir]).expect_err("no CA"));
    assert!(
        error.starts_with(&format!("cannot read {dir}/ca.pem; make a CA first with `sync-node cert ca`")),
        "{error}"
    );
    fs::write(folder.path().join("ca.pem"), "x").expect("written");
    fs::write(folder.path().join("ca.key"), "x").expect("written");
    let error = format!("{:#}", cert(&["node", "a", "--ca", dir, "--out", dir]).expect_err("a bad CA"));
    assert!(error.contains("ca.key is not a private key"), "{error}");
    for name in ["ca", "../a", "", "-a", "a b"] {
        assert!(cert(&["node", "--ca", dir, "--", name]).is_err(), "{name}");
    }
    assert!(cert(&["node", "a", "--host", "10.0.0.1:9000"]).is_err());
    assert!(cert(&["node", "a", "--days", "0"]).is_err());
}

#[test]
fn a_list_of_revoked_certificates_grows() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("a name");
    let at = |name: &str| format!("{dir}/{name}");
    cert(&["ca", "--out", dir]).expect("a CA");
    for name in ["edge-1", "edge-2"] {
        cert(&["node", name, "--ca", dir, "--out", dir]).expect("a node");
    }
    let subject = x509_parser::pem::Pem::iter_from_buffer(
        read(&folder.path().join("ca.pem")).expect("read").as_bytes(),
    )
    .next()
    .expect("a block")
    .expect("PEM")
    .parse_x509()
    .expect("a certificate")
    .subject()
    .as_raw()
    .to_vec();
    let crl = folder.path().join("crl.pem");
    let revoked = || crl::listed(&crl, &subject).expect("a list").len();
    cert(&["revoke", "--ca", dir, "--out", dir]).expect("an empty list");
    assert_eq!(revoked(), 0);
    cert(&["revoke", &at("edge-1.pem"), "--ca", dir, "--out", dir]).expect("a list");
    assert_eq!(revoked(), 1);
    cert(&["revoke", &at("edge-1.pem"), &at("edge-2.pem"), "--ca", dir, "--out", dir]).expect("a list");
    assert_eq!(revoked(), 2);
    assert_eq!(mode(&crl), 0o644);

    let other = at("other");
    cert(&["ca", "--out", &other]).expect("a CA");
    for (arguments, part) in [
        (["revoke", &at("edge-1.pem"), "--ca", &other, "--out", &other].as_slice(), "signed by another CA"),
        (&["revoke", "--ca", &other, "--out", dir], "the list of another CA"),
        (&["revoke", &at("ca.key"), "--ca", dir, "--out", dir], "not a certificate"),
        (&["revoke", &at("absent.pem"), "--ca", dir, "--out", dir], "absent.pem"),
    ] {
        let error = format!("{:#}", cert(arguments).expect_err("refused"));
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(revoked(), 2);
}
