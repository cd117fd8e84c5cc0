//! Stand-in for sync_transport's addresses until they land.
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(a) => a.fmt(f),
            Self::Unix(p) => write!(f, "unix:{}", p.display()),
        }
    }
}
impl FromStr for Address {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s.strip_prefix("unix:") {
            Some(p) if p.starts_with('/') => Ok(Self::Unix(p.into())),
            Some(_) => Err("a socket path must begin with /".into()),
            None => s
                .parse()
                .map(Self::Tcp)
                .map_err(|_| format!("{s:?}: neither address:port, [IPv6 address]:port nor unix:/path")),
        }
    }
}
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Server(pub String);
impl FromStr for Server {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        if s.contains(':') {
            Ok(Self(s.into()))
        } else {
            Err(format!("{s:?}: the port is missing: write host:port"))
        }
    }
}
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
