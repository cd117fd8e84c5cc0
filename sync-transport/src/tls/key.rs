//! Private keys, encrypted ones included.

use std::path::Path;

use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, pkcs5};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Pem;
use super::pem::instead;
use crate::Error;

const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// In the head of a key that is encrypted in the way of before PKCS#8, with one round of MD5.
const ENCRYPTED_OF_OLD: &[u8] = b"Proc-Type: 4,ENCRYPTED";
/// A good way to encrypt a key, which every OpenSSL since 1.1 knows.
const CONVERT: &str = "convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc`";

/// Passphrases for encrypted keys: one a line, tried in turn.
pub(super) struct Passphrases<'a> {
    file: &'a Path,
    lines: Vec<Vec<u8>>,
}

impl<'a> Passphrases<'a> {
    pub(super) fn read(file: &'a Path) -> Result<Self, Error> {
        let refused =
            |cause| Error::Certificate { option: "password_file", file: file.display().to_string(), cause };
        let text = std::fs::read(file).map_err(|error| refused(format!("cannot read the file: {error}")))?;
        let lines: Vec<_> = text
            .split(|&byte| byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
            .filter(|line| !line.is_empty())
            .collect();
        if lines.is_empty() {
            return Err(refused("no passphrase in it; write one a line".to_owned()));
        }
        Ok(Self { file, lines })
    }
}

/// The first private key.
pub(super) fn read(
    option: &'static str,
    pem: &Pem,
    passphrases: Option<&Passphrases<'_>>,
) -> Result<PrivateKeyDer<'static>, Error> {
    let text = pem.read(option)?;
    let refused = |cause| pem.refused(option, cause);
    if text.windows(ENCRYPTED_OF_OLD.len()).any(|window| window == ENCRYPTED_OF_OLD) {
        return Err(refused(format!("the key is encrypted in a form of old; {CONVERT}")));
    }
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => {
            let encrypted = x509_parser::pem::Pem::iter_from_buffer(&text)
                .filter_map(Result::ok)
                .find(|block| block.label == ENCRYPTED);
            let block =
                encrypted.ok_or_else(|| refused(format!("no private key in it{}", instead(&text))))?;
            decrypt(&block.contents, passphrases).map_err(refused)
        }
        Err(error) => Err(refused(format!("not valid PEM: {error}"))),
    }
}

fn decrypt(der: &[u8], passphrases: Option<&Passphrases<'_>>) -> Result<PrivateKeyDer<'static>, String> {
    let Some(passphrases) = passphrases else {
        return Err("the key is encrypted; name a password_file with its passphrase".to_owned());
    };
    let unknown = || format!("the key is encrypted in a way that is not known here; {CONVERT}");
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| unknown())?;
    for passphrase in &passphrases.lines {
        use pkcs5::Error as Fault;
        match encrypted.decrypt(passphrase) {
            // One of 256 wrong passphrases leaves a padding that looks right, and anything before it.
            Ok(key) if PrivateKeyInfoRef::try_from(key.as_bytes()).is_ok() => {
                return Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into());
            }
            Err(pkcs8::Error::EncryptedPrivateKey(
                Fault::UnsupportedAlgorithm { .. }
                | Fault::NoPbes1CryptSupport
                | Fault::AlgorithmParametersInvalid { .. },
            )) => {
                return Err(unknown());
            }
            Ok(_) | Err(_) => {}
        }
    }
    let count = passphrases.lines.len();
    Err(format!(
        "the key is encrypted, and no passphrase of {count} in {} opens it",
        passphrases.file.display()
    ))
}
