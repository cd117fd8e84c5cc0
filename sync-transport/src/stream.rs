//! One type for the byte streams that frames travel on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Duration, timeout};
use tokio_rustls::TlsStream;

/// How long a refused peer is listened to, so that it reads why before the connection goes.
const LINGER: Duration = Duration::from_secs(1);
/// How much of what a refused peer still sends is swallowed, bytes.
const LINGER_BYTES_MAX: usize = 256 << 10;
/// How much the kernel may hold of one connection beyond what is on its way, bytes (`TCP_NOTSENT_LOWAT`, tcp(7)). Its own bound is a buffer that grows to
/// megabytes, and it asks for more only when a third of that is free: on a slow path fresh frames would wait behind all of it, and a peer
/// that takes little would look like one that takes nothing.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOT_SENT_MAX: u32 = 128 << 10;

/// A connection of the operating system.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a connection speaks on its socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    /// Boxed, since a TLS session is some kilobytes.
    Tls(Box<TlsStream<Socket>>),
}

impl Socket {
    /// A connected socket, set up for frames. One that does not let itself be set up is closed already, as reading will tell, or is slower.
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        // Frames are gathered before they are sent; the kernel has nothing to add to that.
        let _ = stream.set_nodelay(true);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT_MAX);
        Self::Tcp(stream)
    }

    /// Closes the connection after an alert has been written, in a way that lets the peer read it.
    ///
    /// Closing a socket with unread data resets the connection, and the reset may overtake the alert.
    /// So: end our direction, then swallow what the peer had under way until it hangs up, within
    /// bounds.
    pub(crate) async fn linger(mut self) {
        let swallow = async {
            self.shutdown().await?;
            let mut scrap = [0; 4096];
            let mut swallowed = 0;
            while swallowed < LINGER_BYTES_MAX {
                match self.read(&mut scrap).await? {
                    0 => break,
                    n => swallowed += n,
                }
            }
            io::Result::Ok(())
        };
        // Nobody is left to tell how this ended: the refusal itself is already on its way.
        let _ = timeout(LINGER, swallow).await;
    }
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr, $($variant:path),+) => {
        match $self.get_mut() { $($variant($stream) => $call,)+ }
    };
}

macro_rules! delegate_io {
    ($type:ty, $($variant:path),+) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                each!(self, stream => Pin::new(stream).poll_read(cx, buf), $($variant),+)
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                each!(self, stream => Pin::new(stream).poll_write(cx, buf), $($variant),+)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs), $($variant),+)
            }

            /// All of them take several slices at once.
            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self, stream => Pin::new(stream).poll_flush(cx), $($variant),+)
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self, stream => Pin::new(stream).poll_shutdown(cx), $($variant),+)
            }
        }
    };
}

delegate_io!(Socket, Self::Tcp, Self::Unix);
delegate_io!(Stream, Self::Plain, Self::Tls);
