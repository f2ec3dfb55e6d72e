//! From received bytes to queued messages, and to the reason to end when the client breaks a rule.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine as _;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::limits;
use tidegate_core::notice::ClosedBy;
use tidegate_core::settings::Binary;
use tidegate_ws::{CloseCode, CloseFrame, DecodeError, Decoder, DeflateParams, Incoming, Role};

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
            Incoming::Binary(_) => {
                let reason = "Binary messages are not supported";
                return Some(refused(CloseCode::UNSUPPORTED_DATA, reason, Diagnosis::MESSAGE_BINARY));
            }
            Incoming::Ping(payload) => {
                if settings.ping_counts_as_activity {
                    self.handle.touch(now);
                }
                self.handle.push_control(tidegate_ws::pong(&payload));
            }
            Incoming::Pong(_) => {
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
        None => (1005, "Client-side close frame status not set".to_owned()),
    };
    Box::new(CloseCause {
        frame,
        code,
        reason,
        by: ClosedBy::Client,
        diagnosis: Diagnosis::CLIENT_PAGE_LEFT,
        gone: Diagnosis::GONE_CLIENT_CLOSED,
    })
}

/// The peer broke the protocol or a limit.
fn broken(error: &DecodeError) -> Box<CloseCause> {
    let (reason, diagnosis) = match error {
        DecodeError::NotUtf8 { .. } => ("Invalid UTF-8", Diagnosis::MESSAGE_NOT_UTF8),
        DecodeError::FrameTooLarge { .. } => ("Frame too large", Diagnosis::MESSAGE_FRAME_TOO_LARGE),
        DecodeError::MessageTooLarge { .. } => ("Message too long", Diagnosis::MESSAGE_TOO_LARGE),
        DecodeError::InflateLimit { .. } => ("Message too long", Diagnosis::MESSAGE_INFLATE_LIMIT),
        _ => ("Protocol error", Diagnosis::PROTOCOL_VIOLATION),
    };
    refused(error.close_code(), reason, diagnosis)
}

fn refused(code: CloseCode, reason: &str, diagnosis: Diagnosis) -> Box<CloseCause> {
    Box::new(CloseCause {
        frame: Some(CloseFrame::new(code, reason)),
        code: code.as_u16(),
        reason: reason.to_owned(),
        by: ClosedBy::Gateway,
        diagnosis,
        gone: Diagnosis::GONE_SERVER_CLOSED,
    })
}

/// No close frame came and none can be sent.
pub(crate) fn lost() -> Box<CloseCause> {
    Box::new(CloseCause {
        frame: None,
        code: 1006,
        reason: "Connection closed abnormally".to_owned(),
        by: ClosedBy::Network,
        diagnosis: Diagnosis::CONN_RESET,
        gone: Diagnosis::GONE_NETWORK,
    })
}
