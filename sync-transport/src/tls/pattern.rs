//! Whom we let in: patterns for the names in peers' certificates.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::identity::Name;
use crate::Error;

/// Longest pattern, bytes: a host name has up to 253, a SPIFFE ID up to 2,048.
const LENGTH_MAX: usize = 2048;

/// A pattern for names in certificates. What it is written like decides which names it is compared with:
///
/// | pattern | matches |
/// |---|---|
/// | `edge-1.example.com` | that DNS name, in upper or lower case |
/// | `*.example.com` | DNS names with exactly one more label: `a.example.com`, neither `a.b.example.com` nor `example.com` |
/// | `10.0.0.7`, `2001:db8::7` | that IP address |
/// | `spiffe://example.org/sync/edge-1` | that URI, to the letter |
/// | `spiffe://example.org/sync/*` | URIs with exactly one segment of the path in the place of each `*` |
///
/// A `*` stands for a whole label or segment that is not empty. A `*` in a *certificate* stands for
/// nothing: a certificate for `*.example.com` is let in by the pattern `*.example.com` alone.
#[derive(Clone, PartialEq, Eq)]
pub struct NamePattern(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    /// In lower case; the first label may be `*`.
    Dns(String),
    /// Up to the path, and the path; its segments may be `*`.
    Uri(String, String),
    Ip(IpAddr),
}

impl NamePattern {
    pub(super) fn matches(&self, name: &Name) -> bool {
        match (&self.0, name) {
            (Kind::Dns(pattern), Name::Dns(name)) => dns_matches(pattern, name),
            (Kind::Uri(head, path), Name::Uri(name)) => {
                name.strip_prefix(head.as_str()).is_some_and(|rest| path_matches(path, rest))
            }
            (Kind::Ip(pattern), Name::Ip(address)) => pattern == address,
            (Kind::Dns(_) | Kind::Uri(..) | Kind::Ip(_), _) => false,
        }
    }
}

fn dns_matches(pattern: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    match pattern.strip_prefix('*') {
        None => name.eq_ignore_ascii_case(pattern),
        // The rest begins with its dot.
        Some(rest) => {
            name.find('.').and_then(|dot| name.split_at_checked(dot)).is_some_and(|(label, tail)| {
                (label == "*" || is_label(label)) && tail.eq_ignore_ascii_case(rest)
            })
        }
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    let mut names = path.split('/');
    let all = pattern.split('/').all(|segment| {
        names.next().is_some_and(|name| if segment == "*" { !name.is_empty() } else { name == segment })
    });
    all && names.next().is_none()
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

impl FromStr for NamePattern {
    type Err = Error;

    /// The error says what to write instead.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason| Err(Error::InvalidOption { option: "allowed_names", reason });
        let refused = |reason: &str| invalid(format!("{text:?} is not a pattern for names: {reason}"));
        if text.len() > LENGTH_MAX {
            return invalid(format!("a pattern for names may have {LENGTH_MAX} bytes, not {}", text.len()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self(Kind::Ip(address)));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if scheme.is_empty() || authority.is_empty() || format!("{scheme}{authority}").contains('*') {
                return refused(
                    "scheme and authority are written out, as in \"spiffe://example.org/sync/*\"",
                );
            }
            if path.split('/').any(|segment| segment.contains('*') && segment != "*") {
                return refused("a * stands for a whole segment, as in \"spiffe://example.org/sync/*\"");
            }
            return Ok(Self(Kind::Uri(format!("{scheme}://{authority}"), path.to_owned())));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let labels = name.strip_prefix("*.").unwrap_or(&name);
        if name == "*" {
            return refused("it would allow every name; leave allowed_names out for that");
        }
        if labels.contains('*') {
            return refused("a * stands for the whole first label, as in \"*.example.com\"");
        }
        if !labels.split('.').all(is_label) {
            return refused(
                "write a host name, \"*.example.com\", an address, or a URI such as \"spiffe://example.org/sync/*\"",
            );
        }
        Ok(Self(Kind::Dns(name)))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Dns(pattern) => f.write_str(pattern),
            Kind::Uri(head, path) => write!(f, "{head}{path}"),
            Kind::Ip(address) => address.fmt(f),
        }
    }
}

impl fmt::Debug for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests;
