//! `message.acknowledged`: messages have reached a user.

use serde_json::{Map, Value};
use tidegate_store::sql::SqlValue;
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::{Audience, Ctx};
use crate::model::UserId;
use crate::store::lists::{MAX_IDS, id_list};
use crate::store::messages;
use crate::{notification, permission, present, value};

/// Handles the event.
///
/// # Errors
/// [`ChatError`]
pub fn handle(ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
    let named = value::message_ids(data)?;
    let targets = messages::targets(ctx.tx, &ctx.actor.id, &named.ids)?;
    permission::message::can_access(&targets)?;
    if targets.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = targets.iter().map(|target| target.id).collect();
    deliver(ctx, &ids)?;
    if ctx.settings.notifications {
        notification::acknowledge(ctx.tx, &ctx.actor.id, &ids)?;
    }
    // Few senders: a list of a client rarely spans more than one screen. Messages of nobody are told to nobody.
    let mut by_sender: Vec<(UserId, Vec<Uuid>)> = Vec::new();
    for target in targets {
        let Some(sender) = target.sender else { continue };
        match by_sender.iter_mut().find(|(other, _)| *other == sender) {
            Some((_, ids)) => ids.push(target.id),
            None => by_sender.push((sender, vec![target.id])),
        }
    }
    for (sender, ids) in by_sender {
        for ids in ids.chunks(ctx.settings.max_history.max(1)) {
            let objects = present::message::load(ctx, ids)?;
            let audience = Audience::Users(vec![sender.clone()]);
            ctx.dispatch(audience, "messagedelivered.dispatch", Value::from(objects));
        }
    }
    Ok(())
}

/// Notes that the actor has these messages, where it is not noted yet.
fn deliver(ctx: &mut Ctx<'_>, ids: &[Uuid]) -> Result<(), ChatError> {
    for ids in ids.chunks(MAX_IDS) {
        let list = id_list(3, ids);
        let sql = format!(
            "INSERT INTO chat_delivery (message, user_id, delivered_at) \
             SELECT id, CAST(?1 AS TEXT), CAST(?2 AS BIGINT) FROM chat_message WHERE id IN ({}) \
             ON CONFLICT DO NOTHING",
            list.placeholders
        );
        let mut parameters = vec![SqlValue::Text(ctx.actor.id.0.clone()), SqlValue::Int(ctx.now)];
        parameters.extend(list.parameters);
        ctx.tx.execute(&sql, &parameters)?;
    }
    Ok(())
}
