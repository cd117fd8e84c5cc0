//! The conversation with one HAProxy: what it says goes into the zones, what the zones have goes to it. No I/O, no clock.
//!
//! 1. It says hello, and is asked for a *lesson*: all its tables with their definitions, each entry with the time that it has left.
//! 2. Tables that it has defined, and that mean something here, are taught in the same shape: all that the zone has, then what changes ([`Seen`](sync_store::Seen)).
//! 3. The end of its lesson is confirmed when it has been taught all that. It holds back its own changes until then, and sends once more what was not acknowledged before; by then it
//!    knows what is newer here, so an old entry never replaces that.
//!
//! An update is acknowledged when it is in the zone. Where ours have come is not asked: with each connection everything is taught anew.

use super::counts::Counts;
use super::definition::{Definition, Form};
use super::entry::{self, Datum, Told};
use super::hello::{Ended, Hello, Status};
use super::lesson::{Lesson, Pen};
use super::tables::{Role, counts_key};
use super::wire::{self, Fault, Message, Reader, control, put_integer, put_message, table};
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use sync_store::{Error, Expiry, StickyZone, Time};
use tracing::{info, warn};

/// Tables that a peer can define: all of them are followed, for the servers that one names are abbreviated in the others.
const TABLES_MAX: usize = 1024;

/// A conversation.
#[derive(Debug)]
pub(super) struct Session {
    name: Arc<str>,
    roles: Arc<BTreeMap<String, Role>>,
    /// Who is there; `None` until it has said so.
    hello: Option<Hello>,
    /// Tables by the numbers that the peer gave them.
    theirs: BTreeMap<u64, Theirs>,
    /// The table that updates are for.
    current: Option<u64>,
    told: Told,
    lessons: BTreeMap<String, Lesson>,
    pen: Pen,
    /// Whether the peer has come to the end of its lesson.
    has_taught: bool,
    /// Ends of lessons that are to be confirmed.
    to_be_confirmed: usize,
    /// Whether the peer waits for the end of ours.
    is_asked: bool,
    /// Whether a write that failed was logged.
    has_complained: bool,
}

/// A table of the peer.
#[derive(Debug)]
struct Theirs {
    definition: Definition,
    role: Option<Role>,
    /// The number of the last update.
    update: u32,
    acknowledged: u32,
}

/// What came of some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) messages: u64,
    /// Entries that a zone did not take.
    pub(super) errors: u64,
}

impl Session {
    pub(super) fn new(name: Arc<str>, roles: Arc<BTreeMap<String, Role>>) -> Self {
        Self {
            name,
            roles,
            hello: None,
            theirs: BTreeMap::new(),
            current: None,
            told: Told::default(),
            lessons: BTreeMap::new(),
            pen: Pen::default(),
            has_taught: false,
            to_be_confirmed: 0,
            is_asked: false,
            has_complained: false,
        }
    }

    /// Who is there, once it has said so.
    pub(super) fn peer(&self) -> Option<&str> {
        self.hello.as_ref().map(|hello| hello.from.as_str())
    }

    /// Takes every message that is whole, and answers. What goes on the wire before an end is in the output.
    pub(super) fn receive(
        &mut self,
        input: &mut BytesMut,
        now: Time,
        output: &mut Vec<u8>,
    ) -> Result<Received, Ended> {
        let mut received = Received::default();
        if self.hello.is_none() && !self.greet(input, output)? {
            return Ok(received);
        }
        while let Some(message) = Message::take(input).inspect_err(|fault| output.extend(fault.message()))? {
            received.messages += 1;
            received.errors +=
                self.message(&message, now).inspect_err(|fault| output.extend(fault.message()))?;
        }
        self.acknowledge(output);
        Ok(received)
    }

    /// False: the hello is not whole yet.
    fn greet(&mut self, input: &mut BytesMut, output: &mut Vec<u8>) -> Result<bool, Ended> {
        let mut refuse = |status: Status| output.extend_from_slice(status.line().as_bytes());
        let hello = match Hello::take(input) {
            Ok(Some(hello)) => hello,
            Ok(None) => return Ok(false),
            Err(status) => {
                refuse(status);
                return Err(Ended::Refused(status));
            }
        };
        if hello.to != *self.name {
            refuse(Status::WrongName);
            return Err(Ended::Misnamed(hello.to));
        }
        output.extend_from_slice(Status::Success.line().as_bytes());
        output.extend_from_slice(&[wire::CONTROL, control::REQUEST]);
        self.pen = Pen::new(hello.is_timed);
        self.hello = Some(hello);
        Ok(true)
    }

    /// Answers the number of entries that a zone did not take.
    fn message(&mut self, message: &Message, now: Time) -> Result<u64, Fault> {
        let body = Reader(&message.body);
        match (message.class, message.kind) {
            (wire::CONTROL, control::REQUEST) => {
                self.is_asked = true;
                self.lessons.values_mut().for_each(Lesson::begin_anew);
            }
            (wire::CONTROL, control::FINISHED | control::PARTIAL) => {
                self.has_taught = true;
                // Nobody has more to end than there is room for.
                self.to_be_confirmed = self.to_be_confirmed.saturating_add(1).min(TABLES_MAX);
            }
            (wire::ERROR, _) => return Err(Fault::Malformed("an error that it reports itself")),
            (wire::RESERVED, _) => return Err(Fault::Malformed("a message of a reserved class")),
            (wire::TABLE, table::DEFINITION) => {
                self.define(Definition::read(body).map_err(Fault::Malformed)?)?;
            }
            (wire::TABLE, table::SWITCH) => {
                let mut body = body;
                let number = body.integer().ok_or(Fault::Malformed("a switch to no table"))?;
                self.current = Some(number);
            }
            (wire::TABLE, table::UPDATE) => return self.update(body, true, false, now),
            (wire::TABLE, table::UPDATE_NEXT) => return self.update(body, false, false, now),
            (wire::TABLE, table::UPDATE_TIMED) => return self.update(body, true, true, now),
            (wire::TABLE, table::UPDATE_NEXT_TIMED) => return self.update(body, false, true, now),
            // Heartbeats, confirmations and acknowledgements ask for nothing; what a later version adds is passed over, as HAProxy does.
            _ => {}
        }
        Ok(0)
    }

    fn define(&mut self, definition: Definition) -> Result<(), Fault> {
        let peer = self.hello.as_ref().map_or("", |hello| hello.from.as_str());
        let role = self.roles.get(&definition.name).filter(|role| fits(role, &definition, peer)).cloned();
        if let Some(role) = &role {
            let number = self.lessons.len() as u64 + 1;
            if let Some(lesson) = self.lessons.get_mut(&definition.name) {
                lesson.define(&definition);
            } else if let Some(lesson) = Lesson::new(number, role, &definition) {
                info!(peer, table = definition.name, "an HAProxy is taught a table");
                self.lessons.insert(definition.name.clone(), lesson);
            }
        }
        let number = definition.number;
        self.current = Some(number);
        let theirs = self.theirs.remove(&number);
        let (update, acknowledged) = theirs.map_or((0, 0), |theirs| (theirs.update, theirs.acknowledged));
        if self.theirs.len() == TABLES_MAX {
            return Err(Fault::Malformed("more tables than are followed"));
        }
        self.theirs.insert(number, Theirs { definition, role, update, acknowledged });
        Ok(())
    }

    fn update(
        &mut self,
        mut body: Reader<'_>,
        is_numbered: bool,
        is_timed: bool,
        now: Time,
    ) -> Result<u64, Fault> {
        const SHORT: Fault =
            Fault::Malformed("an update that ends early, or names a server that was not told");
        let Some(theirs) = self.current.and_then(|number| self.theirs.get_mut(&number)) else {
            return Ok(0);
        };
        let update = if is_numbered { body.fixed().ok_or(SHORT)? } else { theirs.update.wrapping_add(1) };
        let left_ms = if is_timed { Some(u64::from(body.fixed().ok_or(SHORT)?)) } else { None };
        let key = theirs.definition.read_key(&mut body).ok_or(SHORT)?;
        let data = entry::read(&theirs.definition.fields, &mut self.told, &mut body).ok_or(SHORT)?;
        theirs.update = update;
        let definition = &theirs.definition;
        let learned = match &theirs.role {
            Some(Role::Sessions(zone, servers)) => {
                let at = entry::server_position(&definition.fields);
                let server = match at.and_then(|at| data[at].first()) {
                    Some(Datum::Server(server)) => server.as_deref(),
                    Some(Datum::Number(number)) => servers.name(*number),
                    Some(Datum::Rate(_)) | None => None,
                };
                let Some(server) = server else { return Ok(0) };
                if let Some(lesson) = self.lessons.get_mut(&definition.name) {
                    lesson.hear(&key, server);
                }
                // What it had when it used the entry last: that is when the time that is left began.
                let unused_ms = left_ms.map(|left_ms| definition.expire_ms.saturating_sub(left_ms));
                learn_session(zone, &key, server, unused_ms, now)
            }
            Some(Role::Counters(zone)) => {
                let counts = Counts::new(&definition.fields, &data, now);
                let peer = self.hello.as_ref().map_or("", |hello| hello.from.as_str());
                let expiry = match definition.expire_ms {
                    0 => Expiry::Never,
                    expire_ms => Expiry::After(Duration::from_millis(
                        left_ms.map_or(expire_ms, |left_ms| left_ms.min(expire_ms)),
                    )),
                };
                zone.set(counts_key(&definition.name, peer, &key), counts.to_text(), now, expiry)
            }
            // Its own copy of what it was taught.
            Some(Role::Sums { .. }) | None => Ok(()),
        };
        let Err(error) = learned else { return Ok(0) };
        if !std::mem::replace(&mut self.has_complained, true) {
            let peer = self.hello.as_ref().map(|hello| hello.from.as_str());
            warn!(peer, table = definition.name, %error, "cannot keep an entry of an HAProxy; further ones are counted only");
        }
        Ok(1)
    }

    /// Acknowledges, table by table, what came since the last time.
    fn acknowledge(&mut self, output: &mut Vec<u8>) {
        for (number, theirs) in &mut self.theirs {
            if theirs.acknowledged != theirs.update {
                theirs.acknowledged = theirs.update;
                let mut body = Vec::new();
                put_integer(&mut body, *number);
                body.extend_from_slice(&theirs.update.to_be_bytes());
                put_message(output, table::ACKNOWLEDGEMENT, &body);
            }
        }
    }

    /// Teaches what the peer does not know yet, of each table until there are so many bytes. True: that was all.
    ///
    /// `is_ready`: whether this node has caught up with its peers, and so knows everything.
    pub(super) fn teach(&mut self, now: Time, is_ready: bool, output: &mut Vec<u8>, room: usize) -> bool {
        let mut is_through = true;
        for lesson in self.lessons.values_mut() {
            let room = output.len() + room;
            is_through &= lesson.go_on(&mut self.pen, now, output, room);
        }
        if self.has_taught && self.lessons.values().all(Lesson::is_complete) {
            for _ in 0..std::mem::take(&mut self.to_be_confirmed) {
                output.extend_from_slice(&[wire::CONTROL, control::CONFIRMED]);
            }
            if std::mem::take(&mut self.is_asked) {
                let end = if is_ready { control::FINISHED } else { control::PARTIAL };
                output.extend_from_slice(&[wire::CONTROL, end]);
            }
        }
        is_through
    }

    /// Slots that one look at all lessons costs.
    pub(super) fn slots(&self) -> usize {
        self.lessons.values().map(Lesson::slots).sum()
    }
}

/// Whether a table has what its role needs.
fn fits(role: &Role, definition: &Definition, peer: &str) -> bool {
    let has = |form: fn(Form) -> bool| definition.fields.iter().any(|field| form(field.form()));
    let (fits, lacks) = match role {
        Role::Sessions(_, servers) => (
            has(|form| form == Form::Server)
                || (!servers.is_empty() && entry::server_position(&definition.fields).is_some()),
            "server_key; use it in a rule `stick`, add `store server_key`, or say in `servers` which server has which server_id",
        ),
        Role::Counters(_) | Role::Sums { .. } => (
            has(|form| matches!(form, Form::Total(_) | Form::Rate)),
            "a counter or a rate; add one to its `store`, such as http_req_rate(10s)",
        ),
    };
    if !fits {
        warn!(
            peer,
            table = definition.name,
            "a table of an HAProxy is passed over: it does not store {lacks}"
        );
    }
    fits
}

/// Learns a session that was last used so long ago, if that is later than what the zone knows.
fn learn_session(
    zone: &StickyZone,
    key: &[u8],
    server: &[u8],
    unused_ms: Option<u64>,
    now: Time,
) -> Result<(), Error> {
    let Some(unused_ms) = unused_ms else { return zone.learn(key, server, now) };
    let used = Time::from_millis(now.as_millis().saturating_sub(unused_ms));
    let is_newer_here =
        zone.entry(key, now).is_some_and(|known| known.server != *server && known.stamp.time() >= used);
    if is_newer_here { Ok(()) } else { zone.learn(key, server, used) }
}

#[cfg(test)]
mod tests;
