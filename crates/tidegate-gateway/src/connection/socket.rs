//! Bytes between a connection and the operating system.
//!
//! Reading goes through one buffer per thread: the decoder takes what has arrived before the read returns, so
//! an idle connection holds no buffer and a dropped read loses nothing. Writing takes frames as they are
//! shared, several in one system call.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Size of the read buffer of a thread, in bytes: one read takes a whole message of the default limit or many
/// small ones.
const READ_BUFFER: usize = 64 * 1024;

/// Frames handed to one vectored write.
const MAX_SLICES: usize = 64;

thread_local! {
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BUFFER]);
}

/// Reads what is there into the buffer of this thread and hands it to `take`, which must not keep the slice and
/// must not read itself. `Ok(0)` is the end.
pub(crate) fn poll_read_shared(
    stream: Pin<&mut impl AsyncRead>,
    context: &mut Context<'_>,
    take: &mut dyn FnMut(&mut [u8]),
) -> Poll<io::Result<usize>> {
    READ.with_borrow_mut(|buffer| {
        let mut read_buf = ReadBuf::new(buffer);
        ready!(stream.poll_read(context, &mut read_buf))?;
        let n_read = read_buf.filled().len();
        if n_read > 0 {
            take(read_buf.filled_mut());
        }
        Poll::Ready(Ok(n_read))
    })
}

/// A client's socket, with or without TLS.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(TcpStream),
    /// Boxed: the state of a TLS session is large, and plain connections should not pay for it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Reads what is there and hands it to `take`, which must not keep the slice. `Ok(0)` is the end.
    pub(crate) fn poll_read_with(
        &mut self,
        context: &mut Context<'_>,
        take: &mut dyn FnMut(&mut [u8]),
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => poll_read_shared(Pin::new(stream), context, take),
            Self::Tls(stream) => poll_read_shared(Pin::new(stream), context, take),
        }
    }

    /// Writes frames until they are gone or the socket takes no more; returns how many bytes it took.
    pub(crate) fn poll_write_frames(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        let n_written = if let (1, Some(frame)) = (frames.len(), frames.front()) {
            // What a message usually is; one slice is cheaper to write than a list of one.
            ready!(Pin::new(&mut *self).poll_write(context, frame))?
        } else {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let n_slices = frames.len().min(MAX_SLICES);
            for (slice, frame) in slices.iter_mut().zip(frames.iter()) {
                *slice = IoSlice::new(frame);
            }
            ready!(Pin::new(&mut *self).poll_write_vectored(context, &slices[..n_slices]))?
        };
        if n_written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let mut left = n_written;
        while let Some(frame) = frames.front_mut() {
            if left < frame.len() {
                frame.advance(left);
                break;
            }
            left -= frame.len();
            frames.pop_front();
        }
        Poll::Ready(Ok(n_written))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
