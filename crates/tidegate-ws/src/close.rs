//! Close codes and the close frame, RFC 6455 section 7.4.

use std::fmt;

/// Longest reason text of a close frame, in bytes: a control payload without the two bytes of the code.
///
/// Source: RFC 6455, section 5.5.
pub const MAX_CLOSE_REASON: usize = 123;

/// A close code that may stand on the wire.
///
/// 1000 to 1003, 1007 to 1014 (registered) and 3000 to 4999 (libraries and applications). The codes that only describe
/// a connection locally (1005, 1006, 1015) have no value of this type.
///
/// Source: RFC 6455, sections 7.4.1 and 7.4.2; IANA "WebSocket Close Code Number Registry".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server goes down, the browser leaves the page, or the connection was idle for too long.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of message that is not accepted, for example binary.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1007: the payload does not fit its type, for example text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a policy forbids the message or the connection.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a frame or message above its limit.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: the client misses an extension it needs.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: the server failed.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the server restarts.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the server is overloaded.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got an invalid answer from the server behind it.
    pub const BAD_GATEWAY: Self = Self(1014);

    /// Takes a code that may be sent, refuses all others.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number as it stands on the wire.
    pub const fn as_u16(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

/// Code and reason of a close frame.
///
/// A received `reason` has at most [`MAX_CLOSE_REASON`] bytes; a longer one is cut when it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// Why the connection ends.
    pub code: CloseCode,
    /// Text for people; empty when there is none.
    pub reason: String,
}

impl CloseFrame {
    /// A close frame with a reason, which may be empty.
    pub fn new(code: CloseCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Appends the payload of this frame (two bytes of code, reason cut at a character boundary).
    pub(crate) fn write_payload(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.as_u16().to_be_bytes());
        let end = self.reason.floor_char_boundary(MAX_CLOSE_REASON);
        out.extend_from_slice(&self.reason.as_bytes()[..end]);
    }
}

impl From<CloseCode> for CloseFrame {
    fn from(code: CloseCode) -> Self {
        Self { code, reason: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_of_the_wire_exist() {
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            assert_eq!(CloseCode::new(code).map(CloseCode::as_u16), Some(code));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert_eq!(CloseCode::new(code), None, "{code}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut payload = Vec::new();
        // 61 characters of two bytes are 122 bytes; the next would end at 124.
        CloseFrame::new(CloseCode::NORMAL, "é".repeat(80)).write_payload(&mut payload);
        assert_eq!(payload.len(), 2 + 122);
        assert!(std::str::from_utf8(&payload[2..]).is_ok());
    }
}
