//! Bounded lock-free zones for proxies: key-value tables, sticky sessions and rate limits that replicate.
//!
//! A proxy keeps small, hot state in shared memory: a table of blocked addresses, the server that a session belongs to, how far a client
//! is over its rate. Several proxies in front of one service need to agree on it. This crate is that state on one node, and
//! everything that another node has to be told about it; moving the telling over a network is somebody else's job.
//!
//! # The model
//!
//! A **zone** is one contiguous region of memory of exactly the size asked for. It never grows, nothing is allocated after it was made, and
//! no request ever waits for another: reads write nothing shared, writes change one word when they are ready. When it is full, a
//! [`KeyvalZone`] refuses new records, a [`StickyZone`] evicts the session, a [`LimitZone`] the limit, that matters least.
//!
//! Every write has a [`Stamp`], the time of a hybrid logical clock; of two writes of a key the one with the later stamp wins, on every
//! node, in whatever order they arrive. A removal is a write, too, and leaves a *tombstone* for a while. An [`Origin`] is a
//! node's identity for one run.
//!
//! Changed records are *dirty* until the node *publishes* them: [`Replica::publish`] gives each one a [`Dot`], the next number in
//! the origin's sequence, and hands it out. Peers *apply* such batches exactly once, because a [`VersionVector`] tells them how far
//! they know each origin. A node that missed something *catches up*: [`Replica::scan`] finds what a vector does not cover, and
//! [`Replica::cover`] closes the gap.
//!
//! ```text
//!          set, learn, check                                      get, lookup, check
//!                 │                                                       ▲
//!     ┌───────────▼───────────┐  publish → batch → apply_batch ┌──────────┴────────────┐
//!     │ zone on node A        ├────────────────────────────────▶ zone on node B        │
//!     │ slots · blocks · bits │  scan → states → apply_states  │ slots · blocks · bits │
//!     └───────────────────────┘            → cover             └───────────────────────┘
//! ```
//!
//! Time is an argument everywhere: whoever handles a batch of requests reads a [`Clock`] once.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use sync_store::{Expiry, KeyvalZone, Record, Replica, State, Time};
//!
//! let now = Time::from_millis(1_700_000_000_000);
//! let a = KeyvalZone::builder("blocked").size(64 << 10).timeout(Duration::from_secs(3600)).build()?;
//! let b = KeyvalZone::builder("blocked").size(64 << 10).build()?;
//!
//! a.set("192.0.2.1", "too many logins", now, Expiry::Default)?;
//!
//! // One record was changed, so one row goes to the other node.
//! let mut rows = Vec::new();
//! let (from, through) = a.publish(now, &mut |record| {
//!     if let State::Value { value, stamp, writer, time_ms } = record.state {
//!         rows.push((record.key.to_vec(), value.to_vec(), record.dot, stamp, writer, time_ms));
//!     }
//!     true
//! });
//! let mut rows = rows.iter().map(|(key, value, dot, stamp, writer, time_ms)| Record {
//!     key,
//!     dot: *dot,
//!     state: State::Value { value, stamp: *stamp, writer: *writer, time_ms: *time_ms },
//! });
//! b.apply_batch(now, a.origin(), from, through, &mut rows)?;
//!
//! assert_eq!(b.get("192.0.2.1", now).as_deref(), Some(&b"too many logins"[..]));
//! assert_eq!(a.digest(now), b.digest(now));
//! # Ok::<(), sync_store::Error>(())
//! ```
//!
//! # Changes
//!
//! Whoever publishes waits for changes: in async code of any runtime with [`Replica::poll_dirty`], in a thread with [`Replica::wait_dirty`].
//!
//! ```
//! use std::time::Duration;
//! use sync_store::{Expiry, KeyvalZone, Replica, Time};
//!
//! let zone = KeyvalZone::builder("flags").build()?;
//! std::thread::scope(|scope| {
//!     let publisher = scope.spawn(|| {
//!         while !zone.wait_dirty(Duration::from_secs(1)) {}
//!         let mut published = 0;
//!         zone.publish(Time::from_millis(1), &mut |_| {
//!             published += 1;
//!             true
//!         });
//!         published
//!     });
//!     zone.set("dark-mode", "on", Time::from_millis(1), Expiry::Never).expect("room");
//!     assert_eq!(publisher.join().expect("no panic"), 1);
//! });
//! # Ok::<(), sync_store::Error>(())
//! ```
//!
//! # Processes
//!
//! A zone may lie in a file that several processes map ([`Region::map_file`]): one owns and replicates it, the others attach and use it like their own. Any of them
//! may be killed at any instruction; the zone goes on working, and the owner reclaims what was left lying. The records are still there when the
//! owner starts again.
//!
//! # Consistency
//!
//! On one node a zone is linearizable per key: a read that begins after a write has ended sees it or a later one. Iteration
//! ([`KeyvalZone::iter`], `len`, [`Replica::digest`]) meets each record as it is at some moment, not all at the same moment.
//!
//! Between nodes zones are eventually equal. A reader never sees half a record: every copy is validated against the slot it came from.
//! `unsafe` is used in one file, where memory becomes a slice of atomics, and for a prefetch, a futex and a change of two words at once. A reader that loses a race copies garbage,
//! notices, and begins again. The races are model-checked with loom (`RUSTFLAGS="--cfg loom" cargo test --release --lib loom`), and
//! other tests stop a thread before each of its atomic accesses, for ever, and see that all others go on.

mod block;
mod blocks;
mod counters;
mod cursor;
mod dirty;
mod error;
mod index;
mod keyval;
mod layout;
mod lengths;
mod limit;
mod origins;
mod rate;
mod record;
mod region;
mod seen;
mod sharing;
mod slot;
mod stamp;
mod sticky;
#[cfg(all(test, not(loom)))]
mod stopped;
mod table;
mod threads;
mod time;
mod value;
mod version_vector;
mod words;

pub use cursor::Cursor;
pub use error::Error;
pub use keyval::{Condition, Entry, Expiry, KeyvalZone, KeyvalZoneBuilder, Swapped};
pub use lengths::MatchBy;
pub use limit::{Check, Decision, Delay, LimitCounters, LimitZone, LimitZoneBuilder, Outcome};
pub use rate::Rate;
pub use record::{Applied, Record, Replica, State, ZoneKind, ZoneStats};
pub use region::{Prefault, Region};
pub use seen::Seen;
pub use stamp::{Dot, MAX_CLOCK_SKEW, Origin, Stamp};
pub use sticky::{Session, StickyZone, StickyZoneBuilder};
pub use time::{Clock, ManualClock, SystemClock, Time};
pub use value::Value;
pub use version_vector::VersionVector;
