//! A value that was copied out of a zone.

use std::fmt;
use std::ops::Deref;

use smallvec::SmallVec;

use crate::block::Buffer;

/// Bytes that a [`Value`] holds without an allocation: an address with a port, a session's server, a token of 32 bytes.
const INLINE: usize = 48;

/// A copy of a value: of up to 48 bytes without an allocation. Reads as a slice of bytes.
///
/// ```
/// use sync_store::{Expiry, KeyvalZone, Time};
///
/// let zone = KeyvalZone::builder("z").build()?;
/// let now = Time::from_millis(1);
/// zone.set("key", "value", now, Expiry::Never)?;
/// let value = zone.get("key", now).expect("set just now");
/// assert_eq!(value, b"value");
/// assert_eq!(value.len(), 5);
/// assert_eq!(value.into_vec(), b"value");
/// # Ok::<(), sync_store::Error>(())
/// ```
#[derive(Clone, Default, Eq, Hash)]
pub struct Value(SmallVec<[u8; INLINE]>);

impl Value {
    pub(crate) const fn new() -> Self {
        Self(SmallVec::new_const())
    }

    /// The same bytes in a vector.
    pub fn into_vec(self) -> Vec<u8> {
        self.0.into_vec()
    }
}

impl Buffer for Value {
    #[inline]
    fn room(&mut self, len: usize) -> &mut [u8] {
        // All at once: `resize` goes byte by byte.
        self.0 = match len {
            0..=INLINE => SmallVec::from_buf_and_len([0; INLINE], len),
            _ => SmallVec::from_vec(vec![0; len]),
        };
        &mut self.0
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Value {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Value> for Vec<u8> {
    fn from(value: Value) -> Self {
        value.into_vec()
    }
}

/// Equal to whatever has the same bytes.
impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Value {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

/// As a byte string, `b"text"`.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}
