//! What can go wrong when a node is made or changed. Once it runs, failures of links are not errors of the node: they are
//! logged, shown in [`Status`](crate::status::Status) and retried.

use std::path::PathBuf;

/// Why a node could not be started or changed. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two zones have the same name.
    #[error("two zones are named {name:?}: a zone's name identifies it in the whole cluster")]
    DuplicateZone {
        /// The name.
        name: String,
    },
    /// The node does not have a zone that was named for some purpose: to be [local](crate::NodeBuilder::local), or behind a door.
    #[error("there is no zone {name:?} {purpose}")]
    NoSuchZone {
        /// The name.
        name: String,
        /// What it was named for, such as `to keep local`.
        purpose: &'static str,
    },
    /// Neither TLS nor plain text was chosen, and the node would listen on or dial TCP.
    #[error("peers need TLS: give a certificate, or ask for plain text where the network is trusted")]
    TlsNotChosen,
    /// A setting does not fit another.
    #[error("{setting}: {problem}")]
    Setting {
        /// The setting, by its name in the configuration file.
        setting: &'static str,
        /// What is wrong with it and what would fit.
        problem: String,
    },
    /// A state file cannot be used. It is as it was.
    #[error("zone `{zone}`: state file {}: {problem}", path.display())]
    State {
        /// The zone.
        zone: String,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do about it.
        problem: String,
    },
    /// There is no room to write a change to the state file. The zone has it, and so will the file when there is room.
    #[error("zone `{zone}`: no room for its state file {}: {reason}", path.display())]
    StateFull {
        /// The zone.
        zone: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A zone could not be made.
    #[error(transparent)]
    Zone(#[from] sync_store::Error),
    /// Certificates, sockets or names: see the message, which says which.
    #[error(transparent)]
    Transport(#[from] sync_transport::Error),
}
