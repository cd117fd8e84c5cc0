//! Discovery against a real DNS server: dnsmasq on loopback.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sync_transport::{Discovery, DiscoveryOptions, Server, TargetSet};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Long enough that running into it is a failure, even on a busy machine.
const NEVER: Duration = Duration::from_secs(60);

/// A dnsmasq that knows the names below `zone.test` and refuses all others.
struct Dns {
    address: SocketAddr,
    directory: TempDir,
    process: Option<Child>,
}

impl Dns {
    async fn start(hosts: &str) -> Self {
        let mut dns = Self { address: free_port(), directory: TempDir::new().unwrap(), process: None };
        dns.set_hosts(hosts);
        // Somebody else may take a port that was free a moment ago.
        while !dns.runs(&[]).await {
            dns.address = free_port();
        }
        dns
    }

    fn hosts(&self) -> std::path::PathBuf {
        self.directory.path().join("hosts")
    }

    fn set_hosts(&self, hosts: &str) {
        // In one step, so that dnsmasq never reads half of it.
        let new = self.directory.path().join("new");
        fs::write(&new, hosts).unwrap();
        fs::rename(new, self.hosts()).unwrap();
        if let Some(process) = &self.process {
            let status = Command::new("kill").args(["-HUP", &process.id().to_string()]).status().unwrap();
            assert!(status.success());
        }
    }

    /// Starts it anew. Where it listened before, somebody else may have got the port meanwhile, for a moment.
    async fn run(&mut self, more: &[&str]) {
        let running = async {
            while !self.runs(more).await {
                sleep(Duration::from_millis(100)).await;
            }
        };
        assert!(timeout(NEVER, running).await.is_ok(), "dnsmasq does not start with {more:?}");
    }

    /// Starts the process; false if it ends instead of listening.
    async fn runs(&mut self, more: &[&str]) -> bool {
        self.stop();
        let process = Command::new("dnsmasq")
            .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="])
            .args([
                "--listen-address=127.0.0.1",
                "--bind-interfaces",
                "--local=/zone.test/",
                "--local=/zone.test/",
                "--cache-size=0",
            ])
            .arg(format!("--port={}", self.address.port()))
            .arg(format!("--addn-hosts={}", self.hosts().display()))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = process.unwrap_or_else(|error| {
            panic!("cannot run dnsmasq ({error}): install it with `apt-get install dnsmasq-base`")
        });
        let process = self.process.insert(process);
        let listening = async {
            loop {
                if process.try_wait().unwrap().is_some() {
                    return false;
                }
                if tokio::net::TcpStream::connect(self.address).await.is_ok() {
                    return true;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(NEVER, listening).await.expect("dnsmasq does not listen")
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn options(&self) -> DiscoveryOptions {
        DiscoveryOptions {
            resolver: vec![self.address],
            valid: Some(Duration::from_secs(1)),
            ..DiscoveryOptions::default()
        }
    }

    fn follow(&self, texts: &[&str]) -> Discovery {
        Discovery::start(servers(texts), self.options())
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that is free for both UDP and TCP.
fn free_port() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = udp.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn servers(texts: &[&str]) -> Vec<Server> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn addresses(set: &TargetSet) -> Vec<String> {
    set.targets.iter().map(|target| target.address.to_string()).collect()
}

/// Waits until the set is as wanted.
async fn until(
    targets: &mut watch::Receiver<Arc<TargetSet>>,
    wanted: impl Fn(&TargetSet) -> bool,
) -> Arc<TargetSet> {
    let found = timeout(NEVER, targets.wait_for(|set| wanted(set))).await.map(|set| set.unwrap().clone());
    found.unwrap_or_else(|_| panic!("it stays at {:?}", targets.borrow()))
}

async fn until_addresses(targets: &mut watch::Receiver<Arc<TargetSet>>, wanted: &[&str]) -> Arc<TargetSet> {
    until(targets, |set| addresses(set) == wanted).await
}

#[tokio::test]
async fn a_name_gains_and_loses_addresses() {
    let dns = Dns::start("127.0.0.2 nodes.zone.test\n127.0.0.1 nodes.zone.test\n::1 nodes.zone.test\n").await;
    let discovery = dns.follow(&["nodes.zone.test:9000"]);
    let mut targets = discovery.targets();
    assert!(!targets.borrow().is_complete());
    let set = until_addresses(&mut targets, &["127.0.0.1:9000", "127.0.0.2:9000", "[::1]:9000"]).await;
    assert!(set.is_complete());
    assert!(set.targets.iter().all(|target| target.host == "nodes.zone.test"), "{set:?}");

    dns.set_hosts("127.0.0.2 nodes.zone.test\n127.0.0.3 nodes.zone.test\n");
    until_addresses(&mut targets, &["127.0.0.2:9000", "127.0.0.3:9000"]).await;

    // No such name: that is an answer.
    dns.set_hosts("");
    let set = until_addresses(&mut targets, &[]).await;
    assert!(set.is_complete() && set.servers[0].error.is_none(), "{set:?}");

    dns.set_hosts("127.0.0.4 nodes.zone.test\n");
    until_addresses(&mut targets, &["127.0.0.4:9000"]).await;
}

#[tokio::test]
async fn an_address_under_several_names_is_one_target() {
    let dns = Dns::start(
        "127.0.0.1 a.zone.test\n127.0.0.2 a.zone.test\n127.0.0.2 b.zone.test\n127.0.0.3 b.zone.test\n",
    )
    .await;
    let discovery =
        dns.follow(&["127.0.0.1:9000", "a.zone.test:9000", "b.zone.test:9000", "b.zone.test:9001"]);
    let wanted = ["127.0.0.1:9000", "127.0.0.2:9000", "127.0.0.3:9000", "127.0.0.2:9001", "127.0.0.3:9001"];
    let set = until_addresses(&mut discovery.targets(), &wanted).await;
    let hosts: Vec<_> = set.targets.iter().map(|target| target.host.as_str()).collect();
    assert_eq!(hosts, ["127.0.0.1", "a.zone.test", "b.zone.test", "b.zone.test", "b.zone.test"]);
}

#[tokio::test]
async fn srv_records_give_hosts_and_ports() {
    let mut dns = Dns::start("127.0.0.1 a.zone.test\n127.0.0.2 b.zone.test\n::1 b.zone.test\n").await;
    let service = "_sync._tcp.zone.test";
    dns.run(&[
        "--srv-host=_sync._tcp.zone.test,a.zone.test,9001,20,0",
        "--srv-host=_sync._tcp.zone.test,b.zone.test,9002,10,0",
    ])
    .await;
    let discovery = dns.follow(&[service]);
    let mut targets = discovery.targets();
    let set = until_addresses(&mut targets, &["127.0.0.2:9002", "[::1]:9002", "127.0.0.1:9001"]).await;
    assert_eq!(set.targets[0].host, "b.zone.test", "the host to verify is that of the record");
    assert_eq!(set.targets[0].server.to_string(), service);

    dns.run(&["--srv-host=_sync._tcp.zone.test,a.zone.test,9003"]).await;
    until_addresses(&mut targets, &["127.0.0.1:9003"]).await;
    dns.run(&[]).await;
    let set = until_addresses(&mut targets, &[]).await;
    assert!(set.is_complete(), "{set:?}");
}

#[tokio::test]
async fn a_resolver_that_is_down_takes_nobody_away() {
    let mut dns = Dns::start("127.0.0.1 nodes.zone.test\n::1 nodes.zone.test\n").await;
    let discovery = dns.follow(&["nodes.zone.test:9000"]);
    let mut targets = discovery.targets();
    let wanted = ["127.0.0.1:9000", "[::1]:9000"];
    until_addresses(&mut targets, &wanted).await;

    dns.stop();
    let set = until(&mut targets, |set| set.servers[0].error.is_some()).await;
    assert_eq!(addresses(&set), wanted);
    assert!(set.is_complete(), "once known, always known");

    dns.set_hosts("127.0.0.9 nodes.zone.test\n");
    dns.run(&[]).await;
    let set = until_addresses(&mut targets, &["127.0.0.9:9000"]).await;
    assert_eq!(set.servers[0].error, None);
}

#[tokio::test]
async fn a_refusal_of_the_resolver_is_not_an_answer() {
    let mut dns = Dns::start("127.0.0.1 nodes.zone.test\n").await;
    let discovery = dns.follow(&["nodes.zone.test:9000", "nodes.other.test:9000"]);
    let mut targets = discovery.targets();
    let set = until(&mut targets, |set| set.servers[1].error.is_some() && set.targets.len() == 1).await;
    let error = set.servers[1].error.as_deref().unwrap();
    assert!(error.contains("nodes.other.test") && error.contains("Query Refused"), "{error}");
    assert!(!set.servers[1].is_known && !set.is_complete());

    dns.run(&["--host-record=nodes.other.test,127.0.0.5"]).await;
    until(&mut targets, |set| addresses(set) == ["127.0.0.1:9000", "127.0.0.5:9000"]).await;
}

#[tokio::test]
async fn names_appear_when_the_resolver_does() {
    let mut dns = Dns::start("127.0.0.1 nodes.zone.test\n").await;
    dns.stop();
    let discovery = dns.follow(&["nodes.zone.test:9000", "127.0.0.7:9000"]);
    let mut targets = discovery.targets();
    let set = until(&mut targets, |set| set.servers[0].error.is_some()).await;
    assert_eq!(addresses(&set), ["127.0.0.7:9000"]);
    dns.run(&[]).await;
    until_addresses(&mut targets, &["127.0.0.1:9000", "127.0.0.7:9000"]).await;
}

#[tokio::test]
async fn the_next_resolver_is_asked_when_one_is_down_or_does_not_know() {
    let refusing = Dns::start("").await;
    let mut dns = Dns::start("").await;
    dns.run(&["--host-record=nodes.other.test,127.0.0.1", "--local=/other.test/"]).await;
    let resolver = vec![free_port(), refusing.address, dns.address];
    let options = DiscoveryOptions { resolver, ..DiscoveryOptions::default() };
    let discovery = Discovery::start(servers(&["nodes.other.test:9000"]), options);
    let set = until_addresses(&mut discovery.targets(), &["127.0.0.1:9000"]).await;
    assert_eq!(set.servers[0].error, None);
}

#[tokio::test]
async fn an_earlier_resolver_is_believed_that_there_is_no_such_name() {
    let (first, second) = (Dns::start("").await, Dns::start("127.0.0.1 nodes.zone.test\n").await);
    let resolver = vec![first.address, second.address];
    let options = DiscoveryOptions { resolver, ..DiscoveryOptions::default() };
    let discovery = Discovery::start(servers(&["nodes.zone.test:9000"]), options);
    let set = until(&mut discovery.targets(), TargetSet::is_complete).await;
    assert!(set.targets.is_empty(), "{set:?}");
}

#[tokio::test]
async fn without_resolve_the_first_addresses_stay() {
    let dns = Dns::start("").await;
    let once = Discovery::start(
        servers(&["nodes.zone.test:9000"]),
        DiscoveryOptions { resolve: false, ..dns.options() },
    );
    let followed = dns.follow(&["nodes.zone.test:9000"]);
    let (mut once_targets, mut targets) = (once.targets(), followed.targets());
    // Nothing yet is no answer to stay with.
    until(&mut once_targets, |set| set.servers[0].is_known).await;
    dns.set_hosts("127.0.0.1 nodes.zone.test\n");
    until_addresses(&mut once_targets, &["127.0.0.1:9000"]).await;
    dns.set_hosts("127.0.0.2 nodes.zone.test\n");
    until_addresses(&mut targets, &["127.0.0.2:9000"]).await;
    dns.set_hosts("127.0.0.3 nodes.zone.test\n");
    until_addresses(&mut targets, &["127.0.0.3:9000"]).await;
    assert_eq!(addresses(&once_targets.borrow()), ["127.0.0.1:9000"]);
}

#[tokio::test]
async fn servers_that_stay_keep_their_targets_over_a_change_of_the_list() {
    let mut dns = Dns::start("127.0.0.1 a.zone.test\n127.0.0.2 b.zone.test\n").await;
    let discovery = dns.follow(&["a.zone.test:9000", "b.zone.test:9000"]);
    let mut targets = discovery.targets();
    until_addresses(&mut targets, &["127.0.0.1:9000", "127.0.0.2:9000"]).await;

    dns.stop();
    let options = DiscoveryOptions { valid: Some(Duration::from_secs(2)), ..dns.options() };
    discovery.reconfigure(servers(&["127.0.0.9:9000", "b.zone.test:9000"]), options);
    let set = targets.borrow_and_update().clone();
    assert_eq!(addresses(&set), ["127.0.0.9:9000", "127.0.0.2:9000"]);
    // The lookups with the new options start from what was known, too.
    let set = until(&mut targets, |set| set.servers[1].error.is_some()).await;
    assert_eq!(addresses(&set), ["127.0.0.9:9000", "127.0.0.2:9000"]);
}

#[tokio::test]
async fn the_hosts_file_of_the_system_is_read() {
    let discovery = Discovery::start(servers(&["localhost:9000"]), DiscoveryOptions::default());
    let set = until(&mut discovery.targets(), |set| !set.targets.is_empty()).await;
    assert!(addresses(&set).iter().any(|address| address == "127.0.0.1:9000" || address == "[::1]:9000"));
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_udp_comes_over_tcp() {
    let hosts = |count: u8| (1..=count).map(|n| format!("127.0.1.{n} nodes.zone.test\n")).collect::<String>();
    let mut dns = Dns::start(&hosts(200)).await;
    // 200 addresses take 3 KiB: the server cuts them off, and says so.
    dns.run(&["--edns-packet-max=512"]).await;
    let discovery = dns.follow(&["nodes.zone.test:9000"]);
    let set = until(&mut discovery.targets(), |set| set.targets.len() == 200).await;
    assert_eq!(set.servers[0].error, None);
}

#[tokio::test]
async fn the_time_of_an_answer_counts_and_valid_bounds_it() {
    for (ttl, valid) in [("1", Duration::from_secs(3600)), ("3600", Duration::from_secs(1))] {
        let mut dns = Dns::start("127.0.0.1 nodes.zone.test\n").await;
        dns.run(&[&format!("--local-ttl={ttl}")]).await;
        let options = DiscoveryOptions { valid: Some(valid), ..dns.options() };
        let discovery = Discovery::start(servers(&["nodes.zone.test:9000"]), options);
        let mut targets = discovery.targets();
        until_addresses(&mut targets, &["127.0.0.1:9000"]).await;
        dns.set_hosts("127.0.0.2 nodes.zone.test\n");
        until_addresses(&mut targets, &["127.0.0.2:9000"]).await;
    }
}
