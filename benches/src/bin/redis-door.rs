//! The Redis door beside Redis: `cargo run --release -p benches --bin redis-door`, with redis-server and redis-benchmark of Debian.
//!
//! Both listen on a loopback port of their own and are asked in turns by the same redis-benchmark, round by round; a ratio is the median of the rounds'
//! ratios. Redis keeps nothing on disk. For `CL.THROTTLE` it runs a script that answers the same (`gcra.lua`).

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use benches::{limit_zone_size, zone_size};
use sync_node::api::Grants;
use sync_node::redis::{Options, Redis};
use sync_node::{Listener, Node};
use sync_store::{KeyvalZone, LimitZone, Rate};
use sync_transport::Address;

const KEYS: u32 = 100_000;
const VALUE: usize = 32;
const ROUNDS: usize = 7;
const CLIENTS: &str = "50";
/// Requests of one run: one to two seconds of either.
const REQUESTS: [(&str, &str); 2] = [("1", "60000"), ("16", "600000")];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A Redis of our own, which ends with this value.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Result<Self> {
        // Free a moment ago; if somebody else was quicker, Redis says so and ends.
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { child, port })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node with the door, in this process, on as many threads as there are processors.
async fn door() -> Result<(Node, u16)> {
    let node = Node::builder("bench")
        .plain_text()
        .keyval(KeyvalZone::builder("one").size(zone_size(KEYS, 16 + VALUE)).record_size(16 + VALUE))
        .limit(LimitZone::builder("req").size(limit_zone_size(KEYS)).rate(Rate::per_second(1)?))
        .start()
        .await?;
    let options = Options {
        databases: vec!["one".to_owned()],
        limit: Some("req".to_owned()),
        grants: Grants { write: true, decide: true, ..Grants::default() },
        ..Options::default()
    };
    let listener = Listener::bind(&"127.0.0.1:0".parse()?).await?;
    let Address::Tcp(address) = *listener.address() else { return Err("not TCP".into()) };
    tokio::spawn(Redis::new(node.clone(), options)?.serve(listener, std::future::pending()));
    Ok((node, address.port()))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !said.to_lowercase().contains("error") {
        return Ok(said);
    }
    Err(format!("{command:?}: {said} {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Requests a second by redis-benchmark.
fn rate(port: u16, (depth, requests): (&str, &str), command: &[&str]) -> Result<f64> {
    let said = output(
        Command::new("redis-benchmark")
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-c", CLIENTS, "-n", requests, "-P", depth])
            .args(["-r", &KEYS.to_string(), "--csv"])
            .args(command),
    )?;
    // "test","rps","avg_latency_ms",…
    let rate =
        said.lines().last().and_then(|line| line.split("\",\"").nth(1)).and_then(|rate| rate.parse().ok());
    rate.ok_or_else(|| format!("no rate in {said}").into())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn compare(redis: u16, door: u16) -> Result<()> {
    let cli = || {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &redis.to_string()]);
        command
    };
    let mut waited = Duration::ZERO;
    while output(cli().arg("ping")).is_err() {
        if waited >= Duration::from_secs(10) {
            return Err("redis-server does not answer".into());
        }
        std::thread::sleep(Duration::from_millis(50));
        waited += Duration::from_millis(50);
    }
    let script = output(cli().args(["script", "load", include_str!("gcra.lua")]))?;
    let value = "x".repeat(VALUE);
    let set = ["set", "key:__rand_int__", &value];
    let get = ["get", "key:__rand_int__"];
    let throttle = ["cl.throttle", "client:__rand_int__", "10", "100", "60"];
    let evaluate = ["evalsha", &script, "1", "client:__rand_int__", "10", "100", "60"];
    let version = output(cli().args(["info", "server"]))?;
    let version = version.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("?");
    println!(
        "Redis {version}, {CLIENTS} clients, {KEYS} keys, values of {VALUE} bytes, median of {ROUNDS} rounds\n"
    );
    println!("| command | pipelined | Redis, 1/s | door, 1/s | ratio | least, most |");
    println!("|---|--:|--:|--:|--:|--:|");
    for (name, theirs, ours) in [
        ("`SET`", &set[..], &set[..]),
        ("`GET`", &get, &get),
        ("`CL.THROTTLE`, in Redis a script", &evaluate, &throttle),
    ] {
        for requests in REQUESTS {
            let (mut redis_rates, mut door_rates) = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                // Who comes second finds the processor as the first has left it.
                let mut runs = [(redis, theirs, &mut redis_rates), (door, ours, &mut door_rates)];
                if round % 2 == 1 {
                    runs.reverse();
                }
                for (port, command, rates) in runs {
                    rates.push(rate(port, requests, command)?);
                }
            }
            let ratios = || door_rates.iter().zip(&redis_rates).map(|(door, redis)| door / redis);
            let (least, most) = (ratios().fold(f64::MAX, f64::min), ratios().fold(0.0, f64::max));
            println!(
                "| {name} | {} | {:.0} | {:.0} | **{:.2}** | {least:.2}, {most:.2} |",
                requests.0,
                median(redis_rates.clone()),
                median(door_rates.clone()),
                median(ratios().collect()),
            );
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let server = Server::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (node, door) = runtime.block_on(door())?;
    let compared = compare(server.port, door);
    node.stop();
    compared
}
