//! What is asked: parameters of the query, or header fields `X-Sync-…` of the same names.
//!
//! A query is written by whoever configures the proxy; header fields may be passed on from a client who would like to set his own burst.
//! So where there is a query nothing but the key comes from a header field, and only a key that the query does not have. The key may need
//! to: nginx does not escape what it puts into a query, so a key that the client chose could bring a parameter along.

use super::super::decide::CODE;
use super::super::problem::Problem;
use axum::http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use sync_store::Rate;

/// Parameters, with the header fields that stand for them.
const KNOWN: [(&str, &str); 8] = [
    ("blocklist", "x-sync-blocklist"),
    ("blocklist_key", "x-sync-blocklist-key"),
    ("limit_req", "x-sync-limit-req"),
    ("key", "x-sync-key"),
    ("cost", "x-sync-cost"),
    ("burst", "x-sync-burst"),
    ("rate", "x-sync-rate"),
    ("deny", "x-sync-deny"),
];

/// A question, checked but for the names of zones.
#[derive(Debug, PartialEq)]
pub(super) struct Question {
    /// A keyval zone whose keys are refused.
    pub(super) blocklist: Option<String>,
    pub(super) blocklist_key: Vec<u8>,
    /// A limit zone; one of the two is there.
    pub(super) limit_req: Option<String>,
    pub(super) key: Vec<u8>,
    pub(super) cost: i64,
    pub(super) burst: Option<u64>,
    pub(super) rate: Option<Rate>,
    /// The status of a request over the limit.
    pub(super) deny: StatusCode,
}

impl Question {
    pub(super) fn read(query: &str, headers: &HeaderMap) -> Result<Self, Problem> {
        let mut given = Given::collect(query, headers)?;
        let blocklist = given.text("blocklist")?;
        let limit_req = given.text("limit_req")?;
        if blocklist.is_none() && limit_req.is_none() {
            return Err(wrong("name a zone: \"limit_req\", \"blocklist\" or both"));
        }
        let key = given.key("key")?;
        let blocklist_key = given.key("blocklist_key")?;
        let missing = || wrong("\"key\" is missing; give it in the query, or as X-Sync-Key");
        if limit_req.is_some() && key.is_none() {
            return Err(missing());
        }
        let key = key.or_else(|| blocklist_key.clone()).ok_or_else(missing)?;
        Ok(Self {
            blocklist,
            blocklist_key: blocklist_key.unwrap_or_else(|| key.clone()),
            limit_req,
            key,
            cost: given
                .count("cost")?
                .map_or(Ok(1), i64::try_from)
                .map_err(|_| wrong("\"cost\" is too large"))?,
            burst: given.count("burst")?,
            rate: given.rate()?,
            deny: given.deny()?,
        })
    }
}

fn wrong(text: impl Into<String>) -> Problem {
    Problem::format(CODE, text.into())
}

/// Values in the order of [`KNOWN`].
struct Given([Option<Vec<u8>>; KNOWN.len()]);

impl Given {
    fn collect(query: &str, headers: &HeaderMap) -> Result<Self, Problem> {
        let mut given = Self(Default::default());
        for argument in query.split('&').filter(|argument| !argument.is_empty()) {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            let place = KNOWN.iter().position(|(known, _)| *known == name).ok_or_else(|| {
                let known = KNOWN.map(|(known, _)| known).join(", ");
                wrong(format!("unknown parameter {name:?}; known are {known}"))
            })?;
            // A plus sign is a plus sign, as nginx has it.
            if given.0[place].replace(percent_decode_str(value).collect()).is_some() {
                return Err(wrong(format!("{name:?} is there twice")));
            }
        }
        let from_headers_only = given.0.iter().all(Option::is_none);
        for ((name, field), value) in KNOWN.iter().zip(&mut given.0) {
            if value.is_some() || !(from_headers_only || *name == "key") {
                continue;
            }
            let mut values = headers.get_all(*field).iter();
            *value = values.next().map(|value| value.as_bytes().to_vec());
            if values.next().is_some() {
                return Err(wrong(format!("{field} is there twice")));
            }
        }
        Ok(given)
    }

    fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        let place = KNOWN.iter().position(|(known, _)| *known == name)?;
        self.0[place].take()
    }

    fn key(&mut self, name: &str) -> Result<Option<Vec<u8>>, Problem> {
        match self.take(name) {
            Some(key) if key.is_empty() => Err(wrong(format!("{name:?} must not be empty"))),
            key => Ok(key),
        }
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let text = |bytes| String::from_utf8(bytes).map_err(|_| wrong(format!("{name:?} must be UTF-8")));
        self.take(name).map(text).transpose()
    }

    fn count(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(count) if digits => Ok(Some(count)),
            _ => Err(wrong(format!("{name:?} must be a whole number of 0 or more, not {text:?}"))),
        }
    }

    fn rate(&mut self) -> Result<Option<Rate>, Problem> {
        let rate = self.text("rate")?.map(|text| text.parse::<Rate>()).transpose();
        rate.map_err(|error| wrong(format!("\"rate\": {error}")))
    }

    fn deny(&mut self) -> Result<StatusCode, Problem> {
        match self.text("deny")?.as_deref() {
            None | Some("429") => Ok(StatusCode::TOO_MANY_REQUESTS),
            Some("403") => Ok(StatusCode::FORBIDDEN),
            Some("401") => Ok(StatusCode::UNAUTHORIZED),
            Some(other) => Err(wrong(format!("\"deny\" must be 401, 403 or 429, not {other:?}"))),
        }
    }
}

#[cfg(test)]
mod tests;
