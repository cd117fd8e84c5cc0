//! A network in namespaces: links that go down, packets that are lost one way, a path with little room.

use tests::{
    Authority, Cluster, Config, Identity, Network, Node, SYNC_PORT, Writers, digests_equal, put_reaches,
    since_1970, wait_for,
};

use crate::{LIMIT, TIMEOUT, ZONES, patient_for, start_all};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Three nodes in a network of their own. Fields are dropped in this order: the nodes first, the network after them.
struct Fixture {
    nodes: [Node; 3],
    network: Network,
    _cluster: Cluster,
}

impl Fixture {
    /// `None`, and a line that says why, where it cannot be had.
    fn start() -> Option<Self> {
        Self::start_with(TIMEOUT)
    }

    /// The same with another time-out.
    fn start_with(timeout: &str) -> Option<Self> {
        let cluster = Cluster::new(&NAMES, ZONES);
        let network = match Network::enter(&NAMES) {
            Ok(network) => network,
            Err(why) => {
                println!("skipped: {why}");
                return None;
            }
        };
        let authority = Authority::new("network", cluster.directory());
        let config = |name| Config {
            ip: network.ip(name),
            servers: NAMES.iter().map(|name| format!("{}:{SYNC_PORT}", network.ip(name))).collect(),
            encryption: authority.node(name, network.ip(name), Identity::Valid),
            launcher: network.launcher(name),
            ..patient_for(timeout, &cluster, name)
        };
        let nodes = start_all(&cluster, NAMES.map(config));
        Some(Self { nodes, network, _cluster: cluster })
    }
}

#[test]
fn a_node_whose_link_goes_down_and_the_others_go_on_and_agree_when_it_is_up() {
    let Some(Fixture { nodes: [a, b, c], network, _cluster }) = Fixture::start() else { return };
    a.api.add("one", "changed", "early");
    a.api.add("one", "removed", "early");
    digests_equal(&[&a, &b, &c]);

    network.down("c");
    let writers = Writers::start(&[("a", &a.api), ("b", &b.api), ("c", &c.api)], "one", 1);
    c.wait_online(0);
    a.wait_online(1);
    b.wait_online(1);
    writers.wait_more(300);
    // Both sides of the cut change the same key; the later one wins.
    c.api.patch("/api/9/http/keyvals/one", &serde_json::json!({"changed": "by c"})).expect(204);
    // Stamps tell milliseconds apart. In the same one it is the origins that decide.
    let written = since_1970().as_millis();
    wait_for("the next millisecond", LIMIT, || match since_1970().as_millis() {
        now if now > written => Ok(()),
        now => Err(now.to_string()),
    });
    a.api.patch("/api/9/http/keyvals/one", &serde_json::json!({"changed": "by a"})).expect(204);
    c.api.patch("/api/9/http/keyvals/one", &serde_json::json!({"removed": null})).expect(204);
    put_reaches("one", "meanwhile", &a.api, &[&b.api]);
    assert_eq!(b.api.value("one", "removed").as_deref(), Some("early"), "c is cut off");

    network.up("c");
    for node in [&a, &b, &c] {
        node.wait_online(2);
    }
    let acknowledged = writers.stop();
    assert!(acknowledged.failures.is_empty(), "{:?}", acknowledged.failures);
    let mut expected = acknowledged.pairs;
    expected.extend([("changed", "by a"), ("meanwhile", "sent")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    digests_equal(&[&a, &b, &c]);
    for node in [&a, &b, &c] {
        assert_eq!(node.api.pairs("one"), expected, "{}", node.name());
    }
}

#[test]
fn a_block_in_one_direction_is_noticed_by_both_sides_and_repaired() {
    let Some(Fixture { nodes: [a, b, c], network, _cluster }) = Fixture::start() else { return };
    network.block("a", "b");
    // What b sends still arrives at a, but no answer gets back: neither direction is any use, and both sides give up.
    a.wait_online(1);
    b.wait_online(1);
    c.wait_online(2);
    put_reaches("one", "of-a", &a.api, &[&c.api]);
    put_reaches("one", "of-b", &b.api, &[&c.api]);
    put_reaches("one", "of-c", &c.api, &[&a.api, &b.api]);

    network.unblock("a", "b");
    for node in [&a, &b, &c] {
        node.wait_online(2);
    }
    digests_equal(&[&a, &b, &c]);
    let keys: Vec<String> = b.api.pairs("one").into_keys().collect();
    assert_eq!(keys, ["of-a", "of-b", "of-c"]);
}

#[test]
fn a_path_with_little_room_delays_only_who_is_behind_it() {
    // 1.2 MB for each of two peers: ten seconds at the rate below, longer than the time-out, which is longer than a machine stalls.
    const RECORDS: usize = 150;
    let Some(Fixture { nodes: [a, b, c], network, _cluster }) = Fixture::start_with("7s") else { return };
    let nodes = [&a, &b, &c];
    let established = nodes.map(|node| node.log().len());
    network.limit("c", 2_000);
    let value = "v".repeat(8_000);
    for number in 0..RECORDS {
        c.api.add("one", &format!("of-c-{number}"), &value);
        b.api.add("one", &format!("of-b-{number}"), &value);
    }
    put_reaches("one", "last", &b.api, &[&a.api]);
    put_reaches("one", "answer", &a.api, &[&b.api]);
    let zones = digests_equal(&[&a, &b, &c]);
    assert_eq!(zones["one"].records_total, 2 * RECORDS as u64 + 2);
    for (node, from) in nodes.into_iter().zip(established) {
        // A path that is slow is not a peer that is silent.
        assert!(!node.log()[from..].contains("failed"), "{}", [&a, &b, &c].map(|node| node.log()).join("\n"));
    }
}
