//! A node whose zones lie in mapped files lets go of them when it stops, and finds them again.

use std::time::Duration;

use sync_node::{Node, NodeBuilder};
use sync_store::{Check, Error, Expiry, KeyvalZone, LimitZone, Region, StickyZone};
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn builder(name: &str, folder: &TempDir) -> NodeBuilder {
    let region = |zone: &str| Region::map_file(folder.path().join(format!("{name}-{zone}.zone")));
    let rate = "10r/h".parse().expect("a rate");
    Node::builder(name)
        .plain_text()
        .listen("127.0.0.1:0".parse().expect("an address"))
        .keyval(KeyvalZone::builder("one").size(64 << 10).region(region("one")))
        .sticky(StickyZone::builder("sessions").size(64 << 10).region(region("sessions")))
        .limit(LimitZone::builder("req").size(64 << 10).rate(rate).burst(9).region(region("req")))
}

/// Starts two nodes that know each other, and waits until they are ready.
async fn pair(folder: &TempDir) -> [Node; 2] {
    let nodes = [
        builder("a", folder).start().await.expect("started"),
        builder("b", folder).start().await.expect("started"),
    ];
    let servers: Vec<_> =
        nodes.iter().map(|node| node.listening()[0].to_string().parse().expect("an address")).collect();
    for node in &nodes {
        node.set_servers(servers.clone());
    }
    for node in &nodes {
        tokio::time::timeout(PATIENCE, node.ready()).await.expect("ready in time");
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_was_shut_down_can_be_started_over_its_files_at_once() {
    const RUNS: u64 = 10;
    let folder = tempfile::tempdir().expect("a folder");
    for run in 0..RUNS {
        let [a, b] = pair(&folder).await;
        let one = a.keyval("one").expect("the zone");
        assert_eq!(one.len(a.now()) as u64, run, "what earlier runs have written is there");
        one.set(format!("run-{run}"), "written", a.now(), Expiry::Default).expect("it fits");
        let req = b.limit("req").expect("the zone");
        let decision = req.check("client", &Check::default(), b.now());
        assert_eq!(decision.remaining(), RUNS - 1 - run, "every run has used one up");
        a.sticky("sessions").expect("the zone").learn("s", "backend", a.now()).expect("it fits");
        drop((one, req));
        let (drained, _) = tokio::join!(a.shutdown(PATIENCE), b.shutdown(PATIENCE));
        assert!(drained, "the other has acknowledged everything");
    }
    let [a, b] = pair(&folder).await;
    // The last writes may have missed the other, which was stopping, too. Then they are of an origin that is gone, and asked for a little later.
    let has_all = |node: &Node| {
        let session = node.sticky("sessions").expect("the zone").peek("s", node.now());
        node.keyval("one").expect("the zone").len(node.now()) as u64 == RUNS
            && session.is_some_and(|server| server == "backend")
    };
    let is_equal = || ["one", "sessions", "req"].iter().all(|zone| a.digest(zone) == b.digest(zone));
    let settled = async {
        while !(has_all(&a) && has_all(&b) && is_equal()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("equal in time");
}

#[tokio::test]
async fn a_zone_that_another_node_has_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = builder("a", &folder).start().await.expect("started");
    first.keyval("one").expect("the zone").set("k", "v", first.now(), Expiry::Never).expect("it fits");
    let error = builder("a", &folder).start().await.expect_err("the files are in use");
    assert!(
        matches!(&error, sync_node::Error::Zone(Error::RegionInUse { path }) if path.ends_with("a-one.zone")),
        "{error}"
    );
    assert!(first.keyval("one").expect("the zone").get("k", first.now()).is_some());
    // What a zone was made with can be changed only with a new file.
    first.shutdown(Duration::ZERO).await;
    drop(first);
    let error = builder("a", &folder).buffers(256, 8 << 10).start().await.expect_err("other records");
    assert!(
        matches!(&error, sync_node::Error::Zone(Error::RegionMismatch { what: "max_record", .. })),
        "{error}"
    );
    let again = builder("a", &folder).start().await.expect("as it was");
    assert!(again.keyval("one").expect("the zone").get("k", again.now()).is_some());
}
