//! Frames a client sends: masked, each with a fresh key.

use crate::close::CloseFrame;
use crate::deflate::{self, MIN_DEFLATE};
use crate::extension::DeflateParams;
use crate::frame::{self, FIN, MAX_CONTROL_PAYLOAD, Opcode, RSV1};
use crate::mask;

/// Encoder of a client, for probes, tests and load generators.
///
/// Messages are compressed without context takeover, from [`MIN_DEFLATE`] bytes on and if that makes them smaller.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientEncoder {
    deflate: Option<DeflateParams>,
}

impl ClientEncoder {
    /// An encoder; `deflate`: the parameters that [`extension::accept`](crate::extension::accept) gave.
    pub fn new(deflate: Option<DeflateParams>) -> Self {
        Self { deflate }
    }

    /// A text message in one frame.
    pub fn text(&self, text: &str) -> Vec<u8> {
        self.message(Opcode::Text, text.as_bytes())
    }

    /// A binary message in one frame.
    pub fn binary(&self, payload: &[u8]) -> Vec<u8> {
        self.message(Opcode::Binary, payload)
    }

    /// A ping frame; the payload is cut to 125 bytes.
    pub fn ping(&self, payload: &[u8]) -> Vec<u8> {
        control(Opcode::Ping, payload)
    }

    /// A pong frame; the payload is cut to 125 bytes.
    pub fn pong(&self, payload: &[u8]) -> Vec<u8> {
        control(Opcode::Pong, payload)
    }

    /// A close frame; the reason is cut to 123 bytes at a character boundary.
    pub fn close(&self, frame: Option<&CloseFrame>) -> Vec<u8> {
        let mut payload = Vec::with_capacity(MAX_CONTROL_PAYLOAD);
        if let Some(frame) = frame {
            frame.write_payload(&mut payload);
        }
        control(Opcode::Close, &payload)
    }

    /// A text or binary message in frames of `fragment` bytes (at least 1), one `Vec` each, so that other frames can
    /// go between them. Compressed as a whole before it is cut.
    ///
    /// # Panics
    /// When `fragment` is 0.
    pub fn fragments(&self, opcode: Opcode, payload: &[u8], fragment: usize) -> Vec<Vec<u8>> {
        let packed = self.deflated(payload);
        let (rsv, payload) = match &packed {
            Some(packed) => (RSV1, packed.as_slice()),
            None => (0, payload),
        };
        let n_frames = payload.len().div_ceil(fragment).max(1);
        (0..n_frames)
            .map(|idx| {
                let piece = &payload[idx * fragment..payload.len().min((idx + 1) * fragment)];
                let first = if idx == 0 { rsv | opcode as u8 } else { Opcode::Continuation as u8 };
                let fin = if idx + 1 == n_frames { FIN } else { 0 };
                Self::frame(fin | first, piece)
            })
            .collect()
    }

    /// A single masked frame with any first byte (FIN, reserved bits, opcode), for tests of what a server refuses.
    pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut key = [0; 4];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        let mut out = Vec::with_capacity(frame::MAX_HEAD + payload.len());
        frame::write_head(&mut out, first, payload.len(), Some(key));
        let head_len = out.len();
        out.extend_from_slice(payload);
        mask::apply(&mut out[head_len..], &mut key);
        out
    }

    fn message(&self, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        match self.deflated(payload) {
            Some(packed) => Self::frame(FIN | RSV1 | opcode as u8, &packed),
            None => Self::frame(FIN | opcode as u8, payload),
        }
    }

    fn deflated(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let params = self.deflate.filter(|_| payload.len() >= MIN_DEFLATE)?;
        deflate::deflate([payload].into_iter(), payload.len(), params.client_max_window_bits)
    }
}

fn control(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    ClientEncoder::frame(FIN | opcode as u8, &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)])
}
