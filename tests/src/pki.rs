//! Certificates: of the tool itself (`sync-node cert`), and wrong ones that it would not make.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::{Encryption, since_1970};

/// Validity of a certificate made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Valid for as long as the tests matter.
    Valid,
    /// Was valid until the end of 2020.
    Expired,
    /// Expires so long from now, to the second. A node starts with it, and runs on when it has expired.
    Expires(Duration),
}

/// A certificate authority of a test.
#[derive(Debug)]
pub struct Authority {
    name: String,
    issuer: Issuer<'static, KeyPair>,
    directory: PathBuf,
    certificate: PathBuf,
}

impl Authority {
    /// A new authority with files in `directory`.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub fn new(name: &str, directory: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let file = directory.join(format!("{name}.ca.pem"));
        fs::write(&file, certificate.pem()).expect("the directory is writable");
        Self {
            name: name.to_owned(),
            issuer: Issuer::new(params, key),
            directory: directory.to_owned(),
            certificate: file,
        }
    }

    /// The file with its certificate.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// A certificate for a node of this name and address, and what its configuration says to use it.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub fn node(&self, name: &str, ip: impl Into<IpAddr>, identity: Identity) -> Encryption {
        let mut params =
            CertificateParams::new(vec![name.to_owned(), ip.into().to_string()]).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, name);
        match identity {
            Identity::Valid => {}
            Identity::Expired => {
                params.not_before = rcgen::date_time_ymd(2020, 1, 1);
                params.not_after = rcgen::date_time_ymd(2020, 12, 31);
            }
            Identity::Expires(after) => {
                params.not_after = rcgen::date_time_ymd(1970, 1, 1) + (since_1970() + after)
            }
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let file = format!("{name}-of-{}", self.name);
        let [certificate_file, key_file] =
            ["pem", "key"].map(|extension| self.directory.join(format!("{file}.{extension}")));
        fs::write(&certificate_file, certificate.pem()).expect("the directory is writable");
        fs::write(&key_file, key.serialize_pem()).expect("the directory is writable");
        Encryption::Tls { certificate: certificate_file, key: key_file, trusted: self.certificate.clone() }
    }
}
