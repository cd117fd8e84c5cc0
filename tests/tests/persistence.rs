//! State files: what a node that was killed, cut off or away for long has again, and what it does not bring back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tests::{
    Cluster, Config, Ended, Loopback, Node, Signal, SmallDisk, Writers, digests_equal, run_to_end,
    since_1970, wait_for,
};

const LIMIT: Duration = Duration::from_secs(60);

const ONE: &str = "/api/9/http/keyvals/one";

/// A zone with a state file of each node's own.
fn zone(file: &Path, further: &str) -> String {
    format!("[[keyval_zone]]\nname = \"one\"\nsize = \"4m\"\nstate = {file:?}\n{further}\n")
}

/// A node that nobody else is there for.
struct Alone {
    cluster: Cluster,
    config: Config,
}

impl Alone {
    fn new(further: &str) -> Self {
        let cluster = Cluster::new(&["a"], "");
        let file = cluster.directory().join("one.keyval");
        let config = Config { servers: vec![], zones: zone(&file, further), ..cluster.config("a") };
        Self { cluster, config }
    }

    fn file(&self) -> PathBuf {
        self.cluster.directory().join("one.keyval")
    }

    fn start(&self) -> Node {
        let mut node = self.cluster.start_with(self.config.clone());
        node.wait_ready();
        node
    }

    /// Runs a command of the binary on the configuration.
    fn run(&self, command: &str) -> Ended {
        let file = self.cluster.directory().join("a.toml");
        std::fs::write(&file, self.config.to_toml()).expect("writable");
        run_to_end(self.cluster.directory(), &[command, "-c", "a.toml"], LIMIT)
    }
}

/// Everything that a command wrote.
fn said(ended: &Ended) -> String {
    format!("{}{}", ended.output, ended.errors)
}

/// Kills a node in the midst of writes over and over; whatever it acknowledged has to be there.
fn acknowledged_writes_survive(further: &str) {
    const KILLS: usize = 12;
    let alone = Alone::new(further);
    let mut expected = BTreeMap::new();
    for kill in 0..KILLS {
        let node = alone.start();
        assert!(contains(&node.api.pairs("one"), &expected), "after {kill} kills");
        let name = format!("run{kill}");
        let writers = Writers::start(&[(&name, &node.api)], "one", 4);
        // Before the table was brought up to date for the first time, about when it is, and later.
        writers.wait_more([3, 30, 300, 900][kill % 4]);
        node.kill();
        expected.extend(writers.stop().pairs);
    }
    let node = alone.start();
    let pairs = node.api.pairs("one");
    assert!(contains(&pairs, &expected));
    println!("{} acknowledged writes, {} pairs", expected.len(), pairs.len());
    node.quit();
    let node = alone.start();
    assert_eq!(node.api.pairs("one"), pairs, "a graceful stop keeps everything");
}

fn contains(pairs: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) -> bool {
    expected.iter().all(|(key, value)| pairs.get(key) == Some(value))
}

#[test]
fn acknowledged_writes_survive_kills_with_the_default() {
    acknowledged_writes_survive("");
}

#[test]
fn acknowledged_writes_survive_kills_when_always_synchronized() {
    acknowledged_writes_survive("state_sync = \"always\"");
}

#[test]
fn changes_and_removals_survive_as_they_were_acknowledged() {
    let alone = Alone::new("timeout = \"1h\"");
    let node = alone.start();
    node.api
        .post(ONE, &json!({"a": "1", "b": "2", "c": "3", "short": {"value": "x", "expire": 1}}))
        .expect(201);
    node.api.patch(ONE, &json!({"a": "changed"})).expect(204);
    node.api.patch(ONE, &json!({"b": null})).expect(204);
    node.kill();
    let node = alone.start();
    let expected = BTreeMap::from([("a", "changed"), ("c", "3")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert_eq!(node.api.pairs("one"), expected);
    let entry = &node.api.get("/v1/keyval/one").expect(200).json()["c"];
    let left = entry["expire"].as_u64().expect("it expires");
    assert!((1..=3_600_000).contains(&left), "{left}");
    node.api.delete(ONE).expect(204);
    node.kill();
    assert_eq!(alone.start().api.pairs("one"), BTreeMap::new());

    use std::os::unix::fs::PermissionsExt;
    for file in [alone.file(), alone.file().with_extension("keyval.journal")] {
        let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn a_file_that_is_none_is_refused_by_run_and_check_and_stays_as_it_is() {
    let alone = Alone::new("");
    let node = alone.start();
    node.api.add("one", "colour", "green");
    node.quit();
    let good = std::fs::read(alone.file()).expect("readable");
    assert!(alone.run("check").status.success());
    let damaged = {
        let mut bytes = good.clone();
        let at = bytes.windows(5).rposition(|part| part == b"green").expect("the value is in it");
        bytes[at] ^= 4;
        bytes
    };
    let text = b"colour green;\n".to_vec();
    for (bytes, words) in [
        (damaged, "damaged"),
        (good[..good.len() / 2].to_vec(), "damaged"),
        (text, "something else"),
        (vec![], "something else"),
    ] {
        std::fs::write(alone.file(), &bytes).expect("writable");
        for command in ["check", "run"] {
            let ended = alone.run(command);
            let output = said(&ended);
            assert!(!ended.status.success(), "{command}: {ended:?}");
            for word in [words, "a.toml:", "one.keyval", "left as it is"] {
                assert!(output.contains(word), "{command}: no {word:?} in {output}");
            }
            assert!(!output.contains("panicked"), "{output}");
            assert!(std::fs::read(alone.file()).expect("readable") == bytes, "{command} changed it");
        }
    }
    std::fs::write(alone.file(), good).expect("writable");
    assert_eq!(alone.start().api.value("one", "colour").as_deref(), Some("green"));
}

#[test]
fn two_nodes_do_not_share_a_file() {
    let alone = Alone::new("");
    let node = alone.start();
    node.api.add("one", "colour", "green");
    let other = Loopback::claim();
    let config = Config { ip: other.ip(), ..alone.config.clone() };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("b.toml"), config.to_toml()).expect("writable");
    let ended = run_to_end(folder.path(), &["run", "-c", "b.toml"], LIMIT);
    assert!(!ended.status.success() && said(&ended).contains("another process has it"), "{ended:?}");
    let ended = run_to_end(folder.path(), &["check", "-c", "b.toml"], LIMIT);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(node.api.value("one", "colour").as_deref(), Some("green"));
}

#[test]
fn a_full_disk_is_said_and_the_file_recovers_when_there_is_room() {
    let disk = match SmallDisk::mount("1m") {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: {why}"),
    };
    let cluster = Cluster::new(&["a"], "");
    let file = disk.path().join("one.keyval");
    let config = Config { servers: vec![], zones: zone(&file, ""), ..cluster.config("a") };
    let mut node = cluster.start_with(config.clone());
    node.wait_ready();
    node.api.add("one", "before", "there is room");
    // Somebody else fills the disk.
    let ballast = disk.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![1; 2 << 20]);
    let value = "v".repeat(8_000);
    let refused = (0..200).find_map(|number| {
        let body = json!({ format!("key-{number}"): value });
        let reply = node.api.post(ONE, &body);
        if reply.status == 201 { None } else { Some((number, reply)) }
    });
    let (number, reply) = refused.expect("the disk is full");
    let error = &reply.clone().expect(507).json()["error"];
    assert_eq!(error["code"], "StateFull", "{reply:?}");
    let text = error["text"].as_str().expect("a text");
    assert!(text.contains("the zone is changed, but not saved") && text.contains("one.keyval"), "{text}");
    node.wait_complaint(&["state file", "one.keyval", "cannot be written"]);
    assert_eq!(node.api.value("one", &format!("key-{number}")), Some(value.clone()), "it serves as before");

    std::fs::remove_file(&ballast).expect("removed");
    wait_for("writes to be taken again", LIMIT, || {
        let reply = node.api.post("/v1/keyval/one", &json!({"after": "there is room again"}));
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    let pairs = node.api.pairs("one");
    node.kill();
    let mut node = cluster.start_with(config);
    node.wait_ready();
    assert_eq!(node.api.pairs("one"), pairs, "what was not saved then is saved now");
}

/// The address of the API, for commands.
fn url(node: &Node, cluster: &Cluster) -> String {
    format!("http://{}", cluster.loopback(node.name()).port(8080))
}

#[test]
fn pairs_are_exported_and_imported_again() {
    let cluster = Cluster::new(&["a", "b"], "");
    let start = |name: &str| {
        let zones = zone(&cluster.directory().join(format!("{name}.keyval")), "timeout = \"1h\"");
        let mut node = cluster.start_with(Config { servers: vec![], zones, ..cluster.config(name) });
        node.wait_ready();
        node
    };
    let [a, b] = ["a", "b"].map(start);
    let keyval = |node: &Node, arguments: &[&str]| {
        let url = url(node, &cluster);
        run_to_end(cluster.directory(), &[&["keyval", "--url", &url], arguments].concat(), LIMIT)
    };
    let mut pairs: Map<String, Value> =
        (0..20_000).map(|n| (format!("key-{n:05}"), json!(format!("value {n}")))).collect();
    let odd = [
        "\"quoted\"",
        "back\\slash",
        "new\nline",
        "\u{0}\u{1f}\u{7f}",
        "tab\t",
        "ключ",
        "🗝",
        "{}",
        "a/b?c#d%00",
        " ",
    ];
    for key in odd {
        pairs.insert(key.to_owned(), json!(format!("value of {key}")));
    }
    pairs.insert("short".to_owned(), json!({"value": "x", "expire": 1_000_000}));
    pairs.insert("for ever".to_owned(), json!({"value": "x", "expire": null}));
    let file = |name: &str| cluster.directory().join(name);
    std::fs::write(file("in.json"), Value::Object(pairs.clone()).to_string()).expect("writable");

    let ended = keyval(&a, &["import", "one", "--file", "in.json"]);
    assert!(ended.status.success(), "{ended:?}");
    assert!(
        said(&ended).contains(&format!("added {}, replaced 0, kept 0, failed 0", pairs.len())),
        "{ended:?}"
    );
    let ended = keyval(&a, &["export", "one", "--file", "out.json"]);
    assert!(ended.status.success(), "{ended:?}");
    let exported: Map<String, Value> =
        serde_json::from_slice(&std::fs::read(file("out.json")).expect("it is there")).expect("an object");
    assert_eq!(exported.len(), pairs.len());
    assert_eq!(exported["for ever"], pairs["for ever"]);
    let left = exported["short"]["expire"].as_u64().expect("it expires");
    assert!((1..=1_000_000).contains(&left), "{left}");
    assert!(!file("out.json.part").exists());

    let ended = keyval(&b, &["import", "one", "--file", "out.json"]);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(a.api.pairs("one"), b.api.pairs("one"));
    assert_eq!(b.api.pairs("one")["\"quoted\""], "value of \"quoted\"");

    // What is there, and what cannot be.
    let more = json!({"key-00000": "new", "more": "1", "": "no key", "number": 7, "sooner": {"value": "1", "expire": 0}});
    std::fs::write(file("more.json"), more.to_string()).expect("writable");
    let import = |what: &str| keyval(&b, &["import", "one", "--file", "more.json", "--if-exists", what]);
    let ended = import("keep");
    assert!(
        !ended.status.success() && said(&ended).contains("added 1, replaced 0, kept 1, failed 3"),
        "{ended:?}"
    );
    for line in [
        "\"\": zone `one`: the key is empty",
        "\"number\": it must be a string",
        "\"sooner\": \"expire\" must be 1",
    ] {
        assert!(said(&ended).contains(line), "no {line:?} in {ended:?}");
    }
    assert_eq!(b.api.value("one", "key-00000").as_deref(), Some("value 0"));
    let ended = import("fail");
    assert!(said(&ended).contains("added 0, replaced 0, kept 0, failed 5"), "{ended:?}");
    assert!(said(&ended).contains("\"more\": the key exists"), "{ended:?}");
    let ended = import("replace");
    assert!(said(&ended).contains("added 0, replaced 2, kept 0, failed 3"), "{ended:?}");
    assert_eq!(b.api.value("one", "key-00000").as_deref(), Some("new"));

    std::fs::write(file("broken.json"), "{\"x\": \"1\",\n\"y\" 2}").expect("writable");
    let ended = keyval(&b, &["import", "one", "--file", "broken.json"]);
    assert!(!ended.status.success() && said(&ended).contains("line 2"), "{ended:?}");
    let ended = keyval(&b, &["export", "absent"]);
    assert!(!ended.status.success() && said(&ended).contains("keyval not found"), "{ended:?}");

    // Imported is as good as written.
    let pairs = b.api.pairs("one");
    b.kill();
    assert_eq!(start("b").api.pairs("one"), pairs);
}

/// A cluster whose nodes keep their zone in a file and forget removals after two seconds.
struct Forgetful(Cluster);

impl Forgetful {
    fn new(names: &[&str]) -> Self {
        Self(Cluster::new(names, ""))
    }

    fn config(&self, name: &str) -> Config {
        let file = self.0.directory().join(format!("{name}.keyval"));
        // Silent peers are given up soon enough for a test to see it.
        let zone_sync =
            ["timeout = \"3s\"", "connect_timeout = \"3s\"", "connect_retry_interval = \"100ms\""];
        let zone_sync = zone_sync.map(str::to_owned).to_vec();
        Config { zones: zone(&file, "tombstone_retention = \"2s\""), zone_sync, ..self.0.config(name) }
    }

    fn start(&self, name: &str) -> Node {
        self.0.start_with(self.config(name))
    }

    fn start_all<const N: usize>(&self, names: [&str; N]) -> [Node; N] {
        let mut nodes = names.map(|name| self.start(name));
        nodes.iter_mut().for_each(Node::wait_ready);
        for node in &nodes {
            node.wait_online(N as u64 - 1);
        }
        nodes
    }
}

/// Waits until nothing of a removal is left on a node.
fn wait_forgotten(node: &Node) {
    wait_for(&format!("{} to forget what was removed", node.name()), LIMIT, || {
        let status = node.api.status()?;
        match status.document["zones"]["one"]["tombstones"].as_u64() {
            Some(0) => Ok(()),
            left => Err(format!("{left:?} tombstones left")),
        }
    });
}

fn remove(node: &Node, key: &str) {
    node.api.patch(ONE, &json!({ key: null })).expect(204);
}

#[test]
fn a_node_that_was_away_for_long_does_not_bring_back_what_was_removed() {
    let cluster = Forgetful::new(&["a", "b", "c"]);
    let [a, b, c] = cluster.start_all(["a", "b", "c"]);
    for (node, key) in
        [(&a, "of-a"), (&b, "of-b"), (&c, "of-c"), (&a, "removed-a"), (&b, "removed-b"), (&c, "changed")]
    {
        node.api.add("one", key, "early");
    }
    digests_equal(&[&a, &b, &c]);
    a.quit();
    remove(&b, "removed-a");
    remove(&c, "removed-b");
    b.api.patch(ONE, &json!({"changed": "late"})).expect(204);
    digests_equal(&[&b, &c]);
    for node in [&b, &c] {
        wait_forgotten(node);
    }
    // One of the others is started anew meanwhile, which must not make it forget what it knew.
    c.quit();
    let mut c = cluster.start("c");
    c.wait_ready();

    let mut a = cluster.start("a");
    a.wait_ready();
    for node in [&a, &b, &c] {
        node.wait_online(2);
    }
    digests_equal(&[&a, &b, &c]);
    let expected = [("changed", "late"), ("of-a", "early"), ("of-b", "early"), ("of-c", "early")];
    let expected = BTreeMap::from(expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    for node in [&a, &b, &c] {
        assert_eq!(node.api.pairs("one"), expected, "on {}", node.name());
    }
    // It is over with the doubt, for good: the next start is like any other.
    a.kill();
    let mut a = cluster.start("a");
    a.wait_ready();
    digests_equal(&[&a, &b, &c]);
    assert_eq!(a.api.pairs("one"), expected);
}

#[test]
fn a_node_that_was_cut_off_for_long_is_rid_of_what_was_removed_once_it_is_restarted() {
    let cluster = Forgetful::new(&["a", "b"]);
    let [mut a, b] = cluster.start_all(["a", "b"]);
    a.api.add("one", "removed", "early");
    a.api.add("one", "shared", "early");
    digests_equal(&[&a, &b]);
    a.signal(Signal::Stop);
    b.wait_online(0);
    remove(&b, "removed");
    wait_forgotten(&b);

    // It goes on with all that it had in memory, and nobody knows any more what to tell it.
    a.signal(Signal::Continue);
    for node in [&a, &b] {
        node.wait_online(1);
    }
    a.wait_complaint(&["cut off for longer than tombstones are kept", "restart the node"]);
    for (one, other, key) in [(&b, &a, "late-b"), (&a, &b, "late-a")] {
        one.api.add("one", key, "late");
        wait_for("a late write", LIMIT, || match other.api.value("one", key) {
            Some(_) => Ok(()),
            None => Err(format!("{key} is not on {}", other.name())),
        });
    }
    assert_eq!(a.api.value("one", "removed").as_deref(), Some("early"));

    a.quit();
    let mut a = cluster.start("a");
    a.wait_ready();
    digests_equal(&[&a, &b]);
    for node in [&a, &b] {
        assert_eq!(node.api.pairs("one").into_keys().collect::<Vec<_>>(), ["late-a", "late-b", "shared"]);
    }
}

#[test]
fn what_a_node_wrote_while_it_was_alone_is_kept_after_a_long_absence() {
    let cluster = Forgetful::new(&["a", "b"]);
    let [a, b] = cluster.start_all(["a", "b"]);
    a.api.add("one", "shared", "early");
    a.api.add("one", "removed", "early");
    digests_equal(&[&a, &b]);
    // With nobody there, the node goes on alone and stops for long; the others know nothing of what it wrote.
    b.quit();
    a.api.add("one", "alone", "nobody else has seen this");
    a.kill();
    let mut b = cluster.start("b");
    b.wait_ready();
    remove(&b, "removed");
    wait_forgotten(&b);

    let mut a = cluster.start("a");
    a.wait_ready();
    wait_for("what only one node knew", LIMIT, || match b.api.value("one", "alone") {
        Some(value) if value == "nobody else has seen this" => Ok(()),
        other => Err(format!("{other:?}\n{}\n{}", a.log_end(), b.log_end())),
    });
    digests_equal(&[&a, &b]);
    for node in [&a, &b] {
        assert_eq!(node.api.pairs("one").into_keys().collect::<Vec<_>>(), ["alone", "shared"]);
    }
}

#[test]
fn a_cluster_that_was_away_as_a_whole_has_everything_again() {
    let cluster = Forgetful::new(&["a", "b"]);
    let [a, b] = cluster.start_all(["a", "b"]);
    for number in 0..50 {
        [&a, &b][number % 2].api.add("one", &format!("key-{number}"), "early");
    }
    digests_equal(&[&a, &b]);
    remove(&a, "key-0");
    digests_equal(&[&a, &b]);
    wait_forgotten(&a);
    let pairs = a.api.pairs("one");
    a.kill();
    b.kill();
    let killed = since_1970();
    wait_for("more time to pass than removals are remembered", LIMIT, || {
        let left = Duration::from_secs(3).saturating_sub(since_1970() - killed);
        if left.is_zero() { Ok(()) } else { Err(format!("{left:?} left")) }
    });

    // At first there is nobody to ask, and it serves what it has.
    let mut a = cluster.start("a");
    a.wait_ready();
    assert_eq!(a.api.pairs("one"), pairs);
    let mut b = cluster.start("b");
    b.wait_ready();
    a.wait_online(1);
    digests_equal(&[&a, &b]);
    for node in [&a, &b] {
        assert_eq!(node.api.pairs("one"), pairs, "on {}", node.name());
    }
    // A node without a file gets all of it, too.
    let config = b.kill();
    std::fs::remove_file(cluster.0.directory().join("b.keyval")).expect("removed");
    std::fs::remove_file(cluster.0.directory().join("b.keyval.journal")).expect("removed");
    let mut b = cluster.0.start_with(config);
    b.wait_ready();
    wait_for("all pairs", LIMIT, || match b.api.pairs("one") {
        found if found == pairs => Ok(()),
        found => Err(format!("{} of {}", found.len(), pairs.len())),
    });
}
