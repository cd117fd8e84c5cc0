//! TLS errors as sentences for people.
//!
//! There are two kinds, and operators need to know which: *we* did not accept the peer, or the *peer*
//! did not accept us (then all there is to go by is an alert, one byte).

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::{Address, Error};

/// Says what `error` means on a connection to `peer`.
pub(crate) fn explain(peer: Address, error: &TlsError) -> Error {
    match error {
        TlsError::InvalidCertificate(cause) => {
            Error::BadPeerCertificate { peer, cause: certificate_fault(cause) }
        }
        TlsError::NoCertificatesPresented => {
            Error::BadPeerCertificate { peer, cause: "no certificate, but one is required here".to_owned() }
        }
        TlsError::AlertReceived(alert) => Error::RefusedByPeer { peer, cause: alert_cause(*alert) },
        TlsError::InvalidMessage(_) => Error::NotTls { peer },
        TlsError::PeerIncompatible(cause) => Error::TlsIncompatible { peer, cause: format!("{cause:?}") },
        error => Error::Tls { peer, cause: error.to_string() },
    }
}

/// The rest of the sentence "the peer presented …".
fn certificate_fault(error: &CertificateError) -> String {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => "a certificate that is expired".to_owned(),
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "a certificate that is not valid yet (compare the clocks)".to_owned()
        }
        E::Revoked => "a certificate that is revoked".to_owned(),
        E::UnknownIssuer => "a certificate signed by an unknown authority".to_owned(),
        E::BadSignature => {
            "a certificate with a wrong signature (by another authority of the same name, perhaps)".to_owned()
        }
        E::BadEncoding => "a certificate that cannot be read".to_owned(),
        E::NotValidForName => "a certificate for another name".to_owned(),
        E::NotValidForNameContext { expected, presented } => {
            let presented = match presented.as_slice() {
                [] => "no name".to_owned(),
                names => names.join(", "),
            };
            format!(
                "a certificate for another name: it is for {presented}, {} was expected",
                expected.to_str()
            )
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "a certificate that is not meant for this (extended key usage needs serverAuth and clientAuth)"
                .to_owned()
        }
        // Ours (`verify::ChainTooLong`), which rustls would show in its Debug form.
        E::Other(cause) => format!("a certificate that is refused: {}", cause.0),
        error => format!("a certificate that is refused: {error}"),
    }
}

/// What the peer meant by `alert`.
fn alert_cause(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let meaning = match alert {
        A::UnknownCA => "our certificate is signed by an authority that it does not know",
        A::CertificateExpired => "our certificate is expired, or not valid yet by its clock",
        A::CertificateRevoked => "our certificate is revoked",
        A::BadCertificate => "our certificate is bad, or not for the name that it dialled",
        A::UnsupportedCertificate => "our certificate is not meant for this (extended key usage)",
        A::CertificateUnknown => {
            "our certificate is not acceptable (its chain may be longer than verify_depth)"
        }
        A::CertificateRequired | A::NoCertificate => "it requires a certificate, and we presented none",
        A::AccessDenied => "our certificate is valid, but grants no access",
        A::DecryptError => {
            "a signature of ours is wrong, perhaps our certificate's, by another authority of the same name"
        }
        A::ProtocolVersion => "no TLS version in common",
        A::HandshakeFailure | A::InsufficientSecurity => {
            "no TLS parameters in common, or no certificate from us"
        }
        A::UnrecognisedName => "it does not answer to the name that was dialled",
        A::DecodeError | A::UnexpectedMessage | A::RecordOverflow => "it cannot make sense of what we sent",
        A::InternalError => "it has a problem of its own",
        _ => return format!("TLS alert {alert:?}"),
    };
    format!("{meaning} (TLS alert {alert:?})")
}

#[cfg(test)]
mod tests;
