//! One link between two nodes in one process over loopback: how many records a second a node can push, from the write to the
//! acknowledgement of the last one.

use std::time::Duration;

use benches::Certificates;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sync_node::Node;
use sync_store::{Expiry, KeyvalZone, Time};
use sync_transport::{Address, Pem, Server, TlsOptions};
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Records written per iteration.
const RECORDS: u32 = 50_000;

fn certificates() -> TlsOptions {
    let Certificates { authority, node, key } = Certificates::new();
    TlsOptions::new(Pem::memory(node), Pem::memory(key), Pem::memory(authority))
}

/// Two nodes that have joined.
async fn pair(tls: Option<TlsOptions>) -> [Node; 2] {
    let mut nodes = Vec::new();
    for name in ["a", "b"] {
        let listen: Address = "127.0.0.1:0".parse().expect("an address");
        let builder = Node::builder(name).listen(listen).keyval(KeyvalZone::builder("bench").size(64 << 20));
        let builder = match &tls {
            Some(options) => builder.tls(options.clone()),
            None => builder.plain_text(),
        };
        nodes.push(builder.start().await.expect("a node"));
    }
    let servers: Vec<_> = nodes.iter().map(|node| Server::Static(node.listening()[0].clone())).collect();
    for node in &nodes {
        node.set_servers(servers.clone());
    }
    for node in &nodes {
        while node.status().nodes_online == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        node.ready().await;
    }
    nodes.try_into().expect("two nodes")
}

/// Writes on one node and waits until the other has acknowledged everything.
fn push(nodes: &[Node; 2], round: u64) -> Duration {
    let zone = nodes[0].keyval("bench").expect("the zone");
    let value = [round as u8; 32];
    let start = Instant::now();
    let now: Time = nodes[0].now();
    for index in 0..RECORDS {
        zone.set(format!("key-{index:012}"), value, now, Expiry::Default).expect("room");
    }
    while nodes[0].status().zones["bench"].records_pending > 0 {
        std::thread::sleep(Duration::from_micros(100));
    }
    start.elapsed()
}

fn link(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = c.benchmark_group("link-push");
    group.throughput(Throughput::Elements(u64::from(RECORDS))).sample_size(10);
    for (name, tls) in [("tls", Some(certificates())), ("plain", None)] {
        let nodes = runtime.block_on(pair(tls));
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| (0..rounds).map(|round| push(&nodes, round)).sum());
        });
        nodes.iter().for_each(Node::stop);
    }
    group.finish();
}

criterion_group!(benches, link);
criterion_main!(benches);
