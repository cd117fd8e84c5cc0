//! The table `[redis]`: the door for clients of Redis.

use super::doors::{access, address, connections, users_file, zone};
use super::reader::Section;
use super::values::{Parsed, flag, list, text, time};
use crate::api::Grants;
use crate::redis::{CONNECTIONS, Options, PREFIXES_MAX, TIMEOUT};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use sync_transport::Address;
use toml::de::DeValue;

/// Where clients of Redis look if they are not told: of this machine alone.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6379);
/// `[redis]`: the door for clients of Redis.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Redis {
    /// Where to listen: `address:port` or `unix:/path`. Default: `127.0.0.1:6379`. Not reloadable.
    pub listen: Address,
    /// The other keys of the table. Who may do what is reloadable.
    pub options: Options,
}

impl Redis {
    /// Whether a reload would change what needs a restart.
    pub fn has_same_door(&self, other: &Self) -> bool {
        let fixed = |redis: &Self| {
            let Options { databases, prefixes, limit, connections, timeout, .. } = redis.options.clone();
            (redis.listen.clone(), databases, prefixes, limit, connections, timeout)
        };
        fixed(self) == fixed(other)
    }
}

/// Reads the table. `keyvals` and `limits` are the names of the zones that there are.
pub(super) fn redis(
    mut table: Section<'_, '_>,
    keyvals: &BTreeSet<String>,
    limits: &BTreeSet<String>,
) -> Redis {
    let folder = table.report().folder().to_owned();
    let listen = table.read("listen", |value| address(&folder, value));
    let databases = table.read("databases", |value| list(value, |value| zone(value, keyvals, "keyval_zone")));
    let prefixes = table.read("prefixes", |value| prefixes(value, keyvals));
    let limit = table.read("limit", |value| zone(value, limits, "limit_req_zone"));
    let write = table.read("write", flag).unwrap_or(false);
    let decide = table.read("decide", flag).unwrap_or(write);
    let access = access(&mut table);
    let users = users_file(&mut table);
    let read_only_users = table.read("read_only_users", |value| list(value, text)).unwrap_or_default();
    let connections = connections(&mut table);
    let timeout = table.read("timeout", time);
    if !["databases", "prefixes", "limit"].into_iter().any(|key| table.has(key)) {
        table.problem(
            "databases",
            "[redis] shows no zone; add databases = \"…\" with a keyval zone, or limit = \"…\" with a limit zone",
        );
    }
    match &users {
        Some(users) => {
            if let Some(user) = read_only_users.iter().find(|user| !users.has(user)) {
                let message = format!(
                    "there is no user {user:?} in {}; add one, or remove it here",
                    users.path().display()
                );
                table.problem("read_only_users", format!("`read_only_users`: {message}"));
            }
        }
        None if table.has("read_only_users") && !table.has("auth_basic_user_file") => table.problem(
            "read_only_users",
            "`read_only_users` means nothing without `auth_basic_user_file`; add that, or remove it",
        ),
        None => {}
    }
    table.finish();
    let options = Options {
        databases: databases.unwrap_or_default(),
        prefixes: prefixes.unwrap_or_default(),
        limit,
        grants: Grants { write, decide, access, users },
        read_only_users: read_only_users.into_iter().collect(),
        connections: connections.unwrap_or(CONNECTIONS),
        timeout: Some(timeout.unwrap_or(TIMEOUT)).filter(|timeout| *timeout > Duration::ZERO),
    };
    Redis { listen: listen.unwrap_or(Address::Tcp(LISTEN)), options }
}

fn prefixes(value: &DeValue<'_>, keyvals: &BTreeSet<String>) -> Parsed<BTreeMap<String, String>> {
    let table = value.as_table().ok_or(
        "must be a table of prefixes and keyval zones; write prefixes = { \"session:\" = \"sessions\" }",
    )?;
    if table.len() > PREFIXES_MAX {
        return Err(format!("has {} prefixes; at most {PREFIXES_MAX} are possible", table.len()));
    }
    let mut prefixes = BTreeMap::new();
    for (prefix, name) in table {
        let prefix: &str = prefix.get_ref();
        if prefix.is_empty() {
            return Err("has an empty prefix, which every key has; use `databases`".to_owned());
        }
        let name = zone(name.get_ref(), keyvals, "keyval_zone")?;
        prefixes.insert(prefix.to_owned(), name);
    }
    Ok(prefixes)
}

#[cfg(test)]
mod tests;
