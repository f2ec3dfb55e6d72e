//! Frame headers, RFC 6455 section 5.2, and the frames a server sends.

use bytes::Bytes;

use crate::close::CloseFrame;

/// Longest payload of a control frame, in bytes.
///
/// Source: RFC 6455, section 5.5.
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// Longest frame header: two bytes, eight of length, four of mask.
pub(crate) const MAX_HEAD: usize = 14;

pub(crate) const FIN: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const MASKED: u8 = 0x80;

/// Frame type. The values are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// Further fragment of a message.
    Continuation = 0,
    /// First frame of a text message.
    Text = 1,
    /// First frame of a binary message.
    Binary = 2,
    /// Close frame.
    Close = 8,
    /// Ping frame.
    Ping = 9,
    /// Pong frame.
    Pong = 10,
}

impl Opcode {
    pub(crate) fn new(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Whether this is a close, ping or pong frame.
    pub fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// Size of an unmasked header for a payload of `len` bytes.
pub(crate) const fn head_len(len: usize) -> usize {
    match len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Appends the header of a frame: `first` holds FIN, RSV and opcode. With `mask`, the key follows the length.
pub(crate) fn write_head(out: &mut Vec<u8>, first: u8, len: usize, mask: Option<[u8; 4]>) {
    out.push(first);
    let masked = if mask.is_some() { MASKED } else { 0 };
    match len {
        0..=125 => out.push(masked | len as u8),
        126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    if let Some(key) = mask {
        out.extend_from_slice(&key);
    }
}

/// A ping frame of a server. A payload above [`MAX_CONTROL_PAYLOAD`] is cut.
pub fn ping(payload: &[u8]) -> Bytes {
    control(Opcode::Ping, payload)
}

/// A pong frame of a server. A payload above [`MAX_CONTROL_PAYLOAD`] is cut; that of a received ping never is.
pub fn pong(payload: &[u8]) -> Bytes {
    control(Opcode::Pong, payload)
}

/// A close frame of a server; `None` sends an empty one.
///
/// The reason is cut to [`MAX_CLOSE_REASON`](crate::MAX_CLOSE_REASON) bytes at a character boundary.
pub fn close(frame: Option<&CloseFrame>) -> Bytes {
    let mut payload = Vec::with_capacity(MAX_CONTROL_PAYLOAD);
    if let Some(frame) = frame {
        frame.write_payload(&mut payload);
    }
    control(Opcode::Close, &payload)
}

fn control(opcode: Opcode, payload: &[u8]) -> Bytes {
    let payload = &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)];
    let mut out = Vec::with_capacity(2 + payload.len());
    write_head(&mut out, FIN | opcode as u8, payload.len(), None);
    out.extend_from_slice(payload);
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close::CloseCode;

    #[test]
    fn control_frames_on_the_wire() {
        assert_eq!(&ping(b"hi")[..], b"\x89\x02hi");
        assert_eq!(&pong(b"")[..], b"\x8a\x00");
        assert_eq!(&close(None)[..], b"\x88\x00");
        assert_eq!(&close(Some(&CloseFrame::new(CloseCode::GOING_AWAY, "bye")))[..], b"\x88\x05\x03\xe9bye");
        assert_eq!(ping(&[7; 200]).len(), 2 + MAX_CONTROL_PAYLOAD);
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        for len in [0, 125, 126, 0xffff, 0x10000] {
            let mut out = Vec::new();
            write_head(&mut out, FIN, len, None);
            assert_eq!(out.len(), head_len(len));
        }
    }
}
