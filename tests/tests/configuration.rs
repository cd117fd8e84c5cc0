//! A bad configuration is refused before anything is started, with one clear message.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tests::{API_PORT, Cluster, Config, Encryption, Ended, SYNC_PORT, run_to_end};

const LIMIT: Duration = Duration::from_secs(30);

const ZONES: &str = "[[keyval_zone]]\nname = \"one\"\nsize = \"1m\"\n";

fn plain(cluster: &Cluster) -> Config {
    Config { encryption: Encryption::Plain, ..cluster.config("a") }
}

/// The line of `text`, counted from 1, that starts with `needle`.
fn line_of(text: &str, needle: &str) -> usize {
    1 + text.lines().position(|line| line.starts_with(needle)).expect("the line is there")
}

/// Whether a message names the line: `node.toml:7` or `line 7`.
fn names_line(message: &str, file: &str, line: usize) -> bool {
    let followed = |prefix: &str| {
        message.match_indices(prefix).any(|(at, _)| {
            let rest = &message[at + prefix.len()..];
            rest.starts_with(&line.to_string())
                && !rest[line.to_string().len()..].starts_with(|next: char| next.is_ascii_digit())
        })
    };
    followed(&format!("{file}:")) || followed("line ")
}

/// Runs `sync-node COMMAND -c node.toml`, expects it to fail as a bad configuration must, and returns what it said.
fn refused(directory: &Path, command: &str, text: &str, wrong_line: usize, words: &[&str]) -> String {
    fs::write(directory.join("node.toml"), text).expect("writable");
    let Ended { status, output, errors } = run_to_end(directory, &[command, "-c", "node.toml"], LIMIT);
    assert_eq!(status.code(), Some(1), "exit status of {command}; it said:\n{output}{errors}");
    assert!(
        names_line(&errors, "node.toml", wrong_line),
        "{command}: line {wrong_line} is not named in:\n{errors}"
    );
    for word in words {
        assert!(errors.to_lowercase().contains(&word.to_lowercase()), "{command}: no {word:?} in:\n{errors}");
    }
    assert!(!errors.contains("panicked") && !errors.contains("stack backtrace"), "{errors}");
    let paragraphs = errors.lines().filter(|line| line.to_lowercase().contains("error")).count();
    assert!(paragraphs <= 1, "one message, not {paragraphs}:\n{errors}");
    assert!(errors.lines().count() <= 10, "a message that is read at a glance:\n{errors}");
    errors
}

#[test]
fn a_good_configuration_passes_check() {
    let cluster = Cluster::new(&["a"], ZONES);
    for config in [plain(&cluster), cluster.config("a")] {
        fs::write(cluster.directory().join("node.toml"), config.to_toml()).expect("writable");
        let ended = run_to_end(cluster.directory(), &["check", "-c", "node.toml"], LIMIT);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let cluster = Cluster::new(&["a"], ZONES);
    let mut config = plain(&cluster);
    config.zone_sync.push("conect_timeout = \"5s\"".to_owned());
    let text = config.to_toml();
    for command in ["run", "check"] {
        refused(cluster.directory(), command, &text, line_of(&text, "conect_timeout"), &["conect_timeout"]);
    }
}

#[test]
fn a_bad_size_is_named_with_its_line() {
    let cluster = Cluster::new(&["a"], ZONES);
    for size in ["\"1 apple\"", "\"-1m\"", "\"0\"", "\"99999999999g\"", "\"\""] {
        let text = plain(&cluster).to_toml().replace("\"1m\"", size);
        for command in ["run", "check"] {
            refused(cluster.directory(), command, &text, line_of(&text, "size = "), &["size"]);
        }
    }
}

#[test]
fn a_missing_file_is_named_with_its_line() {
    let cluster = Cluster::new(&["a"], ZONES);
    let good = cluster.config("a").to_toml();
    for (setting, file) in
        [("certificate =", "a.pem"), ("certificate_key =", "a.key"), ("trusted_certificate =", "ca.pem")]
    {
        let text = good.replace(&format!("certs/{file}"), "certs/absent.pem");
        for command in ["run", "check"] {
            refused(cluster.directory(), command, &text, line_of(&text, setting), &["absent.pem"]);
        }
    }
    // The configuration file itself has no line.
    let ended = run_to_end(cluster.directory(), &["run", "-c", "absent.toml"], LIMIT);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.errors.contains("absent.toml"), "{ended:?}");
}

#[test]
fn a_port_in_use_is_named_with_its_line_and_nothing_is_started() {
    let cluster = Cluster::new(&["a", "peer"], ZONES);
    let peer =
        TcpListener::bind(cluster.loopback("peer").port(SYNC_PORT)).expect("a claimed address is free");
    peer.set_nonblocking(true).expect("a listener");
    let config = plain(&cluster);
    let text = config.to_toml();
    for port in [SYNC_PORT, API_PORT] {
        let address = cluster.loopback("a").port(port);
        let _holder = TcpListener::bind(address).expect("a claimed address is free");
        let line = line_of(&text, &format!("listen = \"{address}\""));
        refused(cluster.directory(), "run", &text, line, &[&address.to_string(), "in use"]);
        let dialled = peer.accept();
        assert!(dialled.is_err(), "a node that could not listen has dialled its peer from {dialled:?}");
    }
}
