//! A node that runs out of file descriptors.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tests::{API_PORT, Cluster, Config, Elapsed, Node, SYNC_PORT, digests_equal, put_reaches, wait_for};

use crate::{LIMIT, ZONES, impatient, start_all};

/// Descriptors that the node may have: a handful more than it needs itself.
const DESCRIPTORS: u64 = 64;

/// Connections to each of its ports: more than it can take, and not more than wait in the kernel (128 for the API).
const FLOOD: usize = 100;

fn flood(address: SocketAddr) -> Vec<TcpStream> {
    (0..FLOOD).map(|_| TcpStream::connect(address).expect("the kernel answers for the node")).collect()
}

/// Lines of the log about connections that cannot be accepted.
fn complaints(node: &Node) -> usize {
    node.log().lines().filter(|line| line.contains("cannot accept")).count()
}

#[test]
fn links_stay_without_descriptors_and_new_ones_come_when_there_are_some_again() {
    let cluster = Cluster::new(&["a", "b", "c"], ZONES);
    let limit = format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}");
    let a = Config { launcher: vec!["prlimit".to_owned(), limit], ..impatient(&cluster, "a") };
    let [mut a, b] = start_all(&cluster, [a, impatient(&cluster, "b")]);
    put_reaches("one", "before", &b.api, &[&a.api]);

    let loopback = cluster.loopback("a");
    let of_api = flood(loopback.port(API_PORT));
    let of_sync = flood(loopback.port(SYNC_PORT));
    a.wait_complaint(&["cannot accept", "too many open files", &loopback.port(SYNC_PORT).to_string()]);
    a.wait_complaint(&["cannot accept a connection", "8080", "too many open files"]);
    let (used, lines, clock) = (a.usage(), complaints(&a), Elapsed::start());
    // One more may come from whoever started the test.
    assert!(used.descriptors >= DESCRIPTORS, "it uses all it may: {used:?}");

    // A node that tries again and again at once would be on a processor for all of this time.
    const QUIET: Duration = Duration::from_secs(3);
    wait_for("some time without descriptors", LIMIT, || {
        let waited = clock.get();
        if waited >= QUIET { Ok(()) } else { Err(format!("{waited:?}")) }
    });
    let (waited, busy) = (clock.get(), a.usage().processor - used.processor);
    println!("without descriptors for {waited:?}: {busy:?} on a processor, {} lines", complaints(&a) - lines);
    assert!(busy < waited / 3, "{busy:?} of {waited:?}");
    // Ten a second and port would be one for each attempt.
    assert!(complaints(&a) - lines <= 4 * waited.as_secs() as usize, "{}", a.log_end());

    // Who is connected is served: the peer, and the client of the API.
    put_reaches("one", "during", &b.api, &[&a.api]);
    put_reaches("one", "during-too", &a.api, &[&b.api]);
    assert_eq!(b.api.sync_figure("nodes_online"), 1);

    drop((of_api, of_sync));
    let mut c = cluster.start_with(impatient(&cluster, "c"));
    c.wait_ready();
    for node in [&a, &b, &c] {
        node.wait_online(2);
    }
    put_reaches("one", "after", &c.api, &[&a.api, &b.api]);
    digests_equal(&[&a, &b, &c]);
    wait_for("descriptors to be given back", LIMIT, || match a.usage().descriptors {
        0..50 => Ok(()),
        count => Err(format!("{count} are open")),
    });
}
