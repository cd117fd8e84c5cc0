//! The tables of the file together: each is read by the module of its kind.

use super::doors::api;
#[cfg(feature = "envoy_rls")]
use super::envoy_rls;
#[cfg(feature = "haproxy")]
use super::haproxy;
use super::reader::{Report, Section};
#[cfg(feature = "redis")]
use super::redis;
use super::values::{self, Parsed, name, text};
use super::zone_sync::{TOMBSTONE_RETENTION, zone_sync};
use super::zones::{Taken, keyval_zone, limit_req_zone, sticky_zone};
use super::{Api, KeyvalZone, LimitReqZone, LogLevel, StickyZone, ZoneSync};
use toml::de::{DeTable, DeValue};

/// The tables of a file. Values that were wrong and reported are replaced by their defaults, and zones without what they need are left out.
pub(super) struct Tables {
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) log_level: LogLevel,
    pub(super) zone_sync: Option<ZoneSync>,
    pub(super) keyval_zones: Vec<KeyvalZone>,
    pub(super) sticky_zones: Vec<StickyZone>,
    pub(super) limit_req_zones: Vec<LimitReqZone>,
    pub(super) api: Option<Api>,
    #[cfg(feature = "envoy_rls")]
    pub(super) envoy_rls: Option<super::EnvoyRls>,
    #[cfg(feature = "redis")]
    pub(super) redis: Option<super::Redis>,
    #[cfg(feature = "haproxy")]
    pub(super) haproxy_peers: Option<super::HaproxyPeers>,
}

pub(super) fn read(report: &Report, root: &DeTable<'_>) -> Tables {
    let mut root = Section::root(report, root);
    let name = if root.has("name") { root.read("name", name) } else { host_name(&mut root) };
    let cluster = root.read("cluster", values::name).unwrap_or_else(|| "default".to_owned());
    let log_level = root.read("log_level", log_level).unwrap_or_default();
    let zone_sync_table = root.table("zone_sync");
    let api_table = root.table("api");
    #[cfg(feature = "envoy_rls")]
    let envoy_rls_table = root.table("envoy_rls");
    #[cfg(not(feature = "envoy_rls"))]
    root.refuse(
        "envoy_rls",
        "needs a program that was built with the feature `envoy_rls`; use such a one, or remove the table",
    );
    #[cfg(feature = "redis")]
    let redis_table = root.table("redis");
    #[cfg(not(feature = "redis"))]
    root.refuse(
        "redis",
        "needs a program that was built with the feature `redis`; use such a one, or remove the table",
    );
    #[cfg(feature = "haproxy")]
    let haproxy_table = root.table("haproxy_peers");
    #[cfg(not(feature = "haproxy"))]
    root.refuse(
        "haproxy_peers",
        "needs a program that was built with the feature `haproxy`; use such a one, or remove the table",
    );
    if !["zone_sync", "api", "envoy_rls", "haproxy_peers", "redis"].into_iter().any(|table| root.has(table)) {
        report
            .problem(0, "neither [zone_sync] nor [api]: the node would have nothing to do; add one of them");
    }
    let (zone_sync, retention) = zone_sync_table.map_or((None, TOMBSTONE_RETENTION), zone_sync);
    let mut taken = Taken::default();
    let keyval_zones: Vec<_> = root
        .tables("keyval_zone")
        .into_iter()
        .filter_map(|zone| keyval_zone(zone, retention, &mut taken))
        .collect();
    let sticky_zones = root
        .tables("sticky_zone")
        .into_iter()
        .filter_map(|zone| sticky_zone(zone, retention, &mut taken))
        .collect();
    let limit_req_zones: Vec<_> = root
        .tables("limit_req_zone")
        .into_iter()
        .filter_map(|zone| limit_req_zone(zone, &mut taken))
        .collect();
    let api = api_table.and_then(api);
    // By the names that are written: a zone with an error is not named twice.
    #[cfg(feature = "envoy_rls")]
    let envoy_rls =
        envoy_rls_table.and_then(|table| envoy_rls::envoy_rls(table, &taken.of_kind("limit_req_zone")));
    #[cfg(feature = "redis")]
    let redis = redis_table
        .map(|table| redis::redis(table, &taken.of_kind("keyval_zone"), &taken.of_kind("limit_req_zone")));
    #[cfg(feature = "haproxy")]
    let haproxy_peers = haproxy_table
        .map(|table| haproxy::haproxy(table, &taken.of_kind("sticky_zone"), &taken.of_kind("keyval_zone")));
    root.finish();
    Tables {
        name: name.unwrap_or_default(),
        cluster,
        log_level,
        zone_sync,
        keyval_zones,
        sticky_zones,
        limit_req_zones,
        api,
        #[cfg(feature = "envoy_rls")]
        envoy_rls,
        #[cfg(feature = "redis")]
        redis,
        #[cfg(feature = "haproxy")]
        haproxy_peers,
    }
}

/// The name of the machine, if it can be one of a node.
fn host_name(root: &mut Section<'_, '_>) -> Option<String> {
    // Asked for, though not written, so that it is known.
    let _: Option<String> = root.read("name", name);
    let host = hostname::get().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    match values::check_name(&host) {
        Ok(()) => Some(host),
        Err(message) => {
            root.problem(
                "name",
                format!("the host name cannot name the node, it {message}; add name = \"…\""),
            );
            None
        }
    }
}

fn log_level(value: &DeValue<'_>) -> Parsed<LogLevel> {
    Ok(match text(value)?.as_str() {
        "error" => LogLevel::Error,
        "warn" => LogLevel::Warn,
        "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        other => {
            return Err(format!("{other:?} is not a log level; write error, warn, info, debug or trace"));
        }
    })
}
