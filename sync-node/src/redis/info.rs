//! What the door says about itself: `INFO`, `DBSIZE`, `CLIENT INFO`.

use super::databases::Database;
use super::reply::Replies;
use super::request::Request;
use super::session::Session;
use super::{Inner, VERSION};
use sync_store::Replica;

/// Sections of `INFO`, in their order.
const SECTIONS: [&str; 5] = ["server", "clients", "stats", "replication", "keyspace"];

/// How many keys a database has; those are counted too that have expired and were not swept away yet, as in Redis.
pub(super) fn keys(database: &Database) -> u64 {
    database.zones().iter().map(|zone| zone.keyval.stats().records).sum()
}

/// `INFO [section…]`.
pub(super) fn info(redis: &Inner, request: Request<'_>, replies: &mut Replies) {
    let is_asked = |section: &str| {
        let mut asked = request.from(1).map(<[u8]>::to_ascii_lowercase);
        request.len() == 1
            || asked.any(|word| {
                word == section.as_bytes() || matches!(word.as_slice(), b"all" | b"default" | b"everything")
            })
    };
    let mut text = String::new();
    for section in SECTIONS.into_iter().filter(|section| is_asked(section)) {
        let (first, rest) = section.split_at(1);
        let gap = if text.is_empty() { "" } else { "\r\n" };
        text.push_str(&format!("{gap}# {}{rest}\r\n", first.to_ascii_uppercase()));
        for (key, value) in lines(redis, section) {
            text.push_str(&format!("{key}:{value}\r\n"));
        }
    }
    replies.text(&text);
}

/// The figures of a section.
fn lines(redis: &Inner, section: &str) -> Vec<(String, String)> {
    let node = redis.door.node();
    let status = redis.door.counters().status();
    let mut lines = Vec::new();
    let mut line = |key: &str, value: &dyn std::fmt::Display| lines.push((key.to_owned(), value.to_string()));
    match section {
        "server" => {
            line("redis_version", &VERSION);
            line("redis_mode", &"standalone");
            line("sync_node_version", &env!("CARGO_PKG_VERSION"));
            line("sync_node_name", &node.name());
            line("process_id", &std::process::id());
            line("run_id", &node.origin());
            line("uptime_in_seconds", &node.now().saturating_sub(redis.opened_at).as_secs());
        }
        "clients" => {
            line("connected_clients", &status.connections);
            line("maxclients", &redis.connections);
        }
        "stats" => {
            line("total_connections_received", &status.connections_accepted);
            line("rejected_connections", &status.connections_dropped);
            line("total_commands_processed", &status.requests);
            line("total_error_replies", &status.errors);
        }
        "replication" => {
            line("role", &"master");
            line("connected_slaves", &0);
        }
        _ => {
            for number in 0..redis.databases.len() {
                let keys = keys(redis.databases.get(number));
                if keys > 0 {
                    line(&format!("db{number}"), &format_args!("keys={keys},expires=0,avg_ttl=0"));
                }
            }
        }
    }
    lines
}

/// `CLIENT INFO`.
pub(super) fn client(session: &Session, replies: &mut Replies) {
    let Session { id, client, database, name, .. } = session;
    let (name, user) = (String::from_utf8_lossy(name), session.user());
    let protocol = replies.protocol.number();
    replies.text(&format!("id={id} addr={client} name={name} db={database} resp={protocol} user={user}\n"));
}
