//! Accepting TCP connections, TLS, and the HTTP phase of each.
//!
//! The listener never ends by itself and never spins: an error that is not one connection's is counted,
//! reported once a second and waited out.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::journal::Facts;
use tidegate_core::limits;
use tidegate_core::notice::Notice;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::service::{self, Opened, Peer};
use crate::connection::socket::Socket;
use crate::gateway::Gateway;

/// Pause after the system could not accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a failing accept is reported.
const ACCEPT_REPORT: Duration = Duration::from_secs(1);

/// Accepts connections until the gateway stops. With `tls`, each begins with a TLS handshake.
pub async fn serve(gateway: Arc<Gateway>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let stop = gateway.stop_accepting.clone();
    let mut reported: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let connection = handle(Arc::clone(&gateway), stream, address, port, tls.clone());
                gateway.tasks.spawn(connection);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if reported.is_none_or(|reported| reported.elapsed() >= ACCEPT_REPORT) {
                    reported = Some(Instant::now());
                    let diagnosis = Diagnosis::LIMIT_FILE_DESCRIPTORS;
                    gateway.notice(Notice::AcceptFailed { error: error.to_string(), diagnosis });
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes over a connection that something else has accepted, such as the proxy for fixed push addresses.
pub(super) async fn handle(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    address: SocketAddr,
    listener_port: u16,
    tls: Option<TlsAcceptor>,
) {
    // Small frames must not wait for each other. A socket that refuses the option works all the same.
    let _ = stream.set_nodelay(true);
    // Boxed: the HTTP phase is large and over soon, what follows it is small and long.
    let http_phase = Box::pin(http_phase(Arc::clone(&gateway), stream, address, listener_port, tls));
    if let Some((opened, socket, early)) = http_phase.await {
        opened.run(socket, early).await;
    }
}

/// Serves HTTP requests on one connection until it ends, or until one of them opens a WebSocket.
async fn http_phase(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    address: SocketAddr,
    listener_port: u16,
    tls: Option<TlsAcceptor>,
) -> Option<(super::upgrade::OpenConnection, Socket, bytes::Bytes)> {
    let is_tls = tls.is_some();
    // 0x16 opens a TLS handshake, and no HTTP method.
    let stop = gateway.stop_accepting.clone();
    // Nobody who has not asked for anything yet holds up a drain.
    let speaks_tls = stop.run_until_cancelled(first_byte(&stream)).await?? == 0x16;
    let socket = match tls {
        None if speaks_tls => {
            let detail = "a TLS handshake came to a listener without TLS";
            refuse(&gateway, ErrorCode::BadHandshake, Diagnosis::HANDSHAKE_TLS_ON_PLAIN, detail);
            return None;
        }
        None => Socket::Plain(stream),
        Some(_) if !speaks_tls => {
            let detail = "a request without TLS came to a TLS listener";
            refuse(&gateway, ErrorCode::BadHandshake, Diagnosis::HANDSHAKE_PLAIN_ON_TLS, detail);
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let mut stream = stream;
            let _ = tokio::time::timeout(limits::CLOSE_TIMEOUT, stream.write_all(answer)).await;
            return None;
        }
        Some(acceptor) => {
            let handshake = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, acceptor.accept(stream));
            Socket::Tls(Box::new(stop.run_until_cancelled(handshake).await?.ok()?.ok()?))
        }
    };
    let peer = Arc::new(Peer { address, is_tls, listener_port, has_asked: AtomicBool::new(false) });
    let opened = Opened::default();
    let service = {
        let (gateway, peer, opened) = (Arc::clone(&gateway), Arc::clone(&peer), Arc::clone(&opened));
        hyper::service::service_fn(move |request| {
            // Boxed, so that the connection around it can be polled in place.
            Box::pin(service::serve(Arc::clone(&gateway), Arc::clone(&peer), Arc::clone(&opened), request))
        })
    };
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Counts from the end of the request before, so it is also how long an idle caller is kept.
        .header_read_timeout(limits::KEEP_ALIVE_TIMEOUT)
        .max_buf_size(limits::MAX_HEAD_BYTES)
        .max_headers(limits::MAX_HEADERS)
        .keep_alive(true)
        .title_case_headers(false);
    let mut connection = builder.serve_connection(TokioIo::new(socket), service);
    let mut stopped = pin!(stop.cancelled());
    let mut is_stopping = false;
    // The first head has less time than an idle caller who has shown what it wants.
    let mut first_head = pin!(tokio::time::sleep(limits::HANDSHAKE_TIMEOUT));
    let ended = std::future::poll_fn(|context| {
        if !is_stopping && stopped.as_mut().poll(context).is_ready() {
            is_stopping = true;
            std::pin::Pin::new(&mut connection).graceful_shutdown();
        }
        let polled = connection.poll_without_shutdown(context).map(Some);
        // A head that was complete has been seen by now; the first one has no claim on a drain before that.
        if polled.is_pending()
            && !peer.has_asked.load(Ordering::Relaxed)
            && (is_stopping || first_head.as_mut().poll(context).is_ready())
        {
            return Poll::Ready(None);
        }
        polled
    });
    let result = ended.await?;
    if let Err(error) = &result
        && error.is_parse()
    {
        // The HTTP library has answered already; here it gets its reason.
        let code = if error.is_parse_too_large() { ErrorCode::HeadTooLarge } else { ErrorCode::BadHandshake };
        refuse(&gateway, code, code.row().diagnosis, "the request head cannot be read");
    }
    let accepted = opened.lock().take();
    result.ok()?;
    let accepted = accepted?;
    let parts = connection.into_parts();
    Some((accepted, parts.io.into_inner(), parts.read_buf))
}

/// The first byte of a connection, left where it is.
async fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut byte = [0];
    match tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, stream.peek(&mut byte)).await {
        Ok(Ok(1)) => Some(byte[0]),
        _ => None,
    }
}

/// A refusal that no request handler has seen.
fn refuse(gateway: &Gateway, code: ErrorCode, diagnosis: Diagnosis, detail: &str) {
    gateway.notice(Notice::HandshakeRefused {
        facts: Facts::none(),
        place: Default::default(),
        status: code.row().status,
        code,
        diagnosis,
        detail: detail.to_owned(),
        duration: Duration::ZERO,
    });
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
