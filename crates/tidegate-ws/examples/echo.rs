//! Echo server on the codec alone, for conformance tests: `echo 127.0.0.1:9001`.
//!
//! Prints the address it listens on (port 0 takes a free one) and serves until it is killed. Answers text and binary
//! messages with themselves, pings with pongs, and offers permessage-deflate.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tidegate_ws::{
    CloseCode, CloseFrame, Decoder, DeflateParams, Incoming, Limits, OutboundMessage, Role, extension,
    handshake,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Above the 16 MiB messages of the limit cases in the Autobahn suite.
const LIMITS: Limits = Limits { max_frame: 32 << 20, max_message: 32 << 20 };
/// Largest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
const READ_BUFFER: usize = 64 * 1024;
/// How long a client may take to close its side after the close frame.
const LINGER: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = serve(stream).await {
                eprintln!("connection failed: {error}");
            }
        });
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(READ_BUFFER);
    let Some(upgrade) = read_upgrade(&mut stream, &mut buffer).await? else {
        return stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .await;
    };
    stream.write_all(upgrade.response.as_bytes()).await?;
    buffer.drain(..upgrade.head_len);

    let mut decoder = Decoder::new(Role::Server, LIMITS, upgrade.deflate);
    loop {
        // All answers to what one read brought leave in one write.
        let mut answers = Vec::new();
        let is_open = answer(&mut decoder, &mut buffer, upgrade.deflate, &mut answers);
        stream.write_all(&answers).await?;
        if !is_open {
            return finish(stream).await;
        }
        buffer.clear();
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Decodes `input` and appends the answers to `out`; `false` when the connection ends.
fn answer(
    decoder: &mut Decoder,
    input: &mut [u8],
    deflate: Option<DeflateParams>,
    out: &mut Vec<u8>,
) -> bool {
    let mut at = 0;
    while at < input.len() {
        let decoded = match decoder.decode(&mut input[at..]) {
            Ok(decoded) => decoded,
            Err(error) => {
                let frame = CloseFrame::new(error.close_code(), error.to_string());
                out.extend_from_slice(&tidegate_ws::close(Some(&frame)));
                return false;
            }
        };
        at += decoded.consumed;
        match decoded.event {
            Some(Incoming::Text(text)) => {
                out.extend_from_slice(&OutboundMessage::text(Bytes::from(text)).frames(deflate));
            }
            Some(Incoming::Binary(payload)) => {
                out.extend_from_slice(&OutboundMessage::binary(payload).frames(deflate));
            }
            Some(Incoming::Ping(payload)) => out.extend_from_slice(&tidegate_ws::pong(&payload)),
            Some(Incoming::Pong(_)) | None => {}
            Some(Incoming::Close(frame)) => {
                let echoed = CloseFrame::from(frame.map_or(CloseCode::NORMAL, |frame| frame.code));
                out.extend_from_slice(&tidegate_ws::close(Some(&echoed)));
                return false;
            }
        }
    }
    true
}

/// Closes the sending side and reads on for a moment: data that nobody reads would turn the close into a reset, and
/// the client might lose the close frame.
async fn finish(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let drain = async {
        let mut discarded = vec![0; READ_BUFFER];
        while stream.read(&mut discarded).await? > 0 {}
        Ok(())
    };
    timeout(LINGER, drain).await.unwrap_or(Ok(()))
}

struct Upgrade {
    head_len: usize,
    response: String,
    deflate: Option<DeflateParams>,
}

/// Reads the request head; `buffer` then holds it and what came after it. `None`: not an upgrade.
async fn read_upgrade(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Upgrade>> {
    loop {
        if stream.read_buf(buffer).await? == 0 || buffer.len() > MAX_HEAD {
            return Ok(None);
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(buffer) {
            Ok(httparse::Status::Complete(head_len)) => return Ok(upgrade(&request, head_len)),
            Ok(httparse::Status::Partial) => {}
            Err(_) => return Ok(None),
        }
    }
}

fn upgrade(request: &httparse::Request<'_, '_>, head_len: usize) -> Option<Upgrade> {
    let values = |name: &str| {
        request
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name))
            .filter_map(|header| std::str::from_utf8(header.value).ok())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let key = values("Sec-WebSocket-Key");
    if !handshake::is_valid_key(&key) || values("Sec-WebSocket-Version") != "13" {
        return None;
    }
    let negotiated = extension::negotiate(&values("Sec-WebSocket-Extensions"));
    let extensions = match &negotiated {
        Some((_, value)) => format!("Sec-WebSocket-Extensions: {value}\r\n"),
        None => String::new(),
    };
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{extensions}\r\n",
        handshake::accept_key(&key)
    );
    Some(Upgrade { head_len, response, deflate: negotiated.map(|(params, _)| params) })
}
