//! `message.read`: a user has read messages.

use serde_json::{Map, Value};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_store::sql::{SqlError, SqlValue};
use uuid::Uuid;

use crate::error::{ChatError, INTEGRITY};
use crate::event::Ctx;
use crate::store::messages;
use crate::{permission, present, value};

/// Handles the event.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let named = value::message_ids(data)?;
    let mut targets = messages::targets(ctx.tx, &ctx.actor.id, &named.ids)?;
    permission::message::can_access(&targets)?;
    targets.retain(|target| target.sender.as_ref() != Some(&ctx.actor.id));
    let mut by_room: Vec<(Uuid, Vec<Uuid>)> = Vec::new();
    for target in targets {
        insert(ctx, target.id)?;
        match by_room.iter_mut().find(|(room, _)| *room == target.room) {
            Some((_, ids)) => ids.push(target.id),
            None => by_room.push((target.room, vec![target.id])),
        }
    }
    for (room, ids) in by_room {
        for ids in ids.chunks(ctx.settings.max_history.max(1)) {
            let mut objects = present::message::load(ctx, ids)?;
            let data = match objects.pop() {
                Some(one) if !named.is_list => one,
                Some(last) => {
                    objects.push(last);
                    Value::from(objects)
                }
                None => continue,
            };
            ctx.dispatch_to_room(room, "readreceipt.dispatch", data)?;
        }
    }
    Ok(())
}

fn insert(ctx: &mut Ctx<'_>, message: Uuid) -> Result<(), ChatError> {
    let sql = "INSERT INTO chat_receipt (id, message, reader, read_at) VALUES (?1, ?2, ?3, ?4)";
    let parameters = [
        SqlValue::from(ctx.new_id().into_bytes()),
        SqlValue::from(message.into_bytes()),
        SqlValue::Text(ctx.actor.id.0.clone()),
        SqlValue::Int(ctx.now),
    ];
    match ctx.tx.execute(sql, &parameters) {
        // The message and its reader are there, so it is the pair that is there already.
        Err(SqlError::Constraint) => {
            Err(ChatError::Integrity { text: INTEGRITY, diagnosis: Diagnosis::CHAT_DUPLICATE_RECEIPT })
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}
