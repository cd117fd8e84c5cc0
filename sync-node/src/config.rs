//! The configuration file: one TOML file with the words that operators of NGINX know.
//!
//! A file is read in three steps that all report what they find: TOML syntax, then each key by itself (unknown, missing, misspelt value),
//! then keys against each other and against the disk (a zone named twice, a buffer smaller than a page, a certificate that is not there).
//! **All** errors of a step come at once, each as `file:line:column: what is wrong, and the fix`, and a file with an error starts nothing.
//!
//! ```
//! use sync_node::config::Config;
//!
//! let config = Config::parse(
//!     r#"
//!     name = "edge-1"
//!
//!     [[keyval_zone]]
//!     name = "one"
//!     size = "1m"
//!
//!     [api]
//!     listen = "127.0.0.1:8080"
//!     write = true
//!     "#,
//!     "node.toml".as_ref(),
//! )?;
//! assert_eq!(config.keyval_zones[0].size, 1 << 20);
//!
//! let errors = Config::parse("nmae = 'edge-1'\n[api]\nlisten = '127.0.0.1:8080'", "node.toml".as_ref()).unwrap_err();
//! assert_eq!(errors.to_string(), "node.toml:1:1: unknown key `nmae` in the file; did you mean `name`?");
//! # Ok::<(), sync_node::config::Errors>(())
//! ```

mod doors;
#[cfg(feature = "envoy_rls")]
mod envoy_rls;
#[cfg(feature = "haproxy")]
mod haproxy;
mod reader;
#[cfg(feature = "redis")]
mod redis;
mod settings;
mod tables;
pub(crate) mod values;
mod zone_sync;
mod zones;

pub use settings::{
    Api, Buffers, Delay, KeyvalType, KeyvalZone, LimitReqZone, LogLevel, Ssl, StickyZone, ZoneSync,
};

#[cfg(feature = "envoy_rls")]
pub use envoy_rls::EnvoyRls;
#[cfg(feature = "haproxy")]
pub use haproxy::HaproxyPeers;
#[cfg(feature = "redis")]
pub use redis::Redis;
pub use values::parse_time;

#[cfg(feature = "envoy_rls")]
pub(crate) use reader::nearest;
pub(crate) use values::display_size;

use reader::Report;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// What a configuration file says, with every default filled in.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The node's name, for people: in logs, in the status of its peers. Default: the host name. Not reloadable.
    pub name: String,
    /// The cluster's name. Nodes of another cluster are refused, so that a wrong address does not mix two clusters. Default: `default`.
    /// Not reloadable.
    pub cluster: String,
    /// How much is logged. Default: `info`. Reloadable.
    pub log_level: LogLevel,
    /// Synchronization with other nodes; without it the zones stay on this node.
    pub zone_sync: Option<ZoneSync>,
    /// Tables of keys and values. Adding, removing or changing one needs a restart, as for all zones.
    pub keyval_zones: Vec<KeyvalZone>,
    /// Sessions and the servers they stick to.
    pub sticky_zones: Vec<StickyZone>,
    /// Request limits.
    pub limit_req_zones: Vec<LimitReqZone>,
    /// The HTTP API; without it the node has none.
    pub api: Option<Api>,
    /// The door for Envoy; without it the node has none.
    #[cfg(feature = "envoy_rls")]
    pub envoy_rls: Option<EnvoyRls>,
    /// The door for clients of Redis; without it the node has none.
    #[cfg(feature = "redis")]
    pub redis: Option<Redis>,
    /// The door for HAProxies; without it the node has none.
    #[cfg(feature = "haproxy")]
    pub haproxy_peers: Option<HaproxyPeers>,
    source: Source,
}

/// Where a configuration came from, to name the place of an error that shows only later.
#[derive(Debug, Clone)]
struct Source {
    file: PathBuf,
    places: BTreeMap<String, Place>,
    keys: BTreeSet<String>,
}

impl Config {
    /// Reads and checks a file. Relative paths in it start from the folder the file is in.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file, or the one reason why it cannot be read.
    pub fn load(file: &Path) -> Result<Self, Errors> {
        let text = std::fs::read_to_string(file).map_err(|error| Errors {
            problems: vec![Problem {
                file: file.to_owned(),
                place: Place::WHOLE,
                message: format!("cannot read the configuration: {error}"),
            }],
        })?;
        Self::parse(&text, file)
    }

    /// Checks the text of a file. `file` is named in errors, and relative paths start from its folder; it need not exist.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the text.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Errors> {
        let report = Report::new(file, text);
        let (root, syntax) = DeTable::parse_recoverable(text);
        for error in &syntax {
            report.problem(error.span().map_or(0, |span| span.start), syntax_message(error));
        }
        if !syntax.is_empty() {
            return Err(report.finish().err().unwrap_or_default());
        }
        let tables = tables::read(&report, root.get_ref());
        let outcome = report.finish()?;
        let source = Source { file: file.to_owned(), places: outcome.places, keys: outcome.keys };
        Ok(Self {
            name: tables.name,
            cluster: tables.cluster,
            log_level: tables.log_level,
            zone_sync: tables.zone_sync,
            keyval_zones: tables.keyval_zones,
            sticky_zones: tables.sticky_zones,
            limit_req_zones: tables.limit_req_zones,
            api: tables.api,
            #[cfg(feature = "envoy_rls")]
            envoy_rls: tables.envoy_rls,
            #[cfg(feature = "redis")]
            redis: tables.redis,
            #[cfg(feature = "haproxy")]
            haproxy_peers: tables.haproxy_peers,
            source,
        })
    }

    /// `file:line:column` of a key as it is written in the file (`zone_sync.listen`, `keyval_zone.one.size`), or the file alone if it is not:
    /// for errors that show only when the configuration is put to use, such as a port that is taken.
    pub fn location(&self, key: &str) -> String {
        let file = self.source.file.display();
        match self.source.places.get(key) {
            Some(place) => format!("{file}:{}:{}", place.line, place.column),
            None => file.to_string(),
        }
    }

    /// Every key that the tables of this configuration could have, by table: `zone_sync.listen`, `keyval_zone.size`. Optional tables that are
    /// not written contribute nothing.
    pub fn known_keys(&self) -> impl Iterator<Item = &str> {
        self.source.keys.iter().map(String::as_str)
    }
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// From 1; 0 for the file as a whole.
    line: usize,
    /// Characters, from 1.
    column: usize,
}

impl Place {
    const WHOLE: Self = Self { line: 0, column: 0 };
}

/// One error of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    file: PathBuf,
    place: Place,
    message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::WHOLE => write!(f, "{}: {}", self.file.display(), self.message),
            Place { line, column } => write!(f, "{}:{line}:{column}: {}", self.file.display(), self.message),
        }
    }
}

/// Everything that is wrong with a configuration file, in the order of the file; displayed one a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Errors {
    problems: Vec<Problem>,
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The parser's message on one line.
fn syntax_message(error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', ", ");
    format!("not valid TOML: {message}")
}

#[cfg(test)]
mod tests;
