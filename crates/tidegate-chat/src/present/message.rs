//! Messages with everything that belongs to them.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};
use tidegate_store::sql::{SqlRow, SqlValue};
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::{Ctx, time_text};
use crate::model::{Message, Micros, User, UserId};
use crate::present;
use crate::settings::Settings;
use crate::store::lists::{MAX_IDS, id_list};
use crate::store::users;

/// What hangs on a message, each list in the order in which it is shown.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Names of those who acknowledged it.
    pub delivered_to: Vec<Value>,
    /// Objects of [`receipt`].
    pub receipts: Vec<Value>,
    /// Objects of [`reaction`].
    pub reactions: Vec<Value>,
    /// Objects of [`Attachment::object`].
    pub attachments: Vec<Value>,
}

/// An attachment of a message; its content is somewhere else.
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    /// Its id.
    pub id: Uuid,
    /// A link, absolute or relative.
    pub media_url: String,
    /// `image`, `video`, `audio` or `file`.
    pub media_type: String,
    /// In bytes, as the client says.
    pub file_size: i64,
    /// Of the list in the settings.
    pub mime_type: String,
    /// Free text.
    pub caption: Option<String>,
    /// Any JSON but `null`.
    pub metadata: Value,
}

impl Attachment {
    /// As clients see it.
    pub fn object(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "media_url": self.media_url,
            "media_type": self.media_type,
            "file_size": self.file_size,
            "mime_type": self.mime_type,
            "caption": self.caption,
            "metadata": self.metadata,
        })
    }
}

/// A read receipt.
pub fn receipt(reader: &User, read_at: Micros, settings: &Settings) -> Value {
    json!({ "reader": present::user(reader, settings), "read_at": time_text(read_at) })
}

/// A reaction.
pub fn reaction(id: Uuid, user: &User, content: &str, created_at: Micros, settings: &Settings) -> Value {
    json!({
        "id": id.to_string(),
        "user": present::user(user, settings),
        "reaction_content": content,
        "created_at": time_text(created_at),
    })
}

/// A whole message object. `parent` and `source` are objects of the same kind, or `null`. Of a deleted message neither content
/// nor attachments nor reactions are shown.
pub fn object(
    message: &Message,
    sender: Option<&User>,
    parts: Parts,
    parent: Value,
    source: Value,
    settings: &Settings,
) -> Value {
    let is_deleted = message.is_deleted;
    let shown = |values: Vec<Value>| if is_deleted { Vec::new() } else { values };
    let mut object = match &message.fields {
        Value::Object(fields) if !is_deleted => fields.clone(),
        _ => Map::new(),
    };
    let built_in = json!({
        "id": message.id.to_string(),
        "room": { "id": message.room.to_string() },
        "sender": sender.map(|sender| present::user(sender, settings)),
        "content": if is_deleted { "" } else { &*message.content },
        "is_deleted": is_deleted,
        "is_edited": message.is_edited,
        "is_forwarded": message.is_forwarded,
        "parent_message": parent,
        "forwarded_from": source,
        "delivered_to": parts.delivered_to,
        "read_receipts": parts.receipts,
        "reactions": shown(parts.reactions),
        "attachments": shown(parts.attachments),
        "created_at": time_text(message.created_at),
        "updated_at": time_text(message.updated_at),
    });
    if let Value::Object(built_in) = built_in {
        // No additional field hides one of these.
        object.extend(built_in);
    }
    Value::Object(object)
}

/// Whole message objects, in the order of `ids`; ids of nothing are left out. Two queries, however many messages there are, up to
/// some thousands.
///
/// # Errors
/// The database.
pub fn load(ctx: &mut Ctx<'_>, ids: &[Uuid]) -> Result<Vec<Value>, ChatError> {
    load_nested(ctx, ids, ctx.settings.max_nesting)
}

/// As [`load`], with what they answer to or forward only `nesting` deep.
///
/// # Errors
/// The database.
pub fn load_nested(ctx: &mut Ctx<'_>, ids: &[Uuid], nesting: usize) -> Result<Vec<Value>, ChatError> {
    let mut objects = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MAX_IDS) {
        let list = id_list(1, ids);
        let first =
            format!("SELECT id, parent, source, 0 FROM chat_message WHERE id IN ({})", list.placeholders);
        let loaded = Loaded::read(ctx, &first, &list.parameters, nesting)?;
        objects.extend(ids.iter().filter_map(|id| loaded.object(*id, nesting, ctx.settings)));
    }
    Ok(objects)
}

/// Whole objects of the visible messages of a room, newest first, after the newest `offset` ones and at most `limit`.
///
/// # Errors
/// The database.
pub fn load_page(ctx: &mut Ctx<'_>, room: Uuid, limit: usize, offset: i64) -> Result<Vec<Value>, ChatError> {
    let first = "SELECT id, parent, source, 0 FROM (SELECT id, parent, source FROM chat_message \
                 WHERE room = ?1 AND deleted = 0 ORDER BY seq DESC LIMIT ?2 OFFSET ?3) page";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let parameters = [SqlValue::from(room.into_bytes()), SqlValue::Int(limit), SqlValue::Int(offset)];
    let nesting = ctx.settings.max_nesting;
    let loaded = Loaded::read(ctx, first, &parameters, nesting)?;
    let newest_first = loaded.asked_for.iter();
    Ok(newest_first.filter_map(|id| loaded.object(*id, nesting, ctx.settings)).collect())
}

/// Messages with what they answer to or forward, and the parts of all of them.
#[derive(Debug, Default)]
struct Loaded {
    messages: HashMap<Uuid, (Message, Option<User>)>,
    parts: HashMap<Uuid, Parts>,
    /// Those that the first query gave, newest first within a room.
    asked_for: Vec<Uuid>,
}

impl Loaded {
    /// `first` selects `id, parent, source, 0` of the messages that are asked for.
    fn read(
        ctx: &mut Ctx<'_>,
        first: &str,
        parameters: &[SqlValue],
        nesting: usize,
    ) -> Result<Self, ChatError> {
        let mut loaded = Self::default();
        // What a message answers to lies before it, so there are no circles; it has one of the two at most.
        let sql = format!(
            "WITH RECURSIVE tree (id, parent, source, depth) AS (\
             {first} \
             UNION \
             SELECT m.id, m.parent, m.source, tree.depth + 1 FROM tree \
             JOIN chat_message m ON m.id = COALESCE(tree.parent, tree.source) WHERE tree.depth < {nesting}) \
             SELECT m.id, m.room, m.sender, m.content, m.deleted, m.edited, m.forwarded, m.parent, m.source, m.fields, \
             m.seq, m.created_at, m.updated_at, CAST(t.depth AS BIGINT), \
             u.id, u.username, u.email, u.first_name, u.last_name, u.disabled, u.claims \
             FROM (SELECT id, MIN(depth) AS depth FROM tree GROUP BY id) t \
             JOIN chat_message m ON m.id = t.id LEFT JOIN chat_user u ON u.id = m.sender \
             ORDER BY m.seq DESC"
        );
        for row in ctx.tx.query(&sql, parameters)? {
            let message = message_of(&row)?;
            let sender = row.optional(14, SqlRow::text)?.map(|_| users::user_of(&row, 14)).transpose()?;
            if row.int(13)? == 0 {
                loaded.asked_for.push(message.id);
            }
            loaded.messages.insert(message.id, (message, sender));
        }
        let ids: Vec<Uuid> = loaded.messages.keys().copied().collect();
        for ids in ids.chunks(MAX_IDS) {
            loaded.read_parts(ctx, ids)?;
        }
        Ok(loaded)
    }

    fn read_parts(&mut self, ctx: &mut Ctx<'_>, ids: &[Uuid]) -> Result<(), ChatError> {
        let list = id_list(1, ids);
        let ids = &list.placeholders;
        let user = "u.id, u.username, u.email, u.first_name, u.last_name, u.disabled, u.claims";
        // One shape for all four; what a part does not have is empty. The sixth and the fourth column say what is older.
        let sql = format!(
            "SELECT 'delivery', d.message, d.message, d.delivered_at, '', '', '', CAST(NULL AS TEXT), '', {user} \
             FROM chat_delivery d JOIN chat_user u ON u.id = d.user_id WHERE d.message IN ({ids}) \
             UNION ALL \
             SELECT 'receipt', r.message, r.id, r.read_at, '', '', '', NULL, '', {user} \
             FROM chat_receipt r JOIN chat_user u ON u.id = r.reader WHERE r.message IN ({ids}) \
             UNION ALL \
             SELECT 'reaction', r.message, r.id, r.created_at, r.content, '', '', NULL, '', {user} \
             FROM chat_reaction r JOIN chat_user u ON u.id = r.user_id WHERE r.message IN ({ids}) \
             UNION ALL \
             SELECT 'attachment', a.message, a.id, a.position, a.media_url, a.media_type, a.mime_type, a.caption, \
             a.metadata, '', '', '', '', '', a.file_size, NULL \
             FROM chat_attachment a WHERE a.message IN ({ids})"
        );
        let mut rows = Vec::new();
        for row in ctx.tx.query(&sql, &list.parameters)? {
            rows.push((row.int(3)?, row.id(2)?, row));
        }
        rows.sort_by_key(|(at, id, _)| (*at, *id));
        for (at, id, row) in rows {
            let parts = self.parts.entry(Uuid::from_bytes(row.id(1)?)).or_default();
            let id = Uuid::from_bytes(id);
            match &*row.text(0)? {
                "delivery" => parts.delivered_to.push(Value::from(&*row.text(10)?)),
                "receipt" => parts.receipts.push(receipt(&users::user_of(&row, 9)?, at, ctx.settings)),
                "reaction" => {
                    let user = users::user_of(&row, 9)?;
                    parts.reactions.push(reaction(id, &user, &row.text(4)?, at, ctx.settings));
                }
                _ => parts.attachments.push(attachment_of(id, &row)?.object()),
            }
        }
        Ok(())
    }

    /// The object of a message, with what it answers to or forwards `nesting` deep.
    fn object(&self, id: Uuid, nesting: usize, settings: &Settings) -> Option<Value> {
        // From the deepest up: a chain may be as deep as an operator likes.
        let mut chain = vec![self.messages.get(&id)?];
        let mut seen = HashSet::from([id]);
        while chain.len() <= nesting
            && let Some((last, _)) = chain.last()
            && let Some(next) = last.parent.or(last.source)
            && seen.insert(next)
            && let Some(next) = self.messages.get(&next)
        {
            chain.push(next);
        }
        let mut inner = Value::Null;
        for (message, sender) in chain.into_iter().rev() {
            let parts = self.parts.get(&message.id).cloned().unwrap_or_default();
            let (parent, source) =
                if message.parent.is_some() { (inner, Value::Null) } else { (Value::Null, inner) };
            inner = object(message, sender.as_ref(), parts, parent, source, settings);
        }
        Some(inner)
    }
}

fn message_of(row: &SqlRow) -> Result<Message, ChatError> {
    let fields = row.optional(9, SqlRow::text)?;
    Ok(Message {
        id: Uuid::from_bytes(row.id(0)?),
        room: Uuid::from_bytes(row.id(1)?),
        sender: row.optional(2, SqlRow::text)?.map(UserId),
        content: row.text(3)?,
        is_deleted: row.bool(4)?,
        is_edited: row.bool(5)?,
        is_forwarded: row.bool(6)?,
        parent: row.optional(7, SqlRow::id)?.map(Uuid::from_bytes),
        source: row.optional(8, SqlRow::id)?.map(Uuid::from_bytes),
        fields: fields.and_then(|fields| serde_json::from_str(&fields).ok()).unwrap_or(Value::Null),
        seq: row.int(10)?,
        created_at: row.int(11)?,
        updated_at: row.int(12)?,
    })
}

fn attachment_of(id: Uuid, row: &SqlRow) -> Result<Attachment, ChatError> {
    Ok(Attachment {
        id,
        media_url: row.text(4)?.as_ref().into(),
        media_type: row.text(5)?.as_ref().into(),
        mime_type: row.text(6)?.as_ref().into(),
        caption: row.optional(7, SqlRow::text)?.map(|caption| caption.as_ref().into()),
        metadata: serde_json::from_str(&row.text(8)?).unwrap_or_default(),
        file_size: row.int(14)?,
    })
}
