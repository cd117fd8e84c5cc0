//! The task of a link that this node dials: connect, greet, send.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use sync_proto::wire::refuse::Code;
use sync_transport::{Connection, FrameReceiver, FrameSender, Target};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::{End, Hub, LINGER, Machine, asked_to_close, finish, transmit};
use crate::membership::LinkId;
use crate::replication::outbound::{Event, Outbound};

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
            serve(&hub, link, &target, sender, receiver, closing).await
        }
        Err(end) => end,
    };
    let (code, error, reason) = match end {
        End::Closed(reason) => (None, None, reason),
        End::Failed { code: Some(Code::Self_), message, .. } => (Some(Code::Self_), None, message),
        End::Failed { code, message, .. } => (code, Some(message.clone()), message),
    };
    let failed = error.is_some();
    let is_news = hub.membership.lock().handle_disconnected(hub.now().elapsed, link, code, error);
    match (code, failed) {
        (Some(Code::Self_), _) => debug!(%target, "the target is this node itself"),
        (_, false) => info!(peer = %target, reason, "link to peer closed"),
        (_, true) if is_news => warn!(peer = %target, error = reason, "link to peer failed"),
        (_, true) => debug!(peer = %target, error = reason, "link to peer failed again"),
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
    let machine = Arc::new(Mutex::new(Outbound::new(Arc::clone(&hub.shared), hub.now())));
    // Reading has a task of its own, so that a write that waits for a slow peer never keeps its acknowledgements waiting.
    let (inbox, mut reader) = spawn_reader(receiver);
    let mut session = Session { hub, link, target, machine, inbox };
    let end = match session.run(&mut sender, &mut closing).await {
        Ok(end) | Err(end) => end,
    };
    finish(sender, &end, || session.machine.lock().poll_transmit(hub.now()), async {
        while matches!(session.inbox.recv().await, Some(Ok(Some(_)))) {}
    })
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
    link: LinkId,
    target: &'a Target,
    machine: Arc<Mutex<Outbound>>,
    inbox: Inbox,
}

impl Session<'_> {
    async fn run(
        &mut self,
        sender: &mut FrameSender,
        closing: &mut watch::Receiver<Option<&'static str>>,
    ) -> Result<End, End> {
        self.greet(sender).await?;
        let mut published = self.hub.published.subscribe();
        loop {
            // Marked seen before the log is read: a publication in between wakes the loop again.
            published.borrow_and_update();
            let has_sent = self.transmit(sender).await?;
            let publish = self.machine.lock().poll_publish();
            if let Some(zone) = publish {
                self.hub.publish(zone);
            }
            let wake = self.hub.at(self.machine.lock().poll_timeout());
            tokio::select! {
                // In this order: a stream that never pauses must not keep the others waiting.
                biased;
                reason = asked_to_close(closing) => {
                    self.machine.lock().close(reason);
                    return Ok(End::Closed(reason.to_owned()));
                }
                () = sleep_until(wake) => self.machine.lock().handle_timeout(self.hub.now()),
                frame = self.inbox.recv() => {
                    if let Some(end) = self.handle(frame.unwrap_or(Ok(None)))? {
                        return Ok(end);
                    }
                }
                () = std::future::ready(()), if has_sent || publish.is_some() => {}
                _ = published.changed() => {}
            }
        }
    }

    async fn transmit(&mut self, sender: &mut FrameSender) -> Result<bool, End> {
        match transmit(sender, || self.machine.lock().poll_transmit(self.hub.now())).await {
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
            match self.handle(frame) {
                Ok(None) => {}
                Ok(Some(end)) | Err(end) => return end,
            }
        }
        error.into()
    }

    async fn greet(&mut self, sender: &mut FrameSender) -> Result<(), End> {
        self.transmit(sender).await?;
        let Ok(frame) = timeout(self.hub.greeting_timeout, self.inbox.recv()).await else {
            return Err(End::failed(format!("it sent no Hello within {:?}", self.hub.greeting_timeout)));
        };
        if let Some(end) = self.handle(frame.unwrap_or(Ok(None)))? {
            return Err(end);
        }
        let (origin, name) = {
            let machine = self.machine.lock();
            let Some(peer) = machine.peer() else {
                return Err(End::failed("its first frame was not a Hello".to_owned()));
            };
            for mismatch in &peer.mismatches {
                warn!(peer = peer.name, "{mismatch}");
            }
            (peer.origin, peer.name.clone())
        };
        if !self.hub.membership.lock().handle_connected(self.link, origin, &name) {
            self.machine.lock().close("another address of yours is connected already");
            return Err(End::Closed(format!("{name:?} is connected under another address already")));
        }
        self.machine.lock().activate(self.hub.now());
        self.hub.opened(self.link, Machine::Out(Arc::clone(&self.machine)));
        let certificate = sender.peer().names.first();
        info!(peer = %self.target, certificate, name, %origin, "link to peer established");
        Ok(())
    }

    fn handle(&self, frame: Result<Option<Bytes>, sync_transport::Error>) -> Result<Option<End>, End> {
        let Some(body) = frame? else {
            return Err(End::failed("it closed the connection without a goodbye".to_owned()));
        };
        let event = self.machine.lock().handle_frame(self.hub.now(), body)?;
        self.hub.link_changed.notify_waiters();
        Ok(match event {
            Some(Event::Goodbye(reason)) => Some(End::Closed(reason)),
            Some(Event::Greeted) | None => None,
        })
    }
}
