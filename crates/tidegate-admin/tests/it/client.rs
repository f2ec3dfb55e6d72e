//! A WebSocket client.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_ws::{CloseFrame, Decoder, Incoming, Limits, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// One client with an open connection.
pub(crate) struct Client {
    stream: TcpStream,
    decoder: Decoder,
    received: Vec<u8>,
}

impl Client {
    /// Connects; `target` is path and query. The status of a refusal otherwise.
    pub(crate) async fn connect(address: SocketAddr, target: &str, headers: &str) -> Result<Self, u16> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let limits = Limits { max_frame: 1 << 20, max_message: 1 << 20 };
        let mut client =
            Self { stream, decoder: Decoder::new(Role::Client, limits, None), received: Vec::new() };
        let head_len = loop {
            if let Some(at) = client.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(client.read_more().await, "the connection ended before an answer came");
        };
        let head: Vec<u8> = client.received.drain(..head_len).collect();
        match String::from_utf8_lossy(&head[9..12]).parse().unwrap() {
            101 => Ok(client),
            status => Err(status),
        }
    }

    async fn next(&mut self) -> Option<Incoming> {
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

    /// Sends a text of less than 126 bytes.
    pub(crate) async fn send(&mut self, text: &str) {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short text");
        // Masked with zeros, which leaves it as it is.
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next text message.
    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            Some(Incoming::Text(text)) => text,
            other => panic!("expected text, got {other:?}"),
        }
    }

    /// Reads to the close frame: code and reason.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                None => return (1006, String::new()),
                Some(Incoming::Close(None)) => return (1005, String::new()),
                Some(Incoming::Close(Some(CloseFrame { code, reason }))) => {
                    return (code.as_u16(), reason.to_string());
                }
                Some(_) => {}
            }
        }
    }

    async fn read_more(&mut self) -> bool {
        let read = tokio::time::timeout(DEADLINE, self.stream.read_buf(&mut self.received));
        !matches!(read.await.expect("something to read in time"), Ok(0) | Err(_))
    }
}
