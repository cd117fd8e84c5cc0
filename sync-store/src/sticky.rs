//! Which server a session belongs to; the last learned one wins.

mod builder;

use std::path::Path;

use crate::block::{Buffer, Draft, Header};
use crate::table::{Found, Put, Step, Table, Written, replica_by_table};
use crate::time::Time;
use crate::{Error, Origin, Seen, Stamp, Value};

pub use builder::StickyZoneBuilder;

/// A session, as [`StickyZone::entry`] answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The server that it belongs to.
    pub server: Value,
    /// Its last access, as far as this node knows.
    pub last_access: Time,
    /// When the server was learned.
    pub stamp: Stamp,
    /// Who learned it.
    pub writer: Origin,
}

/// A sticky zone: sessions and the servers they belong to. A session that is not accessed for the zone's time-out is forgotten; a zone that is
/// full forgets the sessions that were not accessed for longest.
///
/// Every [`lookup`](Self::lookup) is an access. To keep readers from writing, the last access is recorded only when it is 1/64 of
/// the time-out later than what is recorded; and to keep reading from flooding the cluster, it is published only when it is 1/8 later than what was published. What a node
/// knows of a session's last access may thus be too early by 9/64 of the time-out, so that is how much longer than the time-out every node
/// keeps a session: none forgets one early.
///
/// A server is a name or an address: it has to mean the same on every node.
///
/// ```
/// use std::time::Duration;
/// use sync_store::{StickyZone, Time};
///
/// let sessions = StickyZone::builder("sessions").size(1 << 20).timeout(Duration::from_secs(600)).build()?;
/// sessions.learn("cookie-1", "10.0.0.1:80", Time::from_millis(0))?;
/// assert_eq!(sessions.lookup("cookie-1", Time::from_millis(500_000)).as_deref(), Some(&b"10.0.0.1:80"[..]));
/// assert!(sessions.lookup("cookie-1", Time::from_millis(1_000_000)).is_some()); // kept alive by the access before
/// assert!(sessions.lookup("cookie-1", Time::from_millis(2_000_000)).is_none());
/// # Ok::<(), sync_store::Error>(())
/// ```
#[derive(Debug)]
pub struct StickyZone {
    pub(crate) table: Table,
    timeout_ms: u64,
}

replica_by_table!(StickyZone);

/// The part of the time-out by which an access must be later than the recorded one to be recorded.
const RECORD_SHARE: u64 = 64;
/// The part of the time-out by which an access must be later than the published one to be published.
const PUBLISH_SHARE: u64 = 8;

/// The part of the time-out in which lags are counted. Rounded up at every record of an access, of which there are eight at most between two
/// publications, they are at most 8/1024 of the time-out too large.
const LAG_SHARE: u64 = 1024;

/// How long after the last access that a node knows of a session is gone.
const fn idle_ms(timeout_ms: u64) -> u64 {
    timeout_ms.saturating_add(timeout_ms / RECORD_SHARE).saturating_add(timeout_ms / PUBLISH_SHARE)
}

impl StickyZone {
    /// Begins a zone; `name` is what other nodes know it by.
    pub fn builder(name: impl Into<String>) -> StickyZoneBuilder {
        StickyZoneBuilder::new(name.into())
    }

    /// Attaches to the zone that another process owns in this file; see [`Region::map_file`](crate::Region::map_file). Reads and writes the same sessions; the owner
    /// replicates what is written here. Its settings are the owner's as they were at this moment.
    ///
    /// # Errors
    ///
    /// [`Error::Region`], [`Error::NotARegion`], [`Error::RegionMismatch`], [`Error::TooManyProcesses`].
    pub fn attach(path: impl AsRef<Path>) -> Result<Self, Error> {
        StickyZoneBuilder::attach(path.as_ref())
    }

    /// Learns that a session belongs to a server. Of a session that belongs to it already this is an access, nothing more.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyKey`], [`Error::KeyTooLong`], [`Error::RecordTooLarge`]. [`Error::ZoneFull`] if nothing can be evicted: the zone
    /// holds tombstones, or records that are all too small to give room to this one.
    pub fn learn(&self, session: impl AsRef<[u8]>, server: impl AsRef<[u8]>, now: Time) -> Result<(), Error> {
        let (session, server) = (session.as_ref(), server.as_ref());
        self.table.check(session, server)?;
        let mut known = Value::new();
        if let Some(found) = self.find(session, now, &mut known)
            && known == *server
        {
            self.touch(&found, session, server, now);
            return Ok(());
        }
        self.table.write(now, session, Put::New(server), |found| {
            Step::Write(self.table.header(found, now, false, now.as_millis()))
        })?;
        Ok(())
    }

    /// The server of a session. An access: keeps the session alive.
    #[inline]
    pub fn lookup(&self, session: impl AsRef<[u8]>, now: Time) -> Option<Value> {
        let mut server = Value::new();
        self.lookup_to(session.as_ref(), now, &mut server).then_some(server)
    }

    /// The same into a buffer, whose content is replaced. Answers whether the session is there; if not, the buffer holds anything.
    ///
    /// Allocates nothing if the buffer is large enough.
    #[inline]
    pub fn lookup_into(&self, session: impl AsRef<[u8]>, now: Time, server: &mut Vec<u8>) -> bool {
        self.lookup_to(session.as_ref(), now, server)
    }

    #[inline]
    fn lookup_to(&self, session: &[u8], now: Time, server: &mut impl Buffer) -> bool {
        let found = self.find(session, now, server);
        if let Some(found) = &found {
            self.touch(found, session, server.bytes(), now);
        }
        found.is_some()
    }

    /// The server of a session, without accessing it.
    #[must_use]
    pub fn peek(&self, session: impl AsRef<[u8]>, now: Time) -> Option<Value> {
        let mut server = Value::new();
        self.find(session.as_ref(), now, &mut server).map(|_| server)
    }

    /// Everything about a session, without accessing it.
    #[must_use]
    pub fn entry(&self, session: impl AsRef<[u8]>, now: Time) -> Option<Session> {
        loop {
            let mut server = Value::new();
            let found = self.find(session.as_ref(), now, &mut server)?;
            let Header { stamp, time_ms, .. } = found.header();
            if let Some(writer) = self.table.writer(&found) {
                return Some(Session { server, last_access: Time::from_millis(time_ms), stamp, writer });
            }
        }
    }

    /// Forgets a session, on every node; false if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyKey`], [`Error::KeyTooLong`]; [`Error::ZoneFull`] only if several threads forget sessions of a zone full of
    /// tombstones in the same moment.
    pub fn forget(&self, session: impl AsRef<[u8]>, now: Time) -> Result<bool, Error> {
        let session = session.as_ref();
        self.table.check(session, &[])?;
        let written = self.table.write(now, session, Put::New(&[]), |found| match found {
            Some(found) if self.table.is_live(found, now) => {
                Step::Write(self.table.header(Some(found), now, true, found.header().time_ms))
            }
            _ => Step::Stop,
        })?;
        Ok(matches!(written, Written::Replaced(_)))
    }

    /// All sessions, without accessing them. In no order, and not all as of one moment: each is copied whole when its turn comes. A session that is there
    /// all the while is met exactly once; one that comes or goes meanwhile may be met or not, and one that is forgotten and learned
    /// again may be met twice. Nobody waits: neither those who write meanwhile nor the iteration.
    pub fn iter(&self, now: Time) -> impl Iterator<Item = (Value, Session)> {
        self.table.iter(now).map(|(session, server, Header { stamp, time_ms, .. }, writer)| {
            (session, Session { server, last_access: Time::from_millis(time_ms), stamp, writer })
        })
    }

    /// Sessions that were learned, or accessed enough to be recorded, since `seen` came by; with a new one all that are there. See [`Seen`].
    pub fn changed(&self, seen: &mut Seen, now: Time) -> impl Iterator<Item = (Value, Session)> {
        self.table.changed(seen, now).map(|(session, server, Header { stamp, time_ms, .. }, writer)| {
            (session, Session { server, last_access: Time::from_millis(time_ms), stamp, writer })
        })
    }

    /// How many sessions there are. Looks at all of them; [`Replica::stats`](crate::Replica::stats) has a cheap count that includes expired ones.
    #[must_use]
    pub fn len(&self, now: Time) -> usize {
        self.table.count_live(now)
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self, now: Time) -> bool {
        !self.table.any_live(now)
    }

    #[inline]
    fn find(&self, session: &[u8], now: Time, server: &mut impl Buffer) -> Option<Found> {
        let found = self.table.find(session, self.table.hash(session), Some(server))?;
        self.table.is_live(&found, now).then_some(found)
    }

    /// Records an access, if it is enough later than what is recorded; has it published, if it is enough later than what the cluster knows.
    ///
    /// The second question is asked only when the first was answered with yes, so that a session under load is marked once, not by
    /// every reader until the publisher comes.
    #[inline]
    fn touch(&self, found: &Found, session: &[u8], server: &[u8], now: Time) {
        if self.is_to_be_recorded(found, now.as_millis()) {
            self.record_access(*found, session, server, now.as_millis());
        }
    }

    #[inline]
    fn is_to_be_recorded(&self, found: &Found, now_ms: u64) -> bool {
        now_ms > found.header().time_ms.saturating_add(self.timeout_ms / RECORD_SHARE)
    }

    /// The record is replaced by one of the same stamp. If somebody else was quicker, it may have been another access; or the publisher, which notes
    /// what it has told, and then this one is recorded all the same. A zone that is so full that there is no block for it has lookups to do, not
    /// evictions.
    #[cold]
    fn record_access(&self, mut found: Found, session: &[u8], server: &[u8], now_ms: u64) {
        let Header { stamp, writer, .. } = found.header();
        let _change = self.table.begin();
        loop {
            let known_ms = self.table.known_ms(&found.header());
            let lag = self.table.lag(now_ms - known_ms.min(now_ms));
            let header = Header { time_ms: now_ms, lag, ..found.header() };
            match self.table.replace_within(&found, &Draft { key: session, value: server, header }) {
                Some(true) => {
                    if now_ms > known_ms.saturating_add(self.timeout_ms / PUBLISH_SHARE) {
                        self.table.mark(found.at);
                    }
                    return;
                }
                Some(false) => {}
                None => return,
            }
            let Some(other) = self.table.find_meta(session, self.table.hash(session)) else { return };
            let is_same = other.header().stamp == stamp && other.header().writer == writer;
            if !is_same || !self.is_to_be_recorded(&other, now_ms) {
                return;
            }
            found = other;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
