//! One HTTP exchange with the gateway: address, credential, deadline, bounded answer, and what its status means.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, InvalidHeaderValue, RETRY_AFTER};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use percent_encoding::utf8_percent_encode;
use serde::de::DeserializeOwned;

use crate::sigv4::{ENCODED, SigV4, Signable, SigningName, sensitive};

/// How long a call may take from beginning to end, unless the client says otherwise.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer that is read, in bytes. It has room for the ids of half a million gone connections.
pub const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Longest message that is sent, in bytes, unless the client says otherwise. Source: quotas of Amazon API Gateway WebSocket APIs.
pub const MAX_MESSAGE: usize = 131_072;

/// How long a connection may stay unused in the pool. The gateway keeps idle ones for at least 60 s.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// Longest text of an error answer that is kept, in characters.
const MAX_ERROR_TEXT: usize = 512;

#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;
#[cfg(feature = "tls")]
type Connector = hyper_rustls::HttpsConnector<HttpConnector>;

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is no `http://` or `https://` URL with a host.
    #[error("address {address} is not an http or https url")]
    Address {
        /// As given, without user and password.
        address: String,
    },
    /// The address is `https://`, and the crate was built without its feature `tls`.
    #[error("address {address} needs the feature tls of tidegate-backend")]
    TlsOff {
        /// As given, without user and password.
        address: String,
    },
    /// The certificates of the system cannot be read.
    #[error("read the certificates of the system")]
    Certificates(#[source] std::io::Error),
    /// The key holds characters that no header can carry.
    #[error("put the key into a header")]
    Key(#[source] InvalidHeaderValue),
    /// An environment variable is absent or not text.
    #[error("read the environment variable {name}")]
    Environment {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: std::env::VarError,
    },
}

/// Why a call did not succeed. Nothing is tried twice; a push with an idempotency key may be repeated by the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// 410: the connection has ended or is unknown. Normal; forget its id.
    #[error("connection is gone")]
    Gone {
        /// Tidegate's reason, for example `connections.gone-idle`.
        diagnosis: Option<String>,
    },
    /// The message is too long: send a short notice with an address, and let the browser fetch.
    #[error("message of {size} bytes is too long{}", limit.map(|limit| format!(", the limit is {limit}")).unwrap_or_default())]
    TooLarge {
        /// Size of the message in bytes.
        size: usize,
        /// The limit in bytes: the client's own, when nothing was sent, or else the gateway's, where it names one.
        limit: Option<usize>,
    },
    /// 429: the connection reads too slowly, or the caller calls too often.
    #[error("connection is slow, or calls are too many")]
    Slow {
        /// `Retry-After` in seconds.
        retry_after: Option<u32>,
    },
    /// 401 or 403: key or signature are wrong, or have no right to this call.
    #[error("gateway denies the call: {text}")]
    Denied {
        /// The gateway's text.
        text: String,
    },
    /// Any other status.
    #[error("gateway answers {status}: {text}")]
    Other {
        /// The status.
        status: StatusCode,
        /// The gateway's text.
        text: String,
    },
    /// The gateway cannot be reached, or the exchange broke off. The message may have been sent.
    #[error("call the gateway")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No complete answer in time. The message may have been sent.
    #[error("gateway has not answered within {0:?}")]
    Timeout(Duration),
    /// A success whose body cannot be read.
    #[error("read the answer of the gateway")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An id, key or other value cannot stand in a request.
    #[error("build the request")]
    Request(#[source] http::Error),
}

/// How calls are authorized.
#[derive(Clone)]
enum Credential {
    None,
    Bearer(HeaderValue),
    SigV4(SigV4, SigningName),
}

/// Where calls go and how.
#[derive(Clone)]
pub(crate) struct Transport {
    client: Client<Connector, Full<Bytes>>,
    scheme: Scheme,
    authority: Authority,
    /// Path of the endpoint without a slash at its end.
    prefix: String,
    credential: Credential,
    pub(crate) timeout: Duration,
}

impl Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("authority", &self.authority)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// One call. `path` begins with a slash and is encoded.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, path: String) -> Self {
        Self { method, path, query: Query::default(), headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// A query under construction, encoded so that nobody encodes it differently.
#[derive(Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        let separator = if self.0.is_empty() { "" } else { "&" };
        self.0.push_str(&format!("{separator}{name}={}", encode(value)));
    }
}

/// A text as one segment of a path or one value of a query.
pub(crate) fn encode(text: &str) -> String {
    // Such a segment would be taken for a way up by everything that normalizes paths.
    if matches!(text, "." | "..") {
        return text.replace('.', "%2E");
    }
    utf8_percent_encode(text, ENCODED).to_string()
}

impl Transport {
    pub(crate) fn new(address: &str) -> Result<Self, ClientError> {
        let parsed: Option<Uri> = address.trim().parse().ok();
        let parts = parsed.map(Uri::into_parts).unwrap_or_default();
        let named = || ClientError::Address { address: without_user(address) };
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(named()) };
        if (scheme != Scheme::HTTP && scheme != Scheme::HTTPS)
            || authority.host().is_empty()
            || authority.as_str().contains('@')
        {
            return Err(named());
        }
        if scheme == Scheme::HTTPS && cfg!(not(feature = "tls")) {
            return Err(ClientError::TlsOff { address: without_user(address) });
        }
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector()?);
        let path = parts.path_and_query.as_ref().map_or("", |path| path.path());
        let prefix = path.trim_end_matches('/').to_owned();
        Ok(Self { client, scheme, authority, prefix, credential: Credential::None, timeout: REQUEST_TIMEOUT })
    }

    pub(crate) fn set_bearer(&mut self, key: &str) -> Result<(), ClientError> {
        self.credential = Credential::Bearer(sensitive(&format!("Bearer {key}")).map_err(ClientError::Key)?);
        Ok(())
    }

    pub(crate) fn set_sigv4(&mut self, signer: SigV4, service: SigningName) {
        self.credential = Credential::SigV4(signer, service);
    }

    /// Makes a call and reads a success as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, PushError> {
        let body = self.call(call).await?;
        serde_json::from_slice(&body).map_err(|error| PushError::Answer(error.into()))
    }

    /// Makes a call; the body of its success.
    pub(crate) async fn call(&self, call: Call) -> Result<Bytes, PushError> {
        let size = call.body.len();
        let request = self.request(call).map_err(PushError::Request)?;
        let exchange = async {
            let response =
                self.client.request(request).await.map_err(|error| PushError::Unreachable(error.into()))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            Ok::<_, PushError>((parts, body.map(http_body_util::Collected::to_bytes)))
        };
        let (parts, body) = tokio::time::timeout(self.timeout, exchange)
            .await
            .map_err(|_| PushError::Timeout(self.timeout))??;
        if parts.status.is_success() {
            return body.map_err(PushError::Answer);
        }
        Err(failure(parts.status, &parts.headers, &body.unwrap_or_default(), size))
    }

    fn request(&self, call: Call) -> Result<Request<Full<Bytes>>, http::Error> {
        let path = format!("{}{}", self.prefix, call.path);
        let query = &call.query.0;
        let path_and_query = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path_and_query)
            .build()?;
        let mut headers = call.headers;
        headers.insert(HOST, HeaderValue::from_str(self.authority.as_str())?);
        match &self.credential {
            Credential::None => {}
            Credential::Bearer(value) => {
                headers.insert(AUTHORIZATION, value.clone());
            }
            Credential::SigV4(signer, service) => {
                let signable = Signable {
                    service: *service,
                    method: call.method.as_str(),
                    host: self.authority.as_str(),
                    path: &path,
                    query,
                    body: &call.body,
                };
                headers.extend(signer.sign(&signable, Timestamp::now())?);
            }
        }
        let mut request = Request::builder().method(call.method).uri(uri).body(Full::new(call.body))?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

#[cfg(not(feature = "tls"))]
fn connector() -> Result<Connector, ClientError> {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    Ok(http)
}

#[cfg(feature = "tls")]
fn connector() -> Result<Connector, ClientError> {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = hyper_rustls::HttpsConnectorBuilder::new();
    let builder = builder.with_provider_and_native_roots(provider).map_err(ClientError::Certificates)?;
    Ok(builder.https_or_http().enable_http1().wrap_connector(http))
}

/// An address for an error text: what stands before an `@` may be a password.
fn without_user(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((_, rest)) => format!("...@{rest}"),
        None => address.to_owned(),
    }
}

/// JSON as a body, with its content type.
pub(crate) fn json_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8], size: usize) -> PushError {
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    match status {
        StatusCode::GONE => {
            let name = HeaderName::from_static("x-tidegate-diagnosis");
            PushError::Gone { diagnosis: header(name).map(str::to_owned) }
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            let name = HeaderName::from_static("x-tidegate-limit");
            PushError::TooLarge { size, limit: header(name).and_then(|value| value.parse().ok()) }
        }
        StatusCode::TOO_MANY_REQUESTS => {
            PushError::Slow { retry_after: header(RETRY_AFTER).and_then(|value| value.parse().ok()) }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => PushError::Denied { text: error_text(body) },
        status => PushError::Other { status, text: error_text(body) },
    }
}

/// `message` of a JSON body, as AWS spells it in either way, or else the body itself.
fn error_text(body: &[u8]) -> String {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).unwrap_or_default();
    let message = ["message", "Message", "error"].iter().find_map(|key| object.get(*key)?.as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    text.chars().take(MAX_ERROR_TEXT).collect()
}
