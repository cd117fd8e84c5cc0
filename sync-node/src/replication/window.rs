//! How much catch-up may be under way: as much as keeps the peer busy, and no more, because what is published meanwhile has to wait behind it.
//!
//! The peer counts the frames of catch-up that it has applied. From a frame's sending to its count passes the time of the way, and whatever the frame has waited: in buffers
//! of both kernels, for the network, for the peer's processor. The window grows while that is little more than the shortest time seen, and shrinks while it is more. So the same rule
//! holds on a loopback, where megabytes would wait for the peer to apply them, and over an ocean, where megabytes have to be under way.
//!
//! While batches are sent, little is little: the peer counts every other frame at once, frames are smaller, and hardly anything may wait. That costs catch-up some of its speed where processors are what bounds it, so it is done only then.

use std::collections::VecDeque;
use std::time::Duration;

use super::Now;

/// Bytes under way at the beginning, before anything is known of the way.
const INITIAL: usize = 128 << 10;
/// At the least: four buffers of the usual size.
const MIN: usize = 64 << 10;
/// At the least while batches are sent: one that is applied, and one that waits.
const MIN_FRESH: usize = 32 << 10;
/// At the most: 160 MB/s over a way of 100 ms.
const MAX: usize = 16 << 20;
/// Waiting that is worth a full pipe, when nobody else waits.
const SLACK: Duration = Duration::from_micros(250);
/// What a fresh update may wait for catch-up, about, beyond the frame that is applied.
const SLACK_FRESH: Duration = Duration::from_micros(50);
/// The part of the shortest time by which others may be longer without anything waiting.
const JITTER: u32 = 4;
/// Of what is counted too late, the part by which the window shrinks: a quarter in one round trip.
const SHRINK: usize = 4;

/// For how long after a batch another one is expected: then room is made for it, at some cost to catch-up.
const FRESH: Duration = Duration::from_millis(100);

/// Whether the latest batch is so fresh that others will follow.
pub(super) fn is_fresh(batch_at: Option<Duration>, now: Now) -> bool {
    batch_at.is_some_and(|at| now.elapsed < at + FRESH)
}

/// The window of a link.
#[derive(Debug)]
pub(super) struct Window {
    bytes_max: usize,
    /// Sent and not counted: bytes, and when.
    under_way: VecDeque<(usize, Duration)>,
    bytes: usize,
    counted: u64,
    /// The shortest time from sending to counting since nothing was under way. A way that changes is measured anew with the next catch-up.
    quickest: Duration,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { bytes_max: INITIAL, under_way: VecDeque::new(), bytes: 0, counted: 0, quickest: Duration::MAX }
    }

    /// Whether another frame of catch-up may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < self.bytes_max
    }

    /// A frame of catch-up is sent.
    pub(super) fn sent(&mut self, bytes: usize, now: Now) {
        if self.under_way.is_empty() {
            self.quickest = Duration::MAX;
        }
        self.under_way.push_back((bytes, now.elapsed));
        self.bytes += bytes;
    }

    /// The peer has applied so many frames of catch-up since the link began; `is_fresh` if batches are sent meanwhile. False if that is more than were sent.
    pub(super) fn count(&mut self, frames: u64, now: Now, is_fresh: bool) -> bool {
        let mut applied = 0;
        let mut since = None;
        while self.counted < frames {
            let Some((bytes, at)) = self.under_way.pop_front() else { return false };
            self.counted += 1;
            applied += bytes;
            since = Some(at);
        }
        self.bytes -= applied;
        let Some(since) = since else { return true };
        let took = now.elapsed.saturating_sub(since);
        self.quickest = self.quickest.min(took);
        let (min, slack) = if is_fresh { (MIN_FRESH, SLACK_FRESH) } else { (MIN, SLACK) };
        self.bytes_max = match took <= self.quickest + self.quickest / JITTER + slack {
            true => MAX.min(self.bytes_max + applied),
            false => min.max(self.bytes_max - (applied / SHRINK).min(self.bytes_max)),
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use sync_store::Time;

    use super::*;

    const FRAME: usize = 16 << 10;

    /// Sends through a way of so much time each way, to a peer that takes so long for a frame. Answers frames a second, and how long the last one waited for others.
    fn run(way: Duration, apply: Duration, is_fresh: bool) -> (f64, Duration) {
        let mut window = Window::new();
        let (mut now, mut free_at, mut waited) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let mut counts = VecDeque::new();
        const FRAMES: u64 = 20_000;
        let mut sent = 0;
        let at = |elapsed| Now { time: Time::from_millis(1), elapsed };
        while window.counted < FRAMES {
            while sent < FRAMES && window.has_room() {
                window.sent(FRAME, at(now));
                sent += 1;
                let arrived = now + way;
                waited = free_at.saturating_sub(arrived);
                free_at = free_at.max(arrived) + apply;
                counts.push_back((free_at + way, sent));
            }
            let (time, count) = counts.pop_front().expect("something is under way, or all was counted");
            now = time;
            assert!(window.count(count, at(now), is_fresh));
        }
        (FRAMES as f64 / now.as_secs_f64(), waited)
    }

    #[test]
    fn the_pipe_is_full_and_the_queue_short_whatever_the_way() {
        let apply = Duration::from_micros(100);
        for way_micros in [10, 500, 5_000, 50_000] {
            let way = Duration::from_micros(way_micros);
            for (is_fresh, waits) in [(false, SLACK * 4), (true, SLACK_FRESH * 8)] {
                let (rate, waited) = run(way, apply, is_fresh);
                assert!(rate > 0.7 / apply.as_secs_f64(), "{way:?}: {rate} a second");
                assert!(waited <= way * 3 + waits, "{way:?}: {waited:?}");
            }
        }
    }

    #[test]
    fn more_than_was_sent_cannot_be_counted() {
        let now = Now { time: Time::from_millis(1), elapsed: Duration::ZERO };
        let mut window = Window::new();
        window.sent(FRAME, now);
        assert!(window.count(1, now, false) && window.count(0, now, true));
        assert!(!window.count(2, now, false));
    }
}
