//! The table `[api]`, and the keys that the tables of all doors have: where clients come in, and who may.

use super::Api;
use super::reader::Section;
use super::values::{Parsed, flag, list, text};
#[cfg(any(feature = "envoy_rls", feature = "redis"))]
use super::values::{count, name};
use crate::api::Grants;
use crate::api::access::{AccessList, Range};
use crate::api::users::UsersFile;
use std::path::Path;
use sync_transport::Address;
use toml::de::DeValue;

pub(super) fn api(mut table: Section<'_, '_>) -> Option<Api> {
    let folder = table.report().folder().to_owned();
    let listen = table.require("listen", "\"127.0.0.1:8080\"", |value| address(&folder, value));
    let write = table.read("write", flag).unwrap_or(false);
    let decide = table.read("decide", flag).unwrap_or(write);
    let access = access(&mut table);
    let users = users_file(&mut table);
    table.finish();
    Some(Api { listen: listen?, grants: Grants { write, decide, access, users } })
}

/// Who may come in by a door, by address.
pub(super) fn access(table: &mut Section<'_, '_>) -> AccessList {
    let allow = table.read("allow", |value| list(value, range)).unwrap_or_default();
    let deny = table.read("deny", |value| list(value, range)).unwrap_or_default();
    AccessList::new(allow, deny)
}

/// Connections that may be allowed: each takes a file descriptor, of which a process has about a million at the most.
#[cfg(any(feature = "envoy_rls", feature = "redis"))]
const CONNECTIONS_MAX: u64 = 1 << 20;

/// How many connections a door takes at a time.
#[cfg(any(feature = "envoy_rls", feature = "redis"))]
pub(super) fn connections(table: &mut Section<'_, '_>) -> Option<usize> {
    table.read("connections", |value| match count(value)? {
        connections @ 1..=CONNECTIONS_MAX => Ok(connections as usize),
        other => Err(format!("is {other}; from 1 to {CONNECTIONS_MAX} are possible")),
    })
}

/// The name of a zone that there is.
#[cfg(any(feature = "envoy_rls", feature = "redis"))]
pub(super) fn zone(
    value: &DeValue<'_>,
    known: &std::collections::BTreeSet<String>,
    kind: &str,
) -> Parsed<String> {
    let name = name(value)?;
    if known.contains(&name) {
        return Ok(name);
    }
    Err(format!("names {name:?}, and there is no [[{kind}]] of that name; add one, or name another"))
}

/// Who may come in by a door, by password.
pub(super) fn users_file(table: &mut Section<'_, '_>) -> Option<UsersFile> {
    let folder = table.report().folder().to_owned();
    table.read("auth_basic_user_file", |value| {
        let path = folder.join(text(value)?);
        UsersFile::load(&path).map_err(|error| format!("cannot be used: {error}"))
    })
}

/// Where clients of a door come in.
pub(super) fn address(folder: &Path, value: &DeValue<'_>) -> Parsed<Address> {
    match text(value)?.parse().map_err(reason)? {
        address @ Address::Quic(_) => {
            Err(format!("\"{address}\": QUIC is for `zone_sync` only; leave quic:// out"))
        }
        address => Ok(in_folder(folder, address)),
    }
}

/// The path of a Unix socket is relative to the folder of the file.
pub(super) fn in_folder(folder: &Path, address: Address) -> Address {
    match address {
        Address::Unix(path) => Address::Unix(folder.join(path)),
        address => address,
    }
}

fn range(value: &DeValue<'_>) -> Parsed<Range> {
    text(value)?.parse()
}

pub(super) fn reason(error: sync_transport::Error) -> String {
    match error {
        sync_transport::Error::InvalidAddress { text, reason }
        | sync_transport::Error::InvalidServer { text, reason } => {
            format!("{text:?}: {reason}")
        }
        sync_transport::Error::InvalidOption { reason, .. } => reason,
        error => error.to_string(),
    }
}
