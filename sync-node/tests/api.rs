//! The HTTP API over real sockets against a real node: what is answered, in which words, and what is refused.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use sync_node::api::{Api, Grants, access::AccessList, users::UsersFile};
use sync_node::{Listener, Node};
use sync_store::{KeyvalZone, LimitZone, Rate, StickyZone};
use sync_transport::Address;

/// Longer than any answer takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

const ONE: &str = "/api/9/http/keyvals/one";
const TWO: &str = "/api/9/stream/keyvals/two";

/// A node with a zone of each kind and its API; it ends with its runtime.
struct Server {
    api: Api,
    node: Node,
    address: Address,
    _runtime: tokio::runtime::Runtime,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The code of an error in the words of NGINX Plus.
    #[track_caller]
    fn error(&self) -> (u16, String) {
        let body = self.json();
        assert_eq!(body["error"]["status"], self.status, "{body}");
        assert!(body["error"]["text"].is_string() && body["request_id"].is_string(), "{body}");
        (self.status, body["error"]["code"].as_str().expect("a code").to_owned())
    }

    fn text(&self) -> String {
        self.json()["error"]["text"].as_str().expect("a text").to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Server {
    fn start(grants: Grants) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), grants)
    }

    fn writable() -> Self {
        Self::start(Grants { write: true, decide: true, ..Grants::default() })
    }

    fn at(address: Address, grants: Grants) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        let (api, node, address) = runtime.block_on(async {
            let rate = Rate::per_hour(1).expect("a rate");
            let node = Node::builder("a")
                .plain_text()
                .keyval(KeyvalZone::builder("one").size(64 << 10))
                .keyval(KeyvalZone::builder("two").size(64 << 10).timeout(Duration::from_secs(3600)))
                .sticky(StickyZone::builder("sessions").size(64 << 10))
                .limit(LimitZone::builder("req").size(64 << 10).rate(rate))
                .start()
                .await
                .expect("a node");
            let listener = Listener::bind(&address).await.expect("a free port");
            let address = listener.address().clone();
            let api = Api::new(node.clone(), grants);
            tokio::spawn(api.clone().serve(listener, std::future::pending()));
            (api, node, address)
        });
        Self { api, node, address, _runtime: runtime }
    }

    /// Sends bytes, and reads until the server closes.
    fn exchange(&self, request: &[u8]) -> String {
        fn run(mut stream: impl Read + Write, request: &[u8]) -> String {
            // A server that refuses a request need not read all of it.
            let _ = stream.write_all(request);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8(answer).expect("text")
        }
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).expect("a connection");
                stream.set_read_timeout(Some(TIMEOUT)).expect("a time-out");
                run(stream, request)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).expect("a connection");
                stream.set_read_timeout(Some(TIMEOUT)).expect("a time-out");
                run(stream, request)
            }
            Address::Quic(address) => unreachable!("the API listens on {address} by TCP"),
        }
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let answer = self.exchange(
            format!(
                "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
            )
            .as_bytes(),
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", "")
    }

    fn with(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send(method, path, "content-type: application/json\r\n", &body.to_string())
    }

    fn check(&self, body: Value) -> Answer {
        self.with("POST", "/v1/limit_req/req", body)
    }
}

fn error(code: &str, status: u16) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn lists_and_figures() {
    let server = Server::writable();
    assert_eq!(server.get("/api/").json(), json!([1, 2, 3, 4, 5, 6, 7, 8, 9]));
    assert_eq!(server.get("/api/0/nginx").error(), error("UnknownVersion", 404));
    assert_eq!(server.get("/api/9/x").error(), error("PathNotFound", 404));
    assert_eq!(server.get("/x").error(), error("PathNotFound", 404));
    for path in [
        "",
        "http",
        "stream/",
        "http/upstreams",
        "http/caches/",
        "stream/limit_conns",
        "resolvers",
        "processes",
        "ssl",
    ] {
        assert_eq!(server.get(&format!("/api/1/{path}")).status, 200, "{path}");
    }
    // A node without peers does not synchronize, as NGINX without `zone_sync`.
    assert_eq!(server.get("/api/9/stream/zone_sync").error(), error("PathNotFound", 404));
    let nginx = server.get("/api/9/nginx?fields=pid,version,x").json();
    assert_eq!(nginx, json!({ "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION") }));
    let slabs = server.get("/api/9/slabs").json();
    assert_eq!(slabs.as_object().expect("zones").len(), 4);
    assert!(slabs["one"]["pages"]["free"].is_u64());
    assert_eq!(server.get("/api/9/slabs/one?fields=slots").json(), json!({ "slots": {} }));
    assert_eq!(server.get("/api/9/slabs/x").error(), error("SlabNotFound", 404));
    assert_eq!(server.get("/api/9/connections").json()["dropped"], 0);
    assert!(server.get("/api/9/http/requests").json()["total"].as_u64() > Some(10));
    let head = server.send("HEAD", "/api/9/nginx", "", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(server.with("POST", "/api/9/nginx", json!({})).error(), error("MethodDisabled", 405));
}

#[test]
fn pairs_come_and_go() {
    let server = Server::writable();
    assert_eq!(server.with("POST", ONE, json!({ "k": "v" })).status, 201);
    assert_eq!(server.with("POST", ONE, json!({ "k": "w" })).error(), error("KeyvalKeyExists", 409));
    assert_eq!(server.get(&format!("{ONE}?key=k")).json(), json!({ "k": "v" }));
    assert_eq!(server.get("/api/9/stream/keyvals/one/").json(), json!({ "k": "v" }));
    assert_eq!(server.get(&format!("{ONE}?key=x")).error(), error("KeyvalKeyNotFound", 404));
    assert_eq!(server.get("/api/9/http/keyvals/x").error(), error("KeyvalNotFound", 404));
    assert_eq!(server.with("PATCH", ONE, json!({ "k": "w" })).status, 204);
    assert_eq!(server.with("PATCH", ONE, json!({ "x": "w" })).error(), error("KeyvalKeyNotFound", 404));
    assert_eq!(server.get("/api/9/http/keyvals").json(), json!({ "one": { "k": "w" }, "two": {} }));
    assert_eq!(server.get("/api/9/http/keyvals?fields=").json(), json!(["one", "two"]));
    assert_eq!(server.with("PATCH", ONE, json!({ "k": null })).status, 204);
    assert_eq!(server.with("PATCH", ONE, json!({ "k": null })).error(), error("KeyvalKeyNotFound", 404));
    assert_eq!(
        server.with("POST", TWO, json!({ "a": "1", "b": { "value": "2", "expire": 60_000 } })).status,
        201
    );
    assert_eq!(
        server.with("POST", TWO, json!({ "c": "1", "d": "2" })).error(),
        error("KeyvalFormatError", 400)
    );
    assert_eq!(server.with("PATCH", TWO, json!({ "a": { "expire": 90_000 } })).status, 204);
    let entry =
        server.node.keyval("two").and_then(|zone| zone.entry("a", server.node.now())).expect("a pair");
    let left = entry.expires_at.expect("a time").saturating_sub(server.node.now());
    assert!(left <= Duration::from_secs(90), "{left:?}");
    assert_eq!(server.send("DELETE", TWO, "", "").status, 204);
    assert_eq!(server.get(TWO).json(), json!({}));
}

#[test]
fn what_is_wrong_with_a_pair_is_named() {
    let server = Server::writable();
    let text = |body: Value| {
        let answer = server.with("POST", ONE, body);
        assert_eq!(answer.error(), error("KeyvalFormatError", 400));
        answer.text()
    };
    assert_eq!(text(json!({})), "key required");
    assert_eq!(text(json!([])), "the body must be a JSON object");
    assert!(text(json!({ "k": 1 })).starts_with("the value of key \"k\" must be a string"));
    assert_eq!(text(json!({ "k": { "value": 1 } })), "\"value\" must be a string, not 1");
    assert_eq!(
        text(json!({ "k": { "value": "v", "ttl": 1 } })),
        "unknown field \"ttl\"; known are value, expire"
    );
    assert_eq!(
        text(json!({ "k": { "value": "v", "expire": 1 } })),
        "expire is not allowed: the zone has no timeout"
    );
    assert_eq!(text(json!({ "k": null })), "key \"k\" needs a value, a string");
    assert!(server.send("POST", ONE, "", "{").text().starts_with("the body is not JSON"));
    let xml = server.send("POST", ONE, "content-type: text/xml\r\n", "<k/>");
    assert_eq!(xml.error(), error("JsonError", 415));
    // What `curl -d` says of its bodies.
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    assert_eq!(server.send("POST", ONE, form, "{\"k\":\"v\"}").status, 201);
    let large = server.with("POST", ONE, json!({ "l": "v".repeat(30 << 10) }));
    assert_eq!(large.status, 413, "{}", large.body);
    assert_eq!(server.with("POST", ONE, json!({ "l": "v".repeat(2 << 20) })).status, 413);
    assert_eq!(server.get(ONE).json(), json!({ "k": "v" }));
}

#[test]
fn limits_are_checked_counted_and_reset() {
    let server = Server::writable();
    let passed = server.check(json!({ "key": "a" }));
    assert_eq!((passed.status, passed.json()["status"].as_str()), (200, Some("PASSED")));
    let rejected = server.check(json!({ "key": "a" }));
    assert_eq!((rejected.status, rejected.json()["status"].as_str()), (429, Some("REJECTED")));
    // An hour since the first one.
    let wait: u64 = rejected.header("retry-after").expect("seconds").parse().expect("seconds");
    assert!((3500..=3600).contains(&wait), "{wait}");
    let delayed = server.check(json!({ "key": "a", "burst": 1 })).json();
    assert_eq!(delayed["status"], "DELAYED");
    assert!(delayed["wait_ms"].as_u64() > Some(3_500_000) && delayed["remaining"] == 0, "{delayed}");
    // Never: no time after which to try again.
    assert_eq!(server.check(json!({ "key": "b", "cost": 2 })).header("retry-after"), None);
    let counters =
        json!({ "passed": 1, "delayed": 1, "rejected": 2, "delayed_dry_run": 0, "rejected_dry_run": 0 });
    assert_eq!(server.get("/api/9/http/limit_reqs").json(), json!({ "req": counters }));
    assert_eq!(server.send("DELETE", "/api/9/http/limit_reqs/req", "", "").status, 204);
    assert_eq!(server.get("/api/9/http/limit_reqs/req").json()["rejected"], 0);
    assert_eq!(server.get("/api/9/http/limit_reqs/x").error(), error("LimitReqNotFound", 404));
    let text = |body: Value| {
        let answer = server.check(body);
        assert_eq!(answer.error(), error("FormatError", 400));
        answer.text()
    };
    assert_eq!(text(json!({})), "\"key\" is missing");
    assert_eq!(text(json!({ "key": "" })), "\"key\" must not be empty");
    assert_eq!(text(json!({ "key": "a", "cost": 0.5 })), "\"cost\" must be a whole number, not 0.5");
    assert_eq!(
        text(json!({ "key": "a", "burst": -1 })),
        "\"burst\" must be a whole number of 0 or more, not -1"
    );
    assert!(text(json!({ "key": "a", "rate": "fast" })).starts_with("\"rate\": rate `fast`"));
    assert!(
        text(json!({ "key": "a", "nodelay": true, "delay": 1 }))
            .starts_with("\"nodelay\" contradicts \"delay\"")
    );
    assert!(text(json!({ "key": "a", "bursts": 1 })).starts_with("unknown field \"bursts\""));
    assert_eq!(server.get("/v1/limit_req/req").error(), error("MethodDisabled", 405));
}

#[test]
fn one_status_says_whether_a_request_may_go_on() {
    let server = Server::writable();
    let ask = |query: &str| server.get(&format!("/v1/auth_request?{query}"));
    let told = |answer: &Answer| (answer.status, answer.header("x-sync-status").map(str::to_owned));
    let both = "blocklist=one&limit_req=req&burst=1&key=k";
    for remaining in ["1", "0"] {
        let answer = ask(both);
        assert_eq!(told(&answer), (204, Some("204".to_owned())));
        assert_eq!(answer.header("x-ratelimit-remaining"), Some(remaining));
        assert_eq!((answer.header("retry-after"), answer.body.as_str()), (None, ""));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        // A look costs nothing.
        assert_eq!(server.send("HEAD", &format!("/v1/auth_request?{both}"), "", "").status, 204);
    }
    let refused = ask(both);
    assert_eq!(told(&refused), (429, Some("429".to_owned())));
    let wait: u64 = refused.header("retry-after").expect("seconds").parse().expect("seconds");
    assert!((3500..=3600).contains(&wait), "{wait}");
    for deny in [401, 403] {
        assert_eq!(told(&ask(&format!("{both}&deny={deny}"))), (deny, Some("429".to_owned())));
    }
    let never = ask("limit_req=req&key=k&cost=5");
    assert_eq!((never.status, never.header("retry-after")), (429, None));

    // Who is blocked is not charged.
    assert_eq!(server.with("POST", ONE, json!({ "bad": "spam" })).status, 201);
    let blocked = ask("blocklist=one&limit_req=req&key=bad&deny=429");
    assert_eq!(told(&blocked), (403, Some("403".to_owned())));
    assert_eq!(ask("limit_req=req&key=bad").status, 204);
    assert_eq!(ask("blocklist=one&key=good").status, 204);

    assert_eq!(ask("limit_req=x&key=k").error(), error("LimitReqNotFound", 404));
    assert_eq!(ask("blocklist=x&key=k").error(), error("KeyvalNotFound", 404));
    assert_eq!(ask("limit_req=req").error(), error("FormatError", 400));
    assert_eq!(server.send("POST", "/v1/auth_request", "", "").error(), error("MethodDisabled", 405));

    // A limit needs the grant, a look at a list does not.
    server.api.set_grants(Grants::default());
    assert_eq!(ask(both).error(), error("DecideDisabled", 403));
    assert_eq!(ask("blocklist=one&key=bad").status, 403);
}

#[test]
fn sessions_are_bytes() {
    let server = Server::writable();
    let path = "/v1/sticky/sessions/a%2Fb%FF";
    assert_eq!(server.get(path).error(), error("SessionNotFound", 404));
    assert_eq!(server.with("PUT", path, json!({ "server": "10.0.0.7:80" })).status, 204);
    assert_eq!(server.get(path).json(), json!({ "server": "10.0.0.7:80" }));
    let zone = server.node.sticky("sessions").expect("a zone");
    assert_eq!(zone.peek(b"a/b\xff", server.node.now()).as_deref(), Some(&b"10.0.0.7:80"[..]));
    assert_eq!(server.send("DELETE", path, "", "").status, 204);
    assert_eq!(server.send("DELETE", path, "", "").status, 204);
    assert_eq!(server.get(path).status, 404);
    assert_eq!(server.with("PUT", path, json!({ "serv": "x" })).text(), "\"server\" is missing");
    assert_eq!(server.get("/v1/sticky/x/y").error(), error("StickyNotFound", 404));
    assert_eq!(server.get("/v1/sticky/sessions/").error(), error("PathNotFound", 404));
}

#[test]
fn nothing_is_changed_that_is_not_granted() {
    let server = Server::start(Grants::default());
    for (method, path) in
        [("POST", ONE), ("PATCH", ONE), ("DELETE", ONE), ("DELETE", "/api/9/http/limit_reqs/req")]
    {
        let answer = server.with(method, path, json!({ "k": "v" }));
        assert_eq!(answer.error(), error("MethodDisabled", 405), "{method} {path}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    let session = "/v1/sticky/sessions/s";
    assert_eq!(server.check(json!({ "key": "a" })).error(), error("DecideDisabled", 403));
    assert_eq!(server.with("PUT", session, json!({ "server": "x" })).error(), error("DecideDisabled", 403));
    assert_eq!(server.send("DELETE", session, "", "").error(), error("DecideDisabled", 403));
    assert_eq!(server.get(session).error(), error("SessionNotFound", 404));
    // A reload grants it to the connections of before, too.
    server.api.set_grants(Grants { decide: true, ..Grants::default() });
    assert_eq!(server.check(json!({ "key": "a" })).status, 200);
    assert_eq!(server.with("POST", ONE, json!({ "k": "v" })).status, 405);
}

#[test]
fn clients_are_refused_by_address() {
    let deny = vec!["127.0.0.0/8".parse().expect("a range")];
    let server = Server::start(Grants { access: AccessList::new(Vec::new(), deny), ..Grants::default() });
    for path in ["/api", "/v1/status", "/healthz"] {
        assert_eq!(server.get(path).error(), error("Forbidden", 403), "{path}");
    }
    server.api.set_grants(Grants::default());
    assert_eq!(server.get("/api").status, 200);
}

#[test]
fn clients_prove_who_they_are() {
    // `open sesame`, by `openssl passwd -6`.
    const USERS: &str = "ann:$6$abcdefgh$CkjGkP7IIgZVUCNlt.Vi53LOYJLXZ5KzdpzEYCj01XGruA1hxZYJqccTU2zz68oJwAGsd1iPty5F7dHIatUTy/\n";
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(USERS.as_bytes()).expect("written");
    let users = UsersFile::load(file.path()).expect("users");
    let server = Server::start(Grants { write: true, users: Some(users), ..Grants::default() });
    let get = |authorization: &str| server.send("GET", "/api", authorization, "").status;
    // ann:open sesame, ann:open sesamy, bob:open sesame
    for _ in 0..2 {
        assert_eq!(get("authorization: Basic YW5uOm9wZW4gc2VzYW1l\r\n"), 200);
    }
    for wrong in [
        "",
        "authorization: Basic YW5uOm9wZW4gc2VzYW15\r\n",
        "authorization: Basic Ym9iOm9wZW4gc2VzYW1l\r\n",
        "authorization: Basic %%%\r\n",
        "authorization: Bearer YW5uOm9wZW4gc2VzYW1l\r\n",
    ] {
        assert_eq!(get(wrong), 401, "{wrong}");
    }
    assert!(server.get("/api").header("www-authenticate").is_some_and(|value| value.starts_with("Basic ")));
    assert_eq!(server.with("POST", ONE, json!({ "k": "v" })).status, 401);
    // What probes a node has no password.
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.get("/readyz").status, 200);
    assert_eq!(server.get("/v1/status").status, 401);
}

#[test]
fn a_unix_socket_serves_too_and_goes_with_its_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api.sock");
    // Left by a dead process.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let server = Server::at(Address::Unix(path.clone()), Grants::default());
    assert_eq!(server.get("/healthz").body, "ok\n");
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_stopping_node_takes_no_changes_and_says_so() {
    let server = Server::writable();
    assert_eq!(server.with("POST", ONE, json!({ "k": "v" })).status, 201);
    server.api.stop_changes();
    let refused = server.with("PATCH", ONE, json!({ "k": "w" }));
    assert_eq!(refused.error(), error("Stopping", 503));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(server.check(json!({ "key": "a" })).status, 503);
    assert_eq!(server.get(ONE).json(), json!({ "k": "v" }));
    server.node.stop();
    assert_eq!((server.get("/readyz").status, server.get("/healthz").status), (503, 200));
}

#[test]
fn a_status_carries_digests_unless_told_not_to() {
    let server = Server::writable();
    let status = server.get("/v1/status").json();
    assert_eq!((&status["node"], &status["ready"]), (&json!("a"), &json!(true)));
    assert_eq!(status["zones"]["one"]["digest"].as_str().map(str::len), Some(16));
    assert!(server.get("/v1/status?digests=false").json()["zones"]["one"]["digest"].is_null());
    assert_eq!(server.get("/v1/status?x").error(), error("FormatError", 400));
}

#[test]
fn what_is_too_large_or_no_http_ends_the_connection() {
    let server = Server::writable();
    let head = format!("GET /api HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    let answer = server.exchange(head.as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer = server.exchange(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not HTTP at all\r\n\r\n");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let server = Server::writable();
    let Address::Tcp(address) = server.address else { panic!("a port") };
    let taken = SocketAddr::new(IpAddr::from(Ipv4Addr::LOCALHOST), address.port());
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let error = runtime.block_on(Listener::bind(&Address::Tcp(taken))).expect_err("taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}
