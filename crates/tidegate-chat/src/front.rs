//! What stands between a connection and the handler of an event: traits and hooks, in their order.
//!
//! The application calls it at five places: [`Front::connected`] and [`Front::disconnected`] around a connection,
//! [`Front::plan`] before an event's transaction, [`Front::run`] inside, [`Front::committed`] after it.

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::port::BoxFuture;
use tidegate_store::sql::{Database, Outcome, SqlError, SqlRow, SqlValue, Tx};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::{Ctx, Frame};
use crate::events::session::replay;
use crate::extension::{
    Extensions, Incoming, Notified, Routed, Verdict, guarded, guarded_async, resolve_notified,
};
use crate::hook::delivery::{Clock, Deliveries};
use crate::hook::{ConnectRefusal, HookAnswer, HookCall, HookFailure, HookTransport, Hooks, Subject, hooks};
use crate::model::{RoomKind, User, UserId};
use crate::present::{self, View};
use crate::sanitize::Cleaned;
use crate::settings::Settings;
use crate::settings::extension::{Hook, Moment};
use crate::settings::live::LiveSettings;
use crate::store::rooms;

/// Notifications that wait for [`crate::extension::NotificationSink`]s; more are not told, and the log says so.
const MAX_NOTIFIED: usize = 1024;

/// Hands events to integrations of the API: what the gateway does with messages of its own routes.
pub trait Integrations: Send + Sync + Debug {
    /// Calls an integration with the event as its body and `chat_user` beside the usual request context. Gives the body of its
    /// answer; nothing for an empty one.
    fn invoke<'a>(
        &'a self,
        integration: &'a str,
        connection: Option<ConnectionId>,
        event: Value,
        chat_user: Value,
    ) -> BoxFuture<'a, Result<Option<Value>, String>>;
}

/// Knows who is there.
pub trait Presence: Send + Sync + Debug {
    /// A connection of the user is open.
    fn is_connected(&self, user: &UserId) -> bool;
}

/// Nobody calls anybody.
#[derive(Debug)]
struct NoTransport;

impl HookTransport for NoTransport {
    fn call(&self, _: HookCall) -> BoxFuture<'_, Result<HookAnswer, HookFailure>> {
        Box::pin(async { Err(HookFailure::Unreachable("this node calls no hooks".to_owned())) })
    }
}

/// What the application is connected to.
#[derive(Debug, Default)]
pub struct Ports {
    /// Makes the calls of hooks. Without it each hook counts as unanswered.
    pub transport: Option<Arc<dyn HookTransport>>,
    /// For `events.route`. Without it such an event is answered with 4006.
    pub integrations: Option<Arc<dyn Integrations>>,
}

/// An event on its way, after everybody outside was asked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What handles it.
    pub routed: Routed,
    /// Its type.
    pub event_type: String,
    /// Its data, perhaps replaced by a hook.
    pub data: Map<String, Value>,
    /// What of the data takes too long for a transaction.
    pub cleaned: Option<Cleaned>,
    /// What hooks have said of permission.
    pub verdict: Verdict,
    /// It needs a transaction that may write.
    pub writes: bool,
}

/// What becomes of an event.
#[derive(Debug, Clone)]
pub enum Planned {
    /// It is to be handled.
    Run(Box<Plan>),
    /// An integration has handled it; its answer, if it gave one.
    Answered(Option<Value>),
}

/// What an event has left for after its commit.
#[derive(Debug, Default)]
pub struct Left {
    notified: Vec<Arc<Notified>>,
    has_deliveries: bool,
}

/// The extension points of a running application.
pub struct Front {
    /// What it was extended with.
    pub extensions: Arc<Extensions>,
    /// What is waiting for hooks.
    pub deliveries: Deliveries,
    hooks: Arc<Hooks>,
    integrations: Option<Arc<dyn Integrations>>,
    presence: Arc<dyn Presence>,
    notified: mpsc::Sender<Arc<Notified>>,
    to_notify: Mutex<Option<mpsc::Receiver<Arc<Notified>>>>,
}

impl Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("deliveries", &self.deliveries).finish_non_exhaustive()
    }
}

impl Front {
    /// `settings` are those of the application, `clock` its time.
    pub fn new(
        extensions: Arc<Extensions>,
        settings: Arc<LiveSettings>,
        ports: Ports,
        presence: Arc<dyn Presence>,
        clock: Clock,
    ) -> Self {
        let transport = ports.transport.unwrap_or_else(|| Arc::new(NoTransport));
        let hooks = Arc::new(Hooks::new(transport));
        let deliveries = Deliveries::new(Arc::clone(&hooks), settings, clock);
        let (notified, to_notify) = mpsc::channel(MAX_NOTIFIED);
        let to_notify = Mutex::new(Some(to_notify));
        Self {
            extensions,
            deliveries,
            hooks,
            integrations: ports.integrations,
            presence,
            notified,
            to_notify,
        }
    }

    /// The hooks, for [`crate::hook::render::RenderOutlet::run`].
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Delivers what events have left, until it is dropped. To be called once.
    pub async fn run_deliveries(&self, database: &dyn Database) {
        let to_notify = self.to_notify.lock().take();
        let tell = async {
            let Some(mut to_notify) = to_notify else { return };
            while let Some(notified) = to_notify.recv().await {
                for sink in &self.extensions.notifications {
                    if let Err(error) = guarded_async(sink.notified(&notified)).await {
                        tracing::warn!(%error, diag = Diagnosis::CHAT_EXTENSION_FAILED.as_str(), "a sink of chat notifications failed");
                    }
                }
            }
        };
        futures_util::future::join(tell, self.deliveries.run(database)).await;
    }

    /// A user has connected: may it?
    ///
    /// # Errors
    /// How the connection is refused.
    pub async fn connected(
        &self,
        settings: &Settings,
        user: &User,
        connection: ConnectionId,
        now: u64,
    ) -> Result<(), ConnectRefusal> {
        if let Err(error) = guarded_async(self.extensions.app.connected(user, connection)).await {
            return Err(refusal_of(&error));
        }
        let subject =
            Subject { event_type: "chat.connect", user, connection: Some(connection), room: None, now };
        self.hooks.connect(settings, &subject).await
    }

    /// Somebody was refused for being nobody.
    pub async fn refused(&self, why: &str) {
        if let Err(error) = guarded_async(self.extensions.app.refused(why)).await {
            tracing::warn!(%error, diag = Diagnosis::CHAT_EXTENSION_FAILED.as_str(), "an extension of the chat failed at a refusal");
        }
    }

    /// A connection has ended.
    pub async fn disconnected(&self, settings: &Settings, user: &User, connection: ConnectionId, now: u64) {
        if let Err(error) = guarded_async(self.extensions.app.disconnected(&user.id, connection)).await {
            tracing::warn!(%error, diag = Diagnosis::CHAT_EXTENSION_FAILED.as_str(), "an extension of the chat failed at the end of a connection");
        }
        let subject =
            Subject { event_type: "chat.disconnect", user, connection: Some(connection), room: None, now };
        self.hooks.disconnect(settings, &subject).await;
    }

    /// What becomes of an event: everything that may wait is asked here.
    ///
    /// # Errors
    /// The event's answer.
    pub async fn plan(
        &self,
        settings: &Settings,
        database: &dyn Database,
        event: Incoming<'_>,
    ) -> Result<Planned, ChatError> {
        let event_type = event.event_type;
        guarded_async(self.extensions.app.event(event)).await?;
        if settings.events.disabled.iter().any(|disabled| disabled == event_type) {
            return Err(ChatError::InvalidEventType);
        }
        if let Some(integration) = settings.events.route.get(event_type) {
            return self.invoke(settings, integration, event).await.map(Planned::Answered);
        }
        let known = guarded(|| Ok(self.extensions.router.route(event_type)))?;
        // What the package does not know is not there unless somebody wants it.
        let is_off = |routed: &Routed| match routed {
            Routed::BuiltIn(route) => route.event_type == replay::EVENT && settings.replay_seconds == 0,
            Routed::Custom(_) => false,
        };
        let known = known.filter(|routed| !is_off(routed));
        let is_named = |hook: &Hook| hook.events.iter().any(|name| name == event_type);
        if known.is_none() && !hooks(settings, Moment::Before, event_type).any(is_named) {
            return Err(ChatError::InvalidEventType);
        }
        let needs_data = known.as_ref().is_some_and(Routed::needs_data);
        if needs_data && !event.data.is_object() {
            return Err(ChatError::rule("data must be an object", Diagnosis::CHAT_BAD_PAYLOAD));
        }
        let mut plan = Plan {
            writes: known.as_ref().is_none_or(|routed| !routed.is_read())
                || hooks(settings, Moment::After, event_type).next().is_some(),
            routed: Routed::Custom(Arc::new(|_, _| Err(ChatError::InvalidEventType))),
            event_type: event_type.to_owned(),
            data: event.data.as_object().cloned().unwrap_or_default(),
            cleaned: None,
            verdict: Verdict::BuiltIn,
        };
        let is_asked = |moment| hooks(settings, moment, event_type).next().is_some();
        let (is_before, is_authorize) = (is_asked(Moment::Before), is_asked(Moment::Authorize));
        if is_before || is_authorize {
            let room = room_before(database, &plan.data).await?;
            let subject =
                Subject { event_type, user: event.user, connection: event.connection, room, now: event.now };
            match self.hooks.before(settings, &subject, event.data.clone()).await? {
                Err(handled) => {
                    return Ok(Planned::Run(Box::new(Plan { routed: handled, writes: true, ..plan })));
                }
                Ok(Value::Object(data)) => plan.data = data,
                Ok(_) => {}
            }
            if is_authorize {
                let data = Value::Object(plan.data.clone());
                plan.verdict = self.hooks.authorize(settings, &subject, &data).await?;
            }
        }
        plan.routed = known.ok_or(ChatError::InvalidEventType)?;
        Ok(Planned::Run(Box::new(plan)))
    }

    async fn invoke(
        &self,
        settings: &Settings,
        integration: &str,
        event: Incoming<'_>,
    ) -> Result<Option<Value>, ChatError> {
        let Some(integrations) = &self.integrations else {
            return Err(ChatError::Internal("this node has no integrations for events".to_owned()));
        };
        let body = json!({ "event_type": event.event_type, "data": event.data });
        let user = present::user(event.user, View::new(settings, &self.extensions));
        integrations
            .invoke(integration, event.connection, body, user)
            .await
            .map_err(|error| ChatError::Internal(format!("the integration of {}: {error}", event.event_type)))
    }

    /// Handles an event inside of its transaction, and writes what hooks are told later.
    ///
    /// # Errors
    /// The event's answer; the transaction is to be given up.
    pub fn run<'a>(&'a self, ctx: &mut Ctx<'a>, plan: &'a Plan) -> Result<Left, ChatError> {
        ctx.extensions = &self.extensions;
        ctx.cleaned = plan.cleaned.as_ref();
        ctx.verdict = plan.verdict.clone();
        ctx.is_asked = false;
        let settings = ctx.settings;
        let is_told = hooks(settings, Moment::After, &plan.event_type).next().is_some();
        // Before the handler, which may delete what names the room.
        let room = if is_told { room_of(ctx.tx, &plan.data)? } else { None };
        plan.routed.run(ctx, &plan.data)?;
        let mut left = Left { has_deliveries: is_told, ..Left::default() };
        if is_told {
            let room = room.or_else(|| made_room(ctx, plan));
            let subject = subject(ctx, &plan.event_type, room);
            let dispatches = ctx.dispatches.iter().filter_map(|dispatch| match &dispatch.frame {
                Frame::Event { event_type, data } => Some(json!({ "eventType": event_type, "data": data })),
                Frame::Raw(_) => None,
            });
            let mut data = Map::from_iter([("event".to_owned(), Value::Object(plan.data.clone()))]);
            data.insert("dispatch".to_owned(), dispatches.collect());
            self.deliveries.enqueue(ctx, Moment::After, &subject, &Value::Object(data))?;
        }
        for notified in resolve_notified(ctx, &|user| self.presence.is_connected(user))? {
            let kind = rooms::find(ctx.tx, notified.room)?.map_or(RoomKind::Group, |room| room.kind);
            let subject = subject(ctx, &plan.event_type, Some((notified.room, kind)));
            let data = notified.json(ctx.view());
            self.deliveries.enqueue(ctx, Moment::Notify, &subject, &data)?;
            left.has_deliveries = true;
            left.notified.push(Arc::new(notified));
        }
        Ok(left)
    }

    /// The event's transaction is durable. Never waits.
    pub fn committed(&self, left: Left) {
        if left.has_deliveries {
            self.deliveries.wake();
        }
        if self.extensions.notifications.is_empty() {
            return;
        }
        for notified in left.notified {
            if self.notified.try_send(notified).is_err() {
                tracing::warn!(
                    limit = MAX_NOTIFIED,
                    diag = Diagnosis::CHAT_HOOK_LOST.as_str(),
                    "a notification found no place before its sinks"
                );
            }
        }
    }

    /// The frame of an error.
    pub fn error_frame(&self, error: &ChatError, settings: &Settings) -> Value {
        guarded(|| Ok(self.extensions.errors.map(error, settings))).unwrap_or_else(|error| error.frame())
    }
}

/// How an error of an extension refuses a connection.
pub(crate) fn refusal_of(error: &ChatError) -> ConnectRefusal {
    match error {
        ChatError::Custom { code, detail } if (4001..=4999).contains(code) => {
            let text = detail.as_str().unwrap_or("Refused.");
            let end = text.floor_char_boundary(123);
            ConnectRefusal { code: *code, reason: text.get(..end).unwrap_or_default().to_owned() }
        }
        _ => ConnectRefusal { code: 4006, reason: "Internal server error.".to_owned() },
    }
}

fn subject<'a>(ctx: &Ctx<'a>, event_type: &'a str, room: Option<(Uuid, RoomKind)>) -> Subject<'a> {
    let now = u64::try_from(ctx.now / 1000).unwrap_or(0);
    Subject { event_type, user: ctx.actor, connection: ctx.connection, room, now }
}

/// The room that an event has made.
fn made_room(ctx: &Ctx<'_>, plan: &Plan) -> Option<(Uuid, RoomKind)> {
    let Frame::Event { data, .. } =
        &ctx.dispatches.first().filter(|_| plan.event_type == "room.create")?.frame
    else {
        return None;
    };
    let id = Uuid::try_parse(data.get("id")?.as_str()?).ok()?;
    Some((id, ctx.settings.type_names.find(data.get("type")?.as_str()?)?))
}

/// The room that an event is about: the one that it names, or that of the first message that it names.
fn room_of(tx: &mut dyn Tx, data: &Map<String, Value>) -> Result<Option<(Uuid, RoomKind)>, SqlError> {
    let id = |value: &Value| value.as_str().and_then(|text| Uuid::try_parse(text).ok());
    let named = data.get("room_id").and_then(id);
    let message = data.get("message_id").and_then(|value| match value {
        Value::Array(items) => items.first().and_then(id),
        value => id(value),
    });
    let rows = match (named, message) {
        (Some(room), _) => {
            tx.query("SELECT id, kind FROM chat_room WHERE id = ?1", &[SqlValue::from(room.into_bytes())])?
        }
        (None, Some(message)) => tx.query(
            "SELECT r.id, r.kind FROM chat_message m JOIN chat_room r ON r.id = m.room WHERE m.id = ?1",
            &[SqlValue::from(message.into_bytes())],
        )?,
        (None, None) => return Ok(None),
    };
    let room = |row: &SqlRow| -> Result<_, SqlError> {
        let id = Uuid::from_bytes(row.id(0)?);
        Ok(RoomKind::find(&row.text(1)?).map(|kind| (id, kind)))
    };
    Ok(rows.first().map(room).transpose()?.flatten())
}

/// As [`room_of`], before the event's transaction.
async fn room_before(
    database: &dyn Database,
    data: &Map<String, Value>,
) -> Result<Option<(Uuid, RoomKind)>, ChatError> {
    let found: Arc<Mutex<Option<(Uuid, RoomKind)>>> = Arc::default();
    let (data, result) = (data.clone(), Arc::clone(&found));
    let read = database.read(Box::new(move |tx| {
        *result.lock() = room_of(tx, &data)?;
        Ok(Outcome::Rollback(Box::new(|| ())))
    }));
    read.await.map_err(|error| ChatError::Internal(error.to_string()))?;
    let room = found.lock().take();
    Ok(room)
}
