//! Cipher suites by name.

use std::fmt;
use std::str::FromStr;

use rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use crate::Error;

/// A cipher suite. Displayed and parsed by its IANA name, such as `TLS_AES_256_GCM_SHA384` or
/// `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`; for those of TLS 1.3 the names of rustls
/// (`TLS13_AES_256_GCM_SHA384`) will do, too.
#[derive(Clone, Copy, PartialEq)]
pub struct CipherSuite(pub(super) SupportedCipherSuite);

/// They are told apart by their number in the registry.
impl Eq for CipherSuite {}

impl CipherSuite {
    /// All that there are, in the order of preference.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL_CIPHER_SUITES.iter().copied().map(Self)
    }

    pub(super) fn is_for(self, version: &SupportedProtocolVersion) -> bool {
        self.0.version() == version
    }
}

/// The IANA name: rustls writes `TLS13_` where the registry has `TLS_`.
pub(crate) fn iana_name(suite: SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    name.strip_prefix("TLS13_").map_or_else(|| name.to_owned(), |rest| format!("TLS_{rest}"))
}

impl fmt::Display for CipherSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&iana_name(self.0))
    }
}

impl fmt::Debug for CipherSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CipherSuite {
    type Err = Error;

    /// The error says what is known.
    fn from_str(text: &str) -> Result<Self, Error> {
        let named = |suite: &Self| suite.to_string() == text || suite.0.suite().as_str() == Some(text);
        Self::all().find(named).ok_or_else(|| {
            let known: Vec<_> = Self::all().map(|suite| suite.to_string()).collect();
            let reason =
                format!("{text:?} is not a cipher suite that is known here; these are: {}", known.join(", "));
            Error::InvalidOption { option: "ciphers", reason }
        })
    }
}
