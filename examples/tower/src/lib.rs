//! A tower layer that limits requests for the whole cluster: what one node admits counts on all others.
//!
//! It works with whatever is a tower service of HTTP requests: axum, hyper with `tower`, tonic.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use sync_store::{Check, Clock as _, Decision, LimitZone, SystemClock};
use tower_layer::Layer;
use tower_service::Service;

/// The fields of draft-ietf-httpapi-ratelimit-headers in their widespread form.
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Limits requests by a zone of a node. `key` says whose a request is; requests of nobody are not limited.
#[derive(Clone)]
pub struct ClusterLimit<K> {
    zone: Arc<LimitZone>,
    key: K,
}

impl<K> ClusterLimit<K> {
    /// A layer over a zone, such as `node.limit("clients")`.
    pub fn new(zone: Arc<LimitZone>, key: K) -> Self {
        Self { zone, key }
    }
}

impl<K> fmt::Debug for ClusterLimit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterLimit").field("zone", &self.zone.name()).finish_non_exhaustive()
    }
}

impl<S, K: Clone> Layer<S> for ClusterLimit<K> {
    type Service = Limited<S, K>;

    fn layer(&self, inner: S) -> Self::Service {
        Limited { inner, limit: self.clone() }
    }
}

/// A service whose requests are limited.
#[derive(Clone, Debug)]
pub struct Limited<S, K> {
    inner: S,
    limit: ClusterLimit<K>,
}

impl<S, K, Q, R> Service<Request<Q>> for Limited<S, K>
where
    S: Service<Request<Q>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    K: Fn(&Request<Q>) -> Option<String>,
    Q: Send + 'static,
    R: Default + Send,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        // The one that is ready, and not its clone.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        // A function call: no other node is asked, and nothing is waited for.
        let key = (self.limit.key)(&request);
        let decision = key.map(|key| self.limit.zone.check(key, &Check::default(), SystemClock.now()));
        Box::pin(async move {
            let Some(decision) = decision else { return inner.call(request).await };
            if !decision.is_admitted() {
                let mut response = Response::new(R::default());
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                describe(&mut response, &decision);
                return Ok(response);
            }
            // Without `nodelay` early requests wait for their turn.
            if !decision.wait().is_zero() {
                tokio::time::sleep(decision.wait()).await;
            }
            let mut response = inner.call(request).await?;
            describe(&mut response, &decision);
            Ok(response)
        })
    }
}

fn describe<R>(response: &mut Response<R>, decision: &Decision) {
    let headers = response.headers_mut();
    headers.insert(REMAINING, decision.remaining().into());
    headers.insert(RESET, HeaderValue::from(decision.reset().as_secs()));
    if let Some(after) = decision.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs() + 1));
    }
}
