//! The API of NGINX Plus, versions 1 to 9 alike, so that its clients work unchanged: the Prometheus exporter, the Go client, and what
//! operators have in their shell history.
//!
//! | under `/api/{version}/` | answer |
//! |---|---|
//! | `stream/zone_sync/` | synchronization: pending and all records of each zone, bytes and messages, nodes online |
//! | `http/keyvals/`, `http/keyvals/{zone}`, the same under `stream/` | [`keyvals`] |
//! | `http/limit_reqs/`, `http/limit_reqs/{zone}` | how checks were answered; DELETE resets |
//! | `slabs/`, `slabs/{zone}` | memory of each zone, in pages |
//! | `nginx`, `processes`, `connections`, `http/requests`, `workers/`, `ssl` | this process and its API listener |
//! | `http/upstreams/`, `http/server_zones/`, … | empty: a node has none, and clients ask |
//!
//! The trailing slash is optional everywhere, `fields` limits the members of objects, and a path that is right with a method that is
//! not granted is a 405 before it is anything else. The rules are the same for the whole tree, so it is one table of its own
//! ([`Endpoint::find`]) rather than forty routes.

mod figures;
pub(super) mod keyvals;

use super::problem::Problem;
use super::{Api, json};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

const VERSIONS: [u8; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];
const ROOT: &[&str] =
    &["nginx", "processes", "connections", "slabs", "http", "stream", "resolvers", "ssl", "workers"];
const HTTP: &[&str] = &[
    "requests",
    "server_zones",
    "location_zones",
    "caches",
    "limit_conns",
    "limit_reqs",
    "upstreams",
    "keyvals",
];
const STREAM: &[&str] = &["server_zones", "limit_conns", "upstreams", "keyvals"];
const ZONE_SYNC: &str = "zone_sync";

/// What a path under `/api/{version}/` names.
#[derive(Debug, PartialEq, Eq)]
enum Endpoint<'p> {
    Directory(&'static [&'static str]),
    /// As `Directory(STREAM)`, and `zone_sync` where the node synchronizes.
    Stream,
    Nginx,
    Processes,
    Connections,
    Slabs,
    Slab(&'p str),
    Ssl,
    Workers,
    Requests,
    /// Something that a node has none of.
    Nothing,
    LimitReqs,
    LimitReq(&'p str),
    Keyvals,
    Keyval(&'p str),
    ZoneSync,
}

impl<'p> Endpoint<'p> {
    fn find(path: &[&'p str]) -> Option<Self> {
        Some(match *path {
            [] => Self::Directory(ROOT),
            ["nginx"] => Self::Nginx,
            ["processes"] => Self::Processes,
            ["connections"] => Self::Connections,
            ["slabs"] => Self::Slabs,
            ["slabs", zone] => Self::Slab(zone),
            ["ssl"] => Self::Ssl,
            ["workers"] => Self::Workers,
            ["http"] => Self::Directory(HTTP),
            ["http", "requests"] => Self::Requests,
            ["http", "limit_reqs"] => Self::LimitReqs,
            ["http", "limit_reqs", zone] => Self::LimitReq(zone),
            ["stream"] => Self::Stream,
            ["stream", "zone_sync"] => Self::ZoneSync,
            ["http" | "stream", "keyvals"] => Self::Keyvals,
            ["http" | "stream", "keyvals", zone] => Self::Keyval(zone),
            ["resolvers"]
            | ["http" | "stream", "server_zones" | "limit_conns" | "upstreams"]
            | ["http", "location_zones" | "caches"] => Self::Nothing,
            _ => return None,
        })
    }

    /// Whether there is anything to change here, so that a method that is not granted is told apart from one that makes no sense.
    fn knows(&self, method: &Method) -> bool {
        match *method {
            Method::GET | Method::HEAD => true,
            Method::POST | Method::PATCH => matches!(self, Self::Keyval(_)),
            Method::DELETE => matches!(self, Self::Keyval(_) | Self::LimitReq(_)),
            _ => false,
        }
    }
}

/// Every path from `/api` on.
pub(super) async fn answer(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let path = request.uri().path().to_owned();
    let segments: Vec<_> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .skip(1)
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy())
        .collect();
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let Some((version, path)) = segments.split_first() else {
        return if reading {
            Ok(json::respond(json!(VERSIONS).to_string()))
        } else {
            Err(Problem::method_not_allowed())
        };
    };
    if !VERSIONS.iter().any(|known| known.to_string() == *version) {
        return Err(Problem::not_found("UnknownVersion", "unknown version"));
    }
    let endpoint = Endpoint::find(path).ok_or_else(Problem::path_not_found)?;
    if reading {
        return read(&api, &endpoint, request.uri().query().unwrap_or_default()).await;
    }
    if !api.grants().write {
        return Err(Problem::method_disabled());
    }
    if !endpoint.knows(request.method()) {
        return Err(Problem::method_not_allowed());
    }
    change(&api, &endpoint, request).await.map(IntoResponse::into_response)
}

async fn read(api: &Api, endpoint: &Endpoint<'_>, query: &str) -> Result<Response, Problem> {
    let object = |value| Ok(respond(limit_fields(value, argument(query, "fields").as_deref())));
    // The objects of a collection are limited, not the collection.
    let collection = |value| Ok(respond(limit_fields_of_each(value, argument(query, "fields").as_deref())));
    match endpoint {
        Endpoint::Directory(names) => Ok(respond(json!(names))),
        Endpoint::Stream => {
            let zone_sync = figures::synchronizes(api).then_some(&ZONE_SYNC);
            Ok(respond(STREAM.iter().chain(zone_sync).copied().collect()))
        }
        Endpoint::Nginx => object(figures::nginx(api)),
        Endpoint::Processes => object(json!({ "respawned": 0 })),
        Endpoint::Connections => object(figures::connections(api)),
        Endpoint::Slabs => collection(figures::slabs(api)),
        Endpoint::Slab(zone) => object(figures::slab(api, zone)?),
        Endpoint::Ssl => object(figures::ssl(api)),
        Endpoint::Workers => collection(figures::workers(api)),
        Endpoint::Requests => object(figures::requests(api)),
        Endpoint::Nothing => Ok(respond(json!({}))),
        Endpoint::LimitReqs => collection(figures::limit_reqs(api)),
        Endpoint::LimitReq(zone) => object(figures::limit_req(api, zone)?),
        Endpoint::ZoneSync => object(figures::zone_sync(api)?),
        Endpoint::Keyvals => {
            keyvals::all(api, argument(query, "fields").is_some_and(|fields| fields.is_empty())).await
        }
        Endpoint::Keyval(zone) => keyvals::read(api, zone, argument(query, "key")).await,
    }
}

async fn change(api: &Api, endpoint: &Endpoint<'_>, request: Request) -> Result<StatusCode, Problem> {
    match (endpoint, request.method()) {
        (Endpoint::Keyval(zone), &Method::POST) => keyvals::add(api, zone, request).await,
        (Endpoint::Keyval(zone), &Method::PATCH) => keyvals::update(api, zone, request).await,
        (Endpoint::Keyval(zone), &Method::DELETE) => keyvals::clear(api, zone).await,
        (Endpoint::LimitReq(zone), &Method::DELETE) => figures::reset_limit_req(api, zone),
        _ => Err(Problem::method_not_allowed()),
    }
}

fn respond(value: Value) -> Response {
    json::respond(value.to_string())
}

/// The value of an argument of the query, percent-decoded; a plus sign is a plus sign, as NGINX has it.
pub(super) fn argument(query: &str, name: &str) -> Option<String> {
    let mut arguments = query.split('&').map(|argument| argument.split_once('=').unwrap_or((argument, "")));
    let (_, value) = arguments.find(|(key, _)| *key == name)?;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

/// Leaves the members of an object that `fields`, a list with commas, names; all of them without one.
fn limit_fields(mut value: Value, fields: Option<&str>) -> Value {
    if let (Some(fields), Value::Object(members)) = (fields, &mut value) {
        members.retain(|name, _| fields.split(',').any(|field| field == name));
    }
    value
}

/// [`limit_fields`] for each object of a collection. Empty fields leave a list of names.
fn limit_fields_of_each(mut value: Value, fields: Option<&str>) -> Value {
    match (&mut value, fields) {
        (Value::Object(members), Some("")) => members.keys().cloned().collect(),
        (Value::Object(members), _) => {
            members.values_mut().for_each(|member| *member = limit_fields(member.take(), fields));
            value
        }
        (Value::Array(items), _) => {
            items.iter_mut().for_each(|item| *item = limit_fields(item.take(), fields));
            value
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests;
