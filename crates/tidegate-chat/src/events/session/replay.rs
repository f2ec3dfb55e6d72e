//! `session.replay`: what was said in the user's rooms since a moment, for a device that was away.
//!
//! Only for those who ask, and only where `replay_seconds` is set: the package has no such event. It goes to the asking
//! connection alone, since other devices have not missed it.

use serde_json::{Map, Value, json};
use tidegate_store::sql::SqlValue;
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::{Audience, Ctx, time_text};
use crate::model::Micros;
use crate::store::messages;
use crate::value;
use crate::{permission, present};

/// Its `event_type`.
pub const EVENT: &str = "session.replay";

/// Messages of one look into a room.
const PAGE: i64 = 64;

/// Where a client wants to go on.
struct Since {
    time: Micros,
    /// The last message that it has.
    message: Option<Uuid>,
}

/// A message that was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Missed {
    created_at: Micros,
    room: Uuid,
    seq: i64,
    id: Uuid,
}

/// Handles the event. `data.since` is a time or the id of a message; without it, as far back as is offered.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let window = i64::try_from(ctx.settings.replay_seconds).unwrap_or(i64::MAX / 1_000_000) * 1_000_000;
    let oldest = ctx.now.saturating_sub(window);
    let since = since(ctx, data)?;
    let begin = since.as_ref().map_or(oldest, |since| since.time.max(oldest));
    let has = since.as_ref().and_then(|since| since.message);
    let most = ctx.settings.max_history;
    let mut missed = missed(ctx, begin, has, most)?;
    // One more than is shown says that there are more.
    let is_cut = missed.len() > most;
    let is_late = since.is_some_and(|since| since.time < oldest);
    missed.truncate(most);
    missed.reverse();
    let ids: Vec<Uuid> = missed.iter().map(|missed| missed.id).collect();
    let answer = json!({
        "since": time_text(begin),
        "complete": !is_cut && !is_late,
        "messages": present::message::load(ctx, &ids)?,
    });
    let audience = ctx.connection.map_or_else(|| ctx.own_audience(), Audience::Connection);
    ctx.dispatch(audience, "sessionreplay.dispatch", answer);
    Ok(())
}

fn since(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<Option<Since>, ChatError> {
    let wrong = || ChatError::field("since", "Must be a time or the id of a message.");
    let text = match data.get("since") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(_) => return Err(wrong()),
    };
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Some(Since { time: time.as_microsecond(), message: None }));
    }
    let id = value::parse(text).map_err(|_| wrong())?;
    let targets = messages::targets(ctx.tx, &ctx.actor.id, &[id])?;
    permission::message::can_access(ctx, &targets)?;
    let sql = "SELECT created_at FROM chat_message WHERE id = ?1";
    let rows = ctx.tx.query(sql, &[SqlValue::from(id.into_bytes())])?;
    let time = rows.first().ok_or_else(value::message_not_found)?.int(0)?;
    Ok(Some(Since { time, message: Some(id) }))
}

/// The newest `most` and one more of the visible messages from `begin` on, newest first, in rooms that the user may read.
fn missed(
    ctx: &mut Ctx<'_>,
    mut begin: Micros,
    has: Option<Uuid>,
    most: usize,
) -> Result<Vec<Missed>, ChatError> {
    let sql = "SELECT r.id, r.seq FROM chat_member m JOIN chat_room r ON r.id = m.room \
               WHERE m.user_id = ?1 AND r.last_at >= ?2 ORDER BY r.last_at DESC, r.id";
    let rooms = ctx.tx.query(sql, &[SqlValue::Text(ctx.actor.id.0.clone()), SqlValue::Int(begin)])?;
    let mut found: Vec<Missed> = Vec::new();
    for row in rooms {
        let room = Uuid::from_bytes(row.id(0)?);
        match permission::message::can_read_room(ctx, room) {
            Ok(()) => read_room(ctx, room, row.int(1)?, begin, &mut found)?,
            Err(error @ ChatError::Internal(_)) => return Err(error),
            // A room that an extension closes to its own members.
            Err(_) => continue,
        }
        found.retain(|missed| Some(missed.id) != has);
        found.sort_unstable_by(|a, b| b.cmp(a));
        if found.len() > most {
            // Of the rooms that are left only what is newer than the oldest of these can matter.
            found.truncate(most + 1);
            begin = found.last().map_or(begin, |oldest| oldest.created_at);
        }
    }
    Ok(found)
}

/// What a room has from `begin` on. It is read backwards by number, which has an index, and times grow with numbers.
fn read_room(
    ctx: &mut Ctx<'_>,
    room: Uuid,
    newest: i64,
    begin: Micros,
    found: &mut Vec<Missed>,
) -> Result<(), ChatError> {
    let limit = found.len() + ctx.settings.max_history + 2;
    let mut before = newest.saturating_add(1);
    let sql = "SELECT id, created_at, deleted, seq FROM chat_message WHERE room = ?1 AND seq < ?2 \
               ORDER BY seq DESC LIMIT ?3";
    loop {
        let parameters = [SqlValue::from(room.into_bytes()), SqlValue::Int(before), SqlValue::Int(PAGE)];
        let rows = ctx.tx.query(sql, &parameters)?;
        for row in &rows {
            let created_at = row.int(1)?;
            if created_at < begin || found.len() >= limit {
                return Ok(());
            }
            before = row.int(3)?;
            if !row.bool(2)? {
                found.push(Missed { created_at, room, seq: before, id: Uuid::from_bytes(row.id(0)?) });
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
    }
}
