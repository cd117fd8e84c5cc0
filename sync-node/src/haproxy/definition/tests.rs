use super::*;
use proptest::prelude::*;

/// As HAProxy 2.6 defines `stick-table type string len 64 size 1m expire 10m store gpc0,http_req_cnt,http_req_rate(10s)`, the first table of a section.
pub(in super::super) fn clients() -> Vec<u8> {
    let mut body = vec![1, 7];
    body.extend_from_slice(b"clients");
    body.extend_from_slice(&[6, 65]);
    put_integer(&mut body, 1 << 2 | 1 << 9 | 1 << 10);
    put_integer(&mut body, 600_000);
    body.push(10);
    put_integer(&mut body, 10_000);
    body
}

/// Any definition that there can be.
pub(in super::super) fn any_definition() -> impl Strategy<Value = Definition> {
    let key = prop_oneof![
        Just((KeyType::Integer, 4)),
        Just((KeyType::Ipv4, 4)),
        Just((KeyType::Ipv6, 16)),
        (2..100_u64).prop_map(|length| (KeyType::String, length)),
        (1..100_u64).prop_map(|length| (KeyType::Binary, length)),
    ];
    let field = |number: usize, count: usize, period_ms| {
        let DataType { form, is_array, .. } = &DATA_TYPES[number];
        let period_ms = if *form == Form::Rate { period_ms } else { 0 };
        Field { number, count: if *is_array { count } else { 1 }, period_ms }
    };
    let fields = prop::collection::btree_map(0..DATA_TYPES.len(), (1..=100_usize, 1..u64::MAX), 0..8)
        .prop_map(move |fields| {
            fields.into_iter().map(|(n, (count, period))| field(n, count, period)).collect()
        });
    (any::<u64>(), "[a-z/_.:-]{1,20}", key, any::<u64>(), fields).prop_map(
        |(number, name, (key_type, key_length), expire_ms, fields)| Definition {
            number,
            name,
            key_type,
            key_length,
            expire_ms,
            fields,
        },
    )
}

#[test]
fn a_table_is_what_haproxy_says() {
    let definition = Definition::read(Reader(&clients())).expect("good");
    let one = |number, period_ms| Field { number, count: 1, period_ms };
    let expected = Definition {
        number: 1,
        name: "clients".to_owned(),
        key_type: KeyType::String,
        key_length: 65,
        expire_ms: 600_000,
        fields: vec![one(2, 0), one(9, 0), one(10, 10_000)],
    };
    assert_eq!(definition, expected);
}

#[test]
fn tables_that_cannot_be_are_refused() {
    let good = clients();
    for length in 0..good.len() {
        assert!(Definition::read(Reader(&good[..length])).is_err(), "{length} bytes");
    }
    for (at, byte, expected) in [
        (9, 3, "a type of keys that there is not"),
        (10, 0, "a length of keys that cannot be"),
        (2, 0xff, "a name that is no text"),
    ] {
        let mut wrong = good.clone();
        wrong[at] = byte;
        assert_eq!(Definition::read(Reader(&wrong)), Err(expected));
    }
    let array = |count| {
        let mut body = vec![1, 1, b't', 2, 4];
        put_integer(&mut body, 1 << 23);
        body.extend_from_slice(&[0, 23]);
        put_integer(&mut body, count);
        Definition::read(Reader(&body)).map(|definition| definition.fields[0].count)
    };
    assert_eq!(array(100), Ok(100));
    assert_eq!(array(101), Err("a length of an array that cannot be"));
    assert_eq!(array(u64::MAX), Err("a length of an array that cannot be"));
}

#[test]
fn keys_are_text_where_other_doors_have_text() {
    let definition = |key_type, key_length| Definition {
        key_type,
        key_length,
        ..Definition::read(Reader(&clients())).expect("good")
    };
    for (key_type, length, bytes, key) in [
        (KeyType::Integer, 4, &[0xff, 0xff, 0xff, 0xfe][..], &b"-2"[..]),
        (KeyType::Ipv4, 4, &[192, 0, 2, 1], b"192.0.2.1"),
        (KeyType::Ipv6, 16, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], b"2001:db8::1"),
        (KeyType::String, 4, b"\x03abc", b"abc"),
        (KeyType::Binary, 3, b"a\0b", b"a\0b"),
    ] {
        let definition = definition(key_type, length);
        assert_eq!(definition.read_key(&mut Reader(bytes)).as_deref(), Some(key));
        let mut written = Vec::new();
        assert!(definition.write_key(&mut written, key));
        assert_eq!(written, bytes);
        assert!(!definition.write_key(&mut written, b"four or more"), "{key_type:?}");
        assert_eq!(written, bytes);
    }
}

proptest! {
    #[test]
    fn a_definition_is_read_as_it_was_written(definition in any_definition()) {
        let mut body = Vec::new();
        definition.write(&mut body);
        prop_assert_eq!(Definition::read(Reader(&body)), Ok(definition));
    }

    #[test]
    fn no_bytes_are_too_odd(bytes: Vec<u8>, definition in any_definition(), at: prop::sample::Index, byte: u8) {
        let _ = Definition::read(Reader(&bytes));
        let _ = definition.read_key(&mut Reader(&bytes));
        let mut key = Vec::new();
        let is_written = definition.write_key(&mut key, &bytes);
        prop_assert_eq!(is_written, !key.is_empty());
        if is_written {
            prop_assert!(definition.read_key(&mut Reader(&key)).is_some());
        }
        let mut body = Vec::new();
        definition.write(&mut body);
        let at = at.index(body.len());
        body[at] = byte;
        let _ = Definition::read(Reader(&body));
    }
}
