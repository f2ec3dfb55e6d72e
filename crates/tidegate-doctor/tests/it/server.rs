//! A server that does what a test says: answers, upgrades, and what comes after the upgrade.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use parking_lot::Mutex;
use tidegate_ws::{Decoder, Incoming, Limits, Role, extension, handshake};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn is_upgrade(&self) -> bool {
        self.header("upgrade").is_some()
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// These bytes, then the end.
    Raw(String),
    /// The end at once.
    Drop,
    /// 101 with these further headers, then this.
    Upgrade(&'static str, After),
    /// A 101 without `Upgrade` and `Connection`.
    Stripped,
}

/// What comes after the upgrade.
#[derive(Debug, Clone)]
pub(crate) enum After {
    Echo,
    /// Answers are held back until five are there.
    HeldEcho,
    /// Comes back with another last letter.
    AlteredEcho,
    /// Takes everything, says nothing.
    Silent,
    /// These bytes, then an echo.
    Bytes(Vec<u8>),
    /// The end after so long.
    Cut(Duration),
    /// A close frame at once.
    Close(u16),
    /// The end when a message comes.
    EndOnMessage,
    /// The end when nothing came for so long; do pings count?
    IdleCut(Duration, bool),
    /// permessage-deflate is agreed on, and compressed frames come back uncompressed but marked.
    BrokenDeflate,
}

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Reply {
    Reply::Raw(format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}

/// 403 without a body, as ASGI servers refuse.
pub(crate) fn refused_403() -> Reply {
    answer("403 Forbidden", "Server: uvicorn\r\n", "")
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Head>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    pub(crate) fn heads(&self) -> Vec<Head> {
        self.seen.lock().clone()
    }
}

/// Serves on loopback until dropped.
pub(crate) async fn serve(handler: impl Fn(&Head) -> Reply + Send + Sync + 'static) -> Server {
    serve_on("127.0.0.1:0", None, handler).await
}

pub(crate) async fn serve_on(
    address: &str,
    tls: Option<TlsAcceptor>,
    handler: impl Fn(&Head) -> Reply + Send + Sync + 'static,
) -> Server {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (heads, handler) = (seen.clone(), Arc::new(handler));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, heads, handler) = (tls.clone(), heads.clone(), handler.clone());
            connections.spawn(async move {
                match tls {
                    None => one(stream, &heads, &*handler).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            one(stream, &heads, &*handler).await;
                        }
                    }
                }
            });
        }
    });
    Server { address, seen, _tasks: tasks }
}

async fn one<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    heads: &Mutex<Vec<Head>>,
    handler: &(dyn Fn(&Head) -> Reply + Send + Sync),
) {
    let mut received = Vec::new();
    let end = loop {
        if let Some(at) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let text = String::from_utf8_lossy(&received[..end]).into_owned();
    let rest = received.split_off(end + 4);
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let head = Head {
        method: first.next().unwrap_or_default().to_owned(),
        target: first.next().unwrap_or_default().to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    };
    heads.lock().push(head.clone());
    match handler(&head) {
        Reply::Drop => {}
        Reply::Raw(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
            // So that the answer is not lost to a reset.
            let _ = timeout(Duration::from_millis(200), stream.read(&mut [0; 64])).await;
        }
        Reply::Stripped => {
            let accept = handshake::accept_key(head.header("sec-websocket-key").unwrap_or_default());
            let head = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            after(stream, After::Echo, rest).await;
        }
        Reply::Upgrade(headers, behavior) => {
            let accept = handshake::accept_key(head.header("sec-websocket-key").unwrap_or_default());
            let mut extra = headers.to_owned();
            if matches!(behavior, After::BrokenDeflate)
                && let Some(offer) = head.header("sec-websocket-extensions")
            {
                let (_, value) = extension::negotiate(offer).unwrap();
                extra.push_str(&format!("Sec-WebSocket-Extensions: {value}\r\n"));
            }
            let head_text = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{extra}\r\n"
            );
            let _ = stream.write_all(head_text.as_bytes()).await;
            let behavior = match behavior {
                After::BrokenDeflate if head.header("sec-websocket-extensions").is_none() => After::Echo,
                other => other,
            };
            after(stream, behavior, rest).await;
        }
    }
}

pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=65535 => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

async fn after<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, behavior: After, mut pending: Vec<u8>) {
    match &behavior {
        After::Bytes(bytes) => {
            let _ = stream.write_all(bytes).await;
        }
        After::Cut(time) => {
            let _ = timeout(*time, stream.read(&mut [0; 1])).await;
            return;
        }
        After::Close(code) => {
            let _ = stream.write_all(&frame(0x88, &code.to_be_bytes())).await;
        }
        _ => {}
    }
    let limits = Limits { max_frame: 1 << 20, max_message: 1 << 20 };
    let deflate = matches!(behavior, After::BrokenDeflate).then(tidegate_ws::DeflateParams::default);
    let mut decoder = Decoder::new(Role::Server, limits, deflate);
    let mut held = Vec::new();
    let mut n_held = 0;
    let mut last = Instant::now();
    let mut buffer = vec![0; 16 << 10];
    loop {
        while !pending.is_empty() {
            let Ok(decoded) = decoder.decode(&mut pending) else { return };
            pending.drain(..decoded.consumed);
            let reply = match decoded.event {
                None => continue,
                Some(Incoming::Text(text)) => {
                    last = Instant::now();
                    match &behavior {
                        After::Echo | After::Bytes(_) => frame(0x81, text.as_bytes()),
                        After::AlteredEcho => frame(0x81, text.to_uppercase().as_bytes()),
                        // Marked as compressed, and not compressed.
                        After::BrokenDeflate => frame(0xc1, text.as_bytes()),
                        After::HeldEcho => {
                            held.extend(frame(0x81, text.as_bytes()));
                            n_held += 1;
                            if n_held < 5 {
                                continue;
                            }
                            n_held = 0;
                            std::mem::take(&mut held)
                        }
                        After::EndOnMessage => return,
                        _ => continue,
                    }
                }
                Some(Incoming::Ping(payload)) => {
                    if let After::IdleCut(_, counts_pings) = &behavior
                        && *counts_pings
                    {
                        last = Instant::now();
                    }
                    frame(0x8a, &payload)
                }
                Some(Incoming::Close(_)) => {
                    let _ = stream.write_all(&frame(0x88, &[])).await;
                    return;
                }
                Some(_) => continue,
            };
            if stream.write_all(&reply).await.is_err() {
                return;
            }
        }
        let left = match &behavior {
            After::IdleCut(limit, _) => limit.saturating_sub(last.elapsed()),
            _ => Duration::from_secs(60),
        };
        match timeout(left, stream.read(&mut buffer)).await {
            Ok(Ok(n)) if n > 0 => pending.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
}

/// A fake of the probe endpoint: what a request to it is answered with, by what arrived.
pub(crate) fn probe_endpoint(
    head: &Head,
    change: impl Fn(&mut serde_json::Map<String, serde_json::Value>),
) -> Reply {
    let names: Vec<String> = head.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let mut body = serde_json::json!({
        "installation": "inst-1", "method": head.method, "version": "HTTP/1.1", "headerNames": names,
        "host": head.header("host"), "origin": head.header("origin"), "upgrade": head.header("upgrade"),
        "connection": head.header("connection"), "via": null, "forwarded": {}, "peer": "127.0.0.1:5", "tls": null,
        "now": "2026-01-01T00:00:00Z",
    });
    change(body.as_object_mut().unwrap());
    let date =
        jiff::fmt::rfc2822::to_string(&jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
    answer(
        "200 OK",
        &format!("Content-Type: application/json\r\nDate: {}\r\n", date.replace("+0000", "GMT")),
        &body.to_string(),
    )
}

/// A healthy Tidegate: probe endpoint, and an echo everywhere else.
pub(crate) fn tidegate(head: &Head) -> Reply {
    match (head.path(), head.is_upgrade()) {
        ("/_tidegate/probe", false) => probe_endpoint(head, |_| {}),
        (_, true) => Reply::Upgrade("Tidegate-Request-Id: r1\r\n", After::Echo),
        _ => answer("404 Not Found", "Tidegate-Request-Id: r0\r\n", ""),
    }
}

/// `Date` so many seconds away from now.
pub(crate) fn date(offset: i64) -> String {
    let time = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + offset).unwrap();
    let text = jiff::fmt::rfc2822::to_string(&time.to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
    format!("Date: {}\r\n", text.replace("+0000", "GMT"))
}

/// A JSON Web Token with this payload and a signature of nobody.
pub(crate) fn jwt(payload: serde_json::Value) -> String {
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#), part(&payload.to_string()), part("signature"))
}
