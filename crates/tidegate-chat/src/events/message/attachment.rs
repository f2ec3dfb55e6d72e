//! Attachments of `message.send`: links to media that are kept somewhere else.

use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_store::sql::SqlValue;
use uuid::Uuid;

use crate::error::{ChatError, INTEGRITY};
use crate::event::Ctx;
use crate::present::message::Attachment;
use crate::settings::{Sanitise, Settings};
use crate::{field, sanitize};

/// `media_type`.
const MEDIA_TYPES: &[&str] = &["image", "video", "audio", "file"];

/// Schemes that run a script of whoever wrote the link, in a page that follows it.
const REFUSED_SCHEMES: &[&str] = &["javascript", "vbscript", "data"];

/// MIME types where the settings name none.
pub const MIME_TYPES: &[&str] = &[
    "image/jpeg",
    "image/png",
    "image/gif",
    "image/webp",
    "image/bmp",
    "image/heic",
    "audio/mpeg",
    "audio/mp4",
    "audio/aac",
    "audio/ogg",
    "audio/wav",
    "audio/opus",
    "video/mp4",
    "video/quicktime",
    "video/webm",
    "video/ogg",
    "video/x-msvideo",
    "video/x-matroska",
    "application/pdf",
    "application/msword",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.ms-excel",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.ms-powerpoint",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "text/plain",
    "text/csv",
];

/// The attachments that an event names in `extra_fields.media`.
///
/// # Errors
/// 4003 for what is no list, otherwise with the fields of each wrong element under its index.
pub fn read(ctx: &Ctx<'_>, media: Option<&Value>) -> Result<Vec<Attachment>, ChatError> {
    let items = match media {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => {
            let text = "Media must be a list of media files";
            return Err(ChatError::rule(text, Diagnosis::CHAT_BAD_PAYLOAD));
        }
    };
    let mut attachments = Vec::with_capacity(items.len());
    let mut wrong = Map::new();
    for (index, item) in items.iter().enumerate() {
        let attachment = match item {
            Value::Object(item) => attachment(item, ctx.new_id(), ctx.settings),
            _ => Err(Map::from_iter([(
                "non_field_errors".to_owned(),
                json!(["Invalid data. Expected a dictionary."]),
            )])),
        };
        match attachment {
            Ok(attachment) => attachments.push(attachment),
            Err(fields) => {
                wrong.insert(index.to_string(), Value::Object(fields));
            }
        }
    }
    if wrong.is_empty() { Ok(attachments) } else { Err(ChatError::Fields(wrong)) }
}

/// One attachment, or its wrong fields.
fn attachment(
    item: &Map<String, Value>,
    id: Uuid,
    settings: &Settings,
) -> Result<Attachment, Map<String, Value>> {
    let mut wrong = Map::new();
    let mut note = |name: &str, text: String| {
        wrong.insert(name.to_owned(), json!([text]));
    };
    let required = || field::REQUIRED.to_owned();
    let media_url = item.get("media_url").ok_or_else(required).and_then(link);
    let media_type = item.get("media_type").ok_or_else(required).and_then(media_type);
    let file_size = item.get("file_size").map_or(Ok(0), field::integer);
    let mime_type = match item.get("mime_type") {
        None => Ok("image/jpeg".to_owned()),
        Some(Value::String(text)) if text.is_empty() => Err(field::BLANK.to_owned()),
        // As it is: only exact names are in the list.
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Null) => Err(field::NULL.to_owned()),
        Some(_) => Err("Not a valid string.".to_owned()),
    };
    let caption = match item.get("caption") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => field::text(value, None).map(|text| match settings.sanitise {
            Sanitise::All => Some(sanitize::plain(&text)),
            Sanitise::Content => Some(text),
        }),
    };
    let metadata = match item.get("metadata") {
        None => Ok(json!({})),
        Some(Value::Null) => Err(field::NULL.to_owned()),
        Some(value) => Ok(value.clone()),
    };
    match (media_url, media_type, file_size, mime_type, caption, metadata) {
        (Ok(media_url), Ok(media_type), Ok(file_size), Ok(mime_type), Ok(caption), Ok(metadata)) => {
            Ok(Attachment { id, media_url, media_type, file_size, mime_type, caption, metadata })
        }
        (media_url, media_type, file_size, mime_type, caption, metadata) => {
            let named = [
                ("media_url", media_url.err()),
                ("media_type", media_type.err()),
                ("file_size", file_size.err()),
                ("mime_type", mime_type.err()),
                ("caption", caption.err()),
                ("metadata", metadata.err()),
            ];
            for (name, text) in named {
                if let Some(text) = text {
                    note(name, text);
                }
            }
            Err(wrong)
        }
    }
}

fn media_type(value: &Value) -> Result<String, String> {
    match value {
        Value::Null => Err(field::NULL.to_owned()),
        Value::String(text) if MEDIA_TYPES.contains(&text.as_str()) => Ok(text.clone()),
        Value::String(text) => Err(format!("\"{text}\" is not a valid choice.")),
        other => Err(format!("\"{other}\" is not a valid choice.")),
    }
}

/// Any text that is no link to a script; relative links are for clients to resolve.
fn link(value: &Value) -> Result<String, String> {
    let text = field::filled_text(value, None)?;
    // As browsers read it: tabs and line ends count nowhere, control characters and blanks not at the begin.
    let scheme: String = text
        .chars()
        .filter(|character| !matches!(character, '\t' | '\n' | '\r'))
        .skip_while(|character| *character <= ' ')
        .take_while(|character| *character != ':')
        .take(16)
        .collect();
    let is_refused = REFUSED_SCHEMES.iter().any(|refused| scheme.eq_ignore_ascii_case(refused));
    if is_refused && text.contains(':') { Err(field::URL.to_owned()) } else { Ok(text) }
}

/// Refuses what has a MIME type outside the list.
///
/// # Errors
/// 4005.
pub fn check_mime_types(settings: &Settings, attachments: &[Attachment]) -> Result<(), ChatError> {
    let is_known = |mime_type: &str| match settings.mime_types.as_slice() {
        [] => MIME_TYPES.contains(&mime_type),
        configured => configured.iter().any(|configured| configured == mime_type),
    };
    if attachments.iter().all(|attachment| is_known(&attachment.mime_type)) {
        Ok(())
    } else {
        Err(ChatError::Integrity { text: INTEGRITY, diagnosis: Diagnosis::CHAT_BAD_PAYLOAD })
    }
}

/// Stores the attachments of a message that is stored already.
///
/// # Errors
/// The database.
pub fn insert(ctx: &mut Ctx<'_>, message: Uuid, attachments: &[Attachment]) -> Result<(), ChatError> {
    let sql = "INSERT INTO chat_attachment (id, message, position, media_url, media_type, file_size, mime_type, caption, \
               metadata) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    for (position, attachment) in (0_i64..).zip(attachments) {
        let parameters = [
            SqlValue::from(attachment.id.into_bytes()),
            SqlValue::from(message.into_bytes()),
            SqlValue::Int(position),
            SqlValue::from(attachment.media_url.as_str()),
            SqlValue::from(attachment.media_type.as_str()),
            SqlValue::Int(attachment.file_size),
            SqlValue::from(attachment.mime_type.as_str()),
            SqlValue::from(attachment.caption.as_deref()),
            SqlValue::from(attachment.metadata.to_string()),
        ];
        ctx.tx.execute(sql, &parameters)?;
    }
    Ok(())
}
