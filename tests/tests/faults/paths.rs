//! A path through a proxy that delays, limits the rate, holds everything in one direction, or is cut.

use std::time::Duration;

use tests::{
    Cluster, Config, Fault, Loopback, Node, Proxy, SYNC_PORT, Writers, digests_equal, put_reaches, wait_for,
};

use crate::{LIMIT, TIMEOUT, ZONES, patient_for, start_all};

/// Two nodes, each of which dials the other through a proxy.
struct Fixture {
    nodes: [Node; 2],
    /// From a to b, and from b to a.
    ways: [Proxy; 2],
    _cluster: Cluster,
    _address: Loopback,
}

impl Fixture {
    fn start() -> Self {
        Self::start_with(TIMEOUT)
    }

    fn start_with(timeout: &str) -> Self {
        let address = Loopback::claim();
        // Peers are verified by the address that was dialled.
        let cluster = Cluster::with_host(&["a", "b"], ZONES, &address.ip().to_string());
        let way = |port, to| Proxy::start(address.port(port), cluster.loopback(to).port(SYNC_PORT));
        let ways = [way(9001, "b"), way(9002, "a")];
        let config = |name, way: &Proxy| Config {
            servers: vec![way.address().to_string()],
            ..patient_for(timeout, &cluster, name)
        };
        let nodes = start_all(&cluster, [config("a", &ways[0]), config("b", &ways[1])]);
        Self { nodes, ways, _cluster: cluster, _address: address }
    }

    fn set(&self, fault: Fault) {
        self.ways.iter().for_each(|way| way.set(fault));
    }

    fn heal(&self) {
        self.set(Fault::default());
        self.nodes.iter().for_each(|node| node.wait_online(1));
        let [a, b] = &self.nodes;
        digests_equal(&[a, b]);
    }
}

#[test]
fn a_slow_path_delays_no_write_and_loses_none() {
    let fixture = Fixture::start_with("10s");
    let [a, b] = &fixture.nodes;
    fixture.set(Fault { delay: Duration::from_millis(150), bytes_per_second: 200_000, ..Fault::default() });
    let writers = Writers::start(&[("a", &a.api), ("b", &b.api)], "one", 2);
    writers.wait_more(1_000);
    put_reaches("one", "over-there", &a.api, &[&b.api]);
    let acknowledged = writers.stop();
    assert!(acknowledged.failures.is_empty(), "{:?}", acknowledged.failures);
    digests_equal(&[a, b]);
    // The delay is there twice in a round trip, and is no offset of the clock.
    let peers = wait_for("clocks to be compared", LIMIT, || {
        let peers = a.api.status()?.document["peers"].clone();
        let all = peers.as_array().filter(|all| all.iter().all(|peer| peer["clock_offset_us"].is_i64()));
        all.cloned().ok_or_else(|| peers.to_string())
    });
    for peer in &peers {
        let offset = peer["clock_offset_us"].as_i64().expect("it is measured");
        assert!(offset.abs() < 2_000_000, "{peer}");
        assert!(peer.get("last_error").is_none(), "a slow path is not a failed one: {peer}");
    }
    fixture.heal();
    assert!(acknowledged.pairs.iter().all(|(key, value)| b.api.value("one", key).as_ref() == Some(value)));
}

#[test]
fn a_path_that_holds_everything_in_one_direction_is_given_up_and_repaired() {
    let fixture = Fixture::start();
    let [a, b] = &fixture.nodes;
    // From a to b nothing arrives any more, whoever dialled.
    fixture.ways[0].set(Fault { blocked_forth: true, ..Fault::default() });
    fixture.ways[1].set(Fault { blocked_back: true, ..Fault::default() });
    a.api.add("one", "of-a", "held");
    a.wait_online(0);
    b.wait_online(0);
    b.api.add("one", "of-b", "held");
    assert_eq!(b.api.value("one", "of-a"), None);
    fixture.heal();
    for node in &fixture.nodes {
        assert_eq!(node.api.pairs("one").len(), 2, "{}", node.name());
    }
}

#[test]
fn a_path_that_is_cut_over_and_over_loses_nothing() {
    const CUTS: usize = 8;
    let fixture = Fixture::start();
    let [a, b] = &fixture.nodes;
    let writers = Writers::start(&[("a", &a.api), ("b", &b.api)], "one", 1);
    for cut in 0..CUTS {
        // In turn both ways and one of them; what was on the way is lost.
        let ways = if cut % 2 == 0 { &fixture.ways[..] } else { &fixture.ways[..1] };
        ways.iter().for_each(|way| way.set(Fault { cut: true, ..Fault::default() }));
        writers.wait_more(30);
        fixture.set(Fault::default());
        writers.wait_more(30);
    }
    let acknowledged = writers.stop();
    assert!(acknowledged.failures.is_empty(), "{:?}", acknowledged.failures);
    fixture.heal();
    for node in &fixture.nodes {
        wait_for("all pairs", LIMIT, || match node.api.pairs("one") {
            found if found == acknowledged.pairs => Ok(()),
            found => Err(format!("{} of {}", found.len(), acknowledged.pairs.len())),
        });
    }
}
