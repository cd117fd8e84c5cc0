//! The API's server: HTTP/1 with a bound and a time-out for everything a client could have too much of.

use super::Api;
use crate::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

/// Connections at a time; one more is closed at once and counted as dropped. Each costs up to [`HEAD_MAX`] and one body.
const CONNECTIONS_MAX: usize = 1024;
/// Bytes of a request's line and headers: NGINX's `large_client_header_buffers` (4 × 8k). Longer ones are answered 431.
const HEAD_MAX: usize = 32 << 10;
/// How long a client may take to send the head of its next request, the pause before it included: NGINX's `client_header_timeout`.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a stop waits for requests that are under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

impl Api {
    /// Serves the API until `stop` is ready, and then gives requests that are under way a few seconds to end.
    pub async fn serve(self, listener: Listener, stop: impl Future<Output = ()>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let graceful = GracefulShutdown::new();
        let router = TowerToHyperService::new(self.router());
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX);
        let mut stop = std::pin::pin!(stop);
        loop {
            let (stream, client) = tokio::select! {
                accepted = listener.next() => accepted,
                () = &mut stop => break,
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                self.counters().dropped_connection();
                debug!(limit = CONNECTIONS_MAX, "closed a connection to the API: too many are open");
                continue;
            };
            let router = router.clone();
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(client);
                router.call(request)
            });
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            let api = self.clone();
            tokio::spawn(async move {
                let _counted = api.counters().connection();
                let _place = place;
                if let Err(error) = connection.await {
                    debug!(%error, "a connection to the API ended");
                }
            });
        }
        if timeout(STOP_TIMEOUT, graceful.shutdown()).await.is_err() {
            debug!("requests to the API were cut short");
        }
    }
}
