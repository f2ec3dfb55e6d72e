//! `tidegate connect`: a WebSocket client for the terminal that says what close codes mean.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tidegate_core::diagnosis::search;
use tidegate_ws::{
    ClientEncoder, CloseCode, CloseFrame, Decoder, DeflateParams, Incoming, Limits, Role, extension,
    handshake,
};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;

use crate::certs;
use crate::cli::{ConnectArgs, EXIT_FAILURE};

/// Largest message that is shown, in bytes.
const MAX_MESSAGE: usize = 16 << 20;

/// Largest answer to the handshake, in bytes.
const MAX_HEAD: usize = 64 << 10;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) async fn run(args: ConnectArgs) -> anyhow::Result<ExitCode> {
    let url = url::Url::parse(&args.url).with_context(|| format!("`{}` is no URL", args.url))?;
    let is_tls = match url.scheme() {
        "ws" => false,
        "wss" => true,
        "http" | "https" => {
            bail!("use ws:// or wss:// instead of {}:// (handshake.https-scheme)", url.scheme())
        }
        other => bail!("ws:// or wss:// expected, not {other}://"),
    };
    if url.fragment().is_some() {
        bail!("a WebSocket URL has no fragment (handshake.bad-url-syntax)");
    }
    let host = url.host_str().context("the URL has no host")?.to_owned();
    let port = url.port_or_known_default().unwrap_or(if is_tls { 443 } else { 80 });
    let dial = host.trim_matches(['[', ']']);
    // Browsers resolve these to loopback; not every system resolver does.
    let dial = if dial.ends_with(".localhost") { "localhost" } else { dial };
    let tcp = TcpStream::connect((dial, port)).await.with_context(|| format!("connect to {host}:{port}"))?;
    tcp.set_nodelay(true)?;
    let mut stream: Box<dyn Stream> = if is_tls {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = certs::client_config(args.cafile.as_deref())?;
        let name =
            rustls::pki_types::ServerName::try_from(dial.to_owned()).context("the host is no TLS name")?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        Box::new(connector.connect(name, tcp).await.context("TLS handshake")?)
    } else {
        Box::new(tcp)
    };
    let Some((deflate, early)) = shake_hands(&mut stream, &args, &url).await? else {
        return Ok(ExitCode::from(EXIT_FAILURE));
    };
    talk(stream, &args, deflate, early).await
}

/// Sends the handshake and reads the answer; nothing when it was refused, which has been said.
async fn shake_hands(
    stream: &mut Box<dyn Stream>,
    args: &ConnectArgs,
    url: &url::Url,
) -> anyhow::Result<Option<(Option<DeflateParams>, Vec<u8>)>> {
    let key = handshake::new_key();
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut head = format!(
        "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Extensions: {}\r\nUser-Agent: tidegate/{}\r\n",
        extension::offer(),
        env!("CARGO_PKG_VERSION")
    );
    if !args.subprotocol.is_empty() {
        head.push_str(&format!("Sec-WebSocket-Protocol: {}\r\n", args.subprotocol.join(", ")));
    }
    for header in &args.header {
        if !header.contains(':') || header.contains(['\r', '\n']) {
            bail!("--header {header}: `Name: value` expected");
        }
        head.push_str(&format!("{header}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.context("send the handshake")?;

    let mut received = Vec::new();
    let head_length = loop {
        if let Some(at) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if received.len() > MAX_HEAD || stream.read_buf(&mut received).await? == 0 {
            bail!("the server ended the connection without an answer to the handshake");
        }
    };
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(&received[..head_length]).context("read the answer to the handshake")?;
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::to_owned)
    };
    let status = response.code.unwrap_or(0);
    if status != 101 {
        let length =
            value("content-length").and_then(|length| length.parse().ok()).unwrap_or(0usize).min(4096);
        let (mut body, request_id) = (received[head_length..].to_vec(), value("tidegate-request-id"));
        while body.len() < length && stream.read_buf(&mut body).await? > 0 {}
        let check = serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|answer| Some(meaning_of_check(answer.get("check")?.as_str()?)));
        eprintln!("refused: {status} {}", check.map_or_else(|| meaning_of_status(status), str::to_owned));
        if !body.is_empty() {
            eprintln!("  answer      {}", String::from_utf8_lossy(&body));
        }
        if let Some(request_id) = request_id {
            eprintln!("  request id  {request_id} (the gateway's log has the cause under it)");
        }
        return Ok(None);
    }
    if value("sec-websocket-accept").as_deref() != Some(handshake::accept_key(&key).as_str()) {
        bail!("the server's Sec-WebSocket-Accept does not fit: something else answered");
    }
    let deflate = match value("sec-websocket-extensions") {
        Some(extensions) => extension::accept(&extensions).context("extensions of the server")?,
        None => None,
    };
    if !args.json {
        let protocol =
            value("sec-websocket-protocol").map(|name| format!(", subprotocol {name}")).unwrap_or_default();
        eprintln!("connected{protocol}; type a message, Ctrl-D closes");
    }
    Ok(Some((deflate, received.split_off(head_length))))
}

async fn talk(
    stream: Box<dyn Stream>,
    args: &ConnectArgs,
    deflate: Option<DeflateParams>,
    early: Vec<u8>,
) -> anyhow::Result<ExitCode> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let limits = Limits { max_frame: MAX_MESSAGE, max_message: MAX_MESSAGE };
    let mut decoder = Decoder::new(Role::Client, limits, deflate);
    let encoder = ClientEncoder::new(deflate);
    for text in &args.send {
        writer.write_all(&encoder.text(text)).await?;
        print_frame(args, "->", "text", text);
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    // With --send and --count the command is a script's: it does not wait for lines.
    let mut reads_lines = args.send.is_empty() || args.count.is_none();
    let mut buffer = vec![0; 64 << 10];
    let mut pending = early;
    let mut n_received = 0;
    loop {
        while !pending.is_empty() {
            let decoded = match decoder.decode(&mut pending) {
                Ok(decoded) => decoded,
                Err(error) => {
                    let close = CloseFrame::new(error.close_code(), "");
                    let _ = writer.write_all(&encoder.close(Some(&close))).await;
                    bail!("the server broke the protocol: {error}");
                }
            };
            pending.drain(..decoded.consumed);
            match decoded.event {
                None => {}
                Some(Incoming::Text(text)) => {
                    print_frame(args, "<-", "text", &text);
                    n_received += 1;
                }
                Some(Incoming::Binary(bytes)) => {
                    print_frame(args, "<-", "binary", &format!("{} bytes", bytes.len()));
                    n_received += 1;
                }
                Some(Incoming::Ping(payload)) => writer.write_all(&encoder.pong(&payload)).await?,
                Some(Incoming::Pong(_)) => {}
                Some(Incoming::Close(frame)) => {
                    let _ = writer.write_all(&encoder.close(frame.as_ref())).await;
                    return Ok(closed(args, frame));
                }
            }
            if args.count.is_some_and(|count| n_received >= count) {
                let normal = CloseFrame::new(CloseCode::NORMAL, "");
                writer.write_all(&encoder.close(Some(&normal))).await?;
                return Ok(ExitCode::SUCCESS);
            }
        }
        tokio::select! {
            n_read = reader.read(&mut buffer) => match n_read {
                Ok(0) | Err(_) => return Ok(closed(args, None)),
                Ok(n_read) => pending.extend_from_slice(&buffer[..n_read]),
            },
            line = lines.next_line(), if reads_lines => match line? {
                Some(line) => {
                    writer.write_all(&encoder.text(&line)).await?;
                    if args.json {
                        print_frame(args, "->", "text", &line);
                    }
                }
                None if args.count.is_some() => reads_lines = false,
                None => {
                    reads_lines = false;
                    let normal = CloseFrame::new(CloseCode::NORMAL, "");
                    writer.write_all(&encoder.close(Some(&normal))).await?;
                }
            },
        }
    }
}

fn print_frame(args: &ConnectArgs, direction: &str, kind: &str, text: &str) {
    match args.json {
        true => println!("{}", serde_json::json!({ "direction": direction, "kind": kind, "text": text })),
        false => println!("{direction} {text}"),
    }
}

fn closed(args: &ConnectArgs, frame: Option<CloseFrame>) -> ExitCode {
    let (code, reason) = match &frame {
        Some(frame) => (frame.code.as_u16(), frame.reason.as_str()),
        None => (1006, ""),
    };
    match args.json {
        true => println!(
            "{}",
            serde_json::json!({ "direction": "<-", "kind": "close", "code": code, "reason": reason })
        ),
        false => {
            let separator = if reason.is_empty() { "" } else { " " };
            eprintln!("closed {code}{separator}{reason}: {}", meaning_of_close(code));
        }
    }
    if code == 1000 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) }
}

/// What a close code means here, in the words of the catalogue.
fn meaning_of_close(code: u16) -> &'static str {
    if let Some(row) = search::close_code(code) {
        return row.meaning;
    }
    match search::refused_with(code) {
        Some(_) => "the backend refused the connection with the status that follows the 4",
        None if (3000..4000).contains(&code) => "a code of a library or framework",
        None if (4000..5000).contains(&code) => "a code of the application",
        None => "a code without a meaning here",
    }
}

/// What the gateway's own check wants, by the name that its answer gives.
fn meaning_of_check(check: &str) -> &'static str {
    match check {
        "policy" => "(the stage's policy has errors; the log names them)",
        "origin" => "(the page's origin is not on the stage's list)",
        "attempts" => "(too many attempts; wait as long as Retry-After says)",
        "connections" => "(the stage, the address or the user has as many connections as it may)",
        "channel" => "(a channel name in the URL is none, or there are too many)",
        "token" => "(the one-time token is missing, expired, used already, or for somebody else)",
        "jwt" => "(the JSON Web Token is missing or does not hold)",
        "api_key" => "(the API key is missing or unknown)",
        "identity" => "(the user, session or token is banned)",
        "permission" => "(the channel's rules do not admit this user)",
        _ => "(a check of the gateway refused)",
    }
}

/// What a status of a handshake means here, in the words of the catalogue.
fn meaning_of_status(status: u16) -> String {
    search::status(status).map_or_else(String::new, |row| format!("({})", row.meaning))
}
