//! The door's server: one task for each connection, which feeds a [`Session`] with what it reads, and writes its answers and what it teaches.

use super::hello::{Ended, Status};
use super::session::{Received, Session};
use super::wire::{CONTROL, control};
use super::{Haproxy, Inner};
use crate::Listener;
use crate::door::{Client, Connection};
use bytes::{Buf, BytesMut};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

/// Room that a read has at least.
const READ_MIN: usize = 16 << 10;
/// Bytes that are taught of one table before they are written.
const TEACH_MAX: usize = 32 << 10;
/// Nothing is read while so much waits to be written: a peer that does not listen is not answered without end.
const UNWRITTEN_MAX: usize = 1 << 20;
/// How long a peer may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// An HAProxy gives up a peer that it has not heard of for 5 s, and says something every 3 s itself.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// Between two looks at the zones: how late a change is told at the most, and what keeps looking cheap. With the time for each slot, a large zone takes a fiftieth of a processor.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_OF_SLOT: Duration = Duration::from_nanos(50);
/// How long a stop waits for connections to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

impl Haproxy {
    /// Serves HAProxies until `stop` is ready.
    pub async fn serve(self, listener: Listener, stop: impl Future<Output = ()>) {
        let inner = self.inner;
        let room = Arc::new(Semaphore::new(inner.connections));
        let (stopping, stopped) = watch::channel(false);
        let mut stop = pin!(stop);
        loop {
            let (mut stream, client) = tokio::select! {
                accepted = listener.next() => accepted,
                () = &mut stop => break,
            };
            let status = if !inner.access.read().allows(client.address) {
                Status::NotAllowed
            } else if let Ok(place) = Arc::clone(&room).try_acquire_owned() {
                let (inner, stopped) = (Arc::clone(&inner), stopped.clone());
                tokio::spawn(async move {
                    let _place = place;
                    let _counted = inner.door.counters().connection();
                    attend(&inner, stream, client, stopped).await;
                });
                continue;
            } else {
                Status::TryAgain
            };
            inner.door.counters().dropped_connection();
            debug!(%client, status = status as u16, "turned an HAProxy away");
            // A socket that nobody has written to takes so much at once.
            let _ = stream.write_all(status.line().as_bytes()).await;
        }
        drop(stopped);
        stopping.send_replace(true);
        let _ = timeout(STOP_TIMEOUT, stopping.closed()).await;
    }
}

/// Serves one HAProxy until it goes, or has to.
async fn attend(inner: &Inner, stream: Connection, client: Client, stopped: watch::Receiver<bool>) {
    let session = Session::new(Arc::clone(&inner.name), Arc::clone(&inner.roles));
    let (reader, writer) = tokio::io::split(stream);
    let mut talk = Talk {
        inner,
        reader,
        writer,
        client,
        session,
        input: BytesMut::new(),
        output: BytesMut::new(),
        replaced: None,
        heard: Instant::now(),
        wrote: Instant::now(),
    };
    let end = talk.go_on(stopped).await;
    let peer = talk.session.peer().map(str::to_owned);
    if let Some(peer) = &peer {
        inner.forget(peer, talk.replaced.as_mut());
    }
    match end {
        Ok(()) => debug!(%client, peer, "an HAProxy has gone"),
        Err(End::Peer(ended @ Ended::Misnamed(_))) => warn!(%client, "an HAProxy was turned away: {ended}"),
        Err(End::Peer(ended)) => {
            inner.door.counters().error();
            debug!(%client, peer, "a connection of an HAProxy was closed: {ended}");
        }
        Err(End::Connection(error)) => debug!(%client, peer, %error, "a connection of an HAProxy ended"),
    }
}

/// Why a conversation ended.
enum End {
    /// For what the peer said.
    Peer(Ended),
    Connection(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// A conversation and its socket.
struct Talk<'t> {
    inner: &'t Inner,
    reader: ReadHalf<Connection>,
    writer: WriteHalf<Connection>,
    client: Client,
    session: Session,
    input: BytesMut,
    output: BytesMut,
    /// Says when the same HAProxy has connected once more. `None` until it has said who it is.
    replaced: Option<oneshot::Receiver<()>>,
    heard: Instant,
    wrote: Instant,
}

impl Talk<'_> {
    async fn go_on(&mut self, mut stopped: watch::Receiver<bool>) -> Result<(), End> {
        let mut stopped = pin!(stopped.wait_for(|stopped| *stopped));
        let mut look_at = Instant::now();
        loop {
            if self.session.peer().is_some() && look_at <= Instant::now() {
                look_at = self.teach();
            }
            let silent_at = self.silent_at();
            let wake_at = if self.session.peer().is_some() { look_at.min(silent_at) } else { silent_at };
            self.input.reserve(READ_MIN);
            let replaced = async {
                match &mut self.replaced {
                    Some(replaced) => drop(replaced.await),
                    None => std::future::pending().await,
                }
            };
            let has_read = tokio::select! {
                read = self.reader.read_buf(&mut self.input), if self.output.len() < UNWRITTEN_MAX => {
                    if read? == 0 {
                        return Ok(());
                    }
                    true
                }
                written = self.writer.write_buf(&mut self.output), if !self.output.is_empty() => {
                    if written? == 0 {
                        return Err(io::Error::from(io::ErrorKind::WriteZero).into());
                    }
                    self.wrote = Instant::now();
                    false
                }
                _ = &mut stopped => return Ok(()),
                () = replaced => return Ok(()),
                () = sleep_until(wake_at) => false,
            };
            if has_read {
                self.heard = Instant::now();
                self.receive().await?;
            } else if silent_at <= Instant::now() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
        }
    }

    /// When the peer has been silent for too long.
    fn silent_at(&self) -> Instant {
        self.heard + if self.session.peer().is_some() { self.inner.timeout } else { HELLO_TIMEOUT }
    }

    /// Has the session take what was read. An error: nothing is taken from this peer any more.
    fn take(&mut self, answers: &mut Vec<u8>) -> io::Result<Result<Received, Ended>> {
        let Inner { door, access, .. } = self.inner;
        let changing = door.begin_change();
        if changing.is_none() || !access.read().allows(self.client.address) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(self.session.receive(&mut self.input, door.node().now(), answers))
    }

    async fn receive(&mut self) -> Result<(), End> {
        let mut answers = Vec::new();
        let was_known = self.session.peer().is_some();
        let counters = self.inner.door.counters();
        match self.take(&mut answers)? {
            Ok(received) => counters.answered(received.messages, received.errors),
            Err(ended) => {
                // What was asked before is not answered any more, and why is.
                self.output.extend_from_slice(&answers);
                while self.output.has_remaining() {
                    self.writer.write_buf(&mut self.output).await?;
                }
                let _ = self.writer.shutdown().await;
                return Err(End::Peer(ended));
            }
        }
        self.output.extend_from_slice(&answers);
        if let Some(peer) = self.session.peer().filter(|_| !was_known) {
            info!(client = %self.client, peer, "an HAProxy has connected");
            self.replaced = Some(self.inner.remember(peer));
        }
        Ok(())
    }

    /// Has the session teach, and answers when it is to be asked again.
    fn teach(&mut self) -> Instant {
        if self.output.len() >= TEACH_MAX {
            // Asked again as soon as something was written, which ends the wait.
            return Instant::now() + PAUSE;
        }
        let node = self.inner.door.node();
        let mut lesson = Vec::new();
        let is_through = self.session.teach(node.now(), node.is_ready(), &mut lesson, TEACH_MAX);
        self.output.extend_from_slice(&lesson);
        let now = Instant::now();
        if self.output.is_empty() && self.wrote + HEARTBEAT <= now {
            self.output.extend_from_slice(&[CONTROL, control::HEARTBEAT]);
        }
        if is_through { now + PAUSE + PAUSE_OF_SLOT * self.session.slots() as u32 } else { now }
    }
}
