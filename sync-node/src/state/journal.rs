//! The journal: what was written since the table was last brought up to date, in the order it was written.
//!
//! An API write is answered when its record stands here. Appending costs one `write`, after which the record survives the end of the process, and,
//! if it has to survive the end of the machine too, one `fdatasync`, shared by all that wait. Once a second everything here moves to the [table](super::table), and the
//! journal is empty again; so it needs no order, no index and no cleaning.
//!
//! ```text
//! head:  "zsyncjnl", id of the table (8 bytes), hash of both (8)
//! entry: length of the rest (4), hash (8), payload: 0, length of the key (2), key, record; or 1, mark; end (1, never zero)
//! ```
//!
//! An entry's hash covers the id and its own offset, so that nothing left over from an earlier use passes for one. An append that was cut short by the end of the
//! process is the last thing in the file, and too short; one that was cut short by the end of the machine may also end in zeros. Both were
//! never acknowledged, and count for nothing. Anything else that is not an entry is damage, and nothing of the file is used.

use std::io;

use redb::StorageBackend;

use super::mark::Mark;
use super::saved::Saved;

const MAGIC: [u8; 8] = *b"zsyncjnl";
const HEAD: u64 = 24;
const ENTRY_HEAD: usize = 12;
/// A mark with as many origins as one may have, and the end; a record with the longest key and value is shorter.
const REST_MAX: usize = 1 + 8 + 16 * (1 << 14) + 1;
const END: u8 = 0xa5;
/// So many bytes are gathered before they are written.
const WRITE: usize = 1 << 20;
const RECORD: u8 = 0;
const MARK: u8 = 1;

/// What an entry says.
#[derive(Debug, PartialEq)]
pub(super) enum Entry<'a> {
    Record(&'a [u8], Saved<&'a [u8]>),
    Mark(Mark),
}

/// Why a journal cannot be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It is none, or belongs to another table.
    Foreign,
    /// There is no entry at this offset.
    Damaged(u64),
    Io(io::Error),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[derive(Debug)]
pub(super) struct Journal {
    medium: Box<dyn StorageBackend>,
    id: u64,
    end: u64,
}

impl Journal {
    /// The journal on a medium: every entry is looked at, and nothing is written. An empty medium is an empty journal.
    pub(super) fn open(medium: Box<dyn StorageBackend>, id: u64) -> Result<Self, Unusable> {
        let mut journal = Self { medium, id, end: HEAD };
        // A shorter one was being made when its process ended.
        let mut found = vec![0; journal.medium.len()?.min(HEAD) as usize];
        journal.medium.read(0, &mut found)?;
        let is_being_made = found.len() < HEAD as usize && found.iter().all(|&byte| byte == 0);
        if !head(id).starts_with(&found) && !is_being_made {
            return Err(Unusable::Foreign);
        }
        journal.end = journal.read(|_| Ok::<_, Unusable>(()))?;
        Ok(journal)
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.end == HEAD
    }

    /// Bytes of it.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    /// Hands out all entries. Answers where the last one ends.
    pub(super) fn read<E: From<Unusable>>(
        &self,
        mut f: impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let len = self.medium.len().map_err(Unusable::Io)?;
        let mut at = HEAD;
        let mut rest = Vec::new();
        while len.saturating_sub(at) >= ENTRY_HEAD as u64 {
            let mut entry_head = [0; ENTRY_HEAD];
            self.medium.read(at, &mut entry_head).map_err(Unusable::Io)?;
            let (length, hash) = parse_head(&entry_head);
            if length > REST_MAX {
                return Err(Unusable::Damaged(at).into());
            }
            let end = at + (ENTRY_HEAD + length) as u64;
            if end > len {
                break;
            }
            rest.resize(length, 0);
            self.medium.read(at + ENTRY_HEAD as u64, &mut rest).map_err(Unusable::Io)?;
            let payload = rest.strip_suffix(&[END]).unwrap_or_default();
            match parse(payload).filter(|_| hash == hash_of(self.id, at, payload)) {
                Some(entry) => f(entry)?,
                None if rest.last().is_none_or(|&last| last == 0) && self.is_zero(end, len)? => break,
                None => return Err(Unusable::Damaged(at).into()),
            }
            at = end;
        }
        Ok(at)
    }

    fn is_zero(&self, from: u64, to: u64) -> Result<bool, Unusable> {
        let mut bytes = vec![0; WRITE];
        let mut at = from;
        while at < to {
            let part = &mut bytes[..(to - at).min(WRITE as u64) as usize];
            self.medium.read(at, part)?;
            if part.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            at += part.len() as u64;
        }
        Ok(true)
    }

    /// Appends records and the mark that covers them. If that fails, the journal is as before.
    pub(super) fn append<'a, V: AsRef<[u8]> + 'a>(
        &mut self,
        records: impl Iterator<Item = (&'a [u8], &'a Saved<V>)>,
        mark: &Mark,
    ) -> io::Result<()> {
        let len = self.medium.len()?;
        if len < HEAD {
            self.medium.write(0, &head(self.id))?;
        } else if len > self.end {
            // What an append left that was cut short.
            self.medium.set_len(self.end)?;
        }
        let end = self.append_entries(records, mark);
        if end.is_err() {
            // If this fails as well, the next append does it.
            let _ = self.medium.set_len(self.end);
        }
        self.end = end?;
        Ok(())
    }

    /// Not by making the file longer first: an append that is cut short is to be seen by its length.
    fn append_entries<'a, V: AsRef<[u8]> + 'a>(
        &self,
        records: impl Iterator<Item = (&'a [u8], &'a Saved<V>)>,
        mark: &Mark,
    ) -> io::Result<u64> {
        let mut entries = Entries { id: self.id, start: self.end, bytes: Vec::new() };
        for (key, saved) in records {
            entries.push(|bytes| {
                bytes.push(RECORD);
                bytes.extend((key.len() as u16).to_le_bytes());
                bytes.extend(key);
                saved.encode(bytes);
            });
            if entries.bytes.len() >= WRITE {
                entries.write(self.medium.as_ref())?;
            }
        }
        entries.push(|bytes| {
            bytes.push(MARK);
            mark.encode(bytes);
        });
        entries.write(self.medium.as_ref())?;
        Ok(entries.start)
    }

    /// What was appended survives the end of the machine from here on.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.medium.sync_data()
    }

    /// Empties the journal: everything in it is in the table.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.medium.set_len(HEAD)?;
        self.end = HEAD;
        // What was overtaken must not come back with the next start of the machine.
        self.medium.sync_data()
    }
}

/// Entries to be appended.
struct Entries {
    id: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Entries {
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.bytes.len();
        self.bytes.extend([0; ENTRY_HEAD]);
        write(&mut self.bytes);
        let (head, payload) = self.bytes[begin..].split_at_mut(ENTRY_HEAD);
        head[..4].copy_from_slice(&(payload.len() as u32 + 1).to_le_bytes());
        head[4..].copy_from_slice(&hash_of(self.id, self.start + begin as u64, payload));
        self.bytes.push(END);
    }

    fn write(&mut self, medium: &dyn StorageBackend) -> io::Result<()> {
        medium.write(self.start, &self.bytes)?;
        self.start += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

fn parse_head(head: &[u8; ENTRY_HEAD]) -> (usize, [u8; 8]) {
    let [a, b, c, d, hash @ ..] = *head;
    (u32::from_le_bytes([a, b, c, d]) as usize, hash)
}

/// What a payload says; `None` if it says nothing.
pub(super) fn parse(payload: &[u8]) -> Option<Entry<'_>> {
    match payload.split_first()? {
        (&RECORD, rest) => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (key, saved) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            (!key.is_empty()).then_some(Entry::Record(key, Saved::decode(saved)?))
        }
        (&MARK, mark) => Mark::decode(mark).map(Entry::Mark),
        _ => None,
    }
}

fn head(id: u64) -> [u8; HEAD as usize] {
    let mut head = [0; HEAD as usize];
    head[..8].copy_from_slice(&MAGIC);
    head[8..16].copy_from_slice(&id.to_le_bytes());
    let hash = hash_of(id, 0, &MAGIC);
    head[16..].copy_from_slice(&hash);
    head
}

fn hash_of(id: u64, at: u64, payload: &[u8]) -> [u8; 8] {
    let mut hash = [0; 8];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&id.to_le_bytes()).update(&at.to_le_bytes()).update(payload);
    hasher.finalize_xof().fill(&mut hash);
    hash
}
