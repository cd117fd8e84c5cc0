//! Who we are and whom we trust: certificates, keys and authorities, for both directions.
//!
//! Authentication is mutual unless it is turned off: whoever dials verifies that the peer's certificate
//! is signed by a trusted authority *and* is for the name dialled; whoever accepts demands a certificate
//! and verifies that it is signed by a trusted authority. One certificate serves both directions, so an
//! extended key usage, if there is one, has to allow both `serverAuth` and `clientAuth`.
//!
//! No session tickets are sent and no sessions resumed: a connection that is closed while tickets lie
//! unread makes the kernel reset it, and the reset overtakes data (measured: 3 MB of 1 GiB lost). A link
//! lives for days, so a full handshake costs nothing that matters.

pub(crate) mod explain;
mod identity;
mod pem;
mod verify;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage};
use rustls::{ClientConfig, ConfigBuilder, ConfigSide, InconsistentKeys, ServerConfig, WantsVerifier};

pub use pem::Pem;

use crate::Error;

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

/// What TLS is set up from. The names are those of the `zone_sync_ssl_*` settings.
///
/// ```no_run
/// use sync_transport::{Pem, TlsConfig, TlsOptions};
///
/// let options = TlsOptions {
///     name: Some("sync.example.com".to_owned()),
///     ..TlsOptions::new(Pem::file("node.pem"), Pem::file("node.key"), Pem::file("ca.pem"))
/// };
/// let tls = TlsConfig::load(&options)?;
/// # Ok::<(), sync_transport::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// Our certificate, followed by the intermediates that lead to an authority, if any.
    pub certificate: Pem,
    /// The private key of our certificate: PKCS#8, PKCS#1 (RSA) or SEC1 (EC), not encrypted.
    pub certificate_key: Pem,
    /// The authorities that peers' certificates have to be signed by. Required unless `verify` is off.
    pub trusted_certificate: Option<Pem>,
    /// Whether peers are verified, in both directions. Without it anybody who reaches the port is a peer,
    /// and anybody in between can read and change everything.
    pub verify: bool,
    /// How many intermediates may stand between a peer's certificate and a trusted authority; default 1.
    pub verify_depth: usize,
    /// The name to verify in the certificate of every peer we dial, instead of the host dialled.
    pub name: Option<String>,
    /// Whether to send the name to the peer we dial (SNI); default off. Addresses are never sent.
    pub server_name: bool,
    /// Versions of TLS allowed; default both.
    pub protocols: Vec<TlsVersion>,
}

impl TlsOptions {
    /// Mutual authentication with the given material, everything else at its default.
    pub fn new(certificate: Pem, certificate_key: Pem, trusted_certificate: Pem) -> Self {
        Self {
            certificate,
            certificate_key,
            trusted_certificate: Some(trusted_certificate),
            verify: true,
            verify_depth: VERIFY_DEPTH,
            name: None,
            server_name: false,
            protocols: vec![TlsVersion::Tls12, TlsVersion::Tls13],
        }
    }
}

/// TLS, ready for use by connectors and listeners, and replaceable under them.
///
/// Clones share one state: [`reload`](Self::reload) on any of them changes all. Connections that are
/// established keep what they were made with.
#[derive(Clone)]
pub struct TlsConfig {
    state: Arc<RwLock<State>>,
}

struct State {
    options: TlsOptions,
    loaded: Arc<Loaded>,
}

/// What one handshake needs; a handshake uses one from beginning to end.
pub(crate) struct Loaded {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    /// Overrides the host dialled.
    name: Option<ServerName<'static>>,
    verify: bool,
}

impl TlsConfig {
    /// Reads and checks everything that the options name.
    ///
    /// # Errors
    /// [`Error::Certificate`] names the setting, the file and the cause: not found, nothing of the kind
    /// in it, the key belongs to another certificate, our certificate is expired or not valid yet, and
    /// so on. [`Error::InvalidName`] and [`Error::InvalidOption`] for the rest of the options.
    pub fn load(options: &TlsOptions) -> Result<Self, Error> {
        let loaded = Arc::new(Loaded::new(options)?);
        Ok(Self { state: Arc::new(RwLock::new(State { options: options.clone(), loaded })) })
    }

    /// Reads the same files again, for handshakes from now on.
    ///
    /// # Errors
    /// As [`load`](Self::load); then what was in use before stays in use.
    pub fn reload(&self) -> Result<(), Error> {
        let options = self.state.read().unwrap_or_else(PoisonError::into_inner).options.clone();
        self.replace(&options)
    }

    /// Changes to other options, for handshakes from now on.
    ///
    /// # Errors
    /// As [`load`](Self::load); then what was in use before stays in use.
    pub fn replace(&self, options: &TlsOptions) -> Result<(), Error> {
        let loaded = Arc::new(Loaded::new(options)?);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *state = State { options: options.clone(), loaded };
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<Loaded> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).loaded)
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("TlsConfig").field("options", &state.options).finish_non_exhaustive()
    }
}

impl Loaded {
    fn new(options: &TlsOptions) -> Result<Self, Error> {
        // Given explicitly: the process-wide default belongs to the application that embeds us.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = pem::certificates("certificate", &options.certificate)?;
        identity::check_validity(&options.certificate, &chain)?;
        let key = pem::key(&options.certificate_key)?;
        let (server_verifier, client_verifier) = verifiers(options, &provider)?;

        let mut client = builder(ClientConfig::builder_with_provider(Arc::clone(&provider)), options)?
            .dangerous()
            .with_custom_certificate_verifier(server_verifier)
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(|error| key_refused(options, &error))?;
        client.enable_sni = options.server_name;
        client.resumption = Resumption::disabled();

        let mut server = builder(ServerConfig::builder_with_provider(provider), options)?
            .with_client_cert_verifier(client_verifier)
            .with_single_cert(chain, key)
            .map_err(|error| key_refused(options, &error))?;
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});

        let name = options.name.as_deref().map(parse_name).transpose()?;
        Ok(Self { client: Arc::new(client), server: Arc::new(server), name, verify: options.verify })
    }

    /// The name to verify in the certificate of a peer that was dialled as `host`.
    pub(crate) fn name(&self, host: &str) -> Result<ServerName<'static>, Error> {
        self.name.clone().map_or_else(|| parse_name(host), Ok)
    }

    /// The names in a peer's certificate; none if nothing was verified, for then they are mere claims.
    pub(crate) fn peer_names(&self, chain: Option<&[CertificateDer<'_>]>) -> Vec<String> {
        match chain {
            Some([certificate, ..]) if self.verify => identity::names(certificate),
            _ => Vec::new(),
        }
    }
}

fn parse_name(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned()).map_err(|_| Error::InvalidName { name: name.to_owned() })
}

fn builder<S: ConfigSide>(
    builder: ConfigBuilder<S, rustls::WantsVersions>,
    options: &TlsOptions,
) -> Result<ConfigBuilder<S, WantsVerifier>, Error> {
    let versions: Vec<_> = options
        .protocols
        .iter()
        .map(|version| match version {
            TlsVersion::Tls12 => &rustls::version::TLS12,
            TlsVersion::Tls13 => &rustls::version::TLS13,
        })
        .collect();
    builder
        .with_protocol_versions(&versions)
        .map_err(|error| Error::InvalidOption { option: "protocols", reason: error.to_string() })
}

type Verifiers = (Arc<dyn ServerCertVerifier>, Arc<dyn ClientCertVerifier>);

fn verifiers(options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Verifiers, Error> {
    if !options.verify {
        return Ok((Arc::new(verify::Nothing::new(provider)), Arc::new(NoClientAuth)));
    }
    let Some(trusted) = &options.trusted_certificate else {
        return Err(Error::InvalidOption {
            option: "trusted_certificate",
            reason:
                "it is required to verify peers; name the file of the authorities (or set verify = false)"
                    .to_owned(),
        });
    };
    let roots = Arc::new(pem::authorities(trusted)?);
    verify::Depth::both(roots, options.verify_depth, provider).map_err(|cause| Error::Certificate {
        option: "trusted_certificate",
        file: trusted.to_string(),
        cause,
    })
}

/// rustls compares key and certificate when it takes them.
fn key_refused(options: &TlsOptions, error: &rustls::Error) -> Error {
    let cause = match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!("this key does not belong to the certificate {}", options.certificate)
        }
        error => format!("this key cannot be used: {error}"),
    };
    Error::Certificate { option: "certificate_key", file: options.certificate_key.to_string(), cause }
}
