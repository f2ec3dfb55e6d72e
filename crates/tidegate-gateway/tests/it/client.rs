//! A WebSocket client that can also misbehave.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_ws::{ClientEncoder, CloseCode, CloseFrame, Decoder, Incoming, Limits, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::record::DEADLINE;

/// A path that leads to the stage of [`crate::harness`].
pub(crate) const PATH: &str = "/_aws/execute-api/tide000001/prod";

/// The header by which the backend tells clients apart.
pub(crate) const TAG: &str = "x-client";

/// Tags of all clients of this process.
static NEXT_TAG: AtomicUsize = AtomicUsize::new(1);

/// One client; its connection may be open or not yet.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) tag: String,
    decoder: Decoder,
    received: Vec<u8>,
}

impl Client {
    /// A TCP connection, nothing more. `buffer`: size of the socket buffers where the system's own are too large.
    pub(crate) async fn dial(address: SocketAddr, buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(buffer) = buffer {
            socket.set_recv_buffer_size(buffer).unwrap();
            socket.set_send_buffer_size(buffer).unwrap();
        }
        let stream = socket.connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let limits = Limits { max_frame: 1 << 20, max_message: 1 << 20 };
        Self {
            stream,
            tag: format!("client-{}", NEXT_TAG.fetch_add(1, Ordering::Relaxed)),
            decoder: Decoder::new(Role::Client, limits, None),
            received: Vec::new(),
        }
    }

    /// The handshake of this client, with more of a query and more header lines.
    pub(crate) fn handshake(&self, query: &str, more: &str) -> Vec<u8> {
        self.handshake_at(&format!("{PATH}{query}"), "localhost", more)
    }

    /// The handshake of this client at any address.
    pub(crate) fn handshake_at(&self, target: &str, host: &str, more: &str) -> Vec<u8> {
        let tag = &self.tag;
        format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{TAG}: {tag}\r\n\
             {more}\r\n"
        )
        .into_bytes()
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        tokio::time::timeout(DEADLINE, self.stream.write_all(bytes)).await.expect("written in time").unwrap();
    }

    /// Reads the answer to the handshake; returns its status.
    pub(crate) async fn status(&mut self) -> u16 {
        let head_len = loop {
            if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.read_more().await, "the connection ended before an answer came");
        };
        let head: Vec<u8> = self.received.drain(..head_len).collect();
        String::from_utf8_lossy(&head[9..12]).parse().unwrap()
    }

    /// Reads the answer to a handshake or a request, with its body.
    pub(crate) async fn reply(&mut self) -> Reply {
        let head_len = loop {
            if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.read_more().await, "the connection ended before an answer came");
        };
        let head: Vec<u8> = self.received.drain(..head_len).collect();
        let head = String::from_utf8_lossy(&head).trim_end().to_owned();
        let mut reply = Reply { status: head[9..12].parse().unwrap(), head, body: String::new() };
        let length = reply.value("content-length").parse().unwrap_or(0);
        while self.received.len() < length {
            assert!(self.read_more().await, "the connection ended in the body");
        }
        let body: Vec<u8> = self.received.drain(..length).collect();
        reply.body = String::from_utf8_lossy(&body).into_owned();
        reply
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.write(&ClientEncoder::new(None).text(text)).await;
    }

    /// The next frame; nothing at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        loop {
            if !self.received.is_empty() {
                let decoded = self.decoder.decode(&mut self.received).expect("valid frames");
                self.received.drain(..decoded.consumed);
                if decoded.event.is_some() {
                    return decoded.event;
                }
            }
            if !self.read_more().await {
                return None;
            }
        }
    }

    /// The next text message.
    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            Some(Incoming::Text(text)) => text,
            other => panic!("expected text, got {other:?}"),
        }
    }

    /// Reads to the close frame, answers it as a browser does, and waits for the end.
    pub(crate) async fn closed(&mut self) -> Option<CloseFrame> {
        loop {
            match self.next().await {
                None => return None,
                Some(Incoming::Close(frame)) => {
                    let _ = self.stream.write_all(&ClientEncoder::new(None).close(frame.as_ref())).await;
                    while self.read_more().await {}
                    return frame;
                }
                Some(_) => {}
            }
        }
    }

    /// Closes with a code, and waits for the answer.
    pub(crate) async fn close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame::new(CloseCode::new(code).unwrap(), reason);
        self.write(&ClientEncoder::new(None).close(Some(&frame))).await;
        while !matches!(self.next().await, None | Some(Incoming::Close(_))) {}
    }

    /// Goes without a word, in the rudest way TCP has.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    async fn read_more(&mut self) -> bool {
        let read = tokio::time::timeout(DEADLINE, self.stream.read_buf(&mut self.received));
        !matches!(read.await.expect("something to read in time"), Ok(0) | Err(_))
    }
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Status line and header lines, as they were on the wire.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    /// The value of a header, empty when there is none.
    pub(crate) fn value(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A plain HTTP request over a connection of its own. `headers` are whole lines; host and length are added.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &str,
    body: &str,
) -> Reply {
    let mut client = Client::dial(address, None).await;
    let host = if headers.contains("Host: ") { "" } else { "Host: localhost\r\n" };
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    // Whoever is refused by the head alone may be closed before the body is through.
    let _ = client.stream.write_all(request.as_bytes()).await;
    while client.read_more().await {}
    let answer = String::from_utf8_lossy(&client.received).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    Reply { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
}

/// A plain HTTP request with a key that may do everything; returns the status.
pub(crate) async fn manage(address: SocketAddr, method: &str, id: &str) -> u16 {
    let mut client = Client::dial(address, None).await;
    let id = id.replace('=', "%3D");
    let request = format!(
        "{method} {PATH}/@connections/{id} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer test-key\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    client.write(request.as_bytes()).await;
    client.status().await
}

impl Client {
    /// Sends a message for the gateway itself (the reserved member is `tidegate`), and returns the next one of it.
    pub(crate) async fn ask(&mut self, message: serde_json::Value) -> serde_json::Value {
        self.send(&serde_json::json!({ "tidegate": message }).to_string()).await;
        self.told().await
    }

    /// The next message, which must be one of the gateway itself.
    pub(crate) async fn told(&mut self) -> serde_json::Value {
        let text = self.text().await;
        let mut message: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(message["tidegate"].is_object(), "{text}");
        message["tidegate"].take()
    }

    /// Whatever was put into its outbox before is a message that this does not expect.
    pub(crate) async fn hears_nothing(&mut self) {
        let answer = self.ask(serde_json::json!({ "action": "ping" })).await;
        assert_eq!(answer["type"], "pong", "{answer}");
    }
}
