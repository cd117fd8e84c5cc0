//! The thread that keeps the files of a zone.
//!
//! It writes to the journal whenever somebody waits for that, for all who wait at once, and every second in any case; and every second it brings the table up to date. What it
//! cannot write stays noted, and is tried again with the next turn. A table whose file gave an error is opened anew.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use redb::backends::FileBackend;
use sync_store::{Clock, Cursor, KeyvalZone, Record, Replica, Time, VersionVector};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::mark::Mark;
use super::table::{Fault, Table};
use super::unsaved::Unsaved;
use super::{Files, StateSync, open_file, retention};
use crate::Error;
use crate::driver::Hub;

/// Between two times that the table is brought up to date, and so the most that the end of the machine costs with [`StateSync::Interval`].
const INTERVAL: Duration = Duration::from_secs(1);
/// A journal that is longer is moved to the table at once.
const JOURNAL_MAX: u64 = 16 << 20;
/// As long as the table takes nothing, a journal grows up to this.
const JOURNAL_LIMIT: u64 = 16 * JOURNAL_MAX;
/// In a zone that does not change, the time of the last contact is written so often.
const CONTACT_INTERVAL: Duration = Duration::from_secs(60);
/// The same trouble is not logged more often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Who else has the zone.
#[derive(Debug)]
pub(crate) enum Reach {
    /// Nobody.
    Local,
    /// The cluster; the zone has this index.
    Cluster(Arc<Hub>, usize),
}

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
    location: super::Location,
}

impl Keeper {
    /// Starts to keep a zone in its files. `unsaved` is where its changes are noted.
    pub(crate) fn start(
        files: Files,
        zone: Arc<KeyvalZone>,
        unsaved: Arc<Mutex<Unsaved>>,
        sync: StateSync,
        reach: Reach,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let desk = Arc::new(Desk::default());
        let (done, outcome) = watch::channel(Done::default());
        let location = files.location.clone();
        let mark = files.mark.clone();
        let is_doubtful = files.doubtful.is_some();
        let had_anything = !mark.vector.is_empty();
        let vector = if is_doubtful { VersionVector::new() } else { mark.vector };
        let work = Work {
            files,
            table: None,
            zone,
            unsaved,
            sync,
            reach,
            clock,
            written: Mark { vector, contact: mark.contact },
            contact: had_anything.then_some(mark.contact),
            is_outdated: false,
            is_doubtful,
            trouble: None,
        };
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
        let super::Location { zone, path } = &self.location;
        Err(match done.why.as_deref() {
            Some(Fault::Io(error)) if is_full(error) => {
                Error::StateFull { zone: zone.clone(), path: path.clone(), reason: error.to_string() }
            }
            Some(fault) => self.location.error(path, fault.to_string()),
            None => self.location.error(path, "the node is stopping"),
        })
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

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// What the thread works with.
struct Work {
    files: Files,
    /// Open as long as it gives no error.
    table: Option<Table>,
    zone: Arc<KeyvalZone>,
    unsaved: Arc<Mutex<Unsaved>>,
    sync: StateSync,
    reach: Reach,
    clock: Arc<dyn Clock>,
    /// The last mark that was written.
    written: Mark,
    /// See [`Work::contact`]; `None` before the first time, if the zone began empty.
    contact: Option<Time>,
    /// The zone was without contact for longer than removals are remembered, while it kept its records.
    is_outdated: bool,
    /// Some records were loaded of which the cluster may know that they were removed.
    is_doubtful: bool,
    /// When the trouble that there is was last logged.
    trouble: Option<Instant>,
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
            // Not over and over while there is trouble.
            if is_due || self.files.journal.len() > JOURNAL_MAX && self.trouble.is_none() {
                let moved = self.confirm().and_then(|()| self.move_to_table());
                outcome = outcome.and_then(|()| moved.map_err(Arc::new));
                table_due = Instant::now() + INTERVAL;
                self.log(outcome.err().as_deref());
            }
            if stop {
                self.close();
                return;
            }
        }
    }

    /// Writes what has changed to the journal, and the mark if it is time for that.
    fn save(&mut self, is_due: bool) -> Result<(), Fault> {
        let contact = self.contact();
        if self.files.journal.len() > JOURNAL_LIMIT {
            return Err(Fault::Stuck);
        }
        self.publish();
        let (records, vector) = {
            let mut unsaved = self.unsaved.lock();
            (unsaved.take(), self.zone.vector())
        };
        let interval = CONTACT_INTERVAL.min(retention(&self.zone) / 8);
        // Earlier than what is written: the clock was ahead.
        let is_contact_due = contact < self.written.contact
            || is_due && contact.saturating_sub(self.written.contact) >= interval;
        if records.is_empty() && vector == self.written.vector && !is_contact_due {
            return Ok(());
        }
        let mark = Mark { vector, contact };
        let journal = &mut self.files.journal;
        let entries = records.iter().map(|(key, saved)| (key.as_ref(), saved));
        let written = journal.append(entries, &mark).and_then(|()| match self.sync {
            StateSync::Always => journal.sync(),
            StateSync::Interval => Ok(()),
        });
        match written {
            Ok(()) => {
                self.written = mark;
                Ok(())
            }
            Err(error) => {
                self.unsaved.lock().put_back(records);
                Err(Fault::Io(error))
            }
        }
    }

    /// Everything that is dirty is published, and thereby noted.
    fn publish(&self) {
        match &self.reach {
            Reach::Cluster(hub, zone) => hub.publish_whole(*zone),
            Reach::Local => {
                let mut unsaved = self.unsaved.lock();
                self.zone.publish(self.clock.now(), &mut |record| {
                    unsaved.note(record);
                    true
                });
            }
        }
    }

    /// When the node had last caught up with everybody it can reach, and so knew of all removals. After a gap that is longer than these are remembered it stays
    /// where it was: the zone may hold what others have removed and forgotten meanwhile, and only the next start finds that out.
    fn contact(&mut self) -> Time {
        let now = self.clock.now();
        let Reach::Cluster(hub, _) = &self.reach else { return now };
        if !self.is_doubtful && !self.is_outdated && hub.shared.is_in_contact() {
            let away = self.contact.map(|contact| now.saturating_sub(contact));
            self.is_outdated = away.is_some_and(|away| away >= retention(&self.zone));
            if self.is_outdated {
                warn!(
                    zone = self.zone.name(),
                    "cut off for longer than tombstones are kept: what others have removed meanwhile may still be here; restart the node, and it compares"
                );
            } else {
                self.contact = Some(now);
            }
        }
        self.contact.unwrap_or(self.written.contact)
    }

    /// Brings the table up to date, and empties the journal.
    fn move_to_table(&mut self) -> Result<(), Fault> {
        if self.files.journal.is_empty() {
            return Ok(());
        }
        let now_ms = self.clock.now().as_millis();
        let retention_ms = u64::try_from(retention(&self.zone).as_millis()).unwrap_or(u64::MAX);
        self.with_table(|table, files| table.take_over(&files.journal, now_ms, retention_ms))?;
        self.files.journal.clear().map_err(Fault::Io)
    }

    fn with_table<T>(
        &mut self,
        work: impl FnOnce(&mut Table, &Files) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut table = match self.table.take() {
            Some(table) => table,
            None => self.open_table()?,
        };
        let done = work(&mut table, &self.files)?;
        self.table = Some(table);
        Ok(done)
    }

    fn open_table(&self) -> Result<Table, Fault> {
        let Files { location, id, .. } = &self.files;
        let file = open_file(&location.path, false).map_err(Fault::Io)?;
        if file.metadata().map_err(Fault::Io)?.len() == 0 {
            return Err(Fault::Foreign);
        }
        let file =
            std::fs::OpenOptions::new().read(true).write(true).open(&location.path).map_err(Fault::Io)?;
        let table = Table::open(FileBackend::new(file)?)?;
        if table.about()?.0.id == *id { Ok(table) } else { Err(Fault::Foreign) }
    }

    /// Ends the doubt about loaded records once the cluster has said what it knows; see [`super`].
    fn confirm(&mut self) -> Result<(), Fault> {
        let (Reach::Cluster(hub, zone_id), Some(doubtful), true) =
            (&self.reach, self.files.doubtful, self.is_doubtful)
        else {
            return Ok(());
        };
        if !hub.shared.has_caught_up() {
            return Ok(());
        }
        let (hub, zone_id) = (Arc::clone(hub), *zone_id);
        self.move_to_table()?;
        let vector = self.zone.vector();
        let mut left = Vec::new();
        let mut note = |record: &Record<'_>| {
            left.push(Box::<[u8]>::from(record.key));
            true
        };
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            cursor = self.zone.scan(self.clock.now(), &[doubtful], &VersionVector::new(), from, &mut note);
        }
        let gone = self.with_table(|table, _| {
            let mut gone = Vec::new();
            for key in left {
                if let Some(saved) = table.get(&key)?.filter(|saved| vector.covers(saved.dot)) {
                    gone.push((key, saved));
                }
            }
            table.forget(&gone)?;
            Ok(gone)
        })?;
        for (key, saved) in &gone {
            self.zone.forget(key, saved.stamp, saved.writer);
        }
        self.is_doubtful = false;
        self.contact = Some(self.clock.now());
        hub.shared.end_doubt(zone_id);
        info!(
            zone = self.zone.name(),
            removed = gone.len(),
            "compared with the cluster, after a longer absence than tombstones are kept"
        );
        Ok(())
    }

    fn log(&mut self, failed: Option<&Fault>) {
        let now = Instant::now();
        let path = self.files.location.path.display();
        match (failed, self.trouble) {
            (Some(_), Some(logged)) if now.duration_since(logged) < LOG_INTERVAL => {}
            (Some(error), _) => {
                warn!(zone = self.zone.name(), file = %path, %error, "changes cannot be written to the state file; tried again every second");
                self.trouble = Some(now);
            }
            (None, Some(_)) => {
                info!(zone = self.zone.name(), file = %path, "changes are written to the state file again");
                self.trouble = None;
            }
            (None, None) => {}
        }
    }

    /// Closes the table, so that the next start need not repair it.
    fn close(self) {
        let Self { table, files, .. } = self;
        if let Some(Err(error)) = table.map(Table::close) {
            warn!(file = %files.location.path.display(), %error, "the state file was not closed in good order; the next start puts that right");
        }
    }
}
