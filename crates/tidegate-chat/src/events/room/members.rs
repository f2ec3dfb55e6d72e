//! `room.add_members` and `room.remove_members`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;

use super::{audience, dispatch_deleted, exceeds, fields, named, too_many};
use crate::error::ChatError;
use crate::event::{Audience, Ctx};
use crate::field;
use crate::model::{Room, RoomKind, UserId};
use crate::store::directory;
use crate::store::members::{self, Participant};
use crate::value::RoomIdStyle;
use crate::{permission, present};

/// Handles the event. Who is there already is passed over.
///
/// # Errors
/// [`ChatError`]
pub fn add(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let room = group_or_channel(ctx, data)?;
    permission::room::add_members(ctx, &room)?;
    let mut new = named_users(ctx, data)?;
    let mut participants = members::participants(ctx.tx, room.id)?;
    let present: HashSet<&UserId> = participants.iter().map(|participant| &participant.user.id).collect();
    new.retain(|id| !present.contains(id));
    let new = existing(ctx, &new)?;
    if !new.is_empty() && exceeds(participants.len() + new.len(), room.cap) {
        return Err(too_many(room.kind));
    }
    members::add(ctx.tx, room.id, &new, ctx.now)?;
    let names: Vec<Arc<str>> = new.iter().map(|participant| participant.user.username.clone()).collect();
    participants.extend(new);
    let actor = ctx.actor;
    dispatch_added(ctx, &room, &participants, &names, &actor.username)
}

/// Handles the event. Who is not there is passed over, and so is the creator, unless it is the creator who asks. The room goes
/// with the last one.
///
/// # Errors
/// [`ChatError`]
pub fn remove(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let room = group_or_channel(ctx, data)?;
    permission::room::remove_members(ctx, &room)?;
    let ids = named_users(ctx, data)?;
    let participants = members::participants(ctx.tx, room.id)?;
    let mut present: HashMap<&UserId, &Participant> =
        participants.iter().map(|participant| (&participant.user.id, participant)).collect();
    let strangers: Vec<UserId> = ids.iter().filter(|id| !present.contains_key(id)).cloned().collect();
    existing(ctx, &strangers)?;
    let actor = ctx.actor;
    let is_protected = |id: &UserId| room.creator.as_ref() == Some(id) && *id != actor.id;
    let removed: Vec<&Participant> =
        ids.iter().filter(|id| !is_protected(id)).filter_map(|id| present.remove(id)).collect();
    for participant in &removed {
        members::remove(ctx, room.id, &participant.user.id)?;
    }
    let gone: HashSet<&UserId> = removed.iter().map(|participant| &participant.user.id).collect();
    let mut rest: Vec<Participant> =
        participants.iter().filter(|participant| !gone.contains(&participant.user.id)).cloned().collect();
    let removed_audience =
        Audience::Users(removed.iter().map(|participant| participant.user.id.clone()).collect());
    if rest.is_empty() {
        members::delete_room(ctx.tx, room.id)?;
        dispatch_deleted(ctx, removed_audience, room.id);
        return Ok(());
    }
    if ctx.settings.promote_on_vacancy {
        members::fill_vacancy(ctx.tx, &room, &mut rest)?;
    }
    let detail = present::room::detail_with(ctx, &room, &rest)?;
    if !removed.is_empty() {
        let message = format!("You have been removed by {}", actor.username);
        ctx.dispatch(removed_audience, "roomexit.dispatch", json!({ "room": detail, "message": message }));
    }
    let names: Vec<Arc<str>> = removed.iter().map(|participant| participant.user.username.clone()).collect();
    dispatch_removed(ctx, detail, &rest, &names, &actor.username);
    Ok(())
}

/// Tells a room who came.
///
/// # Errors
/// The database.
pub(super) fn dispatch_added(
    ctx: &mut Ctx<'_>,
    room: &Room,
    participants: &[Participant],
    names: &[Arc<str>],
    by: &str,
) -> Result<(), ChatError> {
    let detail = present::room::detail_with(ctx, room, participants)?;
    let names = Value::from_iter(names.iter().map(|name| Value::from(&**name)));
    let data = json!({ "room": detail, "new_members": names, "added_by": by });
    ctx.dispatch(audience(participants), "roomaddmembers.dispatch", data);
    Ok(())
}

/// Tells those who are still there who went.
pub(super) fn dispatch_removed(
    ctx: &mut Ctx<'_>,
    detail: Value,
    rest: &[Participant],
    names: &[Arc<str>],
    by: &str,
) {
    let names = Value::from_iter(names.iter().map(|name| Value::from(&**name)));
    let data = json!({ "room": detail, "removed_members": names, "removed_by": by });
    ctx.dispatch(audience(rest), "roomremovemembers.dispatch", data);
}

/// The room. That it is no one-to-one chat is checked before permission, as clients of the package know it.
fn group_or_channel(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<Room, ChatError> {
    let room = named(ctx, data, RoomIdStyle::Required)?;
    if room.kind == RoomKind::OneToOne {
        let text = "Invalid room, Can only add or remove members from Groups/Channels";
        return Err(ChatError::rule(text, Diagnosis::CHAT_INVALID_ROOM_TYPE));
    }
    Ok(room)
}

/// `members`: well-formed ids, each once.
fn named_users(ctx: &Ctx<'_>, data: &Map<String, Value>) -> Result<Vec<UserId>, ChatError> {
    let items = match data.get("members") {
        Some(Value::Array(items)) => items,
        Some(Value::Null) => return Err(ChatError::field("members", field::NULL)),
        Some(_) => return Err(ChatError::field("members", "Expected a list of items.")),
        None => return Err(ChatError::field("members", field::REQUIRED)),
    };
    let ids = fields::user_ids(items.iter().filter(|item| !item.is_null()), ctx.settings)?;
    if items.iter().any(Value::is_null) { Err(user_not_found()) } else { Ok(ids) }
}

/// The users of these ids, all of them.
fn existing(ctx: &mut Ctx<'_>, ids: &[UserId]) -> Result<Vec<Participant>, ChatError> {
    let mut known = directory::named(ctx, ids)?;
    let participant = |id| known.remove(id).map(|user| Participant { user, is_admin: false });
    ids.iter().map(participant).collect::<Option<_>>().ok_or_else(user_not_found)
}

fn user_not_found() -> ChatError {
    // The catalogue has no row for users.
    ChatError::NotFound { diagnosis: Diagnosis::CHAT_BAD_PAYLOAD }
}
