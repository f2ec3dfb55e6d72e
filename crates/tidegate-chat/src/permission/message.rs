//! Permissions about messages.

use tidegate_core::diagnosis::Diagnosis;
use tidegate_store::sql::{SqlRow, SqlValue};
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::Ctx;
use crate::model::RoomKind;
use crate::store::messages::Target;

const SEND: &str = "User is not authorized to send message to this room";
const ACCESS: &str = "User is not authorized to access this message";
const MODIFY: &str = "User is not authorized to modify this message";
const READ_ROOM: &str = "User is not authorized access this room";

/// Whether the actor may write into a room, and so be seen typing there.
///
/// # Errors
/// 4004 for a room that does not exist, 4002 for one that the actor may not write into; the database.
pub fn can_send(ctx: &mut Ctx<'_>, room: Uuid) -> Result<(), ChatError> {
    let sql = "SELECT r.kind, r.creator, r.locked, m.is_admin, p.name FROM chat_room r \
               LEFT JOIN chat_member m ON m.room = r.id AND m.user_id = ?2 \
               LEFT JOIN chat_permission p ON p.room = m.room AND p.user_id = m.user_id AND p.name = 'can_send_messages' \
               WHERE r.id = ?1";
    let actor = &ctx.actor.id;
    let rows = ctx.tx.query(sql, &[SqlValue::from(room.into_bytes()), SqlValue::Text(actor.0.clone())])?;
    let row = rows.first().ok_or(ChatError::NotFound { diagnosis: Diagnosis::CHAT_ROOM_NOT_FOUND })?;
    let Some(is_admin) = row.optional(3, SqlRow::bool)? else {
        return Err(ChatError::Permission { text: SEND, diagnosis: Diagnosis::CHAT_NOT_MEMBER });
    };
    let kind = row.text(0)?;
    let kind = RoomKind::find(&kind).ok_or_else(|| ChatError::Internal(format!("a room of kind {kind}")))?;
    let is_creator = row.optional(1, SqlRow::text)?.is_some_and(|creator| creator == actor.0);
    let has_role = is_creator || is_admin;
    let is_allowed = match kind {
        RoomKind::OneToOne => true,
        RoomKind::Group => has_role || !row.bool(2)?,
        RoomKind::Channel => has_role || row.optional(4, SqlRow::text)?.is_some(),
    };
    if is_allowed {
        Ok(())
    } else {
        Err(ChatError::Permission { text: SEND, diagnosis: Diagnosis::CHAT_NOT_OWNER })
    }
}

/// Whether the actor may see these messages: a member of the room of every one.
///
/// # Errors
/// 4002.
pub fn can_access(targets: &[Target]) -> Result<(), ChatError> {
    if targets.iter().all(|target| target.is_member) { Ok(()) } else { Err(no_access()) }
}

/// What those who may not see a message are told.
pub fn no_access() -> ChatError {
    ChatError::Permission { text: ACCESS, diagnosis: Diagnosis::CHAT_NOT_MEMBER }
}

/// Whether the actor may change these messages: only those of its own, also for admins and creators.
///
/// # Errors
/// 4002.
pub fn can_modify(ctx: &Ctx<'_>, targets: &[Target]) -> Result<(), ChatError> {
    if targets.iter().all(|target| target.sender.as_ref() == Some(&ctx.actor.id)) {
        Ok(())
    } else {
        Err(ChatError::Permission { text: MODIFY, diagnosis: Diagnosis::CHAT_NOT_OWNER })
    }
}

/// Whether the actor may read what was said in a room.
///
/// # Errors
/// 4004 for a room that does not exist, 4002 for one that the actor is not in; the database.
pub fn can_read_room(ctx: &mut Ctx<'_>, room: Uuid) -> Result<(), ChatError> {
    let sql = "SELECT m.user_id FROM chat_room r LEFT JOIN chat_member m ON m.room = r.id AND m.user_id = ?2 \
               WHERE r.id = ?1";
    let actor = SqlValue::Text(ctx.actor.id.0.clone());
    let rows = ctx.tx.query(sql, &[SqlValue::from(room.into_bytes()), actor])?;
    let row = rows.first().ok_or(ChatError::NotFound { diagnosis: Diagnosis::CHAT_ROOM_NOT_FOUND })?;
    match row.optional(0, SqlRow::text)? {
        Some(_) => Ok(()),
        None => Err(ChatError::Permission { text: READ_ROOM, diagnosis: Diagnosis::CHAT_NOT_MEMBER }),
    }
}
