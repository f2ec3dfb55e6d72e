//! What a user has not acknowledged yet.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use tidegate_store::sql::{SqlRow, SqlValue, Tx};
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::Ctx;
use crate::extension;
use crate::model::{Micros, UserId};
use crate::present;

/// Kinds of notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message.
    NewMessage,
    /// A message that answers another.
    Reply,
    /// A reaction.
    Reaction,
}

impl Kind {
    /// `notification_type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewMessage => "NEW_MESSAGE",
            Self::Reply => "REPLY",
            Self::Reaction => "REACTION",
        }
    }
}

/// Everybody in the room but the actor is to hear of a message, or of a reaction to it. Nothing where notifications are
/// off or nobody else is there.
///
/// # Errors
/// The database.
pub fn create(
    ctx: &mut Ctx<'_>,
    room: Uuid,
    message: Uuid,
    kind: Kind,
    reaction: Option<Uuid>,
) -> Result<(), ChatError> {
    let extensions = ctx.extensions;
    extensions.handler.create_notification(ctx, room, message, kind, reaction)?;
    extension::notified(ctx, room, message, kind, reaction);
    Ok(())
}

/// [`create`] without extensions.
///
/// # Errors
/// The database.
pub fn create_built_in(
    ctx: &mut Ctx<'_>,
    room: Uuid,
    message: Uuid,
    kind: Kind,
    reaction: Option<Uuid>,
) -> Result<(), ChatError> {
    if !ctx.settings.notifications {
        return Ok(());
    }
    let id = ctx.new_id();
    let actor = SqlValue::Text(ctx.actor.id.0.clone());
    // Not kept without recipients.
    let sql = "INSERT INTO chat_notification (id, room, message, kind, reaction, created_at) \
               SELECT ?1, ?2, ?3, ?4, ?5, ?6 \
               WHERE EXISTS (SELECT 1 FROM chat_member WHERE room = ?2 AND user_id <> ?7)";
    let parameters = [
        SqlValue::from(id.into_bytes()),
        SqlValue::from(room.into_bytes()),
        SqlValue::from(message.into_bytes()),
        SqlValue::from(kind.as_str()),
        SqlValue::from(reaction.map(Uuid::into_bytes)),
        SqlValue::from(ctx.now),
        actor.clone(),
    ];
    if ctx.tx.execute(sql, &parameters)? > 0 {
        let sql = "INSERT INTO chat_recipient (notification, user_id) \
                   SELECT ?2, user_id FROM chat_member WHERE room = ?1 AND user_id <> ?3";
        let parameters = [SqlValue::from(room.into_bytes()), SqlValue::from(id.into_bytes()), actor];
        ctx.tx.execute(sql, &parameters)?;
    }
    Ok(())
}

/// How far the place from where a member's notifications are looked for stays behind: more than transactions take and
/// clocks are set back.
const MARGIN: Micros = 3600 * 1_000_000;

/// The smallest id of a time.
fn id_at(time: Micros) -> SqlValue {
    let millis = u64::try_from(time / 1000).unwrap_or(0);
    let mut id = [0; 16];
    id[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    SqlValue::from(id)
}

/// Takes a user off all notifications of these messages; those without recipients go.
///
/// # Errors
/// The database.
pub fn acknowledge(tx: &mut dyn Tx, user: &UserId, messages: &[Uuid], now: Micros) -> Result<(), ChatError> {
    for message in messages {
        let message = SqlValue::from(message.into_bytes());
        let sql = "DELETE FROM chat_recipient WHERE user_id = ?1 AND notification IN \
                   (SELECT id FROM chat_notification WHERE message = ?2)";
        if tx.execute(sql, &[SqlValue::Text(user.0.clone()), message.clone()])? > 0 {
            let sql = "DELETE FROM chat_notification WHERE message = ?1 AND NOT EXISTS \
                       (SELECT 1 FROM chat_recipient WHERE notification = chat_notification.id)";
            tx.execute(sql, std::slice::from_ref(&message))?;
            // Others may never acknowledge theirs: what is behind the first that waits is not looked through again. Ids grow
            // with time.
            let sql = "UPDATE chat_member SET heard = coalesce((SELECT n.id FROM chat_notification n \
                       JOIN chat_recipient r ON r.notification = n.id AND r.user_id = chat_member.user_id \
                       WHERE n.room = chat_member.room AND n.id >= chat_member.heard AND n.id < ?3 \
                       ORDER BY n.id LIMIT 1), ?3) \
                       WHERE user_id = ?1 AND room = (SELECT room FROM chat_message WHERE id = ?2) AND heard < ?4";
            let user = SqlValue::Text(user.0.clone());
            tx.execute(sql, &[user, message, id_at(now - MARGIN), id_at(now - 2 * MARGIN)])?;
        }
    }
    Ok(())
}

/// Takes a user off all notifications of a room that it is no longer in.
///
/// # Errors
/// The database.
pub fn leave(tx: &mut dyn Tx, user: &UserId, room: Uuid) -> Result<(), ChatError> {
    let room = SqlValue::from(room.into_bytes());
    let sql = "DELETE FROM chat_recipient WHERE user_id = ?1 AND notification IN \
               (SELECT id FROM chat_notification WHERE room = ?2)";
    if tx.execute(sql, &[SqlValue::Text(user.0.clone()), room.clone()])? > 0 {
        let sql = "DELETE FROM chat_notification WHERE room = ?1 AND NOT EXISTS \
                   (SELECT 1 FROM chat_recipient WHERE notification = chat_notification.id)";
        tx.execute(sql, &[room])?;
    }
    Ok(())
}

/// `data` of the first frame: what the actor has not acknowledged, by room, the oldest first; of more than
/// [`Settings::max_pending`](crate::settings::Settings::max_pending) the newest.
///
/// # Errors
/// The database.
pub fn pending(ctx: &mut Ctx<'_>) -> Result<Value, ChatError> {
    // Ids grow with time.
    let sql = "SELECT n.id, n.room, n.message, n.kind FROM chat_member p \
               JOIN chat_notification n ON n.room = p.room AND n.id >= p.heard \
               JOIN chat_recipient r ON r.notification = n.id AND r.user_id = p.user_id \
               WHERE p.user_id = ?1 ORDER BY n.id DESC LIMIT ?2";
    let limit = i64::try_from(ctx.settings.max_pending).unwrap_or(i64::MAX);
    let rows = ctx.tx.query(sql, &[SqlValue::Text(ctx.actor.id.0.clone()), limit.into()])?;
    let id = |row: &SqlRow, column| row.id(column).map(Uuid::from_bytes);
    let mut ids = rows.iter().map(|row| id(row, 2)).collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    let mut messages = HashMap::with_capacity(ids.len());
    // What is shown has the id as text, in one form.
    for message in present::message::load(ctx, &ids)? {
        if let Some(id) = message.get("id").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok()) {
            messages.insert(id, message);
        }
    }
    let mut rooms: Map<String, Value> = Map::new();
    for row in rows.iter().rev() {
        // One that was deleted meanwhile has nothing to show.
        let Some(message) = messages.get(&id(row, 2)?) else { continue };
        let notification = json!({
            "id": id(row, 0)?.to_string(),
            "message": message,
            "notification_type": &*row.text(3)?,
        });
        let notification = ctx.view().present(notification, |presenter, shown| presenter.notification(shown));
        let room = rooms.entry(id(row, 1)?.to_string()).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(notifications) = room {
            notifications.push(notification);
        }
    }
    Ok(Value::Object(rooms))
}
