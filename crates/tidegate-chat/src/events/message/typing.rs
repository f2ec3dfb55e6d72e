//! `message.typing`: told to the room, kept nowhere.

use serde_json::{Map, Value, json};

use crate::error::ChatError;
use crate::event::Ctx;
use crate::events::message::room_of_event;
use crate::permission;

/// Handles the event.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let room = room_of_event(ctx, data)?;
    permission::message::can_send(ctx, room)?;
    let mut typing = json!({ "username": &*ctx.actor.username });
    if ctx.settings.typing_room {
        typing["room_id"] = Value::from(room.to_string());
    }
    ctx.dispatch_to_room(room, "messagetyping.dispatch", typing)
}
