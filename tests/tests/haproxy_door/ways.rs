//! Ways to the door beside TCP: a Unix socket; TLS, which another HAProxy beside the node ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Authority, Cluster, Encryption, Identity, Loopback, Process, wait_for};

use crate::haproxy::Haproxy;
use crate::sessions::{ask, name};
use crate::{LIMIT, block, config, door, nodes};

const PORT: u16 = 10_443;

/// A file with a certificate and its key, as HAProxy wants it.
fn both(authority: &Authority, name: &str, listen: &Loopback, directory: &Path) -> PathBuf {
    let Encryption::Tls { certificate, key, .. } = authority.node(name, listen.ip(), Identity::Valid) else {
        panic!("a certificate");
    };
    let text: String =
        [certificate, key].map(|file| std::fs::read_to_string(file).expect("just written")).concat();
    let file = directory.join(format!("{name}.both.pem"));
    std::fs::write(&file, text).expect("written");
    file
}

#[test]
fn over_a_network_another_haproxy_ends_tls_before_the_door() {
    let cluster = Cluster::new(&["a", "b"], "");
    let nodes = nodes(&cluster, ["a", "b"]);
    let (directory, listen) = (cluster.directory(), Loopback::claim());
    let authority = Authority::new("haproxies", directory);
    let ours = both(&authority, "edge-1", &listen, directory);
    let addresses = [
        ("10.0.0.1:10443", listen.port(PORT).to_string()),
        ("/etc/haproxy/ca.pem", authority.certificate().display().to_string()),
    ];
    let mut changes = addresses.to_vec();
    changes.push(("/etc/haproxy/edge-1.pem", ours.display().to_string()));
    changes.push(("127.0.0.1:10000", door(nodes[0].config.ip).to_string()));
    let file = directory.join("front.cfg");
    std::fs::write(&file, block("haproxy", 1, &changes)).expect("written");
    let mut command = Command::new("/usr/sbin/haproxy");
    command.args(["-db", "-f"]).arg(&file);
    let _front = Process::start("front", command, &directory.join("front.log"));

    let theirs = both(&authority, "lb-1", &listen, directory);
    let mut changes = addresses.to_vec();
    changes.push(("/etc/haproxy/lb-1.pem", theirs.display().to_string()));
    let peer = block("haproxy", 2, &changes);
    let far = Haproxy::start_by("lb-1", &nodes[0], directory, peer.trim(), "");
    let near = Haproxy::start("lb-2", &nodes[1], directory);
    for (one, other, session) in [(&far, &near, "ann"), (&near, &far, "ben")] {
        let server = ask(one, session);
        other.wait_datum("app", session, "server_key", name(&server));
        assert_eq!(ask(other, session), server);
    }
}

#[test]
fn the_door_may_be_a_unix_socket() {
    let cluster = Cluster::new(&["a"], "");
    let mut config = config(&cluster, "a", "");
    let address = door(config.ip).to_string();
    assert!(config.doors.contains(&address), "{}", config.doors);
    config.doors = config.doors.replace(&address, "unix:peers.sock");
    let mut node = cluster.start_with(config);
    node.wait_ready();
    let socket = cluster.directory().join("peers.sock");
    let peer = format!("peer edge-1 unix@{}", socket.display());
    let haproxy = Haproxy::start_by("lb-1", &node, cluster.directory(), &peer, "");
    let server = ask(&haproxy, "ann");
    wait_for("the session in the zone", LIMIT, || match node.api.get("/v1/sticky/sessions/ann").body {
        body if body.contains(&format!("\"{}\"", name(&server))) => Ok(()),
        body => Err(body),
    });
}
