//! Where records get their memory: runs of units (half a cache line each), as many as a record needs.
//!
//! One bit per unit says whether it is taken. Taking a run is a compare-and-swap of the bitmap word it lies in (a run across words takes
//! them one by one and gives back what it has if one fails); freeing is a `fetch_and`, and neighbours grow together by themselves.
//! The obvious alternative, a free list for each size class, needs blocks that keep their class for ever; a zone once filled with
//! records of one size then has no room for any larger one, even when all of them are gone. It needs tags against ABA, too, and rounds
//! sizes up; here nothing ever reads a free block.
//!
//! A run of two units begins at a cache line if it can, so that the usual record is one line and not two halves.
//!
//! In front of the bitmap are *cells*: a cache line for each stripe of threads, where the block that a replacement frees waits for the
//! next one. Cells lie in the region and change by compare-and-swap, so no thread owns anything that would be lost with it, and
//! they are flushed before a zone is called full.
//!
//! **ABA.** A cell's compare-and-swap may succeed on a block that has left the cell and come back since it was looked at. That does no harm: the cell *is* the
//! ownership, nothing is read through it, and the block is there now. The same goes for a bit. So neither needs a tag.
//!
//! A few blocks are kept in *reserve* to replace records of a zone that is full to the brim: without it nothing could be removed from one,
//! since a tombstone is a record too.

use crate::block::{self, Block};
use crate::layout::{Layout, Section};
use crate::region::OpenRegion;
use crate::threads;
use crate::words::{AtomicU64, LINE, Ordering, UNIT, WORD};

const BITS: usize = u64::BITS as usize;
/// Words of a stripe: where its threads look for room next, and its cells.
const STRIPE: usize = LINE;
/// Stripes at most. More threads than that share.
const STRIPES_MAX: usize = 16;
/// Bits of a cell below the number of units.
const CELL_UNIT_BITS: u32 = 32;
/// Bitmap words that a quick search visits at most: 2 MiB of blocks, well under a microsecond. The next search goes on behind.
const SEARCH_WORDS: usize = 512;

/// Bitmap words that are visited for several blocks at once.
const SOME_WORDS: usize = 8;

/// A block that the caller owns: nothing else refers to it. Must be given back.
#[derive(Debug)]
#[must_use]
pub(crate) struct Owned {
    /// The unit of the region where it begins.
    pub(crate) unit: u32,
    /// How many units it has.
    pub(crate) units: u32,
}

/// The memory of the records of a zone.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// The region's last section.
    area: Section,
    /// One bit per unit of `area`, 1 = taken.
    taken: Section,
    stripes: Section,
    /// One word: a bit per block of the reserve, 1 = free. They are the first blocks of `area`.
    reserve: Section,
    reserve_units: u32,
    reserve_blocks: u32,
    /// The unit of the region behind the reserve.
    reserve_end: u32,
}

/// What the blocks of a zone are to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// Bytes of the region.
    pub(crate) size: u64,
    /// The longest key in bytes.
    pub(crate) max_key: usize,
    /// The most bytes of key and value.
    pub(crate) max_record: usize,
}

impl Demand {
    /// Units of a block of the reserve: a tombstone of the longest key fits at least; in larger zones also records of up to 1/128 of it.
    fn reserve_units(&self) -> u32 {
        let tombstone = block::units_needed(self.max_key, 0, false);
        // Key and value are padded one by one, hence a word more than their sum.
        let largest = block::units_needed(self.max_record, 1, true);
        let share = u32::try_from(self.size / 128 / (UNIT * WORD) as u64).unwrap_or(u32::MAX);
        share.clamp(tombstone, largest.max(tombstone))
    }

    /// As many threads can replace records of a full zone at the same time.
    const fn reserve_blocks(&self) -> u32 {
        if self.size < 256 << 10 { 2 } else { 4 }
    }

    /// A stripe for each 32 KiB.
    fn stripes(&self) -> usize {
        usize::try_from(self.size >> 15).unwrap_or(usize::MAX).clamp(1, STRIPES_MAX)
    }

    /// How many words the reserve and the stripes take, and whatever else does not grow with the blocks, at most.
    pub(crate) fn fixed_words(&self) -> usize {
        let reserve = (self.reserve_units() * self.reserve_blocks()) as usize * UNIT;
        reserve + self.stripes() * STRIPE + 2 * LINE
    }
}

impl Blocks {
    /// Takes all that is left of the layout; `None` if that does not hold the reserve and a handful of small records.
    pub(crate) fn new(layout: &mut Layout, demand: &Demand) -> Option<Self> {
        let stripes = layout.take(demand.stripes() * STRIPE)?;
        let reserve = layout.take(1)?;
        let taken = layout.take((layout.left() / UNIT).div_ceil(BITS))?;
        let area = layout.take(layout.left())?;
        let (reserve_units, reserve_blocks) = (demand.reserve_units(), demand.reserve_blocks());
        let reserve_end = (area.start() / UNIT) as u32 + reserve_units * reserve_blocks;
        let blocks = Self { area, taken, stripes, reserve, reserve_units, reserve_blocks, reserve_end };
        (blocks.area_units() >= (blocks.reserve_area() + 8) as usize).then_some(blocks)
    }

    /// Brings the words of a fresh region into their first state.
    pub(crate) fn prepare(&self, region: &OpenRegion) {
        let words = region.words(self.taken);
        // Beyond the area there is nothing to take.
        for unit in self.area_units()..words.len() * BITS {
            words[unit / BITS].fetch_or(1 << (unit % BITS), Ordering::Relaxed);
        }
        for unit in 0..self.reserve_area() as usize {
            words[unit / BITS].fetch_or(1 << (unit % BITS), Ordering::Relaxed);
        }
        region.words(self.reserve)[0].store((1 << self.reserve_blocks) - 1, Ordering::Relaxed);
        // Threads of different stripes begin in different parts.
        let stripes = self.stripes.len() / STRIPE;
        for (at, stripe) in region.words(self.stripes).chunks(STRIPE).enumerate() {
            stripe[0].store((words.len() * at / stripes) as u64, Ordering::Relaxed);
        }
    }

    const fn area_units(&self) -> usize {
        self.area.len() / UNIT
    }

    /// Lines of the area that belong to the reserve.
    const fn reserve_area(&self) -> u32 {
        self.reserve_units * self.reserve_blocks
    }

    const fn first_unit(&self) -> usize {
        self.area.start() / UNIT
    }

    /// How many units there are for records.
    pub(crate) const fn capacity_units(&self) -> u64 {
        self.area_units() as u64 - self.reserve_area() as u64
    }

    /// The block at `unit`.
    #[inline]
    pub(crate) fn at<'r>(&self, region: &'r OpenRegion, unit: u32) -> Block<'r> {
        // Slots only ever name units of the area, which is the end of the region.
        Block::new(&region.all()[unit as usize * UNIT..])
    }

    /// A block of `units` units that was given back a moment ago, and the cell where it was.
    #[inline]
    pub(crate) fn at_hand<'r>(&self, region: &'r OpenRegion, units: u32) -> Option<(&'r AtomicU64, Owned)> {
        Self::take_cell(self.stripe(region), units)
    }

    /// A block of `units` units; `None` if none was found in a quick search.
    pub(crate) fn take(&self, region: &OpenRegion, units: u32) -> Option<Owned> {
        self.search(region, &self.stripe(region)[0], units, SEARCH_WORDS)
    }

    /// Up to `count` blocks of `units` units, handed to `f` one by one: as many as are free in one word of the bitmap, found in a short search. Taking them together costs little more
    /// than taking one.
    pub(crate) fn take_some(&self, region: &OpenRegion, units: u32, count: usize, mut f: impl FnMut(Owned)) {
        let (words, hand) = (region.words(self.taken), &self.stripe(region)[0]);
        if units as usize > BITS {
            return;
        }
        let run = Run { wanted: units as usize, length: 0 };
        // Relaxed: the hand is a hint, and claiming decides.
        let first = hand.load(Ordering::Relaxed) as usize;
        for step in 0..SOME_WORDS.min(words.len()) {
            let at = (first + step) % words.len();
            let seen = words[at].load(Ordering::Relaxed);
            let (mut starts, mut found, mut taken) = (0u64, 0, seen);
            while found < count
                && let Some(start) = run.find(at, taken)
            {
                starts |= 1 << (start % BITS);
                taken |= part(start, units as usize).1;
                found += 1;
            }
            // Acquire as in `claim`. If it fails somebody else has taken some.
            if found == 0
                || words[at].compare_exchange(seen, taken, Ordering::AcqRel, Ordering::Relaxed).is_err()
            {
                continue;
            }
            hand.store(at as u64, Ordering::Relaxed);
            while starts != 0 {
                let unit = self.first_unit() + at * BITS + starts.trailing_zeros() as usize;
                f(Owned { unit: unit as u32, units });
                starts &= starts - 1;
            }
            return;
        }
    }

    /// A block of `units` units, after everything that waits in a cell was put back where it can grow together, and without a bound on the search.
    pub(crate) fn take_thoroughly(&self, region: &OpenRegion, units: u32) -> Option<Owned> {
        for cell in region.words(self.stripes).chunks(STRIPE).flat_map(|stripe| &stripe[1..]) {
            if cell.load(Ordering::Relaxed) != 0
                && let Some(block) = Self::held(cell.swap(0, Ordering::AcqRel))
            {
                self.give_back(region, block);
            }
        }
        self.search(region, &self.stripe(region)[0], units, usize::MAX)
    }

    /// A block of the reserve, if `units` fit into one.
    pub(crate) fn take_reserve(&self, region: &OpenRegion, units: u32) -> Option<Owned> {
        if units > self.reserve_units {
            return None;
        }
        let word = &region.words(self.reserve)[0];
        // Acquire pairs with the Release of `free`.
        let free = word
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |free| (free != 0).then(|| free & (free - 1)))
            .ok()?;
        let unit = self.first_unit() as u32 + free.trailing_zeros() * self.reserve_units;
        Some(Owned { unit, units: self.reserve_units })
    }

    /// The block at `unit`, where a record of `units` units was.
    pub(crate) fn owned(&self, unit: u32, units: u32) -> Owned {
        let units = if self.is_reserve(unit) { self.reserve_units } else { units };
        Owned { unit, units }
    }

    /// Makes a block exactly `units` long, by giving back its end or by taking what is free one unit after another behind it; false if that is not enough.
    /// A block of the reserve never fits: it has to go back.
    pub(crate) fn fit(&self, region: &OpenRegion, block: &mut Owned, units: u32) -> bool {
        if self.is_reserve(block.unit) {
            return false;
        }
        while block.units < units {
            let behind = block.unit as usize + block.units as usize - self.first_unit();
            if behind >= self.area_units() || !self.claim(region, behind, 1) {
                return false;
            }
            block.units += 1;
        }
        self.shorten(region, block, units);
        true
    }

    /// Gives back what a block has beyond `units`.
    pub(crate) fn shorten(&self, region: &OpenRegion, block: &mut Owned, units: u32) {
        if block.units > units && !self.is_reserve(block.unit) {
            let end = Owned { unit: block.unit + units, units: block.units - units };
            self.give_back(region, end);
            block.units = units;
        }
    }

    /// The unit behind a block if it is in the area: there begins another block, or free memory.
    pub(crate) fn unit_behind(&self, block: &Owned) -> Option<u32> {
        let unit = block.unit + block.units;
        (!self.is_reserve(block.unit) && unit as usize - self.first_unit() < self.area_units())
            .then_some(unit)
    }

    const fn is_reserve(&self, unit: u32) -> bool {
        unit < self.reserve_end
    }

    /// Gives back a block.
    #[inline]
    pub(crate) fn free(&self, region: &OpenRegion, block: Owned) {
        if self.is_reserve(block.unit) {
            self.free_reserve(region, &block);
        } else if let Some(block) = Self::put_cell(self.stripe(region), block) {
            self.give_back(region, block);
        }
    }

    /// The same, into that cell if it can be.
    #[inline(always)]
    pub(crate) fn free_into(&self, region: &OpenRegion, cell: &AtomicU64, block: Owned) {
        if self.is_reserve(block.unit) || !Self::put(cell, &block) {
            self.free(region, block);
        }
    }

    #[cold]
    fn free_reserve(&self, region: &OpenRegion, block: &Owned) {
        // Release: what its user read or wrote comes before its next use.
        let bit = 1 << ((block.unit - self.first_unit() as u32) / self.reserve_units);
        region.words(self.reserve)[0].fetch_or(bit, Ordering::Release);
    }

    /// What waits in cells.
    pub(crate) fn in_cells(&self, region: &OpenRegion) -> Vec<Owned> {
        let stripes = region.words(self.stripes).chunks(STRIPE);
        stripes
            .flat_map(|stripe| &stripe[1..])
            .filter_map(|cell| Self::held(cell.load(Ordering::Acquire)))
            .collect()
    }

    /// Units that are taken and not in any of the blocks `held`; and of the reserve's blocks, as bits.
    pub(crate) fn leaked(&self, region: &OpenRegion, held: Vec<Owned>) -> (Vec<u32>, u64) {
        let words = region.words(self.taken);
        let mut known = vec![0u64; words.len()];
        // Beyond the area, and the reserve, which has its own bits.
        for unit in (self.area_units()..words.len() * BITS).chain(0..self.reserve_area() as usize) {
            known[unit / BITS] |= 1 << (unit % BITS);
        }
        let mut reserve = region.words(self.reserve)[0].load(Ordering::Acquire);
        for block in held {
            let first = block.unit as usize - self.first_unit();
            if self.is_reserve(block.unit) {
                reserve |= 1 << (first as u32 / self.reserve_units);
            } else {
                for unit in first..first + block.units as usize {
                    known[unit / BITS] |= 1 << (unit % BITS);
                }
            }
        }
        let mut leaked = Vec::new();
        for (at, (word, known)) in words.iter().zip(known).enumerate() {
            let mut bits = word.load(Ordering::Acquire) & !known;
            while bits != 0 {
                leaked.push((at * BITS) as u32 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
        (leaked, !reserve & ((1 << self.reserve_blocks) - 1))
    }

    /// Gives back what [`Self::leaked`] has found.
    pub(crate) fn reclaim(&self, region: &OpenRegion, units: &[u32], reserve: u64) {
        units.iter().for_each(|&unit| self.release(region, unit as usize, 1));
        region.words(self.reserve)[0].fetch_or(reserve, Ordering::AcqRel);
    }

    #[cold]
    fn give_back(&self, region: &OpenRegion, block: Owned) {
        self.release(region, block.unit as usize - self.first_unit(), block.units as usize);
    }

    /// Looks for a run of free units, from where the stripe found one last, once around or through `most` bitmap words.
    #[inline(never)]
    fn search(&self, region: &OpenRegion, hand: &AtomicU64, units: u32, most: usize) -> Option<Owned> {
        let words = region.words(self.taken);
        let units = units as usize;
        // Relaxed: the hand is a hint, and claiming decides.
        let first = hand.load(Ordering::Relaxed) as usize % words.len();
        let mut run = Run { wanted: units, length: 0 };
        let mut at = first;
        for _ in 0..words.len().min(most) + units.div_ceil(BITS) {
            // Several attempts at one word: each failure means that somebody else succeeded there.
            while let Some(start) = run.find(at, words[at].load(Ordering::Relaxed)) {
                if self.claim(region, start, units) {
                    hand.store((start / BITS) as u64, Ordering::Relaxed);
                    let unit = (self.first_unit() + start) as u32;
                    return Some(Owned { unit, units: units as u32 });
                }
                run.length = 0;
            }
            run.pass(words[at].load(Ordering::Relaxed));
            at += 1;
            if at == words.len() {
                (at, run.length) = (0, 0);
            }
        }
        hand.store(at as u64, Ordering::Relaxed);
        None
    }

    /// Takes exactly these units, counted in the area; false, and nothing taken, if one of them is not free.
    fn claim(&self, region: &OpenRegion, start: usize, units: usize) -> bool {
        let words = region.words(self.taken);
        let mut done = 0;
        while done < units {
            let (at, mask, count) = part(start + done, units - done);
            let claim = |taken: u64| (taken & mask == 0).then_some(taken | mask);
            // Acquire pairs with the Release of `release`: whoever had these units before is done with them.
            if words[at].fetch_update(Ordering::AcqRel, Ordering::Relaxed, claim).is_err() {
                self.release(region, start, done);
                return false;
            }
            done += count;
        }
        true
    }

    fn release(&self, region: &OpenRegion, start: usize, units: usize) {
        let mut done = 0;
        while done < units {
            let (at, mask, count) = part(start + done, units - done);
            region.words(self.taken)[at].fetch_and(!mask, Ordering::AcqRel);
            done += count;
        }
    }

    #[inline]
    fn stripe<'r>(&self, region: &'r OpenRegion) -> &'r [AtomicU64; STRIPE] {
        // Processes that share a region begin at different stripes.
        let number = threads::number() + region.process();
        let stripes = self.stripes.len() / STRIPE;
        // Few threads have a number that has to be divided.
        let number = if number < stripes { number } else { number % stripes };
        &region.all()[self.stripes.start()..].as_chunks().0[number]
    }

    fn held(cell: u64) -> Option<Owned> {
        (cell != 0).then_some(Owned { unit: cell as u32, units: (cell >> CELL_UNIT_BITS) as u32 })
    }

    #[inline]
    fn take_cell(stripe: &[AtomicU64; STRIPE], units: u32) -> Option<(&AtomicU64, Owned)> {
        stripe[1..].iter().find_map(|cell| {
            let held = cell.load(Ordering::Relaxed);
            // An empty cell has no units.
            if held >> CELL_UNIT_BITS != u64::from(units) {
                return None;
            }
            // Acquire pairs with the Release of `put`. That the same block may have left the cell and come back since the load
            // does no harm: it is there now.
            cell.compare_exchange(held, 0, Ordering::Acquire, Ordering::Relaxed).ok()?;
            Some((cell, Owned { unit: held as u32, units }))
        })
    }

    /// Hands the block back if all cells are taken.
    #[inline]
    fn put_cell(stripe: &[AtomicU64; STRIPE], block: Owned) -> Option<Owned> {
        let is_put =
            stripe[1..].iter().any(|cell| cell.load(Ordering::Relaxed) == 0 && Self::put(cell, &block));
        (!is_put).then_some(block)
    }

    /// Puts a block into a cell, if that is empty.
    #[inline]
    fn put(cell: &AtomicU64, block: &Owned) -> bool {
        let held = u64::from(block.units) << CELL_UNIT_BITS | u64::from(block.unit);
        cell.compare_exchange(0, held, Ordering::Release, Ordering::Relaxed).is_ok()
    }
}

/// Every second bit of a bitmap word: units that begin a cache line.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// The part of a run of units that lies in one bitmap word: the word, its bits, how many they are.
const fn part(start: usize, units: usize) -> (usize, u64, usize) {
    let bit = start % BITS;
    let count = if units < BITS - bit { units } else { BITS - bit };
    (start / BITS, (u64::MAX >> (BITS - count)) << bit, count)
}

/// Free units found at the end of the bitmap words passed so far.
struct Run {
    wanted: usize,
    length: usize,
}

impl Run {
    /// Where a run long enough begins that ends in this word; the lowest one.
    fn find(&self, at: usize, taken: u64) -> Option<usize> {
        let free = !taken;
        if self.wanted == 2 {
            let whole_lines = free & free >> 1 & EVEN;
            if whole_lines != 0 {
                return Some(at * BITS + whole_lines.trailing_zeros() as usize);
            }
        }
        if self.length > 0 && self.length + free.trailing_ones() as usize >= self.wanted {
            return Some(at * BITS - self.length);
        }
        if self.wanted > BITS {
            return None;
        }
        // Bit i of `starts` stays set while units i.. of the growing run are free.
        let mut starts = free;
        let mut covered = 1;
        while covered < self.wanted && starts != 0 {
            let step = covered.min(self.wanted - covered);
            starts &= starts >> step;
            covered += step;
        }
        (starts != 0).then(|| at * BITS + starts.trailing_zeros() as usize)
    }

    /// Nothing found in this word.
    fn pass(&mut self, taken: u64) {
        self.length = if taken == 0 { self.length + BITS } else { taken.leading_zeros() as usize };
    }
}

#[cfg(test)]
mod tests;
