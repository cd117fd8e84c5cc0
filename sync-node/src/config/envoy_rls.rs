//! The table `[envoy_rls]`: the door for Envoy.

use super::doors::{access, address, connections, users_file, zone};
use super::reader::Section;
use super::values::{list, text, time};
use crate::envoy_rls::{CONNECTIONS, Options, Rules, TIMEOUT};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use sync_transport::Address;

/// Where Envoy's reference service listens, of this machine alone.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// `[envoy_rls]`: the door for Envoy.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EnvoyRls {
    /// Where to listen: `address:port` or `unix:/path`. Default: `127.0.0.1:8081`. Not reloadable.
    pub listen: Address,
    /// The other keys of the table. Rules, headers and who may come in are reloadable.
    pub options: Options,
}

impl EnvoyRls {
    /// Whether a reload would change what needs a restart.
    pub fn has_same_door(&self, other: &Self) -> bool {
        let fixed = |door: &Self| {
            (door.listen.clone(), door.options.limit.clone(), door.options.connections, door.options.timeout)
        };
        fixed(self) == fixed(other)
    }
}

/// Reads the table and the files of rules. `limits` are the names of the zones that there are.
pub(super) fn envoy_rls(mut table: Section<'_, '_>, limits: &BTreeSet<String>) -> Option<EnvoyRls> {
    let folder = table.report().folder().to_owned();
    let listen = table.read("listen", |value| address(&folder, value));
    let limit =
        table.require("limit", "\"clients\", a limit zone", |value| zone(value, limits, "limit_req_zone"));
    let files = table.require("rules", "\"envoy-rules.yaml\"", |value| {
        list(value, |value| text(value).map(|file| folder.join(file)))
    });
    let rules = files.and_then(|files| rules(&table, &files));
    let response_headers = table.read("response_headers", |value| list(value, |value| text(value)?.parse()));
    let access = access(&mut table);
    let users = users_file(&mut table);
    let connections = connections(&mut table);
    let timeout = table.read("timeout", time);
    table.finish();
    let options = Options {
        limit: limit?,
        rules: rules?,
        response_headers: response_headers.unwrap_or_default(),
        access,
        users,
        connections: connections.unwrap_or(CONNECTIONS),
        timeout: Some(timeout.unwrap_or(TIMEOUT)).filter(|timeout| *timeout > Duration::ZERO),
    };
    Some(EnvoyRls { listen: listen.unwrap_or(Address::Tcp(LISTEN)), options })
}

fn rules(table: &Section<'_, '_>, files: &[PathBuf]) -> Option<Rules> {
    match Rules::load(files) {
        Ok(rules) => Some(rules),
        Err(error) => {
            for problem in error.problems() {
                table.problem("rules", format!("`rules`: {problem}"));
            }
            None
        }
    }
}

#[cfg(test)]
mod tests;
