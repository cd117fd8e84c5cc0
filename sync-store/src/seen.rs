//! What somebody has seen of a zone, who wants to be told what has changed since.

/// How far one reader of a zone has come, who goes through it again and again and wants what has changed since the last time: with
/// [`StickyZone::changed`](crate::StickyZone::changed) or [`KeyvalZone::changed`](crate::KeyvalZone::changed). Always of the same zone.
///
/// A pass ends when the iterator does; one that is dropped before goes on with the next. Changes of a key between two passes are met as one; removals and
/// expiries are not met. It costs eight bytes for each slot of the zone, and a pass without changes reads as much: a millisecond for a million slots.
/// Writers know nothing of it, so a zone can have any number of such readers, and changes by other processes and by peers are met like all others.
///
/// ```
/// use sync_store::{Expiry, KeyvalZone, Seen, Time};
///
/// let zone = KeyvalZone::builder("z").build()?;
/// let (now, mut seen) = (Time::from_millis(1), Seen::default());
/// zone.set("a", "1", now, Expiry::Never)?;
/// assert_eq!(zone.changed(&mut seen, now).count(), 1);
/// assert_eq!(zone.changed(&mut seen, now).count(), 0);
/// zone.set("a", "2", now, Expiry::Never)?;
/// let (key, entry) = zone.changed(&mut seen, now).next().expect("a change");
/// assert_eq!((&key[..], &entry.value[..]), (&b"a"[..], &b"2"[..]));
/// # Ok::<(), sync_store::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Seen {
    /// The word of each slot when it was last looked at; 0, an empty slot, where it never was.
    pub(crate) words: Vec<u64>,
    /// Where the pass goes on.
    pub(crate) next: usize,
}

impl Seen {
    /// Whether the last pass went through to the end.
    #[must_use]
    pub const fn is_through(&self) -> bool {
        self.next == 0
    }

    /// Slots of the zone, once it has been looked at: what a pass costs.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.words.len()
    }
}
