//! A real DNS server: dnsmasq on a loopback address, whose records are lines of a file.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Loopback, Process, Signal, wait_for};

/// Where Debian's package dnsmasq-base puts it.
const DNSMASQ: &str = "/usr/sbin/dnsmasq";

/// Its port, on an address of its own.
const PORT: u16 = 5353;

/// A running DNS server that knows one name.
#[derive(Debug)]
pub struct Dns {
    process: Process,
    loopback: Loopback,
    hosts: PathBuf,
    name: String,
}

impl Dns {
    /// Starts a server that answers for `name` with `addresses`, and waits until it does.
    ///
    /// # Panics
    /// If it cannot be started (Debian: package dnsmasq-base).
    pub fn start(name: &str, addresses: &[IpAddr], directory: &Path) -> Self {
        let loopback = Loopback::claim();
        let hosts = directory.join("hosts");
        fs::write(&hosts, records(name, addresses)).expect("the hosts file is writable");
        let mut command = Command::new(DNSMASQ);
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-poll"])
            .args(["--bind-interfaces", "--user=root", "--pid-file=", "--log-facility=-", "--log-queries"])
            .args(["--local-ttl=1", "--cache-size=0"])
            .arg(format!("--port={PORT}"))
            .arg(format!("--listen-address={}", loopback.ip()))
            .arg(format!("--addn-hosts={}", hosts.display()));
        let process = Process::start("dnsmasq", command, &directory.join("dnsmasq.log"));
        let dns = Self { process, loopback, hosts, name: name.to_owned() };
        dns.wait_answers(addresses.len());
        dns
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.loopback.port(PORT)
    }

    /// Changes the record, and waits until the server answers so.
    ///
    /// # Panics
    /// If it does not.
    pub fn set(&mut self, addresses: &[IpAddr]) {
        fs::write(&self.hosts, records(&self.name, addresses)).expect("the hosts file is writable");
        self.process.signal(Signal::HangUp);
        self.wait_answers(addresses.len());
    }

    fn wait_answers(&self, expected: usize) {
        let (name, address) = (self.name.clone(), self.address());
        wait_for(&format!("{expected} addresses of {name}"), Duration::from_secs(20), || {
            let found = count_answers(&name, address)?;
            if found == expected {
                Ok(())
            } else {
                Err(format!("{found} addresses; {}", self.process.log_end()))
            }
        });
    }
}

fn records(name: &str, addresses: &[IpAddr]) -> String {
    addresses.iter().map(|address| format!("{address} {name}\n")).collect()
}

/// Asks for the A records of `name` and returns the answer count of the header (RFC 1035, 4.1.1).
fn count_answers(name: &str, server: SocketAddr) -> Result<usize, String> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).expect("labels are short"));
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    let ask = || -> std::io::Result<usize> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.connect(server)?;
        socket.send(&query)?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        Ok(if length < 12 { 0 } else { usize::from(answer[6]) << 8 | usize::from(answer[7]) })
    };
    ask().map_err(|e| format!("no answer from {server}: {e}"))
}
