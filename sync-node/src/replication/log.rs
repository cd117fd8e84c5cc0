//! A zone's publications: encoded once, kept in a bounded ring, shared by all links.
//!
//! Each entry is one whole [`Batch`](sync_proto::wire::Batch) frame, ready for the socket, that holds the sequence
//! numbers (`from_seq_excluded`, `through_seq`] of this node. A link remembers only how far it has come. One that
//! stands before the oldest entry has fallen off the ring and needs catch-up: so a slow link costs no memory.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use sync_proto::BatchEncoder;
use sync_store::{Origin, Record, Replica};

use super::{Now, rows};

/// Batches published at once at the most: a few milliseconds' work, for which links wait.
const BATCHES_PER_PASS: usize = 16;

/// One published batch.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) from_seq_excluded: u64,
    pub(crate) through_seq: u64,
    /// The whole frame, length prefix included.
    pub(crate) frame: Bytes,
    /// When it was published, since the node started.
    pub(crate) at: Duration,
}

impl Published {
    /// What it takes of memory.
    fn bytes(&self) -> usize {
        self.frame.len() + size_of::<Self>()
    }
}

/// What a link that has come to a certain sequence sends next.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    Batch(&'a Published),
    UpToDate,
    /// What follows is no longer in the ring: catch up.
    Gone,
}

/// The ring of a zone's published batches.
#[derive(Debug)]
pub(crate) struct Log {
    zone: u32,
    sender: Origin,
    batches: VecDeque<Published>,
    bytes: usize,
    bytes_max: usize,
    batch_bytes: usize,
    through_seq: u64,
    passes_begun: u64,
    pass_completed: u64,
}

impl Log {
    /// `zone` is the id that the batches carry, `through_seq` what it has published before. The room is that of `batches` batches of `batch_bytes`, the most
    /// that one may have; of smaller ones it holds more, and the last one whatever it takes.
    pub(crate) fn new(
        zone: u32,
        sender: Origin,
        through_seq: u64,
        batches: usize,
        batch_bytes: usize,
    ) -> Self {
        Self {
            zone,
            sender,
            batches: VecDeque::new(),
            bytes: 0,
            bytes_max: batches.saturating_mul(batch_bytes),
            batch_bytes,
            through_seq,
            passes_begun: 0,
            pass_completed: 0,
        }
    }

    /// Publishes what is dirty, up to a number of batches; true if anything was. What is left then
    /// ([`is_behind`](Self::is_behind)) is for the next call, so that links can send in between what the ring would lose.
    ///
    /// `note` is told of every record that was published.
    pub(crate) fn publish(
        &mut self,
        zone: &dyn Replica,
        now: Now,
        note: &mut dyn FnMut(&Record<'_>),
    ) -> bool {
        let mut published = false;
        self.passes_begun += 1;
        for _ in 0..BATCHES_PER_PASS {
            let before = zone.published_seq();
            let mut encoder = BatchEncoder::new(self.zone, before, self.sender.raw(), self.batch_bytes);
            let mut is_full = false;
            let (from_seq_excluded, through_seq) = zone.publish(now.time, &mut |record| {
                is_full = !encoder.push(&rows::row(record));
                if !is_full {
                    note(record);
                }
                !is_full
            });
            if through_seq > from_seq_excluded {
                published = true;
                self.push(Published {
                    from_seq_excluded,
                    through_seq,
                    frame: encoder.finish(),
                    at: now.elapsed,
                });
            }
            if !is_full {
                self.pass_completed = self.passes_begun;
                break;
            }
        }
        published
    }

    /// Whether the latest pass ended before it had gone once around the zone.
    pub(crate) fn is_behind(&self) -> bool {
        self.pass_completed < self.passes_begun
    }

    /// How often publishing was begun. Everything that was dirty now is published as soon as [`Self::pass_completed`] is beyond.
    pub(crate) fn passes_begun(&self) -> u64 {
        self.passes_begun
    }

    /// The latest pass that went once around the whole zone.
    pub(crate) fn pass_completed(&self) -> u64 {
        self.pass_completed
    }

    fn push(&mut self, batch: Published) {
        self.bytes += batch.bytes();
        while self.bytes > self.bytes_max && self.forget_oldest() {}
        self.through_seq = batch.through_seq;
        self.batches.push_back(batch);
    }

    /// False if there is none.
    fn forget_oldest(&mut self) -> bool {
        let oldest = self.batches.pop_front();
        self.bytes -= oldest.as_ref().map_or(0, Published::bytes);
        oldest.is_some()
    }

    /// Forgets batches that are so old that a record of theirs may have been removed and its tombstone forgotten, or soon will be, when removals are remembered
    /// for `retention`: to whoever does not know them, a catch-up says what is left. For the time that a batch is under way there is the other half of it.
    pub(crate) fn forget_old(&mut self, now: Now, retention: Duration) {
        while self.batches.front().is_some_and(|batch| batch.at + retention / 2 < now.elapsed) {
            self.forget_oldest();
        }
    }

    /// How many bytes it takes, and the most that it may take.
    #[cfg(feature = "simulation")]
    pub(crate) fn bytes(&self) -> (usize, usize) {
        (self.bytes, self.bytes_max.max(self.batch_bytes + size_of::<Published>()))
    }

    /// What comes after `seq`.
    pub(crate) fn next_after(&self, seq: u64) -> Next<'_> {
        if seq >= self.through_seq {
            return Next::UpToDate;
        }
        match self.batches.get(self.batches.partition_point(|b| b.through_seq <= seq)) {
            // A peer may stand in the middle of a batch after catch-up; it skips the rows that it knows.
            Some(batch) if batch.from_seq_excluded <= seq => Next::Batch(batch),
            _ => Next::Gone,
        }
    }

    /// Highest sequence published.
    pub(crate) fn through_seq(&self) -> u64 {
        self.through_seq
    }

    /// When the oldest batch that `acknowledged_seq` does not cover was published, if it is still known.
    pub(crate) fn waiting_since(&self, acknowledged_seq: u64) -> Option<Duration> {
        self.batches.get(self.batches.partition_point(|b| b.through_seq <= acknowledged_seq)).map(|b| b.at)
    }
}

#[cfg(test)]
mod tests {
    use sync_store::{Expiry, KeyvalZone, Time};

    use super::*;

    #[test]
    fn small_batches_share_the_room_of_large_ones() {
        const BATCHES: usize = 4;
        const BATCH_BYTES: usize = 1024;
        let origin = Origin::from_raw(1).expect("not 0");
        let zone = KeyvalZone::builder("kv").size(1 << 20).origin(origin).build().expect("a zone");
        let mut log = Log::new(0, origin, 0, BATCHES, BATCH_BYTES);
        let now = Now { time: Time::from_millis(1_700_000_000_000), elapsed: Duration::ZERO };
        let mut published = 0;
        while matches!(log.next_after(0), Next::Batch(_) | Next::UpToDate) {
            zone.set(format!("{published}"), "value", now.time, Expiry::Never).expect("room");
            assert!(log.publish(&zone, now, &mut |_| ()));
            published += 1;
            let bytes: usize = log.batches.iter().map(Published::bytes).sum();
            assert_eq!(bytes, log.bytes);
            assert!(bytes <= BATCHES * BATCH_BYTES, "{bytes} bytes after {published} batches");
        }
        assert!(published > 4 * BATCHES, "{published} batches of one record");
        // One that takes more than all room is kept nevertheless: links have to get it.
        let mut log = Log::new(0, origin, 0, 1, 8);
        log.push(Published {
            from_seq_excluded: 0,
            through_seq: 1,
            frame: Bytes::from_static(&[0; 100]),
            at: now.elapsed,
        });
        assert!(matches!(log.next_after(0), Next::Batch(_)));
        log.push(Published {
            from_seq_excluded: 1,
            through_seq: 2,
            frame: Bytes::from_static(&[0; 100]),
            at: now.elapsed,
        });
        assert!(matches!(log.next_after(0), Next::Gone));
        assert!(matches!(log.next_after(1), Next::Batch(_)));
    }
}
