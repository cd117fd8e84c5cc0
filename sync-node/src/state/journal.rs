//! The journal: what was written since the table was last brought up to date, in the order it was written.
//!
//! An API write is answered when its record stands here. Appending costs one `write`, after which the record survives the end of the process, and,
//! if it has to survive the end of the machine too, one `fdatasync`, shared by all that wait. Once a second everything here moves to the [table](super::table), and the
//! journal is empty again; so it needs no order, no index and no cleaning.
//!
//! ```text
//! head:  "zsyncjnl", id of the table, boot, synchronized, hash of these four (8 bytes each)
//! entry: length of the payload (4), the same inverted (4), hash (8), payload: 0, length of the key (2), key, record; or 1, mark
//! ```
//!
//! An entry's hash covers the id and its own offset, so that nothing left over from an earlier use passes for one. What is no entry was either damaged, and then
//! nothing of the file is used; or it is an append that was cut short and never acknowledged, and counts for nothing. After the end of the process that is told by its being too short, the
//! last thing in the file. After the end of the machine (the head says during which boot it was written) an append may look like anything, but it lies behind what is known to be *synchronized*.

use std::io;

use redb::StorageBackend;

use super::mark::Mark;
use super::saved::Saved;

const MAGIC: [u8; 8] = *b"zsyncjnl";
const HEAD: u64 = 40;
const ENTRY_HEAD: usize = 16;
/// A mark with as many origins as one may have; a record with the longest key and value is shorter.
const PAYLOAD_MAX: usize = 1 + 8 + 16 * (1 << 14);
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

/// What the head says beside the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// The boot of the machine during which the journal was begun.
    boot: u64,
    /// Everything before this offset was synchronized with the disk.
    synchronized: u64,
}

#[derive(Debug)]
pub(super) struct Journal {
    medium: Box<dyn StorageBackend>,
    id: u64,
    /// What it has if it is begun anew now.
    boot: u64,
    /// What stands in the file; `None` if it is still to be made.
    head: Option<Head>,
    end: u64,
    synchronized: u64,
}

impl Journal {
    /// The journal on a medium: every entry is looked at, and nothing is written. An empty medium is an empty journal. `boot` stands for the time since the machine was started.
    pub(super) fn open(medium: Box<dyn StorageBackend>, id: u64, boot: u64) -> Result<Self, Unusable> {
        let len = medium.len()?;
        let mut found = vec![0; len.min(HEAD) as usize];
        medium.read(0, &mut found)?;
        let head = decode_head(id, &found);
        // One that was being made when it ended has nothing but a part of its head.
        let is_being_made = len <= HEAD && (found.iter().all(|&byte| byte == 0) || MAGIC.starts_with(&found));
        if head.is_none() && !is_being_made {
            return Err(Unusable::Foreign);
        }
        let synchronized = head.map_or(HEAD, |head| head.synchronized);
        let mut journal = Self { medium, id, boot, head, end: HEAD, synchronized };
        journal.end = journal.read(|_| Ok::<_, Unusable>(()))?;
        Ok(journal)
    }

    /// Makes the head if there is none yet.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.head.is_none() {
            self.medium.set_len(0)?;
            self.write_head(Head { boot: self.boot, synchronized: HEAD })?;
            self.medium.sync_data()?;
        }
        Ok(())
    }

    fn write_head(&mut self, head: Head) -> io::Result<()> {
        self.medium.write(0, &encode_head(self.id, head))?;
        self.head = Some(head);
        Ok(())
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
        let has_booted = self.head.is_some_and(|head| head.boot != self.boot);
        let mut at = HEAD;
        let mut payload = Vec::new();
        while at < len {
            let next = self.next(at, len, &mut payload)?;
            let is_cut_short = match next {
                Next::Entry => false,
                Next::TooShort => true,
                Next::Nothing => has_booted,
            };
            if is_cut_short {
                break;
            }
            let entry = if matches!(next, Next::Entry) { parse(&payload) } else { None };
            f(entry.ok_or(Unusable::Damaged(at))?)?;
            at += (ENTRY_HEAD + payload.len()) as u64;
        }
        // Whatever happened, this much was there.
        if self.head.is_some_and(|head| at < head.synchronized) {
            return Err(Unusable::Damaged(at).into());
        }
        Ok(at)
    }

    /// Reads the payload at an offset.
    fn next(&self, at: u64, len: u64, payload: &mut Vec<u8>) -> Result<Next, Unusable> {
        let left = len - at;
        if left < ENTRY_HEAD as u64 {
            return Ok(Next::TooShort);
        }
        let mut head = [0; ENTRY_HEAD];
        self.medium.read(at, &mut head)?;
        let [length, hash] = [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|byte| head[at + byte])));
        let inverted = !(length >> 32) as u32;
        // A length that was damaged must not pass for an entry that was cut short.
        if length as u32 != inverted || inverted as usize > PAYLOAD_MAX {
            return Ok(Next::Nothing);
        }
        let length = inverted as usize;
        if left - (ENTRY_HEAD as u64) < length as u64 {
            return Ok(Next::TooShort);
        }
        payload.resize(length, 0);
        self.medium.read(at + ENTRY_HEAD as u64, payload)?;
        Ok(if hash.to_le_bytes() == hash_of(self.id, at, payload) { Next::Entry } else { Next::Nothing })
    }

    /// Appends records and the mark that covers them. If that fails, the journal is as before.
    pub(super) fn append<'a, V: AsRef<[u8]> + 'a>(
        &mut self,
        records: impl Iterator<Item = (&'a [u8], &'a Saved<V>)>,
        mark: &Mark,
    ) -> io::Result<()> {
        // What an append left that was cut short.
        if self.medium.len()? > self.end {
            self.medium.set_len(self.end)?;
        }
        if let Some(head) = self.head
            && head.synchronized < self.synchronized
        {
            self.write_head(Head { synchronized: self.synchronized, ..head })?;
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
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.medium.sync_data()?;
        self.synchronized = self.end;
        Ok(())
    }

    /// Empties the journal: everything in it is in the table. What was overtaken does not come back with the next start of the machine.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        // In this order, or the head would speak of more than there is.
        self.synchronized = HEAD;
        self.write_head(Head { boot: self.boot, synchronized: HEAD })?;
        self.medium.sync_data()?;
        self.medium.set_len(HEAD)?;
        self.end = HEAD;
        self.medium.sync_data()
    }
}

/// What is found at an offset.
enum Next {
    Entry,
    /// The file ends before an entry could.
    TooShort,
    /// No entry.
    Nothing,
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
        let length = payload.len() as u32;
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4..8].copy_from_slice(&(!length).to_le_bytes());
        head[8..].copy_from_slice(&hash_of(self.id, self.start + begin as u64, payload));
    }

    fn write(&mut self, medium: &dyn StorageBackend) -> io::Result<()> {
        medium.write(self.start, &self.bytes)?;
        self.start += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
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

fn encode_head(id: u64, head: Head) -> [u8; HEAD as usize] {
    let words = [u64::from_le_bytes(MAGIC), id, head.boot, head.synchronized];
    let mut bytes = [0; HEAD as usize];
    for (part, word) in bytes.chunks_exact_mut(8).zip(words) {
        part.copy_from_slice(&word.to_le_bytes());
    }
    let (words, hash) = bytes.split_at_mut(HEAD as usize - 8);
    hash.copy_from_slice(&hash_of(id, 0, words));
    bytes
}

/// What a head of this id says; `None` if it is none.
fn decode_head(id: u64, bytes: &[u8]) -> Option<Head> {
    let (words, []) = bytes.as_chunks::<8>() else { return None };
    let [_, _, boot, synchronized, _] = *words else { return None };
    let [boot, synchronized] = [boot, synchronized].map(u64::from_le_bytes);
    let head = Head { boot, synchronized };
    (encode_head(id, head) == *bytes).then_some(head)
}

fn hash_of(id: u64, at: u64, payload: &[u8]) -> [u8; 8] {
    let mut hash = [0; 8];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&id.to_le_bytes()).update(&at.to_le_bytes()).update(payload);
    hasher.finalize_xof().fill(&mut hash);
    hash
}
