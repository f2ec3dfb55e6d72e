//! One message to many.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_auth::Role;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::notice::Place;
use tidegate_gateway::{OnceError, Publish, PushResult, Target};

use super::{COUNT, ID, TEXT, THE_API, THE_STAGE};
use crate::api::Inner;
use crate::call::{Call, find_stage};
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Body, MAX_MESSAGE, Reply, Route, Verb};
use crate::shape::{Member, Shape, optional, required, text};

/// Connections that one publish may name.
const CONNECTIONS: Shape = Shape::List { of: &text(64), max: 10_000 };

const PUBLISH: &[Member] = &[
    THE_API,
    THE_STAGE,
    optional("channel", text(129), "Name of a channel, or `prefix*`."),
    optional("user", ID, "Id of a user."),
    optional("session", ID, "Id of a session."),
    optional("connections", CONNECTIONS, "Ids of connections."),
    optional("all", Shape::True, "Everyone of the stage."),
    required("data", Shape::Any, "The message: text as it is, anything else as JSON."),
    optional("except", CONNECTIONS, "Ids of connections that do not get it."),
    optional("idempotency_key", ID, "A repeated key is answered with the first result and sends nothing."),
];

const RESULT: Shape = Shape::Record(&[
    required("delivered", COUNT, "Connections whose outbox took it."),
    required("gone", COUNT, "Connections that were ending, or were not there."),
    required("slow", COUNT, "Connections that read too slowly and did not get it."),
    required("gone_ids", Shape::List { of: &TEXT, max: usize::MAX }, "Which were gone."),
    optional("message_id", TEXT, "Its place in the channel, where one channel with history was the target."),
    optional("replayed", Shape::Boolean, "The key was used before; this is the result of that push."),
]);

pub(super) const ROUTES: &[Route] = &[Route::new(
    Verb::Post,
    "/api/publish",
    "publish",
    Access::Change(Role::Operate),
    "Sends a message to a channel, a user, a session, connections or everyone of a stage.",
    RESULT,
    |inner, call| Box::pin(publish(inner, call)),
)
.body(Body::Json(PUBLISH))
.max_body(MAX_MESSAGE)
.refuses(&[404, 409, 429, 503])];

/// 413 over the limit of the stage.
pub(super) fn check_size(size: usize, limit: usize) -> Result<(), Refusal> {
    if size <= limit {
        return Ok(());
    }
    let message =
        format!("{size} bytes, {limit} allowed; push a small notice with a URL and let the client fetch");
    Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Diagnosis::MESSAGE_TOO_LARGE_OUT, message))
}

/// 503 while the node stops.
pub(super) fn check_draining(inner: &Inner) -> Result<(), Refusal> {
    match inner.gateway.is_draining() {
        false => Ok(()),
        true => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Diagnosis::NODE_DRAINING,
            "The node is stopping",
        )),
    }
}

#[derive(Deserialize)]
struct Request {
    api: String,
    stage: String,
    channel: Option<String>,
    user: Option<String>,
    session: Option<String>,
    connections: Option<Vec<String>>,
    all: Option<bool>,
    data: Value,
    #[serde(default)]
    except: Vec<String>,
    idempotency_key: Option<String>,
}

impl Request {
    fn targets(&self) -> Result<Vec<Target>, Refusal> {
        let Self { channel, user, session, connections, all, .. } = self;
        Ok(match (channel, user, session, connections, all) {
            (Some(channel), None, None, None, None) => vec![match channel.strip_suffix('*') {
                Some(prefix) => Target::ChannelPrefix(prefix.to_owned()),
                None => Target::Channel(super::channel::channel_name(channel)?),
            }],
            (None, Some(user), None, None, None) => vec![Target::User(user.as_str().into())],
            (None, None, Some(session), None, None) => vec![Target::Session(session.as_str().into())],
            (None, None, None, Some(ids), None) => {
                ids_of("connections", ids)?.into_iter().map(Target::Connection).collect()
            }
            (None, None, None, None, Some(_)) => vec![Target::Everyone],
            _ => {
                let message = "Give exactly one of channel, user, session, connections and all";
                return Err(Refusal::malformed(message));
            }
        })
    }
}

fn ids_of(path: &str, ids: &[String]) -> Result<Vec<ConnectionId>, Refusal> {
    let parsed = ids.iter().enumerate().map(|(id_idx, id)| {
        ConnectionId::parse(id)
            .map_err(|_| Refusal::problem(&format!("{path}[{id_idx}]"), "is no connection id"))
    });
    parsed.collect()
}

async fn publish(inner: &Inner, call: &Call) -> Answer {
    let mut request: Request = call.body()?;
    let targets = request.targets()?;
    let except: HashSet<_> = ids_of("except", &request.except)?.into_iter().collect();
    let payload = match request.data.take() {
        Value::String(text) => Bytes::from(text),
        data => Bytes::from(data.to_string()),
    };
    let stage = find_stage(inner, &request.api, &request.stage)?;
    check_size(payload.len(), inner.gateway.push_limit(&stage))?;
    check_draining(inner)?;
    // The same push, however its JSON was written.
    let subject = format!("admin {targets:?} except {:?}", {
        let mut ids: Vec<_> = except.iter().map(ToString::to_string).collect();
        ids.sort_unstable();
        ids
    });
    let size = payload.len();
    let place =
        Place { api_id: Arc::clone(&stage.api_id), stage: Arc::clone(&stage.name), ..Place::default() };
    let publish = Publish { targets, payload, except };
    let (result, is_replayed) = match request.idempotency_key.take() {
        None => (Arc::new(inner.gateway.push_to_many(&stage, publish, &place).await), None),
        Some(key) => {
            let (result, is_replayed) =
                inner.gateway.push_once(&stage, key, subject, publish, &place).await.map_err(refuse)?;
            (result, Some(is_replayed))
        }
    };
    let body = show(&result, is_replayed);
    let note = json!({
        "api": request.api, "stage": request.stage, "channel": request.channel, "user": request.user,
        "session": request.session, "bytes": size, "delivered": result.delivered,
    });
    Ok(Reply::json(body).with_note(note))
}

fn show(result: &PushResult, is_replayed: Option<bool>) -> Value {
    let mut body = json!({
        "delivered": result.delivered,
        "gone": result.gone.len(),
        "slow": result.slow.len(),
        "gone_ids": result.gone.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    if let Some(id) = &result.message_id {
        body["message_id"] = id.as_str().into();
    }
    if let Some(is_replayed) = is_replayed {
        body["replayed"] = is_replayed.into();
    }
    body
}

fn refuse(error: OnceError) -> Refusal {
    match error {
        OnceError::OtherPush => {
            Refusal::new(StatusCode::CONFLICT, Diagnosis::PUSH_KEY_REUSED, error.to_string())
        }
        // Its task has gone: the process is ending.
        OnceError::Interrupted => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Diagnosis::NODE_DRAINING, error.to_string())
        }
        OnceError::Full => {
            let mut refusal =
                Refusal::new(StatusCode::TOO_MANY_REQUESTS, Diagnosis::RATELIMIT_STAGE, error.to_string());
            refusal.retry_after = Some(1);
            refusal
        }
    }
}
