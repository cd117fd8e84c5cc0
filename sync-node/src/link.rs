//! The life of a link from its connection to its end, free of I/O: what its machine says is told to membership, waiting has a
//! bound, and every end has its last words.
//!
//! The tasks in [`crate::driver`] carry frames between these and sockets; a simulation carries them itself.

mod incoming;
mod outgoing;

use bytes::Bytes;
use sync_proto::wire::refuse::Code;
use sync_store::Origin;

use crate::replication::LinkError;
use crate::replication::handshake::Peer;

pub(crate) use incoming::Incoming;
pub(crate) use outgoing::Outgoing;

/// A link has just been established: the peer, for people.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) origin: Origin,
    pub(crate) name: String,
    /// One sentence per zone that does not synchronize.
    pub(crate) mismatches: Vec<String>,
}

impl From<&Peer> for Established {
    fn from(peer: &Peer) -> Self {
        Self { origin: peer.origin, name: peer.name.clone(), mismatches: peer.mismatches.clone() }
    }
}

/// How a link ended.
#[derive(Debug)]
pub(crate) enum End {
    /// In good order, and why.
    Closed(String),
    /// `code` if one side refused the other; `frame` tells the peer, if it is the one to be told; `cause` is a word for counters.
    Failed { code: Option<Code>, cause: &'static str, message: String, frame: Option<Bytes> },
}

/// The cause of an end that nobody decided: the connection broke, or was closed without a goodbye.
const LOST: &str = "lost";

impl End {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::failed_by(LOST, message)
    }

    pub(crate) fn failed_by(cause: &'static str, message: impl Into<String>) -> Self {
        Self::Failed { code: None, cause, message: message.into(), frame: None }
    }

    /// Why this link was refused or lost, in a word for counters; `None` if nothing was wrong.
    pub(crate) fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Closed(_) | Self::Failed { code: Some(Code::Self_ | Code::ShuttingDown), .. } => None,
            Self::Failed { cause, .. } => Some(cause),
        }
    }

    fn closed_by_peer() -> Self {
        Self::failed("it closed the connection without a goodbye")
    }

    fn no_hello(patience: std::time::Duration) -> Self {
        Self::failed_by("no_hello", format!("it sent no Hello within {patience:?}"))
    }

    /// The frames that still go to the peer before the connection is closed. `next` is what the machine has to say.
    fn last_words(&self, next: impl FnMut() -> Option<Bytes>) -> Vec<Bytes> {
        match self {
            Self::Closed(_) => std::iter::from_fn(next).collect(),
            Self::Failed { frame, .. } => frame.iter().cloned().collect(),
        }
    }
}

impl From<LinkError> for End {
    fn from(error: LinkError) -> Self {
        let cause = match &error {
            LinkError::Refused { code, .. } => word(*code),
            LinkError::RefusedByPeer { .. } => "refused_by_peer",
        };
        Self::Failed { code: Some(error.code()), cause, message: error.to_string(), frame: error.frame() }
    }
}

/// A code as a cause.
fn word(code: Code) -> &'static str {
    match code {
        Code::Unspecified => "other",
        Code::Version => "version",
        Code::Cluster => "cluster",
        Code::Self_ => "self",
        Code::Departed => "departed",
        Code::Malformed => "malformed",
        // As against a limit of connections.
        Code::Limit => "too_large",
        Code::Clock => "clock",
        Code::ShuttingDown => "shutting_down",
        Code::Duplicate => "duplicate",
        Code::Internal => "internal",
    }
}
