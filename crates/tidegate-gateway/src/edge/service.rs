//! One HTTP request of the public listener: a handshake, a management call, or neither.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, HOST, HeaderMap,
    HeaderValue, ORIGIN, UPGRADE, VARY,
};
use http::{Method, Request, StatusCode, Version};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::{Map, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::lambda_event::Spelling;
use tidegate_core::limits;
use tidegate_core::snapshot::StagePolicy;

use super::address::{self, Address, Endpoint};
use super::attempt::{Attempt, Head};
use super::client_address::ClientAddress;
use super::probe::{self, OpenProbe};
use super::refusal::{refuse, refuse_as};
use super::upgrade::{self, OpenConnection};
use super::{Reply, client_reference, empty, hint, remark, token_endpoint};
use crate::apps;
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::logs;
use crate::push;

/// The path, after whatever leads to the gateway, at which clients ask what became of their attempt.
const CONNECT_STATUS: &str = "/connect-status";

/// A `GET` with this header asks what a handshake would come to. Source: S3-24.
pub(super) const CHECK: &str = "tidegate-check";

/// What pages of other origins may read of an answer's head: when to come back, the clock, what to ask the operator with.
const EXPOSED: &str = "retry-after, date, tidegate-request-id";

/// What one TCP connection knows about itself.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) listener: Via,
    /// Absent without TLS.
    pub(crate) tls: Option<TlsFacts>,
    pub(crate) listener_port: u16,
    /// Whole request heads that have come.
    pub(crate) n_asked: AtomicUsize,
    /// The last bytes that came.
    pub(crate) spelling: Mutex<Spelling>,
}

/// The way by which a TCP connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// The plain listener.
    Plain,
    /// The TLS listener.
    Tls,
    /// The proxy for fixed push addresses; TLS too.
    Proxy,
}

/// What was agreed in a TLS handshake.
#[derive(Debug)]
pub(crate) struct TlsFacts {
    pub(crate) version: &'static str,
    /// As the client sent it.
    pub(crate) server_name: Option<String>,
    pub(crate) alpn: Option<String>,
}

impl Via {
    /// Its name in facts.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
            Self::Proxy => "proxy",
        }
    }
}

impl Peer {
    pub(crate) fn is_tls(&self) -> bool {
        self.listener != Via::Plain
    }
}

/// What a handshake has opened.
pub(crate) enum Opening {
    /// A connection of an API. Boxed: what runs for as long as it lasts must not hold what belongs to its handshake.
    Connection(Box<OpenConnection>),
    /// The probe's echo.
    Probe(OpenProbe),
}

/// Where a handshake leaves what it has opened, for the task that owns the socket.
pub(crate) type Opened = Arc<Mutex<Option<Opening>>>;

/// Answers one request. Never fails: every refusal is an answer with a reason.
pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    peer: Arc<Peer>,
    opened: Opened,
    mut request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let started = Instant::now();
    peer.n_asked.fetch_add(1, Ordering::Relaxed);
    if request.headers().contains_key(UPGRADE) {
        let spelling = std::mem::take(&mut *peer.spelling.lock());
        request.extensions_mut().insert(spelling);
    } else {
        peer.spelling.lock().clear();
    }
    let path = request.uri().path();
    if path == probe::PATH && gateway.in_force().node.probe {
        return Ok(probe::serve(&gateway, &peer, &opened, &request));
    }
    if path.ends_with(CONNECT_STATUS)
        && let Some(reference) = client_reference::value(request.uri().query().unwrap_or_default(), "ref")
        && request.method() == Method::GET
        && !request.headers().contains_key(UPGRADE)
    {
        return Ok(connect_status(&gateway, reference));
    }
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| request.uri().authority().map(|authority| authority.as_str()))
        .unwrap_or_default()
        .to_owned();
    let mount = gateway.apps.at(path);
    let resolved = match mount.and_then(|mount| gateway.stage(&mount.api_id, &mount.stage)) {
        // The exact path of an application wins over everything that a host may mean.
        Some(stage) => {
            let domain_name = host.as_str().into();
            Ok(Address { stage, endpoint: Endpoint::WebSocket, domain_name })
        }
        None => address::resolve(&gateway.snapshot(), &host, path),
    };
    let is_mount = mount.is_some();
    let is_management = match &resolved {
        Ok(address) => !matches!(address.endpoint, Endpoint::WebSocket | Endpoint::Token),
        Err(unresolved) => unresolved.is_management,
    };
    let client = ClientAddress::new(
        peer.address.ip(),
        peer.is_tls(),
        peer.listener_port,
        request.headers(),
        |address| gateway.is_trusted(address),
    );
    if is_management {
        let caller = client.ip;
        return Ok(match resolved {
            Ok(address) => push::serve(&gateway, &address.stage, &address.endpoint, caller, request).await,
            Err(unresolved) => match push::by_connection_id(&gateway, caller, request).await {
                Ok(reply) => reply,
                Err(request) => {
                    let path = request.uri().path();
                    push::unresolved(&gateway, &unresolved, path, request.method(), caller)
                }
            },
        });
    }
    let request = match is_mount {
        true => request,
        false => match apps::serve(&gateway, &client, request).await {
            Ok(reply) => return Ok(reply),
            Err(request) => *request,
        },
    };
    let head = Head {
        method: request.method(),
        uri: request.uri(),
        version: request.version(),
        headers: request.headers(),
    };
    let mut attempt = Attempt::new(&gateway, &peer, &client, &head, started);
    Ok(match resolved {
        Ok(address) if is_mount && !matches!(*request.method(), Method::GET | Method::OPTIONS) => {
            attempt.at(&address.stage);
            let diagnosis = Some(Diagnosis::HANDSHAKE_NOT_WEBSOCKET);
            let mut reply = refuse(&gateway, attempt, ErrorCode::UpgradeRequired, diagnosis, "method");
            *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            reply
        }
        Ok(address) => {
            attempt.at(&address.stage);
            attempt.log = match address.endpoint {
                Endpoint::WebSocket => logs::of_handshake(&address, &request),
                _ => None,
            };
            match address.endpoint {
                Endpoint::Token => {
                    token_endpoint::serve(&gateway, &client, &address.stage, &host, request, attempt).await
                }
                _ => handshake(&gateway, &peer, &opened, (address, client, host), request, attempt).await,
            }
        }
        Err(unresolved) => {
            if let Some(reply) = other_listener(&gateway, &request, &attempt) {
                return Ok(reply);
            }
            if let Some(shorter) = gateway.apps.without_repetition(request.uri().path()) {
                attempt.note("nearest", shorter);
                let diagnosis = Some(Diagnosis::PATH_DOUBLE_PREFIX);
                return Ok(refuse(&gateway, attempt, ErrorCode::NotMapped, diagnosis, ""));
            }
            let forwarded_host =
                request.headers().get("x-forwarded-host").and_then(|host| host.to_str().ok());
            let hint =
                hint::explain(&gateway.snapshot(), &host, forwarded_host, request.uri().path(), &unresolved);
            attempt.note_all(hint.facts);
            let diagnosis = socketio(&request).unwrap_or(hint.diagnosis);
            attempt.log = logs::of_nowhere(&gateway, &host, &request);
            refuse(&gateway, attempt, ErrorCode::Forbidden, Some(diagnosis), &unresolved.detail)
        }
    })
}

/// A request at the address of a stage.
async fn handshake(
    gateway: &Arc<Gateway>,
    peer: &Peer,
    opened: &Opened,
    (address, client, host): (Address, ClientAddress, String),
    request: Request<Incoming>,
    mut attempt: Attempt,
) -> Reply {
    let target_length = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target_length > limits::MAX_URL_LENGTH {
        attempt.note("limit", limits::MAX_URL_LENGTH);
        return refuse(gateway, attempt, ErrorCode::UrlTooLong, None, "");
    }
    let headers = request.headers();
    if let Some(limit) = gateway.in_force().node.settings.all.limits.header_value_bytes()
        && headers.values().map(HeaderValue::len).sum::<usize>() > limit
    {
        attempt.note("limit", limit);
        let detail = "the header values are too large together";
        return refuse(gateway, attempt, ErrorCode::HeadTooLarge, None, detail);
    }
    let policy = address.stage.policy.clone();
    let origin = headers.get(ORIGIN).cloned();
    let wants_check = has_item(headers, &ACCESS_CONTROL_REQUEST_HEADERS, CHECK);
    if request.method() == Method::OPTIONS && wants_check {
        let reply = empty(204);
        if let Some(mut reply) = with_cors(reply, policy.as_deref(), origin.as_ref()) {
            let headers = reply.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET"));
            let allowed = "tidegate-check, authorization";
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
            return reply;
        }
    }
    let is_check = headers.get(CHECK).is_some_and(|value| value == "1");
    if is_check && request.method() == Method::GET && !headers.contains_key(UPGRADE) {
        attempt.is_dry_run = true;
        attempt.note("dryRun", true);
        let reply = upgrade::check(gateway, address, client, request, attempt).await;
        let reply_of_origin = with_cors(reply.clone(), policy.as_deref(), origin.as_ref());
        return reply_of_origin.unwrap_or(reply);
    }
    if let Some(diagnosis) = not_websocket(&request) {
        // For people with a browser: the address is right, the scheme is not.
        let scheme = if peer.is_tls() { "wss" } else { "ws" };
        let path = request.uri().path();
        let hint = format!("connect with {scheme}://{host}{path}");
        let more = Map::from_iter([("hint".to_owned(), hint.into())]);
        let mut reply = refuse_as(gateway, attempt, ErrorCode::UpgradeRequired, Some(diagnosis), "", more);
        reply.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        reply.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
        return reply;
    }
    remark::on_arrival(gateway, &attempt, peer, &client, headers);
    upgrade::serve(gateway, opened, address, client, request, attempt).await
}

/// What became of the attempt with a reference. Once, within a minute, and nothing about anybody else.
fn connect_status(gateway: &Gateway, reference: &str) -> Reply {
    let ended = gateway.client_references.redeem(reference, now_millis());
    let (status, body) = match ended {
        None => (404, json!({ "message": "Not Found" })),
        Some(ended) => {
            let request_id = ended.request_id.map(|id| id.to_string());
            let id = ended.diagnosis.map(Diagnosis::as_str);
            let said = |diagnosis: Diagnosis| diagnosis.describe().said_to_client();
            let message = ended.diagnosis.map_or("The connection was opened.", said);
            let mut body = json!({ "id": id, "message": message, "requestId": request_id });
            if ended.status > 0 {
                body["status"] = ended.status.into();
            }
            (200, body)
        }
    };
    let mut reply = super::json(status, &body);
    let headers = reply.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// The answer as a page may read it; nothing for pages that may not connect.
fn with_cors(mut reply: Reply, policy: Option<&StagePolicy>, origin: Option<&HeaderValue>) -> Option<Reply> {
    let origin = origin?;
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    match policy.filter(|policy| !policy.origins.is_empty() || policy.broken.is_some()) {
        // Any page may connect, so any may ask; without cookies, as nobody has vouched for it.
        None => {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        Some(policy) => {
            let text = origin.to_str().ok()?;
            if !policy.admits_origin(Some(text)) {
                return None;
            }
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            headers.insert(VARY, HeaderValue::from_static("Origin"));
        }
    }
    Some(reply)
}

/// A call that belongs to the admin listener: of the control plane, or of the admin API with its key.
fn other_listener(gateway: &Gateway, request: &Request<Incoming>, attempt: &Attempt) -> Option<Reply> {
    const CONTROL_PLANE: [&str; 4] = ["/v2/apis", "/v2/domainnames", "/v2/tags", "/v2/vpclinks"];
    if request.headers().contains_key(UPGRADE) {
        return None;
    }
    let path = request.uri().path();
    let is_below =
        |base: &str| path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let diagnosis = if CONTROL_PLANE.into_iter().any(is_below) {
        Diagnosis::PROVISION_WRONG_ENDPOINT
    } else if path.starts_with("/api/") && request.headers().contains_key(AUTHORIZATION) {
        Diagnosis::MANAGEMENT_WRONG_LISTENER
    } else {
        return None;
    };
    let detail = "this path is the admin listener's";
    let more = Map::from_iter([("message".to_owned(), "Not Found".into())]);
    Some(refuse_as(gateway, attempt.clone(), ErrorCode::NotMapped, Some(diagnosis), detail, more))
}

/// Whether a header that holds a list names something.
pub(super) fn has_item(headers: &HeaderMap, name: &http::HeaderName, item: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|known| known.trim().eq_ignore_ascii_case(item)))
}

/// Whether a request asks for a WebSocket.
pub(super) fn is_upgrade(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    has_item(headers, &UPGRADE, "websocket")
        && has_item(headers, &CONNECTION, "upgrade")
        && request.method() == Method::GET
        && request.version() >= Version::HTTP_11
}

/// Why a request at a WebSocket address is no handshake.
fn not_websocket(request: &Request<Incoming>) -> Option<Diagnosis> {
    let headers = request.headers();
    if is_upgrade(request) {
        return None;
    }
    if !headers.keys().any(|name| name.as_str().starts_with("sec-websocket-")) {
        let other = hint::negotiated(request.uri().path()).map(|_| Diagnosis::CLIENT_OTHER_PROTOCOL);
        return Some(socketio(request).or(other).unwrap_or(Diagnosis::HANDSHAKE_NOT_WEBSOCKET));
    }
    // No client leaves these out: they are for the next hop only, and a proxy that does not know them drops them.
    let has_both = has_item(headers, &UPGRADE, "websocket") && has_item(headers, &CONNECTION, "upgrade");
    Some(match request.version() {
        _ if !has_both && request.method() == Method::GET => Diagnosis::PROXY_UPGRADE_STRIPPED,
        Version::HTTP_10 => Diagnosis::PROXY_HTTP10,
        _ => Diagnosis::HANDSHAKE_MALFORMED,
    })
}

fn socketio(request: &Request<Incoming>) -> Option<Diagnosis> {
    let query = request.uri().query().unwrap_or_default();
    let is_socketio = request.uri().path().contains("/socket.io/")
        || (query.contains("EIO=") && query.contains("transport="));
    is_socketio.then_some(Diagnosis::CLIENT_SOCKETIO)
}
