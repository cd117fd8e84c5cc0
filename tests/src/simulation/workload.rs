//! What clients do to a node.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use sync_store::{Check, Error, Expiry, Time};

use super::host::{KEYVAL, LIMIT, Machine, STICKY, STRICT};
use super::plan::Plan;
use super::truth::Truth;

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
    if let Some(strict) = node.limit(STRICT)
        && strict.check("client", &Check::default(), time).is_admitted()
    {
        truth.admitted_strictly(plan, fastest)?;
    }
    let n = rng.random_range(0..plan.keys);
    let sticky = node.sticky(STICKY).ok_or("no sticky zone")?;
    let limit = node.limit(LIMIT).ok_or("no limit zone")?;
    match rng.random_range(0..100) {
        0..40 => {
            let value = format!("{number}-{}", "x".repeat(rng.random_range(0..plan.value_max)));
            set(truth, now, machine, &format!("key-{n}"), &value, Expiry::Default)?;
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
            if limit.check(&client, &Check::default(), time).is_admitted() {
                truth.admitted(&client, fastest);
            }
        }
    }
    Ok(())
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
            truth.wrote(now, key, entry.stamp, entry.writer, value);
            Ok(())
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
        truth.removed(now, key, entry.stamp);
    }
    if zone.get(key, time).is_some() {
        return Err(format!("{key:?} was removed and is there"));
    }
    Ok(())
}
