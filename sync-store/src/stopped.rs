//! Lock-freedom, tested: an operation is stopped before each of its atomic accesses in turn, and whatever others do meanwhile has to end, and
//! to be right.
//!
//! The tables' scenarios are in `table/tests/stopped`, the limits' in `limit/zone/tests/stopped`; here is what both need: a thread that can be
//! stopped, a bound for everybody else, and all that a key may hold while somebody is in the middle of changing it.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::words::stoppable::allow;

/// The most accesses that one operation may take while another one is stopped. The largest go once over a few hundred slots.
pub(crate) const ACCESSES_MAX: u64 = 10_000;

/// An operation in a thread of its own, which makes no access until it is told to. Dropped, it is told to end where it stands, as if it had been
/// killed: it unwinds, and nothing of it has a destructor that would change a zone.
pub(crate) struct Beside<R> {
    go: Sender<u64>,
    said: Receiver<Option<R>>,
}

/// What a killed thread unwinds with.
struct Killed;

/// What becomes of an operation after its first stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It goes on to its end.
    End,
    /// It is stopped once more after so many accesses, and then goes on.
    StopAgain(u64),
    /// It stays where it is.
    Kill,
}

/// How often it was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stops {
    None,
    One,
    Two,
}

impl<R> Beside<R> {
    /// Lets the operation make so many accesses more. Answers what it came to, if it has ended; otherwise it is stopped before its next access.
    fn go(&self, accesses: u64) -> Option<R> {
        self.go.send(accesses).expect("it waits");
        self.said.recv().expect("it has not failed")
    }

    fn end(&self) -> R {
        self.go(ACCESSES_MAX).expect("it ends")
    }

    /// Stops the operation before its access number `first`, counted from 0, and goes on as `then` says; while it is stopped, `meanwhile` follows a
    /// script, half of it at a time if there are two stops. Answers what the operation came to, unless it is to stay where it is.
    pub(crate) fn stop<T>(
        &self,
        first: u64,
        then: Then,
        script: &[T],
        mut meanwhile: impl FnMut(&[T]),
    ) -> (Stops, Option<R>) {
        let answer = self.go(first);
        let (now, later) = match then {
            Then::StopAgain(_) => script.split_at(script.len() / 2),
            Then::End | Then::Kill => (script, &[][..]),
        };
        meanwhile(now);
        if answer.is_some() {
            return (Stops::None, answer);
        }
        match then {
            Then::End => (Stops::One, Some(self.end())),
            Then::Kill => (Stops::One, None),
            Then::StopAgain(accesses) => match self.go(accesses) {
                Some(answer) => (Stops::One, Some(answer)),
                None => {
                    meanwhile(later);
                    (Stops::Two, Some(self.end()))
                }
            },
        }
    }
}

/// Runs an operation beside so many scripts, stopped before each of its accesses in turn. `run` gets the number of the script, and where to stop.
///
/// With `SYNC_STORE_STRESS` every script is followed at every stop, and at every two stops; otherwise each stop has some.
pub(crate) fn at_every_access(name: &str, scripts: usize, run: impl Fn(usize, u64, Then) -> Stops) {
    /// Operations with more accesses go over many slots, and do the same with each.
    const LONG: u64 = 48;
    let all = std::env::var_os("SYNC_STORE_STRESS").is_some();
    let mut cases = 0;
    let mut run = |script, first, then| {
        cases += 1;
        let _said_if_it_fails =
            Said(format!("{name}, script {script}, stopped before access {first}: {then:?}"));
        run(script, first, then)
    };
    let accesses = (0..).find(|&first| {
        let turn = first as usize % scripts;
        (0..scripts).filter(|&script| all || first < LONG || script == turn).any(|script| {
            if run(script, first, Then::End) == Stops::None {
                return true;
            }
            if all || script == turn {
                run(script, first, Then::Kill);
                let mut more = 1;
                while run(script, first, Then::StopAgain(more)) == Stops::Two {
                    more = if all { more + 1 } else { more * 4 };
                }
            }
            false
        })
    });
    println!("{name}: {} accesses, {cases} cases", accesses.unwrap_or_default());
}

struct Said(String);

impl Drop for Said {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// Runs `main` in this thread, beside an operation in another.
pub(crate) fn beside<R: Send + 'static, T>(
    operation: impl FnOnce() -> R + Send,
    main: impl FnOnce(Beside<R>) -> T,
) -> T {
    let (go, told) = channel();
    let (say, said) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let Ok(first) = told.recv() else { return };
            let stop = say.clone();
            let run = AssertUnwindSafe(|| {
                allow(first, move || {
                    _ = stop.send(None);
                    told.recv().unwrap_or_else(|_| resume_unwind(Box::new(Killed)))
                });
                operation()
            });
            match catch_unwind(run) {
                Ok(result) => _ = say.send(Some(result)),
                Err(panic) if panic.is::<Killed>() => {}
                Err(panic) => resume_unwind(panic),
            }
        });
        main(Beside { go, said })
    })
}

/// Runs an operation, which fails if it takes too many accesses: it waits for somebody.
pub(crate) fn bounded<R>(operation: impl FnOnce() -> R) -> R {
    allow(ACCESSES_MAX, || {
        panic!("more than {ACCESSES_MAX} accesses: it waits for the thread that is stopped")
    });
    let result = operation();
    allow(u64::MAX, || u64::MAX);
    result
}

/// What an operation may do to a key: its state afterwards, and the answer. Several, if that depends on other keys.
pub(crate) type Outcomes<S, A, R> = fn(&S, &A) -> Vec<(S, R)>;

/// All that a key may hold while an operation on it is stopped: that one may have happened at any moment, or not yet.
#[derive(Debug)]
pub(crate) struct Worlds<S, A, R> {
    outcomes: Outcomes<S, A, R>,
    stopped: Option<A>,
    /// How often the stopped operation may happen: once, usually.
    most: usize,
    worlds: Vec<World<S, R>>,
}

#[derive(Clone, Debug, PartialEq)]
struct World<S, R> {
    state: S,
    /// The answer of the stopped operation, if it has happened.
    answer: Option<R>,
    times: usize,
}

impl<S, A, R> Worlds<S, A, R>
where
    S: Clone + PartialEq + Debug,
    A: Debug,
    R: Clone + PartialEq + Debug,
{
    pub(crate) fn new(outcomes: Outcomes<S, A, R>, state: S, stopped: Option<A>) -> Self {
        Self { outcomes, stopped, most: 1, worlds: vec![World { state, answer: None, times: 0 }] }
    }

    /// Where the stopped operation may happen twice.
    pub(crate) fn twice(self) -> Self {
        Self { most: 2, ..self }
    }

    /// With those in which the stopped operation has happened by now.
    fn by_now(&self) -> Vec<World<S, R>> {
        let mut worlds = self.worlds.clone();
        let mut at = 0;
        while let (Some(world), Some(act)) = (worlds.get(at).cloned(), &self.stopped) {
            if world.times < self.most {
                let happened = (self.outcomes)(&world.state, act).into_iter();
                let times = world.times + 1;
                worlds.extend(happened.map(|(state, answer)| World { state, answer: Some(answer), times }));
            }
            at += 1;
        }
        worlds
    }

    /// From here on it is one of these; false if it can be none.
    fn is_one_of(&mut self, worlds: impl IntoIterator<Item = World<S, R>>) -> bool {
        let mut distinct = Vec::new();
        for world in worlds {
            if !distinct.contains(&world) {
                distinct.push(world);
            }
        }
        if distinct.is_empty() {
            return false;
        }
        self.worlds = distinct;
        true
    }

    /// Somebody else has done this, and was answered so.
    #[track_caller]
    pub(crate) fn saw(&mut self, act: &A, answer: &R) {
        let mut after = Vec::new();
        for world in self.by_now() {
            for (state, expected) in (self.outcomes)(&world.state, act) {
                if expected == *answer {
                    after.push(World { state, ..world.clone() });
                }
            }
        }
        assert!(self.is_one_of(after), "{act:?} cannot be answered {answer:?}: {self:?}");
    }

    /// The stopped operation has ended, and may have happened here.
    pub(crate) fn over(&mut self) {
        self.worlds = self.by_now();
        self.stopped = None;
    }

    /// The stopped operation has ended, and was answered so; `None`: it has no answer.
    #[track_caller]
    pub(crate) fn ended(&mut self, answer: Option<&R>) {
        let mut after = self.by_now();
        after.retain(|world| world.times > 0 && (answer.is_none() || world.answer.as_ref() == answer));
        let is_possible = self.stopped.is_none() || self.is_one_of(after);
        assert!(is_possible, "the stopped operation cannot be answered {answer:?}: {self:?}");
        self.stopped = None;
    }
}
