//! Nodes: how they are woken, started, stopped and killed, and what they do to the network.

use std::time::Duration;

use sync_node::StateSync;
use sync_node::simulation::{Action, LinkId, SAVE_INTERVAL};

use super::{Event, LOOKUP, RESTART, SHUTDOWN, World};
use crate::simulation::faults::{Kind, Stop};
use crate::simulation::host::{KEYVAL, Machine, host_at, target};
use crate::simulation::network::{ConnectionId, Host, Item, Phase, Side};
use crate::simulation::truth::{Left, fastest};

impl World {
    /// Lets a node do what is due, and does what it says.
    pub(super) fn touch(&mut self, host: Host) {
        loop {
            let machine = &mut self.machines[host];
            let moment = machine.moment(self.now);
            let Some(node) = machine.node.as_mut() else { return };
            node.poll(moment);
            machine.ready.extend(node.take_woken());
            for link in machine.ready.clone() {
                let at = self.machines[host].links.get(&link).copied();
                let has_more = at.is_some_and(|(id, side)| self.transmit(host, link, id, side));
                if !has_more {
                    self.machines[host].ready.remove(&link);
                }
            }
            let mut is_done = true;
            while let Some(action) = self.machines[host].node.as_mut().and_then(|node| node.poll_action()) {
                is_done = false;
                match action {
                    Action::Dial(link, to) => self.dial(host, link, host_at(&to)),
                    Action::Close(link, last_words) => self.close(host, link, last_words),
                }
            }
            // Sending may have published, and ending a link may have freed another.
            let is_woken = self.machines[host].node.as_ref().is_some_and(|node| node.is_woken());
            if is_done && !is_woken {
                break;
            }
        }
        let machine = &mut self.machines[host];
        let Some(due) = machine.node.as_ref().map(|node| node.poll_timeout()) else { return };
        let due = machine.due(due).max(self.now + Duration::from_nanos(1));
        if due < machine.wake_at {
            machine.wake_at = due;
            let runs = machine.runs;
            self.plan_at(due, Event::Wake(host, runs));
        }
    }

    /// Sends what a link has. Answers whether it has more than there is room for.
    pub(super) fn transmit(&mut self, host: Host, link: LinkId, id: ConnectionId, side: Side) -> bool {
        let moment = self.machines[host].moment(self.now);
        while self.network.has_room(id, side) {
            let node = self.machines[host].node.as_mut();
            let has_room = |lane| self.network.has_lane_room(id, side, lane);
            let next = node.and_then(|node| node.poll_transmit(moment, link, &has_room));
            let Some((lane, frame)) = next else { return false };
            self.send_on(id, side, lane, Item::Frame(frame));
        }
        true
    }

    pub(super) fn start(&mut self, host: Host, empty: bool) -> Result<(), String> {
        if self.machines[host].node.is_some() || !self.machines[host].is_member {
            return Ok(());
        }
        if empty {
            self.truth.discards(self.now, &self.machines, host);
        }
        if self.machines[host].runs > 0 {
            self.truth.began_anew(fastest(self.now, &self.machines));
        }
        let (now, machine) = (self.now, &mut self.machines[host]);
        if let Err(why) = machine.start(now, &self.plan, empty, &mut self.rng) {
            // Its clock has gone back, and the state file is of a time to come: it is refused until the clock is right.
            let is_early = machine.ahead_ns < machine.usually_ahead_ns && self.plan.state.is_some();
            self.plan_in(RESTART, Event::Start { host, empty: false });
            return if is_early { Ok(()) } else { Err(why) };
        }
        machine.troubled_at = machine.troubled_at.max(now);
        self.truth.started(now, machine)?;
        let runs = machine.runs;
        if self.plan.state.is_some() {
            self.truth.saved_everything(now, &self.machines[host]);
            self.machines[host].synchronized()?;
            self.plan_in(SAVE_INTERVAL, Event::Save(host, runs));
        }
        self.look_up(host);
        self.plan_in(LOOKUP, Event::Lookup(host, runs));
        Ok(())
    }

    /// Saves the keyval zone of a host, everything if that is due.
    pub(super) fn save(&mut self, host: Host, is_due: bool) -> Result<(), String> {
        let is_in_doubt =
            |machine: &Machine| machine.node.as_ref().is_some_and(|node| node.doubtful(KEYVAL).is_some());
        let was_in_doubt = is_in_doubt(&self.machines[host]);
        self.machines[host].save(self.now, is_due)?;
        self.truth.compared += u64::from(was_in_doubt && !is_in_doubt(&self.machines[host]));
        if is_due {
            self.truth.saved_everything(self.now, &self.machines[host]);
        } else {
            self.truth.saved(host, self.plan.state == Some(StateSync::Always));
        }
        if is_due
            && self.plan.state == Some(StateSync::Interval)
            && self.plan.faults.contains(&Kind::PowerCut)
        {
            self.machines[host].synchronized()?;
        }
        Ok(())
    }

    /// Discovery has an answer.
    pub(super) fn look_up(&mut self, host: Host) {
        let members = || self.machines.iter().filter(|machine| machine.is_member).map(|machine| machine.id);
        let list = self.machines[host].belief.clone().unwrap_or_else(|| members().collect());
        let targets: Vec<_> = list.into_iter().map(target).collect();
        let moment = self.machines[host].moment(self.now);
        if let Some(node) = &mut self.machines[host].node {
            node.handle_targets(moment, &targets, true);
        }
        self.touch(host);
    }

    /// A node ends at once, with its connections.
    pub(super) fn end(&mut self, host: Host, how: Stop, empty: bool, drained: bool) -> Result<(), String> {
        if self.machines[host].node.is_none() {
            return Ok(());
        }
        let left = match (self.machines[host].keeps_state() && !empty, how) {
            (false, _) => Left::Nothing,
            (true, Stop::Kill) if self.plan.state.is_some() => Left::Saved,
            (true, Stop::PowerCut) => Left::Synchronized,
            (true, Stop::Kill | Stop::Graceful) => Left::Everything,
        };
        self.truth.ends(self.now, &self.machines, host, left, drained);
        self.stopping.remove(&host);
        let links = std::mem::take(&mut self.machines[host].links);
        for (id, side) in links.into_values() {
            if let Some(connection) = self.network.connections.get_mut(&id) {
                connection.end_mut(side).phase = Phase::Gone;
            }
            if how != Stop::PowerCut {
                self.send(id, side, Item::Reset);
            }
        }
        self.machines[host].has_power = how != Stop::PowerCut;
        match how {
            Stop::Graceful => self.machines[host].close(self.now)?,
            Stop::Kill => self.machines[host].kill()?,
            Stop::PowerCut => self.machines[host].cut_power(&self.plan)?,
        }
        Ok(())
    }

    pub(super) fn crash(
        &mut self,
        host: Host,
        runs: u64,
        empty: bool,
        lasts: Duration,
    ) -> Result<(), String> {
        if self.machines[host].runs == runs && self.machines[host].node.is_some() {
            self.end(host, Stop::Kill, empty, false)?;
            self.plan_in(lasts, Event::Start { host, empty });
        }
        Ok(())
    }

    pub(super) fn stop_gracefully(&mut self, host: Host, restart: Option<(Duration, bool)>) {
        self.stopping.insert(host);
        let (runs, deadline) = (self.machines[host].runs, self.now + SHUTDOWN);
        self.plan_in(Duration::ZERO, Event::Drained { host, runs, deadline, restart });
    }

    pub(super) fn drained(
        &mut self,
        host: Host,
        runs: u64,
        deadline: Duration,
        restart: Option<(Duration, bool)>,
    ) -> Result<(), String> {
        let machine = &mut self.machines[host];
        let moment = machine.moment(self.now);
        let Some(node) = machine.node.as_mut().filter(|_| machine.runs == runs) else { return Ok(()) };
        let drained = node.drain(moment);
        if !drained && self.now < deadline {
            self.touch(host);
            self.plan_in(Duration::from_millis(20), Event::Drained { host, runs, deadline, restart });
            return Ok(());
        }
        let has_peers = node.peers_out() > 0;
        node.stop(moment);
        self.touch(host);
        let (after, empty) = restart.unwrap_or((Duration::ZERO, true));
        self.end(host, Stop::Graceful, empty, drained && has_peers)?;
        if restart.is_some() {
            self.plan_in(after, Event::Start { host, empty });
        }
        Ok(())
    }
}
