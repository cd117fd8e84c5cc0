//! The door as an operator sees it: reloads, rules with errors, users, addresses, silent and hostile clients, Unix sockets, the end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use tests::{Cluster, Node, run, wait_for};

use crate::{LIMIT, block, config, door, one_node, programs, write_rules};

/// Asks for one client by Google's client; says the code of the decision, or of the error.
const ASK: &str = r#"
import sys, grpc
# Else it makes one of the path of a Unix socket that HTTP does not allow.
channel = grpc.insecure_channel(sys.argv[1], [("grpc.default_authority", "localhost")])
metadata = [("authorization", sys.argv[2])] if sys.argv[2] else []
def field(number, data): return bytes([number << 3 | 2, len(data)]) + data
entry = field(1, b"remote_address") + field(2, sys.argv[3].encode())
request = field(1, b"web") + field(2, field(1, entry))
call = channel.unary_unary("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit")
try:
    # The first field: 1 passes, 2 is over the limit.
    print({1: "OK", 2: "OVER"}[call(request, metadata=metadata, timeout=60)[1]])
except grpc.RpcError as error:
    print(error.code().name)
"#;

fn ask(address: &str, authorization: &str, client: &str) -> String {
    let mut command = Command::new(programs().join("python3"));
    run(command.args(["-c", ASK, address, authorization, client]))
}

fn start(cluster: &Cluster, changes: &[(&str, &str)]) -> Node {
    write_rules(cluster, &block("yaml", 0, &[]));
    one_node(cluster, changes)
}

/// The rule of clients with another figure.
fn rules(requests: &str) -> String {
    block("yaml", 0, &[("requests_per_unit: 5", format!("requests_per_unit: {requests}"))])
}

#[test]
fn rules_change_with_a_reload_and_errors_in_them_change_nothing() {
    let cluster = Cluster::new(&["a"], "");
    let mut a = start(&cluster, &[]);
    let address = door(&a.config).to_string();
    assert_eq!(ask(&address, "", "10.0.0.1"), "OK");
    write_rules(&cluster, &rules("many"));
    a.reload(a.config.clone(), cluster.directory());
    a.wait_complaint(&["envoy-rules.yaml:6:24: must be a whole number from 0 to 4294967295"]);
    assert_eq!(ask(&address, "", "10.0.0.1"), "OK");
    write_rules(&cluster, &rules("0"));
    a.reload(a.config.clone(), cluster.directory());
    wait_for("the new rules", LIMIT, || match ask(&address, "", "10.0.0.1").as_str() {
        "OVER" => Ok(()),
        other => Err(other.to_owned()),
    });
}

/// Of `secret`, by `openssl passwd -5`.
pub(crate) const HASH: &str = "$5$abc$qsg6EHbUzHQzF1POlD7zUwBINSELQxypPaeDcZe6vH0";

#[test]
fn who_may_ask_is_decided_by_password_and_by_address() {
    let cluster = Cluster::new(&["a"], "");
    std::fs::write(cluster.directory().join("users"), format!("envoy:{HASH}\n")).expect("written");
    let table = "response_headers = \"draft\"";
    let users = format!("{table}\nauth_basic_user_file = \"users\"");
    let mut a = start(&cluster, &[(table, &users)]);
    let address = door(&a.config).to_string();
    assert_eq!(ask(&address, "", "10.0.0.1"), "UNAUTHENTICATED");
    // `envoy:wrong` and `envoy:secret`.
    assert_eq!(ask(&address, "Basic ZW52b3k6d3Jvbmc=", "10.0.0.1"), "UNAUTHENTICATED");
    assert_eq!(ask(&address, "Basic ZW52b3k6c2VjcmV0", "10.0.0.1"), "OK");
    let closed = config(&cluster, "a", &[(table, "deny = \"all\"")]);
    a.reload(closed, cluster.directory());
    wait_for("the door to be closed", LIMIT, || match ask(&address, "", "10.0.0.1").as_str() {
        "PERMISSION_DENIED" => Ok(()),
        other => Err(other.to_owned()),
    });
}

#[test]
fn the_door_may_be_a_unix_socket() {
    let cluster = Cluster::new(&["a"], "");
    let address = door(&cluster.config("a")).to_string();
    let a = start(&cluster, &[(&address, "unix:envoy.sock")]);
    let socket = cluster.directory().join("envoy.sock");
    assert_eq!(ask(&format!("unix:{}", socket.display()), "", "10.0.0.1"), "OK");
    a.quit();
    assert!(!socket.exists());
}

fn connect(door: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(door).expect("the door is open");
    socket.set_read_timeout(Some(LIMIT)).expect("a time-out");
    socket
}

/// Whether the node closes the connection, in time, whatever it says before.
fn is_closed(mut socket: TcpStream) -> bool {
    match socket.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn silence_and_nonsense_are_disconnected_and_cost_nothing() {
    let cluster = Cluster::new(&["a"], "");
    let table = "response_headers = \"draft\"";
    // Longer than the client at the end stalls between its connection and its request.
    let a = start(&cluster, &[(table, "timeout = \"3s\"")]);
    let door = door(&a.config);
    let before = a.usage().memory_bytes;
    let mut clients: Vec<TcpStream> = (0..100).map(|_| connect(door)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let nonsense: &[u8] = match n % 5 {
            0 => b"",
            1 => b"PRI * HTTP/2.0\r\n",
            2 => b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            // A preface and settings, and a frame that promises 16 MiB.
            3 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\xff\xff\xff\0\0\0\0\0\x01",
            _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        };
        client.write_all(nonsense).expect("written");
    }
    let grown = a.usage().memory_bytes.saturating_sub(before);
    assert!(clients.into_iter().all(is_closed));
    assert!(grown < 32 << 20, "{grown} bytes more");
    assert_eq!(ask(&door.to_string(), "", "10.0.0.1"), "OK");
}

#[test]
fn more_connections_than_allowed_are_closed() {
    let cluster = Cluster::new(&["a"], "");
    let table = "response_headers = \"draft\"";
    let a = start(&cluster, &[(table, "connections = 3")]);
    let held: Vec<TcpStream> = (0..3).map(|_| connect(door(&a.config))).collect();
    assert!(is_closed(connect(door(&a.config))));
    drop(held);
    wait_for("a place", LIMIT, || match ask(&door(&a.config).to_string(), "", "10.0.0.1").as_str() {
        "OK" => Ok(()),
        other => Err(other.to_owned()),
    });
    let doors = a.api.get("/v1/status").json()["doors"]["envoy_rls"].clone();
    assert!(doors["connections_dropped"].as_u64() >= Some(1), "{doors}");
}
