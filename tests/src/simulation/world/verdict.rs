//! Whether all is as it must be, and how it is otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{CHECK, Event, SETTLE_MAX, World};
use crate::simulation::host::{KEYVAL, LIMIT, STICKY, STRICT};
use crate::simulation::truth::{fastest, spread};

impl World {
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.plan_in(CHECK, Event::Check);
        self.network.forget();
        for host in self.truth.check(self.now, &self.machines, &self.plan)? {
            self.restart_empty(host)?;
        }
        Ok(())
    }

    /// Whether the cluster is as it should be after faults and writes have ended; how long that took.
    pub(super) fn settled(&self) -> Result<Option<Duration>, String> {
        let Some(since) = self.calm_since else { return Ok(None) };
        match self.unsettled() {
            None => {
                self.truth.check_end(self.now, &self.machines)?;
                let spread = spread(self.now, &self.machines, &self.truth, &self.plan);
                if let Some(max) = self.truth.spread_max(&self.plan).filter(|max| spread > *max) {
                    return Err(format!("views of a limit are {spread:?} apart, {max:?} are the most"));
                }
                Ok(Some(self.now - since))
            }
            Some(why) if self.now > since + SETTLE_MAX => {
                Err(format!("after {SETTLE_MAX:?} without faults: {why}"))
            }
            Some(_) => Ok(None),
        }
    }

    pub(super) fn unsettled(&self) -> Option<String> {
        let members = self.machines.iter().filter(|machine| machine.is_member);
        let mut digests: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let count = members.clone().count();
        let time = fastest(self.now, &self.machines);
        for machine in members {
            let Some(node) = &machine.node else { return Some(format!("host {} is down", machine.id)) };
            if let Some(why) = node.unjoined() {
                return Some(format!("host {} is not ready: {why}", machine.id));
            }
            if !node.is_drained() {
                return Some(format!("host {} has records that are not acknowledged", machine.id));
            }
            if node.nodes_online() + 1 != count {
                return Some(format!(
                    "host {} has {} peers of {}",
                    machine.id,
                    node.nodes_online(),
                    count - 1
                ));
            }
            for replica in node.replicas() {
                digests.entry(replica.name().to_owned()).or_default().insert(replica.digest(time));
            }
        }
        digests
            .into_iter()
            .filter(|(zone, _)| zone != LIMIT && zone != STRICT)
            .filter(|(zone, _)| zone != STICKY || !self.truth.evicted.0)
            .find(|(_, digests)| digests.len() > 1)
            .map(|(zone, digests)| format!("zone {zone:?} differs: {digests:x?}"))
    }

    /// The state of all nodes, for people.
    pub(in crate::simulation) fn describe(&self) -> String {
        let mut text = format!("at {:?}, calm since {:?}\n", self.now, self.calm_since);
        for machine in self.machines.iter().filter(|machine| machine.runs > 0) {
            text += &format!(
                "host {}: run {}, member {}, clock ahead by {} ms, troubled until {:?}, links {}\n",
                machine.id,
                machine.runs,
                machine.is_member,
                machine.ahead_ns / 1_000_000,
                machine.troubled_at,
                machine.links.len()
            );
            let Some(node) = &machine.node else {
                text += "  down\n";
                continue;
            };
            text += &format!(
                "  origin {}, online {}, unready {:?}, drained {}\n",
                node.origin(),
                node.nodes_online(),
                node.unjoined(),
                node.is_drained()
            );
            for replica in node.replicas() {
                let digest = replica.digest(fastest(self.now, &self.machines));
                text += &format!(
                    "  {}: digest {digest:016x}, dirty {}, vector {:?}, {:?}\n",
                    replica.name(),
                    replica.dirty_count(),
                    replica.vector(),
                    replica.stats()
                );
            }
        }
        text + &self.differences()
    }

    /// Some keys that are not everywhere the same.
    fn differences(&self) -> String {
        const KEYS: usize = 5;
        let now = fastest(self.now, &self.machines);
        let mut records: BTreeMap<Vec<u8>, BTreeMap<usize, String>> = BTreeMap::new();
        let nodes = || self.machines.iter().filter_map(|machine| Some((machine.id, machine.node.as_ref()?)));
        for (host, node) in nodes() {
            for (key, entry) in node.keyval(KEYVAL).iter().flat_map(|zone| zone.iter(now)) {
                let record = format!("{:?} of {} at {:?}", entry.value, entry.writer, entry.stamp);
                records.entry(key.to_vec()).or_default().insert(host, record);
            }
        }
        let count = nodes().count();
        let differ =
            |of: &BTreeMap<usize, String>| of.len() < count || of.values().collect::<BTreeSet<_>>().len() > 1;
        let differing = records.iter().filter(|(_, of)| differ(of)).take(KEYS);
        differing.map(|(key, of)| format!("key \"{}\": {of:#?}\n", key.escape_ascii())).collect()
    }
}
