//! The commands on keys: `GET`, `MGET`, `EXISTS`, `TTL`, `PTTL`; `SET`, `DEL`, `EXPIRE`, `PEXPIRE`.

use super::databases::{Database, Zone};
use super::reply::Replies;
use super::request::Request;
use std::time::Duration;
use sync_store::{Condition, Error, Expiry, KeyvalZone, Time};

/// Bytes of the answer to one request; what one `MGET` can ask for is larger than memory.
const REPLY_MAX: usize = 4 << 20;

/// Why a command was not carried out, as its client is told: a code, and a sentence.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It makes no sense.
    Plain(&'static str),
    /// An expiry that makes no sense.
    Expire(&'static str),
    /// No zone for that key.
    NoZone,
    /// The answer would be too large.
    TooLarge,
    /// The zone refused it.
    Zone(Error),
}

pub(super) const SYNTAX: Refusal = Refusal::Plain("ERR syntax error");
pub(super) const NOT_AN_INTEGER: Refusal = Refusal::Plain("ERR value is not an integer or out of range");

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Expire(command) => write!(f, "ERR invalid expire time in '{command}' command"),
            Self::NoZone => {
                f.write_str("ERR there is no zone for this key; name one in databases or prefixes of [redis]")
            }
            Self::TooLarge => {
                write!(f, "ERR the answer is larger than {REPLY_MAX} bytes; ask for fewer keys at a time")
            }
            // What clients take for a lack of memory.
            Self::Zone(error @ Error::ZoneFull { .. }) => write!(f, "OOM command not allowed: {error}"),
            Self::Zone(error) => write!(f, "ERR {error}"),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Zone(error)
    }
}

/// A whole number, with no sign but a minus.
pub(super) fn integer(text: &[u8]) -> Result<i64, Refusal> {
    let text = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok()).ok_or(NOT_AN_INTEGER)
}

fn zone<'d>(database: &'d Database, key: &[u8]) -> Result<&'d Zone, Refusal> {
    database.zone(key).ok_or(Refusal::NoZone)
}

/// `GET key`. `value` is room for it.
pub(super) fn get(
    database: &Database,
    request: Request<'_>,
    now: Time,
    value: &mut Vec<u8>,
    replies: &mut Replies,
) -> Result<(), Refusal> {
    let key = request.get(1);
    if zone(database, key)?.keyval.get_into(key, now, value) {
        replies.bulk(value)
    } else {
        replies.null()
    }
    Ok(())
}

/// `MGET key…`.
pub(super) fn mget(
    database: &Database,
    request: Request<'_>,
    now: Time,
    value: &mut Vec<u8>,
    replies: &mut Replies,
) -> Result<(), Refusal> {
    let begin = replies.len();
    replies.array(request.len() - 1);
    for key in request.from(1) {
        if zone(database, key)?.keyval.get_into(key, now, value) {
            replies.bulk(value);
        } else {
            replies.null();
        }
        if replies.len() - begin > REPLY_MAX {
            return Err(Refusal::TooLarge);
        }
    }
    Ok(())
}

/// `EXISTS key…`: a key that is named twice counts twice.
pub(super) fn exists(
    database: &Database,
    request: Request<'_>,
    now: Time,
    value: &mut Vec<u8>,
    replies: &mut Replies,
) -> Result<(), Refusal> {
    let mut there = 0;
    for key in request.from(1) {
        there += u64::from(zone(database, key)?.keyval.get_into(key, now, value));
    }
    replies.count(there);
    Ok(())
}

/// `TTL key`, `PTTL key`: -1 for a key that does not expire, -2 for one that is not there.
pub(super) fn ttl(
    database: &Database,
    request: Request<'_>,
    now: Time,
    unit: Duration,
    replies: &mut Replies,
) -> Result<(), Refusal> {
    let key = request.get(1);
    match zone(database, key)?.keyval.entry(key, now) {
        None => replies.integer(-2),
        Some(entry) => match entry.expires_at {
            None => replies.integer(-1),
            Some(at) => {
                // Rounded to the nearest, as Redis does.
                let left = at.saturating_sub(Time::from_millis(now.as_millis()));
                let (left, unit) = (left.as_millis(), unit.as_millis());
                replies.count(u64::try_from((left + unit / 2) / unit).unwrap_or(u64::MAX));
            }
        },
    }
    Ok(())
}

/// What the words behind key and value of a `SET` say.
struct SetOptions {
    /// `None` keeps that of the record.
    expiry: Option<Expiry>,
    condition: Condition,
    answers_old: bool,
}

/// A number of seconds or milliseconds from now, which must lie in the future.
fn after(number: &[u8], unit: Duration, command: &'static str) -> Result<Expiry, Refusal> {
    let number = integer(number)?;
    let millis = u64::try_from(number).ok().filter(|number| *number > 0);
    let millis = millis.and_then(|number| number.checked_mul(unit.as_millis() as u64));
    // As far as Redis goes: what can be added to the time and is still a number of it.
    let millis = millis.filter(|millis| *millis <= i64::MAX as u64 / 2).ok_or(Refusal::Expire(command))?;
    Ok(Expiry::After(Duration::from_millis(millis)))
}

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

impl SetOptions {
    fn read(request: Request<'_>) -> Result<Self, Refusal> {
        let mut options = Self { expiry: None, condition: Condition::Any, answers_old: false };
        let mut keeps = false;
        let mut words = request.from(3);
        while let Some(word) = words.next() {
            match word.to_ascii_uppercase().as_slice() {
                b"NX" if options.condition == Condition::Any => options.condition = Condition::Absent,
                b"XX" if options.condition == Condition::Any => options.condition = Condition::Present,
                b"GET" if !options.answers_old => options.answers_old = true,
                b"KEEPTTL" if options.expiry.is_none() && !keeps => keeps = true,
                word @ (b"EX" | b"PX") if options.expiry.is_none() && !keeps => {
                    let unit = if word == b"EX" { SECOND } else { MILLISECOND };
                    options.expiry = Some(after(words.next().ok_or(SYNTAX)?, unit, "set")?);
                }
                _ => return Err(SYNTAX),
            }
        }
        if !keeps {
            options.expiry.get_or_insert(Expiry::Default);
        }
        Ok(options)
    }
}

/// `SET key value [EX seconds | PX milliseconds | KEEPTTL] [NX | XX] [GET]`. Answers whether anything was written.
pub(super) fn set(
    zone: &KeyvalZone,
    request: Request<'_>,
    now: Time,
    replies: &mut Replies,
) -> Result<bool, Refusal> {
    let (key, value) = (request.get(1), request.get(2));
    let SetOptions { expiry, condition, answers_old } = SetOptions::read(request)?;
    if let (Some(expiry), Condition::Any, false) = (expiry, condition, answers_old) {
        zone.set(key, value, now, expiry)?;
        replies.ok();
        return Ok(true);
    }
    let swapped = zone.swap(key, value, now, expiry, condition)?;
    match swapped.old {
        Some(old) if answers_old => replies.bulk(&old),
        None if answers_old => replies.null(),
        _ if swapped.written => replies.ok(),
        _ => replies.null(),
    }
    Ok(swapped.written)
}

/// `DEL key` for one of the keys; answers whether it was there.
pub(super) fn remove(zone: &KeyvalZone, key: &[u8], now: Time) -> Result<bool, Refusal> {
    match zone.remove(key, now) {
        Ok(removed) => Ok(removed),
        // What cannot be a key is not there.
        Err(Error::EmptyKey { .. } | Error::KeyTooLong { .. } | Error::InvalidKey { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// `EXPIRE key seconds`, `PEXPIRE key milliseconds`: a time that is over removes the key, as in Redis. Answers whether the key was there.
pub(super) fn expire(
    zone: &KeyvalZone,
    request: Request<'_>,
    now: Time,
    (unit, command): (Duration, &'static str),
    replies: &mut Replies,
) -> Result<bool, Refusal> {
    let (key, number) = (request.get(1), request.get(2));
    let was_there = if integer(number)? <= 0 {
        remove(zone, key, now)?
    } else {
        match zone.update(key, None, now, Some(after(number, unit, command)?)) {
            Ok(()) => true,
            Err(
                Error::KeyNotFound { .. }
                | Error::EmptyKey { .. }
                | Error::KeyTooLong { .. }
                | Error::InvalidKey { .. },
            ) => false,
            Err(error) => return Err(error.into()),
        }
    };
    replies.integer(i64::from(was_there));
    Ok(was_there)
}
