//! A Redis primary and its replicas: the replicas take everything from the primary, over TLS if asked for; clients talk to both in plain text.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::contestant::{Cluster, Counter, Kind, PATIENCE, Prober, Setup, Writer, value, wait_until};
use crate::options::Transport;
use crate::process::{Process, Stopped, free_port, require};
use crate::usage;

const PACKAGE: &str = "redis-server";
/// Connections of a writer, and commands under way on each: what makes Redis fastest on two cores.
const CONNECTIONS: usize = 8;
const PIPELINE: u32 = 128;

#[derive(Debug)]
struct Server {
    process: Process,
    port: u16,
    replication_port: u16,
}

impl Server {
    fn start(setup: &Setup, name: &str) -> Result<Self> {
        let (port, replication_port) = (free_port()?, free_port()?);
        let folder = setup.file(name);
        std::fs::create_dir_all(&folder).context("cannot make a folder")?;
        let mut command = require("redis-server", PACKAGE)?;
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.arg("--dir").arg(&folder).args([
            "--repl-diskless-sync",
            "yes",
            "--repl-diskless-sync-delay",
            "0",
        ]);
        command.args([
            "--repl-diskless-load",
            "on-empty-db",
            "--client-output-buffer-limit",
            "replica 0 0 0",
        ]);
        if setup.transport != Transport::Plain {
            command.args(["--tls-port", &replication_port.to_string(), "--tls-replication", "yes"]);
            command
                .arg("--tls-cert-file")
                .arg(setup.file("node.pem"))
                .arg("--tls-key-file")
                .arg(setup.file("node.key"));
            command.arg("--tls-ca-cert-file").arg(setup.file("ca.pem"));
        }
        let replication_port = if setup.transport == Transport::Plain { port } else { replication_port };
        let mut process = Process::start(name, command, setup.folder())?;
        wait_until(&format!("{name} to answer"), Duration::from_millis(2), || {
            process.check_running()?;
            Ok(Client::open(port).and_then(|mut client| client.command(&["PING"])).is_ok())
        })?;
        Ok(Self { process, port, replication_port })
    }

    fn client(&self) -> Result<Client> {
        Client::open(self.port)
    }

    /// A figure of INFO.
    fn figure(&self, name: &str) -> Result<u64> {
        let info = self.client()?.command(&["INFO", "all"])?;
        let figure =
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok());
        figure.with_context(|| format!("no {name} in Redis' INFO"))
    }

    fn is_linked(&self) -> Result<bool> {
        Ok(self.client()?.command(&["INFO", "replication"])?.contains("master_link_status:up"))
    }
}

/// A connection of a client.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect to Redis")?;
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        stream.set_read_timeout(Some(PATIENCE)).context("setting a time-out")?;
        Ok(Self { stream, input: Vec::new() })
    }

    fn send(&mut self, commands: &[u8]) -> Result<()> {
        self.stream.write_all(commands).context("sending to Redis")
    }

    fn command(&mut self, words: &[&str]) -> Result<String> {
        let mut command = Vec::new();
        put(&mut command, &words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
        self.send(&command)?;
        self.reply()
    }

    fn read(&mut self) -> Result<()> {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk).context("waiting for Redis")? {
            0 => bail!("Redis has closed the connection"),
            read => self.input.extend_from_slice(&chunk[..read]),
        }
        Ok(())
    }

    /// The next reply, a line or a bulk string.
    fn reply(&mut self) -> Result<String> {
        loop {
            if let Some((text, end)) = parse(&self.input)? {
                self.input.drain(..end);
                return Ok(text);
            }
            self.read()?;
        }
    }

    /// Waits for the replies to so many SETs.
    fn expect_ok(&mut self, replies: u32) -> Result<()> {
        const OK: &[u8] = b"+OK\r\n";
        let length = OK.len() * replies as usize;
        while self.input.len() < length {
            if self.input.first() == Some(&b'-') {
                bail!("Redis answers {}", String::from_utf8_lossy(&self.input));
            }
            self.read()?;
        }
        if self.input.drain(..length).as_slice().chunks(OK.len()).any(|reply| reply != OK) {
            bail!("Redis has not taken a SET");
        }
        Ok(())
    }
}

/// A reply at the beginning of `input`, and where it ends; `None` if it is not all there.
fn parse(input: &[u8]) -> Result<Option<(String, usize)>> {
    let Some(line) = input.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let text = |range: Range<usize>| String::from_utf8_lossy(&input[range]).into_owned();
    match input[0] {
        b'-' => bail!("Redis answers {}", text(1..line)),
        b'$' => {
            let length = text(1..line);
            if length == "-1" {
                return Ok(Some((String::new(), line + 2)));
            }
            let length: usize = length.parse().context("a bad length from Redis")?;
            let begin = line + 2;
            Ok((input.len() >= begin + length + 2).then(|| (text(begin..begin + length), begin + length + 2)))
        }
        _ => Ok(Some((text(1..line), line + 2))),
    }
}

fn put(commands: &mut Vec<u8>, words: &[&[u8]]) {
    commands.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        commands.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        commands.extend_from_slice(word);
        commands.extend_from_slice(b"\r\n");
    }
}

struct Redis<'a> {
    setup: &'a Setup,
    primary: Server,
    replicas: Vec<Server>,
}

/// Starts a primary and replicas, so many in all, and waits until they are linked.
pub(crate) fn start(setup: &Setup, nodes: u32) -> Result<Box<dyn Cluster + '_>> {
    let primary = Server::start(setup, "redis-0")?;
    let mut redis = Redis { setup, primary, replicas: Vec::new() };
    for _ in 1..nodes {
        redis.add()?;
    }
    Ok(Box::new(redis))
}

impl Redis<'_> {
    fn add(&mut self) -> Result<()> {
        let replica = Server::start(self.setup, &format!("redis-{}", self.replicas.len() + 1))?;
        replica.client()?.command(&["REPLICAOF", "127.0.0.1", &self.primary.replication_port.to_string()])?;
        wait_until("a replica to be linked", Duration::from_millis(1), || replica.is_linked())?;
        self.replicas.push(replica);
        Ok(())
    }
}

impl Cluster for Redis<'_> {
    fn prober(&self) -> Result<Box<dyn Prober>> {
        let replica = self.replicas.last().context("a cluster of one")?;
        Ok(Box::new(Probe { primary: self.primary.client()?, replica: replica.client()? }))
    }

    /// Whatever the node: a replica takes no writes.
    fn writer(&self, _node: usize, kind: Kind) -> Result<Box<dyn Writer>> {
        let clients: Result<_> = (0..CONNECTIONS).map(|_| self.primary.client()).collect();
        Ok(Box::new(SetWriter { clients: clients?, under_way: [0; CONNECTIONS], turn: 0, round: 0, kind }))
    }

    fn counter(&self, _node: usize) -> Result<Box<dyn Counter>> {
        Ok(Box::new(Count(self.primary.client()?)))
    }

    fn counted(&self) -> Result<Vec<u64>> {
        let servers = std::iter::once(&self.primary).chain(&self.replicas);
        let counted =
            |server: &Server| server.client()?.command(&["GET", "client"])?.parse().context("no count");
        servers.map(counted).collect()
    }

    fn join(&mut self, records: u64) -> Result<()> {
        self.add()?;
        let last = self.replicas.last().context("a cluster of one")?;
        let size: u64 = last.client()?.command(&["DBSIZE"])?.parse().context("DBSIZE is no number")?;
        if size < records {
            bail!("a linked replica has {size} records of {records}");
        }
        Ok(())
    }

    fn is_settled(&mut self) -> Result<bool> {
        let written = self.primary.figure("master_repl_offset")?;
        for replica in &self.replicas {
            if replica.figure("slave_repl_offset")? < written {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn applied(&self) -> Option<u64> {
        None
    }

    fn payload(&self) -> u64 {
        48
    }

    fn received_last(&self) -> Option<u64> {
        None
    }

    fn wire_bytes(&self) -> Result<u64> {
        self.primary.figure("total_net_repl_output_bytes")
    }

    fn stop(&self, node: usize) -> Result<Stopped> {
        let server = std::iter::once(&self.primary).chain(&self.replicas).nth(node);
        Stopped::process(&server.with_context(|| format!("the cluster has no node {node}"))?.process)
    }

    fn cpu(&self) -> Result<Vec<Duration>> {
        let servers = std::iter::once(&self.primary).chain(&self.replicas);
        servers.map(|server| usage::of_process(server.process.id())).collect()
    }
}

struct Probe {
    primary: Client,
    replica: Client,
}

impl Prober for Probe {
    fn write(&mut self, number: u32) -> Result<()> {
        let mut command = Vec::new();
        put(&mut command, &[b"SET", b"probe-0000000000", &value(number, 0)]);
        self.primary.send(&command)?;
        self.primary.expect_ok(1)
    }

    fn is_seen(&mut self, number: u32) -> Result<bool> {
        Ok(self.replica.command(&["GET", "probe-0000000000"])?.as_bytes() == value(number, 0))
    }
}

struct SetWriter {
    clients: Vec<Client>,
    under_way: [u32; CONNECTIONS],
    turn: usize,
    round: u32,
    kind: Kind,
}

impl Writer for SetWriter {
    fn write(&mut self, numbers: Range<u32>) -> Result<()> {
        self.round = self.round.wrapping_add(1);
        let mut commands = Vec::new();
        let mut from = numbers.start;
        while from < numbers.end {
            let through = numbers.end.min(from + PIPELINE);
            commands.clear();
            for number in from..through {
                match self.kind {
                    Kind::Pair => {
                        put(&mut commands, &[b"SET", &benches::key(number), &value(number, self.round)])
                    }
                    Kind::Session => {
                        put(
                            &mut commands,
                            &[b"SET", &benches::session(number), benches::SERVER, b"EX", b"600"],
                        );
                    }
                }
            }
            // The others go on while this one waits.
            let client = &mut self.clients[self.turn];
            client.expect_ok(self.under_way[self.turn])?;
            client.send(&commands)?;
            self.under_way[self.turn] = through - from;
            self.turn = (self.turn + 1) % CONNECTIONS;
            from = through;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        for (client, under_way) in self.clients.iter_mut().zip(&mut self.under_way) {
            client.expect_ok(std::mem::take(under_way))?;
        }
        Ok(())
    }
}

struct Count(Client);

impl Counter for Count {
    fn count(&mut self) -> Result<()> {
        self.0.command(&["INCR", "client"]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_reply_is_found_when_all_of_it_is_there() {
        let found = |input: &[u8]| parse(input).expect("a good reply");
        assert_eq!(found(b"+OK\r\n+OK"), Some(("OK".to_owned(), 5)));
        assert_eq!(found(b":12\r\n"), Some(("12".to_owned(), 5)));
        assert_eq!(found(b"$3\r\nabc\r\n$"), Some(("abc".to_owned(), 9)));
        assert_eq!(found(b"$-1\r\n"), Some((String::new(), 5)));
        for end in 0..9 {
            assert_eq!(found(&b"$3\r\nabc\r\n"[..end]), None, "{end}");
        }
        parse(b"-ERR no\r\n").expect_err("an error");
    }
}
