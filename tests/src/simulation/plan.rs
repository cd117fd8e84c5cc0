//! What a seed decides before it starts: how many nodes, their settings, and which faults there are. Each seed has some kinds of faults
//! and not others, so that rare combinations are not drowned in common ones.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sync_node::StateSync;

use super::faults::Kind;
use super::host::BURST;
use super::truth::REQUEST;

/// The largest cluster, nodes that come and go included.
pub(super) const HOSTS_MAX: usize = 8;

/// How much longer than the fault a message may be late: until both ends have noticed, and dialled again.
const LATE: Duration = Duration::from_secs(30);
/// Requests that a node may count twice if it is sent states.
const COUNTED_TWICE_MAX: u32 = 2;
/// Requests of which some nodes may know and others not if they are sent states: of what two admit without hearing of each other only the greater part is counted. One may cost
/// the whole burst.
const MISSED_MAX: u32 = 20;
/// Faults that leave nodes and their lists as they are: what they cost comes by the log.
const STREAM_ALONE: [Kind; 5] = [Kind::Burst, Kind::ClockStep, Kind::Delay, Kind::Reset, Kind::Slow];
/// So many batches hold all that is written in the longest fault.
const LONG_LOG: usize = 256;

/// How tombstones and room for records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Zones have room for everything, and tombstones outlive the run.
    Ample,
    /// Tombstones are forgotten during the run.
    Forgetful,
    /// Zones run full, and tombstones are forgotten.
    Scarce,
}

/// What requests of limits cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Costs {
    /// One each.
    One,
    /// Some cost more, up to the whole burst.
    Mixed,
    /// The same, and some are refunded on the node that admitted them.
    Refunded,
}

/// The parameters of a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Nodes at the start.
    pub(super) nodes: usize,
    /// How long there are faults.
    pub(super) disturbed: Duration,
    pub(super) room: Room,
    pub(super) keyval_bytes: u64,
    pub(super) sticky_bytes: u64,
    pub(super) limit_bytes: u64,
    pub(super) tombstone_retention: Duration,
    pub(super) session_timeout: Duration,
    pub(super) interval: Duration,
    pub(super) buffers: (usize, usize),
    pub(super) max_clock_skew: Duration,
    /// Each node's clock is ahead or behind by at most this, from the start.
    pub(super) skew: Duration,
    /// Delay of a pair of nodes, from and to.
    pub(super) delay: (Duration, Duration),
    /// One frame in so many is lost at first and comes late.
    pub(super) lossy: Option<u32>,
    /// Connections have lanes, each with an order of its own, as with QUIC.
    pub(super) lanes: bool,
    /// Bytes under way in one direction of a connection.
    pub(super) window: usize,
    /// Between two operations in the whole cluster, on average.
    pub(super) pause: Duration,
    pub(super) keys: u32,
    pub(super) value_max: usize,
    pub(super) faults: Vec<Kind>,
    /// Between two faults, on average.
    pub(super) fault_pause: Duration,
    /// The longest time that a fault lasts.
    pub(super) fault_max: Duration,
    /// Nodes keep their zones in mapped files.
    pub(super) mapped: bool,
    /// The keyval zone has a state file, if it is not mapped.
    pub(super) state: Option<StateSync>,
    pub(super) costs: Costs,
    /// There are bounds for views of limits. Not where a clock jumps: that makes peers refuse each other over and over, with states each time, and what is on its way to a node then may be
    /// counted twice.
    pub(super) bounds_views: bool,
    /// There is a limit zone whose clients ask for far more than it admits; and whether it is strict.
    pub(super) strict: Option<bool>,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x706c_616e);
        let rng = &mut rng;
        let room = *pick(rng, &[Room::Ample, Room::Ample, Room::Forgetful, Room::Scarce]);
        let far = rng.random_bool(0.4);
        let kinds = Kind::ALL.iter().filter(|_| rng.random_bool(0.4)).copied().collect::<Vec<_>>();
        // Not of `rng`, so that all else of a seed is as it was before there were such faults.
        let crashes = SmallRng::seed_from_u64(seed ^ 0x0063_7261_7368).random_bool(0.3);
        let churn = rng.random_bool(0.15);
        let retention = match room {
            Room::Ample => 24 * 3600,
            Room::Forgetful | Room::Scarce => rng.random_range(90..300),
        };
        let mut plan = Self {
            seed,
            nodes: *pick(rng, &[2, 3, 3, 4, 5, 6]),
            disturbed: Duration::from_secs(rng.random_range(60..900)),
            room,
            keyval_bytes: if room == Room::Scarce { 16 << 10 } else { 128 << 10 },
            sticky_bytes: if rng.random_bool(0.3) { 12 << 10 } else { 128 << 10 },
            limit_bytes: if rng.random_bool(0.2) { 8 << 10 } else { 32 << 10 },
            tombstone_retention: Duration::from_secs(retention),
            session_timeout: Duration::from_secs(*pick(rng, &[30, 120, 600])),
            interval: Duration::from_millis(*pick(rng, &[0, 1, 1, 1, 50])),
            buffers: (*pick(rng, &[1, 2, 4, 16, 256]), *pick(rng, &[1 << 10, 2 << 10, 16 << 10])),
            max_clock_skew: Duration::from_secs(5),
            skew: Duration::from_millis(*pick(rng, &[0, 0, 100, 2_000])),
            delay: if far { (millis(10), millis(100)) } else { (micros(100), millis(1)) },
            lossy: rng.random_bool(0.3).then(|| rng.random_range(20..500)),
            // Not of `rng`, so that all else of a seed is as it was before there were lanes.
            lanes: SmallRng::seed_from_u64(seed ^ 0x6c61_6e65).random_bool(0.5),
            window: *pick(rng, &[4 << 10, 64 << 10, 1 << 20]),
            pause: millis(*pick(rng, &[5, 20, 50, 200])),
            keys: *pick(rng, &[8, 40, 150]),
            value_max: *pick(rng, &[16, 100, 400]),
            faults: kinds,
            fault_pause: if churn { millis(1_500) } else { Duration::from_secs(rng.random_range(3..40)) },
            fault_max: Duration::from_secs(*pick(rng, &[3, 15, 40])),
            mapped: rng.random_bool(0.3),
            state: None,
            costs: *pick(
                // As above.
                &mut SmallRng::seed_from_u64(seed ^ 0x636f_7374),
                &[Costs::One, Costs::Mixed, Costs::Refunded],
            ),
            bounds_views: false,
            strict: None,
        };
        if !plan.mapped {
            // As above.
            let kinds = [None, Some(StateSync::Always), Some(StateSync::Interval)];
            plan.state = *pick(&mut SmallRng::seed_from_u64(seed ^ 0x0073_7461_7465), &kinds);
        }
        if plan.faults.is_empty() {
            plan.faults.push(Kind::Reset);
        }
        if crashes {
            plan.faults.push(Kind::Crash);
        }
        if seed % 8 == 5 {
            plan.stream_alone();
        }
        plan.bounds_views = !plan.faults.contains(&Kind::ClockJump);
        plan
    }

    /// One seed in eight: links that break, and bring everything by the log. No states are sent, so a request that is counted twice, or not at all, shows, and so does a refund: in half of
    /// these seeds there are some.
    fn stream_alone(&mut self) {
        if self.seed % 16 == 5 {
            self.costs = Costs::Refunded;
        }
        self.room = Room::Ample;
        self.tombstone_retention = Duration::from_secs(24 * 3600);
        self.keyval_bytes = 128 << 10;
        self.buffers = (LONG_LOG, 16 << 10);
        self.pause = self.pause.min(millis(50));
        self.fault_pause = self.fault_pause.min(Duration::from_secs(5));
        self.fault_max = Duration::from_secs(3);
        self.lossy = None;
        self.faults.retain(|kind| STREAM_ALONE.contains(kind));
        self.faults.push(Kind::Reset);
    }

    /// Long faults of network and nodes, and a limit that is offered ten times its rate.
    pub(super) fn strict(seed: u64, is_strict: bool) -> Self {
        use Kind::{Cut, CutOneWay, Delay, Isolate, Kill, PowerCut, Reset, Restart, Slow, Split};
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x7374_7269_6374);
        let kinds = [Cut, CutOneWay, Isolate, Split, Reset, Slow, Delay, Kill, PowerCut, Restart];
        let faults: Vec<_> = kinds.into_iter().filter(|_| rng.random_bool(0.4)).collect();
        Self {
            nodes: rng.random_range(2..=5),
            disturbed: Duration::from_secs(rng.random_range(600..1_800)),
            room: Room::Ample,
            keyval_bytes: 128 << 10,
            limit_bytes: 32 << 10,
            tombstone_retention: Duration::from_secs(24 * 3600),
            skew: Duration::ZERO,
            delay: (micros(100), millis(20)),
            lossy: None,
            pause: millis(100),
            keys: 8,
            value_max: 16,
            faults: if faults.is_empty() { vec![Split] } else { faults },
            fault_pause: Duration::from_secs(rng.random_range(10..100)),
            fault_max: Duration::from_secs(400),
            state: None,
            bounds_views: false,
            strict: Some(is_strict),
            ..Self::new(seed)
        }
    }

    /// Whether the keyval zone survives the end of a node.
    pub(super) fn keeps_pairs(&self) -> bool {
        self.mapped || self.state.is_some()
    }

    /// Whether no fault cuts off or ends a node, or sends states of limits to it, unless one link is lost for long.
    pub(super) fn is_stream_alone(&self) -> bool {
        self.faults.iter().all(|kind| STREAM_ALONE.contains(kind))
    }

    /// How late a message may come: by so much work that is heard of late may end later than the true bucket.
    pub(super) fn late(&self) -> Duration {
        self.fault_max + LATE
    }

    /// How much work a node's view of a limit may be beyond the truth if nodes were sent states, beside what is late.
    pub(super) fn counted_twice(dearest: Duration) -> Duration {
        dearest * COUNTED_TWICE_MAX
    }

    /// How much work nodes may have missed in the end if they were sent states.
    pub(super) fn missed(&self) -> Duration {
        REQUEST
            * match self.costs {
                Costs::One => MISSED_MAX,
                Costs::Mixed | Costs::Refunded => BURST as u32 + 1,
            }
    }
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// One of them.
pub(super) fn pick<'a, T>(rng: &mut SmallRng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

/// A duration up to `max`, never zero, short ones as likely as long ones.
pub(super) fn duration(rng: &mut SmallRng, max: Duration) -> Duration {
    max.mul_f64(rng.random_range(0.01f64..1.0).powi(2))
}
