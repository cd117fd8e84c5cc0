//! Bounded lock-free zones for proxies: key-value tables, sticky sessions and rate limits that replicate.

mod block;
mod blocks;
mod counters;
mod dirty;
mod error;
mod index;
mod keyval;
mod lengths;
mod limit;
mod origins;
mod rate;
mod record;
mod region;
mod slot;
mod stamp;
mod sticky;
mod table;
mod time;
mod version_vector;
mod words;

pub use error::Error;
pub use keyval::{Entry, Expiry, KeyvalZone, KeyvalZoneBuilder};
pub use lengths::MatchBy;
pub use limit::{Check, Decision, Delay, LimitCounters, LimitZone, LimitZoneBuilder, Outcome};
pub use rate::Rate;
pub use record::{Applied, Record, Replica, State, ZoneKind, ZoneStats};
pub use stamp::{Dot, MAX_CLOCK_SKEW, Origin, Stamp};
pub use sticky::{Session, StickyZone, StickyZoneBuilder};
pub use time::{Clock, ManualClock, SystemClock, Time};
pub use version_vector::VersionVector;
