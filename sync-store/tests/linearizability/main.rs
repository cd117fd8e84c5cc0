//! Keyval and sticky zones are linearizable per key: threads use one zone at random, every operation is recorded with when it
//! began and when it ended, and a search looks for an order of them in which a plain map would have answered the same.
//!
//! | file | job |
//! |---|---|
//! | `history` | plan operations, have threads perform them, record what happened |
//! | `checker` | the model of a key, the search for an order; both are tested themselves |
//! | `keyval` | keyval zones, roomy, with expired records, nearly full; maps with planted bugs, which have to be found |
//! | `sticky` | sticky zones whose sessions are accessed all the time; a map with a planted bug |
//!
//! Two variables of the environment, for a longer or a closer look:
//!
//! - `HISTORIES=100000` records so many histories in each test of a zone, instead of [`HISTORIES`].
//! - `SEED=0x…`, as a failure prints it, repeats the operations of that history in all of them. They meet differently every
//!   time: only a bug that needs no luck shows at once.
//!
//! With `--nocapture` each test says how many operations overlapped, and how many histories it took to find a planted bug.

#![cfg(not(loom))]

mod checker;
mod history;
mod keyval;
mod sticky;

/// How many histories a test of a zone records unless told otherwise: all tests together take a few seconds in a debug build.
const HISTORIES: usize = 3_000;
/// With fewer than that, an outcome that has to occur may not.
const HISTORIES_MIN: usize = 200;
