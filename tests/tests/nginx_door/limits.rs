//! Limits and the blocklist, request by request, and what is left of them without a node.

use serde_json::json;
use tests::{Config, wait_for};

use crate::{HTTP_PORT, IMPATIENCE, LIMIT, LIMITS, Place, start_nginx};
use tests::Loopback;

/// The lines that serve clients while the node is away.
const OPEN: &str = "error_page 502 503 504 = @undecided;";

#[test]
fn limits_and_the_blocklist_are_shared_by_two_nginxes() {
    let zones = [("100r/s", "5r/h".to_owned()), ("burst = 20", "burst = 4".to_owned())];
    let Place { nginxes, nodes, apps: _apps, listen: _listen, origin, cluster } =
        Place::new(&zones, LIMITS, &[(IMPATIENCE, "read_timeout 30s".to_owned())]);
    let [first, second] = &nginxes;
    let [a, mut b] = nodes;

    // Five at once, HEAD and POST among them: nginx asks by GET whatever its client does.
    for (left, method) in (0..5).rev().zip(["GET", "HEAD", "POST", "GET", "GET"]) {
        let body = (method == "POST").then_some("a body");
        let reply = first.http.request(method, "/", body).expect("an answer").expect(200);
        assert_eq!(reply.headers["x-ratelimit-remaining"], left.to_string());
    }
    let refused = first.get("/", "").expect("an answer").expect(429);
    let wait: u64 = refused.headers["retry-after"].parse().expect("seconds");
    assert!((600..=720).contains(&wait), "{wait}");
    // A client cannot choose its parameters.
    let hostile = [("x-sync-cost", "0"), ("x-sync-key", "other"), ("x-sync-burst", "1000")];
    first.http.request_with("GET", "/?cost=0&key=other", &hostile, None).expect("an answer").expect(429);
    let status = |nginx: &tests::Nginx, expected: u16| {
        wait_for(&format!("the answer {expected}"), LIMIT, || match nginx.get("/", "")? {
            reply if reply.status == expected => Ok(()),
            reply => Err(format!("{reply:?}")),
        });
    };
    status(second, 429);

    // Put on one node, refused by the nginx beside the other.
    let blocked = json!({ "127.0.0.0/8": "spam" });
    b.api.post("/api/9/http/keyvals/blocked", &blocked).expect(201);
    status(first, 403);
    status(second, 403);
    b.api.delete("/api/9/http/keyvals/blocked").expect(204);
    status(first, 429);

    // Without the node beside it an nginx serves everybody, or nobody if it is told so.
    a.kill();
    status(first, 200);
    assert_eq!(first.get("/forbidden", "").expect("an answer").expect(403).body, "mine");
    status(second, 429);
    let listen = Loopback::claim();
    let closed = [(OPEN, String::new())];
    // A node's address where nobody listens any more.
    let dead = cluster.start_with(Config { ip: cluster.loopback("a").ip(), ..cluster.config("a") });
    let mut third = start_nginx("closed", &cluster, &dead, &origin, listen.port(HTTP_PORT), LIMITS, &closed);
    dead.kill();
    third.wait_up();
    third.get("/", "").expect("an answer").expect(500);

    // A node that does not grant decisions is no refusal of the client.
    let api = vec!["decide = false".to_owned()];
    b.reload(Config { api, ..b.config.clone() }, cluster.directory());
    status(second, 500);
}
