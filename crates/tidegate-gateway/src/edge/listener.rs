//! Accepting TCP connections, TLS, and the HTTP phase of each.
//!
//! The listener never ends by itself and never spins: an error that is not one connection's is counted,
//! reported once a second and waited out.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::limits;
use tidegate_core::notice::Notice;
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
    let socket = match tls {
        None => match first_byte(&stream).await? {
            // 0x16 opens a TLS handshake, and no HTTP method.
            0x16 => {
                refuse_tls(&gateway);
                return None;
            }
            _ => Socket::Plain(stream),
        },
        Some(acceptor) => {
            let handshake = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, acceptor.accept(stream));
            Socket::Tls(Box::new(handshake.await.ok()?.ok()?))
        }
    };
    let peer = Arc::new(Peer { address, is_tls, listener_port });
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
        .header_read_timeout(limits::KEEP_ALIVE_TIMEOUT.min(limits::HANDSHAKE_TIMEOUT))
        .max_buf_size(limits::MAX_HEAD_BYTES)
        .max_headers(limits::MAX_HEADERS)
        .keep_alive(true)
        .title_case_headers(false);
    let mut connection = builder.serve_connection(TokioIo::new(socket), service);
    let stop = gateway.stop_accepting.clone();
    let mut stopped = pin!(stop.cancelled());
    let mut is_stopping = false;
    let ended = std::future::poll_fn(|context| {
        if !is_stopping && stopped.as_mut().poll(context).is_ready() {
            is_stopping = true;
            std::pin::Pin::new(&mut connection).graceful_shutdown();
        }
        connection.poll_without_shutdown(context)
    });
    let result = ended.await;
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

fn refuse_tls(gateway: &Gateway) {
    gateway.notice(Notice::HandshakeRefused {
        place: Default::default(),
        status: 400,
        code: tidegate_core::error::ErrorCode::BadHandshake,
        diagnosis: Diagnosis::HANDSHAKE_TLS_ON_PLAIN,
        detail: "a TLS handshake came to a listener without TLS".to_owned(),
        duration: Duration::ZERO,
    });
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
