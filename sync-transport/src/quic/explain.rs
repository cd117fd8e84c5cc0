//! QUIC's errors as those of this crate.

use std::io;
use std::time::Duration;

use quinn::{ConnectionError, ReadError, TransportErrorCode, WriteError};
use rustls::AlertDescription;

use super::crypto::Fault;
use crate::tls::explain::explain;
use crate::{Address, Error};

/// The alert that a code of QUIC stands for (RFC 9001 §4.8).
fn alert(code: TransportErrorCode) -> Option<AlertDescription> {
    let number = u64::from(code).checked_sub(0x100)?;
    u8::try_from(number).ok().map(AlertDescription::from)
}

fn reset(peer: &Address, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Reset { peer: peer.clone(), source: io::Error::new(io::ErrorKind::ConnectionAborted, error) }
}

/// What the end of a handshake means.
pub(super) fn handshake(peer: &Address, error: &ConnectionError, fault: &Fault) -> Error {
    use AlertDescription as A;
    if let Some(fault) = fault.get() {
        return explain(peer.clone(), fault);
    }
    match error {
        ConnectionError::TransportError(error) => {
            let (peer, cause) = (peer.clone(), error.reason.clone());
            match alert(error.code) {
                Some(A::CertificateRequired) => explain(peer, &rustls::Error::NoCertificatesPresented),
                Some(A::NoApplicationProtocol | A::HandshakeFailure | A::ProtocolVersion) => {
                    Error::TlsIncompatible { peer, cause }
                }
                Some(_) => Error::Tls { peer, cause },
                None => Error::NotTls { peer },
            }
        }
        ConnectionError::VersionMismatch => {
            Error::TlsIncompatible { peer: peer.clone(), cause: "no version of QUIC".to_owned() }
        }
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(alert) => explain(peer.clone(), &rustls::Error::AlertReceived(alert)),
            None => Error::HandshakeClosed { peer: peer.clone() },
        },
        ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => Error::HandshakeClosed { peer: peer.clone() },
    }
}

/// What the loss of an established connection means. `idle` is after how long of silence it is given up.
pub(super) fn lost(peer: &Address, error: &ConnectionError, idle: Option<Duration>) -> Error {
    match error {
        // Only now does a side that has dialled learn what the other says to its certificate.
        ConnectionError::ConnectionClosed(close) if let Some(alert) = alert(close.error_code) => {
            explain(peer.clone(), &rustls::Error::AlertReceived(alert))
        }
        ConnectionError::TimedOut if let Some(after) = idle => {
            Error::IdleTimeout { peer: peer.clone(), after }
        }
        error => reset(peer, error.clone()),
    }
}

/// What an error of a stream that is read means.
pub(super) fn read(peer: &Address, error: &ReadError, idle: Option<Duration>) -> Error {
    match error {
        ReadError::ConnectionLost(error) => lost(peer, error, idle),
        error => reset(peer, error.clone()),
    }
}

/// What an error of a stream that is written means.
pub(super) fn written(peer: &Address, error: &WriteError) -> Error {
    // The reason, if the peer gave one, is for whoever reads.
    reset(peer, error.clone())
}
