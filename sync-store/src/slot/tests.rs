use super::*;

#[test]
fn a_slot_never_repeats_a_word_through_a_life_of_changes() {
    let mut seen = std::collections::HashSet::new();
    let mut slot = Slot::from_raw(0);
    for round in 0..100 {
        for change in [
            |slot: Slot| slot.pending(1023, 7),
            |slot: Slot| slot.promoted(),
            |slot: Slot| slot.replaced(8),
            |slot: Slot| slot.emptied(),
        ] {
            assert!(seen.insert(slot.raw()), "round {round}: {slot:?}");
            slot = change(slot);
        }
    }
    assert_eq!(slot.state(), SlotState::Empty);
    assert_eq!(slot.unit(), 0);
}

#[test]
fn fields_do_not_touch_each_other() {
    let unit = (1 << UNIT_BITS) - 1;
    let mut slot = Slot::from_raw(VERSION_MASK << UNIT_BITS);
    slot = slot.pending(1023, unit); // the version wraps
    assert_eq!((slot.tag(), slot.state(), slot.unit()), (1023, SlotState::Pending, unit));
    assert_eq!(slot.raw() >> UNIT_BITS & VERSION_MASK, 0);
    assert_eq!(slot.promoted().tag(), 1023);
    assert_eq!(slot.promoted().state(), SlotState::Live);
    assert!(slot.promoted().is_live_with(1023) && !slot.promoted().is_live_with(1022));
    assert!(!slot.is_live_with(1023) && !slot.emptied().is_live_with(1));
    assert!(Slot::tag_of(u64::MAX) < 1024);
    assert_eq!(Slot::tag_of(0), 1, "0 is the tag of empty slots");
}
