//! A worker process of the tests: attached to a keyval zone, it writes records until it is killed.
//!
//! `zone-writer FILE PREFIX`: the keys are the prefix and a number, in this order.

use std::time::Duration;

use sync_store::{Clock, Expiry, KeyvalZone, SystemClock};

/// More than a zone of a test has room for is not written: the numbers begin again. Six writers have written into its 4 MiB in the end, however long each took,
/// up to 128 bytes a record.
const KEYS: u32 = 5_000;
const _: () = assert!(6 * KEYS * 128 <= 4 << 20);
/// Between two writes.
const PAUSE: Duration = Duration::from_micros(200);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().expect("FILE PREFIX");
    let (file, prefix) = (argument(), argument());
    let zone = KeyvalZone::attach(file).expect("a zone that somebody has made");
    for number in (0..KEYS).cycle() {
        let key = format!("{prefix}-{number:05}");
        zone.set(key, "by a worker", SystemClock.now(), Expiry::Never).expect("there is room");
        std::thread::sleep(PAUSE);
    }
}
