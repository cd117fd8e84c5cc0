//! Limit zones: how far each key is over its rate, counted for the whole cluster.
//!
//! - `bucket`: the arithmetic, and the rules by which nodes merge what they know; start there.
//! - `entry`, `group`: where a key's eight words are, how they change in place, and why no key is there twice.
//! - `found`: what may be done to an entry. `zone`: checks. `replica`: what goes out to other nodes and comes in; `runs`: exactly once.

mod bucket;
mod check;
mod counters;
mod entry;
mod found;
mod group;
mod key;
mod replica;
mod runs;
mod zone;

pub use check::{Check, Decision, Delay, Outcome};
pub use counters::LimitCounters;
pub use zone::{LimitZone, LimitZoneBuilder};
