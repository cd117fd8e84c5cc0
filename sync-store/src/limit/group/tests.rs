use super::super::bucket::{Idle, View};
#[cfg(loom)]
use super::super::bucket::{Terms, Verdict};
use super::super::found::Snapshot;
use super::*;

#[cfg(loom)]
const TERMS: Terms = Terms { interval_ns: 10, capacity_ns: 100, free_ns: u64::MAX, members: 1 };

fn key(name: &str) -> LimitKey {
    LimitKey::new(name.as_bytes()).expect("not empty")
}

fn words(entries: usize) -> Box<[AtomicU64]> {
    (0..entries * ENTRY).map(|_| AtomicU64::new(0)).collect()
}

/// A group of a few entries, of which a key's home is the first.
fn group(words: &[AtomicU64]) -> Group<'_> {
    Group::new(words, Place { first: 0, groups: 1, home: 0, tag: 7 })
}

fn fresh(name: &str, tat: u64, debt: i64) -> Fresh {
    Fresh { key: key(name), tag: 7, view: View { tat, idle: Idle::default() }, debt, foreign: false }
}

fn put(words: &[AtomicU64], name: &str, tat: u64, debt: i64) {
    assert!(matches!(group(words).insert(&fresh(name, tat, debt), 1), Inserted::Live { .. }));
}

/// Charges as the zone does; whether it was admitted. Whether the key was inserted is of no account.
#[cfg(loom)]
fn charge(words: &[AtomicU64], name: &str, now: u64) -> bool {
    loop {
        if let Some(found) = group(words).find(&key(name)) {
            match found.charge(None, &TERMS, now, 1) {
                Some(charged) => return matches!(charged.verdict, Verdict::Admitted { .. }),
                None => continue,
            }
        }
        match group(words).insert(&fresh(name, now + TERMS.interval_ns, 10), now) {
            Inserted::Live { .. } => return true,
            Inserted::Again { .. } => {}
            Inserted::Busy => return false,
        }
        loom::thread::yield_now();
    }
}

fn live(words: &[AtomicU64], name: &str) -> Vec<Snapshot> {
    (0..words.len() / ENTRY)
        .filter_map(|slot| Snapshot::of(Entry::at(words, slot)))
        .filter(|snapshot| snapshot.key == key(name))
        .collect()
}

#[cfg(not(loom))]
mod plain {
    use super::*;

    #[test]
    fn each_group_of_a_key_tells_the_other_and_all_are_used() {
        for groups in [1, 2, 3, 7, 64, 1000] {
            let slots = groups * GROUP;
            let mut used = vec![0; groups];
            for number in 0..20_000u64 {
                let place = Place::of(number.wrapping_mul(0x9e37_79b9_7f4a_7c15), slots);
                let [one, two] = place.both();
                assert!([one, two].iter().all(|&first| first % GROUP == 0 && first < slots));
                let back = Place::around(two + 3, place.tag, slots);
                assert_eq!(back.both(), [two, one]);
                used[one / GROUP] += 1;
                used[two / GROUP] += 1;
            }
            let fair = 40_000 / groups;
            assert!(used.iter().all(|&times| times > fair / 4 && times < fair * 4), "{groups}: {used:?}");
        }
    }

    #[test]
    fn a_key_is_found_where_it_was_put_and_nowhere_else() {
        let words = words(3);
        put(&words, "a", 50, 0);
        put(&words, "b", 50, 0);
        assert_eq!(group(&words).find(&key("a")).expect("there").slot, 0);
        assert_eq!(group(&words).find(&key("b")).expect("there").slot, 1);
        assert!(group(&words).find(&key("c")).is_none());
        assert!(matches!(group(&words).insert(&fresh("b", 60, 0), 1), Inserted::Again { evicted: false }));
        assert_eq!(live(&words, "b")[0].tat, 50);
    }

    #[test]
    fn room_is_made_where_it_hurts_least() {
        let words = words(4);
        for (name, tat, debt) in [("debt", 20, 5), ("late", 50, 0), ("early", 40, 0), ("idle", 30, 0)] {
            put(&words, name, tat, debt);
        }
        for (step, (victim, newcomer)) in
            [("idle", "n1"), ("early", "n2"), ("late", "n3"), ("debt", "n4")].into_iter().enumerate()
        {
            let inserted = group(&words).insert(&fresh(newcomer, 1_000, 1), 30);
            let Inserted::Live { evicted, .. } = inserted else { panic!("{inserted:?}") };
            assert_eq!(evicted, step > 0, "{victim}");
            assert!(live(&words, victim).is_empty(), "{victim}");
        }
    }

    #[test]
    fn a_pending_copy_is_settled_by_whoever_meets_it() {
        let words = words(3);
        let stalled = Entry::at(&words, 0);
        let claimed = stalled.claim(stalled.head()).expect("empty");
        stalled.publish(claimed, &fresh("k", 90, 3));
        assert!(group(&words).find(&key("k")).is_none(), "not yet");
        assert!(matches!(group(&words).insert(&fresh("k", 60, 1), 1), Inserted::Again { .. }));
        assert_eq!(live(&words, "k"), [Snapshot { key: key("k"), tat: 90, debt: 3 }]);
    }

    #[test]
    fn a_group_in_the_hands_of_others_is_busy() {
        let words = words(2);
        for slot in 0..2 {
            let entry = Entry::at(&words, slot);
            entry.claim(entry.head()).expect("empty");
        }
        assert!(matches!(group(&words).insert(&fresh("k", 60, 1), 1), Inserted::Busy));
    }
}

#[cfg(loom)]
mod model {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    fn model(body: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        // A loss that three preemptions did not show was found with five; six take ten times as long and show no more.
        builder.preemption_bound = Some(5);
        builder.check(body);
    }

    /// Two threads insert one key, and choose different entries because another one is freed meanwhile.
    #[test]
    fn loom_limit_insert_is_unique() {
        model(|| {
            let words: Arc<Box<[AtomicU64]>> = Arc::new(words(2));
            put(&words, "gone", 5, 0);
            let other = {
                let words = words.clone();
                thread::spawn(move || {
                    group(&words).sweep(0, 9);
                    charge(&words, "k", 9)
                })
            };
            let admitted = charge(&words, "k", 9);
            assert!(other.join().expect("no panic") && admitted);
            let live = live(&words, "k");
            assert_eq!(live.len(), 1);
            assert_eq!((live[0].tat, live[0].debt), (29, 20), "both were charged, once each");
        });
    }

    /// An idle entry is charged by one thread while another takes it for a new key.
    #[test]
    fn loom_limit_charge_survives_eviction() {
        model(|| {
            let words: Arc<Box<[AtomicU64]>> = Arc::new(words(2));
            put(&words, "k", 5, 0);
            put(&words, "busy", 15, 0);
            let other = {
                let words = words.clone();
                thread::spawn(move || {
                    let _ = group(&words).insert(&fresh("new", 40, 1), 9);
                })
            };
            assert!(charge(&words, "k", 9));
            other.join().expect("no panic");
            let live = live(&words, "k");
            assert_eq!(live.len(), 1, "the busy one was the better victim, or there was an empty one");
            // Twice at most: in the entry that was given back, and again in place of the one that seemed lost.
            assert!([19, 29].contains(&live[0].tat), "{live:?}");
            assert_eq!(live[0].debt, 10);
        });
    }

    /// Two threads charge, one publishes: what is published is what was admitted, and no published arrival time is ahead of it.
    #[test]
    fn loom_limit_debts_are_published_once() {
        model(|| {
            let words: Arc<Box<[AtomicU64]>> = Arc::new(words(1));
            put(&words, "k", 5, 0);
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let words = words.clone();
                    thread::spawn(move || charge(&words, "k", 9))
                })
                .collect();
            let entry = Entry::at(&words, 0);
            let mut published = 0;
            let mut publish = || {
                let snapshot = Snapshot::of(entry).expect("live");
                // As the publisher does.
                entry.add_debt(-snapshot.debt);
                published += snapshot.debt;
                assert!(snapshot.tat <= 29 && snapshot.published_tat() <= 29 - snapshot.debt.cast_unsigned());
            };
            publish();
            for thread in threads {
                assert!(thread.join().expect("no panic"));
            }
            publish();
            assert_eq!((published, entry.debt(), entry.tat()), (20, 0, 29));
        });
    }

    /// A row is applied while a request is charged: neither is lost.
    #[test]
    fn loom_limit_rows_and_charges_add_up() {
        const UNIT: u64 = 1_000;
        const TERMS: Terms =
            Terms { interval_ns: 10 * UNIT, capacity_ns: 100 * UNIT, free_ns: u64::MAX, members: 1 };
        model(|| {
            let words: Arc<Box<[AtomicU64]>> = Arc::new(words(1));
            put(&words, "k", 5 * UNIT, 0);
            let other = {
                let words = words.clone();
                thread::spawn(move || {
                    let found = group(&words).find(&key("k")).expect("there");
                    found.charge(None, &TERMS, 9 * UNIT, 1).expect("it stays")
                })
            };
            // 30 of work from 8 on.
            let found = group(&words).find(&key("k")).expect("there");
            let row = (38 * UNIT, (30 * UNIT).cast_signed());
            assert_eq!(found.apply(|view| view.add(9 * UNIT, row.0, row.1)), Some(true));
            assert!(other.join().expect("no panic").changed);
            let view = Entry::at(&words, 0).view();
            // Whichever came first: 8 + 30 + 10 units; or one more, if the row saw the new arrival time, but not yet that the bucket was idle until 9.
            assert!((48..=49).contains(&(view.tat / UNIT)), "{view:?}");
        });
    }
}
