//! What a user has not acknowledged yet.

use tidegate_store::sql::Tx;
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::Ctx;
use crate::extension;
use crate::model::UserId;

/// Kinds of notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message.
    NewMessage,
    /// A message that answers another.
    Reply,
    /// A reaction.
    Reaction,
}

impl Kind {
    /// `notification_type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewMessage => "NEW_MESSAGE",
            Self::Reply => "REPLY",
            Self::Reaction => "REACTION",
        }
    }
}

/// Everybody in the room but the actor is to hear of a message, or of a reaction to it. Nothing where notifications are
/// off or nobody else is there.
///
/// # Errors
/// The database.
pub fn create(
    ctx: &mut Ctx<'_>,
    room: Uuid,
    message: Uuid,
    kind: Kind,
    reaction: Option<Uuid>,
) -> Result<(), ChatError> {
    let extensions = ctx.extensions;
    extensions.handler.create_notification(ctx, room, message, kind, reaction)?;
    extension::notified(ctx, room, message, kind, reaction);
    Ok(())
}

/// [`create`] without extensions.
///
/// # Errors
/// The database.
pub fn create_built_in(
    ctx: &mut Ctx<'_>,
    room: Uuid,
    message: Uuid,
    kind: Kind,
    reaction: Option<Uuid>,
) -> Result<(), ChatError> {
    let _ = (ctx, room, message, kind, reaction);
    Err(ChatError::Internal("not built yet".to_owned()))
}

/// Takes a user off all notifications of these messages; those without recipients go.
///
/// # Errors
/// The database.
pub fn acknowledge(tx: &mut dyn Tx, user: &UserId, messages: &[Uuid]) -> Result<(), ChatError> {
    let _ = (tx, user, messages);
    Err(ChatError::Internal("not built yet".to_owned()))
}

/// Takes a user off all notifications of a room that it is no longer in.
///
/// # Errors
/// The database.
pub fn leave(tx: &mut dyn Tx, user: &UserId, room: Uuid) -> Result<(), ChatError> {
    let _ = (tx, user, room);
    Err(ChatError::Internal("not built yet".to_owned()))
}
