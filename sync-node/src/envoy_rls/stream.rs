//! Streams of the quota service: an Envoy reports, the node assigns, for as long as both are there.

use super::connection::{Guest, UnderWay};
use super::quota::{Quotas, STREAMS_MAX};
use super::schema::{
    BucketAction, RateLimitQuotaResponse, RateLimitQuotaService, RateLimitQuotaUsageReports,
};
use super::{Inner, Rules};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

/// Between two looks at what is used up. At random, so that all Envoys are first equally often.
const TICK_MS: std::ops::RangeInclusive<u64> = 50..=150;
/// How long a client may leave its answers unread.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

type Answers = mpsc::Sender<Result<RateLimitQuotaResponse, Status>>;

/// Answers `StreamRateLimitQuotas`.
#[derive(Debug)]
pub(super) struct Quoter {
    inner: Arc<Inner>,
    room: Arc<Semaphore>,
}

impl Quoter {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, room: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }
}

#[tonic::async_trait]
impl RateLimitQuotaService for Quoter {
    type StreamRateLimitQuotasStream = ReceiverStream<Result<RateLimitQuotaResponse, Status>>;

    async fn stream_rate_limit_quotas(
        &self,
        request: Request<Streaming<RateLimitQuotaUsageReports>>,
    ) -> Result<Response<Self::StreamRateLimitQuotasStream>, Status> {
        let place = Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("there are {STREAMS_MAX} streams of quotas already"))
        })?;
        let under_way = request.extensions().get::<Arc<UnderWay>>().cloned();
        let under_way = under_way.ok_or_else(|| Status::internal("a request that has not begun"))?;
        let (answers, answered) = mpsc::channel(1);
        let guest = request.extensions().get::<Guest>().cloned();
        let mut guest = guest.ok_or_else(|| Status::internal("a client that was not let in"))?;
        let (inner, reports) = (Arc::clone(&self.inner), request.into_inner());
        tokio::spawn(async move {
            let _place = place;
            let mut quotas = Quotas::new(Arc::clone(&inner.zone));
            let mut ended = attend(&inner, &mut quotas, reports, &answers, &under_way, &mut guest).await;
            // Who is let in no more goes on with what it has until that expires, and nobody is told how much it used. The same if something else ended
            // the stream since the reload.
            if let Err(status) = guest.renew(&inner.options()) {
                quotas.forget();
                ended = ended.and(Err(status));
            }
            {
                // What is not given back while the node stops is what Envoy goes on with.
                let change = inner.door.begin_change();
                if change.is_some() {
                    quotas.close(inner.door.node().now());
                }
            }
            if let Err(status) = ended {
                debug!(%status, "a stream of quotas ended");
                // Nobody may be there to hear it.
                let _ = timeout(SEND_TIMEOUT, answers.send(Err(status))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(answered)))
    }
}

/// Serves a stream until the client ends it, or has to go.
async fn attend(
    inner: &Inner,
    quotas: &mut Quotas,
    mut reports: Streaming<RateLimitQuotaUsageReports>,
    answers: &Answers,
    under_way: &UnderWay,
    guest: &mut Guest,
) -> Result<(), Status> {
    let mut stopped = under_way.stopped.clone();
    let silence_max = inner.options().timeout;
    let mut domain = String::new();
    let (mut heard, mut tick) = (Instant::now(), next_tick());
    loop {
        let message = tokio::select! {
            message = reports.message() => match message? {
                Some(message) => Some(message),
                None => return Ok(()),
            },
            () = sleep_until(tick) => None,
            _ = stopped.wait_for(|stopped| *stopped) => return Err(stopping()),
        };
        let options = inner.options();
        guest.renew(&options)?;
        let actions = if let Some(message) = message {
            heard = Instant::now();
            if domain.is_empty() {
                domain.clone_from(&message.domain);
            }
            if domain.is_empty() || !(message.domain.is_empty() || message.domain == domain) {
                return Err(Status::invalid_argument(
                    "a stream has one domain, which its first message names",
                ));
            }
            report(inner, quotas, &options.rules, &domain, message)?
        } else {
            if silence_max.is_some_and(|silence_max| heard.elapsed() > silence_max) {
                return Err(Status::deadline_exceeded("no report has come for long"));
            }
            tick = next_tick();
            let _change = inner.door.begin_change().ok_or_else(stopping)?;
            let mut actions = Vec::new();
            quotas.tick(inner.door.node().now(), &mut actions);
            actions
        };
        if !actions.is_empty() {
            let answer = RateLimitQuotaResponse { bucket_action: actions };
            match timeout(SEND_TIMEOUT, answers.send(Ok(answer))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(Status::deadline_exceeded("assignments were not read")),
            }
        }
    }
}

fn report(
    inner: &Inner,
    quotas: &mut Quotas,
    rules: &Rules,
    domain: &str,
    message: RateLimitQuotaUsageReports,
) -> Result<Vec<BucketAction>, Status> {
    let _change = inner.door.begin_change().ok_or_else(stopping)?;
    let now = inner.door.node().now();
    let mut actions = Vec::new();
    for usage in message.bucket_quota_usages {
        quotas.report(rules, domain, usage, now, &mut actions);
    }
    Ok(actions)
}

fn stopping() -> Status {
    Status::unavailable("the node is stopping")
}

fn next_tick() -> Instant {
    Instant::now() + Duration::from_millis(rand::random_range(TICK_MS))
}
