//! `room.messages`: what was said in a room, newest first.

use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_store::sql::SqlValue;
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::Ctx;
use crate::value::{self, RoomIdStyle};
use crate::{permission, present};

/// Handles the event.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let room = value::room_id(data, RoomIdStyle::Required)?
        .ok_or(ChatError::NotFound { diagnosis: Diagnosis::CHAT_ROOM_NOT_FOUND })?;
    permission::message::can_read_room(ctx, room)?;
    let answer = match data.get("paginate") {
        Some(Value::Object(paginate)) if !paginate.is_empty() => page(ctx, room, paginate)?,
        _ => {
            let messages = present::message::load_page(ctx, room, ctx.settings.max_history, 0)?;
            json!({ "data": { "room_id": room.to_string(), "messages": messages } })
        }
    };
    let audience = ctx.own_audience();
    ctx.dispatch(audience, "roommessages.dispatch", answer);
    Ok(())
}

fn page(ctx: &mut Ctx<'_>, room: Uuid, paginate: &Map<String, Value>) -> Result<Value, ChatError> {
    let given = |name: &str| paginate.get(name).filter(|value| !value::is_falsy(value));
    let (Some(page), Some(size)) = (given("page"), given("size")) else {
        return Err(ChatError::rule("page and size required", Diagnosis::CHAT_MISSING_FIELD));
    };
    let invalid = || ChatError::rule("Invalid types", Diagnosis::CHAT_BAD_PAYLOAD);
    let page = whole_number(page).ok_or_else(invalid)?;
    let size = whole_number(size).filter(|size| *size >= 1).ok_or_else(invalid)?;

    let sql = "SELECT count(*) FROM chat_message WHERE room = ?1 AND deleted = 0";
    let rows = ctx.tx.query(sql, &[SqlValue::from(room.into_bytes())])?;
    let n_messages = rows.first().map_or(Ok(0), |row| row.int(0))?;
    // Of a larger size the pages are as large as a dispatch may be.
    let per_page = usize::try_from(size).unwrap_or(usize::MAX).min(ctx.settings.max_history.max(1));
    let per_page_wide = i64::try_from(per_page).unwrap_or(i64::MAX);
    // An empty room has one page.
    let last = n_messages.saturating_sub(1) / per_page_wide + 1;
    let shown = if (1..=last).contains(&page) { page } else { last };
    let messages = present::message::load_page(ctx, room, per_page, (shown - 1) * per_page_wide)?;
    Ok(json!({
        "has_next": shown < last,
        "has_previous": shown > 1,
        "next_page_number": (shown < last).then_some(shown + 1),
        "prev_page_number": (shown > 1).then_some(shown - 1),
        "page": page,
        "size": size,
        "data": { "room_id": room.to_string(), "messages": messages },
    }))
}

/// A number, cut to a whole one, or decimal text; what is larger than any page is the largest.
fn whole_number(value: &Value) -> Option<i64> {
    match value {
        // A conversion of a float cuts, and stops at the ends.
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)),
        Value::String(text) => {
            let text = text.trim();
            let (is_negative, digits) = match text.strip_prefix('-') {
                Some(digits) => (true, digits),
                None => (false, text.strip_prefix('+').unwrap_or(text)),
            };
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let number = digits.parse().unwrap_or(i64::MAX);
            Some(if is_negative { -number } else { number })
        }
        _ => None,
    }
}
