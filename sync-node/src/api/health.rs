//! Is the node alive, may it have traffic, and what does it say about itself.

use super::problem::Problem;
use super::{Api, json};
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// `GET /healthz`: 200 as long as the process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: 200 if the node has joined and is not stopping; otherwise 503 and the reason.
pub(super) async fn ready(State(api): State<Api>) -> Response {
    match api.node().unready() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// `GET /v1/status`: [`Status`](crate::status::Status) with the digests of all zones, which takes reading them; `?digests=false` leaves the
/// digests out.
pub(super) async fn status(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let status = match query.as_deref() {
        None | Some("") => api.heavy(|api| api.node().status_with_digests()).await?,
        Some("digests=false") => api.node().status(),
        Some(_) => return Err(Problem::format("FormatError", "the only argument is digests=false")),
    };
    let body = serde_json::to_vec(&status).map_err(|_| Problem::internal())?;
    Ok(json::respond(body))
}
