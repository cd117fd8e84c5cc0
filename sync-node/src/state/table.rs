//! The table: the records of a zone in a database file, whole as of some moment. What is newer stands in the [journal](super::journal).
//!
//! The database is redb: each commit is written beside what is there, synchronized with the disk, and only then takes its place, so a file is whole whenever the
//! process or the machine ends. Commits are of two phases, because then the last one is never taken for one that was cut short: what fails its checksum
//! is damage. A file is opened with all its checksums verified.

use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, Table as Open, TableDefinition,
};
use sync_store::MatchBy;

use super::journal::{Entry, Journal, Unusable};
use super::mark::Mark;
use super::saved::Saved;
use super::unsaved::Pair;

const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const ZONE: &str = "zone";
const MARK: &str = "mark";
/// Of these two tables and what is in them.
const VERSION: u8 = 1;
/// Memory for pages; a commit touches each once.
const CACHE: usize = 4 << 20;
/// Records looked at in each commit for whether they are over: of a million, all within a few minutes of writing.
const SWEEP: usize = 4096;

/// Whose records a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) zone: String,
    pub(super) match_by: MatchBy,
    /// Random, made with the file.
    pub(super) id: u64,
}

impl About {
    fn encode(&self) -> Vec<u8> {
        let kind = match self.match_by {
            MatchBy::Exact => 0,
            MatchBy::Ip => 1,
            MatchBy::Prefix => 2,
        };
        let mut bytes = vec![VERSION, kind];
        bytes.extend(self.id.to_le_bytes());
        bytes.extend(self.zone.as_bytes());
        bytes
    }

    /// What was encoded, or the version if it is another.
    fn decode(bytes: &[u8]) -> Result<Self, Option<u8>> {
        let (&version, rest) = bytes.split_first().ok_or(None)?;
        if version != VERSION {
            return Err(Some(version));
        }
        let (&kind, rest) = rest.split_first().ok_or(None)?;
        let (id, name) = rest.split_first_chunk().ok_or(None)?;
        let match_by = match kind {
            0 => MatchBy::Exact,
            1 => MatchBy::Ip,
            2 => MatchBy::Prefix,
            _ => return Err(None),
        };
        let zone = std::str::from_utf8(name).map_err(|_| None)?.to_owned();
        Ok(Self { zone, match_by, id: u64::from_le_bytes(*id) })
    }
}

/// Why a file cannot be used as a table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it holds something else, not the state of a zone")]
    Foreign,
    #[error("it is damaged ({0})")]
    Damaged(String),
    #[error(
        "it was written by another version of this program (its format is {0}, this program's is {VERSION})"
    )]
    Version(u8),
    #[error("what its journal holds cannot be moved into it for so long that the journal takes no more")]
    Stuck,
    #[error(transparent)]
    Io(std::io::Error),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => Self::Foreign,
            redb::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::Damaged("it is shorter than it was".to_owned())
            }
            redb::Error::Io(error) => Self::Io(error),
            redb::Error::UpgradeRequired(version) => Self::Version(version),
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// An open table.
#[derive(Debug)]
pub(super) struct Table {
    database: Database,
    /// Where the next look for records that are over begins.
    sweep_from: Vec<u8>,
}

impl Table {
    /// Opens the table on a medium; an empty medium becomes an empty database.
    pub(super) fn open(medium: impl StorageBackend) -> Result<Self, Fault> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        Ok(Self { database: builder.create_with_backend(medium)?, sweep_from: Vec::new() })
    }

    /// Makes an empty database the table of a zone.
    pub(super) fn found(&self, about: &About, mark: &Mark) -> Result<(), Fault> {
        let transaction = self.begin()?;
        transaction.open_table(ABOUT)?.insert(ZONE, about.encode().as_slice())?;
        put_mark(&mut transaction.open_table(ABOUT)?, mark)?;
        transaction.open_table(RECORDS)?;
        Ok(transaction.commit()?)
    }

    fn begin(&self) -> Result<redb::WriteTransaction, Fault> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_two_phase_commit(true);
        Ok(transaction)
    }

    /// Whose table it is, and how far its records reach.
    pub(super) fn about(&self) -> Result<(About, Mark), Fault> {
        let transaction = self.database.begin_read()?;
        let about = match transaction.open_table(ABOUT) {
            // A database of somebody else's.
            Err(redb::TableError::TableDoesNotExist(_) | redb::TableError::TableTypeMismatch { .. }) => {
                return Err(Fault::Foreign);
            }
            about => about?,
        };
        let zone = about.get(ZONE)?.ok_or(Fault::Foreign)?;
        let zone =
            About::decode(zone.value()).map_err(|version| version.map_or(Fault::Foreign, Fault::Version))?;
        let mark = about.get(MARK)?.and_then(|mark| Mark::decode(mark.value()));
        Ok((zone, mark.ok_or_else(|| Fault::Damaged("its mark is none".to_owned()))?))
    }

    /// Hands out all records.
    pub(super) fn read<E: From<Fault>>(
        &self,
        mut f: impl FnMut(&[u8], Saved<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let records = self.records()?;
        for record in records.iter().map_err(Fault::from)? {
            let (key, saved) = record.map_err(Fault::from)?;
            f(key.value(), decode(saved.value())?)?;
        }
        Ok(())
    }

    /// The record of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Saved<Box<[u8]>>>, Fault> {
        let saved = self.records()?.get(key)?;
        saved.map(|saved| decode(saved.value()).map(Saved::to_owned)).transpose()
    }

    fn records(&self) -> Result<redb::ReadOnlyTable<&'static [u8], &'static [u8]>, Fault> {
        Ok(self.database.begin_read()?.open_table(RECORDS)?)
    }

    /// Takes over what the journal says, and gives up what is over. What it answers without an error survives the end of the machine.
    pub(super) fn take_over(
        &mut self,
        journal: &Journal,
        now_ms: u64,
        retention_ms: u64,
    ) -> Result<(), Fault> {
        let transaction = self.begin()?;
        let mut latest = None;
        {
            let mut records = transaction.open_table(RECORDS)?;
            let mut bytes = Vec::new();
            journal.read(|entry| {
                match entry {
                    Entry::Record(key, saved) => put(&mut records, key, &saved, &mut bytes)?,
                    Entry::Mark(mark) => latest = Some(mark),
                }
                Ok::<_, Fault>(())
            })?;
            self.sweep_from = sweep(&mut records, &self.sweep_from, now_ms, retention_ms)?;
        }
        if let Some(mark) = latest {
            put_mark(&mut transaction.open_table(ABOUT)?, &mark)?;
        }
        Ok(transaction.commit()?)
    }

    /// Removes records that are still as they are given.
    pub(super) fn forget(&self, gone: &[Pair]) -> Result<(), Fault> {
        let transaction = self.begin()?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for (key, saved) in gone {
                let is_same = match records.get(key.as_ref())? {
                    Some(found) => decode(found.value())?.stamp == saved.stamp,
                    None => false,
                };
                if is_same {
                    records.remove(key.as_ref())?;
                }
            }
        }
        Ok(transaction.commit()?)
    }

    /// Closes the file in good order.
    pub(super) fn close(self) -> Result<(), Fault> {
        Ok(self.database.close()?)
    }
}

impl From<Unusable> for Fault {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Foreign => Self::Foreign,
            Unusable::Damaged(at) => Self::Damaged(format!("there is no entry at byte {at}")),
            Unusable::Io(error) => Self::Io(error),
        }
    }
}

fn put_mark(about: &mut Open<'_, &str, &[u8]>, mark: &Mark) -> Result<(), Fault> {
    let mut bytes = Vec::new();
    mark.encode(&mut bytes);
    about.insert(MARK, bytes.as_slice())?;
    Ok(())
}

fn put(
    records: &mut Open<'_, &[u8], &[u8]>,
    key: &[u8],
    saved: &Saved<&[u8]>,
    bytes: &mut Vec<u8>,
) -> Result<(), Fault> {
    let is_later = match records.get(key)? {
        Some(found) => saved.replaces(&decode(found.value())?),
        None => true,
    };
    if is_later {
        bytes.clear();
        saved.encode(bytes);
        records.insert(key, bytes.as_slice())?;
    }
    Ok(())
}

/// Removes what is over among the next records. Answers where to go on.
fn sweep(
    records: &mut Open<'_, &[u8], &[u8]>,
    from: &[u8],
    now_ms: u64,
    retention_ms: u64,
) -> Result<Vec<u8>, Fault> {
    let mut over = Vec::new();
    let mut next = Vec::new();
    for (looked_at, record) in records.range(from..)?.enumerate() {
        let (key, saved) = record?;
        if looked_at == SWEEP {
            next = key.value().to_vec();
            break;
        }
        if decode(saved.value())?.is_over(now_ms, retention_ms) {
            over.push(key.value().to_vec());
        }
    }
    for key in &over {
        records.remove(key.as_slice())?;
    }
    Ok(next)
}

fn decode(bytes: &[u8]) -> Result<Saved<&[u8]>, Fault> {
    Saved::decode(bytes).ok_or_else(|| Fault::Damaged("a record is none".to_owned()))
}
