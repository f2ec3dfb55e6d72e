//! What a request must bring to count as an event: secret, headers, body, signature.
//!
//! Answers tell the sender as little as the Django package does; the log tells the rest, without any value.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{OriginalUri, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::LengthLimitError;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::event::EventHead;

/// Header of the shared secret unless [`Checks::secret_header`] says otherwise. Source: the Django package, 4.1.0.
pub const DEFAULT_SECRET_HEADER: &str = "x-ws-gateway-secret";

/// Longest body of an event, in bytes. Source: quotas of Amazon API Gateway WebSocket APIs, 128 KB for a message.
pub const MAX_BODY: usize = 131_072;

/// Header of the signature.
pub const SIGNATURE_HEADER: &str = "tidegate-signature";

/// How far the time of a signature may be from now, in both directions.
pub const SIGNATURE_TOLERANCE: Duration = Duration::from_secs(300);

/// Signatures that are looked at in one header; more are ignored. Two are usual while secrets rotate.
const MAX_SIGNATURES: usize = 4;

/// Headers without which a request is no event.
///
/// Of the ten that the Django package demands, two are not here: `X-Real-Ip`, which Amazon's gateway does not send, and
/// `Content-Length`, which proxies between gateway and service may take away and nothing here needs.
const REQUIRED: [&str; 8] = [
    "host",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-amzn-trace-id",
    "x-amzn-apigateway-api-id",
    "connectionid",
    "user-agent",
];

/// Headers that say who a connection is: two values mean that somebody added one.
const ONCE: [&str; 2] = ["x-amzn-apigateway-api-id", "connectionid"];

/// What is demanded of a request. The default demands the headers of a gateway and no secret.
///
/// For extractors on plain axum routes, put it into the router: `.layer(axum::Extension(checks))`.
#[derive(Clone, Default)]
pub struct Checks {
    secret_header: Option<HeaderName>,
    secrets: Option<Arc<[String]>>,
    sign_secrets: Option<Arc<[String]>>,
    api_ids: Option<Arc<[String]>>,
    is_identity_trusted: bool,
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checks")
            .field("secret_header", &self.secret_header)
            .field("secrets", &self.secrets.as_ref().map(|secrets| secrets.len()))
            .field("sign_secrets", &self.sign_secrets.as_ref().map(|secrets| secrets.len()))
            .field("api_ids", &self.api_ids)
            .field("is_identity_trusted", &self.is_identity_trusted)
            .finish()
    }
}

impl Checks {
    /// As the default.
    pub fn new() -> Self {
        Self::default()
    }

    /// The header [`DEFAULT_SECRET_HEADER`] must be one of these; more than one while a secret is replaced. Compared in constant
    /// time. An empty list, or one of empty texts, lets nothing through: a missing setting does not open the door.
    #[must_use]
    pub fn secrets(mut self, secrets: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.secrets = Some(non_empty(secrets));
        self
    }

    /// Another header for the shared secret.
    #[must_use]
    pub fn secret_header(mut self, name: HeaderName) -> Self {
        self.secret_header = Some(name);
        self
    }

    /// Demands the header [`SIGNATURE_HEADER`], made by Tidegate with one of these, and believes the identity headers, because
    /// Tidegate keeps clients from sending them. An empty list lets nothing through.
    ///
    /// Shape: `t=<seconds>,v1=<hex>`, an HMAC-SHA256 over `{t}.{METHOD}.{path and query}.{connection id}.{hex SHA-256 of the body}`.
    /// The path is the one on the wire: a proxy that rewrites it breaks the signature. Within [`SIGNATURE_TOLERANCE`] a
    /// repeated request is not recognized.
    #[must_use]
    pub fn sign_secrets(mut self, secrets: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.sign_secrets = Some(non_empty(secrets));
        self.is_identity_trusted = true;
        self
    }

    /// The only API ids that may call. An empty list lets nothing through.
    #[must_use]
    pub fn api_ids(mut self, api_ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.api_ids = Some(api_ids.into_iter().map(Into::into).collect());
        self
    }

    /// Whether to believe `Tidegate-User` and its like. **Only behind Tidegate and only where nobody else can reach the service:**
    /// Amazon's gateway forwards what a client sends under these names. Off unless [`Self::sign_secrets`] is used.
    #[must_use]
    pub fn trust_identity(mut self, is_trusted: bool) -> Self {
        self.is_identity_trusted = is_trusted;
        self
    }

    /// Checks a request and reads its body.
    ///
    /// The order is that of the Django package: secret, headers, API id, connection id; then body and signature.
    pub(crate) async fn check(&self, request: Request) -> Result<(EventHead, Parts, Bytes), Rejection> {
        let (parts, body) = request.into_parts();
        self.check_secret(&parts.headers)?;
        check_headers(&parts)?;
        let head = EventHead::read(&parts.headers, self.is_identity_trusted)?;
        if let Some(api_ids) = &self.api_ids
            && !api_ids.contains(&head.api_id)
        {
            tracing::warn!(
                api_id = head.api_id,
                diag = "backend.api-id-unknown",
                "request of an api that is not listed"
            );
            return Err(Rejection::Headers);
        }
        let body = axum::body::to_bytes(body, MAX_BODY).await.map_err(|error| {
            let is_too_long =
                std::error::Error::source(&error).is_some_and(|cause| cause.is::<LengthLimitError>());
            if is_too_long { Rejection::TooLong } else { Rejection::Broken }
        })?;
        if let Some(secrets) = &self.sign_secrets {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            check_signature(secrets, &parts, &head.connection_id, &body, now).map_err(|fault| {
                tracing::warn!(
                    ?fault,
                    connection_id = head.connection_id,
                    diag = "backend.secret-mismatch",
                    "signature of the gateway refused"
                );
                Rejection::Sender
            })?;
        }
        Ok((head, parts, body))
    }

    fn check_secret(&self, headers: &HeaderMap) -> Result<(), Rejection> {
        let Some(secrets) = &self.secrets else { return Ok(()) };
        let name = self.secret_header.clone().unwrap_or(HeaderName::from_static(DEFAULT_SECRET_HEADER));
        let mut values = headers.get_all(&name).iter();
        let is_known = match (values.next(), values.next()) {
            (Some(value), None) => is_one_of(value.as_bytes(), secrets),
            _ => false,
        };
        if is_known {
            return Ok(());
        }
        let is_sent = headers.contains_key(&name);
        tracing::warn!(header = %name, is_sent, diag = "backend.secret-mismatch", "shared secret refused");
        Err(Rejection::Sender)
    }
}

fn non_empty(secrets: impl IntoIterator<Item = impl Into<String>>) -> Arc<[String]> {
    secrets.into_iter().map(Into::into).filter(|secret: &String| !secret.is_empty()).collect()
}

/// Compares hashes, so that not even a length can be measured, and always all of them.
fn is_one_of(value: &[u8], secrets: &[String]) -> bool {
    let value = Sha256::digest(value);
    let mut is_known = subtle::Choice::from(0);
    for secret in secrets {
        is_known |= value.as_slice().ct_eq(Sha256::digest(secret.as_bytes()).as_slice());
    }
    is_known.into()
}

fn check_headers(parts: &Parts) -> Result<(), Rejection> {
    let is_missing = |name: &&str| match *name {
        // HTTP/2 has the host in the URI.
        "host" => !parts.headers.contains_key(HOST) && parts.uri.authority().is_none(),
        // A client without one has an empty one behind some proxies: present is enough.
        "user-agent" => !parts.headers.contains_key(USER_AGENT),
        name => parts.headers.get(name).is_none_or(HeaderValue::is_empty),
    };
    let missing: Vec<&str> = REQUIRED.iter().copied().filter(|name| is_missing(name)).collect();
    let repeated: Vec<&str> =
        ONCE.iter().copied().filter(|name| parts.headers.get_all(*name).iter().count() > 1).collect();
    if missing.is_empty() && repeated.is_empty() {
        return Ok(());
    }
    tracing::warn!(
        ?missing,
        ?repeated,
        diag = "backend.headers-missing",
        "request lacks headers of the gateway"
    );
    Err(Rejection::Headers)
}

/// What is wrong with a signature; for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignatureFault {
    Missing,
    Malformed,
    TooOld,
    TooNew,
    Mismatch,
}

/// `now` in seconds since 1970.
fn check_signature(
    secrets: &[String],
    parts: &Parts,
    connection_id: &str,
    body: &[u8],
    now: u64,
) -> Result<(), SignatureFault> {
    let mut values = parts.headers.get_all(SIGNATURE_HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(SignatureFault::Missing) };
    let mut time = None;
    let mut signatures = Vec::new();
    for field in value.to_str().map_err(|_| SignatureFault::Malformed)?.split(',') {
        match field.trim().split_once('=') {
            Some(("t", seconds)) => time = Some(seconds),
            Some(("v1", signature)) if signatures.len() < MAX_SIGNATURES => {
                signatures.push(hex::decode(signature).map_err(|_| SignatureFault::Malformed)?);
            }
            // Later versions of the scheme may stand beside the first.
            Some(_) => {}
            None => return Err(SignatureFault::Malformed),
        }
    }
    let time = time.ok_or(SignatureFault::Malformed)?;
    let seconds: u64 = time.parse().map_err(|_| SignatureFault::Malformed)?;
    if now.saturating_sub(seconds) > SIGNATURE_TOLERANCE.as_secs() {
        return Err(SignatureFault::TooOld);
    }
    if seconds.saturating_sub(now) > SIGNATURE_TOLERANCE.as_secs() {
        return Err(SignatureFault::TooNew);
    }
    // A nested router has only the rest of the path; what was signed is what was sent.
    let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(uri)| uri);
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let body_hash = hex::encode(Sha256::digest(body));
    let signed = format!("{time}.{}.{path}.{connection_id}.{body_hash}", parts.method);
    let is_made_by = |secret: &String, signature: &[u8]| {
        Hmac::<Sha256>::new_from_slice(secret.as_bytes())
            .is_ok_and(|mac| mac.chain_update(signed.as_bytes()).verify_slice(signature).is_ok())
    };
    let is_known =
        signatures.iter().any(|signature| secrets.iter().any(|secret| is_made_by(secret, signature)));
    if is_known { Ok(()) } else { Err(SignatureFault::Mismatch) }
}

/// Why a request is not taken for an event. The texts are those of the Django package where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Secret or signature: 403.
    #[error("request does not come from the gateway")]
    Sender,
    /// A header is missing, repeated or malformed, or the API is not one of those that may call: 400.
    #[error("headers of the gateway are missing")]
    Headers,
    /// The connection id has another form than `[A-Za-z0-9_=-]{1,128}`: 400.
    #[error("connection id is malformed")]
    ConnectionId,
    /// The body is over [`MAX_BODY`]: 413.
    #[error("body is over {MAX_BODY} bytes")]
    TooLong,
    /// The body broke off: 400.
    #[error("body broke off")]
    Broken,
    /// The message is not what its handler takes: 400.
    #[error("message does not fit its handler")]
    Message,
    /// No handler takes the message: 400.
    #[error("message names no handler")]
    NoHandler,
    /// The last part of the path names no event and no handler: 404.
    #[error("path names no event")]
    Path,
}

impl Rejection {
    /// Status of the answer.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Sender => StatusCode::FORBIDDEN,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Path => StatusCode::NOT_FOUND,
            Self::Headers | Self::ConnectionId | Self::Broken | Self::Message | Self::NoHandler => {
                StatusCode::BAD_REQUEST
            }
        }
    }

    /// Body of the answer.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Sender => "Invalid request",
            Self::Headers => "Invalid request headers",
            Self::ConnectionId => "Invalid connection ID",
            Self::TooLong => "Message too long: the limit is 131072 bytes",
            Self::Broken => "Body is incomplete",
            Self::Message => "Invalid message",
            Self::NoHandler => "Invalid request format (1)",
            Self::Path => "No such route",
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        (self.status(), [(CONTENT_TYPE, text)], self.text()).into_response()
    }
}
