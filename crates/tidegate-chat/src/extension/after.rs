//! What an event leaves for those who hear of it later.

use serde_json::{Value, json};
use tidegate_store::sql::SqlValue;
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::Ctx;
use crate::model::{User, UserId};
use crate::notification::Kind;
use crate::present;
use crate::settings::Settings;
use crate::settings::extension::Moment;
use crate::store::users;

/// Somebody who is to hear of a notification.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipient {
    /// Who.
    pub user: User,
    /// A connection of the user was open.
    pub is_connected: bool,
}

/// A notification that got recipients.
#[derive(Debug, Clone, PartialEq)]
pub struct Notified {
    /// Its id.
    pub id: Uuid,
    /// Its kind.
    pub kind: Kind,
    /// Where.
    pub room: Uuid,
    /// The message object, as clients get it.
    pub message: Value,
    /// At least one.
    pub recipients: Vec<Recipient>,
}

impl Notified {
    /// What hooks are told.
    pub fn json(&self, settings: &Settings) -> Value {
        let recipients = self.recipients.iter().map(|recipient| {
            json!({
                "user": present::user(&recipient.user, settings),
                "connected": recipient.is_connected,
            })
        });
        json!({
            "id": self.id.to_string(),
            "notification_type": self.kind.as_str(),
            "message": self.message,
            "recipients": recipients.collect::<Vec<_>>(),
        })
    }
}

/// A notification that an event has made, before anybody asked whom it is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Made {
    room: Uuid,
    message: Uuid,
    kind: Kind,
    reaction: Option<Uuid>,
}

/// Remembers that a notification was made, if anybody hears of it.
pub fn notified(ctx: &mut Ctx<'_>, room: Uuid, message: Uuid, kind: Kind, reaction: Option<Uuid>) {
    let is_heard = !ctx.extensions.notifications.is_empty()
        || ctx.settings.hooks.iter().any(|hook| hook.on == Moment::Notify);
    if is_heard {
        ctx.made.push(Made { room, message, kind, reaction });
    }
}

/// Everything that the event has made, with those who are to hear of it.
///
/// # Errors
/// The database.
pub(crate) fn resolve(
    ctx: &mut Ctx<'_>,
    is_connected: &dyn Fn(&UserId) -> bool,
) -> Result<Vec<Notified>, ChatError> {
    let mut notified = Vec::new();
    for made in std::mem::take(&mut ctx.made) {
        let (sql, id) = match made.reaction {
            Some(reaction) => (
                "SELECT n.id, u.id, u.username, u.email, u.first_name, u.last_name, u.disabled, u.claims \
                 FROM chat_notification n JOIN chat_recipient r ON r.notification = n.id \
                 JOIN chat_user u ON u.id = r.user_id WHERE n.reaction = ?1 ORDER BY u.id",
                reaction,
            ),
            None => (
                "SELECT n.id, u.id, u.username, u.email, u.first_name, u.last_name, u.disabled, u.claims \
                 FROM chat_notification n JOIN chat_recipient r ON r.notification = n.id \
                 JOIN chat_user u ON u.id = r.user_id WHERE n.message = ?1 AND n.reaction IS NULL ORDER BY u.id",
                made.message,
            ),
        };
        let rows = ctx.tx.query(sql, &[SqlValue::from(id.into_bytes())])?;
        let Some(first) = rows.first() else { continue };
        let id = Uuid::from_bytes(first.id(0)?);
        let recipients = rows.iter().map(|row| {
            let user = users::user_of(row, 1)?;
            Ok(Recipient { is_connected: is_connected(&user.id), user })
        });
        let recipients = recipients.collect::<Result<_, ChatError>>()?;
        // Gone again within the same event: then nobody has to hear of it.
        let Some(message) = present::message::load(ctx, &[made.message])?.pop() else { continue };
        notified.push(Notified { id, kind: made.kind, room: made.room, message, recipients });
    }
    Ok(notified)
}
