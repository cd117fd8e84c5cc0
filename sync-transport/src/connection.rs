//! An established connection: a direction for sending frames and one for receiving them.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use crate::framing::{Misframed, Splitter};
use crate::stream::Stream;
use crate::{Address, Error, Framing, TlsVersion};

/// Most frames handed to the operating system in one call. Linux takes 1,024; 64 small frames fill a
/// TLS record already, and the array stays on the stack (1 KiB).
const SLICES_MAX: usize = 64;
/// Time without a byte from, or without progress to, the peer, unless set otherwise. The default of `zone_sync_timeout`.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Room offered to one read unless set otherwise, bytes: four TLS records of the largest size.
const RECV_BUFFER_SIZE: usize = 64 << 10;

/// How frames go in and out of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// How frames are told apart, and how large they may be.
    pub framing: Framing,
    /// After how long without a byte from the peer [`FrameReceiver::recv`] gives up; default 5 s. `None`: never,
    /// for a direction in which silence is normal.
    pub idle_timeout: Option<Duration>,
    /// After how long without progress [`FrameSender::send`] and [`FrameSender::close`] give up; default 5 s.
    pub write_timeout: Duration,
    /// Room for one read, bytes; default 64 KiB. A connection holds about this much, plus the frame that is arriving,
    /// plus the frames handed out and still in use: they are slices of the same buffers.
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
    /// Where the peer is. A peer accepted on a Unix socket has no address of its own: it is the path listened on.
    pub address: Address,
    /// The names that the peer's certificate is for: DNS names, URIs and IP addresses; the common name if there are
    /// none. Empty without TLS and with `verify = false`, for then nobody has vouched for them.
    pub names: Vec<String>,
    /// The TLS session; `None` for plain text.
    pub tls: Option<TlsSession>,
}

/// What a TLS session uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSession {
    /// The version of the protocol.
    pub version: TlsVersion,
    /// The cipher suite, by its IANA name.
    pub cipher_suite: String,
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
}

/// A connection to a peer that is who it should be, ready for frames.
#[derive(Debug)]
pub struct Connection {
    sender: FrameSender,
    receiver: FrameReceiver,
}

/// What both directions share.
#[derive(Debug)]
struct Shared {
    peer: PeerIdentity,
    counters: Arc<Counters>,
    /// Counts against the listener's limit until both directions are gone.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    pub(crate) fn new(
        stream: Stream,
        peer: PeerIdentity,
        options: &ConnectionOptions,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let is_plain = matches!(stream, Stream::Plain(_));
        let (read, write) = tokio::io::split(stream);
        let shared = Arc::new(Shared { peer, counters: Arc::default(), _permit: permit });
        Self {
            sender: FrameSender {
                stream: write,
                shared: Arc::clone(&shared),
                write_timeout: options.write_timeout,
                is_interrupted: false,
            },
            receiver: FrameReceiver {
                stream: read,
                shared,
                splitter: Splitter::new(options.framing, options.recv_buffer_size),
                idle_timeout: options.idle_timeout,
                waiting_since: None,
                is_ended: false,
                may_be_tls: is_plain,
            },
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &PeerIdentity {
        &self.receiver.shared.peer
    }

    /// The figures of this connection; they can be read on after it is gone.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.receiver.shared.counters)
    }

    /// The two directions, for use in different tasks. The connection is closed when both are dropped.
    pub fn split(self) -> (FrameSender, FrameReceiver) {
        (self.sender, self.receiver)
    }
}

/// The sending direction of a connection.
///
/// Dropping it sends nothing; [`close`](Self::close) tells the peer that this was all.
#[derive(Debug)]
pub struct FrameSender {
    stream: WriteHalf<Stream>,
    shared: Arc<Shared>,
    write_timeout: Duration,
    /// A send has begun and not ended well, so the stream may end within a frame.
    is_interrupted: bool,
}

impl FrameSender {
    /// Who is at the other end.
    pub fn peer(&self) -> &PeerIdentity {
        &self.shared.peer
    }

    /// Sends frames, each with its length prefix in front already, in one go and in order.
    ///
    /// `Ok` means that they are on their way, not that they arrived: only the peer can say that.
    /// Not cancel safe: a send that is dropped half-way is the last one.
    ///
    /// # Errors
    /// [`Error::WriteTimeout`] if the peer takes nothing for the write time-out; [`Error::Reset`] if the connection is
    /// gone (the reason, if the peer gave one, is for [`FrameReceiver::recv`] to read);
    /// [`Error::SendInterrupted`] after an earlier error.
    pub async fn send(&mut self, frames: &[Bytes]) -> Result<(), Error> {
        if self.is_interrupted {
            return Err(Error::SendInterrupted { peer: self.shared.peer.address.clone() });
        }
        self.is_interrupted = true;
        self.write_all(frames).await?;
        self.progress(Step::Flush).await?;
        self.is_interrupted = false;
        self.shared.counters.frames_out.fetch_add(frames.len() as u64, Relaxed);
        Ok(())
    }

    async fn write_all(&mut self, mut frames: &[Bytes]) -> Result<(), Error> {
        let mut offset = 0;
        loop {
            while let [first, rest @ ..] = frames
                && first.len() == offset
            {
                (frames, offset) = (rest, 0);
            }
            let [first, rest @ ..] = frames else { return Ok(()) };
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            slices[0] = IoSlice::new(&first[offset..]);
            for (slice, frame) in slices[1..].iter_mut().zip(rest) {
                *slice = IoSlice::new(frame);
            }
            let count = frames.len().min(SLICES_MAX);
            let mut written = self.progress(Step::Write(&slices[..count])).await?;
            self.shared.counters.bytes_out.fetch_add(written as u64, Relaxed);
            while let [first, rest @ ..] = frames
                && written >= first.len() - offset
            {
                written -= first.len() - offset;
                (frames, offset) = (rest, 0);
            }
            offset += written;
        }
    }

    /// Tells the peer that nothing more will come, and waits until that is on its way.
    ///
    /// Its `recv` then returns `None`. It may go on sending: the other direction stays open.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn close(mut self) -> Result<(), Error> {
        self.progress(Step::Close).await?;
        Ok(())
    }

    /// One step of writing, within the write time-out.
    async fn progress(&mut self, step: Step<'_>) -> Result<usize, Error> {
        let io = async {
            match step {
                Step::Write(slices) => match self.stream.write_vectored(slices).await? {
                    0 => Err(std::io::ErrorKind::WriteZero.into()),
                    n => Ok(n),
                },
                Step::Flush => self.stream.flush().await.map(|()| 0),
                Step::Close => self.stream.shutdown().await.map(|()| 0),
            }
        };
        let peer = &self.shared.peer.address;
        match timeout(self.write_timeout, io).await {
            Ok(result) => result.map_err(|error| Error::from_io(peer, error)),
            Err(_) => Err(Error::WriteTimeout { peer: peer.clone(), after: self.write_timeout }),
        }
    }
}

/// What a sender waits for.
enum Step<'a> {
    Write(&'a [IoSlice<'a>]),
    Flush,
    Close,
}

/// The receiving direction of a connection.
#[derive(Debug)]
pub struct FrameReceiver {
    stream: ReadHalf<Stream>,
    shared: Arc<Shared>,
    splitter: Splitter,
    idle_timeout: Option<Duration>,
    /// Since when the peer is silent while we listen. Outlives a dropped `recv`, so that a caller who restarts it
    /// again and again (`select!` in a loop) still finds out.
    waiting_since: Option<Instant>,
    /// The peer has said that nothing more will come.
    is_ended: bool,
    /// Nothing has been received yet on a plain stream: a peer that mistakes it for a TLS port would show now.
    may_be_tls: bool,
}

impl FrameReceiver {
    /// Who is at the other end.
    pub fn peer(&self) -> &PeerIdentity {
        &self.shared.peer
    }

    /// The body of the next frame, without its length prefix; `None` when the peer has closed its direction at the end
    /// of a frame.
    ///
    /// The bytes are a slice of the read buffer, which lives as long as any of its slices: copy what is kept for long.
    /// Cancel safe: nothing is lost when the future is dropped.
    ///
    /// On plain TCP the death of a peer's process looks like a clean close; only TLS tells the two apart.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`] and [`Error::NotFrames`], before anything of the body is waited for;
    /// [`Error::FrameTruncated`], [`Error::TlsTruncated`], [`Error::Reset`] and [`Error::IdleTimeout`];
    /// on the dialing side also [`Error::RefusedByPeer`], if the peer did not like our certificate;
    /// [`Error::NotPlain`] if the peer speaks TLS and we do not.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(frame) = self.try_recv()? {
                return Ok(Some(frame));
            }
            if self.is_ended || self.read().await? == 0 {
                self.is_ended = true;
                return match self.splitter.pending().len() {
                    0 => Ok(None),
                    received => Err(Error::FrameTruncated { peer: self.address(), received }),
                };
            }
        }
    }

    /// The next frame if it has been read from the network already, without waiting. `None` does not mean that
    /// the peer is done.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`], [`Error::NotFrames`] and [`Error::NotPlain`].
    pub fn try_recv(&mut self) -> Result<Option<Bytes>, Error> {
        if self.may_be_tls {
            match TlsRecord::recognize(self.splitter.pending()) {
                TlsRecord::Yes => return Err(Error::NotPlain { peer: self.address() }),
                TlsRecord::Unknown => return Ok(None),
                TlsRecord::No => self.may_be_tls = false,
            }
        }
        match self.splitter.next() {
            Ok(frame) => {
                self.shared.counters.frames_in.fetch_add(u64::from(frame.is_some()), Relaxed);
                Ok(frame)
            }
            Err(Misframed::TooLarge { length }) => {
                let max_frame = self.splitter.max_frame();
                Err(Error::FrameTooLarge { peer: self.address(), length, max_frame })
            }
            Err(Misframed::BadLength) => Err(Error::NotFrames { peer: self.address() }),
        }
    }

    /// Reads what has arrived, within the idle time-out. 0 at the end of the stream.
    async fn read(&mut self) -> Result<usize, Error> {
        let read = self.stream.read_buf(self.splitter.room());
        let result = match self.idle_timeout {
            None => read.await,
            Some(after) => {
                let since = *self.waiting_since.get_or_insert_with(Instant::now);
                // An option too large to be a point in time means never.
                let deadline = since.checked_add(after);
                match deadline {
                    None => read.await,
                    Some(deadline) => timeout_at(deadline, read)
                        .await
                        .map_err(|_| Error::IdleTimeout { peer: self.shared.peer.address.clone(), after })?,
                }
            }
        };
        self.waiting_since = None;
        let received = result.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::TlsTruncated { peer: self.address() },
            _ => Error::from_io(&self.shared.peer.address, error),
        })?;
        self.shared.counters.bytes_in.fetch_add(received as u64, Relaxed);
        Ok(received)
    }

    fn address(&self) -> Address {
        self.shared.peer.address.clone()
    }
}

/// Whether a plain stream begins with TLS: a ClientHello from a peer that dials a TLS port, or the alert with which a TLS
/// port answers plain text.
#[derive(Debug, PartialEq, Eq)]
enum TlsRecord {
    Yes,
    No,
    /// So far it could be.
    Unknown,
}

impl TlsRecord {
    /// RFC 8446 §5.1: content type, version 3.x, two bytes of length; then, for type 22, a handshake of type 1 or 2,
    /// for type 21, an alert of two bytes and of level 1 or 2.
    fn recognize(bytes: &[u8]) -> Self {
        let expected: &[&[u8]] = match bytes.first() {
            None => return Self::Unknown,
            Some(22) => &[&[22], &[3], &[0, 1, 2, 3, 4], &[], &[], &[1, 2]],
            Some(21) => &[&[21], &[3], &[0, 1, 2, 3, 4], &[0], &[2], &[1, 2]],
            Some(_) => return Self::No,
        };
        let matches = |(byte, allowed): (&u8, &&[u8])| allowed.is_empty() || allowed.contains(byte);
        match bytes.iter().zip(expected).all(matches) {
            false => Self::No,
            true if bytes.len() < expected.len() => Self::Unknown,
            true => Self::Yes,
        }
    }
}

#[cfg(test)]
mod tests;
