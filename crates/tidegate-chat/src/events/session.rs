//! `session.heartbeat` and `session.replay`.

pub mod replay;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::error::ChatError;
use crate::event::Ctx;

/// Answers this connection; that it was heard of is noted by whoever took the event in.
///
/// # Errors
/// None.
pub fn heartbeat(ctx: &mut Ctx<'_>, _data: &Map<String, Value>) -> Result<(), ChatError> {
    ctx.answer(json!({ "status": "success" }));
    Ok(())
}
