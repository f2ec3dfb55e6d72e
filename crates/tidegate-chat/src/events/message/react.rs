//! `message.react`: one reaction for each user and message.

use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_store::sql::{SqlError, SqlValue};
use uuid::Uuid;

use crate::error::{ChatError, INTEGRITY};
use crate::event::Ctx;
use crate::store::messages::{self, Target};
use crate::{field, notification, permission, present, value};

/// Characters of a reaction at most.
const MAX_CONTENT: usize = 128;

/// Handles the event.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let named = data.get("message_id").unwrap_or(&Value::Null);
    if named.is_array() {
        // The package says so at the field of its own model.
        return Err(ChatError::field("message", "One message at a time."));
    }
    let id = value::message_id(named)?;
    let targets = messages::targets(ctx.tx, &ctx.actor.id, &[id])?;
    permission::message::can_access(ctx, &targets)?;
    let Some(target) = targets.into_iter().next() else {
        return Err(value::message_not_found());
    };
    let (key, action, is_done) = match data.get("type").and_then(Value::as_str) {
        Some("add") => {
            add(ctx, &target, data.get("reaction_content"))?;
            // Clients know the two answers by these two names of one member.
            ("type", "add", true)
        }
        Some("remove") => ("action", "remove", remove(ctx, target.id)?),
        _ => return Err(ChatError::rule("invalid reaction type", Diagnosis::CHAT_BAD_PAYLOAD)),
    };
    let message = present::message::load(ctx, &[target.id])?.pop().unwrap_or_default();
    let status = if is_done { "successful" } else { "failed" };
    let answer = json!({ "status": status, key: action, "message": message });
    ctx.dispatch_to_room(target.room, "reaction.dispatch", answer)
}

fn add(ctx: &mut Ctx<'_>, target: &Target, content: Option<&Value>) -> Result<(), ChatError> {
    const FIELD: &str = "reaction_content";
    let content = content.ok_or_else(|| ChatError::field(FIELD, field::REQUIRED))?;
    let content =
        field::filled_text(content, Some(MAX_CONTENT)).map_err(|text| ChatError::field(FIELD, text))?;
    let duplicate =
        || ChatError::Integrity { text: INTEGRITY, diagnosis: Diagnosis::CHAT_DUPLICATE_REACTION };

    let key = [SqlValue::from(target.id.into_bytes()), SqlValue::Text(ctx.actor.id.0.clone())];
    let sql = "SELECT id, content FROM chat_reaction WHERE message = ?1 AND user_id = ?2";
    if let Some(row) = ctx.tx.query(sql, &key)?.first() {
        if *row.text(1)? == *content {
            return Err(duplicate());
        }
        // Its notification goes with it.
        remove(ctx, target.id)?;
    }
    let id = ctx.new_id();
    let sql =
        "INSERT INTO chat_reaction (id, message, user_id, content, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    let [message, user] = key;
    let parameters =
        [SqlValue::from(id.into_bytes()), message, user, SqlValue::from(content), SqlValue::Int(ctx.now)];
    match ctx.tx.execute(sql, &parameters) {
        // Another device of the user was faster, after the look above.
        Err(SqlError::Constraint) => return Err(duplicate()),
        result => result?,
    };
    notify(ctx, target, id)
}

fn notify(ctx: &mut Ctx<'_>, target: &Target, reaction: Uuid) -> Result<(), ChatError> {
    if !ctx.settings.notifications {
        return Ok(());
    }
    notification::create(ctx, target.room, target.id, notification::Kind::Reaction, Some(reaction))
}

/// Whether there was one.
fn remove(ctx: &mut Ctx<'_>, message: Uuid) -> Result<bool, ChatError> {
    let sql = "DELETE FROM chat_reaction WHERE message = ?1 AND user_id = ?2";
    let key = [SqlValue::from(message.into_bytes()), SqlValue::Text(ctx.actor.id.0.clone())];
    Ok(ctx.tx.execute(sql, &key)? > 0)
}
