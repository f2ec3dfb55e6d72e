//! From received bytes to queued messages, and to the reason to end when the client breaks a rule.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine as _;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::limits;
use tidegate_core::notice::ClosedBy;
use tidegate_core::settings::Binary;
use tidegate_ws::{CloseCode, CloseFrame, DecodeError, Decoder, DeflateParams, Incoming, Role};

use super::close_reason;
use super::handle::{CloseCause, Handle};

/// A message that waits for its turn.
pub(crate) struct Queued {
    pub(crate) text: String,
    pub(crate) is_base64: bool,
}

/// Everything between the socket and the dispatch.
pub(crate) struct Intake {
    handle: Arc<Handle>,
    decoder: Decoder,
    inbox: VecDeque<Queued>,
    inbox_bytes: usize,
    /// Bytes that were read behind the point where the inbox was full.
    unread: Vec<u8>,
}

impl Intake {
    pub(crate) fn new(handle: Arc<Handle>, deflate: Option<DeflateParams>, early: &[u8]) -> Self {
        let settings = &handle.stage.settings.data_plane;
        let ws_limits = tidegate_ws::Limits {
            max_frame: settings.max_frame_bytes,
            max_message: settings.max_message_bytes,
        };
        Self {
            decoder: Decoder::new(Role::Server, ws_limits, deflate),
            handle,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            unread: early.to_vec(),
        }
    }

    /// The next message in turn.
    pub(crate) fn next(&mut self) -> Option<Queued> {
        let queued = self.inbox.pop_front()?;
        self.inbox_bytes -= queued.text.len();
        if self.inbox.is_empty() {
            // An idle connection holds no buffer.
            self.inbox = VecDeque::new();
        }
        Some(queued)
    }

    /// The first text that is not to wait for its turn.
    pub(crate) fn next_urgent(&mut self, is_urgent: impl Fn(&str) -> bool) -> Option<Queued> {
        let place = self.inbox.iter().position(|queued| !queued.is_base64 && is_urgent(&queued.text))?;
        let queued = self.inbox.remove(place)?;
        self.inbox_bytes -= queued.text.len();
        Some(queued)
    }

    /// Whether a message waits for its turn.
    pub(crate) fn has_queued(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Whether the socket must not be read for now.
    pub(crate) fn is_full(&self) -> bool {
        let limit = 2 * self.handle.stage.settings.data_plane.max_message_bytes;
        self.inbox.len() >= limits::MAX_INBOUND_QUEUE || self.inbox_bytes >= limit
    }

    /// Whether bytes wait that were read before.
    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Decodes what waits from an earlier read.
    pub(crate) fn take_unread(&mut self, now: u64) -> Option<Box<CloseCause>> {
        let mut unread = std::mem::take(&mut self.unread);
        self.take(&mut unread, now)
    }

    /// Decodes `bytes`; what no longer fits into the inbox is kept for later. Returns why the connection is to
    /// end, if it is.
    pub(crate) fn take(&mut self, bytes: &mut [u8], now: u64) -> Option<Box<CloseCause>> {
        self.handle.heard();
        let mut rest = bytes;
        loop {
            if self.is_full() && !rest.is_empty() {
                self.unread = rest.to_vec();
                return None;
            }
            let decoded = match self.decoder.decode(rest) {
                Ok(decoded) => decoded,
                Err(error) => return Some(broken(&error)),
            };
            rest = &mut rest[decoded.consumed..];
            match decoded.event {
                Some(event) => {
                    if let Some(cause) = self.on_event(event, now) {
                        return Some(cause);
                    }
                }
                None if rest.is_empty() => return None,
                None => {}
            }
        }
    }

    fn on_event(&mut self, event: Incoming, now: u64) -> Option<Box<CloseCause>> {
        let settings = &self.handle.stage.settings.data_plane;
        match event {
            Incoming::Text(text) => self.queue(Queued { text, is_base64: false }, now),
            Incoming::Binary(bytes) if settings.binary == Binary::Base64 => {
                let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
                self.queue(Queued { text, is_base64: true }, now);
            }
            Incoming::Binary(bytes) => {
                let cause = CloseCause::by_gateway(
                    CloseCode::UNSUPPORTED_DATA,
                    close_reason::NO_BINARY,
                    Diagnosis::MESSAGE_BINARY,
                );
                return Some(Box::new(cause.with("opcode", 2).with("size", bytes.len())));
            }
            Incoming::Ping(payload) => {
                if settings.ping_counts_as_activity {
                    self.handle.touch(now);
                }
                self.handle.push_control(tidegate_ws::pong(&payload));
            }
            Incoming::Pong(_) => {
                self.handle.ponged(now);
                if settings.ping_counts_as_activity {
                    self.handle.touch(now);
                }
            }
            Incoming::Close(frame) => return Some(closed_by_client(frame)),
        }
        None
    }

    fn queue(&mut self, queued: Queued, now: u64) {
        self.handle.received(queued.text.len(), now);
        self.inbox_bytes += queued.text.len();
        self.inbox.push_back(queued);
    }
}

fn closed_by_client(frame: Option<CloseFrame>) -> Box<CloseCause> {
    let (code, reason) = match &frame {
        Some(frame) => (frame.code.as_u16(), frame.reason.clone()),
        None => (1005, close_reason::NO_STATUS.to_owned()),
    };
    let known = frame.as_ref().and_then(|frame| close_reason::known_of_client(&frame.reason));
    let diagnosis = match (code, known) {
        (1001, _) => Diagnosis::CLIENT_PAGE_LEFT,
        (1011, Some("keepalive ping timeout")) => Diagnosis::CLIENT_KEEPALIVE_1011,
        // Said of its own accord, or with a code of the application: normal.
        _ => Diagnosis::GONE_CLIENT_CLOSED,
    };
    let mut facts = Facts::none().with("clientCode", code);
    facts.add_some("clientReason", known);
    Box::new(CloseCause {
        frame,
        code,
        reason,
        by: ClosedBy::Client,
        diagnosis,
        gone: Diagnosis::GONE_CLIENT_CLOSED,
        facts,
    })
}

/// The peer broke the protocol or a limit.
fn broken(error: &DecodeError) -> Box<CloseCause> {
    let (reason, diagnosis) = match error {
        DecodeError::NotUtf8 { .. } => (close_reason::INVALID_UTF8, Diagnosis::MESSAGE_NOT_UTF8),
        DecodeError::FrameTooLarge { .. } => {
            (close_reason::FRAME_TOO_LARGE, Diagnosis::MESSAGE_FRAME_TOO_LARGE)
        }
        DecodeError::MessageTooLarge { .. } => (close_reason::MESSAGE_TOO_LONG, Diagnosis::MESSAGE_TOO_LARGE),
        DecodeError::InflateLimit { .. } => {
            (close_reason::MESSAGE_TOO_LONG, Diagnosis::MESSAGE_INFLATE_LIMIT)
        }
        _ => (close_reason::PROTOCOL_ERROR, Diagnosis::PROTOCOL_VIOLATION),
    };
    let cause = CloseCause::by_gateway(error.close_code(), reason, diagnosis);
    Box::new(match error {
        DecodeError::NotUtf8 { offset } => cause.with("errorPosition", *offset),
        DecodeError::FrameTooLarge { size, limit } | DecodeError::MessageTooLarge { size, limit } => {
            cause.with("size", *size).with("limit", *limit)
        }
        DecodeError::InflateLimit { limit } => cause.with("limit", *limit),
        DecodeError::BadOpcode { opcode } => cause.with("rule", error.to_string()).with("opcode", *opcode),
        // Words of this program, never bytes of the client.
        _ => cause.with("rule", error.to_string()),
    })
}

/// No close frame came and none can be sent. `how`: `closed` for an orderly end of TCP, `reset` for anything else.
pub(crate) fn lost(how: &'static str) -> Box<CloseCause> {
    Box::new(CloseCause::lost(Diagnosis::CONN_RESET).with("errorClass", how))
}
