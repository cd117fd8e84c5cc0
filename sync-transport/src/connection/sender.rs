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
use crate::stream::Stream;

/// Most frames handed to the operating system in one call. Linux takes 1,024; 64 small frames fill a
/// TLS record already, and the array stays on the stack (1 KiB).
const SLICES_MAX: usize = 64;

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
    pub(super) fn new(stream: WriteHalf<Stream>, shared: Arc<Shared>, options: &ConnectionOptions) -> Self {
        Self { stream, shared, write_timeout: options.write_timeout, is_interrupted: false }
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
