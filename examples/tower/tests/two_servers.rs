//! Two servers count as one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(ip: Ipv4Addr, peer: Ipv4Addr) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_example-tower"));
    command.args([format!("{ip}:8001"), format!("{ip}:9001"), format!("{peer}:9001")]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let line = lines.next().expect("it listens").expect("text");
    assert!(line.starts_with("listening on"), "{line}");
    Server(child)
}

/// The status, and the header fields in lower case.
fn get(ip: Ipv4Addr) -> (u16, String) {
    let mut stream = TcpStream::connect((ip, 8001)).expect("it accepts");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("an answer");
    (reply[9..12].parse().expect("a status"), reply.to_lowercase())
}

#[test]
fn what_one_server_admits_counts_on_the_other() {
    // Addresses of this test alone: it was given them by nobody, so by their being free.
    let base = u32::from(Ipv4Addr::new(127, 77, 0, 0)) + std::process::id() % 0x7fff * 2;
    let [a, b] = [base, base + 1].map(Ipv4Addr::from);
    assert!(
        TcpListener::bind((a, 8001)).is_ok() && TcpListener::bind((b, 8001)).is_ok(),
        "{a} and {b} are free"
    );
    let servers = [start(a, b), start(b, a)];

    let (status, reply) = get(a);
    assert!(status == 200 && reply.contains("x-ratelimit-remaining: 9"), "{reply}");
    // A few requests spent on one: the other one knows soon.
    (0..4).for_each(|_| assert_eq!(get(a).0, 200));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !get(b).1.contains("x-ratelimit-remaining: 0") {
        assert!(Instant::now() < deadline, "the other server does not count them");
    }
    let reply = loop {
        let (status, reply) = get(a);
        if status == 429 {
            break reply;
        }
        assert!(Instant::now() < deadline, "the first server does not count what the other has admitted");
    };
    assert!(reply.contains("retry-after: "), "{reply}");
    drop(servers);
}
