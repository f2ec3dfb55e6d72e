//! Who comes into rooms and goes out of them.

use tidegate_store::sql::{SqlRow, SqlValue, Tx};
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::Ctx;
use crate::model::{Micros, Room, RoomKind, User, UserId};
use crate::notification;
use crate::store::users;

/// Somebody in a room, with everything that clients see of a user.
#[derive(Debug, Clone, PartialEq)]
pub struct Participant {
    /// Who.
    pub user: User,
    /// Admin of a group, moderator of a channel.
    pub is_admin: bool,
}

/// Everybody in a room, in the order of joining.
///
/// # Errors
/// The database.
pub fn participants(tx: &mut dyn Tx, room: Uuid) -> Result<Vec<Participant>, ChatError> {
    let sql = "SELECT m.is_admin, u.id, u.username, u.email, u.first_name, u.last_name, u.disabled, u.claims \
               FROM chat_member m JOIN chat_user u ON u.id = m.user_id WHERE m.room = ?1 ORDER BY m.position";
    let rows = tx.query(sql, &[SqlValue::from(room.into_bytes())])?;
    let participant =
        |row: &SqlRow| Ok(Participant { is_admin: row.bool(0)?, user: users::user_of(row, 1)? });
    rows.iter().map(participant).collect()
}

/// Rows of one statement of [`add`]. Two texts, so that both stay prepared.
const BATCH: usize = 16;

/// Puts users into a room, behind those who are there. None of them may be there yet.
///
/// # Errors
/// The database.
pub fn add(tx: &mut dyn Tx, room: Uuid, new: &[Participant], now: Micros) -> Result<(), ChatError> {
    let room = SqlValue::from(room.into_bytes());
    let sql = "SELECT COALESCE(MAX(position), 0) FROM chat_member WHERE room = ?1";
    let rows = tx.query(sql, std::slice::from_ref(&room))?;
    let mut position = rows.first().map_or(Ok(0), |row| row.int(0))?;
    let mut rest = new;
    while !rest.is_empty() {
        let (batch, others) = rest.split_at(if rest.len() < BATCH { 1 } else { BATCH });
        rest = others;
        let mut sql =
            "INSERT INTO chat_member (room, joined_at, user_id, is_admin, position) VALUES".to_owned();
        let mut parameters = vec![room.clone(), SqlValue::from(now)];
        for (index, participant) in batch.iter().enumerate() {
            position += 1;
            let first = 3 + 3 * index;
            let comma = if index == 0 { "" } else { "," };
            sql.push_str(&format!("{comma} (?1, ?2, ?{first}, ?{}, ?{})", first + 1, first + 2));
            parameters.extend([
                SqlValue::Text(participant.user.id.0.clone()),
                SqlValue::from(participant.is_admin),
                SqlValue::from(position),
            ]);
        }
        tx.execute(&sql, &parameters)?;
    }
    Ok(())
}

/// Takes a user out of a room, with roles, permissions and notifications.
///
/// # Errors
/// The database.
pub fn remove(ctx: &mut Ctx<'_>, room: Uuid, user: &UserId) -> Result<(), ChatError> {
    let sql = "DELETE FROM chat_member WHERE room = ?1 AND user_id = ?2";
    ctx.tx.execute(sql, &[SqlValue::from(room.into_bytes()), SqlValue::Text(user.0.clone())])?;
    if ctx.settings.notifications {
        notification::leave(ctx.tx, user, room)?;
    }
    Ok(())
}

/// Deletes a room with everything in it.
///
/// # Errors
/// The database.
pub fn delete_room(tx: &mut dyn Tx, room: Uuid) -> Result<(), ChatError> {
    tx.execute("DELETE FROM chat_room WHERE id = ?1", &[SqlValue::from(room.into_bytes())])?;
    Ok(())
}

/// Makes somebody admin or moderator, or ends that.
///
/// # Errors
/// The database.
pub fn set_admin(tx: &mut dyn Tx, room: Uuid, user: &UserId, is_admin: bool) -> Result<(), ChatError> {
    let sql = "UPDATE chat_member SET is_admin = ?3 WHERE room = ?1 AND user_id = ?2";
    let parameters =
        [SqlValue::from(room.into_bytes()), SqlValue::Text(user.0.clone()), SqlValue::from(is_admin)];
    tx.execute(sql, &parameters)?;
    Ok(())
}

/// A group that nobody can manage any more gets its longest-standing member as admin. To be called only where the settings
/// say so.
///
/// # Errors
/// The database.
pub fn fill_vacancy(tx: &mut dyn Tx, room: &Room, participants: &mut [Participant]) -> Result<(), ChatError> {
    let is_managed = |participant: &Participant| {
        participant.is_admin || room.creator.as_ref() == Some(&participant.user.id)
    };
    if room.kind != RoomKind::Group || participants.iter().any(is_managed) {
        return Ok(());
    }
    if let Some(first) = participants.first_mut() {
        set_admin(tx, room.id, &first.user.id, true)?;
        first.is_admin = true;
    }
    Ok(())
}
