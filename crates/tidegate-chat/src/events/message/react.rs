//! `message.react`.

use serde_json::{Map, Value};

use crate::error::ChatError;
use crate::event::Ctx;

/// Handles the event.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let _ = (ctx, data);
    Err(ChatError::Internal("not built yet".to_owned()))
}
