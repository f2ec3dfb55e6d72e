//! Rooms, in detail and in lists.

use serde_json::{Map, Value, json};

use crate::error::ChatError;
use crate::event::{Ctx, time_text};
use crate::model::{Room, RoomKind, User};
use crate::present;
use crate::settings::Settings;
use crate::store::members::{self, Participant};
use crate::store::users;

/// A room in detail: with members, without the last message.
///
/// # Errors
/// The database.
pub fn detail(ctx: &mut Ctx<'_>, room: &Room) -> Result<Value, ChatError> {
    let participants = members::participants(ctx.tx, room.id)?;
    detail_with(ctx, room, &participants)
}

/// As [`detail`], for those who have the members already.
///
/// # Errors
/// The database.
pub fn detail_with(ctx: &mut Ctx<'_>, room: &Room, participants: &[Participant]) -> Result<Value, ChatError> {
    let settings = ctx.settings;
    // A creator may have left the room.
    let creator = match &room.creator {
        None => None,
        Some(id) => match participants.iter().find(|participant| participant.user.id == *id) {
            Some(participant) => Some(participant.user.clone()),
            None => users::find(ctx.tx, id)?,
        },
    };
    let mut object = common(room, creator.as_ref(), settings);
    let everybody = participants.iter().map(|participant| present::user(&participant.user, settings));
    let admins = || {
        let admins = participants.iter().filter(|participant| participant.is_admin);
        Value::from_iter(admins.map(|participant| present::user(&participant.user, settings)))
    };
    let everybody = Value::from_iter(everybody);
    match room.kind {
        RoomKind::OneToOne => {
            object.insert("participants".to_owned(), everybody);
        }
        RoomKind::Group => {
            object.insert("participants".to_owned(), everybody);
            object.insert("admins".to_owned(), admins());
        }
        RoomKind::Channel => {
            object.insert("subscribers".to_owned(), everybody);
            object.insert("moderators".to_owned(), admins());
        }
    }
    object.insert("property".to_owned(), json!({ "preferences": room.preferences }));
    Ok(Value::Object(object))
}

/// A room as it stands in a list: with the last message, and the other one of a one-to-one chat.
pub fn entry(
    room: &Room,
    creator: Option<&User>,
    peer: Option<&User>,
    last_message: Option<Value>,
    settings: &Settings,
) -> Value {
    let mut object = common(room, creator, settings);
    if room.kind == RoomKind::OneToOne {
        let peer = peer.map(|peer| present::user(peer, settings));
        object.insert("peer".to_owned(), peer.unwrap_or_default());
    }
    object.insert("last_message".to_owned(), last_message.unwrap_or_else(blank_message));
    Value::Object(object)
}

/// What stands for the last message of a room without messages: clients read its content without asking.
fn blank_message() -> Value {
    json!({
        "id": null,
        "room_id": null,
        "sender_id": null,
        "parent_message_id": null,
        "forwarded_from_id": null,
        "content": "",
        "is_deleted": false,
        "is_forwarded": false,
        "is_edited": false,
    })
}

/// What both forms have.
fn common(room: &Room, creator: Option<&User>, settings: &Settings) -> Map<String, Value> {
    let mut object = Map::new();
    let mut insert = |name: &str, value: Value| object.insert(name.to_owned(), value);
    insert("id", Value::from(room.id.to_string()));
    insert("type", Value::from(room.kind.as_str()));
    insert("created_at", Value::from(time_text(room.created_at)));
    insert("updated_at", Value::from(time_text(room.updated_at)));
    if room.kind != RoomKind::OneToOne {
        insert("creator", creator.map(|creator| present::user(creator, settings)).unwrap_or_default());
        insert("name", Value::from(room.name.as_deref()));
        insert("description", Value::from(room.description.as_deref()));
        insert("avatar", Value::from(room.avatar.as_deref()));
    }
    match room.kind {
        RoomKind::OneToOne => {}
        RoomKind::Group => {
            insert("max_participants", Value::from(room.cap));
            insert("join_approval_required", Value::from(room.needs_approval));
            insert("group_locked", Value::from(room.is_locked));
        }
        RoomKind::Channel => {
            insert("max_subscribers", Value::from(room.cap));
            insert("is_public", Value::from(room.is_public));
        }
    }
    object
}
