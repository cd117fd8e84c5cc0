//! The table `[haproxy_peers]`: the door for HAProxies.

use super::doors::{access, address};
use super::reader::Section;
use super::values::{self, Parsed, count, text, time};
use crate::haproxy::{CONNECTIONS, Mapping, Options, TIMEOUT};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use sync_transport::Address;
use toml::de::DeValue;

/// Of this machine alone; HAProxy has no usual port for peers.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_000);
/// Connections that may be allowed: each takes a file descriptor, of which a process has about a million at the most.
const CONNECTIONS_MAX: u64 = 1 << 20;
/// An HAProxy says something every three seconds.
const TIMEOUT_MIN: Duration = Duration::from_secs(4);

/// `[haproxy_peers]`: the door for HAProxies.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HaproxyPeers {
    /// Where to listen: `address:port` or `unix:/path`. Default: `127.0.0.1:10000`. Not reloadable.
    pub listen: Address,
    /// The other keys of the table. Who may connect is reloadable.
    pub options: Options,
}

impl HaproxyPeers {
    /// Whether a reload would change what needs a restart.
    pub fn has_same_door(&self, other: &Self) -> bool {
        let fixed = |door: &Self| {
            let Options { name, tables, connections, timeout, .. } = door.options.clone();
            (door.listen.clone(), name, tables, connections, timeout)
        };
        fixed(self) == fixed(other)
    }
}

/// Reads the table. `stickies` and `keyvals` are the names of the zones that there are.
pub(super) fn haproxy(
    mut table: Section<'_, '_>,
    stickies: &BTreeSet<String>,
    keyvals: &BTreeSet<String>,
) -> HaproxyPeers {
    let folder = table.report().folder().to_owned();
    let listen = table.read("listen", |value| address(&folder, value));
    let name = table.read("name", values::name);
    let tables = table.read("tables", |value| tables(value, stickies, keyvals));
    let access = access(&mut table);
    let connections = table.read("connections", |value| match count(value)? {
        connections @ 1..=CONNECTIONS_MAX => Ok(connections as usize),
        other => Err(format!("is {other}; from 1 to {CONNECTIONS_MAX} are possible")),
    });
    let timeout = table.read("timeout", |value| match time(value)? {
        timeout if timeout >= TIMEOUT_MIN => Ok(timeout),
        _ => Err("is less than \"4s\", and an HAProxy says something every three seconds only".to_owned()),
    });
    if !table.has("tables") {
        table.problem("tables", format!("[haproxy_peers] has no stick-table; {EXAMPLE}"));
    }
    table.finish();
    let options = Options {
        name,
        tables: tables.unwrap_or_default(),
        access,
        connections: connections.unwrap_or(CONNECTIONS),
        timeout: timeout.unwrap_or(TIMEOUT),
    };
    HaproxyPeers { listen: listen.unwrap_or(Address::Tcp(LISTEN)), options }
}

const EXAMPLE: &str = "write tables = { app = { zone = \"…\" } } with a sticky zone for sessions, or { app = { zone = \"…\", sum = \"app_sum\" } } with a keyval zone for counters";

fn tables(
    value: &DeValue<'_>,
    stickies: &BTreeSet<String>,
    keyvals: &BTreeSet<String>,
) -> Parsed<BTreeMap<String, Mapping>> {
    let wrong = || format!("must be a table of stick-tables and zones; {EXAMPLE}");
    let written = value.as_table().filter(|table| !table.is_empty()).ok_or_else(wrong)?;
    let mut tables = BTreeMap::new();
    let mut sums = BTreeSet::new();
    for (name, mapping) in written {
        let name = table_name(name.get_ref())?;
        let keys = mapping.get_ref().as_table().ok_or_else(wrong)?;
        if let Some((key, _)) =
            keys.iter().find(|(key, _)| !["zone", "sum", "servers"].contains(&&**key.get_ref()))
        {
            let key: &str = key.get_ref();
            return Err(format!("has {key:?} for {name:?}; a stick-table knows zone, sum and servers"));
        }
        let zone = keys.get("zone").ok_or_else(|| format!("has no zone for {name:?}; {EXAMPLE}"))?;
        let zone = values::name(zone.get_ref())?;
        let mapping = match keys.get("sum") {
            Some(sum) => {
                let sum = table_name(&text(sum.get_ref())?)?;
                if !sums.insert(sum.clone()) {
                    return Err(format!("fills {sum:?} with two sums; name another table for one of them"));
                }
                if keys.contains_key("servers") {
                    return Err(format!(
                        "has `servers` for {name:?}, whose counters have none; leave it out"
                    ));
                }
                known(&zone, keyvals, "keyval_zone", &name)?;
                Mapping::Counters { zone, sum }
            }
            None => {
                known(&zone, stickies, "sticky_zone", &name)?;
                let servers = keys.get("servers").map(|value| servers(value.get_ref(), &name)).transpose()?;
                Mapping::Sessions { zone, servers: servers.unwrap_or_default() }
            }
        };
        tables.insert(name, mapping);
    }
    match sums.into_iter().find(|sum| tables.contains_key(sum)) {
        Some(sum) => Err(format!("fills {sum:?} with sums, which has a zone itself; name another table")),
        None => Ok(tables),
    }
}

/// Numbers of servers by name; each stands for one.
fn servers(value: &DeValue<'_>, table: &str) -> Parsed<BTreeMap<String, u32>> {
    const EXAMPLE: &str = "write servers = { one = 1, two = 2 }, as `id` of the servers says";
    let wrong = |what: String| format!("has `servers` for {table:?} {what}; {EXAMPLE}");
    let written = value.as_table().ok_or_else(|| wrong("that are no table".to_owned()))?;
    let mut servers = BTreeMap::new();
    for (server, number) in written {
        let server: &str = server.get_ref();
        let number = count(number.get_ref()).ok().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| *number > 0);
        let number = number.ok_or_else(|| wrong(format!("with a number of {server:?} that cannot be")))?;
        if servers.values().any(|other| *other == number) {
            return Err(wrong(format!("with {number} twice")));
        }
        servers.insert(server.to_owned(), number);
    }
    Ok(servers)
}

/// A name that an HAProxy gives a table.
fn table_name(name: &str) -> Parsed<String> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "has the stick-table {name:?}, and no HAProxy can: it is empty or has a space in it"
        ));
    }
    Ok(name.to_owned())
}

fn known(zone: &str, zones: &BTreeSet<String>, kind: &str, table: &str) -> Parsed<()> {
    if zones.contains(zone) {
        return Ok(());
    }
    let other = match kind {
        "keyval_zone" => "counters lie in one; without `sum` it is for sessions",
        _ => "sessions lie in one; with `sum` it is for counters",
    };
    Err(format!(
        "names {zone:?} for {table:?}, and there is no [[{kind}]] of that name; add one, or name another ({other})"
    ))
}

#[cfg(test)]
mod tests;
