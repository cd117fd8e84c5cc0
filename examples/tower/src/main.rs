//! An axum server whose clients are limited for the whole cluster.
//!
//! ```sh
//! example-tower 127.0.0.1:8001 127.0.0.1:9001 127.0.0.1:9002   # its address, that of its node, its peers
//! example-tower 127.0.0.1:8002 127.0.0.1:9002 127.0.0.1:9001
//! ```

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::routing::get;
use example_tower::ClusterLimit;
use sync_node::Node;
use sync_store::{Delay, LimitZone};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let usage = "usage: example-tower ADDRESS NODE-ADDRESS [PEER]...";
    let (listen, node) = (words.next().context(usage)?, words.next().context(usage)?);
    let peers = words.map(|peer| peer.parse()).collect::<Result<Vec<_>, _>>()?;

    // Plain text is for one machine: `.tls(TlsOptions::new(…))` for more.
    let node = Node::builder(&node)
        .listen(node.parse()?)
        .servers(peers)
        .plain_text()
        .limit(
            LimitZone::builder("clients").size(1 << 20).rate("10r/m".parse()?).burst(9).delay(Delay::Nodelay),
        )
        .start()
        .await?;
    node.ready().await;
    let clients = node.limit("clients").context("a zone that was just made")?;

    let limit = ClusterLimit::new(clients, |request: &Request| {
        let ConnectInfo(client) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
        Some(client.ip().to_string())
    });
    let app = Router::new().route("/", get(|| async { "hello\n" })).layer(limit);
    let listener = tokio::net::TcpListener::bind(&listen).await.with_context(|| listen.clone())?;
    println!("listening on {listen}");
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
