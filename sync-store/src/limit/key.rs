//! Keys as a limit zone keeps them: two words, whatever their length.

use crate::region::OpenRegion;

/// Bytes of the longest key that is kept, and sent, as it is.
pub(super) const INLINE_MAX: usize = 16;
/// Bytes of the longest key on the wire: a mark and a digest.
pub(super) const WIRE_MAX: usize = INLINE_MAX + 1;
/// The length of a digest key. No other key has it, since longer ones than [`INLINE_MAX`] are replaced.
const DIGEST: u8 = WIRE_MAX as u8;
/// The first byte of a digest key on the wire; room for other digests, should blake3 ever fall.
const BLAKE3: u8 = 1;

/// A key, ready to be looked up.
///
/// A key of up to 16 bytes is kept as it is. A longer one is replaced by the first 16 bytes of its blake3 digest: the same on every
/// node, and 2⁶⁴ tries away from another key with the same one. On the wire such a key has 17 bytes, a mark and the digest;
/// no key that is sent as it is has so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LimitKey {
    pub(super) words: [u64; 2],
    /// 1..=16, or [`DIGEST`].
    pub(super) len: u8,
}

impl LimitKey {
    /// The key of a caller; `None` if it is empty.
    #[inline]
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        Self::inline(key).or_else(|| Self::digest(key))
    }

    #[cold]
    fn digest(key: &[u8]) -> Option<Self> {
        if key.is_empty() {
            return None;
        }
        let mut digest = [0; INLINE_MAX];
        digest.copy_from_slice(&blake3::hash(key).as_bytes()[..INLINE_MAX]);
        Some(Self { words: words(digest), len: DIGEST })
    }

    /// A key as it travels; `None` if it is empty, too long, or not a digest that we know.
    pub(super) fn from_wire(key: &[u8]) -> Option<Self> {
        match key {
            [BLAKE3, digest @ ..] if digest.len() == INLINE_MAX => {
                Some(Self { len: DIGEST, ..Self::inline(digest)? })
            }
            key => Self::inline(key),
        }
    }

    /// A key that is kept as it is; `None` if it is empty or longer than those.
    ///
    /// Two loads that may overlap, whatever the length: a copy of so few bytes costs more than all else that a check computes.
    #[inline]
    pub(super) fn inline(key: &[u8]) -> Option<Self> {
        let words = match (key.len(), key.first_chunk(), key.last_chunk()) {
            (8..=INLINE_MAX, Some(&first), Some(&last)) => {
                let unused = u64::BITS * 2 - 8 * key.len() as u32;
                // In two steps, since all 64 bits are none of the second word's in a key of 8 bytes.
                [u64::from_le_bytes(first), u64::from_le_bytes(last) >> (unused / 2) >> (unused - unused / 2)]
            }
            (1..8, ..) => [key.iter().rfold(0, |word, &byte| word << 8 | u64::from(byte)), 0],
            _ => return None,
        };
        Some(Self { words, len: key.len() as u8 })
    }

    /// The key that an entry holds; `None` if `len` is no length of a key.
    pub(super) const fn from_words(words: [u64; 2], len: u8) -> Option<Self> {
        if len == 0 || len > DIGEST {
            return None;
        }
        Some(Self { words, len })
    }

    /// The key as it travels, written into `wire`.
    pub(super) fn to_wire(self, wire: &mut [u8; WIRE_MAX]) -> &[u8] {
        wire[0] = BLAKE3;
        wire[1..9].copy_from_slice(&self.words[0].to_le_bytes());
        wire[9..].copy_from_slice(&self.words[1].to_le_bytes());
        if self.len == DIGEST { wire } else { &wire[1..=usize::from(self.len).min(INLINE_MAX)] }
    }

    /// Its hash, seeded by the region. The length is mixed into the byte that only keys of 16 bytes use: so at most a
    /// handful of keys can be made to share a hash.
    #[inline]
    pub(super) fn hash(self, region: &OpenRegion) -> u64 {
        region.hash_words([self.words[0], self.words[1] ^ u64::from(self.len) << 56])
    }
}

#[inline]
fn words(bytes: [u8; INLINE_MAX]) -> [u64; 2] {
    let number = u128::from_le_bytes(bytes);
    [number as u64, (number >> 64) as u64]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_wire() {
        for length in [1, 7, 8, 15, 16, 17, 18, 1024] {
            let key: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let limit_key = LimitKey::new(&key).expect("not empty");
            let mut wire = [0; WIRE_MAX];
            let sent = limit_key.to_wire(&mut wire);
            assert_eq!(sent.len(), length.min(17));
            assert_eq!(LimitKey::from_wire(sent), Some(limit_key));
            if length <= 16 {
                assert_eq!(sent, key);
            }
        }
    }

    #[test]
    fn no_two_keys_are_confused() {
        let long = LimitKey::new(&[1; 17]).expect("not empty");
        assert_ne!(Some(long), LimitKey::new(&blake3::hash(&[1; 17]).as_bytes()[..16]));
        assert_ne!(LimitKey::new(b"a"), LimitKey::new(b"a\0"));
    }

    #[test]
    fn hostile_keys_are_refused() {
        assert_eq!(LimitKey::new(b""), None);
        assert_eq!(LimitKey::from_wire(b""), None);
        assert_eq!(LimitKey::from_wire(&[2; 17]), None);
        assert_eq!(LimitKey::from_wire(&[1; 18]), None);
    }
}
