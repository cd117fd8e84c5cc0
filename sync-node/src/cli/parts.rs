//! From a configuration to the parts of a node, and from what they object to back to a line of the file.

use std::path::Path;

use anyhow::Result;
use sync_node::config::{Config, Delay, KeyvalType, Ssl, ZoneSync};
use sync_node::{Error, Node, NodeBuilder};
use sync_store::{
    KeyvalZone, KeyvalZoneBuilder, LimitZone, LimitZoneBuilder, MatchBy, Region, StickyZone,
    StickyZoneBuilder,
};
use sync_transport::{DiscoveryOptions, Pem, TlsConfig, TlsOptions};

/// Everything a node is made of, not started.
pub(crate) fn builder(config: &Config) -> NodeBuilder {
    let mut builder = Node::builder(&config.name).cluster(&config.cluster);
    builder = match &config.zone_sync {
        Some(zone_sync) => synchronized(builder, zone_sync),
        None => builder.plain_text(),
    };
    let local = |sync: bool| !sync || config.zone_sync.is_none();
    for zone in &config.keyval_zones {
        builder = builder.keyval(keyval(zone));
        if let Some(file) = &zone.state {
            builder = builder.keyval_state(&zone.name, file, zone.state_sync);
        }
        builder = if local(zone.sync) { builder.local(&zone.name) } else { builder };
    }
    for zone in &config.sticky_zones {
        builder = builder.sticky(sticky(zone));
        builder = if local(zone.sync) { builder.local(&zone.name) } else { builder };
    }
    for zone in &config.limit_req_zones {
        builder = builder.limit(limit(zone));
        builder = if local(zone.sync) { builder.local(&zone.name) } else { builder };
    }
    builder
}

/// Makes the zones and reads the state files and certificates, and lets go of them again. Mapped zones are made elsewhere: their files may be those of a node that
/// runs, and are not to be made by a check.
pub(crate) fn check(config: &Config) -> Result<()> {
    let at = |error: Error| located(config, &error);
    for zone in &config.keyval_zones {
        keyval(zone).region(Region::anonymous()).build().map_err(|error| at(error.into()))?;
    }
    builder(config).check_states().map_err(at)?;
    for zone in &config.sticky_zones {
        sticky(zone).region(Region::anonymous()).build().map_err(|error| at(error.into()))?;
    }
    for zone in &config.limit_req_zones {
        limit(zone).region(Region::anonymous()).build().map_err(|error| at(error.into()))?;
    }
    if let Some(ssl) = config.zone_sync.as_ref().and_then(|zone_sync| zone_sync.ssl.as_ref()) {
        TlsConfig::load(&tls_options(ssl)).map_err(|error| at(error.into()))?;
    }
    Ok(())
}

fn synchronized(builder: NodeBuilder, zone_sync: &ZoneSync) -> NodeBuilder {
    let discovery = DiscoveryOptions {
        resolve: zone_sync.resolve,
        resolver: zone_sync.resolver.clone(),
        valid: zone_sync.valid,
    };
    let builder = zone_sync
        .listen
        .iter()
        .fold(builder, |builder, address| builder.listen(address.clone()))
        .servers(zone_sync.servers.iter().cloned())
        .discovery(discovery)
        .interval(zone_sync.interval)
        .connect_timeout(zone_sync.connect_timeout)
        .connect_retry_interval(zone_sync.connect_retry_interval)
        .timeout(zone_sync.timeout)
        .buffers(bytes(zone_sync.buffers.number), bytes(zone_sync.buffers.size))
        .max_connections_per_address(bytes(zone_sync.max_connections_per_address))
        .max_frame(bytes(zone_sync.max_frame))
        .recv_buffer_size(bytes(zone_sync.recv_buffer_size))
        .max_clock_skew(zone_sync.max_clock_skew);
    match &zone_sync.ssl {
        Some(ssl) => builder.tls(tls_options(ssl)),
        None => builder.plain_text(),
    }
}

pub(crate) fn tls_options(ssl: &Ssl) -> TlsOptions {
    TlsOptions {
        certificate: Pem::File(ssl.certificate.clone()),
        certificate_key: Pem::File(ssl.certificate_key.clone()),
        dial_certificate: ssl.dial_certificate.clone().map(|(file, key)| (Pem::File(file), Pem::File(key))),
        password_file: ssl.password_file.clone(),
        trusted_certificate: ssl.trusted_certificate.clone().map(Pem::File),
        crl: ssl.crl.clone().map(Pem::File),
        verify: ssl.verify,
        verify_depth: bytes(ssl.verify_depth),
        allowed_names: ssl.allowed_names.clone(),
        name: ssl.name.clone(),
        server_name: ssl.server_name,
        protocols: ssl.protocols.clone(),
        ciphers: ssl.ciphers.clone(),
        session_reuse: ssl.session_reuse,
        key_log: ssl.key_log,
    }
}

fn keyval(zone: &sync_node::config::KeyvalZone) -> KeyvalZoneBuilder {
    let builder = KeyvalZone::builder(&zone.name)
        .size(zone.size)
        .match_by(match zone.kind {
            KeyvalType::Ip => MatchBy::Ip,
            KeyvalType::Prefix => MatchBy::Prefix,
            // The type that is meant where nothing is said.
            _ => MatchBy::Exact,
        })
        .record_size(bytes(zone.record_size))
        .tombstone_retention(zone.tombstone_retention)
        .region(zone.region.clone());
    match zone.timeout {
        Some(timeout) => builder.timeout(timeout),
        None => builder,
    }
}

fn sticky(zone: &sync_node::config::StickyZone) -> StickyZoneBuilder {
    StickyZone::builder(&zone.name)
        .size(zone.size)
        .timeout(zone.timeout)
        .record_size(bytes(zone.record_size))
        .tombstone_retention(zone.tombstone_retention)
        .region(zone.region.clone())
}

fn limit(zone: &sync_node::config::LimitReqZone) -> LimitZoneBuilder {
    LimitZone::builder(&zone.name)
        .size(zone.size)
        .rate(zone.rate)
        .burst(zone.burst)
        .delay(match zone.delay {
            Delay::After(requests) => sync_store::Delay::After(requests),
            _ => sync_store::Delay::Nodelay,
        })
        .dry_run(zone.dry_run)
        .strict(zone.strict)
        .region(zone.region.clone())
}

/// A size of the file as one of memory; one that no memory has is refused by whoever gets it.
fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// An error of a part with the place of the setting that it is about.
pub(crate) fn located(config: &Config, error: &Error) -> anyhow::Error {
    let key = match error {
        Error::Setting { setting, .. } => format!("zone_sync.{setting}"),
        Error::Zone(sync_store::Error::InvalidSize { zone, .. }) => zone_key(config, zone, "size"),
        Error::Zone(sync_store::Error::InvalidSetting { zone, setting, .. }) => {
            zone_key(config, zone, setting)
        }
        Error::Zone(error) => match file_of(error) {
            Some(path) => {
                let key = map_file_key(config, path);
                return anyhow::anyhow!("{}: {error}{}", config.location(&key), remedy(error));
            }
            None => String::new(),
        },
        Error::State { zone, .. } => zone_key(config, zone, "state"),
        Error::Transport(sync_transport::Error::Bind { .. } | sync_transport::Error::NoQuic { .. }) => {
            "zone_sync.listen".to_owned()
        }
        Error::Transport(
            sync_transport::Error::Certificate { option, .. }
            | sync_transport::Error::InvalidOption { option, .. },
        ) => format!("zone_sync.ssl.{option}"),
        Error::Transport(sync_transport::Error::InvalidName { .. }) => "zone_sync.ssl.name".to_owned(),
        _ => String::new(),
    };
    anyhow::anyhow!("{}: {error}", config.location(&key))
}

/// The zone's file that an error is about.
fn file_of(error: &sync_store::Error) -> Option<&Path> {
    match error {
        sync_store::Error::Region { path, .. }
        | sync_store::Error::NotARegion { path }
        | sync_store::Error::RegionMismatch { path, .. }
        | sync_store::Error::RegionInUse { path } => Some(path),
        _ => None,
    }
}

/// What to do about it, for the end of the message.
fn remedy(error: &sync_store::Error) -> &'static str {
    match error {
        sync_store::Error::RegionInUse { .. } => "; stop that one, or give this zone another file",
        sync_store::Error::NotARegion { .. } => "; give this zone another file, or move that one away",
        sync_store::Error::RegionMismatch { what: "max_record", .. } => {
            "; it follows from `buffers` of [zone_sync]: set that back, or move the file away to begin with an empty zone"
        }
        sync_store::Error::RegionMismatch { what: "kind of zone", .. } => {
            " (1 is keyval, 2 sticky, 3 limit_req); give this zone another file"
        }
        sync_store::Error::RegionMismatch { what: "name of the zone", .. } => "; give this zone another file",
        sync_store::Error::RegionMismatch { what: "layout version", .. } => {
            "; another version of this program has made it: move the file away to begin with an empty zone"
        }
        sync_store::Error::RegionMismatch { .. } => {
            "; set that back, or move the file away to begin with an empty zone"
        }
        _ => "",
    }
}

/// The path of the setting that names a zone's file.
fn map_file_key(config: &Config, path: &Path) -> String {
    let keyvals = config.keyval_zones.iter().map(|zone| (&zone.name, &zone.region));
    let stickies = config.sticky_zones.iter().map(|zone| (&zone.name, &zone.region));
    let limits = config.limit_req_zones.iter().map(|zone| (&zone.name, &zone.region));
    let mut zones = keyvals.chain(stickies).chain(limits);
    let zone = zones.find(|(_, region)| region.path() == Some(path));
    zone.map_or_else(String::new, |(name, _)| zone_key(config, name, "map_file"))
}

/// The path of a zone's setting in the file.
fn zone_key(config: &Config, zone: &str, setting: &str) -> String {
    let kind = if config.keyval_zones.iter().any(|known| known.name == zone) {
        "keyval_zone"
    } else if config.sticky_zones.iter().any(|known| known.name == zone) {
        "sticky_zone"
    } else {
        "limit_req_zone"
    };
    format!("{kind}.{zone}.{setting}")
}

/// The settings that differ and that a running node cannot take over.
pub(crate) fn unreloadable_changes(old: &Config, new: &Config) -> Vec<String> {
    let mut changed = Vec::new();
    let mut compare = |key: &str, same: bool| {
        if !same {
            changed.push(key.to_owned());
        }
    };
    compare("name", old.name == new.name);
    compare("cluster", old.cluster == new.cluster);
    compare("keyval_zone", old.keyval_zones == new.keyval_zones);
    compare("sticky_zone", old.sticky_zones == new.sticky_zones);
    compare("limit_req_zone", old.limit_req_zones == new.limit_req_zones);
    compare("api.listen", old.api.as_ref().map(|api| &api.listen) == new.api.as_ref().map(|api| &api.listen));
    #[cfg(feature = "envoy_rls")]
    compare(
        "envoy_rls",
        match (&old.envoy_rls, &new.envoy_rls) {
            (Some(old), Some(new)) => old.has_same_door(new),
            (old, new) => old.is_none() && new.is_none(),
        },
    );
    #[cfg(feature = "redis")]
    compare(
        "redis",
        match (&old.redis, &new.redis) {
            (Some(old), Some(new)) => old.has_same_door(new),
            (old, new) => old.is_none() && new.is_none(),
        },
    );
    #[cfg(feature = "haproxy")]
    compare(
        "haproxy_peers",
        match (&old.haproxy_peers, &new.haproxy_peers) {
            (Some(old), Some(new)) => old.has_same_door(new),
            (old, new) => old.is_none() && new.is_none(),
        },
    );
    let mut taken_over = old.zone_sync.clone();
    if let (Some(old), Some(new)) = (&mut taken_over, &new.zone_sync) {
        old.servers.clone_from(&new.servers);
        old.shutdown_timeout = new.shutdown_timeout;
        // Not from plain text to TLS and back: which of the two it is stands in every socket.
        if let (Some(old), Some(new)) = (&mut old.ssl, &new.ssl) {
            old.clone_from(new);
        }
    }
    compare("zone_sync", taken_over == new.zone_sync);
    changed
}
