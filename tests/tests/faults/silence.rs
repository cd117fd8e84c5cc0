//! Thousands of connections to the sync port that say nothing.

use std::collections::VecDeque;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::{Cluster, Config, Encryption, SYNC_PORT, digests_equal, put_reaches, wait_for};

use crate::{LIMIT, ZONES, impatient, start_all};

const CONNECTIONS: usize = 10_000;

/// What the test itself needs beside the connections, with the other tests that run in this process.
const OTHER_DESCRIPTORS: u64 = 2_000;

/// What the node may need for them, at the most: 1,024 connections that wait for a greeting, each with a read buffer that
/// nothing has been read into yet, or 64 unfinished TLS handshakes; and the kernel's and the allocator's ways.
const MEMORY_MAX: u64 = 48 << 20;

/// Lines of log about them, at the most.
const LINES_MAX: usize = 500;

/// Lets this process have so many connections, and returns how many it may. The tests of a process run at once and share
/// its descriptors: whoever has a crowd keeps the guard for as long, and the next one waits.
fn room_for_connections() -> (usize, MutexGuard<'static, ()>) {
    static CROWD: Mutex<()> = Mutex::new(());
    let alone = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = getrlimit(Resource::Nofile);
    let wanted = CONNECTIONS as u64 + OTHER_DESCRIPTORS;
    let soft = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)).max(limit.current.unwrap_or(0));
    setrlimit(Resource::Nofile, Rlimit { current: Some(soft), ..limit }).expect("up to the hard limit");
    let count = CONNECTIONS.min(soft.saturating_sub(OTHER_DESCRIPTORS) as usize);
    if count < CONNECTIONS {
        println!(
            "only {count} connections instead of {CONNECTIONS}: the hard limit of descriptors is {soft}"
        );
    }
    (count, alone)
}

/// Waits until the node has hung up. It may say why before.
fn hear_end(mut connection: &TcpStream) {
    connection.set_read_timeout(Some(LIMIT)).expect("a time-out");
    let mut scrap = [0; 256];
    while match connection.read(&mut scrap) {
        Ok(count) => count > 0,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
        Err(error) => panic!("waited {LIMIT:?} for the node to hang up: {error}"),
    } {}
}

/// Ends the crowd, also when an assertion fails.
struct EndOfCrowd<'a>(&'a AtomicBool);

impl Drop for EndOfCrowd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Opens silent connections all the while, and keeps a thousand at a time.
fn besiege(address: SocketAddr, stop: &AtomicBool) {
    let mut open = VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        // The kernel may have no room for a moment.
        open.extend(TcpStream::connect(address));
        if open.len() > 1_000 {
            open.pop_front();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_peer_gets_in_through_a_crowd_of_silent_connections_that_never_ends() {
    let (_, _alone) = room_for_connections();
    let cluster = Cluster::new(&["a", "b", "c"], ZONES);
    let [a, b] = start_all(&cluster, ["a", "b"].map(|name| impatient(&cluster, name)));
    let address = cluster.loopback("a").port(SYNC_PORT);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = EndOfCrowd(&stop);
        scope.spawn(|| besiege(address, &stop));
        wait_for("the crowd to be turned away", LIMIT, || {
            let refusals = a.api.status()?.document["refusals"].clone();
            if refusals["limit"].as_u64() > Some(200) { Ok(()) } else { Err(refusals.to_string()) }
        });
        let mut c = cluster.start_with(impatient(&cluster, "c"));
        c.wait_ready();
        put_reaches("one", "of-c", &c.api, &[&a.api, &b.api]);
        // Links of before are there all the while.
        put_reaches("one", "of-b", &b.api, &[&a.api]);
    });
}

fn silent_connections_are_closed_and_disturb_nobody(encrypted: bool) {
    let (count, _alone) = room_for_connections();
    let cluster = Cluster::new(&["a", "b", "c"], ZONES);
    let config = |name| {
        let config = impatient(&cluster, name);
        if encrypted { config } else { Config { encryption: Encryption::Plain, ..config } }
    };
    let [a, b] = start_all(&cluster, ["a", "b"].map(config));
    put_reaches("one", "before", &b.api, &[&a.api]);
    let (before, lines) = (a.usage(), a.log().lines().count());

    let address: SocketAddr = cluster.loopback("a").port(SYNC_PORT);
    let mut memory = before.memory_bytes;
    let mut silent = Vec::new();
    for number in 0..count {
        silent.push(TcpStream::connect(address).expect("the node, or the kernel for it, answers"));
        if number % 1_000 == 0 {
            // In their midst.
            put_reaches("one", &format!("during-{number}"), &b.api, &[&a.api]);
            put_reaches("one", &format!("during-{number}-too"), &a.api, &[&b.api]);
            memory = memory.max(a.usage().memory_bytes);
        }
    }
    memory = memory.max(a.usage().memory_bytes);
    silent.iter().for_each(hear_end);
    memory = memory.max(a.usage().memory_bytes);
    put_reaches("one", "all-closed", &a.api, &[&b.api]);

    let mut c = cluster.start_with(config("c"));
    c.wait_ready();
    for node in [&a, &b, &c] {
        node.wait_online(2);
    }
    digests_equal(&[&a, &b, &c]);
    let grown = memory.saturating_sub(before.memory_bytes);
    let said = a.log().lines().count() - lines;
    println!("{count} silent connections: {} KiB more memory, {said} lines of log", grown >> 10);
    assert!(grown < MEMORY_MAX, "{grown} bytes more");
    assert!((1..LINES_MAX).contains(&said), "{said} lines:\n{}", a.log_end());
}

#[test]
fn silent_connections_are_closed_and_disturb_nobody_with_tls() {
    silent_connections_are_closed_and_disturb_nobody(true);
}

#[test]
fn silent_connections_are_closed_and_disturb_nobody_in_plain_text() {
    silent_connections_are_closed_and_disturb_nobody(false);
}
