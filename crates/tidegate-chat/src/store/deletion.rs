//! The end of a user.

use serde_json::json;
use tidegate_store::sql::{SqlRow, SqlValue, Tx};
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::{Audience, Dispatch, Frame};
use crate::model::UserId;
use crate::settings::{OnUserDelete, Settings};
use crate::store::{members, rooms};

/// Deletes a user with one-to-one chats, memberships, roles, receipts, reactions, deliveries and notifications; messages as the
/// settings say. Groups and channels that the user made go to the longest-standing admin or moderator, else to the
/// longest-standing member; one that nobody else is in goes. Gives what the others in the one-to-one chats are to be told, and
/// nothing for ids of nobody.
///
/// It reads through all messages, receipts and reactions once: a call for operators, not for events.
///
/// # Errors
/// The database.
pub fn delete_user(
    tx: &mut dyn Tx,
    settings: &Settings,
    user: &UserId,
) -> Result<Option<Vec<Dispatch>>, ChatError> {
    let id = [SqlValue::Text(user.0.clone())];
    let dispatches = delete_chats(tx, &id)?;
    delete_lonely_rooms(tx, &id)?;
    let left = ids(tx, "SELECT room FROM chat_member WHERE user_id = ?1", &id)?;
    hand_over(tx, &id)?;
    withdraw_notifications(tx, &id)?;
    match settings.on_user_delete {
        OnUserDelete::Delete => delete_messages(tx, &id)?,
        OnUserDelete::Anonymise => {
            tx.execute("UPDATE chat_message SET sender = NULL WHERE sender = ?1", &id)?;
        }
    }
    let n_users = tx.execute("DELETE FROM chat_user WHERE id = ?1", &id)?;
    if settings.promote_on_vacancy {
        for room in left {
            if let Some(room) = rooms::find(tx, room)? {
                let mut rest = members::participants(tx, room.id)?;
                members::fill_vacancy(tx, &room, &mut rest)?;
            }
        }
    }
    Ok((n_users > 0).then_some(dispatches))
}

/// Deletes the one-to-one chats of the user; gives what the others are to be told.
fn delete_chats(tx: &mut dyn Tx, user: &[SqlValue]) -> Result<Vec<Dispatch>, ChatError> {
    let sql = "SELECT r.id, o.user_id FROM chat_member m \
               JOIN chat_room r ON r.id = m.room AND r.kind = 'OneToOneChat' \
               JOIN chat_member o ON o.room = r.id AND o.user_id <> m.user_id WHERE m.user_id = ?1 ORDER BY r.id";
    let mut dispatches = Vec::new();
    for row in tx.query(sql, user)? {
        let room = Uuid::from_bytes(row.id(0)?);
        members::delete_room(tx, room)?;
        dispatches.push(Dispatch {
            audience: Audience::Users(vec![UserId(row.text(1)?)]),
            frame: Frame::Event {
                event_type: "roomdelete.dispatch".into(),
                data: json!({ "room_id": room.to_string() }),
            },
        });
    }
    Ok(dispatches)
}

/// Deletes the rooms in which nobody else is.
fn delete_lonely_rooms(tx: &mut dyn Tx, user: &[SqlValue]) -> Result<(), ChatError> {
    let sql = "SELECT m.room FROM chat_member m WHERE m.user_id = ?1 AND NOT EXISTS \
               (SELECT 1 FROM chat_member o WHERE o.room = m.room AND o.user_id <> m.user_id)";
    for room in ids(tx, sql, user)? {
        members::delete_room(tx, room)?;
    }
    Ok(())
}

/// Gives the rooms that the user made to somebody else in them.
fn hand_over(tx: &mut dyn Tx, user: &[SqlValue]) -> Result<(), ChatError> {
    let made = ids(tx, "SELECT id FROM chat_room WHERE creator = ?1", user)?;
    for room in made {
        let participants = members::participants(tx, room)?;
        let others =
            || participants.iter().filter(|other| SqlValue::Text(other.user.id.0.clone()) != user[0]);
        let heir = others().find(|other| other.is_admin).or_else(|| others().next());
        let sql = "UPDATE chat_room SET creator = ?2 WHERE id = ?1";
        let heir_id = heir.map(|heir| heir.user.id.0.clone());
        tx.execute(sql, &[SqlValue::from(room.into_bytes()), SqlValue::from(heir_id)])?;
        // Who makes a room is its admin; who inherits it too.
        if let Some(heir) = heir.filter(|heir| !heir.is_admin) {
            members::set_admin(tx, room, &heir.user.id, true)?;
        }
    }
    Ok(())
}

/// Takes the user off all notifications, which are of rooms that the user is in; those without recipients go.
fn withdraw_notifications(tx: &mut dyn Tx, user: &[SqlValue]) -> Result<(), ChatError> {
    let own = "SELECT n.id FROM chat_member p JOIN chat_notification n ON n.room = p.room \
               JOIN chat_recipient r ON r.notification = n.id AND r.user_id = p.user_id WHERE p.user_id = ?1";
    let sql = format!(
        "DELETE FROM chat_notification WHERE id IN ({own}) AND NOT EXISTS \
         (SELECT 1 FROM chat_recipient o WHERE o.notification = chat_notification.id AND o.user_id <> ?1)"
    );
    tx.execute(&sql, user)?;
    let sql = format!("DELETE FROM chat_recipient WHERE user_id = ?1 AND notification IN ({own})");
    tx.execute(&sql, user)?;
    Ok(())
}

/// Deletes the messages of the user, and finds the last message anew where it was one of them.
fn delete_messages(tx: &mut dyn Tx, user: &[SqlValue]) -> Result<(), ChatError> {
    let sql = "SELECT r.id FROM chat_room r JOIN chat_message m ON m.id = r.last_message WHERE m.sender = ?1";
    let touched = ids(tx, sql, user)?;
    tx.execute("DELETE FROM chat_message WHERE sender = ?1", user)?;
    for room in touched {
        let room = SqlValue::from(room.into_bytes());
        let sql = "SELECT id, created_at FROM chat_message WHERE room = ?1 AND deleted = 0 ORDER BY seq DESC LIMIT 1";
        let rows = tx.query(sql, std::slice::from_ref(&room))?;
        let (last, at) = match rows.first() {
            Some(row) => (SqlValue::from(row.id(0)?), SqlValue::from(row.int(1)?)),
            None => (SqlValue::Null, SqlValue::Null),
        };
        let sql = "UPDATE chat_room SET last_message = ?2, last_at = ?3 WHERE id = ?1";
        tx.execute(sql, &[room, last, at])?;
    }
    Ok(())
}

/// The ids that a query gives in its first column.
fn ids(tx: &mut dyn Tx, sql: &str, parameters: &[SqlValue]) -> Result<Vec<Uuid>, ChatError> {
    let id = |row: &SqlRow| Ok(Uuid::from_bytes(row.id(0)?));
    tx.query(sql, parameters)?.iter().map(id).collect()
}

#[cfg(test)]
mod tests;
