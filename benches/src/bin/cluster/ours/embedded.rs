//! A node in this process, with a thread of its own, as Redis has, so that its processor time can be told from others'.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use sync_node::Node;
use sync_store::{KeyvalZone, LimitZone, Prefault, Region, StickyZone};
use sync_transport::{Pem, Server, TlsOptions};
use tokio::runtime::{Builder, Runtime};

use super::{LIMITS, Member, PAIRS, RATE, Run, SESSIONS, Sizes};
use crate::contestant::Setup;
use crate::options::Transport;
use crate::process::Stopped;
use crate::usage;

#[derive(Debug)]
pub(super) struct Embedded {
    node: Node,
    /// What the names of its threads begin with.
    threads: String,
    runtime: Runtime,
}

impl Embedded {
    pub(super) fn start(setup: &Setup, number: u32, sizes: &Sizes) -> Result<Member> {
        // With a mark at its end, so that none begins like another.
        let threads = format!("node-{number}.");
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name(&threads).enable_all().build();
        let runtime = runtime.context("cannot start the thread of a node")?;
        let rate = RATE.parse().context("the rate")?;
        // As the daemon has it. The thread that does it has a name of its own: its time is not the node's.
        let region = || Region::anonymous().prefault(Prefault::Beside);
        let builder = Node::builder(format!("node-{number}"))
            .listen(setup.transport.address(&format!("{}:0", setup.here())).parse().context("the address")?)
            .keyval(KeyvalZone::builder(PAIRS).size(sizes.pairs).region(region()))
            .sticky(StickyZone::builder(SESSIONS).size(sizes.sessions).region(region()))
            .limit(LimitZone::builder(LIMITS).size(sizes.limits).rate(rate).region(region()));
        let pem = |text: &str| Pem::memory(text);
        let certificates = &setup.certificates;
        let builder = match setup.transport {
            Transport::Plain => builder.plain_text(),
            Transport::Tls | Transport::Quic => builder.tls(TlsOptions::new(
                pem(&certificates.node),
                pem(&certificates.key),
                pem(&certificates.authority),
            )),
        };
        let node = runtime.block_on(builder.start()).context("cannot start a node")?;
        let zone = "a zone of the builder";
        Ok(Member {
            pairs: node.keyval(PAIRS).context(zone)?,
            sessions: node.sticky(SESSIONS).context(zone)?,
            limits: node.limit(LIMITS).context(zone)?,
            run: Run::Embedded(Self { node, threads, runtime }),
        })
    }

    pub(super) fn address(&self) -> String {
        self.node.listening().first().map_or_else(String::new, ToString::to_string)
    }

    pub(super) fn set_peers(&self, addresses: &[String]) -> Result<()> {
        let servers: Result<Vec<Server>, _> = addresses.iter().map(|address| address.parse()).collect();
        self.node.set_servers(servers.context("the address of a node")?);
        Ok(())
    }

    pub(super) fn online(&self) -> Option<u64> {
        let status = self.node.status();
        status.ready.then_some(status.nodes_online)
    }

    pub(super) fn bytes_out(&self) -> u64 {
        self.node.status().bytes_out
    }

    /// Keeps all threads of the node busy with waiting.
    pub(super) fn stop(&self) -> Stopped {
        let go_on = Arc::new(AtomicBool::new(false));
        for _ in 0..self.runtime.metrics().num_workers() {
            let go_on = Arc::clone(&go_on);
            self.runtime.spawn(async move {
                while !go_on.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        Stopped::Threads(go_on)
    }

    pub(super) fn cpu(&self) -> Result<Duration> {
        usage::of_own_threads(&self.threads)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.node.stop();
    }
}
