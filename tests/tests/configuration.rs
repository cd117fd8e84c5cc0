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

#[test]
fn a_zone_file_that_cannot_be_used_is_named_with_its_line() {
    const ONE: &str = "[[keyval_zone]]\nname = \"one\"\nsize = \"1m\"\nmap_file = \"one.zone\"\n";
    const SESSIONS: &str =
        "[[sticky_zone]]\nname = \"sessions\"\nsize = \"1m\"\nmap_file = \"sessions.zone\"\n";
    let cluster = Cluster::new(&["a", "b"], &format!("{ONE}{SESSIONS}"));
    let directory = cluster.directory();
    let other = |zones: &str| {
        let config = Config { zones: zones.to_owned(), ..cluster.config("b") };
        Config { encryption: Encryption::Plain, ..config }.to_toml()
    };
    let checked = |text: &str| {
        fs::write(directory.join("node.toml"), text).expect("writable");
        let ended = run_to_end(directory, &["check", "-c", "node.toml"], LIMIT);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    };
    let refused_run = |text: &str, words: &[&str]| {
        refused(directory, "run", text, line_of(text, "map_file"), words);
    };

    // A check makes nothing, and is no matter to a node that runs.
    checked(&other(ONE));
    assert!(!directory.join("one.zone").exists());
    let a = cluster.start_with(plain(&cluster));
    a.wait_live();
    a.api.add("one", "colour", "green");
    checked(&other(ONE));
    refused_run(&other(ONE), &["one.zone", "owned by another process", "another file"]);
    assert_eq!(a.api.value("one", "colour").as_deref(), Some("green"));
    a.quit();

    let notes = "not a zone ".repeat(1 << 20);
    let (notes, other_notes) = (&notes[..1 << 20], &notes[..1 << 10]);
    fs::write(directory.join("notes"), notes).expect("writable");
    fs::write(directory.join("other-notes"), other_notes).expect("writable");
    for (text, words) in [
        (ONE.replace("name = \"one\"", "name = \"two\""), ["name of the zone one, not two", "another file"]),
        (ONE.replace("one.zone", "sessions.zone"), ["kind of zone 2, not 1", "2 sticky"]),
        (ONE.replace("1m", "2m"), ["size 1048576, not 2097152", "move the file away"]),
        (format!("{ONE}record_size = 100\n"), ["record_size 48, not 100", "move the file away"]),
        (format!("{ONE}type = \"ip\"\n"), ["type", "move the file away"]),
        (ONE.replace("one.zone", "notes"), ["holds no zone", "another file"]),
        (ONE.replace("one.zone", "other-notes"), ["size 1024, not 1048576", "move the file away"]),
    ] {
        checked(&other(&text));
        refused_run(&other(&text), &words);
    }
    for (file, text) in [("notes", notes), ("other-notes", other_notes)] {
        assert!(fs::read_to_string(directory.join(file)).expect("readable") == text, "{file} is as it was");
    }
    let text = other(ONE).replace("[zone_sync]\n", "[zone_sync]\nbuffers = { number = 8, size = \"8k\" }\n");
    refused_run(&text, &["max_record", "buffers"]);

    for command in ["run", "check"] {
        for mode in ["rw", "0777", "0400"] {
            let text = other(&format!("{ONE}map_mode = {mode:?}\n"));
            refused(directory, command, &text, line_of(&text, "map_mode"), &[mode, "0600", "0660"]);
        }
        let text = other(&ONE.replace("one.zone", "absent/one.zone"));
        refused(directory, command, &text, line_of(&text, "map_file"), &["absent", "no folder"]);
    }

    // After all that it is still there for whom it belongs to.
    let a = cluster.start_with(plain(&cluster));
    a.wait_live();
    assert_eq!(a.api.value("one", "colour").as_deref(), Some("green"));
}
