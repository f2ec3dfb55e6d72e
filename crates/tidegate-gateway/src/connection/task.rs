//! The life of a connection after its 101, from top to bottom.
//!
//! [`run`] owns the socket; nobody else reads or writes it. It turns frames into messages, dispatches them in
//! order, writes what others pushed, and ends exactly once: the id is gone first, then the close handshake and
//! the calls under way finish side by side, then `$disconnect` runs.
//!
//! The loop is poll-based and keeps its buffers outside the future, so that an idle connection costs its
//! socket, its decoder and its handle, nothing else.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::limits;
use tidegate_core::notice::{ClosedBy, Notice};
use tidegate_ws::{CloseCode, CloseFrame, DeflateParams};
use tokio::io::AsyncWriteExt as _;

use super::close_reason;
use super::handle::{CloseCause, Handle};
use super::intake::{Intake, lost};
use super::message;
use super::socket::Socket;
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::integration;
use crate::registry::Gone;
use crate::timer_wheel::Kind;

/// Largest message that is discarded while a close frame is awaited, in bytes; after a larger one the wait runs to
/// its end.
const MAX_DISCARDED: usize = 1024 * 1024;

struct Connection {
    gateway: Arc<Gateway>,
    handle: Arc<Handle>,
    socket: Socket,
    intake: Intake,
    /// Frames on their way into the socket.
    writing: VecDeque<Bytes>,
    calls: Vec<message::Call>,
    /// When bytes were read in this turn of the loop; 0 = none were. One look at the clock for all that follows.
    read_at: u64,
}

/// What one turn of the loop brought.
enum Step {
    /// There may be messages to dispatch.
    Progress,
    /// The connection is to end.
    End(Box<CloseCause>),
}

/// Runs a connection to its end, `$disconnect` included. `early` are bytes that came with the handshake.
pub(crate) async fn run(
    gateway: Arc<Gateway>,
    handle: Arc<Handle>,
    socket: Socket,
    deflate: Option<DeflateParams>,
    early: Bytes,
) {
    let mut connection = Connection {
        intake: Intake::new(Arc::clone(&handle), deflate, &early),
        gateway,
        handle,
        socket,
        writing: VecDeque::new(),
        calls: Vec::new(),
        read_at: 0,
    };
    drop(early);
    // A panic ends this connection and nothing else: it is counted, and the backend still hears of the end.
    let cause = match AssertUnwindSafe(connection.serve()).catch_unwind().await {
        Ok(cause) => cause,
        Err(_) => {
            // The call that panicked must not be polled again; those beside it are given up with it.
            connection.calls.clear();
            let place = connection.gateway.place(&connection.handle);
            connection.gateway.notice(Notice::ConnectionPanicked { place });
            panicked()
        }
    };
    // Boxed: the end is rare and large, the wait before it long and small.
    Box::pin(connection.finish(cause)).await;
}

impl Connection {
    /// Reads, dispatches and writes until there is a reason to end.
    async fn serve(&mut self) -> Box<CloseCause> {
        loop {
            let is_progress = self.dispatch();
            match poll_fn(|context| self.poll_step(context, is_progress)).await {
                Step::Progress => {}
                Step::End(cause) => return cause,
            }
        }
    }

    /// Starts as many queued messages in one turn as may run at a time: one by default, which keeps their order.
    /// True when there are more whose turn has come, because none of these has to wait for anybody.
    fn dispatch(&mut self) -> bool {
        let concurrency = self.handle.stage.settings.data_plane.per_connection_concurrency.max(1);
        let mut n_answered = 0;
        while self.calls.len() + n_answered < concurrency
            && let Some(queued) = self.intake.next()
        {
            let now = if self.read_at == 0 { now_millis() } else { self.read_at };
            match message::begin(&self.gateway, &self.handle, queued, now) {
                Some(call) => self.calls.push(call),
                None => n_answered += 1,
            }
        }
        if !self.calls.is_empty() && self.intake.has_queued() {
            self.dispatch_urgent();
        }
        n_answered > 0 && self.intake.has_queued()
    }

    /// What the connection's application answers itself does not wait for a backend that is being asked.
    fn dispatch_urgent(&mut self) {
        let Some(app) = self.gateway.apps.of_stage(&self.handle.stage) else { return };
        while let Some(queued) = self.intake.next_urgent(|text| app.before_route(text).is_some()) {
            let now = if self.read_at == 0 { now_millis() } else { self.read_at };
            self.calls.extend(message::begin(&self.gateway, &self.handle, queued, now));
        }
    }

    /// Every source of progress is polled in every turn, so none can starve another. `is_progress`: there is
    /// something to dispatch already.
    fn poll_step(&mut self, context: &mut Context<'_>, is_progress: bool) -> Poll<Step> {
        self.read_at = 0;
        if let Poll::Ready(cause) = self.poll_write(context) {
            return Poll::Ready(Step::End(cause));
        }
        let is_progress = self.poll_calls(context) || is_progress;
        match self.poll_read(context) {
            Poll::Ready(Some(cause)) => Poll::Ready(Step::End(cause)),
            Poll::Ready(None) => Poll::Ready(Step::Progress),
            Poll::Pending if is_progress => Poll::Ready(Step::Progress),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes what waits. Ready only when the connection is to end.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Box<CloseCause>> {
        loop {
            if self.writing.is_empty()
                && let Err(cause) = self.handle.take_outbox(&mut self.writing, context)
            {
                return Poll::Ready(cause);
            }
            if self.writing.is_empty() {
                if self.writing.capacity() > 0 {
                    self.writing = VecDeque::new();
                }
                return Poll::Pending;
            }
            match self.socket.poll_write_frames(context, &mut self.writing) {
                Poll::Ready(Ok(n_written)) => {
                    self.handle.written(n_written);
                    if self.handle.blocked_since() > 0 {
                        self.handle.unblocked(now_millis());
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(lost("reset")),
                Poll::Pending => return self.on_blocked(context),
            }
        }
    }

    /// The socket takes nothing for now.
    fn on_blocked(&mut self, context: &mut Context<'_>) -> Poll<Box<CloseCause>> {
        if self.handle.blocked_since() == 0 {
            let now = now_millis();
            self.handle.set_blocked_since(now);
            // One entry for each connection at a time, however often its socket fills and drains.
            if self.handle.claim_stall_entry() {
                let deadline = now + limits::WRITE_STALL_TIMEOUT.as_millis() as u64;
                self.gateway.wheel.schedule(self.handle.facts.connection_id, Kind::Stall, deadline);
            }
        }
        // A close must not wait behind a reader that has stopped reading.
        match self.handle.close_requested(context) {
            Some(cause) => Poll::Ready(cause),
            None => Poll::Pending,
        }
    }

    fn poll_calls(&mut self, context: &mut Context<'_>) -> bool {
        let n_calls = self.calls.len();
        self.calls.retain_mut(|call| call.as_mut().poll(context).is_pending());
        let is_progress = self.calls.len() < n_calls;
        if self.calls.is_empty() && self.calls.capacity() > 0 {
            self.calls = Vec::new();
        }
        is_progress
    }

    /// Reads once and decodes. Ready with a cause when the connection is to end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Option<Box<CloseCause>>> {
        if self.intake.is_full() {
            // Not read: TCP pushes back on this client alone. A finished call wakes the task.
            return Poll::Pending;
        }
        if self.intake.has_unread() {
            self.read_at = now_millis();
            return Poll::Ready(self.intake.take_unread(self.read_at));
        }
        let Self { socket, intake, read_at, .. } = self;
        let mut cause = None;
        let mut take = |bytes: &mut [u8]| {
            *read_at = now_millis();
            cause = intake.take(bytes, *read_at);
        };
        match socket.poll_read_with(context, &mut take) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready(Some(lost("closed"))),
            Poll::Ready(Err(_)) => Poll::Ready(Some(lost("reset"))),
            Poll::Ready(Ok(_)) => Poll::Ready(cause),
        }
    }

    /// From the reason to end to the last event. Runs once, whoever ended the connection.
    async fn finish(self, cause: Box<CloseCause>) {
        let Self { gateway, handle, mut socket, mut intake, mut writing, mut calls, .. } = self;
        let now = now_millis();
        let facts = Arc::clone(&handle.facts);
        // First of all the id is gone: whoever posts from now on is told so.
        let end_facts = gateway.facts(|| handle.end_facts(&cause, now));
        let waiting = handle.finish();
        gateway.leave_all(&handle);
        let traffic = handle.traffic();
        let gone = Gone::new(cause.gone, cause.diagnosis, cause.code, now);
        gateway.registry.remove_because(facts.connection_id, gone);
        writing.extend(waiting);
        gateway.notice(Notice::ConnectionClosed {
            facts: end_facts,
            place: gateway.place(&handle),
            by: cause.by,
            close_code: cause.code,
            diagnosis: cause.diagnosis,
            age: std::time::Duration::from_millis(now.saturating_sub(facts.connected_at)),
            messages_in: traffic.messages_in,
            messages_out: traffic.messages_out,
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
        });

        let say_goodbye = async {
            if cause.by != ClosedBy::Network {
                writing.push_back(tidegate_ws::close(cause.frame.as_ref()));
                let goodbye = close_handshake(&mut socket, writing, cause.by == ClosedBy::Client);
                let _ = tokio::time::timeout(limits::CLOSE_TIMEOUT, goodbye).await;
            }
            drop(socket);
        };
        // What the client said before it left is still handled, in order; a call that has begun runs to its end.
        let finish_calls = async {
            let drain = async {
                loop {
                    while calls.is_empty() {
                        let Some(queued) = intake.next() else { return };
                        calls.extend(message::begin(&gateway, &handle, queued, now_millis()));
                    }
                    futures_util::future::join_all(calls.drain(..)).await;
                }
            };
            let _ = tokio::time::timeout(limits::INTEGRATION_TIMEOUT, drain).await;
        };
        tokio::join!(say_goodbye, finish_calls);
        integration::disconnect(&gateway, &handle, cause.code, &cause.reason).await;
    }
}

/// Closes a connection that exists only to say why it was refused.
pub(crate) async fn say_goodbye(mut socket: Socket, frame: CloseFrame) {
    let writing = VecDeque::from([tidegate_ws::close(Some(&frame))]);
    let _ = tokio::time::timeout(limits::CLOSE_TIMEOUT, close_handshake(&mut socket, writing, false)).await;
}

/// Writes what is left and the close frame, then waits for the peer's end, so that it sees the frame and not a
/// reset. `is_answer`: the peer has sent its own close frame already.
async fn close_handshake(socket: &mut Socket, mut writing: VecDeque<Bytes>, is_answer: bool) {
    while !writing.is_empty() {
        if poll_fn(|context| socket.poll_write_frames(context, &mut writing)).await.is_err() {
            return;
        }
    }
    if socket.flush().await.is_err() {
        return;
    }
    if is_answer {
        // RFC 6455, section 7.1.1: the server closes the TCP connection first.
        let _ = socket.shutdown().await;
        return;
    }
    // The peer answers with a close frame and then closes, or is closed.
    let ws_limits = tidegate_ws::Limits { max_frame: MAX_DISCARDED, max_message: MAX_DISCARDED };
    let mut decoder = tidegate_ws::Decoder::new(tidegate_ws::Role::Server, ws_limits, None);
    let mut is_over = false;
    while !is_over {
        let n_read = poll_fn(|context| {
            socket.poll_read_with(context, &mut |bytes| {
                // Whatever else still arrives is discarded; only the answer to the close frame counts.
                let mut rest = bytes;
                while !rest.is_empty() && !is_over {
                    let Ok(decoded) = decoder.decode(rest) else { return };
                    is_over = matches!(decoded.event, Some(tidegate_ws::Incoming::Close(_)));
                    rest = &mut rest[decoded.consumed..];
                }
            })
        });
        match n_read.await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let _ = socket.shutdown().await;
}

fn panicked() -> Box<CloseCause> {
    let reason = close_reason::INTERNAL;
    Box::new(CloseCause::by_gateway(CloseCode::INTERNAL_ERROR, reason, Diagnosis::INTERNAL))
}
