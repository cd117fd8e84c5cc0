//! Keys that are encrypted, as OpenSSL does it.

use std::path::Path;
use std::process::{Command, Stdio};

use sync_transport::{Pem, TlsConfig, TlsOptions};
use tempfile::TempDir;

use crate::certificates::{Authority, Node};
use crate::link::{connector, exchange, listener};

/// Runs openssl in `directory`, which has to succeed.
pub(crate) fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .expect("the package openssl is installed");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

struct Scene {
    directory: TempDir,
    authority: Authority,
    node: Node,
}

impl Scene {
    /// A node whose key lies in `plain.key`, and passphrases in `passphrases`, the right one last.
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let authority = Authority::new("test");
        let node = authority.node(&["127.0.0.1"]);
        std::fs::write(directory.path().join("plain.key"), &node.key).unwrap();
        std::fs::write(directory.path().join("passphrases"), "wrong\r\n\nopen sesame\r\n").unwrap();
        Self { directory, authority, node }
    }

    fn options(&self, key: &str, passphrases: Option<&str>) -> TlsOptions {
        TlsOptions {
            certificate_key: Pem::file(self.directory.path().join(key)),
            password_file: passphrases.map(|file| self.directory.path().join(file)),
            ..self.node.options(&self.authority)
        }
    }

    fn error(&self, key: &str, passphrases: Option<&str>) -> String {
        TlsConfig::load(&self.options(key, passphrases)).unwrap_err().to_string()
    }
}

#[tokio::test]
async fn keys_encrypted_by_openssl_are_opened_by_the_right_passphrase() {
    let scene = Scene::new();
    // The first is what OpenSSL does if nothing is said: PBES2 with AES-256-CBC and HMAC-SHA256.
    for how in ["", " -v2 aes-128-cbc", " -v2 aes-256-cbc -v2prf hmacWithSHA512", " -scrypt -scrypt_N 1024"] {
        let command = format!("pkcs8 -topk8 -in plain.key -out locked.key -passout pass:open$sesame{how}");
        std::fs::write(scene.directory.path().join("passphrases"), "wrong\r\n\nopen$sesame\r\n").unwrap();
        openssl(scene.directory.path(), &command);
        let tls = TlsConfig::load(&scene.options("locked.key", Some("passphrases"))).unwrap();
        let (dialed, accepted) = exchange(&connector(Some(tls.clone())), &listener(Some(tls)).await).await;
        dialed.and(accepted).unwrap();
    }
    // Passphrases are of no matter to a key that is not encrypted.
    TlsConfig::load(&scene.options("plain.key", Some("passphrases"))).unwrap();
}

#[test]
fn a_key_that_cannot_be_opened_says_what_to_do() {
    let scene = Scene::new();
    let at = scene.directory.path();
    openssl(at, "pkcs8 -topk8 -in plain.key -out locked.key -passout pass:another");
    openssl(at, "ec -in plain.key -out old.key -aes256 -passout pass:another");
    openssl(at, "pkcs8 -topk8 -in plain.key -out des.key -v1 PBE-SHA1-3DES -passout pass:another");
    std::fs::write(at.join("empty"), "\n\n").unwrap();
    for (key, passphrases, parts) in [
        ("locked.key", None, ["certificate_key", "name a password_file"]),
        ("locked.key", Some("passphrases"), ["no passphrase of 2", "passphrases opens it"]),
        ("locked.key", Some("absent"), ["password_file", "No such file"]),
        ("locked.key", Some("empty"), ["password_file", "no passphrase in it; write one a line"]),
        ("old.key", Some("passphrases"), ["form of old", "openssl pkcs8 -topk8 -v2 aes-256-cbc"]),
        ("des.key", Some("passphrases"), ["not known here", "openssl pkcs8 -topk8 -v2 aes-256-cbc"]),
    ] {
        let error = scene.error(key, passphrases);
        for part in parts {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }
}
