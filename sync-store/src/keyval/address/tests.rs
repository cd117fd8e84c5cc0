use super::*;

#[test]
fn only_normalised_keys_of_peers_are_taken() {
    for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1", "2001:db8::/32", "::1"] {
        let range = Range::parse(text.as_bytes()).expect(text);
        assert_eq!(range.to_string(), text);
        assert_eq!(Range::from_bytes(range.bytes()), Some(range));
    }
    for bytes in [&[][..], &[8, 10, 0, 0], &[8, 10, 0, 0, 1], &[33, 10, 0, 0, 0], &[129; 17], &[0; 6]] {
        assert_eq!(Range::from_bytes(bytes), None, "{bytes:?}");
    }
}

#[test]
fn widening_clears_bits_and_never_narrows() {
    let host = Range::parse(b"10.255.255.255").expect("an address");
    assert_eq!(host.widened(9).to_string(), "10.128.0.0/9");
    assert_eq!(host.widened(9).widened(12).to_string(), "10.128.0.0/9");
    assert_eq!(host.widened(0).to_string(), "0.0.0.0/0");
    assert_eq!(host.widened(32), host);
}

#[test]
fn a_mapped_range_is_no_key() {
    let address: Ipv6Addr = "::ffff:1.2.3.4".parse().expect("an address");
    let key = [&[128][..], &address.octets()].concat();
    assert_eq!(Range::from_bytes(&key), None, "it would be looked for as 1.2.3.4");
    let other: Ipv6Addr = "::fffe:1.2.3.4".parse().expect("an address");
    assert!(Range::from_bytes(&[&[128][..], &other.octets()].concat()).is_some());
}
