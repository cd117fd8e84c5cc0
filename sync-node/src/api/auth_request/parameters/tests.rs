//! Questions, right and wrong ones.

use super::*;
use axum::http::{HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use proptest::prelude::*;

fn headers(fields: &[(&'static str, &[u8])]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a value"))
        })
        .collect()
}

fn read(query: &str, fields: &[(&'static str, &[u8])]) -> Result<Question, String> {
    Question::read(query, &headers(fields)).map_err(|problem| problem.text().to_owned())
}

#[test]
fn query_and_header_fields_say_the_same() {
    let query = "blocklist=b&blocklist_key=%FF+&limit_req=l&key=k&cost=2&burst=0&rate=5r/s&deny=403";
    let fields: [(&str, &[u8]); 8] = [
        ("x-sync-blocklist", b"b"),
        ("x-sync-blocklist-key", b"\xff+"),
        ("x-sync-limit-req", b"l"),
        ("x-sync-key", b"k"),
        ("x-sync-cost", b"2"),
        ("x-sync-burst", b"0"),
        ("x-sync-rate", b"5r/s"),
        ("x-sync-deny", b"403"),
    ];
    let question = read(query, &[]).expect("a question");
    assert_eq!(read("", &fields).as_ref(), Ok(&question));
    let expected = Question {
        blocklist: Some("b".to_owned()),
        blocklist_key: b"\xff+".to_vec(),
        limit_req: Some("l".to_owned()),
        key: b"k".to_vec(),
        cost: 2,
        burst: Some(0),
        rate: Some("5r/s".parse().expect("a rate")),
        deny: StatusCode::FORBIDDEN,
    };
    assert_eq!(question, expected);
    // Passed on from a client they change nothing that the query says or could say.
    let hostile: [(&str, &[u8]); 6] = [
        ("x-sync-blocklist-key", b"other"),
        ("x-sync-limit-req", b"other"),
        ("x-sync-key", b"other"),
        ("x-sync-cost", b"0"),
        ("x-sync-burst", b"1000"),
        ("x-sync-rate", b"1000r/s"),
    ];
    assert_eq!(read(query, &hostile), Ok(expected));
    assert_eq!(read("limit_req=l&key=k", &hostile), read("limit_req=l&key=k", &[]));
    assert_eq!(read("blocklist=l&key=k", &hostile), read("blocklist=l&key=k", &[]));
}

#[test]
fn the_key_may_come_beside_a_query() {
    let question = read("limit_req=l&blocklist=b&blocklist_key=a", &[("x-sync-key", b"k&cost=0")]);
    let question = question.expect("a question");
    assert_eq!((&question.key[..], &question.blocklist_key[..]), (&b"k&cost=0"[..], &b"a"[..]));
    assert_eq!((question.cost, question.deny), (1, StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(read("blocklist=b&blocklist_key=a", &[]).expect("a question").blocklist_key, b"a");
}

#[test]
fn what_is_wrong_is_named() {
    let text = |query: &str| read(query, &[]).expect_err("wrong");
    assert_eq!(text(""), "name a zone: \"limit_req\", \"blocklist\" or both");
    assert_eq!(text("key=k"), text(""));
    let missing = "\"key\" is missing; give it in the query, or as X-Sync-Key";
    assert_eq!(text("limit_req=l"), missing);
    assert_eq!(text("blocklist=b"), missing);
    assert_eq!(text("limit_req=l&blocklist=b&blocklist_key=a"), missing);
    assert_eq!(text("limit_req=l&key="), "\"key\" must not be empty");
    assert_eq!(text("limit_req=l&key=a&key=b"), "\"key\" is there twice");
    assert!(
        text("limit_req=l&key=a&bursts=1").starts_with("unknown parameter \"bursts\"; known are blocklist,")
    );
    for count in ["", "-1", "+1", "1.5", "x", "18446744073709551616"] {
        let expected = format!("\"burst\" must be a whole number of 0 or more, not {count:?}");
        assert_eq!(text(&format!("limit_req=l&key=a&burst={count}")), expected);
    }
    assert_eq!(text("limit_req=l&key=a&cost=9223372036854775808"), "\"cost\" is too large");
    assert!(text("limit_req=l&key=a&rate=fast").starts_with("\"rate\": rate `fast`"));
    assert_eq!(text("limit_req=l&key=a&deny=200"), "\"deny\" must be 401, 403 or 429, not \"200\"");
    assert_eq!(text("limit_req=%FF&key=a"), "\"limit_req\" must be UTF-8");
    let twice = read("limit_req=l", &[("x-sync-key", b"a"), ("x-sync-key", b"b")]);
    assert_eq!(twice, Err("x-sync-key is there twice".to_owned()));
}

proptest! {
    #[test]
    fn any_key_survives_the_query(key in prop::collection::vec(any::<u8>(), 1..64), burst in any::<u64>()) {
        let query = format!("limit_req=l&burst={burst}&key={}", percent_encode(&key, NON_ALPHANUMERIC));
        let question = read(&query, &[]).expect("a question");
        prop_assert_eq!(question.key, key);
        prop_assert_eq!(question.burst, Some(burst));
    }

    #[test]
    fn any_query_is_answered(query in "((limit_req|blocklist|key|cost|burst|rate|deny|x)?[=&%a-f0-9+]{0,4}){0,12}") {
        if let Ok(question) = read(&query, &[]) {
            prop_assert!(!question.key.is_empty() && question.cost >= 0);
            prop_assert!(question.limit_req.is_some() || question.blocklist.is_some());
        }
    }
}
