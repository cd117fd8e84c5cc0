//! Writing streams side by side: a lane that the peer does not read waits alone.

use std::collections::{BTreeMap, VecDeque};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use quinn::{ConnectionError, OpenUni, SendStream, WriteError};
use tokio::time::{Instant, timeout, timeout_at};

use super::{STREAM_WINDOW, code, explain};
use crate::{Address, Counters, Error};

/// Frames of this stream go before those of lanes.
const CONTROL_PRIORITY: i32 = 1;

/// The streams that we have opened.
#[derive(Debug)]
pub(crate) struct Writer {
    connection: quinn::Connection,
    control: SendStream,
    lanes: BTreeMap<u32, Lane>,
    /// When the peer last took something of a lane, or the first of them began to wait. Not for each lane: on a slow way that many share, the room for each comes seldom, an eighth of its
    /// window at a time, and that is no silence.
    taken_at: Instant,
    is_closed: bool,
}

#[derive(Debug)]
struct Lane {
    /// `None` until the peer lets us open it.
    stream: Option<SendStream>,
    queue: VecDeque<Bytes>,
}

impl Writer {
    /// Opens the stream of the control frames.
    pub(super) async fn open(connection: quinn::Connection) -> Result<Self, ConnectionError> {
        let control = connection.open_uni().await?;
        // Fails for a stream that is closed only.
        let _ = control.set_priority(CONTROL_PRIORITY);
        Ok(Self { connection, control, lanes: BTreeMap::new(), taken_at: Instant::now(), is_closed: false })
    }

    /// Writes control frames, each piece within the time.
    pub(crate) async fn send(
        &mut self,
        peer: &Address,
        counters: &Counters,
        frames: &[Bytes],
        after: Duration,
    ) -> Result<(), Error> {
        let mut frames = frames.to_vec();
        let mut rest = &mut frames[..];
        while !rest.is_empty() {
            let written = timeout(after, self.control.write_chunks(rest))
                .await
                .map_err(|_| Error::WriteTimeout { peer: peer.clone(), after })?
                .map_err(|error| explain::written(peer, &error))?;
            counters.sent(written.bytes);
            rest = &mut rest[written.chunks..];
        }
        Ok(())
    }

    /// Whether a lane has nothing that waits.
    pub(crate) fn has_room(&self, lane: u32) -> bool {
        self.lanes.get(&lane).is_none_or(|lane| lane.queue.is_empty())
    }

    /// Frames for a lane; [`room`](Self::room) writes them.
    pub(crate) fn push(&mut self, lane: u32, frames: &[Bytes]) {
        if self.waiting_since().is_none() {
            self.taken_at = Instant::now();
        }
        let lanes = self.lanes.len() as u64;
        let lane = self.lanes.entry(lane).or_insert_with(|| {
            // Or a lane with much under way would take the room of all.
            self.connection.set_send_window(u64::from(STREAM_WINDOW) * (lanes + 2));
            Lane { stream: None, queue: VecDeque::new() }
        });
        lane.queue.extend(frames.iter().filter(|frame| !frame.is_empty()).cloned());
    }

    /// Writes what waits in lanes until one has room again. Never resolves if none waits. Cancel safe.
    pub(crate) async fn room(
        &mut self,
        peer: &Address,
        counters: &Counters,
        after: Duration,
    ) -> Result<(), Error> {
        let connection = self.connection.clone();
        let mut open = pin!(connection.open_uni());
        while let Some(since) = self.waiting_since() {
            let write = std::future::poll_fn(|cx| self.poll_lanes(cx, open.as_mut(), &connection, counters));
            let written = match since.checked_add(after) {
                // An option too large to be a point in time means never.
                None => Ok(write.await),
                Some(deadline) => timeout_at(deadline, write).await,
            };
            match written {
                Ok(written) => return written.map_err(|error| explain::written(peer, &error)),
                // Something was taken meanwhile.
                Err(_) if self.waiting_since() != Some(since) => {}
                Err(_) => return Err(Error::WriteTimeout { peer: peer.clone(), after }),
            }
        }
        std::future::pending().await
    }

    /// Since when nothing was taken, if a lane waits.
    fn waiting_since(&self) -> Option<Instant> {
        self.lanes.values().any(|lane| !lane.queue.is_empty()).then_some(self.taken_at)
    }

    /// Ready when a lane has nothing that waits any more.
    fn poll_lanes<'a>(
        &mut self,
        cx: &mut Context<'_>,
        mut open: Pin<&mut OpenUni<'a>>,
        connection: &'a quinn::Connection,
        counters: &Counters,
    ) -> Poll<Result<(), WriteError>> {
        let mut has_room = false;
        for lane in self.lanes.values_mut().filter(|lane| !lane.queue.is_empty()) {
            if lane.stream.is_none() {
                match open.as_mut().poll(cx)? {
                    Poll::Pending => continue,
                    Poll::Ready(stream) => {
                        lane.stream = Some(stream);
                        open.set(connection.open_uni());
                    }
                }
            }
            has_room |= lane.poll(cx, counters, &mut self.taken_at)?.is_ready();
        }
        if has_room { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Writes what waits, ends all streams, and waits until the peer has them.
    pub(crate) async fn close(
        &mut self,
        peer: &Address,
        counters: &Counters,
        after: Duration,
    ) -> Result<(), Error> {
        while self.waiting_since().is_some() {
            self.room(peer, counters, after).await?;
        }
        let lanes = self.lanes.values_mut().filter_map(|lane| lane.stream.as_mut());
        let mut ends = Vec::new();
        for stream in lanes.chain([&mut self.control]) {
            // One that the peer has stopped reading is at its end too.
            let _ = stream.finish();
            ends.push(stream.stopped());
        }
        self.is_closed = true;
        let all = async {
            for end in ends {
                end.await.map_err(|error| explain::written(peer, &error.into()))?;
            }
            Ok(())
        };
        timeout(after, all).await.map_err(|_| Error::WriteTimeout { peer: peer.clone(), after })?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        // Or quinn would end the streams as if nothing were missing.
        for stream in
            self.lanes.values_mut().filter_map(|lane| lane.stream.as_mut()).chain([&mut self.control])
        {
            let _ = stream.reset(code::ABANDONED);
        }
    }
}

impl Lane {
    /// Writes until nothing waits.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        counters: &Counters,
        taken_at: &mut Instant,
    ) -> Poll<Result<(), WriteError>> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        while !self.queue.is_empty() {
            // quinn remembers whom to wake for the stream, not for this future.
            let written = match pin!(stream.write_chunks(self.queue.make_contiguous())).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(written) => written?,
            };
            counters.sent(written.bytes);
            *taken_at = Instant::now();
            self.queue.drain(..written.chunks);
        }
        Poll::Ready(Ok(()))
    }
}
