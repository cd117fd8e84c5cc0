//! The HTTP API of a node, as a client sees it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

/// Longer than any answer takes on a busy machine: an answer that does not come at all is the failure.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How long a connection is used again: a node without descriptors serves nobody on a new one, and servers close theirs after 30 s at the earliest.
const IDLE_MAX: Duration = Duration::from_secs(25);

/// More than any body of the tests.
const BODY_MAX: u64 = 256 << 20;

/// An answer: the status and the whole body.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status code.
    pub status: u16,
    /// Header fields by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }

    /// This reply, if its status is `expected`.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn expect(self, expected: u16) -> Self {
        assert_eq!(self.status, expected, "{self:?}");
        self
    }
}

/// A zone in [`Status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneStatus {
    /// "keyval", "sticky" or "limit".
    pub kind: String,
    /// Records that peers have not acknowledged.
    pub records_pending: u64,
    /// Records of the zone.
    pub records_total: u64,
    /// Digest of the content; absent where the answer does not carry it.
    pub digest: Option<String>,
}

/// `GET /v1/status`, as far as the tests use it.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether the node has joined.
    pub ready: bool,
    /// Zones by name.
    pub zones: BTreeMap<String, ZoneStatus>,
    /// The whole document.
    pub document: Value,
}

/// A client of one node.
#[derive(Clone, Debug)]
pub struct Api {
    agent: ureq::Agent,
    base: String,
}

impl Api {
    /// A client of the API at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self::with_limit(address, ANSWER_LIMIT)
    }

    /// A client that waits for an answer no longer than `limit`.
    pub fn with_limit(address: SocketAddr, limit: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(limit))
            .max_idle_age(IDLE_MAX)
            .allow_non_standard_methods(true)
            .build();
        Self { agent: ureq::Agent::new_with_config(config), base: format!("http://{address}") }
    }

    /// Sends a request and returns the answer, whatever its status.
    ///
    /// # Errors
    /// If there is no answer: with the request and the cause.
    pub fn request(&self, method: &str, path: &str, body: Option<&str>) -> Result<Reply, String> {
        self.request_with(method, path, &[("content-type", "application/json")], body)
    }

    /// As [`Api::request`], with header fields of the caller's choice.
    ///
    /// # Errors
    /// If there is no answer: with the request and the cause.
    pub fn request_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Result<Reply, String> {
        let failed = |cause: &dyn std::fmt::Display| format!("{method} {}{path}: {cause}", self.base);
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            if body.is_some() || *name != "content-type" {
                request = request.header(*name, *value);
            }
        }
        let answer = match body {
            Some(body) => self.agent.run(request.body(body).map_err(|e| failed(&e))?),
            None => self.agent.run(request.body(()).map_err(|e| failed(&e))?),
        };
        let mut answer = answer.map_err(|e| failed(&e))?;
        let headers = answer
            .headers()
            .iter()
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let status = answer.status().as_u16();
        let body =
            answer.body_mut().with_config().limit(BODY_MAX).read_to_string().map_err(|e| failed(&e))?;
        Ok(Reply { status, headers, body })
    }

    fn answered(&self, method: &str, path: &str, body: Option<&str>) -> Reply {
        self.request(method, path, body).unwrap_or_else(|e| panic!("{e}"))
    }

    /// GET.
    ///
    /// # Panics
    /// Without an answer.
    pub fn get(&self, path: &str) -> Reply {
        self.answered("GET", path, None)
    }

    /// POST of a JSON body.
    ///
    /// # Panics
    /// Without an answer.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.answered("POST", path, Some(&body.to_string()))
    }

    /// PATCH of a JSON body.
    ///
    /// # Panics
    /// Without an answer.
    pub fn patch(&self, path: &str, body: &Value) -> Reply {
        self.answered("PATCH", path, Some(&body.to_string()))
    }

    /// PUT of a JSON body.
    ///
    /// # Panics
    /// Without an answer.
    pub fn put(&self, path: &str, body: &Value) -> Reply {
        self.answered("PUT", path, Some(&body.to_string()))
    }

    /// DELETE.
    ///
    /// # Panics
    /// Without an answer.
    pub fn delete(&self, path: &str) -> Reply {
        self.answered("DELETE", path, None)
    }

    /// Adds a pair to a keyval zone.
    ///
    /// # Panics
    /// If it is not created.
    #[track_caller]
    pub fn add(&self, zone: &str, key: &str, value: &str) {
        self.post(&keyvals(zone), &json!({ key: value })).expect(201);
    }

    /// The value of a key of a keyval zone, if it is there. Keys of the tests need no percent-encoding.
    ///
    /// # Panics
    /// If the answer is neither 200 nor 404.
    #[track_caller]
    pub fn value(&self, zone: &str, key: &str) -> Option<String> {
        let reply = self.get(&format!("{}?key={key}", keyvals(zone)));
        match reply.status {
            200 => Some(reply.json()[key].as_str().expect("a pair").to_owned()),
            404 => None,
            _ => panic!("{reply:?}"),
        }
    }

    /// All pairs of a keyval zone.
    ///
    /// # Panics
    /// If the answer is not an object of strings.
    #[track_caller]
    pub fn pairs(&self, zone: &str) -> BTreeMap<String, String> {
        serde_json::from_str(&self.get(&keyvals(zone)).expect(200).body).expect("an object of strings")
    }

    /// `/readyz` says yes.
    ///
    /// # Errors
    /// If it does not: with what it says.
    pub fn ready(&self) -> Result<(), String> {
        match self.request("GET", "/readyz", None)? {
            Reply { status: 200, .. } => Ok(()),
            reply => Err(format!("{reply:?}")),
        }
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// If there is no answer, or not of the documented form.
    pub fn status(&self) -> Result<Status, String> {
        let reply = self.request("GET", "/v1/status", None)?;
        let document: Value = serde_json::from_str(&reply.body).map_err(|e| format!("{e}: {reply:?}"))?;
        let zones = document["zones"].as_object().ok_or_else(|| format!("no zones in {document}"))?;
        let zone = |(name, zone): (&String, &Value)| {
            let status = ZoneStatus {
                kind: zone["kind"].as_str()?.to_owned(),
                records_pending: zone["records_pending"].as_u64()?,
                records_total: zone["records_total"].as_u64()?,
                digest: zone["digest"].as_str().map(str::to_owned),
            };
            Some((name.clone(), status))
        };
        let zones = zones.iter().map(zone).collect::<Option<_>>();
        Ok(Status {
            ready: document["ready"].as_bool().ok_or_else(|| format!("no ready in {document}"))?,
            zones: zones.ok_or_else(|| format!("a zone is not as documented: {document}"))?,
            document,
        })
    }

    /// A figure of `stream/zone_sync`'s `status` object.
    ///
    /// # Panics
    /// If it is not there.
    #[track_caller]
    pub fn sync_figure(&self, name: &str) -> u64 {
        let document = self.get("/api/9/stream/zone_sync/").expect(200).json();
        document["status"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {document}"))
    }
}

/// The path of a keyval zone.
fn keyvals(zone: &str) -> String {
    format!("/api/9/http/keyvals/{zone}")
}
