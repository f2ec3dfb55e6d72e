//! Rooms and who is in them.

use serde_json::Value;
use tidegate_store::sql::{SqlRow, SqlValue, Tx};
use uuid::Uuid;

use crate::error::ChatError;
use crate::model::{Member, Room, RoomKind, UserId};

/// Columns of a [`Room`], in the order of [`room_of`].
pub const COLUMNS: &str = "id, kind, creator, name, description, avatar, cap, locked, approval, is_public, preferences, \
                           fields, last_message, created_at, updated_at";

/// A room out of a row whose columns begin with [`COLUMNS`] at `first`.
///
/// # Errors
/// A column is not what it should be.
pub fn room_of(row: &SqlRow, first: usize) -> Result<Room, ChatError> {
    let kind = row.text(first + 1)?;
    let fields = row.optional(first + 11, SqlRow::text)?;
    Ok(Room {
        id: Uuid::from_bytes(row.id(first)?),
        kind: RoomKind::find(&kind).ok_or_else(|| ChatError::Internal(format!("a room of kind {kind}")))?,
        creator: row.optional(first + 2, SqlRow::text)?.map(UserId),
        name: row.optional(first + 3, SqlRow::text)?,
        description: row.optional(first + 4, SqlRow::text)?,
        avatar: row.optional(first + 5, SqlRow::text)?,
        cap: row.int(first + 6)?,
        is_locked: row.bool(first + 7)?,
        needs_approval: row.bool(first + 8)?,
        is_public: row.bool(first + 9)?,
        preferences: serde_json::from_str(&row.text(first + 10)?).unwrap_or_default(),
        fields: fields.and_then(|fields| serde_json::from_str(&fields).ok()).unwrap_or(Value::Null),
        last_message: row.optional(first + 12, SqlRow::id)?.map(Uuid::from_bytes),
        created_at: row.int(first + 13)?,
        updated_at: row.int(first + 14)?,
    })
}

/// A room by its id.
///
/// # Errors
/// The database.
pub fn find(tx: &mut dyn Tx, id: Uuid) -> Result<Option<Room>, ChatError> {
    let sql = "SELECT id, kind, creator, name, description, avatar, cap, locked, approval, is_public, preferences, fields, \
               last_message, created_at, updated_at FROM chat_room WHERE id = ?1";
    let rows = tx.query(sql, &[SqlValue::from(id.into_bytes())])?;
    rows.first().map(|row| room_of(row, 0)).transpose()
}

/// Somebody's place in a room.
///
/// # Errors
/// The database.
pub fn member(tx: &mut dyn Tx, room: Uuid, user: &UserId) -> Result<Option<Member>, ChatError> {
    let sql = "SELECT user_id, is_admin, joined_at FROM chat_member WHERE room = ?1 AND user_id = ?2";
    let rows = tx.query(sql, &[SqlValue::from(room.into_bytes()), SqlValue::Text(user.0.clone())])?;
    rows.first().map(member_of).transpose()
}

/// Everybody in a room, in the order of joining.
///
/// # Errors
/// The database.
pub fn members(tx: &mut dyn Tx, room: Uuid) -> Result<Vec<Member>, ChatError> {
    let sql = "SELECT user_id, is_admin, joined_at FROM chat_member WHERE room = ?1 ORDER BY position";
    tx.query(sql, &[SqlValue::from(room.into_bytes())])?.iter().map(member_of).collect()
}

/// Everybody in a room, in no order.
///
/// # Errors
/// The database.
pub fn member_ids(tx: &mut dyn Tx, room: Uuid) -> Result<Vec<UserId>, ChatError> {
    let sql = "SELECT user_id FROM chat_member WHERE room = ?1";
    let rows = tx.query(sql, &[SqlValue::from(room.into_bytes())])?;
    rows.iter().map(|row| Ok(UserId(row.text(0)?))).collect()
}

fn member_of(row: &SqlRow) -> Result<Member, ChatError> {
    Ok(Member { user: UserId(row.text(0)?), is_admin: row.bool(1)?, joined_at: row.int(2)? })
}

/// Whether somebody holds a single permission in a room.
///
/// # Errors
/// The database.
pub fn has_permission(tx: &mut dyn Tx, room: Uuid, user: &UserId, name: &str) -> Result<bool, ChatError> {
    let sql = "SELECT 1 FROM chat_permission WHERE room = ?1 AND user_id = ?2 AND name = ?3";
    let parameters =
        [SqlValue::from(room.into_bytes()), SqlValue::Text(user.0.clone()), SqlValue::from(name)];
    Ok(!tx.query(sql, &parameters)?.is_empty())
}
