//! Sockets that say nonsense, too much, or nothing: each gets an answer of the protocol or is closed, and the others notice nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use tests::{Cluster, Node, wait_for};

use crate::{LIMIT, config, door};

const HELLO: &[u8] = b"HAProxyS 2.1\na\nlb-9 1 1\n";
/// Success, and the wish for a lesson.
const GREETING: &[u8] = b"200\n\0\0";
const HEARTBEAT: [u8; 2] = [0, 4];
/// Longer than these tests take, who keep silent themselves.
const PATIENCE: &str = "timeout = \"10m\"\n";

fn connect(door: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(door).expect("the door is open");
    socket.set_read_timeout(Some(LIMIT)).expect("a time-out");
    socket.set_write_timeout(Some(LIMIT)).expect("a time-out");
    socket
}

/// What a peer is answered until the connection is closed. It may be closed while the peer still writes.
fn answers(door: SocketAddr, said: &[&[u8]]) -> Vec<u8> {
    let mut socket = connect(door);
    let _ = socket.write_all(&said.concat());
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    answer
}

fn one_node(cluster: &Cluster, further: &str) -> Node {
    let mut node = cluster.start_with(config(cluster, "a", further));
    node.wait_ready();
    node
}

/// A peer that has been greeted.
fn greeted(door: SocketAddr, name: &str) -> TcpStream {
    let mut socket = connect(door);
    socket.write_all(format!("HAProxyS 2.1\na\n{name} 1 1\n").as_bytes()).expect("written");
    let mut answer = [0; GREETING.len()];
    socket.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, GREETING);
    socket
}

/// Hears messages of control, which have two bytes. In between the node may say that it is there: that depends on how long the test has taken so far.
fn hear(socket: &mut TcpStream, expected: &[[u8; 2]]) {
    let mut heard = Vec::new();
    while heard.len() < expected.len() {
        let mut message = [0; 2];
        socket.read_exact(&mut message).expect("it is open");
        if message != HEARTBEAT {
            heard.push(message);
        }
    }
    assert_eq!(heard, expected);
}

#[test]
fn nonsense_gets_an_answer_and_costs_nothing() {
    let cluster = Cluster::new(&["a"], "");
    let a = one_node(&cluster, PATIENCE);
    let door = door(a.config.ip);
    let mut honest = greeted(door, "lb-1");
    let before = a.usage().memory_bytes;
    for (said, expected) in [
        (&[&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..]][..], &b"501\n"[..]),
        (&[&[b'x'; 5_000]], b"501\n"),
        (&[b"HAProxyS 3.0\na\nlb-9 1 1\n"], b"502\n"),
        (&[b"HAProxyS 2.1\nother\nlb-9 1 1\n"], b"503\n"),
        (&[HELLO, &[255, 255, 1, 1]], b"200\n\0\0\x01\0"),
        // A message of a gigabyte, and one of a length without end.
        (&[HELLO, &[10, 128, 0xf0, 0xff, 0xff, 0xff, 0x7f]], b"200\n\0\0\x01\x01"),
        (&[HELLO, &[10, 128], &[0xff; 20]], b"200\n\0\0\x01\0"),
        (&[HELLO, &[10, 130, 2, 1, 200]], b"200\n\0\0\x01\0"),
    ] {
        assert_eq!(answers(door, said), expected, "{}", String::from_utf8_lossy(said[0]));
    }
    // A hundred that promise a large message, and send nothing of it.
    let mut silent: Vec<TcpStream> = (0..100).map(|n| greeted(door, &format!("silent-{n}"))).collect();
    for socket in &mut silent {
        socket.write_all(&[10, 128, 0xf0, 0xff, 0x1e]).expect("written");
    }
    // What is asked is answered all the same: no table is defined, so that is all.
    honest.write_all(&[0, 0, 0, 1]).expect("written");
    hear(&mut honest, &[[0, 3], [0, 1]]); // confirmed, and finished
    let grown = a.usage().memory_bytes.saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
}

#[test]
fn who_comes_again_ends_its_former_connection() {
    let cluster = Cluster::new(&["a"], "");
    let a = one_node(&cluster, PATIENCE);
    let mut former = greeted(door(a.config.ip), "lb-1");
    let other = greeted(door(a.config.ip), "lb-2");
    let again = greeted(door(a.config.ip), "lb-1");
    let mut rest = Vec::new();
    former.read_to_end(&mut rest).expect("closed");
    for mut socket in [other, again] {
        socket.write_all(&[0, 1]).expect("written");
        hear(&mut socket, &[[0, 3]]);
    }
}

#[test]
fn more_connections_than_allowed_and_foreign_addresses_are_told_so() {
    let cluster = Cluster::new(&["a"], "");
    let a = one_node(&cluster, &format!("connections = 2\n{PATIENCE}"));
    let address = door(a.config.ip);
    let mut held = vec![greeted(address, "lb-1"), greeted(address, "lb-2")];
    assert_eq!(answers(address, &[]), b"300\n");
    drop(held.pop());
    wait_for("a place", LIMIT, || match answers(address, &[b"HAProxyS 9.9\na\nlb-3 1 1\n"]).as_slice() {
        b"502\n" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(a);
    let a = one_node(&cluster, "deny = \"all\"\n");
    assert_eq!(answers(door(a.config.ip), &[]), b"504\n");
}
