//! What a decision at the door for Envoy takes: `cargo run --release -p benches --bin envoy-door -- envoy`, with the path of an Envoy.
//!
//! Asked in turns, round by round: the door by a gRPC client; an Envoy that asks nobody; the same Envoy, where it asks the door before it answers; and that once more when
//! the node is gone. Clients send the next request when they have the answer to the last, so that with one of them it is the round trip that is measured, and with
//! more of them the machine's limit.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use benches::limit_zone_size;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use sync_node::envoy_rls::{EnvoyRls, Options, Rules};
use sync_node::{Listener, Node};
use sync_store::{LimitZone, Rate};
use sync_transport::Address;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::Instant;

const ROUNDS: usize = 9;
/// One round of one contender.
const ROUND: Duration = Duration::from_secs(1);
/// Requests at a time.
const CLIENTS: [usize; 2] = [1, 16];
/// A limit that nobody reaches.
const RULES: &str = "
domain: web
descriptors:
- key: remote_address
  rate_limit: {unit: second, requests_per_unit: 10000000}
";
/// More than a start of Envoy takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What Envoy adds to its answer if it was told of a limit.
const TOLD: &str = "x-ratelimit-remaining";

/// As much of Envoy's schema as the client needs.
#[derive(Clone, PartialEq, Message)]
struct RateLimitRequest {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<Descriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct RateLimitResponse {
    /// 1: it may pass.
    #[prost(int32, tag = "1")]
    overall_code: i32,
}

/// An Envoy of our own, which ends with this value.
struct Envoy {
    child: Child,
    plain: SocketAddr,
    limited: SocketAddr,
}

impl Envoy {
    fn start(program: &str, door: SocketAddr, folder: &std::path::Path) -> Result<Self> {
        let [plain, limited, app] = [free()?, free()?, free()?];
        let mut text = include_str!("envoy-door.yaml").to_owned();
        for (name, address) in [("PLAIN", plain), ("LIMITED", limited), ("APP", app), ("DOOR", door)] {
            text = text.replace(name, &address.port().to_string());
        }
        let file = folder.join("envoy.yaml");
        std::fs::write(&file, text)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).args(["--disable-hot-restart", "--concurrency", "1", "-l", "error"]);
        let child =
            command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {program}"))?;
        let mut envoy = Self { child, plain, limited };
        let begun = Instant::now();
        while [plain, limited, app].iter().any(|address| std::net::TcpStream::connect(address).is_err()) {
            if let Some(status) = envoy.child.try_wait()? {
                bail!("Envoy has ended: {status}");
            }
            ensure!(begun.elapsed() < PATIENCE, "Envoy does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(envoy)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of the loopback that is free now; if somebody else is quicker, Envoy says so and ends.
fn free() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A node with the door, in this process.
async fn door(folder: &std::path::Path, stop: oneshot::Receiver<()>) -> Result<(Node, SocketAddr)> {
    let node = Node::builder("bench")
        .plain_text()
        .limit(LimitZone::builder("req").size(limit_zone_size(1000)).rate(Rate::per_second(1)?))
        .start()
        .await?;
    let file = folder.join("rules.yaml");
    std::fs::write(&file, RULES)?;
    let options = Options { limit: "req".to_owned(), rules: Rules::load(&[file])?, ..Options::default() };
    let listener = Listener::bind(&"127.0.0.1:0".parse()?).await?;
    let Address::Tcp(address) = *listener.address() else { bail!("not TCP") };
    let stopped = async {
        // An error says that the sender is gone: the program ends.
        let _ = stop.await;
    };
    tokio::spawn(EnvoyRls::new(node.clone(), options)?.serve(listener, stopped));
    Ok((node, address))
}

/// Where requests go, and what an answer has to be.
#[derive(Clone, Copy)]
enum Target {
    Door(SocketAddr),
    Envoy { address: SocketAddr, is_told: bool },
}

/// What came of a contender with so many clients: one figure for each round.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
}

impl Figures {
    async fn run(&mut self, target: Target, clients: usize) -> Result<()> {
        let mut latencies = match target {
            Target::Door(address) => ask_door(address, clients).await?,
            Target::Envoy { address, is_told } => ask_envoy(address, clients, is_told).await?,
        };
        latencies.sort_unstable();
        let quantile = |share: f64| latencies[(latencies.len() as f64 * share) as usize].as_secs_f64() * 1e6;
        self.rate.push(latencies.len() as f64 / ROUND.as_secs_f64());
        self.p50_us.push(quantile(0.5));
        self.p99_us.push(quantile(0.99));
        Ok(())
    }
}

/// How long each answer took, of so many clients on one connection, as Envoy asks.
async fn ask_door(address: SocketAddr, clients: usize) -> Result<Vec<Duration>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let entry = Entry { key: "remote_address".to_owned(), value: "127.0.0.1".to_owned() };
    let request =
        RateLimitRequest { domain: "web".to_owned(), descriptors: vec![Descriptor { entries: vec![entry] }] };
    // Not compressed, and the length.
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(request.encoded_len())?);
    request.encode(&mut body)?;
    let body = body.freeze();
    let uri = format!("http://{address}/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
    all(clients, || {
        let (mut sender, body, uri) = (sender.clone(), body.clone(), uri.clone());
        async move {
            let mut round = Round::new();
            while let Some(asked) = round.next() {
                let request = Request::post(&uri).header("content-type", "application/grpc");
                let answer = sender.send_request(request.body(Full::new(body.clone()))?).await?;
                let mut message = answer.into_body().collect().await?.to_bytes();
                ensure!(message.remaining() > 5, "an error in place of an answer");
                message.advance(5);
                ensure!(RateLimitResponse::decode(message)?.overall_code == 1, "refused");
                round.latencies.push(asked.elapsed());
            }
            Ok(round.latencies)
        }
    })
    .await
}

/// How long each answer took, of so many clients with a connection of their own.
async fn ask_envoy(address: SocketAddr, clients: usize, is_told: bool) -> Result<Vec<Duration>> {
    all(clients, || async move {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut round = Round::new();
        while let Some(asked) = round.next() {
            sender.ready().await?;
            let request = Request::get("/").header("host", "web").body(Empty::<Bytes>::new())?;
            let answer = sender.send_request(request).await?;
            check(answer.status().as_u16(), answer.headers(), is_told)?;
            answer.into_body().collect().await?;
            round.latencies.push(asked.elapsed());
        }
        Ok(round.latencies)
    })
    .await
}

fn check(status: u16, headers: &HeaderMap, is_told: bool) -> Result<()> {
    ensure!(status == 200, "Envoy answered {status}");
    ensure!(headers.contains_key(TOLD) == is_told, "Envoy was told of a limit: {}", !is_told);
    Ok(())
}

/// Runs so many clients at a time.
async fn all<F>(clients: usize, client: impl Fn() -> F) -> Result<Vec<Duration>>
where
    F: Future<Output = Result<Vec<Duration>>> + Send + 'static,
{
    let running: Vec<_> = (0..clients).map(|_| tokio::spawn(client())).collect();
    let mut latencies = Vec::new();
    for client in running {
        latencies.extend(client.await??);
    }
    Ok(latencies)
}

/// One client's part of a round.
struct Round {
    begun: Instant,
    latencies: Vec<Duration>,
}

impl Round {
    fn new() -> Self {
        Self { begun: Instant::now(), latencies: Vec::new() }
    }

    /// When the next request begins; `None`: the round is over.
    fn next(&self) -> Option<Instant> {
        (self.begun.elapsed() < ROUND).then(Instant::now)
    }
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The contenders in turns, and a row of each; ratios to the first.
fn compare(runtime: &Runtime, contenders: &[(&str, Target)]) -> Result<()> {
    for clients in CLIENTS {
        let mut figures: Vec<Figures> = contenders.iter().map(|_| Figures::default()).collect();
        for round in 0..ROUNDS {
            // Who comes second finds the processor as the first has left it.
            for turn in 0..contenders.len() {
                let at = (turn + round) % contenders.len();
                runtime.block_on(figures[at].run(contenders[at].1, clients))?;
            }
        }
        for ((name, _), of) in contenders.iter().zip(&figures) {
            let ratio = |of: &[f64], first: &[f64]| {
                median(&of.iter().zip(first).map(|(of, first)| of / first).collect::<Vec<_>>())
            };
            println!(
                "| {name} | {clients} | {:.0} | {:.0} | {:.0} | {:.2} | {:.2} |",
                median(&of.rate),
                median(&of.p50_us),
                median(&of.p99_us),
                ratio(&of.p50_us, &figures[0].p50_us),
                ratio(&of.p99_us, &figures[0].p99_us),
            );
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let program = std::env::args().nth(1).context("usage: envoy-door PATH-OF-ENVOY")?;
    let folder = tempfile::tempdir()?;
    let (stop, stopped) = oneshot::channel();
    let nodes = Runtime::new()?;
    let (node, address) = nodes.block_on(door(folder.path(), stopped))?;
    let envoy = Envoy::start(&program, address, folder.path())?;
    let clients = Runtime::new()?;
    println!("{ROUNDS} rounds of {ROUND:?}; medians\n");
    println!("| asked | at a time | 1/s | p50, µs | p99, µs | p50, ratio | p99, ratio |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let plain = ("Envoy, which asks nobody", Target::Envoy { address: envoy.plain, is_told: false });
    let limited = |is_told| Target::Envoy { address: envoy.limited, is_told };
    compare(
        &clients,
        &[plain, ("Envoy, which asks the door", limited(true)), ("the door", Target::Door(address))],
    )?;
    // The door closes its connections; nobody listens any more.
    node.stop();
    let _ = stop.send(());
    nodes.shutdown_timeout(Duration::from_secs(10));
    compare(&clients, &[plain, ("Envoy, whose node is gone", limited(false))])
}
