//! The secrets of sessions in a file, for those who have to read captured traffic.

use std::env;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::{KeyLog, KeyLogFile};

use crate::Error;

const VARIABLE: &str = "SSLKEYLOGFILE";
/// Whoever may read the file may read the traffic.
const MODE: u32 = 0o600;

/// Opens the file that the environment names, which has to be one that can be written.
pub(super) fn open() -> Result<Arc<dyn KeyLog>, Error> {
    let refused = |reason| Error::InvalidOption { option: "key_log", reason };
    let Some(file) = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from) else {
        return Err(refused(format!(
            "the environment variable {VARIABLE} names no file for the secrets; set it, or remove key_log"
        )));
    };
    // rustls would make it readable for all, and be silent if it could not.
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .open(&file)
        .map_err(|error| refused(format!("cannot write {}: {error}", file.display())))?;
    tracing::warn!(file = %file.display(), "key_log: the secrets of all TLS sessions are written to a file");
    Ok(Arc::new(KeyLogFile::new()))
}
