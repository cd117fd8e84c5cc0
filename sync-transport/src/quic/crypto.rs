//! What TLS is set up from, as QUIC takes it.
//!
//! quinn keeps of a failed handshake only the alert and the words. The error itself, by which refusals are counted and explained, is caught where it arises:
//! each handshake has a verifier of its own, which keeps what it refused the peer for.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionId, ConnectionIdGenerator};
use rustls::client::Resumption;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::quic::Suite;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DistinguishedName, Error, ServerConfig};

use super::{ALPN, no_quic};
use crate::tls::{Loaded, signatures_by_inner};
use crate::{Address, TlsConfig, TlsVersion};

const NO_TLS13: &str = "QUIC needs TLSv1.3, which `protocols` leaves out";
const NO_TLS: &str = "QUIC needs certificates, and this side is set to plain text (ssl = false)";
/// Bytes of a connection's name, as many as quinn's have.
const CONNECTION_ID_LENGTH: usize = 8;

/// TLS, which QUIC is never without.
pub(super) fn required<'a>(
    address: &Address,
    tls: Option<&'a TlsConfig>,
) -> Result<&'a TlsConfig, crate::Error> {
    tls.ok_or_else(|| no_quic(address, NO_TLS))
}

/// The key of stateless resets (RFC 9000 §10.3), made from the private key of our certificate. A node that was killed and started again has it still, and can tell peers that
/// their connections are gone; else they would send into them until the idle time-out.
pub(crate) fn reset_key(private_key: &[u8]) -> hmac::Key {
    let key = hmac::Key::new(hmac::HMAC_SHA256, private_key);
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, b"stateless resets of zonesync").as_ref())
}

/// Names of connections. quinn's own are signed with a key that each start makes anew, and what has another signature gets no answer: who
/// starts again could tell nobody that a connection is gone.
#[derive(Debug)]
pub(super) struct ConnectionIds;

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; CONNECTION_ID_LENGTH]>())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// What the verifier of one handshake has refused the peer for.
#[derive(Clone, Default)]
pub(super) struct Fault(Arc<OnceLock<Error>>);

impl Fault {
    pub(super) fn get(&self) -> Option<&Error> {
        self.0.get()
    }

    fn keep<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            // The first, if there are several: it ends the handshake.
            let _ = self.0.set(error.clone());
        }
        result
    }
}

/// For one handshake with a peer that is dialled.
pub(super) fn client(loaded: &Loaded) -> Result<(Arc<QuicClientConfig>, Fault), &'static str> {
    let (fault, initial) = (Fault::default(), initial(loaded)?);
    let verifier = Arc::new(Keeping { inner: loaded.server_verifier(), fault: fault.clone() });
    let mut config = ClientConfig::builder_with_provider(Arc::clone(loaded.client.crypto_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| NO_TLS13)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::clone(&loaded.client.client_auth_cert_resolver));
    config.enable_sni = loaded.client.enable_sni;
    config.key_log = Arc::clone(&loaded.client.key_log);
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let config = QuicClientConfig::with_initial(Arc::new(config), initial).map_err(|_| NO_TLS13)?;
    Ok((Arc::new(config), fault))
}

/// For one handshake with a peer that dials.
pub(super) fn server(loaded: &Loaded) -> Result<(Arc<QuicServerConfig>, Fault), &'static str> {
    let (fault, initial) = (Fault::default(), initial(loaded)?);
    let verifier = Arc::new(Keeping { inner: loaded.client_verifier(), fault: fault.clone() });
    let mut config = ServerConfig::builder_with_provider(Arc::clone(loaded.server.crypto_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| NO_TLS13)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(&loaded.server.cert_resolver));
    config.key_log = Arc::clone(&loaded.server.key_log);
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![ALPN.to_vec()];
    let config = QuicServerConfig::with_initial(Arc::new(config), initial).map_err(|_| NO_TLS13)?;
    Ok((Arc::new(config), fault))
}

/// The suite of the first packets, fixed by RFC 9001 §5.2 whatever suites are allowed: it hides nothing from anybody.
fn initial(loaded: &Loaded) -> Result<Suite, &'static str> {
    if !loaded.allows(TlsVersion::Tls13) {
        return Err(NO_TLS13);
    }
    TLS13_AES_128_GCM_SHA256.tls13().and_then(rustls::Tls13CipherSuite::quic_suite).ok_or(NO_TLS13)
}

/// A verifier that keeps what it refused the peer for.
struct Keeping<V: ?Sized> {
    inner: Arc<V>,
    fault: Fault,
}

impl<V: ?Sized> fmt::Debug for Keeping<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeping").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Keeping<dyn ServerCertVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        self.fault.keep(verified)
    }

    signatures_by_inner!(|this, verified| this.fault.keep(verified));
}

impl ClientCertVerifier for Keeping<dyn ClientCertVerifier> {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.fault.keep(self.inner.verify_client_cert(end_entity, intermediates, now))
    }

    signatures_by_inner!(|this, verified| this.fault.keep(verified));
}
