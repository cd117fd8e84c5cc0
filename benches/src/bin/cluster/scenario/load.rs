//! Writers in the background, at a rate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::contestant::Writer;

/// Writes that go together, as from one wake-up of a proxy's event loop.
const BURST: u32 = 16;
/// How often a writer looks whether something is due.
const PAUSE: Duration = Duration::from_micros(100);

/// A load that lasts until it is stopped.
pub(super) struct Load<'scope> {
    thread: ScopedJoinHandle<'scope, Result<u64>>,
    stop: &'scope AtomicBool,
}

impl<'scope> Load<'scope> {
    /// Writes `rate` records a second, of numbers that begin again after `records`.
    pub(super) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        stop: &'scope AtomicBool,
        mut writer: Box<dyn Writer>,
        rate: u32,
        records: u32,
    ) -> Self {
        let work = move || {
            let start = Instant::now();
            let (mut written, mut next) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let due = start.elapsed().as_secs_f64() * f64::from(rate);
                if (written as f64) < due {
                    let through = records.min(next + BURST);
                    writer.write(next..through)?;
                    written += u64::from(through - next);
                    next = if through == records { 0 } else { through };
                } else {
                    std::thread::sleep(PAUSE);
                }
            }
            writer.finish()?;
            Ok(written)
        };
        Self { thread: scope.spawn(work), stop }
    }

    /// Ends it; how many were written.
    pub(super) fn finish(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a writer has panicked")))
    }
}
