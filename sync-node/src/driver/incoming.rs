//! The task of a link that a peer dialled.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use sync_proto::wire::refuse::Code;
use sync_transport::{FrameReceiver, FrameSender, Incoming as Accepted};
use tokio::sync::watch;
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::{Hub, Machine, asked_to_close, finish, transmit};
use crate::link::{End, Incoming};

/// Frames applied between two acknowledgements at the most, when more are at hand.
const FRAMES_PER_ACKNOWLEDGEMENT: usize = 32;

/// Serves a connection from its handshake to its end.
pub(super) async fn run(hub: Arc<Hub>, accepted: Accepted) {
    let address = accepted.peer().to_string();
    let connection = accepted.handshake().await;
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
    let link = Incoming::new(&hub.shared, hub.now());
    let id = link.id();
    let closing = hub.register(id);
    hub.connected(id, &connection);
    let address = connection.peer().to_string();
    let (mut sender, mut receiver) = connection.split();
    let mut session = Session { hub: &hub, address, link };
    let Err(end) = session.run(&mut sender, &mut receiver, closing).await;
    finish(sender, &session.link.last_words(hub.now(), &end), async {
        while matches!(receiver.recv().await, Ok(Some(_))) {}
    })
    .await;
    let Session { address, link, .. } = session;
    let peer = link.machine().lock().peer().map_or_else(|| "unknown".to_owned(), |peer| peer.name.clone());
    let unlogged = hub.count_end(&end);
    match end {
        End::Closed(reason) => info!(peer = address, name = peer, reason, "link from peer closed"),
        End::Failed { code: Some(Code::Self_), .. } => debug!(peer = address, "this node dialled itself"),
        End::Failed { message, .. } => match unlogged {
            Some(0) => warn!(peer = address, name = peer, error = message, "link from peer failed"),
            Some(others) => {
                warn!(
                    peer = address,
                    name = peer,
                    error = message,
                    others,
                    "link from peer failed, as others before"
                );
            }
            None => debug!(peer = address, name = peer, error = message, "link from peer failed"),
        },
    }
    link.ended();
    hub.forget(id);
}

struct Session<'a> {
    hub: &'a Hub,
    /// With the name in its certificate.
    address: String,
    link: Incoming,
}

impl Session<'_> {
    async fn run(
        &mut self,
        sender: &mut FrameSender,
        receiver: &mut FrameReceiver,
        mut closing: watch::Receiver<Option<&'static str>>,
    ) -> Result<Infallible, End> {
        loop {
            while transmit(sender, |_| self.link.poll_transmit(self.hub.now()).map(|frame| (None, frame)))
                .await?
            {}
            let wake = self.hub.at(self.link.poll_timeout());
            tokio::select! {
                frame = receiver.recv() => {
                    let mut next = frame?;
                    for handled in 1.. {
                        if self.handle(next)? {
                            // Not before: nothing of a zone may come before the heartbeat that makes the link active.
                            receiver.open_lanes(self.hub.shared.zones.len() as u32);
                        }
                        if handled == FRAMES_PER_ACKNOWLEDGEMENT || self.link.is_urgent(self.hub.now()) {
                            break;
                        }
                        match receiver.try_recv()? {
                            Some(frame) => next = Some(frame),
                            None => break,
                        }
                    }
                }
                () = sleep_until(wake) => self.link.handle_timeout(self.hub.now())?,
                reason = asked_to_close(&mut closing) => return Err(self.link.close(reason)),
            }
        }
    }

    /// True if the link is established now.
    fn handle(&mut self, frame: Option<Bytes>) -> Result<bool, End> {
        let Some(peer) = self.link.handle_frame(self.hub.now(), frame)? else { return Ok(false) };
        self.hub.membership_changed.notify_one();
        for mismatch in &peer.mismatches {
            warn!(peer = peer.name, "{mismatch}");
        }
        info!(peer = self.address, name = peer.name, origin = %peer.origin, "link from peer established");
        self.hub.opened(self.link.id(), Machine::In(Arc::clone(self.link.machine())));
        Ok(true)
    }
}
