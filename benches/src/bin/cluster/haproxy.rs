//! HAProxy processes that share a stick table by `peers`. Records come by HTTP requests, which the table tracks; single writes and looks go
//! over the runtime sockets.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::contestant::{Cluster, Counter, Kind, PATIENCE, Prober, Setup, Writer, wait_until};
use crate::http::Connection;
use crate::options::Transport;
use crate::process::{Process, Stopped, free_port, require};
use crate::usage;

const PACKAGE: &str = "haproxy";
/// Connections of a writer, and requests under way on each.
const CONNECTIONS: usize = 8;
const PIPELINE: u32 = 64;
/// Entries of the table; a run never gets there.
const ENTRIES: u32 = 4_000_000;
/// What one HAProxy process takes of new keys a second, with room to spare.
const RATE_MAX: u32 = 50_000;

#[derive(Debug)]
struct Server {
    process: Process,
    name: String,
    http: SocketAddr,
    socket: std::path::PathBuf,
}

/// A name and the port of its peers.
type Place = (String, u16);

impl Server {
    fn start(setup: &Setup, mesh: &[Place], number: usize) -> Result<Self> {
        let (name, port) = mesh.get(number).context("a place in the mesh")?;
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let socket = setup.file(&format!("{name}.sock"));
        let mut peers = String::new();
        let options = match setup.transport {
            Transport::Plain => String::new(),
            Transport::Tls | Transport::Quic => {
                let (both, authority) = (setup.file("both.pem"), setup.file("ca.pem"));
                format!(" ssl crt {} ca-file {} verify required", both.display(), authority.display())
            }
        };
        peers += &format!("  bind 127.0.0.1:{port}{options}\n");
        if !options.is_empty() {
            peers += &format!("  default-server{options}\n");
        }
        for (other, port) in mesh {
            let address = if other == name { String::new() } else { format!(" 127.0.0.1:{port}") };
            peers += &format!("  server {other}{address}\n");
        }
        let text = format!(
            "global\n  stats socket {} mode 600 level admin\n  stats timeout 10m\n  nbthread 1\n  maxconn 2000\n\
             defaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 5s\n\
             peers mesh\n{peers}\
             backend t\n  stick-table type string len 32 size {ENTRIES} expire 10m store server_id,gpc0,http_req_rate(10s) peers mesh\n\
             frontend f\n  bind {http}\n  http-request track-sc0 url_param(k) table t\n  http-request sc-inc-gpc0(0)\n  \
             http-request return status 200 content-type text/plain string ok\n",
            socket.display()
        );
        let file = setup.file(&format!("{name}.cfg"));
        std::fs::write(&file, text).context("cannot write a configuration file")?;
        let mut command = require("haproxy", PACKAGE)?;
        command.arg("-db").arg("-f").arg(&file).arg("-L").arg(name);
        let mut process = Process::start(name, command, setup.folder())?;
        wait_until(&format!("{name} to answer"), Duration::from_millis(1), || {
            process.check_running()?;
            Ok(UnixStream::connect(&socket).is_ok())
        })?;
        Ok(Self { process, name: name.clone(), http, socket })
    }

    fn admin(&self) -> Result<Admin> {
        Admin::open(&self.socket).with_context(|| format!("the runtime socket of {}", self.name))
    }

    /// Whether it asks nobody to teach it any more.
    fn has_learned(&self, admin: &mut Admin) -> Result<bool> {
        // From the process before it, and from the others.
        const BOTH: u32 = 3;
        let answer = admin.ask("show peers mesh")?;
        let flags = answer.split("flags=0x").nth(1).and_then(|rest| rest.split_whitespace().next());
        let flags = flags.and_then(|flags| u32::from_str_radix(flags, 16).ok());
        let flags = flags.with_context(|| format!("{}: no peers in {answer:?}", self.name))?;
        Ok(flags & BOTH == BOTH)
    }

    /// Entries of the table.
    fn used(&self, admin: &mut Admin) -> Result<u64> {
        let answer = admin.ask("show table")?;
        let used = answer.split("used:").nth(1).and_then(|rest| rest.trim().parse().ok());
        used.with_context(|| format!("{}: no table in {answer:?}", self.name))
    }
}

/// A runtime socket, kept open.
struct Admin(UnixStream);

impl Admin {
    fn open(socket: &std::path::Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("cannot connect")?;
        stream.set_read_timeout(Some(PATIENCE)).context("setting a time-out")?;
        let mut admin = Self(stream);
        admin.ask("prompt")?;
        Ok(admin)
    }

    /// The answer to a command, which ends with a prompt.
    fn ask(&mut self, command: &str) -> Result<String> {
        self.0.write_all(format!("{command}\n").as_bytes()).context("asking")?;
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while !answer.ends_with(b"> ") {
            match self.0.read(&mut chunk).context("waiting for the answer")? {
                0 => bail!("closed"),
                read => answer.extend_from_slice(&chunk[..read]),
            }
        }
        answer.truncate(answer.len() - 2);
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    }
}

struct Haproxy<'a> {
    setup: &'a Setup,
    /// One place more than there are processes: for who joins.
    mesh: Vec<Place>,
    servers: Vec<Server>,
}

/// Starts so many processes and waits until an entry of the first is everywhere, and all have learned what they want to.
///
/// In their first five seconds HAProxies have each other teach them everything, and what is taught replaces what is there, however old it is. A single write can be lost by that.
pub(crate) fn start(setup: &Setup, nodes: u32) -> Result<Box<dyn Cluster + '_>> {
    let places = (0..=nodes).map(|number| Ok((format!("haproxy-{number}"), free_port()?)));
    let mesh = places.collect::<Result<Vec<_>>>()?;
    let servers =
        (0..nodes as usize).map(|number| Server::start(setup, &mesh, number)).collect::<Result<Vec<_>>>()?;
    let mut first = servers.first().context("a cluster without nodes")?.admin()?;
    first.ask("set table t key greeting data.gpc0 1")?;
    for server in &servers {
        let mut admin = server.admin()?;
        wait_until("peers to find each other", Duration::from_millis(20), || {
            Ok(server.used(&mut admin)? > 0 && server.has_learned(&mut admin)?)
        })?;
    }
    Ok(Box::new(Haproxy { setup, mesh, servers }))
}

impl Haproxy<'_> {
    fn server(&self, node: usize) -> Result<&Server> {
        self.servers.get(node).with_context(|| format!("the cluster has no node {node}"))
    }
}

impl Cluster for Haproxy<'_> {
    fn prober(&self) -> Result<Box<dyn Prober>> {
        let last = self.servers.last().context("a cluster without nodes")?;
        Ok(Box::new(Probe { first: self.server(0)?.admin()?, last: last.admin()? }))
    }

    fn writer(&self, node: usize, kind: Kind) -> Result<Box<dyn Writer>> {
        let server = self.server(node)?;
        let connections: Result<_> = (0..CONNECTIONS).map(|_| Connection::open(server.http)).collect();
        Ok(Box::new(Requests { connections: connections?, under_way: [0; CONNECTIONS], turn: 0, kind }))
    }

    fn counter(&self, node: usize) -> Result<Box<dyn Counter>> {
        Ok(Box::new(Count(Connection::open(self.server(node)?.http)?)))
    }

    fn counted(&self) -> Result<Vec<u64>> {
        let counted = |server: &Server| {
            let answer = server.admin()?.ask("show table t key client")?;
            let counted =
                answer.split("gpc0=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            counted.with_context(|| format!("no count in {answer:?}"))
        };
        self.servers.iter().map(counted).collect()
    }

    fn join(&mut self, records: u64) -> Result<()> {
        let server = Server::start(self.setup, &self.mesh, self.servers.len())?;
        let mut admin = server.admin()?;
        wait_until("the new process to have every entry", Duration::from_millis(5), || {
            Ok(server.used(&mut admin)? >= records)
        })?;
        self.servers.push(server);
        Ok(())
    }

    fn is_settled(&mut self) -> Result<bool> {
        let first = self.server(0)?;
        let expected = first.used(&mut first.admin()?)?;
        for server in &self.servers {
            if server.used(&mut server.admin()?)? < expected {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn applied(&self) -> Option<u64> {
        None
    }

    fn payload(&self) -> u64 {
        16 // beside the key it sends counters
    }

    fn received_last(&self) -> Option<u64> {
        None
    }

    /// As the kernel counts them for each end of the connections between peers: what was encrypted, encrypted.
    fn wire_bytes(&self) -> Result<u64> {
        let output = require("ss", "iproute2")?.args(["-tinH"]).output().context("cannot run ss")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let is_ours =
            |line: &str| self.mesh.iter().any(|(_, port)| line.contains(&format!("127.0.0.1:{port} ")));
        let mut total = 0;
        // Two lines a connection: its ends, and its figures.
        let mut lines = text.lines();
        while let (Some(ends), Some(figures)) = (lines.next(), lines.next()) {
            let sent = figures
                .split("bytes_sent:")
                .nth(1)
                .and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
            if is_ours(&format!("{ends} ")) {
                total += sent.unwrap_or_default();
            }
        }
        Ok(total)
    }

    fn stop(&self, node: usize) -> Result<Stopped> {
        Stopped::process(&self.server(node)?.process)
    }

    fn cpu(&self) -> Result<Vec<Duration>> {
        self.servers.iter().map(|server| usage::of_process(server.process.id())).collect()
    }

    fn rate_max(&self) -> Option<u32> {
        Some(RATE_MAX)
    }
}

struct Probe {
    first: Admin,
    last: Admin,
}

impl Prober for Probe {
    fn write(&mut self, number: u32) -> Result<()> {
        // 0 is what a new entry has.
        let answer = self.first.ask(&format!("set table t key probe data.gpc0 {}", number + 1))?;
        if answer.is_empty() { Ok(()) } else { bail!("set table: {answer}") }
    }

    fn is_seen(&mut self, number: u32) -> Result<bool> {
        Ok(self.last.ask("show table t key probe")?.contains(&format!(" gpc0={} ", number + 1)))
    }
}

struct Requests {
    connections: Vec<Connection>,
    under_way: [usize; CONNECTIONS],
    turn: usize,
    kind: Kind,
}

impl Writer for Requests {
    fn write(&mut self, numbers: Range<u32>) -> Result<()> {
        let prefix = if self.kind == Kind::Pair { "pair" } else { "sess" };
        let mut requests = String::new();
        let mut from = numbers.start;
        while from < numbers.end {
            let through = numbers.end.min(from + PIPELINE);
            requests.clear();
            for number in from..through {
                requests += &format!("GET /?k={prefix}{number:012x} HTTP/1.1\r\nhost: x\r\n\r\n");
            }
            let connection = &mut self.connections[self.turn];
            connection.receive_all(self.under_way[self.turn])?;
            connection.send(requests.as_bytes())?;
            self.under_way[self.turn] = (through - from) as usize;
            self.turn = (self.turn + 1) % CONNECTIONS;
            from = through;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        for (connection, under_way) in self.connections.iter_mut().zip(&mut self.under_way) {
            connection.receive_all(std::mem::take(under_way))?;
        }
        Ok(())
    }
}

struct Count(Connection);

impl Counter for Count {
    fn count(&mut self) -> Result<()> {
        self.0.send(b"GET /?k=client HTTP/1.1\r\nhost: x\r\n\r\n")?;
        self.0.receive_all(1)
    }
}
