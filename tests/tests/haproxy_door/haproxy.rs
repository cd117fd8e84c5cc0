//! A real HAProxy, with the configuration of the document.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Api, Loopback, Node, Process, wait_for};

use crate::{LIMIT, block, door};

const HTTP_PORT: u16 = 8000;
/// Where its two servers are: an HAProxy, too.
const SERVERS: [u16; 2] = [8001, 8002];

/// An HAProxy beside a node, and a client of it.
pub(crate) struct Haproxy {
    pub(crate) http: Api,
    /// Where it serves.
    pub(crate) address: SocketAddr,
    socket: PathBuf,
    _listen: Loopback,
    process: Process,
}

impl Haproxy {
    /// Starts one that is connected to a node.
    pub(crate) fn start(name: &str, node: &Node, directory: &Path) -> Self {
        Self::start_with(name, node, directory, "")
    }

    /// The same, with further lines of its configuration.
    pub(crate) fn start_with(name: &str, node: &Node, directory: &Path, further: &str) -> Self {
        let peer = format!("peer edge-1 {}", door(node.config.ip));
        Self::start_by(name, node, directory, &peer, further)
    }

    /// The same, that finds its node by this line.
    pub(crate) fn start_by(name: &str, node: &Node, directory: &Path, peer: &str, further: &str) -> Self {
        let listen = Loopback::claim();
        let socket = directory.join(format!("{name}.sock"));
        let at = |port| listen.port(port).to_string();
        let mut text = block(
            "haproxy",
            0,
            &[
                ("peer edge-1 127.0.0.1:10000", peer.to_owned()),
                ("lb-1", name.to_owned()),
                ("/run/haproxy/admin.sock", socket.display().to_string()),
                ("edge-1", node.config.name.clone()),
                ("127.0.0.1:10001", at(10_001)),
                ("127.0.0.1:8000", at(HTTP_PORT)),
                ("127.0.0.1:8001", at(SERVERS[0])),
                ("127.0.0.1:8002", at(SERVERS[1])),
                // So long that no time that passes in the test matters.
                ("http_req_rate(10s)", "http_req_rate(1h)".to_owned()),
                ("gt 1000", "gt 999999".to_owned()),
            ],
        );
        text.push_str("\nfrontend servers\n");
        for port in SERVERS {
            text.push_str(&format!("    bind {}\n", at(port)));
        }
        text.push_str("    http-request return status 200 content-type text/plain lf-string %[dst_port]\n");
        text.push_str(further);
        let file = directory.join(format!("{name}.cfg"));
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new("/usr/sbin/haproxy");
        command.args(["-db", "-f"]).arg(&file);
        let process = Process::start(name, command, &directory.join(format!("{name}.log")));
        let address = listen.port(HTTP_PORT);
        let mut haproxy = Self { http: Api::new(address), address, socket, _listen: listen, process };
        haproxy.wait_connected();
        haproxy
    }

    /// Waits until it is connected to its node and has been taught everything.
    pub(crate) fn wait_connected(&mut self) {
        wait_for("the HAProxy to be connected to its node", LIMIT, || {
            if let Some(status) = self.process.status() {
                panic!("haproxy ended ({status}):\n{}", self.process.log_end());
            }
            let peers = self.command("show peers")?;
            let is_settled = peers.contains("last_status=ESTA") && peers.contains("(remote,active)");
            if is_settled { Ok(()) } else { Err(peers) }
        });
    }

    /// What its runtime socket answers.
    pub(crate) fn command(&self, command: &str) -> Result<String, String> {
        let run = || {
            let mut socket = UnixStream::connect(&self.socket)?;
            socket.set_read_timeout(Some(LIMIT))?;
            writeln!(socket, "{command}")?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            Ok(answer)
        };
        run().map_err(|error: std::io::Error| format!("{command}: {error}"))
    }

    /// The datum of that name that a table has for a key.
    pub(crate) fn datum(&self, table: &str, key: &str, name: &str) -> Result<String, String> {
        let shown = self.command(&format!("show table {table}"))?;
        let entry = shown.lines().find(|line| line.contains(&format!(" key={key} ")));
        let data = entry.into_iter().flat_map(|entry| entry.split(' '));
        let datum = data.filter_map(|datum| datum.split_once('=')).find(|(datum, _)| *datum == name);
        datum.map(|(_, value)| value.to_owned()).ok_or(shown)
    }

    /// Waits until a table has this for a key.
    pub(crate) fn wait_datum(&self, table: &str, key: &str, name: &str, wanted: &str) {
        wait_for(&format!("{name} of {key} in {table} to be {wanted}"), LIMIT, || {
            let datum = self.datum(table, key, name)?;
            if datum == wanted { Ok(()) } else { Err(datum) }
        });
    }
}
