//! `@channels/{channel}`, `@users/{userId}`, `@broadcast`: one call reaches everybody it is for.
//!
//! The body is the message, byte for byte, unless its content type is [`SELECTION`]: then it is an object that says who
//! gets which message. The answer counts how many took it, were ending, and read too slowly.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::ConnectionId;
use tidegate_core::mapping::query_values;
use tidegate_core::notice::Place;

use super::{Call, Refusal, bad_request};
use crate::edge::address::Endpoint;
use crate::edge::{Reply, empty};
use crate::publish::{OnceError, Publish, PushResult, Target};

/// Content type of a push that says in its body who gets it.
pub(crate) const SELECTION: &str = "application/vnd.tidegate.push+json";

/// Longest idempotency key, in bytes.
const MAX_KEY: usize = 255;

/// Members of each list of a selection.
const MAX_LISTED: usize = 10_000;

/// The body of a push with a selection. Whoever is in any of the lists gets it; without any list everyone of the stage
/// does. A list that is there and empty is a list: it names nobody.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Selection<'a> {
    /// The message: text as it is, anything else as JSON.
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    connections: Option<Vec<String>>,
    #[serde(default)]
    users: Option<Vec<String>>,
    #[serde(default)]
    sessions: Option<Vec<String>>,
    /// Names, or `prefix*`.
    #[serde(default)]
    channels: Option<Vec<String>>,
    #[serde(default)]
    except: Vec<String>,
}

/// Pushes, or answers as the first push with the same idempotency key was answered.
pub(super) async fn serve(call: &Call<'_>, endpoint: &Endpoint, place: &mut Place) -> Result<Reply, Refusal> {
    let key = match call.headers.get("idempotency-key") {
        None => None,
        Some(key) if key.is_empty() || key.len() > MAX_KEY => {
            return Err(bad_request(&format!("Idempotency-Key must have 1 to {MAX_KEY} characters")));
        }
        Some(key) => Some(String::from_utf8_lossy(key.as_bytes()).into_owned()),
    };
    let publish = read(call, endpoint)?;
    let Some(key) = key else {
        let result = call.gateway.push_to_many_for(call.stage, publish, place, call.facts()).await;
        return Ok(answer(&result, call.query));
    };
    // A selection as it was sent; any other body is the payload, which is compared anyhow.
    let selection = if is_selection(call) { String::from_utf8_lossy(&call.body) } else { Cow::Borrowed("") };
    let subject = format!("{endpoint:?}?{} {selection}", call.query);
    match call.gateway.push_once_for(call.stage, key, subject, publish, place, call.facts()).await {
        Err(error @ OnceError::OtherPush) => {
            Err(Refusal::with_text(ErrorCode::Conflict, Diagnosis::PUSH_KEY_REUSED, &error.to_string()))
        }
        Err(OnceError::Interrupted) => Err(Refusal::new(ErrorCode::Internal, Diagnosis::INTERNAL)),
        Err(OnceError::Full) => Err(Refusal::new(ErrorCode::PushThrottled, Diagnosis::MANAGEMENT_THROTTLED)
            .with("bucket", "idempotency keys")),
        Ok((result, is_replayed)) => {
            let mut reply = answer(&result, call.query);
            if is_replayed {
                reply.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
            }
            Ok(reply)
        }
    }
}

/// Whether the body says who gets the message. Parameters of a content type do not change what it is.
fn is_selection(call: &Call<'_>) -> bool {
    let value = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case(SELECTION))
}

fn read(call: &Call<'_>, endpoint: &Endpoint) -> Result<Publish, Refusal> {
    let mut except = HashSet::new();
    for id in query_values(call.query, "except") {
        except.insert(connection_id(&id)?);
    }
    if !is_selection(call) {
        if std::str::from_utf8(&call.body).is_err() {
            // Every client would close with 1007.
            return Err(bad_request("the message must be UTF-8 text"));
        }
        let targets = vec![match endpoint {
            Endpoint::Channel(name) => Target::Channel(channel_name(name)?),
            Endpoint::User(user) => Target::User(user.as_str().into()),
            _ => Target::Everyone,
        }];
        return Ok(Publish { targets, payload: call.body.clone(), except });
    }
    if !matches!(endpoint, Endpoint::Broadcast) {
        return Err(bad_request(&format!("{SELECTION} is for @broadcast only")));
    }
    let selection: Selection<'_> = serde_json::from_slice(&call.body)
        .map_err(|error| bad_request(&format!("the selection cannot be read: {error}")))?;
    let lists = [&selection.connections, &selection.users, &selection.sessions, &selection.channels];
    let is_too_long = |list: &Vec<String>| list.len() > MAX_LISTED;
    if lists.iter().any(|list| list.as_ref().is_some_and(is_too_long)) || is_too_long(&selection.except) {
        return Err(bad_request(&format!("a list of the selection has more than {MAX_LISTED} members")));
    }
    for id in &selection.except {
        except.insert(connection_id(id)?);
    }
    let mut targets = Vec::new();
    if lists.iter().all(|list| list.is_none()) {
        targets.push(Target::Everyone);
    }
    for id in selection.connections.iter().flatten() {
        targets.push(Target::Connection(connection_id(id)?));
    }
    targets.extend(selection.users.iter().flatten().map(|user| Target::User(user.as_str().into())));
    let sessions = selection.sessions.iter().flatten();
    targets.extend(sessions.map(|session| Target::Session(session.as_str().into())));
    for channel in selection.channels.iter().flatten() {
        targets.push(match channel.strip_suffix('*') {
            Some(prefix) => Target::ChannelPrefix(prefix.to_owned()),
            None => Target::Channel(channel_name(channel)?),
        });
    }
    let data = selection.data.get();
    let payload = match serde_json::from_str::<String>(data) {
        Ok(text) => Bytes::from(text),
        Err(_) => Bytes::from(data.to_owned()),
    };
    Ok(Publish { targets, payload, except })
}

fn connection_id(text: &str) -> Result<ConnectionId, Refusal> {
    ConnectionId::parse(text).map_err(|_| bad_request(&format!("Invalid connectionId: {text}")))
}

pub(super) fn channel_name(name: &str) -> Result<tidegate_core::channel::ChannelName, Refusal> {
    name.parse().map_err(|_| {
        Refusal::with_text(
            ErrorCode::BadRequest,
            Diagnosis::CHANNEL_INVALID,
            "a channel name has 1 to 128 of the characters A-Z a-z 0-9 _ -",
        )
    })
}

/// `{"delivered":2,"gone":0,"slow":0}`, with ids where they were asked for.
fn answer(result: &PushResult, query: &str) -> Reply {
    let mut body = serde_json::json!({
        "delivered": result.delivered,
        "gone": result.gone.len(),
        "slow": result.slow.len(),
    });
    if let Some(id) = &result.message_id {
        body["messageId"] = id.as_str().into();
    }
    let wants = |name| query_values(query, name).any(|value| matches!(value.as_str(), "" | "true" | "1"));
    let ids = |ids: &[ConnectionId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    if wants("goneIds") {
        body["goneIds"] = ids(&result.gone).into();
    }
    if wants("slowIds") {
        body["slowIds"] = ids(&result.slow).into();
    }
    let mut reply = empty(200);
    *reply.body_mut() = Full::new(Bytes::from(body.to_string()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
