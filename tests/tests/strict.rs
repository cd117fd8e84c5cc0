//! A strict limit zone on real nodes: with all nodes in sight it counts as any other, otherwise every node admits its share.

use std::time::Duration;

use serde_json::json;
use tests::{Cluster, Node, wait_for};

const ZONES: &str = r#"
    [[limit_req_zone]]
    name = "strict"
    size = "64k"
    rate = "1r/h"
    burst = 29
    nodelay = true
    strict = true
    "#;

/// How many requests of a key are admitted at once.
fn admitted(node: &Node, key: &str) -> usize {
    let check = || node.api.post("/v1/limit_req/strict", &json!({ "key": key }));
    (0..40).filter(|_| check().status == 200).count()
}

fn wait_charged(node: &Node, times: u64) {
    wait_for("requests to be charged as often as expected", Duration::from_secs(60), || {
        let reply = node.api.request("GET", "/v1/status", None)?;
        let charged = reply.json()["zones"]["strict"]["charged"].as_u64();
        if charged == Some(times) { Ok(()) } else { Err(format!("{charged:?}")) }
    });
}

#[test]
fn a_node_that_does_not_see_all_others_admits_its_share() {
    let cluster = Cluster::new(&["a", "b", "c"], ZONES);
    let a = cluster.start("a");
    // Its peers have never been there: they are members all the same.
    wait_charged(&a, 3);
    assert_eq!(admitted(&a, "alone"), 10);
    let b = cluster.start("b");
    let c = cluster.start("c");
    for node in [&a, &b, &c] {
        wait_charged(node, 1);
    }
    assert_eq!(admitted(&b, "together"), 30);

    c.kill();
    for node in [&a, &b] {
        wait_charged(node, 3);
    }
    assert_eq!(admitted(&a, "apart"), 10);
    let c = cluster.start("c");
    for node in [&a, &b, &c] {
        wait_charged(node, 1);
    }
}
