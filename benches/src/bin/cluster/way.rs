//! A way between nodes that is long and loses packets: those of the kernel's TCP and of QUIC alike, with all that either does about it.
//!
//! This process moves into a network namespace of its own. Nodes listen there at [`HERE`], and know each other at [`THERE`], to which a TUN device leads. What comes out of that waits
//! for the delay, or is lost; then it goes back in with its two addresses exchanged, as if it were from `THERE` to `HERE`. Checksums stay right, for they are sums.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::Rng;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep_until};
use tokio_tun::Tun;

/// Where nodes listen.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Where they find each other.
pub(crate) const THERE: Ipv4Addr = benches::WAY;
/// The device. It is alone in its namespace.
const DEVICE: &str = "way";
/// Packets that wait at the most, on their way and in the queue of the kernel: 6 MB. As at a router, what comes while it is full is lost.
const PACKETS: usize = 4_096;
/// Bytes of a packet, as on an Ethernet.
const MTU: u16 = 1_500;
/// Where an IPv4 packet has its addresses (RFC 791 §3.1).
const ADDRESSES: std::ops::Range<usize> = 12..20;

/// What is wrong with ways.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    /// The share of packets that is lost.
    pub(crate) share: f64,
    /// From one end to the other.
    pub(crate) delay: Duration,
}

/// The way between all nodes. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Way {
    _runtime: Runtime,
}

impl Way {
    /// Moves the calling thread, and those that it starts from now on, to where the way is. TCP controls congestion by the algorithm of this name, or by the usual one.
    pub(crate) fn start(loss: Loss, congestion: Option<&str>) -> Result<Self> {
        enter().context("--loss and --delay need a network namespace: root, and the command ip")?;
        // What one connection has learned of the way is nothing that the next one should know.
        let settings = [("congestion_control", congestion), ("no_metrics_save", Some("1"))];
        for (name, value) in settings.iter().filter_map(|&(name, value)| Some((name, value?))) {
            let file = format!("/proc/sys/net/ipv4/tcp_{name}");
            fs::write(&file, value).with_context(|| format!("cannot write {value} to {file}"))?;
        }
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("way.").enable_all().build()?;
        let tun = runtime.block_on(async {
            let mask = Ipv4Addr::new(255, 255, 255, 0);
            let device = Tun::builder().name(DEVICE).mtu(MTU.into()).address(HERE).netmask(mask).up();
            anyhow::Ok(device.build()?.pop().context("no device")?)
        });
        runtime.spawn(carry(tun.context("--loss and --delay need a TUN device")?, loss));
        ip(&format!("link set {DEVICE} txqueuelen {PACKETS}"))?;
        Ok(Self { _runtime: runtime })
    }
}

/// Makes a namespace and moves into it. It goes with the last of who is in it.
fn enter() -> Result<()> {
    let name = format!("zone-sync-way-{}", std::process::id());
    ip(&format!("netns add {name}"))?;
    let entered = File::open(format!("/run/netns/{name}"))
        .and_then(|file| Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?));
    ip(&format!("netns del {name}"))?;
    entered?;
    ip("link set lo up")
}

fn ip(words: &str) -> Result<()> {
    // Where Debian puts it is not on every user's path.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("ip").args(words.split(' ')).env("PATH", path).output();
    let output = output.with_context(|| format!("ip {words}"))?;
    if !output.status.success() {
        bail!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

async fn carry(tun: Tun, loss: Loss) {
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = [0; MTU as usize];
    loop {
        let arrives_at = under_way.front().map_or_else(Instant::now, |&(at, _)| at);
        tokio::select! {
            biased;
            () = sleep_until(arrives_at), if !under_way.is_empty() => {
                while let Some((_, packet)) = under_way.pop_front_if(|(at, _)| *at <= Instant::now()) {
                    // A packet that the kernel does not want is lost, too.
                    let _ = tun.send(&packet).await;
                }
            }
            received = tun.recv(&mut buffer) => {
                let Ok(packet) = received.map(|length| &mut buffer[..length]) else { continue };
                let is_ipv4 = packet.first().is_some_and(|byte| byte >> 4 == 4) && packet.len() >= ADDRESSES.end;
                if is_ipv4 && under_way.len() < PACKETS && !rand::rng().random_bool(loss.share) {
                    packet[ADDRESSES].rotate_left(4);
                    under_way.push_back((Instant::now() + loss.delay, packet.to_vec()));
                }
            }
        }
    }
}
