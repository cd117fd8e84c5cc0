//! Counters: each HAProxy counts for itself, and has the sum over all. Among themselves, without nodes, they lose counts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use tests::Cluster;

use crate::haproxy::Haproxy;
use crate::{LIMIT, nodes};

/// Requests of one key at each of two HAProxies.
const REQUESTS: usize = 10_000;
/// Sent at once, on a connection of their own.
const PIPELINED: usize = 100;

/// Asks an HAProxy that often, as quickly as it answers.
fn load(haproxy: &Haproxy, path: &str, client: &str) {
    let mut socket = TcpStream::connect(haproxy.address).expect("open");
    socket.set_read_timeout(Some(LIMIT)).expect("a time-out");
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-client: {client}\r\n\r\n");
    let requests = request.repeat(PIPELINED);
    for _ in 0..REQUESTS / PIPELINED {
        socket.write_all(requests.as_bytes()).expect("written");
        let (mut said, mut piece) = (Vec::new(), [0; 16 << 10]);
        let answers = |said: &[u8]| said.windows(12).filter(|word| word == b"HTTP/1.1 200").count();
        while answers(&said) < PIPELINED {
            let length = socket.read(&mut piece).expect("an answer");
            assert!(length > 0, "closed after {}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&piece[..length]);
        }
    }
}

#[test]
fn ten_thousand_at_each_of_two_count_twenty_thousand_at_both() {
    let cluster = Cluster::new(&["a", "b"], "");
    let nodes = nodes(&cluster, ["a", "b"]);
    let haproxies = [0, 1].map(|n| Haproxy::start(["lb-1", "lb-2"][n], &nodes[n], cluster.directory()));
    thread::scope(|scope| {
        for haproxy in &haproxies {
            scope.spawn(|| load(haproxy, "/login", "ann"));
        }
    });
    let (each, sum) = (REQUESTS.to_string(), (2 * REQUESTS).to_string());
    for haproxy in &haproxies {
        for name in ["gpc0", "http_req_cnt", "http_req_rate(3600000)"] {
            haproxy.wait_datum("clients", "ann", name, &each);
            haproxy.wait_datum("clients_sum", "ann", name, &sum);
        }
    }
    // A third has counted nothing and knows as much; and one that was restarted begins anew, by itself alone.
    let three = Haproxy::start("lb-3", &nodes[0], cluster.directory());
    three.wait_datum("clients_sum", "ann", "gpc0", &sum);
    let [one, two] = haproxies;
    drop(one);
    let one = Haproxy::start("lb-1", &nodes[0], cluster.directory());
    one.wait_datum("clients_sum", "ann", "gpc0", &sum);
    let login = || one.http.request_with("GET", "/login", &[("x-client", "ann")], None).expect("an answer");
    login().expect(200);
    two.wait_datum("clients_sum", "ann", "gpc0", &(REQUESTS + 1).to_string());
}
