//! The application on real databases, with a gateway that only notes what it is given.

mod directory;
mod limit;
mod replay;
mod sessions;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Instant;

use http::HeaderMap;
use tidegate_core::app::{Request, Sent};
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::identity::{AuthKind, Identity};
use tidegate_core::push::{Publish, PushResult};
use tidegate_store::sql::{PostgresDatabase, PostgresOptions, SqliteDatabase};

use super::*;
use crate::event::Audience;
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
        let options = |url: String| PostgresOptions { url, tls: None, connections: 4 };
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

/// S2-3, S2-4, S2-5, I-2, `chat.auth-failed`: whoever is not authenticated is told by 4001, or by 403.
#[tokio::test]
async fn whoever_is_nobody_is_refused() {
    let bench = Bench::in_memory(Settings::default());
    let connection = bench.facts();
    for user in
        [None, Some(""), Some("ana"), Some("050"), Some("5.0"), Some("-5"), Some("1234567890123456789")]
    {
        let refusal = bench.connect(&connection, user, &[], false).await.unwrap_err();
        assert_eq!((refusal.status, refusal.close_code), (403, Some(4001)), "{user:?}");
        assert_eq!(refusal.message, "Authentication failed");
        assert_eq!(refusal.diagnosis, Diagnosis::CHAT_AUTH_FAILED);
        assert_eq!(refusal.facts.get("check"), Some(json!("user id")));
    }
    assert!(bench.chat.dispatcher().connections.is_empty());
    // What the gateway has refused itself keeps its cause.
    let refused = Refused {
        diagnosis: Diagnosis::find("jwt.expired").unwrap(),
        status: 403,
        address: [127, 0, 0, 1].into(),
        now: 0,
        is_dry_run: false,
        facts: &Facts::none().with("exp", 5),
    };
    let told = bench.chat.as_ref();
    let refusal = App::refusal(told, &refused).unwrap();
    assert_eq!((refusal.close_code, refusal.diagnosis.as_str()), (Some(4001), "jwt.expired"));
    assert_eq!(refusal.facts.get("exp"), Some(json!(5)));
    let elsewhere = Diagnosis::find("origin.not-allowed").unwrap_or(Diagnosis::LIMIT_CONNECTIONS);
    assert!(App::refusal(told, &Refused { diagnosis: elsewhere, ..refused }).is_none());
    let unavailable = Refused { status: 503, ..refused };
    assert!(App::refusal(told, &unavailable).is_none());

    let settings = Settings { refusal: RefusalForm::Http, ..Settings::default() };
    let bench = Bench::in_memory(settings);
    let refusal = bench.connect(&connection, None, &[], false).await.unwrap_err();
    assert_eq!((refusal.status, refusal.close_code), (403, None));
    assert_eq!(App::refusal(bench.chat.as_ref(), &refused).unwrap().close_code, None);
}

/// Numbers for metrics: by type and outcome, and by the code of the answer. What clients invent makes no label.
#[tokio::test]
async fn events_are_counted() {
    let bench = Bench::in_memory(Settings::default());
    assert_eq!(bench.chat.numbers(), Numbers::default());
    let ana = bench.open(1).await;
    bench.group(&ana, &[]).await;
    bench.group(&ana, &[]).await;
    for text in
        ["no JSON", r#"{"event_type":"my.invention","data":{}}"#, r#"{"event_type":"room.create","data":{}}"#]
    {
        bench.refused(&ana, text).await;
    }
    let numbers = bench.chat.numbers();
    assert_eq!(numbers.connections, 1);
    let events = [(("other", "refused"), 2), (("room.create", "ok"), 2), (("room.create", "refused"), 1)];
    assert_eq!(numbers.events, BTreeMap::from(events));
    assert_eq!(numbers.errors, BTreeMap::from([(0, 1), (4003, 2)]));
    bench.chat.disconnect(&ana, End { code: 1000, reason: "" }).await;
    assert_eq!(bench.chat.numbers().connections, 0);
}

/// S2-4: with text ids any text is a user, and written as text.
#[tokio::test]
async fn user_ids_may_be_texts() {
    let settings = Settings { user_ids: crate::settings::UserIds::Text, ..Settings::default() };
    let bench = Bench::in_memory(settings);
    let connection = bench.facts();
    bench.connect(&connection, Some("ana"), &[("username", "ana")], false).await.unwrap();
    bench.chat.opened(&connection);
    bench.event(&connection, "room.create", json!({ "type": "GroupChat", "name": "x" })).await;
    assert_eq!(bench.frames(&connection)[0]["data"]["creator"]["id"], "ana");
}

/// S2-3, S2-113, I-26: users come from their tokens; absent claims leave what is known, taken names get the id, disabled
/// users and, where the directory is closed, unknown ones are nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_what_their_tokens_say() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let bench = Bench::new(Settings::default(), Arc::clone(&database));
        let connections = &bench.chat.dispatcher().connections;
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], [&'a str; 4]);
        let cases: [Case<'_>; 6] = [
            (
                "7",
                &[("username", "ana"), ("email", "a@x.test"), ("first_name", "Ana")],
                ["ana", "a@x.test", "Ana", ""],
            ),
            (
                "7",
                &[("preferred_username", "ana"), ("family_name", "Lima")],
                ["ana", "a@x.test", "Ana", "Lima"],
            ),
            ("7", &[], ["ana", "a@x.test", "Ana", "Lima"]),
            ("8", &[("name", " ana "), ("given_name", "Ben")], ["ana-8", "", "Ben", ""]),
            ("8", &[("name", "ana")], ["ana-8", "", "Ben", ""]),
            ("9", &[], ["user-9", "", "", ""]),
        ];
        for (id, claims, expected) in cases {
            let connection = bench.facts();
            bench.connect(&connection, Some(id), claims, false).await.unwrap();
            let user = connections.touch(connection.connection_id, 0).unwrap();
            let found = [&*user.username, &*user.email, &*user.first_name, &*user.last_name];
            assert_eq!(found, expected, "{name}: {id} {claims:?}");
        }
        let disable = |tx: &mut dyn Tx| {
            tx.execute("UPDATE chat_user SET disabled = 1 WHERE id = '8'", &[])?;
            Ok(Outcome::Commit(Box::new(|| ())))
        };
        database.write(Vec::new(), Box::new(disable)).await.unwrap();
        let refusal = bench.connect(&bench.facts(), Some("8"), &[], false).await.unwrap_err();
        assert_eq!(refusal.facts.get("check"), Some(json!("disabled")));
        // A dry run decides the same and leaves nothing.
        assert!(bench.connect(&bench.facts(), Some("8"), &[], true).await.is_err());
        let before = connections.len();
        assert!(bench.connect(&bench.facts(), Some("44"), &[], true).await.unwrap().first.is_empty());
        assert_eq!(connections.len(), before);
        let closed = Settings { directory: Directory::Closed, ..Settings::default() };
        let bench = Bench::new(closed, database);
        let refusal = bench.connect(&bench.facts(), Some("44"), &[], false).await.unwrap_err();
        assert_eq!(refusal.facts.get("check"), Some(json!("directory")));
        assert!(bench.connect(&bench.facts(), Some("7"), &[("username", "anna")], false).await.is_ok());
    }
}

/// S2-106: devices are without limit unless there is one.
#[tokio::test]
async fn devices_are_limited_where_that_is_wanted() {
    let bench = Bench::in_memory(Settings { max_devices: 2, ..Settings::default() });
    let (one, _two) = (bench.open(7).await, bench.open(7).await);
    let third = bench.facts();
    let refusal = bench.connect(&third, Some("7"), &[], false).await.unwrap_err();
    assert_eq!((refusal.status, refusal.close_code), (429, Some(1008)));
    assert_eq!((refusal.facts.get("limit"), refusal.facts.get("count")), (Some(json!(2)), Some(json!(2))));
    bench.chat.disconnect(&one, End { code: 1000, reason: "" }).await;
    assert!(bench.connect(&third, Some("7"), &[], false).await.is_ok());
}

/// S2-8, S2-14 to S2-17, S2-19, S2-28, I-1, I-3, `chat.not-json`, `chat.invalid-event-type`: what is no event is answered, and the
/// connection goes on.
#[tokio::test]
async fn what_is_no_event_is_answered() {
    let bench = Bench::in_memory(Settings::default());
    let ana = bench.open(7).await;
    bench.frames(&ana);
    for text in ["", "x", "[]", "\"text\"", "5", "null", "{", "{\"event_type\":\"room.list\"} x"] {
        let (frame, diagnosis, facts) = bench.refused(&ana, text).await;
        assert_eq!(frame["error"]["code"], 4003, "{text}");
        assert!(frame["error"]["detail"].as_str().unwrap().starts_with("Malformed event: "), "{frame}");
        assert_eq!(diagnosis.as_str(), "chat.not-json");
        let is_parsed = serde_json::from_str::<Value>(text).is_ok();
        assert_eq!(facts.get("errorPosition").is_some(), !is_parsed, "{text}");
    }
    let reply = bench.say_as(&ana, "e30=", true).await;
    assert_eq!(reply.problem.unwrap().facts.get("opcode"), Some(json!("binary")));
    assert!(std::str::from_utf8(&reply.text.unwrap()).unwrap().contains("4003"));
    for event_type in
        ["null", "5", "true", "[]", "{}", "\"\"", "\"room.lst\"", "\"Room.List\"", "\"roomlist.dispatch\""]
    {
        let text = format!(r#"{{"data": {{}}, "event_type": {event_type}}}"#);
        let (frame, diagnosis, facts) = bench.refused(&ana, &text).await;
        assert_eq!(frame, json!({ "error": "invalid event type" }), "{event_type}");
        assert_eq!(diagnosis.as_str(), "chat.invalid-event-type");
        if event_type == "\"room.lst\"" {
            assert_eq!(facts.get("nearest"), Some(json!("room.list")));
            assert_eq!(facts.get("eventType"), Some(json!("room.lst")));
        }
    }
    assert_eq!(bench.refused(&ana, "{}").await.0, json!({ "error": "invalid event type" }));
    for data in ["", r#", "data": null"#, r#", "data": []"#, r#", "data": "x""#] {
        let text = format!(r#"{{"event_type": "message.send"{data}}}"#);
        let (frame, diagnosis, _) = bench.refused(&ana, &text).await;
        assert_eq!(frame["error"], json!({ "code": 4003, "detail": ["data must be an object"] }));
        assert_eq!(diagnosis, Diagnosis::CHAT_BAD_PAYLOAD);
        let fine = format!(r#" {{"event_type": "x", "other": 1, "event_type": "session.heartbeat"{data}}} "#);
        assert!(bench.say(&ana, &fine).await.text.is_none());
        assert_eq!(bench.frames(&ana), [json!({ "status": "success" })]);
    }
    let missing = Uuid::now_v7().to_string();
    let text = json!({ "event_type": "room.info", "data": { "room_id": missing } }).to_string();
    let (frame, diagnosis, facts) = bench.refused(&ana, &text).await;
    assert_eq!(frame, json!({ "error": { "code": 4004, "detail": "Resource not found." } }));
    assert_eq!(diagnosis.as_str(), "chat.room-not-found");
    assert_eq!(facts.get("room"), Some(json!(missing)));
    assert_eq!(facts.get("eventType"), Some(json!("room.info")));
}

/// S2-6, S2-18, S2-45, S2-46, S2-47, S2-104, S2-109: notifications are first, nothing between subscription and opening is
/// lost, and whoever is a member at the commit is told, on all devices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_in_a_room_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let bench = Bench::new(Settings::default(), Arc::clone(&database));
        let (ana, ana_two, ben) = (bench.open(7).await, bench.open(7).await, bench.open(8).await);
        let empty = json!({ "eventType": "chat.notifications", "data": {} });
        for connection in [&ana, &ana_two, &ben] {
            assert_eq!(bench.frames(connection), std::slice::from_ref(&empty), "{name}");
        }
        let room = bench.group(&ana, &[8]).await;
        for connection in [&ana_two, &ben] {
            assert_eq!(bench.frames(connection).len(), 1, "{name}");
        }
        bench.event(&ana, "message.send", json!({ "room_id": room, "content": "one" })).await;
        for connection in [&ana, &ana_two, &ben] {
            let frames = bench.frames(connection);
            assert_eq!(frames.len(), 1, "{name}");
            assert_eq!(frames[0]["type"], "broadcast_group");
            assert_eq!(frames[0]["eventType"], "message.dispatch");
            assert_eq!(frames[0]["data"]["content"], "one");
        }
        bench.event(&ana, "room.list", Value::Null).await;
        assert_eq!((bench.frames(&ana).len(), bench.frames(&ana_two).len()), (1, 1));
        assert!(bench.frames(&ben).is_empty());

        // A third device, under way while messages come.
        let late = bench.facts();
        let connected = bench.connect(&late, Some("8"), &[], false).await.unwrap();
        for content in ["two", "three"] {
            bench.event(&ana, "message.send", json!({ "room_id": room, "content": content })).await;
        }
        assert!(bench.frames(&late).is_empty(), "{name}: not before it is open");
        let first: Value = serde_json::from_slice(&connected.first[0]).unwrap();
        assert_eq!((connected.first.len(), &first["eventType"]), (1, &json!("chat.notifications")));
        let pending = first["data"][&room].as_array().unwrap();
        assert_eq!(pending.len(), 1);
        assert_eq!(pending[0]["notification_type"], "NEW_MESSAGE");
        assert_eq!(pending[0]["message"]["content"], "one");
        bench.chat.opened(&late);
        let contents: Vec<Value> = bench.frames(&late).iter().map(|f| f["data"]["content"].clone()).collect();
        assert_eq!(contents, ["two", "three"], "{name}");

        // Another process of the same database knows the rooms.
        let later = Bench::new(Settings::default(), database);
        let (ana, ben) = (later.open(7).await, later.open(8).await);
        assert_eq!(later.frames(&ben)[0]["data"][&room].as_array().unwrap().len(), 3);
        later.frames(&ana);
        later.event(&ana, "message.send", json!({ "room_id": room, "content": "four" })).await;
        assert_eq!(later.frames(&ben)[0]["data"]["content"], "four");
    }
}

/// S2-6: what waits for a connection that does not open is bounded; it is ended rather than let it miss something.
#[tokio::test]
async fn what_waits_for_a_connection_is_bounded() {
    let bench = Bench::in_memory(Settings::default());
    let late = bench.facts();
    bench.connect(&late, Some("7"), &[], false).await.unwrap();
    let dispatch = Dispatch {
        audience: Audience::Users(vec![UserId("7".into())]),
        frame: Frame::Raw(json!({ "n": 1 })),
    };
    for _ in 0..1025 {
        bench.chat.dispatcher().send(std::slice::from_ref(&dispatch), &Settings::default());
    }
    bench.chat.opened(&late);
    assert!(bench.frames(&late).is_empty());
    assert_eq!(*bench.host.closed.lock(), [(late.connection_id, 1008, Diagnosis::CONN_SLOW_CONSUMER)]);
}

/// S2-13, I-6: whoever is gone gets nothing, counts for nothing, and leaves nothing.
#[tokio::test]
async fn whoever_is_gone_is_forgotten() {
    let bench = Bench::in_memory(Settings::default());
    let (ana, ben) = (bench.open(7).await, bench.open(8).await);
    let room = bench.group(&ana, &[8]).await;
    bench.frames(&ben);
    bench.chat.disconnect(&ben, End { code: 1006, reason: "" }).await;
    bench.event(&ana, "message.send", json!({ "room_id": room, "content": "x" })).await;
    assert!(bench.frames(&ben).is_empty());
    let connections = &bench.chat.dispatcher().connections;
    assert_eq!((connections.len(), connections.is_connected(&UserId("8".into()))), (1, false));
    // A handshake that nobody waits for any more.
    let half = bench.facts();
    bench.connect(&half, Some("9"), &[], false).await.unwrap();
    bench.chat.disconnect(&half, End { code: 1006, reason: "" }).await;
    assert_eq!(connections.len(), 1);
}

/// S2-102, S2-103, S2-105, I-17, I-18
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_wait_until_they_are_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let bench = Bench::new(Settings { max_pending: 3, ..Settings::default() }, Arc::clone(&database));
        let (ana, ben) = (bench.open(7).await, bench.open(8).await);
        let alone = bench.group(&ana, &[]).await;
        bench.event(&ana, "message.send", json!({ "room_id": alone, "content": "to nobody" })).await;
        let room = bench.group(&ana, &[8]).await;
        let mut ids = Vec::new();
        for n in 0..5 {
            bench.frames(&ana);
            bench.event(&ana, "message.send", json!({ "room_id": room, "content": n })).await;
            ids.push(bench.frames(&ana)[0]["data"]["id"].as_str().unwrap().to_owned());
        }
        let count = |sql: &'static str| {
            let database = Arc::clone(&database);
            async move {
                let found = Arc::new(AtomicI64::new(-1));
                let answer = Arc::clone(&found);
                let work = move |tx: &mut dyn Tx| {
                    answer.store(tx.query(sql, &[])?[0].int(0)?, Ordering::Relaxed);
                    Ok(Outcome::Rollback(Box::new(|| ())))
                };
                database.read(Box::new(work)).await.unwrap();
                found.load(Ordering::Relaxed)
            }
        };
        let all = "SELECT count(*) FROM chat_notification";
        assert_eq!(count(all).await, 5, "{name}: none for a room of one");
        let pending = |frames: Vec<Value>| -> Vec<(Value, Value)> {
            let of_room = frames[0]["data"].get(&room).and_then(Value::as_array).cloned();
            let shown = |n: &Value| (n["notification_type"].clone(), n["message"]["content"].clone());
            of_room.unwrap_or_default().iter().map(shown).collect()
        };
        let new = |text: &str| (json!("NEW_MESSAGE"), json!(text));
        let again = bench.open(8).await;
        assert_eq!(
            pending(bench.frames(&again)),
            [new("2"), new("3"), new("4")],
            "{name}: the newest, oldest first"
        );
        bench.event(&ben, "message.acknowledged", json!({ "message_id": [ids[2], ids[4]] })).await;
        let again = bench.open(8).await;
        assert_eq!(pending(bench.frames(&again)), [new("0"), new("1"), new("3")], "{name}");
        assert_eq!(count(all).await, 3, "{name}");

        // Reactions: one for each, replaced with it, gone with it.
        let react =
            |content: &str| json!({ "type": "add", "message_id": ids[0], "reaction_content": content });
        bench.event(&ben, "message.react", react("+1")).await;
        bench.event(&ben, "message.react", react("-1")).await;
        let ana_two = bench.open(7).await;
        assert_eq!(pending(bench.frames(&ana_two)), [(json!("REACTION"), json!("0"))], "{name}");
        bench.event(&ben, "message.react", json!({ "type": "remove", "message_id": ids[0] })).await;
        assert_eq!(
            count("SELECT count(*) FROM chat_notification WHERE kind = 'REACTION'").await,
            0,
            "{name}"
        );
        bench.event(&ben, "message.react", react("+1")).await;
        bench.event(&ana, "message.acknowledged", json!({ "message_id": ids[0] })).await;
        assert_eq!(
            count("SELECT count(*) FROM chat_notification WHERE kind = 'REACTION'").await,
            0,
            "{name}"
        );

        bench.event(&ben, "room.leave", json!({ "room_id": room })).await;
        assert_eq!(count(all).await, 0, "{name}: nothing is left of a room that one is not in");
        assert_eq!(count("SELECT count(*) FROM chat_recipient").await, 0, "{name}");

        let quiet =
            Bench::new(Settings { notifications: false, ..Settings::default() }, Arc::clone(&database));
        let (ana, ben) = (quiet.open(7).await, quiet.open(8).await);
        assert!(quiet.frames(&ben).is_empty(), "{name}: no first frame");
        let room = quiet.group(&ana, &[8]).await;
        quiet.event(&ana, "message.send", json!({ "room_id": room, "content": "x" })).await;
        let id = quiet.frames(&ana)[0]["data"]["id"].clone();
        assert_eq!(count(all).await, 0, "{name}");
        quiet.event(&ben, "message.acknowledged", json!({ "message_id": id })).await;
        assert_eq!(quiet.frames(&ana)[0]["data"][0]["delivered_to"], json!(["u8"]), "{name}");
    }
}

/// S2-107, S2-108, I-5, `chat.heartbeat-missed`: a silent device is reported once, and goes on hearing everything; with pings no
/// open device can be silent.
#[tokio::test]
async fn silent_devices_are_reported_and_nothing_else() {
    let silent = Settings { ping_seconds: 0, inactivity_seconds: 60, ..Settings::default() };
    let bench = Bench::in_memory(silent.clone());
    let (ana, ben) = (bench.open(7).await, bench.open(8).await);
    let room = bench.group(&ana, &[8]).await;
    let pass = |seconds: u64| bench.host.now.fetch_add(seconds * 1000, Ordering::Relaxed);
    pass(59);
    bench.chat.report_idle(&silent);
    assert!(bench.host.notices.lock().is_empty());
    bench.event(&ben, "session.heartbeat", Value::Null).await;
    pass(2);
    for _ in 0..3 {
        bench.chat.report_idle(&silent);
    }
    let notices = std::mem::take(&mut *bench.host.notices.lock());
    let [Notice::Decided { place, remark, facts, .. }] = notices.as_slice() else { panic!("{notices:?}") };
    assert_eq!(place.connection_id, Some(ana.connection_id));
    assert_eq!(remark.unwrap().as_str(), "chat.heartbeat-missed");
    assert_eq!(facts.get("windowSeconds"), Some(json!(60)));
    assert_eq!(facts.get("lastHeartbeat"), Some(json!(1_767_225_600_000_u64)));
    bench.frames(&ana);
    bench.event(&ben, "message.send", json!({ "room_id": room, "content": "still there" })).await;
    assert_eq!(bench.frames(&ana).len(), 1);
    pass(600);
    bench.event(&ana, "room.list", Value::Null).await;
    bench.chat.report_idle(&Settings::default());
    assert!(bench.host.notices.lock().is_empty(), "a pong has come in time, or the connection had ended");
    bench.chat.report_idle(&silent);
    assert_eq!(bench.host.notices.lock().len(), 1);
}

/// S2-29, S2-122, `chat.internal`: a panic in a handler is 4006 for its event and nothing else.
#[tokio::test]
async fn a_panic_ends_one_event_only() {
    let router = Routes::new().register("test.panic", |ctx, _| {
        ctx.tx.execute("DELETE FROM chat_room", &[])?;
        panic!("on purpose");
    });
    let extensions = Extensions { router: Arc::new(router), ..Extensions::default() };
    let database = Arc::new(SqliteDatabase::open_in_memory(MIGRATIONS).unwrap());
    let bench = Bench::with(Settings::default(), database, extensions, FakeHost::default());
    let ana = bench.open(7).await;
    let room = bench.group(&ana, &[]).await;
    let (frame, diagnosis, _) = bench.refused(&ana, r#"{"event_type": "test.panic"}"#).await;
    assert_eq!(frame, json!({ "error": { "code": 4006, "detail": "Internal server error." } }));
    assert_eq!(diagnosis, Diagnosis::CHAT_INTERNAL);
    bench.event(&ana, "message.send", json!({ "room_id": room, "content": "x" })).await;
    assert_eq!(bench.frames(&ana)[0]["data"]["content"], "x");
}

/// S2-37: a full disk is 4006 for the event that does not fit: nothing has changed, nobody was told, and reading goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_4006() {
    let folder = tempfile::tempdir().unwrap();
    let options = tidegate_store::Options { max_page_count: Some(120), ..tidegate_store::Options::default() };
    let path = folder.path().join("chat.db");
    let database = SqliteDatabase::open_with(&path, MIGRATIONS, &options).unwrap();
    let bench = Bench::new(Settings::default(), Arc::new(database));
    let (ana, ben) = (bench.open(7).await, bench.open(8).await);
    let room = bench.group(&ana, &[8]).await;
    bench.frames(&ben);
    let large = json!({ "room_id": room, "content": "x".repeat(900_000) });
    let text = json!({ "event_type": "message.send", "data": large }).to_string();
    let (frame, diagnosis, _) = bench.refused(&ana, &text).await;
    assert_eq!((&frame["error"]["code"], diagnosis), (&json!(4006), Diagnosis::CHAT_INTERNAL));
    assert!(bench.frames(&ben).is_empty());
    bench.event(&ana, "room.messages", json!({ "room_id": room })).await;
    assert_eq!(bench.frames(&ana)[0]["data"]["data"]["messages"], json!([]));
    bench.event(&ana, "message.send", json!({ "room_id": room, "content": "small" })).await;
    assert_eq!(bench.frames(&ben).len(), 1);
}

/// S2-10, S2-11, I-19: many senders at once; everybody sees a room's messages in one order, that of the history, and the
/// answer to an event after what it caused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_sees_the_same_order() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let bench = Arc::new(Bench::new(Settings::default(), database));
        let mut connections = Vec::new();
        for user in 1..=6 {
            connections.push(bench.open(user).await);
        }
        let mut rooms = Vec::new();
        for _ in 0..2 {
            rooms.push(bench.group(&connections[0], &[2, 3, 4, 5, 6]).await);
        }
        connections.iter().for_each(|connection| drop(bench.frames(connection)));
        let tasks: Vec<_> = connections
            .iter()
            .cloned()
            .enumerate()
            .map(|(at, connection)| {
                let (bench, rooms) = (Arc::clone(&bench), rooms.clone());
                tokio::spawn(async move {
                    for n in 0..20 {
                        let room = &rooms[(at + n) % 2];
                        let content = format!("{at}-{n}");
                        let data = json!({ "room_id": room, "content": content });
                        bench.event(&connection, "message.send", data).await;
                        assert!(bench.has(&connection, &content), "it is there when its event has ended");
                        if n % 5 == 0 {
                            bench.event(&connection, "message.typing", json!({ "room_id": room })).await;
                            let bad = json!({ "event_type": "message.send", "data": { "room_id": room } });
                            assert!(bench.say(&connection, &bad.to_string()).await.problem.is_some());
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let seen: Vec<Vec<Value>> = connections.iter().map(|connection| bench.frames(connection)).collect();
        for room in &rooms {
            let of_room = |frames: &[Value]| -> Vec<Value> {
                let is_here = |frame: &&Value| frame["data"]["room"]["id"] == **room;
                frames.iter().filter(is_here).map(|frame| frame["data"]["content"].clone()).collect()
            };
            let first = of_room(&seen[0]);
            assert_eq!(first.len(), 60, "{name}");
            for other in &seen[1..] {
                assert_eq!(of_room(other), first, "{name}");
            }
            bench.event(&connections[0], "room.messages", json!({ "room_id": room })).await;
            let history = bench.frames(&connections[0]).remove(0);
            let stored = history["data"]["data"]["messages"].as_array().unwrap();
            let mut stored: Vec<Value> = stored.iter().map(|message| message["content"].clone()).collect();
            stored.reverse();
            assert_eq!(stored, first, "{name}: the order of the commits");
        }
        let kinds = |frames: &[Value]| frames.iter().map(|f| f["eventType"].clone()).collect::<Vec<_>>();
        for other in &seen[1..] {
            assert_eq!(kinds(other), kinds(&seen[0]), "{name}: typing too");
        }
    }
}

/// S2-130: one encoding for a room of 300, and one call.
#[tokio::test]
async fn a_room_of_many_gets_one_encoding() {
    let bench = Bench::in_memory(Settings { notifications: false, ..Settings::default() });
    let mut connections = Vec::new();
    for user in 1..=300 {
        connections.push(bench.open(user).await);
    }
    let others: Vec<i64> = (2..=300).collect();
    let room = bench.group(&connections[0], &others).await;
    connections.iter().for_each(|connection| drop(bench.frames(connection)));
    bench.host.n_texts.store(0, Ordering::Relaxed);
    bench.event(&connections[9], "message.send", json!({ "room_id": room, "content": "x" })).await;
    assert_eq!(bench.host.n_texts.load(Ordering::Relaxed), 1);
    let outboxes = bench.host.outboxes.lock();
    let bytes: Vec<*const u8> =
        connections.iter().map(|connection| outboxes[&connection.connection_id][0].as_ptr()).collect();
    assert_eq!(bytes.len(), 300);
    assert!(bytes.iter().all(|at| *at == bytes[0]), "the same bytes");
}

/// Not a test of right and wrong: how many durable messages a second, `TIDEGATE_RATE_SENDERS` at a time, in rooms of ten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release -p tidegate-chat rate_of_messages -- --ignored --nocapture"]
async fn rate_of_messages() {
    let senders =
        std::env::var("TIDEGATE_RATE_SENDERS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_usize);
    let folder = tempfile::tempdir_in(".").unwrap();
    for (name, database) in databases(folder.path()).await {
        let host = FakeHost { is_counting: true, ..FakeHost::default() };
        let bench = Arc::new(Bench::with(Settings::default(), database, Extensions::default(), host));
        let mut connections = Vec::new();
        for user in 1..=1000 {
            let connection = bench.facts();
            bench.connect(&connection, Some(&user.to_string()), &[], false).await.unwrap();
            bench.chat.opened(&connection);
            connections.push(connection);
        }
        let mut rooms = Vec::new();
        for first in (1..=1000_i64).step_by(10) {
            let creator = Arc::new(User {
                id: UserId(first.to_string().into()),
                username: format!("user-{first}").into(),
                email: "".into(),
                first_name: "".into(),
                last_name: "".into(),
                is_disabled: false,
                claims: Value::Null,
            });
            let made = Arc::new(Mutex::new(String::new()));
            let id = Arc::clone(&made);
            let settings = bench.chat.settings().load();
            let work = move |tx: &mut dyn Tx| {
                let data = json!({ "type": "GroupChat", "name": "x",
                    "participants": (first..first + 10).collect::<Vec<_>>() });
                let mut ctx = Ctx::new(tx, &settings, &creator, None, 1);
                let route = crate::router::find("room.create").unwrap();
                (route.handler)(&mut ctx, data.as_object().unwrap()).unwrap();
                let Frame::Event { data, .. } = &ctx.dispatches[0].frame else { panic!("an event") };
                *id.lock() = data["id"].as_str().unwrap().to_owned();
                Ok(Outcome::Commit(Box::new(|| ())))
            };
            bench.chat.database().write(Vec::new(), Box::new(work)).await.unwrap();
            rooms.push(made.lock().clone());
        }
        let (mut times, begun) = (Vec::new(), Instant::now());
        let until = begun + Duration::from_secs(10);
        let tasks: Vec<_> = (0..senders)
            .map(|at| {
                let user = at * 7 % 1000;
                let (bench, connection, room) =
                    (Arc::clone(&bench), Arc::clone(&connections[user]), rooms[user / 10].clone());
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while Instant::now() < until {
                        let data =
                            json!({ "room_id": room, "content": "Low tide at six, high tide at noon" });
                        let begun = Instant::now();
                        bench.event(&connection, "message.send", data).await;
                        times.push(begun.elapsed());
                    }
                    times
                })
            })
            .collect();
        for task in tasks {
            times.extend(task.await.unwrap());
        }
        let seconds = begun.elapsed().as_secs_f64();
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!(
            "{name}: {senders} senders, {:.0} messages/s, p50 {:?}, p95 {:?}, p99 {:?}",
            times.len() as f64 / seconds,
            at(0.5),
            at(0.95),
            at(0.99)
        );
    }
}
