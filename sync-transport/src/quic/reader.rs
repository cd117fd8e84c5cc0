//! Reading streams side by side: each has a buffer of its own, and frames are taken from each in turn.

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use quinn::{ReadError, RecvStream, VarInt};
use tokio::io::AsyncReadExt;

use super::{CONTROL_STREAMS, explain};
use crate::framing::{Misframed, Splitter};
use crate::{Address, ConnectionOptions, Error, Framing};

/// The streams that the peer has opened.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: quinn::Connection,
    /// The first is that of the control frames; it stays here after its end.
    streams: Vec<Inflow>,
    /// Whose frame is next.
    turn: usize,
    framing: Framing,
    chunk: usize,
    idle_timeout: Option<Duration>,
}

#[derive(Debug)]
struct Inflow {
    /// `None` after its end.
    stream: Option<RecvStream>,
    splitter: Splitter,
}

impl Reader {
    pub(super) fn new(connection: quinn::Connection, options: &ConnectionOptions) -> Self {
        Self {
            connection,
            streams: Vec::new(),
            turn: 0,
            framing: options.framing,
            chunk: options.recv_buffer_size,
            idle_timeout: options.idle_timeout,
        }
    }

    /// Lets the peer use so many lanes.
    pub(crate) fn open_lanes(&self, lanes: u32) {
        self.connection
            .set_max_concurrent_uni_streams(VarInt::from_u32(CONTROL_STREAMS.saturating_add(lanes)));
    }

    /// A whole frame of the next stream that has one.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Misframed> {
        for _ in 0..self.streams.len() {
            self.turn = (self.turn + 1) % self.streams.len();
            if let Some(frame) = self.streams[self.turn].splitter.next()? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Bytes of a control frame that is not whole.
    pub(crate) fn pending(&self) -> usize {
        self.streams.first().map_or(0, |control| control.splitter.pending().len())
    }

    /// Reads what has arrived on any stream; 0 at the end of all. Cancel safe.
    pub(crate) async fn read(&mut self, peer: &Address) -> Result<usize, Error> {
        let connection = self.connection.clone();
        let mut accept = pin!(connection.accept_uni());
        std::future::poll_fn(|cx| {
            let mut lost = None;
            loop {
                match accept.as_mut().poll(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(stream)) => {
                        let splitter = Splitter::new(self.framing, self.chunk);
                        self.streams.push(Inflow { stream: Some(stream), splitter });
                        accept.set(connection.accept_uni());
                    }
                    Poll::Ready(Err(error)) => {
                        lost = Some(explain::lost(peer, &error, self.idle_timeout));
                        break;
                    }
                }
            }
            let received = self.poll_streams(cx, peer, &mut lost);
            match lost {
                _ if received > 0 => Poll::Ready(Ok(received)),
                _ if self.is_ended() => Poll::Ready(Ok(0)),
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Reads each stream once. What went wrong with one is kept until nothing more comes from the others: a last word may be among it.
    fn poll_streams(&mut self, cx: &mut Context<'_>, peer: &Address, lost: &mut Option<Error>) -> usize {
        let mut received = 0;
        for inflow in &mut self.streams {
            match inflow.poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(0)) => inflow.stream = None,
                Poll::Ready(Ok(count)) => received += count,
                Poll::Ready(Err(error)) => *lost = Some(explain::read(peer, &error, self.idle_timeout)),
            }
        }
        let mut place = 0;
        // One that ended within a frame stays, to be told of.
        self.streams.retain(|inflow| {
            place += 1;
            place == 1 || inflow.stream.is_some() || !inflow.splitter.pending().is_empty()
        });
        let cut = self.streams.iter().skip(1).find(|inflow| inflow.stream.is_none());
        if let Some(received) = cut.map(|inflow| inflow.splitter.pending().len()) {
            *lost = Some(Error::FrameTruncated { peer: peer.clone(), received });
        }
        received
    }

    /// The control frames have come to their end, and so has every lane that is known of.
    fn is_ended(&self) -> bool {
        matches!(&self.streams[..], [control] if control.stream.is_none())
    }
}

impl Inflow {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, ReadError>> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        // quinn remembers whom to wake for the stream, not for this future.
        pin!(stream.read_buf(self.splitter.room())).poll(cx).map_err(|error| {
            error.get_ref().and_then(|inner| inner.downcast_ref()).cloned().unwrap_or(ReadError::ClosedStream)
        })
    }
}
