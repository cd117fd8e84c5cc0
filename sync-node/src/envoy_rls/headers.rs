//! Headers that tell a client how far it is from its limit. Of several limits the one counts of which least is left.

use super::rules::seconds;
use super::schema::{DescriptorStatus, HeaderValue};
use std::str::FromStr;

/// A set of headers by the names that clients look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`, as drafts of the IETF up to the sixth have them, and Envoy's reference service.
    Draft,
    /// The same with `X-` before it.
    X,
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "draft" => Ok(Self::Draft),
            "x" => Ok(Self::X),
            _ => Err(format!("{text:?} is not a form of headers; write \"draft\" or \"x\"")),
        }
    }
}

impl Form {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Draft => "RateLimit-",
            Self::X => "X-RateLimit-",
        }
    }
}

pub(super) fn headers(statuses: &[DescriptorStatus], forms: &[Form]) -> Vec<HeaderValue> {
    let limited = statuses.iter().filter_map(|status| Some((status, status.current_limit.as_ref()?)));
    let Some((status, limit)) = limited.min_by_key(|(status, _)| status.limit_remaining) else {
        return Vec::new();
    };
    let reset = status.duration_until_reset.as_ref().map_or(0, |reset| reset.seconds);
    let fields = [
        ("Limit", format!("{0}, {0};w={1}", limit.requests_per_unit, seconds(limit.unit()))),
        ("Remaining", status.limit_remaining.to_string()),
        ("Reset", reset.to_string()),
    ];
    let header = |form: &Form, (name, value): &(&str, String)| HeaderValue {
        key: format!("{}{name}", form.prefix()),
        value: value.clone(),
    };
    forms.iter().flat_map(|form| fields.iter().map(move |field| header(form, field))).collect()
}
