//! The socket of the HTTP phase, watched: how much came, how it began, and whether the HTTP library answers by itself.
//!
//! To a head that it cannot read the library writes a bare answer of its own. It is taken out of the stream here, so that
//! the listener can give the answer that every other refusal has: with ids and a body.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::service::Peer;
use crate::connection::socket::Socket;

/// First bytes that are kept: enough for the preface of HTTP/2.
const FIRST: usize = 14;

/// How the preface of HTTP/2 begins. Source: RFC 9113, section 3.4.
const H2_PREFACE: &[u8; FIRST] = b"PRI * HTTP/2.0";

/// A socket during the HTTP phase.
#[derive(Debug)]
pub(super) struct Watched {
    socket: Socket,
    peer: Arc<Peer>,
    first: [u8; FIRST],
    n_read: usize,
    /// Heads that the library has written.
    n_answered: usize,
    /// Status of an answer that answers no request; from then on nothing is written.
    own_answer: Option<u16>,
}

impl Watched {
    pub(super) fn new(socket: Socket, peer: Arc<Peer>) -> Self {
        Self { socket, peer, first: [0; FIRST], n_read: 0, n_answered: 0, own_answer: None }
    }

    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    /// The status that the library would have answered by itself.
    pub(super) fn own_answer(&self) -> Option<u16> {
        self.own_answer
    }

    /// Bytes that have been read.
    pub(super) fn n_read(&self) -> usize {
        self.n_read
    }

    /// It began as HTTP/2 does.
    pub(super) fn is_h2(&self) -> bool {
        self.n_read >= FIRST && self.first == *H2_PREFACE
    }

    /// Whether these bytes are to be swallowed.
    fn swallows(&mut self, bytes: &[u8]) -> bool {
        if self.own_answer.is_some() {
            return true;
        }
        // A head is written in one piece, whose beginning is the beginning of a write.
        let Some(status) = bytes.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5)) else {
            return false;
        };
        if status == b"100" {
            return false;
        }
        if self.n_answered < self.peer.n_asked.load(Ordering::Relaxed) {
            self.n_answered += 1;
            return false;
        }
        self.own_answer = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
        self.own_answer.is_some()
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(context, buffer);
        if polled.is_ready() {
            let came = buffer.filled().get(before..).unwrap_or_default();
            if self.n_read < FIRST {
                let start = self.n_read;
                let room = self.first.get_mut(start..).unwrap_or_default();
                for (kept, byte) in room.iter_mut().zip(came) {
                    *kept = *byte;
                }
            }
            self.n_read += came.len();
            self.peer.spelling.lock().take_in(came);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.swallows(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.swallows(slices.first().map_or(&[], |slice| slice)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
