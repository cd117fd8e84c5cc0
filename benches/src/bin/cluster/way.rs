//! A way between nodes that is long and loses packets, made in this process.
//!
//! *UDP*: each datagram arrives after the delay, or never. *TCP*: of what is read from a connection each 1,448 bytes are a segment. A segment that is lost arrives one round trip later, as after a fast
//! retransmission, and all bytes behind it wait for it. That is kind to TCP: a last segment would wait for a time-out, and its congestion control, which sees none of this, never slows
//! down. QUIC's does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::options::Transport;

/// Bytes of a segment of TCP.
const SEGMENT: usize = 1_448;
/// Pieces under way in one direction: 1 MiB of datagrams, 16 MiB of TCP.
const PIECES: usize = 1_024;
/// Bytes read at once.
const PIECE: usize = 16 << 10;

/// What is wrong with ways.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    /// The share of packets that is lost.
    pub(crate) share: f64,
    /// From one end to the other.
    pub(crate) delay: Duration,
}

/// A way to one node. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Way {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Way {
    /// To a node that listens at `to`.
    pub(crate) fn start(transport: Transport, to: SocketAddr, loss: Loss) -> Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("way.").enable_all().build()?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = runtime.block_on(async {
            if transport == Transport::Quic {
                let near = UdpSocket::bind(any).await?;
                let address = near.local_addr()?;
                tokio::spawn(datagrams(near, to, loss));
                return anyhow::Ok(address);
            }
            let listener = TcpListener::bind(any).await?;
            let address = listener.local_addr()?;
            tokio::spawn(connections(listener, to, loss));
            Ok(address)
        });
        Ok(Self { address: address.context("a way between nodes")?, _runtime: runtime })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn is_lost(loss: Loss) -> bool {
    rand::rng().random_bool(loss.share)
}

/// Nodes dial each other from a socket for each connection: whoever comes from another address has a way of its own.
async fn datagrams(near: UdpSocket, to: SocketAddr, loss: Loss) {
    let near = Arc::new(near);
    let mut ways = HashMap::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let Ok((length, client)) = near.recv_from(&mut buffer).await else { continue };
        let forth = ways.entry(client).or_insert_with(|| {
            let (forth, pieces) = mpsc::channel(PIECES);
            tokio::spawn(carry_datagrams(Arc::clone(&near), client, to, pieces, loss));
            forth
        });
        if !is_lost(loss) {
            // A queue that is full loses what comes, as that of a router.
            let _ = forth.try_send((Instant::now() + loss.delay, buffer[..length].to_vec()));
        }
    }
}

async fn carry_datagrams(
    near: Arc<UdpSocket>,
    client: SocketAddr,
    to: SocketAddr,
    mut forth: mpsc::Receiver<(Instant, Vec<u8>)>,
    loss: Loss,
) -> std::io::Result<()> {
    let far = UdpSocket::bind(("127.0.0.1", 0)).await?;
    far.connect(to).await?;
    let (back, mut backwards) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = far.recv(&mut buffer).await?;
            if !is_lost(loss) {
                let _ = back.try_send((Instant::now() + loss.delay, buffer[..length].to_vec()));
            }
        }
    };
    let write = async {
        while let Some((at, piece)) = forth.recv().await {
            sleep_until(at).await;
            far.send(&piece).await?;
        }
        Ok(())
    };
    let answer = async {
        while let Some((at, piece)) = backwards.recv().await {
            sleep_until(at).await;
            near.send_to(&piece, client).await?;
        }
        Ok(())
    };
    tokio::select! { end = read => end, end = write => end, end = answer => end }
}

async fn connections(listener: TcpListener, to: SocketAddr, loss: Loss) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            let far = TcpStream::connect(to).await?;
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::join!(carry(near_in, far_out, loss), carry(far_in, near_out, loss));
            std::io::Result::Ok(())
        });
    }
}

/// Carries one direction of a connection to its end.
async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    loss: Loss,
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async move {
        let mut buffer = vec![0; PIECE];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let lost = (0..length.div_ceil(SEGMENT)).any(|_| is_lost(loss));
            let delay = if lost { loss.delay * 3 } else { loss.delay };
            if sender.send((Instant::now() + delay, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((at, piece)) = pieces.recv().await {
            // In order: what comes behind a piece that was lost waits here.
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
