//! Requests to the HTTP API, of any method, path and body: each has an answer, none of them is the node's own fault, and JSON is JSON.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use libfuzzer_sys::fuzz_target;
use sync_node::api::{Api, Grants};
use sync_store::{KeyvalZone, LimitZone, MatchBy, StickyZone};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// More than any answer about zones of this size.
const ANSWER_MAX: usize = 16 << 20;

const METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::PATCH, Method::DELETE, Method::PUT, Method::HEAD, Method::OPTIONS];
const PATHS: [&str; 12] = [
    "/",
    "/v1/status",
    "/v1/limit_req/req",
    "/v1/sticky/sessions/",
    "/v1/keyval/one",
    "/v1/keyval/two",
    "/api/9/http/keyvals/one",
    "/api/9/stream/keyvals/two",
    "/api/9/http/limit_reqs/req",
    "/api/9/stream/zone_sync/",
    "/api/9/",
    "/readyz",
];

#[derive(Arbitrary, Debug)]
struct Input {
    method: u8,
    path: u8,
    rest: String,
    is_json: bool,
    body: Vec<u8>,
}

struct Server {
    runtime: Runtime,
    router: Router,
}

/// One for all requests: a zone that is full or has strange keys is worth looking at, too.
static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let rate = "100r/s".parse().expect("a rate");
    let builder = sync_node::Node::builder("fuzzed")
        .plain_text()
        .keyval(KeyvalZone::builder("one").size(64 << 10))
        .keyval(KeyvalZone::builder("two").size(64 << 10).match_by(MatchBy::Ip))
        .sticky(StickyZone::builder("sessions").size(64 << 10))
        .limit(LimitZone::builder("req").size(64 << 10).rate(rate).burst(99));
    let node = runtime.block_on(builder.start()).expect("a node");
    let router = Api::new(node, Grants { write: true, decide: true, ..Grants::default() }).router();
    Server { runtime, router }
});

fuzz_target!(|input: Input| {
    let path = PATHS[usize::from(input.path) % PATHS.len()];
    let method = METHODS[usize::from(input.method) % METHODS.len()].clone();
    let mut request = Request::builder().method(method).uri(format!("{path}{}", input.rest));
    if input.is_json {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    // What is no URI never gets as far as the router.
    let Ok(request) = request.body(Body::from(input.body)) else { return };
    SERVER.runtime.block_on(async {
        let Ok(answer) = SERVER.router.clone().oneshot(request).await;
        let (head, body) = answer.into_parts();
        assert_ne!(head.status, StatusCode::INTERNAL_SERVER_ERROR, "{head:?}");
        let body = to_bytes(body, ANSWER_MAX).await.expect("a whole answer");
        let is_json = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        if is_json && !body.is_empty() {
            serde_json::from_slice::<serde_json::Value>(&body).expect("JSON");
        }
    });
});
