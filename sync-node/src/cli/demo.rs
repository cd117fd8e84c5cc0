//! `demo`: a whole cluster in one process, to see what this is before configuring anything.
//!
//! Real nodes with certificates made a moment ago, mutual TLS over loopback, traffic on a zone of each kind, figures while it runs and
//! a summary at the end. It succeeds only if all nodes ended with the same content.

/// Prints a line. Nobody reading it (`demo | head`) is no reason to stop.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod report;
mod traffic;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use sync_node::api::{Api, Grants};
use sync_node::{Listener, Node, NodeBuilder};
use sync_store::{Clock, Delay, KeyvalZone, LimitZone, StickyZone, SystemClock};
use sync_transport::{Address, Pem, Server, TlsOptions};
use tokio::time::{Instant, interval, sleep, timeout};

use super::cert::{self, Pair};
use report::Report;
use traffic::Traffic;

/// The zones of the demo.
const KEYVAL: &str = "features";
const STICKY: &str = "sessions";
const LIMIT: &str = "requests";
/// Requests a second that the cluster as a whole admits for a key, and how many more at once.
const RATE: u64 = 100;
const BURST: u64 = 20;
/// How long nodes may take to find each other, and to become equal when traffic has stopped.
const PATIENCE: Duration = Duration::from_secs(15);
/// Where the nodes' APIs are, if these ports are free.
const API_PORT: u16 = 8080;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=16))]
    nodes: u16,
    /// How long traffic runs, such as 10s or 1m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = sync_node::config::parse_time)]
    duration: Duration,
    /// Leave the nodes and their APIs running afterwards, until Ctrl-C
    #[arg(long)]
    keep_running: bool,
}

pub(crate) fn main(demo: &Demo) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(demo))
}

async fn run(demo: &Demo) -> Result<()> {
    say!("Starting {} nodes with fresh certificates, mutual TLS on loopback…", demo.nodes);
    let nodes = Arc::new(start(demo.nodes).await?);
    for (index, node) in nodes.iter().enumerate() {
        let address = serve(node, API_PORT + index as u16).await?;
        say!("  {}  API http://{address}/api/9/  status http://{address}/v1/status", node.name());
    }
    joined(&nodes).await?;

    say!("All connected. Traffic on three zones for {:?}:", demo.duration);
    let traffic = Arc::new(Traffic::new(Arc::clone(&nodes)));
    let running = traffic.start();
    let started = Instant::now();
    let report = Report::new(Arc::clone(&nodes), Arc::clone(&traffic), RATE, BURST);
    let mut second = interval(Duration::from_secs(1));
    second.tick().await;
    while started.elapsed() < demo.duration {
        tokio::select! {
            _ = second.tick() => report.progress(started.elapsed()),
            () = sleep(demo.duration.saturating_sub(started.elapsed())) => {}
            interrupted = tokio::signal::ctrl_c() => { interrupted?; break; }
        }
    }
    running.stop().await;
    let elapsed = started.elapsed();

    let equal = timeout(PATIENCE, equal(&nodes)).await.is_ok();
    report.summary(elapsed, equal);
    if demo.keep_running {
        say!("\nThe nodes keep running; try the addresses above. Ctrl-C ends them.");
        tokio::signal::ctrl_c().await?;
    }
    for node in nodes.iter() {
        node.shutdown(Duration::from_secs(2)).await;
    }
    ensure!(equal, "the nodes did not become equal within {PATIENCE:?} after traffic had stopped");
    Ok(())
}

/// Starts the nodes, each told about all of them: a node that finds itself in the list stops dialling itself.
async fn start(count: u16) -> Result<Vec<Node>> {
    let ca = cert::make_ca(SystemClock.now(), 1)?;
    let mut nodes: Vec<Node> = Vec::new();
    for index in 0..count {
        let name = format!("node-{}", char::from(b'a' + index as u8));
        let node = builder(&name, &ca)?.start().await.with_context(|| format!("cannot start {name}"))?;
        nodes.push(node);
    }
    let servers: Vec<Server> =
        nodes.iter().filter_map(|node| Some(Server::Static(node.listening().first()?.clone()))).collect();
    for node in &nodes {
        node.set_servers(servers.clone());
    }
    Ok(nodes)
}

fn builder(name: &str, ca: &Pair) -> Result<NodeBuilder> {
    let pair = cert::make_node(ca, name, &[], SystemClock.now(), 1)?;
    let tls = TlsOptions::new(
        Pem::memory(pair.certificate),
        Pem::memory(pair.key),
        Pem::memory(ca.certificate.clone()),
    );
    let limit = LimitZone::builder(LIMIT).size(1 << 20).rate(sync_store::Rate::per_second(RATE)?);
    Ok(Node::builder(name)
        .cluster("demo")
        .listen(Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
        .tls(tls)
        .keyval(KeyvalZone::builder(KEYVAL).size(16 << 20))
        .sticky(StickyZone::builder(STICKY).size(16 << 20))
        .limit(limit.burst(BURST).delay(Delay::Nodelay)))
}

/// Serves the node's API on that port of loopback, or on a free one if it is taken.
async fn serve(node: &Node, port: u16) -> Result<Address> {
    let loopback = |port| Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let listener = match Listener::bind(&loopback(port)).await {
        Ok(listener) => listener,
        Err(_) => Listener::bind(&loopback(0)).await.context("no port of 127.0.0.1 is free for an API")?,
    };
    let address = listener.address().clone();
    let grants = Grants { write: true, decide: true, ..Grants::default() };
    // Until the process ends.
    tokio::spawn(Api::new(node.clone(), grants).serve(listener, std::future::pending()));
    Ok(address)
}

async fn joined(nodes: &[Node]) -> Result<()> {
    let all = async {
        for node in nodes {
            while node.status().nodes_online + 1 < nodes.len() as u64 {
                sleep(Duration::from_millis(10)).await;
            }
            node.ready().await;
        }
    };
    timeout(PATIENCE, all).await.context("the nodes did not find each other")
}

/// Resolves when all nodes have the same content in every zone. Limits are equal once all buckets have drained.
async fn equal(nodes: &[Node]) {
    let zones = [KEYVAL, STICKY, LIMIT];
    while !zones.iter().all(|zone| nodes.iter().all(|node| node.digest(zone) == nodes[0].digest(zone))) {
        sleep(Duration::from_millis(50)).await;
    }
}
