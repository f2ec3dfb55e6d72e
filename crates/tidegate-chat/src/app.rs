//! The application as the gateway sees it: connections come, send events, and go.

mod admission;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value};
use tidegate_core::app::{
    App, Connect, Connected, End, Host, Message, Problem, Refusal, Refused, Reply, Request, Response,
};
use tidegate_core::context::ConnectionFacts;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Facts, Kind};
use tidegate_core::notice::{Notice, Place};
use tidegate_core::port::{BoxFuture, StoreError};
use tidegate_store::sql::{Database, Outcome, SqlError, SqlValue, Tx};
use tokio::sync::Semaphore;
use uuid::Uuid;

use self::sessions::SessionTable;
use crate::dispatcher::Dispatcher;
use crate::envelope::{self, Envelope};
use crate::error::ChatError;
use crate::event::{Ctx, Dispatch};
use crate::extension::{Extensions, Incoming, guarded};
use crate::front::{Front, Plan, Planned, Ports, Presence};
use crate::hook::render;
use crate::model::{Micros, User, UserId};
use crate::sanitize::{self, Cleaned};
use crate::server::{self, NewUser};
use crate::settings::Settings;
use crate::settings::live::LiveSettings;

/// Close code of those who are not authenticated.
pub const NOT_AUTHENTICATED: u16 = 4001;

/// Its reason, letter by letter.
pub const NOT_AUTHENTICATED_REASON: &str = "Authentication failed";

/// How often silent devices are looked for.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Messages of one statement that finds their rooms.
const ROOMS_AT_ONCE: usize = 32;

/// Large contents that are sanitized at a time; further ones wait, and nobody else with them.
const CLEANERS: usize = 2;

/// Names of fields in one fact.
const MAX_FIELDS: usize = 10;

/// Who asks for the first frame.
const FIRST_EVENT: &str = "chat.notifications";

/// The chat of one node.
pub struct Chat {
    database: Arc<dyn Database>,
    settings: Arc<LiveSettings>,
    dispatcher: Arc<Dispatcher>,
    front: Arc<Front>,
    clock: Arc<MonotonicClock>,
    renders: render::RenderQueue,
    outlet: Mutex<Option<render::RenderOutlet>>,
    /// For texts that take long.
    cleaners: Arc<Semaphore>,
    counts: Mutex<Counts>,
    sessions: SessionTable,
}

/// Numbers of the chat from the start on. Labels are the chat's own event types, three outcomes and error codes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Connections now.
    pub connections: usize,
    /// Events of connections by type and outcome: `ok`, `refused` or `failed`. Types that extensions have made, and what is
    /// no type at all, are `other`.
    pub events: BTreeMap<(&'static str, &'static str), u64>,
    /// Refused and failed events by the code of their answer; 0 for a type that does not exist, whose answer has none.
    pub errors: BTreeMap<u16, u64>,
}

#[derive(Default)]
struct Counts {
    events: BTreeMap<(&'static str, &'static str), u64>,
    errors: BTreeMap<u16, u64>,
}

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chat").field("database", &self.database).finish_non_exhaustive()
    }
}

/// The time of events: never earlier than that of an event before, whatever the system's clock does.
#[derive(Debug, Default)]
struct MonotonicClock(AtomicI64);

impl MonotonicClock {
    fn now(&self) -> Micros {
        let now = jiff::Timestamp::now().as_microsecond();
        self.0.fetch_max(now, Ordering::Relaxed).max(now)
    }
}

impl Presence for Dispatcher {
    fn is_connected(&self, user: &UserId) -> bool {
        self.connections.is_connected(user)
    }
}

impl Chat {
    /// A chat without extensions. Its tables exist: [`crate::store::MIGRATIONS`].
    pub fn new(settings: Arc<LiveSettings>, database: Arc<dyn Database>) -> Self {
        Self::with_extensions(settings, database, Arc::new(Extensions::default()), Ports::default())
    }

    /// A chat with what it was extended with, and connected to `ports`.
    pub fn with_extensions(
        settings: Arc<LiveSettings>,
        database: Arc<dyn Database>,
        extensions: Arc<Extensions>,
        ports: Ports,
    ) -> Self {
        let dispatcher = Arc::new(Dispatcher::default());
        let clock = Arc::new(MonotonicClock::default());
        let now = Arc::clone(&clock);
        let presence: Arc<dyn Presence> = Arc::clone(&dispatcher) as _;
        let clock_of_front = Arc::new(move || now.now());
        let front = Front::new(extensions, Arc::clone(&settings), ports, presence, clock_of_front);
        let (renders, outlet) = render::queue();
        let outlet = Mutex::new(Some(outlet));
        let cleaners = Arc::new(Semaphore::new(CLEANERS));
        Self {
            database,
            settings,
            dispatcher,
            front: Arc::new(front),
            clock,
            renders,
            outlet,
            counts: Mutex::default(),
            cleaners,
            sessions: SessionTable::default(),
        }
    }

    /// Numbers for the node's metrics.
    pub fn numbers(&self) -> Numbers {
        let connections = self.dispatcher.connections.len();
        let counts = self.counts.lock();
        Numbers { connections, events: counts.events.clone(), errors: counts.errors.clone() }
    }

    fn count(&self, event_type: &str, error: Option<&ChatError>) {
        let event = crate::router::find(event_type).map_or("other", |route| route.event_type);
        let outcome = match error {
            None => "ok",
            Some(ChatError::Internal(_)) => "failed",
            Some(_) => "refused",
        };
        let mut counts = self.counts.lock();
        *counts.events.entry((event, outcome)).or_default() += 1;
        if let Some(error) = error {
            *counts.errors.entry(error.code().unwrap_or(0)).or_default() += 1;
        }
    }

    /// Enters users, as `PUT users/{id}` does: what is said of them is written, the rest stays as it is.
    ///
    /// # Errors
    /// What is wrong with one of them; those of the thousands before it are entered.
    pub async fn enter_users(&self, users: Vec<NewUser>) -> Result<(), ChatError> {
        let settings = self.settings.load();
        for batch in users.chunks(server::MAX_USERS) {
            self.call(&settings, server::entering(batch.to_vec())).await?;
        }
        Ok(())
    }

    /// Its settings.
    pub fn settings(&self) -> &Arc<LiveSettings> {
        &self.settings
    }

    /// Its extension points.
    pub fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// Who is connected, and the way to them.
    pub fn dispatcher(&self) -> &Arc<Dispatcher> {
        &self.dispatcher
    }

    /// Its database.
    pub fn database(&self) -> &Arc<dyn Database> {
        &self.database
    }

    /// Runs an event of a user: from a connection, or by a call of a server without one. Its dispatches are in the outboxes
    /// when this ends with `Ok`, and what an integration answered is what it gives.
    ///
    /// # Errors
    /// The event's answer; nothing has changed and nobody has received anything.
    pub async fn run_event(
        &self,
        settings: &Arc<Settings>,
        actor: &Arc<User>,
        connection: Option<&Arc<ConnectionFacts>>,
        envelope: Envelope,
        now: u64,
    ) -> Result<Option<Value>, ChatError> {
        let data = envelope.data.unwrap_or(Value::Null);
        let connection = connection.map(|connection| connection.connection_id);
        let incoming =
            Incoming { user: actor, connection, event_type: &envelope.event_type, data: &data, now };
        let plan = match self.front.plan(settings, &*self.database, incoming).await? {
            Planned::Run(plan) => plan,
            Planned::Answered(answer) => return Ok(answer),
        };
        self.run_plan(settings, actor, connection, *plan).await.map(|()| None)
    }

    /// Runs what was planned. Its dispatches are in the outboxes when this ends with `Ok`.
    ///
    /// # Errors
    /// The event's answer; nothing has changed and nobody has received anything.
    pub(crate) async fn run_plan(
        &self,
        settings: &Arc<Settings>,
        actor: &Arc<User>,
        connection: Option<tidegate_core::id::ConnectionId>,
        mut plan: Plan,
    ) -> Result<(), ChatError> {
        if plan.writes
            && let Some(text) = sanitize::large_content(&plan.data)
        {
            // The permit goes with the work, which nobody can end.
            let permit = Arc::clone(&self.cleaners).acquire_owned().await;
            let clean = tokio::task::spawn_blocking(move || {
                let cleaned = Cleaned::of(text);
                drop(permit);
                cleaned
            });
            let clean = clean.await.map_err(|error| ChatError::Internal(error.to_string()))?;
            plan.cleaned = Some(clean);
        }
        let locks = match plan.writes && !self.database.is_serial() {
            true => self.locks(&plan.data).await?,
            false => Vec::new(),
        };
        let job = Job {
            settings: Arc::clone(settings),
            actor: Arc::clone(actor),
            connection,
            plan: Arc::new(plan),
            front: Arc::clone(&self.front),
            clock: Arc::clone(&self.clock),
            outlet: Outlet { dispatcher: Arc::clone(&self.dispatcher), renders: self.renders.clone() },
            failure: Arc::default(),
        };
        let (writes, failure) = (job.plan.writes, Arc::clone(&job.failure));
        let work = Box::new(move |tx: &mut dyn Tx| job.run(tx));
        let result = match writes {
            true => self.database.write(locks, work).await,
            false => self.database.read(work).await,
        };
        result.map_err(|error| internal(&error))?;
        let refused = failure.lock().take();
        refused.map_or(Ok(()), Err)
    }

    /// The locks of the rooms that an event is about.
    async fn locks(&self, data: &Map<String, Value>) -> Result<Vec<u64>, ChatError> {
        let id = |value: &Value| value.as_str().and_then(|text| Uuid::try_parse(text).ok());
        let mut locks: Vec<u64> = data.get("room_id").and_then(id).map(lock_of).into_iter().collect();
        let mut messages: Vec<Uuid> = match data.get("message_id") {
            Some(Value::Array(items)) => items.iter().filter_map(id).collect(),
            Some(value) => id(value).into_iter().collect(),
            None => Vec::new(),
        };
        messages.sort_unstable();
        messages.dedup();
        if !messages.is_empty() {
            let found = Arc::new(Mutex::new(Vec::new()));
            let rooms = Arc::clone(&found);
            let work = move |tx: &mut dyn Tx| {
                *rooms.lock() = rooms_of(tx, &messages)?;
                Ok(Outcome::Rollback(Box::new(|| ())))
            };
            self.database.read(Box::new(work)).await.map_err(|error| internal(&error))?;
            locks.extend(found.lock().drain(..).map(lock_of));
        }
        Ok(locks)
    }

    async fn handle(&self, message: Message<'_>) -> Reply {
        let settings = self.settings.load();
        let (id, throttle) = (message.connection.connection_id, settings.throttle());
        let (actor, is_allowed) = self.dispatcher.connections.take_event(id, message.now, throttle);
        if let (Some(throttle), false) = (throttle, is_allowed) {
            // What it would have been is not looked at: that is the work that the limit saves.
            self.count("", Some(&ChatError::TooMany));
            let facts = Facts::none().with("rate", throttle.rate).with("limit", throttle.burst);
            return self.refusal(&settings, &message, &ChatError::TooMany, facts);
        }
        let refused = match envelope::parse(message.text, message.is_binary) {
            Err(refused) => {
                self.count("", Some(&refused.error));
                refused
            }
            Ok(envelope) => {
                let Some(actor) = actor else {
                    let error = ChatError::Internal("the connection is not known".to_owned());
                    return self.refusal(&settings, &message, &error, Facts::none());
                };
                let (event_type, mut facts) = (envelope.event_type.clone(), Facts::none());
                if self.keeps_facts() {
                    facts = facts_of(&envelope);
                }
                let connection = Some(message.connection);
                let done = self.run_event(&settings, &actor, connection, envelope, message.now).await;
                self.count(&event_type, done.as_ref().err());
                match done {
                    Ok(None) => return Reply::default(),
                    Ok(Some(answer)) => {
                        return Reply { text: Some(answer.to_string().into()), ..Reply::default() };
                    }
                    Err(ChatError::InvalidEventType) => envelope::unknown(&event_type),
                    Err(error) => envelope::Refused { error, facts },
                }
            }
        };
        self.refusal(&settings, &message, &refused.error, refused.facts)
    }

    fn keeps_facts(&self) -> bool {
        self.dispatcher.host().is_some_and(|host| host.keeps_facts())
    }

    /// The answer to an event that was refused.
    fn refusal(
        &self,
        settings: &Settings,
        message: &Message<'_>,
        error: &ChatError,
        mut facts: Facts,
    ) -> Reply {
        match error {
            ChatError::Internal(text) => {
                let request_id = message.request_id;
                tracing::error!(%request_id, error = text, diag = "chat.internal", "an event of the chat failed");
            }
            ChatError::Fields(fields) => {
                facts.add("fields", fields.keys().take(MAX_FIELDS).cloned().collect::<Vec<_>>());
            }
            _ => {}
        }
        Reply {
            text: Some(self.front.error_frame(error, settings).to_string().into()),
            is_urgent: false,
            problem: Some(Problem { diagnosis: error.diagnosis(), facts }),
        }
    }

    fn report_idle(&self, settings: &Settings) {
        let Some(host) = self.dispatcher.host() else { return };
        let threshold = settings.inactivity_seconds;
        let before = host.now().saturating_sub(threshold.saturating_mul(1000));
        // With pings a peer that is silent for longer than this was closed: whoever is there has answered one since.
        let is_alive = settings.ping_seconds > 0
            && settings.ping_seconds.saturating_add(settings.ping_timeout_seconds) <= threshold;
        if threshold == 0 || is_alive {
            return;
        }
        for session in self.dispatcher.connections.newly_idle(before, |id| host.last_heard(id)) {
            let connection = &session.connection;
            let place = Place {
                api_id: Arc::clone(&connection.api_id),
                stage: Arc::clone(&connection.stage),
                connection_id: Some(connection.connection_id),
                user: Some(session.user.0),
                address: Some(connection.source_ip),
                ..Place::default()
            };
            let facts =
                Facts::none().with("lastHeartbeat", session.last_seen).with("windowSeconds", threshold);
            let remark = Some(Diagnosis::CHAT_HEARTBEAT_MISSED);
            host.notice(Notice::Decided { place, kind: Kind::Message, remark, facts });
        }
    }
}

/// One event on its way through the database. It may run more than once.
struct Job {
    settings: Arc<Settings>,
    actor: Arc<User>,
    connection: Option<tidegate_core::id::ConnectionId>,
    plan: Arc<Plan>,
    front: Arc<Front>,
    clock: Arc<MonotonicClock>,
    outlet: Outlet,
    failure: Arc<Mutex<Option<ChatError>>>,
}

/// The way of dispatches, after the commit.
#[derive(Clone)]
struct Outlet {
    dispatcher: Arc<Dispatcher>,
    renders: render::RenderQueue,
}

impl Outlet {
    fn send(&self, settings: &Arc<Settings>, event_type: &str, now: Micros, dispatches: Vec<Dispatch>) {
        match render::is_needed(settings) {
            true => {
                let now = u64::try_from(now / 1000).unwrap_or(0);
                self.renders.push(settings, event_type, now, dispatches);
            }
            false => self.dispatcher.send(&dispatches, settings),
        }
    }
}

impl Job {
    fn run(&self, tx: &mut dyn Tx) -> Result<Outcome, SqlError> {
        let now = self.clock.now();
        let mut ctx = Ctx::new(tx, &self.settings, &self.actor, self.connection, now);
        let result = guarded(|| {
            let left = self.front.run(&mut ctx, &self.plan)?;
            Ok((left, std::mem::take(&mut ctx.dispatches)))
        });
        Ok(match result {
            Ok((left, dispatches)) => {
                let (outlet, settings) = (self.outlet.clone(), Arc::clone(&self.settings));
                let (front, plan) = (Arc::clone(&self.front), Arc::clone(&self.plan));
                Outcome::Commit(Box::new(move || {
                    outlet.send(&settings, &plan.event_type, now, dispatches);
                    front.committed(left);
                }))
            }
            Err(error) => {
                let failure = Arc::clone(&self.failure);
                Outcome::Rollback(Box::new(move || *failure.lock() = Some(error)))
            }
        })
    }
}

/// The lock of a room: what changes it, or something in it, takes it.
pub fn lock_of(room: Uuid) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = room.into_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn rooms_of(tx: &mut dyn Tx, messages: &[Uuid]) -> Result<Vec<Uuid>, SqlError> {
    let mut sql = "SELECT DISTINCT room FROM chat_message WHERE id IN (?1".to_owned();
    for place in 2..=ROOMS_AT_ONCE {
        sql.push_str(&format!(", ?{place}"));
    }
    sql.push(')');
    let mut rooms = Vec::new();
    for batch in messages.chunks(ROOMS_AT_ONCE) {
        // The last one fills the places that are left over.
        let padded = batch.iter().chain(batch.last().into_iter().cycle()).take(ROOMS_AT_ONCE);
        let parameters: Vec<SqlValue> = padded.map(|id| SqlValue::from(id.into_bytes())).collect();
        for row in tx.query(&sql, &parameters)? {
            rooms.push(Uuid::from_bytes(row.id(0)?));
        }
    }
    Ok(rooms)
}

/// What an event is about: names and ids, no contents.
fn facts_of(envelope: &Envelope) -> Facts {
    let mut facts = Facts::none().with("eventType", envelope.event_type.as_str());
    let id = |name: &str| {
        let text = envelope.data.as_ref()?.get(name)?.as_str()?;
        Uuid::try_parse(text).ok().map(|id| id.to_string())
    };
    facts.add_some("room", id("room_id"));
    facts.add_some("message", id("message_id"));
    facts
}

fn internal(error: &StoreError) -> ChatError {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    ChatError::Internal(format!("{error}{cause}"))
}

impl App for Chat {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn start(&self, host: Arc<dyn Host>) {
        self.dispatcher.start(host);
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let silent = async {
                let mut interval = tokio::time::interval(IDLE_INTERVAL);
                loop {
                    interval.tick().await;
                    self.report_idle(&self.settings.load());
                }
            };
            let outlet = self.outlet.lock().take();
            let rendered = async {
                if let Some(outlet) = outlet {
                    let send = |settings: &Settings, dispatch| self.dispatcher.send(&[dispatch], settings);
                    outlet.run(self.front.hooks(), send).await;
                }
            };
            tokio::join!(silent, rendered, self.front.run_deliveries(&*self.database), self.keep_sessions());
        })
    }

    /// S2-5: whoever is not authenticated is told by 4001; other refusals stay what they are.
    fn refusal(&self, refused: &Refused<'_>) -> Option<Refusal> {
        let is_identity = matches!(refused.status, 401 | 403)
            && (refused.diagnosis.as_str().starts_with("jwt.")
                || refused.diagnosis.as_str().starts_with("token."));
        is_identity.then(|| Refusal {
            facts: refused.facts.clone(),
            ..Self::not_authenticated(&self.settings.load(), refused.diagnosis)
        })
    }

    fn connect<'a>(&'a self, connect: Connect<'a>) -> BoxFuture<'a, Result<Connected, Box<Refusal>>> {
        Box::pin(self.admit(connect))
    }

    fn stopped(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end_sessions())
    }

    fn opened(&self, connection: &Arc<ConnectionFacts>) {
        self.dispatcher.open(connection.connection_id);
    }

    fn message<'a>(&'a self, message: Message<'a>) -> BoxFuture<'a, Reply> {
        Box::pin(self.handle(message))
    }

    fn request(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move { self.serve(&request).await })
    }

    fn disconnect<'a>(&'a self, connection: &'a Arc<ConnectionFacts>, _end: End<'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let id = connection.connection_id;
            let now = self.dispatcher.host().map_or(0, |host| host.now());
            let user = self.dispatcher.connections.touch(id, now);
            // At once, before anybody is told.
            self.dispatcher.connections.remove(id);
            if let Some(user) = user {
                self.front.disconnected(&self.settings.load(), &user, id, now).await;
            }
        })
    }
}
