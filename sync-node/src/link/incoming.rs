//! A link that a peer dialled: greet, apply, acknowledge.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{End, Established};
use crate::membership::LinkId;
use crate::replication::inbound::{Event, Inbound};
use crate::replication::{LinkError, Now, Shared};

/// Its life, from the moment the connection stands.
#[derive(Debug)]
pub(crate) struct Incoming {
    shared: Arc<Shared>,
    link: LinkId,
    machine: Arc<Mutex<Inbound>>,
    /// A Hello must have come by then.
    hello_by: Duration,
}

impl Incoming {
    pub(crate) fn new(shared: &Arc<Shared>, now: Now) -> Self {
        let link = shared.membership.lock().link_id();
        Self {
            shared: Arc::clone(shared),
            link,
            machine: Arc::new(Mutex::new(Inbound::new(Arc::clone(shared), link))),
            hello_by: now.elapsed.saturating_add(shared.settings.greeting_timeout),
        }
    }

    pub(crate) fn id(&self) -> LinkId {
        self.link
    }

    pub(crate) fn machine(&self) -> &Arc<Mutex<Inbound>> {
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
            Some(Event::Greeted) => self.hello_by = Duration::MAX,
            Some(Event::Activated) => return self.activated().map_err(End::from),
            Some(Event::Joined) => self.shared.membership.lock().handle_joined(self.link),
            Some(Event::Goodbye(reason)) => return Err(End::Closed(reason)),
            None => {}
        }
        Ok(None)
    }

    fn activated(&self) -> Result<Option<Established>, LinkError> {
        // Not locked while membership is: whoever looks at all links locks the other way round.
        let Some(peer) = self.machine.lock().peer().map(Established::from) else { return Ok(None) };
        let accepted = self.shared.membership.lock().handle_accepted(self.link, peer.origin, &peer.name);
        accepted.map_err(|(code, message)| LinkError::Refused { code, message: message.to_owned() })?;
        Ok(Some(peer))
    }

    /// The next frame for the peer. Acknowledgements gather until it is called: call it when no further frame is at hand.
    pub(crate) fn poll_transmit(&self, now: Now) -> Option<Bytes> {
        self.machine.lock().poll_transmit(now)
    }

    /// Whether the peer should be told at once how much of a catch-up was applied.
    pub(crate) fn is_urgent(&self, now: Now) -> bool {
        self.machine.lock().is_urgent(now)
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
        end.last_words(|| self.poll_transmit(now))
    }

    /// The connection is closed.
    pub(crate) fn ended(self) {
        self.shared.membership.lock().handle_closed(self.link);
    }
}
