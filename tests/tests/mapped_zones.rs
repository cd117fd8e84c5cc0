//! Zones in mapped files: what a killed node finds again, and what processes that attach to them share with the cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sync_store::{Check, Clock, Error, Expiry, KeyvalZone, LimitZone, StickyZone, SystemClock};
use tempfile::TempDir;
use tests::{Cluster, Config, Node, Process, Signal, digests_equal, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

const ONE: &str = "/api/9/http/keyvals/one";
const SESSION: &str = "/v1/sticky/sessions/7f3a";

/// A cluster whose nodes keep their zones in files, in shared memory where there is some.
struct Mapped {
    cluster: Cluster,
    folder: TempDir,
}

impl Mapped {
    /// Of the members `a` and `b`, and an address where nobody looks for a node.
    fn new() -> Self {
        let shared = Path::new("/dev/shm");
        let folder = if shared.is_dir() { TempDir::new_in(shared) } else { TempDir::new() };
        let cluster = Cluster::new(&["a", "b", "nowhere"], "");
        Self { cluster, folder: folder.expect("a temporary directory") }
    }

    fn file(&self, node: &str, zone: &str) -> PathBuf {
        self.folder.path().join(format!("{node}-{zone}.zone"))
    }

    fn config(&self, node: &str) -> Config {
        let mut config = self.cluster.config(node);
        config.servers.truncate(2);
        // A ring that soon overflows, so that a node that was away is served by a catch-up.
        config.zone_sync.push("buffers = { number = 4, size = \"16k\" }".to_owned());
        let [one, sessions, req] = ["one", "sessions", "req"].map(|zone| self.file(node, zone));
        config.zones = format!(
            r#"
[[keyval_zone]]
name = "one"
size = "4m"
map_file = {one:?}

[[sticky_zone]]
name = "sessions"
size = "1m"
map_file = {sessions:?}

[[limit_req_zone]]
name = "req"
size = "1m"
rate = "10r/h"
burst = 9
nodelay = true
map_file = {req:?}
"#
        );
        config
    }

    /// Starts both members and waits until each is ready and sees the other.
    fn start(&self) -> [Node; 2] {
        let mut nodes = ["a", "b"].map(|node| self.cluster.start_with(self.config(node)));
        for node in &mut nodes {
            node.wait_ready();
        }
        for node in &nodes {
            wait_for(&format!("{} to see the other", node.name()), LIMIT, || {
                let online = node.api.sync_figure("nodes_online");
                if online == 1 { Ok(()) } else { Err(format!("{online} online:\n{}", node.log_end())) }
            });
        }
        nodes
    }
}

fn delete(node: &Node, key: &str) {
    node.api.patch(ONE, &json!({ key: null })).expect(204);
}

fn check(node: &Node, cost: u32) -> u64 {
    let reply = node.api.post("/v1/limit_req/req", &json!({"key": "client", "cost": cost})).expect(200);
    reply.json()["remaining"].as_u64().unwrap_or_else(|| panic!("{reply:?}"))
}

fn wait_remaining(node: &Node, expected: u64) {
    wait_for(&format!("{expected} remaining on {}", node.name()), LIMIT, || match check(node, 0) {
        found if found == expected => Ok(()),
        found => Err(format!("{found} remaining")),
    });
}

fn wait_value(node: &Node, key: &str, expected: Option<&str>) {
    wait_for(&format!("{key} = {expected:?} on {}", node.name()), LIMIT, || {
        match node.api.value("one", key) {
            found if found.as_deref() == expected => Ok(()),
            found => Err(format!("{found:?}; its log:\n{}", node.log_end())),
        }
    });
}

#[test]
fn a_killed_node_has_its_records_at_once_and_catches_up_only_on_what_it_missed() {
    const BULK: usize = 4_950;
    const SINGLE: usize = 50;
    const MISSED: usize = 50;
    const REMOVED: usize = 20;
    let mapped = Mapped::new();
    let [a, b] = mapped.start();
    let value = "v".repeat(48);
    let key = |kind: &str, number: usize| format!("{kind}-{number:05}");
    let bulk: Map<String, Value> = (0..BULK).map(|number| (key("bulk", number), json!(value))).collect();
    a.api.post(ONE, &Value::Object(bulk)).expect(201);
    for number in 0..SINGLE {
        b.api.add("one", &key("sngl", number), &value);
    }
    b.api.put(SESSION, &json!({"server": "10.0.0.7:80"})).expect(204);
    for spent in 0..4 {
        assert_eq!(check([&a, &b][spent % 2], 1), 9 - spent as u64);
        wait_remaining([&b, &a][spent % 2], 9 - spent as u64);
    }
    digests_equal(&[&a, &b]);
    let before = b.api.pairs("one");
    assert_eq!(before.len(), BULK + SINGLE);

    let config = b.kill();
    for number in 0..MISSED {
        a.api.add("one", &key("miss", number), &value);
    }
    for number in 0..REMOVED {
        delete(&a, &key("bulk", number));
    }

    // With nobody to ask, it has what it had: from its first answer on.
    let nowhere = mapped.cluster.loopback("nowhere").ip();
    let alone = mapped.cluster.start_with(Config { ip: nowhere, servers: Vec::new(), ..config.clone() });
    alone.wait_live();
    assert_eq!(alone.api.sync_figure("nodes_online"), 0);
    assert!(alone.api.pairs("one") == before, "its records are those of before");
    assert_eq!(alone.api.get(SESSION).expect(200).json(), json!({"server": "10.0.0.7:80"}));
    assert_eq!(check(&alone, 0), 6, "what was spent is spent");
    alone.kill();

    let mut b = mapped.cluster.start_with(config);
    b.wait_ready();
    assert!(b.api.pairs("one") == a.api.pairs("one"), "a node that is ready has caught up");
    digests_equal(&[&a, &b]);
    assert_eq!(b.api.value("one", &key("bulk", 0)), None);
    wait_remaining(&b, 6);

    // Every record that it missed once, and what rows, tombstones, greetings and heartbeats take beside them.
    let received = b.api.sync_figure("bytes_in");
    let record = "bulk-00000".len() + value.len();
    let least = (MISSED * record) as u64;
    let most = least + 64 * (MISSED + REMOVED) as u64 + (8 << 10);
    assert!((least..=most).contains(&received), "{received} bytes received, expected {least} to {most}");

    // For comparison: what it receives without its files.
    let config = b.kill();
    for zone in ["one", "sessions", "req"] {
        std::fs::remove_file(mapped.file("b", zone)).expect("it is there");
    }
    let mut b = mapped.cluster.start_with(config);
    b.wait_ready();
    digests_equal(&[&a, &b]);
    let everything = b.api.sync_figure("bytes_in");
    println!("{received} bytes received over its files, {everything} without them");
    assert!(20 * received < everything, "{received} bytes received, {everything} without the files");
}

#[test]
fn what_a_killed_node_had_not_sent_reaches_its_peer_after_the_restart() {
    let mapped = Mapped::new();
    let [a, b] = mapped.start();
    for key in ["removed", "removed-unowned", "kept"] {
        a.api.add("one", key, "early");
    }
    digests_equal(&[&a, &b]);

    // With the peer gone nothing leaves any more: what follows is only in the file when the node is killed, too.
    let of_b = b.kill();
    a.api.add("one", "late", "written to the node");
    delete(&a, "removed");
    a.api.put(SESSION, &json!({"server": "10.0.0.8:80"})).expect(204);
    assert_eq!(check(&a, 3), 7);
    let worker = KeyvalZone::attach(mapped.file("a", "one")).expect("attached");
    let of_a = a.kill();
    // And this nobody has even published: there is no owner.
    let now = SystemClock.now();
    worker.set("unowned", "written to the file", now, Expiry::Never).expect("there is room");
    assert!(worker.remove("removed-unowned", now).expect("there is room"));

    let mut a = mapped.cluster.start_with(of_a);
    let mut b = mapped.cluster.start_with(of_b);
    a.wait_ready();
    b.wait_ready();
    wait_value(&b, "late", Some("written to the node"));
    wait_value(&b, "unowned", Some("written to the file"));
    wait_value(&b, "removed", None);
    wait_value(&b, "removed-unowned", None);
    wait_remaining(&b, 7);
    let zones = digests_equal(&[&a, &b]);
    assert_eq!(zones["one"].records_total, 3, "kept, late and unowned");
    assert_eq!(b.api.get(SESSION).expect(200).json(), json!({"server": "10.0.0.8:80"}));

    // The worker has noticed nothing.
    worker.set("afterwards", "of the next run", SystemClock.now(), Expiry::Never).expect("there is room");
    wait_value(&b, "afterwards", Some("of the next run"));
}

#[test]
fn what_attached_processes_write_and_count_is_the_clusters() {
    let mapped = Mapped::new();
    let [a, b] = mapped.start();
    let one = KeyvalZone::attach(mapped.file("a", "one")).expect("attached");
    let sessions = StickyZone::attach(mapped.file("a", "sessions")).expect("attached");
    let req = LimitZone::attach(mapped.file("a", "req")).expect("attached");
    let now = || SystemClock.now();

    one.set("colour", "green", now(), Expiry::Default).expect("there is room");
    assert_eq!(a.api.value("one", "colour").as_deref(), Some("green"), "the node sees it at once");
    wait_value(&b, "colour", Some("green"));
    b.api.patch(ONE, &json!({"colour": "blue"})).expect(204);
    wait_for("what another node wrote", LIMIT, || match one.get("colour", now()) {
        Some(value) if value == "blue" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(one.remove("colour", now()).expect("there is room"));
    wait_value(&b, "colour", None);

    sessions.learn([0x7f, 0x3a], "10.0.0.7:80", now()).expect("there is room");
    sessions.learn("7f3a", "10.0.0.7:80", now()).expect("there is room");
    wait_for("the session", LIMIT, || {
        let reply = b.api.get(SESSION);
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });

    for left in [9, 8, 7] {
        let decision = req.check("client", &Check::default(), now());
        assert_eq!((decision.is_admitted(), decision.remaining()), (true, left));
    }
    wait_remaining(&b, 7);
    assert_eq!(check(&b, 2), 5);
    wait_for("what another node admitted", LIMIT, || {
        let peek = Check { cost: 0, ..Check::default() };
        match req.check("client", &peek, now()).remaining() {
            5 => Ok(()),
            left => Err(format!("{left} left")),
        }
    });
    digests_equal(&[&a, &b]);

    // There is room for so many beside the node.
    let others: Vec<_> =
        (1..15).map(|_| KeyvalZone::attach(mapped.file("a", "one")).expect("a place")).collect();
    let error = KeyvalZone::attach(mapped.file("a", "one")).expect_err("no place left");
    assert!(matches!(error, Error::TooManyProcesses { max: 15, .. }), "{error}");
    drop(others);
    KeyvalZone::attach(mapped.file("a", "one")).expect("places of those that left are free");
}

/// A process that writes to a node's zone without a pause.
fn writer(mapped: &Mapped, prefix: &str) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zone-writer"));
    command.arg(mapped.file("a", "one")).arg(prefix);
    Process::start(prefix, command, &mapped.folder.path().join(format!("{prefix}.log")))
}

/// A writer writes one record after the other, so whatever it leaves begins at the first and has no gap.
fn assert_no_gap(pairs: &BTreeMap<String, String>, prefix: &str) {
    let found: Vec<&String> = pairs.keys().filter(|key| key.starts_with(prefix)).collect();
    for (number, key) in found.iter().enumerate() {
        assert_eq!(**key, format!("{prefix}-{number:05}"));
    }
    assert!(!found.is_empty(), "{prefix} has written");
}

/// Kills a writer in the midst of its work, and waits until the node has put right what it left.
fn kill(mut writer: Process, mapped: &Mapped) {
    writer.signal(Signal::Kill);
    writer.wait_end(LIMIT);
    let mut lock = mapped.file("a", "one").into_os_string();
    lock.push(".guest-1");
    wait_for("the node to notice", LIMIT, || {
        if Path::new(&lock).exists() { Err(format!("{} is there", lock.display())) } else { Ok(()) }
    });
}

#[test]
fn workers_and_their_node_can_be_killed_at_any_moment() {
    let mapped = Mapped::new();
    let [a, b] = mapped.start();
    let mut prefixes = Vec::new();
    for kill_number in 0..5 {
        let prefix = format!("worker{kill_number}");
        let worker = writer(&mapped, &prefix);
        wait_value(&b, &format!("{prefix}-00100"), Some("by a worker"));
        kill(worker, &mapped);
        prefixes.push(prefix);
    }

    // A worker outlives its node, and writes while there is none.
    let prefix = "outlives".to_owned();
    let worker = writer(&mapped, &prefix);
    wait_value(&b, &format!("{prefix}-00100"), Some("by a worker"));
    let config = a.kill();
    let zone = KeyvalZone::attach(mapped.file("a", "one")).expect("attached");
    wait_for("more of the worker", LIMIT, || {
        let key = format!("{prefix}-01000");
        zone.get(&key, SystemClock.now()).map(|_| ()).ok_or_else(|| format!("no {key} yet"))
    });
    drop(zone);
    let mut a = mapped.cluster.start_with(config);
    a.wait_ready();
    wait_value(&b, &format!("{prefix}-01000"), Some("by a worker"));
    kill(worker, &mapped);
    prefixes.push(prefix);

    let zones = digests_equal(&[&a, &b]);
    for node in [&a, &b] {
        let pairs = node.api.pairs("one");
        prefixes.iter().for_each(|prefix| assert_no_gap(&pairs, prefix));
        assert_eq!(
            zones["one"].records_total,
            pairs.len() as u64,
            "the figures are right on {}",
            node.name()
        );
    }
}

#[test]
fn a_change_of_the_file_waits_for_a_restart() {
    let mapped = Mapped::new();
    let mut a = mapped.cluster.start_with(mapped.config("a"));
    a.wait_ready();
    a.api.add("one", "colour", "green");
    let text = mapped.config("a").to_toml().replace("a-one.zone", "other.zone");
    std::fs::write(mapped.cluster.directory().join("a.toml"), text).expect("writable");
    a.signal(Signal::HangUp);
    a.wait_complaint(&["keyval_zone", "needs a restart"]);
    assert_eq!(a.api.value("one", "colour").as_deref(), Some("green"));
    assert!(!mapped.folder.path().join("other.zone").exists());
}
