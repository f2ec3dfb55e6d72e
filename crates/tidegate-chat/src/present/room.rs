//! Rooms, in detail and in lists.

use serde_json::Value;

use crate::error::ChatError;
use crate::event::Ctx;
use crate::model::Room;

/// A room in detail: with members, without the last message.
///
/// # Errors
/// The database.
pub fn detail(ctx: &mut Ctx<'_>, room: &Room) -> Result<Value, ChatError> {
    let _ = (ctx, room);
    Err(ChatError::Internal("not built yet".to_owned()))
}
