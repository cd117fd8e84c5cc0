//! Clock offset and round trip to a peer, from heartbeats that echo each other.
//!
//! The arithmetic is that of NTP (RFC 5905, section 8): with t1 our sending time, t2 and t3 the peer's times of
//! receiving it and of answering, and t4 our time of receiving the answer, the offset of the peer's clock is
//! ((t2 - t1) + (t3 - t4)) / 2 and the round trip (t4 - t1) - (t3 - t2). A heartbeat carries t3, t1 and t3 - t2.

use std::time::Duration;

use sync_proto::wire::Heartbeat;

use super::Now;

/// Offset and round trip of the latest echoed heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    /// How far the peer's clock is ahead of ours, in microseconds.
    pub(crate) offset_us: i64,
    /// Round trip without the time the peer held the heartbeat, in microseconds.
    pub(crate) round_trip_us: u64,
}

/// What is kept between heartbeats of a link.
#[derive(Debug, Default)]
pub(crate) struct ClockOffset {
    /// The peer's clock in its latest heartbeat, and when that arrived.
    received: Option<(u64, Duration)>,
    measured: Option<Measured>,
}

impl ClockOffset {
    /// Fills the clock fields of a heartbeat that is sent now.
    pub(crate) fn stamp(&self, heartbeat: &mut Heartbeat, now: Now) {
        heartbeat.clock_us = micros(now);
        if let Some((clock_us, at)) = self.received {
            heartbeat.echo_clock_us = clock_us;
            heartbeat.echo_delay_us =
                u64::try_from(now.elapsed.saturating_sub(at).as_micros()).unwrap_or(u64::MAX);
        }
    }

    /// Takes a heartbeat that arrived now.
    pub(crate) fn handle(&mut self, heartbeat: &Heartbeat, now: Now) {
        self.received = Some((heartbeat.clock_us, now.elapsed));
        if heartbeat.echo_clock_us == 0 {
            return;
        }
        // i128: all five numbers may be anything that a hostile peer likes.
        let [t1, t3, t4] = [heartbeat.echo_clock_us, heartbeat.clock_us, micros(now)].map(i128::from);
        let held = i128::from(heartbeat.echo_delay_us);
        let offset = ((t3 - held - t1) + (t3 - t4)) / 2;
        let bounded = offset.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        self.measured = Some(Measured {
            offset_us: bounded as i64,
            round_trip_us: u64::try_from((t4 - t1 - held).max(0)).unwrap_or(u64::MAX),
        });
    }

    pub(crate) fn measured(&self) -> Option<Measured> {
        self.measured
    }
}

pub(crate) fn micros(now: Now) -> u64 {
    now.time.as_nanos() / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use sync_store::Time;

    fn at(micros: u64) -> Now {
        Now { time: Time::from_nanos(micros * 1_000), elapsed: Duration::from_micros(micros) }
    }

    #[test]
    fn offset_and_round_trip_are_exact_on_a_symmetric_path() {
        // The peer's clock is 500 us ahead; each way takes 100 us; the peer holds the heartbeat for 1,000 us.
        let (mut us, mut peer) = (ClockOffset::default(), ClockOffset::default());
        let mut first = Heartbeat::default();
        us.stamp(&mut first, at(10_000));
        peer.handle(&first, at(10_100 + 500));
        let mut answer = Heartbeat::default();
        peer.stamp(&mut answer, at(11_100 + 500));
        us.handle(&answer, at(11_200));
        assert_eq!(us.measured(), Some(Measured { offset_us: 500, round_trip_us: 200 }));
    }

    #[test]
    fn hostile_clocks_do_not_overflow() {
        let mut us = ClockOffset::default();
        let extremes = [0, 1, u64::MAX / 2, u64::MAX];
        for clock_us in extremes {
            for echo_clock_us in extremes {
                for echo_delay_us in extremes {
                    us.handle(
                        &Heartbeat { clock_us, echo_clock_us, echo_delay_us, ..Heartbeat::default() },
                        at(5),
                    );
                }
            }
        }
    }
}
