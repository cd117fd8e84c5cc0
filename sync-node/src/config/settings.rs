//! The settings of each table: meaning, unit, default, and whether a reload (SIGHUP) takes it over. The NGINX directive that a setting comes
//! from is named where there is one.

use crate::StateSync;
use crate::api::Grants;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use sync_store::{Rate, Region};
use sync_transport::{Address, CipherSuite, NamePattern, Server, TlsVersion};

/// `[zone_sync]`: synchronization with other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZoneSync {
    /// Where peers reach this node: `address:port`, `quic://address:port` or `unix:/path`, one or several. Required. Not reloadable. (`listen`)
    pub listen: Vec<Address>,
    /// Where peers are: `host:port`, `address:port`, either with `quic://` before it, `unix:/path` or a name with SRV records. A name with several addresses means several
    /// nodes; the node's own address may be among them. Default: none, a cluster that waits to be called. Reloadable. (`zone_sync_server`)
    pub servers: Vec<Server>,
    /// Whether to follow changes of DNS (A, AAAA, SRV); without it a name is looked up once. Default: true. Not reloadable. (`resolve`)
    pub resolve: bool,
    /// Name servers to ask, `address` or `address:port` (53); all of them, the first answer counts. Default: those of the system, with its
    /// hosts file. Not reloadable. (`resolver`)
    pub resolver: Vec<SocketAddr>,
    /// The longest that an answer of DNS is used, if its own time is longer. Default: its own time. Not reloadable. (`valid`)
    pub valid: Option<Duration>,
    /// How long changes may gather before they are sent: an upper bound, publication begins as soon as something has changed.
    /// Default: 1 ms. Not reloadable. (`zone_sync_interval`)
    pub interval: Duration,
    /// How long setting up a connection may take, TLS and handshake included. Default: 5 s. Not reloadable. (`zone_sync_connect_timeout`)
    pub connect_timeout: Duration,
    /// Pause before the first new attempt to connect; it grows with jitter while attempts fail. Default: 1 s. Not reloadable.
    /// (`zone_sync_connect_retry_interval`)
    pub connect_retry_interval: Duration,
    /// How long a connection may be silent before it is closed; heartbeats keep a healthy one open. Default: 5 s. Not reloadable.
    /// (`zone_sync_timeout`)
    pub timeout: Duration,
    /// The ring of encoded batches of each zone. Not reloadable. (`zone_sync_buffers`)
    pub buffers: Buffers,
    /// Read buffer of each connection, bytes; it grows to a frame where one is larger. Default: 64 KiB. Not reloadable.
    /// (`zone_sync_recv_buffer_size`)
    pub recv_buffer_size: u64,
    /// The largest frame this node accepts, bytes; at least 1 KiB more than a buffer. Default: 1 MiB. Not reloadable.
    pub max_frame: u64,
    /// Connections that peers may have open from one address (of IPv6, one network of 64 bits), of 1024 in all. Default: 128. Not reloadable.
    pub max_connections_per_address: u64,
    /// Threads of links and publication, 1 to 64. One is woken soonest; more carry more than one core does. Default: 1. Not reloadable.
    pub threads: u64,
    /// Records stamped further ahead of our clock than this are refused. Default: 5 s. Not reloadable.
    pub max_clock_skew: Duration,
    /// How long a graceful stop (SIGQUIT) waits for peers to acknowledge. Default: 10 s. Reloadable.
    pub shutdown_timeout: Duration,
    /// How long removed records are remembered, so that the removal reaches nodes that were away. Default: 1 h. Not reloadable.
    pub tombstone_retention: Duration,
    /// TLS between nodes; `None` if `ssl = false` is written, never by omission.
    pub ssl: Option<Ssl>,
}

/// `buffers = { number, size }`: how many encoded batches a zone keeps for its links, and how large each may be; of smaller ones it keeps as many as take no
/// more memory. A link that falls further behind changes to catch-up. Costs up to `number` × `size` bytes for each zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Buffers {
    /// Batches. Default: 256.
    pub number: u64,
    /// Bytes of a batch, which one record of the largest size must fit. Default: 16 KiB.
    pub size: u64,
}

/// `[zone_sync.ssl]`: TLS for both directions. All of it is reloadable, and files that change are read again by themselves. A reload closes the
/// connections that it speaks against and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ssl {
    /// The node's certificate and any intermediates, PEM. Required. (`zone_sync_ssl_certificate`)
    pub certificate: PathBuf,
    /// Its private key, PEM. Required. (`zone_sync_ssl_certificate_key`)
    pub certificate_key: PathBuf,
    /// Another certificate, and its key, for dialling. Default: the same in both directions. (`zone_sync_ssl_certificate`, `_certificate_key`, where
    /// those of `listen` differ)
    pub dial_certificate: Option<(PathBuf, PathBuf)>,
    /// Passphrases for keys that are encrypted, one a line, tried in turn. Default: none. (`zone_sync_ssl_password_file`)
    pub password_file: Option<PathBuf>,
    /// CA certificates that peers must be signed by, PEM. Required while `verify` is on. (`zone_sync_ssl_trusted_certificate`)
    pub trusted_certificate: Option<PathBuf>,
    /// Lists of revoked certificates, of every authority of a peer's chain, PEM. Default: none. (`zone_sync_ssl_crl`)
    pub crl: Option<PathBuf>,
    /// Whether peers, in both directions, must show a certificate that `trusted_certificate` vouches for. Default: true.
    /// (`zone_sync_ssl_verify`)
    pub verify: bool,
    /// How many intermediates a peer's chain may have. Default: 1. (`zone_sync_ssl_verify_depth`)
    pub verify_depth: u64,
    /// Names of which a peer's certificate must have one, whoever dials. Default: any name.
    pub allowed_names: Vec<NamePattern>,
    /// The name to verify in the certificate of every peer we dial. Default: the host from `servers`. (`zone_sync_ssl_name`)
    pub name: Option<String>,
    /// Whether to send the name when we dial (SNI). Default: false. (`zone_sync_ssl_server_name`)
    pub server_name: bool,
    /// Versions of TLS allowed. Default: both. (`zone_sync_ssl_protocols`)
    pub protocols: Vec<TlsVersion>,
    /// Cipher suites allowed, the preferred first. Default: all. (`zone_sync_ssl_ciphers`)
    pub ciphers: Vec<CipherSuite>,
    /// Whether sessions are resumed. Default: false.
    pub session_reuse: bool,
    /// Whether the secrets of sessions are written to the file that `SSLKEYLOGFILE` names. Default: false.
    pub key_log: bool,
}

/// `[[keyval_zone]]`: a table of keys and values. (`keyval_zone`)
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyvalZone {
    /// Name; zones of one name and type synchronize. Required.
    pub name: String,
    /// Memory, bytes, never more and never less. Required.
    pub size: u64,
    /// How long a record lives if it does not say so itself. Default: for ever. (`timeout`)
    pub timeout: Option<Duration>,
    /// How a searched key is compared with the keys of the records. Default: `string`. (`type`)
    pub kind: KeyvalType,
    /// Whether the zone synchronizes. Default: true. (`sync`)
    pub sync: bool,
    /// How long removed records are remembered. Default: that of `[zone_sync]`.
    pub tombstone_retention: Duration,
    /// The usual bytes of key and value together: how the zone shares its memory between index and records. Default: 48.
    pub record_size: u64,
    /// Where the memory comes from, and who may use it beside the node: `map_file`, `map_mode`, `huge_pages`, `prefault`. Default: memory of the node alone.
    pub region: Region,
    /// The file that keeps the records over a restart. Default: none. Not together with `map_file`. (`state`)
    pub state: Option<PathBuf>,
    /// When a write counts as written to that file. Default: interval. (`state_sync`)
    pub state_sync: StateSync,
}

/// How a searched key is compared with the keys of the records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyvalType {
    /// Equal.
    #[default]
    String,
    /// Record keys are addresses or CIDR ranges; the most specific one that contains the searched address matches.
    Ip,
    /// The longest record key that the searched key begins with matches.
    Prefix,
}

/// `[[sticky_zone]]`: sessions and the servers they stick to. (`sticky learn … zone=`)
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StickyZone {
    /// Name; zones of one name and type synchronize. Required.
    pub name: String,
    /// Memory, bytes. Required.
    pub size: u64,
    /// Sessions that nobody used for so long are forgotten. Default: 10 min. (`timeout`)
    pub timeout: Duration,
    /// Whether the zone synchronizes. Default: true. (`sync`)
    pub sync: bool,
    /// How long removed records are remembered. Default: that of `[zone_sync]`.
    pub tombstone_retention: Duration,
    /// The usual bytes of key and value together: how the zone shares its memory between index and records. Default: 48.
    pub record_size: u64,
    /// Where the memory comes from, and who may use it beside the node: `map_file`, `map_mode`, `huge_pages`, `prefault`. Default: memory of the node alone.
    pub region: Region,
}

/// `[[limit_req_zone]]`: request limits. What a check does not say itself comes from here. (`limit_req_zone`, `limit_req`)
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitReqZone {
    /// Name; zones of one name and type synchronize. Required.
    pub name: String,
    /// Memory, bytes. Required.
    pub size: u64,
    /// Requests per second, minute, hour or day for each key, counted across the cluster. Required. (`rate`)
    pub rate: Rate,
    /// Requests that may come early. Default: 0. (`burst`)
    pub burst: u64,
    /// Which early requests are delayed. Default: all, `Delay::After(0)`. (`delay`, `nodelay`)
    pub delay: Delay,
    /// Whether to count only and refuse nothing. Default: false. (`limit_req_dry_run`)
    pub dry_run: bool,
    /// Whether the node admits only its share of rate and burst while it does not have all others in sight. Default: false.
    pub strict: bool,
    /// Whether the zone synchronizes. Default: true. (`sync`)
    pub sync: bool,
    /// Where the memory comes from, and who may use it beside the node: `map_file`, `map_mode`, `huge_pages`, `prefault`. Default: memory of the node alone.
    pub region: Region,
}

/// Which of the early requests, those within the burst, wait for their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delay {
    /// Those after the first so many; 0: all of them.
    After(u64),
    /// None.
    Nodelay,
}

/// `[api]`: the HTTP API. All but `listen` is reloadable.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Api {
    /// Where to listen: `address:port` or `unix:/path`. Required. Not reloadable.
    pub listen: Address,
    /// What clients may do: `write`, `decide`, `allow`, `deny`, `auth_basic_user_file`.
    pub grants: Grants,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogLevel {
    /// What needs a person now.
    Error,
    /// What will, if it goes on.
    Warn,
    /// What a person reading along wants to know.
    #[default]
    Info,
    /// Every request and every link.
    Debug,
    /// Every frame.
    Trace,
}

impl LogLevel {
    /// The word in the file: `info`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
