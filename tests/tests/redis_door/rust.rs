//! The crate `redis`.

use std::collections::BTreeSet;

use redis::{Commands, Connection, ErrorKind, ExistenceCheck, RedisError, SetExpiry, SetOptions, Value};
use tests::{Cluster, Node, digests_equal, wait_for};

use crate::{LIMIT, door, one_node, two_nodes};

/// A client in RESP2 or RESP3.
fn connect(node: &Node, protocol: u8) -> Connection {
    let url = format!("redis://{}/?protocol=resp{protocol}", door(node.config.ip));
    let client = redis::Client::open(url).expect("an address");
    client.get_connection().expect("the door is open")
}

#[test]
fn what_one_node_is_told_the_other_answers() {
    let cluster = Cluster::new(&["a", "b"], "");
    let [a, b] = two_nodes(&cluster);
    for protocol in [2, 3] {
        let (mut first, mut second) = (connect(&a, protocol), connect(&b, protocol));
        let key = format!("session:{protocol}");
        let options =
            SetOptions::default().with_expiration(SetExpiry::EX(600)).conditional_set(ExistenceCheck::NX);
        let set: Value = first.set_options(&key, &b"\x00\r\n\xff"[..], options.clone()).expect("set");
        assert_eq!(set, Value::Okay);
        let again: Value = first.set_options(&key, "other", options).expect("not set");
        assert_eq!(again, Value::Nil);
        wait_for("the session to arrive", LIMIT, || {
            let value: Option<Vec<u8>> = second.get(&key).expect("an answer");
            if value.as_deref() == Some(b"\x00\r\n\xff") { Ok(()) } else { Err(format!("{value:?}")) }
        });
        let left: i64 = second.ttl(&key).expect("a time");
        assert!((500..=600).contains(&left), "{left}");
        // A zone of its own, by its prefix.
        assert_eq!(
            a.api.status().expect("a status").zones["sessions"].records_total,
            u64::from(protocol) - 1
        );
    }
    digests_equal(&[&a, &b]);
}

#[test]
fn pipelines_and_scans_are_whole() {
    const KEYS: usize = 3_000;
    let cluster = Cluster::new(&["a"], "");
    let a = one_node(&cluster, &[]);
    for protocol in [2, 3] {
        let mut client = connect(&a, protocol);
        let mut pipeline = redis::pipe();
        for n in 0..KEYS {
            pipeline.cmd("SET").arg(format!("key:{n}")).arg(format!("value of {n}"));
            pipeline.cmd("GET").arg(format!("key:{n}"));
        }
        let answers: Vec<Value> = pipeline.query(&mut client).expect("answers");
        assert_eq!(answers.len(), 2 * KEYS);
        for (n, answer) in answers.chunks(2).enumerate() {
            let expected = Value::BulkString(format!("value of {n}").into_bytes());
            assert_eq!(answer, [Value::Okay, expected]);
        }
        let scan = client.scan_match::<_, String>("key:*").expect("a scan");
        let keys: Vec<String> = scan.map(|key| key.expect("a key")).collect();
        assert_eq!(keys.len(), KEYS, "each once");
        assert_eq!(keys.into_iter().collect::<BTreeSet<_>>().len(), KEYS);
        let values: Vec<Option<String>> = client.mget(&["key:7", "nothing"]).expect("values");
        assert_eq!(values, [Some("value of 7".to_owned()), None]);
        let flushed: Value = redis::cmd("FLUSHDB").query(&mut client).expect("flushed");
        assert_eq!(flushed, Value::Okay);
        let size: u64 = redis::cmd("DBSIZE").query(&mut client).expect("a size");
        assert_eq!(size, 0);
    }
}

/// How many of `tries` requests of a key are admitted when `limit` are allowed in an hour.
fn admitted(client: &mut Connection, key: &str, limit: i64, tries: usize) -> usize {
    let mut ask = || {
        let mut command = redis::cmd("CL.THROTTLE");
        let answer: [i64; 5] =
            command.arg(key).arg(limit - 1).arg(limit).arg(3_600).query(client).expect("five integers");
        assert_eq!(answer[1], limit);
        answer[0] == 0
    };
    (0..tries).filter(|_| ask()).count()
}

#[test]
fn a_limit_counts_on_both_nodes() {
    let cluster = Cluster::new(&["a", "b"], "");
    let [a, b] = two_nodes(&cluster);
    let (mut first, mut second) = (connect(&a, 3), connect(&b, 2));
    assert_eq!(admitted(&mut first, "client", 10, 7), 7);
    wait_for("the other node to know of seven", LIMIT, || {
        let look: [i64; 5] = redis::cmd("CL.THROTTLE")
            .arg(&["client", "9", "10", "3600", "0"])
            .query(&mut second)
            .expect("five integers");
        if look[2] == 3 { Ok(()) } else { Err(format!("{look:?}")) }
    });
    assert_eq!(admitted(&mut second, "client", 10, 20), 3);
    wait_for("the first node to know of all", LIMIT, || match admitted(&mut first, "client", 10, 1) {
        0 => Ok(()),
        _ => Err("admitted".to_owned()),
    });
}

#[test]
fn errors_have_the_kinds_that_clients_know() {
    let cluster = Cluster::new(&["a"], "");
    let a = one_node(&cluster, &[("write = true", "write = false\ndecide = true")]);
    let mut client = connect(&a, 3);
    let refused = |result: Result<Value, RedisError>| result.expect_err("refused");
    let error = refused(client.set("k", "v"));
    assert_eq!(error.code(), Some("NOPERM"), "{error}");
    let error = refused(redis::cmd("EVAL").arg(&["return 1", "0"]).query(&mut client));
    assert_eq!(error.kind(), ErrorKind::Server(redis::ServerErrorKind::ResponseError), "{error}");
    assert!(error.to_string().contains("unknown command 'EVAL'"), "{error}");
    // What was refused has harmed nothing.
    let value: Option<String> = client.get("k").expect("an answer");
    assert_eq!(value, None);
    assert_eq!(admitted(&mut client, "k", 2, 5), 2);
}
