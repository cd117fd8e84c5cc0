//! What clients and operators do, and what goes wrong.

use std::hash::Hash;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{BURST, Event, FLAP, World};
use crate::simulation::faults::{self, Fault, Stop};
use crate::simulation::network::{Host, Side};
use crate::simulation::plan::{HOSTS_MAX, Room};
use crate::simulation::truth::fastest;
use crate::simulation::workload;

impl World {
    pub(super) fn operate(&mut self) -> Result<(), String> {
        if self.calm_since.is_some() {
            return Ok(());
        }
        self.one_operation()?;
        let pause = self.about(self.plan.pause);
        self.plan_in(pause, Event::Operate);
        Ok(())
    }

    pub(super) fn one_operation(&mut self) -> Result<(), String> {
        let up = self.up();
        if up.is_empty() {
            return Ok(());
        }
        let host = up[self.rng.random_range(0..up.len())];
        self.one_operation_at(host)
    }

    fn one_operation_at(&mut self, host: Host) -> Result<(), String> {
        self.operations += 1;
        let fastest = fastest(self.now, &self.machines);
        let machine = &self.machines[host];
        workload::operate(
            &mut self.rng,
            &self.plan,
            &mut self.truth,
            self.now,
            machine,
            fastest,
            self.operations,
        )?;
        // Every other client waits until what was written is saved. Not of `rng`, so that all else is as it is without a state file.
        let mut rng = SmallRng::seed_from_u64(self.plan.seed ^ self.operations << 32 ^ 0x7361_7665);
        if self.plan.state.is_some() && rng.random_bool(0.5) {
            self.save(host, false)?;
        }
        self.touch(host);
        Ok(())
    }

    pub(super) fn disturb(&mut self) -> Result<(), String> {
        if self.calm_since.is_some() {
            return Ok(());
        }
        let up = self.up();
        if let Some((fault, lasts)) = faults::next(&mut self.rng, &self.plan, &up) {
            fault.hash(&mut self.trace);
            self.strike(fault, lasts)?;
        }
        let pause = self.about(self.plan.fault_pause);
        self.plan_in(pause, Event::Disturb);
        Ok(())
    }

    pub(super) fn trouble(&mut self, host: Host, until: Duration) {
        let troubled_at = &mut self.machines[host].troubled_at;
        *troubled_at = until.max(*troubled_at);
    }

    pub(super) fn strike(&mut self, fault: Fault, lasts: Duration) -> Result<(), String> {
        let until = self.now + lasts;
        match &fault {
            Fault::Block(ways) => {
                ways.iter().for_each(|&(from, to)| {
                    self.trouble(from, until);
                    self.trouble(to, until);
                });
                self.network.block(ways, true);
                self.plan_in(lasts, Event::Heal(fault));
            }
            Fault::Slow(from, to) => {
                self.trouble(*from, until);
                self.trouble(*to, until);
                self.network.slow((*from, *to), true);
                self.plan_in(lasts, Event::Heal(fault));
            }
            Fault::Delay(from, to, longest) => self.network.reroute((*from, *to), *longest),
            Fault::Reset { nth } => {
                let open: Vec<_> = self.network.open().collect();
                let connection = open.get(nth % open.len().max(1)).copied();
                if let Some(id) = connection.filter(|_| nth % 2 == 1) {
                    // The other end hears of it after all that is under way.
                    self.gone(id, Side::Dialler, Some("the connection was reset"));
                } else if let Some(id) = connection {
                    self.gone_quietly(id, Side::Dialler, "the connection was reset");
                    self.gone_quietly(id, Side::Accepter, "the connection was reset");
                    let hosts = self.network.connections.get(&id).map(|c| [c.dialler.host, c.accepter.host]);
                    hosts.into_iter().flatten().for_each(|host| self.touch(host));
                }
            }
            Fault::Stop { host, how: Stop::Graceful, empty } => {
                self.trouble(*host, until);
                self.stop_gracefully(*host, Some((lasts, *empty)));
            }
            Fault::Stop { host, how, empty } => {
                self.trouble(*host, until);
                self.end(*host, *how, *empty, false)?;
                self.plan_in(lasts, Event::Start { host: *host, empty: *empty });
            }
            Fault::Clock { host, step_ns } => {
                self.trouble(*host, until);
                self.machines[*host].ahead_ns = self.machines[*host].usually_ahead_ns + step_ns;
                self.touch(*host);
                self.plan_in(lasts, Event::Heal(fault));
            }
            Fault::Believe { host, list } => {
                self.trouble(*host, until);
                list.iter().filter(|&&other| other < HOSTS_MAX).for_each(|&other| self.trouble(other, until));
                self.machines[*host].belief = Some(list.clone());
                self.look_up(*host);
                self.plan_in(lasts, Event::Heal(fault));
            }
            Fault::Flap { host } => {
                self.trouble(*host, until);
                self.flap(*host, until);
            }
            Fault::Join => {
                let joins = self.machines.iter().find(|machine| !machine.is_member && machine.node.is_none());
                if let Some(host) = joins.map(|machine| machine.id) {
                    self.machines[host].is_member = true;
                    self.trouble(host, self.now);
                    self.start(host, true)?;
                }
            }
            Fault::Leave { host, how } => {
                if self.machines.iter().filter(|machine| machine.is_member).count() > 2 {
                    self.machines[*host].is_member = false;
                    self.trouble(*host, until);
                    match how {
                        Stop::Graceful => self.stop_gracefully(*host, None),
                        how => self.end(*host, *how, true, false)?,
                    }
                }
            }
            Fault::Burst => {
                for _ in 0..BURST {
                    self.one_operation()?;
                }
            }
            Fault::Crash { host, after, empty } => {
                self.trouble(*host, until + *after);
                for _ in 0..BURST {
                    self.one_operation_at(*host)?;
                }
                let runs = self.machines[*host].runs;
                self.plan_in(*after, Event::Crash { host: *host, runs, empty: *empty, lasts });
            }
        }
        Ok(())
    }

    /// DNS tells a story, and another one a second later.
    pub(super) fn flap(&mut self, host: Host, until: Duration) {
        if self.now >= until || self.calm_since.is_some() {
            self.machines[host].belief = None;
        } else {
            let members: Vec<_> = self.machines.iter().filter(|m| m.is_member).map(|m| m.id).collect();
            let list = members.into_iter().filter(|_| self.rng.random_bool(0.5)).collect();
            self.machines[host].belief = Some(list);
            self.plan_in(FLAP, Event::Flap { host, until });
        }
        self.look_up(host);
    }

    pub(super) fn heal(&mut self, fault: &Fault) -> Result<(), String> {
        match fault {
            Fault::Block(ways) => self.network.block(ways, false),
            Fault::Slow(from, to) => self.network.slow((*from, *to), false),
            Fault::Clock { host, step_ns } => {
                let machine = &mut self.machines[*host];
                let far = 2 * self.plan.max_clock_skew.as_nanos() as i64;
                machine.ahead_ns = machine.usually_ahead_ns;
                // What its operators are told to do: it has stamped writes by a time that nobody else has reached.
                if *step_ns >= far {
                    self.restart_empty(*host)?;
                }
                self.touch(*host);
            }
            Fault::Believe { host, .. } => {
                self.machines[*host].belief = None;
                self.look_up(*host);
            }
            Fault::Reset { .. }
            | Fault::Flap { .. }
            | Fault::Delay(..)
            | Fault::Stop { .. }
            | Fault::Join
            | Fault::Leave { .. }
            | Fault::Burst
            | Fault::Crash { .. } => {}
        }
        Ok(())
    }

    pub(super) fn restart_empty(&mut self, host: Host) -> Result<(), String> {
        self.trouble(host, self.now);
        self.end(host, Stop::Kill, true, false)?;
        self.start(host, true)
    }

    /// No more faults, no more writes.
    pub(super) fn calm(&mut self) -> Result<(), String> {
        let faults: Vec<_> = self
            .events
            .values()
            .filter_map(|event| match event {
                Event::Heal(fault) => Some(fault.clone()),
                _ => None,
            })
            .collect();
        self.events.retain(|_, event| !matches!(event, Event::Heal(_)));
        for fault in faults {
            self.heal(&fault)?;
        }
        self.calm_since = Some(self.now);
        for host in 0..HOSTS_MAX {
            self.trouble(host, self.now);
        }
        if self.plan.room == Room::Scarce {
            for host in self.up() {
                for n in 5..self.plan.keys {
                    workload::remove(&mut self.truth, self.now, &self.machines[host], &format!("key-{n}"))?;
                }
                self.touch(host);
            }
        }
        Ok(())
    }
}
