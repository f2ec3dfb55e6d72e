//! Idle connections to backends, and one request over one connection.
//!
//! A connection belongs to the call that uses it: it is read and written where the call is polled, without a
//! task of its own, so a message does not travel between threads. A call that is dropped drops its connection.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tidegate_core::limits;

use super::answer_reader::{AnswerReader, BadAnswer};
use super::dial::{BackendStream, DialError, Origin, dial};
use super::lane::Lanes;

/// Connections of all backends that wait for their next request.
#[derive(Debug)]
pub(crate) struct Backends {
    tls: ArcSwap<rustls::ClientConfig>,
    /// How long a connection may have been idle to be used again, in milliseconds.
    idle_timeout: AtomicU64,
    idle: Mutex<Idle>,
    pub(super) lanes: Lanes,
}

#[derive(Debug, Default)]
struct Idle {
    /// By authority; `http` and `https`. The longest idle one is in front.
    by_authority: [HashMap<Box<str>, VecDeque<IdleConnection>>; 2],
    n_connections: usize,
}

#[derive(Debug)]
struct IdleConnection {
    stream: BackendStream,
    since: Instant,
}

fn in_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Backends {
    /// `idle_timeout`: how long a connection may have been idle to be used again.
    pub(crate) fn new(tls: rustls::ClientConfig, idle_timeout: Duration) -> Self {
        Self {
            tls: ArcSwap::from_pointee(tls),
            idle_timeout: AtomicU64::new(in_millis(idle_timeout)),
            idle: Mutex::default(),
            lanes: Lanes::default(),
        }
    }

    /// Whom to trust from now on. Idle connections were made under the old rules, and go.
    pub(crate) fn set_tls(&self, tls: rustls::ClientConfig) {
        self.tls.store(Arc::new(tls));
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
    }

    /// How long connections may have been idle from now on.
    pub(crate) fn set_idle_timeout(&self, idle_timeout: Duration) {
        self.idle_timeout.store(in_millis(idle_timeout), Ordering::Relaxed);
    }

    fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout.load(Ordering::Relaxed))
    }

    /// The connection that was used last, as the backend is least likely to close it in this moment.
    pub(super) fn take(&self, origin: Origin<'_>, now: Instant) -> Option<BackendStream> {
        loop {
            let newest = {
                let mut idle = self.idle.lock();
                let idle = &mut *idle;
                let newest = idle.by_authority[usize::from(origin.is_https)]
                    .get_mut(origin.authority)
                    .and_then(VecDeque::pop_back)?;
                idle.n_connections -= 1;
                newest
            };
            let IdleConnection { mut stream, since } = newest;
            let is_fresh = now.saturating_duration_since(since) <= self.idle_timeout();
            if is_fresh && stream.is_quiet() {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection for the next request, unless there are enough.
    pub(super) fn put(&self, origin: Origin<'_>, stream: BackendStream, now: Instant) {
        let mut idle = self.idle.lock();
        let idle = &mut *idle;
        let by_authority = &mut idle.by_authority[usize::from(origin.is_https)];
        let is_new = !by_authority.contains_key(origin.authority);
        if idle.n_connections >= limits::MAX_IDLE_TO_BACKENDS
            // Names of backends whose connections are all in use stay until the next sweep.
            || (is_new && by_authority.len() >= limits::MAX_IDLE_TO_BACKENDS)
        {
            return;
        }
        if is_new {
            by_authority.insert(origin.authority.into(), VecDeque::new());
        }
        if let Some(connections) = by_authority.get_mut(origin.authority)
            && connections.len() < limits::MAX_IDLE_PER_BACKEND
        {
            connections.push_back(IdleConnection { stream, since: now });
            idle.n_connections += 1;
        }
    }

    pub(super) async fn dial(&self, origin: Origin<'_>) -> Result<BackendStream, DialError> {
        let tls = self.tls.load_full();
        dial(origin, &tls).await
    }

    /// Closes what has been idle for too long or was closed by its backend. To be called now and then.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut closed = Vec::new();
        let mut idle = self.idle.lock();
        for by_authority in &mut idle.by_authority {
            by_authority.retain(|_, connections| {
                for _ in 0..connections.len() {
                    let Some(mut connection) = connections.pop_front() else { break };
                    let is_fresh = now.saturating_duration_since(connection.since) <= self.idle_timeout();
                    match is_fresh && connection.stream.is_quiet() {
                        true => connections.push_back(connection),
                        false => closed.push(connection),
                    }
                }
                !connections.is_empty()
            });
        }
        idle.n_connections -= closed.len();
        self.lanes.sweep();
        // Closing is left for after the lock: `closed` is dropped behind it.
        drop(idle);
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// No byte of the request was taken, so it may be given to another connection.
    Unsent(io::Error),
    /// The connection broke.
    Lost(io::Error),
    /// What came is no answer.
    Bad(BadAnswer),
}

/// Sends a request and reads its answer. True when the connection can be used again.
///
/// The answer is read while the request is written, because a backend may refuse a request before it has read all of it.
pub(super) async fn exchange(
    stream: &mut BackendStream,
    request: &[u8],
    reader: &mut AnswerReader,
) -> Result<bool, Broken> {
    let mut unsent = request;
    let mut is_flushed = false;
    let mut write_error = None;
    poll_fn(|context| {
        while !unsent.is_empty() && write_error.is_none() {
            match stream.poll_write(context, unsent) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => write_error = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n_sent)) => unsent = &unsent[n_sent..],
                // TLS may fail behind its first record, and does not say so.
                Poll::Ready(Err(error)) if unsent.len() == request.len() && stream.is_plain() => {
                    return Poll::Ready(Err(Broken::Unsent(error)));
                }
                // There may be an answer nevertheless.
                Poll::Ready(Err(error)) => write_error = Some(error),
            }
        }
        if unsent.is_empty() && !is_flushed && write_error.is_none() {
            match stream.poll_flush(context) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => is_flushed = true,
                Poll::Ready(Err(error)) => write_error = Some(error),
            }
        }
        loop {
            let mut taken = Ok(());
            match stream.poll_read_with(context, &mut |bytes| taken = reader.take(bytes)) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => {
                    let ended = match (reader.end(), write_error.take()) {
                        (Ok(()), _) => Ok(false),
                        (Err(_), Some(error)) => Err(Broken::Lost(error)),
                        (Err(error), None) => Err(Broken::Bad(error)),
                    };
                    return Poll::Ready(ended);
                }
                Poll::Ready(Ok(_)) => {
                    if let Err(error) = taken {
                        return Poll::Ready(Err(Broken::Bad(error)));
                    }
                    if reader.is_done() {
                        return Poll::Ready(Ok(is_flushed && reader.is_reusable()));
                    }
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(Broken::Lost(write_error.take().unwrap_or(error))));
                }
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::answer_reader::Received;
    use super::super::dial::tests::{client_config, self_signed, tls_server};
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    async fn listen() -> (TcpListener, http::Uri) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        (listener, uri)
    }

    async fn ask(stream: &mut BackendStream, request: &[u8]) -> Result<(bool, Received), Broken> {
        let mut reader = AnswerReader::new(false, true);
        let is_reusable = exchange(stream, request, &mut reader).await?;
        Ok((is_reusable, reader.into_received()))
    }

    async fn read_at_least(stream: &mut TcpStream, mut n_bytes: usize) {
        let mut buffer = vec![0; 64 * 1024];
        while n_bytes > 0 {
            let n_read = stream.read(&mut buffer).await.unwrap();
            assert!(n_read > 0);
            n_bytes = n_bytes.saturating_sub(n_read);
        }
    }

    #[tokio::test]
    async fn a_request_larger_than_the_sockets_buffers() {
        let (listener, uri) = listen().await;
        let backends = Backends::new(client_config(None), IDLE);
        let request = vec![b'x'; 16 * 1024 * 1024];
        let n_bytes = request.len();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_at_least(&mut stream, n_bytes).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            stream
        });
        let mut stream = backends.dial(Origin::of(&uri)).await.unwrap();
        let (is_reusable, received) = ask(&mut stream, &request).await.unwrap();
        assert_eq!((is_reusable, received.status, &*received.body), (true, 200, &b"ok"[..]));
        drop(server.await.unwrap());
    }

    #[tokio::test]
    async fn an_answer_to_half_a_request_counts() {
        let (listener, uri) = listen().await;
        let backends = Backends::new(client_config(None), IDLE);
        let request = vec![b'x'; 16 * 1024 * 1024];
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_at_least(&mut stream, 10).await;
            stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            stream
        });
        let mut stream = backends.dial(Origin::of(&uri)).await.unwrap();
        let (is_reusable, received) = ask(&mut stream, &request).await.unwrap();
        // The rest of the request is still owed.
        assert_eq!((is_reusable, received.status), (false, 413));
        drop(server.await.unwrap());
    }

    #[tokio::test]
    async fn closed_and_talkative_connections_are_not_used_again() {
        let (listener, uri) = listen().await;
        let origin = Origin::of(&uri);
        let backends = Backends::new(client_config(None), IDLE);
        let now = Instant::now();
        let mut peers = Vec::new();
        for _ in 0..3 {
            let (stream, peer) = tokio::join!(backends.dial(origin), listener.accept());
            backends.put(origin, stream.unwrap(), now);
            peers.push(peer.unwrap().0);
        }
        let mut talkative = peers.pop().unwrap();
        talkative.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        drop(peers.pop());
        // Lets the runtime hear of both.
        let is_found = || backends.idle.lock().by_authority[0][origin.authority].len() == 1;
        for _ in 0..1000 {
            backends.sweep(now);
            if is_found() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(is_found());
        assert!(backends.take(origin, now).is_some());
        assert!(backends.take(origin, now).is_none());
        assert_eq!(backends.idle.lock().n_connections, 0);
    }

    #[tokio::test]
    async fn idle_connections_age_and_are_swept() {
        let (listener, uri) = listen().await;
        let origin = Origin::of(&uri);
        let backends = Backends::new(client_config(None), IDLE);
        let now = Instant::now();
        let mut peers = Vec::new();
        for age in [0, 1, 2] {
            let (stream, peer) = tokio::join!(backends.dial(origin), listener.accept());
            backends.put(origin, stream.unwrap(), now + Duration::from_secs(age));
            peers.push(peer.unwrap());
        }
        backends.sweep(now + IDLE + Duration::from_millis(500));
        assert_eq!(backends.idle.lock().n_connections, 2);
        // The newest is still good; the one behind it is not.
        let late = now + IDLE + Duration::from_millis(1500);
        assert!(backends.take(origin, late).is_some());
        assert!(backends.take(origin, late).is_none());
        backends.sweep(late);
        let idle = backends.idle.lock();
        assert!(idle.n_connections == 0 && idle.by_authority[0].is_empty());
    }

    #[tokio::test]
    async fn https_and_http_do_not_share() {
        let (certificate, key) = self_signed("127.0.0.1");
        let address =
            tls_server(certificate.clone(), key, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await;
        let uri: http::Uri = format!("https://{address}/").parse().unwrap();
        let origin = Origin::of(&uri);
        let backends = Backends::new(client_config(Some(certificate)), IDLE);
        let now = Instant::now();
        let mut stream = backends.dial(origin).await.unwrap();
        for _ in 0..2 {
            let (is_reusable, received) = ask(&mut stream, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            assert_eq!((is_reusable, &*received.body), (true, &b"secret"[..]));
            backends.put(origin, stream, now);
            let plain: http::Uri = format!("http://{address}/").parse().unwrap();
            assert!(backends.take(Origin::of(&plain), now).is_none());
            stream = backends.take(origin, now).expect("session tickets do not count as talk");
        }
    }
}
