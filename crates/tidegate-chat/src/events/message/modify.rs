//! `message.modify`: senders edit and delete their messages.

use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_store::sql::{SqlRow, SqlValue};
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::Ctx;
use crate::store::lists::{MAX_IDS, id_list};
use crate::store::messages::{self, Target};
use crate::value::{self, MessageIds};
use crate::{extension, field, permission, present};

/// Handles the event.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let named = value::message_ids(data)?;
    let targets = messages::targets(ctx.tx, &ctx.actor.id, &named.ids)?;
    let Some(first) = targets.first() else {
        return Err(rule("Atleast one message_id is required for modification"));
    };
    permission::message::can_modify(ctx, &targets)?;
    if targets.iter().any(|target| target.room != first.room) {
        return Err(rule("All messages marked for modification must come from the same room"));
    }
    permission::message::can_access(ctx, &targets)?;
    let action = data.get("action").unwrap_or(&Value::Null);
    match action.as_str() {
        Some("update") => update(ctx, data, &named, first),
        Some("delete") => delete(ctx, &named, &targets, first.room),
        _ => Err(rule("Invalid action type")),
    }
}

fn update(
    ctx: &mut Ctx<'_>,
    data: &Map<String, Value>,
    named: &MessageIds,
    target: &Target,
) -> Result<(), ChatError> {
    if named.ids.len() != 1 {
        return Err(rule("You can only update one message at a time"));
    }
    let missing = |text: &'static str| ChatError::rule(text, Diagnosis::CHAT_MISSING_FIELD);
    let fields = match data.get("extra_fields") {
        Some(Value::Object(fields)) if !fields.is_empty() => fields,
        _ => return Err(missing("'extra_fields' field should be provided for update action")),
    };
    let no_content = || missing("Content should be provided for update action");
    let content = fields.get("content").ok_or_else(no_content)?;
    let content = field::filled_text(content, None).map_err(|text| ChatError::field("content", text))?;
    let content = ctx.sanitized(&content);
    if content.is_empty() {
        return Err(no_content());
    }
    let content = ctx.clean(content.into())?;
    let further = further_fields(ctx, fields, target)?;
    // Clocks may go back; an object's times do not.
    let sql = "UPDATE chat_message SET content = ?2, edited = 1, \
               updated_at = CASE WHEN updated_at > ?3 THEN updated_at ELSE ?3 END, fields = COALESCE(?4, fields) WHERE id = ?1";
    let id = SqlValue::from(target.id.into_bytes());
    let further = SqlValue::from(further.map(|fields| fields.to_string()));
    ctx.tx.execute(sql, &[id, SqlValue::from(content), SqlValue::Int(ctx.now), further])?;
    let message = present::message::load(ctx, &[target.id])?.pop().unwrap_or_default();
    let answer = json!({ "status": "successful", "action": "update", "message": message });
    ctx.dispatch_to_room(target.room, "messagemodification.dispatch", answer)
}

/// The additional fields of the message, if the event changes any.
fn further_fields(
    ctx: &mut Ctx<'_>,
    update: &Map<String, Value>,
    target: &Target,
) -> Result<Option<Value>, ChatError> {
    let rules = &ctx.settings.fields.message;
    if !rules.iter().any(|(name, rule)| rule.updatable && update.contains_key(name)) {
        return Ok(None);
    }
    let sql = "SELECT fields FROM chat_message WHERE id = ?1";
    let rows = ctx.tx.query(sql, &[SqlValue::from(target.id.into_bytes())])?;
    let stored = rows.first().map(|row| row.optional(0, SqlRow::text)).transpose()?.flatten();
    let stored = stored.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null);
    extension::fields::of_update(rules, &stored, update)
}

fn delete(ctx: &mut Ctx<'_>, named: &MessageIds, targets: &[Target], room: Uuid) -> Result<(), ChatError> {
    let ids: Vec<Uuid> = targets.iter().map(|target| target.id).collect();
    for ids in ids.chunks(MAX_IDS) {
        if ctx.settings.soft_delete {
            hide(ctx, ids)?;
        } else {
            // Everything below goes with it; what answers to it loses its parent.
            let list = id_list(1, ids);
            let sql = format!("DELETE FROM chat_message WHERE id IN ({})", list.placeholders);
            ctx.tx.execute(&sql, &list.parameters)?;
        }
    }
    let newest = "FROM chat_message WHERE room = ?1 AND deleted = 0 ORDER BY seq DESC LIMIT 1";
    let sql = format!(
        "UPDATE chat_room SET last_message = (SELECT id {newest}), last_at = (SELECT created_at {newest}) WHERE id = ?1"
    );
    ctx.tx.execute(&sql, &[SqlValue::from(room.into_bytes())])?;
    let answer = json!({ "status": "successful", "action": "delete", "message_ids": named.written });
    ctx.dispatch_to_room(room, "messagemodification.dispatch", answer)
}

fn hide(ctx: &mut Ctx<'_>, ids: &[Uuid]) -> Result<(), ChatError> {
    let list = id_list(2, ids);
    let sql = format!(
        "UPDATE chat_message SET deleted = 1, \
         updated_at = CASE WHEN updated_at > ?1 THEN updated_at ELSE ?1 END WHERE id IN ({})",
        list.placeholders
    );
    let mut parameters = vec![SqlValue::Int(ctx.now)];
    parameters.extend(list.parameters);
    ctx.tx.execute(&sql, &parameters)?;
    let list = id_list(1, ids);
    let sql = format!("DELETE FROM chat_notification WHERE message IN ({})", list.placeholders);
    ctx.tx.execute(&sql, &list.parameters)?;
    Ok(())
}

fn rule(text: &'static str) -> ChatError {
    ChatError::rule(text, Diagnosis::CHAT_BAD_PAYLOAD)
}
