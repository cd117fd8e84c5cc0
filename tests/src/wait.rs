//! Waiting with a deadline. The only place of the harness that reads clocks.

use std::time::{Duration, Instant, SystemTime};

/// Between two looks at a condition: short beside anything waited for, long enough to leave the processor to the nodes.
const PAUSE: Duration = Duration::from_millis(10);

/// Time since it was started, for rates (counts per time) and deadlines; never for asserting speed.
#[derive(Clone, Copy, Debug)]
pub struct Elapsed(Instant);

impl Elapsed {
    /// Starts counting.
    #[expect(clippy::disallowed_methods, reason = "real processes run in real time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn get(self) -> Duration {
        self.0.elapsed()
    }

    /// Time since the start in seconds.
    pub fn seconds(self) -> f64 {
        self.get().as_secs_f64()
    }
}

/// The wall clock, for what is valid in real time: certificates, stamps.
///
/// # Panics
/// Before 1970.
#[expect(clippy::disallowed_methods, reason = "real processes run in real time")]
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later than 1970")
}

/// Calls `look` until it returns `Ok`, and returns what it found.
///
/// # Panics
/// When `limit` has passed: with what was waited for and the last `Err`.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let waited = Elapsed::start();
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) if waited.get() >= limit => panic!("waited {limit:?} for {what}; last seen: {last}"),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
