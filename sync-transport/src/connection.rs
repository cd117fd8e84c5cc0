//! An established connection: a direction for sending frames and one for receiving them.

mod receiver;
mod sender;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use receiver::Input;
use sender::Output;
use tokio_rustls::TlsStream;

pub use receiver::FrameReceiver;
pub use sender::FrameSender;

use crate::admission::Admitted;
use crate::framing::Splitter;
#[cfg(feature = "quic")]
use crate::quic;
use crate::stream::{Socket, Stream};
use crate::{Address, Framing, TlsVersion, Trust};

/// Time without a byte from, or without progress to, the peer, unless set otherwise. The default of
/// `zone_sync_timeout`.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Room offered to one read unless set otherwise, bytes: four TLS records of the largest size.
const RECV_BUFFER_SIZE: usize = 64 << 10;

/// How frames go in and out of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// How frames are told apart, and how large they may be.
    pub framing: Framing,
    /// After how long without a byte from the peer [`FrameReceiver::recv`] gives up; default 5 s.
    /// `None`: never, for a direction in which silence is normal.
    pub idle_timeout: Option<Duration>,
    /// After how long without progress [`FrameSender::send`] and [`FrameSender::close`] give up;
    /// default 5 s.
    pub write_timeout: Duration,
    /// Room for one read, bytes; default 64 KiB. A connection holds about this much, plus the frame
    /// that is arriving, plus the frames handed out and still in use: they are slices of the same
    /// buffers.
    pub recv_buffer_size: usize,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            framing: Framing::default(),
            idle_timeout: Some(IO_TIMEOUT),
            write_timeout: IO_TIMEOUT,
            recv_buffer_size: RECV_BUFFER_SIZE,
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Where the peer is. A peer accepted on a Unix socket has no address of its own: it is the path
    /// listened on.
    pub address: Address,
    /// The names that the peer's certificate is for: DNS names, URIs and IP addresses; the common name
    /// if there are none. Empty without TLS and with `verify = false`, for then nobody has vouched for
    /// them.
    pub names: Vec<String>,
    /// The TLS session; `None` for plain text.
    pub tls: Option<TlsSession>,
}

/// The address, and the first of the names that somebody vouches for: `10.0.0.1:9000 (edge-1)`.
impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        match self.names.first() {
            Some(name) => write!(f, " ({name})"),
            None => Ok(()),
        }
    }
}

/// What a TLS session uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSession {
    /// The version of the protocol.
    pub version: TlsVersion,
    /// The cipher suite, by its IANA name; `None` with QUIC, which does not tell.
    pub cipher_suite: Option<String>,
    /// The group in which keys were agreed on, such as `X25519MLKEM768`; `None` if the session was resumed
    /// without (TLS 1.2), and with QUIC, which does not tell.
    pub key_exchange: Option<String>,
    /// Whether an earlier session was resumed.
    pub is_resumed: bool,
}

/// Figures of one connection, to be read from anywhere at any time.
///
/// Bytes are those of frames and their prefixes, before encryption.
#[derive(Debug, Default)]
pub struct Counters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    frames_in: AtomicU64,
    frames_out: AtomicU64,
}

impl Counters {
    /// Bytes received.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    /// Bytes handed to the operating system or the TLS session.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Relaxed)
    }

    /// Frames received whole and handed out.
    pub fn frames_in(&self) -> u64 {
        self.frames_in.load(Relaxed)
    }

    /// Frames handed to the operating system or the TLS session whole.
    pub fn frames_out(&self) -> u64 {
        self.frames_out.load(Relaxed)
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }
}

/// A connection to a peer that is who it should be, ready for frames.
#[derive(Debug)]
pub struct Connection {
    sender: FrameSender,
    receiver: FrameReceiver,
    trust: Option<Trust>,
    shared: Arc<Shared>,
}

/// What both directions share.
#[derive(Debug)]
struct Shared {
    peer: PeerIdentity,
    counters: Arc<Counters>,
    /// Counts against the listener's limit until both directions are gone.
    _permit: Option<Admitted>,
}

impl Connection {
    /// Nobody has proved anything.
    pub(crate) fn plain(
        socket: Socket,
        peer: PeerIdentity,
        options: &ConnectionOptions,
        permit: Option<Admitted>,
    ) -> Self {
        Self::new(Stream::Plain(socket), peer, None, options, permit)
    }

    /// The handshake is done.
    pub(crate) fn secure(
        stream: TlsStream<Socket>,
        peer: PeerIdentity,
        trust: Trust,
        options: &ConnectionOptions,
        permit: Option<Admitted>,
    ) -> Self {
        Self::new(Stream::Tls(Box::new(stream)), peer, Some(trust), options, permit)
    }

    fn new(
        stream: Stream,
        peer: PeerIdentity,
        trust: Option<Trust>,
        options: &ConnectionOptions,
        permit: Option<Admitted>,
    ) -> Self {
        let is_plain = matches!(stream, Stream::Plain(_));
        let (read, write) = tokio::io::split(stream);
        let splitter = Splitter::new(options.framing, options.recv_buffer_size);
        let (output, input) = (Output::Stream(write), Input::Stream { stream: read, splitter });
        Self::of(output, input, is_plain, peer, trust, options, permit)
    }

    /// The handshake is done.
    #[cfg(feature = "quic")]
    pub(crate) fn quic(
        writer: quic::Writer,
        reader: quic::Reader,
        peer: PeerIdentity,
        trust: Trust,
        options: &ConnectionOptions,
        permit: Option<Admitted>,
    ) -> Self {
        Self::of(Output::Quic(writer), Input::Quic(reader), false, peer, Some(trust), options, permit)
    }

    fn of(
        output: Output,
        input: Input,
        is_plain: bool,
        peer: PeerIdentity,
        trust: Option<Trust>,
        options: &ConnectionOptions,
        permit: Option<Admitted>,
    ) -> Self {
        let shared = Arc::new(Shared { peer, counters: Arc::default(), _permit: permit });
        Self {
            sender: FrameSender::new(output, Arc::clone(&shared), options),
            receiver: FrameReceiver::new(input, Arc::clone(&shared), options, is_plain),
            trust,
            shared,
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &PeerIdentity {
        &self.shared.peer
    }

    /// What makes the peer trusted, to learn when it no longer is; `None` for plain text.
    pub fn trust(&self) -> Option<Trust> {
        self.trust.clone()
    }

    /// The figures of this connection; they can be read on after it is gone.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// The two directions, for use in different tasks. The connection is closed when both are dropped.
    pub fn split(self) -> (FrameSender, FrameReceiver) {
        (self.sender, self.receiver)
    }
}
