//! `message.send`: the event that is sent most. What goes out is made of what is at hand, not read back.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_store::sql::{SqlRow, SqlValue};
use uuid::Uuid;

use crate::error::{ChatError, INTEGRITY};
use crate::event::Ctx;
use crate::events::message::{attachment, room_of_event};
use crate::model::Message;
use crate::present::message::{Attachment, Parts, load_nested, object};
use crate::{extension, field, notification, permission};

/// Content of every message with attachments.
const MEDIA_CONTENT: &str = "Media Files";

/// A message that is answered or forwarded.
#[derive(Debug)]
struct Reference {
    id: Uuid,
    content: Arc<str>,
}

/// Handles the event.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let room = room_of_event(ctx, data)?;
    permission::message::can_send(ctx, room)?;

    let no_fields = Map::new();
    let fields = match data.get("extra_fields") {
        None => &no_fields,
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(ChatError::field("extra_fields", "Expected an object.")),
    };
    let mut wrong = Map::new();
    let parent = reference(ctx, fields, "parent_message_id", &mut wrong)?;
    let source = reference(ctx, fields, "forwarded_from_id", &mut wrong)?;
    let attachments = attachment::read(ctx, fields.get("media"));
    // Media that are no list break a rule, and so does everything with them; wrong fields wait for the others.
    if let Err(error @ ChatError::Rule { .. }) = attachments {
        return Err(error);
    }
    let has_media = !matches!(&attachments, Ok(attachments) if attachments.is_empty());
    let content = if has_media {
        Arc::from(MEDIA_CONTENT)
    } else {
        content(ctx, data.get("content"), source.as_ref()).unwrap_or_else(|text| {
            wrong.insert("content".to_owned(), json!([text]));
            Arc::from("")
        })
    };
    let further = extension::fields::at_creation(&ctx.settings.fields.message, fields, &mut wrong);
    if !wrong.is_empty() {
        return Err(ChatError::Fields(wrong));
    }
    let content = ctx.clean(content)?;
    let attachments = attachments?;
    if parent.is_some() && source.is_some() {
        return Err(ChatError::Integrity { text: INTEGRITY, diagnosis: Diagnosis::CHAT_BAD_PAYLOAD });
    }
    attachment::check_mime_types(ctx.settings, &attachments)?;

    let message = insert(ctx, room, content, further, parent.as_ref(), source.as_ref())?;
    attachment::insert(ctx, message.id, &attachments)?;
    if ctx.settings.notifications {
        let kind = if parent.is_some() { notification::Kind::Reply } else { notification::Kind::NewMessage };
        notification::create(ctx, room, message.id, kind, None)?;
    }
    let sent = sent_object(ctx, &message, &attachments)?;
    ctx.dispatch_to_room(room, "message.dispatch", sent)
}

/// The content as it is stored, or what is wrong with it.
fn content(ctx: &Ctx<'_>, value: Option<&Value>, source: Option<&Reference>) -> Result<Arc<str>, String> {
    let text = match value {
        None => Err(field::REQUIRED.to_owned()),
        Some(value) => field::filled_text(value, None),
    };
    match (text, source) {
        (Ok(text), _) => Ok(ctx.sanitized(&text).into()),
        (Err(text), Some(source))
            if [field::REQUIRED, field::BLANK, field::NULL].contains(&text.as_str()) =>
        {
            Ok(Arc::clone(&source.content))
        }
        (Err(text), _) => Err(text),
    }
}

/// The message that a field names; what is wrong with the field goes to `wrong`.
///
/// # Errors
/// 4002 for a message of a room that the actor is not in; the database.
fn reference(
    ctx: &mut Ctx<'_>,
    fields: &Map<String, Value>,
    name: &str,
    wrong: &mut Map<String, Value>,
) -> Result<Option<Reference>, ChatError> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    let unknown = |id: &str| format!("Invalid pk \"{id}\" - object does not exist.");
    let text = match value {
        Value::String(text) => match Uuid::try_parse(text) {
            Ok(id) => match find(ctx, id)? {
                Some((reference, true)) => return Ok(Some(reference)),
                Some((_, false)) => return Err(permission::message::no_access()),
                None => unknown(text),
            },
            Err(_) => format!("\u{201c}{text}\u{201d} is not a valid UUID."),
        },
        Value::Number(number) => unknown(&number.to_string()),
        Value::Null => field::NULL.to_owned(),
        _ => "Incorrect type. Expected pk value.".to_owned(),
    };
    wrong.insert(name.to_owned(), json!([text]));
    Ok(None)
}

/// A visible message, and whether the actor is in its room.
fn find(ctx: &mut Ctx<'_>, id: Uuid) -> Result<Option<(Reference, bool)>, ChatError> {
    let sql = "SELECT m.content, p.user_id FROM chat_message m \
               LEFT JOIN chat_member p ON p.room = m.room AND p.user_id = ?2 WHERE m.id = ?1 AND m.deleted = 0";
    let actor = SqlValue::Text(ctx.actor.id.0.clone());
    let rows = ctx.tx.query(sql, &[SqlValue::from(id.into_bytes()), actor])?;
    let Some(row) = rows.first() else { return Ok(None) };
    let is_member = row.optional(1, SqlRow::text)?.is_some();
    Ok(Some((Reference { id, content: row.text(0)? }, is_member)))
}

/// Stores the message as the newest of its room.
fn insert(
    ctx: &mut Ctx<'_>,
    room: Uuid,
    content: Arc<str>,
    fields: Value,
    parent: Option<&Reference>,
    source: Option<&Reference>,
) -> Result<Message, ChatError> {
    let id = ctx.new_id();
    let key = SqlValue::from(id.into_bytes());
    let place = SqlValue::from(room.into_bytes());
    // No message is older than the one before it, so that the order of numbers is the order of times, whatever the clock does.
    let sql = "UPDATE chat_room SET seq = seq + 1, last_message = ?2, \
               last_at = CASE WHEN last_at > ?3 THEN last_at ELSE ?3 END, \
               updated_at = CASE WHEN updated_at > ?3 THEN updated_at ELSE ?3 END WHERE id = ?1 RETURNING seq, last_at";
    let rows = ctx.tx.query(sql, &[place.clone(), key.clone(), SqlValue::Int(ctx.now)])?;
    let row = rows.first().ok_or(ChatError::NotFound { diagnosis: Diagnosis::CHAT_ROOM_NOT_FOUND })?;
    let message = Message {
        id,
        room,
        sender: Some(ctx.actor.id.clone()),
        content,
        is_deleted: false,
        is_edited: false,
        is_forwarded: source.is_some(),
        parent: parent.map(|parent| parent.id),
        source: source.map(|source| source.id),
        fields,
        seq: row.int(0)?,
        created_at: row.int(1)?,
        updated_at: row.int(1)?,
    };
    let sql = "INSERT INTO chat_message (id, room, sender, content, forwarded, parent, source, seq, created_at, updated_at, fields) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10)";
    let parameters = [
        key,
        place,
        SqlValue::Text(ctx.actor.id.0.clone()),
        SqlValue::Text(Arc::clone(&message.content)),
        SqlValue::from(message.is_forwarded),
        SqlValue::from(message.parent.map(Uuid::into_bytes)),
        SqlValue::from(message.source.map(Uuid::into_bytes)),
        SqlValue::Int(message.seq),
        SqlValue::Int(message.created_at),
        SqlValue::from(message.fields.is_object().then(|| message.fields.to_string())),
    ];
    ctx.tx.execute(sql, &parameters)?;
    Ok(message)
}

/// The object of a message that was stored a moment ago: nobody has read it or reacted to it.
fn sent_object(ctx: &mut Ctx<'_>, message: &Message, attachments: &[Attachment]) -> Result<Value, ChatError> {
    let inner = match (message.parent.or(message.source), ctx.settings.max_nesting.checked_sub(1)) {
        (Some(inner), Some(nesting)) => load_nested(ctx, &[inner], nesting)?.pop().unwrap_or_default(),
        _ => Value::Null,
    };
    let (parent, source) = if message.parent.is_some() { (inner, Value::Null) } else { (Value::Null, inner) };
    let attachments = attachments.iter().map(|attachment| attachment.object(ctx.view())).collect();
    let parts = Parts { attachments, ..Parts::default() };
    Ok(object(message, Some(ctx.actor), parts, parent, source, ctx.view()))
}
