//! The application on real databases, with a gateway that only notes what it is given.

mod delivery;
mod directory;
mod faults;
mod limit;
mod order;
mod replay;
mod sessions;
mod users;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::json;
use tidegate_core::app::{Request, Sent};
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::identity::{AuthKind, Identity};
use tidegate_core::push::{Publish, PushResult};
use tidegate_store::sql::{PostgresDatabase, PostgresOptions, SqliteDatabase};

use super::*;
use crate::event::{Audience, Frame};
use crate::extension::Routes;
use crate::store::MIGRATIONS;

/// Notes what is sent, by connection.
#[derive(Debug, Default)]
struct FakeHost {
    outboxes: Mutex<HashMap<ConnectionId, Vec<Bytes>>>,
    closed: Mutex<Vec<(ConnectionId, u16, Diagnosis)>>,
    notices: Mutex<Vec<Notice>>,
    now: AtomicU64,
    n_texts: AtomicUsize,
    /// What is sent is only counted.
    is_counting: bool,
}

impl Host for FakeHost {
    fn send(&self, to: &[ConnectionId], text: Bytes) -> Sent {
        self.n_texts.fetch_add(1, Ordering::Relaxed);
        let mut sent = Sent::default();
        if self.is_counting {
            sent.delivered = to.len();
            return sent;
        }
        let mut outboxes = self.outboxes.lock();
        for connection in to {
            outboxes.entry(*connection).or_default().push(text.clone());
            sent.delivered += 1;
        }
        sent
    }

    fn publish<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: Publish,
        _: Facts,
    ) -> BoxFuture<'a, Option<PushResult>> {
        Box::pin(async { None })
    }

    fn close(&self, connection: ConnectionId, code: u16, _: &str, diagnosis: Diagnosis) -> bool {
        self.closed.lock().push((connection, code, diagnosis));
        true
    }

    fn identify(&self, _: &str, _: &str, _: &HeaderMap) -> Result<Arc<Identity>, Box<Refusal>> {
        Err(Box::new(Refusal::new(403, "Forbidden", Diagnosis::CHAT_AUTH_FAILED)))
    }

    fn authorize(&self, _: &str, _: &str, _: &Request) -> Result<String, Box<Refusal>> {
        Err(Box::new(Refusal::new(403, "Forbidden", Diagnosis::CHAT_AUTH_FAILED)))
    }

    fn notice(&self, notice: Notice) {
        self.notices.lock().push(notice);
    }

    fn keeps_facts(&self) -> bool {
        true
    }

    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn request_id(&self) -> RequestId {
        RequestId::new(1, 1)
    }

    fn random(&self) -> u64 {
        4
    }
}

struct Bench {
    chat: Arc<Chat>,
    host: Arc<FakeHost>,
    n_connections: AtomicU64,
}

impl Bench {
    fn new(settings: Settings, database: Arc<dyn Database>) -> Self {
        Self::with(settings, database, Extensions::default(), FakeHost::default())
    }

    fn with(settings: Settings, database: Arc<dyn Database>, extensions: Extensions, host: FakeHost) -> Self {
        let settings = Arc::new(LiveSettings::new(settings));
        let chat = Chat::with_extensions(settings, database, Arc::new(extensions), Ports::default());
        let host = Arc::new(host);
        host.now.store(1_767_225_600_000, Ordering::Relaxed);
        chat.start(Arc::clone(&host) as _);
        Self { chat: Arc::new(chat), host, n_connections: AtomicU64::new(1) }
    }

    fn in_memory(settings: Settings) -> Self {
        Self::new(settings, Arc::new(SqliteDatabase::open_in_memory(MIGRATIONS).unwrap()))
    }

    fn facts(&self) -> Arc<ConnectionFacts> {
        let number = self.n_connections.fetch_add(1, Ordering::Relaxed);
        Arc::new(ConnectionFacts {
            connection_id: ConnectionId::new(number, 0, u32::try_from(number).unwrap(), 0),
            api_id: "chat".into(),
            stage: "live".into(),
            domain_name: "chat.test".into(),
            source_ip: [127, 0, 0, 1].into(),
            user_agent: None,
            is_secure: false,
            client_port: 443,
            connected_at: 1,
        })
    }

    async fn connect(
        &self,
        connection: &Arc<ConnectionFacts>,
        user: Option<&str>,
        claims: &[(&str, &str)],
        is_dry_run: bool,
    ) -> Result<Connected, Box<Refusal>> {
        let claims: BTreeMap<String, Value> =
            claims.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        let user = user.map(Arc::from);
        let identity = Arc::new(Identity { user, auth: AuthKind::Jwt, claims, ..Identity::default() });
        let connect = Connect {
            connection,
            request_id: RequestId::new(1, 1),
            identity: &identity,
            channels: "",
            query: "",
            headers: &HeaderMap::new(),
            is_dry_run,
        };
        self.chat.connect(connect).await
    }

    /// An open connection of a user whose name is made of its id; what was sent to it first is in its outbox.
    async fn open(&self, user: i64) -> Arc<ConnectionFacts> {
        let connection = self.facts();
        let name = format!("u{user}");
        let claims = [("username", name.as_str())];
        let connected = self.connect(&connection, Some(&user.to_string()), &claims, false).await.unwrap();
        let mut outboxes = self.host.outboxes.lock();
        outboxes.entry(connection.connection_id).or_default().extend(connected.first);
        drop(outboxes);
        self.chat.opened(&connection);
        connection
    }

    async fn say(&self, connection: &Arc<ConnectionFacts>, text: &str) -> Reply {
        self.say_as(connection, text, false).await
    }

    async fn say_as(&self, connection: &Arc<ConnectionFacts>, text: &str, is_binary: bool) -> Reply {
        let now = self.host.now();
        let request_id = RequestId::new(2, 2);
        self.chat.message(Message { connection, request_id, identity: None, text, is_binary, now }).await
    }

    /// Sends an event that must succeed.
    async fn event(&self, connection: &Arc<ConnectionFacts>, event_type: &str, data: Value) {
        let reply =
            self.say(connection, &json!({ "event_type": event_type, "data": data }).to_string()).await;
        assert!(reply.text.is_none(), "{reply:?}");
        assert!(reply.problem.is_none());
    }

    /// Sends what must be refused; gives frame, diagnosis and facts.
    async fn refused(&self, connection: &Arc<ConnectionFacts>, text: &str) -> (Value, Diagnosis, Facts) {
        let reply = self.say(connection, text).await;
        let problem = reply.problem.unwrap();
        (serde_json::from_slice(&reply.text.unwrap()).unwrap(), problem.diagnosis, problem.facts)
    }

    /// Takes what was sent to a connection.
    fn frames(&self, connection: &Arc<ConnectionFacts>) -> Vec<Value> {
        let taken = self.host.outboxes.lock().remove(&connection.connection_id).unwrap_or_default();
        taken.iter().map(|frame| serde_json::from_slice(frame).unwrap()).collect()
    }

    /// Whether a text is in what was sent to a connection.
    fn has(&self, connection: &Arc<ConnectionFacts>, content: &str) -> bool {
        let content = format!("\"{content}\"");
        let outboxes = self.host.outboxes.lock();
        outboxes[&connection.connection_id]
            .iter()
            .any(|frame| std::str::from_utf8(frame).unwrap().contains(&content))
    }

    /// A group of these, made by the first; gives its id.
    async fn group(&self, maker: &Arc<ConnectionFacts>, others: &[i64]) -> String {
        let data = json!({ "type": "GroupChat", "name": "Reef", "participants": others,
            "extra_fields": { "max_participants": 500 } });
        self.event(maker, "room.create", data).await;
        let made = self.frames(maker).pop().unwrap();
        assert_eq!(made["eventType"], "roomcreate.dispatch");
        made["data"]["id"].as_str().unwrap().to_owned()
    }
}

fn server() -> Option<String> {
    std::env::var("TIDEGATE_TEST_POSTGRES").ok().filter(|url| !url.is_empty())
}

/// Databases with the chat's tables, each with its name; the folder must outlive them.
async fn databases(folder: &std::path::Path) -> Vec<(&'static str, Arc<dyn Database>)> {
    let file = SqliteDatabase::open(&folder.join("chat.db"), MIGRATIONS).unwrap();
    let mut all: Vec<(&'static str, Arc<dyn Database>)> = vec![("sqlite", Arc::new(file))];
    if let Some(url) = server() {
        let schema = format!("chat_{}", Uuid::now_v7().simple());
        let make = format!("CREATE SCHEMA {schema};");
        let options = |url: String| PostgresOptions::new(url, 4);
        let work = move |tx: &mut dyn Tx| {
            tx.execute(&make, &[])?;
            Ok(Outcome::Commit(Box::new(|| ())))
        };
        let plain = PostgresDatabase::open(options(url.clone()), &[]).await.unwrap();
        plain.write(Vec::new(), Box::new(work)).await.unwrap();
        let separator = if url.contains('?') { '&' } else { '?' };
        let own = format!("{url}{separator}options=-csearch_path%3D{schema}");
        all.push(("postgres", Arc::new(PostgresDatabase::open(options(own), MIGRATIONS).await.unwrap())));
    }
    all
}
