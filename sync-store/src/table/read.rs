//! Reading: optimistic, without writing shared memory.
//!
//! Load the slot, copy the record, then look whether the slot still holds the same word: if so nothing was reused meanwhile, and the copy is
//! whole. A reader is lock-free, not wait-free: whenever it has to begin again, a writer has succeeded.

use crate::block::{Block, Buffer, Head, Header, Meta};
use crate::index::Glimpse;
use crate::slot::{Slot, SlotState};
use crate::words::{AtomicU64, Ordering, fence};

use super::Table;
use crate::time::Time;
use crate::{Origin, Seen, Stamp, Value};

/// A record as it was found, to be changed only if it is still the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// The position of its slot.
    pub(crate) at: usize,
    /// What the slot held.
    pub(crate) slot: Slot,
    pub(crate) meta: Meta,
}

impl Found {
    /// The part of the record that is neither key nor value.
    #[inline]
    pub(crate) const fn header(&self) -> Header {
        self.meta.header()
    }
}

impl Table {
    /// Runs `f` on the block of a slot; `None` if the slot changed meanwhile, and what `f` saw means nothing.
    #[inline]
    pub(super) fn read<R>(&self, at: usize, slot: Slot, f: impl FnOnce(Block<'_>, Head) -> R) -> Option<R> {
        let block = self.parts.blocks.at(&self.region, slot.unit());
        let (head, stamp) = (block.head(), block.stamp());
        let result = f(block, head);
        is_whole(&Glimpse { at, word: self.parts.index.word(&self.region, at), slot }, block, stamp)
            .then_some(result)
    }

    /// Finds the record of a key, tombstones and expired ones included, and copies its value into `value` if asked to.
    ///
    /// Two cache misses that depend on each other, slot and block. While it waits for them a processor begins the next lookups, as many as it has room for in some
    /// 300 instructions: so what nine in ten need is read straight on.
    #[inline(always)]
    pub(crate) fn find(&self, key: &[u8], hash: u64, mut value: Option<&mut impl Buffer>) -> Option<Found> {
        self.find_first(key, hash, &mut value).or_else(|| self.find_anywhere(key, hash, value))
    }

    /// Looks at the first record in the first bucket that has the tag of the key. `None`: it may be elsewhere, or was just changed.
    #[inline(always)]
    fn find_first(&self, key: &[u8], hash: u64, value: &mut Option<&mut impl Buffer>) -> Option<Found> {
        let glimpse = self.glance(hash)?;
        let (found, block) = self.open(glimpse, key)?;
        if let Some(value) = value {
            block.copy_value(found.meta.head, *value);
        }
        is_whole(&glimpse, block, found.meta.stamp).then_some(found)
    }

    /// The first slot with the tag of a key in its first bucket.
    #[inline(always)]
    pub(super) fn glance(&self, hash: u64) -> Option<Glimpse<'_>> {
        self.parts.index.glance(&self.region, self.parts.index.first(hash), Slot::tag_of(hash))
    }

    /// The same, also in its second bucket.
    #[inline(always)]
    pub(super) fn glance_twice(&self, hash: u64) -> Option<Glimpse<'_>> {
        self.glance(hash).or_else(|| self.glance_second(hash))
    }

    #[inline(never)]
    fn glance_second(&self, hash: u64) -> Option<Glimpse<'_>> {
        let [_, second] = self.parts.index.candidates(hash).main;
        self.parts.index.glance(&self.region, second, Slot::tag_of(hash))
    }

    /// The record of a slot, if it is of this key; to be believed if it [is whole](is_whole).
    #[inline(always)]
    pub(super) fn open(
        &self,
        Glimpse { at, slot, .. }: Glimpse<'_>,
        key: &[u8],
    ) -> Option<(Found, Block<'_>)> {
        let block = self.parts.blocks.at(&self.region, slot.unit());
        let (head, stamp) = (block.head(), block.stamp());
        block.has_key(head, key).then(|| (Found { at, slot, meta: block.meta(head, stamp) }, block))
    }

    /// The same, of any key.
    #[inline(never)]
    fn find_anywhere(&self, key: &[u8], hash: u64, mut value: Option<&mut impl Buffer>) -> Option<Found> {
        let tag = Slot::tag_of(hash);
        let candidates = self.parts.index.candidates(hash);
        let [first, second] = candidates.main;
        if let Some(found) = self.find_in(first, tag, key, &mut value) {
            return Some(found);
        }
        if let Some(found) = self.find_in(second, tag, key, &mut value) {
            return Some(found);
        }
        if !self.parts.index.overflow_in_use(&self.region) {
            return None;
        }
        self.find_in(candidates.overflow?, tag, key, &mut value)
    }

    /// Finds a key in the bucket that begins at `first`.
    fn find_in(
        &self,
        first: usize,
        tag: u64,
        key: &[u8],
        value: &mut Option<&mut impl Buffer>,
    ) -> Option<Found> {
        let mut live = self.parts.index.live_in(&self.region, first, tag);
        while live != 0 {
            let at = first + live.trailing_zeros() as usize;
            if let Some(found) = self.find_at(at, tag, key, value) {
                return Some(found);
            }
            live &= live - 1;
        }
        None
    }

    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.region.hash(key)
    }

    #[inline]
    fn find_at(
        &self,
        at: usize,
        tag: u64,
        key: &[u8],
        value: &mut Option<&mut impl Buffer>,
    ) -> Option<Found> {
        loop {
            let slot = self.parts.index.load(&self.region, at);
            if !slot.is_live_with(tag) {
                return None;
            }
            let read = self.read(at, slot, |block, head| {
                if !block.has_key(head, key) {
                    return None;
                }
                if let Some(value) = value {
                    block.copy_value(head, *value);
                }
                Some(block.meta(head, block.stamp()))
            });
            if let Some(meta) = read {
                return meta.map(|meta| Found { at, slot, meta });
            }
        }
    }

    /// Finds a record without copying its value.
    #[inline]
    pub(crate) fn find_meta(&self, key: &[u8], hash: u64) -> Option<Found> {
        self.find(key, hash, None::<&mut Vec<u8>>)
    }

    /// Asks for the block of a slot before it is needed.
    #[inline]
    pub(super) fn prefetch_block(&self, slot: Slot) {
        if slot.state() != SlotState::Empty {
            self.parts.blocks.at(&self.region, slot.unit()).prefetch();
        }
    }

    /// Whether a slot is as it was; a hint, unless a fence comes before.
    #[inline]
    pub(super) fn is_still(&self, at: usize, slot: Slot) -> bool {
        is_still(self.parts.index.word(&self.region, at), slot)
    }

    /// The record in a slot, without its bytes.
    pub(crate) fn meta_at(&self, at: usize) -> Option<Found> {
        self.live_at(at, |block, head| block.meta(head, block.stamp())).map(|(slot, meta)| Found {
            at,
            slot,
            meta,
        })
    }

    /// The record in a slot; its key and value in the two buffers.
    pub(crate) fn copy_at(&self, at: usize, key: &mut impl Buffer, value: &mut impl Buffer) -> Option<Found> {
        let copied = self.live_at(at, |block, head| {
            block.copy_key(head, key);
            block.copy_value(head, value);
            block.meta(head, block.stamp())
        });
        copied.map(|(slot, meta)| Found { at, slot, meta })
    }

    /// The record in a slot and who wrote it; its key and value in the two buffers.
    pub(super) fn copy_with_writer(
        &self,
        at: usize,
        key: &mut impl Buffer,
        value: &mut impl Buffer,
    ) -> Option<(Found, Origin)> {
        loop {
            let found = self.copy_at(at, key, value)?;
            if let Some(writer) = self.writer(&found) {
                return Some((found, writer));
            }
        }
    }

    /// All live records as they are met: key, value, header, writer.
    pub(crate) fn iter(&self, now: Time) -> impl Iterator<Item = (Value, Value, Header, Origin)> {
        self.iter_from(now, 0).map(|(_, record)| record)
    }

    /// The same from a slot on, each with its slot.
    pub(crate) fn iter_from(
        &self,
        now: Time,
        first: usize,
    ) -> impl Iterator<Item = (usize, (Value, Value, Header, Origin))> {
        (first..self.slots()).filter_map(move |at| {
            let (mut key, mut value) = (Value::new(), Value::new());
            let (found, writer) = self.copy_with_writer(at, &mut key, &mut value)?;
            self.is_live(&found, now).then(|| (at, (key, value, found.header(), writer)))
        })
    }

    /// Live records in slots that are not as they were when `seen` came by; it goes on from where it was left.
    ///
    /// What was seen is noted before the record is read: a change in between is met again.
    pub(crate) fn changed(
        &self,
        seen: &mut Seen,
        now: Time,
    ) -> impl Iterator<Item = (Value, Value, Header, Origin)> {
        seen.words.resize(self.slots(), 0);
        std::iter::from_fn(move || {
            while let Some(word) = seen.words.get_mut(seen.next) {
                let at = seen.next;
                seen.next += 1;
                let slot = self.parts.index.load(&self.region, at);
                if std::mem::replace(word, slot.raw()) == slot.raw() || slot.state() != SlotState::Live {
                    continue;
                }
                let (mut key, mut value) = (Value::new(), Value::new());
                if let Some((found, writer)) = self.copy_with_writer(at, &mut key, &mut value)
                    && self.is_live(&found, now)
                {
                    return Some((key, value, found.header(), writer));
                }
            }
            seen.next = 0;
            None
        })
        .fuse()
    }

    fn live_at<R>(&self, at: usize, mut f: impl FnMut(Block<'_>, Head) -> R) -> Option<(Slot, R)> {
        loop {
            let slot = self.parts.index.load(&self.region, at);
            if slot.state() != SlotState::Live {
                return None;
            }
            if let Some(result) = self.read(at, slot, &mut f) {
                return Some((slot, result));
            }
        }
    }
}

#[inline]
fn is_still(word: &AtomicU64, slot: Slot) -> bool {
    word.load(Ordering::Relaxed) == slot.raw()
}

/// Whether what was read of a record since its slot and stamp were is of that one.
#[inline]
pub(super) fn is_whole(glimpse: &Glimpse<'_>, block: Block<'_>, stamp: Stamp) -> bool {
    // Acquire: pairs with the release fence in `Block::fill_body`. Had any load before met a store of the block's next life, the load of the slot below would find it
    // changed.
    fence(Ordering::Acquire);
    // The stamp too: stamps do not repeat, the version of a slot does after sixteen million changes.
    is_still(glimpse.word, glimpse.slot) && block.stamp() == stamp
}
