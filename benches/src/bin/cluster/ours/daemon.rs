//! A `sync-node` process, as an operator runs it beside a proxy: zones in mapped files, an HTTP API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sync_store::{KeyvalZone, LimitZone, StickyZone};

use super::{LIMITS, Member, PAIRS, PROBE, RATE, Run, SESSIONS, Sizes, listening};
use crate::contestant::{Prober, Setup, value};
use crate::http::Connection;
use crate::options::Transport;
use crate::process::{Process, Stopped, free_port};
use crate::usage;

#[derive(Debug)]
pub(super) struct Daemon {
    process: Process,
    file: PathBuf,
    /// The configuration but for its peers.
    text: String,
    address: String,
    api: SocketAddr,
}

/// The binary, built with the same profile: beside this one.
fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe().context("where this program is")?;
    let file = own.with_file_name("sync-node");
    if !file.is_file() {
        bail!("there is no {}; build it first: cargo build --release -p sync-node", file.display());
    }
    Ok(file)
}

/// The API's answer to a GET.
fn get(api: SocketAddr, path: &str) -> Result<(u16, Value)> {
    let (status, body) = Connection::open(api)?.request("GET", path, "")?;
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

impl Daemon {
    pub(super) fn start(setup: &Setup, number: u32, sizes: &Sizes) -> Result<Member> {
        let name = format!("node-{number}");
        let address = setup.transport.address(&format!("{}:{}", setup.here(), free_port()?));
        let api = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let zone = |zone: &str| setup.file(&format!("{name}-{zone}.zone"));
        let [certificate, key, authority] = ["node.pem", "node.key", "ca.pem"].map(|file| setup.file(file));
        let ssl = match setup.transport {
            Transport::Plain => "ssl = false".to_owned(),
            Transport::Tls | Transport::Quic => format!(
                "[zone_sync.ssl]\ncertificate = {certificate:?}\ncertificate_key = {key:?}\ntrusted_certificate = {authority:?}"
            ),
        };
        let text = format!(
            "name = {name:?}\nlog_level = \"warn\"\n[api]\nlisten = \"{api}\"\nwrite = true\n\
             [[keyval_zone]]\nname = {PAIRS:?}\nsize = \"{}\"\nmap_file = {:?}\n\
             [[sticky_zone]]\nname = {SESSIONS:?}\nsize = \"{}\"\nmap_file = {:?}\n\
             [[limit_req_zone]]\nname = {LIMITS:?}\nsize = \"{}\"\nrate = {RATE:?}\nmap_file = {:?}\n\
             [zone_sync]\nlisten = {address:?}\nservers = [@]\n{ssl}\n",
            sizes.pairs,
            zone(PAIRS),
            sizes.sessions,
            zone(SESSIONS),
            sizes.limits,
            zone(LIMITS),
        );
        let file = setup.file(&format!("{name}.toml"));
        std::fs::write(&file, text.replace('@', "")).context("cannot write a configuration file")?;
        let mut command = Command::new(binary()?);
        command.arg("run").arg("-c").arg(&file);
        let mut process = Process::start(&name, command, setup.folder())?;
        listening(&format!("{name} to answer"), || {
            process.check_running()?;
            // The port is taken before there are zones.
            Ok(get(api, "/healthz").ok().filter(|(status, _)| *status == 200))
        })?;
        Ok(Member {
            pairs: Arc::new(KeyvalZone::attach(zone(PAIRS))?),
            sessions: Arc::new(StickyZone::attach(zone(SESSIONS))?),
            limits: Arc::new(LimitZone::attach(zone(LIMITS))?),
            run: Run::Daemon(Self { process, file, text, address, api }),
        })
    }

    pub(super) fn address(&self) -> String {
        self.address.clone()
    }

    pub(super) fn set_peers(&self, addresses: &[String]) -> Result<()> {
        let servers: Vec<String> = addresses.iter().map(|address| format!("{address:?}")).collect();
        std::fs::write(&self.file, self.text.replace('@', &servers.join(", ")))
            .context("cannot write a configuration file")?;
        let pid = Pid::from_raw(self.process.id() as i32).context("a process without an id")?;
        kill_process(pid, Signal::HUP).context("cannot signal a node")
    }

    pub(super) fn online(&mut self) -> Result<Option<u64>> {
        self.process.check_running()?;
        if get(self.api, "/readyz")?.0 != 200 {
            return Ok(None);
        }
        Ok(self.figure("nodes_online").ok())
    }

    fn figure(&self, name: &str) -> Result<u64> {
        let (_, document) = get(self.api, "/api/9/stream/zone_sync/")?;
        document["status"][name].as_u64().with_context(|| format!("no {name} in {document}"))
    }

    pub(super) fn bytes_out(&self) -> Result<u64> {
        self.figure("bytes_out")
    }

    pub(super) fn stop(&self) -> Result<Stopped> {
        Stopped::process(&self.process)
    }

    pub(super) fn cpu(&self) -> Result<Duration> {
        usage::of_process(self.process.id())
    }
}

/// Writes and reads by the API, over sockets as a peer's clients do.
pub(super) struct Probe {
    first: Connection,
    last: Connection,
    is_new: bool,
}

impl Probe {
    pub(super) fn new(first: &Daemon, last: &Daemon) -> Result<Self> {
        Ok(Self { first: Connection::open(first.api)?, last: Connection::open(last.api)?, is_new: true })
    }
}

fn text(number: u32) -> String {
    String::from_utf8_lossy(&value(number, 0)).into_owned()
}

impl Prober for Probe {
    fn write(&mut self, number: u32) -> Result<()> {
        let method = if std::mem::take(&mut self.is_new) { "POST" } else { "PATCH" };
        let path = format!("/api/9/http/keyvals/{PAIRS}");
        let body = format!("{{\"{PROBE}\":\"{}\"}}", text(number));
        match self.first.request(method, &path, &body)? {
            (200..300, _) => Ok(()),
            (status, body) => bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&body)),
        }
    }

    fn is_seen(&mut self, number: u32) -> Result<bool> {
        let path = format!("/api/9/http/keyvals/{PAIRS}?key={PROBE}");
        let (status, body) = self.last.request("GET", &path, "")?;
        let value = text(number);
        Ok(status == 200 && body.windows(value.len()).any(|window| window == value.as_bytes()))
    }
}
