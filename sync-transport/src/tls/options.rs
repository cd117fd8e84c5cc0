//! What TLS is set up from.

use std::path::{Path, PathBuf};

use super::{CipherSuite, NamePattern, Pem};

/// How many intermediate certificates may stand between a peer's certificate and a trusted authority,
/// unless set otherwise. The default of `zone_sync_ssl_verify_depth`.
const VERIFY_DEPTH: usize = 1;

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl TlsVersion {
    /// As operators write it: `TLSv1.3`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

/// What TLS is set up from. The names are those of the `zone_sync_ssl_*` settings.
///
/// ```no_run
/// use sync_transport::{Pem, TlsConfig, TlsOptions};
///
/// let options = TlsOptions {
///     allowed_names: vec!["*.edge.example.com".parse()?],
///     ..TlsOptions::new(Pem::file("node.pem"), Pem::file("node.key"), Pem::file("ca.pem"))
/// };
/// let tls = TlsConfig::load(&options)?;
/// # Ok::<(), sync_transport::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// Our certificate, followed by the intermediates that lead to an authority, if any.
    pub certificate: Pem,
    /// The private key of our certificate: PKCS#8, PKCS#1 (RSA) or SEC1 (EC), or encrypted PKCS#8.
    pub certificate_key: Pem,
    /// Another certificate, and its key, to show when we dial; default the same in both directions.
    pub dial_certificate: Option<(Pem, Pem)>,
    /// A file with passphrases, one a line, that are tried in turn on keys that are encrypted.
    pub password_file: Option<PathBuf>,
    /// The authorities that peers' certificates have to be signed by. Required unless `verify` is off.
    pub trusted_certificate: Option<Pem>,
    /// Lists of revoked certificates, of every authority that signs peers or their intermediates.
    pub crl: Option<Pem>,
    /// Whether peers are verified, in both directions. Without it anybody who reaches the port is a peer,
    /// and anybody in between can read and change everything.
    pub verify: bool,
    /// How many intermediates may stand between a peer's certificate and a trusted authority; default 1.
    pub verify_depth: usize,
    /// Names of which a peer's certificate has to have one, whoever dials; default any.
    pub allowed_names: Vec<NamePattern>,
    /// The name to verify in the certificate of every peer we dial, instead of the host dialled.
    pub name: Option<String>,
    /// Whether to send the name to the peer we dial (SNI); default off. Addresses are never sent.
    pub server_name: bool,
    /// Versions of TLS allowed; default both.
    pub protocols: Vec<TlsVersion>,
    /// Cipher suites allowed, the preferred first; default [all](CipherSuite::all).
    pub ciphers: Vec<CipherSuite>,
    /// Whether sessions are resumed; default off. Not for a dialing side that may hang up without having
    /// read what the peer sent: unread tickets of TLS 1.3 make a close a reset, which overtakes data.
    pub session_reuse: bool,
    /// Whether the secrets of every session are written to the file that the environment variable
    /// `SSLKEYLOGFILE` names, so that captured traffic can be read; default off, whatever the environment.
    pub key_log: bool,
}

impl TlsOptions {
    /// Mutual authentication with the given material, everything else at its default.
    pub fn new(certificate: Pem, certificate_key: Pem, trusted_certificate: Pem) -> Self {
        Self {
            certificate,
            certificate_key,
            dial_certificate: None,
            password_file: None,
            trusted_certificate: Some(trusted_certificate),
            crl: None,
            verify: true,
            verify_depth: VERIFY_DEPTH,
            allowed_names: Vec::new(),
            name: None,
            server_name: false,
            protocols: vec![TlsVersion::Tls12, TlsVersion::Tls13],
            ciphers: CipherSuite::all().collect(),
            session_reuse: false,
            key_log: false,
        }
    }

    /// Every file that is read to set TLS up.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let dial = self.dial_certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
        [&self.certificate, &self.certificate_key]
            .into_iter()
            .chain(dial)
            .chain(&self.trusted_certificate)
            .chain(&self.crl)
            .filter_map(Pem::path)
            .chain(self.password_file.as_deref())
    }
}
