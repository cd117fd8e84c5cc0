//! Where a peer is: as somebody wrote it ([`Server`]), as a socket takes it ([`Address`]), and both
//! together with the name to verify ([`Target`]).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;

/// What a Unix socket counts as where a name is needed to verify a certificate: there is no host in a path.
const UNIX_HOST: &str = "localhost";
/// Longest host name in text form (RFC 1035 §2.3.4: 255 octets on the wire, 253 as text).
const HOST_LENGTH_MAX: usize = 253;
/// Longest label of a host name (RFC 1035 §2.3.4).
const LABEL_LENGTH_MAX: usize = 63;

/// How an address says that it is for QUIC.
const QUIC_SCHEME: &str = "quic://";
/// How an address says that it is not.
const TCP_SCHEME: &str = "tcp://";

/// What carries the connections to a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP, with or without TLS.
    #[default]
    Tcp,
    /// QUIC, which is never without TLS. Needs the feature `quic`.
    Quic,
}

impl Transport {
    /// The address of a socket of this transport.
    pub const fn at(self, socket: SocketAddr) -> Address {
        match self {
            Self::Tcp => Address::Tcp(socket),
            Self::Quic => Address::Quic(socket),
        }
    }

    /// What stands before an address of this transport.
    const fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "",
            Self::Quic => QUIC_SCHEME,
        }
    }

    /// The transport that a text begins with, if it names one, and the rest.
    fn split(text: &str) -> (Option<Self>, &str) {
        if let Some(rest) = text.strip_prefix(QUIC_SCHEME) {
            return (Some(Self::Quic), rest);
        }
        match text.strip_prefix(TCP_SCHEME) {
            Some(rest) => (Some(Self::Tcp), rest),
            None => (None, text),
        }
    }
}

/// Something a socket can be bound or connected to.
///
/// Written `192.0.2.1:9000`, `[2001:db8::1]:9000`, `quic://192.0.2.1:9000` or `unix:/run/sync.sock`. `tcp://` may stand before an address that is not
/// for QUIC.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IP address and port of TCP.
    Tcp(SocketAddr),
    /// An IP address and port of QUIC, over UDP. Needs the feature `quic`.
    Quic(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The name a certificate is verified against when nothing else is known: the IP address, or
    /// `localhost` for a Unix socket.
    fn host(&self) -> String {
        match self {
            Self::Tcp(socket) | Self::Quic(socket) => socket.ip().to_string(),
            Self::Unix(_) => UNIX_HOST.to_owned(),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        Self::Tcp(socket)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(socket) => socket.fmt(f),
            Self::Quic(socket) => write!(f, "{QUIC_SCHEME}{socket}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse_with(text, Transport::default())
    }
}

impl Address {
    /// Reads an address; `default` is the transport of one that names none.
    ///
    /// # Errors
    /// [`Error::InvalidAddress`].
    pub fn parse_with(text: &str, default: Transport) -> Result<Self, Error> {
        let whole = text;
        let invalid = |reason| Error::InvalidAddress { text: whole.to_owned(), reason };
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(invalid("the path is missing: write unix:/path")),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let (transport, text) = Transport::split(text);
        if let Ok(socket) = text.parse() {
            return Ok(transport.unwrap_or(default).at(socket));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(invalid("an IPv6 address is written in brackets, with its port: [::1]:9000"));
        }
        if text.parse::<IpAddr>().is_ok() {
            return Err(invalid("the port is missing: write address:port"));
        }
        Err(invalid("neither address:port, [IPv6 address]:port nor unix:/path"))
    }
}

/// One entry of the list of servers: a place, or a name that stands for places.
///
/// | written | meaning |
/// |---|---|
/// | `sync.example.com:9000` | every address of the name (A and AAAA), at this port |
/// | `_sync._tcp.example.com` | every host and port that the SRV records of the name give |
/// | `192.0.2.1:9000`, `[2001:db8::1]:9000` | this address |
/// | `unix:/run/sync.sock` | this Unix socket |
/// | `quic://sync.example.com:9000`, `quic://192.0.2.1:9000` | the same, over QUIC |
/// | `_sync._udp.example.com` | hosts and ports of SRV records, over QUIC |
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Server {
    /// A place that needs no DNS.
    Static(Address),
    /// A host name and port; lower case, without a trailing dot.
    Host {
        /// The name to look up and, unless overridden, to verify in the certificate.
        host: String,
        /// The port on every address of the name.
        port: u16,
        /// How to connect to them.
        transport: Transport,
    },
    /// A name with SRV records, `_service._proto.name`; lower case, without a trailing dot.
    Srv {
        /// The whole name. `_udp` in it means QUIC.
        name: String,
    },
}

impl Server {
    /// Whether connections to it are of QUIC.
    pub fn is_quic(&self) -> bool {
        match self {
            Self::Static(address) => matches!(address, Address::Quic(_)),
            Self::Host { transport, .. } => *transport == Transport::Quic,
            // The second label is the protocol (RFC 2782).
            Self::Srv { name } => name.split('.').nth(1) == Some("_udp"),
        }
    }

    /// The target that this server is without asking DNS; `None` for a name.
    pub(crate) fn fixed(&self) -> Option<Target> {
        match self {
            Self::Static(address) => {
                Some(Target { address: address.clone(), server: self.clone(), host: address.host() })
            }
            Self::Host { .. } | Self::Srv { .. } => None,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(address) => address.fmt(f),
            Self::Host { host, port, transport } => write!(f, "{}{host}:{port}", transport.scheme()),
            Self::Srv { name } => f.write_str(name),
        }
    }
}

impl FromStr for Server {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse_with(text, Transport::default())
    }
}

impl Server {
    /// Reads a server; `default` is the transport of one that names none. Names with SRV records say it themselves.
    ///
    /// # Errors
    /// [`Error::InvalidServer`].
    pub fn parse_with(text: &str, default: Transport) -> Result<Self, Error> {
        let whole = text;
        let invalid = |reason| Error::InvalidServer { text: whole.to_owned(), reason };
        let (transport, rest) = Transport::split(text);
        if text.starts_with("unix:") || rest.starts_with('[') || rest.parse::<IpAddr>().is_ok() {
            return Address::parse_with(text, default).map(Self::Static).map_err(|error| match error {
                Error::InvalidAddress { reason, .. } => invalid(reason),
                error => error,
            });
        }
        let text = rest;
        if text.contains("://") {
            return Err(invalid("before host:port there may be tcp:// or quic://, nothing else"));
        }
        if let Ok(socket) = text.parse() {
            return Ok(Self::Static(transport.unwrap_or(default).at(socket)));
        }
        if text.starts_with('_') {
            if transport.is_some() {
                return Err(invalid(
                    "a name with SRV records says itself what it is for, by _tcp or _udp: leave tcp:// or quic:// out",
                ));
            }
            return parse_srv(text).map_err(invalid);
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(invalid("the port is missing: write host:port"));
        };
        let port = port.parse::<u16>().map_err(|_| invalid("the port is not a number from 1 to 65535"))?;
        if port == 0 {
            return Err(invalid("the port is not a number from 1 to 65535"));
        }
        let host = parse_host(host).map_err(invalid)?;
        Ok(Self::Host { host, port, transport: transport.unwrap_or(default) })
    }
}

/// `_service._proto.name`, RFC 2782.
fn parse_srv(text: &str) -> Result<Server, &'static str> {
    if text.contains(':') {
        return Err("a name with SRV records takes its port from DNS: leave the port out");
    }
    let name = parse_host(text)?;
    let mut labels = name.split('.');
    let underscored = |label: Option<&str>| label.is_some_and(|label| label.starts_with('_'));
    if !(underscored(labels.next()) && underscored(labels.next()) && labels.next().is_some()) {
        return Err(
            "a name with SRV records looks like _service._tcp.example.com or, for QUIC, _service._udp.example.com",
        );
    }
    Ok(Server::Srv { name })
}

/// A host name in canonical form: lower case, without the trailing dot.
fn parse_host(text: &str) -> Result<String, &'static str> {
    let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if host.is_empty() {
        return Err("the host name is missing");
    }
    if host.contains(':') {
        return Err("an IPv6 address is written in brackets, with its port: [::1]:9000");
    }
    if host.len() > HOST_LENGTH_MAX {
        return Err("the host name is longer than 253 characters");
    }
    let mut last = "";
    for label in host.split('.') {
        if label.is_empty() {
            return Err("the host name has an empty label (two dots in a row)");
        }
        if label.len() > LABEL_LENGTH_MAX {
            return Err("a label of the host name is longer than 63 characters");
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return Err("the host name has a character other than letters, digits, '-', '_' and '.'");
        }
        last = label;
    }
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("it ends in a number, but it is not an IP address");
    }
    Ok(host)
}

/// One place to dial, and how it came to be known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Where to connect to.
    pub address: Address,
    /// The entry of the list of servers that it came from.
    pub server: Server,
    /// The name to verify in the peer's certificate: the host of the entry, the target of the SRV
    /// record, the IP address itself for an address, `localhost` for a Unix socket.
    pub host: String,
}

impl From<Address> for Target {
    fn from(address: Address) -> Self {
        let host = address.host();
        Self { server: Server::Static(address.clone()), address, host }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Server::Static(_) => self.address.fmt(f),
            Server::Host { .. } | Server::Srv { .. } => write!(f, "{} ({})", self.address, self.host),
        }
    }
}

#[cfg(test)]
mod tests;
