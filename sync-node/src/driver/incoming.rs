//! The task of a link that a peer dialled: greet, apply, acknowledge.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use sync_proto::wire::refuse::Code;
use sync_transport::{FrameReceiver, FrameSender, Incoming};
use tokio::time::{sleep_until, timeout};
use tracing::{debug, info, warn};

use super::{End, Hub, Machine, asked_to_close, finish, transmit};
use crate::membership::LinkId;
use crate::replication::LinkError;
use crate::replication::inbound::{Event, Inbound};

/// Frames applied between two acknowledgements at the most, when more are at hand.
const FRAMES_PER_ACKNOWLEDGEMENT: usize = 32;

/// Serves a connection from its handshake to its end.
pub(super) async fn run(hub: Arc<Hub>, incoming: Incoming) {
    let address = incoming.peer().to_string();
    let connection = incoming.handshake().await;
    let unlogged = hub.count_handshake(&connection);
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => {
            match unlogged {
                Some(0) => warn!(peer = address, %error, "connection refused"),
                Some(others) => warn!(peer = address, %error, others, "connection refused, as others before"),
                None => debug!(peer = address, %error, "connection refused"),
            }
            return;
        }
    };
    let link = hub.membership.lock().link_id();
    let closing = hub.register(link);
    hub.connected(link, &connection);
    let address = connection.peer().to_string();
    let (mut sender, mut receiver) = connection.split();
    let machine = Arc::new(Mutex::new(Inbound::new(Arc::clone(&hub.shared), link)));
    let session = Session { hub: &hub, link, address, machine };
    let end = match session.run(&mut sender, &mut receiver, closing).await {
        Ok(end) | Err(end) => end,
    };
    finish(sender, &end, || session.machine.lock().poll_transmit(), async {
        while matches!(receiver.recv().await, Ok(Some(_))) {}
    })
    .await;
    let peer = session.machine.lock().peer().map_or_else(|| "unknown".to_owned(), |peer| peer.name.clone());
    match end {
        End::Closed(reason) => info!(peer = session.address, name = peer, reason, "link from peer closed"),
        End::Failed { code: Some(Code::Self_), .. } => {
            debug!(peer = session.address, "this node dialled itself")
        }
        End::Failed { message, .. } => {
            warn!(peer = session.address, name = peer, error = message, "link from peer failed");
        }
    }
    hub.membership.lock().handle_closed(link);
    hub.forget(link);
}

struct Session<'a> {
    hub: &'a Hub,
    link: LinkId,
    /// With the name in its certificate.
    address: String,
    machine: Arc<Mutex<Inbound>>,
}

impl Session<'_> {
    async fn run(
        &self,
        sender: &mut FrameSender,
        receiver: &mut FrameReceiver,
        mut closing: tokio::sync::watch::Receiver<Option<&'static str>>,
    ) -> Result<End, End> {
        let Ok(hello) = timeout(self.hub.greeting_timeout, receiver.recv()).await else {
            return Err(End::failed(format!("it sent no Hello within {:?}", self.hub.greeting_timeout)));
        };
        if let Some(end) = self.handle(hello?)? {
            return Ok(end);
        }
        loop {
            while transmit(sender, || self.machine.lock().poll_transmit()).await? {}
            let wake = self.hub.at(self.machine.lock().poll_timeout());
            tokio::select! {
                frame = receiver.recv() => {
                    let mut next = frame?;
                    for handled in 1.. {
                        if let Some(end) = self.handle(next)? {
                            return Ok(end);
                        }
                        if handled == FRAMES_PER_ACKNOWLEDGEMENT {
                            break;
                        }
                        match receiver.try_recv()? {
                            Some(frame) => next = Some(frame),
                            None => break,
                        }
                    }
                }
                () = sleep_until(wake) => self.machine.lock().handle_timeout(self.hub.now()),
                reason = asked_to_close(&mut closing) => {
                    self.machine.lock().close(reason);
                    return Ok(End::Closed(reason.to_owned()));
                }
            }
        }
    }

    fn handle(&self, frame: Option<Bytes>) -> Result<Option<End>, End> {
        let Some(body) = frame else {
            return Err(End::failed("it closed the connection without a goodbye".to_owned()));
        };
        let event = self.machine.lock().handle_frame(self.hub.now(), body)?;
        match event {
            Some(Event::Activated) => self.activated()?,
            Some(Event::Joined) => self.hub.membership.lock().handle_joined(self.link),
            Some(Event::Goodbye(reason)) => return Ok(Some(End::Closed(reason))),
            Some(Event::Greeted) | None => {}
        }
        Ok(None)
    }

    fn activated(&self) -> Result<(), LinkError> {
        let (origin, name, mismatches) = {
            let machine = self.machine.lock();
            let Some(peer) = machine.peer() else { return Ok(()) };
            (peer.origin, peer.name.clone(), peer.mismatches.clone())
        };
        let accepted = self.hub.membership.lock().handle_accepted(self.link, origin, &name);
        self.hub.membership_changed.notify_one();
        accepted.map_err(|(code, message)| LinkError::Refused { code, message: message.to_owned() })?;
        for mismatch in &mismatches {
            warn!(peer = name, "{mismatch}");
        }
        info!(peer = self.address, name, %origin, "link from peer established");
        self.hub.opened(self.link, Machine::In(Arc::clone(&self.machine)));
        Ok(())
    }
}
