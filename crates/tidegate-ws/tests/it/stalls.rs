//! A reader that is cancelled between any two bytes loses nothing.
//!
//! A read future that is dropped inside `select!` is where other codecs lost bytes: header bytes lived in the future.
//! Here the future holds nothing; the test drops it at each stall and goes on with a new one.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tidegate_ws::{ClientEncoder, Decoder, DeflateParams, Incoming, Opcode};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::wire::{events, server};

/// Gives one byte, then stalls once.
struct Stalling {
    bytes: Vec<u8>,
    at: usize,
    stall: bool,
}

impl AsyncRead for Stalling {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.stall = !self.stall;
        if self.stall {
            return Poll::Pending;
        }
        if let Some(&byte) = self.bytes.get(self.at) {
            out.put_slice(&[byte]);
            self.at += 1;
        }
        Poll::Ready(Ok(()))
    }
}

/// The next event; may be dropped at any await.
async fn next_event(stream: &mut Stalling, decoder: &mut Decoder) -> Option<Incoming> {
    loop {
        let mut buffer = [0; 64];
        let n = stream.read(&mut buffer).await.expect("the stream does not fail");
        if n == 0 {
            return None;
        }
        let decoded = decoder.decode(&mut buffer[..n]).expect("the stream is valid");
        assert_eq!(decoded.consumed, n);
        if decoded.event.is_some() {
            return decoded.event;
        }
    }
}

#[test]
fn dropped_at_every_byte() {
    let params = Some(DeflateParams::default());
    let encoder = ClientEncoder::new(params);
    let mut wire = encoder.text("first");
    wire.extend(encoder.binary(&[0; 300]));
    for fragment in encoder.fragments(Opcode::Text, "grüße ".repeat(100).as_bytes(), 7) {
        wire.extend(fragment);
        wire.extend(encoder.ping(b"?"));
    }
    wire.extend(encoder.close(None));
    let expected = events(&mut server(params), &wire, wire.len());

    let mut stream = Stalling { bytes: wire, at: 0, stall: false };
    let mut decoder = server(params);
    let mut got = Vec::new();
    let mut n_dropped = 0;
    let mut context = Context::from_waker(Waker::noop());
    loop {
        let future = pin!(next_event(&mut stream, &mut decoder));
        match future.poll(&mut context) {
            Poll::Ready(Some(event)) => got.push(event),
            Poll::Ready(None) => break,
            // Leaves the scope: the future is dropped in the middle of its read.
            Poll::Pending => n_dropped += 1,
        }
    }
    assert!(n_dropped >= stream.bytes.len());
    assert_eq!(got, expected);
}
