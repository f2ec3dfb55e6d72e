//! Helpers: what a peer writes, and all events of a byte stream.

use tidegate_ws::{ClientEncoder, DecodeError, Decoder, DeflateParams, Incoming, Limits, Role};

/// Limits of an API Gateway stage.
pub const LIMITS: Limits = Limits { max_frame: 32 * 1024, max_message: 128 * 1024 };

pub fn server(deflate: Option<DeflateParams>) -> Decoder {
    Decoder::new(Role::Server, LIMITS, deflate)
}

/// A masked frame with this first byte (FIN, reserved bits, opcode).
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    ClientEncoder::frame(first, payload)
}

/// Feeds `wire` in pieces of `read` bytes; the events before the end or the error.
pub fn feed(decoder: &mut Decoder, wire: &[u8], read: usize) -> (Vec<Incoming>, Option<DecodeError>) {
    let mut events = Vec::new();
    for piece in wire.chunks(read) {
        let mut piece = piece.to_vec();
        let mut at = 0;
        while at < piece.len() {
            match decoder.decode(&mut piece[at..]) {
                Ok(decoded) => {
                    at += decoded.consumed;
                    events.extend(decoded.event);
                }
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

/// The events of a stream without an error.
pub fn events(decoder: &mut Decoder, wire: &[u8], read: usize) -> Vec<Incoming> {
    let (events, error) = feed(decoder, wire, read);
    assert_eq!(error, None);
    events
}
