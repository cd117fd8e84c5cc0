//! One client: who it is, what it may do, and what each of its requests comes to.
//!
//! No I/O, no clock, no waiting. What takes long, or waits for somebody, is handed back as a [`Step`] to whoever has the socket.

use super::command::{self, Act, Command, Need};
use super::databases::Database;
use super::keys::{self, Refusal, SYNTAX, integer};
use super::reply::{Protocol, Replies};
use super::request::{Bounds, Request};
use super::walk::{Scan, Walk};
use super::{Inner, Rules, info, throttle};
use crate::api::users::UsersFile;
use crate::door::Client;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use sync_store::{Replica, Time};

/// Bytes of what a client calls itself.
const NAME_MAX: usize = 256;
/// The user of a client that sends a password alone.
const DEFAULT_USER: &str = "default";

const NO_AUTH: &str = "NOAUTH Authentication required.";
const NO_AUTH_HELLO: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";
const WRONG_PASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";

/// What remains to be done about a request.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing; it is answered.
    Next,
    /// Close the connection when it is answered.
    Close,
    /// Find out about a password, and say so to [`Session::verified`].
    Verify(UsersFile, Attempt),
    /// Wait until these zones are saved, or take back what was answered.
    Save(Vec<String>),
    /// Go through a zone, elsewhere.
    Walk(Walk),
}

/// Somebody who says who he is.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) user: String,
    pub(super) password: Vec<u8>,
    /// If by `HELLO`: what else that said.
    hello: Option<Hello>,
}

#[derive(Debug)]
struct Hello {
    protocol: Protocol,
    name: Option<Vec<u8>>,
}

/// One client.
#[derive(Debug)]
pub(super) struct Session {
    redis: Arc<Inner>,
    pub(super) client: Client,
    pub(super) id: u64,
    rules: Arc<Rules>,
    generation: u64,
    /// Who it is; nobody, where nobody is asked for a password.
    user: Option<String>,
    pub(super) database: usize,
    pub(super) name: Vec<u8>,
    /// Room for a value.
    value: Vec<u8>,
}

impl Session {
    /// A client that has just come. `None`: it may not, by its address.
    pub(super) fn new(redis: Arc<Inner>, client: Client) -> Option<Self> {
        let generation = redis.generation.load(Ordering::Acquire);
        let (rules, id) = (redis.rules(), redis.next_client.fetch_add(1, Ordering::Relaxed));
        rules.grants.access.allows(client.address).then(|| Self {
            redis,
            client,
            id,
            rules,
            generation,
            user: None,
            database: 0,
            name: Vec::new(),
            value: Vec::new(),
        })
    }

    /// Whether it has authenticated, where that is asked for.
    pub(super) fn is_known(&self) -> bool {
        self.user.is_some() || self.rules.grants.users.is_none()
    }

    pub(super) fn bounds(&self) -> Bounds {
        if self.is_known() { Bounds::KNOWN } else { Bounds::STRANGER }
    }

    pub(super) fn user(&self) -> &str {
        self.user.as_deref().unwrap_or(DEFAULT_USER)
    }

    fn database(&self) -> &Database {
        self.redis.databases.get(self.database)
    }

    /// Takes over rules that were replaced. False: by those the client would not have been let in.
    fn renew(&mut self) -> bool {
        let generation = self.redis.generation.load(Ordering::Acquire);
        if generation == self.generation {
            return true;
        }
        let old = std::mem::replace(&mut self.rules, self.redis.rules());
        self.generation = generation;
        let agrees = match (&old.grants.users, &self.rules.grants.users, &self.user) {
            // Nobody is asked, or has said anything that could have become wrong.
            (_, None, _) | (Some(_), Some(_), None) => true,
            (Some(old), Some(new), Some(user)) => old.agrees(new, user),
            (None, Some(_), _) => false,
        };
        agrees && self.rules.grants.access.allows(self.client.address)
    }

    /// Carries out a request, as far as it can.
    pub(super) fn execute(&mut self, request: Request<'_>, now: Time, replies: &mut Replies) -> Step {
        if !self.renew() {
            return Step::Close;
        }
        if request.len() == 0 {
            return Step::Next;
        }
        let Some(command) = Command::find(request.get(0)) else {
            if self.is_known() {
                command::unknown(request, replies);
            } else {
                replies.error(NO_AUTH);
            }
            return Step::Next;
        };
        if !self.is_known() && command.need != Need::Nothing {
            replies.error(NO_AUTH);
            return Step::Next;
        }
        if !command.takes(request.len()) {
            replies.error(format_args!("ERR wrong number of arguments for '{}' command", command.name));
            return Step::Next;
        }
        if let Some(missing) = self.missing(command.need) {
            let user = self.user();
            replies.error(format_args!(
                "NOPERM User {user} has no permissions to run the '{}' command: {missing}",
                command.name
            ));
            return Step::Next;
        }
        let begin = replies.len();
        match self.act(command, request, now, replies) {
            Ok(step) => step,
            Err(refusal) => {
                replies.take_back(begin);
                replies.error(refusal);
                Step::Next
            }
        }
    }

    /// What a client lacks to do something.
    fn missing(&self, need: Need) -> Option<&'static str> {
        let grants = &self.rules.grants;
        let is_reader = || self.user.as_ref().is_some_and(|user| self.rules.read_only_users.contains(user));
        match need {
            Need::Nothing | Need::Read => None,
            Need::Write if !grants.write => Some("it needs write = true in [redis]"),
            Need::Decide if !grants.decide => Some("it needs decide = true in [redis]"),
            Need::Write | Need::Decide => is_reader().then_some("the user is one of read_only_users"),
        }
    }

    fn act(
        &mut self,
        command: &Command,
        request: Request<'_>,
        now: Time,
        replies: &mut Replies,
    ) -> Result<Step, Refusal> {
        const SECOND: Duration = Duration::from_secs(1);
        const MILLISECOND: Duration = Duration::from_millis(1);
        // Not by the method, which would borrow the whole of the session.
        let database = self.redis.databases.get(self.database);
        match command.act {
            Act::Get => keys::get(database, request, now, &mut self.value, replies)?,
            Act::MGet => keys::mget(database, request, now, &mut self.value, replies)?,
            Act::Exists => keys::exists(database, request, now, &mut self.value, replies)?,
            Act::Ttl => keys::ttl(database, request, now, SECOND, replies)?,
            Act::PTtl => keys::ttl(database, request, now, MILLISECOND, replies)?,
            Act::Set | Act::Del | Act::Expire | Act::PExpire => {
                return self.change(command.act, request, now, replies);
            }
            Act::Throttle => {
                let zone = self.redis.limit.as_ref().ok_or(Refusal::Plain(
                    "ERR there is no limit zone for CL.THROTTLE; name one as limit in [redis]",
                ))?;
                match self.redis.door.begin_change() {
                    Some(_changing) => throttle::throttle(zone, request, now, replies)?,
                    None => replies.error(super::STOPPING),
                }
            }
            Act::Scan => return Ok(Step::Walk(Walk::Scan(self.database, Scan::read(request)?))),
            Act::FlushDb => match request.get(1).to_ascii_uppercase().as_slice() {
                b"" | b"SYNC" | b"ASYNC" if request.len() <= 2 => {
                    return Ok(Step::Walk(Walk::Flush(self.database)));
                }
                _ => return Err(SYNTAX),
            },
            Act::DbSize => replies.count(info::keys(database)),
            Act::Select => self.select(request, replies)?,
            Act::Ping => match request.len() {
                1 => replies.simple("PONG"),
                2 => replies.bulk(request.get(1)),
                _ => return Err(Refusal::Plain("ERR wrong number of arguments for 'ping' command")),
            },
            Act::Echo => replies.bulk(request.get(1)),
            Act::Quit => {
                replies.ok();
                return Ok(Step::Close);
            }
            Act::Auth => return self.auth(request),
            Act::Hello => return self.hello(request, replies),
            Act::Client => self.about_client(request, replies),
            Act::Command => command::about(request, replies),
            Act::Info => info::info(&self.redis, request, replies),
        }
        Ok(Step::Next)
    }

    /// A change of keys: none while the node stops, and answered when it is in the zone's file if it has one.
    fn change(
        &self,
        act: Act,
        request: Request<'_>,
        now: Time,
        replies: &mut Replies,
    ) -> Result<Step, Refusal> {
        let Some(_changing) = self.redis.door.begin_change() else {
            replies.error(super::STOPPING);
            return Ok(Step::Next);
        };
        let database = self.database();
        let mut unsaved = Vec::new();
        if act == Act::Del {
            let mut removed = 0;
            for key in request.from(1) {
                let zone = database.zone(key).ok_or(Refusal::NoZone)?;
                if keys::remove(&zone.keyval, key, now)? {
                    removed += 1;
                    if zone.is_kept && !unsaved.iter().any(|name| name == zone.keyval.name()) {
                        unsaved.push(zone.keyval.name().to_owned());
                    }
                }
            }
            replies.count(removed);
        } else {
            let zone = database.zone(request.get(1)).ok_or(Refusal::NoZone)?;
            let changed = match act {
                Act::Expire => {
                    let unit = (Duration::from_secs(1), "expire");
                    keys::expire(&zone.keyval, request, now, unit, replies)?
                }
                Act::PExpire => {
                    let unit = (Duration::from_millis(1), "pexpire");
                    keys::expire(&zone.keyval, request, now, unit, replies)?
                }
                _ => keys::set(&zone.keyval, request, now, replies)?,
            };
            if changed && zone.is_kept {
                unsaved.push(zone.keyval.name().to_owned());
            }
        }
        Ok(if unsaved.is_empty() { Step::Next } else { Step::Save(unsaved) })
    }

    fn select(&mut self, request: Request<'_>, replies: &mut Replies) -> Result<(), Refusal> {
        let number = usize::try_from(integer(request.get(1))?).ok();
        let number = number.filter(|number| *number < self.redis.databases.len());
        self.database = number.ok_or(Refusal::Plain("ERR DB index is out of range"))?;
        replies.ok();
        Ok(())
    }

    /// `AUTH [user] password`.
    fn auth(&self, request: Request<'_>) -> Result<Step, Refusal> {
        let (user, password) = match request.len() {
            2 => (DEFAULT_USER.as_bytes(), request.get(1)),
            3 => (request.get(1), request.get(2)),
            _ => return Err(SYNTAX),
        };
        self.attempt(user, password, None)
    }

    fn attempt(&self, user: &[u8], password: &[u8], hello: Option<Hello>) -> Result<Step, Refusal> {
        let users = self.rules.grants.users.clone().ok_or(Refusal::Plain(NO_PASSWORD))?;
        // What is no text is nobody's name.
        let user = std::str::from_utf8(user).map_err(|_| Refusal::Plain(WRONG_PASS))?.to_owned();
        Ok(Step::Verify(users, Attempt { user, password: password.to_owned(), hello }))
    }

    /// Takes note of what came of an attempt, and answers it.
    pub(super) fn verified(&mut self, attempt: Attempt, is_right: bool, replies: &mut Replies) {
        if !is_right {
            return replies.error(WRONG_PASS);
        }
        self.user = Some(attempt.user);
        match attempt.hello {
            None => replies.ok(),
            Some(hello) => self.greet(hello, replies),
        }
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`.
    fn hello(&mut self, request: Request<'_>, replies: &mut Replies) -> Result<Step, Refusal> {
        let protocol = match request.get(1) {
            _ if request.len() == 1 => replies.protocol,
            b"2" => Protocol::Resp2,
            b"3" => Protocol::Resp3,
            other if integer(other).is_ok() => {
                return Err(Refusal::Plain("NOPROTO unsupported protocol version"));
            }
            _ => return Err(Refusal::Plain("ERR Protocol version is not an integer or out of range")),
        };
        let (mut login, mut name) = (None, None);
        let mut at = 2;
        while at < request.len() {
            let word = request.get(at).to_ascii_uppercase();
            at += match word.as_slice() {
                b"AUTH" if at + 2 < request.len() => {
                    login = Some((request.get(at + 1), request.get(at + 2)));
                    3
                }
                b"SETNAME" if at + 1 < request.len() => {
                    name = Some(client_name(request.get(at + 1))?.to_owned());
                    2
                }
                _ => return Err(Refusal::Plain("ERR Syntax error in HELLO option")),
            };
        }
        let hello = Hello { protocol, name };
        if let Some((user, password)) = login {
            return self.attempt(user, password, Some(hello));
        }
        if !self.is_known() {
            return Err(Refusal::Plain(NO_AUTH_HELLO));
        }
        self.greet(hello, replies);
        Ok(Step::Next)
    }

    fn greet(&mut self, hello: Hello, replies: &mut Replies) {
        replies.protocol = hello.protocol;
        if let Some(name) = hello.name {
            self.name = name;
        }
        command::hello(hello.protocol, self.id, replies);
    }

    /// `CLIENT …`.
    fn about_client(&mut self, request: Request<'_>, replies: &mut Replies) {
        let subcommand = request.get(1).to_ascii_lowercase();
        match (subcommand.as_slice(), request.len()) {
            (b"id", 2) => replies.count(self.id),
            (b"getname", 2) if self.name.is_empty() => replies.null(),
            (b"getname", 2) => replies.bulk(&self.name),
            (b"setname", 3) => match client_name(request.get(2)) {
                Ok(name) => {
                    self.name = name.to_owned();
                    replies.ok();
                }
                Err(refusal) => replies.error(refusal),
            },
            // Which library it is. Nobody here asks.
            (b"setinfo", 4) => match request.get(2).to_ascii_lowercase().as_slice() {
                b"lib-name" | b"lib-ver" => replies.ok(),
                other => {
                    let other = String::from_utf8_lossy(command::shown(other)).into_owned();
                    replies.error(format_args!("ERR Unrecognized option '{other}'"));
                }
            },
            (b"info", 2) => info::client(self, replies),
            _ => command::unknown_subcommand("CLIENT", request, replies),
        }
    }
}

/// What a client may call itself.
fn client_name(name: &[u8]) -> Result<&[u8], Refusal> {
    if name.len() > NAME_MAX || !name.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::Plain(
            "ERR Client names cannot contain spaces, newlines or special characters, or be longer than 256 bytes.",
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests;
