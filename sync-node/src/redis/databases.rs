//! Which zone a key lies in.
//!
//! A database has a number, which clients choose with `SELECT`, and a keyval zone. Database 0, which is that of clients who choose none, may have further zones, for
//! keys with a prefix; the prefix is part of the key.

use super::Options;
use crate::{Error, Node};
use std::sync::Arc;
use sync_store::{KeyvalZone, Replica};

/// The databases of a door.
#[derive(Debug)]
pub(super) struct Databases {
    databases: Vec<Database>,
}

/// The zones of one database.
#[derive(Debug, Default)]
pub(super) struct Database {
    /// Each once.
    zones: Vec<Zone>,
    /// The zone of a key that none of the prefixes is of, by its place.
    usual: Option<usize>,
    /// Longer ones first, each with the place of its zone.
    prefixes: Vec<(Vec<u8>, usize)>,
}

/// A zone, and whether a change of it is answered when it is in a file.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    pub(super) keyval: Arc<KeyvalZone>,
    pub(super) is_kept: bool,
}

impl Databases {
    pub(super) fn new(node: &Node, options: &Options) -> Result<Self, Error> {
        let zone = |name: &String| -> Result<Zone, Error> {
            let keyval = node.keyval(name).ok_or_else(|| Error::NoSuchZone {
                name: name.clone(),
                purpose: "of the kind keyval for a database of Redis",
            })?;
            Ok(Zone { is_kept: node.is_kept(name), keyval })
        };
        let mut databases = Vec::new();
        for name in &options.databases {
            databases.push(Database { zones: vec![zone(name)?], usual: Some(0), prefixes: Vec::new() });
        }
        if databases.is_empty() {
            databases.push(Database::default());
        }
        for (prefix, name) in &options.prefixes {
            databases[0].add_prefix(prefix.as_bytes(), zone(name)?);
        }
        Ok(Self { databases })
    }

    pub(super) fn len(&self) -> usize {
        self.databases.len()
    }

    pub(super) fn get(&self, number: usize) -> &Database {
        // There is always one.
        &self.databases[number.min(self.databases.len() - 1)]
    }
}

impl Database {
    fn add_prefix(&mut self, prefix: &[u8], zone: Zone) {
        let known = self.zones.iter().position(|known| Arc::ptr_eq(&known.keyval, &zone.keyval));
        let place = known.unwrap_or_else(|| {
            self.zones.push(zone);
            self.zones.len() - 1
        });
        self.prefixes.push((prefix.to_owned(), place));
        self.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    }

    /// Its zones.
    pub(super) fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// The names of those that have a file.
    pub(super) fn kept(&self) -> Vec<String> {
        let kept = self.zones.iter().filter(|zone| zone.is_kept);
        kept.map(|zone| zone.keyval.name().to_owned()).collect()
    }

    /// The place of the zone that a key lies in.
    pub(super) fn place(&self, key: &[u8]) -> Option<usize> {
        let prefixed = self.prefixes.iter().find(|(prefix, _)| key.starts_with(prefix));
        prefixed.map(|(_, place)| *place).or(self.usual)
    }

    /// The zone that a key lies in.
    pub(super) fn zone(&self, key: &[u8]) -> Option<&Zone> {
        self.zones.get(self.place(key)?)
    }
}
