//! The text of a configuration file: it becomes settings, or errors that name the place.

#![no_main]

use std::path::Path;

use libfuzzer_sys::{Corpus, fuzz_target};
use sync_node::config::Config;

fuzz_target!(|text: &str| -> Corpus {
    // Password files are read: not those of the machine that fuzzes.
    if text.contains("user_file") && text.contains('/') {
        return Corpus::Reject;
    }
    let file = Path::new("/nonexistent/fuzzed.toml");
    match Config::parse(text, file) {
        Ok(config) => {
            assert!(config.zone_sync.is_some() || config.api.is_some(), "a node with nothing to do");
            let zones = config.keyval_zones.iter().map(|zone| &zone.name);
            let zones = zones.chain(config.sticky_zones.iter().map(|zone| &zone.name));
            let mut zones: Vec<_> =
                zones.chain(config.limit_req_zones.iter().map(|zone| &zone.name)).collect();
            zones.sort_unstable();
            assert!(zones.windows(2).all(|pair| pair[0] != pair[1]), "two zones of a name");
            // A reload of the same file changes nothing.
            let again = Config::parse(text, file).expect("it was good before");
            assert_eq!(again.zone_sync, config.zone_sync);
            assert_eq!(again.keyval_zones, config.keyval_zones);
        }
        Err(errors) => {
            let shown = errors.to_string();
            assert!(
                !shown.is_empty() && shown.lines().next().is_some_and(|line| line.contains("fuzzed.toml"))
            );
        }
    }
    Corpus::Keep
});
