//! The commands that are understood, and what they say about themselves.

use super::reply::{Protocol, Replies};
use super::request::Request;

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Auth,
    Client,
    Command,
    DbSize,
    Del,
    Echo,
    Exists,
    Expire,
    FlushDb,
    Get,
    Hello,
    Info,
    MGet,
    PExpire,
    PTtl,
    Ping,
    Quit,
    Scan,
    Select,
    Set,
    Throttle,
    Ttl,
}

/// What a client must be allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing, not even to be known: the commands by which it gets known, and goes.
    Nothing,
    /// To read.
    Read,
    /// To change keyval zones: `write`.
    Write,
    /// To use up rate: `decide`.
    Decide,
}

/// A command.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// How many words it has, its name included; so many at least if negative.
    arity: i64,
    pub(super) act: Act,
    pub(super) need: Need,
    /// The first word that is a key, the last (from the end if negative), and the step between two.
    keys: (i64, i64, i64),
    group: &'static str,
    summary: &'static str,
}

const fn command(
    name: &'static str,
    arity: i64,
    act: Act,
    need: Need,
    keys: (i64, i64, i64),
    (group, summary): (&'static str, &'static str),
) -> Command {
    Command { name, arity, act, need, keys, group, summary }
}

const NO_KEY: (i64, i64, i64) = (0, 0, 0);
const ONE_KEY: (i64, i64, i64) = (1, 1, 1);
const ALL_KEYS: (i64, i64, i64) = (1, -1, 1);

/// All of them, what is asked for most first.
static COMMANDS: [Command; 22] = [
    command("get", 2, Act::Get, Need::Read, ONE_KEY, ("string", "The value of a key")),
    command("set", -3, Act::Set, Need::Write, ONE_KEY, ("string", "Sets a key to a value")),
    command(
        "cl.throttle",
        -5,
        Act::Throttle,
        Need::Decide,
        ONE_KEY,
        ("module", "Checks a limit as redis-cell does"),
    ),
    command("ping", -1, Act::Ping, Need::Read, NO_KEY, ("connection", "Answers PONG, or what it was given")),
    command("mget", -2, Act::MGet, Need::Read, ALL_KEYS, ("string", "The values of several keys")),
    command("del", -2, Act::Del, Need::Write, ALL_KEYS, ("generic", "Removes keys, on every node")),
    command("exists", -2, Act::Exists, Need::Read, ALL_KEYS, ("generic", "How many of the keys are there")),
    command("expire", 3, Act::Expire, Need::Write, ONE_KEY, ("generic", "Lets a key expire in seconds")),
    command(
        "pexpire",
        3,
        Act::PExpire,
        Need::Write,
        ONE_KEY,
        ("generic", "Lets a key expire in milliseconds"),
    ),
    command("ttl", 2, Act::Ttl, Need::Read, ONE_KEY, ("generic", "Seconds until a key expires")),
    command("pttl", 2, Act::PTtl, Need::Read, ONE_KEY, ("generic", "Milliseconds until a key expires")),
    command("scan", -2, Act::Scan, Need::Read, NO_KEY, ("generic", "The keys of the database, in parts")),
    command("dbsize", 1, Act::DbSize, Need::Read, NO_KEY, ("server", "How many keys the database has")),
    command("flushdb", -1, Act::FlushDb, Need::Write, NO_KEY, ("server", "Removes all keys of the database")),
    command("select", 2, Act::Select, Need::Read, NO_KEY, ("connection", "Chooses a database")),
    command("auth", -2, Act::Auth, Need::Nothing, NO_KEY, ("connection", "Says who the client is")),
    command("hello", -1, Act::Hello, Need::Nothing, NO_KEY, ("connection", "Chooses the protocol")),
    command("echo", 2, Act::Echo, Need::Read, NO_KEY, ("connection", "Answers what it was given")),
    command("client", -2, Act::Client, Need::Read, NO_KEY, ("connection", "About this connection")),
    command("info", -1, Act::Info, Need::Read, NO_KEY, ("server", "About this node")),
    command("command", -1, Act::Command, Need::Read, NO_KEY, ("server", "About the commands")),
    command("quit", -1, Act::Quit, Need::Nothing, NO_KEY, ("connection", "Closes the connection")),
];

impl Command {
    /// The command of a name, in upper or lower case.
    pub(super) fn find(name: &[u8]) -> Option<&'static Self> {
        COMMANDS.iter().find(|command| command.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether it can have so many words.
    pub(super) fn takes(&self, words: usize) -> bool {
        let words = i64::try_from(words).unwrap_or(i64::MAX);
        if self.arity < 0 { words >= -self.arity } else { words == self.arity }
    }

    fn info(&self, replies: &mut Replies) {
        let flags: &[&str] = match self.need {
            Need::Nothing => &["noscript", "no_auth", "fast"],
            Need::Read => &["readonly", "fast"],
            Need::Write | Need::Decide => &["write", "denyoom", "fast"],
        };
        replies.array(10);
        replies.bulk(self.name.as_bytes());
        replies.integer(self.arity);
        replies.set(flags.len());
        flags.iter().for_each(|flag| replies.simple(flag));
        let (first, last, step) = self.keys;
        [first, last, step].into_iter().for_each(|number| replies.integer(number));
        replies.set(1);
        replies.simple(match self.need {
            Need::Nothing => "@connection",
            Need::Read => "@read",
            Need::Write | Need::Decide => "@write",
        });
        // Tips, specifications of keys, subcommands: none.
        (0..3).for_each(|_| replies.array(0));
    }

    fn docs(&self, replies: &mut Replies) {
        replies.bulk(self.name.as_bytes());
        replies.map(2);
        for (key, value) in [("summary", self.summary), ("group", self.group)] {
            replies.bulk(key.as_bytes());
            replies.bulk(value.as_bytes());
        }
    }
}

/// `COMMAND`, `COMMAND COUNT`, `COMMAND INFO`, `COMMAND DOCS`, `COMMAND LIST`.
pub(super) fn about(request: Request<'_>, replies: &mut Replies) {
    let asked = || request.from(2).map(Command::find);
    match request.get(1).to_ascii_lowercase().as_slice() {
        b"" if request.len() == 1 => {
            replies.array(COMMANDS.len());
            COMMANDS.iter().for_each(|command| command.info(replies));
        }
        b"count" if request.len() == 2 => replies.count(COMMANDS.len() as u64),
        b"list" if request.len() == 2 => {
            replies.array(COMMANDS.len());
            COMMANDS.iter().for_each(|command| replies.bulk(command.name.as_bytes()));
        }
        b"info" if request.len() == 2 => {
            replies.array(COMMANDS.len());
            COMMANDS.iter().for_each(|command| command.info(replies));
        }
        b"info" => {
            replies.array(request.len() - 2);
            for command in asked() {
                match command {
                    Some(command) => command.info(replies),
                    None => replies.null_array(),
                }
            }
        }
        b"docs" if request.len() == 2 => {
            replies.map(COMMANDS.len());
            COMMANDS.iter().for_each(|command| command.docs(replies));
        }
        b"docs" => {
            replies.map(asked().flatten().count());
            asked().flatten().for_each(|command| command.docs(replies));
        }
        _ => unknown_subcommand("COMMAND", request, replies),
    }
}

/// A subcommand that nobody knows, or with too many words.
pub(super) fn unknown_subcommand(command: &str, request: Request<'_>, replies: &mut Replies) {
    let subcommand = String::from_utf8_lossy(shown(request.get(1)));
    replies.error(format_args!(
        "ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Known of {command} are {}",
        match command {
            "CLIENT" => "GETNAME, ID, INFO, SETINFO and SETNAME",
            _ => "COUNT, DOCS, INFO and LIST",
        }
    ));
}

/// As much of an argument as an error shows.
pub(super) fn shown(argument: &[u8]) -> &[u8] {
    &argument[..argument.len().min(64)]
}

/// A command that is none of these, with what came behind it, as Redis says it.
pub(super) fn unknown(request: Request<'_>, replies: &mut Replies) {
    let name = String::from_utf8_lossy(shown(request.get(0)));
    let mut beginning = String::new();
    for argument in request.from(1).take(4) {
        beginning.push_str(&format!("'{}' ", String::from_utf8_lossy(shown(argument))));
    }
    replies.error(format_args!("ERR unknown command '{name}', with args beginning with: {beginning}"));
}

/// What `HELLO` answers.
pub(super) fn hello(protocol: Protocol, client: u64, replies: &mut Replies) {
    replies.map(7);
    for (key, value) in [("server", "redis"), ("version", super::VERSION)] {
        replies.bulk(key.as_bytes());
        replies.bulk(value.as_bytes());
    }
    replies.bulk(b"proto");
    replies.integer(protocol.number());
    replies.bulk(b"id");
    replies.count(client);
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        replies.bulk(key.as_bytes());
        replies.bulk(value.as_bytes());
    }
    replies.bulk(b"modules");
    replies.array(0);
}
