//! JSON bodies: read within bounds, taken apart field by field so that an error names the field.

use super::problem::Problem;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};
use std::error::Error;
use std::time::Duration;

/// Largest body, bytes: NGINX's `client_max_body_size`. A record of the largest size fits with room for escapes.
pub(super) const BODY_MAX: usize = 1 << 20;
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a body that is a JSON object. `code` is what a malformed one is called.
pub(super) async fn object(request: Request, code: &'static str) -> Result<Map<String, Value>, Problem> {
    check_type(&request)?;
    let body = bytes(request.into_body()).await?;
    match serde_json::from_slice(&body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::format(code, "the body must be a JSON object")),
        Err(error) => Err(Problem::format(code, format!("the body is not JSON: {error}"))),
    }
}

/// JSON, or no word about it: `curl -d` says that its bodies are forms, and NGINX's own examples rely on that being overlooked.
fn check_type(request: &Request) -> Result<(), Problem> {
    let Some(value) = request.headers().get(CONTENT_TYPE) else { return Ok(()) };
    let essence =
        value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" | "application/x-www-form-urlencoded" => Ok(()),
        other if other.ends_with("+json") => Ok(()),
        other => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "JsonError",
            format!("the body must be JSON (application/json), not {other:?}"),
        )),
    }
}

async fn bytes(body: Body) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if is_length_limit(&*error) => {
            Err(Problem::too_large(format!("the body is larger than {BODY_MAX} bytes")))
        }
        Ok(Err(error)) => Err(Problem::format("BodyReadError", format!("the body cannot be read: {error}"))),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "BodyReadError",
            format!("the body did not arrive within {BODY_TIMEOUT:?}"),
        )),
    }
}

fn is_length_limit(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A JSON answer.
pub(super) fn respond(body: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.into()).into_response()
}

/// An object taken apart field by field; what is left at the end nobody knows.
#[derive(Debug)]
pub(super) struct Fields {
    code: &'static str,
    object: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    pub(super) fn new(object: Map<String, Value>, code: &'static str) -> Self {
        Self { code, object, known: Vec::new() }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.object.remove(name)
    }

    fn wrong(&self, name: &str, must: &str, value: &Value) -> Problem {
        Problem::format(self.code, format!("{name:?} must be {must}, not {value}"))
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(self.wrong(name, "a string", &value)),
        }
    }

    /// A string with at least one character.
    pub(super) fn required_text(&mut self, name: &'static str) -> Result<String, Problem> {
        match self.text(name)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(Problem::format(self.code, format!("{name:?} must not be empty"))),
            None => Err(Problem::format(self.code, format!("{name:?} is missing"))),
        }
    }

    pub(super) fn count(&mut self, name: &'static str) -> Result<Option<u64>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(count) => Ok(Some(count)),
                None => Err(self.wrong(name, "a whole number of 0 or more", &value)),
            },
        }
    }

    pub(super) fn integer(&mut self, name: &'static str) -> Result<Option<i64>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(integer) => Ok(Some(integer)),
                None => Err(self.wrong(name, "a whole number", &value)),
            },
        }
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(value) => Err(self.wrong(name, "true or false", &value)),
        }
    }

    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.object.keys().next() {
            None => Ok(()),
            Some(name) => {
                let known = self.known.join(", ");
                Err(Problem::format(self.code, format!("unknown field {name:?}; known are {known}")))
            }
        }
    }
}
