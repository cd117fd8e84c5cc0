use super::*;

fn words(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(u64::MAX)).collect()
}

#[test]
fn a_record_survives_its_block() {
    let words = words(8_400);
    let block = Block::new(&words);
    let bytes: Vec<u8> = (0..RECORD_MAX).map(|at| at as u8).collect();
    for (key_len, value_len) in [(1, 0), (7, 9), (8, 8), (16, 512), (17, 513), (1024, RECORD_MAX - 1024)] {
        let header = Header {
            removed: value_len == 0,
            stamp: Stamp::from_raw(7),
            writer: Origin::from_raw(8).expect("not 0"),
            time_ms: 9,
        };
        let draft = Draft { key: &bytes[..key_len], value: &bytes[..value_len], header };
        block.fill(&draft);
        let head = block.head();
        let meta = block.meta(head);
        assert_eq!((meta.header, meta.lead, head.lines()), (header, 0, draft.lines()));
        assert!(block.has_key(head, draft.key));
        assert!(!block.has_key(head, &bytes[1..=key_len]));
        let (mut key, mut value) = (Vec::new(), Vec::new());
        block.copy_key(head, &mut key);
        block.copy_value(head, &mut value, || true);
        assert_eq!((key.as_slice(), value.as_slice()), (draft.key, draft.value));
    }
}

#[test]
fn a_torn_head_leads_nowhere() {
    let words = words(8);
    let block = Block::new(&words); // lengths far beyond the region
    let head = block.head();
    let mut out = Vec::new();
    block.copy_key(head, &mut out);
    block.copy_value(head, &mut out, || true);
    assert!(out.is_empty());
    assert!(!block.has_key(head, &[0xff; 100]));
    block.meta(head);
}

#[test]
fn a_small_record_takes_one_line() {
    assert_eq!(lines_needed(16, 16), 1);
    assert_eq!(lines_needed(16, 17), 2);
    assert_eq!(lines_needed(16, 80), 2);
}
