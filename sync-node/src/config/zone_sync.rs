//! The table `[zone_sync]` with its tables `buffers` and `ssl`: peers, links and certificates.

use super::doors::{in_folder, reason};
use super::reader::Section;
use super::values::{Parsed, count, display_size, flag, list, positive_time, size, text, time};
use super::{Buffers, Ssl, ZoneSync};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use sync_transport::{Address, CipherSuite, NamePattern, Server, TlsVersion, Transport};
use toml::de::DeValue;

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
pub(super) const TOMBSTONE_RETENTION: Duration = Duration::from_secs(3_600);
const VERIFY_DEPTH: u64 = 1;
const DNS_PORT: u16 = 53;

/// The table, and the tombstone retention that zones take from it even if the rest of it is wrong.
pub(super) fn zone_sync(mut table: Section<'_, '_>) -> (Option<ZoneSync>, Duration) {
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

/// A file that can be opened; what is in it is for its reader to judge.
fn existing_file(folder: &Path, value: &DeValue<'_>) -> Parsed<PathBuf> {
    let path = folder.join(text(value)?);
    match std::fs::File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("cannot be read: {}: {error}", path.display())),
    }
}
