//! What is written to the files of a zone, and when: the keeper without its thread and clocks.
//!
//! Whoever drives it calls [`Keeping::save`] whenever somebody waits for what he has written, for all who wait at once, and in any case every [`INTERVAL`]: then it is *due*, and the table is
//! brought up to date. What cannot be written stays noted, and is tried again with the next call. A table whose file gave an error is opened anew.

use std::fs::OpenOptions;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redb::backends::FileBackend;
#[cfg(feature = "simulation")]
use sync_store::Origin;
use sync_store::{Cursor, KeyvalZone, Record, Replica, Time, VersionVector};
use tracing::{info, warn};

use super::mark::Mark;
use super::table::{Fault, Table};
use super::unsaved::Unsaved;
use super::{Files, Location, StateSync, open_file, retention};
use crate::replication::{Now, Shared};

/// Between two times that the table is brought up to date, and so the most that the end of the machine costs with [`StateSync::Interval`].
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
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
    Cluster(Arc<Shared>, usize),
}

/// A zone that is kept, with its files.
#[derive(Debug)]
pub(crate) struct Keeping {
    files: Files,
    /// Open as long as it gives no error.
    table: Option<Table>,
    zone: Arc<KeyvalZone>,
    unsaved: Arc<Mutex<Unsaved>>,
    sync: StateSync,
    reach: Reach,
    /// The last mark that was written.
    written: Mark,
    /// See [`Keeping::contact`]; `None` before the first time, if the zone began empty.
    contact: Option<Time>,
    /// The zone was without contact for longer than removals are remembered, while it kept its records.
    is_outdated: bool,
    /// Some records were loaded of which the cluster may know that they were removed.
    is_doubtful: bool,
    /// When the trouble that there is was last logged.
    trouble: Option<Duration>,
}

impl Keeping {
    /// Of what was loaded from these files. `unsaved` is where changes of the zone are noted.
    pub(crate) fn new(
        files: Files,
        zone: Arc<KeyvalZone>,
        unsaved: Arc<Mutex<Unsaved>>,
        sync: StateSync,
        reach: Reach,
    ) -> Self {
        let Mark { vector, contact } = files.mark.clone();
        let had_anything = !vector.is_empty();
        let is_doubtful = files.doubtful.is_some();
        let vector = if is_doubtful { VersionVector::new() } else { vector };
        Self {
            files,
            table: None,
            zone,
            unsaved,
            sync,
            reach,
            written: Mark { vector, contact },
            contact: had_anything.then_some(contact),
            is_outdated: false,
            is_doubtful,
            trouble: None,
        }
    }

    /// Where the files are.
    pub(crate) fn location(&self) -> &Location {
        &self.files.location
    }

    /// The index of the zone among those that synchronize. It is to be published before it is saved: what is not, is not noted.
    pub(crate) fn synchronized(&self) -> Option<usize> {
        match self.reach {
            Reach::Local => None,
            Reach::Cluster(_, zone) => Some(zone),
        }
    }

    /// The origin of loaded records of which the cluster may know that they were removed, as long as that is in doubt.
    #[cfg(feature = "simulation")]
    pub(crate) fn doubtful(&self) -> Option<Origin> {
        self.files.doubtful.filter(|_| self.is_doubtful)
    }

    /// Writes what has changed to the journal, and the mark if the turn is due and it is time for that. Without an error everything that was published before is as durable as it
    /// has to be.
    pub(crate) fn save(&mut self, now: Now, is_due: bool) -> Result<(), Fault> {
        let contact = self.contact(now.time);
        if self.files.journal.len() > JOURNAL_LIMIT {
            return Err(Fault::Stuck);
        }
        if matches!(self.reach, Reach::Local) {
            let mut unsaved = self.unsaved.lock();
            self.zone.publish(now.time, &mut |record| {
                unsaved.note(record);
                true
            });
        }
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
        let mut entries: Vec<_> = records.iter().map(|(key, saved)| (key.as_ref(), saved)).collect();
        // The table takes them in this order most easily, and the next start does not depend on chance.
        entries.sort_unstable_by_key(|(key, _)| *key);
        let written = journal.append(entries.into_iter(), &mark).and_then(|()| match self.sync {
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

    /// Whether the table should be brought up to date before that is due. Not over and over while there is trouble.
    pub(crate) fn is_journal_long(&self) -> bool {
        self.files.journal.len() > JOURNAL_MAX && self.trouble.is_none()
    }

    /// Ends a doubt if it can, and brings the table up to date. What it writes survives the end of the machine. `failed`: why saving has just failed, if it has.
    pub(crate) fn update_table(&mut self, now: Now, failed: Option<&Fault>) {
        let moved = self.confirm(now.time).and_then(|()| self.move_to_table(now.time));
        self.log(now.elapsed, failed.or_else(|| moved.as_ref().err()));
    }

    /// When the node had last caught up with everybody it can reach, and so knew of all removals. After a gap that is longer than these are remembered it stays
    /// where it was: the zone may hold what others have removed and forgotten meanwhile, and only the next start finds that out.
    fn contact(&mut self, now: Time) -> Time {
        let Reach::Cluster(shared, _) = &self.reach else { return now };
        if !self.is_doubtful && !self.is_outdated && shared.is_in_contact() {
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
    fn move_to_table(&mut self, now: Time) -> Result<(), Fault> {
        if self.files.journal.is_empty() {
            return Ok(());
        }
        let now_ms = now.as_millis();
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
        let file = OpenOptions::new().read(true).write(true).open(&location.path).map_err(Fault::Io)?;
        let table = Table::open(FileBackend::new(file)?)?;
        if table.about()?.0.id == *id { Ok(table) } else { Err(Fault::Foreign) }
    }

    /// Ends the doubt about loaded records once the cluster has said what it knows; see [`super`].
    fn confirm(&mut self, now: Time) -> Result<(), Fault> {
        let (Reach::Cluster(shared, zone_id), Some(doubtful), true) =
            (&self.reach, self.files.doubtful, self.is_doubtful)
        else {
            return Ok(());
        };
        if !shared.has_caught_up() {
            return Ok(());
        }
        let (shared, zone_id) = (Arc::clone(shared), *zone_id);
        self.move_to_table(now)?;
        let vector = self.zone.vector();
        let mut left = Vec::new();
        let mut note = |record: &Record<'_>| {
            left.push(Box::<[u8]>::from(record.key));
            true
        };
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            cursor = self.zone.scan(now, &[doubtful], &VersionVector::new(), from, &mut note);
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
        self.contact = Some(now);
        shared.end_doubt(zone_id);
        info!(
            zone = self.zone.name(),
            removed = gone.len(),
            "compared with the cluster, after a longer absence than tombstones are kept"
        );
        Ok(())
    }

    fn log(&mut self, now: Duration, failed: Option<&Fault>) {
        let path = self.files.location.path.display();
        match (failed, self.trouble) {
            (Some(_), Some(logged)) if now.saturating_sub(logged) < LOG_INTERVAL => {}
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
    pub(crate) fn close(self) {
        let Self { table, files, .. } = self;
        if let Some(Err(error)) = table.map(Table::close) {
            warn!(file = %files.location.path.display(), %error, "the state file was not closed in good order; the next start puts that right");
        }
    }
}
