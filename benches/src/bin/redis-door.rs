//! The Redis door beside Redis: `cargo run --release -p benches --bin redis-door`, with redis-server and redis-benchmark of Debian; `-- get` for a part of it.
//!
//! Both listen on a loopback port of their own and are asked in turns by the same redis-benchmark, round by round; a ratio is the median of the rounds'
//! ratios. What a request costs of a processor is the better figure on a machine that does other things too. Redis keeps nothing on disk. For `CL.THROTTLE` it runs a script that answers the same (`gcra.lua`).

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
const ROUNDS: usize = 5;
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

/// Time on a processor that a process has had, in seconds; that of its children not included.
fn processor(pid: u32) -> Result<f64> {
    // proc_pid_stat(5): the 14th and 15th field, in hundredths of a second on all Linux that there is; the second field, in brackets, may contain anything.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').ok_or("no stat")?.1.split_whitespace().skip(14 - 3);
    let ticks: Vec<f64> = fields.take(2).map(str::parse).collect::<std::result::Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

/// One of the two, and what came of it.
struct Contender<'c> {
    pid: u32,
    port: u16,
    command: &'c [&'c str],
    rates: Vec<f64>,
    /// Microseconds of a processor for each request.
    costs: Vec<f64>,
}

impl<'c> Contender<'c> {
    fn new((pid, port): (u32, u16), command: &'c [&'c str]) -> Self {
        Self { pid, port, command, rates: Vec::new(), costs: Vec::new() }
    }

    fn run(&mut self, requests: (&str, &str)) -> Result<()> {
        let before = processor(self.pid)?;
        self.rates.push(rate(self.port, requests, self.command)?);
        self.costs.push((processor(self.pid)? - before) * 1e6 / requests.1.parse::<f64>()?);
        Ok(())
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn compare(redis: &Server, door: u16, wanted: &str) -> Result<()> {
    let cli = || {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &redis.port.to_string()]);
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
    println!(
        "| command | pipelined | Redis, 1/s | door, 1/s | ratio | least, most | Redis, µs of a processor | door |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for (name, theirs, ours) in [
        // What a request costs that asks for nothing: no other can be quicker.
        ("`PING`", &["ping"][..], &["ping"][..]),
        ("`SET`", &set[..], &set[..]),
        ("`GET`", &get, &get),
        ("`CL.THROTTLE`, in Redis a script", &evaluate, &throttle),
    ] {
        if !name.to_lowercase().contains(wanted) {
            continue;
        }
        for requests in REQUESTS {
            let mut redis = Contender::new((redis.child.id(), redis.port), theirs);
            let mut door = Contender::new((std::process::id(), door), ours);
            for round in 0..ROUNDS {
                // Who comes second finds the processor as the first has left it.
                let mut turns = [&mut redis, &mut door];
                turns.rotate_left(round % 2);
                for contender in turns {
                    contender.run(requests)?;
                }
            }
            let ratios: Vec<f64> =
                door.rates.iter().zip(&redis.rates).map(|(door, redis)| door / redis).collect();
            let (least, most) =
                (ratios.iter().copied().fold(f64::MAX, f64::min), ratios.iter().copied().fold(0.0, f64::max));
            let (redis_rate, door_rate) = (median(redis.rates), median(door.rates));
            let (redis_cost, door_cost) = (median(redis.costs), median(door.costs));
            println!(
                "| {name} | {} | {redis_rate:.0} | {door_rate:.0} | **{:.2}** | {least:.2}, {most:.2} | {redis_cost:.2} | {door_cost:.2} |",
                requests.0,
                median(ratios),
            );
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let wanted = std::env::args().nth(1).unwrap_or_default().to_lowercase();
    let server = Server::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (node, door) = runtime.block_on(door())?;
    let compared = compare(&server, door, &wanted);
    node.stop();
    compared
}
