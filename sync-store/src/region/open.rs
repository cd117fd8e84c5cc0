//! A region in use: its words, and the header that says whose they are.

use std::hash::Hasher as _;
use std::path::Path;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use super::Region;
use crate::layout::Section;
use crate::sharing::{Change, Dead, Sharing, TABLE_WORDS, first_word};
use crate::slot::UNIT_BITS;
use crate::stamp::Hlc;
use crate::words::{AtomicU64, LINE, Ordering, UNIT, WORD, Words, fence};
use crate::{Error, ZoneKind};

/// "zonesync" in ASCII, read as a little-endian number. Written last: a region without it is half made.
const MAGIC: u64 = u64::from_le_bytes(*b"zonesync");
/// Grows with every change of what any word of a region means; the hash function is part of that.
const LAYOUT_VERSION: u64 = 7;

/// The largest region: slots name a block by its unit.
pub(crate) const MAX_SIZE: u64 = (UNIT * WORD) as u64 * (1 << UNIT_BITS);

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 1;
const SIZE_AT: usize = 2;
const SEED_AT: usize = 3;
const SHARED_SEED_AT: usize = 4;
const OWN_ORIGIN_AT: usize = 5;
const CHECKPOINT_AT: usize = 6;
const HLC_AT: usize = LINE;
const FIXED_AT: usize = 2 * LINE;
const CURRENT_AT: usize = 3 * LINE;
const NAME_AT: usize = 4 * LINE;
const NAME_WORDS: usize = 4 * LINE - 1;
pub(crate) const HEADER_WORDS: usize = NAME_AT + 1 + NAME_WORDS;
const _: () = assert!(HEADER_WORDS.is_multiple_of(LINE));
/// The header of a mapped region, which has a table of processes.
pub(crate) const SHARED_HEADER_WORDS: usize = HEADER_WORDS + TABLE_WORDS;

/// The longest name that a mapped region can hold, in bytes.
const NAME_MAX: usize = NAME_WORDS * WORD;

/// The settings of a zone as its region keeps them, for those who attach.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters {
    /// What the layout follows from, by name: to be the same whenever the region is opened. One line at most.
    pub(crate) fixed: Vec<(&'static str, u64)>,
    /// What the owner may say anew. One line at most.
    pub(crate) current: Vec<u64>,
}

/// How a region came to be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origination {
    /// It was made just now: all words behind the header are zero.
    Fresh,
    /// It was there, with a zone in it, and is ours now.
    Reopened,
}

/// The memory of one zone.
#[derive(Debug)]
pub(crate) struct OpenRegion {
    words: Words,
    size: u64,
    seed: u64,
    /// Spread out from a word of the header. Kept outside, as are `size` and `seed`, to save readers a cache line.
    shared_seed: SharedSeed,
    sharing: Sharing,
}

const fn kind_number(kind: ZoneKind) -> u64 {
    match kind {
        ZoneKind::Keyval => 1,
        ZoneKind::Sticky => 2,
        ZoneKind::Limit => 3,
    }
}

/// Whether a region without the magic word is one that was not finished, rather than some file that happens to begin with zeros.
fn is_half_made(words: &Words) -> bool {
    let is_zero = |word: &AtomicU64| word.load(Ordering::Relaxed) == 0;
    let version = words[VERSION_AT].load(Ordering::Relaxed);
    (version >> 8 == LAYOUT_VERSION && (1..=3).contains(&(version & 0xff))) || words.iter().all(is_zero)
}

impl OpenRegion {
    /// The region of a zone of this node. When it is fresh its zone lays out the rest and then calls [`Self::seal`].
    pub(crate) fn open(
        region: &Region,
        zone: &str,
        kind: ZoneKind,
        size: u64,
        parameters: &Parameters,
    ) -> Result<(Self, Origination), Error> {
        let out_of_memory = || Error::InvalidSetting {
            zone: zone.to_owned(),
            setting: "size",
            value: size.to_string(),
            expected: "a number of bytes that the system has memory for",
        };
        let bytes = usize::try_from(size).map_err(|_| out_of_memory())?;
        let Some(path) = region.path() else {
            let words = Words::anonymous(bytes, region.huge_pages).map_err(|_| out_of_memory())?;
            words.prefault(region.prefault).map_err(|_| out_of_memory())?;
            let open = Self::format(words, zone, kind, size, parameters, Sharing::None, region.seed);
            return Ok((open, Origination::Fresh));
        };
        if zone.len() > NAME_MAX {
            return Err(Error::InvalidSetting {
                zone: zone.to_owned(),
                setting: "name",
                value: zone.to_owned(),
                expected: "248 bytes at most for a zone in a mapped file",
            });
        }
        let (file, sharing) = Sharing::own(path, region.mode, size)?;
        let region_error = |error| Error::region(path, &error);
        let words = Words::of_file(&file, bytes, region.huge_pages).map_err(region_error)?;
        // A file of somebody else is looked at, not touched. Acquire pairs with `seal`.
        match words[MAGIC_AT].load(Ordering::Acquire) {
            MAGIC => {
                let open = Self::existing(words, path, kind, sharing)?;
                open.check(path, zone, size, parameters)?;
                open.words.prefault(region.prefault).map_err(region_error)?;
                open.set_current(&parameters.current);
                Sharing::take_over(open.processes());
                Ok((open, Origination::Reopened))
            }
            // Empty, or left half made by a process that was killed: nobody can have attached to it. Whatever that one wrote is wiped; the
            // version, by which it is known, at the end.
            0 if is_half_made(&words) => {
                words.prefault(region.prefault).map_err(region_error)?;
                words.iter().rev().for_each(|word| word.store(0, Ordering::Relaxed));
                let open = Self::format(words, zone, kind, size, parameters, sharing, region.seed);
                Ok((open, Origination::Fresh))
            }
            _ => Err(Error::NotARegion { path: path.to_owned() }),
        }
    }

    /// A fresh region of this process, as tests need it.
    #[cfg(test)]
    pub(crate) fn create(zone: &str, kind: ZoneKind, size: u64) -> Result<Self, Error> {
        let region = Region::anonymous().huge_pages(false);
        Self::open(&region, zone, kind, size, &Parameters::default()).map(|(open, _)| open)
    }

    /// See [`Sharing::die`].
    #[cfg(test)]
    pub(crate) fn die(&mut self) {
        self.sharing.die();
    }

    /// The region that another process owns; the zone's name is in it.
    pub(crate) fn attach(path: &Path, kind: ZoneKind) -> Result<Self, Error> {
        let file = Sharing::find(path)?;
        let bytes = file.metadata().map_err(|error| Error::region(path, &error))?.len();
        let not_a_region = || Error::NotARegion { path: path.to_owned() };
        let bytes = usize::try_from(bytes).map_err(|_| not_a_region())?;
        // Read before it is mapped: a file that an owner is just making, and finds no room for, becomes shorter again.
        if bytes < SHARED_HEADER_WORDS * WORD
            || first_word(&file).map_err(|error| Error::region(path, &error))? != MAGIC
        {
            return Err(not_a_region());
        }
        let words = Words::of_file(&file, bytes, true).map_err(|error| Error::region(path, &error))?;
        if words[MAGIC_AT].load(Ordering::Acquire) != MAGIC {
            return Err(not_a_region());
        }
        let mut open = Self::existing(words, path, kind, Sharing::None)?;
        if open.size != bytes as u64 || bytes < SHARED_HEADER_WORDS * WORD {
            return Err(Error::mismatch(path, "size", bytes as u64, open.size));
        }
        open.sharing = Sharing::join(path, open.table())?;
        Ok(open)
    }

    fn format(
        words: Words,
        zone: &str,
        kind: ZoneKind,
        size: u64,
        parameters: &Parameters,
        sharing: Sharing,
        seed: Option<u64>,
    ) -> Self {
        // Loom runs a model many times over and wants every run to hash alike.
        let seed = if cfg!(loom) { Some(1) } else { seed };
        let (seed, shared_seed) = match seed {
            Some(seed) => (seed, seed.wrapping_add(1)),
            None => (rand::random(), rand::random()),
        };
        // Relaxed: nobody reads before the magic word is there, see `seal`.
        let store = |at: usize, word: u64| words[at].store(word, Ordering::Relaxed);
        store(VERSION_AT, LAYOUT_VERSION << 8 | kind_number(kind));
        // First, since a half-made region is known by it.
        fence(Ordering::Release);
        store(SIZE_AT, size);
        store(SEED_AT, seed);
        store(SHARED_SEED_AT, shared_seed);
        for (at, (_, word)) in parameters.fixed.iter().enumerate() {
            store(FIXED_AT + at, *word);
        }
        let name = &zone.as_bytes()[..zone.len().min(NAME_MAX)];
        store(NAME_AT, name.len() as u64);
        for (at, chunk) in name.chunks(WORD).enumerate() {
            let mut bytes = [0; WORD];
            bytes[..chunk.len()].copy_from_slice(chunk);
            store(NAME_AT + 1 + at, u64::from_le_bytes(bytes));
        }
        let open = Self { words, size, seed, shared_seed: SharedSeed::from_u64(shared_seed), sharing };
        open.set_current(&parameters.current);
        open
    }

    fn existing(words: Words, path: &Path, kind: ZoneKind, sharing: Sharing) -> Result<Self, Error> {
        let load = |at: usize| words[at].load(Ordering::Relaxed);
        let version = load(VERSION_AT);
        if version >> 8 != LAYOUT_VERSION {
            return Err(Error::mismatch(path, "layout version", version >> 8, LAYOUT_VERSION));
        }
        if version & 0xff != kind_number(kind) {
            return Err(Error::mismatch(path, "kind of zone", version & 0xff, kind_number(kind)));
        }
        let (size, seed, shared_seed) = (load(SIZE_AT), load(SEED_AT), load(SHARED_SEED_AT));
        Ok(Self { words, size, seed, shared_seed: SharedSeed::from_u64(shared_seed), sharing })
    }

    fn check(&self, path: &Path, zone: &str, size: u64, parameters: &Parameters) -> Result<(), Error> {
        if self.name().as_deref() != Some(zone) {
            return Err(Error::RegionMismatch {
                path: path.to_owned(),
                what: "name of the zone",
                found: self.name().unwrap_or_default(),
                expected: zone.to_owned(),
            });
        }
        let names = parameters.fixed.iter().copied().zip(self.fixed::<LINE>());
        for ((what, expected), found) in std::iter::once((("size", size), self.size)).chain(names) {
            if found != expected {
                return Err(Error::mismatch(path, what, found, expected));
            }
        }
        Ok(())
    }

    /// Marks the region as completely laid out. Release: who finds the magic word (with Acquire) finds everything before it.
    pub(crate) fn seal(&self) {
        self.words[MAGIC_AT].store(MAGIC, Ordering::Release);
    }

    /// The name of the zone, as the header has it; `None` if that is no text.
    pub(crate) fn name(&self) -> Option<String> {
        let load = |at: usize| self.words[at].load(Ordering::Relaxed);
        let length = usize::try_from(load(NAME_AT)).ok().filter(|&length| length <= NAME_MAX)?;
        let mut bytes: Vec<u8> =
            (NAME_AT + 1..NAME_AT + 1 + NAME_WORDS).flat_map(|at| load(at).to_le_bytes()).collect();
        bytes.truncate(length);
        String::from_utf8(bytes).ok()
    }

    /// The words before the first section of a zone.
    pub(crate) const fn header_words(region: &Region) -> usize {
        if region.file.is_some() { SHARED_HEADER_WORDS } else { HEADER_WORDS }
    }

    /// The first fixed parameters.
    pub(crate) fn fixed<const N: usize>(&self) -> [u64; N] {
        std::array::from_fn(|at| self.words[FIXED_AT + at].load(Ordering::Relaxed))
    }

    /// The first of the parameters in force.
    pub(crate) fn current<const N: usize>(&self) -> [u64; N] {
        std::array::from_fn(|at| self.words[CURRENT_AT + at].load(Ordering::Relaxed))
    }

    /// One of them, which the owner may change at any time.
    pub(crate) fn current_word(&self, at: usize) -> &AtomicU64 {
        &self.words[CURRENT_AT + at]
    }

    fn set_current(&self, current: &[u64]) {
        for (at, word) in current.iter().take(LINE).enumerate() {
            self.words[CURRENT_AT + at].store(*word, Ordering::Relaxed);
        }
    }

    /// Bytes asked for.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Who else has the region.
    pub(crate) const fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// The table of the processes that share the region; empty if none can.
    fn processes(&self) -> &[AtomicU64] {
        if self.is_shared() { self.table() } else { &[] }
    }

    /// The same, of a region that is known to have one.
    fn table(&self) -> &[AtomicU64] {
        &self.words[HEADER_WORDS..SHARED_HEADER_WORDS]
    }

    /// Whether other processes may have the region, too.
    #[inline]
    pub(crate) const fn is_shared(&self) -> bool {
        !matches!(self.sharing, Sharing::None)
    }

    /// Says that a change begins, until what this answers is dropped. Nothing in a region that is not shared.
    #[inline]
    pub(crate) fn begin(&self) -> Option<Change<'_>> {
        if self.is_shared() { self.sharing.begin(self.table()) } else { None }
    }

    /// Which of the processes that share the region this one is.
    #[inline]
    pub(crate) fn process(&self) -> usize {
        self.sharing.index().unwrap_or(0)
    }

    /// The guests that have died and were not put right yet.
    pub(crate) fn dead_guests(&self) -> Vec<Dead> {
        self.sharing.dead(self.processes())
    }

    /// What `f` answers, if no living process was at work meanwhile.
    pub(crate) fn in_quiet<R>(&self, dead: &[Dead], f: impl FnOnce() -> R) -> Option<R> {
        if !self.is_shared() {
            return Some(f());
        }
        Sharing::in_quiet(self.processes(), dead, f)
    }

    /// A dead guest's leavings have been put right.
    pub(crate) fn bury(&self, dead: Vec<Dead>) {
        dead.into_iter().for_each(|dead| dead.bury(self.processes()));
    }

    /// All words, by absolute position.
    #[inline]
    pub(crate) fn all(&self) -> &[AtomicU64] {
        &self.words
    }

    /// The words of a section.
    #[inline]
    pub(crate) fn words(&self, section: Section) -> &[AtomicU64] {
        &self.words[section.start()..section.start() + section.len()]
    }

    /// The words of a section, by themselves.
    pub(crate) fn section(&self, section: Section) -> Words {
        self.words.narrowed(section.start(), section.len())
    }

    /// The same memory for a thread that outlives this borrow.
    pub(crate) fn words_owned(&self) -> Words {
        self.words.clone()
    }

    /// The zone's clock.
    pub(crate) fn hlc(&self) -> Hlc<'_> {
        Hlc::new(&self.words[HLC_AT])
    }

    /// Where in the table of origins the zone's own one is. On a line that hardly ever changes: every write reads it.
    #[inline]
    pub(crate) fn own_origin(&self) -> &AtomicU64 {
        &self.words[OWN_ORIGIN_AT]
    }

    /// Milliseconds: what was written before, by time stamps, is marked dirty or published. For regions that processes share.
    pub(crate) fn checkpoint(&self) -> &AtomicU64 {
        &self.words[CHECKPOINT_AT]
    }

    /// The hash of a key of two words, seeded likewise.
    #[inline]
    pub(crate) fn hash_words(&self, words: [u64; 2]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared_seed);
        hasher.write_u64(words[0]);
        hasher.write_u64(words[1]);
        hasher.finish()
    }

    /// The hash of a key, seeded per region: nobody outside can choose keys that meet in one bucket.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared_seed);
        hasher.write(key);
        hasher.finish()
    }
}

impl Drop for OpenRegion {
    fn drop(&mut self) {
        if self.is_shared() {
            let words = self.words.clone();
            self.sharing.leave(&words[HEADER_WORDS..SHARED_HEADER_WORDS]);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
