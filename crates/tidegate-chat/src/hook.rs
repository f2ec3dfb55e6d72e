//! Hooks: others are asked, or told, over HTTP or as functions.
//!
//! What must be answered before something goes on ([`Moment::Connect`], [`Moment::Before`], [`Moment::Authorize`],
//! [`Moment::Render`]) is called at once, outside of transactions, with a bound on calls under way. What is only told
//! ([`Moment::After`], [`Moment::Notify`]) is written in the event's own transaction and delivered later: see [`delivery`].

mod answer;
pub mod delivery;
pub mod render;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::port::BoxFuture;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::error::ChatError;
use crate::extension::{Routed, Verdict};
use crate::model::{RoomKind, User};
use crate::settings::Settings;
use crate::settings::extension::{AuthorizeMode, Hook, HookSecret, Moment, OnFailure};

pub use answer::{Answer, HookDispatch};

/// Calls under way at a time, of all hooks together. A call that finds no place within its timeout counts as unanswered.
pub const MAX_CALLS: usize = 256;
/// Largest answer, in bytes.
pub const MAX_ANSWER: usize = 1 << 20;

/// A call of a hook. No `Debug`: it holds what users have written.
#[derive(Clone)]
pub struct HookCall {
    /// `http://` or `https://` URL, or ARN of a function, which gets the body as its event.
    pub target: String,
    /// All headers.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Bytes,
    /// From the first byte out to the last byte in.
    pub timeout: Duration,
    /// Longer answers are failures.
    pub max_answer: usize,
}

/// An answer to it. No `Debug`: see [`HookCall`].
#[derive(Clone)]
pub struct HookAnswer {
    /// HTTP status; of a function 200, or 204 where it gave nothing.
    pub status: u16,
    /// Whole body.
    pub body: Bytes,
}

/// Why a hook has not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookFailure {
    /// In time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// No connection, or it broke.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// The function raised, or its process ended.
    #[error("{0}")]
    Function(String),
    /// Not 2xx.
    #[error("status {0}")]
    Status(u16),
    /// 2xx with a body that is none of the answers.
    #[error("an answer that is not understood: {0}")]
    Answer(String),
}

/// What makes the calls. This crate has no HTTP client of its own.
pub trait HookTransport: Send + Sync + Debug {
    /// Posts the body, follows no redirect, and gives whatever status comes.
    fn call(&self, call: HookCall) -> BoxFuture<'_, Result<HookAnswer, HookFailure>>;
}

/// What hooks are asked about.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// Of the event; `chat.connect` and `chat.disconnect` of connections.
    pub event_type: &'a str,
    /// Who acts.
    pub user: &'a User,
    /// Where it came in.
    pub connection: Option<ConnectionId>,
    /// Which room it is about, if it names one that exists.
    pub room: Option<(Uuid, RoomKind)>,
    /// Milliseconds since 1970.
    pub now: u64,
}

/// How a connection is refused by a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRefusal {
    /// 4001 to 4999.
    pub code: u16,
    /// Reason of the close frame, at most 123 bytes.
    pub reason: String,
}

/// Calls hooks.
#[derive(Debug)]
pub struct Hooks {
    transport: Arc<dyn HookTransport>,
    places: Semaphore,
}

impl Hooks {
    /// Calls by this transport.
    pub fn new(transport: Arc<dyn HookTransport>) -> Self {
        Self { transport, places: Semaphore::new(MAX_CALLS) }
    }

    /// Asks all hooks of `connect`, one after the other.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn connect(&self, settings: &Settings, subject: &Subject<'_>) -> Result<(), ConnectRefusal> {
        for hook in hooks(settings, Moment::Connect, subject.event_type) {
            match self.ask(settings, hook, subject, None).await {
                Ok(Answer::Allow(_) | Answer::Handled(_)) => {}
                Ok(Answer::Refuse { code, detail }) => {
                    let text = detail.as_str().map_or_else(|| detail.to_string(), str::to_owned);
                    return Err(ConnectRefusal { code, reason: cut(text, 123) });
                }
                Err(_) if hook.on_failure == OnFailure::Allow => {}
                Err(_) => {
                    return Err(ConnectRefusal { code: 4006, reason: "Internal server error.".to_owned() });
                }
            }
        }
        Ok(())
    }

    /// Tells all hooks of `disconnect`, one after the other. Nothing follows from their answers.
    pub async fn disconnect(&self, settings: &Settings, subject: &Subject<'_>) {
        for hook in hooks(settings, Moment::Disconnect, subject.event_type) {
            // Whoever does not answer has not heard, and is told in the log only.
            let _ = self.ask(settings, hook, subject, None).await;
        }
    }

    /// Asks all hooks of `before`, one after the other, each with the data that the one before it has left. Gives the
    /// data to handle, or what handles the event instead.
    ///
    /// # Errors
    /// The first refusal; 4006 for a hook that does not answer and must.
    pub async fn before(
        &self,
        settings: &Settings,
        subject: &Subject<'_>,
        mut data: Value,
    ) -> Result<Result<Value, Routed>, ChatError> {
        for hook in hooks(settings, Moment::Before, subject.event_type) {
            match self.ask(settings, hook, subject, Some(&data)).await {
                Ok(Answer::Allow(None)) => {}
                Ok(Answer::Allow(Some(replaced))) => data = Value::Object(replaced),
                Ok(Answer::Refuse { code, detail }) => return Err(ChatError::Custom { code, detail }),
                Ok(Answer::Handled(dispatches)) => return Ok(Err(answer::leaves(dispatches))),
                Err(failure) => failed(hook, &failure)?,
            }
        }
        Ok(Ok(data))
    }

    /// Asks all hooks of `authorize`. The first no is the answer; a hook in the place of the built-in check is heard
    /// before those behind it.
    ///
    /// # Errors
    /// 4006 for a hook that does not answer and must.
    pub async fn authorize(
        &self,
        settings: &Settings,
        subject: &Subject<'_>,
        data: &Value,
    ) -> Result<Verdict, ChatError> {
        let mut is_instead = false;
        for hook in hooks(settings, Moment::Authorize, subject.event_type) {
            match self.ask(settings, hook, subject, Some(data)).await {
                Ok(Answer::Allow(_) | Answer::Handled(_)) => {
                    is_instead |= hook.mode == AuthorizeMode::Instead
                }
                Ok(Answer::Refuse { code, detail }) => {
                    // Refusals of permission have a code of their own; 4003 is only what a hook says when it names none.
                    let code = if code == 4003 { 4002 } else { code };
                    let error = ChatError::Custom { code, detail };
                    return Ok(match is_instead || hook.mode == AuthorizeMode::Instead {
                        true => Verdict::DenyInstead(error),
                        false => Verdict::Deny(error),
                    });
                }
                Err(failure) => failed(hook, &failure)?,
            }
        }
        Ok(if is_instead { Verdict::Allow } else { Verdict::BuiltIn })
    }

    /// Asks one hook.
    ///
    /// # Errors
    /// It has not answered, or not in one of the forms.
    async fn ask(
        &self,
        settings: &Settings,
        hook: &Hook,
        subject: &Subject<'_>,
        data: Option<&Value>,
    ) -> Result<Answer, HookFailure> {
        let body = body(settings, hook.on, subject, data);
        let call = signed(hook, Uuid::now_v7(), subject.now, body.to_string().into());
        let asked = self.call(call).await.and_then(|answered| Answer::read(&answered.body));
        if let Err(failure) = &asked {
            tracing::warn!(hook = hook.on.as_str(), target = %host(&hook.target), %failure, diag = Diagnosis::CHAT_HOOK_FAILED.as_str(), "a chat hook has not answered");
        }
        asked
    }

    /// Makes a call when there is place; an answer is 2xx.
    ///
    /// # Errors
    /// [`HookFailure`]
    pub(crate) async fn call(&self, call: HookCall) -> Result<HookAnswer, HookFailure> {
        let timeout = call.timeout;
        let called = tokio::time::timeout(timeout, async {
            // Nobody closes it, so there is always a place in the end.
            let _place = self.places.acquire().await;
            self.transport.call(call).await
        });
        let answered = called.await.map_err(|_| HookFailure::Timeout(timeout))??;
        match answered.status {
            200..=299 if answered.body.len() <= MAX_ANSWER => Ok(answered),
            200..=299 => Err(HookFailure::Answer(format!("more than {MAX_ANSWER} bytes"))),
            status => Err(HookFailure::Status(status)),
        }
    }
}

/// The hooks of a moment for an event type, in the order of the settings.
pub fn hooks<'a>(
    settings: &'a Settings,
    moment: Moment,
    event_type: &'a str,
) -> impl Iterator<Item = &'a Hook> {
    settings.hooks.iter().filter(move |hook| {
        let is_connection = matches!(moment, Moment::Connect | Moment::Disconnect);
        hook.on == moment && (is_connection || hook.takes(event_type))
    })
}

/// The body of a call.
pub(crate) fn body(
    settings: &Settings,
    moment: Moment,
    subject: &Subject<'_>,
    data: Option<&Value>,
) -> Value {
    let user = json!({ "id": settings.user_json(&subject.user.id), "username": &*subject.user.username });
    let room =
        subject.room.map(|(id, kind)| json!({ "id": id.to_string(), "type": settings.type_names.of(kind) }));
    let mut body = Map::from_iter([
        ("hook".to_owned(), Value::from(moment.as_str())),
        ("event_type".to_owned(), Value::from(subject.event_type)),
        ("user".to_owned(), user),
        ("connection_id".to_owned(), subject.connection.map(|id| id.to_string()).into()),
        ("room".to_owned(), room.into()),
    ]);
    if let Some(data) = data {
        body.insert("data".to_owned(), data.clone());
    }
    Value::Object(body)
}

/// A call with its headers. `now` in milliseconds since 1970.
pub(crate) fn signed(hook: &Hook, delivery: Uuid, now: u64, body: Bytes) -> HookCall {
    let timestamp = (now / 1000).to_string();
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("x-tidegate-hook", hook.on.as_str().to_owned()),
        ("x-tidegate-delivery", delivery.to_string()),
        ("x-tidegate-timestamp", timestamp.clone()),
    ];
    if let Some(secret) = &hook.secret {
        headers.push(("x-tidegate-signature", signature(secret, &timestamp, &body)));
    }
    HookCall { target: hook.target.clone(), headers, body, timeout: hook.timeout(), max_answer: MAX_ANSWER }
}

/// HMAC-SHA256 over the bytes of the timestamp (seconds since 1970, decimal) followed by those of the body, in
/// lower-case hex.
pub fn signature(secret: &HookSecret, timestamp: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(timestamp.as_bytes());
    context.update(body);
    hex::encode(context.sign())
}

/// What follows from a hook that did not answer.
fn failed(hook: &Hook, failure: &HookFailure) -> Result<(), ChatError> {
    match hook.on_failure {
        OnFailure::Allow => Ok(()),
        OnFailure::Deny => {
            Err(ChatError::Internal(format!("the hook for {} gave {failure}", hook.on.as_str())))
        }
    }
}

/// A target without path and query, which may hold what is not for logs.
pub(crate) fn host(target: &str) -> &str {
    match target.split_once("://") {
        None => target,
        Some((_, rest)) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
            authority.rsplit_once('@').map_or(authority, |(_, host)| host)
        }
    }
}

/// At most `max` bytes, cut between characters.
fn cut(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    text
}
