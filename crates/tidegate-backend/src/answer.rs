//! What a handler answers. Everything else that axum can answer is allowed too.

use std::fmt::Display;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Accepts a handshake: 200 with an empty body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accept {
    subprotocol: Option<HeaderValue>,
}

impl Accept {
    /// Without a subprotocol.
    pub const fn new() -> Self {
        Self { subprotocol: None }
    }

    /// With one of the subprotocols that the client offered ([`crate::Connect::subprotocols`]). Text that no header can carry
    /// counts as none.
    pub fn with_subprotocol(subprotocol: &str) -> Self {
        Self { subprotocol: HeaderValue::from_str(subprotocol).ok() }
    }
}

impl IntoResponse for Accept {
    fn into_response(self) -> Response {
        let mut response = StatusCode::OK.into_response();
        if let Some(subprotocol) = self.subprotocol {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        response
    }
}

/// Refuses a handshake or a message: an error status and a short text.
///
/// **The client can read both**, so the text says nothing about the inside. On a message the connection stays open, and
/// the client sees the text only on two-way routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refuse {
    status: StatusCode,
    text: String,
    retry_after: Option<u32>,
}

impl Refuse {
    /// Any status of 400 to 599. Any other becomes 403: a refusal never accepts.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let is_error = status.is_client_error() || status.is_server_error();
        let status = if is_error { status } else { StatusCode::FORBIDDEN };
        Self { status, text: text.into(), retry_after: None }
    }

    /// 400: something is missing or malformed.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 401: who is it?
    pub fn unauthorized(text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, text)
    }

    /// 403: not this one.
    pub fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 429 with `Retry-After` in seconds.
    pub fn too_many(retry_after: u32) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many connection attempts")
        }
    }
}

impl IntoResponse for Refuse {
    fn into_response(self) -> Response {
        let mut response = (self.status, [(CONTENT_TYPE, TEXT)], self.text).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Answers a message on a two-way route: the body goes to the client as one text message, at most 131,072 bytes.
///
/// On one-way routes the gateway drops it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    body: Option<String>,
    content_type: HeaderValue,
}

impl Reply {
    /// The value as JSON. One that cannot be written as JSON is logged and becomes a 500.
    pub fn json<T: Serialize>(value: &T) -> Self {
        let body = serde_json::to_string(value).map_err(|error| log_failure(&error)).ok();
        Self { body, content_type: JSON }
    }

    /// The text as it is.
    pub fn text(text: impl Into<String>) -> Self {
        Self { body: Some(text.into()), content_type: TEXT }
    }
}

fn log_failure(error: &dyn Display) {
    tracing::error!(%error, diag = "integration.bad-answer", "reply cannot be written as json");
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self.body {
            Some(body) => ([(CONTENT_TYPE, self.content_type)], body).into_response(),
            None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}
