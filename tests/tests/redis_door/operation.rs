//! The door as an operator sees it: users, reloads, silent clients, Unix sockets, state files, the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use tests::{Cluster, Node, wait_for};

use crate::{LIMIT, config, door, one_node};

/// A client that says lines; answers of one line are enough for it.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(node: &Node) -> Self {
        let socket = TcpStream::connect(door(node.config.ip)).expect("the door is open");
        socket.set_read_timeout(Some(LIMIT)).expect("a time-out");
        Self(BufReader::new(socket))
    }

    /// The first line of the answer; empty if the connection was closed.
    fn ask(&mut self, line: &str) -> String {
        let _ = self.0.get_mut().write_all(format!("{line}\r\n").as_bytes());
        let mut said = String::new();
        let _ = self.0.read_line(&mut said);
        said.trim_end().to_owned()
    }

    /// Waits until the node has closed the connection, without another word.
    fn wait_closed(mut self) {
        let rest = self.0.read_to_end(&mut Vec::new());
        assert!(rest.as_ref().is_ok_and(|read| *read == 0), "{rest:?}");
    }
}

/// Of `secret`, by `openssl passwd -5`.
const HASH: &str = "$5$abc$qsg6EHbUzHQzF1POlD7zUwBINSELQxypPaeDcZe6vH0";

#[test]
fn users_and_grants_change_with_a_reload() {
    let cluster = Cluster::new(&["a"], "");
    let users = |names: &[&str]| {
        let lines: String = names.iter().map(|name| format!("{name}:{HASH}\n")).collect();
        std::fs::write(cluster.directory().join("users"), lines).expect("written");
    };
    users(&["default", "reader"]);
    let table = "write = true\nauth_basic_user_file = \"users\"\nread_only_users = \"reader\"";
    let mut a = one_node(&cluster, &[("write = true", table)]);
    let (mut writer, mut reader) = (Client::new(&a), Client::new(&a));
    assert_eq!(writer.ask("SET k v"), "-NOAUTH Authentication required.");
    assert!(writer.ask("AUTH wrong").starts_with("-WRONGPASS"));
    assert_eq!(writer.ask("AUTH secret"), "+OK");
    assert_eq!(writer.ask("SET k v"), "+OK");
    assert_eq!(reader.ask("AUTH reader secret"), "+OK");
    assert_eq!(reader.ask("EXISTS k"), ":1");
    assert!(reader.ask("SET k v").starts_with("-NOPERM User reader"));

    // Who is not in the file any more has to go; who is, stays, by the new rules.
    users(&["reader", "other"]);
    let changed = config(&cluster, "a", &[("write = true", &table.replace("\"reader\"", "[]"))]);
    a.reload(changed, cluster.directory());
    wait_for("the reader to be allowed to write", LIMIT, || match reader.ask("SET k w").as_str() {
        "+OK" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(writer.ask("EXISTS k"), "");
    writer.wait_closed();
}

#[test]
fn clients_from_elsewhere_are_told_so() {
    let cluster = Cluster::new(&["a"], "");
    let a = one_node(&cluster, &[("write = true", "deny = \"all\"")]);
    let mut client = Client::new(&a);
    assert_eq!(client.ask("PING"), "-NOPERM access is not allowed from this address");
}

#[test]
fn silent_clients_are_disconnected() {
    let cluster = Cluster::new(&["a"], "");
    // Longer than this test stalls between a connection and what it says there.
    let a = one_node(&cluster, &[("write = true", "write = true\ntimeout = \"3s\"")]);
    let mut client = Client::new(&a);
    assert_eq!(client.ask("PING"), "+PONG");
    client.wait_closed();
    // In the middle of a request, too.
    let mut half = Client::new(&a);
    half.0.get_mut().write_all(b"*1\r\n$4\r\nPI").expect("written");
    half.wait_closed();
}

#[test]
fn the_door_may_be_a_unix_socket() {
    let cluster = Cluster::new(&["a"], "");
    let address = format!("{}:6379", cluster.loopback("a").ip());
    let a = one_node(&cluster, &[(&address, "unix:redis.sock")]);
    let mut socket = UnixStream::connect(cluster.directory().join("redis.sock")).expect("the door is open");
    socket.set_read_timeout(Some(LIMIT)).expect("a time-out");
    socket.write_all(b"SET k v\r\nGET k\r\nQUIT\r\n").expect("written");
    let mut said = String::new();
    socket.read_to_string(&mut said).expect("an answer, and the end");
    assert_eq!(said, "+OK\r\n$1\r\nv\r\n+OK\r\n");
    a.quit();
    assert!(!cluster.directory().join("redis.sock").exists());
}

#[test]
fn what_was_answered_in_a_zone_with_a_state_file_is_there_after_a_kill() {
    let cluster = Cluster::new(&["a"], "");
    let start = || {
        let mut config = config(&cluster, "a", &[]);
        config.zones = config.zones.replacen("size = \"64m\"", "size = \"1m\"\nstate = \"one.keyval\"", 1);
        let mut node = cluster.start_with(config);
        node.wait_ready();
        node
    };
    let a = start();
    let mut client = Client::new(&a);
    for n in 0..50 {
        assert_eq!(client.ask(&format!("SET k{n} v")), "+OK");
    }
    assert_eq!(client.ask("DEL k0 k1"), ":2");
    a.kill();
    let a = start();
    let mut client = Client::new(&a);
    assert_eq!(client.ask("DBSIZE"), ":48");
    assert_eq!(client.ask("FLUSHDB"), "+OK");
    a.kill();
    let a = start();
    assert_eq!(Client::new(&a).ask("DBSIZE"), ":0");
}

#[test]
fn a_graceful_stop_takes_no_more_and_loses_nothing() {
    let cluster = Cluster::new(&["a", "b"], "");
    let [a, b] = crate::two_nodes(&cluster);
    let mut client = Client::new(&a);
    let writer = std::thread::spawn(move || {
        // Until it is refused or the connection ends: answers of 1 to so many.
        (1..).take_while(|n| client.ask(&format!("SET k{n} v")) == "+OK").last().unwrap_or(0)
    });
    wait_for("some writes", LIMIT, || match b.api.value("one", "k20") {
        Some(_) => Ok(()),
        None => Err("not there".to_owned()),
    });
    a.quit();
    let written: u32 = writer.join().expect("no panic");
    for n in [1, written / 2, written] {
        assert!(b.api.value("one", &format!("k{n}")).is_some(), "k{n} of {written}");
    }
}
