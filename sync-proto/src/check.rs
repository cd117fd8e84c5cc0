//! The rules of the control messages beyond their syntax: how many, how long, never 0.
//!
//! Lists of messages are counted before prost builds them: an empty zone takes two bytes on the wire and 56 in memory.

use std::collections::HashSet;

use prost::Message;

use crate::Error;
use crate::limits::{
    DEFAULT_FRAME_LIMIT, MAX_NAME, MAX_ORIGINS, MAX_TEXT, MAX_ZONES, MIN_FRAME_LIMIT, VERSION,
};
use crate::read::{self, Defect, Reader, key};
use crate::wire;

pub(crate) fn hello(message: &[u8]) -> Result<wire::Hello, Error> {
    const FRAME: &str = "Hello";
    // Another version may have given every other field another type: look at nothing else.
    let version = version(message).map_err(|defect| Error::malformed(FRAME, defect))?;
    if version != VERSION {
        return Ok(wire::Hello { version, ..wire::Hello::default() });
    }
    bound(FRAME, message, 6, "zones", MAX_ZONES, |zone| origins(FRAME, zone, 3))?;
    let mut hello: wire::Hello = parse(FRAME, message)?;
    Error::at_most(FRAME, "bytes of cluster name", hello.cluster.len(), MAX_NAME)?;
    Error::at_most(FRAME, "bytes of node name", hello.node.len(), MAX_NAME)?;
    if hello.origin == 0 {
        return Err(Error::invalid(FRAME, "its origin is 0"));
    }
    if hello.max_frame == 0 {
        hello.max_frame = DEFAULT_FRAME_LIMIT as u32;
    }
    if (hello.max_frame as usize) < MIN_FRAME_LIMIT {
        let rule = format!("max_frame {} is below {MIN_FRAME_LIMIT}", hello.max_frame);
        return Err(Error::invalid(FRAME, rule));
    }
    let mut names = HashSet::with_capacity(hello.zones.len());
    for zone in &hello.zones {
        Error::at_most(FRAME, "bytes of zone name", zone.name.len(), MAX_NAME)?;
        if zone.name.is_empty() {
            return Err(Error::invalid(FRAME, "a zone has no name"));
        }
        if !names.insert(zone.name.as_str()) {
            return Err(Error::invalid(FRAME, format!("zone {:?} is there twice", zone.name)));
        }
        nobody(FRAME, &zone.vector)?;
    }
    Ok(hello)
}

pub(crate) fn refuse(message: &[u8]) -> Result<wire::Refuse, Error> {
    let mut refuse: wire::Refuse = parse("Refuse", message)?;
    cut(&mut refuse.message);
    Ok(refuse)
}

pub(crate) fn catch_up_end(message: &[u8]) -> Result<wire::CatchUpEnd, Error> {
    const FRAME: &str = "CatchUpEnd";
    origins(FRAME, message, 2)?;
    let end: wire::CatchUpEnd = parse(FRAME, message)?;
    zone(FRAME, end.zone)?;
    nobody(FRAME, &end.vector)?;
    Ok(end)
}

pub(crate) fn acknowledge(message: &[u8]) -> Result<wire::Acknowledge, Error> {
    const FRAME: &str = "Acknowledge";
    bound(FRAME, message, 1, "zones", MAX_ZONES, |_| Ok(()))?;
    let acknowledge: wire::Acknowledge = parse(FRAME, message)?;
    acknowledge.zones.iter().try_for_each(|entry| zone(FRAME, entry.zone))?;
    Ok(acknowledge)
}

pub(crate) fn request(message: &[u8]) -> Result<wire::Request, Error> {
    const FRAME: &str = "Request";
    origins(FRAME, message, 4)?;
    let request: wire::Request = parse(FRAME, message)?;
    zone(FRAME, request.zone)?;
    nobody(FRAME, &request.known)?;
    Error::at_most(FRAME, "origins", request.origins.len(), MAX_ORIGINS)?;
    if request.origins.contains(&0) {
        return Err(Error::invalid(FRAME, "an origin is 0"));
    }
    if request.request == 0 {
        return Err(Error::invalid(FRAME, "its id is 0"));
    }
    Ok(request)
}

pub(crate) fn heartbeat(message: &[u8]) -> Result<wire::Heartbeat, Error> {
    const FRAME: &str = "Heartbeat";
    bound(FRAME, message, 4, "zones", MAX_ZONES, |entry| origins(FRAME, entry, 2))?;
    let heartbeat: wire::Heartbeat = parse(FRAME, message)?;
    for entry in &heartbeat.vectors {
        zone(FRAME, entry.zone)?;
        nobody(FRAME, &entry.vector)?;
    }
    Ok(heartbeat)
}

pub(crate) fn goodbye(message: &[u8]) -> Result<wire::Goodbye, Error> {
    let mut goodbye: wire::Goodbye = parse("Goodbye", message)?;
    cut(&mut goodbye.reason);
    Ok(goodbye)
}

fn parse<M: Message + Default>(frame: &'static str, message: &[u8]) -> Result<M, Error> {
    M::decode(message).map_err(|error| Error::malformed(frame, error))
}

/// The field `version` of a Hello of whatever version.
fn version(message: &[u8]) -> Result<u32, Defect> {
    const VERSION_KEY: u64 = key(1, read::VARINT);
    let mut version = 0;
    let mut input = Reader(message);
    while !input.is_empty() {
        match input.varint()? {
            VERSION_KEY => version = input.varint()? as u32,
            other => input.skip_unknown(other, 1)?,
        }
    }
    Ok(version)
}

/// Counts the messages in the repeated field `number` before they are built, and shows each to `inner`.
fn bound(
    frame: &'static str,
    message: &[u8],
    number: u64,
    what: &'static str,
    max: usize,
    mut inner: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let malformed = |defect| Error::malformed(frame, defect);
    let mut count = 0;
    let mut input = Reader(message);
    while !input.is_empty() {
        let found = input.varint().map_err(malformed)?;
        if found == key(number, read::BYTES) {
            count += 1;
            inner(input.bytes().map_err(malformed)?)?;
        } else {
            input.skip(found, 0).map_err(malformed)?;
        }
    }
    Error::at_most(frame, what, count, max)
}

/// Counts the origins of the version vector in the field `number`.
fn origins(frame: &'static str, message: &[u8], number: u64) -> Result<(), Error> {
    bound(frame, message, number, "origins", MAX_ORIGINS, |_| Ok(()))
}

fn zone(frame: &'static str, zone: u32) -> Result<(), Error> {
    if (zone as usize) < MAX_ZONES {
        Ok(())
    } else {
        Err(Error::invalid(frame, format!("zone {zone} of at most {MAX_ZONES}")))
    }
}

/// Refuses a version vector that knows something of nobody.
fn nobody(frame: &'static str, vector: &[wire::Known]) -> Result<(), Error> {
    if vector.iter().any(|known| known.origin == 0) {
        return Err(Error::invalid(frame, "an origin is 0"));
    }
    Ok(())
}

/// A text for the log is no reason to lose what it came with: it is cut, not refused.
fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
}
