//! One HTTP request of the public listener: a handshake, a management call, or neither.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use http::header::{HOST, HeaderValue};
use http::{Request, Version};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::journal::Facts;
use tidegate_core::limits;
use tidegate_core::notice::{Notice, Place};

use super::address::{self, Endpoint};
use super::client_address::ClientAddress;
use super::token_endpoint;
use super::upgrade::{self, OpenConnection};
use super::{Reply, aws_error};
use crate::gateway::Gateway;
use crate::push;

/// What one TCP connection knows about itself.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) is_tls: bool,
    pub(crate) listener_port: u16,
    /// A whole request head has come.
    pub(crate) has_asked: AtomicBool,
}

/// Where a handshake leaves the connection that it has opened, for the task that owns the socket.
pub(crate) type Opened = Arc<Mutex<Option<OpenConnection>>>;

/// Answers one request. Never fails: every refusal is an answer with a reason.
pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    peer: Arc<Peer>,
    opened: Opened,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let started = Instant::now();
    peer.has_asked.store(true, Ordering::Relaxed);
    let target_length = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| request.uri().authority().map(|authority| authority.as_str()))
        .unwrap_or_default()
        .to_owned();
    let path = request.uri().path();
    let resolved = address::resolve(&gateway.snapshot(), &host, path);
    let resolved = match resolved {
        Ok(address) if address.endpoint == Endpoint::WebSocket && target_length > limits::MAX_URL_LENGTH => {
            return Ok(refuse(&gateway, &Place::default(), ErrorCode::UrlTooLong, None, "", started));
        }
        resolved => resolved,
    };
    Ok(match resolved {
        Ok(address) => match &address.endpoint {
            Endpoint::WebSocket => match not_websocket(&request) {
                Some(diagnosis) => {
                    let place = Place {
                        api_id: Arc::clone(&address.stage.api_id),
                        stage: Arc::clone(&address.stage.name),
                        ..Place::default()
                    };
                    let mut reply =
                        refuse(&gateway, &place, ErrorCode::UpgradeRequired, Some(diagnosis), "", started);
                    // For people with a browser: the address is right, the scheme is not.
                    let scheme = if peer.is_tls { "wss" } else { "ws" };
                    let hint = serde_json::Value::from(format!("connect with {scheme}://{host}{path}"));
                    let body = format!(r#"{{"message":"Upgrade Required","hint":{hint}}}"#);
                    *reply.body_mut() = http_body_util::Full::new(bytes::Bytes::from(body));
                    reply.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
                    reply.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
                    reply
                }
                None => upgrade::serve(&gateway, &peer, &opened, address, request, started).await,
            },
            Endpoint::Token => token_endpoint::serve(&gateway, &peer, &address.stage, &host, request).await,
            endpoint => {
                let caller = caller_address(&gateway, &peer, &request);
                push::serve(&gateway, &address.stage, endpoint, caller, request).await
            }
        },
        Err(unresolved) if unresolved.is_management => {
            let caller = caller_address(&gateway, &peer, &request);
            match push::by_connection_id(&gateway, caller, request).await {
                Ok(reply) => reply,
                Err(request) => {
                    let path = request.uri().path();
                    push::unresolved(&gateway, &unresolved, path, request.method(), caller)
                }
            }
        }
        Err(_) if push::is_control_plane(path) => {
            push::wrong_listener(&gateway, path, caller_address(&gateway, &peer, &request))
        }
        Err(unresolved) => {
            let diagnosis = socketio(&request).unwrap_or(unresolved.diagnosis);
            refuse(
                &gateway,
                &Place::default(),
                ErrorCode::Forbidden,
                Some(diagnosis),
                &unresolved.detail,
                started,
            )
        }
    })
}

/// Where a management call comes from, before trusted proxies.
fn caller_address(gateway: &Gateway, peer: &Peer, request: &Request<Incoming>) -> IpAddr {
    let is_trusted = |address| gateway.is_trusted(address);
    let (ip, port) = (peer.address.ip(), peer.listener_port);
    ClientAddress::new(ip, peer.is_tls, port, request.headers(), is_trusted).ip
}

/// Why a request at a WebSocket address is no handshake.
fn not_websocket(request: &Request<Incoming>) -> Option<Diagnosis> {
    let headers = request.headers();
    let has = |name: &str, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
    };
    let has_websocket_headers = headers.keys().any(|name| name.as_str().starts_with("sec-websocket-"));
    if request.version() == Version::HTTP_10 && has_websocket_headers {
        return Some(Diagnosis::PROXY_HTTP10);
    }
    let is_upgrade =
        has("upgrade", "websocket") && has("connection", "upgrade") && request.method() == http::Method::GET;
    match (is_upgrade, has_websocket_headers) {
        (true, _) => None,
        (false, true) => Some(Diagnosis::PROXY_UPGRADE_STRIPPED),
        (false, false) => Some(socketio(request).unwrap_or(Diagnosis::HANDSHAKE_NOT_WEBSOCKET)),
    }
}

fn socketio(request: &Request<Incoming>) -> Option<Diagnosis> {
    let query = request.uri().query().unwrap_or_default();
    let is_socketio = request.uri().path().contains("/socket.io/")
        || (query.contains("EIO=") && query.contains("transport="));
    is_socketio.then_some(Diagnosis::CLIENT_SOCKETIO)
}

/// A refusal before there is a connection id.
pub(crate) fn refuse(
    gateway: &Gateway,
    place: &Place,
    code: ErrorCode,
    diagnosis: Option<Diagnosis>,
    detail: &str,
    started: Instant,
) -> Reply {
    let mut reply = aws_error(code, None);
    let request_id = gateway.uuid();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        reply.headers_mut().insert("x-amzn-requestid", value.clone());
        reply.headers_mut().insert("tidegate-request-id", value);
    }
    gateway.notice(Notice::HandshakeRefused {
        facts: Facts::none(),
        place: place.clone(),
        status: reply.status().as_u16(),
        code,
        diagnosis: diagnosis.unwrap_or(code.row().diagnosis),
        detail: detail.to_owned(),
        duration: started.elapsed(),
    });
    reply
}
