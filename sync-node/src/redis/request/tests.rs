use super::*;
use proptest::prelude::*;

/// Requests and how the last ended, read from bytes that come in pieces of these sizes, over and over.
fn read(bytes: &[u8], pieces: &[usize], bounds: Bounds) -> (Vec<Vec<Vec<u8>>>, Option<Malformed>) {
    let (mut parser, mut requests) = (Parser::default(), Vec::new());
    let (mut begin, mut end) = (0, 0);
    for piece in pieces.iter().cycle() {
        loop {
            match parser.read(&bytes[begin..end], bounds) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    let request = parser.request(&bytes[begin..end]);
                    requests.push(request.from(0).map(<[u8]>::to_vec).collect());
                    assert!(length > 0, "each request takes bytes");
                    begin += length;
                    parser.next();
                }
                Err(malformed) => return (requests, Some(malformed)),
            }
        }
        if end == bytes.len() {
            return (requests, None);
        }
        end = bytes.len().min(end + piece.max(&1));
    }
    unreachable!("there are pieces")
}

fn whole(bytes: &[u8]) -> (Vec<Vec<Vec<u8>>>, Option<Malformed>) {
    read(bytes, &[bytes.len()], Bounds::KNOWN)
}

fn written(request: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", request.len()).into_bytes();
    for argument in request {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[test]
fn requests_are_read() {
    let (requests, malformed) = whole(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n\r\n*0\r\n*-1\r\n  get   b \n");
    assert_eq!(malformed, None);
    assert_eq!(
        requests,
        [words(&["GET", "a"]), words(&["PING"]), vec![], vec![], vec![], words(&["get", "b"])]
    );
}

#[test]
fn words_of_a_line_are_quoted_as_in_redis() {
    let line = br#"set "a b" 'c\'d"' "\x41\n\"\z" ""
"#;
    let (requests, malformed) = whole(line);
    assert_eq!(malformed, None);
    assert_eq!(requests, [words(&["set", "a b", "c'd\"", "A\n\"z", ""])]);
    for unbalanced in ["set \"a\n", "set 'a\n", "set \"a\"b\n"] {
        assert_eq!(whole(unbalanced.as_bytes()), (vec![], Some(Malformed::Quotes)), "{unbalanced}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_at_once() {
    for (bytes, expected) in [
        ("*a\r\n", Malformed::Count),
        ("*\r\n", Malformed::Count),
        ("*1\rx", Malformed::Count),
        ("*99999999999999999999\r\n", Malformed::Count),
        ("*1048577\r\n", Malformed::Count),
        ("*0000000000000000000000000000000000000000001\r\n", Malformed::Count),
        ("*1\r\n:", Malformed::Kind(b':')),
        ("*1\r\n$-1\r\n", Malformed::Length),
        ("*1\r\n$1048577\r\n", Malformed::TooLarge),
        ("*1\r\n$1\r\nabc", Malformed::End),
    ] {
        assert_eq!(whole(bytes.as_bytes()), (vec![], Some(expected)), "{bytes:?}");
    }
    assert_eq!(whole(&vec![b'a'; LINE_MAX + 1]), (vec![], Some(Malformed::Line)));
    assert_eq!(whole(&vec![b'a'; LINE_MAX]), (vec![], None), "the end may still come");
}

#[test]
fn strangers_get_less_room() {
    let stranger = |bytes: &str| read(bytes.as_bytes(), &[7], Bounds::STRANGER).1;
    assert_eq!(stranger("*11\r\n"), Some(Malformed::StrangerCount));
    assert_eq!(stranger("*10\r\n"), None);
    assert_eq!(stranger("*1\r\n$16385\r\n"), Some(Malformed::StrangerLength));
    assert_eq!(stranger("*1\r\n$16384\r\n"), None);
}

#[test]
fn a_request_is_bounded_as_a_whole() {
    let argument = vec![b'a'; REQUEST_MAX / 2 - 64];
    let (requests, malformed) = whole(&written(&[argument.clone(), argument.clone()]));
    assert_eq!((requests.len(), malformed), (1, None));
    let (requests, malformed) = whole(&written(&[argument.clone(), argument, vec![b'a'; 200]]));
    assert_eq!((requests.len(), malformed), (0, Some(Malformed::TooLarge)));
}

fn argument() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20),
        proptest::collection::vec(proptest::sample::select(&b"\r\n$*1 "[..]), 0..12),
    ]
}

proptest! {
    /// What was written is read, however it is cut.
    #[test]
    fn what_was_written_is_read(
        requests in proptest::collection::vec(proptest::collection::vec(argument(), 1..5), 0..5),
        pieces in proptest::collection::vec(1..40usize, 1..6),
    ) {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| written(request)).collect();
        prop_assert_eq!(read(&bytes, &pieces, Bounds::KNOWN), (requests, None));
    }

    /// Any bytes have one meaning, however they are cut, and no panic comes of them.
    #[test]
    fn any_bytes_mean_the_same_however_they_come(
        bytes in proptest::collection::vec(
            prop_oneof![3 => proptest::sample::select(&b"*$:\r\n0123456789-\"'\\x gGs"[..]), 1 => any::<u8>()],
            0..200,
        ),
        pieces in proptest::collection::vec(1..30usize, 1..6),
        is_known in any::<bool>(),
    ) {
        let bounds = if is_known { Bounds::KNOWN } else { Bounds::STRANGER };
        prop_assert_eq!(read(&bytes, &pieces, bounds), read(&bytes, &[bytes.len()], bounds));
    }
}
