//! Users.

use std::sync::Arc;

use serde_json::{Map, Value};
use tidegate_core::identity::Identity;
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

/// Characters of a name or address that are kept of a claim.
const MAX_CLAIM: usize = 254;

/// Names that are tried for a user, each longer than the one before.
const MAX_NAMES: usize = 8;

/// What a token says of its user; absent claims say nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Claimed {
    /// `username`, else `preferred_username`, else `name`.
    pub username: Option<String>,
    /// `email`
    pub email: Option<String>,
    /// `first_name`, else `given_name`.
    pub first_name: Option<String>,
    /// `last_name`, else `family_name`.
    pub last_name: Option<String>,
    /// Further claims that are kept to be shown.
    pub claims: Map<String, Value>,
}

impl Claimed {
    /// Of an identity; `is_kept` says which further claims are kept.
    pub fn of(identity: &Identity, is_kept: impl Fn(&str) -> bool) -> Self {
        let first = |names: &[&str]| {
            names.iter().find_map(|name| {
                let text = identity.claim_text(name)?;
                let text = text.trim();
                let is_plain = !text.is_empty() && !text.contains('\0');
                is_plain.then(|| text.chars().take(MAX_CLAIM).collect::<String>())
            })
        };
        let kept = identity.claims.iter().filter(|(name, _)| is_kept(name));
        Self {
            username: first(&["username", "preferred_username", "name"]),
            email: first(&["email"]),
            first_name: first(&["first_name", "given_name"]),
            last_name: first(&["last_name", "family_name"]),
            claims: kept.map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }

    /// The user after its token was heard, by the name that it would have if nobody else had it.
    fn applied(&self, id: &UserId, known: Option<&User>) -> User {
        let text = |said: &Option<String>, known: Option<&Arc<str>>| match said {
            Some(said) => Arc::from(said.as_str()),
            None => known.map_or_else(|| Arc::from(""), Arc::clone),
        };
        let username = match (&self.username, known) {
            (Some(said), _) => Arc::from(said.as_str()),
            (None, Some(known)) => Arc::clone(&known.username),
            (None, None) => Arc::from(format!("user-{}", id.as_str())),
        };
        let mut claims = known.and_then(|known| known.claims.as_object().cloned()).unwrap_or_default();
        claims.extend(self.claims.clone());
        User {
            id: id.clone(),
            username,
            email: text(&self.email, known.map(|known| &known.email)),
            first_name: text(&self.first_name, known.map(|known| &known.first_name)),
            last_name: text(&self.last_name, known.map(|known| &known.last_name)),
            is_disabled: known.is_some_and(|known| known.is_disabled),
            claims: if claims.is_empty() { Value::Null } else { Value::Object(claims) },
        }
    }
}

/// What [`from_claims`] found.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// As it is in the database.
    Known(User),
    /// As it is to be written.
    New(User),
}

/// The user that a token is about. A name that is taken gets the id behind it.
///
/// # Errors
/// The database.
pub fn from_claims(tx: &mut dyn Tx, id: &UserId, claimed: &Claimed) -> Result<Entry, ChatError> {
    let known = find(tx, id)?;
    let mut user = claimed.applied(id, known.as_ref());
    let sql = "SELECT 1 FROM chat_user WHERE username = ?1 AND id <> ?2";
    for _ in 0..MAX_NAMES {
        // The name that it has is its own.
        if known.as_ref().is_some_and(|known| known.username == user.username) {
            break;
        }
        let parameters = [SqlValue::Text(user.username.clone()), SqlValue::Text(id.0.clone())];
        if tx.query(sql, &parameters)?.is_empty() {
            break;
        }
        user.username = format!("{}-{}", user.username, id.as_str()).into();
    }
    Ok(match known {
        Some(known) if known == user => Entry::Known(known),
        _ => Entry::New(user),
    })
}

/// Writes a user.
///
/// # Errors
/// The database; 4005 when its name was taken meanwhile.
pub fn write(tx: &mut dyn Tx, user: &User) -> Result<(), ChatError> {
    let sql = "INSERT INTO chat_user (id, username, email, first_name, last_name, disabled, claims) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO UPDATE SET username = excluded.username, \
               email = excluded.email, first_name = excluded.first_name, last_name = excluded.last_name, \
               disabled = excluded.disabled, claims = excluded.claims";
    let claims = if user.claims.is_null() { SqlValue::Null } else { user.claims.to_string().into() };
    let parameters = [
        SqlValue::Text(user.id.0.clone()),
        SqlValue::Text(user.username.clone()),
        SqlValue::Text(user.email.clone()),
        SqlValue::Text(user.first_name.clone()),
        SqlValue::Text(user.last_name.clone()),
        user.is_disabled.into(),
        claims,
    ];
    tx.execute(sql, &parameters)?;
    Ok(())
}
