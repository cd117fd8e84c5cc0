use super::*;
use crate::ZoneKind;
use crate::region::HEADER_WORDS;

fn blocks(size: u64) -> (OpenRegion, Blocks) {
    let demand = Demand { size, max_key: 8, max_record: 16 };
    let region = OpenRegion::create("z", ZoneKind::Keyval, size).expect("memory");
    let blocks = Blocks::new(&mut Layout::new(size, HEADER_WORDS), &demand).expect("room");
    blocks.prepare(&region);
    (region, blocks)
}

/// Loom: a block is never two threads' at once, through cells and bitmap.
#[cfg(loom)]
#[test]
fn loom_free_block_taken_twice() {
    use loom::sync::Arc;
    use loom::thread;

    let use_one = |(region, blocks): &(OpenRegion, Blocks), mark: u64| {
        if let Some(block) = blocks.take(region, 2) {
            let word = &region.all()[block.unit as usize * UNIT + UNIT]; // of its second unit
            word.store(mark, Ordering::Relaxed);
            assert_eq!(word.load(Ordering::Relaxed), mark, "somebody else has the block, too");
            blocks.free(region, block);
        }
    };
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let shared = Arc::new(blocks(1088));
        let other = {
            let shared = shared.clone();
            thread::spawn(move || {
                use_one(&shared, 1);
                use_one(&shared, 2);
            })
        };
        use_one(&shared, 3);
        use_one(&shared, 4);
        other.join().expect("no panic");
        let (region, blocks) = &*shared;
        let all = blocks.take_thoroughly(region, blocks.capacity_units() as u32);
        assert!(all.is_some(), "nothing is lost");
    });
}

#[cfg(not(loom))]
mod plain {
    use std::collections::HashSet;

    use super::*;

    fn units(block: &Owned) -> std::ops::Range<u32> {
        block.unit..block.unit + block.units
    }

    #[test]
    fn every_unit_is_given_once_and_all_come_back() {
        let (region, blocks) = blocks(64 << 10);
        let capacity = blocks.capacity_units();
        let mut held = Vec::new();
        let mut seen = HashSet::new();
        for wanted in [1, 2, 3, 70, 5, 64, 130].into_iter().cycle() {
            let Some(block) = blocks.take(&region, wanted) else { break };
            assert_eq!(block.units, wanted);
            assert!(units(&block).all(|unit| seen.insert(unit)));
            held.push(block);
        }
        while let Some(block) = blocks.take(&region, 1) {
            assert!(seen.insert(block.unit));
            held.push(block);
        }
        assert_eq!(seen.len() as u64, capacity);
        held.into_iter().for_each(|block| blocks.free(&region, block));
        let all = blocks.take_thoroughly(&region, capacity as u32).expect("it has grown together");
        assert_eq!(u64::from(all.units), capacity);
        blocks.free(&region, all);
    }

    #[test]
    fn the_reserve_is_apart() {
        let (region, blocks) = blocks(64 << 10);
        let all = blocks.take_thoroughly(&region, blocks.capacity_units() as u32).expect("all");
        let first = blocks.take_reserve(&region, 1).expect("one");
        let second = blocks.take_reserve(&region, 1).expect("two");
        assert!(blocks.take_reserve(&region, 1).is_none());
        assert!(!units(&all).contains(&first.unit) && !units(&second).contains(&first.unit));
        let mut again = blocks.owned(second.unit, 1);
        assert!(!blocks.fit(&region, &mut again, 1), "a block of the reserve goes back to the reserve");
        blocks.free(&region, second);
        assert!(blocks.take_reserve(&region, u32::MAX).is_none());
        assert!(blocks.take_reserve(&region, 1).is_some());
        blocks.free(&region, all);
        _ = again;
        blocks.free(&region, first);
    }

    #[test]
    fn a_block_is_fitted_into_the_free_units_behind_it() {
        let (region, blocks) = blocks(64 << 10);
        let mut first = blocks.take(&region, 2).expect("room");
        let second = blocks.take(&region, 2).expect("room");
        assert_eq!(blocks.unit_behind(&first), Some(second.unit));
        assert!(!blocks.fit(&region, &mut first, 3), "the next one is taken");
        let (unit, units) = (second.unit, second.units);
        blocks.give_back(&region, second);
        assert!(blocks.fit(&region, &mut first, 3));
        assert!(!blocks.claim(&region, unit as usize - blocks.first_unit(), 1));
        assert!(blocks.claim(&region, unit as usize - blocks.first_unit() + 1, 1));
        assert!(blocks.fit(&region, &mut first, 1));
        assert_eq!((first.units, units), (1, 2));
    }

    #[test]
    fn runs_are_found_wherever_they_lie() {
        let find = |wanted, words: &[u64]| {
            let mut run = Run { wanted, length: 0 };
            words.iter().enumerate().find_map(|(at, &taken)| {
                let found = run.find(at, taken);
                run.pass(taken);
                found
            })
        };
        assert_eq!(find(1, &[u64::MAX, !0b100]), Some(66));
        assert_eq!(find(3, &[!0b110_1110_0011]), Some(5));
        assert_eq!(find(4, &[!(0b11 << 62), !0b11]), Some(62));
        assert_eq!(find(130, &[u64::MAX >> 1, 0, 0, u64::MAX]), None);
        assert_eq!(find(129, &[u64::MAX >> 1, 0, 0, u64::MAX]), Some(63));
        assert_eq!(find(64, &[1, 0]), Some(1));
        assert_eq!(find(2, &[0x5555_5555_5555_5555; 4]), None);
    }
}
