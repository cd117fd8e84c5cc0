use super::*;
use crate::ZoneKind;
use crate::region::HEADER_WORDS;

#[test]
fn a_key_has_two_different_buckets_and_every_bucket_is_used() {
    let region = OpenRegion::create("z", ZoneKind::Keyval, 64 << 10).expect("memory");
    for buckets in [2, 3, 40] {
        let index = Index::new(&mut Layout::new(64 << 10, HEADER_WORDS), buckets, true).expect("room");
        let mut used = vec![0; index.len()];
        for number in 0..2_000u32 {
            let candidates = index.candidates(region.hash(&number.to_le_bytes()));
            assert_ne!(candidates.main[0], candidates.main[1]);
            candidates.slots().for_each(|at| used[at] += 1);
        }
        assert!(used.iter().all(|&times| times > 0), "{buckets}");
        // No bucket is twice as popular as it should be.
        let fair = 2_000 * 2 / buckets;
        assert!(used[..buckets * BUCKET].iter().all(|&times| times < 2 * fair + 20), "{buckets}");
    }
}

#[test]
fn at_half_load_there_is_always_a_vacancy() {
    let size = 1 << 20;
    let region = OpenRegion::create("z", ZoneKind::Sticky, size).expect("memory");
    let index = Index::new(&mut Layout::new(size, HEADER_WORDS), 4_096, false).expect("room");
    for number in 0..index.len() as u64 / 2 {
        let candidates = index.candidates(region.hash(&number.to_le_bytes()));
        let (at, empty) = index.vacancy(&region, candidates).expect("half empty");
        assert!(index.claim(&region, at, empty, empty.pending(1, 1)));
    }
}
