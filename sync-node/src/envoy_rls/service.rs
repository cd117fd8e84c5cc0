//! The gRPC services of the door: decisions, quotas, and what clients and load balancers ask of any gRPC server: health and reflection.

use super::Inner;
use super::decide::decide;
use super::schema::{
    DESCRIPTORS, RateLimitQuotaServiceServer, RateLimitRequest, RateLimitResponse, RateLimitService,
    RateLimitServiceServer,
};
use super::stream::Quoter;
use axum::Router;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// Bytes of a request. Envoy's have hundreds.
const REQUEST_MAX: usize = 64 << 10;
/// Bytes of a message of reports. Envoy's have some hundred for each bucket, and all buckets are in one.
const REPORTS_MAX: usize = 1 << 20;
/// How late health may be.
const HEALTH_INTERVAL: Duration = Duration::from_millis(100);

type Decisions = RateLimitServiceServer<Decider>;
type Quotas = RateLimitQuotaServiceServer<Quoter>;

/// What all services are by name; health is answered without a password.
pub(super) const HEALTH_PREFIX: &str = "/grpc.health.v1.Health/";

/// The services as one, and what says whether they serve.
pub(super) fn services(inner: &Arc<Inner>) -> (Router, HealthReporter) {
    let reporter = HealthReporter::new();
    let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // What they are made of was compiled in.
    let v1 = reflection().build_v1().expect("the schema describes itself");
    let v1alpha = reflection().build_v1alpha().expect("the schema describes itself");
    let decisions = Decisions::new(Decider(Arc::clone(inner))).max_decoding_message_size(REQUEST_MAX);
    let quotas = Quotas::new(Quoter::new(Arc::clone(inner))).max_decoding_message_size(REPORTS_MAX);
    let router = Router::new()
        .route_service(&methods(&decisions), decisions)
        .route_service(&methods(&quotas), quotas)
        .route_service(&methods(&health), health)
        .route_service(&methods(&v1), v1)
        .route_service(&methods(&v1alpha), v1alpha)
        .fallback(|| async {
            Status::unimplemented("there is no such service; reflection lists those that there are")
                .into_http::<Body>()
        });
    (router, reporter)
}

/// The paths of a service.
fn methods<S: NamedService>(_: &S) -> String {
    format!("/{}/{{method}}", S::NAME)
}

/// Says whether the node serves, as `/readyz` does, until it is dropped.
pub(super) async fn report_health(inner: Arc<Inner>, reporter: HealthReporter) {
    let mut ticks = interval(HEALTH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = None;
    loop {
        ticks.tick().await;
        let serves = inner.door.node().is_ready();
        if said.replace(serves) == Some(serves) {
            continue;
        }
        let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
        // As a whole, and by the services that matter.
        for service in ["", Decisions::NAME, Quotas::NAME] {
            reporter.set_service_status(service, status).await;
        }
    }
}

/// Answers `ShouldRateLimit`.
#[derive(Debug)]
struct Decider(Arc<Inner>);

#[tonic::async_trait]
impl RateLimitService for Decider {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let Self(inner) = self;
        let options = inner.options();
        let Some(_change) = inner.door.begin_change() else {
            return Err(Status::unavailable("the node is stopping"));
        };
        let now = inner.door.node().now();
        decide(&options.rules, &inner.zone, request.get_ref(), &options.response_headers, now)
            .map(Response::new)
            .map_err(Status::invalid_argument)
    }
}
