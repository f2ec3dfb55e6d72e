//! Permissions about rooms.

use tidegate_core::diagnosis::Diagnosis;

use crate::error::ChatError;
use crate::event::Ctx;
use crate::model::{Member, Room, RoomKind};
use crate::store::rooms;

/// What members of a room of this kind can be permitted singly. Admins and moderators may do all of it.
pub const fn names(kind: RoomKind) -> &'static [&'static str] {
    match kind {
        RoomKind::OneToOne => &[],
        RoomKind::Group => &["can_add_new_participants", "can_remove_participants"],
        RoomKind::Channel => &["can_add_new_subscribers", "can_remove_subscribers", "can_send_messages"],
    }
}

/// See the room, its messages, and leave it: members.
///
/// # Errors
/// 4002, and the database.
pub fn access(ctx: &mut Ctx<'_>, room: &Room) -> Result<Member, ChatError> {
    membership(ctx, room, "User is not authorized access this room")
}

/// Add members: creator, admins, and whoever is permitted to.
///
/// # Errors
/// 4002, and the database.
pub fn add_members(ctx: &mut Ctx<'_>, room: &Room) -> Result<(), ChatError> {
    let name = match room.kind {
        RoomKind::OneToOne | RoomKind::Group => "can_add_new_participants",
        RoomKind::Channel => "can_add_new_subscribers",
    };
    administer_or(ctx, room, name, "User is not authorized to add new members to this room")
}

/// Remove members: creator, admins, and whoever is permitted to.
///
/// # Errors
/// 4002, and the database.
pub fn remove_members(ctx: &mut Ctx<'_>, room: &Room) -> Result<(), ChatError> {
    let name = match room.kind {
        RoomKind::OneToOne | RoomKind::Group => "can_remove_participants",
        RoomKind::Channel => "can_remove_subscribers",
    };
    administer_or(ctx, room, name, "User is not authorized to remove members from this room")
}

/// Change the room: creator and admins, of a one-to-one chat both.
///
/// # Errors
/// 4002, and the database.
pub fn modify(ctx: &mut Ctx<'_>, room: &Room) -> Result<(), ChatError> {
    let text = "User is not an admin of this room";
    let member = membership(ctx, room, text)?;
    if room.kind == RoomKind::OneToOne || is_creator(room, &member) || member.is_admin {
        return Ok(());
    }
    Err(ChatError::Permission { text, diagnosis: Diagnosis::CHAT_NOT_OWNER })
}

/// Delete the room: its creator, of a one-to-one chat both.
///
/// # Errors
/// 4002, and the database.
pub fn delete(ctx: &mut Ctx<'_>, room: &Room) -> Result<(), ChatError> {
    let text = "User is not the creator of this room";
    let member = membership(ctx, room, text)?;
    if room.kind == RoomKind::OneToOne || is_creator(room, &member) {
        return Ok(());
    }
    Err(ChatError::Permission { text, diagnosis: Diagnosis::CHAT_NOT_OWNER })
}

fn membership(ctx: &mut Ctx<'_>, room: &Room, text: &'static str) -> Result<Member, ChatError> {
    rooms::member(ctx.tx, room.id, &ctx.actor.id)?
        .ok_or(ChatError::Permission { text, diagnosis: Diagnosis::CHAT_NOT_MEMBER })
}

fn administer_or(
    ctx: &mut Ctx<'_>,
    room: &Room,
    permission: &str,
    text: &'static str,
) -> Result<(), ChatError> {
    let member = membership(ctx, room, text)?;
    if is_creator(room, &member)
        || member.is_admin
        || rooms::has_permission(ctx.tx, room.id, &member.user, permission)?
    {
        return Ok(());
    }
    Err(ChatError::Permission { text, diagnosis: Diagnosis::CHAT_NOT_OWNER })
}

/// The rights of a creator end with membership and come back with it, so a member is asked for.
fn is_creator(room: &Room, member: &Member) -> bool {
    room.creator.as_ref() == Some(&member.user)
}
