//! The thread that keeps the files of a zone, and its handle. What it writes, [`Keeping`] decides.

use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use sync_store::Clock;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Location;
use super::keeping::{INTERVAL, Keeping};
use super::table::Fault;
use crate::Error;
use crate::driver::Hub;
use crate::replication::Now;

/// What a keeper is asked for.
#[derive(Debug, Default)]
struct Asked {
    /// How often somebody asked for everything to be written.
    turns: u64,
    stop: bool,
}

#[derive(Debug, Default)]
struct Desk {
    asked: Mutex<Asked>,
    changed: Condvar,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
struct Done {
    /// Everything is written that was changed before the turns up to here were asked for.
    written: u64,
    /// That failed for turns up to here.
    failed: u64,
    why: Option<Arc<Fault>>,
}

/// The handle of a keeper; when it is dropped everything is written, and the files are free.
#[derive(Debug)]
pub(crate) struct Keeper {
    desk: Arc<Desk>,
    done: watch::Receiver<Done>,
    thread: Mutex<Option<JoinHandle<()>>>,
    location: Location,
}

impl Keeper {
    /// Starts to keep a zone in its files. `hub`: the node's; a zone that others have is published by it.
    pub(crate) fn start(
        keeping: Keeping,
        hub: Option<Arc<Hub>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let desk = Arc::new(Desk::default());
        let (done, outcome) = watch::channel(Done::default());
        let location = keeping.location().clone();
        let work = Work { keeping, hub, clock, started: Instant::now() };
        let run = {
            let desk = Arc::clone(&desk);
            move || work.run(&desk, &done)
        };
        let thread = std::thread::Builder::new().name("state-keeper".to_owned()).spawn(run);
        let thread = thread.map_err(|error| location.io(&location.path, error))?;
        Ok(Self { desk, done: outcome, thread: Mutex::new(Some(thread)), location })
    }

    /// Waits until everything that was changed before is written, as durably as the zone was configured.
    pub(crate) async fn saved(&self) -> Result<(), Error> {
        let turn = {
            let mut asked = self.desk.asked.lock();
            asked.turns += 1;
            asked.turns
        };
        self.desk.changed.notify_one();
        let mut done = self.done.clone();
        let done = done.wait_for(|done| done.written >= turn || done.failed >= turn).await;
        // An error means that the keeper has ended, and the node with it.
        let done = done.map(|done| done.clone()).unwrap_or_default();
        if done.written >= turn {
            return Ok(());
        }
        Err(self.location.unsaved(done.why.as_deref()))
    }

    /// Writes everything and lets go of the files.
    pub(crate) fn stop(&self) {
        self.desk.asked.lock().stop = true;
        self.desk.changed.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            // If it has panicked, there is nothing left to write with.
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread works with.
struct Work {
    keeping: Keeping,
    hub: Option<Arc<Hub>>,
    clock: Arc<dyn Clock>,
    started: Instant,
}

impl Work {
    fn run(mut self, desk: &Desk, done: &watch::Sender<Done>) {
        let mut answered = 0;
        let mut table_due = Instant::now() + INTERVAL;
        loop {
            let (turns, stop) = {
                let mut asked = desk.asked.lock();
                let left = table_due.saturating_duration_since(Instant::now());
                if asked.turns == answered && !asked.stop && !left.is_zero() {
                    desk.changed.wait_for(&mut asked, left);
                }
                (asked.turns, asked.stop)
            };
            let is_due = stop || table_due <= Instant::now();
            let mut outcome = Ok(());
            if turns > answered || is_due {
                outcome = self.save(is_due).map_err(Arc::new);
                answered = turns;
                done.send_modify(|done| match &outcome {
                    Ok(()) => done.written = turns,
                    Err(why) => (done.failed, done.why) = (turns, Some(Arc::clone(why))),
                });
            }
            if is_due || self.keeping.is_journal_long() {
                let now = self.now();
                self.keeping.update_table(now, outcome.as_ref().err().map(Arc::as_ref));
                table_due = Instant::now() + INTERVAL;
            }
            if stop {
                self.keeping.close();
                return;
            }
        }
    }

    fn save(&mut self, is_due: bool) -> Result<(), Fault> {
        let now = self.now();
        if let (Some(hub), Some(zone)) = (&self.hub, self.keeping.synchronized()) {
            hub.publish_whole(zone);
        }
        self.keeping.save(now, is_due)
    }

    fn now(&self) -> Now {
        Now { time: self.clock.now(), elapsed: self.started.elapsed() }
    }
}
