//! The closed list of close reasons: what the gateway says when it ends a connection, and which words of clients are kept.
//!
//! A reason is for a stranger: nothing of exceptions, hosts, files, or of anybody else's limits is ever in one. Only a
//! backend or an administrator that asks for a close may word its reason.

pub(crate) const GOING_AWAY: &str = "Going away";
pub(crate) const SERVICE_RESTART: &str = "Service restart";
/// With 1012. Source: the name of the code in the WebSocket Close Code Number Registry of IANA.
pub(crate) const RESTART: &str = "Service Restart";
pub(crate) const TOKEN_EXPIRED: &str = "Token expired";
pub(crate) const AUTHORIZATION_EXPIRED: &str = "Authorization expired";
pub(crate) const SESSION_ENDED: &str = "Session ended";
pub(crate) const ACCESS_REVOKED: &str = "Access revoked";
pub(crate) const TOO_SLOW: &str = "Too slow";
pub(crate) const TOO_MANY_MESSAGES: &str = "Too many messages";
pub(crate) const NO_BINARY: &str = "Binary messages are not supported";
pub(crate) const INVALID_UTF8: &str = "Invalid UTF-8";
pub(crate) const FRAME_TOO_LARGE: &str = "Frame too large";
pub(crate) const MESSAGE_TOO_LONG: &str = "Message too long";
pub(crate) const PROTOCOL_ERROR: &str = "Protocol error";
pub(crate) const INTERNAL: &str = "Internal server error";
pub(crate) const NORMALLY: &str = "Connection Closed Normally";
/// Never sent: what backends are told when the client named no code.
pub(crate) const NO_STATUS: &str = "Client-side close frame status not set";
/// Never sent: what backends are told when no close frame came.
pub(crate) const ABNORMALLY: &str = "Connection closed abnormally";

/// What clients' libraries say of their own accord; anything else that a client says is not kept.
const OF_CLIENTS: [&str; 7] = [
    "keepalive ping timeout",
    "ping timeout",
    "going away",
    "Going away",
    "client shutdown",
    "Normal Closure",
    // Tidegate's own clients, with 4408: the other half of the connection is dead.
    "heartbeat unanswered",
];

/// A client's reason, if it is one of the known list.
pub(crate) fn known_of_client(reason: &str) -> Option<&'static str> {
    OF_CLIENTS.into_iter().find(|known| *known == reason)
}

#[cfg(test)]
mod tests {
    use tidegate_core::limits;

    use super::*;

    /// Where the gateway words a close. Literals there would escape the list.
    const SOURCES: [(&str, &str); 7] = [
        ("gateway.rs", include_str!("../gateway.rs")),
        ("sessions.rs", include_str!("../sessions.rs")),
        ("publish.rs", include_str!("../publish.rs")),
        ("connection/intake.rs", include_str!("intake.rs")),
        ("connection/task.rs", include_str!("task.rs")),
        ("connection/message.rs", include_str!("message.rs")),
        ("push/connection.rs", include_str!("../push/connection.rs")),
    ];

    #[test]
    fn reasons_fit_into_a_close_frame_and_tell_nothing() {
        // DX-72
        let list = include_str!("close_reason.rs");
        let declared: Vec<&str> = list
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"))
            .filter_map(|line| line.strip_prefix("pub(crate) const ")?.split('"').nth(1))
            .collect();
        assert!(declared.len() >= 16, "{declared:?}");
        for reason in declared.iter().chain(&OF_CLIENTS) {
            assert!(!reason.is_empty() && reason.len() <= limits::MAX_CLOSE_REASON, "{reason}");
            assert!(reason.chars().all(|c| c.is_ascii_alphabetic() || " -8".contains(c)), "{reason}");
        }
    }

    #[test]
    fn nobody_words_a_close_of_their_own() {
        // DX-72
        for (name, source) in SOURCES {
            for start in [
                "going_away(\"",
                "policy_violation(\"",
                "CloseFrame::new(CloseCode::NORMAL, \"",
                "reason: \"",
            ] {
                assert!(!source.contains(start), "{name}: {start}");
            }
        }
    }

    #[test]
    fn clients_words_are_kept_only_where_they_are_known() {
        // DX-72
        assert_eq!(known_of_client("keepalive ping timeout"), Some("keepalive ping timeout"));
        assert_eq!(known_of_client("heartbeat unanswered"), Some("heartbeat unanswered"));
        assert_eq!(known_of_client("my password is x"), None);
    }
}
