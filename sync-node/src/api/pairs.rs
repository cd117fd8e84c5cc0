//! `/v1/keyval/{zone}`: all pairs of a zone, with their expiry, out and in again; what `sync-node keyval export` and `import` use.
//!
//! One JSON object both ways: `{"key": "value"}`, or `{"key": {"value": "value", "expire": 30000}}` for a pair that lives for so many milliseconds more, `null` for one
//! that lives for ever in a zone with a timeout. The API of NGINX Plus shows no expiry and adds many pairs to an empty zone only; this is beside it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use hyper::body::Frame;
use serde_json::{Map, Value, json};
use sync_store::{Error, Expiry, KeyvalZone};

use super::Api;
use super::json::{self, Fields};
use super::plus::argument;
use super::plus::keyvals::{find, string};
use super::problem::Problem;

const CODE: &str = "KeyvalFormatError";
/// How many pairs are no text, and so are not in the answer.
const NOT_TEXT: HeaderName = HeaderName::from_static("sync-node-not-text");
/// Bytes that are written at a time.
const PART: usize = 64 << 10;

/// `GET /v1/keyval/{zone}`. The answer is written as it is read, so it may be larger than memory, and shows each pair as it is when its turn comes.
pub(super) async fn export(State(api): State<Api>, Path(zone): Path<String>) -> Result<Response, Problem> {
    let zone = find(&api, &zone)?;
    let counted = Arc::clone(&zone);
    let not_text = api.heavy(move |api| {
        let pairs = counted.iter(api.node().now());
        pairs.filter(|(key, entry)| !is_text(key, &entry.value)).count()
    });
    let not_text = not_text.await?;
    let mut response = json::respond(Body::new(Export { api, zone, place: Some(0), is_first: true }));
    if not_text > 0 {
        response.headers_mut().insert(NOT_TEXT, HeaderValue::from(not_text));
    }
    Ok(response)
}

fn is_text(key: &[u8], value: &[u8]) -> bool {
    std::str::from_utf8(key).is_ok() && std::str::from_utf8(value).is_ok()
}

/// The body of an export.
struct Export {
    api: Api,
    zone: Arc<KeyvalZone>,
    /// Where to go on; `None` at the end.
    place: Option<u64>,
    is_first: bool,
}

impl HttpBody for Export {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.part().map(|part| Ok(Frame::data(part.into()))))
    }
}

impl Export {
    fn part(&mut self) -> Option<Vec<u8>> {
        let from = self.place.take()?;
        let now = self.api.node().now();
        let mut part = Vec::with_capacity(PART + PART / 4);
        if from == 0 {
            part.push(b'{');
        }
        for (place, key, entry) in self.zone.iter_from(now, from) {
            if !is_text(&key, &entry.value) {
                continue;
            }
            part.extend_from_slice(if std::mem::take(&mut self.is_first) { b"\n" } else { b",\n" });
            string(&mut part, &key);
            part.push(b':');
            let left = entry.expires_at.map(|at| at.saturating_sub(now).as_millis().max(1));
            match left {
                None if self.zone.timeout().is_none() => string(&mut part, &entry.value),
                left => {
                    part.extend_from_slice(b"{\"value\":");
                    string(&mut part, &entry.value);
                    let left = left.map_or_else(|| "null".to_owned(), |left| left.to_string());
                    part.extend_from_slice(format!(",\"expire\":{left}}}").as_bytes());
                }
            }
            if part.len() >= PART {
                self.place = Some(place);
                return Some(part);
            }
        }
        part.extend_from_slice(b"\n}\n");
        Some(part)
    }
}

/// What to do about a key that is there.
#[derive(Clone, Copy)]
enum IfExists {
    Replace,
    Keep,
    Fail,
}

/// What came of the pairs of an import.
#[derive(Default)]
struct Imported {
    added: u64,
    replaced: u64,
    kept: u64,
    failed: Map<String, Value>,
}

/// `POST /v1/keyval/{zone}?if_exists=replace|keep|fail`: writes each pair, or says why not.
pub(super) async fn import(
    State(api): State<Api>,
    Path(zone): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    if !api.grants().write {
        return Err(Problem::method_disabled());
    }
    let zone = find(&api, &zone)?;
    let if_exists = match argument(query.as_deref().unwrap_or_default(), "if_exists").as_deref() {
        None | Some("replace") => IfExists::Replace,
        Some("keep") => IfExists::Keep,
        Some("fail") => IfExists::Fail,
        Some(other) => {
            let text = format!("if_exists={other:?} is not possible; write replace, keep or fail");
            return Err(Problem::format(CODE, text));
        }
    };
    let pairs = json::object(request, CODE).await?;
    let written = Arc::clone(&zone);
    let imported = api.heavy(move |api| {
        let mut imported = Imported::default();
        for (key, value) in pairs {
            if let Err(why) = imported.write(api, &written, &key, value, if_exists)? {
                imported.failed.insert(key, Value::String(why));
            }
        }
        Ok(imported)
    });
    let Imported { added, replaced, kept, failed } = imported.await??;
    api.saved(&zone).await?;
    let body = json!({ "added": added, "replaced": replaced, "kept": kept, "failed": failed });
    Ok(json::respond(body.to_string()))
}

impl Imported {
    /// Writes a pair. The inner error is about this pair alone.
    fn write(
        &mut self,
        api: &Api,
        zone: &KeyvalZone,
        key: &str,
        value: Value,
        if_exists: IfExists,
    ) -> Result<Result<(), String>, Problem> {
        let (value, expiry) = match pair(value) {
            Ok(pair) => pair,
            Err(why) => return Ok(Err(why)),
        };
        api.change(|now| {
            let done = match zone.insert(key, &value, now, expiry) {
                Ok(()) => {
                    self.added += 1;
                    Ok(())
                }
                Err(Error::KeyExists { .. }) => match if_exists {
                    IfExists::Replace => zone.set(key, &value, now, expiry).map(|()| self.replaced += 1),
                    IfExists::Keep => {
                        self.kept += 1;
                        Ok(())
                    }
                    IfExists::Fail => return Ok(Err("the key exists".to_owned())),
                },
                Err(error) => Err(error),
            };
            Ok(done.map_err(|error| error.to_string()))
        })
    }
}

/// Value and expiry, or what is wrong with them.
fn pair(value: Value) -> Result<(String, Expiry), String> {
    match value {
        Value::String(value) => Ok((value, Expiry::Default)),
        Value::Object(mut fields) => {
            let expiry = match fields.remove("expire") {
                None => Expiry::Default,
                Some(Value::Null) => Expiry::Never,
                Some(value) => match value.as_u64() {
                    Some(ms @ 1..) => Expiry::After(Duration::from_millis(ms)),
                    _ => return Err("\"expire\" must be 1 or more milliseconds, or null for ever".to_owned()),
                },
            };
            let mut fields = Fields::new(fields, CODE);
            let value = fields.text("value").map_err(|problem| problem.text().to_owned())?;
            fields.finish().map_err(|problem| problem.text().to_owned())?;
            Ok((value.ok_or("\"value\" is missing")?, expiry))
        }
        _ => Err("it must be a string, or an object with \"value\" and \"expire\"".to_owned()),
    }
}
