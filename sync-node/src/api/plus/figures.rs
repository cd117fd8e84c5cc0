//! The figures of the NGINX Plus API: true ones where a node has such a thing, zero where it does not.

use super::super::decide::limit_req_not_found;
use super::super::timestamp::timestamp;
use crate::api::Api;
use crate::api::problem::Problem;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use std::sync::atomic::Ordering;
use sync_store::{LimitZone, Time};

/// Faults of certificates that NGINX has no figure of its own for.
const OTHER_FAULTS: &[&str] = &[
    "certificate_not_yet_valid",
    "revocation_unknown",
    "unknown_authority",
    "name_not_allowed",
    "certificate_unfit",
];

/// What NGINX divides its zones into; figures of memory are in pages.
const PAGE_BYTES: u64 = 4096;

/// The process. `version` and `build` are ours: a client that reads them should know what it speaks to.
pub(super) fn nginx(api: &Api) -> Value {
    let loaded_at = Time::from_millis(api.inner.loaded_at.load(Ordering::Relaxed));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "build": env!("CARGO_PKG_NAME"),
        "address": api.node().listening().first().map(ToString::to_string).unwrap_or_default(),
        "generation": api.inner.generation.load(Ordering::Relaxed),
        "load_timestamp": timestamp(loaded_at),
        "timestamp": timestamp(api.node().now()),
        "pid": std::process::id(),
        "ppid": std::os::unix::process::parent_id(),
    })
}

/// Connections of the API listener.
pub(super) fn connections(api: &Api) -> Value {
    let counters = api.counters();
    json!({
        "accepted": counters.accepted(),
        "dropped": counters.dropped(),
        "active": counters.active(),
        "idle": counters.idle(),
    })
}

/// Requests to the API.
pub(super) fn requests(api: &Api) -> Value {
    json!({ "total": api.counters().requests(), "current": api.counters().current() })
}

/// One worker: a node is one process.
pub(super) fn workers(api: &Api) -> Value {
    json!([{
        "id": 0,
        "pid": std::process::id(),
        "connections": connections(api),
        "http": { "requests": requests(api) },
    }])
}

/// Handshakes with peers; the API listener itself speaks plain HTTP. What two sides did not have in common is not told apart.
pub(super) fn ssl(api: &Api) -> Value {
    let status = api.node().status();
    let refused =
        |causes: &[&str]| -> u64 { causes.iter().filter_map(|cause| status.refusals.get(cause)).sum() };
    json!({
        "handshakes": status.handshakes,
        "handshakes_failed": status.handshakes_failed,
        "session_reuses": status.handshakes_resumed,
        "no_common_protocol": 0,
        "no_common_cipher": 0,
        "handshake_timeout": refused(&["timeout"]),
        "peer_rejected_cert": refused(&["refused_by_peer"]),
        "verify_failures": {
            "no_cert": refused(&["certificate_missing"]),
            "expired_cert": refused(&["certificate_expired"]),
            "revoked_cert": refused(&["certificate_revoked"]),
            "hostname_mismatch": refused(&["wrong_name"]),
            "other": refused(OTHER_FAULTS),
        },
    })
}

/// The memory of every zone. There are no slots: a zone has no slab allocator, but blocks in one region.
pub(super) fn slabs(api: &Api) -> Value {
    let zones = api.node().status().zones.into_iter();
    zones.map(|(name, zone)| (name, pages(zone.used_bytes, zone.size_bytes))).collect::<Map<_, _>>().into()
}

pub(super) fn slab(api: &Api, zone: &str) -> Result<Value, Problem> {
    let zone = api.node().status().zones.remove(zone);
    zone.map(|zone| pages(zone.used_bytes, zone.size_bytes))
        .ok_or_else(|| Problem::not_found("SlabNotFound", "slab not found"))
}

fn pages(used_bytes: u64, size_bytes: u64) -> Value {
    let used = used_bytes.div_ceil(PAGE_BYTES);
    let free = size_bytes.div_ceil(PAGE_BYTES).saturating_sub(used);
    json!({ "pages": { "used": used, "free": free }, "slots": {} })
}

pub(super) fn limit_reqs(api: &Api) -> Value {
    api.node()
        .limits()
        .map(|zone| (zone.name().to_owned(), limit_counters(zone)))
        .collect::<Map<_, _>>()
        .into()
}

pub(super) fn limit_req(api: &Api, zone: &str) -> Result<Value, Problem> {
    api.node().limit(zone).map(|zone| limit_counters(&zone)).ok_or_else(limit_req_not_found)
}

pub(super) fn reset_limit_req(api: &Api, zone: &str) -> Result<StatusCode, Problem> {
    api.node().limit(zone).ok_or_else(limit_req_not_found)?.reset_counters();
    Ok(StatusCode::NO_CONTENT)
}

fn limit_counters(zone: &LimitZone) -> Value {
    let counters = zone.counters();
    json!({
        "passed": counters.passed,
        "delayed": counters.delayed,
        "rejected": counters.rejected,
        "delayed_dry_run": counters.delayed_dry_run,
        "rejected_dry_run": counters.rejected_dry_run,
    })
}

/// Whether the node has anybody to synchronize with; in NGINX, whether `zone_sync` is configured.
pub(super) fn synchronizes(api: &Api) -> bool {
    !api.node().listening().is_empty() || !api.node().status().peers.is_empty()
}

pub(super) fn zone_sync(api: &Api) -> Result<Value, Problem> {
    if !synchronizes(api) {
        return Err(Problem::path_not_found());
    }
    let status = api.node().status();
    let zones = status.zones.iter().filter(|(_, zone)| zone.sync).map(|(name, zone)| {
        (
            name.clone(),
            json!({ "records_pending": zone.records_pending, "records_total": zone.records_total }),
        )
    });
    Ok(json!({
        "zones": zones.collect::<Map<_, _>>(),
        "status": {
            "bytes_in": status.bytes_in,
            "msgs_in": status.msgs_in,
            "msgs_out": status.msgs_out,
            "bytes_out": status.bytes_out,
            "nodes_online": status.nodes_online,
        },
    }))
}
