//! The task of a link that this node dials.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use sync_proto::wire::refuse::Code;
use sync_transport::{Connection, FrameReceiver, FrameSender, Target};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use super::{Hub, LINGER, Machine, asked_to_close, finish, transmit};
use crate::link::{End, Outgoing};
use crate::membership::LinkId;

/// Frames from the peer that may wait: acknowledgements and requests, all small.
const INBOX: usize = 64;

type Inbox = mpsc::Receiver<Result<Option<Bytes>, sync_transport::Error>>;

/// Dials the target once and serves the link until it ends.
pub(super) async fn run(hub: Arc<Hub>, link: LinkId, target: Target) {
    let mut closing = hub.register(link);
    let end = match connect(&hub, &target, &mut closing).await {
        Ok(connection) => {
            hub.connected(link, &connection);
            let (sender, receiver) = connection.split();
            let end = serve(&hub, link, &target, sender, receiver, closing).await;
            // Logged when it is news.
            hub.count_end(&end);
            end
        }
        Err(end) => end,
    };
    let is_news = Outgoing::ended(&hub.shared, hub.now(), link, &end);
    match end {
        End::Closed(reason) => info!(peer = %target, reason, "link to peer closed"),
        End::Failed { code: Some(Code::Self_), .. } => debug!(%target, "the target is this node itself"),
        End::Failed { message, .. } if is_news => {
            warn!(peer = %target, error = message, "link to peer failed")
        }
        End::Failed { message, .. } => debug!(peer = %target, error = message, "link to peer failed again"),
    }
    hub.forget(link);
}

async fn connect(
    hub: &Hub,
    target: &Target,
    closing: &mut watch::Receiver<Option<&'static str>>,
) -> Result<Connection, End> {
    tokio::select! {
        connection = hub.connector.connect(target) => {
            hub.count_handshake(&connection);
            Ok(connection?)
        }
        reason = asked_to_close(closing) => Err(End::Closed(reason.to_owned())),
    }
}

async fn serve(
    hub: &Hub,
    link: LinkId,
    target: &Target,
    mut sender: FrameSender,
    receiver: FrameReceiver,
    mut closing: watch::Receiver<Option<&'static str>>,
) -> End {
    // Reading has a task of its own, so that a write that waits for a slow peer never keeps its acknowledgements waiting.
    let (inbox, mut reader) = spawn_reader(receiver);
    let certificate = sender.peer().names.first().cloned();
    let mut session = Session {
        hub,
        id: link,
        target,
        certificate,
        link: Outgoing::new(&hub.shared, link, hub.now()),
        inbox,
    };
    let Err(end) = session.run(&mut sender, &mut closing).await;
    let last_words = session.link.last_words(hub.now(), &end);
    finish(sender, &last_words, async { while matches!(session.inbox.recv().await, Some(Ok(Some(_)))) {} })
        .await;
    reader.shutdown().await;
    end
}

fn spawn_reader(mut receiver: FrameReceiver) -> (Inbox, JoinSet<()>) {
    let (sender, inbox) = mpsc::channel(INBOX);
    let mut reader = JoinSet::new();
    reader.spawn(async move {
        loop {
            let frame = receiver.recv().await;
            let last = !matches!(frame, Ok(Some(_)));
            if sender.send(frame).await.is_err() || last {
                return;
            }
        }
    });
    (inbox, reader)
}

/// A connected link.
struct Session<'a> {
    hub: &'a Hub,
    id: LinkId,
    target: &'a Target,
    /// The name in the peer's certificate.
    certificate: Option<String>,
    link: Outgoing,
    inbox: Inbox,
}

impl Session<'_> {
    async fn run(
        &mut self,
        sender: &mut FrameSender,
        closing: &mut watch::Receiver<Option<&'static str>>,
    ) -> Result<Infallible, End> {
        let mut published = self.hub.published.subscribe();
        loop {
            // Marked seen before the log is read: a publication in between wakes the loop again.
            published.borrow_and_update();
            let has_sent = self.transmit(sender).await?;
            let is_scanning = self.link.is_scanning();
            let publish = self.link.poll_publish();
            if let Some(zone) = publish {
                self.hub.publish(zone);
            }
            let wake = self.hub.at(self.link.poll_timeout());
            tokio::select! {
                // In this order: a stream that never pauses must not keep the others waiting.
                biased;
                reason = asked_to_close(closing) => return Err(self.link.close(reason)),
                () = sleep_until(wake) => self.link.handle_timeout(self.hub.now())?,
                frame = self.inbox.recv() => self.handle(frame.unwrap_or(Ok(None)))?,
                room = sender.room() => match room {
                    Ok(()) => {}
                    Err(error) => return Err(self.why_closed(error).await),
                },
                () = std::future::ready(()), if has_sent || publish.is_some() => {}
                () = yield_now(), if is_scanning => {}
                _ = published.changed() => {}
            }
        }
    }

    async fn transmit(&mut self, sender: &mut FrameSender) -> Result<bool, End> {
        match transmit(sender, |has_room| self.link.poll_transmit(self.hub.now(), has_room)).await {
            Ok(sent) => Ok(sent),
            Err(error) => Err(self.why_closed(error).await),
        }
    }

    /// A write fails because the peer has closed; what the peer said before, a refusal or a TLS alert, is the better reason.
    async fn why_closed(&mut self, error: sync_transport::Error) -> End {
        let deadline = Instant::now() + LINGER;
        while let Ok(Some(frame)) = timeout_at(deadline, self.inbox.recv()).await {
            if matches!(frame, Ok(None)) {
                break;
            }
            if let Err(end) = self.handle(frame) {
                return end;
            }
        }
        error.into()
    }

    fn handle(&mut self, frame: Result<Option<Bytes>, sync_transport::Error>) -> Result<(), End> {
        let established = self.link.handle_frame(self.hub.now(), frame?)?;
        self.hub.link_changed.notify_waiters();
        let Some(peer) = established else { return Ok(()) };
        for mismatch in &peer.mismatches {
            warn!(peer = peer.name, "{mismatch}");
        }
        info!(peer = %self.target, certificate = self.certificate, name = peer.name, origin = %peer.origin, "link to peer established");
        self.hub.opened(self.id, Machine::Out(Arc::clone(self.link.machine())));
        Ok(())
    }
}
