//! What clients do to a node.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sync_store::{Check, Error, Expiry, LimitZone, Time};

use super::host::{BURST, KEYVAL, LIMIT, Machine, STICKY, STRICT, STRICT_BURST};
use super::plan::{Costs, Plan, Room, pick};
use super::truth::{Truth, peek};

/// For so long keys are written that are then removed for good.
const PASSING_SECS: u64 = 10;
/// Keys of limits.
const CLIENTS: u32 = 5;

/// One random operation. `number` makes values differ.
pub(super) fn operate(
    rng: &mut SmallRng,
    plan: &Plan,
    truth: &mut Truth,
    now: Duration,
    machine: &Machine,
    fastest: Time,
    number: u64,
) -> Result<(), String> {
    let Some(node) = &machine.node else { return Ok(()) };
    let time = machine.time(now);
    // Not of `rng`, so that what else happens does not depend on what requests cost.
    let mut costs = SmallRng::seed_from_u64(plan.seed ^ number << 32 ^ 0x636f_7374);
    if let Some(strict) = node.limit(STRICT) {
        let cost = cost(&mut costs, plan, STRICT_BURST + 1, truth.strict.refundable(machine.id));
        if let Some(refunded) = charge(&strict, "client", cost, time) {
            truth.charged_strictly(plan, machine.id, cost, refunded, fastest)?;
        }
    }
    let n = rng.random_range(0..plan.keys);
    let sticky = node.sticky(STICKY).ok_or("no sticky zone")?;
    let limit = node.limit(LIMIT).ok_or("no limit zone")?;
    match rng.random_range(0..100) {
        0..40 => {
            let value = format!("{number}-{}", "x".repeat(rng.random_range(0..plan.value_max)));
            set(truth, now, machine, &format!("key-{n}"), &value, Expiry::Default)?;
            match passing(plan, now, number) {
                Some((key, true)) => set(truth, now, machine, &key, &value, Expiry::Default)?,
                Some((key, false)) => remove(truth, now, machine, &key)?,
                None => {}
            }
        }
        40..46 => {
            let after = Duration::from_millis(rng.random_range(1_000..20_000));
            set(truth, now, machine, &format!("ttl-{n}"), &number.to_string(), Expiry::After(after))?;
        }
        46..60 => remove(truth, now, machine, &format!("key-{n}"))?,
        60..72 => {
            let (session, server) = (format!("s-{n}"), format!("10.0.0.{}", rng.random_range(0..9)));
            match sticky.learn(&session, &server, time) {
                Ok(()) => truth.learned(&session, &server),
                Err(Error::ZoneFull { .. }) => {}
                Err(error) => return Err(format!("learn: {error}")),
            }
        }
        72..84 => _ = sticky.lookup(format!("s-{n}"), time),
        84..87 => _ = sticky.forget(format!("s-{n}"), time).map_err(|error| format!("forget: {error}"))?,
        _ => {
            let client = format!("client-{}", rng.random_range(0..CLIENTS));
            let cost = cost(&mut costs, plan, BURST + 1, truth.refundable(&client, machine.id));
            if let Some(refunded) = charge(&limit, &client, cost, time) {
                truth.charged(plan, (now, fastest), machine.id, &client, cost, refunded);
            }
        }
    }
    Ok(())
}

/// Where nodes with state files may be away for longer than removals are remembered: a key that is written and, a while later, removed, and never written again; and which of the two is due. Others
/// are soon written anew, and nobody would see that a removal was forgotten. Not of the usual generator, so that all else is as it is without.
fn passing(plan: &Plan, now: Duration, number: u64) -> Option<(String, bool)> {
    let mut rng = SmallRng::seed_from_u64(plan.seed ^ number << 32 ^ 0x7061_7373);
    let is_due = plan.state.is_some() && plan.room == Room::Forgetful && rng.random_bool(0.4);
    let (age, is_written) = (now.as_secs() / PASSING_SECS, rng.random_bool(0.5));
    let age = if is_written { Some(age) } else { age.checked_sub(rng.random_range(1..4)) };
    age.filter(|_| is_due).map(|age| (format!("passing-{age}-{}", rng.random_range(0..3)), is_written))
}

/// What a request costs; negative: as much of what this node has admitted is given back.
fn cost(rng: &mut SmallRng, plan: &Plan, capacity: u64, refundable: u64) -> i64 {
    let many = rng.random_range(2..=capacity);
    let some = *pick(rng, &[1, 1, 1, 2, 3, 5]);
    let (is_many, is_refund) = (rng.random_ratio(1, 50), rng.random_ratio(1, 5) && refundable > 0);
    match plan.costs {
        Costs::Refunded if is_refund => -refundable.min(some).cast_signed(),
        Costs::Mixed | Costs::Refunded => (if is_many { many } else { some }).cast_signed(),
        Costs::One => 1,
    }
}

/// Charges a key, or refunds it; `None` if that is not admitted. Answers how much work was refunded.
fn charge(zone: &LimitZone, client: &str, cost: i64, time: Time) -> Option<Duration> {
    let before = peek(zone, client, time);
    let is_admitted = zone.check(client, &Check { cost, ..Check::default() }, time).is_admitted();
    is_admitted.then(|| before.saturating_sub(peek(zone, client, time)))
}

fn set(
    truth: &mut Truth,
    now: Duration,
    machine: &Machine,
    key: &str,
    value: &str,
    expiry: Expiry,
) -> Result<(), String> {
    let zone = machine.node.as_ref().and_then(|node| node.keyval(KEYVAL)).ok_or("no keyval zone")?;
    let time = machine.time(now);
    match zone.set(key, value, time, expiry) {
        Ok(()) => {
            let entry =
                zone.entry(key, time).ok_or_else(|| format!("{key:?} was written and is not there"))?;
            if entry.value != *value.as_bytes() {
                return Err(format!("{key:?} was written, but reads as {entry:?}"));
            }
            truth.wrote(now, machine.id, key, &entry)
        }
        Err(Error::ZoneFull { .. }) => Ok(()),
        Err(error) => Err(format!("set: {error}")),
    }
}

/// Removes a pair.
pub(super) fn remove(truth: &mut Truth, now: Duration, machine: &Machine, key: &str) -> Result<(), String> {
    let zone = machine.node.as_ref().and_then(|node| node.keyval(KEYVAL)).ok_or("no keyval zone")?;
    let time = machine.time(now);
    let Some(entry) = zone.entry(key, time) else { return Ok(()) };
    if zone.remove(key, time).map_err(|error| format!("remove: {error}"))? {
        truth.removed(now, machine.id, key, entry.stamp);
    }
    if zone.get(key, time).is_some() {
        return Err(format!("{key:?} was removed and is there"));
    }
    Ok(())
}
