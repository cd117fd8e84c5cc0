//! What replication sees of a zone: changed records going out and coming in, whatever the kind of the zone.
//!
//! Rows are borrowed on both ways: [`Replica::publish`] and [`Replica::scan`] hand them out from a buffer that is reused for the
//! next one, and [`Replica::apply_batch`] takes them as the codec found them in the frame.

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::Error;
use crate::cursor::Cursor;
use crate::lengths::MatchBy;
use crate::stamp::{Dot, Origin, Stamp};
use crate::time::Time;
use crate::version_vector::VersionVector;

/// What a zone keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ZoneKind {
    /// Keys and values; the last write wins.
    Keyval,
    /// Which server a session belongs to; the last learned one wins.
    Sticky,
    /// How far each key is over its rate; work is added up.
    Limit,
}

impl ZoneKind {
    /// `keyval`, `sticky` or `limit`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keyval => "keyval",
            Self::Sticky => "sticky",
            Self::Limit => "limit",
        }
    }
}

impl fmt::Display for ZoneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One changed record, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The key as it travels. In a limit zone a key longer than 16 bytes travels as its digest; see
    /// [`LimitZone`](crate::LimitZone).
    pub key: &'a [u8],
    /// Which publication this is.
    pub dot: Dot,
    /// What the record says.
    pub state: State<'a>,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// A live record of a keyval or sticky zone.
    Value {
        /// The value, or the server of the session.
        value: &'a [u8],
        /// When it was written.
        stamp: Stamp,
        /// Who wrote it; breaks ties between equal stamps.
        writer: Origin,
        /// Milliseconds since the Unix epoch. Keyval: when the record expires, 0 = never. Sticky: when it was last accessed.
        time_ms: u64,
    },
    /// The tombstone of a record of a keyval or sticky zone.
    Removed {
        /// When it was removed.
        stamp: Stamp,
        /// Who removed it.
        writer: Origin,
    },
    /// The state of a key in a limit zone.
    Limit {
        /// Theoretical arrival time, nanoseconds since the Unix epoch, as known to the cluster: work that the dot's origin has
        /// admitted but not published is not in it. In the steady stream that includes the work of `debt_ns` itself.
        tat_ns: u64,
        /// Work that the dot's origin admitted since it last published the key, in nanoseconds of the rate; negative if more was
        /// refunded. 0 in catch-up.
        debt_ns: i64,
    },
}

/// What became of the rows that were applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows that changed the zone.
    pub applied: usize,
    /// Rows that were known already, or that something newer had overtaken.
    pub superseded: usize,
    /// Rows for which a full keyval zone had no room. If there are any, the version vector has not moved, so that the peer sends
    /// them again.
    pub refused: usize,
}

/// What became of one of them.
pub(crate) enum Outcome {
    Applied,
    Superseded,
    Refused,
}

impl Applied {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Applied => self.applied += 1,
            Outcome::Superseded => self.superseded += 1,
            Outcome::Refused => self.refused += 1,
        }
    }
}

/// Figures of a zone. Counts since creation unless they say "now".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZoneStats {
    /// Live records now, those included that have expired and were not swept yet.
    pub records: u64,
    /// Tombstones now.
    pub tombstones: u64,
    /// The size that was asked for, in bytes.
    pub size_bytes: u64,
    /// Bytes of it in use now, fixed structures included.
    pub used_bytes: u64,
    /// Live records that made room for others.
    pub evicted: u64,
    /// Writes and rows refused because the zone was full.
    pub refused: u64,
    /// Records freed because their time was over.
    pub expired: u64,
    /// Rows of peers that changed something.
    pub applied: u64,
    /// Rows of peers that were known or overtaken.
    pub superseded: u64,
}

/// What replication needs of a zone, whatever its kind.
///
/// Publishing, applying and covering exclude each other inside the zone; nothing here ever waits for a request, nor makes one
/// wait.
pub trait Replica: Send + Sync + fmt::Debug {
    /// The zone's name; zones of the same name and kind on different nodes synchronize.
    fn name(&self) -> &str;

    /// The zone's kind.
    fn kind(&self) -> ZoneKind;

    /// How keys are matched. Zones that differ in it have keys of different form and do not synchronize.
    fn match_by(&self) -> MatchBy {
        MatchBy::Exact
    }

    /// The origin that this node publishes under.
    fn origin(&self) -> Origin;

    /// Ready when something is dirty; otherwise the waker of `cx` is called as soon as something is. There is one waiter, the
    /// publisher: a second one takes the place of the first.
    fn poll_dirty(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Blocks the calling thread until something is dirty, or for so long. Answers whether something is. For publishers without an async
    /// runtime; any number of threads may wait.
    fn wait_dirty(&self, timeout: Duration) -> bool;

    /// Has the next publication look at every mark. Otherwise it looks where writers have called for it, which one that was stopped just after it had
    /// marked a record has not done. For whoever leaves out what is dirty, and counts on its being published.
    fn call_for_dirty(&self);

    /// How many records wait to be published; looks at all marks, and is approximate while the zone is written.
    fn dirty_count(&self) -> usize;

    /// The last sequence that this zone's origin has published; 0 if none.
    fn published_seq(&self) -> u64;

    /// Gives dirty records consecutive sequences from `published_seq() + 1` on and hands each to `f`, until nothing is dirty or
    /// `f` answers false. The record for which it answered false is not published: it stays dirty, and its sequence is the next
    /// one to be given.
    ///
    /// Answers what was published as (from_seq_excluded, through_seq); the two are equal when nothing was.
    fn publish(&self, now: Time, f: &mut dyn FnMut(&Record<'_>) -> bool) -> (u64, u64);

    /// Applies one batch of the steady stream of `origin`. Row *i*, counted from 0, has the sequence `from_seq_excluded + 1 + i`.
    ///
    /// Rows that the version vector covers are skipped, the others applied: exactly once, however often a batch comes. The
    /// vector advances to `through_seq` if it covered `from_seq_excluded`. Otherwise there is a gap, which a catch-up under way
    /// will close: the rows are applied, the vector stays, and [`Replica::cover`] advances it.
    ///
    /// # Errors
    ///
    /// Those that [`Error`] lists as a peer's fault; then the vector covers no row that was not applied.
    fn apply_batch(
        &self,
        now: Time,
        origin: Origin,
        from_seq_excluded: u64,
        through_seq: u64,
        rows: &mut dyn Iterator<Item = Record<'_>>,
    ) -> Result<Applied, Error>;

    /// Applies rows of a catch-up: full states with dots of their own, of any origin. The version vector stays.
    ///
    /// # Errors
    ///
    /// Those that [`Error`] lists as a peer's fault.
    fn apply_states(&self, now: Time, rows: &mut dyn Iterator<Item = Record<'_>>) -> Result<Applied, Error>;

    /// A catch-up is complete: everything through `vector` is known. Merges it into the zone's own.
    fn cover(&self, vector: &VersionVector);

    /// What is known of another origin was not true: no more than everything through `through_seq` is. Records stay, and so do
    /// their dots; in a limit zone only 0 keeps debts from being added twice, for then the origin sends states.
    fn uncover(&self, origin: Origin, through_seq: u64);

    /// Makes records dirty that the vector does not cover, so that this node publishes them as its own; those of the origins in `except`
    /// stay as they are. Answers whether there were any of those.
    ///
    /// For an origin that died while it sent: what arrived of it beyond the vector may be nowhere else, and nobody would ever ask
    /// for it. Limit zones adopt nothing: what they heard of drains by itself.
    fn adopt(&self, except: &[Origin]) -> bool;

    /// What the zone knows, its own origin through [`Replica::published_seq`] included.
    fn vector(&self) -> VersionVector;

    /// Hands to `f` the records of `origins` that `known` does not cover, from `cursor` (the default at the start) on: roughly as they
    /// were published, which is how records and numbers are near each other. Tombstones are included; expired records and dirty
    /// ones, which will be published, are not.
    ///
    /// Answers the cursor to go on from, or `None` at the end. When `f` answers false the scan stops before that record, which it
    /// will meet again. It also stops by itself after so many slots that a call takes no longer than half a millisecond beyond what `f` takes.
    fn scan(
        &self,
        now: Time,
        origins: &[Origin],
        known: &VersionVector,
        cursor: Cursor,
        f: &mut dyn FnMut(&Record<'_>) -> bool,
    ) -> Option<Cursor>;

    /// A digest of the live content, whatever the order it came in; equal on nodes with equal content. What is local or fleeting
    /// (tombstones, expired records, idle limits, the last access of a session) is left out.
    fn digest(&self, now: Time) -> u64;

    /// Frees expired records and old tombstones, looking at no more than `budget` of them; called a few times a second by the
    /// owner. Answers how many it freed.
    fn sweep(&self, now: Time, budget: usize) -> usize {
        self.sweep_part(now, budget, 0, 1)
    }

    /// The `part`th, from 0 on, of `parts` parts of a [`sweep`](Self::sweep), and of its budget, rounded up; for an owner whose thread has other work to do between two: a
    /// sweep of a zone of a million records takes 0.4 ms. What has to be done once a sweep is done with part 0. `parts` of 0 is taken for 1.
    fn sweep_part(&self, now: Time, budget: usize, part: usize, parts: usize) -> usize;

    /// Figures for people.
    fn stats(&self) -> ZoneStats;

    /// How long a removed record is remembered; `None` in a zone that does not remember any.
    fn tombstone_retention(&self) -> Option<Duration> {
        None
    }

    /// The most bytes of key and value together that the zone accepts, from callers and from peers.
    fn max_record(&self) -> usize;
}
