//! A peer that is stopped (as by a debugger, or a hypervisor) for longer than `timeout`.

use tests::{Cluster, Signal, Writers, digests_equal};

use crate::{ZONES, impatient, start_all};

#[test]
fn a_stopped_peer_delays_nobody_and_catches_up_when_it_goes_on() {
    let cluster = Cluster::new(&["a", "b", "c"], ZONES);
    let [a, b, mut c] = start_all(&cluster, ["a", "b", "c"].map(|name| impatient(&cluster, name)));
    c.api.add("one", "of-c", "written before");
    digests_equal(&[&a, &b, &c]);

    c.signal(Signal::Stop);
    let writers = Writers::start(&[("a", &a.api), ("b", &b.api)], "one", 2);
    // The connections stand all the while; only the silence tells.
    for node in [&a, &b] {
        node.wait_online(1);
    }
    writers.wait_more(500);
    let acknowledged = writers.stop();
    assert!(acknowledged.failures.is_empty(), "{:?}", acknowledged.failures);
    let mut expected = acknowledged.pairs;
    expected.insert("of-c".to_owned(), "written before".to_owned());
    digests_equal(&[&a, &b]);
    assert_eq!(a.api.pairs("one"), expected);

    c.signal(Signal::Continue);
    for node in [&a, &b, &c] {
        node.wait_online(2);
    }
    digests_equal(&[&a, &b, &c]);
    assert_eq!(c.api.pairs("one"), expected);
    c.api.add("one", "of-c-too", "written after");
    expected.insert("of-c-too".to_owned(), "written after".to_owned());
    digests_equal(&[&a, &b, &c]);
    assert_eq!(a.api.pairs("one"), expected);
}
