//! Nodes that find each other through a real DNS server follow its record.

use std::net::IpAddr;
use std::time::Duration;

use tests::{Cluster, Dns, Node, SYNC_PORT, put_reaches, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

const NAME: &str = "sync.test";

const ZONES: &str = r#"
    [[keyval_zone]]
    name = "one"
    size = "1m"
"#;

fn start(cluster: &Cluster, dns: &Dns, name: &str) -> Node {
    let mut config = cluster.config(name);
    config.servers = vec![format!("{NAME}:{SYNC_PORT}")];
    config.zone_sync.push("resolve = true".to_owned());
    config.zone_sync.push(format!("resolver = [\"{}\"]", dns.address()));
    config.zone_sync.push("valid = \"1s\"".to_owned());
    cluster.start_with(config)
}

#[test]
fn nodes_are_added_and_removed_by_changing_the_record_only() {
    // TLS verifies the name that was resolved, so the certificates carry it.
    let cluster = Cluster::with_host(&["a", "b", "c"], ZONES, NAME);
    let [ip_a, ip_b, ip_c] = ["a", "b", "c"].map(|name| IpAddr::from(cluster.loopback(name).ip()));
    let mut dns = Dns::start(NAME, &[ip_a, ip_b], cluster.directory());
    let mut a = start(&cluster, &dns, "a");
    let mut b = start(&cluster, &dns, "b");
    for node in [&mut a, &mut b] {
        node.wait_ready();
        node.wait_online(1);
    }
    put_reaches("one", "before", &a.api, &[&b.api]);

    // A third node: started, then named.
    dns.set(&[ip_a, ip_b, ip_c]);
    let mut c = start(&cluster, &dns, "c");
    c.wait_ready();
    for node in [&a, &b, &c] {
        node.wait_online(2);
    }
    assert_eq!(c.api.value("one", "before").as_deref(), Some("sent"));
    put_reaches("one", "with-c", &a.api, &[&b.api, &c.api]);
    put_reaches("one", "of-c", &c.api, &[&a.api, &b.api]);

    // Removed from the record, it still runs, and is disconnected by the others.
    dns.set(&[ip_a, ip_b]);
    for node in [&a, &b] {
        node.wait_online(1);
    }
    put_reaches("one", "without-c", &a.api, &[&b.api]);
    c.api.add("one", "only-c", "kept to itself");
    put_reaches("one", "without-c-either", &b.api, &[&a.api]);
    // Nothing says when a thing that must not happen has not happened: many times what it took to arrive elsewhere.
    std::thread::sleep(Duration::from_secs(2));
    for key in ["without-c", "without-c-either"] {
        assert_eq!(c.api.value("one", key), None, "{key} was sent to a node that has left");
    }
    for node in [&a, &b] {
        assert_eq!(
            node.api.value("one", "only-c"),
            None,
            "{} took a record of a node that has left",
            node.name()
        );
        assert_eq!(node.api.sync_figure("nodes_online"), 1);
    }

    // Named again, it is one of them again, and both sides learn what they missed.
    dns.set(&[ip_a, ip_b, ip_c]);
    for (node, key) in [(&c, "without-c"), (&c, "without-c-either"), (&a, "only-c"), (&b, "only-c")] {
        wait_for(&format!("{key} on {}", node.name()), LIMIT, || {
            node.api.value("one", key).ok_or_else(|| format!("it is not there:\n{}", node.log_end()))
        });
    }
}
