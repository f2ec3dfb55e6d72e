//! `room.modify`.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_store::sql::SqlValue;

use super::fields::{self, Errors, NO_DATA, PREFERENCES, type_name};
use super::{dispatch_deleted, named};
use crate::error::ChatError;
use crate::event::Ctx;
use crate::extension;
use crate::field;
use crate::model::{Room, RoomKind, UserId};
use crate::store::members::{self, Participant};
use crate::value::{RoomIdStyle, is_falsy};
use crate::{permission, present};

/// What is to be done with a room, but for its deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Update,
    /// Admins of a group, moderators of a channel.
    SetRole {
        kind: RoomKind,
        is_admin: bool,
    },
    SetPermission {
        is_granted: bool,
    },
}

impl Action {
    fn find(name: &str) -> Option<Self> {
        Some(match name {
            "update" => Self::Update,
            "add_admin" => Self::SetRole { kind: RoomKind::Group, is_admin: true },
            "remove_admin" => Self::SetRole { kind: RoomKind::Group, is_admin: false },
            "add_moderator" => Self::SetRole { kind: RoomKind::Channel, is_admin: true },
            "remove_moderator" => Self::SetRole { kind: RoomKind::Channel, is_admin: false },
            "add_permission" => Self::SetPermission { is_granted: true },
            "remove_permission" => Self::SetPermission { is_granted: false },
            _ => return None,
        })
    }
}

/// Handles the event.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let mut room = named(ctx, data, RoomIdStyle::Lenient)?;
    let action = data.get("action").unwrap_or(&Value::Null);
    if action == "delete" {
        permission::room::delete(ctx, &room)?;
        let audience = ctx.room_audience(room.id)?;
        members::delete_room(ctx.tx, room.id)?;
        dispatch_deleted(ctx, audience, room.id);
        return Ok(());
    }
    permission::room::modify(ctx, &room)?;
    if is_falsy(action) {
        return Err(ChatError::rule("Action must be provided", Diagnosis::CHAT_MISSING_FIELD));
    }
    let action = action.as_str().and_then(Action::find);
    let action = action.ok_or_else(|| ChatError::rule("Invalid action type", Diagnosis::CHAT_BAD_PAYLOAD))?;
    let change = data.get("data").unwrap_or(&Value::Null);
    if is_falsy(change) {
        return Err(ChatError::rule("data must be provided", Diagnosis::CHAT_MISSING_FIELD));
    }
    let Value::Object(change) = change else {
        return Err(ChatError::rule("data must be an object", Diagnosis::CHAT_BAD_PAYLOAD));
    };
    match action {
        Action::Update => update(ctx, &mut room, change)?,
        // A one-to-one chat has neither roles nor permissions; its members are told that nothing happened.
        Action::SetRole { .. } | Action::SetPermission { .. } if room.kind == RoomKind::OneToOne => {}
        Action::SetRole { kind, is_admin } => set_roles(ctx, &room, change, kind, is_admin)?,
        Action::SetPermission { is_granted } => set_permissions(ctx, &room, change, is_granted)?,
    }
    let participants = members::participants(ctx.tx, room.id)?;
    let detail = present::room::detail_with(ctx, &room, &participants)?;
    ctx.dispatch(super::audience(&participants), "roomupdate.dispatch", detail);
    Ok(())
}

fn update(ctx: &mut Ctx<'_>, room: &mut Room, change: &Map<String, Value>) -> Result<(), ChatError> {
    let before = room.clone();
    let mut errors = Errors::default();
    if room.kind != RoomKind::OneToOne {
        if let Some(name) = given(change, "name") {
            let name = errors.take("name", fields::name(name, ctx.settings));
            room.name = name.map_or_else(|| room.name.clone(), |name| Some(name.into()));
        }
        let description =
            given(change, "description").map_or(Ok(None), |text| fields::description(text, ctx.settings));
        replace(&mut room.description, errors.take("description", description));
        let avatar = given(change, "avatar").map_or(Ok(None), fields::avatar);
        replace(&mut room.avatar, errors.take("avatar", avatar));
    }
    let flag = |name: &str, value: &mut bool| {
        if let Some(Value::Bool(given)) = change.get(name) {
            *value = *given;
        }
    };
    match room.kind {
        RoomKind::OneToOne => {}
        RoomKind::Group => {
            flag("group_locked", &mut room.is_locked);
            flag("join_approval_required", &mut room.needs_approval);
        }
        RoomKind::Channel => flag("is_public", &mut room.is_public),
    }
    let mut is_rule_broken = false;
    match change.get("property") {
        None => {}
        Some(Value::Object(property)) => match property.get("preferences") {
            None => {}
            Some(Value::Object(preferences)) => room.preferences = Value::Object(preferences.clone()),
            Some(Value::Null) => errors.add("preferences", field::NULL),
            Some(_) => is_rule_broken = true,
        },
        Some(Value::Null) => errors.add("non_field_errors", NO_DATA),
        Some(other) => {
            let got = format!("Invalid data. Expected a dictionary, but got {}.", type_name(other));
            errors.add("non_field_errors", &got);
        }
    }
    errors.finish()?;
    if is_rule_broken {
        return Err(ChatError::rule(PREFERENCES, Diagnosis::CHAT_BAD_PAYLOAD));
    }
    if let Some(further) =
        extension::fields::of_update(ctx.settings.fields.of_room(room.kind), &room.fields, change)?
    {
        room.fields = further;
    }
    if *room != before {
        room.updated_at = ctx.now.max(room.updated_at);
        store(ctx, room)?;
    }
    Ok(())
}

/// A text that is to change: what counts as nothing changes nothing.
fn given<'v>(change: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    change.get(name).filter(|value| !is_falsy(value))
}

/// A text of blanks is as good as none.
fn replace(text: &mut Option<Arc<str>>, new: Option<Option<String>>) {
    if let Some(new) = new.flatten().filter(|new| !new.is_empty()) {
        *text = Some(new.into());
    }
}

fn store(ctx: &mut Ctx<'_>, room: &Room) -> Result<(), ChatError> {
    let sql = "UPDATE chat_room SET name = ?2, description = ?3, avatar = ?4, locked = ?5, approval = ?6, is_public = ?7, \
               preferences = ?8, updated_at = ?9, fields = ?10 WHERE id = ?1";
    let parameters = [
        SqlValue::from(room.id.into_bytes()),
        SqlValue::from(room.name.clone()),
        SqlValue::from(room.description.clone()),
        SqlValue::from(room.avatar.clone()),
        SqlValue::from(room.is_locked),
        SqlValue::from(room.needs_approval),
        SqlValue::from(room.is_public),
        SqlValue::from(room.preferences.to_string()),
        SqlValue::from(room.updated_at),
        SqlValue::from(room.fields.is_object().then(|| room.fields.to_string())),
    ];
    ctx.tx.execute(sql, &parameters)?;
    Ok(())
}

fn set_roles(
    ctx: &mut Ctx<'_>,
    room: &Room,
    change: &Map<String, Value>,
    kind: RoomKind,
    is_admin: bool,
) -> Result<(), ChatError> {
    if room.kind != kind {
        let text = if kind == RoomKind::Group {
            "Room should be a group chat to modify the admins"
        } else {
            "Room should be a channel to modify the moderators"
        };
        return Err(ChatError::rule(text, Diagnosis::CHAT_INVALID_ROOM_TYPE));
    }
    let ids = users(ctx, change)?;
    for user in affected(ctx, room, &ids)? {
        members::set_admin(ctx.tx, room.id, &user, is_admin)?;
        if !is_admin {
            // Also what was granted singly, before or beside the role.
            let sql = "DELETE FROM chat_permission WHERE room = ?1 AND user_id = ?2";
            ctx.tx.execute(sql, &[SqlValue::from(room.id.into_bytes()), SqlValue::Text(user.0)])?;
        }
    }
    Ok(())
}

fn set_permissions(
    ctx: &mut Ctx<'_>,
    room: &Room,
    change: &Map<String, Value>,
    is_granted: bool,
) -> Result<(), ChatError> {
    let ids = users(ctx, change)?;
    let names = permissions(room.kind, change)?;
    let sql = if is_granted {
        "INSERT INTO chat_permission (room, user_id, name) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM chat_permission WHERE room = ?1 AND user_id = ?2 AND name = ?3"
    };
    for user in affected(ctx, room, &ids)? {
        for name in &names {
            let parameters =
                [SqlValue::from(room.id.into_bytes()), SqlValue::Text(user.0.clone()), SqlValue::from(*name)];
            ctx.tx.execute(sql, &parameters)?;
        }
    }
    Ok(())
}

/// `users`: well-formed ids, each once.
fn users(ctx: &Ctx<'_>, change: &Map<String, Value>) -> Result<Vec<UserId>, ChatError> {
    let value = change.get("users").unwrap_or(&Value::Null);
    if is_falsy(value) {
        return Err(ChatError::rule("User ids must be provided", Diagnosis::CHAT_MISSING_FIELD));
    }
    let Value::Array(items) = value else {
        return Err(ChatError::rule("User ids must be a list/array", Diagnosis::CHAT_BAD_PAYLOAD));
    };
    fields::user_ids(items, ctx.settings)
}

/// `permission`: names of permissions of this kind of room, each once.
fn permissions(kind: RoomKind, change: &Map<String, Value>) -> Result<Vec<&'static str>, ChatError> {
    let value = change.get("permission").unwrap_or(&Value::Null);
    if is_falsy(value) {
        let text = "Permission to add or remove should be passed";
        return Err(ChatError::rule(text, Diagnosis::CHAT_MISSING_FIELD));
    }
    let Value::Array(items) = value else {
        return Err(ChatError::rule("Permission must be a list", Diagnosis::CHAT_BAD_PAYLOAD));
    };
    let known = permission::room::names(kind);
    if let Some(unknown) = items.iter().find(|item| !known.iter().any(|name| item == name)) {
        let shown = unknown.as_str().map_or_else(|| unknown.to_string(), str::to_owned);
        let shown: String = shown.chars().take(100).collect();
        let kind = if kind == RoomKind::Group { "group chat" } else { "channel" };
        let text = format!("Permission '{shown}' is not a valid {kind} permission");
        return Err(ChatError::rule(text, Diagnosis::CHAT_BAD_PAYLOAD));
    }
    Ok(known.iter().copied().filter(|name| items.iter().any(|item| item == name)).collect())
}

/// Those of these users who are in the room; never its creator, whose rights nobody changes.
fn affected(ctx: &mut Ctx<'_>, room: &Room, ids: &[UserId]) -> Result<Vec<UserId>, ChatError> {
    let participants = members::participants(ctx.tx, room.id)?;
    let ids: HashSet<&UserId> = ids.iter().collect();
    let is_named = |participant: &Participant| ids.contains(&participant.user.id);
    let is_creator = |participant: &Participant| room.creator.as_ref() == Some(&participant.user.id);
    let affected = participants.into_iter().filter(|member| is_named(member) && !is_creator(member));
    Ok(affected.map(|member| member.user.id).collect())
}
