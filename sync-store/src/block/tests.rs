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
            writer: u16::MAX,
            time_ms: value_len as u64 % 2,
            lag: LAG_MAX,
        };
        let draft = Draft { key: &bytes[..key_len], value: &bytes[..value_len], header };
        block.fill(&draft);
        let head = block.head();
        let meta = block.meta(head, block.stamp());
        assert_eq!((meta.header(), block.lead(head), head.units()), (header, 0, draft.units()));
        assert!(block.has_key(head, draft.key));
        assert!(!block.has_key(head, &bytes[1..=key_len]));
        let (mut key, mut value) = (Vec::new(), Vec::new());
        block.copy_key(head, &mut key);
        block.copy_value(head, &mut value);
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
    block.copy_value(head, &mut out);
    assert!(out.is_empty());
    assert!(!block.has_key(head, &[0xff; 100]));
    block.meta(head, block.stamp());
}

#[test]
fn the_usual_records_take_what_the_documents_say() {
    assert_eq!(units_needed(16, 32, false), 2, "one cache line");
    assert_eq!(units_needed(16, 33, false), 3);
    assert_eq!(units_needed(32, 20, true), 3, "a session: 96 bytes");
    assert_eq!(units_needed(5, 1, false), 1, "a blocked address: 32 bytes");
}
