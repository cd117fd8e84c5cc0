//! Verification of peers' certificates: webpki's, with a bound on the length of the chain, or none.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::Verifiers;

/// Adds `verify_depth` to webpki's verification, which has no such bound of its own.
#[derive(Debug)]
pub(super) struct Depth<V: ?Sized> {
    intermediates_max: usize,
    inner: Arc<V>,
}

impl Depth<dyn ServerCertVerifier> {
    /// Verifiers for the dialing and for the accepting side.
    pub(super) fn both(
        roots: Arc<RootCertStore>,
        intermediates_max: usize,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Verifiers, String> {
        let server = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
            .build()
            .map_err(|error| error.to_string())?;
        let client = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|error| error.to_string())?;
        Ok((
            Arc::new(Self { intermediates_max, inner: server }),
            Arc::new(Depth::<dyn ClientCertVerifier> { intermediates_max, inner: client }),
        ))
    }
}

impl<V: ?Sized> Depth<V> {
    /// Verifies with all that the peer sent, then, if that is more than allowed, once more without the
    /// rest.
    ///
    /// Peers send their chain in order, the one that signed their own first, so the first
    /// `intermediates_max` are all that a short enough path can be built from. Verifying with all of
    /// them first gives the error that matters: a chain to an unknown authority is that, whatever its
    /// length.
    fn verify<T>(
        &self,
        intermediates: &[CertificateDer<'_>],
        verify: impl Fn(&[CertificateDer<'_>]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let verified = verify(intermediates)?;
        match intermediates.get(..self.intermediates_max) {
            Some(allowed) if allowed.len() < intermediates.len() => verify(allowed).map_err(|_| {
                let cause = ChainTooLong { intermediates_max: self.intermediates_max };
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(cause))))
            }),
            _ => Ok(verified),
        }
    }
}

#[derive(Debug)]
struct ChainTooLong {
    intermediates_max: usize,
}

impl fmt::Display for ChainTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = self.intermediates_max;
        write!(f, "more than {max} intermediates lead to a trusted authority (verify_depth = {max})")
    }
}

impl std::error::Error for ChainTooLong {}

impl ServerCertVerifier for Depth<dyn ServerCertVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(intermediates, |intermediates| {
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Depth<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(intermediates, |intermediates| {
            self.inner.verify_client_cert(end_entity, intermediates, now)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
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
