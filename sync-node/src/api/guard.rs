//! What every request passes: the client's address, its password, and the access log.
//!
//! `/healthz` and `/readyz` ask for no password, because what calls them (an orchestrator, a load balancer) has none, and they tell nothing
//! but whether the node is well. The lists of addresses hold for them too.

use super::problem::Problem;
use super::{Api, Client};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{ALLOW, AUTHORIZATION};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::time::Instant;
use tracing::debug;

const WITHOUT_PASSWORD: [&str; 2] = ["/healthz", "/readyz"];

pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let _counted = api.counters().request();
    let started = Instant::now();
    let request_id = format!("{:032x}", rand::random::<u128>());
    let client = request.extensions().get::<Client>().copied().unwrap_or_else(|| Client::new(None));
    let method = request.method().clone();
    let path = request.uri().path().to_owned();

    let mut response = match admit(&api, client, &path, credentials(request.headers())).await {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let allowed = response.headers_mut().remove(ALLOW);
        api.counters().error();
        response = problem.respond(&request_id);
        if let Some(allowed) = allowed {
            response.headers_mut().insert(ALLOW, allowed);
        }
    }
    debug!(%client, %method, path, status = response.status().as_u16(), took = ?started.elapsed(), request_id, "request");
    response
}

async fn admit(
    api: &Api,
    client: Client,
    path: &str,
    credentials: Option<(String, Vec<u8>)>,
) -> Result<(), Problem> {
    let grants = api.grants();
    if !grants.access.allows(client.address) {
        return Err(Problem::forbidden());
    }
    let Some(users) = &grants.users else { return Ok(()) };
    if WITHOUT_PASSWORD.contains(&path) {
        return Ok(());
    }
    let (name, password) = credentials.ok_or_else(Problem::unauthorized)?;
    if users.remembers(&name, &password) {
        return Ok(());
    }
    let users = users.clone();
    let verified = api.heavy(move |_| users.verify(&name, &password)).await?;
    if verified { Ok(()) } else { Err(Problem::unauthorized()) }
}

/// Name and password of basic authentication (RFC 7617).
pub(crate) fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((name, decoded[colon + 1..].to_vec()))
}
