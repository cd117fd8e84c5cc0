//! Who is in the cluster as this node sees it: whom to dial and when, and which links to close.
//!
//! A machine without I/O. Discovery says which **targets** there are; the handshake says which node is behind each. Two names
//! may lead to the same node, and one of them to ourselves; both are noticed by origin, never by comparing addresses. A node whose target leaves the
//! list is disconnected both ways and refused until it is listed again, as NGINX Plus does it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use sync_proto::wire::refuse::Code;
use sync_store::Origin;
use sync_transport::{Backoff, Target};

/// Identifies a link within a node.
pub(crate) type LinkId = u64;

/// Departed origins remembered; the oldest knowledge is the least useful, so any may go beyond this.
const DEPARTED_MAX: usize = 1024;

/// Between two attempts to dial a target, whatever the signs that it may be there now.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);

/// What the driver shall do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Dial the target; the link gets this id.
    Dial(LinkId, Target),
    /// Close a link in good order, whichever side dialled it.
    Close(LinkId, &'static str),
}

/// How a target is doing.
#[derive(Debug)]
enum Outgoing {
    Waiting {
        at: Duration,
        /// Not before then, if there is a sign that the target may be there now.
        at_least: Duration,
    },
    Dialling {
        link: LinkId,
    },
    Connected {
        link: LinkId,
        origin: Origin,
    },
    /// It is this node.
    Myself,
    /// Another target leads to the same node.
    SameAs {
        origin: Origin,
    },
}

#[derive(Debug)]
struct TargetState {
    outgoing: Outgoing,
    backoff: Backoff,
    /// The latest attempt to dial it, of one at least, came to an end: connected, refused or failed.
    tried: bool,
    name: String,
    error: Option<String>,
    /// Whether one side refused the other at the latest attempt: the target is there, but this node is not in its cluster.
    refused: bool,
}

#[derive(Debug)]
struct Incoming {
    link: LinkId,
    name: String,
    joined: bool,
}

/// The machine; one per node.
#[derive(Debug)]
pub(crate) struct Membership {
    targets: BTreeMap<Target, TargetState>,
    incoming: HashMap<Origin, Incoming>,
    departed: HashSet<Origin>,
    /// Whether discovery has an answer for every server.
    discovered: bool,
    stopping: bool,
    backoff: Backoff,
    rng: SmallRng,
    link_last: LinkId,
    commands: Vec<Command>,
}

/// How this node stands with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// How many members there are, this node included; `None` before discovery has had an answer for every server.
    pub(crate) members: Option<usize>,
    /// Whether it is connected with every other both ways, and has caught up with it.
    pub(crate) is_whole: bool,
}

/// A target for people.
#[derive(Debug)]
pub(crate) struct TargetView<'a> {
    pub(crate) target: &'a Target,
    pub(crate) link: Option<LinkId>,
    pub(crate) name: &'a str,
    pub(crate) error: Option<&'a str>,
}

impl Membership {
    /// A target that failed is dialled again after the time that a copy of `backoff` says.
    pub(crate) fn new(backoff: Backoff, seed: u64) -> Self {
        Self {
            targets: BTreeMap::new(),
            incoming: HashMap::new(),
            departed: HashSet::new(),
            discovered: false,
            stopping: false,
            backoff,
            rng: SmallRng::seed_from_u64(seed),
            link_last: 0,
            commands: Vec::new(),
        }
    }

    /// A new id, for a link that the other side dialled.
    pub(crate) fn link_id(&mut self) -> LinkId {
        self.link_last += 1;
        self.link_last
    }

    /// Discovery found these targets, and no others. `complete`: it has had an answer for every server.
    pub(crate) fn handle_targets(&mut self, now: Duration, targets: &[Target], complete: bool) {
        self.discovered |= complete;
        let mut left = std::mem::take(&mut self.targets);
        for target in targets {
            let state = left.remove(target).unwrap_or_else(|| TargetState {
                outgoing: Outgoing::Waiting { at: now, at_least: now },
                backoff: self.backoff.clone(),
                tried: false,
                name: String::new(),
                error: None,
                refused: false,
            });
            self.targets.insert(target.clone(), state);
        }
        let present: HashSet<_> = self.targets.values().filter_map(|t| t.outgoing.origin()).collect();
        for state in left.into_values() {
            if let Outgoing::Dialling { link } | Outgoing::Connected { link, .. } = state.outgoing {
                self.commands.push(Command::Close(link, "your address left this node's list of servers"));
            }
            let Some(origin) = state.outgoing.origin().filter(|o| !present.contains(o)) else { continue };
            // Another target of the same node may be waiting behind the one that left.
            let again = self
                .targets
                .values_mut()
                .find(|t| matches!(t.outgoing, Outgoing::SameAs { origin: same } if same == origin));
            if let Some(again) = again {
                again.outgoing = Outgoing::Waiting { at: now, at_least: now };
                continue;
            }
            if let Some(incoming) = self.incoming.get(&origin) {
                self.commands
                    .push(Command::Close(incoming.link, "your address left this node's list of servers"));
            }
            if self.departed.len() < DEPARTED_MAX {
                self.departed.insert(origin);
            }
        }
    }

    /// A dialled link was greeted by a node. False: another link leads to it already, close this one.
    pub(crate) fn handle_connected(&mut self, link: LinkId, origin: Origin, name: &str) -> bool {
        let double = self
            .targets
            .values()
            .any(|t| matches!(t.outgoing, Outgoing::Connected { origin: other, .. } if other == origin));
        let Some(state) = self.target_of(link) else { return false };
        state.tried = true;
        state.error = None;
        state.refused = false;
        name.clone_into(&mut state.name);
        state.outgoing =
            if double { Outgoing::SameAs { origin } } else { Outgoing::Connected { link, origin } };
        self.departed.remove(&origin);
        !double
    }

    /// A dialled link, or the attempt to dial it, has ended. `code` is that of a refusal, ours or the peer's.
    /// False if the attempt before it ended with the same error: nobody needs to read that again.
    pub(crate) fn handle_disconnected(
        &mut self,
        now: Duration,
        link: LinkId,
        code: Option<Code>,
        error: Option<String>,
    ) -> bool {
        let mut rng = self.rng.clone();
        let Some(state) = self.target_of(link) else { return true };
        let is_news = state.error != error;
        let lost = state.outgoing.origin();
        // A link that stood and broke may have broken in the middle of the first catch-up: whether the peer is still to be reached
        // shows at the next attempt. And that one comes soon; not so if one side refused what the other sent, or both would begin
        // the same catch-up over and over.
        let broke = lost.is_some() && code.is_none();
        state.tried = !broke;
        if broke {
            state.backoff.reset();
        }
        state.error = error;
        state.refused = code.is_some_and(|code| code != Code::Self_);
        state.outgoing = match code {
            Some(Code::Self_) => Outgoing::Myself,
            _ => {
                Outgoing::Waiting { at: now + state.backoff.next(&mut rng), at_least: now + RETRY_PAUSE_MIN }
            }
        };
        self.rng = rng;
        // Whoever stood back behind this link may try now.
        for other in self.targets.values_mut() {
            if lost.is_some() && matches!(other.outgoing, Outgoing::SameAs { origin } if Some(origin) == lost)
            {
                other.outgoing = Outgoing::Waiting { at: now, at_least: now };
            }
        }
        is_news
    }

    /// A peer's link became active: it takes the place of an older one from the same origin. An error refuses it.
    pub(crate) fn handle_accepted(
        &mut self,
        link: LinkId,
        origin: Origin,
        name: &str,
    ) -> Result<(), (Code, &'static str)> {
        if self.stopping {
            return Err((Code::ShuttingDown, "the node is stopping"));
        }
        if self.departed.contains(&origin) {
            return Err((Code::Departed, "your address left this node's list of servers"));
        }
        // A node that has just started dials everybody. We may have found nobody at its address a moment ago and be waiting long
        // before the next attempt; which address is its own we cannot know.
        if !self.targets.values().any(|t| t.outgoing.origin() == Some(origin)) {
            for target in self.targets.values_mut() {
                if let Outgoing::Waiting { at, at_least } = &mut target.outgoing {
                    *at = (*at).min(*at_least);
                }
            }
        }
        let incoming = Incoming { link, name: name.to_owned(), joined: false };
        if let Some(older) = self.incoming.insert(origin, incoming) {
            self.commands.push(Command::Close(older.link, "a newer link from the same node took its place"));
        }
        Ok(())
    }

    /// The peer has sent all of its own records.
    pub(crate) fn handle_joined(&mut self, link: LinkId) {
        if let Some(incoming) = self.incoming.values_mut().find(|i| i.link == link) {
            incoming.joined = true;
        }
    }

    /// A link that a peer dialled has ended.
    pub(crate) fn handle_closed(&mut self, link: LinkId) {
        self.incoming.retain(|_, incoming| incoming.link != link);
    }

    /// The node stops: from now on nobody is dialled or accepted.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    /// What to do now. Call after any input and when [`poll_timeout`](Self::poll_timeout) has passed.
    pub(crate) fn poll(&mut self, now: Duration) -> Vec<Command> {
        let mut commands = std::mem::take(&mut self.commands);
        if self.stopping {
            return commands;
        }
        for (target, state) in &mut self.targets {
            if matches!(state.outgoing, Outgoing::Waiting { at, .. } if at <= now) {
                self.link_last += 1;
                state.outgoing = Outgoing::Dialling { link: self.link_last };
                commands.push(Command::Dial(self.link_last, target.clone()));
            }
        }
        commands
    }

    /// When a target is due to be dialled next.
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let due = self.targets.values().filter_map(|t| match t.outgoing {
            Outgoing::Waiting { at, .. } => Some(at),
            _ => None,
        });
        due.min().filter(|_| !self.stopping)
    }

    /// What this node still waits for before its first catch-up is complete; `None` if for nothing.
    pub(crate) fn unjoined(&self) -> Option<String> {
        if !self.discovered {
            return Some("not every name in the list of servers has been looked up yet".to_owned());
        }
        let target = self.targets.iter().find_map(|(target, state)| match &state.outgoing {
            _ if !state.tried => Some(format!("{} is still to be dialled", target.address)),
            Outgoing::Connected { origin, .. } => match self.incoming.get(origin) {
                Some(incoming) if incoming.joined => None,
                Some(_) => Some(format!("catch-up from {:?} ({}) is under way", state.name, target.address)),
                None => Some(format!(
                    "{:?} ({}) has not dialled this node; does its list of servers name it?",
                    state.name, target.address
                )),
            },
            Outgoing::Waiting { .. }
            | Outgoing::Dialling { .. }
            | Outgoing::Myself
            | Outgoing::SameAs { .. } => None,
        });
        // A peer may have dialled us whom we cannot dial.
        let under_way = || self.incoming.values().find(|incoming| !incoming.joined);
        // Whom nobody takes in is in no cluster: it would decide alone, and nobody would notice.
        let outcast = || {
            let (target, state) = self.targets.iter().find(|(_, state)| state.refused)?;
            let error = state.error.as_deref().unwrap_or_default();
            (self.nodes_online() == 0)
                .then(|| format!("no peer accepts this node; {}: {error}", target.address))
        };
        target
            .or_else(|| under_way().map(|incoming| format!("catch-up from {:?} is under way", incoming.name)))
            .or_else(outcast)
    }

    /// Distinct peers that some link connects.
    pub(crate) fn nodes_online(&self) -> usize {
        let outgoing = self.targets.values().filter_map(|t| match t.outgoing {
            Outgoing::Connected { origin, .. } => Some(origin),
            _ => None,
        });
        outgoing.chain(self.incoming.keys().copied()).collect::<HashSet<_>>().len()
    }

    /// Who there is, and whether each of them is in sight. A node that left the list of servers is none any more; one that is down is.
    pub(crate) fn sight(&self) -> Sight {
        let others = self.targets.values().map(|target| &target.outgoing);
        let others = others.filter(|o| !matches!(o, Outgoing::Myself | Outgoing::SameAs { .. }));
        let connected: HashSet<_> = others.clone().filter_map(Outgoing::origin).collect();
        // Those whom we were not told of, but who dialled us.
        let strangers = self.incoming.keys().filter(|origin| !connected.contains(origin)).count();
        let joined = |origin| self.incoming.get(origin).is_some_and(|incoming| incoming.joined);
        let others = others.count();
        Sight {
            members: self.discovered.then_some(1 + others + strangers),
            is_whole: self.discovered
                && strangers == 0
                && connected.len() == others
                && connected.iter().all(joined),
        }
    }

    /// All targets but this node itself, for people.
    pub(crate) fn targets(&self) -> impl Iterator<Item = TargetView<'_>> {
        self.targets.iter().filter(|(_, state)| !matches!(state.outgoing, Outgoing::Myself)).map(
            |(target, state)| {
                let link = match state.outgoing {
                    Outgoing::Dialling { link } | Outgoing::Connected { link, .. } => Some(link),
                    Outgoing::Waiting { .. } | Outgoing::Myself | Outgoing::SameAs { .. } => None,
                };
                TargetView { target, link, name: &state.name, error: state.error.as_deref() }
            },
        )
    }

    /// Active links that peers dialled, with the peers' names.
    pub(crate) fn incoming(&self) -> impl Iterator<Item = (LinkId, Origin, &str)> {
        self.incoming.iter().map(|(&origin, incoming)| (incoming.link, origin, incoming.name.as_str()))
    }

    fn target_of(&mut self, link: LinkId) -> Option<&mut TargetState> {
        self.targets.values_mut().find(|t| match t.outgoing {
            Outgoing::Dialling { link: id } | Outgoing::Connected { link: id, .. } => id == link,
            Outgoing::Waiting { .. } | Outgoing::Myself | Outgoing::SameAs { .. } => false,
        })
    }
}

impl Outgoing {
    fn origin(&self) -> Option<Origin> {
        match self {
            Self::Connected { origin, .. } | Self::SameAs { origin } => Some(*origin),
            Self::Waiting { .. } | Self::Dialling { .. } | Self::Myself => None,
        }
    }
}

#[cfg(test)]
mod tests;
