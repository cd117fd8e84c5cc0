//! `http/keyvals/` and `stream/keyvals/`: the same zones, since a node has no two kinds of traffic.
//!
//! Keys and values are bytes in a zone and strings in JSON. What comes in here is UTF-8; what a proxy wrote that is not is shown with
//! replacement characters, so that one odd record does not hide the others, and cannot be named in a request.

use crate::api::problem::Problem;
use crate::api::{Api, json};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use sync_store::{Expiry, KeyvalZone, Replica};

const CODE: &str = "KeyvalFormatError";

pub(in crate::api) fn find(api: &Api, zone: &str) -> Result<Arc<KeyvalZone>, Problem> {
    api.node().keyval(zone).ok_or_else(|| Problem::not_found("KeyvalNotFound", "keyval not found"))
}

/// `GET keyvals/`: every zone with its pairs, or a list of their names.
pub(super) async fn all(api: &Api, names_only: bool) -> Result<Response, Problem> {
    if names_only {
        let names: Value = api.node().keyvals().map(|zone| zone.name()).collect();
        return Ok(json::respond(names.to_string()));
    }
    let body = api.heavy(move |api| {
        let mut body = Vec::from(b"{");
        for zone in api.node().keyvals() {
            separate(&mut body);
            string(&mut body, zone.name().as_bytes());
            body.push(b':');
            pairs(&mut body, zone, api);
        }
        body.push(b'}');
        body
    });
    Ok(json::respond(body.await?))
}

/// `GET keyvals/{zone}`: its pairs, or the one of `?key=`.
pub(super) async fn read(api: &Api, zone: &str, key: Option<String>) -> Result<Response, Problem> {
    let zone = find(api, zone)?;
    let Some(key) = key else {
        let body = api.heavy(move |api| {
            let mut body = Vec::new();
            pairs(&mut body, &zone, api);
            body
        });
        return Ok(json::respond(body.await?));
    };
    let value = zone.get(&key, api.node().now()).ok_or_else(key_not_found)?;
    let mut body = Vec::from(b"{");
    string(&mut body, key.as_bytes());
    body.push(b':');
    string(&mut body, &value);
    body.push(b'}');
    Ok(json::respond(body))
}

/// Writes the pairs of a zone straight from its memory: a tree of values would need several times the space.
fn pairs(body: &mut Vec<u8>, zone: &KeyvalZone, api: &Api) {
    body.push(b'{');
    for (key, entry) in zone.iter(api.node().now()) {
        separate(body);
        string(body, &key);
        body.push(b':');
        string(body, &entry.value);
    }
    body.push(b'}');
}

fn separate(body: &mut Vec<u8>) {
    if body.last().is_some_and(|last| *last != b'{') {
        body.push(b',');
    }
}

pub(in crate::api) fn string(body: &mut Vec<u8>, bytes: &[u8]) {
    // Writing a string to a vector cannot fail.
    let _ = serde_json::to_writer(body, &String::from_utf8_lossy(bytes));
}

/// `POST keyvals/{zone}`: adds one pair, or several to an empty zone; all of them or none.
pub(super) async fn add(api: &Api, zone: &str, request: Request) -> Result<StatusCode, Problem> {
    let zone = find(api, zone)?;
    let object = json::object(request, CODE).await?;
    if object.is_empty() {
        return Err(Problem::format(CODE, "key required"));
    }
    let pairs = object.into_iter().map(|(key, change)| {
        let change = Change::read(&zone, &key, change)?;
        let Change::Set { value: Some(value), expiry } = change else {
            return Err(Problem::format(CODE, format!("key {key:?} needs a value, a string")));
        };
        Ok((key, value, expiry.unwrap_or(Expiry::Default)))
    });
    let pairs: Vec<_> = pairs.collect::<Result<_, _>>()?;
    let status = api.change(|now| {
        if pairs.len() > 1 && !zone.is_empty(now) {
            return Err(Problem::format(CODE, "only one key can be added, unless the zone is empty"));
        }
        for (index, (key, value, expiry)) in pairs.iter().enumerate() {
            if let Err(error) = zone.insert(key, value, now, *expiry) {
                for (key, _, _) in &pairs[..index] {
                    // What was just added can be removed; if it expired meanwhile, so much the better.
                    let _ = zone.remove(key, now);
                }
                return Err(Problem::from_zone(&error, CODE));
            }
        }
        Ok(StatusCode::CREATED)
    })?;
    api.saved(&zone).await?;
    Ok(status)
}

/// `PATCH keyvals/{zone}`: changes or removes one pair.
pub(super) async fn update(api: &Api, zone: &str, request: Request) -> Result<StatusCode, Problem> {
    let zone = find(api, zone)?;
    let mut pairs = json::object(request, CODE).await?.into_iter();
    let (Some((key, change)), None) = (pairs.next(), pairs.next()) else {
        return Err(Problem::format(CODE, "only one key can be updated, and one is required"));
    };
    let change = Change::read(&zone, &key, change)?;
    let status = api.change(|now| {
        let refused = |error| Problem::from_zone(&error, CODE);
        match change {
            Change::Remove => {
                if !zone.remove(&key, now).map_err(refused)? {
                    return Err(key_not_found());
                }
            }
            // A new value lives as long as one just added, unless it says otherwise.
            Change::Set { value: Some(value), expiry } => {
                zone.update(&key, Some(value.as_bytes()), now, Some(expiry.unwrap_or(Expiry::Default)))
                    .map_err(refused)?;
            }
            Change::Set { value: None, expiry } => {
                zone.update(&key, None, now, expiry).map_err(refused)?;
            }
        }
        Ok(StatusCode::NO_CONTENT)
    })?;
    api.saved(&zone).await?;
    Ok(status)
}

/// `DELETE keyvals/{zone}`: removes all pairs, here and on every other node.
pub(super) async fn clear(api: &Api, zone: &str) -> Result<StatusCode, Problem> {
    let zone = find(api, zone)?;
    let cleared = Arc::clone(&zone);
    api.heavy(move |api| {
        api.change(|now| cleared.clear(now).map_err(|error| Problem::from_zone(&error, CODE)))
    })
    .await??;
    api.saved(&zone).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a request wants done to a key.
enum Change {
    Set { value: Option<String>, expiry: Option<Expiry> },
    Remove,
}

impl Change {
    /// `"value"`, `{"value": "value", "expire": 30000}` or `null`.
    fn read(zone: &KeyvalZone, key: &str, value: Value) -> Result<Self, Problem> {
        if key.is_empty() {
            return Err(Problem::format(CODE, "key required, not an empty one"));
        }
        match value {
            Value::Null => Ok(Self::Remove),
            Value::String(value) => Ok(Self::Set { value: Some(value), expiry: None }),
            Value::Object(fields) => Self::read_fields(zone, key, fields),
            other => Err(Problem::format(
                CODE,
                format!(
                    "the value of key {key:?} must be a string, an object with \"value\" and \"expire\", or null, not {other}"
                ),
            )),
        }
    }

    fn read_fields(zone: &KeyvalZone, key: &str, fields: Map<String, Value>) -> Result<Self, Problem> {
        let mut fields = json::Fields::new(fields, CODE);
        let value = fields.text("value")?;
        let expire = fields.count("expire")?;
        fields.finish()?;
        if value.is_none() && expire.is_none() {
            return Err(Problem::format(CODE, format!("key {key:?} needs \"value\" or \"expire\"")));
        }
        let expiry = match expire {
            None => None,
            Some(0) => return Err(Problem::format(CODE, "\"expire\" must be 1 or more milliseconds")),
            Some(_) if zone.timeout().is_none() => {
                return Err(Problem::format(CODE, "expire is not allowed: the zone has no timeout"));
            }
            Some(ms) => Some(Expiry::After(Duration::from_millis(ms))),
        };
        Ok(Self::Set { value, expiry })
    }
}

fn key_not_found() -> Problem {
    Problem::not_found("KeyvalKeyNotFound", "keyval key not found")
}
