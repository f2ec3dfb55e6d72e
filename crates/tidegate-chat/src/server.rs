//! Calls of servers: rooms, members, messages, users, sessions and frames over HTTP, for callers with a signature or an API key.
//!
//! A call runs like an event, in one transaction and with the dispatches of the event that it stands for, as a user or as
//! the system, and no permission is asked for: whoever may call may do everything.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use http::Method;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tidegate_core::app::{Refusal, Request, Response};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_store::sql::{SqlValue, Tx};
use uuid::Uuid;

use crate::app::Chat;
use crate::error::ChatError;
use crate::event::{Audience, Ctx, Dispatch, Frame, time_text};
use crate::extension::{Routed, Verdict};
use crate::front::Plan;
use crate::hook::delivery;
use crate::model::{Room, User, UserId};
use crate::mount::{API_ID, STAGE};
use crate::settings::Settings;
use crate::store::users::{self, Claimed};
use crate::store::{deletion, members, rooms};
use crate::{present, router, value};

/// Where these calls live on the public listener.
pub const PREFIX: &str = "/api/chat/";
/// Largest body, in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// Objects of one page where the caller names no `limit`.
const PAGE: usize = 50;
/// Objects of one page.
const MAX_PAGE: usize = 200;
/// Milliseconds that the table of sessions may be behind what other nodes have heard.
const SEEN_LATE: u64 = 31_000;
/// Users of one `POST users`.
pub(crate) const MAX_USERS: usize = 1000;

/// What a call does inside of its transaction; what it gives is the body of the answer.
type Work = dyn Fn(&mut Ctx<'_>, &Map<String, Value>) -> Result<Value, ChatError> + Send + Sync;

/// One call.
pub(crate) struct Call {
    /// Of the event that it stands for, for hooks.
    event_type: &'static str,
    /// As whom; nobody is the system.
    actor: Option<UserId>,
    data: Map<String, Value>,
    writes: bool,
    work: Box<Work>,
}

impl Call {
    fn read(work: impl Fn(&mut Ctx<'_>) -> Result<Value, ChatError> + Send + Sync + 'static) -> Self {
        let work = Box::new(move |ctx: &mut Ctx<'_>, _: &Map<String, Value>| work(ctx));
        Self { event_type: "chat.server", actor: None, data: Map::new(), writes: false, work }
    }

    fn write(work: impl Fn(&mut Ctx<'_>) -> Result<Value, ChatError> + Send + Sync + 'static) -> Self {
        Self { writes: true, ..Self::read(work) }
    }

    /// An event with this data; the answer is the data of its last dispatch.
    fn event(event_type: &'static str, actor: Option<UserId>, data: Value) -> Self {
        let work = Box::new(move |ctx: &mut Ctx<'_>, data: &Map<String, Value>| {
            let route = router::find(event_type).ok_or(ChatError::InvalidEventType)?;
            (route.handler)(ctx, data)?;
            Ok(last_data(ctx))
        });
        let data = if let Value::Object(data) = data { data } else { Map::new() };
        Self { event_type, actor, data, writes: true, work }
    }
}

/// The data of the last dispatch.
fn last_data(ctx: &Ctx<'_>) -> Value {
    match ctx.dispatches.last().map(|dispatch| &dispatch.frame) {
        Some(Frame::Event { data, .. }) => data.clone(),
        _ => json!({}),
    }
}

impl Chat {
    /// Answers a call below [`PREFIX`].
    pub async fn serve(&self, request: &Request) -> Response {
        let Some(host) = self.dispatcher().host() else {
            return failed(503, "store.unavailable", "not started");
        };
        if let Err(refusal) = host.authorize(API_ID, STAGE, request) {
            return refused(&refusal);
        }
        let settings = self.settings().load();
        let answer = match self.call_of(&settings, request) {
            Ok(Wanted::Call(call)) => self.call(&settings, call).await,
            Ok(Wanted::Sessions(page)) => self.list_sessions(&settings, &page).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(Value::Null) => Response::json(204, ""),
            Ok(body) => {
                let is_made = request.method == Method::POST;
                Response::json(if is_made { 201 } else { 200 }, body.to_string())
            }
            Err(error) => error_response(&error, &settings),
        }
    }

    /// Runs a call as its user, or as the system.
    pub(crate) async fn call(&self, settings: &Arc<Settings>, call: Call) -> Result<Value, ChatError> {
        let actor = match &call.actor {
            None => system(),
            Some(id) => {
                let id = id.clone();
                let found: Arc<Mutex<Option<User>>> = Arc::default();
                let result = Arc::clone(&found);
                let find = Call::read(move |ctx| {
                    let directory = &ctx.extensions.users;
                    *result.lock() = directory.get(ctx.tx, &id)?;
                    Ok(Value::Null)
                });
                self.run_call(settings, Arc::new(system()), find).await?;
                let user = found.lock().take();
                user.ok_or_else(user_not_found)?
            }
        };
        self.run_call(settings, Arc::new(actor), call).await
    }

    async fn run_call(
        &self,
        settings: &Arc<Settings>,
        actor: Arc<User>,
        call: Call,
    ) -> Result<Value, ChatError> {
        let answer: Arc<Mutex<Value>> = Arc::default();
        let result = Arc::clone(&answer);
        let work = call.work;
        let plan = Plan {
            routed: Routed::Custom(Arc::new(move |ctx, data| {
                *result.lock() = work(ctx, data)?;
                Ok(())
            })),
            event_type: call.event_type.to_owned(),
            data: call.data,
            cleaned: None,
            verdict: Verdict::Allow,
            writes: call.writes,
        };
        self.run_plan(settings, &actor, None, plan).await?;
        let answer = answer.lock().take();
        Ok(answer)
    }

    /// What a request wants.
    fn call_of(&self, settings: &Settings, request: &Request) -> Result<Wanted, ChatError> {
        let path = request.path.strip_prefix(PREFIX).unwrap_or_default().trim_end_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        let method = request.method.as_str();
        let page = Page::of(&request.query)?;
        let user = |text: &str| value::user_id(&Value::from(text), settings).ok_or_else(user_not_found);
        let body = || -> Result<Map<String, Value>, ChatError> {
            serde_json::from_slice(&request.body)
                .map_err(|error| ChatError::Malformed(format!("the body must be a JSON object: {error}")))
        };
        Ok(Wanted::Call(match (method, parts.as_slice()) {
            ("GET", ["rooms"]) => Call::read(move |ctx| list_rooms(ctx, &page)),
            ("POST", ["rooms"]) => {
                let mut data = body()?;
                let creator = data.remove("creator").and_then(|id| value::user_id(&id, settings));
                let creator = creator.ok_or_else(|| ChatError::field("creator", crate::field::REQUIRED))?;
                Call::event("room.create", Some(creator), Value::Object(data))
            }
            ("GET", ["rooms", id]) => {
                let id = room_id(id)?;
                Call::read(move |ctx| {
                    let room = find_room(ctx.tx, id)?;
                    present::room::detail(ctx, &room)
                })
            }
            ("DELETE", ["rooms", id]) => {
                let id = room_id(id)?.to_string();
                Call::event("room.modify", None, json!({ "room_id": id, "action": "delete" }))
            }
            ("GET", ["rooms", id, "members"]) => {
                let id = room_id(id)?;
                Call::read(move |ctx| list_members(ctx, id))
            }
            ("POST", ["rooms", id, "members"]) => {
                let members = body()?.remove("members").unwrap_or_default();
                let data = json!({ "room_id": room_id(id)?.to_string(), "members": members });
                Call::event("room.add_members", None, data)
            }
            ("DELETE", ["rooms", id, "members", member]) => {
                let member = user(member)?;
                let data = json!({ "room_id": room_id(id)?.to_string(), "members": [member.as_str()] });
                Call::event("room.remove_members", None, data)
            }
            ("POST", ["rooms", id, "messages"]) => {
                let mut data = body()?;
                data.insert("room_id".to_owned(), room_id(id)?.to_string().into());
                post_message(settings, data)?
            }
            ("DELETE", ["messages", id]) => {
                let id = value::parse(id)?.to_string();
                Call::event("message.modify", None, json!({ "message_id": [id], "action": "delete" }))
            }
            ("POST", ["rooms", id, "push"]) => {
                let (id, frame) = (room_id(id)?, frame_of(body()?)?);
                Call::write(move |ctx| {
                    find_room(ctx.tx, id)?;
                    let audience = ctx.room_audience(id)?;
                    push(ctx, audience, &frame)
                })
            }
            ("POST", ["users", id, "push"]) => {
                let (id, frame) = (user(id)?, frame_of(body()?)?);
                Call::write(move |ctx| push(ctx, Audience::Users(vec![id.clone()]), &frame))
            }
            ("POST", ["push"]) => {
                let frame = frame_of(body()?)?;
                let everyone: HashSet<UserId> = self
                    .dispatcher()
                    .connections
                    .sessions()
                    .into_iter()
                    .map(|session| session.user)
                    .collect();
                let everyone: Vec<UserId> = everyone.into_iter().collect();
                Call::write(move |ctx| push(ctx, Audience::Users(everyone.clone()), &frame))
            }
            ("GET", ["users"]) => Call::read(move |ctx| list_users(ctx, &page)),
            ("PUT", ["users", id]) => {
                let entry = (user(id)?, body()?);
                Call::write(move |ctx| enter_user(ctx, &entry.0, &entry.1))
            }
            ("POST", ["users"]) => enter_users(settings, body()?)?,
            ("DELETE", ["users", id]) => {
                let id = user(id)?;
                Call::write(move |ctx| {
                    let told =
                        deletion::delete_user(ctx.tx, ctx.settings, &id)?.ok_or_else(user_not_found)?;
                    ctx.dispatches.extend(told);
                    Ok(Value::Null)
                })
            }
            ("GET", ["sessions"]) => return Ok(Wanted::Sessions(page)),
            ("GET", ["hooks", "deliveries"]) => Call::read(move |ctx| list_deliveries(ctx, &page)),
            _ => return Err(ChatError::NotFound { diagnosis: Diagnosis::CHAT_BAD_PAYLOAD }),
        }))
    }

    /// Those of this node as they are, those of other nodes as they have written them.
    async fn list_sessions(&self, settings: &Settings, page: &Page) -> Result<Value, ChatError> {
        let after = page.after.clone().unwrap_or_default();
        let now = self.dispatcher().host().map_or(0, |host| host.now());
        let idle_after = settings.inactivity_seconds.saturating_mul(1000);
        let heard = |id, seen: u64| {
            let heard = self.dispatcher().host().and_then(|host| host.last_heard(id));
            heard.map_or(seen, |heard| heard.max(seen))
        };
        let here = self.dispatcher().connections.sessions().into_iter().map(|session| {
            let id = session.connection.connection_id;
            let shown = json!({
                "connection_id": id.to_string(),
                "user": settings.user_json(&session.user),
                "connected_at": millis_text(session.connection.connected_at),
                "last_seen": millis_text(session.last_seen),
                "idle": now.saturating_sub(heard(id, session.last_seen)) > idle_after,
                "node": self.session_node().to_string(),
            });
            (id.to_string(), shown)
        });
        let mut items: Vec<(String, Value)> = here.filter(|(id, _)| *id > after).collect();
        for row in self.sessions_elsewhere(&after, page.limit + 1).await? {
            let seen = u64::try_from(row.last_seen / 1000).unwrap_or(0);
            let shown = json!({
                "connection_id": row.connection.to_string(),
                "user": settings.user_json(&row.user),
                "connected_at": time_text(row.connected_at),
                "last_seen": time_text(row.last_seen),
                "idle": now.saturating_sub(seen) > idle_after.saturating_add(SEEN_LATE),
                "node": row.node.to_string(),
            });
            items.push((row.connection.to_string(), shown));
        }
        items.sort_by(|a, b| a.0.cmp(&b.0));
        items.truncate(page.limit + 1);
        Ok(page.answer("sessions", items))
    }
}

/// What a request wants.
enum Wanted {
    Call(Call),
    Sessions(Page),
}

/// One page of a list.
#[derive(Debug, Clone)]
struct Page {
    /// Behind the object of this key.
    after: Option<String>,
    limit: usize,
}

impl Page {
    fn of(query: &str) -> Result<Self, ChatError> {
        let mut page = Self { after: None, limit: PAGE };
        for (name, text) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "limit" => {
                    let limit = text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                    let wrong = || ChatError::field("limit", format!("must be from 1 to {MAX_PAGE}"));
                    page.limit = limit.ok_or_else(wrong)?;
                }
                "nextToken" => {
                    let bytes = hex::decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                    page.after = Some(bytes.ok_or_else(|| ChatError::field("nextToken", "is none of ours"))?);
                }
                _ => {}
            }
        }
        Ok(page)
    }

    /// The id that a list of rows with ids goes on behind.
    fn after_id(&self) -> Uuid {
        self.after.as_deref().and_then(|text| Uuid::try_parse(text).ok()).unwrap_or_default()
    }

    /// One more than the page has says that there is another one.
    fn rows(&self) -> SqlValue {
        SqlValue::Int(i64::try_from(self.limit + 1).unwrap_or(i64::MAX))
    }

    /// The body of a list: at most one page of `items`, which have their keys.
    fn answer(&self, name: &str, mut items: Vec<(String, Value)>) -> Value {
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        let next = items.last().filter(|_| has_more).map(|(key, _)| hex::encode(key));
        let mut body = Map::new();
        body.insert(name.to_owned(), items.into_iter().map(|(_, item)| item).collect());
        if let Some(next) = next {
            body.insert("nextToken".to_owned(), next.into());
        }
        Value::Object(body)
    }
}

fn system() -> User {
    let empty: Arc<str> = "".into();
    User {
        id: UserId(Arc::clone(&empty)),
        username: "system".into(),
        email: Arc::clone(&empty),
        first_name: Arc::clone(&empty),
        last_name: empty,
        is_disabled: false,
        claims: Value::Null,
    }
}

fn room_id(text: &str) -> Result<Uuid, ChatError> {
    value::parse(text)
}

fn find_room(tx: &mut dyn Tx, id: Uuid) -> Result<Room, ChatError> {
    let not_found = || ChatError::NotFound { diagnosis: Diagnosis::CHAT_ROOM_NOT_FOUND };
    rooms::find(tx, id)?.ok_or_else(not_found)
}

fn user_not_found() -> ChatError {
    ChatError::NotFound { diagnosis: Diagnosis::CHAT_BAD_PAYLOAD }
}

fn list_rooms(ctx: &mut Ctx<'_>, page: &Page) -> Result<Value, ChatError> {
    let sql = "SELECT id, kind, creator, name, description, avatar, cap, locked, approval, is_public, preferences, fields, \
               last_message, created_at, updated_at FROM chat_room WHERE id > ?1 ORDER BY id LIMIT ?2";
    let rows = ctx.tx.query(sql, &[SqlValue::from(page.after_id().into_bytes()), page.rows()])?;
    let mut items = Vec::with_capacity(rows.len());
    for row in &rows {
        let room = rooms::room_of(row, 0)?;
        items.push((room.id.to_string(), present::room::detail(ctx, &room)?));
    }
    Ok(page.answer("rooms", items))
}

fn list_members(ctx: &mut Ctx<'_>, room: Uuid) -> Result<Value, ChatError> {
    find_room(ctx.tx, room)?;
    let view = ctx.view();
    let members = members::participants(ctx.tx, room)?;
    let members = members
        .iter()
        .map(|member| json!({ "user": present::user(&member.user, view), "is_admin": member.is_admin }));
    Ok(json!({ "members": members.collect::<Vec<_>>() }))
}

/// A message of a user (`sender`), or of the system.
fn post_message(settings: &Settings, mut data: Map<String, Value>) -> Result<Call, ChatError> {
    match data.remove("sender") {
        Some(sender) if !sender.is_null() => {
            let sender = value::user_id(&sender, settings).ok_or_else(user_not_found)?;
            let send = Call::event("message.send", Some(sender), Value::Object(data));
            Ok(in_room(send))
        }
        _ => {
            let send = in_room(Call::event("message.send", None, Value::Object(data)));
            let work = send.work;
            let work = Box::new(move |ctx: &mut Ctx<'_>, data: &Map<String, Value>| {
                let sent = work(ctx, data)?;
                let id = sent.get("id").and_then(Value::as_str).map(value::parse).transpose()?;
                let id = SqlValue::from(id.map(Uuid::into_bytes));
                ctx.tx.execute("UPDATE chat_message SET sender = NULL WHERE id = ?1", &[id])?;
                for dispatch in &mut ctx.dispatches {
                    if let Frame::Event { data, .. } = &mut dispatch.frame
                        && let Some(sender) = data.get_mut("sender")
                    {
                        *sender = Value::Null;
                    }
                }
                Ok(last_data(ctx))
            });
            Ok(Call { work, ..send })
        }
    }
}

/// A call that says when its room does not exist: no permission is asked for, which would have said so.
fn in_room(call: Call) -> Call {
    let work = call.work;
    let work = Box::new(move |ctx: &mut Ctx<'_>, data: &Map<String, Value>| {
        let id = data.get("room_id").and_then(Value::as_str).unwrap_or_default();
        find_room(ctx.tx, value::parse(id)?)?;
        work(ctx, data)
    });
    Call { work, ..call }
}

/// `eventType` and `data` of a frame.
fn frame_of(mut body: Map<String, Value>) -> Result<(String, Value), ChatError> {
    let event_type = body.get("eventType").and_then(Value::as_str).filter(|text| !text.is_empty());
    let event_type =
        event_type.ok_or_else(|| ChatError::field("eventType", crate::field::REQUIRED))?.to_owned();
    Ok((event_type, body.remove("data").unwrap_or_else(|| json!({}))))
}

fn push(ctx: &mut Ctx<'_>, audience: Audience, frame: &(String, Value)) -> Result<Value, ChatError> {
    let (event_type, data) = frame.clone();
    ctx.dispatches.push(Dispatch { audience, frame: Frame::Event { event_type: event_type.into(), data } });
    Ok(json!({}))
}

fn list_users(ctx: &mut Ctx<'_>, page: &Page) -> Result<Value, ChatError> {
    let sql = "SELECT id, username, email, first_name, last_name, disabled, claims FROM chat_user WHERE id > ?1 \
               ORDER BY id LIMIT ?2";
    let after = SqlValue::from(page.after.as_deref().unwrap_or_default());
    let rows = ctx.tx.query(sql, &[after, page.rows()])?;
    let items = rows.iter().map(|row| {
        let user = users::user_of(row, 0)?;
        Ok((user.id.as_str().to_owned(), shown_user(ctx, &user)))
    });
    let items = items.collect::<Result<_, ChatError>>()?;
    Ok(page.answer("users", items))
}

/// A user as operators see it: with `disabled`, whatever clients are shown.
fn shown_user(ctx: &Ctx<'_>, user: &User) -> Value {
    json!({
        "id": ctx.settings.user_json(&user.id),
        "username": &*user.username,
        "email": &*user.email,
        "first_name": &*user.first_name,
        "last_name": &*user.last_name,
        "disabled": user.is_disabled,
    })
}

/// Writes what the body says of a user, and leaves the rest.
fn enter_user(ctx: &mut Ctx<'_>, id: &UserId, body: &Map<String, Value>) -> Result<Value, ChatError> {
    let mut errors = Map::new();
    let mut text = |name: &str| match body.get(name) {
        None => None,
        Some(value) => match crate::field::text(value, Some(254)) {
            Ok(text) => Some(text),
            Err(said) => {
                errors.insert(name.to_owned(), json!([said]));
                None
            }
        },
    };
    let claimed = Claimed {
        username: text("username"),
        email: text("email"),
        first_name: text("first_name"),
        last_name: text("last_name"),
        claims: body.get("claims").and_then(Value::as_object).cloned().unwrap_or_default(),
    };
    let is_disabled = match body.get("disabled") {
        None => None,
        Some(Value::Bool(is_disabled)) => Some(*is_disabled),
        Some(_) => {
            errors.insert("disabled".to_owned(), json!(["Must be a valid boolean."]));
            None
        }
    };
    if !errors.is_empty() {
        return Err(ChatError::Fields(errors));
    }
    let mut user = match users::from_claims(ctx.tx, id, &claimed)? {
        users::Entry::Known(user) | users::Entry::New(user) => user,
    };
    user.is_disabled = is_disabled.unwrap_or(user.is_disabled);
    users::write(ctx.tx, &user)?;
    Ok(shown_user(ctx, &user))
}

/// A user who is to be entered: its id, and what is said of it.
pub type NewUser = (UserId, Map<String, Value>);

/// The users of a document `{"users": [{"id": 7, "username": "ana", ...}, ...]}`: the body of `POST users`, or a file.
///
/// # Errors
/// It has no list, or a member of it no id.
pub fn users_of(settings: &Settings, document: Value) -> Result<Vec<NewUser>, ChatError> {
    let Value::Object(mut document) = document else {
        return Err(ChatError::field("users", crate::field::REQUIRED));
    };
    let Some(Value::Array(items)) = document.remove("users") else {
        return Err(ChatError::field("users", crate::field::REQUIRED));
    };
    let mut entries = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let wrong = || ChatError::field(&format!("users[{at}].id"), crate::field::REQUIRED);
        let Value::Object(item) = item else { return Err(wrong()) };
        let id = item.get("id").and_then(|id| value::user_id(id, settings)).ok_or_else(wrong)?;
        entries.push((id, item));
    }
    Ok(entries)
}

/// Enters them, all or none.
pub(crate) fn entering(entries: Vec<NewUser>) -> Call {
    Call::write(move |ctx| {
        let entered = entries.iter().map(|(id, item)| enter_user(ctx, id, item));
        let entered = entered.collect::<Result<Vec<_>, ChatError>>()?;
        Ok(json!({ "users": entered }))
    })
}

fn enter_users(settings: &Settings, body: Map<String, Value>) -> Result<Call, ChatError> {
    let entries = users_of(settings, Value::Object(body))?;
    if entries.len() > MAX_USERS {
        return Err(ChatError::field("users", format!("may have {MAX_USERS} users")));
    }
    Ok(entering(entries))
}

fn list_deliveries(ctx: &mut Ctx<'_>, page: &Page) -> Result<Value, ChatError> {
    let waiting = delivery::waiting(ctx.tx, Some(page.after_id()), page.limit + 1)?;
    let items = waiting.into_iter().map(|row| {
        let shown = json!({
            "id": row.id.to_string(),
            "hook": row.hook,
            "event_type": row.event_type,
            "target": row.target,
            "room": row.room.map(|room| room.to_string()),
            "attempts": row.attempts,
            "created_at": time_text(row.created_at),
            "next_at": time_text(row.next_at),
            "last_error": row.last_error,
        });
        (row.id.to_string(), shown)
    });
    Ok(page.answer("deliveries", items.collect()))
}

fn millis_text(millis: u64) -> String {
    time_text(i64::try_from(millis).unwrap_or(i64::MAX / 1000).saturating_mul(1000))
}

fn failed(status: u16, id: &str, message: &str) -> Response {
    Response::json(status, json!({ "error": { "id": id, "message": message } }).to_string())
}

fn refused(refusal: &Refusal) -> Response {
    failed(refusal.status, refusal.diagnosis.as_str(), &refusal.message)
}

fn error_response(error: &ChatError, settings: &Settings) -> Response {
    let frame = crate::extension::error_frame(error, settings);
    let (code, detail) = match &frame["error"] {
        Value::Object(error) => (error.get("code").cloned(), error.get("detail").cloned()),
        text => (None, Some(text.clone())),
    };
    let status = match code.as_ref().and_then(Value::as_u64) {
        Some(4002) => 403,
        Some(4004) => 404,
        Some(4005) => 409,
        Some(4006) => 500,
        Some(4029) => 429,
        _ => 400,
    };
    if let ChatError::Internal(text) = error {
        tracing::error!(error = text, diag = "chat.internal", "a call of a server failed in the chat");
    }
    let body = json!({ "error": { "id": error.diagnosis().as_str(), "code": code, "detail": detail } });
    Response::json(status, body.to_string())
}
