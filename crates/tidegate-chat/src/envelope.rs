//! From the text of a message to an event.

use serde_json::{Map, Value};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::nearest::nearest;

use crate::error::ChatError;
use crate::router::{ROUTES, Route, find};

/// Characters of a client's `event_type` that the journal keeps.
const MAX_SHOWN: usize = 64;

/// An event as a client sends it, its shape checked.
#[derive(Debug)]
pub struct Envelope {
    /// Which.
    pub event_type: String,
    /// Its data; whatever it is, where the event needs none.
    pub data: Option<Value>,
}

/// An event that is no event, and what proves it.
#[derive(Debug)]
pub struct Refused {
    /// For the client.
    pub error: ChatError,
    /// For the journal.
    pub facts: Facts,
}

impl From<ChatError> for Refused {
    fn from(error: ChatError) -> Self {
        Self { error, facts: Facts::none() }
    }
}

/// Reads a message.
///
/// # Errors
/// 4003 for what is no JSON object, `invalid event type` for an object without a text as its `event_type`.
pub fn parse(text: &str, is_binary: bool) -> Result<Envelope, Refused> {
    let malformed = |what: &str| ChatError::Malformed(format!("Malformed event: {what}"));
    if is_binary {
        return Err(Refused {
            error: malformed("binary message"),
            facts: Facts::none().with("opcode", "binary"),
        });
    }
    let mut event = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(event)) => event,
        Ok(_) => return Err(malformed("not a JSON object").into()),
        Err(error) => {
            // The position stands in facts of its own; a client sees both.
            let facts = Facts::none().with("errorPosition", format!("{}:{}", error.line(), error.column()));
            return Err(Refused { error: malformed(&error.to_string()), facts });
        }
    };
    match event.remove("event_type") {
        Some(Value::String(event_type)) => Ok(Envelope { event_type, data: event.remove("data") }),
        _ => Err(ChatError::InvalidEventType.into()),
    }
}

impl Envelope {
    /// The built-in event that is meant.
    ///
    /// # Errors
    /// `invalid event type`
    pub fn route(&self) -> Result<&'static Route, Refused> {
        find(&self.event_type).ok_or_else(|| unknown(&self.event_type))
    }

    /// The data of an event.
    ///
    /// # Errors
    /// 4003 where the event needs an object and there is none.
    pub fn into_data(self, route: &Route) -> Result<Map<String, Value>, Refused> {
        match self.data {
            Some(Value::Object(data)) => Ok(data),
            _ if !route.needs_data => Ok(Map::new()),
            _ => Err(Refused {
                error: ChatError::rule("data must be an object", Diagnosis::CHAT_BAD_PAYLOAD),
                facts: Facts::none().with("eventType", route.event_type).with("path", "data"),
            }),
        }
    }
}

/// The refusal of an event type that nobody knows.
pub fn unknown(event_type: &str) -> Refused {
    let shown: String = event_type.chars().take(MAX_SHOWN).collect();
    let mut facts = Facts::none().with("eventType", shown);
    facts.add_some("nearest", nearest(event_type, ROUTES.iter().map(|route| route.event_type)));
    Refused { error: ChatError::InvalidEventType, facts }
}
