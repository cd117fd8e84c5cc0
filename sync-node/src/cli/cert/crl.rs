//! `cert revoke`: the list of revoked certificates of a CA.

use super::{CERTIFICATE_MODE, Pair, issuer, read, validity};
use anyhow::{Context, Result, anyhow, ensure};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use sync_store::Time;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

/// Serial numbers, and since when they are revoked.
pub(super) type Revoked = BTreeMap<Vec<u8>, SystemTime>;

/// Makes or extends the list in `file`, and says how many certificates it revokes.
pub(super) fn revoke(
    ca: &Pair,
    file: &Path,
    certificates: &[PathBuf],
    now: Time,
    days: u32,
) -> Result<usize> {
    let subject = subject(ca)?;
    let since = UNIX_EPOCH + Duration::from_millis(now.as_millis());
    let mut revoked = if file.exists() { listed(file, &subject)? } else { Revoked::new() };
    for path in certificates {
        let text = read(path)?;
        let serial = serial(&text, &subject).with_context(|| format!("cannot revoke {}", path.display()))?;
        revoked.entry(serial).or_insert(since);
    }
    let count = revoked.len();
    write(file, &list(ca, revoked, now, days)?)?;
    Ok(count)
}

fn list(ca: &Pair, revoked: Revoked, now: Time, days: u32) -> Result<String> {
    let revoked_certs = revoked.into_iter().map(|(serial, since)| RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: since.into(),
        reason_code: None,
        invalidity_date: None,
    });
    let (this_update, next_update) = validity(now, days);
    let params = CertificateRevocationListParams {
        this_update: this_update.into(),
        next_update: next_update.into(),
        // Has to grow from list to list.
        crl_number: SerialNumber::from(now.as_millis()),
        issuing_distribution_point: None,
        revoked_certs: revoked_certs.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(&issuer(ca)?)?.pem()?)
}

/// The CA's name, as it stands in what it signs.
fn subject(ca: &Pair) -> Result<Vec<u8>> {
    let block = first_block(&ca.certificate).context("ca.pem")?;
    let (_, certificate) =
        X509Certificate::from_der(&block.contents).context("ca.pem is not a certificate")?;
    Ok(certificate.subject().as_raw().to_vec())
}

fn serial(text: &str, subject: &[u8]) -> Result<Vec<u8>> {
    let block = first_block(text)?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).context("it is not a certificate")?;
    ensure!(
        certificate.issuer().as_raw() == subject,
        "it was signed by another CA; name its folder with --ca"
    );
    Ok(certificate.raw_serial().to_vec())
}

/// What the list that is there revokes.
pub(super) fn listed(file: &Path, subject: &[u8]) -> Result<Revoked> {
    let text = read(file)?;
    let block = first_block(&text).with_context(|| format!("{} is not a CRL", file.display()))?;
    let (_, list) = CertificateRevocationList::from_der(&block.contents)
        .with_context(|| format!("{} is not a CRL", file.display()))?;
    ensure!(
        list.tbs_cert_list.issuer.as_raw() == subject,
        "{} is the list of another CA; give another folder with --out",
        file.display()
    );
    let entries = list.iter_revoked_certificates().map(|entry| {
        let since = u64::try_from(entry.revocation_date.timestamp()).unwrap_or_default();
        (entry.raw_serial().to_vec(), UNIX_EPOCH + Duration::from_secs(since))
    });
    Ok(entries.collect())
}

fn first_block(text: &str) -> Result<Pem> {
    Pem::iter_from_buffer(text.as_bytes())
        .next()
        .and_then(Result::ok)
        .ok_or_else(|| anyhow!("there is no PEM in it"))
}

/// All at once, for nodes that may be reading it.
fn write(file: &Path, text: &str) -> Result<()> {
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let new = file.with_extension("pem.new");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(CERTIFICATE_MODE)
        .open(&new)
        .and_then(|mut open| open.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&new, file));
    written.with_context(|| format!("cannot write {}", file.display()))
}
