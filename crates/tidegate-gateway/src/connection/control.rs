//! Messages that a client sends to the gateway itself: join, leave, change, publish, presence, ping.
//!
//! They are JSON objects with the member that the policy reserves, and obey the same order as other messages. Each is
//! answered by one frame that says what was done, or why not; `ref` of the question is in the answer.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tidegate_core::channel::{ChannelName, Right};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::notice::Notice;
use tidegate_core::snapshot::{Stage, StagePolicy};
use tidegate_ws::OutboundMessage;

use super::handle::Handle;
use super::message;
use crate::channels::{By, JoinRefusal, Permission, frame, on_join, presence};
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::groups::{Joined, Past};
use crate::publish::{Publish, Target};

/// User ids that an answer about presence names.
const MAX_PRESENT: usize = 1000;

/// Longest `ref`, in bytes of its JSON.
const MAX_REF: usize = 256;

/// Route that hears of joins by clients, where the API has it.
pub(super) const JOIN_ROUTE: &str = "tidegate.join";

/// Route that hears of departures by clients, where the API has it.
pub(super) const LEAVE_ROUTE: &str = "tidegate.leave";

#[derive(Debug, Deserialize)]
struct Request<'a> {
    #[serde(default)]
    action: String,
    #[serde(default)]
    channel: Option<String>,
    /// Last message that the client has.
    #[serde(default)]
    after: Option<String>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, rename = "ref")]
    reference: Value,
}

/// The part of a message that is for the gateway, if it is one of those.
pub(super) fn find<'a>(policy: &StagePolicy, text: &'a str) -> Option<&'a RawValue> {
    let key = policy.policy.control.key.as_str();
    // Cheap first: most messages are not.
    if key.is_empty() || !text.trim_start().starts_with('{') || !text.contains(key) {
        return None;
    }
    let members: std::collections::HashMap<std::borrow::Cow<'_, str>, &RawValue> =
        serde_json::from_str(text).ok()?;
    members.get(key).copied()
}

/// Answers one.
pub(super) async fn handle(
    gateway: &Gateway,
    handle: &Arc<Handle>,
    stage: &Arc<Stage>,
    policy: &StagePolicy,
    raw: &RawValue,
) {
    let mut answer = match serde_json::from_str::<Request<'_>>(raw.get()) {
        Ok(request) => {
            let reference = match request.reference.to_string().len() <= MAX_REF {
                true => request.reference.clone(),
                false => Value::Null,
            };
            match run(gateway, handle, stage, policy, &request, &reference).await {
                // Joining has been answered in its place among the channel's messages.
                Ok(None) => return,
                Ok(Some(answer)) => with_reference(answer, &reference),
                Err(refusal) => with_reference(refused(gateway, handle, &request, &refusal), &reference),
            }
        }
        Err(_) => {
            json!({ "id": Diagnosis::CONTROL_MALFORMED.as_str(), "message": "an object with `action` expected" })
        }
    };
    if answer.get("type").is_none() {
        answer["type"] = "error".into();
    }
    let _ = handle.push(&OutboundMessage::text(frame(policy, answer)), now_millis());
}

fn with_reference(mut answer: Value, reference: &Value) -> Value {
    if !reference.is_null() {
        answer["ref"] = reference.clone();
    }
    answer
}

fn refused(gateway: &Gateway, handle: &Handle, request: &Request<'_>, refusal: &JoinRefusal) -> Value {
    let channel = request.channel.as_deref().unwrap_or_default();
    gateway.notice(Notice::ChannelRefused {
        facts: Facts::none(),
        place: gateway.place(handle),
        channel: channel.chars().take(128).collect::<String>().into(),
        diagnosis: refusal.diagnosis,
        detail: refusal.detail.clone(),
    });
    json!({
        "type": "error",
        "action": request.action,
        "channel": channel,
        "id": refusal.diagnosis.as_str(),
        "message": refusal.text,
    })
}

async fn run(
    gateway: &Gateway,
    handle: &Arc<Handle>,
    stage: &Arc<Stage>,
    policy: &StagePolicy,
    request: &Request<'_>,
    reference: &Value,
) -> Result<Option<Value>, JoinRefusal> {
    let channel = || -> Result<ChannelName, JoinRefusal> {
        let name = request.channel.as_deref().unwrap_or_default();
        name.parse().map_err(|_| JoinRefusal {
            diagnosis: Diagnosis::CHANNEL_INVALID,
            text: "Invalid channel".to_owned(),
            detail: String::new(),
        })
    };
    match request.action.as_str() {
        "ping" => Ok(Some(json!({ "type": "pong", "time": now_millis() }))),
        "join" => {
            let channel = channel()?;
            let permission = gateway.may_enter(handle, &channel).await?;
            let joined = join(gateway, handle, policy, permission, &channel, request, reference).await?;
            if joined.is_new {
                tell_backend(gateway, handle, stage, JOIN_ROUTE, &channel).await;
            }
            Ok(None)
        }
        "change" => {
            let channel = channel()?;
            // Asked first, then out and in: whoever may not change stays where they are.
            let permission = gateway.may_enter(handle, &channel).await?;
            for old in handle.membership().channels().iter().filter(|old| **old != channel) {
                if gateway.leave_channel(handle, old, By::Client) {
                    tell_backend(gateway, handle, stage, LEAVE_ROUTE, old).await;
                }
            }
            let joined = join(gateway, handle, policy, permission, &channel, request, reference).await?;
            if joined.is_new {
                tell_backend(gateway, handle, stage, JOIN_ROUTE, &channel).await;
            }
            Ok(None)
        }
        "leave" => {
            let channel = channel()?;
            let was_member = gateway.leave_channel(handle, &channel, By::Client);
            if was_member {
                tell_backend(gateway, handle, stage, LEAVE_ROUTE, &channel).await;
            }
            Ok(Some(json!({ "type": "left", "channel": channel.as_str() })))
        }
        "publish" => {
            let channel = channel()?;
            let identity = handle.membership().identity();
            gateway.may(policy, handle, &identity, &channel, Right::Publish).await?;
            let data = request.data.map(RawValue::get).unwrap_or("null");
            let payload = match serde_json::from_str::<String>(data) {
                Ok(text) => Bytes::from(text),
                Err(_) => Bytes::from(data.to_owned()),
            };
            let publish = Publish {
                targets: vec![Target::Channel(channel.clone())],
                payload,
                except: HashSet::from([handle.facts.connection_id]),
            };
            let result = gateway.push_to_many(stage, publish, &gateway.place(handle)).await;
            let mut answer = json!({ "type": "published", "channel": channel.as_str() });
            if let Some(id) = result.message_id {
                answer["id"] = id.into();
            }
            Ok(Some(answer))
        }
        "presence" => {
            let channel = channel()?;
            let identity = handle.membership().identity();
            gateway.may(policy, handle, &identity, &channel, Right::Presence).await?;
            let mut answer = presence(gateway, stage, &channel, MAX_PRESENT);
            answer["type"] = "presence".into();
            answer["channel"] = channel.as_str().into();
            Ok(Some(answer))
        }
        _ => Err(JoinRefusal {
            diagnosis: Diagnosis::CONTROL_MALFORMED,
            text: "action must be join, leave, change, publish, presence or ping".to_owned(),
            detail: String::new(),
        }),
    }
}

async fn join(
    gateway: &Gateway,
    handle: &Arc<Handle>,
    policy: &StagePolicy,
    permission: Permission,
    channel: &ChannelName,
    request: &Request<'_>,
    reference: &Value,
) -> Result<Joined, JoinRefusal> {
    let past = match &request.after {
        Some(after) => after.parse().map_or(Past::Unknown, Past::After),
        None => on_join(policy.channels.delivery(channel)),
    };
    // Behind what is replayed and before what is published later, so that a client knows which is which.
    let seal = |joined: Joined| {
        let answer = with_reference(joined_frame(channel, joined), reference);
        let _ = handle.push(&OutboundMessage::text(frame(policy, answer)), now_millis());
    };
    gateway.enter_with(permission, handle, channel, past, seal).await
}

/// What a client is told when it is in.
pub(crate) fn joined_frame(channel: &ChannelName, joined: Joined) -> Value {
    let mut answer = Map::new();
    answer.insert("type".to_owned(), "joined".into());
    answer.insert("channel".to_owned(), channel.as_str().into());
    if let Some(last) = joined.last {
        answer.insert("id".to_owned(), last.to_string().into());
        answer.insert("replayed".to_owned(), joined.n_replayed.into());
    }
    if let Some(is_recovered) = joined.is_recovered {
        answer.insert("recovered".to_owned(), is_recovered.into());
    }
    Value::Object(answer)
}

/// Calls the route for joins or departures, where the API has one, in its place among the connection's events.
async fn tell_backend(
    gateway: &Gateway,
    handle: &Arc<Handle>,
    stage: &Arc<Stage>,
    route_key: &str,
    channel: &ChannelName,
) {
    let route = stage.deployment.as_ref().and_then(|deployment| deployment.routes.get(route_key));
    if let Some(route) = route {
        let mut body = json!({ "channel": channel.as_str() });
        if let Some(user) = &handle.membership().identity().user {
            body["user"] = (**user).into();
        }
        message::tell(gateway, handle, stage, route, &body.to_string()).await;
    }
}
