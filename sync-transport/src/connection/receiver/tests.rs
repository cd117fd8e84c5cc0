use super::*;

#[test]
fn tls_is_recognized_by_its_first_record() {
    let hello = [22, 3, 1, 2, 0, 1, 0, 1];
    let alert = [21, 3, 3, 0, 2, 2, 40];
    for record in [&hello[..], &alert[..]] {
        for length in 0..6 {
            assert_eq!(
                TlsRecord::recognize(&record[..length]),
                TlsRecord::Unknown,
                "{length} bytes of {record:?}"
            );
        }
        assert_eq!(TlsRecord::recognize(record), TlsRecord::Yes);
    }
}

#[test]
fn frames_are_not_mistaken_for_tls() {
    for bytes in [
        &[0, 0, 0, 5, b'h'][..],
        &[22],             // the length of a frame of 22 bytes, as a varint, and nothing yet
        &[22, 10, 3],      // and a body that is protobuf
        &[22, 3, 9],       // no such version
        &[21, 3, 3, 0, 9], // an alert has two bytes
        &[21, 3, 3, 0, 2, 7],
        &[22, 3, 1, 2, 0, 9],
        b"GET / HTTP/1.1",
    ] {
        let expected = if bytes == [22] { TlsRecord::Unknown } else { TlsRecord::No };
        assert_eq!(TlsRecord::recognize(bytes), expected, "{bytes:?}");
    }
}
