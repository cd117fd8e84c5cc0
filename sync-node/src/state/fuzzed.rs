//! The journal without a file, for the fuzz target `state`.

use std::io;
use std::sync::Arc;

use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use sync_store::{Dot, Origin, Stamp, Time};

use super::journal::{Entry, Journal, Unusable, parse};
use super::mark::Mark;
use super::saved::Saved;

const ID: u64 = 7;
const BOOT: u64 = 1;

/// What an entry says, written again; `None` if it says nothing.
pub fn rewrite(payload: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = payload.get(..1)?.to_vec();
    match parse(payload)? {
        Entry::Record(key, saved) => {
            bytes.extend((key.len() as u16).to_le_bytes());
            bytes.extend(key);
            saved.encode(&mut bytes);
        }
        Entry::Mark(mark) => mark.encode(&mut bytes),
    }
    Some(bytes)
}

/// How many entries a file has; `None` if it is refused.
pub fn entries(file: &[u8]) -> Option<usize> {
    let medium = Medium::default();
    medium.0.set_len(file.len() as u64).ok()?;
    medium.0.write(0, file).ok()?;
    let journal = Journal::open(Box::new(medium), ID, BOOT).ok()?;
    let mut count = 0;
    let read = journal.read(|_| {
        count += 1;
        Ok::<_, Unusable>(())
    });
    read.ok().map(|_| count)
}

/// A file with these pairs, and behind them how far they reach; `None` if it cannot be written.
pub fn write(pairs: &[(Vec<u8>, Vec<u8>)]) -> Option<Vec<u8>> {
    let medium = Medium::default();
    let origin = Origin::from_raw(ID)?;
    let saved = pairs.iter().zip(1..).map(|((_, value), seq)| {
        let dot = Dot { origin, seq };
        Saved { removed: false, stamp: Stamp::from_raw(seq << 16), writer: origin, time_ms: 0, dot, value }
    });
    let saved: Vec<_> = saved.collect();
    let keys = pairs.iter().map(|(key, _)| key.as_slice());
    let mut journal = Journal::open(Box::new(medium.clone()), ID, BOOT).ok()?;
    journal.begin().ok()?;
    journal.append(keys.zip(&saved), &Mark::new(Time::EPOCH)).ok()?;
    let mut file = vec![0; medium.0.len().ok()? as usize];
    medium.0.read(0, &mut file).ok()?;
    Some(file)
}

/// A medium that is still there when the journal is gone.
#[derive(Clone, Debug, Default)]
struct Medium(Arc<InMemoryBackend>);

impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // As a file does.
        self.0.set_len(self.0.len()?.max(offset + data.len() as u64))?;
        self.0.write(offset, data)
    }
}
