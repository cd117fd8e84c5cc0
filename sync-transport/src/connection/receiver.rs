//! Receiving frames: whole, bounded, without copying.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::{Instant, timeout_at};

use super::{ConnectionOptions, PeerIdentity, Shared};
use crate::framing::{Misframed, Splitter};
#[cfg(feature = "quic")]
use crate::quic;
use crate::stream::Stream;
use crate::{Address, Error};

/// The receiving direction of a connection.
#[derive(Debug)]
pub struct FrameReceiver {
    input: Input,
    shared: Arc<Shared>,
    max_frame: usize,
    idle_timeout: Option<Duration>,
    /// Since when the peer is silent while we listen. Outlives a dropped `recv`, so that a caller who
    /// restarts it again and again (`select!` in a loop) still finds out.
    waiting_since: Option<Instant>,
    /// The peer has said that nothing more will come.
    is_ended: bool,
    /// Nothing has been received yet on a plain stream: a peer that mistakes it for a TLS port would
    /// show now.
    may_be_tls: bool,
}

/// What frames are read from.
#[derive(Debug)]
pub(super) enum Input {
    Stream {
        stream: ReadHalf<Stream>,
        splitter: Splitter,
    },
    #[cfg(feature = "quic")]
    Quic(quic::Reader),
}

impl FrameReceiver {
    pub(super) fn new(
        input: Input,
        shared: Arc<Shared>,
        options: &ConnectionOptions,
        is_plain: bool,
    ) -> Self {
        Self {
            input,
            shared,
            max_frame: options.framing.max_frame,
            idle_timeout: options.idle_timeout,
            waiting_since: None,
            is_ended: false,
            may_be_tls: is_plain,
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &PeerIdentity {
        &self.shared.peer
    }

    /// The body of the next frame, without its length prefix; `None` when the peer has closed its
    /// direction at the end of a frame.
    ///
    /// The bytes are a slice of the read buffer, which lives as long as any of its slices: copy what is
    /// kept for long. Cancel safe: nothing is lost when the future is dropped.
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
                let pending = match &self.input {
                    Input::Stream { splitter, .. } => splitter.pending().len(),
                    #[cfg(feature = "quic")]
                    Input::Quic(reader) => reader.pending(),
                };
                return match pending {
                    0 => Ok(None),
                    received => Err(Error::FrameTruncated { peer: self.address(), received }),
                };
            }
        }
    }

    /// The next frame if it has been read from the network already, without waiting. `None` does not
    /// mean that the peer is done.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`], [`Error::NotFrames`] and [`Error::NotPlain`].
    pub fn try_recv(&mut self) -> Result<Option<Bytes>, Error> {
        let frame = match &mut self.input {
            Input::Stream { splitter, .. } => {
                if self.may_be_tls {
                    match TlsRecord::recognize(splitter.pending()) {
                        TlsRecord::Yes => return Err(Error::NotPlain { peer: self.address() }),
                        TlsRecord::Unknown => return Ok(None),
                        TlsRecord::No => self.may_be_tls = false,
                    }
                }
                splitter.next()
            }
            #[cfg(feature = "quic")]
            Input::Quic(reader) => reader.next(),
        };
        match frame {
            Ok(frame) => {
                self.shared.counters.frames_in.fetch_add(u64::from(frame.is_some()), Relaxed);
                Ok(frame)
            }
            Err(Misframed::TooLarge { length }) => {
                Err(Error::FrameTooLarge { peer: self.address(), length, max_frame: self.max_frame })
            }
            Err(Misframed::BadLength) => Err(Error::NotFrames { peer: self.address() }),
        }
    }

    /// Reads what has arrived, within the idle time-out. 0 at the end of the stream.
    async fn read(&mut self) -> Result<usize, Error> {
        let read = self.input.read(&self.shared.peer.address);
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
        let received = result?;
        self.shared.counters.bytes_in.fetch_add(received as u64, Relaxed);
        Ok(received)
    }

    /// Lets the peer use so many [lanes](crate::FrameSender#lanes), once it is known who it is. Without lanes, where all frames have one order, there is
    /// nothing to do.
    #[cfg_attr(not(feature = "quic"), expect(unused_variables, reason = "no transport has lanes"))]
    pub fn open_lanes(&self, lanes: u32) {
        match &self.input {
            Input::Stream { .. } => {}
            #[cfg(feature = "quic")]
            Input::Quic(reader) => reader.open_lanes(lanes),
        }
    }

    fn address(&self) -> Address {
        self.shared.peer.address.clone()
    }
}

impl Input {
    /// Reads what has arrived; 0 at the end.
    async fn read(&mut self, peer: &Address) -> Result<usize, Error> {
        match self {
            Self::Stream { stream, splitter } => {
                stream.read_buf(splitter.room()).await.map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => Error::TlsTruncated { peer: peer.clone() },
                    _ => Error::from_io(peer, error),
                })
            }
            #[cfg(feature = "quic")]
            Self::Quic(reader) => reader.read(peer).await,
        }
    }
}

/// Whether a plain stream begins with TLS: a ClientHello from a peer that dials a TLS port, or the
/// alert with which a TLS port answers plain text.
#[derive(Debug, PartialEq, Eq)]
enum TlsRecord {
    Yes,
    No,
    /// So far it could be.
    Unknown,
}

impl TlsRecord {
    /// RFC 8446 §5.1: content type, version 3.x, two bytes of length; then, for type 22, a handshake of
    /// type 1 or 2, for type 21, an alert of two bytes and of level 1 or 2.
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
