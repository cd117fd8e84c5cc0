//! The API's listener: HTTP/1 on TCP or a Unix socket, with a bound and a time-out for everything a client could have too much of.

use super::{Api, Client};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::fs::Permissions;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use sync_transport::Address;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tracing::{debug, warn};

/// Connections at a time; one more is closed at once and counted as dropped. Each costs up to [`HEAD_MAX`] and one body.
const CONNECTIONS_MAX: usize = 1024;
/// Bytes of a request's line and headers: NGINX's `large_client_header_buffers` (4 × 8k). Longer ones are answered 431.
const HEAD_MAX: usize = 32 << 10;
/// How long a client may take to send the head of its next request, the pause before it included: NGINX's `client_header_timeout`.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take to accept any part of an answer: NGINX's `send_timeout`.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a stop waits for requests that are under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept (no file descriptors left, usually), so that it does not become a busy loop. It doubles while that lasts:
/// each try is a line of the log.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause: how long clients wait at the most when the shortage ends.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Who may connect to a Unix socket: its owner and group.
const SOCKET_MODE: u32 = 0o660;

/// A socket that listens for clients of the API and answers nobody yet.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// Removes the file of a Unix socket when its listener goes.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If it stays, the next listener finds that nobody answers there.
        let _ = std::fs::remove_file(&self.0);
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Listener {
    /// Takes an address. A Unix socket replaces a file that a dead process left, and is open to its owner and group.
    ///
    /// # Errors
    ///
    /// What the system says: address in use, not available, no permission.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        let socket = match address {
            Address::Tcp(address) => Socket::Tcp(TcpListener::bind(address).await?),
            Address::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                let file = SocketFile(path.clone());
                std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
                Socket::Unix(listener, file)
            }
        };
        let address = match &socket {
            Socket::Tcp(listener) => Address::Tcp(listener.local_addr()?),
            Socket::Unix(_, file) => Address::Unix(file.0.clone()),
        };
        Ok(Self { socket, address })
    }

    /// Where it listens; with the port that was found if 0 was asked for.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Serves the API until `stop` is ready, and then gives requests that are under way a few seconds to end.
    pub async fn serve(self, api: Api, stop: impl Future<Output = ()>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let graceful = GracefulShutdown::new();
        let router = TowerToHyperService::new(api.router());
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX);
        let mut stop = std::pin::pin!(stop);
        let mut pause = ACCEPT_PAUSE;
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                () = &mut stop => break,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept a connection to the API");
                    sleep(pause).await;
                    pause = ACCEPT_PAUSE_MAX.min(pause * 2);
                    continue;
                }
            };
            pause = ACCEPT_PAUSE;
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                api.counters().dropped_connection();
                debug!(limit = CONNECTIONS_MAX, "closed a connection to the API: too many are open");
                continue;
            };
            let router = router.clone();
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(client);
                router.call(request)
            });
            let connection = http.serve_connection(TokioIo::new(Patient::new(stream)), service);
            let connection = graceful.watch(connection);
            let api = api.clone();
            tokio::spawn(async move {
                let _counted = api.counters().connection();
                let _place = place;
                if let Err(error) = connection.await {
                    debug!(%error, "a connection to the API ended");
                }
            });
        }
        if timeout(STOP_TIMEOUT, graceful.shutdown()).await.is_err() {
            debug!("requests to the API were cut short");
        }
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Client)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers are written whole; waiting to fill a segment would only delay them.
                stream.set_nodelay(true)?;
                let address: IpAddr = address.ip().to_canonical();
                Ok((Box::new(stream), Client::new(Some(address))))
            }
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), Client::new(None)))
            }
        }
    }
}

/// Removes a socket file on which nobody listens; anything else stays, and binding fails on it.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

/// A stream whose peer must take something of what is written within [`WRITE_TIMEOUT`]: an answer may be as large as a zone, and a
/// client that does not read it would keep it in memory for ever.
struct Patient<S> {
    stream: S,
    patience: Pin<Box<Sleep>>,
    stalled: bool,
}

impl<S> Patient<S> {
    fn new(stream: S) -> Self {
        Self { stream, patience: Box::pin(sleep(WRITE_TIMEOUT)), stalled: false }
    }

    /// Passes on what a write came to, or an error if it has come to nothing for too long.
    fn bound<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = false;
            return written;
        }
        if !self.stalled {
            self.stalled = true;
            self.patience.as_mut().reset(Instant::now() + WRITE_TIMEOUT);
        }
        ready!(self.patience.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bound(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.bound(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.bound(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
