//! Authorities and certificates for tests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::UnixTime;
use sync_transport::{Pem, TlsConfig, TlsOptions};

/// An authority, the root or an intermediate.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    pub(crate) serial: SerialNumber,
}

/// A certificate with its key.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) serial: SerialNumber,
}

/// Time since 1970, in whole seconds, as certificates count.
pub(crate) fn at_1970() -> Duration {
    Duration::from_secs(UnixTime::now().as_secs())
}

/// Another one each time.
fn serial() -> SerialNumber {
    static LAST: AtomicU64 = AtomicU64::new(0);
    SerialNumber::from(LAST.fetch_add(1, Relaxed) + 1)
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let (params, key) = Self::params(name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { serial: params.serial_number.clone().unwrap(), issuer: Issuer::new(params, key), pem }
    }

    /// An authority below this one.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let (params, key) = Self::params(name);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { serial: params.serial_number.clone().unwrap(), issuer: Issuer::new(params, key), pem }
    }

    /// A list of revoked certificates, as PEM.
    pub(crate) fn crl(&self, revoked: &[&SerialNumber]) -> String {
        self.crl_until(revoked, at_1970() + Duration::from_secs(3600))
    }

    /// A list that is out of date after a time since 1970.
    pub(crate) fn crl_until(&self, revoked: &[&SerialNumber], until: Duration) -> String {
        let start = date_time_ymd(1970, 1, 1);
        let revoked_certs = revoked.iter().map(|&serial| RevokedCertParams {
            serial_number: serial.clone(),
            revocation_time: start + at_1970(),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: start + at_1970() - Duration::from_secs(60),
            next_update: start + until,
            crl_number: serial(),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    fn params(name: &str) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(serial());
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
        params.serial_number = Some(serial());
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Node {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            serial: params.serial_number.unwrap(),
        }
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
            params.not_after = date_time_ymd(1970, 1, 1) + at_1970() + lifetime;
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
