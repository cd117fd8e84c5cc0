//! A network of its own on one machine: a namespace for each node, joined by a bridge whose links can be taken down.
//!
//! Each node has one address and two links. One leads over the bridge to its peers and suffers the faults; the other leads to
//! the namespace of the test alone, so that the API of a node that is cut off still answers. Needs root, and the command
//! `ip` (Debian: package iproute2). Packets of one direction are lost by a wrong hardware address for the receiver: neither
//! side is told, as in a network that fails.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Names of namespaces begin so, and go on with the id of the process that made them.
const PREFIX: &str = "zone-sync";
/// Where `ip` keeps them.
const FOLDER: &str = "/run/netns";
/// The address of the test in each namespace of a test.
const TEST: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
/// A hardware address that nobody has: locally administered.
const NOBODY: &str = "02:00:5e:00:53:ff";

/// Namespaces and links. Dropping it removes them.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    names: Vec<String>,
}

impl Network {
    /// Makes a network of these nodes, and moves the calling thread into it: the thread, and those it starts from now on, reach
    /// the nodes and nothing else.
    ///
    /// # Errors
    /// Where namespaces or links cannot be made: with the reason.
    pub fn enter(names: &[&str]) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_left_over();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}-{}-{number}", std::process::id());
        let network = Self { prefix, names: names.iter().map(|name| (*name).to_owned()).collect() };
        network.make().map_err(|why| format!("a network of namespaces cannot be made here: {why}"))?;
        Ok(network)
    }

    fn make(&self) -> Result<(), String> {
        let test = self.namespace("test");
        run("ip", &["netns", "add", &test])?;
        let in_test = |words: &str| run_in(&test, words);
        in_test("link set lo up")?;
        in_test(&format!("addr add {TEST}/32 dev lo"))?;
        in_test("link add bridge type bridge")?;
        in_test("link set bridge up")?;
        for name in &self.names {
            let (node, ip) = (self.namespace(name), self.ip(name));
            run("ip", &["netns", "add", &node])?;
            let in_node = |words: &str| run_in(&node, words);
            in_test(&format!("link add sync-{name} type veth peer name sync netns {node}"))?;
            in_test(&format!("link set sync-{name} master bridge up"))?;
            in_test(&format!("link add api-{name} type veth peer name api netns {node}"))?;
            in_test(&format!("link set api-{name} up"))?;
            in_test(&format!("route add {ip}/32 dev api-{name} src {TEST}"))?;
            for link in ["lo", "sync", "api"] {
                in_node(&format!("link set {link} up"))?;
            }
            in_node(&format!("addr add {ip}/32 dev lo"))?;
            in_node(&format!("route add 10.77.0.0/24 dev sync src {ip}"))?;
            in_node(&format!("route add {TEST}/32 dev api src {ip}"))?;
        }
        let file = File::open(self.file("test")).map_err(|e| e.to_string())?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|e| e.to_string())
    }

    /// The address of a node.
    ///
    /// # Panics
    /// If there is no node of that name.
    pub fn ip(&self, name: &str) -> Ipv4Addr {
        let index = self.names.iter().position(|node| node == name);
        let index = index.unwrap_or_else(|| panic!("no node {name}"));
        Ipv4Addr::new(10, 77, 0, u8::try_from(index + 1).expect("a handful of nodes"))
    }

    /// A command that starts another in the namespace of a node.
    pub fn launcher(&self, name: &str) -> Vec<String> {
        ["ip", "netns", "exec", &self.namespace(name)].map(str::to_owned).to_vec()
    }

    /// Takes the link between a node and its peers down.
    ///
    /// # Panics
    /// If that fails.
    pub fn down(&self, name: &str) {
        self.in_namespace("test", &format!("link set sync-{name} down"));
    }

    /// And up again.
    ///
    /// # Panics
    /// If that fails.
    pub fn up(&self, name: &str) {
        self.in_namespace("test", &format!("link set sync-{name} up"));
    }

    /// What `from` sends to `to` is lost from now on.
    ///
    /// # Panics
    /// If that fails.
    pub fn block(&self, from: &str, to: &str) {
        let ip = self.ip(to);
        self.in_namespace(from, &format!("neigh replace {ip} lladdr {NOBODY} dev sync nud permanent"));
    }

    /// Ends [`Network::block`].
    ///
    /// # Panics
    /// If that fails.
    pub fn unblock(&self, from: &str, to: &str) {
        self.in_namespace(from, &format!("neigh del {} dev sync", self.ip(to)));
    }

    /// Limits what a node sends to its peers, in kilobits a second. A queue of up to 400 ms builds up, and what does not fit into it is lost.
    ///
    /// # Panics
    /// If that fails.
    pub fn limit(&self, name: &str, kilobits: u32) {
        let node = self.namespace(name);
        let rate = format!("{kilobits}kbit");
        let words = ["qdisc", "replace", "dev", "sync", "root", "tbf", "rate", &rate];
        let words = [&["-n", &node], &words[..], &["burst", "8kb", "latency", "400ms"]].concat();
        run("tc", &words).unwrap_or_else(|e| panic!("{e}"));
    }

    fn in_namespace(&self, name: &str, words: &str) {
        run_in(&self.namespace(name), words).unwrap_or_else(|e| panic!("{e}"));
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(FOLDER).join(self.namespace(name))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.names.iter().map(String::as_str).chain(["test"]) {
            // Some may be missing, if making them failed.
            if self.file(name).exists() {
                let _ = run("ip", &["netns", "del", &self.namespace(name)]);
            }
        }
    }
}

/// Removes what test processes left that were killed.
fn remove_left_over() {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')?.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another process may be faster.
            let _ = run("ip", &["netns", "del", &name]);
        }
    }
}

fn run_in(namespace: &str, words: &str) -> Result<(), String> {
    let words: Vec<&str> = ["-n", namespace].into_iter().chain(words.split(' ')).collect();
    run("ip", &words)
}

fn run(command: &str, words: &[&str]) -> Result<(), String> {
    // Where Debian puts `ip` and `tc` is not on every user's path.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(command).args(words).env("PATH", path).output();
    let output = output.map_err(|e| format!("{command} {}: {e}", words.join(" ")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
