//! The tables of the file: which keys each has, their defaults, and how they must agree with each other.

#[cfg(feature = "envoy_rls")]
use super::envoy_rls;
#[cfg(feature = "haproxy")]
use super::haproxy;
use super::reader::{Report, Section};
#[cfg(feature = "redis")]
use super::redis;
use super::values::{
    self, Parsed, count, display_size, flag, list, mode, name, positive_time, size, text, time,
};
use super::{
    Api, Buffers, Delay, KeyvalType, KeyvalZone, LimitReqZone, LogLevel, Place, Ssl, StickyZone, ZoneSync,
};
use crate::StateSync;
use crate::api::Grants;
use crate::api::access::{AccessList, Range};
use crate::api::users::UsersFile;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use sync_store::{Prefault, Rate, Region};
use sync_transport::{Address, CipherSuite, NamePattern, Server, TlsVersion, Transport};
use toml::de::{DeTable, DeValue};

/// Encoded batches a zone keeps for its links, if not said otherwise.
const BUFFERS: Buffers = Buffers { number: 256, size: 16 << 10 };
/// One page: a smaller batch costs more in frame heads than it saves.
const BUFFER_SIZE_MIN: u64 = 4 << 10;
const MAX_FRAME: u64 = 1 << 20;
/// What a frame needs beside a full buffer, generously.
const FRAME_HEADROOM: u64 = 1 << 10;
/// An eighth of all connections that a listener accepts.
const CONNECTIONS_PER_ADDRESS_MAX: u64 = 128;
/// More than machines have cores that could be spared.
const THREADS_MAX: u64 = 64;
const RECV_BUFFER_SIZE: u64 = 64 << 10;
const INTERVAL: Duration = Duration::from_millis(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_RETRY_INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
const TOMBSTONE_RETENTION: Duration = Duration::from_secs(3_600);
const STICKY_TIMEOUT: Duration = Duration::from_secs(600);
const VERIFY_DEPTH: u64 = 1;
const DNS_PORT: u16 = 53;
/// A key of 16 bytes and a value of 32: what zones take for usual if not said otherwise.
const RECORD_SIZE: u64 = 48;

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

/// The table, and the tombstone retention that zones take from it even if the rest of it is wrong.
fn zone_sync(mut table: Section<'_, '_>) -> (Option<ZoneSync>, Duration) {
    let folder = table.report().folder().to_owned();
    let transport = table.read("transport", transport).unwrap_or_default();
    let listen = table.require("listen", "\"0.0.0.0:9000\"", |value| {
        match list(value, |value| peer_address(&folder, transport, value))? {
            addresses if addresses.is_empty() => Err("is empty; write an address".to_owned()),
            addresses => Ok(addresses),
        }
    });
    let servers = table
        .read("servers", |value| list(value, |value| server(&folder, transport, value)))
        .unwrap_or_default();
    let resolve = table.read("resolve", flag).unwrap_or(true);
    let resolver = table.read("resolver", |value| list(value, name_server)).unwrap_or_default();
    let valid = table.read("valid", positive_time);
    let interval = table.read("interval", positive_time).unwrap_or(INTERVAL);
    let connect_timeout = table.read("connect_timeout", positive_time).unwrap_or(CONNECT_TIMEOUT);
    let connect_retry_interval =
        table.read("connect_retry_interval", positive_time).unwrap_or(CONNECT_RETRY_INTERVAL);
    let timeout = table.read("timeout", positive_time).unwrap_or(TIMEOUT);
    let buffers = table.table("buffers").map_or(BUFFERS, buffers);
    let max_frame = table.read("max_frame", size).unwrap_or(MAX_FRAME);
    let recv_buffer_size = table.read("recv_buffer_size", size).unwrap_or(RECV_BUFFER_SIZE);
    let max_connections_per_address =
        table.read("max_connections_per_address", positive_count).unwrap_or(CONNECTIONS_PER_ADDRESS_MAX);
    let threads = table.read("threads", threads).unwrap_or(1);
    let max_clock_skew = table.read("max_clock_skew", positive_time).unwrap_or(sync_store::MAX_CLOCK_SKEW);
    let shutdown_timeout = table.read("shutdown_timeout", time).unwrap_or(SHUTDOWN_TIMEOUT);
    let tombstone_retention = table.read("tombstone_retention", positive_time).unwrap_or(TOMBSTONE_RETENTION);
    let ssl = ssl_or_plain(&mut table);
    let is_plain = ssl.is_none() && table.sound();
    let listens = listen.iter().flatten().any(|address| matches!(address, Address::Quic(_)));
    for (key, is_quic) in [("listen", listens), ("servers", servers.iter().any(Server::is_quic))] {
        if is_quic && is_plain {
            table.problem(
                key,
                format!("`{key}` names QUIC, which is never without TLS; add a table [zone_sync.ssl]"),
            );
        }
    }
    if table.sound() && max_frame < buffers.size + FRAME_HEADROOM {
        let message = format!(
            "`max_frame` {} cannot hold a buffer of {}; write at least {}",
            display_size(max_frame),
            display_size(buffers.size),
            display_size(buffers.size + FRAME_HEADROOM)
        );
        table.problem("max_frame", message);
    }
    table.finish();
    let zone_sync = listen.map(|listen| ZoneSync {
        listen,
        servers,
        resolve,
        resolver,
        valid,
        interval,
        connect_timeout,
        connect_retry_interval,
        timeout,
        buffers,
        recv_buffer_size,
        max_frame,
        max_connections_per_address,
        threads,
        max_clock_skew,
        shutdown_timeout,
        tombstone_retention,
        ssl,
    });
    (zone_sync, tombstone_retention)
}

fn threads(value: &DeValue<'_>) -> Parsed<u64> {
    match count(value)? {
        number @ 1..=THREADS_MAX => Ok(number),
        _ => Err(format!("must be 1 to {THREADS_MAX}")),
    }
}

fn positive_count(value: &DeValue<'_>) -> Parsed<u64> {
    match count(value)? {
        0 => Err("must be 1 or more".to_owned()),
        number => Ok(number),
    }
}

fn buffers(mut table: Section<'_, '_>) -> Buffers {
    let number = table.read("number", positive_count);
    let size = table.read("size", |value| match size(value)? {
        size if size < BUFFER_SIZE_MIN => Err(format!("must be at least {}", display_size(BUFFER_SIZE_MIN))),
        size => Ok(size),
    });
    table.finish();
    Buffers { number: number.unwrap_or(BUFFERS.number), size: size.unwrap_or(BUFFERS.size) }
}

/// TLS is what a node does; going without has to be written, so that nobody does by forgetting a table.
fn ssl_or_plain(table: &mut Section<'_, '_>) -> Option<Ssl> {
    if table.has("ssl") && !table.is_table("ssl") {
        if table.read("ssl", flag) == Some(true) {
            table.problem("ssl", "TLS needs certificates; write a table [zone_sync.ssl] with `certificate`, `certificate_key` and `trusted_certificate`");
        }
        return None;
    }
    if !table.has("ssl") {
        table.problem("ssl", "[zone_sync] needs certificates; add a table [zone_sync.ssl], or ssl = false for plain TCP, which lets anybody in who reaches the port");
    }
    ssl(table.table("ssl")?)
}

fn ssl(mut table: Section<'_, '_>) -> Option<Ssl> {
    let folder = table.report().folder().to_owned();
    let file = |value: &DeValue<'_>| existing_file(&folder, value);
    let certificate = table.require("certificate", "\"node.pem\"", file);
    let certificate_key = table.require("certificate_key", "\"node.key\"", file);
    let verify = table.read("verify", flag).unwrap_or(true);
    let trusted_certificate = if verify {
        table.require("trusted_certificate", "\"ca.pem\", or verify = false to trust everybody", file)
    } else {
        table.read("trusted_certificate", file)
    };
    let dial_certificate = dial_certificate(&mut table, file);
    let password_file = table.read("password_file", file);
    let crl = table.read("crl", file);
    let allowed_names = table.read("allowed_names", |value| match list(value, name_pattern)? {
        names if names.is_empty() => {
            Err("lets nobody in; write names, or remove it to let in every name".to_owned())
        }
        names => Ok(names),
    });
    for (key, is_written) in [("crl", crl.is_some()), ("allowed_names", allowed_names.is_some())] {
        if is_written && !verify {
            table.problem(
                key,
                format!("`{key}` means nothing without verification; remove it, or verify = false"),
            );
        }
    }
    let verify_depth = table.read("verify_depth", count).unwrap_or(VERIFY_DEPTH);
    let name = table.read("name", text);
    let server_name = table.read("server_name", flag).unwrap_or(false);
    let protocols = table.read("protocols", |value| list(value, tls_version));
    let ciphers = table.read("ciphers", |value| match list(value, cipher_suite)? {
        suites if suites.is_empty() => {
            Err("leaves no cipher suite; write some, or remove it to allow all".to_owned())
        }
        suites => Ok(suites),
    });
    let session_reuse = table.read("session_reuse", flag).unwrap_or(false);
    let key_log = table.read("key_log", flag).unwrap_or(false);
    table.refuse("conf_command", "has no counterpart: it is for OpenSSL, which is not used here; remove it, and see `protocols` and `ciphers`");
    table.finish();
    Some(Ssl {
        certificate: certificate?,
        certificate_key: certificate_key?,
        dial_certificate,
        password_file,
        trusted_certificate,
        crl,
        verify,
        verify_depth,
        allowed_names: allowed_names.unwrap_or_default(),
        name,
        server_name,
        protocols: protocols.unwrap_or_else(|| vec![TlsVersion::Tls12, TlsVersion::Tls13]),
        ciphers: ciphers.unwrap_or_else(|| CipherSuite::all().collect()),
        session_reuse,
        key_log,
    })
}

/// The certificate for dialling and its key: both or none.
fn dial_certificate(
    table: &mut Section<'_, '_>,
    file: impl Fn(&DeValue<'_>) -> Parsed<PathBuf>,
) -> Option<(PathBuf, PathBuf)> {
    let certificate = table.read("dial_certificate", &file);
    let key = table.read("dial_certificate_key", &file);
    for (one, other) in
        [("dial_certificate", "dial_certificate_key"), ("dial_certificate_key", "dial_certificate")]
    {
        if table.has(one) && !table.has(other) {
            table.problem(one, format!("`{one}` needs `{other}` beside it; add that, or remove `{one}`"));
        }
    }
    certificate.zip(key)
}

/// What a zone has to have for itself, with the place of the zone that has it.
#[derive(Default)]
struct Taken {
    /// With the kind of the zone.
    names: BTreeMap<String, (&'static str, Place)>,
    files: BTreeMap<PathBuf, Place>,
}

impl Taken {
    fn name(&mut self, section: &Section<'_, '_>, kind: &'static str, name: &str) {
        let place = section.report().place(section.position("name"));
        if let Some((_, first)) = self.names.insert(name.to_owned(), (kind, place)) {
            let message =
                format!("zone `{name}` exists already, at line {}; give this one another name", first.line);
            section.problem("name", message);
        }
    }

    /// The names of the zones of a kind.
    #[cfg(any(feature = "envoy_rls", feature = "haproxy", feature = "redis"))]
    fn of_kind(&self, kind: &str) -> std::collections::BTreeSet<String> {
        let names = self.names.iter().filter(|(_, (known, _))| *known == kind);
        names.map(|(name, _)| name.clone()).collect()
    }

    fn file(&mut self, section: &Section<'_, '_>, key: &str, path: &Path) {
        let place = section.report().place(section.position(key));
        if let Some(first) = self.files.insert(path.to_owned(), place) {
            let message = format!(
                "`{key}` {} holds the zone at line {} already; give this one another file",
                path.display(),
                first.line
            );
            section.problem(key, message);
        }
    }
}

/// Where the memory of a zone comes from.
fn region(table: &mut Section<'_, '_>, taken: &mut Taken) -> Region {
    let folder = table.report().folder().to_owned();
    let file = table.read("map_file", |value| zone_file(&folder, value, "/dev/shm/sessions.zone"));
    let mode = table.read("map_mode", mode);
    let huge_pages = table.read("huge_pages", flag);
    let prefault = table.read("prefault", prefault);
    if table.has("map_mode") && !table.has("map_file") {
        table.problem(
            "map_mode",
            "`map_mode` says nothing without `map_file`; add that, or remove `map_mode`",
        );
    }
    let mut region = file.map_or_else(Region::anonymous, Region::map_file);
    region.path().into_iter().for_each(|path| taken.file(table, "map_file", path));
    if let Some(mode) = mode {
        region = region.mode(mode);
    }
    if let Some(huge_pages) = huge_pages {
        region = region.huge_pages(huge_pages);
    }
    // Touching the pages of a file makes the system write them to the disk that it may lie on.
    let default = if region.path().is_some() { Prefault::Never } else { Prefault::Beside };
    region.prefault(prefault.unwrap_or(default))
}

fn keyval_zone(mut table: Section<'_, '_>, retention: Duration, taken: &mut Taken) -> Option<KeyvalZone> {
    let name = table.require("name", "\"one\"", name);
    name.iter().for_each(|name| taken.name(&table, "keyval_zone", name));
    let size = table.require("size", "\"1m\"", size);
    let timeout = table.read("timeout", positive_time);
    let kind = table.read("type", keyval_type).unwrap_or_default();
    let sync = table.read("sync", flag).unwrap_or(true);
    let tombstone_retention = table.read("tombstone_retention", positive_time).unwrap_or(retention);
    let record_size = record_size(&mut table);
    let region = region(&mut table, taken);
    let (state, state_sync) = state(&mut table, taken);
    table.finish();
    Some(KeyvalZone {
        name: name?,
        size: size?,
        timeout,
        kind,
        sync,
        tombstone_retention,
        record_size,
        region,
        state,
        state_sync,
    })
}

/// The file that a zone's records are kept in.
fn state(table: &mut Section<'_, '_>, taken: &mut Taken) -> (Option<PathBuf>, StateSync) {
    let folder = table.report().folder().to_owned();
    let state = table.read("state", |value| zone_file(&folder, value, "one.keyval"));
    let sync = table.read("state_sync", state_sync);
    state.iter().for_each(|path| taken.file(table, "state", path));
    if table.has("state") && table.has("map_file") {
        // One would have to be believed where they differ, and a process that attaches writes to one of them only.
        table.problem(
            "state",
            "`state` is not possible with `map_file`: the zone would have two truths after a restart; remove one of them",
        );
    }
    if table.has("state_sync") && !table.has("state") {
        table.problem(
            "state_sync",
            "`state_sync` says nothing without `state`; add that, or remove `state_sync`",
        );
    }
    (state, sync.unwrap_or_default())
}

fn sticky_zone(mut table: Section<'_, '_>, retention: Duration, taken: &mut Taken) -> Option<StickyZone> {
    let name = table.require("name", "\"sessions\"", name);
    name.iter().for_each(|name| taken.name(&table, "sticky_zone", name));
    let size = table.require("size", "\"1m\"", size);
    let timeout = table.read("timeout", positive_time).unwrap_or(STICKY_TIMEOUT);
    let sync = table.read("sync", flag).unwrap_or(true);
    let tombstone_retention = table.read("tombstone_retention", positive_time).unwrap_or(retention);
    let record_size = record_size(&mut table);
    let region = region(&mut table, taken);
    table.finish();
    Some(StickyZone { name: name?, size: size?, timeout, sync, tombstone_retention, record_size, region })
}

fn limit_req_zone(mut table: Section<'_, '_>, taken: &mut Taken) -> Option<LimitReqZone> {
    let name = table.require("name", "\"req\"", name);
    name.iter().for_each(|name| taken.name(&table, "limit_req_zone", name));
    let size = table.require("size", "\"1m\"", size);
    let rate = table.require("rate", "\"100r/s\"", rate);
    let burst = table.read("burst", count).unwrap_or(0);
    let delay_after = table.read("delay", count);
    let nodelay = table.read("nodelay", flag).unwrap_or(false);
    let dry_run = table.read("dry_run", flag).unwrap_or(false);
    let strict = table.read("strict", flag).unwrap_or(false);
    let sync = table.read("sync", flag).unwrap_or(true);
    if strict && !sync {
        table.problem(
            "strict",
            "`strict` says nothing about a zone that is not shared; remove it, or `sync = false`",
        );
    }
    if delay_after.is_some() && nodelay {
        table.problem("nodelay", "`nodelay` contradicts `delay`; remove one of them");
    }
    let region = region(&mut table, taken);
    table.finish();
    let delay = if nodelay { Delay::Nodelay } else { Delay::After(delay_after.unwrap_or(0)) };
    Some(LimitReqZone { name: name?, size: size?, rate: rate?, burst, delay, dry_run, strict, sync, region })
}

fn record_size(table: &mut Section<'_, '_>) -> u64 {
    table.read("record_size", size).unwrap_or(RECORD_SIZE)
}

fn api(mut table: Section<'_, '_>) -> Option<Api> {
    let folder = table.report().folder().to_owned();
    let listen = table.require("listen", "\"127.0.0.1:8080\"", |value| address(&folder, value));
    let write = table.read("write", flag).unwrap_or(false);
    let decide = table.read("decide", flag).unwrap_or(write);
    let access = access(&mut table);
    let users = users_file(&mut table);
    table.finish();
    Some(Api { listen: listen?, grants: Grants { write, decide, access, users } })
}

/// Who may come in by a door, by address.
pub(super) fn access(table: &mut Section<'_, '_>) -> AccessList {
    let allow = table.read("allow", |value| list(value, range)).unwrap_or_default();
    let deny = table.read("deny", |value| list(value, range)).unwrap_or_default();
    AccessList::new(allow, deny)
}

/// Connections that may be allowed: each takes a file descriptor, of which a process has about a million at the most.
#[cfg(any(feature = "envoy_rls", feature = "redis"))]
const CONNECTIONS_MAX: u64 = 1 << 20;

/// How many connections a door takes at a time.
#[cfg(any(feature = "envoy_rls", feature = "redis"))]
pub(super) fn connections(table: &mut Section<'_, '_>) -> Option<usize> {
    table.read("connections", |value| match count(value)? {
        connections @ 1..=CONNECTIONS_MAX => Ok(connections as usize),
        other => Err(format!("is {other}; from 1 to {CONNECTIONS_MAX} are possible")),
    })
}

/// The name of a zone that there is.
#[cfg(any(feature = "envoy_rls", feature = "redis"))]
pub(super) fn zone(
    value: &DeValue<'_>,
    known: &std::collections::BTreeSet<String>,
    kind: &str,
) -> Parsed<String> {
    let name = name(value)?;
    if known.contains(&name) {
        return Ok(name);
    }
    Err(format!("names {name:?}, and there is no [[{kind}]] of that name; add one, or name another"))
}

/// Who may come in by a door, by password.
pub(super) fn users_file(table: &mut Section<'_, '_>) -> Option<UsersFile> {
    let folder = table.report().folder().to_owned();
    table.read("auth_basic_user_file", |value| {
        let path = folder.join(text(value)?);
        UsersFile::load(&path).map_err(|error| format!("cannot be used: {error}"))
    })
}

/// Where clients of a door come in.
pub(super) fn address(folder: &Path, value: &DeValue<'_>) -> Parsed<Address> {
    match text(value)?.parse().map_err(reason)? {
        address @ Address::Quic(_) => {
            Err(format!("\"{address}\": QUIC is for `zone_sync` only; leave quic:// out"))
        }
        address => Ok(in_folder(folder, address)),
    }
}

/// The path of a Unix socket is relative to the folder of the file.
fn in_folder(folder: &Path, address: Address) -> Address {
    match address {
        Address::Unix(path) => Address::Unix(folder.join(path)),
        address => address,
    }
}

fn transport(value: &DeValue<'_>) -> Parsed<Transport> {
    match text(value)?.as_str() {
        "tcp" => Ok(Transport::Tcp),
        "quic" => Ok(Transport::Quic),
        other => Err(format!("{other:?} is not a transport; write tcp or quic")),
    }
}

/// Whether this program can do what an address asks for.
fn check_quic(address: &impl std::fmt::Display, is_quic: bool) -> Parsed<()> {
    if is_quic && cfg!(not(feature = "quic")) {
        return Err(format!(
            "\"{address}\": QUIC needs a program that was built with the feature `quic`; use such a one, or TCP"
        ));
    }
    Ok(())
}

fn peer_address(folder: &Path, transport: Transport, value: &DeValue<'_>) -> Parsed<Address> {
    let address = Address::parse_with(&text(value)?, transport).map_err(reason)?;
    check_quic(&address, matches!(address, Address::Quic(_)))?;
    Ok(in_folder(folder, address))
}

fn server(folder: &Path, transport: Transport, value: &DeValue<'_>) -> Parsed<Server> {
    let server = Server::parse_with(&text(value)?, transport).map_err(reason)?;
    check_quic(&server, server.is_quic())?;
    Ok(match server {
        Server::Static(address) => Server::Static(in_folder(folder, address)),
        server => server,
    })
}

fn reason(error: sync_transport::Error) -> String {
    match error {
        sync_transport::Error::InvalidAddress { text, reason }
        | sync_transport::Error::InvalidServer { text, reason } => {
            format!("{text:?}: {reason}")
        }
        sync_transport::Error::InvalidOption { reason, .. } => reason,
        error => error.to_string(),
    }
}

fn tls_version(value: &DeValue<'_>) -> Parsed<TlsVersion> {
    match text(value)?.as_str() {
        "TLSv1.2" => Ok(TlsVersion::Tls12),
        "TLSv1.3" => Ok(TlsVersion::Tls13),
        other => Err(format!("{other:?} is not possible; write \"TLSv1.2\" or \"TLSv1.3\"")),
    }
}

fn name_pattern(value: &DeValue<'_>) -> Parsed<NamePattern> {
    text(value)?.parse().map_err(reason)
}

fn cipher_suite(value: &DeValue<'_>) -> Parsed<CipherSuite> {
    text(value)?.parse().map_err(reason)
}

fn name_server(value: &DeValue<'_>) -> Parsed<SocketAddr> {
    let text = text(value)?;
    let address = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT)));
    address.map_err(|_| format!("{text:?} is not an address; write \"10.0.0.53\" or \"10.0.0.53:5353\""))
}

fn range(value: &DeValue<'_>) -> Parsed<Range> {
    text(value)?.parse()
}

fn rate(value: &DeValue<'_>) -> Parsed<Rate> {
    let text = text(value)?;
    text.parse().map_err(|error: sync_store::Error| match error {
        sync_store::Error::InvalidRate { rate, expected } => {
            format!("{rate:?} is not a rate; it must be {expected}")
        }
        error => error.to_string(),
    })
}

fn prefault(value: &DeValue<'_>) -> Parsed<Prefault> {
    match (value.as_bool(), value.as_str()) {
        (Some(true), _) => Ok(Prefault::First),
        (Some(false), _) => Ok(Prefault::Never),
        (None, Some("beside")) => Ok(Prefault::Beside),
        (None, Some(other)) => {
            Err(format!("{other:?} is not a way to touch memory; write true, false or \"beside\""))
        }
        (None, None) => Err(format!("must be true, false or \"beside\", not {}", values::kind(value))),
    }
}

fn keyval_type(value: &DeValue<'_>) -> Parsed<KeyvalType> {
    Ok(match text(value)?.as_str() {
        "string" => KeyvalType::String,
        "ip" => KeyvalType::Ip,
        "prefix" => KeyvalType::Prefix,
        other => return Err(format!("{other:?} is not a type of keys; write string, ip or prefix")),
    })
}

fn state_sync(value: &DeValue<'_>) -> Parsed<StateSync> {
    Ok(match text(value)?.as_str() {
        "always" => StateSync::Always,
        "interval" => StateSync::Interval,
        other => return Err(format!("{other:?} is not possible; write always or interval")),
    })
}

/// A file that can be opened; what is in it is for its reader to judge.
fn existing_file(folder: &Path, value: &DeValue<'_>) -> Parsed<PathBuf> {
    let path = folder.join(text(value)?);
    match std::fs::File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("cannot be read: {}: {error}", path.display())),
    }
}

/// A file that is there or can be made. It is not opened: a running node may have it.
fn zone_file(folder: &Path, value: &DeValue<'_>, example: &str) -> Parsed<PathBuf> {
    let path = folder.join(text(value)?);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.as_os_str().is_empty() || path.is_dir() {
        return Err(format!("must name a file, such as {example:?}"));
    }
    if !folder.is_dir() {
        return Err(format!(
            "cannot be made: there is no folder {}; make it, or name another",
            folder.display()
        ));
    }
    Ok(path)
}
