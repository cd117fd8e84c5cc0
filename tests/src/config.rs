//! Configuration files of nodes.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Port on which nodes of the tests accept peers.
pub const SYNC_PORT: u16 = 9000;

/// Port of their HTTP API.
pub const API_PORT: u16 = 8080;

/// How a node talks to its peers.
#[derive(Clone, Debug)]
pub enum Encryption {
    /// `ssl = false`.
    Plain,
    /// `[zone_sync.ssl]` with these files.
    Tls {
        /// The node's certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
        /// Certificates of authorities it trusts.
        trusted: PathBuf,
    },
}

/// What links between nodes run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP as plain text.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// QUIC.
    Quic,
    /// Unix sockets as plain text, in the directory of the cluster.
    Unix,
}

/// Makes a test of each function that takes a [`Transport`], for each of them.
#[macro_export]
macro_rules! over_every_transport {
    ($($test:ident),+ $(,)?) => {
        $crate::over_every_transport!(@transport tcp, Tcp, $($test),+);
        $crate::over_every_transport!(@transport tls, Tls, $($test),+);
        $crate::over_every_transport!(@transport quic, Quic, $($test),+);
        $crate::over_every_transport!(@transport unix, Unix, $($test),+);
    };
    (@transport $module:ident, $transport:ident, $($test:ident),+) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::$test($crate::Transport::$transport);
                }
            )+
        }
    };
}

/// What a node is started with: what its configuration file says, and how. Fields are public: a test changes what it is about.
#[derive(Clone, Debug)]
pub struct Config {
    /// `name`.
    pub name: String,
    /// `cluster`.
    pub cluster: String,
    /// The address to listen on, with [`SYNC_PORT`] and [`API_PORT`].
    pub ip: Ipv4Addr,
    /// `listen` of `[zone_sync]`, if it is something else.
    pub listen: Vec<String>,
    /// `servers`.
    pub servers: Vec<String>,
    /// Further lines of `[zone_sync]`.
    pub zone_sync: Vec<String>,
    /// Encryption between peers.
    pub encryption: Encryption,
    /// Further lines of `[zone_sync.ssl]`.
    pub ssl: Vec<String>,
    /// Tables of zones, as TOML.
    pub zones: String,
    /// Tables of doors beside `[api]`, as TOML.
    pub doors: String,
    /// `write` of `[api]`.
    pub write: bool,
    /// Further lines of `[api]`.
    pub api: Vec<String>,
    /// A command that starts the command after it in place of itself, such as `prlimit --nofile=64`; usually empty.
    pub launcher: Vec<String>,
}

impl Config {
    /// The file's text.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let Self { name, cluster, ip, .. } = self;
        let list =
            |texts: &[String]| texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ");
        let mut line = |line: &str| writeln!(text, "{line}").expect("writing to a string succeeds");
        line(&format!("name = {name:?}"));
        line(&format!("cluster = {cluster:?}\n"));
        line("[zone_sync]");
        match &self.listen[..] {
            [] => line(&format!("listen = \"{ip}:{SYNC_PORT}\"")),
            addresses => line(&format!("listen = [{}]", list(addresses))),
        }
        line(&format!("servers = [{}]", list(&self.servers)));
        for further in &self.zone_sync {
            line(further);
        }
        match &self.encryption {
            Encryption::Plain => line("ssl = false"),
            Encryption::Tls { certificate, key, trusted } => {
                line("\n[zone_sync.ssl]");
                line(&format!("certificate = {certificate:?}"));
                line(&format!("certificate_key = {key:?}"));
                line(&format!("trusted_certificate = {trusted:?}"));
                for further in &self.ssl {
                    line(further);
                }
            }
        }
        line(&format!("\n{}\n\n{}\n", self.zones.trim(), self.doors.trim()));
        line("[api]");
        line(&format!("listen = \"{ip}:{API_PORT}\""));
        line(&format!("write = {}", self.write));
        for further in &self.api {
            line(further);
        }
        text
    }
}
