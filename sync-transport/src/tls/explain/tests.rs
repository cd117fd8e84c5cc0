use rustls::pki_types::{ServerName, UnixTime};
use rustls::{InvalidMessage, PeerIncompatible};

use super::*;

fn sentence(error: &TlsError) -> String {
    explain(Address::Tcp("127.0.0.1:9000".parse().unwrap()), error).to_string()
}

#[test]
fn a_fault_of_the_peer_reads_as_one() {
    let time = UnixTime::now();
    for (cause, expected) in [
        (
            CertificateError::ExpiredContext { time, not_after: time },
            "127.0.0.1:9000 presented a certificate that is expired",
        ),
        (
            CertificateError::UnknownIssuer,
            "127.0.0.1:9000 presented a certificate signed by an unknown authority",
        ),
        (
            CertificateError::NotValidForNameContext {
                expected: ServerName::try_from("a.test").unwrap(),
                presented: vec!["b.test".to_owned(), "c.test".to_owned()],
            },
            "127.0.0.1:9000 presented a certificate for another name: it is for b.test, c.test, \
             a.test was expected",
        ),
    ] {
        assert_eq!(sentence(&TlsError::InvalidCertificate(cause)), expected);
    }
    assert_eq!(
        sentence(&TlsError::NoCertificatesPresented),
        "127.0.0.1:9000 presented no certificate, but one is required here"
    );
}

#[test]
fn an_alert_reads_as_a_refusal_by_the_peer() {
    assert_eq!(
        sentence(&TlsError::AlertReceived(AlertDescription::UnknownCA)),
        "127.0.0.1:9000 refused us: our certificate is signed by an authority that it does not know, \
         or has no CRL of that is up to date (TLS alert UnknownCA)"
    );
    for code in 0..=u8::MAX {
        let alert = AlertDescription::from(code);
        let sentence = sentence(&TlsError::AlertReceived(alert));
        assert!(sentence.contains(&format!("{alert:?}")), "{sentence}");
    }
}

#[test]
fn what_is_not_tls_is_called_that() {
    assert!(
        sentence(&TlsError::InvalidMessage(InvalidMessage::InvalidContentType))
            .contains("does not speak TLS")
    );
}

#[test]
fn the_rest_says_what_rustls_says() {
    let incompatible = sentence(&TlsError::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon));
    assert!(incompatible.contains("NoCipherSuitesInCommon"), "{incompatible}");
    assert_eq!(sentence(&TlsError::EncryptError), "TLS with 127.0.0.1:9000 failed: cannot encrypt message");
}
