//! The door's server: HTTP/2 with a bound and a time-out for everything a client could have too much of.

use super::service::{HEALTH_PREFIX, report_health, services};
use super::{EnvoyRls, Inner, Options};
use crate::Listener;
use crate::api::guard::credentials;
use crate::door::{Client, Connection};
use axum::Router;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tonic::Status;
use tracing::debug;

/// Requests of a connection at a time; Envoy opens another connection for more.
const STREAMS_MAX: u32 = 256;
/// Bytes of the head of a request.
const HEAD_MAX: u32 = 16 << 10;
/// Bytes that a client may send ahead of what was read, for one request and for all of a connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// How long a connection may take to its first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a request may take until its answer begins, which is its body: a decision waits for nothing.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const GRPC_STATUS: &str = "grpc-status";
/// How long the end of a connection waits for requests that are under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

impl EnvoyRls {
    /// Serves clients until `stop` is ready, and then gives requests that are under way a few seconds to end.
    pub async fn serve(self, listener: Listener, stop: impl Future<Output = ()>) {
        let inner = self.inner;
        let bounds = inner.options();
        let room = Arc::new(Semaphore::new(bounds.connections));
        let (router, reporter) = services(&inner);
        let health = tokio::spawn(report_health(Arc::clone(&inner), reporter));
        let (stopping, stopped) = watch::channel(false);
        let mut stop = pin!(stop);
        loop {
            let (stream, client) = tokio::select! {
                accepted = listener.next() => accepted,
                () = &mut stop => break,
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                inner.door.counters().dropped_connection();
                debug!(%client, "closed a connection of Envoy: too many are open");
                continue;
            };
            let (inner, router, stopped) = (Arc::clone(&inner), router.clone(), stopped.clone());
            let silence_max = bounds.timeout;
            tokio::spawn(async move {
                let _place = place;
                let _counted = inner.door.counters().connection();
                if let Err(error) = attend(&inner, router, stream, client, silence_max, stopped).await {
                    debug!(%client, %error, "a connection of Envoy ended");
                }
            });
        }
        drop(stopped);
        stopping.send_replace(true);
        if timeout(STOP_TIMEOUT + STOP_TIMEOUT, stopping.closed()).await.is_err() {
            debug!("requests of Envoy were cut short");
        }
        health.abort();
    }
}

/// Serves one client until it goes, has to, or is silent for too long.
async fn attend(
    inner: &Arc<Inner>,
    router: Router,
    stream: Connection,
    client: Client,
    silence_max: Option<Duration>,
    mut stopped: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let traffic = Arc::new(Traffic::default());
    let service = {
        let (inner, traffic) = (Arc::clone(inner), Arc::clone(&traffic));
        let router = TowerToHyperService::new(router);
        let stopped = stopped.clone();
        service_fn(move |mut request: Request<Incoming>| {
            let under_way = Arc::new(UnderWay::new(Arc::clone(&traffic), stopped.clone()));
            request.extensions_mut().insert(Arc::clone(&under_way));
            answer(Arc::clone(&inner), router.clone(), client, under_way, request)
        })
    };
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let silence = traffic.silence(silence_max);
    tokio::select! {
        ended = &mut connection => return ended,
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = silence => {}
    }
    connection.as_mut().graceful_shutdown();
    timeout(STOP_TIMEOUT, connection).await.unwrap_or(Ok(()))
}

/// Requests of a connection.
#[derive(Debug, Default)]
struct Traffic {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Traffic {
    /// Ready when there was no request for a while, one to two times as long as is asked for.
    async fn silence(&self, patience: Option<Duration>) {
        sleep(patience.map_or(FIRST_REQUEST_TIMEOUT, |patience| patience.min(FIRST_REQUEST_TIMEOUT))).await;
        let mut seen = 0;
        loop {
            let begun = self.begun.load(Relaxed);
            if begun == seen && self.ended.load(Relaxed) == begun {
                return;
            }
            seen = begun;
            match patience {
                Some(patience) => sleep(patience).await,
                None => pending().await,
            }
        }
    }
}

/// A request that has begun; it ends in whatever way. Among its extensions, for those that go on after their answer has begun.
#[derive(Debug)]
pub(super) struct UnderWay {
    traffic: Arc<Traffic>,
    /// Whether the door is closing.
    pub(super) stopped: watch::Receiver<bool>,
}

impl UnderWay {
    fn new(traffic: Arc<Traffic>, stopped: watch::Receiver<bool>) -> Self {
        traffic.begun.fetch_add(1, Relaxed);
        Self { traffic, stopped }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.traffic.ended.fetch_add(1, Relaxed);
    }
}

/// Answers one request: lets it in, and passes it on.
async fn answer(
    inner: Arc<Inner>,
    router: TowerToHyperService<Router>,
    client: Client,
    _under_way: Arc<UnderWay>,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let _counted = inner.door.counters().request();
    let answered = async {
        match admit(&inner, client, &request).await {
            Ok(guest) => {
                request.extensions_mut().insert(guest);
                router.call(request).await
            }
            Err(refused) => Ok(refused.into_http()),
        }
    };
    let response = timeout(REQUEST_TIMEOUT, answered).await.unwrap_or_else(|_| {
        Ok(Status::deadline_exceeded("the request did not come to its end in time").into_http())
    });
    if let Ok(response) = &response
        // Of an error it stands in the head of the answer, else behind its body.
        && response.headers().get(GRPC_STATUS).is_some_and(|status| status != "0")
    {
        inner.door.counters().error();
    }
    response
}

async fn admit(inner: &Inner, client: Client, request: &Request<Incoming>) -> Result<Guest, Status> {
    let options = inner.options();
    check_address(&options, &client)?;
    let mut guest = Guest { client, user: None, options: Arc::clone(&options) };
    let Some(users) = options.users.clone() else { return Ok(guest) };
    if request.uri().path().starts_with(HEALTH_PREFIX) {
        return Ok(guest);
    }
    let (name, password) = credentials(request.headers()).ok_or_else(unauthenticated)?;
    guest.user = Some(name.clone());
    if users.remembers(&name, &password)
        || inner.door.heavy(move || users.verify(&name, &password)).await.unwrap_or(false)
    {
        return Ok(guest);
    }
    Err(unauthenticated())
}

fn unauthenticated() -> Status {
    Status::unauthenticated("needs a user and password of basic authentication in `authorization`")
}

/// Who was let in, and by which options. Among the extensions of a request, for those that last longer than options do.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    client: Client,
    user: Option<String>,
    options: Arc<Options>,
}

impl Guest {
    /// Looks again if the options were replaced: whether the client would still be let in with what it said then.
    pub(super) fn renew(&mut self, options: &Arc<Options>) -> Result<(), Status> {
        if Arc::ptr_eq(&self.options, options) {
            return Ok(());
        }
        check_address(options, &self.client)?;
        let agrees = match (&self.options.users, &options.users, &self.user) {
            // Nobody is asked.
            (_, None, _) => true,
            (Some(old), Some(new), Some(user)) => old.agrees(new, user),
            (_, Some(_), _) => false,
        };
        if !agrees {
            return Err(unauthenticated());
        }
        self.options = Arc::clone(options);
        Ok(())
    }
}

fn check_address(options: &Options, client: &Client) -> Result<(), Status> {
    if options.access.allows(client.address) {
        return Ok(());
    }
    Err(Status::permission_denied("access is not allowed from this address"))
}
