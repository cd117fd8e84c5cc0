//! Keys of any bytes: each is its own, found by exactly its own bytes, in every kind of zone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use sync_store::{Check, Error, Expiry, KeyvalZone, LimitZone, MatchBy, StickyZone};

use crate::support::{NOW, Snapshot, Zone, publish};

/// Keys that a careless comparison takes for each other, none longer than 255 bytes, which every zone accepts.
fn hostile_keys() -> Vec<Vec<u8>> {
    let mut keys = BTreeSet::new();
    keys.extend((0..=255).map(|byte: u8| vec![byte]));
    for pair in [[0, 0], [0, 255], [255, 0], [255, 255], [b'a', b'a']] {
        keys.insert(pair.to_vec());
    }
    // The same but for padding: around the sizes of a word, of an inline limit key and of a cache line.
    for base in [&b""[..], b"a", b"\xff", b"1234567", b"12345678"] {
        for zeros in [1, 2, 3, 4, 6, 7, 8, 9, 15, 16, 17, 24, 25, 31, 32, 33, 56, 63, 64, 65, 128, 247] {
            keys.insert([base, &vec![0; zeros]].concat());
            keys.insert([&vec![0; zeros], base].concat());
        }
    }
    // The same but for the length.
    for byte in [0, 1, b'a', 0x7f, 0x80, 0xff] {
        keys.extend((1..=72).chain(250..=255).map(|length| vec![byte; length]));
    }
    // Prefixes of each other.
    let long: Vec<u8> = (0..=254).collect();
    keys.extend((1..long.len()).map(|length| long[..length].to_vec()));
    // Equal up to the last byte, and but for the first one. 17 and up is what limit zones digest.
    for length in [2, 4, 8, 9, 16, 17, 32, 64, 255] {
        for byte in 0..=255 {
            let mut key = vec![0x55; length];
            key[length - 1] = byte;
            keys.insert(key.clone());
            key.reverse();
            keys.insert(key);
        }
    }
    // No UTF-8, and text that means something to somebody.
    for key in [
        &b"\xc3\x28"[..],
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf0\x28\x8c\x28",
        b"\xff\xfe\xfd",
        b"\r\n\r\n",
        b"%s%n",
        b"../../etc/passwd",
        b"'; --",
        b"\x1b[2J",
        "Ä".as_bytes(),
        "A\u{308}".as_bytes(),
        "\u{202e}".as_bytes(),
    ] {
        keys.insert(key.to_vec());
    }
    keys.into_iter().collect()
}

/// What a key maps to: its number, so that no two have the same, and any mix-up shows.
fn value(number: usize) -> Vec<u8> {
    format!("value {number}").into_bytes()
}

/// Room for all hostile keys several times over: what is tested are keys, not fullness.
const SIZE: u64 = 4 << 20;

fn keyval(match_by: MatchBy) -> KeyvalZone {
    KeyvalZone::builder("k").size(SIZE).match_by(match_by).build().expect("a zone")
}

fn sticky() -> StickyZone {
    StickyZone::builder("s").size(SIZE).build().expect("a zone")
}

fn set(zone: &Zone, key: &[u8], value: &[u8]) {
    match zone {
        Zone::Keyval(zone) => zone.set(key, value, NOW, Expiry::Never),
        Zone::Sticky(zone) => zone.learn(key, value, NOW),
        Zone::Limit(_) => panic!("has no values"),
    }
    .unwrap_or_else(|error| panic!("{key:?}: {error}"));
}

fn get(zone: &Zone, key: &[u8]) -> Option<Vec<u8>> {
    match zone {
        Zone::Keyval(zone) => zone.get(key, NOW).as_deref().map(<[u8]>::to_vec),
        Zone::Sticky(zone) => zone.peek(key, NOW).as_deref().map(<[u8]>::to_vec),
        Zone::Limit(_) => panic!("has no values"),
    }
}

fn remove(zone: &Zone, key: &[u8]) -> bool {
    match zone {
        Zone::Keyval(zone) => zone.remove(key, NOW),
        Zone::Sticky(zone) => zone.forget(key, NOW),
        Zone::Limit(_) => panic!("has no values"),
    }
    .expect("room")
}

/// Writes all keys, looks each up, removes every other one, and does the same on a peer that was told.
fn every_key_is_its_own(zone: &Zone, peer: &Zone) {
    let keys = hostile_keys();
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(get(zone, key), None, "{key:?} before it was written");
        set(zone, key, &value(number));
    }
    let mut expected: BTreeMap<&[u8], Vec<u8>> = BTreeMap::new();
    expected.extend(keys.iter().enumerate().map(|(number, key)| (key.as_slice(), value(number))));
    let check = |expected: &BTreeMap<&[u8], Vec<u8>>| {
        let (from, rows) = publish(zone.replica(), NOW);
        peer.apply_batch(zone.replica().origin(), from, from + rows.len() as u64, &rows).expect("valid rows");
        for zone in [zone, peer] {
            for key in &keys {
                assert_eq!(get(zone, key).as_ref(), expected.get(key.as_slice()), "{key:?}");
            }
            let content = zone.content(NOW);
            assert!(
                content
                    .iter()
                    .map(|(key, (value, _))| (key.as_slice(), value))
                    .eq(expected.iter().map(|(key, value)| (*key, value)))
            );
        }
    };
    check(&expected);
    for key in keys.iter().step_by(2) {
        assert!(remove(zone, key), "{key:?}");
        assert!(!remove(zone, key), "{key:?} twice");
        expected.remove(key.as_slice());
    }
    check(&expected);
}

#[test]
fn exact() {
    every_key_is_its_own(&Zone::Keyval(keyval(MatchBy::Exact)), &Zone::Keyval(keyval(MatchBy::Exact)));
}

#[test]
fn prefix() {
    every_key_is_its_own(&Zone::Keyval(keyval(MatchBy::Prefix)), &Zone::Keyval(keyval(MatchBy::Prefix)));
}

#[test]
fn sessions() {
    every_key_is_its_own(&Zone::Sticky(sticky()), &Zone::Sticky(sticky()));
}

/// In a zone of a few buckets a look-up meets keys of its own tag, ten bits of the hash, soon enough. Then only the comparison tells keys apart, and in
/// words that are padded with zeros these look alike. Of 42,000 look-ups about 20 meet such a key; that none does has a probability below 10⁻⁸.
#[test]
fn keys_that_differ_in_padding_differ_also_where_their_hashes_do_not() {
    let zone = KeyvalZone::builder("k").size(4 << 10).max_record(32).tombstone_retention(Duration::ZERO);
    let zone = zone.build().expect("a zone");
    for number in 0..8_400u32 {
        let key = [&number.to_le_bytes()[..3], &[0; 5]].concat();
        zone.set(&key[..3], "", NOW, Expiry::Never).expect("room");
        for length in 4..=8 {
            assert_eq!(zone.get(&key[..length], NOW).as_deref(), None, "{:?}", &key[..length]);
        }
        assert!(zone.remove(&key[..3], NOW).expect("room"));
    }
}

#[test]
fn limits() {
    let keys = hostile_keys();
    // 131,000 entries in groups of eight for 4,500 keys: that a ninth comes to any of the 16,000 groups, and evicts, has a
    // probability below 10⁻⁸ (Poisson, mean 0.28 keys in a group: 0.28⁹ / 9! · 16,000).
    let zone = LimitZone::builder("l").size(8 << 20).rate("1r/h".parse().expect("a rate"));
    let zone = zone.burst(1_000_000).build().expect("a zone");
    let check = |key: &[u8], cost| zone.check(key, &Check { cost, ..Check::default() }, NOW);
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(check(key, 0).remaining(), 1_000_001, "{key:?} before it was charged");
        assert!(check(key, number as i64 + 1).is_admitted());
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(check(key, 0).remaining(), 1_000_000 - number as u64, "{key:?}");
    }
    for key in keys.iter().step_by(2) {
        assert!(zone.forget(key, NOW), "{key:?}");
    }
    for (number, key) in keys.iter().enumerate() {
        let charged = if number % 2 == 0 { 0 } else { number as u64 + 1 };
        assert_eq!(check(key, 0).remaining(), 1_000_001 - charged, "{key:?}");
    }
}

#[test]
fn the_longest_prefix_wins_byte_by_byte() {
    let zone = keyval(MatchBy::Prefix);
    let keys = hostile_keys();
    let mut known: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (number, key) in keys.iter().enumerate().step_by(3) {
        zone.set(key, value(number), NOW, Expiry::Never).expect("room");
        known.insert(key.clone(), value(number));
    }
    let check = |known: &BTreeMap<Vec<u8>, Vec<u8>>| {
        // Cut short, going on with zeros, going on with something else, longer than any key. Four is not a multiple of three: some
        // of these keys are there and some are not.
        for key in keys.iter().step_by(4) {
            for probe in [
                key.clone(),
                key[..key.len() - 1].to_vec(),
                [key, &b"\0"[..]].concat(),
                [key, &b"\xff"[..]].concat(),
                [key, &[0xaa; 2048][..]].concat(),
            ] {
                let longest = (1..=probe.len().min(255)).rev().find_map(|length| known.get(&probe[..length]));
                assert_eq!(
                    zone.lookup(&probe, NOW).as_deref(),
                    longest.map(Vec::as_slice),
                    "{:?}… of {} bytes",
                    &probe[..probe.len().min(32)],
                    probe.len()
                );
            }
        }
    };
    check(&known);
    for key in keys.iter().step_by(6) {
        assert!(zone.remove(key, NOW).expect("room"));
        known.remove(key);
    }
    check(&known);
}

/// An address that has exactly `bits` bits in common with another one.
fn diverges(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() ^ 1 << (31 - bits)).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() ^ 1 << (127 - bits)).into(),
    }
}

#[test]
fn nested_ranges_are_told_apart_bit_by_bit() {
    for address in
        ["0.0.0.0", "255.255.255.255", "10.85.170.1", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
    {
        let zone = keyval(MatchBy::Ip);
        let address: IpAddr = address.parse().expect("an address");
        let most = if address.is_ipv4() { 32 } else { 128 };
        for bits in 0..=most {
            zone.set(format!("{address}/{bits}"), [bits], NOW, Expiry::Never).expect("room");
        }
        assert_eq!(zone.len(NOW), usize::from(most) + 1);
        // Of each range from the narrowest on: it is found by what lies in it and in none narrower; once removed, the next one is.
        for bits in (0..=most).rev() {
            let inside = if bits == most { address } else { diverges(address, bits) };
            assert_eq!(zone.lookup(inside.to_string(), NOW).as_deref(), Some(&[bits][..]), "{inside}/{bits}");
            assert!(zone.remove(format!("{inside}/{bits}"), NOW).expect("room"), "{inside}/{bits}");
            let wider = bits.checked_sub(1).map(|bits| vec![bits]);
            assert_eq!(zone.lookup(inside.to_string(), NOW).as_deref(), wider.as_deref());
        }
        assert!(zone.is_empty(NOW));
    }
}

#[test]
fn what_is_no_address_is_refused_and_changes_nothing() {
    let zone = Zone::Keyval(keyval(MatchBy::Ip));
    let Zone::Keyval(keyval) = &zone else { panic!("as made") };
    keyval.set("10.0.0.0/8", "ten", NOW, Expiry::Never).expect("room");
    let before = Snapshot::of(&zone);
    let mut keys = hostile_keys();
    // A range by its bytes, as it travels, is no key of a caller.
    keys.push(vec![8, 10, 0, 0, 0]);
    keys.extend(
        [
            "",
            " ",
            "10.0.0.1 ",
            " 10.0.0.1",
            "10.0.0.1\0",
            "10.0.0.1\n",
            "10.0.0",
            "10.0.0.0.1",
            "010.0.0.1",
            "0x0a.0.0.1",
            "167772161",
            "10.0.0.256",
            "10.0.0.-1",
            "10.0.0.1/",
            "10.0.0.1/33",
            "10.0.0.1/-1",
            "10.0.0.1/+8",
            "10.0.0.1/8/8",
            "10.0.0.1/255.0.0.0",
            "::/129",
            "::/",
            ":::",
            "1::2::3",
            "12345::",
            "[::1]",
            "::1%lo",
            "::ffff:10.0.0.256",
            "localhost",
            "１０.0.0.1",
        ]
        .map(|key| key.as_bytes().to_vec()),
    );
    keys.push(b"10.0.0.1".repeat(10_000));
    for key in &keys {
        let refused = Err(Error::InvalidKey {
            zone: "k".to_owned(),
            key: String::from_utf8_lossy(&key[..key.len().min(64)]).into_owned(),
            expected: "an address or a range, such as 10.1.2.3, 10.0.0.0/8 or 2001:db8::/32",
        });
        assert_eq!(keyval.set(key, "v", NOW, Expiry::Never), refused);
        assert_eq!(keyval.insert(key, "v", NOW, Expiry::Never), refused);
        assert_eq!(keyval.update(key, Some(b"v"), NOW, None), refused);
        assert_eq!(keyval.update(key, None, NOW, Some(Expiry::Never)), refused);
        assert_eq!(keyval.remove(key, NOW).map(|_| ()), refused);
        assert_eq!(keyval.get(key, NOW).as_deref(), None);
        assert_eq!(keyval.lookup(key, NOW).as_deref(), None);
        assert_eq!(keyval.entry(key, NOW), None);
    }
    assert_eq!(Snapshot::of(&zone), before);
}

#[test]
fn one_address_has_one_record_however_it_is_written() {
    let zone = keyval(MatchBy::Ip);
    for (number, spellings) in [
        &["10.0.0.1", "10.0.0.1/32", "::ffff:10.0.0.1", "::ffff:a00:1", "::FFFF:10.0.0.1/128"][..],
        &["10.0.0.0/8", "10.255.255.255/8", "::ffff:10.1.2.3/104"],
        &["0.0.0.0/0", "255.255.255.255/0", "::ffff:0:0/96"],
        &["2001:db8::", "2001:DB8:0:0:0:0:0:0", "2001:db8::/128"],
        &["::/0", "ffff::/0"],
    ]
    .into_iter()
    .enumerate()
    {
        for spelling in spellings {
            zone.set(spelling, [number as u8], NOW, Expiry::Never).expect("room");
            assert_eq!(zone.len(NOW), number + 1, "{spelling}");
        }
        for spelling in spellings {
            assert_eq!(zone.get(spelling, NOW).as_deref(), Some(&[number as u8][..]), "{spelling}");
        }
    }
}
