//! redis-cli and redis-benchmark, as Debian has them.

use std::net::SocketAddr;
use std::process::Command;

use tests::{Cluster, wait_for};

use crate::{LIMIT, door, two_nodes};

/// What a tool of Redis says, which has to end well.
fn run(tool: &str, door: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new(tool);
    command.args(["-h", &door.ip().to_string(), "-p", &door.port().to_string()]).args(arguments);
    let output = command.output().unwrap_or_else(|e| panic!("{tool} can be started: {e}"));
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{tool} {arguments:?}: {said}\n{complained}");
    said.trim_end().to_owned()
}

#[test]
fn redis_cli_finds_what_it_knows() {
    let cluster = Cluster::new(&["a", "b"], "");
    let [a, b] = two_nodes(&cluster);
    let (first, second) = (door(a.config.ip), door(b.config.ip));
    for protocol in ["-2", "-3"] {
        let cli = |door: SocketAddr, words: &[&str]| run("redis-cli", door, &[&[protocol], words].concat());
        assert_eq!(cli(first, &["set", "k", protocol, "ex", "600"]), "OK");
        assert_eq!(cli(first, &["get", "k"]), protocol);
        wait_for("the value to arrive", LIMIT, || match cli(second, &["get", "k"]) {
            value if value == protocol => Ok(()),
            value => Err(value),
        });
        let left: i64 = cli(second, &["ttl", "k"]).parse().expect("a number");
        assert!((500..=600).contains(&left), "{left}");
        assert_eq!(cli(first, &["cl.throttle", protocol, "15", "30", "60"]), "0\n16\n15\n-1\n2");
        assert!(cli(first, &["command", "docs", "get"]).contains("summary"));
        assert!(cli(first, &["info"]).contains("redis_version:7."));
        assert!(cli(first, &["hello"]).contains("standalone"));
        assert!(cli(first, &["lpush", "k", "x"]).starts_with("ERR unknown command 'lpush'"));
    }
    assert_eq!(run("redis-cli", first, &["--scan", "--pattern", "k*"]), "k");
    assert_eq!(run("redis-cli", first, &["del", "k"]), "1");
    wait_for("the removal to arrive", LIMIT, || match run("redis-cli", second, &["exists", "k"]).as_str() {
        "0" => Ok(()),
        other => Err(other.to_owned()),
    });
}

#[test]
fn redis_benchmark_runs_through() {
    const REQUESTS: u64 = 2_000;
    let cluster = Cluster::new(&["a", "b"], "");
    let [a, _b] = two_nodes(&cluster);
    let door = door(a.config.ip);
    let count = REQUESTS.to_string();
    let usual = ["-n", &count, "-r", "100", "-c", "20", "--csv"];
    for arguments in [
        &["-t", "set,get", "-d", "100"][..],
        &["-t", "set,get", "-P", "16"],
        &["-3", "-t", "get"],
        &["-P", "16", "cl.throttle", "client:__rand_int__", "10", "100", "60"],
    ] {
        let said = run("redis-benchmark", door, &[&usual, arguments].concat());
        assert!(said.contains("\"rps\""), "{said}");
        assert!(!said.to_lowercase().contains("error"), "{said}");
    }
    let figures = &a.api.status().expect("a status").document["doors"]["redis"];
    // Six kinds of requests, and at each beginning CONFIG GET, which is not known here.
    let figure = |name: &str| figures[name].as_u64().unwrap_or_else(|| panic!("{name}: {figures}"));
    assert!(figure("requests") >= 6 * REQUESTS, "{figures}");
    assert!(figure("errors") < 20, "{figures}");
    assert!(figure("connections_accepted") >= 6 * 20, "{figures}");
    let records = a.api.status().expect("a status").zones["clients"].records_total;
    assert!((1..=100).contains(&records), "{records} limited keys of 100");
}
