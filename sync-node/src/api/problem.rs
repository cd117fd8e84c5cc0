//! What a client is told when it does not get what it asked for: NGINX Plus's error object, on every path of the API.
//!
//! `{"error":{"status":404,"text":"keyval not found","code":"KeyvalNotFound"},"request_id":"…","href":"…"}`. Codes are for programs and are
//! NGINX's where NGINX has one; texts are for people and say what would be right.

use axum::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::borrow::Cow;
use std::time::Duration;

/// Where the codes of the NGINX Plus API are documented; what NGINX itself puts there.
const HREF: &str = "https://nginx.org/en/docs/http/ngx_http_api_module.html";

/// How long a client should wait before it asks a node again that is stopping.
const STOPPING_RETRY: Duration = Duration::from_secs(1);

/// An answer that is an error. The [guard](super::guard) fills in the request's id.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    text: Cow<'static, str>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, text: text.into(), header: None }
    }

    /// What is said to people.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    pub(super) fn not_found(code: &'static str, text: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, text)
    }

    pub(super) fn path_not_found() -> Self {
        Self::not_found("PathNotFound", "path not found")
    }

    /// Changes under `/api` are not granted.
    pub(super) fn method_disabled() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodDisabled",
            "method disabled; it needs write = true in [api]",
        )
        .with(ALLOW, HeaderValue::from_static("GET, HEAD"))
    }

    /// Decisions are not granted.
    pub(super) fn decide_disabled() -> Self {
        Self::new(StatusCode::FORBIDDEN, "DecideDisabled", "decisions need decide = true in [api]")
    }

    /// The path does not know the method.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodDisabled", "this path does not know the method")
    }

    pub(super) fn format(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, text)
    }

    pub(super) fn too_large(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", text)
    }

    pub(super) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", "access is not allowed from this address")
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "a user name and password are needed")
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"sync-node\", charset=\"UTF-8\""))
    }

    pub(super) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Stopping", "the node is stopping and takes no changes")
            .with(RETRY_AFTER, HeaderValue::from(STOPPING_RETRY.as_secs()))
    }

    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "internal error")
    }

    /// What a zone refused. The state of the zone is as before, by the contract of its errors.
    pub(super) fn from_zone(error: &sync_store::Error, format_code: &'static str) -> Self {
        use sync_store::Error;
        match error {
            Error::KeyExists { .. } => {
                Self::new(StatusCode::CONFLICT, "KeyvalKeyExists", "keyval key exists")
            }
            Error::KeyNotFound { .. } => Self::not_found("KeyvalKeyNotFound", "keyval key not found"),
            Error::ZoneFull { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "ZoneFull", error.to_string())
            }
            Error::RecordTooLarge { .. } | Error::KeyTooLong { .. } => Self::too_large(error.to_string()),
            _ => Self::format(format_code, error.to_string()),
        }
    }

    /// A change was made and is not in the zone's state file.
    pub(super) fn unsaved(error: &crate::Error) -> Self {
        let (status, code) = match error {
            crate::Error::StateFull { .. } => (StatusCode::INSUFFICIENT_STORAGE, "StateFull"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "StateNotSaved"),
        };
        let text =
            format!("the zone is changed, but not saved: {error}; it will be as soon as that is possible");
        Self::new(status, code, text)
    }

    /// The answer itself.
    pub(super) fn respond(self, request_id: &str) -> Response {
        let body = json!({
            "error": { "status": self.status.as_u16(), "text": self.text, "code": self.code },
            "request_id": request_id,
            "href": HREF,
        });
        let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut response = (self.status, [json], body.to_string()).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl IntoResponse for Problem {
    /// Travels as an extension up to the guard, which knows the request's id.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
