//! The HTTP API answers as that of NGINX Plus does: paths, verbs, status codes, error bodies. One node is enough for that.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Cluster, Config, Encryption, Node, Reply, wait_for};

const ZONES: &str = r#"
    [[keyval_zone]]
    name = "one"
    size = "64k"

    [[keyval_zone]]
    name = "two"
    size = "64k"
    timeout = "1h"

    [[keyval_zone]]
    name = "blocked"
    size = "64k"
    type = "ip"

    [[limit_req_zone]]
    name = "req"
    size = "64k"
    rate = "1r/h"
"#;

const LIMIT: Duration = Duration::from_secs(30);

const ONE: &str = "/api/9/http/keyvals/one";
const TWO: &str = "/api/9/http/keyvals/two";

fn start(change: impl FnOnce(&mut Config)) -> (Cluster, Node) {
    let cluster = Cluster::new(&["a"], ZONES);
    let mut config = Config { encryption: Encryption::Plain, ..cluster.config("a") };
    change(&mut config);
    let node = cluster.start_with(config);
    // Any answer will do: some of these nodes refuse us.
    wait_for("an answer", LIMIT, || node.api.request("GET", "/healthz", None));
    (cluster, node)
}

/// An error as the NGINX Plus API words it.
#[track_caller]
fn expect_error(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["error"]["status"], json!(status), "{reply:?}");
    assert_eq!(body["error"]["code"], json!(code), "{reply:?}");
    assert!(body["error"]["text"].is_string(), "{reply:?}");
    assert!(body["request_id"].is_string() && body["href"].is_string(), "{reply:?}");
}

fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn versions_and_lists_of_endpoints() {
    let (_cluster, node) = start(|_| {});
    let api = &node.api;
    for path in ["/api", "/api/"] {
        assert_eq!(api.get(path).expect(200).json(), json!([1, 2, 3, 4, 5, 6, 7, 8, 9]));
    }
    for version in 1..=9 {
        let top = api.get(&format!("/api/{version}/")).expect(200).json();
        assert!(names(&top).is_superset(&["http", "stream"].into()), "{top}");
    }
    let http = api.get("/api/9/http/").expect(200).json();
    assert!(names(&http).is_superset(&["keyvals", "limit_reqs"].into()), "{http}");
    let stream = api.get("/api/9/stream").expect(200).json();
    assert!(names(&stream).contains("zone_sync"), "{stream}");
    expect_error(&api.get("/api/10/http/keyvals"), 404, "UnknownVersion");
    expect_error(&api.get("/api/9/http/nothing"), 404, "PathNotFound");
    expect_error(&api.get("/api/9/nothing"), 404, "PathNotFound");
}

#[test]
fn keyvals_are_read_added_changed_and_removed() {
    let (_cluster, node) = start(|_| {});
    let api = &node.api;
    assert_eq!(api.get(ONE).expect(200).json(), json!({}));
    api.post(ONE, &json!({"k1": "v1"})).expect(201);
    expect_error(&api.post(ONE, &json!({"k1": "other"})), 409, "KeyvalKeyExists");
    assert_eq!(api.get(&format!("{ONE}?key=k1")).expect(200).json(), json!({"k1": "v1"}));
    expect_error(&api.get(&format!("{ONE}?key=k2")), 404, "KeyvalKeyNotFound");
    api.patch(ONE, &json!({"k1": "v2"})).expect(204);
    expect_error(&api.patch(ONE, &json!({"k2": "v2"})), 404, "KeyvalKeyNotFound");
    api.post(ONE, &json!({"k2": "v2"})).expect(201);
    assert_eq!(api.get(&format!("{ONE}/")).expect(200).json(), json!({"k1": "v2", "k2": "v2"}));
    api.patch(ONE, &json!({"k1": null})).expect(204);
    expect_error(&api.patch(ONE, &json!({"k1": null})), 404, "KeyvalKeyNotFound");
    api.post(ONE, &json!({"k1": "again"})).expect(201);
    let all = api.get("/api/9/http/keyvals/").expect(200).json();
    assert_eq!(all, json!({"one": {"k1": "again", "k2": "v2"}, "two": {}, "blocked": {}}));
    let listed = api.get("/api/9/http/keyvals?fields=").expect(200).json();
    assert_eq!(names(&listed), ["one", "two", "blocked"].into(), "empty fields give names only");
    api.delete(ONE).expect(204);
    assert_eq!(api.get(ONE).expect(200).json(), json!({}));
}

#[test]
fn many_pairs_are_added_at_once_only_to_an_empty_zone() {
    let (_cluster, node) = start(|_| {});
    node.api.post(ONE, &json!({"k1": "v1", "k2": "v2"})).expect(201);
    expect_error(&node.api.post(ONE, &json!({"k3": "v3", "k4": "v4"})), 400, "KeyvalFormatError");
    expect_error(&node.api.patch(ONE, &json!({"k1": "v3", "k2": "v4"})), 400, "KeyvalFormatError");
    assert_eq!(node.api.get(ONE).json(), json!({"k1": "v1", "k2": "v2"}));
}

#[test]
fn a_pair_expires_when_its_writer_said() {
    let (_cluster, node) = start(|_| {});
    let api = &node.api;
    api.post(TWO, &json!({"short": {"value": "v", "expire": 300}})).expect(201);
    api.post(TWO, &json!({"long": {"value": "v", "expire": 3_600_000}})).expect(201);
    wait_for("the short one to expire", LIMIT, || match api.value("two", "short") {
        None => Ok(()),
        Some(value) => Err(value),
    });
    assert_eq!(api.value("two", "long").as_deref(), Some("v"));
    // A zone without a time-out has no expiry to override.
    expect_error(&api.post(ONE, &json!({"k": {"value": "v", "expire": 1000}})), 400, "KeyvalFormatError");
}

#[test]
fn malformed_requests_are_told_what_is_wrong() {
    let (_cluster, node) = start(|_| {});
    let send =
        |method: &str, path: &str, body: &str| node.api.request(method, path, Some(body)).expect("an answer");
    for body in ["", "{}", "[]", "\"x\"", "{\"k\":1}", "{\"k\":[]}", "{\"k\":{\"value\":1}}", "{\"k\":\"v\""]
    {
        let reply = send("POST", ONE, body);
        assert!([400, 415].contains(&reply.status), "{body}: {reply:?}");
        let code = reply.json()["error"]["code"].clone();
        assert!([json!("KeyvalFormatError"), json!("JsonError")].contains(&code), "{body}: {reply:?}");
    }
    expect_error(&send("POST", "/api/9/http/keyvals/none", "{\"k\":\"v\"}"), 404, "KeyvalNotFound");
    expect_error(&node.api.get("/api/9/http/keyvals/none"), 404, "KeyvalNotFound");
    let large = json!({ "k": "v".repeat(64 << 20) }).to_string();
    // It may hang up before the whole body was sent.
    if let Ok(reply) = node.api.request("POST", ONE, Some(&large)) {
        assert_eq!(reply.status, 413, "{}", reply.body);
    }
    // A record that does not fit is refused where it is written, with the bound.
    let reply = node.api.post(ONE, &json!({ "k": "v".repeat(300 << 10) }));
    assert_eq!(reply.status, 413, "{reply:?}");
    assert!(reply.body.chars().any(|c| c.is_ascii_digit()), "names the bound: {reply:?}");
    // None of it has left anything.
    assert_eq!(node.api.get(ONE).json(), json!({}));
}

#[test]
fn a_full_keyval_zone_refuses_and_keeps_what_it_has() {
    let (_cluster, node) = start(|_| {});
    let mut accepted = 0;
    let refused = loop {
        let reply = node.api.post(ONE, &json!({ format!("key-{accepted}"): "v".repeat(40) }));
        match reply.status {
            201 => accepted += 1,
            _ => break reply,
        }
        assert!(accepted < 10_000, "64 kilobytes hold no end of records");
    };
    assert!([413, 507].contains(&refused.status), "{refused:?}");
    assert!(accepted >= 100, "{accepted} records fill 64 kilobytes");
    assert_eq!(node.api.pairs("one").len(), accepted);
}

#[test]
fn limit_counters_are_read_and_reset() {
    let (_cluster, node) = start(|_| {});
    let check = |body: &Value| node.api.post("/v1/limit_req/req", body);
    check(&json!({"key": "a"})).expect(200);
    check(&json!({"key": "a"})).expect(429);
    check(&json!({"key": "b"})).expect(200);
    let delayed = check(&json!({"key": "b", "burst": 5})).expect(200).json();
    assert_eq!(delayed["status"], "DELAYED", "{delayed}");
    let wait = delayed["wait_ms"].as_f64().expect("milliseconds");
    assert!((3_500_000.0..=3_600_000.0).contains(&wait), "one an hour: {delayed}");
    let passed = check(&json!({"key": "b", "burst": 5, "nodelay": true})).expect(200).json();
    assert_eq!(passed["status"], "PASSED", "{passed}");
    let counters =
        json!({"passed": 3, "delayed": 1, "rejected": 1, "delayed_dry_run": 0, "rejected_dry_run": 0});
    assert_eq!(node.api.get("/api/9/http/limit_reqs/req").expect(200).json(), counters);
    assert_eq!(node.api.get("/api/9/http/limit_reqs/").expect(200).json(), json!({"req": counters}));
    node.api.delete("/api/9/http/limit_reqs/req").expect(204);
    assert_eq!(node.api.get("/api/9/http/limit_reqs/req").expect(200).json()["passed"], 0);
    expect_error(&node.api.get("/api/9/http/limit_reqs/none"), 404, "LimitReqNotFound");
    // Counters are about checks; the limit itself is not reset with them.
    check(&json!({"key": "a"})).expect(429);
}

#[test]
fn decisions_follow_what_the_caller_asks() {
    let (_cluster, node) = start(|_| {});
    let check = |body: Value| node.api.post("/v1/limit_req/req", &body);
    let status = |body: Value| check(body).json()["status"].as_str().expect("a status").to_owned();
    // Burst 4 without delay: five of one moment.
    let ask = json!({"key": "burst", "burst": 4, "nodelay": true});
    let admitted = (0..10).filter(|_| status(ask.clone()) == "PASSED").count();
    assert_eq!(admitted, 5);
    // A rate of the caller: a thousand a second give one back in a millisecond.
    for _ in 0..5 {
        assert_ne!(status(json!({"key": "fast", "burst": 1000, "rate": "1000r/s"})), "REJECTED");
    }
    // The first `delay` excessive ones pass at once, the others wait, up to the burst.
    let ask = json!({"key": "delay", "burst": 3, "delay": 1});
    let got: Vec<String> = (0..5).map(|_| status(ask.clone())).collect();
    assert_eq!(got, ["PASSED", "PASSED", "DELAYED", "DELAYED", "REJECTED"]);
    // A cost of three takes three, a negative one gives back, none peeks.
    let ask = |cost: i64| json!({"key": "cost", "burst": 5, "nodelay": true, "cost": cost});
    let remaining = |cost: i64| check(ask(cost)).json()["remaining"].as_u64().expect("a count");
    assert_eq!(remaining(3), 3);
    assert_eq!(remaining(0), 3);
    check(ask(4)).expect(429);
    assert_eq!(remaining(-2), 5);
    let refused = check(json!({"key": "burst", "burst": 4, "nodelay": true})).expect(429);
    let after: u64 = refused.headers["retry-after"].parse().expect("seconds");
    assert!((3_000..=3_600).contains(&after), "one an hour: {refused:?}");
    // What is wrong with a request is said, and nothing is spent.
    for body in
        [json!({}), json!({"key": ""}), json!({"key": "x", "rate": "fast"}), json!({"key": "x", "other": 1})]
    {
        let reply = check(body.clone());
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
    }
    assert_eq!(node.api.post("/v1/limit_req/none", &json!({"key": "x"})).status, 404);
}

#[test]
fn addresses_match_the_most_specific_range() {
    let (_cluster, node) = start(|_| {});
    let path = "/api/9/http/keyvals/blocked";
    node.api.post(path, &json!({"10.0.0.0/8": "wide"})).expect(201);
    node.api.post(path, &json!({"10.1.0.0/16": "narrow"})).expect(201);
    node.api.post(path, &json!({"2001:db8::/32": "six"})).expect(201);
    let reply = node.api.post(path, &json!({"not an address": "x"}));
    assert_eq!(reply.status, 400, "{reply:?}");
    assert_eq!(node.api.pairs("blocked").len(), 3);
}

#[test]
fn nothing_is_written_where_writing_is_not_granted() {
    let (_cluster, node) = start(|config| config.write = false);
    let api = &node.api;
    expect_error(&api.post(ONE, &json!({"k": "v"})), 405, "MethodDisabled");
    expect_error(&api.patch(ONE, &json!({"k": "v"})), 405, "MethodDisabled");
    expect_error(&api.delete(ONE), 405, "MethodDisabled");
    expect_error(&api.delete("/api/9/http/limit_reqs/req"), 405, "MethodDisabled");
    assert_eq!(api.get(ONE).expect(200).json(), json!({}));
}

#[test]
fn clients_that_are_denied_by_address_cannot_write() {
    let (_cluster, node) = start(|config| config.api.push("deny = [\"127.0.0.0/8\"]".to_owned()));
    let reply = node.api.post(ONE, &json!({"k": "v"}));
    assert_eq!(reply.status, 403, "{reply:?}");
    drop(node);
    let (_cluster, node) = start(|config| {
        config.api.push("allow = [\"127.0.0.0/8\"]".to_owned());
        config.api.push("deny = [\"all\"]".to_owned());
    });
    node.api.post(ONE, &json!({"k": "v"})).expect(201);
}

#[test]
fn writers_prove_who_they_are_where_there_is_a_password_file() {
    // `openssl passwd -6 -salt saltstring 'Hello world!'`
    const USERS: &str = "operator:$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1\n";
    let cluster = Cluster::new(&["a"], ZONES);
    std::fs::write(cluster.directory().join("users"), USERS).expect("writable");
    let mut config = Config { encryption: Encryption::Plain, ..cluster.config("a") };
    config.api.push("auth_basic_user_file = \"users\"".to_owned());
    let node = cluster.start_with(config);
    node.wait_live();
    let post = |authorization: Option<&str>| {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(authorization.map(|value| ("authorization", value)));
        node.api.request_with("POST", ONE, &headers, Some("{\"k\":\"v\"}")).expect("an answer")
    };
    // Base64 of nobody:Hello world!, operator:hello world! and operator:Hello world!
    for wrong in [
        None,
        Some("Basic bm9ib2R5OkhlbGxvIHdvcmxkIQ=="),
        Some("Basic b3BlcmF0b3I6aGVsbG8gd29ybGQh"),
        Some("Basic ?"),
    ] {
        let reply = post(wrong);
        assert_eq!(reply.status, 401, "{wrong:?}: {reply:?}");
        assert!(reply.headers["www-authenticate"].starts_with("Basic"), "{reply:?}");
    }
    post(Some("Basic b3BlcmF0b3I6SGVsbG8gd29ybGQh")).expect(201);
}
