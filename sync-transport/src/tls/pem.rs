//! Reading PEM, with errors that say what was found instead.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Version;

use super::identity::now;
use crate::Error;

/// Certificates or a key in PEM form, in a file or in memory.
#[derive(Clone)]
pub enum Pem {
    /// A file, read at [`load`](crate::TlsConfig::load) and at every [`reload`](crate::TlsConfig::reload).
    File(PathBuf),
    /// The text itself.
    Memory(Arc<[u8]>),
}

impl Pem {
    /// PEM in a file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(path.into())
    }

    /// PEM in memory.
    pub fn memory(text: impl AsRef<[u8]>) -> Self {
        Self::Memory(text.as_ref().into())
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Memory(_) => None,
        }
    }

    pub(super) fn read(&self, option: &'static str) -> Result<Arc<[u8]>, Error> {
        match self {
            Self::Memory(text) => Ok(Arc::clone(text)),
            Self::File(path) => match std::fs::read(path) {
                Ok(text) => Ok(text.into()),
                Err(error) => Err(self.refused(option, format!("cannot read the file: {error}"))),
            },
        }
    }

    pub(super) fn refused(&self, option: &'static str, cause: String) -> Error {
        Error::Certificate { option, file: self.to_string(), cause }
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory(_) => f.write_str("(in memory)"),
        }
    }
}

/// Never shows the text: it may be a private key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({self})")
    }
}

/// All certificates, of which there has to be one at least.
pub(super) fn certificates(option: &'static str, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = pem.read(option)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| pem.refused(option, format!("not valid PEM: {error}")))?;
    if chain.is_empty() {
        return Err(pem.refused(option, format!("no certificate in it{}", instead(&text))));
    }
    Ok(chain)
}

/// All authorities, of which there has to be one at least.
pub(super) fn authorities(pem: &Pem) -> Result<RootCertStore, Error> {
    let option = "trusted_certificate";
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(option, pem)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| {
            pem.refused(option, format!("certificate {} in it cannot be used: {error}", index + 1))
        })?;
    }
    Ok(roots)
}

/// All lists of revoked certificates, of which there has to be one at least.
///
/// A list that is out of date is refused here already, since every peer that it is about would be.
pub(super) fn revocations(pem: &Pem) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let option = "crl";
    let text = pem.read(option)?;
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| pem.refused(option, format!("not valid PEM: {error}")))?;
    if lists.is_empty() {
        return Err(pem.refused(option, format!("no CRL in it{}", instead(&text))));
    }
    for (index, list) in lists.iter().enumerate() {
        let (_, list) = CertificateRevocationList::from_der(list).map_err(|error| {
            pem.refused(option, format!("CRL {} in it cannot be read: {error}", index + 1))
        })?;
        if list.version() != Some(X509Version::V2) {
            let cause = format!(
                "CRL {} in it is of version 1; version 2 is needed (OpenSSL makes it where its configuration has a crlnumber)",
                index + 1
            );
            return Err(pem.refused(option, cause));
        }
        if let Some(next) = list.next_update().filter(|next| now() >= next.timestamp()) {
            let cause = format!(
                "CRL {} in it, of {}, is out of date since {next}; ask that authority for a new one",
                index + 1,
                list.issuer()
            );
            return Err(pem.refused(option, cause));
        }
    }
    Ok(lists)
}

/// What the PEM holds instead of what was looked for, from its own labels.
pub(super) fn instead(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let labels: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .collect();
    match labels.as_slice() {
        [] => " (it is not PEM)".to_owned(),
        labels => format!(", only {}", labels.join(", ")),
    }
}
