//! Messages a server sends: encoded once, shared by all recipients.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::deflate::{self, MIN_DEFLATE};
use crate::extension::DeflateParams;
use crate::frame::{self, FIN, Opcode, RSV1};

/// Largest payload of a frame a server sends, in bytes; longer messages continue in further frames.
///
/// Source: the frame quota of API Gateway WebSocket APIs.
pub const FRAGMENT: usize = 32 * 1024;

/// Window sizes a message can be compressed for: 9 to 15 bits.
const N_WINDOWS: usize = 7;

/// A message of a server, ready for the wire.
///
/// It is encoded when it is made and compressed at most once for each window size, when the first connection that
/// needs it asks. A clone shares all of that, so a broadcast costs each recipient two reference counts.
#[derive(Clone, Debug)]
pub struct OutboundMessage {
    plain: Bytes,
    len: usize,
    /// Compressed forms by window bits; only where the payload is worth it.
    deflated: Option<Arc<[OnceLock<Bytes>; N_WINDOWS]>>,
}

impl OutboundMessage {
    /// A text message. Invalid UTF-8 in `payload` is replaced by U+FFFD.
    pub fn text(payload: Bytes) -> Self {
        if simdutf8::basic::from_utf8(&payload).is_ok() {
            return Self::new(Opcode::Text, &payload);
        }
        Self::new(Opcode::Text, String::from_utf8_lossy(&payload).as_bytes())
    }

    /// A binary message.
    pub fn binary(payload: Bytes) -> Self {
        Self::new(Opcode::Binary, &payload)
    }

    fn new(opcode: Opcode, payload: &[u8]) -> Self {
        Self {
            plain: frames(opcode, 0, payload),
            len: payload.len(),
            deflated: (payload.len() >= MIN_DEFLATE).then(Arc::default),
        }
    }

    /// Size of the payload, in bytes, before compression and without headers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The unmasked frames for a connection with these parameters; one [`Bytes`] however many frames it holds.
    ///
    /// A payload of at least [`MIN_DEFLATE`] bytes is compressed if that makes it smaller, always without context
    /// takeover, which every peer can read. The bytes are the same object for all connections with the same window.
    pub fn frames(&self, deflate: Option<DeflateParams>) -> Bytes {
        let (Some(params), Some(deflated)) = (deflate, &self.deflated) else { return self.plain.clone() };
        let window_bits = params.server_max_window_bits;
        let slot = usize::from(window_bits).checked_sub(9).and_then(|idx| deflated.get(idx));
        match slot {
            Some(slot) => slot.get_or_init(|| self.deflate(window_bits)).clone(),
            None => self.plain.clone(),
        }
    }

    fn deflate(&self, window_bits: u8) -> Bytes {
        let opcode = match self.plain.first().map(|first| first & 0x0f) {
            Some(1) => Opcode::Text,
            _ => Opcode::Binary,
        };
        match deflate::deflate(Payloads(&self.plain), self.len, window_bits) {
            Some(packed) => frames(opcode, RSV1, &packed),
            None => self.plain.clone(),
        }
    }
}

/// Encodes a message as unmasked frames of at most [`FRAGMENT`] bytes.
fn frames(opcode: Opcode, rsv: u8, payload: &[u8]) -> Bytes {
    let n_frames = payload.len().div_ceil(FRAGMENT).max(1);
    let last = payload.len() - (n_frames - 1) * FRAGMENT;
    let size = (n_frames - 1) * (frame::head_len(FRAGMENT) + FRAGMENT) + frame::head_len(last) + last;
    let mut out = Vec::with_capacity(size);
    let mut rest = payload;
    let mut first = rsv | opcode as u8;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(FRAGMENT));
        let fin = if after.is_empty() { FIN } else { 0 };
        frame::write_head(&mut out, fin | first, piece.len(), None);
        out.extend_from_slice(piece);
        if after.is_empty() {
            return Bytes::from(out);
        }
        rest = after;
        first = Opcode::Continuation as u8;
    }
}

/// The payloads of frames that [`frames`] made.
struct Payloads<'a>(&'a [u8]);

impl<'a> Iterator for Payloads<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&[_, short], rest) = self.0.split_first_chunk::<2>()?;
        let (len, rest) = match short {
            126 => rest.split_first_chunk().map(|(len, rest)| (u16::from_be_bytes(*len).into(), rest))?,
            // FRAGMENT fits into two bytes of length.
            _ => (usize::from(short), rest),
        };
        let (payload, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_message_is_one_frame() {
        let message = OutboundMessage::text(Bytes::from_static(b"hello"));
        assert_eq!(&message.frames(None)[..], b"\x81\x05hello");
        assert_eq!(&message.frames(Some(DeflateParams::default()))[..], b"\x81\x05hello");
        assert_eq!((message.len(), message.is_empty()), (5, false));
        assert_eq!(&OutboundMessage::binary(Bytes::new()).frames(None)[..], b"\x82\x00");
    }

    #[test]
    fn invalid_text_is_repaired() {
        let message = OutboundMessage::text(Bytes::from_static(b"a\xffb"));
        assert_eq!(message.frames(None), [&[0x81, 5], "a\u{fffd}b".as_bytes()].concat());
        assert_eq!(message.len(), 5);
    }

    #[test]
    fn long_messages_are_cut() {
        for (len, n_frames) in [(FRAGMENT, 1), (FRAGMENT + 1, 2), (2 * FRAGMENT, 2), (131_072, 4)] {
            let frames = OutboundMessage::binary(Bytes::from(vec![7; len])).frames(None);
            let sizes: Vec<usize> = Payloads(&frames).map(<[u8]>::len).collect();
            assert_eq!(sizes.len(), n_frames);
            assert_eq!(sizes.iter().sum::<usize>(), len);
            assert!(sizes.iter().all(|&size| size <= FRAGMENT));
            assert_eq!(frames[0], if n_frames == 1 { 0x82 } else { 0x02 });
        }
    }

    #[test]
    fn recipients_share_the_bytes() {
        let message = OutboundMessage::text(Bytes::from("tide ".repeat(200)));
        let params = Some(DeflateParams::default());
        let other_client_bits =
            Some(DeflateParams { client_max_window_bits: 10, ..DeflateParams::default() });
        let first = message.clone().frames(params);
        assert_eq!(first.as_ptr(), message.frames(other_client_bits).as_ptr());
        assert!(first.len() < message.frames(None).len() / 4);
        assert_eq!(message.frames(None).as_ptr(), message.clone().frames(None).as_ptr());
        let small = Some(DeflateParams { server_max_window_bits: 9, ..DeflateParams::default() });
        assert_ne!(first.as_ptr(), message.frames(small).as_ptr());
        // A window that zlib cannot do: not compressed.
        let tiny = Some(DeflateParams { server_max_window_bits: 8, ..DeflateParams::default() });
        assert_eq!(message.frames(tiny).as_ptr(), message.frames(None).as_ptr());
    }
}
