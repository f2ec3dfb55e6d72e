//! Ids in events: what they may look like, and what is said of those that do not.

use serde_json::{Map, Value};
use tidegate_core::diagnosis::Diagnosis;
use uuid::Uuid;

use crate::error::ChatError;
use crate::model::UserId;
use crate::settings::{Settings, UserIds};

/// Which of its three readings a `room_id` has, by the event that it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomIdStyle {
    /// `room.info`, `room.messages`, `room.leave`, `room.add_members`, `room.remove_members`: must be there.
    Required,
    /// `room.join`, `room.modify`: absent names nothing.
    Lenient,
    /// `message.send`, `message.typing`: absent or falsy means the room of `message_id`.
    OrMessage,
}

/// The room that an event names; nothing only for [`RoomIdStyle::OrMessage`].
///
/// # Errors
/// 4003 or 4004, as the table of S2-21 has it.
pub fn room_id(data: &Map<String, Value>, style: RoomIdStyle) -> Result<Option<Uuid>, ChatError> {
    use RoomIdStyle::{Lenient, OrMessage, Required};
    let not_found = || ChatError::NotFound { diagnosis: Diagnosis::CHAT_ROOM_NOT_FOUND };
    let wrong_type = || ChatError::rule("Invalid room_id type", Diagnosis::CHAT_MISSING_FIELD);
    let value = data.get("room_id").unwrap_or(&Value::Null);
    if style == OrMessage && is_falsy(value) {
        return Ok(None);
    }
    match (value, style) {
        (Value::String(text), _) => parse(text).map(Some),
        (Value::Number(number), _) if is_whole(number) => Err(not_found()),
        (Value::Number(number), _) if number.is_i64() => Err(not_a_uuid(&number.to_string())),
        (Value::Null | Value::Bool(_), Lenient) => Err(not_found()),
        (other, Lenient) => Err(not_a_uuid(&other.to_string())),
        (_, Required | OrMessage) => Err(wrong_type()),
    }
}

/// Whether a number is an integer that is not negative. Those beyond 64 bits come as floating-point numbers.
fn is_whole(number: &serde_json::Number) -> bool {
    const FIRST_LARGE: f64 = 18_446_744_073_709_551_616.0;
    number.is_u64() || number.as_f64().is_some_and(|number| number >= FIRST_LARGE)
}

/// Whether a value counts as absent where the package asks for truth.
pub fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// One message id: a text. An integer is well-formed and names nothing.
///
/// # Errors
/// 4003 for what is no id, 4004 for integers.
pub fn message_id(value: &Value) -> Result<Uuid, ChatError> {
    match value {
        Value::String(text) => parse(text),
        Value::Number(number) if number.is_u64() => Err(message_not_found()),
        Value::Number(number) if number.is_i64() => Err(not_a_uuid(&number.to_string())),
        _ => Err(ChatError::rule("Invalid message_id type", Diagnosis::CHAT_MISSING_FIELD)),
    }
}

/// 4004 for a message.
pub fn message_not_found() -> ChatError {
    ChatError::NotFound { diagnosis: Diagnosis::CHAT_MESSAGE_NOT_FOUND }
}

/// A UUID in any case, with or without dashes.
///
/// # Errors
/// 4003 with one text.
pub fn parse(text: &str) -> Result<Uuid, ChatError> {
    Uuid::try_parse(text).map_err(|_| not_a_uuid(text))
}

fn not_a_uuid(text: &str) -> ChatError {
    let shown: String = text.chars().take(100).collect();
    ChatError::rule(format!("\u{201c}{shown}\u{201d} is not a valid UUID."), Diagnosis::CHAT_MISSING_FIELD)
}

/// A user's id; nothing for a value that is none.
pub fn user_id(value: &Value, settings: &Settings) -> Option<UserId> {
    match settings.user_ids {
        UserIds::Integer => {
            let id = match value {
                Value::Number(number) => number.as_i64()?,
                Value::String(text) => {
                    let is_plain = (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
                    let id = text.parse::<i64>().ok().filter(|_| is_plain)?;
                    (text == "0" || !text.starts_with('0')).then_some(id)?
                }
                _ => return None,
            };
            Some(UserId(id.to_string().into()))
        }
        UserIds::Text => match value {
            Value::Number(number) if number.is_i64() || number.is_u64() => {
                Some(UserId(number.to_string().into()))
            }
            // PostgreSQL has no NUL in texts.
            Value::String(text) if !text.is_empty() && !text.contains('\0') => {
                Some(UserId(text.as_str().into()))
            }
            _ => None,
        },
    }
}

/// The `message_id` of events that take one or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageIds {
    /// In the order of the event, with duplicates.
    pub ids: Vec<Uuid>,
    /// As the client wrote them.
    pub written: Vec<Value>,
    /// A list, also of one.
    pub is_list: bool,
}

/// One message id or a list of them, which may be empty.
///
/// # Errors
/// 4003 when any is no id, otherwise 4004 when any is a number or `null`: these name nothing.
pub fn message_ids(data: &Map<String, Value>) -> Result<MessageIds, ChatError> {
    let value = data.get("message_id").unwrap_or(&Value::Null);
    let Value::Array(items) = value else {
        return Ok(MessageIds {
            ids: vec![message_id(value)?],
            written: vec![value.clone()],
            is_list: false,
        });
    };
    let mut ids = Vec::with_capacity(items.len());
    let mut missing = None;
    for item in items {
        let id = if item.is_null() { Err(message_not_found()) } else { message_id(item) };
        match id {
            Ok(id) => ids.push(id),
            Err(error @ ChatError::NotFound { .. }) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) => Err(error),
        None => Ok(MessageIds { ids, written: items.clone(), is_list: true }),
    }
}
