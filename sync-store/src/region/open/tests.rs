use super::*;
use crate::layout::Layout;

#[test]
fn a_region_is_as_large_as_asked_zeroed_and_aligned() {
    let size = 32 << 10;
    let region = OpenRegion::create("z", ZoneKind::Keyval, size).expect("memory");
    assert_eq!(region.all().len() * WORD, 32 << 10);
    assert_eq!(region.all().as_ptr() as usize % (WORD * LINE), 0);
    assert!(region.all()[HEADER_WORDS..].iter().all(|word| word.load(Ordering::Relaxed) == 0));
}

#[test]
fn the_magic_word_comes_last() {
    let region = OpenRegion::create("z", ZoneKind::Sticky, 4096).expect("memory");
    assert_eq!(region.all()[MAGIC_AT].load(Ordering::Acquire), 0);
    region.seal();
    assert_eq!(region.all()[MAGIC_AT].load(Ordering::Acquire), MAGIC);
    assert_eq!(region.all()[VERSION_AT].load(Ordering::Relaxed), LAYOUT_VERSION << 8 | 2);
}

#[test]
fn sections_start_on_lines_and_never_leave_the_region() {
    let mut layout = Layout::new(4096 + 63, HEADER_WORDS);
    let first = layout.take(3).expect("room");
    let second = layout.take(8).expect("room");
    assert_eq!((first.start(), first.len()), (HEADER_WORDS, 3));
    assert_eq!((second.start(), second.len()), (HEADER_WORDS + LINE, 8));
    assert_eq!(layout.left(), 4096 / WORD - HEADER_WORDS - 2 * LINE);
    assert_eq!(layout.take(layout.left() + 1), None);
    assert_eq!(layout.take(usize::MAX), None);
    assert!(layout.take(layout.left()).is_some());
    assert_eq!(layout.left(), 0);
}

#[test]
fn hashes_differ_between_regions_and_agree_within_one() {
    let one = OpenRegion::create("z", ZoneKind::Keyval, 4096).expect("memory");
    let other = OpenRegion::create("z", ZoneKind::Keyval, 4096).expect("memory");
    assert_eq!(one.hash(b"key"), one.hash(b"key"));
    assert_ne!(one.hash(b"key"), one.hash(b"kez"));
    assert_ne!(one.hash(b"key"), other.hash(b"key"));
}
