//! A Pingora proxy that embeds a node: clients are blocked and limited, and sessions stick to their upstream, in the whole cluster.
//!
//! ```sh
//! example-pingora 127.0.0.1:8001 127.0.0.1:9001 --peer 127.0.0.1:9002 10.0.0.1:80 10.0.0.2:80
//! example-pingora 127.0.0.1:8002 127.0.0.1:9002 --peer 127.0.0.1:9001 10.0.0.1:80 10.0.0.2:80
//! ```
//!
//! Any node of the cluster says whom to block; a daemon, for example: `sync-node keyval set blocked 198.51.100.0/24 spam`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::prelude::*;
use sync_node::Node;
use sync_store::{Check, Delay, KeyvalZone, LimitZone, MatchBy, StickyZone};

/// The cookie that names a session.
const COOKIE: &str = "session";

struct Proxy {
    node: Node,
    blocked: Arc<KeyvalZone>,
    clients: Arc<LimitZone>,
    sessions: Arc<StickyZone>,
    upstreams: Vec<String>,
    next: AtomicUsize,
}

/// The session of a request, and whether the client has not heard of it yet.
#[derive(Default)]
struct Request {
    session: String,
    is_new: bool,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Request;

    fn new_ctx(&self) -> Request {
        Request::default()
    }

    async fn request_filter(&self, session: &mut Session, _: &mut Request) -> Result<bool> {
        let Some(client) = session.client_addr().and_then(|address| address.as_inet()) else {
            return Ok(false);
        };
        let (client, now) = (client.ip().to_string(), self.node.now());
        if self.blocked.lookup(&client, now).is_some() {
            session.respond_error(403).await?;
            return Ok(true);
        }
        let decision = self.clients.check(&client, &Check::default(), now);
        if decision.is_admitted() {
            return Ok(false);
        }
        let mut response = ResponseHeader::build(429, Some(2))?;
        if let Some(after) = decision.retry_after() {
            response.insert_header("retry-after", (after.as_secs() + 1).to_string())?;
        }
        response.insert_header("content-length", "0")?;
        session.write_response_header(Box::new(response), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, session: &mut Session, request: &mut Request) -> Result<Box<HttpPeer>> {
        let now = self.node.now();
        let known = cookie(session).and_then(|name| Some((self.sessions.lookup(&name, now)?, name)));
        let upstream = match known {
            // A server that is no longer in the list is not one.
            Some((server, name)) if self.upstreams.iter().any(|upstream| server == upstream.as_bytes()) => {
                request.session = name;
                String::from_utf8_lossy(&server).into_owned()
            }
            _ => {
                let next = self.next.fetch_add(1, Ordering::Relaxed) % self.upstreams.len();
                let upstream = self.upstreams[next].clone();
                *request = Request { session: format!("{:032x}", rand::random::<u128>()), is_new: true };
                // A full zone makes room; a failure costs this client its stickiness.
                let _ = self.sessions.learn(&request.session, &upstream, now);
                upstream
            }
        };
        Ok(Box::new(HttpPeer::new(upstream, false, String::new())))
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        request: &mut Request,
    ) -> Result<()> {
        if request.is_new {
            let value = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Lax", request.session);
            response.append_header("set-cookie", value)?;
        }
        Ok(())
    }
}

/// The value of our cookie.
fn cookie(session: &Session) -> Option<String> {
    let cookies = session.req_header().headers.get_all("cookie").iter();
    let mut pairs =
        cookies.filter_map(|cookies| cookies.to_str().ok()).flat_map(|cookies| cookies.split(';'));
    pairs.find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then(|| value.to_owned())
    })
}

fn main() -> anyhow::Result<()> {
    let usage = "usage: example-pingora ADDRESS NODE-ADDRESS [--peer ADDRESS]... UPSTREAM...";
    let mut words = std::env::args().skip(1);
    let (listen, address) = (words.next().context(usage)?, words.next().context(usage)?);
    let (mut peers, mut upstreams) = (Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--peer" => peers.push(words.next().context(usage)?.parse()?),
            _ => upstreams.push(word),
        }
    }
    anyhow::ensure!(!upstreams.is_empty(), usage);

    // The node has a runtime of its own: Pingora makes one for each of its services.
    let runtime = tokio::runtime::Runtime::new()?;
    let node = runtime.block_on(async {
        // Plain text is for one machine: `.tls(TlsOptions::new(…))` for more.
        let node = Node::builder(&address)
            .listen(address.parse()?)
            .servers(peers)
            .plain_text()
            .keyval(KeyvalZone::builder("blocked").size(1 << 20).match_by(MatchBy::Ip))
            .limit(
                LimitZone::builder("clients")
                    .size(1 << 20)
                    .rate("10r/m".parse()?)
                    .burst(9)
                    .delay(Delay::Nodelay),
            )
            .sticky(StickyZone::builder("sessions").size(1 << 20))
            .start()
            .await?;
        node.ready().await;
        anyhow::Ok(node)
    })?;
    let made = "a zone that was just made";
    let proxy = Proxy {
        blocked: node.keyval("blocked").context(made)?,
        clients: node.limit("clients").context(made)?,
        sessions: node.sticky("sessions").context(made)?,
        node,
        upstreams,
        next: AtomicUsize::new(0),
    };

    let mut server = Server::new(None)?;
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, proxy);
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever();
}
