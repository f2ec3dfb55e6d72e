//! `HTTP_PROXY`: one event is one HTTP request.
//!
//! What is sent and why is in the header tables of the documentation. Redirects are not followed, bodies are
//! not touched, and no request is repeated after its first byte has left.

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Extensions, Request, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::RwLock;
use tidegate_core::context::EventKind;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::limits;
use tidegate_core::mapping::{Inputs, Target};
use tidegate_core::settings::UserAgent;
use tidegate_core::snapshot::HttpIntegration;

use super::{Answer, Call, Failure, answer};
use crate::gateway::Gateway;

/// Sets of mapped header names whose spelling is remembered.
const MAX_SPELLINGS: usize = 1024;

/// The pooled client for all backends.
#[derive(Debug)]
pub(crate) struct Backends {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    spellings: RwLock<HashMap<String, Extensions>>,
}

impl Backends {
    /// `idle`: how long a pooled connection may have been idle to be used again.
    pub(crate) fn new(tls: rustls::ClientConfig, idle: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limits::BACKEND_CONNECT_TIMEOUT));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(idle)
            .pool_timer(TokioTimer::new())
            .http1_title_case_headers(true)
            // Only a request of which no byte has left is given to another connection.
            .retry_canceled_requests(true)
            .set_host(true)
            .build(connector);
        Self { client, spellings: RwLock::default() }
    }
}

/// Calls the backend. The caller sets the time limit.
pub(super) async fn call(
    gateway: &Gateway,
    backend: &HttpIntegration,
    call: &Call<'_>,
) -> Result<Answer, Failure> {
    let backends = &gateway.backends;
    let request = build(gateway, backend, call).await?;
    let response = backends.client.request(request).await.map_err(|error| classify(&error))?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, limits::MAX_BACKEND_BODY_BYTES).collect().await.map_err(|error| {
        let detail = match error.is::<LengthLimitError>() {
            true => format!("the answer has more than {} bytes", limits::MAX_BACKEND_BODY_BYTES),
            false => "the answer broke off".to_owned(),
        };
        Failure::new(ErrorCode::IntegrationFailure, Diagnosis::INTEGRATION_BAD_ANSWER, detail)
    })?;
    let body = body.to_bytes();
    let status = parts.status.as_u16();
    let is_connect = call.event.kind == EventKind::Connect;
    let diagnosis = answer::diagnose(status, &body, is_connect, call.query.contains("ws_token="));
    Ok(Answer { status, headers: parts.headers, body, diagnosis })
}

async fn build(
    gateway: &Gateway,
    backend: &HttpIntegration,
    call: &Call<'_>,
) -> Result<Request<Full<Bytes>>, Failure> {
    let event = call.event;
    let facts = &event.connection;
    let settings = &call.stage.settings.integration;
    let is_connect = event.kind == EventKind::Connect;
    let is_message = matches!(event.kind, EventKind::Message { .. });

    let mut headers = HeaderMap::with_capacity(20);
    if is_connect && let Some(client_headers) = call.headers {
        headers.extend(
            client_headers
                .iter()
                .filter(|(name, _)| is_forwarded(name))
                .map(|(name, value)| (name.clone(), value.clone())),
        );
    } else if let Some(kept) = call.headers {
        let kept = kept.iter().filter(|(name, _)| is_forwarded(name));
        headers.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
    }
    let gateway_agent = || format!("AmazonAPIGateway_{}", facts.api_id);
    let client_agent = facts.user_agent.as_deref();
    let user_agent = match (settings.user_agent, is_connect) {
        (UserAgent::Gateway, _) => gateway_agent(),
        (UserAgent::Client, _) | (UserAgent::Both, true) => {
            client_agent.map_or_else(gateway_agent, str::to_owned)
        }
        (UserAgent::Both, false) => format!("{}, {}", client_agent.unwrap_or("Tidegate"), gateway_agent()),
    };
    set(&mut headers, header::USER_AGENT, &user_agent);
    let source_ip = facts.source_ip.to_string();
    set(&mut headers, HeaderName::from_static("x-forwarded-for"), call.forwarded_for.unwrap_or(&source_ip));
    set(&mut headers, HeaderName::from_static("x-real-ip"), &source_ip);
    let is_https = facts.is_secure || settings.forwarded_https;
    let (scheme, port) = if settings.forwarded_https {
        ("https", 443)
    } else {
        (if is_https { "https" } else { "http" }, facts.client_port)
    };
    set(&mut headers, HeaderName::from_static("x-forwarded-proto"), scheme);
    headers.insert("x-forwarded-port", HeaderValue::from(port));
    headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
    if is_message {
        let content_type =
            match call.is_json || serde_json::from_str::<serde::de::IgnoredAny>(call.body).is_ok() {
                true => "application/json",
                false => "text/plain; charset=utf-8",
            };
        set(&mut headers, header::CONTENT_TYPE, content_type);
    }
    if settings.default_headers.iter().any(|name| name.eq_ignore_ascii_case("connectionId")) {
        set(&mut headers, HeaderName::from_static("connectionid"), &facts.connection_id.to_string());
    }

    let none = HeaderMap::new();
    let inputs = Inputs {
        event,
        headers: if is_connect { call.headers.unwrap_or(&none) } else { &none },
        query: call.query,
        body: call.body,
        stage_variables: &call.stage.variables,
    };
    let mut query = String::new();
    let mut path = HashMap::new();
    let mut spelled = String::new();
    for mapping in &backend.mappings {
        let Some(value) = mapping.source.evaluate(&inputs) else {
            // An absent source leaves the header out; what the client sent under that name must not pass for it.
            if let Target::Header(name) = &mapping.target
                && let Ok(name) = HeaderName::from_bytes(name.as_bytes())
                && is_mappable(&name)
            {
                headers.remove(name);
            }
            continue;
        };
        match &mapping.target {
            Target::Header(name) => {
                if let (Ok(name), Ok(value)) =
                    (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
                    && is_mappable(&name)
                {
                    headers.insert(name, value);
                }
                let _ = write!(spelled, "{name}: x\r\n");
            }
            Target::Query(name) => {
                let encode =
                    |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
                let separator = if query.is_empty() { "" } else { "&" };
                let _ = write!(query, "{separator}{}={}", encode(name), encode(&value));
            }
            Target::Path(name) => {
                path.insert(name.clone(), value);
            }
        }
    }
    // Set last: neither a client nor a mapping may speak for the gateway.
    set(&mut headers, HeaderName::from_static("x-amzn-apigateway-api-id"), &facts.api_id);
    set(&mut headers, HeaderName::from_static("x-amzn-trace-id"), &gateway.trace_id(event.request_time));
    let body = Bytes::from(call.body.to_owned());
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));

    let misconfigured =
        |detail: String| Failure::new(ErrorCode::Misconfigured, Diagnosis::INTEGRATION_MISSING, detail);
    let uri = backend
        .uri
        .resolve(&call.stage.variables, &|name| path.get(name).cloned())
        .map_err(|error| misconfigured(error.to_string()))?;
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    set(&mut headers, header::HOST, settings.host_header.as_deref().unwrap_or(&authority));
    let uri = with_query(uri, call.query, &query).map_err(|error| misconfigured(error.to_string()))?;

    let mut request = Request::new(Full::new(body));
    *request.method_mut() = backend.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    if !spelled.is_empty() {
        *request.extensions_mut() = spelling(&gateway.backends, spelled).await;
    }
    Ok(request)
}

/// Puts client query and mapped parameters behind the address's own query.
fn with_query(uri: Uri, client: &str, mapped: &str) -> Result<Uri, http::Error> {
    if client.is_empty() && mapped.is_empty() {
        return Ok(uri);
    }
    let mut target = uri.path().to_owned();
    let own = uri.query().unwrap_or_default();
    for (n_before, part) in [own, client, mapped].into_iter().filter(|part| !part.is_empty()).enumerate() {
        target.push(if n_before == 0 { '?' } else { '&' });
        target.push_str(part);
    }
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(target.parse()?);
    Ok(Uri::from_parts(parts)?)
}

/// The spelling of mapped header names, in the form in which the HTTP library keeps it.
///
/// Names arrive at an HTTP/1 backend as their mapping spells them, but the library knows such spellings only
/// of requests that it has read. So it is given one to read, once for each set of names.
async fn spelling(backends: &Backends, spelled: String) -> Extensions {
    if let Some(known) = backends.spellings.read().get(&spelled) {
        return known.clone();
    }
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\n{spelled}\r\n");
    let found = read_spelling(head.into_bytes()).await;
    let mut spellings = backends.spellings.write();
    if spellings.len() >= MAX_SPELLINGS {
        spellings.clear();
    }
    spellings.insert(spelled, found.clone());
    found
}

async fn read_spelling(head: Vec<u8>) -> Extensions {
    use tokio::io::AsyncWriteExt as _;
    let (mut ours, theirs) = tokio::io::duplex(head.len().max(1024));
    let found = parking_lot::Mutex::new(Extensions::new());
    let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
        *found.lock() = request.extensions().clone();
        std::future::ready(Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::default())))
    });
    let _ = ours.write_all(&head).await;
    let _ = ours.shutdown().await;
    let serve = hyper::server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .keep_alive(false)
        .half_close(true)
        .serve_connection(hyper_util::rt::TokioIo::new(theirs), service);
    let _ = serve.await;
    found.into_inner()
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => headers.insert(name, value),
        Err(_) => headers.remove(name),
    };
}

/// Hop-by-hop headers, which end at a gateway. Source: RFC 9110, section 7.6.1.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether a client's handshake header goes to the backend. Names that the gateway itself speaks under do not,
/// whoever sent them.
fn is_forwarded(name: &HeaderName) -> bool {
    let text = name.as_str();
    !is_hop_by_hop(name)
        && !matches!(text, "host" | "content-length" | "x-real-ip" | "forwarded" | "expect")
        && !["x-forwarded-", "x-amzn-", "tidegate-"].iter().any(|prefix| text.starts_with(prefix))
}

/// Whether a mapping may set this header.
fn is_mappable(name: &HeaderName) -> bool {
    !is_hop_by_hop(name)
        && !matches!(
            name.as_str(),
            "host" | "content-length" | "x-amzn-trace-id" | "x-amzn-apigateway-api-id"
        )
}

/// What went wrong between the gateway and the backend.
fn classify(error: &hyper_util::client::legacy::Error) -> Failure {
    let failure = |code, diagnosis, detail: &'static str| Failure::new(code, diagnosis, detail);
    let mut io_kind = None;
    let mut is_tls = false;
    let mut is_dns = false;
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            io_kind = Some(io.kind());
            is_tls |= io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        }
        is_tls |= cause.is::<rustls::Error>();
        is_dns |= cause.to_string().starts_with("dns error");
        source = cause.source();
    }
    use std::io::ErrorKind;
    match io_kind {
        _ if is_dns => {
            failure(ErrorCode::IntegrationFailure, Diagnosis::INTEGRATION_DNS, "the host does not resolve")
        }
        _ if is_tls => failure(
            ErrorCode::IntegrationFailure,
            Diagnosis::INTEGRATION_TLS,
            "the certificate is not accepted",
        ),
        Some(ErrorKind::TimedOut) if error.is_connect() => failure(
            ErrorCode::IntegrationTimeout,
            Diagnosis::INTEGRATION_CONNECT_TIMEOUT,
            "the address does not answer",
        ),
        _ if error.is_connect() => failure(
            ErrorCode::IntegrationFailure,
            Diagnosis::INTEGRATION_REFUSED,
            "the connection was refused",
        ),
        Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => failure(
            ErrorCode::IntegrationFailure,
            Diagnosis::INTEGRATION_BAD_ANSWER,
            "the connection was reset before an answer",
        ),
        _ => failure(
            ErrorCode::IntegrationFailure,
            Diagnosis::INTEGRATION_BAD_ANSWER,
            "no valid HTTP answer came",
        ),
    }
}
