//! `room.create`.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_store::sql::SqlValue;

use super::fields::{self, Errors, NO_DATA, PREFERENCES, PROPERTY};
use super::{audience, exceeds, too_many};
use crate::error::ChatError;
use crate::event::Ctx;
use crate::extension;
use crate::field;
use crate::model::{Room, RoomKind, UserId};
use crate::present;
use crate::settings::Settings;
use crate::store::directory;
use crate::store::members::{self, Participant};
use crate::value::is_falsy;

/// Handles the event.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let kind = data.get("type").and_then(Value::as_str).and_then(|name| ctx.settings.type_names.find(name));
    let kind =
        kind.ok_or_else(|| ChatError::rule("Invalid resource type", Diagnosis::CHAT_INVALID_ROOM_TYPE))?;
    let data = merged(data)?;
    let room = room(ctx, kind, &data)?;
    let participants = participants(ctx, &room, &data)?;
    insert(ctx, &room, &participants)?;
    let detail = present::room::detail_with(ctx, &room, &participants)?;
    ctx.dispatch(audience(&participants), "roomcreate.dispatch", detail);
    Ok(())
}

/// Fields in `extra_fields` go before those beside it.
fn merged(data: &Map<String, Value>) -> Result<Cow<'_, Map<String, Value>>, ChatError> {
    match data.get("extra_fields") {
        None => Ok(Cow::Borrowed(data)),
        Some(Value::Object(extra)) => {
            let mut merged = data.clone();
            merged.extend(extra.iter().map(|(name, value)| (name.clone(), value.clone())));
            Ok(Cow::Owned(merged))
        }
        Some(_) => Err(ChatError::field("extra_fields", "Expected an object.")),
    }
}

/// The room that the event describes.
fn room(ctx: &Ctx<'_>, kind: RoomKind, data: &Map<String, Value>) -> Result<Room, ChatError> {
    let mut errors = Errors::default();
    let mut room = Room {
        id: ctx.new_id(),
        kind,
        creator: (kind != RoomKind::OneToOne).then(|| ctx.actor.id.clone()),
        name: None,
        description: None,
        avatar: None,
        cap: 2,
        is_locked: false,
        needs_approval: false,
        is_public: false,
        preferences: Value::Null,
        fields: Value::Null,
        last_message: None,
        created_at: ctx.now,
        updated_at: ctx.now,
    };
    if kind != RoomKind::OneToOne {
        let name = data
            .get("name")
            .map_or_else(|| Err(field::REQUIRED.to_owned()), |name| fields::name(name, ctx.settings));
        room.name = errors.take("name", name).map(Into::into);
        let description =
            data.get("description").map_or(Ok(None), |text| fields::description(text, ctx.settings));
        room.description = errors.take("description", description).flatten().map(Into::into);
        let avatar = data.get("avatar").map_or(Ok(None), fields::avatar);
        room.avatar = errors.take("avatar", avatar).flatten().map(Into::into);
    }
    let mut integer = |name: &str, default| {
        errors.take(name, data.get(name).map_or(Ok(default), field::integer)).unwrap_or_default()
    };
    match kind {
        RoomKind::OneToOne => {}
        RoomKind::Group => room.cap = integer("max_participants", 100),
        RoomKind::Channel => room.cap = integer("max_subscribers", 300),
    }
    let mut flag =
        |name: &str| errors.take(name, data.get(name).map_or(Ok(false), field::boolean)).unwrap_or_default();
    match kind {
        RoomKind::OneToOne => {}
        RoomKind::Group => {
            room.needs_approval = flag("join_approval_required");
            room.is_locked = flag("group_locked");
        }
        RoomKind::Channel => room.is_public = flag("is_public"),
    }
    let preferences = preferences(data, &mut errors);
    room.fields = extension::fields::at_creation(ctx.settings.fields.of_room(kind), data, errors.fields());
    errors.finish()?;
    room.preferences = preferences?;
    Ok(room)
}

/// `property.preferences`: nulls are errors of fields, other values that are no objects break a rule.
fn preferences(data: &Map<String, Value>, errors: &mut Errors) -> Result<Value, ChatError> {
    let preferences = match data.get("property") {
        Some(Value::Null) => {
            errors.add("non_field_errors", NO_DATA);
            None
        }
        Some(Value::Object(property)) => property.get("preferences"),
        Some(value) if !is_falsy(value) => {
            return Err(ChatError::rule(PROPERTY, Diagnosis::CHAT_BAD_PAYLOAD));
        }
        Some(_) | None => None,
    };
    match preferences {
        Some(Value::Null) => errors.add("preferences", field::NULL),
        Some(Value::Object(preferences)) => return Ok(Value::Object(preferences.clone())),
        Some(value) if !is_falsy(value) => {
            return Err(ChatError::rule(PREFERENCES, Diagnosis::CHAT_BAD_PAYLOAD));
        }
        Some(_) | None => {}
    }
    Ok(json!({}))
}

/// Whom the event names and who exists, behind the creator.
fn participants(
    ctx: &mut Ctx<'_>,
    room: &Room,
    data: &Map<String, Value>,
) -> Result<Vec<Participant>, ChatError> {
    let key = match room.kind {
        RoomKind::OneToOne | RoomKind::Group => "participants",
        RoomKind::Channel => "subscribers",
    };
    let items = data.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut ids = fields::user_ids(items.iter().filter(|item| !item.is_null()), ctx.settings)?;
    ids.retain(|id| *id != ctx.actor.id);
    let mut known = directory::named(ctx, &ids)?;
    let others = ids.iter().filter_map(|id| known.remove(id));
    let mut participants =
        vec![Participant { user: ctx.actor.clone(), is_admin: room.kind != RoomKind::OneToOne }];
    participants.extend(others.map(|user| Participant { user, is_admin: false }));
    let is_wrong = match room.kind {
        RoomKind::OneToOne => participants.len() != 2,
        RoomKind::Group | RoomKind::Channel => exceeds(participants.len(), room.cap),
    };
    if is_wrong { Err(too_many(room.kind)) } else { Ok(participants) }
}

fn insert(ctx: &mut Ctx<'_>, room: &Room, participants: &[Participant]) -> Result<(), ChatError> {
    let pair = match participants {
        [one, other] if room.kind == RoomKind::OneToOne => Some(pair(&one.user.id, &other.user.id)),
        _ => None,
    };
    let parameters = [
        SqlValue::from(room.id.into_bytes()),
        SqlValue::from(room.kind.as_str()),
        SqlValue::from(room.creator.clone().map(|id| id.0)),
        SqlValue::from(room.name.clone()),
        SqlValue::from(room.description.clone()),
        SqlValue::from(room.avatar.clone()),
        SqlValue::from(room.cap),
        SqlValue::from(room.is_locked),
        SqlValue::from(room.needs_approval),
        SqlValue::from(room.is_public),
        SqlValue::from(room.preferences.to_string()),
        SqlValue::from(pair),
        SqlValue::from(room.created_at),
        SqlValue::from(room.fields.is_object().then(|| room.fields.to_string())),
    ];
    // Who asks second finds the pair taken, however close behind.
    let sql = "INSERT INTO chat_room (id, kind, creator, name, description, avatar, cap, locked, approval, is_public, \
               preferences, pair, created_at, updated_at, fields) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13, ?14) ON CONFLICT (pair) DO NOTHING";
    if ctx.tx.execute(sql, &parameters)? == 0 {
        return Err(duplicate(ctx.settings));
    }
    members::add(ctx.tx, room.id, participants, ctx.now)
}

/// One text for two users, whichever of them asks.
fn pair(one: &UserId, other: &UserId) -> String {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    json!([first.as_str(), second.as_str()]).to_string()
}

fn duplicate(settings: &Settings) -> ChatError {
    let (text, diagnosis) = ("Chat already exists", Diagnosis::CHAT_DUPLICATE_ONE_TO_ONE);
    if settings.duplicate_chat_code == 4003 {
        ChatError::rule(text, diagnosis)
    } else {
        ChatError::Integrity { text, diagnosis }
    }
}
