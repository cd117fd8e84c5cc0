//! Two proxies, two upstreams: one limit, one blocklist, and a session that finds its upstream through either.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use sync_node::Node;
use sync_store::{Delay, Expiry, KeyvalZone, LimitZone, MatchBy, StickyZone};

const LONG: Duration = Duration::from_secs(60);

struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An upstream that answers with its name.
fn upstream(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let length = name.len();
                let reply =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{name}");
                let _ = (&stream).write_all(reply.as_bytes());
            });
        }
    });
    address
}

/// A request from a client address; its status and the whole answer.
fn get(proxy: Ipv4Addr, cookie: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect((proxy, 8001)).ok()?;
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    Some((reply.get(9..12)?.parse().ok()?, reply))
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn two_proxies_are_one() {
    let base = u32::from(Ipv4Addr::new(127, 78, 0, 0)) + std::process::id() % 0x7fff * 3;
    let [a, b, third] = [base, base + 1, base + 2].map(Ipv4Addr::from);
    let upstreams = ["one", "two"].map(upstream);
    let node = |ip: Ipv4Addr| format!("{ip}:9001");
    let start = |ip: Ipv4Addr, peer: Ipv4Addr| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_example-pingora"));
        command.args([format!("{ip}:8001"), node(ip)]);
        command.args(["--peer".to_owned(), node(peer), "--peer".to_owned(), node(third)]);
        command.args(upstreams.map(|upstream| upstream.to_string()));
        Proxy(command.spawn().expect("it starts"))
    };
    let proxies = [start(a, b), start(b, a)];

    // A third node of the cluster, that serves nobody: it blocks.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let operator = runtime.block_on(async {
        let limit = LimitZone::builder("clients").size(1 << 20).rate("10r/m".parse().expect("a rate"));
        let builder = Node::builder("operator").listen(node(third).parse().expect("an address")).plain_text();
        let peers = [a, b].map(|ip| node(ip).parse().expect("a server"));
        let builder = builder
            .servers(peers)
            .keyval(KeyvalZone::builder("blocked").size(1 << 20).match_by(MatchBy::Ip))
            .limit(limit.burst(9).delay(Delay::Nodelay))
            .sticky(StickyZone::builder("sessions").size(1 << 20));
        builder.start().await.expect("it starts")
    });

    // A session begins at one proxy, and is known to the other.
    let (_, first) = until("the first proxy answers", || get(a, "").filter(|reply| reply.0 == 200));
    let cookie = first.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    let cookie = cookie.split(';').next().expect("a pair");
    let upstream = first.lines().last().expect("a body");
    let session = cookie.strip_prefix("session=").expect("its name");
    let sessions = operator.sticky("sessions").expect("made above");
    until("the session reaches the cluster", || sessions.peek(session, operator.now()));
    for proxy in [b, a, b] {
        let (status, reply) =
            until("the proxy answers", || get(proxy, cookie).filter(|reply| reply.0 != 502));
        assert_eq!((status, reply.lines().last()), (200, Some(upstream)), "{reply}");
        assert!(!reply.contains("set-cookie"), "{reply}");
    }

    // Ten a minute of one client, through whichever proxy. All come from 127.0.0.1.
    let limited = until("the limit is reached", || get(a, cookie).filter(|reply| reply.0 == 429));
    assert!(limited.1.contains("retry-after: "), "{}", limited.1);
    until("the other proxy knows", || get(b, cookie).filter(|reply| reply.0 == 429));

    // Blocked on one node, blocked on all.
    let blocked = operator.keyval("blocked").expect("made above");
    blocked.set("127.0.0.0/8", "test", operator.now(), Expiry::Never).expect("there is room");
    for proxy in [a, b] {
        until("the client is blocked", || get(proxy, cookie).filter(|reply| reply.0 == 403));
    }
    drop(proxies);
}
