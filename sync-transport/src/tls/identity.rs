//! What a certificate says about its owner.

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::Pem;
use crate::Error;

/// Refuses to present a certificate that every peer would refuse.
pub(super) fn check_validity(pem: &Pem, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
    let refused = |cause| Error::Certificate { option: "certificate", file: pem.to_string(), cause };
    let Some(certificate) = chain.first() else { return Ok(()) };
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| refused(format!("the certificate in it cannot be read: {error}")))?;
    let validity = certificate.validity();
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    if now > validity.not_after.timestamp() {
        return Err(refused(format!("the certificate is expired since {}", validity.not_after)));
    }
    if now < validity.not_before.timestamp() {
        return Err(refused(format!("the certificate is not valid before {}", validity.not_before)));
    }
    Ok(())
}

/// The names a certificate is for: DNS names and IP addresses of the subject alternative name; the
/// common name only where there is no such extension (RFC 6125 §6.4.4). Empty if it cannot be read.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().filter_map(general_name).collect(),
        Ok(None) => certificate
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok().map(str::to_owned))
            .collect(),
        Err(_) => Vec::new(),
    }
}

fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            if let Ok(octets) = <[u8; 4]>::try_from(*bytes) {
                return Some(std::net::Ipv4Addr::from(octets).to_string());
            }
            let octets = <[u8; 16]>::try_from(*bytes).ok()?;
            Some(std::net::Ipv6Addr::from(octets).to_string())
        }
        _ => None,
    }
}
