//! Contenders in turn, round by round, and what becomes of the figures.
//!
//! A round is a batch of operations of one contender, about [`ROUND`] long. In each turn every contender has one round, and the
//! order rotates, so that nobody always comes after the same one or at the same phase of a drift. The first third of a round is
//! not counted: it brings the caches back, which the others have filled with theirs. Threads live as long as the group; what
//! counts begins at a barrier and ends with the last of them.
//!
//! With every group runs a control: dependent reads in memory that no thread shares. What two threads of it gain over one is all that
//! the machine had to give; if that is nothing, the figures of the others for two threads say nothing either.

use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};
use std::{panic, process, thread};

use criterion::{Criterion, SamplingMode, Throughput};

use crate::instructions;

/// How long a round should be: far longer than starting one takes, short enough for all to meet the same weather.
const ROUND: Duration = Duration::from_millis(30);
/// Rounds of each contender.
const ROUNDS: usize = 21;
/// Criterion accepts no fewer samples.
const ROUNDS_QUICK: usize = 10;
/// Records, unless `ZONE_BENCH_RECORDS` says otherwise: far more than the caches hold.
const RECORDS: u32 = 1_000_000;
/// Operations in a sequence.
const SEQUENCE: usize = 1 << 20;
/// A second thread that gains less than this had no core to itself.
const SCALING_MIN: f64 = 1.6;
/// Whom the others are compared with.
const OURS: &str = "sync-store";
/// Options of criterion without a value. What follows any other one is its value, and not a filter.
const FLAGS: [&str; 13] = [
    "--",
    "--bench",
    "--test",
    "--quick",
    "--list",
    "--noplot",
    "-n",
    "--verbose",
    "-v",
    "--quiet",
    "--exact",
    "--ignored",
    "--discard-baseline",
];

/// One who does a group's work.
pub(crate) trait Contender: Sync {
    /// The name of the function.
    fn name(&self) -> &'static str;

    /// How many of the group's threads take part.
    fn threads(&self, all: usize) -> usize {
        all
    }

    /// Before a round: what is not part of the work.
    fn prepare(&self) {}

    /// Whether a round can be cut in two, of which one warms up.
    fn warms_up(&self) -> bool {
        true
    }

    /// The work of one thread. A call is given operations, and answers how many it did.
    fn worker(&self, thread: usize) -> Worker<'_>;
}

pub(crate) type Worker<'a> = Box<dyn FnMut(&[u32]) -> usize + 'a>;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) records: u32,
    /// Operations in a sequence.
    pub(crate) sequence: usize,
    rounds: usize,
    round: Duration,
}

/// The run: what is to be measured, and where figures go.
pub(crate) struct Lab {
    pub(crate) scale: Scale,
    criterion: Criterion,
    filter: Option<String>,
    quick: bool,
}

#[expect(clippy::disallowed_methods, reason = "measuring time is what a benchmark is for")]
fn now() -> Instant {
    Instant::now()
}

impl Lab {
    /// Criterion reads the arguments itself, but does not tell what its filter is; and what it filters out would have been built
    /// by then.
    pub(crate) fn from_args() -> Self {
        // A thread that panics would leave the other one at the barrier, for ever.
        let complain = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            complain(panic);
            process::exit(101);
        }));
        let args: Vec<String> = std::env::args().skip(1).collect();
        let has = |flag: &str| args.iter().any(|arg| arg == flag);
        let free = args.iter().enumerate().find(|&(at, arg)| {
            let before = at.checked_sub(1).and_then(|at| args.get(at)).map_or("", String::as_str);
            let is_value = before.starts_with('-') && !before.contains('=') && !FLAGS.contains(&before);
            !arg.starts_with('-') && !is_value
        });
        let filter = free.and_then(|(_, arg)| arg.split('/').next()).map(str::to_owned);
        let records = std::env::var("ZONE_BENCH_RECORDS").ok();
        let usual = if instructions::wanted() { instructions::RECORDS } else { RECORDS };
        let records = records.map_or(usual, |n| n.parse().expect("a number in ZONE_BENCH_RECORDS"));
        let quick = has("--quick");
        // `cargo test --benches` only asks whether it runs; like criterion, take everything for that but `cargo bench`.
        let scale = if !has("--bench") || has("--test") || has("--list") {
            Scale { records: 1_000, sequence: 4_096, rounds: 1, round: Duration::ZERO }
        } else {
            let rounds = if quick { ROUNDS_QUICK } else { ROUNDS };
            let sequence = if instructions::wanted() { instructions::SEQUENCE } else { SEQUENCE };
            Scale { records, sequence, rounds, round: ROUND }
        };
        Self { scale, criterion: Criterion::default().configure_from_args(), filter, quick }
    }

    /// Whether a group of this name is asked for.
    pub(crate) fn wants(&self, group: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| group.contains(filter.as_str()))
    }

    /// Runs a group, as many threads as there are sequences of operations.
    pub(crate) fn group(&mut self, name: &str, sequences: &[Vec<u32>], contenders: &[&dyn Contender]) {
        if !self.wants(name) {
            return;
        }
        if instructions::wanted() {
            if let [sequence] = sequences {
                instructions::group(name, sequence, contenders);
            }
            return;
        }
        let (control, alone) = (Control { alone: false }, Control { alone: true });
        let mut all: Vec<&dyn Contender> = contenders.to_vec();
        all.push(&control);
        if sequences.len() > 1 {
            all.push(&alone);
        }
        let rounds = record(self.scale, sequences, &all);
        self.play(name, &all, &rounds);
        if self.scale.rounds > 1 {
            report(name, &all, &rounds);
        }
    }

    pub(crate) fn finish(self) {
        self.criterion.final_summary();
    }

    /// Feeds recorded rounds to criterion, one for each sample.
    fn play(&mut self, name: &str, contenders: &[&dyn Contender], rounds: &[Vec<f64>]) {
        // Warming up ends when this much real time has passed. Criterion's quick mode doubles its iterations for 100 ms, and
        // must not come to 2⁶⁴.
        let pause = Duration::from_micros(if self.quick { 2_000 } else { 50 });
        let mut group = self.criterion.benchmark_group(name);
        group
            .throughput(Throughput::Elements(1))
            .sampling_mode(SamplingMode::Flat)
            .sample_size(self.scale.rounds.max(ROUNDS_QUICK))
            .nresamples(10_000)
            .warm_up_time(Duration::from_millis(1))
            .measurement_time(Duration::from_millis(100));
        for (contender, rounds) in contenders.iter().zip(rounds) {
            let mut played = rounds.iter().cycle();
            group.bench_function(contender.name(), |b| {
                b.iter_custom(|iters| {
                    thread::sleep(pause);
                    let ns = played.next().expect("a round");
                    Duration::from_secs_f64(ns * iters as f64 / 1e9)
                });
            });
        }
        group.finish();
    }
}

/// One thread's part of a round.
struct Job {
    contender: usize,
    /// Where in its sequence, and how many operations: uncounted ones, and then all.
    from: usize,
    uncounted: usize,
    ops: usize,
}

/// The hands of the group: threads that wait for rounds.
struct Crew {
    jobs: Vec<mpsc::Sender<(Job, usize)>>,
    done: mpsc::Receiver<(Instant, Instant, usize)>,
}

impl Crew {
    /// A round; answers its nanoseconds per operation of one thread.
    fn round(&self, contender: &dyn Contender, job: &Job) -> f64 {
        contender.prepare();
        let threads = contender.threads(self.jobs.len());
        for jobs in &self.jobs[..threads] {
            jobs.send((Job { ..*job }, threads)).expect("a thread");
        }
        let parts: Vec<_> = (0..threads).map(|_| self.done.recv().expect("a thread")).collect();
        let start = parts.iter().map(|part| part.0).min().expect("a thread");
        let end = parts.iter().map(|part| part.1).max().expect("a thread");
        let ops: usize = parts.iter().map(|part| part.2).sum();
        (end - start).as_secs_f64() * 1e9 * threads as f64 / ops as f64
    }
}

/// Nanoseconds per operation, of every contender in every round.
fn record(scale: Scale, sequences: &[Vec<u32>], contenders: &[&dyn Contender]) -> Vec<Vec<f64>> {
    let barriers: Vec<_> = (1..=sequences.len()).map(Barrier::new).collect();
    thread::scope(|scope| {
        let (done, parts) = mpsc::channel();
        let mut crew = Crew { jobs: Vec::new(), done: parts };
        for (thread, sequence) in sequences.iter().enumerate() {
            let (jobs, queue) = mpsc::channel::<(Job, usize)>();
            let (done, barriers) = (done.clone(), &barriers);
            crew.jobs.push(jobs);
            scope.spawn(move || {
                let mut workers: Vec<_> = contenders.iter().map(|c| c.worker(thread)).collect();
                for (job, threads) in queue {
                    let (uncounted, ops) = sequence[job.from..job.from + job.ops].split_at(job.uncounted);
                    let work = &mut workers[job.contender];
                    if !uncounted.is_empty() {
                        work(uncounted);
                    }
                    barriers[threads - 1].wait();
                    let start = now();
                    let count = work(ops);
                    if done.send((start, now(), count)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        rotate(scale, &crew, contenders)
    })
}

fn rotate(scale: Scale, crew: &Crew, contenders: &[&dyn Contender]) -> Vec<Vec<f64>> {
    // Two short rounds for each: one to warm up, one to learn how many operations make a round.
    let few = scale.sequence / 64;
    let sizes = contenders.iter().enumerate().map(|(contender, c)| {
        crew.round(*c, &Job { contender, from: 0, uncounted: 0, ops: few });
        let ns = crew.round(*c, &Job { contender, from: few, uncounted: 0, ops: few });
        ((scale.round.as_nanos() as f64 / ns) as usize).clamp(few / 8, scale.sequence)
    });
    let sizes: Vec<usize> = sizes.collect();
    let mut rounds = vec![Vec::with_capacity(scale.rounds); contenders.len()];
    for round in 0..scale.rounds {
        for turn in 0..contenders.len() {
            let contender = (round + turn) % contenders.len();
            let ops = sizes[contender];
            let uncounted = if contenders[contender].warms_up() { ops / 3 } else { 0 };
            // Another part of the sequence each time, so that a round does not find the lines of the one before in the caches.
            let from = round * (scale.sequence / 7) % (scale.sequence - ops + 1);
            rounds[contender]
                .push(crew.round(contenders[contender], &Job { contender, from, uncounted, ops }));
        }
    }
    rounds
}

fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A line for each contender. The ratio is the median of the rounds' ratios: in a round both met the same weather.
fn report(name: &str, contenders: &[&dyn Contender], rounds: &[Vec<f64>]) {
    let find = |who: &str| contenders.iter().position(|c| c.name() == who).map(|at| &rounds[at]);
    println!("{name}, ns per operation: median (least–most), by {OURS}");
    for (contender, figures) in contenders.iter().zip(rounds) {
        let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figures.iter().copied().fold(0.0, f64::max);
        let ratio = find(OURS).map_or(f64::NAN, |ours| median(figures.iter().zip(ours).map(|(a, b)| a / b)));
        let (who, middle) = (contender.name(), median(figures.iter().copied()));
        println!("  {who:<14} {middle:>8.1} ({least:.1}–{most:.1}) × {ratio:.2}");
    }
    if let (Some(two), Some(one)) = (find(Control::ALL), find(Control::ALONE)) {
        let scaling = median(one.iter().zip(two).map(|(one, two)| 2.0 * one / two));
        println!("  two threads of the control do {scaling:.2} times the work of one");
        if scaling < SCALING_MIN {
            println!("  WARNING: no second core; figures of two threads say nothing");
        }
    }
    println!();
}

/// Threads that share nothing: each read's place depends on the read before.
struct Control {
    alone: bool,
}

/// Twice the largest cache that a core is likely to have.
const CONTROL_WORDS: usize = (64 << 20) / size_of::<u32>();

impl Control {
    const ALL: &str = "control";
    const ALONE: &str = "control-alone";
}

impl Contender for Control {
    fn name(&self) -> &'static str {
        if self.alone { Self::ALONE } else { Self::ALL }
    }

    fn threads(&self, all: usize) -> usize {
        if self.alone { 1 } else { all }
    }

    fn worker(&self, _thread: usize) -> Worker<'_> {
        // Not zeros: pages that nobody has written to are all the same page.
        let table = std::hint::black_box(vec![2_u32; CONTROL_WORDS]);
        let mut at = 0_usize;
        Box::new(move |ops| {
            for _ in ops {
                // A full-period generator modulo the size of the table, with an even number from the table in each step.
                let step = table[at] as usize;
                at = (at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(step | 1)) % CONTROL_WORDS;
            }
            at = std::hint::black_box(at);
            ops.len()
        })
    }
}
