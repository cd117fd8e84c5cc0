//! The socket of a door: TCP, or a Unix socket.

use super::{Client, Connection, Patient};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use sync_transport::Address;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time::sleep;
use tracing::warn;

/// Pause after a failed accept (no file descriptors left, usually), so that it does not become a busy loop. It doubles while that lasts:
/// each try is a line of the log.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause: how long clients wait at the most when the shortage ends.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Who may connect to a Unix socket: its owner and group.
const SOCKET_MODE: u32 = 0o660;

/// A socket that listens for clients of a door and answers nobody yet.
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

/// What a connection runs over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
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
            // The configuration takes none for a door.
            Address::Quic(_) => return Err(io::ErrorKind::Unsupported.into()),
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

    /// The next client. What keeps it from coming is logged and waited out.
    pub(crate) async fn next(&self) -> (Connection, Client) {
        let mut pause = ACCEPT_PAUSE;
        loop {
            match self.accept().await {
                Ok((stream, client)) => return (Patient::new(stream), client),
                Err(error) => {
                    warn!(%error, address = %self.address, "cannot accept a connection");
                    sleep(pause).await;
                    pause = ACCEPT_PAUSE_MAX.min(pause * 2);
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Client)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers are written whole; waiting to fill a segment would only delay them.
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Client::new(Some(address.ip().to_canonical()))))
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
