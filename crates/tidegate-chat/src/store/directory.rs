//! Who is a user when an event names somebody.

use std::collections::HashMap;

use tidegate_store::sql::{SqlValue, Tx};

use crate::error::ChatError;
use crate::event::Ctx;
use crate::model::{User, UserId};
use crate::settings::Directory;
use crate::store::users;

/// Those of these ids that the directory knows. Where it is open all of them are: unknown ones are entered with a name made
/// of their id.
///
/// # Errors
/// The database.
pub fn named(ctx: &mut Ctx<'_>, ids: &[UserId]) -> Result<HashMap<UserId, User>, ChatError> {
    let directory = &ctx.extensions.users;
    let given = directory.get_many(ctx.tx, ids)?;
    let mut found: HashMap<UserId, User> = given.into_iter().map(|user| (user.id.clone(), user)).collect();
    if !directory.is_table() {
        let stored = find_many(ctx.tx, ids)?;
        for user in found.values().filter(|user| stored.get(&user.id) != Some(user)) {
            // Rows of members name rows of users.
            users::write(ctx.tx, user)?;
        }
    }
    if ctx.settings.directory == Directory::Open {
        for id in ids {
            if !found.contains_key(id) {
                let stub = enter_stub(ctx.tx, id)?;
                found.insert(stub.id.clone(), stub);
            }
        }
    }
    Ok(found)
}

/// Names that are tried for a stub, each longer than the one before.
const MAX_NAMES: usize = 8;

fn enter_stub(tx: &mut dyn Tx, id: &UserId) -> Result<User, ChatError> {
    let mut name = format!("user-{}", id.as_str());
    for _ in 0..MAX_NAMES {
        let sql = "INSERT INTO chat_user (id, username) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        tx.execute(sql, &[SqlValue::Text(id.0.clone()), SqlValue::from(name.as_str())])?;
        // It is there: entered now, or by somebody else a moment ago. Otherwise its name is taken.
        if let Some(user) = users::find(tx, id)? {
            return Ok(user);
        }
        name = format!("{name}-{}", id.as_str());
    }
    Err(ChatError::Internal("no name is free for a user of the open directory".to_owned()))
}

/// Ids of one statement of [`find_many`]. Two texts, so that both stay prepared.
const NAMED: usize = 32;

/// Those of these ids that are users.
///
/// # Errors
/// The database.
pub fn find_many(tx: &mut dyn Tx, ids: &[UserId]) -> Result<HashMap<UserId, User>, ChatError> {
    let mut found = HashMap::with_capacity(ids.len());
    for batch in ids.chunks(NAMED) {
        if let [id] = batch {
            found.extend(users::find(tx, id)?.map(|user| (user.id.clone(), user)));
            continue;
        }
        let mut sql = "SELECT id, username, email, first_name, last_name, disabled, claims FROM chat_user WHERE id IN (?1"
            .to_owned();
        for place in 2..=NAMED {
            sql.push_str(&format!(", ?{place}"));
        }
        sql.push(')');
        // The last one fills the places that are left over.
        let padded = batch.iter().chain(std::iter::repeat(&batch[batch.len() - 1])).take(NAMED);
        let parameters: Vec<SqlValue> = padded.map(|id| SqlValue::Text(id.0.clone())).collect();
        for row in tx.query(&sql, &parameters)? {
            let user = users::user_of(&row, 0)?;
            found.insert(user.id.clone(), user);
        }
    }
    Ok(found)
}
