//! Sockets that say nonsense, too much, or nothing: each gets an error or is closed, and the others notice nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use tests::{Cluster, wait_for};

use crate::{LIMIT, door, one_node};

fn connect(door: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(door).expect("the door is open");
    socket.set_read_timeout(Some(LIMIT)).expect("a time-out");
    socket.set_write_timeout(Some(LIMIT)).expect("a time-out");
    socket
}

/// What a client is answered until the connection is closed. It may be closed while the client still writes.
fn answers(mut socket: TcpStream, request: &[u8]) -> String {
    let _ = socket.write_all(request);
    let mut said = Vec::new();
    let _ = socket.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

/// What is said once, while the connection stays open.
fn ask(socket: &mut TcpStream, request: &[u8], expected: &[u8]) {
    socket.write_all(request).expect("written");
    let mut said = vec![0; expected.len()];
    socket.read_exact(&mut said).expect("an answer");
    assert_eq!(String::from_utf8_lossy(&said), String::from_utf8_lossy(expected));
}

#[test]
fn nonsense_gets_an_error_and_costs_nothing() {
    let cluster = Cluster::new(&["a"], "");
    let a = one_node(&cluster, &[]);
    let door = door(a.config.ip);
    let mut honest = connect(door);
    ask(&mut honest, b"SET k v\r\n", b"+OK\r\n");
    let before = a.usage().memory_bytes;
    for (request, expected) in [
        (&b"*1\r\n:5\r\n"[..], "-ERR Protocol error: expected '$', got ':'\r\n"),
        (b"*-5\r\n*99999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$-7\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$900000000\r\n", "-ERR Protocol error: a request is larger than 1048576 bytes\r\n"),
        (b"get 'k\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        // What came before it is answered.
        (
            b"PING\r\n*1\r\n$4\r\nPINGPING",
            "+PONG\r\n-ERR Protocol error: expected the end of a line behind a bulk string\r\n",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\nQUIT\r\n",
            "-ERR wrong number of arguments for 'get' command\r\n-ERR unknown command 'Host:', with args beginning with: 'a' \r\n+OK\r\n",
        ),
        (&[b'x'; 70_000], "-ERR Protocol error: too big inline request\r\n"),
    ] {
        assert_eq!(
            answers(connect(door), request),
            expected,
            "{}",
            String::from_utf8_lossy(&request[..20.min(request.len())])
        );
    }
    // A hundred that promise a large argument, and send nothing of it.
    let mut silent: Vec<TcpStream> = (0..100).map(|_| connect(door)).collect();
    for socket in &mut silent {
        socket.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n").expect("written");
    }
    // In single bytes, which is as good as at once.
    let mut slow = connect(door);
    slow.set_nodelay(true).expect("set");
    for byte in b"*2\r\n$3\r\nGET\r\n$1\r\n" {
        slow.write_all(&[*byte]).expect("written");
    }
    ask(&mut slow, b"k\r\n", b"$1\r\nv\r\n");
    ask(&mut honest, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", b"$1\r\nv\r\n");
    let grown = a.usage().memory_bytes.saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
}

#[test]
fn who_does_not_take_its_answers_is_not_given_more() {
    let cluster = Cluster::new(&["a"], "");
    let a = one_node(&cluster, &[]);
    let door = door(a.config.ip);
    let mut honest = connect(door);
    let value = "x".repeat(10_000);
    ask(&mut honest, format!("SET k {value}\r\n").as_bytes(), b"+OK\r\n");
    let before = a.usage().memory_bytes;
    let mut greedy = connect(door);
    greedy.set_nonblocking(true).expect("set");
    // Up to 200 MB of answers, of which none is read; it is not read on for long before.
    let request = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".repeat(20_000);
    let mut sent = 0;
    while sent < request.len() {
        match greedy.write(&request[sent..]) {
            Ok(some) => sent += some,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    ask(&mut honest, b"EXISTS k\r\n", b":1\r\n");
    let grown = a.usage().memory_bytes.saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
}

#[test]
fn more_connections_than_allowed_are_told_so() {
    let cluster = Cluster::new(&["a"], "");
    let a = one_node(&cluster, &[("write = true", "write = true\nconnections = 3")]);
    let door = door(a.config.ip);
    let mut held: Vec<TcpStream> = (0..3).map(|_| connect(door)).collect();
    held.iter_mut().for_each(|socket| ask(socket, b"PING\r\n", b"+PONG\r\n"));
    assert_eq!(answers(connect(door), b""), "-ERR max number of clients reached\r\n");
    drop(held.pop());
    wait_for("a place", LIMIT, || match answers(connect(door), b"QUIT\r\n").as_str() {
        "+OK\r\n" => Ok(()),
        other => Err(other.to_owned()),
    });
}
