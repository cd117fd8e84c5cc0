//! A link that this node dials: greet, send.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sync_proto::wire::refuse::Code;

use super::{End, Established};
use crate::membership::LinkId;
use crate::replication::outbound::{Event, Outbound};
use crate::replication::{Laned, Now, Shared};

/// Its life, from the moment the connection stands.
#[derive(Debug)]
pub(crate) struct Outgoing {
    shared: Arc<Shared>,
    link: LinkId,
    machine: Arc<Mutex<Outbound>>,
    /// A Hello must have come by then.
    hello_by: Duration,
}

impl Outgoing {
    pub(crate) fn new(shared: &Arc<Shared>, link: LinkId, now: Now) -> Self {
        Self {
            shared: Arc::clone(shared),
            link,
            machine: Arc::new(Mutex::new(Outbound::new(Arc::clone(shared), now))),
            hello_by: now.elapsed.saturating_add(shared.settings.greeting_timeout),
        }
    }

    pub(crate) fn machine(&self) -> &Arc<Mutex<Outbound>> {
        &self.machine
    }

    /// Takes the body of a frame; `None`: the peer has closed the connection.
    pub(crate) fn handle_frame(
        &mut self,
        now: Now,
        frame: Option<Bytes>,
    ) -> Result<Option<Established>, End> {
        let event = self.machine.lock().handle_frame(now, frame.ok_or_else(End::closed_by_peer)?)?;
        match event {
            Some(Event::Greeted) => self.greeted(now),
            Some(Event::Goodbye(reason)) => Err(End::Closed(reason)),
            None => Ok(None),
        }
    }

    fn greeted(&mut self, now: Now) -> Result<Option<Established>, End> {
        self.hello_by = Duration::MAX;
        // Not locked while membership is: whoever looks at all links locks the other way round.
        let Some(peer) = self.machine.lock().peer().map(Established::from) else { return Ok(None) };
        if !self.shared.membership.lock().handle_connected(self.link, peer.origin, &peer.name) {
            self.machine.lock().close("another address of yours is connected already");
            return Err(End::Closed(format!("{:?} is connected under another address already", peer.name)));
        }
        self.machine.lock().activate(now);
        Ok(Some(peer))
    }

    /// The next frame for the peer, on a lane that has room; `None` when there is nothing to send until the next input, publication or time-out. Ask
    /// [`poll_publish`](Self::poll_publish) then.
    pub(crate) fn poll_transmit(&self, now: Now, has_room: &dyn Fn(u32) -> bool) -> Option<Laned> {
        self.machine.lock().poll_transmit(now, has_room)
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) is to be called again when others have had their turn.
    pub(crate) fn is_scanning(&self) -> bool {
        self.machine.lock().is_scanning()
    }

    /// A zone to be published now, if any; then call [`poll_transmit`](Self::poll_transmit) again.
    pub(crate) fn poll_publish(&self) -> Option<usize> {
        self.machine.lock().poll_publish()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub(crate) fn poll_timeout(&self) -> Duration {
        self.hello_by.min(self.machine.lock().poll_timeout())
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&self, now: Now) -> Result<(), End> {
        if now.elapsed >= self.hello_by {
            return Err(End::no_hello(self.shared.settings.greeting_timeout));
        }
        self.machine.lock().handle_timeout(now);
        Ok(())
    }

    /// Ends the link in good order.
    pub(crate) fn close(&self, reason: &str) -> End {
        self.machine.lock().close(reason);
        End::Closed(reason.to_owned())
    }

    /// The frames that still go to the peer before the connection is closed.
    pub(crate) fn last_words(&self, now: Now, end: &End) -> Vec<Bytes> {
        // A machine that closes has control frames only.
        end.last_words(|| self.poll_transmit(now, &|_| true).map(|(_, frame)| frame))
    }

    /// A dialled link, or the attempt to dial it, has ended. False if the attempt before it ended in the same way: nobody needs to read that again.
    pub(crate) fn ended(shared: &Shared, now: Now, link: LinkId, end: &End) -> bool {
        let (code, error) = match end {
            End::Closed(_) => (None, None),
            End::Failed { code: Some(Code::Self_), .. } => (Some(Code::Self_), None),
            End::Failed { code, message, .. } => (*code, Some(message.clone())),
        };
        shared.membership.lock().handle_disconnected(now.elapsed, link, code, error)
    }
}
