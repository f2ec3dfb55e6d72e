//! Raw HTTP/1.1 and WebSocket towards one address: every byte that comes back is seen.
//!
//! A client library would hide exactly what the probes look for: headers that are missing in a 101, an HTTP answer in
//! the middle of a stream, frames that nobody agreed on. Nothing here judges; redirects are never followed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tidegate_ws::{
    ClientEncoder, CloseCode, CloseFrame, DecodeError, Decoder, Incoming, Limits, Role, extension, handshake,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Requests of one run: every TCP connection that is opened for one, whatever is sent on it. Source: DX-47.
pub const MAX_REQUESTS: usize = 60;

/// WebSocket connections of one run. Source: DX-47.
pub const MAX_CONNECTIONS: usize = 12;

/// Further WebSocket connections for the idle probe. Source: DX-47.
pub const MAX_IDLE_CONNECTIONS: usize = 6;

/// Largest head of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// Of a body, so much is read, in bytes: enough to recognize who wrote it.
const MAX_BODY: usize = 64 << 10;

/// Largest message of a server that is read, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Who is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    /// Name for TLS; none for a plain connection.
    pub(super) tls: Option<String>,
    /// Value of `Host`.
    pub(super) host: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// The run has sent as much as it may.
    #[error("the run has used up its requests")]
    Budget,
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// Not even an answer to the first packet.
    #[error("no answer to the connection attempt")]
    NoConnection,
    /// Another failure of the network.
    #[error("{0}")]
    Network(String),
    /// TLS came to nothing.
    #[error("TLS: {0}")]
    Tls(String),
    /// Connected, sent, and nothing (or not all) came back in time.
    #[error("no answer within the time")]
    Silent,
    /// The connection ended before an answer.
    #[error("the connection ended without an answer")]
    Ended,
    /// What came back is not HTTP; its first bytes.
    #[error("the answer is not HTTP")]
    NotHttp(Vec<u8>),
}

/// A request. No `Debug`: it carries tokens and cookies.
#[derive(Clone, Default)]
pub(super) struct Request {
    pub(super) method: &'static str,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn get(target: impl Into<String>) -> Self {
        Self { method: "GET", target: target.into(), ..Self::default() }
    }

    pub(super) fn with(mut self, headers: &[(String, String)]) -> Self {
        self.headers.extend_from_slice(headers);
        self
    }
}

/// An answer. No `Debug`: it may carry cookies and tokens.
#[derive(Clone, PartialEq)]
pub(super) struct Answer {
    /// Minor version of HTTP/1.
    pub(super) minor: u8,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    /// At most [`MAX_BODY`] bytes of it.
    pub(super) body: Vec<u8>,
    /// From the first byte sent to the whole head.
    pub(super) waited: Duration,
    /// Our own address on that connection.
    pub(super) local: Option<SocketAddr>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Has one of the comma-separated elements of the header this name?
    pub(super) fn lists(&self, name: &str, element: &str) -> bool {
        self.all(name).any(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(element)))
    }

    pub(super) fn is_html(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"))
    }

    /// Was it written by a Tidegate?
    pub(super) fn is_tidegate(&self) -> bool {
        self.header("tidegate-request-id").is_some()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// What an upgrade came to.
pub(super) enum Upgrade {
    /// 101; perhaps with defects.
    Open(Box<Socket>),
    /// Any other answer.
    Answered(Box<Answer>),
    /// None.
    Failed(Trouble),
}

impl Upgrade {
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Open(_) => Some(101),
            Self::Answered(answer) => Some(answer.status),
            Self::Failed(_) => None,
        }
    }

    pub(super) fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Open(socket) => Some(&socket.answer),
            Self::Answered(answer) => Some(answer),
            Self::Failed(_) => None,
        }
    }

    /// A few words for measurements.
    pub(super) fn summary(&self) -> String {
        match self {
            Self::Open(_) => "101".to_owned(),
            Self::Answered(answer) => answer.status.to_string(),
            Self::Failed(trouble) => trouble.to_string(),
        }
    }
}

/// How an upgrade is asked for. No `Debug`: it carries tokens and cookies.
#[derive(Clone, Default)]
pub(super) struct Ask {
    /// Path and query.
    pub(super) target: String,
    /// Beside those of the protocol; one of those is replaced.
    pub(super) headers: Vec<(String, String)>,
    pub(super) subprotocols: Vec<String>,
    /// Offer compression?
    pub(super) deflate: bool,
    /// Counts as a connection of the idle probe.
    pub(super) idle: bool,
}

/// Sends and counts.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) user_agent: String,
    /// For a whole answer.
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    requests: AtomicUsize,
    connections: AtomicUsize,
    idle_connections: AtomicUsize,
}

impl Net {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        user_agent: String,
        timeout: Duration,
        connect_timeout: Duration,
    ) -> Self {
        let zero = || AtomicUsize::new(0);
        Self {
            roots,
            user_agent,
            timeout,
            connect_timeout,
            requests: zero(),
            connections: zero(),
            idle_connections: zero(),
        }
    }

    /// Requests and WebSocket connections so far.
    pub(super) fn spent(&self) -> (usize, usize) {
        (
            self.requests.load(Ordering::Relaxed),
            self.connections.load(Ordering::Relaxed) + self.idle_connections.load(Ordering::Relaxed),
        )
    }

    fn take(counter: &AtomicUsize, limit: usize) -> Result<(), Trouble> {
        let taken = counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < limit).then_some(used + 1));
        taken.map(|_| ()).map_err(|_| Trouble::Budget)
    }

    /// A TCP connection; one request of the budget.
    pub(super) async fn tcp(&self, address: SocketAddr) -> Result<TcpStream, Trouble> {
        Self::take(&self.requests, MAX_REQUESTS)?;
        match tokio::time::timeout(self.connect_timeout, TcpStream::connect(address)).await {
            Err(_) => Err(Trouble::NoConnection),
            Ok(Ok(stream)) => {
                // Small frames are timed; one that waits for company would be blamed on a proxy.
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
            Ok(Err(error)) => Err(match error.kind() {
                std::io::ErrorKind::ConnectionRefused => Trouble::Refused,
                std::io::ErrorKind::TimedOut => Trouble::NoConnection,
                _ => Trouble::Network(error.to_string()),
            }),
        }
    }

    /// A connection that is ready for a request.
    async fn connect(&self, to: &Endpoint) -> Result<(Box<dyn Wire>, Option<SocketAddr>), Trouble> {
        let tcp = self.tcp(to.address).await?;
        let local = tcp.local_addr().ok();
        let Some(name) = &to.tls else { return Ok((Box::new(tcp), local)) };
        let mut config =
            ClientConfig::builder().with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(name.clone()).map_err(|error| Trouble::Tls(error.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        match tokio::time::timeout(self.timeout, connector.connect(name, tcp)).await {
            Err(_) => Err(Trouble::Silent),
            Ok(Ok(stream)) => Ok((Box::new(stream), local)),
            Ok(Err(error)) => Err(Trouble::Tls(error.to_string())),
        }
    }

    /// Sends a request on a connection of its own.
    pub(super) async fn send(&self, to: &Endpoint, request: &Request) -> Result<Answer, Trouble> {
        let deadline = Instant::now() + self.timeout;
        let (mut stream, local) = self.connect(to).await?;
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
        let mut headers = vec![
            ("Host".to_owned(), to.host.clone()),
            ("User-Agent".to_owned(), self.user_agent.clone()),
            ("Accept".to_owned(), "*/*".to_owned()),
            ("Connection".to_owned(), "close".to_owned()),
        ];
        if !request.body.is_empty() || request.method == "POST" {
            headers.push(("Content-Length".to_owned(), request.body.len().to_string()));
        }
        put_headers(&mut head, headers, &request.headers);
        let started = Instant::now();
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&request.body);
        write(&mut stream, &bytes, deadline).await?;
        let (mut answer, rest) = read_head(&mut stream, deadline).await?;
        answer.waited = started.elapsed();
        answer.local = local;
        read_body(&mut stream, &mut answer, rest, deadline).await;
        Ok(answer)
    }

    /// Asks for an upgrade on a connection of its own.
    pub(super) async fn upgrade(&self, to: &Endpoint, ask: &Ask) -> Upgrade {
        match self.try_upgrade(to, ask).await {
            Ok(upgrade) => upgrade,
            Err(trouble) => Upgrade::Failed(trouble),
        }
    }

    async fn try_upgrade(&self, to: &Endpoint, ask: &Ask) -> Result<Upgrade, Trouble> {
        match ask.idle {
            true => Self::take(&self.idle_connections, MAX_IDLE_CONNECTIONS)?,
            false if self.connections.load(Ordering::Relaxed) >= MAX_CONNECTIONS => {
                return Err(Trouble::Budget);
            }
            false => {}
        }
        let deadline = Instant::now() + self.timeout;
        let (mut stream, local) = self.connect(to).await?;
        let key = handshake::new_key();
        let mut headers = vec![
            ("Host".to_owned(), to.host.clone()),
            ("Upgrade".to_owned(), "websocket".to_owned()),
            ("Connection".to_owned(), "Upgrade".to_owned()),
            ("Sec-WebSocket-Version".to_owned(), "13".to_owned()),
            ("Sec-WebSocket-Key".to_owned(), key.clone()),
            ("User-Agent".to_owned(), self.user_agent.clone()),
        ];
        if ask.deflate {
            headers.push(("Sec-WebSocket-Extensions".to_owned(), extension::offer().to_string()));
        }
        if !ask.subprotocols.is_empty() {
            headers.push(("Sec-WebSocket-Protocol".to_owned(), ask.subprotocols.join(", ")));
        }
        let mut head = format!("GET {} HTTP/1.1\r\n", ask.target);
        put_headers(&mut head, headers, &ask.headers);
        let started = Instant::now();
        write(&mut stream, head.as_bytes(), deadline).await?;
        let (mut answer, rest) = read_head(&mut stream, deadline).await?;
        answer.waited = started.elapsed();
        answer.local = local;
        if answer.status != 101 {
            read_body(&mut stream, &mut answer, rest, deadline).await;
            return Ok(Upgrade::Answered(Box::new(answer)));
        }
        if !ask.idle {
            Self::take(&self.connections, MAX_CONNECTIONS)?;
        }
        let deflate = answer
            .header("sec-websocket-extensions")
            .and_then(|extensions| extension::accept(extensions).ok().flatten());
        let limits = Limits { max_frame: MAX_MESSAGE, max_message: MAX_MESSAGE };
        Ok(Upgrade::Open(Box::new(Socket {
            has_upgrade: answer.lists("upgrade", "websocket"),
            has_connection: answer.lists("connection", "upgrade"),
            accept_fits: answer.header("sec-websocket-accept") == Some(handshake::accept_key(&key).as_str()),
            is_deflated: deflate.is_some(),
            stream,
            decoder: Decoder::new(Role::Client, limits, deflate),
            encoder: ClientEncoder::new(deflate),
            pending: rest,
            n_bytes: 0,
            last_close_frame: false,
            opened: Instant::now(),
            answer,
        })))
    }
}

/// Headers of the protocol, those of `given` in their place or after them.
fn put_headers(head: &mut String, own: Vec<(String, String)>, given: &[(String, String)]) {
    let is_given = |name: &str| given.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    for (name, value) in own.iter().filter(|(name, _)| !is_given(name)).chain(given) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
}

async fn write(stream: &mut Box<dyn Wire>, bytes: &[u8], deadline: Instant) -> Result<(), Trouble> {
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    match timeout_at(deadline, written).await {
        Err(_) => Err(Trouble::Silent),
        // A server may answer and close before it has read everything: the answer is what matters.
        Ok(_) => Ok(()),
    }
}

async fn read_head(stream: &mut Box<dyn Wire>, deadline: Instant) -> Result<(Answer, Vec<u8>), Trouble> {
    let mut received = Vec::with_capacity(1024);
    loop {
        if let Some(at) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = received.split_off(at + 4);
            return Ok((parse_head(&received)?, rest));
        }
        if received.len() >= 5 && !received.starts_with(b"HTTP/") || received.len() > MAX_HEAD {
            received.truncate(16);
            return Err(Trouble::NotHttp(received));
        }
        match timeout_at(deadline, stream.read_buf(&mut received)).await {
            Err(_) => return Err(Trouble::Silent),
            Ok(Ok(n)) if n > 0 => {}
            Ok(_) if received.is_empty() => return Err(Trouble::Ended),
            Ok(_) => {
                received.truncate(16);
                return Err(Trouble::NotHttp(received));
            }
        }
    }
}

fn parse_head(head: &[u8]) -> Result<Answer, Trouble> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(Trouble::NotHttp(head.iter().copied().take(16).collect())),
    }
    let headers = response.headers.iter();
    Ok(Answer {
        minor: response.version.unwrap_or_default(),
        status: response.code.unwrap_or_default(),
        headers: headers
            .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
            .collect(),
        body: Vec::new(),
        waited: Duration::ZERO,
        local: None,
    })
}

/// Reads as much of the body as comes: what is missing does not change who wrote the answer.
async fn read_body(stream: &mut Box<dyn Wire>, answer: &mut Answer, rest: Vec<u8>, deadline: Instant) {
    let is_chunked = answer.lists("transfer-encoding", "chunked");
    let length = answer.header("content-length").and_then(|length| length.trim().parse::<usize>().ok());
    let wanted = if is_chunked { MAX_BODY } else { length.unwrap_or(MAX_BODY).min(MAX_BODY) };
    let mut raw = rest;
    let is_bodiless = matches!(answer.status, 204 | 304);
    while !is_bodiless && raw.len() < wanted && !(is_chunked && raw.ends_with(b"0\r\n\r\n")) {
        match timeout_at(deadline, stream.read_buf(&mut raw)).await {
            Ok(Ok(n)) if n > 0 => {}
            _ => break,
        }
    }
    answer.body = if is_chunked { unchunk(&raw) } else { raw };
    answer.body.truncate(wanted);
}

/// The content of chunks, as far as they are whole.
fn unchunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(httparse::Status::Complete((start, length))) = httparse::parse_chunk_size(raw) {
        let Ok(length) = usize::try_from(length) else { break };
        let Some(chunk) = length
            .checked_add(start)
            .and_then(|end| raw.get(start..end.min(raw.len())))
            .filter(|_| length > 0)
        else {
            break;
        };
        body.extend_from_slice(chunk);
        match raw.get(start + length + 2..) {
            Some(next) => raw = next,
            None => break,
        }
    }
    body
}

/// What came on an open connection.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    Text(String),
    Binary(usize),
    Pong,
    /// A close frame.
    Closed {
        code: Option<u16>,
        reason: String,
    },
    /// The connection ended without one.
    Lost,
    /// The stream breaks the protocol.
    Broken(DecodeError),
    /// The stream has an HTTP answer in it.
    Injected,
    /// A close frame with more than 125 bytes.
    CloseTooLong,
    /// Nothing until the deadline.
    Nothing,
}

impl Event {
    /// Is the connection over?
    pub(super) fn is_end(&self) -> bool {
        !matches!(self, Self::Text(_) | Self::Binary(_) | Self::Pong | Self::Nothing)
    }

    /// A few words for measurements, without what a server wrote.
    pub(super) fn summary(&self) -> String {
        match self {
            Self::Text(text) => format!("text of {} bytes", text.len()),
            Self::Binary(length) => format!("binary of {length} bytes"),
            Self::Pong => "pong".to_owned(),
            Self::Closed { code: Some(code), .. } => format!("close frame {code}"),
            Self::Closed { code: None, .. } => "close frame without a code".to_owned(),
            Self::Lost => "end without a close frame".to_owned(),
            Self::Broken(error) => format!("protocol error: {error}"),
            Self::Injected => "an HTTP answer in the stream".to_owned(),
            Self::CloseTooLong => "a close frame over 125 bytes".to_owned(),
            Self::Nothing => "nothing".to_owned(),
        }
    }
}

/// An open WebSocket connection.
pub(super) struct Socket {
    pub(super) answer: Answer,
    /// Had the 101 `Upgrade: websocket`?
    pub(super) has_upgrade: bool,
    /// Had the 101 `Connection: Upgrade`?
    pub(super) has_connection: bool,
    pub(super) accept_fits: bool,
    pub(super) is_deflated: bool,
    pub(super) opened: Instant,
    stream: Box<dyn Wire>,
    decoder: Decoder,
    encoder: ClientEncoder,
    pending: Vec<u8>,
    n_bytes: usize,
    last_close_frame: bool,
}

impl Socket {
    /// Sends a text message; false: the connection is over.
    pub(super) async fn text(&mut self, text: &str) -> bool {
        let frame = self.encoder.text(text);
        self.put(&frame).await
    }

    /// Sends a ping; false: the connection is over.
    pub(super) async fn ping(&mut self) -> bool {
        let frame = self.encoder.ping(b"tidegate-doctor");
        self.put(&frame).await
    }

    async fn put(&mut self, frame: &[u8]) -> bool {
        let sent = async {
            self.stream.write_all(frame).await?;
            self.stream.flush().await
        };
        matches!(tokio::time::timeout(Duration::from_secs(5), sent).await, Ok(Ok(())))
    }

    /// The next thing that comes until `deadline`. Pings are answered and not reported.
    ///
    /// # Cancel safety
    /// Safe: what was read stays in the socket.
    pub(super) async fn next(&mut self, deadline: Instant) -> Event {
        loop {
            if let Some(event) = self.decode().await {
                return event;
            }
            let mut buffer = [0; 4096];
            match timeout_at(deadline, self.stream.read(&mut buffer)).await {
                Err(_) => return Event::Nothing,
                Ok(Ok(n)) if n > 0 => self.pending.extend_from_slice(&buffer[..n]),
                Ok(_) => return Event::Lost,
            }
        }
    }

    async fn decode(&mut self) -> Option<Event> {
        while !self.pending.is_empty() {
            // No frame begins with `H`: its reserved bits say so. Only the whole word proves what it is.
            if self.n_bytes == 0 || self.decoder.is_idle() {
                let word = b"HTTP/1.";
                if self.pending.starts_with(word) {
                    return Some(Event::Injected);
                }
                if word.starts_with(&self.pending) {
                    return None;
                }
            }
            // The decoder stops at the length; what kind of frame it was is still in front of it.
            self.last_close_frame = self.decoder.is_idle() && self.pending[0] & 0x0f == 8;
            let before = self.pending.len();
            match self.decoder.decode(&mut self.pending) {
                Err(DecodeError::ControlTooLong) if self.last_close_frame => {
                    return Some(Event::CloseTooLong);
                }
                Err(error) => return Some(Event::Broken(error)),
                Ok(decoded) => {
                    self.pending.drain(..decoded.consumed);
                    self.n_bytes += before - self.pending.len();
                    match decoded.event {
                        None => {}
                        Some(Incoming::Text(text)) => return Some(Event::Text(text)),
                        Some(Incoming::Binary(bytes)) => return Some(Event::Binary(bytes.len())),
                        Some(Incoming::Pong(_)) => return Some(Event::Pong),
                        Some(Incoming::Ping(payload)) => {
                            let pong = self.encoder.pong(&payload);
                            self.put(&pong).await;
                        }
                        Some(Incoming::Close(frame)) => {
                            let answer = self.encoder.close(frame.as_ref());
                            self.put(&answer).await;
                            let (code, reason) = match frame {
                                Some(frame) => (Some(frame.code.as_u16()), frame.reason.as_str().to_owned()),
                                None => (None, String::new()),
                            };
                            return Some(Event::Closed { code, reason });
                        }
                    }
                }
            }
        }
        None
    }

    /// Ends the connection properly; waits a moment for the server's own close frame.
    pub(super) async fn close(mut self) {
        let frame = self.encoder.close(Some(&CloseFrame::new(CloseCode::NORMAL, "")));
        if self.put(&frame).await {
            let deadline = Instant::now() + Duration::from_millis(500);
            while !matches!(self.next(deadline).await, event if event.is_end() || event == Event::Nothing) {}
        }
    }
}
