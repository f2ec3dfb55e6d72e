//! Messages with everything that belongs to them.

use serde_json::Value;
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::Ctx;

/// Whole message objects, in the order of `ids`; ids of nothing are left out. A fixed number of queries, however many
/// messages there are.
///
/// # Errors
/// The database.
pub fn load(ctx: &mut Ctx<'_>, ids: &[Uuid]) -> Result<Vec<Value>, ChatError> {
    let _ = (ctx, ids);
    Err(ChatError::Internal("not built yet".to_owned()))
}
