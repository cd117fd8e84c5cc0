//! What stick-tables stand for: which zone each lies in, and how keys of counters are made.

use super::{Mapping, Options};
use crate::{Error, Node};
use std::collections::BTreeMap;
use std::sync::Arc;
use sync_store::{KeyvalZone, StickyZone};

/// What a stick-table is to us.
#[derive(Debug, Clone)]
pub(super) enum Role {
    /// Sessions and their servers, learned and taught.
    Sessions(Arc<StickyZone>, Arc<Servers>),
    /// Counters of each HAProxy, learned only.
    Counters(Arc<KeyvalZone>),
    /// The sums of the counters of another table, taught only.
    Sums {
        /// That table.
        of: String,
        zone: Arc<KeyvalZone>,
    },
}

/// Numbers of servers by name, where a table has nothing but numbers.
#[derive(Debug, Default)]
pub(super) struct Servers(pub(super) BTreeMap<String, u32>);

impl Servers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn number(&self, name: &[u8]) -> Option<u32> {
        self.0.get(std::str::from_utf8(name).ok()?).copied()
    }

    /// There are as many as an HAProxy has in a backend: looked through from the first.
    pub(super) fn name(&self, number: u64) -> Option<&[u8]> {
        let (name, _) = self.0.iter().find(|(_, known)| u64::from(**known) == number)?;
        Some(name.as_bytes())
    }
}

/// Roles by the names of tables.
pub(super) fn roles(node: &Node, options: &Options) -> Result<BTreeMap<String, Role>, Error> {
    let mut roles = BTreeMap::new();
    for (table, mapping) in &options.tables {
        let no_zone = |zone: &String, purpose| Error::NoSuchZone { name: zone.clone(), purpose };
        match mapping {
            Mapping::Sessions { zone, servers } => {
                let sticky = node
                    .sticky(zone)
                    .ok_or_else(|| no_zone(zone, "of the kind sticky for sessions of HAProxy"))?;
                roles.insert(table.clone(), Role::Sessions(sticky, Arc::new(Servers(servers.clone()))));
            }
            Mapping::Counters { zone, sum } => {
                let keyval = node
                    .keyval(zone)
                    .ok_or_else(|| no_zone(zone, "of the kind keyval for counters of HAProxy"))?;
                let sums = Role::Sums { of: table.clone(), zone: Arc::clone(&keyval) };
                if options.tables.contains_key(sum) || roles.insert(sum.clone(), sums).is_some() {
                    return Err(Error::Setting {
                        setting: "tables",
                        problem: format!(
                            "{sum:?} is to be filled with sums, and is in use for something else; name another"
                        ),
                    });
                }
                roles.insert(table.clone(), Role::Counters(keyval));
            }
        }
    }
    Ok(roles)
}

/// The key of what one HAProxy has counted for a key of a table: neither name has a space in it.
pub(super) fn counts_key(table: &str, peer: &str, key: &[u8]) -> Vec<u8> {
    [table.as_bytes(), b" ", peer.as_bytes(), b" ", key].concat()
}

/// The HAProxy and the key of such a key, if it is of that table.
pub(super) fn split_counts_key<'k>(table: &str, key: &'k [u8]) -> Option<(&'k str, &'k [u8])> {
    let rest = key.strip_prefix(table.as_bytes())?.strip_prefix(b" ")?;
    let space = rest.iter().position(|byte| *byte == b' ')?;
    Some((std::str::from_utf8(&rest[..space]).ok()?, &rest[space + 1..]))
}
