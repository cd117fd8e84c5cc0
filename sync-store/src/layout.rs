//! Dealing out the words of a region.

use crate::words::{LINE, WORD};

/// A run of words of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    start: usize,
    len: usize,
}

impl Section {
    /// The position of its first word in the region; always the start of a cache line.
    #[inline]
    pub(crate) const fn start(self) -> usize {
        self.start
    }

    /// How many words it has.
    #[inline]
    pub(crate) const fn len(self) -> usize {
        self.len
    }
}

/// Deals out the words of a region of a given size, from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    next: usize,
    end: usize,
}

impl Layout {
    /// For a region of `size` bytes whose header takes so many words; what is left over behind the last whole cache line is not dealt
    /// out.
    pub(crate) const fn new(size: u64, header_words: usize) -> Self {
        Self { next: header_words, end: size as usize / (WORD * LINE) * LINE }
    }

    /// The next `words` words, starting on a cache line; `None` if so many are not left.
    pub(crate) fn take(&mut self, words: usize) -> Option<Section> {
        let start = self.next;
        let next = start.checked_add(words)?.checked_next_multiple_of(LINE)?;
        if next > self.end {
            return None;
        }
        self.next = next;
        Some(Section { start, len: words })
    }

    /// How many words are left.
    pub(crate) const fn left(&self) -> usize {
        self.end.saturating_sub(self.next)
    }
}
