//! What is generated from Envoy's schema, by the names that the door uses.

mod generated {
    // Written by a machine.
    #![allow(
        missing_docs,
        unnameable_types,
        unreachable_pub,
        unused_qualifications,
        clippy::pedantic,
        clippy::nursery
    )]
    include!(concat!(env!("OUT_DIR"), "/envoy_rls.rs"));
}

use generated::envoy::r#type::v3::RateLimitUnit;

pub(super) use generated::envoy::service::rate_limit_quota::v3::rate_limit_quota_response::BucketAction;
pub(super) use generated::envoy::service::rate_limit_quota::v3::rate_limit_quota_response::bucket_action::{
    AbandonAction, BucketAction as Action, QuotaAssignmentAction,
};
pub(super) use generated::envoy::service::rate_limit_quota::v3::rate_limit_quota_service_server::{
    RateLimitQuotaService, RateLimitQuotaServiceServer,
};
pub(super) use generated::envoy::service::rate_limit_quota::v3::rate_limit_quota_usage_reports::BucketQuotaUsage;
pub(super) use generated::envoy::service::rate_limit_quota::v3::{
    BucketId, RateLimitQuotaResponse, RateLimitQuotaUsageReports,
};
pub(super) use generated::envoy::r#type::v3::rate_limit_strategy::{BlanketRule, Strategy};
pub(super) use generated::envoy::r#type::v3::{RateLimitStrategy, TokenBucket};

pub(super) use generated::envoy::config::core::v3::HeaderValue;
pub(super) use generated::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
pub(super) use generated::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
#[cfg(test)]
pub(super) use generated::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
pub(super) use generated::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
pub(super) use generated::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit,
};
pub(super) use generated::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
pub(super) use generated::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

/// The schema as reflection answers it.
pub(super) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/envoy_rls.bin"));

/// The unit of a limit that a request brings along, as one of a limit in an answer.
pub(super) const fn unit(unit: RateLimitUnit) -> Option<Unit> {
    match unit {
        RateLimitUnit::Unknown => None,
        RateLimitUnit::Second => Some(Unit::Second),
        RateLimitUnit::Minute => Some(Unit::Minute),
        RateLimitUnit::Hour => Some(Unit::Hour),
        RateLimitUnit::Day => Some(Unit::Day),
        RateLimitUnit::Month => Some(Unit::Month),
        RateLimitUnit::Year => Some(Unit::Year),
    }
}
