//! Accepting TCP connections, TLS, and the HTTP phase of each.
//!
//! The listener never ends by itself and never spins: an error that is not one connection's is counted,
//! reported once a second and waited out.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::limits;
use tidegate_core::notice::Notice;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::attempt::Attempt;
use super::refusal;
use super::service::{self, Opened, Opening, Peer, TlsFacts, Via};
use super::watched::Watched;
use crate::connection::socket::Socket;
use crate::gateway::Gateway;

/// Pause after the system could not accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a failing accept is reported.
const ACCEPT_REPORT: Duration = Duration::from_secs(1);

/// Bytes of a TLS handshake that are looked at: record, message and the version that the client names first.
const HELLO_HEAD: usize = 11;

/// Bytes of a request that nobody reads which are taken all the same, so that its sender sees the answer and no reset.
const MAX_DISCARDED: usize = 256 * 1024;

/// How long they are waited for.
const DISCARD_TIMEOUT: Duration = Duration::from_millis(500);

/// Accepts connections until the gateway stops. With `tls`, each begins with a TLS handshake.
pub async fn serve(gateway: Arc<Gateway>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let via = if tls.is_some() { Via::Tls } else { Via::Plain };
    accept(gateway, listener, via, tls).await;
}

/// As [`serve`], but each connection may begin with a TLS handshake or without one.
pub async fn serve_either(gateway: Arc<Gateway>, listener: TcpListener, tls: TlsAcceptor) {
    accept(gateway, listener, Via::Plain, Some(tls)).await;
}

async fn accept(gateway: Arc<Gateway>, listener: TcpListener, via: Via, tls: Option<TlsAcceptor>) {
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
                let connection = handle(Arc::clone(&gateway), stream, address, port, (via, tls.clone()));
                gateway.tasks.spawn(connection);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if reported.is_none_or(|reported| reported.elapsed() >= ACCEPT_REPORT) {
                    reported = Some(Instant::now());
                    let diagnosis = diagnose(&error);
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
    way: (Via, Option<TlsAcceptor>),
) {
    // Small frames must not wait for each other. A socket that refuses the option works all the same.
    let _ = stream.set_nodelay(true);
    // Boxed: the HTTP phase is large and over soon, what follows it is small and long.
    let http_phase = Box::pin(http_phase(Arc::clone(&gateway), stream, address, listener_port, way));
    if let Some((opening, socket, early)) = http_phase.await {
        match opening {
            Opening::Connection(opened) => opened.run(socket, early).await,
            Opening::Probe(opened) => Box::pin(opened.run(socket, early)).await,
        }
    }
}

/// Serves HTTP requests on one connection until it ends, or until one of them opens a WebSocket.
async fn http_phase(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    address: SocketAddr,
    listener_port: u16,
    (via, tls): (Via, Option<TlsAcceptor>),
) -> Option<(Opening, Socket, bytes::Bytes)> {
    let stop = gateway.stop_accepting.clone();
    // Nobody who has not asked for anything yet holds up a drain.
    let hello = stop.run_until_cancelled(first_bytes(&stream)).await??;
    // 0x16 opens a TLS handshake, and no HTTP method.
    let speaks_tls = hello.first() == Some(&0x16);
    let mut peer = Peer {
        address,
        listener: via,
        tls: None,
        listener_port,
        n_asked: AtomicUsize::new(0),
        spelling: Mutex::default(),
    };
    if via == Via::Plain && tls.is_some() && speaks_tls {
        peer.listener = Via::Tls;
    }
    let socket = match tls {
        None if speaks_tls => {
            let mut attempt = Attempt::unread(&gateway, &peer);
            attempt.note("offeredTlsVersion", offered_version(&hello));
            let detail = "a TLS handshake came to a listener without TLS";
            refusal::tell(
                &gateway,
                attempt,
                ErrorCode::BadHandshake,
                Diagnosis::HANDSHAKE_TLS_ON_PLAIN,
                detail,
                0,
            );
            return None;
        }
        None => Socket::Plain(stream),
        Some(_) if !speaks_tls && via == Via::Plain => Socket::Plain(stream),
        Some(_) if !speaks_tls => {
            let mut attempt = Attempt::unread(&gateway, &peer);
            attempt.note("tls", false);
            let detail = "a request without TLS came to a TLS listener";
            let answer = refusal::refuse(
                &gateway,
                attempt,
                ErrorCode::BadHandshake,
                Some(Diagnosis::HANDSHAKE_PLAIN_ON_TLS),
                detail,
            );
            write_last(Socket::Plain(stream), answer).await;
            return None;
        }
        Some(acceptor) => {
            let handshake = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, acceptor.accept(stream));
            match stop.run_until_cancelled(handshake).await?.ok()? {
                Ok(stream) => {
                    peer.tls = Some(tls_facts(&stream));
                    Socket::Tls(Box::new(stream))
                }
                Err(error) => {
                    if let Some(reason) = no_common_version(&error) {
                        let mut attempt = Attempt::unread(&gateway, &peer);
                        attempt.note("offeredTlsVersion", offered_version(&hello));
                        refusal::tell(
                            &gateway,
                            attempt,
                            ErrorCode::BadHandshake,
                            Diagnosis::TLS_NO_COMMON_VERSION,
                            &reason,
                            0,
                        );
                    }
                    return None;
                }
            }
        }
    };
    let peer = Arc::new(peer);
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
    let watched = Watched::new(socket, Arc::clone(&peer));
    let mut connection = builder.serve_connection(TokioIo::new(watched), service);
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
            && peer.n_asked.load(Ordering::Relaxed) == 0
            && (is_stopping || first_head.as_mut().poll(context).is_ready())
        {
            return Poll::Ready(None);
        }
        polled
    });
    let result = ended.await?;
    let accepted = opened.lock().take();
    let parts = connection.into_parts();
    let watched = parts.io.into_inner();
    match result {
        Ok(()) => Some((accepted?, watched.into_socket(), parts.read_buf)),
        Err(error) => {
            let is_h2 = watched.is_h2() && peer.n_asked.load(Ordering::Relaxed) == 0;
            if error.is_parse() || is_h2 {
                refuse_unread(&gateway, &peer, watched, is_h2).await;
            }
            None
        }
    }
}

/// Answers a head that the HTTP library could not read.
async fn refuse_unread(gateway: &Gateway, peer: &Peer, watched: Watched, is_h2: bool) {
    let mut attempt = Attempt::unread(gateway, peer);
    attempt.note("headBytes", watched.n_read());
    let (code, diagnosis, detail) = match watched.own_answer() {
        _ if is_h2 => {
            attempt.note("httpVersion", "2");
            (ErrorCode::BadHandshake, Diagnosis::PROXY_H2_UPSTREAM, "the preface of HTTP/2")
        }
        Some(431) => {
            attempt.note("limit", limits::MAX_HEAD_BYTES);
            (ErrorCode::HeadTooLarge, Diagnosis::HANDSHAKE_URL_TOO_LONG, "the request head is too large")
        }
        Some(414) => {
            attempt.note("limit", limits::MAX_URL_LENGTH);
            (ErrorCode::UrlTooLong, Diagnosis::HANDSHAKE_URL_TOO_LONG, "the request target is too long")
        }
        _ => (ErrorCode::BadHandshake, Diagnosis::HANDSHAKE_MALFORMED, "the request head cannot be read"),
    };
    let answer = refusal::refuse(gateway, attempt, code, Some(diagnosis), detail);
    write_last(watched.into_socket(), answer).await;
}

/// Writes an answer that is the last thing on a connection. Whoever is still sending gets some time to stop: bytes that
/// are left unread would take the answer with them.
async fn write_last(mut socket: Socket, answer: super::Reply) {
    let bytes = refusal::on_the_wire(&answer);
    let write = async {
        socket.write_all(&bytes).await?;
        socket.shutdown().await
    };
    if !matches!(tokio::time::timeout(limits::CLOSE_TIMEOUT, write).await, Ok(Ok(()))) {
        return;
    }
    let discard = async {
        let mut buffer = vec![0; 8 * 1024];
        let mut n_left = MAX_DISCARDED;
        while n_left > 0 {
            match socket.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n_read) => n_left = n_left.saturating_sub(n_read),
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, discard).await;
}

/// The first bytes of a connection, left where they are; as many as came at once.
async fn first_bytes(stream: &TcpStream) -> Option<Vec<u8>> {
    let mut bytes = [0; HELLO_HEAD];
    match tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, stream.peek(&mut bytes)).await {
        Ok(Ok(n_bytes)) if n_bytes > 0 => bytes.get(..n_bytes).map(<[u8]>::to_vec),
        _ => None,
    }
}

/// What was agreed in a TLS handshake.
fn tls_facts(stream: &TlsStream<TcpStream>) -> TlsFacts {
    let (_, session) = stream.get_ref();
    TlsFacts {
        version: match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            _ => "unknown",
        },
        server_name: session.server_name().map(str::to_owned),
        alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
    }
}

/// The highest version that a ClientHello names outside of its extensions. From TLS 1.2 on that is all it tells.
/// Source: RFC 8446, section 4.1.2.
fn offered_version(hello: &[u8]) -> &'static str {
    match hello.get(9..HELLO_HEAD) {
        Some([3, 0]) => "SSL 3.0",
        Some([3, 1]) => "1.0",
        Some([3, 2]) => "1.1",
        Some([3, 3 | 4]) => "1.2 or later",
        _ => "unknown",
    }
}

/// Why client and gateway have no version or cipher in common; nothing for other faults.
fn no_common_version(error: &io::Error) -> Option<String> {
    use rustls::AlertDescription::{HandshakeFailure, InsufficientSecurity, ProtocolVersion};
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::PeerIncompatible(reason) => Some(format!("{reason:?}")),
        rustls::Error::AlertReceived(alert @ (HandshakeFailure | InsufficientSecurity | ProtocolVersion)) => {
            Some(format!("the client sent the alert {alert:?}"))
        }
        _ => None,
    }
}

/// Why nothing can be accepted. Source: `accept(2)`.
fn diagnose(error: &io::Error) -> Diagnosis {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    match error.raw_os_error() {
        Some(ENFILE | EMFILE) => Diagnosis::LIMIT_FILE_DESCRIPTORS,
        _ if error.kind() == io::ErrorKind::OutOfMemory => Diagnosis::LIMIT_MEMORY,
        _ => Diagnosis::INTERNAL,
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lack_of_files_is_told_as_one() {
        // limit.file-descriptors
        assert_eq!(diagnose(&io::Error::from_raw_os_error(24)), Diagnosis::LIMIT_FILE_DESCRIPTORS);
        assert_eq!(diagnose(&io::Error::from_raw_os_error(23)), Diagnosis::LIMIT_FILE_DESCRIPTORS);
        assert_ne!(diagnose(&io::Error::from_raw_os_error(1)), Diagnosis::LIMIT_FILE_DESCRIPTORS);
    }
}
