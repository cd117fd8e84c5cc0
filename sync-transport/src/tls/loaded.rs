//! Everything that the options name, read, checked and ready for handshakes.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ServerSessionMemoryCache, VerifierBuilderError};
use rustls::{
    CertificateError, ClientConfig, InconsistentKeys, KeyLog, NoKeyLog, ServerConfig,
    SupportedProtocolVersion,
};

use super::key::{self, Passphrases};
use super::trust::Role;
use super::verify::{self, Rules, Verifiers};
use super::{CipherSuite, Pem, TlsOptions, TlsVersion, identity, key_log, pem};
use crate::Error;

/// Sessions that a listener remembers, and names of which a connector does: more than a cluster has nodes.
const SESSIONS_MAX: usize = 256;
/// A peer has one link at a time to each of the others, and gets a new ticket with each.
const TICKETS: usize = 1;

/// What one handshake needs; a handshake uses one from beginning to end.
pub(crate) struct Loaded {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    pub(super) options: TlsOptions,
    /// Overrides the host dialled.
    name: Option<ServerName<'static>>,
    /// What stateless resets of QUIC are made with.
    #[cfg(feature = "quic")]
    pub(crate) reset_key: ::aws_lc_rs::hmac::Key,
    server_verifier: Arc<dyn ServerCertVerifier>,
    client_verifier: Arc<dyn ClientCertVerifier>,
}

impl Loaded {
    pub(super) fn new(options: &TlsOptions) -> Result<Self, Error> {
        let versions = versions(options)?;
        let provider = Arc::new(provider(options));
        let passphrases = options.password_file.as_deref().map(Passphrases::read).transpose()?;
        let passphrases = passphrases.as_ref();
        let own = Own::read(
            ["certificate", "certificate_key"],
            &options.certificate,
            &options.certificate_key,
            passphrases,
        )?;
        let dial = match &options.dial_certificate {
            Some((certificate, key)) => {
                Own::read(["dial_certificate", "dial_certificate_key"], certificate, key, passphrases)?
            }
            None => own.clone(),
        };
        let (server_verifier, client_verifier) = verifiers(options, &provider)?;
        let name = options.name.as_deref().map(parse_name).transpose()?;
        let key_log: Arc<dyn KeyLog> = if options.key_log { key_log::open()? } else { Arc::new(NoKeyLog) };

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| unusable_protocols(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&server_verifier))
            .with_client_auth_cert(dial.chain.clone(), dial.key.clone_key())
            .map_err(|error| dial.refused(&error))?;
        client.enable_sni = options.server_name;
        client.resumption = match options.session_reuse {
            true => Resumption::in_memory_sessions(SESSIONS_MAX),
            false => Resumption::disabled(),
        };
        client.key_log = Arc::clone(&key_log);

        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| unusable_protocols(&error))?
            .with_client_cert_verifier(Arc::clone(&client_verifier))
            .with_single_cert(own.chain.clone(), own.key.clone_key())
            .map_err(|error| own.refused(&error))?;
        if options.session_reuse {
            server.send_tls13_tickets = TICKETS;
            server.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        } else {
            server.send_tls13_tickets = 0;
            server.session_storage = Arc::new(NoServerSessionStorage {});
        }
        server.key_log = key_log;

        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
            options: options.clone(),
            name,
            #[cfg(feature = "quic")]
            reset_key: crate::quic::reset_key(own.key.secret_der()),
            server_verifier,
            client_verifier,
        })
    }

    /// The name to verify in the certificate of a peer that was dialled as `host`.
    pub(crate) fn name(&self, host: &str) -> Result<ServerName<'static>, Error> {
        self.name.clone().map_or_else(|| parse_name(host), Ok)
    }

    /// Whether a version of TLS may be used.
    #[cfg(feature = "quic")]
    pub(crate) fn allows(&self, version: TlsVersion) -> bool {
        self.options.protocols.contains(&version)
    }

    /// Verifies peers that are dialled.
    #[cfg(feature = "quic")]
    pub(crate) fn server_verifier(&self) -> Arc<dyn ServerCertVerifier> {
        Arc::clone(&self.server_verifier)
    }

    /// Verifies peers that dial.
    #[cfg(feature = "quic")]
    pub(crate) fn client_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.client_verifier)
    }

    /// The names in a peer's certificate; none if nothing was verified, for then they are mere claims.
    pub(crate) fn peer_names(&self, chain: &[CertificateDer<'_>]) -> Vec<String> {
        match chain {
            [certificate, ..] if self.options.verify => {
                identity::names(certificate).iter().map(ToString::to_string).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Verifies a peer's certificate as a handshake at this moment would.
    pub(super) fn verify(&self, chain: &[CertificateDer<'_>], role: &Role) -> Result<(), rustls::Error> {
        if !self.options.verify {
            return Ok(());
        }
        let [certificate, intermediates @ ..] = chain else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let now = UnixTime::now();
        match role {
            Role::Dialled { host } => {
                let name = self.name(host).map_err(|_| CertificateError::NotValidForName)?;
                self.server_verifier.verify_server_cert(certificate, intermediates, &name, &[], now).map(drop)
            }
            Role::Dialling => {
                self.client_verifier.verify_client_cert(certificate, intermediates, now).map(drop)
            }
        }
    }
}

/// The cryptography, given explicitly: the process-wide default belongs to the application that embeds us.
fn provider(options: &TlsOptions) -> CryptoProvider {
    CryptoProvider {
        // The hybrid first: what is recorded today stays closed to a quantum computer of tomorrow. Its
        // first half is offered by itself as well, so peers without the hybrid cost no further round trip.
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        cipher_suites: options.ciphers.iter().map(|suite| suite.0).collect(),
        ..aws_lc_rs::default_provider()
    }
}

/// The versions allowed, each of which needs a cipher suite.
fn versions(options: &TlsOptions) -> Result<Vec<&'static SupportedProtocolVersion>, Error> {
    if options.protocols.is_empty() {
        let reason = "no version of TLS is left; write \"TLSv1.2\", \"TLSv1.3\" or both".to_owned();
        return Err(Error::InvalidOption { option: "protocols", reason });
    }
    let mut versions = Vec::new();
    for &protocol in &options.protocols {
        let version = match protocol {
            TlsVersion::Tls12 => &rustls::version::TLS12,
            TlsVersion::Tls13 => &rustls::version::TLS13,
        };
        if !options.ciphers.iter().any(|suite| suite.is_for(version)) {
            let suites: Vec<_> = CipherSuite::all()
                .filter(|suite| suite.is_for(version))
                .map(|suite| suite.to_string())
                .collect();
            let reason = format!(
                "there is none of {}, which protocols allows; add one of {}, or take that version out of protocols",
                protocol.as_str(),
                suites.join(", ")
            );
            return Err(Error::InvalidOption { option: "ciphers", reason });
        }
        versions.push(version);
    }
    Ok(versions)
}

fn unusable_protocols(error: &rustls::Error) -> Error {
    Error::InvalidOption { option: "protocols", reason: error.to_string() }
}

fn verifiers(options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Verifiers, Error> {
    if !options.verify {
        for (option, is_set) in
            [("allowed_names", !options.allowed_names.is_empty()), ("crl", options.crl.is_some())]
        {
            if is_set {
                let reason = "it means nothing without verification; remove it, or verify = false".to_owned();
                return Err(Error::InvalidOption { option, reason });
            }
        }
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
    let rules = Rules {
        roots: Arc::new(pem::authorities(trusted)?),
        crls: options.crl.as_ref().map(pem::revocations).transpose()?.unwrap_or_default(),
        intermediates_max: options.verify_depth,
        allowed_names: options.allowed_names.clone(),
    };
    rules.verifiers(provider).map_err(|error| {
        let (option, pem) = match (&error, &options.crl) {
            (VerifierBuilderError::InvalidCrl(_), Some(crl)) => ("crl", crl),
            _ => ("trusted_certificate", trusted),
        };
        pem.refused(option, format!("it cannot be used: {error}"))
    })
}

/// What we show of ourselves in one direction.
struct Own<'a> {
    options: [&'static str; 2],
    files: [&'a Pem; 2],
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl<'a> Own<'a> {
    fn read(
        options: [&'static str; 2],
        certificate: &'a Pem,
        key: &'a Pem,
        passphrases: Option<&Passphrases<'_>>,
    ) -> Result<Self, Error> {
        let chain = pem::certificates(options[0], certificate)?;
        identity::check_validity(options[0], certificate, &chain)?;
        let files = [certificate, key];
        Ok(Self { options, files, chain, key: key::read(options[1], key, passphrases)? })
    }

    fn clone(&self) -> Self {
        Self {
            options: self.options,
            files: self.files,
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }

    /// rustls compares key and certificate when it takes them.
    fn refused(&self, error: &rustls::Error) -> Error {
        let [certificate, key] = self.files;
        let cause = match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                format!("this key does not belong to the certificate {certificate}")
            }
            error => format!("this key cannot be used: {error}"),
        };
        key.refused(self.options[1], cause)
    }
}

fn parse_name(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned()).map_err(|_| Error::InvalidName { name: name.to_owned() })
}
