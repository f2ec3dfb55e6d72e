//! `room.leave`.

use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;

use super::{dispatch_deleted, named};
use crate::error::ChatError;
use crate::event::Ctx;
use crate::model::RoomKind;
use crate::store::members;
use crate::value::RoomIdStyle;
use crate::{permission, present};

/// Handles the event. The room goes with the last one.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let room = named(ctx, data, RoomIdStyle::Required)?;
    permission::room::access(ctx, &room)?;
    if room.kind == RoomKind::OneToOne {
        let text = "You can only leave a channel/group chat";
        return Err(ChatError::rule(text, Diagnosis::CHAT_INVALID_ROOM_TYPE));
    }
    let leaver = ctx.actor;
    members::remove(ctx, room.id, &leaver.id)?;
    let mut rest = members::participants(ctx.tx, room.id)?;
    if rest.is_empty() {
        members::delete_room(ctx.tx, room.id)?;
        dispatch_deleted(ctx, ctx.own_audience(), room.id);
        return Ok(());
    }
    if ctx.settings.promote_on_vacancy {
        members::fill_vacancy(ctx.tx, &room, &mut rest)?;
    }
    let detail = present::room::detail_with(ctx, &room, &rest)?;
    let message = format!("You left {}", room.name.as_deref().unwrap_or_default());
    ctx.dispatch(ctx.own_audience(), "roomexit.dispatch", json!({ "room": detail, "message": message }));
    let names = [leaver.username.clone()];
    super::members::dispatch_removed(ctx, detail, &rest, &names, "self");
    Ok(())
}
