//! Events about messages.

pub mod acknowledged;
pub mod attachment;
pub mod history;
pub mod modify;
pub mod react;
pub mod read;
pub mod send;
pub mod typing;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::Ctx;
use crate::store::messages;
use crate::value::{self, RoomIdStyle};

/// The room that an event names by `room_id`, or else by one of its messages.
fn room_of_event(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<Uuid, ChatError> {
    if let Some(room) = value::room_id(data, RoomIdStyle::OrMessage)? {
        return Ok(room);
    }
    let message = value::message_id(data.get("message_id").unwrap_or(&Value::Null))?;
    messages::room_of(ctx.tx, message)
}

#[cfg(test)]
mod tests;
