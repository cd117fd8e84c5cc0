//! What one HAProxy is taught of one table: first all that the zone has, then what changes.

use super::counts::{self, Counts};
use super::definition::{Definition, Field, Form};
use super::entry::{self, Datum, Telling};
use super::tables::{Role, Servers, counts_key, split_counts_key};
use super::wire::{put_message, table};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use sync_store::{KeyvalZone, Seen, StickyZone, Time};

/// Sessions that were just heard from the peer and are not told back to it. Of more than this some are, which costs their bytes.
const HEARD_MAX: usize = 1 << 16;
/// HAProxies whose counters are summed: what one sum costs.
pub(super) const PEERS_MAX: usize = 1024;
/// Keys whose sums are made together: each once, however many have counted it.
const SUMS: usize = 256;

/// Writes updates to one peer.
#[derive(Debug, Default)]
pub(super) struct Pen {
    is_timed: bool,
    telling: Telling,
    /// The table that was defined last: updates are for that one.
    table: Option<u64>,
    body: Vec<u8>,
}

impl Pen {
    pub(super) fn new(is_timed: bool) -> Self {
        Self { is_timed, ..Self::default() }
    }

    fn define(&mut self, definition: &Definition, output: &mut Vec<u8>) {
        if self.table.replace(definition.number) != Some(definition.number) {
            self.body.clear();
            definition.write(&mut self.body);
            put_message(output, table::DEFINITION, &self.body);
        }
    }

    /// False: the key can be none of that table.
    fn update(
        &mut self,
        definition: &Definition,
        update: u32,
        key: &[u8],
        left_ms: u64,
        data: impl Iterator<Item = Datum>,
        output: &mut Vec<u8>,
    ) -> bool {
        self.define(definition, output);
        self.body.clear();
        self.body.extend_from_slice(&update.to_be_bytes());
        // A table whose entries never expire has no time that is left.
        let is_timed = self.is_timed && definition.expire_ms > 0;
        if is_timed {
            let left_ms = u32::try_from(left_ms).unwrap_or(u32::MAX).min(i32::MAX as u32);
            self.body.extend_from_slice(&left_ms.to_be_bytes());
        }
        if !definition.write_key(&mut self.body, key) {
            return false;
        }
        entry::write(&mut self.body, &mut self.telling, data);
        put_message(output, if is_timed { table::UPDATE_TIMED } else { table::UPDATE }, &self.body);
        true
    }
}

/// What is taught of one table, and how far that has come.
#[derive(Debug)]
pub(super) struct Lesson {
    /// As the peer has it, with our number, and of its data what we teach.
    definition: Definition,
    subject: Subject,
    seen: Seen,
    /// Whether everything was taught once.
    is_complete: bool,
    /// The number of the last update.
    update: u32,
}

#[derive(Debug)]
enum Subject {
    Sessions(Arc<StickyZone>, Arc<Servers>, Heard),
    Sums {
        of: String,
        zone: Arc<KeyvalZone>,
        /// HAProxies that have counted something.
        peers: BTreeSet<String>,
    },
}

/// Sessions that were heard from the peer itself since the pass before the last: telling them back could undo what it has learned since.
#[derive(Debug, Default)]
struct Heard {
    now: HashMap<Vec<u8>, Vec<u8>>,
    before: HashMap<Vec<u8>, Vec<u8>>,
}

impl Heard {
    fn insert(&mut self, session: &[u8], server: &[u8]) {
        if self.now.len() >= HEARD_MAX {
            self.turn();
        }
        self.now.insert(session.to_owned(), server.to_owned());
    }

    /// Whether this is what the peer itself said last.
    fn take(&mut self, session: &[u8], server: &[u8]) -> bool {
        let (now, before) = (self.now.remove(session), self.before.remove(session));
        now.or(before).is_some_and(|heard| heard == server)
    }

    fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}

impl Lesson {
    /// A lesson about a table that the peer has defined so; `None` if it is none that is taught.
    pub(super) fn new(number: u64, role: &Role, theirs: &Definition) -> Option<Self> {
        let subject = match role {
            Role::Sessions(zone, servers) => {
                Subject::Sessions(Arc::clone(zone), Arc::clone(servers), Heard::default())
            }
            Role::Sums { of, zone } => {
                Subject::Sums { of: of.clone(), zone: Arc::clone(zone), peers: BTreeSet::new() }
            }
            Role::Counters(_) => return None,
        };
        let definition = Definition { number, ..theirs.clone() };
        let mut lesson = Self { definition, subject, seen: Seen::default(), is_complete: false, update: 0 };
        lesson.define(theirs);
        Some(lesson)
    }

    /// The peer has defined the table once more.
    pub(super) fn define(&mut self, theirs: &Definition) {
        self.definition = Definition { number: self.definition.number, ..theirs.clone() };
        match self.subject {
            Subject::Sessions(..) => {
                self.definition.fields =
                    entry::server_position(&theirs.fields).map(|at| theirs.fields[at]).into_iter().collect();
            }
            Subject::Sums { .. } => self.definition.fields.retain(Field::is_summable),
        }
    }

    /// Teaches everything once more.
    pub(super) fn begin_anew(&mut self) {
        self.seen = Seen::default();
        self.is_complete = false;
    }

    /// The peer says that a session belongs to a server.
    pub(super) fn hear(&mut self, session: &[u8], server: &[u8]) {
        if let Subject::Sessions(.., heard) = &mut self.subject {
            heard.insert(session, server);
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.seen.slots()
    }

    /// Teaches what has changed, until the output has so many bytes. False: there is more.
    pub(super) fn go_on(&mut self, pen: &mut Pen, now: Time, output: &mut Vec<u8>, room: usize) -> bool {
        let Self { definition, subject, seen, is_complete, update } = self;
        let mut write = |key: &[u8], left_ms, data: Vec<Datum>| {
            let next = update.wrapping_add(1);
            if pen.update(definition, next, key, left_ms, data.into_iter(), output) {
                *update = next;
            }
            output.len() < room
        };
        let is_through = match subject {
            Subject::Sessions(zone, servers, heard) => {
                let is_named = definition.fields.iter().any(|field| field.form() == Form::Server);
                let has_room = zone.changed(seen, now).all(|(key, session)| {
                    let left_ms = session
                        .last_access
                        .saturating_add(Duration::from_millis(definition.expire_ms))
                        .saturating_sub(now)
                        .as_millis() as u64;
                    let is_over = definition.expire_ms > 0 && left_ms == 0;
                    if heard.take(&key, &session.server) || is_over {
                        return true;
                    }
                    let datum = if is_named {
                        Some(Datum::Server(Some(session.server.into_vec())))
                    } else {
                        servers.number(&session.server).map(|number| Datum::Number(number.into()))
                    };
                    // A server without a number is none of this HAProxy's.
                    datum.is_none_or(|datum| write(&key, left_ms, vec![datum]))
                });
                if has_room {
                    heard.turn();
                }
                has_room
            }
            Subject::Sums { of, zone, peers } => loop {
                let mut keys = BTreeSet::new();
                for (key, _) in zone.changed(seen, now) {
                    let Some((peer, key)) = split_counts_key(of, &key) else { continue };
                    if !peers.contains(peer) && peers.len() < PEERS_MAX {
                        peers.insert(peer.to_owned());
                    }
                    keys.insert(key.to_owned());
                    if keys.len() == SUMS {
                        break;
                    }
                }
                let mut has_room = true;
                for key in keys {
                    let (all, left_ms) = counts_of(zone, of, peers, &key, definition.expire_ms, now);
                    // What has expired meanwhile is no sum.
                    if !all.is_empty() {
                        has_room = write(&key, left_ms, counts::sum(&definition.fields, &all, now));
                    }
                }
                if seen.is_through() {
                    break true;
                }
                if !has_room {
                    break false;
                }
            },
        };
        *is_complete |= is_through;
        is_through
    }

    /// Whether everything was taught once.
    pub(super) const fn is_complete(&self) -> bool {
        self.is_complete
    }
}

/// What all have counted for a key, and how long that counts.
fn counts_of(
    zone: &KeyvalZone,
    table: &str,
    peers: &BTreeSet<String>,
    key: &[u8],
    expire_ms: u64,
    now: Time,
) -> (Vec<Counts>, u64) {
    let mut left_ms = 0;
    let entries = peers.iter().filter_map(|peer| zone.entry(counts_key(table, peer, key), now));
    let all = entries.map(|entry| {
        let left = entry.expires_at.map_or(expire_ms, |at| at.saturating_sub(now).as_millis() as u64);
        left_ms = left.min(expire_ms).max(left_ms);
        Counts::parse(&entry.value)
    });
    (all.collect(), left_ms)
}
