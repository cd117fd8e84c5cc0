//! Bounded lock-free zones for proxies: key-value tables, sticky sessions and rate limits that replicate.

mod dirty;
mod error;
mod origins;
mod rate;
mod record;
mod region;
mod stamp;
mod time;
mod version_vector;
mod words;

pub use error::Error;
pub use rate::Rate;
pub use record::{Applied, Record, Replica, State, ZoneKind, ZoneStats};
pub use stamp::{Dot, MAX_CLOCK_SKEW, Origin, Stamp};
pub use time::{Clock, ManualClock, SystemClock, Time};
pub use version_vector::VersionVector;
