//! Idle connections to backends, and one request over one connection.
//!
//! A connection belongs to the call that uses it: it is read and written where the call is polled, without a
//! task of its own, so a message does not travel between threads. A call that is dropped drops its connection.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate_core::limits;

use super::answer_reader::{AnswerReader, BadAnswer};
use super::dial::{BackendStream, DialError, Origin, dial};

/// Connections of all backends that wait for their next request.
#[derive(Debug)]
pub(crate) struct Backends {
    tls: Arc<rustls::ClientConfig>,
    /// How long a connection may have been idle to be used again.
    idle_timeout: Duration,
    idle: Mutex<Idle>,
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

impl Backends {
    /// `idle_timeout`: how long a connection may have been idle to be used again.
    pub(crate) fn new(tls: rustls::ClientConfig, idle_timeout: Duration) -> Self {
        Self { tls: Arc::new(tls), idle_timeout, idle: Mutex::default() }
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
            let is_fresh = now.saturating_duration_since(since) <= self.idle_timeout;
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
        dial(origin, &self.tls).await
    }

    /// Closes what has been idle for too long or was closed by its backend. To be called now and then.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut closed = Vec::new();
        let mut idle = self.idle.lock();
        for by_authority in &mut idle.by_authority {
            by_authority.retain(|_, connections| {
                for _ in 0..connections.len() {
                    let Some(mut connection) = connections.pop_front() else { break };
                    let is_fresh = now.saturating_duration_since(connection.since) <= self.idle_timeout;
                    match is_fresh && connection.stream.is_quiet() {
                        true => connections.push_back(connection),
                        false => closed.push(connection),
                    }
                }
                !connections.is_empty()
            });
        }
        idle.n_connections -= closed.len();
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
                Poll::Ready(Err(error)) if unsent.len() == request.len() => {
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
