use super::*;
use crate::ZoneKind;
use crate::region::HEADER_WORDS;

fn origin(raw: u64) -> Origin {
    Origin::from_raw(raw).expect("not 0")
}

fn origins() -> (OpenRegion, Origins) {
    let size = 4096;
    let region = OpenRegion::create("z", ZoneKind::Keyval, size).expect("memory");
    let origins = Origins::new(&mut Layout::new(size, HEADER_WORDS), size).expect("room");
    let own = origins.enter(&region, origin(1)).expect("room");
    origins.set_own(&region, own);
    (region, origins)
}

#[test]
fn the_vector_holds_what_was_advanced() {
    let (region, origins) = origins();
    origins.advance(&region, origins.own(&region), 4);
    let index = origins.enter(&region, origin(9)).expect("room");
    assert_eq!(origins.enter(&region, origin(9)), Some(index));
    origins.advance(&region, index, 7);
    origins.advance(&region, index, 6);
    assert_eq!(origins.vector(&region), [(origin(1), 4), (origin(9), 7)].into_iter().collect());
}

#[test]
fn a_full_table_forgets_the_longest_unheard_of_that_nothing_refers_to() {
    let (region, origins) = origins();
    for raw in 2..=32 {
        let index = origins.enter(&region, origin(raw)).expect("room");
        origins.advance(&region, index, raw);
    }
    assert_eq!(origins.enter(&region, origin(99)), None);
    origins.enter(&region, origin(2)); // heard again
    let mut in_use = vec![false; origins.len()];
    in_use[usize::from(origins.find(&region, origin(3)).expect("there"))] = true;
    let oldest = origins.forgettable(&region, &in_use);
    assert_eq!(oldest.len(), 4);
    origins.forget(&region, &oldest);
    let gone: Vec<u64> = (1..=32).filter(|&raw| origins.find(&region, origin(raw)).is_none()).collect();
    assert_eq!(gone, [4, 5, 6, 7]);
    let index = origins.enter(&region, origin(99)).expect("room");
    assert_eq!(origins.through(&region, index), 0);
    assert_eq!(origins.forgettable(&region, &vec![true; origins.len()]), []);
}

#[test]
fn a_dot_survives_packing() {
    let dot = PackedDot::new(u16::MAX, MAX_SEQ);
    let dot = PackedDot::from_raw(dot.raw());
    assert_eq!((dot.index(), dot.seq()), (u16::MAX, MAX_SEQ));
    assert_eq!(PackedDot::from_raw(0).seq(), 0);
}
