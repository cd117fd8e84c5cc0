//! A file that can be opened like any database and stays as it is: what is written lies above it in memory.
//!
//! A database that was not closed is repaired as it is opened, and what is damaged shows only on the way. So a file is first read from behind this.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use parking_lot::RwLock;
use redb::StorageBackend;

/// Bytes that are kept together.
const PAGE: usize = 4 << 10;

#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    above: RwLock<Above>,
}

#[derive(Debug)]
struct Above {
    len: u64,
    /// As far as the file is still to be seen; beyond lie zeros.
    file_len: u64,
    /// Pages that were written, by number.
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, above: RwLock::new(Above { len, file_len: len, pages: BTreeMap::new() }) })
    }

    fn read_below(&self, file_len: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = file_len.saturating_sub(offset).min(out.len() as u64) as usize;
        self.file.read_exact_at(&mut out[..there], offset)?;
        out[there..].fill(0);
        Ok(())
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.above.read().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let above = self.above.read();
        check(offset, out.len(), above.len)?;
        for (page, within, whole) in parts(offset, out.len()) {
            let out = &mut out[whole];
            match above.pages.get(&page) {
                Some(bytes) => out.copy_from_slice(&bytes[within]),
                None => self.read_below(above.file_len, page * PAGE as u64 + within.start as u64, out)?,
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut above = self.above.write();
        if len < above.len {
            // What is made shorter and longer again reads as zeros.
            above.file_len = above.file_len.min(len);
            above.pages.retain(|&page, _| page * (PAGE as u64) < len);
            if let Some(last) = above.pages.get_mut(&(len / PAGE as u64)) {
                last[(len % PAGE as u64) as usize..].fill(0);
            }
        }
        above.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut above = self.above.write();
        check(offset, data.len(), above.len)?;
        for (page, within, whole) in parts(offset, data.len()) {
            if !above.pages.contains_key(&page) {
                let mut bytes = vec![0; PAGE].into_boxed_slice();
                self.read_below(above.file_len, page * PAGE as u64, &mut bytes)?;
                above.pages.insert(page, bytes);
            }
            if let Some(bytes) = above.pages.get_mut(&page) {
                bytes[within].copy_from_slice(&data[whole]);
            }
        }
        Ok(())
    }
}

/// `length` bytes from `offset` on, cut at pages: number of the page, where in it, where in the whole.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = (at % PAGE as u64) as usize;
        let count = (PAGE - start).min(length - done);
        let whole = done..done + count;
        done += count;
        (count > 0).then_some((at / PAGE as u64, start..start + count, whole))
    })
}

fn check(offset: u64, length: usize, len: u64) -> io::Result<()> {
    match offset.checked_add(length as u64) {
        Some(end) if end <= len => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
