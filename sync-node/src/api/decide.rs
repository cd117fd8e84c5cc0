//! The decision API: for a proxy, or anything that speaks HTTP, to use limits and sessions.
//!
//! `POST /v1/limit_req/{zone}` checks a limit; PUT, GET and DELETE on `/v1/sticky/{zone}/{session}` learn, look up and forget the server of a
//! session. A session is any sequence of bytes, percent-encoded.

use super::Api;
use super::json::{self, Fields};
use super::problem::Problem;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode, header::RETRY_AFTER};
use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use sync_store::{Check, Decision, Delay, Outcome, Rate, StickyZone};

pub(super) const CODE: &str = "FormatError";

/// `POST /v1/limit_req/{zone}`: one check, with what it does not say taken from the zone.
pub(super) async fn limit_req(
    State(api): State<Api>,
    Path(zone): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    require_decide(&api)?;
    let zone = api.node().limit(&zone).ok_or_else(limit_req_not_found)?;
    let (key, check) = read_check(json::object(request, CODE).await?)?;
    let decision = api.change(|now| Ok(zone.check(&key, &check, now)))?;
    Ok(respond(&decision))
}

pub(super) fn limit_req_not_found() -> Problem {
    Problem::not_found("LimitReqNotFound", "limit_req not found")
}

fn read_check(object: serde_json::Map<String, serde_json::Value>) -> Result<(String, Check), Problem> {
    let mut fields = Fields::new(object, CODE);
    let key = fields.required_text("key")?;
    let cost = fields.integer("cost")?;
    let burst = fields.count("burst")?;
    let delay = fields.count("delay")?;
    let nodelay = fields.flag("nodelay")?;
    let rate = fields.text("rate")?;
    fields.finish()?;
    let delay = match (delay, nodelay) {
        (Some(_), Some(true)) => {
            return Err(Problem::format(CODE, "\"nodelay\" contradicts \"delay\"; leave one of them out"));
        }
        (Some(delay), _) => Some(Delay::After(delay)),
        (None, Some(true)) => Some(Delay::Nodelay),
        (None, Some(false)) => Some(Delay::After(0)),
        (None, None) => None,
    };
    let rate = rate
        .map(|text| text.parse::<Rate>())
        .transpose()
        .map_err(|error| Problem::format(CODE, format!("\"rate\": {error}")))?;
    let check = Check { cost: cost.unwrap_or(1), burst, delay, rate, ..Check::default() };
    Ok((key, check))
}

fn respond(decision: &Decision) -> Response {
    let status =
        if decision.outcome == Outcome::Rejected { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
    let body = json!({
        "status": decision.outcome.as_str(),
        "wait_ms": millis_up(decision.wait()),
        "remaining": decision.remaining(),
        "reset_ms": millis_up(decision.reset()),
    });
    let mut response = json::respond(body.to_string());
    *response.status_mut() = status;
    if let Some(seconds) = retry_after(decision) {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// Seconds until a rejected request is worth another try. `None` for one that was admitted, and for a cost that rate and burst never hold:
/// waiting does not help.
pub(super) fn retry_after(decision: &Decision) -> Option<u64> {
    let after = decision.retry_after().filter(|_| decision.outcome == Outcome::Rejected)?;
    Some(seconds_up(after).max(1))
}

/// Rounded up, as [`millis_up`].
pub(super) fn seconds_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
}

/// Rounded up: who waits that long has waited long enough.
fn millis_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// `PUT /v1/sticky/{zone}/{session}`.
pub(super) async fn learn(State(api): State<Api>, request: Request) -> Result<StatusCode, Problem> {
    require_decide(&api)?;
    let (zone, session) = target(&api, &request)?;
    let mut fields = Fields::new(json::object(request, CODE).await?, CODE);
    let server = fields.required_text("server")?;
    fields.finish()?;
    api.change(|now| zone.learn(&session, &server, now).map_err(|e| Problem::from_zone(&e, CODE)))?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/sticky/{zone}/{session}`: the server, and the session counts as used. Where `decide` is not granted, and for HEAD, it does not.
pub(super) async fn lookup(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (zone, session) = target(&api, &request)?;
    let now = api.node().now();
    let server = if api.grants().decide && request.method() == Method::GET {
        zone.lookup(&session, now)
    } else {
        zone.peek(&session, now)
    };
    let server = server.ok_or_else(|| Problem::not_found("SessionNotFound", "session not found"))?;
    Ok(json::respond(json!({ "server": String::from_utf8_lossy(&server) }).to_string()))
}

/// `DELETE /v1/sticky/{zone}/{session}`: afterwards the session is not there, whether it was or not.
pub(super) async fn forget(State(api): State<Api>, request: Request) -> Result<StatusCode, Problem> {
    require_decide(&api)?;
    let (zone, session) = target(&api, &request)?;
    api.change(|now| zone.forget(&session, now).map_err(|e| Problem::from_zone(&e, CODE)))?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn require_decide(api: &Api) -> Result<(), Problem> {
    if api.grants().decide { Ok(()) } else { Err(Problem::decide_disabled()) }
}

/// Zone and session of the path. Not by axum's extractor, which wants UTF-8: a session need not be.
fn target(api: &Api, request: &Request) -> Result<(Arc<StickyZone>, Vec<u8>), Problem> {
    let mut segments = request.uri().path().rsplit('/').map(percent_decode_str);
    let (session, zone) = (segments.next(), segments.next());
    let session: Vec<u8> = session.into_iter().flatten().collect();
    let zone = zone.map(|zone| zone.decode_utf8_lossy().into_owned()).unwrap_or_default();
    let zone = api.node().sticky(&zone);
    Ok((zone.ok_or_else(|| Problem::not_found("StickyNotFound", "sticky zone not found"))?, session))
}
