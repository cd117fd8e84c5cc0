//! Before a peer is a peer: what TLS keeps out, and one address against all others.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use tests::{Cluster, Node, SYNC_PORT, Stranger, put_reaches, wait_for};

use crate::attacker::{LIMIT, ZONES, count, refusals, start, wait_counted};

fn start_with_tls(cluster: &Cluster, zone_sync: &[&str]) -> [Node; 2] {
    let mut nodes = ["a", "b"].map(|name| {
        let mut config = cluster.config(name);
        config.zone_sync = zone_sync.iter().map(|line| (*line).to_owned()).collect();
        cluster.start_with(config)
    });
    nodes.iter_mut().for_each(Node::wait_ready);
    nodes
}

#[test]
fn a_handshake_that_drips_is_given_up() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let nodes = start_with_tls(&cluster, &["connect_timeout = \"2s\""]);
    let mut drip = Stranger::dial(cluster.loopback("a").port(SYNC_PORT));
    // The head of a record of 512 bytes with a ClientHello, and then a byte at a time.
    drip.say(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]);
    wait_for("the node to give up", LIMIT, || {
        drip.say(&[0]);
        if count(&nodes[0], "timeout") >= 1 { Ok(()) } else { Err(refusals(&nodes[0]).to_string()) }
    });
    put_reaches("one", "after", &nodes[0].api, &[&nodes[1].api]);
}

#[test]
fn old_versions_and_plain_text_are_refused_and_counted() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let nodes = start_with_tls(&cluster, &["connect_timeout = \"20s\""]);
    let address = cluster.loopback("a").port(SYNC_PORT).to_string();
    // Level 0, or OpenSSL itself refuses to speak them.
    for (version, probes) in [("-tls1", 1), ("-tls1_1", 2)] {
        let mut command = Command::new("timeout");
        command.args([
            "60",
            "openssl",
            "s_client",
            "-connect",
            &address,
            version,
            "-cipher",
            "ALL:@SECLEVEL=0",
        ]);
        let output = command.stdin(Stdio::null()).output().expect("the package openssl is installed");
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        assert!(printed.contains("SSL alert number"), "{version}: {printed}");
        assert!(printed.contains("Cipher is (NONE)"), "{version}: {printed}");
        wait_counted(&nodes[0], version, "incompatible", probes);
    }
    let mut plain = Stranger::dial(cluster.loopback("a").port(SYNC_PORT));
    plain.say(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    wait_counted(&nodes[0], "plain text", "not_tls", 1);
    put_reaches("one", "after", &nodes[0].api, &[&nodes[1].api]);
}

/// Connects from an address of its own.
fn dial_from(ip: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::from((ip, 0))).expect("an address of the loopback network");
    connect(&socket, &to).expect("the node listens");
    TcpStream::from(socket)
}

#[test]
fn one_address_has_its_share_of_connections_and_no_more() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let mut nodes = start(&cluster, &["max_connections_per_address = 4", "connect_timeout = \"20s\""]);
    let address = cluster.loopback("a").port(SYNC_PORT);
    let crowd: Vec<TcpStream> = (0..10).map(|_| dial_from([127, 0, 0, 2], address)).collect();
    wait_counted(&nodes[0], "who is too many", "address_limit", 6);
    // There is room for others, for a node, too, that starts anew.
    let other = dial_from([127, 0, 0, 3], address);
    put_reaches("one", "during", &nodes[1].api, &[&nodes[0].api]);
    assert_eq!(count(&nodes[0], "address_limit"), 6);
    nodes[0].wait_complaint(&["connections from its address are open already"]);
    drop((crowd, other));
}
