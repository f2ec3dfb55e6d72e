//! `room.info`.

use serde_json::{Map, Value};

use super::named;
use crate::error::ChatError;
use crate::event::Ctx;
use crate::value::RoomIdStyle;
use crate::{permission, present};

/// Handles the event.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let room = named(ctx, data, RoomIdStyle::Required)?;
    permission::room::access(ctx, &room)?;
    let detail = present::room::detail(ctx, &room)?;
    ctx.dispatch(ctx.own_audience(), "roominfo.dispatch", detail);
    Ok(())
}
