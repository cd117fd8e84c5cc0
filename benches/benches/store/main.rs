//! The zones beside crates that do a part of their work: what a request pays. Groups are named by work, functions by who does it.
//!
//! Shared machines drift: an hour, a minute or a neighbour later the same code takes half as long again. Contenders measured one
//! after another therefore cannot be compared, and here all contenders of a group take turns, round by round ([`rounds`]).
//! The recorded rounds are then played to criterion as if they happened under its eyes, for the sake of its statistics and
//! reports: `target/criterion/<group>/<function>/new/estimates.json`.
//!
//! Keys and values have any length in a zone, so peers get `Box<[u8]>` keys and values, or `Arc<[u8]>` values where their API
//! clones what it finds. Each is used as its documentation advises for speed. `scc-inline` shows what keys and values of fixed
//! size would gain.
//!
//! ```text
//! cargo bench -p benches --bench store                  # everything, six minutes
//! cargo bench -p benches --bench store -- keyval-get    # groups whose names contain this; no others are prepared
//! cargo bench -p benches --bench store -- --quick       # fewer rounds
//! ZONE_BENCH_RECORDS=100000 cargo bench …               # smaller
//! ZONE_BENCH_INSTRUCTIONS=1 cargo bench …               # instructions and not time, by valgrind
//! ```

mod instructions;
mod keyval;
mod limit;
mod operations;
mod peers;
mod replication;
mod rounds;
mod sticky;

use rounds::Lab;
use sync_store::Time;

/// Where the zones' time begins.
const START: Time = Time::from_millis(1_700_000_000_000);

fn main() {
    let mut lab = Lab::from_args();
    keyval::small(&mut lab);
    keyval::large(&mut lab);
    limit::checks(&mut lab);
    sticky::lookups(&mut lab);
    replication::all(&mut lab);
    lab.finish();
}
