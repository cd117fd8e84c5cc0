//! Nodes that come late, die or are replaced end with what the cluster knows, and cost it no more than that.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tests::{Cluster, Node, Signal, Transport, Writers, digests_equal, put_reaches, wait_for};

tests::over_every_transport!(
    a_node_started_empty_receives_each_of_200_000_records_about_once,
    a_node_killed_under_write_load_catches_up_and_disturbs_nobody,
    ten_an_hour_stays_ten_an_hour_while_every_node_is_replaced,
    quit_under_write_load_loses_no_acknowledged_write,
);

const LIMIT: Duration = Duration::from_secs(60);

const KEYVAL: &str = r#"
    [[keyval_zone]]
    name = "one"
    size = "32m"
"#;

fn a_node_started_empty_receives_each_of_200_000_records_about_once(transport: Transport) {
    // Twenty zones, because the API adds many pairs at once only to an empty zone. Every zone holds records of all three
    // origins: most from the node that filled it, fifty from each of the others.
    const ZONES: usize = 20;
    const BULK: usize = 9_900;
    const SINGLE: usize = 50;
    const TOTAL: usize = ZONES * (BULK + 2 * SINGLE);
    assert_eq!(TOTAL, 200_000);
    let mut zones = String::new();
    for zone in 0..ZONES {
        writeln!(zones, "[[keyval_zone]]\nname = \"z{zone:02}\"\nsize = \"4m\"").expect("a string");
    }
    let cluster = Cluster::over(transport, &["a", "b", "c", "d"], &zones);
    let nodes = cluster.start_all(["a", "b", "c"]);

    let value = "v".repeat(48);
    let mut payload = 0;
    for zone in 0..ZONES {
        let keys = |kind: &'static str, count| (0..count).map(move |n| format!("{kind}-{zone:02}-{n:05}"));
        let pairs: Map<String, Value> = keys("bulk", BULK).map(|key| (key, json!(value))).collect();
        let path = format!("/api/9/http/keyvals/z{zone:02}");
        nodes[zone % 3].api.post(&path, &Value::Object(pairs)).expect(201);
        for key in keys("sngl", SINGLE) {
            nodes[(zone + 1) % 3].api.add(&format!("z{zone:02}"), &key, &value);
        }
        for key in keys("last", SINGLE) {
            nodes[(zone + 2) % 3].api.add(&format!("z{zone:02}"), &key, &value);
        }
        payload += (BULK + 2 * SINGLE) * ("bulk-00-00000".len() + value.len());
    }
    let [a, b, c] = &nodes;
    let filled = digests_equal(&[a, b, c]);
    let sent_before: u64 = nodes.iter().map(|node| node.api.sync_figure("bytes_out")).sum();

    let mut d = cluster.start("d");
    d.wait_ready();
    // Ready means joined: everything is there now, not a little later.
    let status = d.api.status().expect("a status");
    let total: u64 = status.zones.values().map(|zone| zone.records_total).sum();
    assert_eq!(total, TOTAL as u64, "a node that is ready has all records");
    assert_eq!(digests_equal(&[a, b, c, &d]), filled);
    let received = d.api.sync_figure("bytes_in");
    let sent: u64 = nodes.iter().map(|node| node.api.sync_figure("bytes_out")).sum::<u64>() - sent_before;

    // Key and value of every record once, and beside them what a record costs on the wire: a dot, a stamp and lengths, 16
    // bytes at the most on average. A tenth more for frames, vectors and heartbeats. Sent twice, it would not fit.
    let least = payload as u64;
    let most = (payload + 16 * TOTAL) as u64 * 11 / 10;
    assert!(most < 2 * least, "the band tells once from twice");
    assert!((least..=most).contains(&received), "{received} bytes received, expected {least} to {most}");
    // The same seen from the senders. Their heartbeats and acknowledgements among themselves are in it, too.
    assert!((least..=most).contains(&sent), "{sent} bytes sent, expected {least} to {most}");
}

fn a_node_killed_under_write_load_catches_up_and_disturbs_nobody(transport: Transport) {
    let cluster = Cluster::over(transport, &["a", "b", "c"], KEYVAL);
    let [a, b, c] = cluster.start_all(["a", "b", "c"]);

    let writers = Writers::start(&[("a", &a.api), ("b", &b.api)], "one", 2);
    let doomed = Writers::start(&[("c", &c.api)], "one", 1);
    writers.wait_more(500);
    doomed.wait_more(100);
    let config = c.kill();
    let of_doomed = doomed.stop();
    assert!(!of_doomed.pairs.is_empty());

    // The others go on: writes succeed and travel between them while one is gone.
    writers.wait_more(500);
    put_reaches("one", "without-c", &a.api, &[&b.api]);
    writers.wait_more(500);

    let mut c = cluster.start_with(config);
    c.wait_ready();
    assert_eq!(
        c.api.value("one", "without-c").as_deref(),
        Some("sent"),
        "a node that is ready has caught up"
    );
    writers.wait_more(500);
    let written = writers.stop();
    assert_eq!(written.failures, [""; 0], "writes on the nodes that were not killed");

    let zones = digests_equal(&[&a, &b, &c]);
    for node in [&a, &b, &c] {
        let pairs = node.api.pairs("one");
        assert_eq!(pairs.len() as u64, zones["one"].records_total);
        for (key, value) in &written.pairs {
            assert_eq!(pairs.get(key), Some(value), "{key} on {}", node.name());
        }
    }
}

fn ten_an_hour_stays_ten_an_hour_while_every_node_is_replaced(transport: Transport) {
    let zones = r#"
        [[limit_req_zone]]
        name = "req"
        size = "1m"
        rate = "10r/h"
    "#;
    let cluster = Cluster::over(transport, &["a", "b", "c"], zones);
    let nodes = cluster.start_all(["a", "b", "c"]);
    let path = "/v1/limit_req/req";
    let check = |node: &Node| node.api.post(path, &json!({"key": "k", "burst": 9, "nodelay": true}));
    // Cost 0 peeks: how many more a node believes it may admit.
    let remaining = |node: &Node| -> u64 {
        let reply = node.api.post(path, &json!({"key": "k", "burst": 9, "nodelay": true, "cost": 0}));
        reply.json()["remaining"].as_u64().unwrap_or_else(|| panic!("{reply:?}"))
    };
    // Ten an hour give one back every six minutes: the test is over long before.
    let agreed = |nodes: &[Node], expected: u64| {
        for node in nodes {
            wait_for(&format!("{expected} remaining on {}", node.name()), LIMIT, || match remaining(node) {
                found if found == expected => Ok(()),
                found => Err(format!("{found} remaining")),
            });
        }
    };

    for spent in 0..4 {
        check(&nodes[spent % 3]).expect(200);
        agreed(&nodes, 9 - spent as u64);
    }
    let mut nodes = Vec::from(nodes);
    for name in ["a", "b", "c"] {
        nodes.remove(0).quit();
        let mut fresh = cluster.start(name);
        fresh.wait_ready();
        assert_eq!(remaining(&fresh), 6, "{name} was just replaced, is ready, and knows what was spent");
        nodes.push(fresh);
    }
    for spent in 0..6 {
        check(&nodes[spent % 3]).expect(200);
        agreed(&nodes, 5 - spent as u64);
    }
    for node in &nodes {
        check(node).expect(429);
    }
}

fn quit_under_write_load_loses_no_acknowledged_write(transport: Transport) {
    let cluster = Cluster::over(transport, &["a", "b", "c"], KEYVAL);
    let [a, b, c] = cluster.start_all(["a", "b", "c"]);
    let writers = Writers::start(&[("c", &c.api)], "one", 4);
    let others = Writers::start(&[("a", &a.api)], "one", 1);
    writers.wait_more(1_000);
    c.quit();
    // The process is gone. What it acknowledged is on the others now, without any further waiting.
    let pairs = [&a, &b].map(|node| (node.name().to_owned(), node.api.pairs("one")));
    let written = writers.stop();
    assert!(written.pairs.len() >= 1_000);
    for (name, pairs) in pairs {
        let lost: Vec<&String> = written.pairs.keys().filter(|key| !pairs.contains_key(*key)).collect();
        assert!(
            lost.is_empty(),
            "{} of {} writes are not on {name}: {lost:?}",
            lost.len(),
            written.pairs.len()
        );
    }
    assert_eq!(others.stop().failures, [""; 0], "writes on a node that was not stopped");
    digests_equal(&[&a, &b]);
}

#[test]
fn term_and_int_stop_fast_with_success() {
    let cluster = Cluster::new(&["a", "b"], KEYVAL);
    let [mut a, mut b] = cluster.start_all(["a", "b"]);
    for (node, signal) in [(&mut a, Signal::Terminate), (&mut b, Signal::Interrupt)] {
        node.signal(signal);
        let status = node.wait_end(LIMIT);
        assert!(status.success(), "{signal:?}: {status}");
    }
}
