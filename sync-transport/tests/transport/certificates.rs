//! Authorities and certificates for tests.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::UnixTime;
use sync_transport::{Pem, TlsConfig, TlsOptions};

/// An authority, the root or an intermediate.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate with its key.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let (params, key) = Self::params(name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// An authority below this one.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let (params, key) = Self::params(name);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn params(name: &str) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        (params, KeyPair::generate().unwrap())
    }

    /// A certificate for these DNS names and IP addresses.
    pub(crate) fn node(&self, names: &[&str]) -> Node {
        self.node_with(names, |_| {})
    }

    pub(crate) fn node_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Node {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Node { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn expired(&self, names: &[&str]) -> Node {
        self.node_with(names, |params| {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        })
    }

    /// A certificate that expires when `lifetime` has passed.
    pub(crate) fn expires_in(&self, names: &[&str], lifetime: Duration) -> Node {
        self.node_with(names, |params| {
            let now = Duration::from_secs(UnixTime::now().as_secs());
            params.not_after = date_time_ymd(1970, 1, 1) + now + lifetime;
        })
    }
}

impl Node {
    /// Options for this certificate that trust `authority`.
    pub(crate) fn options(&self, authority: &Authority) -> TlsOptions {
        TlsOptions::new(Pem::memory(&self.certificate), Pem::memory(&self.key), Pem::memory(&authority.pem))
    }

    pub(crate) fn tls(&self, authority: &Authority) -> TlsConfig {
        TlsConfig::load(&self.options(authority)).unwrap()
    }
}
