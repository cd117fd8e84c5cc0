//! `cert`: a certificate authority for one cluster, and certificates for its nodes, good for both ends of a connection.
//!
//! Enough for a cluster whose operator has no PKI; one that has uses its own. The CA signs nodes only (path length 0), so `verify_depth`
//! needs no thought. Keys are readable by their owner alone, and nothing that exists is written over unless told to.

mod crl;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use sync_store::{Clock, SystemClock, Time};

/// Ten years: a cluster outlives its nodes' certificates, and a new CA has to reach every node.
const CA_DAYS: u32 = 3650;
const NODE_DAYS: u32 = 365;
/// Certificates are valid from a little before now, for nodes whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// What the CA's files are called, and so no node can be.
const CA_NAME: &str = "ca";
/// Longest host name (RFC 1035).
const HOST_MAX: usize = 253;
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a CA: ca.pem (give it to every node) and ca.key (keep it off the nodes)
    Ca(Ca),
    /// Make a node's certificate, signed by the CA: NAME.pem and NAME.key
    Node(Node),
    /// Revoke certificates: makes crl.pem, or adds to it
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(crate) struct Ca {
    /// Folder to write into; made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Days until it expires
    #[arg(long, value_name = "N", default_value_t = CA_DAYS, value_parser = clap::value_parser!(u32).range(1..=i64::from(CA_DAYS)))]
    days: u32,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Node {
    /// Name of the node; goes into the certificate, with localhost, 127.0.0.1 and ::1
    #[arg(value_parser = node_name)]
    name: String,
    /// Folder with ca.pem and ca.key
    #[arg(long, value_name = "DIR", default_value = ".")]
    ca: PathBuf,
    /// Folder to write into; made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Host name or address under which other nodes reach this one, as it stands in their `servers`; may be repeated
    #[arg(long = "host", value_name = "H", value_parser = host)]
    hosts: Vec<String>,
    /// Days until it expires
    #[arg(long, value_name = "N", default_value_t = NODE_DAYS, value_parser = clap::value_parser!(u32).range(1..=i64::from(CA_DAYS)))]
    days: u32,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Certificates to revoke; none makes a list that revokes nothing, or renews the one that is there
    #[arg(value_name = "FILE")]
    certificates: Vec<PathBuf>,
    /// Folder with ca.pem and ca.key
    #[arg(long, value_name = "DIR", default_value = ".")]
    ca: PathBuf,
    /// Folder of crl.pem; what it revokes already stays revoked
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Days until nodes ask for a newer list
    #[arg(long, value_name = "N", default_value_t = CA_DAYS, value_parser = clap::value_parser!(u32).range(1..=i64::from(CA_DAYS)))]
    days: u32,
}

/// A certificate and its private key, both PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

pub(crate) fn main(command: &Command) -> Result<()> {
    match command {
        Command::Ca(ca) => {
            let files = Files::new(&ca.out, CA_NAME, ca.force)?;
            files.write(&make_ca(SystemClock.now(), ca.days)?)?;
            println!(
                "{} is the CA; give it to every node as `trusted_certificate`",
                files.certificate.display()
            );
            println!("{} signs for the cluster; keep it off the nodes", files.key.display());
        }
        Command::Node(node) => {
            let files = Files::new(&node.out, &node.name, node.force)?;
            let ca = read_ca(&node.ca)?;
            let pair = make_node(&ca, &node.name, &node.hosts, SystemClock.now(), node.days)
                .with_context(|| format!("signing with the CA in {}", node.ca.display()))?;
            files.write(&pair)?;
            println!(
                "{} and {} belong to node {}",
                files.certificate.display(),
                files.key.display(),
                node.name
            );
        }
        Command::Revoke(Revoke { certificates, ca: folder, out, days }) => {
            let ca = read_ca(folder)?;
            let file = out.join("crl.pem");
            let revoked = crl::revoke(&ca, &file, certificates, SystemClock.now(), *days)?;
            println!("{} revokes {revoked} certificates; give it to every node as `crl`", file.display());
        }
    }
    Ok(())
}

/// A new certificate authority.
pub(crate) fn make_ca(now: Time, days: u32) -> Result<Pair> {
    let key = KeyPair::generate()?;
    // A name of its own, so that a certificate of another CA is known as such and not taken for one of this with a wrong signature.
    let name = format!("sync-node CA {:08x}", rand::random::<u32>());
    let mut params = params(&name, now, days);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A node's certificate: for its name, this machine's own addresses, and the hosts under which others reach it.
pub(crate) fn make_node(ca: &Pair, name: &str, hosts: &[String], now: Time, days: u32) -> Result<Pair> {
    let issuer = issuer(ca)?;
    let key = KeyPair::generate()?;
    let mut params = params(name, now, days);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let own = [name, "localhost"].into_iter().chain(hosts.iter().map(String::as_str)).map(alternative_name);
    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    for alternative in own.chain(loopback.map(|address| Ok(SanType::IpAddress(address)))) {
        let alternative = alternative?;
        if !params.subject_alt_names.contains(&alternative) {
            params.subject_alt_names.push(alternative);
        }
    }
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn issuer(ca: &Pair) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::from_pem(&ca.key).context("ca.key is not a private key")?;
    Issuer::from_ca_cert_pem(&ca.certificate, key).context("ca.pem is not the certificate of a CA")
}

fn read_ca(folder: &Path) -> Result<Pair> {
    let read = |name| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| {
            format!("cannot read {}; make a CA first with `sync-node cert ca`", path.display())
        })
    };
    Ok(Pair { certificate: read("ca.pem")?, key: read("ca.key")? })
}

fn params(common_name: &str, now: Time, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let (from, until) = validity(now, days);
    (params.not_before, params.not_after) = (from.into(), until.into());
    params
}

/// From a little before now, for some days.
fn validity(now: Time, days: u32) -> (SystemTime, SystemTime) {
    let now = UNIX_EPOCH + Duration::from_millis(now.as_millis());
    (now - BACKDATED, now + DAY * days)
}

fn alternative_name(host: &str) -> Result<SanType> {
    Ok(match host.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(host.try_into().with_context(|| format!("host {host:?}"))?),
    })
}

/// A name that is a file name and a label of a host name.
fn node_name(text: &str) -> Result<String, String> {
    if text == CA_NAME {
        return Err("the CA's own files are called that; choose another name".to_owned());
    }
    host(text).map_err(|_| "use letters, digits and - . _ and begin with a letter or digit".to_owned())
}

fn host(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let is_name = text.len() <= HOST_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(allowed);
    if is_name || text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    Err("not a host name or an address; leave out the port, if there is one".to_owned())
}

/// The two files that a command writes.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    force: bool,
}

impl Files {
    /// Looks before anything is made, so that refusing costs nothing.
    fn new(folder: &Path, name: &str, force: bool) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let files = Self {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
            force,
        };
        for path in [&files.certificate, &files.key] {
            ensure!(force || !path.exists(), "{} exists already; give --force to replace it", path.display());
        }
        Ok(files)
    }

    fn write(&self, pair: &Pair) -> Result<()> {
        self.write_one(&self.key, &pair.key, KEY_MODE)?;
        self.write_one(&self.certificate, &pair.certificate, CERTIFICATE_MODE)
    }

    /// Always makes a new file: one that exists could have other rights, or be a link to somewhere else.
    fn write_one(&self, path: &Path, text: &str, mode: u32) -> Result<()> {
        if self.force {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    bail!("cannot replace {}: {error}", path.display());
                }
                _ => {}
            }
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests;
