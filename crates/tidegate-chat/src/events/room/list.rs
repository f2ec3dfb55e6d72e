//! `room.list`.

use std::collections::HashMap;

use serde_json::{Map, Value};
use tidegate_store::sql::{SqlRow, SqlValue};
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::Ctx;
use crate::model::{Room, User};
use crate::present;
use crate::store::{rooms, users};

/// Handles the event: all rooms of the actor, in a fixed number of queries. No more last messages are shown than a dispatch may
/// have; the rooms behind them have the blank one.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, _: &Map<String, Value>) -> Result<(), ChatError> {
    let rows = rows(ctx)?;
    let last: Vec<Uuid> =
        rows.iter().filter_map(|row| row.room.last_message).take(ctx.settings.max_history).collect();
    let mut messages = HashMap::with_capacity(last.len());
    if !last.is_empty() {
        for message in present::message::load(ctx, &last)? {
            let id = message["id"].as_str().and_then(|id| Uuid::try_parse(id).ok());
            messages.extend(id.map(|id| (id, message)));
        }
    }
    let entries = rows.iter().map(|row| {
        let message = row.room.last_message.and_then(|id| messages.remove(&id));
        present::room::entry(&row.room, row.creator.as_ref(), row.peer.as_ref(), message, ctx.settings)
    });
    let entries = Value::from_iter(entries);
    ctx.dispatch(ctx.own_audience(), "roomlist.dispatch", entries);
    Ok(())
}

/// A room and the two users who are shown with it.
struct Row {
    room: Room,
    creator: Option<User>,
    peer: Option<User>,
}

fn rows(ctx: &mut Ctx<'_>) -> Result<Vec<Row>, ChatError> {
    // Databases disagree about where nothing comes in an order, so it is said.
    let sql = "SELECT r.id, r.kind, r.creator, r.name, r.description, r.avatar, r.cap, r.locked, r.approval, r.is_public, \
               r.preferences, r.fields, r.last_message, r.created_at, r.updated_at, \
               c.id, c.username, c.email, c.first_name, c.last_name, c.disabled, c.claims, \
               p.id, p.username, p.email, p.first_name, p.last_name, p.disabled, p.claims \
               FROM chat_member m \
               JOIN chat_room r ON r.id = m.room \
               LEFT JOIN chat_user c ON c.id = r.creator \
               LEFT JOIN chat_member o ON o.room = r.id AND r.kind = 'OneToOneChat' AND o.user_id <> m.user_id \
               LEFT JOIN chat_user p ON p.id = o.user_id \
               WHERE m.user_id = ?1 \
               ORDER BY CASE WHEN r.last_at IS NULL THEN 1 ELSE 0 END, r.last_at DESC, r.created_at DESC, r.id DESC";
    let rows = ctx.tx.query(sql, &[SqlValue::Text(ctx.actor.id.0.clone())])?;
    let user = |row: &SqlRow, first| -> Result<Option<User>, ChatError> {
        match row.optional(first, SqlRow::text)? {
            Some(_) => users::user_of(row, first).map(Some),
            None => Ok(None),
        }
    };
    let row = |row: &SqlRow| {
        Ok(Row { room: rooms::room_of(row, 0)?, creator: user(row, 15)?, peer: user(row, 22)? })
    };
    rows.iter().map(row).collect()
}
