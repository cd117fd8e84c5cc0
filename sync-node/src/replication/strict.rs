//! Strict limit zones: does this node hear of everything that the others admit, and they of what it does?
//!
//! If so, the cluster counts as one, and a request is charged once. If not, it is charged once for each member: the nodes that do not hear of each other then admit no more
//! together than one would, however they fall apart. A node has another **in sight** while links stand both ways, it has acknowledged all that was published
//! longer than [`patience`] ago, and what it last said to have published has arrived since, but for the same time. So work that others do not hear of stays
//! unheard while requests are charged once for a link's time-out and this patience at the most, and that bounds how far the cluster goes over the limit, whatever the network does.
//!
//! How many members there are, the list of servers says, and whoever else has dialled. Before every name in it was looked up nobody knows, and nothing is admitted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sync_store::LimitZone;

use super::{ReplicatedZone, Settings, Shared};

/// How long a peer may take to acknowledge, and what was announced to arrive: a tenth of `timeout`.
pub(crate) fn patience(settings: &Settings) -> Duration {
    settings.heartbeat_interval * 3 / 10
}

/// How often to look.
pub(crate) fn interval(settings: &Settings) -> Duration {
    patience(settings) / 4
}

/// The strict zones of a node, each with its index among those that synchronize.
#[derive(Debug, Default)]
pub(crate) struct Strict(Vec<(usize, Arc<LimitZone>)>);

impl Strict {
    /// Those of the zones that are strict. Nothing is admitted in them before they are [divided](Self::divide).
    pub(crate) fn new(zones: &[ReplicatedZone], limits: &BTreeMap<String, Arc<LimitZone>>) -> Self {
        let strict = zones.iter().enumerate().filter_map(|(id, zone)| {
            let limit = limits.get(zone.replica.name()).filter(|limit| limit.is_strict())?;
            limit.divide(u64::MAX);
            Some((id, Arc::clone(limit)))
        });
        Self(strict.collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells the zones how often a request is charged from now on. `is_in_sight` says of a zone whether what is published in it reaches all peers, and what they
    /// publish reaches this node.
    pub(crate) fn divide(&self, shared: &Shared, is_in_sight: impl Fn(usize) -> bool) {
        let sight = shared.membership.lock().sight();
        for (id, zone) in &self.0 {
            zone.divide(match sight.members {
                Some(_) if sight.is_whole && is_in_sight(*id) => 1,
                Some(members) => members as u64,
                None => u64::MAX,
            });
        }
    }
}
