//! Connections between nodes: dialling, delivery, and all the ways they end.

use std::time::Duration;

use bytes::Bytes;
use sync_node::simulation::LinkId;
use sync_proto::Message;
use sync_proto::framing::parse_length;
use sync_store::Origin;

use std::hash::Hash;

use super::{Event, LINGER, TIMEOUT, World};
use crate::simulation::host::LIMIT_ID;
use crate::simulation::network::{Connection, ConnectionId, Host, Item, Lane, Phase, Side};
use crate::simulation::plan::HOSTS_MAX;

impl World {
    pub(super) fn send(&mut self, id: ConnectionId, side: Side, item: Item) {
        self.send_on(id, side, None, item);
    }

    pub(super) fn send_on(&mut self, id: ConnectionId, side: Side, lane: Lane, item: Item) {
        let lane = lane.filter(|_| self.plan.lanes);
        if let Some(at) = self.network.send(self.now, id, side, lane, item) {
            self.plan_at(at, Event::Arrive(id, side, lane));
        }
    }

    pub(super) fn dial(&mut self, host: Host, link: LinkId, to: Host) {
        let id = self.network.dial(self.now, host, link, to.min(HOSTS_MAX - 1));
        self.machines[host].links.insert(link, (id, Side::Dialler));
        if to < HOSTS_MAX {
            self.send(id, Side::Dialler, Item::Open);
        }
        self.plan_in(TIMEOUT, Event::DialTimeout(id));
    }

    pub(super) fn dial_timeout(&mut self, id: ConnectionId) {
        let is_dialling = |c: &Connection| c.dialler.phase == Phase::Dialling;
        if self.network.connections.get(&id).is_some_and(is_dialling) {
            self.gone(id, Side::Dialler, Some("it did not answer"));
        }
    }

    pub(super) fn close(&mut self, host: Host, link: LinkId, last_words: Vec<Bytes>) {
        let Some(&(id, side)) = self.machines[host].links.get(&link) else { return };
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        let end = connection.end_mut(side);
        if end.phase != Phase::Open {
            self.gone(id, side, None);
            return;
        }
        end.phase = Phase::Closing;
        for frame in last_words {
            self.send(id, side, Item::Frame(frame));
        }
        self.send(id, side, Item::Close);
        self.plan_in(LINGER, Event::Linger(id, side));
    }

    /// An end is gone; with an `error` its node did not mean it to be.
    pub(super) fn gone(&mut self, id: ConnectionId, side: Side, error: Option<&str>) {
        let Some(host) = self.leave(id, side, error) else { return };
        if error.is_some() {
            self.send(id, side, Item::Reset);
        }
        self.touch(host);
    }

    pub(super) fn silence(&mut self, id: ConnectionId, side: Side) {
        let Some(connection) = self.network.connections.get(&id) else { return };
        let end = connection.end(side);
        if end.phase != Phase::Open {
            return;
        }
        if self.now >= end.heard_at + TIMEOUT {
            self.gone(id, side, Some("it was silent for too long"));
        } else if self.network.is_stuck(self.now, id, side, TIMEOUT) {
            self.gone(id, side, Some("it takes nothing"));
        } else {
            let again = (end.heard_at + TIMEOUT)
                .min(self.now + Duration::from_secs(1))
                .max(self.now + Duration::from_millis(1));
            self.plan_at(again, Event::Silence(id, side));
        }
    }

    /// What `from` sent arrives at the other end.
    pub(super) fn arrive(&mut self, id: ConnectionId, from: Side, lane: Lane) -> Result<(), String> {
        let item = match self.network.arrive(self.now, id, from, lane) {
            Ok(Some(item)) => item,
            Ok(None) => return Ok(()),
            Err(again) => {
                self.plan_at(again, Event::Arrive(id, from, lane));
                return Ok(());
            }
        };
        let Some(connection) = self.network.connections.get(&id) else { return Ok(()) };
        let side = from.other();
        let (sender, end) = (connection.end(from).host, connection.end(side));
        let (to, link, phase) = (end.host, end.link, end.phase);
        let moment = self.machines[to].moment_if_up(self.now);
        match (item, phase, moment) {
            (Item::Open, Phase::Dialling, Some(moment)) => {
                let node = self.machines[to].node.as_mut().ok_or("a node that is up")?;
                let link = match side {
                    Side::Accepter => node.accept(moment),
                    Side::Dialler => {
                        node.connected(moment, link);
                        link
                    }
                };
                self.machines[to].links.insert(link, (id, side));
                if let Some(connection) = self.network.connections.get_mut(&id) {
                    let end = connection.end_mut(side);
                    (end.link, end.phase) = (link, Phase::Open);
                }
                if side == Side::Accepter {
                    self.send(id, side, Item::Open);
                }
                self.plan_in(TIMEOUT, Event::Silence(id, side));
            }
            (Item::Frame(frame), Phase::Open, Some(moment)) => {
                frame.hash(&mut self.trace);
                let (prefix, length) = parse_length(&frame).ok_or("a frame without a length")?;
                if (frame.len() - prefix) as u64 != length {
                    return Err(format!(
                        "a frame of {} bytes says that it has {length}",
                        frame.len() - prefix
                    ));
                }
                let body = frame.slice(prefix..);
                let other = self.network.connections.get_mut(&id).map(|connection| connection.end_mut(from));
                let met = match (sync_proto::decode(body.clone()), other) {
                    (Ok(Message::Hello(hello)), Some(other)) => {
                        other.origin = Origin::from_raw(hello.origin);
                        other.origin
                    }
                    (Ok(Message::Heartbeat(_)), Some(other)) => other.origin,
                    (Ok(Message::CatchUp(rows)), _) => {
                        if rows.zone() == LIMIT_ID && rows.rows(0).next().is_some() {
                            self.truth.states_were_sent();
                        }
                        None
                    }
                    _ => None,
                };
                if let Some(node) = &mut self.machines[to].node {
                    node.handle_frame(moment, link, Some(body));
                }
                self.truth.check_vectors(&self.machines[to], met)?;
            }
            (Item::Close, Phase::Open, Some(moment)) => {
                if let Some(node) = &mut self.machines[to].node {
                    node.handle_frame(moment, link, None);
                }
            }
            (Item::Close, Phase::Closing, _) => self.gone(id, side, None),
            (Item::Reset, Phase::Open | Phase::Dialling, _) => {
                self.gone_quietly(id, side, "the connection was reset");
            }
            // Nobody is there to say so.
            (_, _, None) if !self.machines[to].has_power => {}
            (Item::Reset, Phase::Closing, _) => self.gone(id, side, None),
            (Item::Open | Item::Frame(_) | Item::Close, Phase::Gone, _)
            | (Item::Open, Phase::Dialling, None) => {
                if let Some(connection) = self.network.connections.get_mut(&id) {
                    connection.end_mut(side).phase = Phase::Gone;
                }
                self.send(id, side, Item::Reset);
            }
            _ => {}
        }
        self.touch(to);
        // There is room again in what the sender may have under way.
        self.touch(sender);
        Ok(())
    }

    /// The other side knows already.
    pub(super) fn gone_quietly(&mut self, id: ConnectionId, side: Side, error: &str) {
        self.leave(id, side, Some(error));
    }

    /// Takes an end away from its host, and answers which that is; `None` if it was gone already.
    fn leave(&mut self, id: ConnectionId, side: Side, error: Option<&str>) -> Option<Host> {
        let end = self.network.connections.get_mut(&id)?.end_mut(side);
        if end.phase == Phase::Gone {
            return None;
        }
        end.phase = Phase::Gone;
        let (host, link) = (end.host, end.link);
        self.machines[host].links.remove(&link);
        let moment = self.machines[host].moment(self.now);
        if let Some(node) = &mut self.machines[host].node {
            match error {
                Some(error) => node.failed(moment, link, error),
                None => node.ended(moment, link),
            }
        }
        Some(host)
    }
}
