//! `/_tidegate/probe`: what of a request arrives here, told to whoever made it.
//!
//! Proxies between a client and the gateway drop, rewrite and hold back; with this endpoint a client sees what is left.
//! As an upgrade it echoes, and holds a connection on which nobody says anything. It knows of no API and tells nothing
//! about anybody else.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, HOST, HeaderValue, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE, VIA,
};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming as Body;
use serde_json::{Map, Value, json};
use tidegate_auth::TokenKeys;
use tidegate_core::context::iso_time;
use tidegate_core::mapping::query_values;
use tidegate_ws::{CloseCode, CloseFrame, Decoder, DeflateParams, Incoming, Limits, OutboundMessage, Role};
use tidegate_ws::{extension, handshake};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::attempt::{short, short_value, version_name, without_token};
use super::service::{Opened, Opening, Peer, is_upgrade};
use super::{Reply, empty};
use crate::clock::now_millis;
use crate::connection::socket::Socket;
use crate::connection::task;
use crate::gateway::Gateway;

/// The path, on every host.
pub(super) const PATH: &str = "/_tidegate/probe";

/// Header of the 101 that says what arrived.
const REPORT: &str = "tidegate-probe";

/// How long a ticket is good, in milliseconds. Source: DX-35.
const TICKET_LIFETIME: u64 = 10 * 60 * 1000;

/// Messages that are echoed on one connection. Source: DX-35.
const MAX_MESSAGES: usize = 64;

/// Largest message, in bytes. Source: DX-35.
const MAX_MESSAGE: usize = 32 * 1024;

/// How long a connection may last, silent or not. Source: DX-35.
const MAX_AGE: Duration = Duration::from_secs(20 * 60);

/// Connections at a time. Source: our choice; a run of `doctor` opens some ten.
const MAX_CONNECTIONS: usize = 64;

/// Longest value that is told, in characters.
const MAX_VALUE: usize = 256;

/// Longest report in a header: proxies have small buffers for heads. Without the names of headers it is always shorter.
const MAX_REPORT: usize = 3 * 1024;

/// What the probe endpoint needs.
#[derive(Debug)]
pub(crate) struct Probes {
    keys: TokenKeys,
    /// Tells this installation from others.
    installation: String,
    places: Arc<Semaphore>,
}

impl Probes {
    pub(crate) fn new(keys: TokenKeys) -> Self {
        let installation = keys.installation();
        Self { keys, installation, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

impl Probes {
    /// Whether somebody may see more than the installation. The peer counts, not who it says it speaks for: only what
    /// runs on this machine is trusted for being there.
    fn is_admitted(&self, peer: IpAddr, query: &str, now: u64) -> bool {
        peer.to_canonical().is_loopback()
            || query_values(query, "ticket").any(|ticket| self.keys.is_probe_ticket(&ticket, now))
    }
}

/// A ticket for the probe endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTicket {
    /// The ticket, for the query parameter `ticket`.
    pub ticket: String,
    /// Milliseconds since 1970.
    pub expires_at: u64,
    /// What the probe endpoint says without a ticket, too: 16 hexadecimal digits.
    pub installation: String,
}

impl Gateway {
    /// A ticket with which anybody may use the probe endpoint of every node for ten minutes. Nothing is kept of it.
    pub fn probe_ticket(&self, now: u64) -> ProbeTicket {
        let expires_at = now + TICKET_LIFETIME;
        let Probes { keys, installation, .. } = &self.probes;
        let installation = installation.clone();
        ProbeTicket { ticket: keys.probe_ticket(expires_at), expires_at, installation }
    }
}

/// A WebSocket that echoes.
pub(crate) struct OpenProbe {
    deflate: Option<DeflateParams>,
    /// The node is going down.
    stop: CancellationToken,
    /// Frees the place of the connection.
    _place: OwnedSemaphorePermit,
}

/// Answers a request to the probe path, whatever its method.
pub(super) fn serve(gateway: &Gateway, peer: &Peer, opened: &Opened, request: &Request<Body>) -> Reply {
    let probes = &gateway.probes;
    let now = now_millis();
    let query = request.uri().query().unwrap_or_default();
    let is_admitted = probes.is_admitted(peer.address.ip(), query, now);
    let mut reply = match is_admitted {
        false => super::json(200, &json!({ "installation": probes.installation })),
        true => match is_upgrade(request).then(|| open(gateway, peer, opened, request, now)) {
            Some(reply) => reply,
            None => super::json(200, &Value::Object(report(probes, peer, request, now))),
        },
    };
    if let Ok(value) = HeaderValue::from_str(&gateway.request_id(now).to_string()) {
        reply.headers_mut().insert("tidegate-request-id", value);
    }
    reply.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// What arrived.
fn report(probes: &Probes, peer: &Peer, request: &Request<Body>, now: u64) -> Map<String, Value> {
    let headers = request.headers();
    let value = |name: &http::HeaderName| {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| short_value(value, MAX_VALUE)).collect();
        if values.is_empty() { Value::Null } else { short(&values.join(", "), MAX_VALUE).into() }
    };
    let mut values = Map::new();
    for name in [HOST, ORIGIN, UPGRADE, CONNECTION, VIA] {
        values.insert(name.as_str().to_owned(), value(&name));
    }
    for name in headers.keys().filter(|name| name.as_str().starts_with("x-forwarded-")) {
        values.insert(name.as_str().to_owned(), value(name));
    }
    let names: Vec<_> = headers.keys().map(|name| without_token(name.as_str())).collect();
    let tls = peer.tls.as_ref().map(|tls| {
        let sni = tls.server_name.as_deref().map(|name| short(name, MAX_VALUE));
        json!({ "version": tls.version, "sni": sni, "alpn": tls.alpn })
    });
    let members = json!({
        "installation": probes.installation,
        "time": iso_time(now),
        "method": short(request.method().as_str(), 32),
        "version": version_name(request.version()),
        "listener": peer.listener.as_str(),
        "peer": { "address": peer.address.ip().to_canonical(), "port": peer.address.port() },
        "tls": tls,
        "headers": values,
        "headerNames": names,
    });
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Answers an upgrade.
fn open(gateway: &Gateway, peer: &Peer, opened: &Opened, request: &Request<Body>, now: u64) -> Reply {
    let probes = &gateway.probes;
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let key = text(SEC_WEBSOCKET_KEY).filter(|key| handshake::is_valid_key(key));
    let Some(key) = key.filter(|_| text(SEC_WEBSOCKET_VERSION) == Some("13")) else {
        return super::json(200, &Value::Object(report(probes, peer, request, now)));
    };
    let Ok(place) = Arc::clone(&probes.places).try_acquire_owned() else {
        let mut reply = super::json(503, &json!({ "message": "Service Unavailable" }));
        super::refusal::set_retry_after(reply.headers_mut(), Some(60));
        return reply;
    };
    let mut reply: Response<Full<Bytes>> = empty(101);
    let answered = reply.headers_mut();
    answered.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answered.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&handshake::accept_key(key)) {
        answered.insert("sec-websocket-accept", accept);
    }
    let offered = text(SEC_WEBSOCKET_PROTOCOL).and_then(|offer| offer.split(',').next()).map(str::trim);
    if let Some(first) = offered.and_then(|name| HeaderValue::from_str(name).ok()) {
        answered.insert(SEC_WEBSOCKET_PROTOCOL, first);
    }
    let offers: Vec<&str> =
        headers.get_all("sec-websocket-extensions").iter().filter_map(|value| value.to_str().ok()).collect();
    let mut deflate = None;
    if let Some((params, response)) = extension::negotiate(&offers.join(", "))
        && let Ok(value) = HeaderValue::from_str(&response)
    {
        answered.insert("sec-websocket-extensions", value);
        deflate = Some(params);
    }
    let mut told = report(probes, peer, request, now);
    if Value::Object(told.clone()).to_string().len() > MAX_REPORT {
        told.remove("headerNames");
    }
    if let Ok(value) = HeaderValue::from_bytes(Value::Object(told).to_string().as_bytes()) {
        answered.insert(REPORT, value);
    }
    let stop = gateway.stop_accepting.clone();
    *opened.lock() = Some(Opening::Probe(OpenProbe { deflate, stop, _place: place }));
    reply
}

impl OpenProbe {
    /// Echoes until the client has had enough, or this side has. The 101 has been written.
    pub(crate) async fn run(self, mut socket: Socket, early: Bytes) {
        let echo = tokio::time::timeout(MAX_AGE, self.echo(&mut socket, early));
        let frame = match self.stop.run_until_cancelled(echo).await {
            Some(Ok(Some(frame))) => frame,
            Some(Ok(None)) => return,
            Some(Err(_)) | None => CloseFrame::new(CloseCode::GOING_AWAY, "Going away"),
        };
        task::say_goodbye(socket, frame).await;
    }

    /// The close frame with which it ends; nothing when the client is gone.
    async fn echo(&self, socket: &mut Socket, early: Bytes) -> Option<CloseFrame> {
        let limits = Limits { max_frame: MAX_MESSAGE, max_message: MAX_MESSAGE };
        let mut decoder = Decoder::new(Role::Server, limits, self.deflate);
        let mut writing = VecDeque::new();
        let mut n_echoed = 0;
        let mut early = Some(early.to_vec()).filter(|early| !early.is_empty());
        loop {
            let mut ended = None;
            let mut take = |bytes: &mut [u8]| {
                let mut rest = bytes;
                while !rest.is_empty() && ended.is_none() {
                    match decoder.decode(rest) {
                        Ok(decoded) => {
                            ended = self.answer(decoded.event, &mut writing, &mut n_echoed);
                            rest = &mut rest[decoded.consumed..];
                        }
                        Err(error) => ended = Some(CloseFrame::new(error.close_code(), "")),
                    }
                }
            };
            match early.take() {
                Some(mut bytes) => take(&mut bytes),
                None => {
                    let n_read = poll_fn(|context| socket.poll_read_with(context, &mut take)).await;
                    if !matches!(n_read, Ok(1..)) {
                        return None;
                    }
                }
            }
            while !writing.is_empty() {
                if poll_fn(|context| socket.poll_write_frames(context, &mut writing)).await.is_err() {
                    return None;
                }
            }
            if tokio::io::AsyncWriteExt::flush(socket).await.is_err() {
                return None;
            }
            if ended.is_some() {
                return ended;
            }
        }
    }

    /// Answers one event; the close frame ends the connection.
    fn answer(
        &self,
        event: Option<Incoming>,
        writing: &mut VecDeque<Bytes>,
        n_echoed: &mut usize,
    ) -> Option<CloseFrame> {
        let message = match event? {
            Incoming::Text(text) => OutboundMessage::text(Bytes::from(text)),
            Incoming::Binary(bytes) => OutboundMessage::binary(bytes),
            Incoming::Ping(payload) => {
                writing.push_back(tidegate_ws::pong(&payload));
                return None;
            }
            Incoming::Pong(_) => return None,
            Incoming::Close(frame) => {
                return Some(frame.unwrap_or_else(|| CloseFrame::new(CloseCode::NORMAL, "")));
            }
        };
        *n_echoed += 1;
        if *n_echoed > MAX_MESSAGES {
            return Some(CloseFrame::new(CloseCode::POLICY_VIOLATION, "Too many messages"));
        }
        writing.push_back(message.frames(self.deflate));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // DX-35: who is not on this machine needs a ticket, whatever it says.
    #[test]
    fn strangers_need_a_ticket() {
        let probes = Probes::new(TokenKeys::new(&[[7; 32]]).unwrap());
        let stranger: IpAddr = "192.0.2.1".parse().unwrap();
        let ticket = probes.keys.probe_ticket(1000);
        let query = format!("a=b&ticket={ticket}");
        assert!(probes.is_admitted("127.0.0.1".parse().unwrap(), "", 0));
        assert!(probes.is_admitted("::ffff:127.0.0.1".parse().unwrap(), "", 0));
        assert!(!probes.is_admitted(stranger, "", 0));
        assert!(!probes.is_admitted(stranger, "ticket=0", 0));
        assert!(probes.is_admitted(stranger, &query, 999));
        assert!(!probes.is_admitted(stranger, &query, 1000));
    }
}
