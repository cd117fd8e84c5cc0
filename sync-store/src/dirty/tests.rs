use super::*;
use crate::ZoneKind;
use crate::region::HEADER_WORDS;

fn dirty(slots: usize) -> (OpenRegion, Dirty) {
    let size = 4096;
    let region = OpenRegion::create("z", ZoneKind::Keyval, size).expect("memory");
    let dirty = Dirty::new(&mut Layout::new(size, HEADER_WORDS), slots).expect("room");
    (region, dirty)
}

#[cfg(not(loom))]
mod plain {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Wake, Waker};

    use super::*;

    /// How often it was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn drain_all(region: &OpenRegion, dirty: &Dirty) -> Vec<usize> {
        let mut slots = Vec::new();
        dirty.drain(
            region,
            0,
            |_| (),
            |slot| {
                slots.push(slot);
                ControlFlow::Continue(())
            },
        );
        slots
    }

    #[test]
    fn marks_collapse_and_are_taken_once() {
        let (region, dirty) = dirty(200);
        for slot in [5, 199, 5, 64, 5] {
            dirty.mark(&region, slot);
        }
        assert_eq!(dirty.count(&region), 3);
        assert!(dirty.is_marked(&region, 199));
        assert_eq!(drain_all(&region, &dirty), [5, 64, 199]);
        assert_eq!(drain_all(&region, &dirty), []);
        assert_eq!(dirty.count(&region), 0);
        assert!(!dirty.is_marked(&region, 199));
    }

    #[test]
    fn a_break_leaves_the_rest_and_the_next_pass_goes_on_there() {
        let (region, dirty) = dirty(200);
        for slot in [1, 2, 70, 130] {
            dirty.mark(&region, slot);
        }
        let next = dirty.drain(
            &region,
            0,
            |_| (),
            |slot| {
                if slot == 70 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        assert_eq!((next, dirty.count(&region)), (70, 2));
        dirty.mark(&region, 3);
        let mut slots = Vec::new();
        dirty.drain(
            &region,
            next,
            |_| (),
            |slot| {
                slots.push(slot);
                ControlFlow::Continue(())
            },
        );
        assert_eq!(slots, [70, 130, 3]);
    }

    /// All slots of a bitmap with many parts of several words, the last one not whole.
    #[test]
    fn marks_are_found_wherever_they_lie_and_wherever_a_pass_begins() {
        const SLOTS: usize = 10_000;
        let (region, dirty) = dirty(SLOTS);
        assert!(dirty.part_bits > 0 && dirty.bits.len() % (1 << dirty.part_bits) != 0, "{dirty:?}");
        for slot in 0..SLOTS {
            dirty.mark(&region, slot);
            assert_eq!(drain_all(&region, &dirty), [slot]);
        }
        let all: Vec<usize> = (0..SLOTS).collect();
        for from in [0, 1, 63, 64, 320, 4_999, 9_950, SLOTS - 1] {
            all.iter().for_each(|&slot| dirty.mark(&region, slot));
            // In pieces, as publications that are full.
            let (mut found, mut next, mut piece) = (Vec::new(), from, 1);
            while dirty.count(&region) > 0 {
                let mut left = piece;
                next = dirty.drain(
                    &region,
                    next,
                    |_| (),
                    |slot| {
                        if left == 0 {
                            return ControlFlow::Break(());
                        }
                        left -= 1;
                        found.push(slot);
                        ControlFlow::Continue(())
                    },
                );
                piece += 97;
            }
            found.sort_unstable();
            assert_eq!(found, all, "from {from}");
        }
    }

    #[test]
    fn a_mark_made_behind_the_pass_is_called_for() {
        let (region, dirty) = dirty(10_000);
        // In the part where the pass begins, which it visits twice: both halves of it, and another part.
        for late in [0, 100, 500, 5_000] {
            [70, 6_000].iter().for_each(|&slot| dirty.mark(&region, slot));
            dirty.drain(
                &region,
                64,
                |_| (),
                |slot| {
                    if slot == 6_000 {
                        dirty.mark(&region, late);
                    }
                    ControlFlow::Continue(())
                },
            );
            let is_called = dirty.called(&region).load(Ordering::SeqCst) != 0;
            assert_eq!(dirty.count(&region) > 0, is_called, "{late}: marked, and so called for");
            assert_eq!(drain_all(&region, &dirty).len(), usize::from(is_called));
        }
    }

    #[test]
    fn a_mark_that_nobody_called_for_is_found_by_who_calls_for_all() {
        let (region, dirty) = dirty(200);
        // A writer that was stopped before it called.
        region.words(dirty.bits)[1].fetch_or(1, Ordering::SeqCst);
        assert_eq!(drain_all(&region, &dirty), []);
        dirty.call_for_all(&region);
        assert_eq!(drain_all(&region, &dirty), [64]);
    }

    #[test]
    fn a_publisher_that_sleeps_while_another_takes_is_woken_by_what_that_one_leaves() {
        let slots = 9_000;
        let size = 1 << 16;
        let region = OpenRegion::create("z", ZoneKind::Keyval, size).expect("memory");
        let dirty = Dirty::new(&mut Layout::new(size, HEADER_WORDS), slots).expect("room");
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        let sleeps = || assert_eq!(dirty.poll(&region, &cx), Poll::Pending);

        // A mark in a part that the taker has been through, while others are still called for.
        for slot in [100, 5_000] {
            dirty.mark(&region, slot);
        }
        dirty.called(&region).store(0, Ordering::SeqCst);
        sleeps();
        dirty.called(&region).store(dirty.all_parts(), Ordering::SeqCst);
        woken.0.store(0, Ordering::Relaxed);
        let mark_behind = |slot| {
            if slot == 5_000 {
                dirty.mark(&region, 101);
            }
            ControlFlow::Continue(())
        };
        dirty.drain(&region, 0, |_| (), mark_behind);
        assert!(woken.0.load(Ordering::Relaxed) > 0, "it is the sleeper's");
        assert_eq!(drain_all(&region, &dirty), [101]);

        // What a taker puts back.
        sleeps();
        dirty.mark(&region, 1);
        dirty.called(&region).store(0, Ordering::SeqCst);
        sleeps();
        dirty.called(&region).store(1, Ordering::SeqCst);
        woken.0.store(0, Ordering::Relaxed);
        dirty.drain(&region, 0, |_| (), |_| ControlFlow::Break(()));
        assert!(woken.0.load(Ordering::Relaxed) > 0, "it is the sleeper's");
        assert_eq!(drain_all(&region, &dirty), [1]);

        // A call that nobody comes to answer.
        sleeps();
        woken.0.store(0, Ordering::Relaxed);
        dirty.call_for_all(&region);
        assert!(woken.0.load(Ordering::Relaxed) > 0, "it is the sleeper's");
    }

    #[test]
    fn the_publisher_is_woken_by_the_first_mark_only() {
        let (region, dirty) = dirty(64);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        assert_eq!(dirty.poll(&region, &cx), Poll::Pending);
        dirty.mark(&region, 1);
        dirty.mark(&region, 2);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(dirty.poll(&region, &cx), Poll::Ready(()));
        drain_all(&region, &dirty);
        assert_eq!(dirty.poll(&region, &cx), Poll::Pending);
        // A writer that was stopped between its bit and its call holds up nobody: the next one calls.
        region.words(dirty.bits)[0].fetch_or(1, Ordering::SeqCst);
        dirty.mark(&region, 0);
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        assert_eq!(dirty.poll(&region, &cx), Poll::Ready(()));
    }
}

/// Loom: a change is either seen by the publisher that took the mark, or still marked; of a slot whose mark was there already, and of its neighbour.
#[cfg(loom)]
#[test]
fn loom_dirty_hand_off() {
    use loom::sync::Arc;
    use loom::thread;

    loom::model(|| {
        let slots = [AtomicU64::new(0), AtomicU64::new(0)];
        let shared = Arc::new((slots, dirty(2)));
        shared.1.1.mark(&shared.1.0, 0);
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (slots, (region, dirty)) = &*shared;
                for (at, slot) in slots.iter().enumerate() {
                    slot.store(1, Ordering::Relaxed);
                    dirty.mark(region, at);
                }
            })
        };
        let (slots, (region, dirty)) = &*shared;
        let mut published = [0; 2];
        let mut publish = || {
            let take = |at: usize| {
                published[at] = slots[at].load(Ordering::Relaxed);
                ControlFlow::Continue(())
            };
            dirty.drain(region, 0, |_| (), take);
        };
        publish();
        writer.join().expect("no panic");
        let left = dirty.count(region) > 0;
        let called = dirty.called(region).load(Ordering::SeqCst) != 0;
        assert!(called || !left, "a mark that is left is called for");
        publish();
        assert_eq!(published, [1, 1]);
        assert_eq!(dirty.count(region), 0);
    });
}
