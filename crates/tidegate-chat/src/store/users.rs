//! Users.

use serde_json::Value;
use tidegate_store::sql::{SqlRow, SqlValue, Tx};

use crate::error::ChatError;
use crate::model::{User, UserId};

/// Columns of a [`User`], in the order of [`user_of`].
pub const COLUMNS: &str = "id, username, email, first_name, last_name, disabled, claims";

/// A user out of a row whose columns begin with [`COLUMNS`] at `first`.
///
/// # Errors
/// A column is not what it should be.
pub fn user_of(row: &SqlRow, first: usize) -> Result<User, ChatError> {
    let claims = row.optional(first + 6, SqlRow::text)?;
    Ok(User {
        id: UserId(row.text(first)?),
        username: row.text(first + 1)?,
        email: row.text(first + 2)?,
        first_name: row.text(first + 3)?,
        last_name: row.text(first + 4)?,
        is_disabled: row.bool(first + 5)?,
        claims: claims.and_then(|claims| serde_json::from_str(&claims).ok()).unwrap_or(Value::Null),
    })
}

/// A user by its id.
///
/// # Errors
/// The database.
pub fn find(tx: &mut dyn Tx, id: &UserId) -> Result<Option<User>, ChatError> {
    let sql =
        "SELECT id, username, email, first_name, last_name, disabled, claims FROM chat_user WHERE id = ?1";
    let rows = tx.query(sql, &[SqlValue::Text(id.0.clone())])?;
    rows.first().map(|row| user_of(row, 0)).transpose()
}
