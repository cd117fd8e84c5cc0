//! What a certificate says about its owner.

use std::fmt;
use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::Pem;
use crate::Error;

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Dns(String),
    Uri(String),
    Ip(IpAddr),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) | Self::Uri(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// Refuses to present a certificate that every peer would refuse.
pub(super) fn check_validity(
    option: &'static str,
    pem: &Pem,
    chain: &[CertificateDer<'_>],
) -> Result<(), Error> {
    let refused = |cause| Error::Certificate { option, file: pem.to_string(), cause };
    let Some(certificate) = chain.first() else { return Ok(()) };
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| refused(format!("the certificate in it cannot be read: {error}")))?;
    let validity = certificate.validity();
    let now = now();
    if now > validity.not_after.timestamp() {
        return Err(refused(format!("the certificate is expired since {}", validity.not_after)));
    }
    if now < validity.not_before.timestamp() {
        return Err(refused(format!("the certificate is not valid before {}", validity.not_before)));
    }
    Ok(())
}

/// Seconds since 1970, as certificates count.
pub(super) fn now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}

/// The last second in which a certificate is valid; `None` if it cannot be read.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// The names a certificate is for: DNS names, URIs and IP addresses of the subject alternative name; the
/// common name, as a DNS name, only where there is no such extension (RFC 6125 §6.4.4). Empty if it
/// cannot be read.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<Name> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().filter_map(general_name).collect(),
        Ok(None) => certificate
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok().map(|name| Name::Dns(name.to_owned())))
            .collect(),
        Err(_) => Vec::new(),
    }
}

fn general_name(name: &GeneralName<'_>) -> Option<Name> {
    match name {
        GeneralName::DNSName(name) => Some(Name::Dns((*name).to_owned())),
        GeneralName::URI(name) => Some(Name::Uri((*name).to_owned())),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(octets) => Some(Name::Ip(octets.into())),
            Err(_) => Some(Name::Ip(<[u8; 16]>::try_from(*bytes).ok()?.into())),
        },
        _ => None,
    }
}
