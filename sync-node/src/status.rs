//! What a node says about itself and its cluster: plain values, made by the engine, read by people and by the HTTP API.
//!
//! Nothing here is computed. A [`Status`] is a snapshot; its figures were true at one moment each, not all at the same one.
//! Serialized (JSON), the field names are part of the operator's interface: `GET /v1/status` answers exactly this.

use serde::Serialize;
use std::collections::BTreeMap;

/// One node as it sees itself and its peers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The node's name, for people.
    pub node: String,
    /// The cluster it belongs to; nodes of another cluster are refused.
    pub cluster: String,
    /// Its identity for this run: 16 hexadecimal digits, new at every start.
    pub origin: String,
    /// When this run began, milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// Whether the node has joined: the first catch-up from every reachable peer is complete, and it is not stopping.
    pub ready: bool,
    /// Why it is not ready, in a sentence for people; absent when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes received from peers since the start, framing included, TLS excluded.
    pub bytes_in: u64,
    /// Frames received from peers since the start.
    pub msgs_in: u64,
    /// Bytes sent to peers since the start, framing included, TLS excluded.
    pub bytes_out: u64,
    /// Frames sent to peers since the start.
    pub msgs_out: u64,
    /// TLS handshakes with peers that succeeded since the start, whoever dialled.
    pub handshakes: u64,
    /// Those of them that resumed an earlier session.
    pub handshakes_resumed: u64,
    /// TLS handshakes with peers that failed since the start.
    pub handshakes_failed: u64,
    /// Connections that came to nothing since the start, by cause: failed handshakes (`name_not_allowed`, `certificate_revoked`, …), those
    /// above a limit, and links that failed (`malformed`, `no_hello`, `lost`, …).
    pub refusals: BTreeMap<&'static str, u64>,
    /// Peers this node is connected to, each counted once, whatever the number of its links.
    pub nodes_online: u64,
    /// Every zone of the node, by name, local ones too.
    pub zones: BTreeMap<String, ZoneStatus>,
    /// Every link of the node, connected or not, by peer name and direction.
    pub peers: Vec<PeerStatus>,
    /// The doors by which other programs use the zones, by name: `api`, `haproxy_peers`, `redis`. Those that are open.
    pub doors: BTreeMap<&'static str, DoorStatus>,
}

/// One door of the node: a protocol by which other programs use its zones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DoorStatus {
    /// Connections that are open.
    pub connections: u64,
    /// Connections since the start, those that were dropped included.
    pub connections_accepted: u64,
    /// Connections that were closed at once since the start: as many as may be were open.
    pub connections_dropped: u64,
    /// Requests since the start.
    pub requests: u64,
    /// Those of them that were answered with an error.
    pub errors: u64,
}

/// One zone of the node.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ZoneStatus {
    /// `keyval`, `sticky` or `limit`.
    pub kind: &'static str,
    /// Whether the zone is shared with the cluster (`sync` in the configuration).
    pub sync: bool,
    /// Changed records that some connected peer has not acknowledged yet.
    pub records_pending: u64,
    /// Live records.
    pub records_total: u64,
    /// Removed records that are still remembered, so that the removal reaches every node.
    pub tombstones: u64,
    /// Size of the zone as configured, bytes.
    pub size_bytes: u64,
    /// How much of it holds records and tombstones, bytes.
    pub used_bytes: u64,
    /// Records evicted because the zone was full (sticky and limit zones), since the start.
    pub evicted: u64,
    /// Writes refused because the zone was full (keyval zones), since the start.
    pub refused: u64,
    /// Records that expired, since the start.
    pub expired: u64,
    /// How many times a request is charged: 1 while the node has all others in sight, then as many as there are members. Strict limit zones only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charged: Option<u64>,
    /// Content digest, 16 hexadecimal digits, equal on nodes with equal content; absent where it was not asked for, because it reads the whole zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// One link between this node and a peer. Who dials, sends: two nodes that see each other have two links.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PeerStatus {
    /// What the peer calls itself; empty until the first handshake.
    pub name: String,
    /// The names in the peer's certificate, which a trusted authority vouches for. Empty while the link is down, without TLS and with `verify = false`.
    pub certificate_names: Vec<String>,
    /// The TLS session of the link; absent while it is down, and without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsStatus>,
    /// Where the peer is: `address:port`, `quic://address:port` or `unix:/path`.
    pub address: String,
    /// The peer's origin, 16 hexadecimal digits; absent until the first handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Which way records travel on this link.
    pub direction: Direction,
    /// Since when the link is up, milliseconds since the Unix epoch; absent while it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected_since_ms: Option<u64>,
    /// Changed records that the peer has not acknowledged, by zone. Links in the direction [`Direction::In`] have none.
    pub records_pending: BTreeMap<String, u64>,
    /// Age of the oldest record that has not been acknowledged, milliseconds; 0 when the peer has everything.
    pub lag_ms: u64,
    /// How long ago a record that the peer sent changed something here, milliseconds; absent if none has, and on links in the
    /// direction [`Direction::Out`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_age_ms: Option<u64>,
    /// The peer's clock minus ours, microseconds, half a round trip taken off; absent until measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_us: Option<i64>,
    /// The last thing that went wrong on this link, in a sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// The TLS session of a link.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TlsStatus {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The cipher suite, by its IANA name; absent over QUIC, which does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher_suite: Option<String>,
    /// The group in which keys were agreed on, such as `X25519MLKEM768`; absent in sessions that were resumed without, and over QUIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_exchange: Option<String>,
}

/// Which way records travel on a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// We dialled: our records go to the peer.
    #[default]
    Out,
    /// The peer dialled: its records come to us.
    In,
}
