//! Histories: which operations there are, which of them threads are to perform, and a record of what happened.

use std::fmt;
use std::hint::spin_loop;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// Threads of a history. More than the machine may have cores: a thread that loses its core in the middle of an operation is
/// overtaken by many of the others, which is what races need that take more than a moment.
pub(crate) const THREADS: usize = 4;
/// Operations of a thread at most.
pub(crate) const ACTS_MAX: usize = 12;
/// Keys of a history at most.
pub(crate) const KEYS_MAX: usize = 4;
/// Operations on one key at most: everything all threads do, a write before and a read after.
pub(crate) const OPERATIONS_MAX: usize = THREADS * ACTS_MAX + 2;
/// Histories recorded in one go, for which threads are started once.
const BATCH: usize = 50;

/// A value by its number in a history.
pub(crate) type Id = u8;

/// The value that may be written several times in a history. All others are written once.
pub(crate) const REPEATED: Id = 0;

/// What is asked of a zone, about one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Writes a value, whatever is there. Sticky: learns a server.
    Set(Id),
    /// The same, but its time is over already.
    SetExpired(Id),
    /// Writes a value if there is none.
    Insert(Id),
    /// Writes a value if there is one.
    Update(Id),
    /// Writes another expiry if there is a value, which stays.
    Renew,
    /// The same, but then the value's time is over.
    Expire,
    /// Removes what is there. Sticky: forgets.
    Remove,
    /// Reads. Sticky: looks up, which is an access.
    Get,
    /// Reads into a buffer. Sticky: looks up, too.
    GetInto,
    /// Keyval: reads the whole record. Sticky: reads without an access.
    Peek,
}

impl Action {
    /// What it writes.
    pub(crate) const fn written(self) -> Option<Id> {
        match self {
            Self::Set(id) | Self::SetExpired(id) | Self::Insert(id) | Self::Update(id) => Some(id),
            Self::Renew | Self::Expire | Self::Remove | Self::Get | Self::GetInto | Self::Peek => None,
        }
    }

    pub(crate) const fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::GetInto | Self::Peek)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(id) => write!(f, "set v{id}"),
            Self::SetExpired(id) => write!(f, "set v{id} expired"),
            Self::Insert(id) => write!(f, "insert v{id}"),
            Self::Update(id) => write!(f, "update v{id}"),
            Self::Renew => f.write_str("renew"),
            Self::Expire => f.write_str("expire"),
            Self::Remove => f.write_str("remove"),
            Self::Get => f.write_str("get"),
            Self::GetInto => f.write_str("get into"),
            Self::Peek => f.write_str("peek"),
        }
    }
}

/// What the zone answered; `V` is what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome<V = Seen> {
    /// It was written.
    Done,
    /// Not inserted, the key exists.
    Exists,
    /// Not changed, the key does not exist.
    Missing,
    /// Not written, the zone is full.
    Full,
    /// Whether there was something to remove.
    Removed(bool),
    /// The value, if there is one.
    Read(Option<V>),
    /// What no operation may ever answer.
    Failed(String),
}

impl<V> Outcome<V> {
    /// The same about another form of the value.
    fn map<W>(self, f: impl FnOnce(V) -> W) -> Outcome<W> {
        match self {
            Self::Done => Outcome::Done,
            Self::Exists => Outcome::Exists,
            Self::Missing => Outcome::Missing,
            Self::Full => Outcome::Full,
            Self::Removed(was) => Outcome::Removed(was),
            Self::Read(value) => Outcome::Read(value.map(f)),
            Self::Failed(why) => Outcome::Failed(why),
        }
    }
}

impl Outcome {
    /// Which kind of outcome it is.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Exists => "exists",
            Self::Missing => "missing",
            Self::Full => "full",
            Self::Removed(true) => "removed",
            Self::Removed(false) => "nothing to remove",
            Self::Read(None) => "nothing",
            Self::Read(Some(Seen::Value(_))) => "a value",
            Self::Read(Some(Seen::Garbled(_))) => "garbled",
            Self::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(Some(Seen::Value(id))) => write!(f, "v{id}"),
            Self::Read(Some(Seen::Garbled(bytes))) => write!(f, "garbled {bytes:02x?}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            other => f.write_str(other.kind()),
        }
    }
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Value(Id),
    /// Bytes that are no value of this history: half of one and half of another, or left over.
    Garbled(Vec<u8>),
}

/// The values of a history. Each says in its first byte which one it is; its length and its other bytes follow from that, so a read
/// that mixes two of them shows. Those of another history are different.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values(u64);

impl Values {
    /// The longest value in bytes: one to several cache lines, so that blocks of several sizes are freed and used again.
    const LONGEST: u64 = 200;

    pub(crate) fn bytes(self, id: Id) -> Vec<u8> {
        let mut rng = SmallRng::seed_from_u64(self.0 ^ u64::from(id));
        let mut bytes = vec![0; rng.random_range(1..=Self::LONGEST) as usize];
        rng.fill(&mut bytes[..]);
        bytes[0] = id;
        bytes
    }

    fn seen(self, bytes: Vec<u8>) -> Seen {
        match bytes.first() {
            Some(&id) if self.bytes(id) == bytes => Seen::Value(id),
            _ => Seen::Garbled(bytes),
        }
    }
}

/// What is tested: a zone, or something that claims to be like one.
pub(crate) trait Subject: Sync {
    /// Performs an operation; `value` is what it writes, if it does.
    fn act(&self, key: &[u8], action: Action, value: &[u8]) -> Outcome<Vec<u8>>;

    /// What a node does beside requests, none of which changes what a key has.
    fn tend(&self) {}
}

/// Kinds of operations to choose from, each as likely as the other; one that shall be more likely is listed again.
pub(crate) type Mix = [fn(Id) -> Action];

/// An operation to be performed.
#[derive(Debug)]
struct Step {
    /// Turns to wait before.
    pause: u32,
    /// Whether to give up the core before.
    step_back: bool,
    /// Whether to do before what a node does beside requests.
    tend: bool,
    key: usize,
    action: Action,
    value: Vec<u8>,
}

/// Which operations a history is to have.
#[derive(Debug)]
struct Plan {
    before: Vec<Step>,
    threads: [Vec<Step>; THREADS],
    after: Vec<Step>,
}

impl Plan {
    fn new(seed: u64, mix: &Mix) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let values = Values(seed);
        let step = |key, action: Action| {
            let value = action.written().map_or_else(Vec::new, |id| values.bytes(id));
            Step { pause: 0, step_back: false, tend: false, key, action, value }
        };
        let keys = rng.random_range(2..=KEYS_MAX);
        // Where nobody sweeps, other things happen: tombstones are replaced, and figures come from writes alone.
        let tended: bool = rng.random();
        let mut id = REPEATED;
        let mut action = |rng: &mut SmallRng| {
            let action = mix.choose(rng).expect("some kinds of operations");
            id += 1;
            action(id)
        };
        // Half of the keys begin with whatever a first operation leaves there.
        let before = (0..keys).filter(|_| rng.random()).collect::<Vec<_>>();
        let before = before.into_iter().map(|key| step(key, action(&mut rng))).collect();
        let mut thread = |_| {
            let acts = rng.random_range(8..=ACTS_MAX);
            let acts = (0..acts).map(|_| Step {
                pause: if rng.random_ratio(1, 4) { rng.random_range(0..60) } else { 0 },
                step_back: rng.random_ratio(1, 32),
                tend: tended && rng.random_ratio(1, 4),
                ..step(rng.random_range(0..keys), action(&mut rng))
            });
            acts.collect()
        };
        let threads = std::array::from_fn(&mut thread);
        let after = (0..keys).map(|key| step(key, Action::GetInto)).collect();
        Self { before, threads, after }
    }
}

/// The key of that number. Keys of different lengths, so that equal values lie at different places of a block.
fn key(number: usize) -> Vec<u8> {
    const LENGTHS: [usize; KEYS_MAX] = [1, 8, 17, 40];
    vec![b'a' + number as u8; LENGTHS[number]]
}

/// Who performed an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    Before,
    Thread(usize),
    After,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before => f.write_str("before"),
            Self::Thread(number) => write!(f, "thread {number}"),
            Self::After => f.write_str("after"),
        }
    }
}

/// An operation that was performed.
#[derive(Clone, Debug)]
pub(crate) struct Operation<V = Seen> {
    pub(crate) actor: Actor,
    /// A time before it began and one after it ended; no two times of a history are equal.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) key: usize,
    pub(crate) action: Action,
    pub(crate) outcome: Outcome<V>,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { actor, start, end, key, action, outcome } = self;
        let key = char::from(b'a' + *key as u8);
        write!(f, "{:<9} [{start},{end}]  {key}  {action} → {outcome}", actor.to_string())
    }
}

/// Everything that happened, from a fresh subject on.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) seed: u64,
    /// By their start.
    pub(crate) operations: Vec<Operation>,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "history of SEED={:#x}:", self.seed)?;
        self.operations.iter().try_for_each(|operation| writeln!(f, "  {operation}"))
    }
}

/// A time that lies after all times that were given before, whichever thread they were given to.
fn tick() -> u64 {
    static TICKS: AtomicU64 = AtomicU64::new(0);
    TICKS.fetch_add(1, Ordering::SeqCst)
}

/// A history that is being recorded.
struct Run<S> {
    seed: u64,
    subject: S,
    plan: Plan,
    /// Threads that are ready to begin.
    ready: AtomicUsize,
    recorded: Mutex<Vec<Operation<Vec<u8>>>>,
}

impl<S: Subject> Run<S> {
    fn new(seed: u64, subject: S, mix: &Mix) -> Self {
        let (ready, recorded) = (AtomicUsize::new(0), Mutex::default());
        Self { seed, subject, plan: Plan::new(seed, mix), ready, recorded }
    }

    fn perform(&self, actor: Actor, steps: &[Step]) {
        let perform = |step: &Step| {
            let Step { pause, step_back, tend, key: number, action, ref value } = *step;
            (0..pause).for_each(|_| spin_loop());
            if step_back {
                thread::yield_now();
            }
            // A panic is an answer, too: it is reported with the history that led to it.
            let tended = if tend { catch(|| self.subject.tend()) } else { Ok(()) };
            let key = key(number);
            let start = tick();
            let outcome = tended.and_then(|()| catch(|| self.subject.act(&key, action, value)));
            let end = tick();
            let outcome = outcome.unwrap_or_else(Outcome::Failed);
            Operation { actor, start, end, key: number, action, outcome }
        };
        let performed: Vec<_> = steps.iter().map(perform).collect();
        self.recorded.lock().extend(performed);
    }

    /// Waits until all threads are here.
    fn begin(&self) {
        self.ready.fetch_add(1, Ordering::SeqCst);
        while self.ready.load(Ordering::SeqCst) < THREADS {
            thread::yield_now();
        }
    }

    fn into_history(self) -> History {
        let values = Values(self.seed);
        let seen = |operation: Operation<Vec<u8>>| {
            let Operation { actor, start, end, key, action, outcome } = operation;
            Operation { actor, start, end, key, action, outcome: outcome.map(|bytes| values.seen(bytes)) }
        };
        let mut operations: Vec<_> = self.recorded.into_inner().into_iter().map(seen).collect();
        operations.sort_by_key(|operation| operation.start);
        History { seed: self.seed, operations }
    }
}

/// Calls `f`; answers what it says if it panics.
fn catch<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    // What the subject is like after a panic matters to no one: the history is not linearizable whatever follows.
    panic::catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        format!("panicked: {}", text.unwrap_or("no text"))
    })
}

/// Until all threads are done, takes a core from one of them for a moment, again and again: who wakes up goes before who was
/// running, wherever in an operation that was. By themselves they would run through most operations at one go.
fn disturb(done: &AtomicUsize) {
    /// Long enough for the other core to perform some operations.
    const TURNS: usize = 1_500;
    while done.load(Ordering::SeqCst) < THREADS {
        // Nothing waits for this or depends on how long it takes.
        thread::sleep(Duration::from_micros(1));
        (0..TURNS).for_each(|_| spin_loop());
    }
}

/// Records a history for each seed, with a subject of its own.
fn record<S: Subject + Send>(
    make: impl Fn(u64) -> S,
    mix: &Mix,
    seeds: &[u64],
    disturbed: bool,
) -> Vec<History> {
    /// Tests record one after the other: a core that other tests use as well is one less to meet on.
    static MACHINE: Mutex<()> = Mutex::new(());

    let runs: Vec<_> = seeds.iter().map(|&seed| Run::new(seed, make(seed), mix)).collect();
    let done = AtomicUsize::new(0);
    let machine = MACHINE.lock();
    for run in &runs {
        run.perform(Actor::Before, &run.plan.before);
    }
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (runs, done) = (&runs, &done);
            scope.spawn(move || {
                for run in runs {
                    run.begin();
                    run.perform(Actor::Thread(number + 1), &run.plan.threads[number]);
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        if disturbed {
            disturb(&done);
        }
    });
    for run in &runs {
        run.perform(Actor::After, &run.plan.after);
    }
    drop(machine);
    runs.into_iter().map(Run::into_history).collect()
}

/// Records so many histories, each of another fresh subject, as they are asked for. Every other batch is disturbed: in such
/// histories fewer operations meet, but some of them for long.
pub(crate) fn histories<S: Subject + Send>(
    count: usize,
    mix: &Mix,
    make: impl Fn(u64) -> S,
) -> impl Iterator<Item = History> {
    let seed = number("SEED");
    let seeds: Vec<u64> = (0..count).map(|_| seed.unwrap_or_else(rand::random)).collect();
    let mut batches = seeds.chunks(BATCH).map(<[u64]>::to_vec).collect::<Vec<_>>().into_iter();
    let mut recorded = Vec::new().into_iter();
    let mut disturbed = false;
    std::iter::from_fn(move || {
        recorded.next().or_else(|| {
            disturbed = !disturbed;
            recorded = record(&make, mix, &batches.next()?, disturbed).into_iter();
            recorded.next()
        })
    })
}

/// A number from the environment, as people or failures write it.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}
