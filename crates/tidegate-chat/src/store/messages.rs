//! Messages that events name.

use std::collections::HashMap;

use tidegate_store::sql::{SqlRow, SqlValue, Tx};
use uuid::Uuid;

use crate::error::ChatError;
use crate::model::UserId;
use crate::store::lists::{MAX_IDS, id_list};
use crate::value::message_not_found;

/// A message that an event names, with what decides whether it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The message.
    pub id: Uuid,
    /// Where it is.
    pub room: Uuid,
    /// Who sent it.
    pub sender: Option<UserId>,
    /// Whether the asking user is in that room.
    pub is_member: bool,
}

/// All messages of a list, each once, in the order of the list.
///
/// # Errors
/// 4004 when one of them does not exist or was deleted; the database.
pub fn targets(tx: &mut dyn Tx, user: &UserId, ids: &[Uuid]) -> Result<Vec<Target>, ChatError> {
    let mut found: HashMap<Uuid, Target> = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(MAX_IDS) {
        let list = id_list(2, ids);
        let sql = format!(
            "SELECT m.id, m.room, m.sender, p.user_id FROM chat_message m \
             LEFT JOIN chat_member p ON p.room = m.room AND p.user_id = ?1 \
             WHERE m.id IN ({}) AND m.deleted = 0",
            list.placeholders
        );
        let mut parameters = vec![SqlValue::Text(user.0.clone())];
        parameters.extend(list.parameters);
        for row in tx.query(&sql, &parameters)? {
            let target = Target {
                id: Uuid::from_bytes(row.id(0)?),
                room: Uuid::from_bytes(row.id(1)?),
                sender: row.optional(2, SqlRow::text)?.map(UserId),
                is_member: row.optional(3, SqlRow::text)?.is_some(),
            };
            found.insert(target.id, target);
        }
    }
    if ids.iter().any(|id| !found.contains_key(id)) {
        return Err(message_not_found());
    }
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

/// The room of a message.
///
/// # Errors
/// 4004 when it does not exist or was deleted; the database.
pub fn room_of(tx: &mut dyn Tx, message: Uuid) -> Result<Uuid, ChatError> {
    let sql = "SELECT room FROM chat_message WHERE id = ?1 AND deleted = 0";
    let rows = tx.query(sql, &[SqlValue::from(message.into_bytes())])?;
    Ok(Uuid::from_bytes(rows.first().ok_or_else(message_not_found)?.id(0)?))
}
