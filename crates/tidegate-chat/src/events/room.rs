//! Events about rooms.

pub mod create;
mod fields;
pub mod info;
pub mod join;
pub mod leave;
pub mod list;
pub mod members;
pub mod modify;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::{Audience, Ctx};
use crate::model::{Room, RoomKind};
use crate::store::members::Participant;
use crate::store::rooms;
use crate::value::{self, RoomIdStyle};

/// The room that an event names.
fn named(ctx: &mut Ctx<'_>, data: &Map<String, Value>, style: RoomIdStyle) -> Result<Room, ChatError> {
    let not_found = || ChatError::NotFound { diagnosis: Diagnosis::CHAT_ROOM_NOT_FOUND };
    let id = value::room_id(data, style)?.ok_or_else(not_found)?;
    rooms::find(ctx.tx, id)?.ok_or_else(not_found)
}

/// What is said when a room would get more members than it may have.
fn too_many(kind: RoomKind) -> ChatError {
    let text = match kind {
        RoomKind::OneToOne => "A one to one chat can only have 2 participants",
        RoomKind::Group => "Maximum number of group participants exceeded",
        RoomKind::Channel => "Maximum number of channel subscribers exceeded",
    };
    ChatError::rule(text, Diagnosis::CHAT_BAD_PAYLOAD)
}

/// Whether that many members are more than a room may have.
fn exceeds(count: usize, cap: i64) -> bool {
    i64::try_from(count).is_ok_and(|count| count > cap)
}

/// All connections of these members.
fn audience(participants: &[Participant]) -> Audience {
    Audience::Users(participants.iter().map(|participant| participant.user.id.clone()).collect())
}

/// Tells an audience that a room is gone.
fn dispatch_deleted(ctx: &mut Ctx<'_>, audience: Audience, room: Uuid) {
    ctx.dispatch(audience, "roomdelete.dispatch", json!({ "room_id": room.to_string() }));
}
