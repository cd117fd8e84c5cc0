//! Peers of another make: rustls without anything of ours.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sync_transport::Address;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::certificates::{Authority, Node};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A server that asks for no certificate.
pub(crate) fn server(node: &Node) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain(node), key(node))
        .unwrap();
    Arc::new(config)
}

/// Connects with or without a certificate.
pub(crate) async fn dial(
    address: &Address,
    authority: &Authority,
    node: Option<&Node>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match node {
        Some(node) => builder.with_client_auth_cert(chain(node), key(node)).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let Address::Tcp(address) = address else { panic!("not TCP") };
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::from(address.ip());
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn chain(node: &Node) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(node.certificate.as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn key(node: &Node) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(node.key.as_bytes()).unwrap()
}
