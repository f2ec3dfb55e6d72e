//! The incremental decoder: bytes in, messages and control frames out.
//!
//! It owns no buffer for input. What a call was given is consumed in that call, so a reader that is cancelled between
//! two reads loses nothing. Between messages it holds no heap memory; while a message is half received it holds the
//! message so far and, for a compressed one, an inflate context of the thread.
//!
//! Everything is refused as early as the bytes allow: a wrong first byte before the second has come, a size at the end
//! of the header, text at the first byte that cannot be UTF-8.

use bytes::Bytes;

use crate::close::{CloseCode, CloseFrame};
use crate::deflate::{Corrupt, Inflater};
use crate::extension::DeflateParams;
use crate::frame::{FIN, MASKED, MAX_CONTROL_PAYLOAD, MAX_HEAD, Opcode, RSV1};
use crate::mask;
use crate::text::{self, Text};

/// Which side of the connection this codec is. A server reads masked frames, a client unmasked ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Accepts connections.
    Server,
    /// Opens connections.
    Client,
}

/// Limits of received data, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload of one data frame as it is on the wire, that is before inflation.
    pub max_frame: usize,
    /// Largest message: the sum over its fragments, after inflation.
    pub max_message: usize,
}

/// Message or control frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Whole text message.
    Text(String),
    /// Whole binary message.
    Binary(Bytes),
    /// Ping, to be answered with a pong of the same payload (at most 125 bytes).
    Ping(Bytes),
    /// Pong.
    Pong(Bytes),
    /// Close, to be answered with the same code. Whatever follows it is discarded.
    Close(Option<CloseFrame>),
}

/// What a call of [`Decoder::decode`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are done with. Never less than the whole input unless there is an event.
    pub consumed: usize,
    /// The event that ended at `consumed`.
    pub event: Option<Incoming>,
}

/// The peer broke the protocol or a limit. The connection ends with [`close_code`](Self::close_code).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A reserved bit without an extension that defines it, or on a frame where that extension does not allow it.
    #[error("reserved bits are set")]
    ReservedBits,
    /// An opcode that RFC 6455 reserves.
    #[error("opcode {opcode} is reserved")]
    BadOpcode {
        /// The four bits of the frame.
        opcode: u8,
    },
    /// A client sent a frame without a mask.
    #[error("client frame is not masked")]
    Unmasked,
    /// A server sent a masked frame.
    #[error("server frame is masked")]
    Masked,
    /// A control frame without FIN.
    #[error("control frame is fragmented")]
    FragmentedControl,
    /// A control frame of more than 125 bytes.
    #[error("control frame has more than 125 bytes")]
    ControlTooLong,
    /// A continuation frame outside a message.
    #[error("continuation frame without a message")]
    UnexpectedContinuation,
    /// A new message before the end of the previous one.
    #[error("data frame inside a fragmented message")]
    InterleavedData,
    /// A payload length that is not in its shortest form, or above 2^63.
    #[error("payload length is not in its shortest form")]
    BadLength,
    /// A close code that may not be sent.
    #[error("close code {code} may not be sent")]
    BadCloseCode {
        /// The number received.
        code: u16,
    },
    /// A close frame with a single byte.
    #[error("close frame has half a code")]
    BadClosePayload,
    /// Text (or a close reason) that is not UTF-8.
    #[error("invalid UTF-8 at byte {offset}")]
    NotUtf8 {
        /// Where the invalid character begins, in bytes from the start of the message or reason.
        offset: usize,
    },
    /// A frame above [`Limits::max_frame`].
    #[error("frame of {size} bytes exceeds {limit}")]
    FrameTooLarge {
        /// Announced payload size.
        size: u64,
        /// The limit in force.
        limit: usize,
    },
    /// A message above [`Limits::max_message`].
    #[error("message of at least {size} bytes exceeds {limit}")]
    MessageTooLarge {
        /// Bytes received so far and announced by the present frame.
        size: u64,
        /// The limit in force.
        limit: usize,
    },
    /// A compressed message above [`Limits::max_message`].
    #[error("compressed message inflates to more than {limit} bytes")]
    InflateLimit {
        /// The limit in force.
        limit: usize,
    },
    /// A compressed message that does not follow RFC 1951.
    #[error("compressed message is corrupt")]
    BadDeflate,
}

impl DecodeError {
    /// The code to close the connection with: 1002, 1007 or 1009.
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::NotUtf8 { .. } | Self::BadDeflate => CloseCode::INVALID_PAYLOAD,
            Self::FrameTooLarge { .. } | Self::MessageTooLarge { .. } | Self::InflateLimit { .. } => {
                CloseCode::MESSAGE_TOO_BIG
            }
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

impl From<Corrupt> for DecodeError {
    fn from(_: Corrupt) -> Self {
        Self::BadDeflate
    }
}

/// Decoder of one direction of one connection. At most 128 bytes; holds no heap memory while [`is_idle`](Self::is_idle),
/// unless the peer compresses with context takeover.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// Payload bytes of `frame` that have not arrived.
    left: usize,
    held: Option<Box<Held>>,
    /// Frame whose payload is being read. `None`: a header is being read.
    frame: Option<Frame>,
    /// Masking key, turned to the next byte of the payload.
    key: [u8; 4],
    head: [u8; MAX_HEAD],
    head_len: u8,
    deflate: Option<DeflateParams>,
    role: Role,
    /// A close frame or an error came: everything else is discarded.
    finished: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    rsv1: bool,
}

/// State that exists only in the middle of something.
#[derive(Debug, Default)]
struct Held {
    message: Option<Message>,
    /// Payload of a control frame in progress.
    control: Vec<u8>,
    /// Inflater of a peer with context takeover, between its messages.
    takeover: Option<Inflater>,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.message.is_none() && self.control.is_empty() && self.takeover.is_none()
    }
}

impl Decoder {
    /// A decoder at the start of a connection. `deflate`: permessage-deflate was agreed on with these parameters.
    pub fn new(role: Role, limits: Limits, deflate: Option<DeflateParams>) -> Self {
        Self {
            limits,
            left: 0,
            held: None,
            frame: None,
            key: [0; 4],
            head: [0; MAX_HEAD],
            head_len: 0,
            deflate,
            role,
            finished: false,
        }
    }

    /// Whether no part of a frame or message is held.
    pub fn is_idle(&self) -> bool {
        self.head_len == 0
            && self.frame.is_none()
            && self.held.as_ref().is_none_or(|held| held.message.is_none() && held.control.is_empty())
    }

    /// Consumes bytes of `input` (a server unmasks them in place) up to the end of the first event.
    ///
    /// Call it again with the rest until everything is consumed. After a close frame all input is discarded.
    ///
    /// # Errors
    /// [`DecodeError`] when the connection has to be failed. All further input is discarded.
    pub fn decode(&mut self, input: &mut [u8]) -> Result<Decoded, DecodeError> {
        if self.finished {
            return Ok(Decoded { consumed: input.len(), event: None });
        }
        let decoded = self.next_event(input);
        if matches!(decoded, Err(_) | Ok(Decoded { event: Some(Incoming::Close(_)), .. })) {
            self.finished = true;
            self.held = None;
            self.frame = None;
            self.left = 0;
            self.head_len = 0;
        }
        decoded
    }

    fn next_event(&mut self, input: &mut [u8]) -> Result<Decoded, DecodeError> {
        let mut at = 0;
        while at < input.len() {
            let frame = match self.frame {
                Some(frame) => frame,
                None => {
                    let (n_head, frame) = self.read_head(&input[at..])?;
                    at += n_head;
                    let Some(frame) = frame else { break };
                    self.frame = Some(frame);
                    frame
                }
            };
            let n = self.left.min(input.len() - at);
            if n == 0 && self.left > 0 {
                break;
            }
            let payload = &mut input[at..at + n];
            if self.role == Role::Server {
                mask::apply(payload, &mut self.key);
            }
            at += n;
            self.left -= n;
            let ends = self.left == 0;
            let event = if frame.opcode.is_control() {
                self.control(frame.opcode, payload, ends)?
            } else {
                self.data(frame, payload, ends)?
            };
            if ends {
                self.frame = None;
            }
            if event.is_some() {
                return Ok(Decoded { consumed: at, event });
            }
        }
        Ok(Decoded { consumed: at, event: None })
    }

    /// Reads header bytes; gives their number, and the frame when the header is complete.
    fn read_head(&mut self, input: &[u8]) -> Result<(usize, Option<Frame>), DecodeError> {
        let mut at = 0;
        while self.head_len < 2 {
            let Some(&byte) = input.get(at) else { return Ok((at, None)) };
            match self.head_len {
                0 => _ = self.check_first(byte)?,
                _ => self.check_second(byte)?,
            }
            self.head[usize::from(self.head_len)] = byte;
            self.head_len += 1;
            at += 1;
        }
        let [first, second, ..] = self.head;
        let n_ext = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let n_mask = if second & MASKED == 0 { 0 } else { 4 };
        let have = usize::from(self.head_len);
        let need = 2 + n_ext + n_mask;
        let n = (need - have).min(input.len() - at);
        self.head[have..have + n].copy_from_slice(&input[at..at + n]);
        self.head_len += n as u8;
        at += n;
        if have + n < need {
            return Ok((at, None));
        }
        let frame = self.check_first(first)?;
        let size = match n_ext {
            0 => u64::from(second & !MASKED),
            _ => self.head[2..2 + n_ext].iter().fold(0, |size, &byte| size << 8 | u64::from(byte)),
        };
        let shortest = match n_ext {
            0 => 0,
            2 => 126,
            _ => 0x1_0000,
        };
        if size < shortest || size >> 63 != 0 {
            return Err(DecodeError::BadLength);
        }
        self.left = self.check_size(frame, size)?;
        if let Some((_, key)) = self.head[..need].split_last_chunk::<4>()
            && n_mask > 0
        {
            self.key = *key;
        }
        self.head_len = 0;
        Ok((at, Some(frame)))
    }

    fn check_first(&self, byte: u8) -> Result<Frame, DecodeError> {
        let opcode = Opcode::new(byte & 0x0f).ok_or(DecodeError::BadOpcode { opcode: byte & 0x0f })?;
        let frame = Frame { opcode, fin: byte & FIN != 0, rsv1: byte & RSV1 != 0 };
        // RSV1 marks a compressed message, on its first frame (RFC 7692, section 6).
        let may_rsv1 = self.deflate.is_some() && matches!(opcode, Opcode::Text | Opcode::Binary);
        if byte & 0x30 != 0 || (frame.rsv1 && !may_rsv1) {
            return Err(DecodeError::ReservedBits);
        }
        match opcode {
            Opcode::Continuation if self.message().is_none() => Err(DecodeError::UnexpectedContinuation),
            Opcode::Text | Opcode::Binary if self.message().is_some() => Err(DecodeError::InterleavedData),
            _ if opcode.is_control() && !frame.fin => Err(DecodeError::FragmentedControl),
            _ => Ok(frame),
        }
    }

    fn check_second(&self, byte: u8) -> Result<(), DecodeError> {
        match (self.role, byte & MASKED != 0) {
            (Role::Server, false) => return Err(DecodeError::Unmasked),
            (Role::Client, true) => return Err(DecodeError::Masked),
            _ => {}
        }
        let is_control = self.head[0] & 0x08 != 0;
        if is_control && usize::from(byte & !MASKED) > MAX_CONTROL_PAYLOAD {
            return Err(DecodeError::ControlTooLong);
        }
        Ok(())
    }

    fn check_size(&self, frame: Frame, size: u64) -> Result<usize, DecodeError> {
        let Limits { max_frame, max_message } = self.limits;
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        if frame.opcode.is_control() {
            return Ok(len);
        }
        if len > max_frame {
            return Err(DecodeError::FrameTooLarge { size, limit: max_frame });
        }
        // What a compressed frame adds to the message shows when it is inflated.
        let (so_far, is_compressed) = match self.message() {
            Some(message) => (message.len(), message.inflater.is_some()),
            None => (0, frame.rsv1),
        };
        if !is_compressed && so_far.saturating_add(len) > max_message {
            return Err(DecodeError::MessageTooLarge {
                size: size.saturating_add(so_far as u64),
                limit: max_message,
            });
        }
        Ok(len)
    }

    fn message(&self) -> Option<&Message> {
        self.held.as_ref()?.message.as_ref()
    }

    /// Takes a piece of a data frame; `ends`: the frame ends with it.
    fn data(&mut self, frame: Frame, piece: &[u8], ends: bool) -> Result<Option<Incoming>, DecodeError> {
        let is_complete = ends && frame.fin;
        let mut message = match self.held.as_mut().and_then(|held| held.message.take()) {
            Some(message) => message,
            // The whole message in one piece: nothing is kept, the event is the only allocation.
            None if is_complete && !frame.rsv1 => return whole(frame.opcode, piece).map(Some),
            None => Message::new(frame.opcode, frame.rsv1.then(|| self.inflater())),
        };
        message.push(piece, self.limits.max_message)?;
        if !is_complete {
            self.held.get_or_insert_default().message = Some(message);
            return Ok(None);
        }
        let (event, inflater) = message.finish(self.limits.max_message)?;
        match inflater {
            Some(inflater) if self.peer_keeps_context() => {
                self.held.get_or_insert_default().takeover = Some(inflater);
            }
            _ => self.release(),
        }
        Ok(Some(event))
    }

    /// Takes a piece of a control frame; `ends`: the frame ends with it.
    fn control(&mut self, opcode: Opcode, piece: &[u8], ends: bool) -> Result<Option<Incoming>, DecodeError> {
        if !ends {
            self.held.get_or_insert_default().control.extend_from_slice(piece);
            return Ok(None);
        }
        let mut collected =
            self.held.as_mut().map(|held| std::mem::take(&mut held.control)).unwrap_or_default();
        let payload = if collected.is_empty() {
            piece
        } else {
            collected.extend_from_slice(piece);
            self.release();
            &collected
        };
        Ok(Some(match opcode {
            Opcode::Ping => Incoming::Ping(Bytes::copy_from_slice(payload)),
            Opcode::Pong => Incoming::Pong(Bytes::copy_from_slice(payload)),
            _ => Incoming::Close(read_close(payload)?),
        }))
    }

    fn inflater(&mut self) -> Inflater {
        self.held.as_mut().and_then(|held| held.takeover.take()).unwrap_or_else(Inflater::take)
    }

    fn peer_keeps_context(&self) -> bool {
        self.deflate.is_some_and(|params| match self.role {
            Role::Server => !params.client_no_context_takeover,
            Role::Client => !params.server_no_context_takeover,
        })
    }

    fn release(&mut self) {
        if self.held.as_ref().is_some_and(|held| held.is_empty()) {
            self.held = None;
        }
    }
}

/// An uncompressed message that came in one piece.
fn whole(opcode: Opcode, payload: &[u8]) -> Result<Incoming, DecodeError> {
    if opcode == Opcode::Text {
        let text = text::check(payload).map_err(|offset| DecodeError::NotUtf8 { offset })?;
        Ok(Incoming::Text(text.to_owned()))
    } else {
        Ok(Incoming::Binary(Bytes::copy_from_slice(payload)))
    }
}

fn read_close(payload: &[u8]) -> Result<Option<CloseFrame>, DecodeError> {
    let Some((&code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(DecodeError::BadClosePayload) };
    };
    let code = u16::from_be_bytes(code);
    let code = CloseCode::new(code).ok_or(DecodeError::BadCloseCode { code })?;
    let reason = text::check(reason).map_err(|offset| DecodeError::NotUtf8 { offset })?;
    Ok(Some(CloseFrame::new(code, reason)))
}

/// A message in progress.
#[derive(Debug)]
struct Message {
    body: Body,
    /// The message is compressed.
    inflater: Option<Inflater>,
}

#[derive(Debug)]
enum Body {
    Text(Text),
    Binary(Vec<u8>),
}

impl Message {
    fn new(opcode: Opcode, inflater: Option<Inflater>) -> Self {
        let body = match opcode {
            Opcode::Text => Body::Text(Text::default()),
            _ => Body::Binary(Vec::new()),
        };
        Self { body, inflater }
    }

    fn len(&self) -> usize {
        self.body.len()
    }

    fn push(&mut self, piece: &[u8], limit: usize) -> Result<(), DecodeError> {
        let body = &mut self.body;
        match &mut self.inflater {
            Some(inflater) => inflater.push(piece, &mut |bytes| body.push_inflated(bytes, limit)),
            // The header has been held against the limit.
            None => body.push(piece, limit),
        }
    }

    fn finish(mut self, limit: usize) -> Result<(Incoming, Option<Inflater>), DecodeError> {
        if let Some(inflater) = &mut self.inflater {
            let body = &mut self.body;
            inflater.end_message(&mut |bytes| body.push_inflated(bytes, limit))?;
        }
        let event = match self.body {
            Body::Text(text) => Incoming::Text(text.finish()?),
            Body::Binary(bytes) => Incoming::Binary(Bytes::from(bytes)),
        };
        Ok((event, self.inflater))
    }
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    fn push_inflated(&mut self, bytes: &[u8], limit: usize) -> Result<(), DecodeError> {
        if self.len().saturating_add(bytes.len()) > limit {
            return Err(DecodeError::InflateLimit { limit });
        }
        self.push(bytes, limit)
    }

    fn push(&mut self, piece: &[u8], limit: usize) -> Result<(), DecodeError> {
        match self {
            Self::Text(text) => text.push(piece, limit),
            Self::Binary(bytes) => {
                if let Some(target) = text::grown(bytes.capacity(), bytes.len() + piece.len(), limit) {
                    bytes.reserve_exact(target - bytes.len());
                }
                bytes.extend_from_slice(piece);
                Ok(())
            }
        }
    }
}
