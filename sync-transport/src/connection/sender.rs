//! Sending frames: many at once, and not waiting for ever.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::time::timeout;

use super::{ConnectionOptions, PeerIdentity, Shared};
use crate::Error;
#[cfg(feature = "quic")]
use crate::quic;
use crate::stream::Stream;

/// Most frames handed to the operating system in one call. Linux takes 1,024; 64 small frames fill a
/// TLS record already, and the array stays on the stack (1 KiB).
const SLICES_MAX: usize = 64;

/// The sending direction of a connection.
///
/// Dropping it sends nothing; [`close`](Self::close) tells the peer that this was all.
///
/// # Lanes
///
/// Beside the frames of [`send`](Self::send) there are *lanes*, which have numbers. With QUIC frames of different lanes may overtake each other, and a
/// lane that cannot go on holds nothing else up: [`has_room`](Self::has_room) says which lane takes frames, [`push`](Self::push) gives it some, and
/// [`room`](Self::room) writes them. The peer has to have [opened](crate::FrameReceiver::open_lanes) its lanes. All other transports
/// [have none](Self::has_lanes): there is one order, that of `send`.
#[derive(Debug)]
pub struct FrameSender {
    output: Output,
    shared: Arc<Shared>,
    write_timeout: Duration,
    /// A send has begun and not ended well, so the stream may end within a frame.
    is_interrupted: bool,
}

/// What frames are written to.
#[derive(Debug)]
pub(super) enum Output {
    Stream(WriteHalf<Stream>),
    #[cfg(feature = "quic")]
    Quic(quic::Writer),
}

impl FrameSender {
    pub(super) fn new(output: Output, shared: Arc<Shared>, options: &ConnectionOptions) -> Self {
        Self { output, shared, write_timeout: options.write_timeout, is_interrupted: false }
    }

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
    /// [`Error::WriteTimeout`] if the peer takes nothing for the write time-out; [`Error::Reset`] if
    /// the connection is gone (the reason, if the peer gave one, is for [`recv`](crate::FrameReceiver::recv) to
    /// read); [`Error::SendInterrupted`] after an earlier error.
    pub async fn send(&mut self, frames: &[Bytes]) -> Result<(), Error> {
        if self.is_interrupted {
            return Err(Error::SendInterrupted { peer: self.shared.peer.address.clone() });
        }
        self.is_interrupted = true;
        match &mut self.output {
            Output::Stream(stream) => {
                let mut progress = Progress { stream, shared: &self.shared, within: self.write_timeout };
                progress.write_all(frames).await?;
                progress.make(Step::Flush).await?;
            }
            #[cfg(feature = "quic")]
            Output::Quic(writer) => {
                let Shared { peer, counters, .. } = &*self.shared;
                writer.send(&peer.address, counters, frames, self.write_timeout).await?;
            }
        }
        self.is_interrupted = false;
        self.shared.counters.frames_out.fetch_add(frames.len() as u64, Relaxed);
        Ok(())
    }

    /// Whether frames of a lane may overtake others: with QUIC they may.
    pub fn has_lanes(&self) -> bool {
        !matches!(self.output, Output::Stream(_))
    }

    /// Whether a lane takes frames: nothing of it waits to be written. Never, if there are [no lanes](Self::has_lanes).
    #[cfg_attr(not(feature = "quic"), expect(unused_variables, reason = "no transport has lanes"))]
    pub fn has_room(&self, lane: u32) -> bool {
        match &self.output {
            Output::Stream(_) => false,
            #[cfg(feature = "quic")]
            Output::Quic(writer) => writer.has_room(lane),
        }
    }

    /// Gives frames, each with its length prefix in front already, to a lane that [has room](Self::has_room). [`room`](Self::room) writes them.
    #[cfg_attr(not(feature = "quic"), expect(unused_variables, reason = "no transport has lanes"))]
    pub fn push(&mut self, lane: u32, frames: &[Bytes]) {
        match &mut self.output {
            Output::Stream(_) => {}
            #[cfg(feature = "quic")]
            Output::Quic(writer) => {
                writer.push(lane, frames);
                self.shared.counters.frames_out.fetch_add(frames.len() as u64, Relaxed);
            }
        }
    }

    /// Writes what was [given](Self::push) to lanes until one of them has room again. Never resolves if nothing waits. Cancel safe.
    ///
    /// # Errors
    /// [`Error::WriteTimeout`] if the peer takes nothing of any lane for the write time-out, or opens none; [`Error::Reset`].
    pub async fn room(&mut self) -> Result<(), Error> {
        match &mut self.output {
            Output::Stream(_) => std::future::pending().await,
            #[cfg(feature = "quic")]
            Output::Quic(writer) => {
                let Shared { peer, counters, .. } = &*self.shared;
                writer.room(&peer.address, counters, self.write_timeout).await
            }
        }
    }

    /// Tells the peer that nothing more will come, and waits until that is on its way; with QUIC, until it has arrived.
    ///
    /// Its `recv` then returns `None`. It may go on sending: the other direction stays open.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn close(mut self) -> Result<(), Error> {
        match &mut self.output {
            Output::Stream(stream) => {
                let mut progress = Progress { stream, shared: &self.shared, within: self.write_timeout };
                progress.make(Step::Close).await.map(drop)
            }
            #[cfg(feature = "quic")]
            Output::Quic(writer) => {
                let Shared { peer, counters, .. } = &*self.shared;
                writer.close(&peer.address, counters, self.write_timeout).await
            }
        }
    }
}

/// Writing to a byte stream.
struct Progress<'a> {
    stream: &'a mut WriteHalf<Stream>,
    shared: &'a Shared,
    within: Duration,
}

impl Progress<'_> {
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
            let mut written = self.make(Step::Write(&slices[..count])).await?;
            self.shared.counters.sent(written);
            while let [first, rest @ ..] = frames
                && written >= first.len() - offset
            {
                written -= first.len() - offset;
                (frames, offset) = (rest, 0);
            }
            offset += written;
        }
    }

    /// One step of writing, within the write time-out.
    async fn make(&mut self, step: Step<'_>) -> Result<usize, Error> {
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
        match timeout(self.within, io).await {
            Ok(result) => result.map_err(|error| Error::from_io(peer, error)),
            Err(_) => Err(Error::WriteTimeout { peer: peer.clone(), after: self.within }),
        }
    }
}

/// What a sender waits for.
enum Step<'a> {
    Write(&'a [IoSlice<'a>]),
    Flush,
    Close,
}
