//! The reference of the configuration file says what the program does: every key, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sync_node::config::Config;

/// A file with every table there is; its keys are those that its tables have to have.
const EVERY_TABLE: &str = r#"
    [zone_sync]
    listen = "127.0.0.1:9000"
    buffers = {}
    [zone_sync.ssl]
    certificate = "certs/edge-1.pem"
    certificate_key = "certs/edge-1.key"
    trusted_certificate = "certs/ca.pem"
    [[keyval_zone]]
    name = "one"
    size = "1m"
    [[sticky_zone]]
    name = "sessions"
    size = "1m"
    [[limit_req_zone]]
    name = "req"
    size = "1m"
    rate = "1r/s"
    [api]
    listen = "127.0.0.1:8080"
    [envoy_rls]
    limit = "req"
    rules = "envoy-rules.yaml"
    [redis]
    databases = "one"
    [haproxy_peers]
    tables = { app = { zone = "sessions" } }
"#;

/// The document, or nothing in a package that comes without it.
fn document() -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md")).ok()
}

/// Parses a configuration whose certificates and rules are where it says.
fn parse(text: &str) -> Config {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("certs")).expect("a folder");
    for name in ["ca.pem", "edge-1.pem", "edge-1.key"] {
        fs::write(folder.path().join("certs").join(name), "").expect("written");
    }
    fs::write(folder.path().join("envoy-rules.yaml"), "domain: web").expect("written");
    Config::parse(text, &folder.path().join("edge-1.toml")).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The keys of the tables under headings such as ``### `[zone_sync]` ``.
fn documented(document: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut table = None;
    for line in document.lines() {
        if line.starts_with('#') {
            table = match line {
                "### The node" => Some(String::new()),
                _ => line
                    .strip_prefix("### `")
                    .map(|title| format!("{}.", title.trim_matches(['[', ']', '`']))),
            };
        }
        let key = line.strip_prefix("| `").and_then(|rest| rest.split_once('`'));
        if let (Some(table), Some((key, _))) = (&table, key) {
            keys.insert(format!("{table}{key}"));
        }
    }
    keys
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let Some(document) = document() else { return };
    let config = parse(EVERY_TABLE);
    let known: BTreeSet<String> = config.known_keys().map(str::to_owned).collect();
    assert_eq!(documented(&document), known);
}

#[test]
fn the_example_is_good() {
    let Some(document) = document() else { return };
    let (_, rest) = document.split_once("```toml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("an end");
    let config = parse(example);
    assert_eq!((config.name.as_str(), config.keyval_zones.len()), ("edge-1", 1));
}
