//! An HTTP/1.1 backend by hand: it remembers every request as it was on the wire and answers as it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::record::Record;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) target: String,
    /// Names in the spelling of the wire.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// The status that the plan gives it; 0 when it gets no valid answer.
    pub(crate) status: u16,
    /// Requests that were answered before this one arrived.
    pub(crate) n_answered: usize,
    /// Number of the TCP connection that it came over, from 1 on.
    pub(crate) connection: usize,
}

impl Request {
    /// The values of a header, whatever its spelling.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let fits = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        self.headers.iter().filter(fits).map(|(_, value)| value.as_str()).collect()
    }

    /// The single value of a header, empty when there is none.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.values(name).first().copied().unwrap_or_default()
    }

    pub(crate) fn is_event(&self, event_type: &str) -> bool {
        self.value("x-event") == event_type
    }

    pub(crate) fn id(&self) -> &str {
        self.value("connectionid")
    }
}

/// Holds answers back until it is opened; stays open.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) async fn pass(&self) {
        let _ = self.0.subscribe().wait_for(|is_open| *is_open).await;
    }
}

/// What one request gets.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Status(u16),
    /// After a while, as slow backends do.
    Late(u16, Duration),
    /// When the gate is open.
    Gated(u16, Gate),
    /// The connection is reset instead.
    Reset,
    /// Bytes that are no HTTP.
    Garbage,
    /// These bytes; then the connection is closed or kept.
    Wire(String, After),
}

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Keep,
    Close,
}

type Plan = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

/// The backend.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Record<Request>,
    n_answered: AtomicUsize,
    /// Connections that this side has closed.
    pub(crate) n_closed: AtomicUsize,
    plan: Mutex<Plan>,
}

impl Backend {
    /// Listens on a free port; answers 200 to everything.
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            requests: Record::default(),
            n_answered: AtomicUsize::new(0),
            n_closed: AtomicUsize::new(0),
            plan: Mutex::new(Arc::new(|_| Answer::Status(200))),
        });
        let accepting = Arc::clone(&backend);
        tokio::spawn(async move {
            let mut n_accepted = 0;
            while let Ok((stream, _)) = listener.accept().await {
                n_accepted += 1;
                tokio::spawn(Arc::clone(&accepting).serve(stream, n_accepted));
            }
        });
        backend
    }

    /// Changes how requests that arrive from now on are answered.
    pub(crate) fn plan(&self, plan: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
        *self.plan.lock() = Arc::new(plan);
    }

    /// Waits for `wanted` requests of an event type.
    pub(crate) async fn events(&self, event_type: &str, wanted: usize) -> Vec<Request> {
        self.requests.until(event_type, wanted, |request| request.is_event(event_type)).await
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream, connection: usize) {
        let _ = stream.set_nodelay(true);
        let mut buffer = Vec::new();
        while let Some(mut request) = read_request(&mut stream, &mut buffer).await {
            request.n_answered = self.n_answered.load(Ordering::SeqCst);
            request.connection = connection;
            let plan = Arc::clone(&self.plan.lock());
            let answer = plan(&request);
            request.status = match &answer {
                Answer::Status(status) | Answer::Late(status, _) | Answer::Gated(status, _) => *status,
                Answer::Reset | Answer::Garbage => 0,
                Answer::Wire(bytes, _) => bytes.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0),
            };
            let status = request.status;
            self.requests.push(request);
            match &answer {
                Answer::Status(_) | Answer::Wire(..) => {}
                Answer::Late(_, delay) => tokio::time::sleep(*delay).await,
                Answer::Gated(_, gate) => gate.pass().await,
                Answer::Reset => {
                    let _ = stream.set_zero_linger();
                    return;
                }
                Answer::Garbage => {
                    let _ = stream.write_all(b"\x00\x01 this is no HTTP\r\n\r\n").await;
                    return;
                }
            }
            self.n_answered.fetch_add(1, Ordering::SeqCst);
            if let Answer::Wire(bytes, after) = answer {
                let written = stream.write_all(bytes.as_bytes()).await;
                if after == After::Close {
                    drop(stream);
                    self.n_closed.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if written.is_err() {
                    return;
                }
                continue;
            }
            let reply = format!("HTTP/1.1 {status} Planned\r\nContent-Length: 0\r\n\r\n");
            if stream.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let head_len = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_len]).into_owned();
    let mut lines = head.trim_end().split("\r\n");
    let target = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut request =
        Request { target, headers, body: String::new(), status: 0, n_answered: 0, connection: 0 };
    let whole = head_len + request.value("content-length").parse::<usize>().unwrap_or(0);
    while buffer.len() < whole {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    request.body = String::from_utf8_lossy(&buffer[head_len..whole]).into_owned();
    buffer.drain(..whole);
    Some(request)
}
