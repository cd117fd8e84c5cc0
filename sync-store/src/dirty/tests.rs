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

    #[test]
    fn the_publisher_is_woken_by_the_first_mark_only() {
        struct Counting(AtomicUsize);
        impl Wake for Counting {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (region, dirty) = dirty(64);
        let woken = Arc::new(Counting(AtomicUsize::new(0)));
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
