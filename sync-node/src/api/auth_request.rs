//! `GET /v1/auth_request`: whether a request may go on, for proxies that ask by a subrequest and look at the status alone: nginx's
//! `auth_request`, which sends no body and no method but GET.
//!
//! One question covers a blocklist and a limit, because nginx asks one per location: 204, 403 if the key is blocked, and `deny` (429 unless it
//! says otherwise) if it is over the limit. nginx takes 401 and 403 for a refusal and everything else for a failure, so `X-Sync-Status`
//! repeats what the client should be told.

mod parameters;

use super::decide::{limit_req_not_found, require_decide, retry_after};
use super::plus::keyvals;
use super::problem::Problem;
use super::{Api, decide};
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use parameters::Question;
use sync_store::{Check, Delay, Outcome};

const STATUS: HeaderName = HeaderName::from_static("x-sync-status");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

pub(super) async fn answer(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let question = Question::read(request.uri().query().unwrap_or_default(), request.headers())?;
    // Zones are looked up before anything is decided: a name that is wrong shows with the first request, not with the first that is not blocked.
    let blocklist = question.blocklist.as_ref().map(|zone| keyvals::find(&api, zone)).transpose()?;
    let limit = match &question.limit_req {
        Some(zone) => {
            require_decide(&api)?;
            Some(api.node().limit(zone).ok_or_else(limit_req_not_found)?)
        }
        None => None,
    };

    if blocklist.is_some_and(|zone| zone.lookup(&question.blocklist_key, api.node().now()).is_some()) {
        return Ok(respond(StatusCode::FORBIDDEN, StatusCode::FORBIDDEN));
    }
    let Some(limit) = limit else { return Ok(respond(StatusCode::NO_CONTENT, StatusCode::NO_CONTENT)) };
    let check = Check {
        // HEAD changes nothing, here as everywhere: it looks, and tells what is left.
        cost: if request.method() == Method::HEAD { 0 } else { question.cost },
        burst: question.burst,
        rate: question.rate,
        // The client of this proxy cannot be made to wait.
        delay: Some(Delay::Nodelay),
        ..Check::default()
    };
    let decision = api.change(|now| Ok(limit.check(&question.key, &check, now)))?;
    let mut response = match decision.outcome {
        Outcome::Rejected => respond(question.deny, StatusCode::TOO_MANY_REQUESTS),
        _ => respond(StatusCode::NO_CONTENT, StatusCode::NO_CONTENT),
    };
    let headers = response.headers_mut();
    headers.insert(REMAINING, decision.remaining().into());
    headers.insert(RESET, decide::seconds_up(decision.reset()).into());
    if let Some(seconds) = retry_after(&decision) {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    Ok(response)
}

/// An answer without a body: nobody reads it.
fn respond(status: StatusCode, told: StatusCode) -> Response {
    let mut response = status.into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(STATUS, told.as_u16().into());
    response
}
