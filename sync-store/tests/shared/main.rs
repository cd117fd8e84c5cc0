//! Zones in mapped files, used by real processes: this test binary starts itself again, as an owner or as a guest, and kills, stops and
//! replaces what it started.
//!
//! | file | job |
//! |---|---|
//! | `support` | directories, children and how to talk to them, waiting with a deadline |
//! | `rows` | publish, deliver, catch up |
//! | `work` | zones of all kinds, and random work on them with values that describe themselves |
//! | `intact` | that zones are as if nobody had ever been killed |
//! | `child` | what this binary does when it is started as a child |
//! | `attach` | a guest reads and writes what the owner does; the publisher is woken |
//! | `refusals` | what is refused, and that it is left as it was; permissions |
//! | `guests` | guests are killed, come and go, are stopped for a long time |
//! | `owners` | the owner is killed or ends, and starts again |
//! | `limits` | limit zones |
//! | `memory` | prefault, huge pages, a file system without room |
//!
//! `KILLS=3000 cargo test --release -p sync-store --test shared -- --nocapture guests_are_killed` kills so many guests instead of
//! [`KILLS`], and says what was done meanwhile; likewise `owners_are_killed`.

#![cfg(all(target_os = "linux", not(loom)))]

mod attach;
mod child;
mod guests;
mod intact;
mod limits;
mod memory;
mod owners;
mod refusals;
mod rows;
mod support;
mod work;

/// How many processes a test kills unless told otherwise: a few seconds in a debug build.
const KILLS: usize = 150;

fn kills() -> usize {
    std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS)
}

/// Not a test: where children begin. Started as a test it does nothing.
#[test]
fn shared_child() {
    if let Some(role) = support::role() {
        child::run(&role);
    }
}
