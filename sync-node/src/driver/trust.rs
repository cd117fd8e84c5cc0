//! Certificates after the handshake: files that change, and peers that are no longer trusted.

use std::time::Duration;

use sync_transport::{CertificateFault, Error, TlsConfig, Trust};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{error, info, warn};

/// Between two looks at the files. Changes are taken over at the second look that finds them alike.
const FILES_INTERVAL: Duration = Duration::from_secs(2);

/// Takes over certificates, keys, authorities and CRLs when their files change.
pub(crate) async fn follow_files(tls: TlsConfig) {
    loop {
        sleep(FILES_INTERVAL).await;
        let tls = tls.clone();
        match spawn_blocking(move || tls.reload_changed()).await {
            Ok(None) => {}
            Ok(Some(Ok(()))) => info!("certificates have changed and are in use"),
            Ok(Some(Err(error))) => error!(%error, "certificates have changed; those of before stay in use"),
            // The runtime is shutting down.
            Err(_) => return,
        }
    }
}

/// Asks a link to close when its peer is no longer trusted.
pub(super) async fn watch(trust: Trust, peer: String, closing: watch::Sender<Option<&'static str>>) {
    let error = trust.lost().await;
    warn!(peer, %error, "the peer is no longer trusted, its link is closed");
    closing.send_replace(Some(reason(&error)));
}

/// What both sides log.
fn reason(error: &Error) -> &'static str {
    let Error::BadPeerCertificate { fault, .. } = error else { return "the certificate is no longer good" };
    match fault {
        CertificateFault::Expired => "the certificate has expired",
        CertificateFault::Revoked => "the certificate was revoked",
        CertificateFault::RevocationUnknown => "no CRL says that the certificate is not revoked",
        CertificateFault::UnknownAuthority => "the authority of the certificate is no longer trusted",
        CertificateFault::NameNotAllowed | CertificateFault::WrongName => {
            "the name in the certificate is no longer allowed"
        }
        _ => "the certificate is no longer good",
    }
}
