//! Verification of peers' certificates: webpki's, with a bound on the length of the chain and a list of
//! names, or none.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::NamePattern;
use super::identity::names;

/// The methods for signatures, which both kinds of verifiers have, for one that leaves them to its `inner`; what that found goes through `$pass`.
macro_rules! signatures_by_inner {
    ($pass:expr) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let pass: fn(&Self, Result<_, _>) -> Result<_, _> = $pass;
            pass(self, self.inner.verify_tls12_signature(message, cert, dss))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let pass: fn(&Self, Result<_, _>) -> Result<_, _> = $pass;
            pass(self, self.inner.verify_tls13_signature(message, cert, dss))
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.inner.supported_verify_schemes()
        }
    };
}
#[cfg(feature = "quic")]
pub(crate) use signatures_by_inner;

/// What a peer's certificate has to satisfy, whoever dials.
pub(super) struct Rules {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) crls: Vec<CertificateRevocationListDer<'static>>,
    pub(super) intermediates_max: usize,
    /// Any name, if there is none.
    pub(super) allowed_names: Vec<NamePattern>,
}

/// Verifiers for the dialing and for the accepting side.
pub(super) type Verifiers = (Arc<dyn ServerCertVerifier>, Arc<dyn ClientCertVerifier>);

impl Rules {
    /// Every certificate of a chain has to be on the right side of a list that is up to date, if there
    /// are lists at all: one that no list is about may well be revoked.
    pub(super) fn verifiers(self, provider: &Arc<CryptoProvider>) -> Result<Verifiers, VerifierBuilderError> {
        let (roots, crls) = (Arc::clone(&self.roots), self.crls.clone());
        let server = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
            .with_crls(crls.clone())
            .enforce_revocation_expiration()
            .build()?;
        let client = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
            .with_crls(crls)
            .enforce_revocation_expiration()
            .build()?;
        let rules = Arc::new(self);
        Ok((
            Arc::new(Ruled::<dyn ServerCertVerifier> { rules: Arc::clone(&rules), inner: server }),
            Arc::new(Ruled::<dyn ClientCertVerifier> { rules, inner: client }),
        ))
    }
}

/// Adds to webpki's verification what it has not: `verify_depth` and `allowed_names`.
struct Ruled<V: ?Sized> {
    rules: Arc<Rules>,
    inner: Arc<V>,
}

impl<V: ?Sized> fmt::Debug for Ruled<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ruled").finish_non_exhaustive()
    }
}

impl<V: ?Sized> Ruled<V> {
    /// Verifies with all that the peer sent, then, if that is more than allowed, once more without the
    /// rest.
    ///
    /// Peers send their chain in order, the one that signed their own first, so the first
    /// `intermediates_max` are all that a short enough path can be built from. Verifying with all of
    /// them first gives the error that matters: a chain to an unknown authority is that, whatever its
    /// length.
    fn verify<T>(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        verify: impl Fn(&[CertificateDer<'_>]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Rules { intermediates_max, allowed_names, .. } = &*self.rules;
        let verified = verify(intermediates)?;
        if let Some(allowed) = intermediates.get(..*intermediates_max)
            && allowed.len() < intermediates.len()
        {
            verify(allowed).map_err(|_| Unfit::ChainTooLong { intermediates_max: *intermediates_max })?;
        }
        if allowed_names.is_empty() {
            return Ok(verified);
        }
        let names = names(end_entity);
        if names.iter().any(|name| allowed_names.iter().any(|pattern| pattern.matches(name))) {
            return Ok(verified);
        }
        Err(Unfit::NameNotAllowed { names: names.iter().map(ToString::to_string).collect() }.into())
    }
}

/// What is wrong with a certificate that webpki finds nothing wrong with.
#[derive(Debug)]
pub(super) enum Unfit {
    ChainTooLong { intermediates_max: usize },
    NameNotAllowed { names: Vec<String> },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChainTooLong { intermediates_max: max } => {
                write!(f, "more than {max} intermediates lead to a trusted authority (verify_depth = {max})")
            }
            Self::NameNotAllowed { names } if names.is_empty() => {
                f.write_str("it has no name, and allowed_names asks for one")
            }
            Self::NameNotAllowed { names } => {
                write!(f, "none of its names is among allowed_names: {}", names.join(", "))
            }
        }
    }
}

impl std::error::Error for Unfit {}

impl From<Unfit> for Error {
    fn from(unfit: Unfit) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(unfit))))
    }
}

impl ServerCertVerifier for Ruled<dyn ServerCertVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, |intermediates| {
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        })
    }

    signatures_by_inner!(|_, verified| verified);
}

impl ClientCertVerifier for Ruled<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, |intermediates| {
            self.inner.verify_client_cert(end_entity, intermediates, now)
        })
    }

    signatures_by_inner!(|_, verified| verified);
}

/// Takes any certificate of a peer we dial, for `verify = false`. Signatures of the handshake are still
/// verified: that the peer holds the key of the certificate it shows is part of TLS, not of trust.
#[derive(Debug)]
pub(super) struct Nothing {
    algorithms: WebPkiSupportedAlgorithms,
}

impl Nothing {
    pub(super) fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Nothing {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
