//! What hooks answer.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};
use tidegate_core::id::ConnectionId;
use uuid::Uuid;

use super::HookFailure;
use crate::error::ChatError;
use crate::event::{Audience, Ctx, Dispatch, Frame};
use crate::extension::Routed;
use crate::store::rooms;
use crate::value;

/// Most dispatches of one answer.
const MAX_DISPATCHES: usize = 100;

/// A hook's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It may go on; perhaps with other data.
    Allow(Option<Map<String, Value>>),
    /// It may not.
    Refuse {
        /// 4001 to 4999.
        code: u16,
        /// For the client.
        detail: Value,
    },
    /// The hook has done it; these go out.
    Handled(Vec<HookDispatch>),
}

/// A frame that a hook wants to go out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookDispatch {
    /// Whom; one of the three.
    pub to: To,
    /// Type of the event.
    #[serde(rename = "eventType")]
    pub event_type: String,
    /// Its data.
    #[serde(default)]
    pub data: Value,
}

/// Whom a frame of a hook is for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// Everybody in a room.
    Room(String),
    /// All connections of a user; the id as text or number.
    User(Value),
    /// One connection.
    Connection(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    allow: Option<bool>,
    #[serde(default)]
    data: Option<Map<String, Value>>,
    #[serde(default)]
    error: Option<BodyError>,
    #[serde(default)]
    handled: bool,
    #[serde(default)]
    dispatch: Vec<HookDispatch>,
}

#[derive(Deserialize)]
struct BodyError {
    #[serde(default = "default_code")]
    code: u16,
    #[serde(default)]
    detail: Value,
}

fn default_code() -> u16 {
    4003
}

impl Answer {
    /// The answer of a 2xx; an empty body allows.
    ///
    /// # Errors
    /// [`HookFailure::Answer`]
    pub fn read(body: &[u8]) -> Result<Self, HookFailure> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::Allow(None));
        }
        // The text of the parser names members and places; what hooks answer is not repeated.
        let body: Body =
            serde_json::from_slice(body).map_err(|error| HookFailure::Answer(error.to_string()))?;
        match body {
            Body { dispatch, .. } if dispatch.len() > MAX_DISPATCHES => {
                Err(HookFailure::Answer(format!("more than {MAX_DISPATCHES} dispatches")))
            }
            Body { handled: true, dispatch, .. } => Ok(Self::Handled(dispatch)),
            Body { allow: Some(true), data, .. } => Ok(Self::Allow(data)),
            Body { allow: Some(false), error, .. } => {
                let BodyError { code, detail } =
                    error.unwrap_or(BodyError { code: default_code(), detail: Value::Null });
                if !(4001..=4999).contains(&code) {
                    return Err(HookFailure::Answer(format!("code {code} is not from 4001 to 4999")));
                }
                let detail = if detail.is_null() { Value::from("Refused.") } else { detail };
                Ok(Self::Refuse { code, detail })
            }
            Body { allow: None, .. } => {
                Err(HookFailure::Answer("neither \"allow\" nor \"handled\"".to_owned()))
            }
        }
    }
}

/// What handles an event by leaving what a hook wants to go out.
pub(super) fn leaves(dispatches: Vec<HookDispatch>) -> Routed {
    Routed::Custom(std::sync::Arc::new(move |ctx, _| {
        dispatches.iter().try_for_each(|dispatch| leave(ctx, dispatch))
    }))
}

/// Leaves one.
fn leave(ctx: &mut Ctx<'_>, dispatch: &HookDispatch) -> Result<(), ChatError> {
    let audience = match &dispatch.to {
        To::Room(room) => {
            let room = Uuid::try_parse(room).map_err(|_| wrong("a room that is no id"))?;
            let members = rooms::members(ctx.tx, room)?;
            Audience::Users(members.into_iter().map(|member| member.user).collect())
        }
        To::User(user) => {
            let id = value::user_id(user, ctx.settings);
            Audience::Users(vec![id.ok_or_else(|| wrong("a user that is no id"))?])
        }
        To::Connection(id) => {
            Audience::Connection(ConnectionId::parse(id).map_err(|_| wrong("a connection that is no id"))?)
        }
    };
    let frame =
        Frame::Event { event_type: Cow::Owned(dispatch.event_type.clone()), data: dispatch.data.clone() };
    ctx.dispatches.push(Dispatch { audience, frame });
    Ok(())
}

fn wrong(what: &str) -> ChatError {
    ChatError::Internal(format!("a hook answered with a dispatch to {what}"))
}
