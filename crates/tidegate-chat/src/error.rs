//! What an event is refused with.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_store::sql::{ColumnError, SqlError};

use crate::field::REQUIRED;

/// A refusal of an event. It goes to the connection that sent the event, changes nothing, and closes nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ChatError {
    /// `{"error": "invalid event type"}`.
    #[error("invalid event type")]
    InvalidEventType,
    /// 4002, a fixed text.
    #[error("permission denied: {text}")]
    Permission {
        /// For the client, letter by letter.
        text: &'static str,
        /// `chat.not-member` or `chat.not-owner`.
        diagnosis: Diagnosis,
    },
    /// 4003 with a text: the envelope.
    #[error("malformed event")]
    Malformed(String),
    /// 4003 with a list of texts: a rule.
    #[error("a rule was broken")]
    Rule {
        /// For the client.
        texts: Vec<Cow<'static, str>>,
        /// Which rule.
        diagnosis: Diagnosis,
    },
    /// 4003 with an object: field errors, or errors of attachments by index.
    #[error("fields are wrong")]
    Fields(Map<String, Value>),
    /// 4004.
    #[error("not found")]
    NotFound {
        /// `chat.room-not-found`, `chat.message-not-found`, ...
        diagnosis: Diagnosis,
    },
    /// 4005.
    #[error("integrity")]
    Integrity {
        /// For the client.
        text: &'static str,
        /// `chat.duplicate-chat`, `chat.duplicate-reaction`, ...
        diagnosis: Diagnosis,
    },
    /// 4029: the application's own limit.
    #[error("too many events")]
    TooMany,
    /// Refused by an extension, with a code of its own.
    #[error("refused by an extension")]
    Custom {
        /// 4001 to 4999.
        code: u16,
        /// For the client.
        detail: Value,
    },
    /// 4006: a fault of the server; the text is for operators.
    #[error("internal: {0}")]
    Internal(String),
}

/// Default text of 4005.
pub const INTEGRITY: &str = "Database constraint violated.";

impl ChatError {
    /// A broken rule with one text.
    pub fn rule(text: impl Into<Cow<'static, str>>, diagnosis: Diagnosis) -> Self {
        Self::Rule { texts: vec![text.into()], diagnosis }
    }

    /// One wrong field.
    pub fn field(name: &str, text: impl Into<String>) -> Self {
        Self::Fields(Map::from_iter([(name.to_owned(), json!([text.into()]))]))
    }

    /// Why, for the journal.
    pub fn diagnosis(&self) -> Diagnosis {
        match self {
            Self::InvalidEventType => Diagnosis::CHAT_INVALID_EVENT_TYPE,
            Self::Malformed(_) => Diagnosis::CHAT_NOT_JSON,
            Self::Permission { diagnosis, .. }
            | Self::Rule { diagnosis, .. }
            | Self::NotFound { diagnosis }
            | Self::Integrity { diagnosis, .. } => *diagnosis,
            Self::Fields(fields) => match fields.values().any(|said| *said == json!([REQUIRED])) {
                true => Diagnosis::CHAT_MISSING_FIELD,
                false => Diagnosis::CHAT_BAD_PAYLOAD,
            },
            Self::TooMany => Diagnosis::RATELIMIT_MESSAGES,
            Self::Custom { .. } => Diagnosis::CHAT_BAD_PAYLOAD,
            Self::Internal(_) => Diagnosis::CHAT_INTERNAL,
        }
    }

    /// The code in the frame; nothing for an event type that does not exist, which has none.
    pub fn code(&self) -> Option<u16> {
        Some(match self {
            Self::InvalidEventType => return None,
            Self::Permission { .. } => 4002,
            Self::Malformed(_) | Self::Rule { .. } | Self::Fields(_) => 4003,
            Self::NotFound { .. } => 4004,
            Self::Integrity { .. } => 4005,
            Self::Internal(_) => 4006,
            Self::TooMany => 4029,
            Self::Custom { code, .. } => *code,
        })
    }

    /// The frame, in the form that clients of the package know.
    pub fn frame(&self) -> Value {
        let detail = match self {
            Self::InvalidEventType => return json!({ "error": "invalid event type" }),
            Self::Permission { text, .. } | Self::Integrity { text, .. } => Value::from(*text),
            Self::Malformed(text) => Value::from(text.as_str()),
            Self::Rule { texts, .. } => Value::from_iter(texts.iter().map(|text| Value::from(&**text))),
            Self::Fields(fields) => Value::Object(fields.clone()),
            Self::NotFound { .. } => Value::from("Resource not found."),
            Self::TooMany => Value::from("Too many events."),
            Self::Custom { detail, .. } => detail.clone(),
            Self::Internal(_) => Value::from("Internal server error."),
        };
        json!({ "error": { "code": self.code(), "detail": detail } })
    }
}

/// A constraint that a handler has not foreseen is a 4005; everything else is a fault of the server.
impl From<SqlError> for ChatError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Constraint => {
                Self::Integrity { text: INTEGRITY, diagnosis: Diagnosis::CHAT_BAD_PAYLOAD }
            }
            error => Self::Internal(error.to_string()),
        }
    }
}

impl From<ColumnError> for ChatError {
    fn from(error: ColumnError) -> Self {
        Self::Internal(error.to_string())
    }
}
