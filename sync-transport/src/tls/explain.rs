//! TLS errors as sentences for people.
//!
//! There are two kinds, and operators need to know which: *we* did not accept the peer, or the *peer*
//! did not accept us (then all there is to go by is an alert, one byte).

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::verify::Unfit;
use crate::error::CertificateFault as Fault;
use crate::{Address, Error};

/// Says what `error` means on a connection to `peer`.
pub(crate) fn explain(peer: Address, error: &TlsError) -> Error {
    match error {
        TlsError::InvalidCertificate(error) => {
            let (fault, cause) = certificate_fault(error);
            Error::BadPeerCertificate { peer, fault, cause }
        }
        TlsError::InvalidCertRevocationList(error) => Error::BadPeerCertificate {
            peer,
            fault: Fault::RevocationUnknown,
            cause: format!("a certificate whose CRL here cannot be used: {error:?} (look at `crl`)"),
        },
        TlsError::NoCertificatesPresented => Error::BadPeerCertificate {
            peer,
            fault: Fault::Missing,
            cause: "no certificate, but one is required here".to_owned(),
        },
        TlsError::AlertReceived(alert) => Error::RefusedByPeer { peer, cause: alert_cause(*alert) },
        TlsError::InvalidMessage(_) => Error::NotTls { peer },
        TlsError::PeerIncompatible(cause) => Error::TlsIncompatible { peer, cause: format!("{cause:?}") },
        error => Error::Tls { peer, cause: error.to_string() },
    }
}

/// What is wrong, and the rest of the sentence "the peer presented …".
fn certificate_fault(error: &CertificateError) -> (Fault, String) {
    use CertificateError as E;
    let (fault, cause) = match error {
        E::Expired | E::ExpiredContext { .. } => (Fault::Expired, "a certificate that is expired"),
        E::NotValidYet | E::NotValidYetContext { .. } => {
            (Fault::NotYetValid, "a certificate that is not valid yet (compare the clocks)")
        }
        E::Revoked => (Fault::Revoked, "a certificate that is revoked, or signed by one that is"),
        E::UnknownRevocationStatus => (
            Fault::RevocationUnknown,
            "a certificate of an authority whose CRL is not in `crl` (every authority of the chain needs one)",
        ),
        E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => (
            Fault::RevocationUnknown,
            "a certificate of an authority whose CRL in `crl` is out of date (put a new one there)",
        ),
        E::UnknownIssuer => (Fault::UnknownAuthority, "a certificate signed by an unknown authority"),
        E::BadSignature => (
            Fault::UnknownAuthority,
            "a certificate with a wrong signature (by another authority of the same name, perhaps)",
        ),
        E::BadEncoding => (Fault::Other, "a certificate that cannot be read"),
        E::NotValidForName => (Fault::WrongName, "a certificate for another name"),
        E::NotValidForNameContext { expected, presented } => {
            let presented = match presented.as_slice() {
                [] => "no name".to_owned(),
                names => names.join(", "),
            };
            let expected = expected.to_str();
            let cause =
                format!("a certificate for another name: it is for {presented}, {expected} was expected");
            return (Fault::WrongName, cause);
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => (
            Fault::Other,
            "a certificate that is not meant for this (extended key usage needs serverAuth where it is dialled, \
             clientAuth where it dials)",
        ),
        // Ours, which rustls would show in its Debug form.
        E::Other(cause) => {
            let fault = match cause.0.downcast_ref() {
                Some(Unfit::NameNotAllowed { .. }) => Fault::NameNotAllowed,
                Some(Unfit::ChainTooLong { .. }) | None => Fault::Other,
            };
            return (fault, format!("a certificate that is refused: {}", cause.0));
        }
        error => return (Fault::Other, format!("a certificate that is refused: {error}")),
    };
    (fault, cause.to_owned())
}

/// What the peer meant by `alert`.
fn alert_cause(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let meaning = match alert {
        A::UnknownCA => {
            "our certificate is signed by an authority that it does not know, or has no CRL of that is up to date"
        }
        A::CertificateExpired => "our certificate is expired, or not valid yet by its clock",
        A::CertificateRevoked => "our certificate is revoked",
        A::BadCertificate => "our certificate is bad, or not for the name that it dialled",
        A::UnsupportedCertificate => "our certificate is not meant for this (extended key usage)",
        A::CertificateUnknown => {
            "our certificate is not acceptable (its allowed_names may lack our names, or our chain be longer than \
             its verify_depth)"
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
