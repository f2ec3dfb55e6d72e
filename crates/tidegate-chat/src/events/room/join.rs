//! `room.join`.

use serde_json::{Map, Value};
use tidegate_core::diagnosis::Diagnosis;

use super::{exceeds, named, too_many};
use crate::error::ChatError;
use crate::event::Ctx;
use crate::model::RoomKind;
use crate::store::members::{self, Participant};
use crate::value::RoomIdStyle;

/// Handles the event.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let room = named(ctx, data, RoomIdStyle::Lenient)?;
    let text = match room.kind {
        RoomKind::OneToOne => "You can only join a channel/group chat",
        RoomKind::Group => "Ask an admin to add you to the group",
        RoomKind::Channel if !room.is_public => {
            "Channel is private, ask a moderator to add you to the channel"
        }
        RoomKind::Channel => {
            let mut participants = members::participants(ctx.tx, room.id)?;
            if !participants.iter().any(|participant| participant.user.id == ctx.actor.id) {
                if exceeds(participants.len() + 1, room.cap) {
                    return Err(too_many(room.kind));
                }
                let joiner = Participant { user: ctx.actor.clone(), is_admin: false };
                members::add(ctx.tx, room.id, std::slice::from_ref(&joiner), ctx.now)?;
                participants.push(joiner);
            }
            let names = [ctx.actor.username.clone()];
            return super::members::dispatch_added(ctx, &room, &participants, &names, "self");
        }
    };
    Err(ChatError::rule(text, Diagnosis::CHAT_INVALID_ROOM_TYPE))
}
