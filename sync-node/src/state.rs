//! State files: what a keyval zone has on disk, so that it is there again after a restart.
//!
//! Data flows one way: zone → [`Unsaved`] → [`journal`] → [`table`] → zone, at the next start.
//!
//! | file | job |
//! |---|---|
//! | `saved`, `mark` | a record and a version vector as bytes |
//! | `unsaved` | what has changed since it was last written |
//! | `journal` | what was written in the last second; an API write is answered when it stands there |
//! | `table` | all records, as a database |
//! | `overlay` | a file that is looked at before it is touched |
//! | `keeping` | what is written, and when |
//! | `keeper` | the thread that does it |
//!
//! A record that is loaded has the dot under which the cluster knows it, and the zone the vector that it had: so a node goes on where it stopped, and is sent what it missed, removals
//! included. That only holds while its peers remember what they removed. A node that was away for longer (by [`Mark::contact`]) is in *doubt*: its records are loaded under the
//! dots of an origin that nobody else knows, and without the vector, so that peers send everything. What a peer sends is confirmed by that. Of what is left, whatever the vector covers that has come
//! together meanwhile was known to the cluster, and is not there any more: it was removed. The rest nobody knows yet, and this node publishes it.

#[cfg(feature = "simulation")]
pub mod fuzzed;
mod journal;
mod keeper;
mod keeping;
mod mark;
mod overlay;
mod saved;
mod table;
mod unsaved;

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::StorageBackend;
use redb::backends::{FileBackend, InMemoryBackend};
use sync_store::{Dot, KeyvalZone, MatchBy, Origin, Replica, Time};

use crate::Error;

pub(crate) use keeper::Keeper;
#[cfg(feature = "simulation")]
pub(crate) use keeping::INTERVAL;
pub(crate) use keeping::{Keeping, Reach};
pub(crate) use unsaved::Unsaved;

use journal::{Entry, Journal};
use mark::Mark;
use overlay::Overlay;
use saved::Saved;
use table::{About, Fault, Table};
use unsaved::Pair;

/// Who may read the files: their owner.
const MODE: u32 = 0o600;
/// What a database begins with.
const REDB: [u8; 4] = *b"redb";
/// Records that are loaded together.
const BATCH: usize = 256;

/// When a write of a zone with a state file counts as written. In both cases it survives the end of the process from then on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateSync {
    /// When it survives the end of the machine, too.
    Always,
    /// When the system has it. It survives the end of the machine a second later.
    #[default]
    Interval,
}

/// Where a zone has its state.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) zone: String,
    pub(crate) path: PathBuf,
}

impl Location {
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(suffix);
        name.into()
    }

    fn journal(&self) -> PathBuf {
        self.beside(".journal")
    }

    fn error(&self, path: &Path, problem: impl Into<String>) -> Error {
        Error::State { zone: self.zone.clone(), path: path.to_owned(), problem: problem.into() }
    }

    fn fault(&self, path: &Path, fault: &Fault) -> Error {
        let remedy = match fault {
            Fault::Foreign => "; it is left as it is: give the zone another `state`, or move that file away",
            Fault::Damaged(_) => {
                "; it is left as it is: put a copy in its place, or move it and its .journal away to begin with an empty zone"
            }
            Fault::Version(_) => {
                "; it is left as it is: run that version, or move it and its .journal away to begin with an empty zone"
            }
            Fault::Stuck | Fault::Io(_) => "",
        };
        self.error(path, format!("{fault}{remedy}"))
    }

    fn io(&self, path: &Path, error: io::Error) -> Error {
        self.fault(path, &Fault::Io(error))
    }

    /// What could not be written, and why if there is a fault.
    pub(crate) fn unsaved(&self, fault: Option<&Fault>) -> Error {
        match fault {
            Some(Fault::Io(error)) if is_full(error) => Error::StateFull {
                zone: self.zone.clone(),
                path: self.path.clone(),
                reason: error.to_string(),
            },
            Some(fault) => self.error(&self.path, fault.to_string()),
            None => self.error(&self.path, "the node is stopping"),
        }
    }
}

/// The files of a zone that a node has to itself.
#[derive(Debug)]
pub(crate) struct Files {
    location: Location,
    /// Of the table and the journal.
    id: u64,
    journal: Journal,
    /// How far what is in the files reaches.
    mark: Mark,
    /// The origin under whose dots the records were loaded, if they are in doubt.
    doubtful: Option<Origin>,
    /// The journal, locked for as long as this lives.
    _lock: File,
}

/// Why records were not loaded.
#[derive(Debug)]
enum Refusal {
    /// Fewer than all of them fit.
    TooSmall {
        records: usize,
        refused: usize,
    },
    Fault(Fault),
    Zone(sync_store::Error),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Files {
    /// Takes the files of a zone, making them where there are none, and loads what is in them. `make` makes an empty zone of so many times its size. `doubtful`: if others have
    /// the zone, too, and may have changed it meanwhile, an origin that nobody knows, for records in doubt.
    pub(crate) fn open(
        location: Location,
        doubtful: Option<Origin>,
        now: Time,
        make: &dyn Fn(u64) -> Result<KeyvalZone, sync_store::Error>,
    ) -> Result<(Self, KeyvalZone), Error> {
        let zone = make(1)?;
        let is_new = !exists(&location, &location.path)?;
        let path = location.journal();
        let has_journal = exists(&location, &path)?;
        if is_new && has_journal && std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
            return Err(location.error(
                &path,
                format!(
                    "it is there, and {} is not; put that back, or move this one away",
                    location.path.display()
                ),
            ));
        }
        let lock = open_file(&path, true).map_err(|error| location.io(&path, error))?;
        let opened = lock_file(&location, &path, &lock).and_then(|()| {
            if is_new {
                found(&location, zone.match_by(), now)?;
            }
            Self::open_locked(location.clone(), doubtful, now, make, zone, lock)
        });
        if opened.is_err() && !has_journal {
            // What was refused is left as it was found, without anything beside it.
            let _ = std::fs::remove_file(&path);
        }
        opened
    }

    fn open_locked(
        location: Location,
        doubtful: Option<Origin>,
        now: Time,
        make: &dyn Fn(u64) -> Result<KeyvalZone, sync_store::Error>,
        zone: KeyvalZone,
        lock: File,
    ) -> Result<(Self, KeyvalZone), Error> {
        let loaded = Loaded::of(&location, doubtful, now, Some(&lock), make, zone)?;
        let Loaded { id, mark, doubtful, zone, .. } = loaded;
        let mut journal = open_journal(&location, Some(&lock), id)?;
        journal.begin().map_err(|error| location.io(&location.journal(), error))?;
        Ok((Self { location, id, journal, mark, doubtful, _lock: lock }, zone))
    }

    /// Looks at the files of a zone, if there are any and no node has them, and changes nothing.
    pub(crate) fn check(
        location: &Location,
        doubtful: Option<Origin>,
        now: Time,
        make: &dyn Fn(u64) -> Result<KeyvalZone, sync_store::Error>,
    ) -> Result<(), Error> {
        if !exists(location, &location.path)? {
            return Ok(());
        }
        let path = location.journal();
        let journal = match open_file(&path, false) {
            Ok(file) if matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) => return Ok(()),
            Ok(file) => Some(file),
            // A table alone is as good as one with an empty journal.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(location.io(&path, error)),
        };
        Loaded::of(location, doubtful, now, journal.as_ref(), make, make(1)?).map(drop)
    }

    /// The zone's name.
    pub(crate) fn zone(&self) -> &str {
        &self.location.zone
    }

    /// The origin under whose dots the records were loaded, if they are in doubt.
    pub(crate) fn doubtful(&self) -> Option<Origin> {
        self.doubtful
    }
}

/// A zone with what was in its files, which are as they were.
#[derive(Debug)]
struct Loaded {
    id: u64,
    mark: Mark,
    doubtful: Option<Origin>,
    zone: KeyvalZone,
}

impl Loaded {
    /// Zones are made anew so many times if something does not fit: where a record may lie is chance, and it did fit.
    const ATTEMPTS: usize = 3;
    /// The error says which size would do, if it is not more than so many times larger.
    const FACTOR_MAX: u64 = 1 << 12;

    fn of(
        location: &Location,
        doubtful: Option<Origin>,
        now: Time,
        journal: Option<&File>,
        make: &dyn Fn(u64) -> Result<KeyvalZone, sync_store::Error>,
        zone: KeyvalZone,
    ) -> Result<Self, Error> {
        let path = &location.path;
        let at = |fault: Fault| location.fault(path, &fault);
        // Checksums are verified before anything is believed. Should the database still stumble over what it reads, that is damage, too.
        let guarded = |work: &mut dyn FnMut() -> Result<Self, Error>| {
            catch_unwind(AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(at(Fault::Damaged("it cannot be read".to_owned()))))
        };
        let mut zone = Some(zone);
        guarded(&mut || {
            let file = open_file(path, false).map_err(|error| location.io(path, error))?;
            if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
                return Err(at(Fault::Foreign));
            }
            let overlay = Overlay::new(file).map_err(|error| location.io(path, error))?;
            let table = Table::open(overlay).map_err(at)?;
            let (about, mark) = table.about().map_err(at)?;
            let mut zone = match zone.take() {
                Some(zone) => zone,
                None => make(1)?,
            };
            if about.zone != zone.name() {
                let remedy = "give this zone another `state`, or move that file away";
                return Err(location.error(path, format!("it holds the zone {:?}; {remedy}", about.zone)));
            }
            if about.match_by != zone.match_by() {
                let [is, was] = [zone.match_by(), about.match_by].map(type_of);
                let remedy = "set `type` back, or export the pairs, move the file away and import them";
                return Err(
                    location.error(path, format!("its keys are of type {was:?}, not {is:?}; {remedy}"))
                );
            }
            let journal = open_journal(location, journal, about.id)?;
            let mark = latest(&journal).map_err(at)?.unwrap_or(mark);
            let away = now.saturating_sub(mark.contact);
            let doubtful = doubtful.filter(|_| away >= retention(&zone));
            let load = |zone: &KeyvalZone| load(&table, &journal, zone, now, doubtful);
            let mut loaded = load(&zone);
            for _ in 1..Self::ATTEMPTS {
                if matches!(loaded, Err(Refusal::TooSmall { .. })) {
                    zone = make(1)?;
                    loaded = load(&zone);
                }
            }
            match loaded {
                Ok(()) => {}
                Err(Refusal::Fault(fault)) => return Err(at(fault)),
                Err(Refusal::Zone(error)) => {
                    return Err(location.error(path, format!("{error}; it is left as it is")));
                }
                Err(Refusal::TooSmall { records, refused }) => {
                    let size = zone.stats().size_bytes;
                    let fitting =
                        (1..).map(|power| 1 << power).take_while(|&factor| factor <= Self::FACTOR_MAX);
                    let fitting =
                        { fitting }.find(|&factor| make(factor).is_ok_and(|zone| load(&zone).is_ok()));
                    let needed = fitting.map_or_else(
                        || "more than that".to_owned(),
                        |factor| crate::config::display_size(size * factor),
                    );
                    return Err(location.error(
                        path,
                        format!(
                            "{refused} of its {records} records do not fit into `size` = {}; set `size` to {needed}, or move the file away to begin with an empty zone",
                            crate::config::display_size(size)
                        ),
                    ));
                }
            }
            if doubtful.is_none() {
                zone.cover(&mark.vector);
            }
            Ok(Self { id: about.id, mark, doubtful, zone })
        })
    }
}

/// How long removals are remembered.
fn retention(zone: &KeyvalZone) -> Duration {
    zone.tombstone_retention().unwrap_or_default()
}

fn type_of(match_by: MatchBy) -> &'static str {
    match match_by {
        MatchBy::Exact => "string",
        MatchBy::Ip => "ip",
        MatchBy::Prefix => "prefix",
    }
}

/// The mark of the last entries.
fn latest(journal: &Journal) -> Result<Option<Mark>, Fault> {
    let mut latest = None;
    journal.read(|entry| {
        if let Entry::Mark(mark) = entry {
            latest = Some(mark);
        }
        Ok::<_, Fault>(())
    })?;
    Ok(latest)
}

/// Loads the records of the table, and then those of the journal, which merge by their stamps as any others.
fn load(
    table: &Table,
    journal: &Journal,
    zone: &KeyvalZone,
    now: Time,
    doubtful: Option<Origin>,
) -> Result<(), Refusal> {
    let mut loading = Loading { zone, now, doubtful, batch: Vec::new(), records: 0, refused: 0 };
    table.read(|key, saved| loading.push(key, saved))?;
    let mut refusal = None;
    journal.read(|entry| {
        if let (Entry::Record(key, saved), None) = (entry, &refusal) {
            refusal = loading.push(key, saved).err();
        }
        Ok::<_, Fault>(())
    })?;
    refusal.map_or(Ok(()), Err)?;
    loading.flush()?;
    match loading {
        Loading { refused: 0, .. } => Ok(()),
        Loading { records, refused, .. } => Err(Refusal::TooSmall { records, refused }),
    }
}

/// Records on their way into a zone.
struct Loading<'a> {
    zone: &'a KeyvalZone,
    now: Time,
    doubtful: Option<Origin>,
    batch: Vec<Pair>,
    records: usize,
    refused: usize,
}

impl Loading<'_> {
    fn push(&mut self, key: &[u8], saved: Saved<&[u8]>) -> Result<(), Refusal> {
        self.records += 1;
        let seq = self.records as u64;
        let dot = self.doubtful.map_or(saved.dot, |origin| Dot { origin, seq });
        self.batch.push((key.into(), Saved { dot, ..saved.to_owned() }));
        if self.batch.len() == BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        let mut records = self.batch.iter().map(|(key, saved)| saved.as_ref().record(key));
        let applied = self.zone.apply_states(self.now, &mut records).map_err(Refusal::Zone)?;
        self.refused += applied.refused;
        self.batch.clear();
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

fn exists(location: &Location, path: &Path) -> Result<bool, Error> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(true),
        // Opening it could wait for ever.
        Ok(_) => Err(location.error(path, "it is no file; give the zone another `state`")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(location.io(path, error)),
    }
}

/// Opens a file for reading, or, made if need be, for writing too.
fn open_file(path: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(write).create(write).truncate(false).mode(MODE).open(path)
}

fn lock_file(location: &Location, path: &Path, file: &File) -> Result<(), Error> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(location.error(
            &location.path,
            "another process has it; stop that one, or give this zone another `state`",
        )),
        Err(TryLockError::Error(error)) => Err(location.io(path, error)),
    }
}

/// The journal in a file, or an empty one if there is none.
fn open_journal(location: &Location, file: Option<&File>, id: u64) -> Result<Journal, Error> {
    let path = location.journal();
    let medium: Box<dyn StorageBackend> = match file {
        Some(file) => {
            let file = file.try_clone().map_err(|error| location.io(&path, error))?;
            Box::new(FileBackend::new(file).map_err(|error| location.fault(&path, &error.into()))?)
        }
        None => Box::new(InMemoryBackend::new()),
    };
    Journal::open(medium, id, boot()).map_err(|unusable| location.fault(&path, &unusable.into()))
}

/// A number for the time since the machine was started; where the system has none, each start of the program counts as one.
fn boot() -> u64 {
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").ok();
    let hash = boot.and_then(|boot| blake3::hash(&boot).as_bytes().first_chunk().copied());
    hash.map_or_else(rand::random, u64::from_le_bytes)
}

/// Makes the table of a zone, whole before it has its name.
fn found(location: &Location, match_by: MatchBy, now: Time) -> Result<(), Error> {
    let path = location.beside(".new");
    let at = |fault: Fault| location.fault(&path, &fault);
    let about = About { zone: location.zone.clone(), match_by, id: rand::random() };
    let file = open_file(&path, true).map_err(|error| location.io(&path, error))?;
    // Left by a start that was cut short, if it is there.
    let mut left = [0; REDB.len()];
    if file.metadata().is_ok_and(|file| file.len() > 0)
        && (file.read_exact_at(&mut left, 0).is_err() || left != REDB)
    {
        return Err(at(Fault::Foreign));
    }
    file.set_len(0).map_err(|error| location.io(&path, error))?;
    let table = Table::open(FileBackend::new(file).map_err(|error| at(error.into()))?).map_err(at)?;
    table.found(&about, &Mark::new(now)).map_err(at)?;
    table.close().map_err(at)?;
    let named = std::fs::rename(&path, &location.path).and_then(|()| {
        let folder = location.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    });
    named.map_err(|error| location.io(&path, error))
}

#[cfg(test)]
mod tests;
