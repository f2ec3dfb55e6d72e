//! Events through traits and hooks, with a real server at the other end of each hook.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_store::sql::SqliteDatabase;

use super::*;
use crate::event::{Audience, Dispatch};
use crate::extension::{
    ChatApp, ChatHandler, ContentFilter, ErrorMapper, NotificationSink, PermissionPolicy, Presenter, Routes,
};
use crate::hook::render;
use crate::hook::signature;
use crate::model::Room;
use crate::settings::extension::HookSecret;
use crate::store::MIGRATIONS;
use crate::test_database::START;

/// A call that a hook's server got.
#[derive(Debug, Clone)]
struct Got {
    headers: Vec<(String, String)>,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or_else(|| panic!("{name} is missing in {:?}", self.headers), |(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A server on a port of its own that answers each call with what `answer` says.
fn serve(
    answer: impl Fn(usize, &Value) -> (u16, String) + Send + 'static,
) -> (String, std_mpsc::Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/chat", listener.local_addr().unwrap());
    let (sender, receiver) = std_mpsc::channel();
    std::thread::spawn(move || {
        for (at, stream) in listener.incoming().enumerate() {
            let got = read_request(&mut stream.as_ref().unwrap());
            let (status, body) = answer(at, &got.json());
            let _ = sender.send(got);
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.unwrap().write_all(text.as_bytes());
        }
    });
    (url, receiver)
}

fn read_request(stream: &mut impl Read) -> Got {
    let (head, rest) = read_head(stream);
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some("POST /chat HTTP/1.1"));
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse::<usize>().unwrap();
    let mut body = rest;
    let mut more = vec![0; length - body.len()];
    stream.read_exact(&mut more).unwrap();
    body.extend(more);
    Got { headers, body: String::from_utf8(body).unwrap() }
}

fn read_head(stream: &mut impl Read) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let rest = bytes.split_off(end + 4);
            return (String::from_utf8(bytes).unwrap(), rest);
        }
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "the other end has left");
        bytes.extend_from_slice(&buffer[..n]);
    }
}

/// HTTP over sockets that block, on threads that may.
#[derive(Debug)]
struct Sockets;

impl HookTransport for Sockets {
    fn call(&self, call: HookCall) -> BoxFuture<'_, Result<HookAnswer, HookFailure>> {
        Box::pin(async move {
            let unreachable = |error: String| HookFailure::Unreachable(error);
            let called = tokio::task::spawn_blocking(move || -> std::io::Result<HookAnswer> {
                let address = call.target.strip_prefix("http://").unwrap().split('/').next().unwrap();
                let mut stream = TcpStream::connect(address)?;
                let mut head = format!(
                    "POST /chat HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n",
                    call.body.len()
                );
                for (name, value) in &call.headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                stream.write_all(format!("{head}\r\n").as_bytes())?;
                stream.write_all(&call.body)?;
                let mut answered = Vec::new();
                stream.read_to_end(&mut answered)?;
                let (head, body) = read_head(&mut answered.as_slice());
                let mut rest = Vec::new();
                let _ = rest.write_all(&body);
                let full = answered.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                Ok(HookAnswer { status, body: answered[full..].to_vec().into() })
            });
            called.await.unwrap().map_err(|error| unreachable(error.to_string()))
        })
    }
}

#[derive(Debug)]
struct OnlyBen;

impl Presence for OnlyBen {
    fn is_connected(&self, user: &UserId) -> bool {
        user.as_str() == "8"
    }
}

/// What an event has left, or its refusal.
type Answer = Result<Vec<Dispatch>, ChatError>;

struct World {
    front: Arc<Front>,
    database: Arc<SqliteDatabase>,
    settings: Arc<LiveSettings>,
    now: Arc<AtomicI64>,
}

impl World {
    /// Ana is 7, Ben is 8, Cy is 9. `chat` is the document of the settings.
    async fn new(chat: Value, extensions: Extensions, integrations: Option<Arc<dyn Integrations>>) -> Self {
        let settings = Settings::read(&chat, &|_| None).unwrap();
        let settings = Arc::new(LiveSettings::new(settings));
        let database = Arc::new(SqliteDatabase::open_in_memory(MIGRATIONS).unwrap());
        let now = Arc::new(AtomicI64::new(START));
        let time = Arc::clone(&now);
        let clock: Clock = Arc::new(move || time.load(std::sync::atomic::Ordering::Relaxed));
        let ports = Ports { transport: Some(Arc::new(Sockets)), integrations };
        let front = Front::new(Arc::new(extensions), Arc::clone(&settings), ports, Arc::new(OnlyBen), clock);
        let world = Self { front: Arc::new(front), database, settings, now };
        for (id, name) in [("7", "ana"), ("8", "ben"), ("9", "cy")] {
            world
                .execute("INSERT INTO chat_user (id, username) VALUES (?1, ?2)", vec![id.into(), name.into()])
                .await;
        }
        world
    }

    async fn execute(&self, sql: &'static str, parameters: Vec<SqlValue>) {
        let work = Box::new(move |tx: &mut dyn Tx| {
            tx.execute(sql, &parameters)?;
            Ok(Outcome::Commit(Box::new(|| ())))
        });
        self.database.write(Vec::new(), work).await.unwrap();
    }

    async fn query(&self, sql: &'static str) -> Vec<SqlRow> {
        let rows: Arc<Mutex<Vec<SqlRow>>> = Arc::default();
        let found = Arc::clone(&rows);
        let work = Box::new(move |tx: &mut dyn Tx| {
            *found.lock() = tx.query(sql, &[])?;
            Ok(Outcome::Rollback(Box::new(|| ())))
        });
        self.database.read(work).await.unwrap();
        rows.lock().clone()
    }

    fn user(id: i64) -> User {
        let name = match id {
            7 => "ana",
            8 => "ben",
            _ => "cy",
        };
        let empty: Arc<str> = "".into();
        User {
            id: UserId(id.to_string().into()),
            username: name.into(),
            email: Arc::clone(&empty),
            first_name: Arc::clone(&empty),
            last_name: empty,
            is_disabled: false,
            claims: json!({ "avatar": "a.png" }),
        }
    }

    async fn plan(&self, user: i64, event_type: &str, data: Value) -> Result<Planned, ChatError> {
        let user = Self::user(user);
        let connection = Some(crate::test_database::TestDatabase::connection(7));
        let now = u64::try_from(self.now.load(std::sync::atomic::Ordering::Relaxed) / 1000).unwrap();
        let event = Incoming { user: &user, connection, event_type, data: &data, now };
        self.front.plan(&self.settings.load(), &*self.database, event).await
    }

    async fn run(&self, user: i64, event_type: &str, data: Value) -> Result<Vec<Dispatch>, ChatError> {
        let Planned::Run(plan) = self.plan(user, event_type, data).await? else {
            panic!("{event_type} was answered by an integration");
        };
        let result: Arc<Mutex<Option<Answer>>> = Arc::default();
        let (answer, front) = (Arc::clone(&result), Arc::clone(&self.front));
        let (settings, now) = (self.settings.load(), self.now.load(std::sync::atomic::Ordering::Relaxed));
        let work = Box::new(move |tx: &mut dyn Tx| {
            let actor = Self::user(user);
            let connection = Some(crate::test_database::TestDatabase::connection(user));
            let mut ctx = Ctx::new(tx, &settings, &actor, connection, now);
            match front.run(&mut ctx, &plan) {
                Ok(left) => {
                    *answer.lock() = Some(Ok(std::mem::take(&mut ctx.dispatches)));
                    let front = Arc::clone(&front);
                    Ok(Outcome::Commit(Box::new(move || front.committed(left))))
                }
                Err(error) => {
                    *answer.lock() = Some(Err(error));
                    Ok(Outcome::Rollback(Box::new(|| ())))
                }
            }
        });
        self.database.write(Vec::new(), work).await.unwrap();
        let taken = result.lock().take();
        taken.unwrap()
    }

    /// A group of Ana and Ben; its id.
    async fn group(&self) -> String {
        let data = json!({"type": "GroupChat", "name": "Reef", "participants": [8]});
        let made = self.run(7, "room.create", data).await.unwrap();
        data_of(&made[0])["id"].as_str().unwrap().to_owned()
    }
}

fn data_of(dispatch: &Dispatch) -> &Value {
    match &dispatch.frame {
        Frame::Event { data, .. } => data,
        Frame::Raw(value) => value,
    }
}

/// Hooks are off while the group is made, so that what they get is about one event.
async fn hooked(chat: Value, extensions: Extensions) -> (World, String) {
    let world = World::new(json!({}), extensions, None).await;
    let group = world.group().await;
    world.settings.replace(Settings::read(&chat, &|_| None).unwrap()).unwrap();
    (world, group)
}

fn got(calls: &std_mpsc::Receiver<Got>) -> Got {
    calls.recv_timeout(Duration::from_secs(10)).unwrap()
}

fn allow() -> (u16, String) {
    (200, r#"{"allow": true}"#.to_owned())
}

// S2-118, S2-119: what `before` is asked, and its signature, which a receiver can compute from the headers.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_called_with_the_event_and_signed() {
    let (url, calls) = serve(|_, _| (204, String::new()));
    let hook = json!({"on": "before", "target": url, "secret": "s3cret", "events": ["message.*"]});
    let (world, room) = hooked(json!({"hooks": [hook]}), Extensions::default()).await;
    let data = json!({"room_id": room, "content": "buy now"});
    world.run(7, "message.send", data.clone()).await.unwrap();
    let call = got(&calls);
    assert_eq!(
        call.json(),
        json!({
            "hook": "before", "event_type": "message.send", "user": {"id": 7, "username": "ana"},
            "connection_id": crate::test_database::TestDatabase::connection(7).to_string(),
            "room": {"id": room, "type": "GroupChat"}, "data": data,
        })
    );
    assert_eq!(call.header("x-tidegate-hook"), "before");
    Uuid::try_parse(call.header("x-tidegate-delivery")).unwrap();
    let timestamp = call.header("x-tidegate-timestamp");
    assert_eq!(timestamp, (START / 1_000_000).to_string());
    let expected = signature(&HookSecret::new("s3cret"), timestamp, call.body.as_bytes());
    assert_eq!(call.header("x-tidegate-signature"), expected);
    // Computed elsewhere: HMAC-SHA256("key", "1" + "{}").
    assert_eq!(signature(&HookSecret::new("key"), "1", b"{}"), hex::encode(hmac_of(b"key", b"1{}")));
    world.run(7, "room.list", json!({})).await.unwrap();
    assert!(calls.try_recv().is_err(), "the pattern names messages only");
}

fn hmac_of(key: &[u8], text: &[u8]) -> Vec<u8> {
    // RFC 2104 over the plain hash.
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let digest = |parts: [&[u8]; 2]| {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &parts.concat()).as_ref().to_vec()
    };
    digest([&pad(0x5c), &digest([&pad(0x36), text])])
}

// S2-120: every answer of `before`.
#[tokio::test(flavor = "multi_thread")]
async fn what_before_answers() {
    let (url, _calls) = serve(|_, body| {
        let room = &body["data"]["room_id"];
        let answer = match body["data"]["content"].as_str().unwrap_or("") {
            "ad" => json!({"allow": false, "error": {"code": 4007, "detail": "No advertising"}}),
            "no" => json!({"allow": false}),
            "replace" => json!({"allow": true, "data": {"room_id": room, "content": "replaced"}}),
            "spoil" => json!({"allow": true, "data": {"room_id": room, "content": ""}}),
            "code" => json!({"allow": false, "error": {"code": 200, "detail": "x"}}),
            "pin" => json!({"handled": true, "dispatch": [
                {"to": {"room": room}, "eventType": "message.pinned", "data": {"n": 1}},
                {"to": {"user": 9}, "eventType": "message.pinned", "data": {"n": 2}},
                {"to": {"connection": body["connection_id"]}, "eventType": "message.pinned", "data": {"n": 3}},
            ]}),
            _ => return (500, String::new()),
        };
        (200, answer.to_string())
    });
    let hook = json!({"on": "before", "target": url, "events": ["message.send", "message.pin"]});
    let (world, room) = hooked(json!({"hooks": [hook]}), Extensions::default()).await;
    let send = async |content: &str| {
        world.run(7, "message.send", json!({"room_id": room, "content": content})).await
    };
    let custom = |code, detail: &str| ChatError::Custom { code, detail: detail.into() };
    // S2-38: a code of the extension's own.
    assert_eq!(send("ad").await.unwrap_err(), custom(4007, "No advertising"));
    assert_eq!(send("no").await.unwrap_err(), custom(4003, "Refused."));
    assert_eq!(data_of(&send("replace").await.unwrap()[0])["content"], "replaced");
    // Replaced data is checked like a client's.
    assert!(matches!(send("spoil").await.unwrap_err(), ChatError::Fields(_)));
    assert!(matches!(send("code").await.unwrap_err(), ChatError::Internal(_)));
    assert!(matches!(send("fail").await.unwrap_err(), ChatError::Internal(_)));
    // A hook that names an event makes it known, and handles it.
    let pin = json!({"room_id": room, "content": "pin"});
    let left = world.run(7, "message.pin", pin).await.unwrap();
    let ids = |users: &[&str]| Audience::Users(users.iter().map(|id| UserId((*id).into())).collect());
    assert_eq!(left[0].audience, ids(&["7", "8"]));
    assert_eq!(left[1].audience, ids(&["9"]));
    let connection = crate::test_database::TestDatabase::connection(7);
    assert_eq!(left[2].audience, Audience::Connection(connection));
    let Frame::Event { event_type, data } = &left[0].frame else { panic!("{left:?}") };
    assert_eq!((event_type.as_ref(), data), ("message.pinned", &json!({"n": 1})));
    // Without an answer that handles it, it is as unknown as ever.
    let unknown = json!({"room_id": room, "content": "replace"});
    assert_eq!(world.run(7, "message.pin", unknown).await.unwrap_err(), ChatError::InvalidEventType);
    assert_eq!(world.query("SELECT 1 FROM chat_message").await.len(), 1);
}

// S2-118: what no answer means, and how long it is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_does_not_answer() {
    // The listener takes connections and never reads.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/chat", silent.local_addr().unwrap());
    for (on_failure, is_sent) in [("deny", false), ("allow", true)] {
        let hook = json!({"on": "before", "target": url, "timeout_ms": 50, "on_failure": on_failure});
        let (world, room) = hooked(json!({"hooks": [hook]}), Extensions::default()).await;
        let sent = world.run(7, "message.send", json!({"room_id": room, "content": "x"})).await;
        assert_eq!(sent.is_ok(), is_sent);
        if let Err(error) = sent {
            assert_eq!(error.frame()["error"]["code"], 4006);
        }
    }
}

// S2-118: `authorize` after the built-in check, and instead of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_decides_about_permission() {
    let (url, _calls) = serve(|_, body| match body["user"]["username"].as_str() {
        Some("ana") => (200, json!({"allow": false, "error": {"detail": "Quiet hours"}}).to_string()),
        _ => allow(),
    });
    let hook = |mode: &str| json!({"hooks": [{"on": "authorize", "target": url, "mode": mode}]});
    let (world, room) = hooked(hook("after"), Extensions::default()).await;
    let send = async |user: i64, room: &str| {
        world.run(user, "message.send", json!({"room_id": room, "content": "x"})).await
    };
    let quiet = ChatError::Custom { code: 4002, detail: "Quiet hours".into() };
    assert_eq!(send(7, &room).await.unwrap_err(), quiet);
    assert!(send(8, &room).await.is_ok());
    // The built-in check speaks first, and the room before it.
    assert!(matches!(send(9, &room).await.unwrap_err(), ChatError::Permission { .. }));
    let nothing = Uuid::nil().to_string();
    assert!(matches!(send(7, &nothing).await.unwrap_err(), ChatError::NotFound { .. }));
    // An event that asks for no permission hears the hook too, and changes nothing.
    let create = json!({"type": "GroupChat", "name": "Other"});
    assert_eq!(world.run(7, "room.create", create).await.unwrap_err(), quiet);
    assert_eq!(world.query("SELECT 1 FROM chat_room").await.len(), 1);
    world.settings.replace(Settings::read(&hook("instead"), &|_| None).unwrap()).unwrap();
    assert_eq!(send(7, &room).await.unwrap_err(), quiet);
    assert!(send(9, &room).await.is_ok(), "the hook alone decides");
}

// S2-118: `connect` refuses with a code of its own; `disconnect` is told.
#[tokio::test(flavor = "multi_thread")]
async fn hooks_around_a_connection() {
    let (url, calls) = serve(|_, body| match body["user"]["id"].as_i64() {
        Some(9) => {
            (200, json!({"allow": false, "error": {"code": 4100, "detail": "No devices left"}}).to_string())
        }
        _ => allow(),
    });
    let chat = json!({"hooks": [{"on": "connect", "target": url}, {"on": "disconnect", "target": url}]});
    let world = World::new(chat, Extensions::default(), None).await;
    let settings = world.settings.load();
    let connection = crate::test_database::TestDatabase::connection(7);
    world.front.connected(&settings, &World::user(7), connection, 0).await.unwrap();
    assert_eq!(got(&calls).json()["hook"], "connect");
    let refused = world.front.connected(&settings, &World::user(9), connection, 0).await.unwrap_err();
    assert_eq!(refused, ConnectRefusal { code: 4100, reason: "No devices left".to_owned() });
    got(&calls);
    world.front.disconnected(&settings, &World::user(7), connection, 0).await;
    let told = got(&calls).json();
    assert_eq!((&told["hook"], &told["user"]["id"]), (&json!("disconnect"), &json!(7)));
}

// S2-120: `after` and `notify` are durable, at least once, in order for one room, and say what was wrong.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_repeated_in_order() {
    let failures = Arc::new(AtomicUsize::new(2));
    let left = Arc::clone(&failures);
    let (url, calls) = serve(move |_, _| {
        let fails = left.fetch_update(
            std::sync::atomic::Ordering::SeqCst,
            std::sync::atomic::Ordering::SeqCst,
            |left| left.checked_sub(1),
        );
        if fails.is_ok() { (503, String::new()) } else { (204, String::new()) }
    });
    let chat = json!({"hooks": [{"on": "after", "target": url, "events": ["message.send"]}]});
    let (world, room) = hooked(chat, Extensions::default()).await;
    for content in ["one", "two", "three"] {
        world.run(7, "message.send", json!({"room_id": room, "content": content})).await.unwrap();
    }
    // An event that fails leaves nothing.
    world.run(9, "message.send", json!({"room_id": room, "content": "no"})).await.unwrap_err();
    assert_eq!(world.query("SELECT 1 FROM chat_hook_delivery").await.len(), 3, "written, not yet told");

    let (front, database) = (Arc::clone(&world.front), Arc::clone(&world.database));
    let runner = tokio::spawn(async move { front.run_deliveries(&*database).await });
    let first = got(&calls);
    // The failure is listed with its error; nothing of the room goes out before it is repeated.
    until(async || {
        let rows = world.query("SELECT last_error FROM chat_hook_delivery WHERE attempts = 1").await;
        rows.iter().any(|row| row.text(0).is_ok_and(|error| &*error == "status 503"))
    })
    .await;
    assert!(calls.try_recv().is_err());
    world.now.fetch_add(1_000_000, std::sync::atomic::Ordering::SeqCst);
    world.front.deliveries.wake();
    let second = got(&calls);
    assert_eq!(first.header("x-tidegate-delivery"), second.header("x-tidegate-delivery"));
    until(async || !world.query("SELECT 1 FROM chat_hook_delivery WHERE attempts = 2").await.is_empty())
        .await;
    world.now.fetch_add(2_000_000, std::sync::atomic::Ordering::SeqCst);
    world.front.deliveries.wake();
    let told: Vec<Value> = (0..3).map(|_| got(&calls).json()["data"]["event"]["content"].clone()).collect();
    assert_eq!(told, ["one", "two", "three"]);
    until(async || world.query("SELECT 1 FROM chat_hook_delivery").await.is_empty()).await;
    runner.abort();
}

async fn until(condition: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < Duration::from_secs(10), "it has not come to it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

// S2-120: after 24 hours a delivery is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_given_up_in_the_end() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let chat = json!({"hooks": [{"on": "after", "target": format!("http://{closed}/chat")}]});
    let (world, room) = hooked(chat, Extensions::default()).await;
    world.run(7, "message.send", json!({"room_id": room, "content": "x"})).await.unwrap();
    let (front, database) = (Arc::clone(&world.front), Arc::clone(&world.database));
    let runner = tokio::spawn(async move { front.run_deliveries(&*database).await });
    until(async || !world.query("SELECT 1 FROM chat_hook_delivery WHERE attempts = 1").await.is_empty())
        .await;
    world.now.fetch_add(24 * 3600 * 1_000_000 + 1, std::sync::atomic::Ordering::SeqCst);
    world.front.deliveries.wake();
    until(async || world.query("SELECT 1 FROM chat_hook_delivery").await.is_empty()).await;
    runner.abort();
}

// S2-118: `render` replaces the data of frames, which stay in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_renders_frames() {
    let (url, _calls) = serve(|at, body| {
        let mut data = body["data"].clone();
        if at == 0 {
            std::thread::sleep(Duration::from_millis(30));
        }
        data["seen"] = json!(true);
        (200, json!({"allow": true, "data": data}).to_string())
    });
    let chat = json!({"hooks": [{"on": "render", "target": url}]});
    let world = World::new(chat, Extensions::default(), None).await;
    let (queue, outlet) = render::queue();
    let frames = (0..5).map(|n| Dispatch {
        audience: Audience::Users(vec![UserId("7".into())]),
        frame: Frame::Event { event_type: "message.dispatch".into(), data: json!({ "n": n }) },
    });
    queue.push(&world.settings.load(), "message.send", 0, frames.collect());
    drop(queue);
    let sent = Mutex::new(Vec::new());
    outlet.run(world.front.hooks(), |_, dispatch| sent.lock().push(data_of(&dispatch).clone())).await;
    let expected: Vec<Value> = (0..5).map(|n| json!({"n": n, "seen": true})).collect();
    assert_eq!(*sent.lock(), expected);
}

#[derive(Debug)]
struct Echo;

impl Integrations for Echo {
    fn invoke<'a>(
        &'a self,
        integration: &'a str,
        _: Option<ConnectionId>,
        event: Value,
        chat_user: Value,
    ) -> BoxFuture<'a, Result<Option<Value>, String>> {
        let answer = json!({"integration": integration, "event": event, "chatUser": chat_user});
        Box::pin(async move { Ok(Some(answer)) })
    }
}

// S2-117: events that are unknown by settings, and events that an integration handles.
#[tokio::test(flavor = "multi_thread")]
async fn the_map_of_events() {
    let chat = json!({"events": {
        "disabled": ["room.join"], "route": {"message.pin": "a1b2c3", "room.list": "d4e5f6"},
    }});
    let world = World::new(chat, Extensions::default(), Some(Arc::new(Echo))).await;
    assert_eq!(world.plan(7, "room.join", json!({})).await.unwrap_err(), ChatError::InvalidEventType);
    assert_eq!(world.plan(7, "room.pin", json!({})).await.unwrap_err(), ChatError::InvalidEventType);
    for (event_type, integration) in [("message.pin", "a1b2c3"), ("room.list", "d4e5f6")] {
        let planned = world.plan(7, event_type, json!({"a": 1})).await.unwrap();
        let Planned::Answered(Some(answer)) = planned else { panic!("{event_type} was not routed") };
        assert_eq!(answer["integration"], integration);
        assert_eq!(answer["event"], json!({"event_type": event_type, "data": {"a": 1}}));
        assert_eq!(answer["chatUser"]["username"], "ana");
    }
}

struct Ours(Arc<Mutex<Vec<String>>>);

impl ChatApp for Ours {
    fn event<'a>(&'a self, event: Incoming<'a>) -> BoxFuture<'a, Result<(), ChatError>> {
        self.0.lock().push(event.event_type.to_owned());
        Box::pin(async move {
            match event.event_type {
                "message.react" => Err(ChatError::Custom { code: 4029, detail: "Slow down".into() }),
                _ => Ok(()),
            }
        })
    }

    fn connected<'a>(&'a self, user: &'a User, _: ConnectionId) -> BoxFuture<'a, Result<(), ChatError>> {
        let is_cy = &*user.username == "cy";
        Box::pin(async move {
            match is_cy {
                true => Err(ChatError::Custom { code: 4444, detail: "Not you".into() }),
                false => Ok(()),
            }
        })
    }
}

impl ChatHandler for Ours {
    fn typing(&self, ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
        // S2-122: dispatches of an extension leave with those of the built-in.
        ctx.dispatch(ctx.own_audience(), "ours.typing", json!({}));
        ChatHandler::next(self).typing(ctx, data)
    }

    fn list_rooms(&self, _: &mut Ctx<'_>, _: &Map<String, Value>) -> Result<(), ChatError> {
        panic!("on purpose");
    }
}

impl PermissionPolicy for Ours {
    fn can_access_room(&self, ctx: &mut Ctx<'_>, room: &Room) -> Result<(), ChatError> {
        if &*ctx.actor.username == "cy" {
            Ok(())
        } else {
            PermissionPolicy::next(self).can_access_room(ctx, room)
        }
    }
}

impl ErrorMapper for Ours {
    fn map(&self, error: &ChatError, settings: &Settings) -> Value {
        let mut frame = ErrorMapper::next(self).map(error, settings);
        frame["ours"] = json!(true);
        frame
    }
}

impl Presenter for Ours {
    fn user(&self, user: &User, mut shown: Value) -> Value {
        shown["initial"] = json!(user.username.chars().next());
        shown
    }

    fn room_detail(&self, room: &Room, mut shown: Value) -> Value {
        shown["cap"] = json!(room.cap);
        shown
    }
}

impl ContentFilter for Ours {
    fn clean(&self, _: &mut Ctx<'_>, text: String) -> Result<String, String> {
        if text.contains("curse") {
            Err("Mind your language.".to_owned())
        } else {
            Ok(text.replace("darn", "****"))
        }
    }
}

impl NotificationSink for Ours {
    fn notified<'a>(&'a self, notification: &'a Notified) -> BoxFuture<'a, Result<(), ChatError>> {
        let recipients = notification.recipients.iter().map(|recipient| recipient.user.username.to_string());
        self.0.lock().push(format!("notified {}", recipients.collect::<Vec<_>>().join(" ")));
        Box::pin(async { Ok(()) })
    }
}

fn ours() -> (Extensions, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let one = Arc::new(Ours(Arc::clone(&seen)));
    let extensions = Extensions {
        app: Arc::clone(&one) as _,
        handler: Arc::clone(&one) as _,
        permission: Arc::clone(&one) as _,
        errors: Arc::clone(&one) as _,
        presenter: Some(Arc::clone(&one) as _),
        content: vec![Arc::clone(&one) as _],
        notifications: vec![Arc::clone(&one) as _],
        router: Arc::new(Routes::new().register("message.pin", |ctx, data| {
            let own = ctx.own_audience();
            ctx.dispatch(own, "message.pinned", Value::Object(data.clone()));
            Ok(())
        })),
        ..Extensions::default()
    };
    (extensions, seen)
}

// S2-121, S2-122: each trait bends what it is for, reaches what it replaces, and its panic ends one event only.
#[tokio::test(flavor = "multi_thread")]
async fn traits_bend_the_application() {
    let (extensions, seen) = ours();
    let world = World::new(json!({"notifications": false}), extensions, None).await;
    let room = world.group().await;
    assert_eq!(*seen.lock(), ["room.create"]);
    let limited = world.run(7, "message.react", json!({})).await.unwrap_err();
    assert_eq!(limited, ChatError::Custom { code: 4029, detail: "Slow down".into() });
    assert_eq!(world.front.error_frame(&limited, &world.settings.load())["ours"], true);

    let typed = world.run(7, "message.typing", json!({"room_id": room})).await.unwrap();
    let Frame::Event { event_type, .. } = &typed[0].frame else { panic!("{typed:?}") };
    assert_eq!((event_type.as_ref(), typed.len()), ("ours.typing", 2));
    let broken = world.run(7, "room.list", json!({})).await.unwrap_err();
    assert_eq!(broken, ChatError::Internal("a handler panicked: on purpose".to_owned()));

    let info = world.run(9, "room.info", json!({"room_id": room})).await.unwrap();
    let shown = data_of(&info[0]);
    assert_eq!((&shown["cap"], &shown["creator"]["initial"]), (&json!(100), &json!("a")));
    let send = async |content: &str| {
        world.run(7, "message.send", json!({"room_id": room, "content": content})).await
    };
    let wrong = send("a curse").await.unwrap_err();
    assert_eq!(wrong, ChatError::field("content", "Mind your language."));
    assert_eq!(data_of(&send("darn it").await.unwrap()[0])["content"], "**** it");
    let pinned = world.run(7, "message.pin", json!({"n": 1})).await.unwrap();
    assert_eq!(data_of(&pinned[0]), &json!({"n": 1}));
    let connection = crate::test_database::TestDatabase::connection(9);
    let refused = world.front.connected(&world.settings.load(), &World::user(9), connection, 0).await;
    assert_eq!(refused.unwrap_err(), ConnectRefusal { code: 4444, reason: "Not you".to_owned() });
}

/// A directory of somebody's own: the boss is nobody.
struct NoBoss;

impl crate::extension::UserDirectory for NoBoss {
    fn get(&self, tx: &mut dyn Tx, id: &UserId) -> Result<Option<User>, ChatError> {
        if id.as_str() == "8" { Ok(None) } else { crate::extension::UserDirectory::next(self).get(tx, id) }
    }
}

// S2-121: notifications have their sinks, told after the commit; a directory falls back on the built-in one.
#[tokio::test(flavor = "multi_thread")]
async fn sinks_and_directories() {
    let (extensions, seen) = ours();
    let world = World::new(json!({}), extensions, None).await;
    let room = world.group().await;
    let (front, database) = (Arc::clone(&world.front), Arc::clone(&world.database));
    let runner = tokio::spawn(async move { front.run_deliveries(&*database).await });
    world.run(7, "message.send", json!({"room_id": room, "content": "x"})).await.unwrap();
    until(async || seen.lock().contains(&"notified ben".to_owned())).await;
    runner.abort();
    let work = Box::new(|tx: &mut dyn Tx| {
        let ids = ["7", "8", "9"].map(|id| UserId(id.into()));
        let directory: &dyn crate::extension::UserDirectory = &NoBoss;
        let found = directory.get_many(tx, &ids).unwrap();
        assert_eq!(found.iter().map(|user| &*user.username).collect::<Vec<_>>(), ["ana", "cy"]);
        Ok(Outcome::Rollback(Box::new(|| ())))
    });
    world.database.read(work).await.unwrap();
}

// S2-124, S2-126: what objects show, and fields without code.
#[tokio::test(flavor = "multi_thread")]
async fn settings_shape_objects() {
    let chat = json!({
        "notifications": false,
        "render": {"user": {"fields": ["username", "avatar"]}, "message": {"drop": ["delivered_to"]},
                   "room": {"drop": ["description"]}},
        "fields": {
            "message": {"priority": {"type": "integer", "default": 1, "updatable": true}},
            "group": {"topic": {"type": "string", "required": true, "updatable": true}},
        },
        "type_names": {"GroupChat": "Team"},
    });
    let world = World::new(chat, Extensions::default(), None).await;
    let refused = world.run(7, "room.create", json!({"type": "Team", "name": "Reef"})).await.unwrap_err();
    assert_eq!(refused, ChatError::field("topic", "This field is required."));
    let data =
        json!({"type": "Team", "name": "Reef", "participants": [8], "extra_fields": {"topic": "fish"}});
    let made = world.run(7, "room.create", data).await.unwrap();
    let room = data_of(&made[0]).clone();
    assert_eq!((&room["type"], &room["topic"]), (&json!("Team"), &json!("fish")));
    assert!(room.get("description").is_none() && room.get("name").is_some());
    assert_eq!(room["creator"], json!({"id": 7, "username": "ana", "avatar": "a.png"}));
    let update = json!({"room_id": room["id"], "action": "update", "data": {"topic": "crabs"}});
    let updated = world.run(7, "room.modify", update).await.unwrap();
    assert_eq!(data_of(&updated[0])["topic"], "crabs");
    let wrong = json!({"room_id": room["id"], "action": "update", "data": {"topic": 5}});
    let refused = world.run(7, "room.modify", wrong).await.unwrap_err();
    assert_eq!(refused, ChatError::field("topic", "Not a valid string."));

    let data = json!({"room_id": room["id"], "content": "x"});
    let sent = data_of(&world.run(7, "message.send", data).await.unwrap()[0]).clone();
    assert_eq!((&sent["priority"], sent.get("delivered_to")), (&json!(1), None));
    let data = json!({"room_id": room["id"], "content": "x", "extra_fields": {"priority": "high"}});
    let refused = world.run(7, "message.send", data).await.unwrap_err();
    assert_eq!(refused, ChatError::field("priority", "A valid integer is required."));
    let fields = json!({"content": "y", "priority": 3});
    let edit = json!({"action": "update", "message_id": sent["id"], "extra_fields": fields});
    let edited = world.run(7, "message.modify", edit).await.unwrap();
    assert_eq!(data_of(&edited[0])["message"]["priority"], 3);
}

// S2-125, S2-32: simple forms of errors, and a rule's text once.
#[test]
fn forms_of_errors() {
    let plain = Settings::default();
    let simple = json!({"errors": {"4003": {"detail": "text"}, "wrap_invalid_event": true}});
    let simple = Settings::read(&simple, &|_| None).unwrap();
    let map = |error: &ChatError, settings: &Settings| Extensions::built_in().errors.map(error, settings);
    let error = ChatError::rule("Chat already exists", Diagnosis::CHAT_BAD_PAYLOAD);
    assert_eq!(map(&error, &plain), json!({"error": {"code": 4003, "detail": ["Chat already exists"]}}));
    assert_eq!(map(&error, &simple), json!({"error": {"code": 4003, "detail": "Chat already exists"}}));
    let fields = json!({"name": ["This field is required."], "1": {"media_type": ["no"]}});
    let Value::Object(fields) = fields else { unreachable!() };
    let text = map(&ChatError::Fields(fields), &simple);
    assert_eq!(text["error"]["detail"], "1.media_type: no name: This field is required.");
    let unknown = &ChatError::InvalidEventType;
    assert_eq!(map(unknown, &plain), json!({"error": "invalid event type"}));
    assert_eq!(map(unknown, &simple), json!({"error": {"code": 4003, "detail": "invalid event type"}}));
    let denied = ChatError::Custom { code: 4007, detail: json!({"why": ["x"]}) };
    assert_eq!(map(&denied, &simple)["error"]["detail"], json!({"why": ["x"]}), "only 4003 is flattened");
}

#[allow(dead_code, reason = "its main is for people")]
#[path = "../../examples/chat_extensions.rs"]
mod example;

// S2-121: the example of the manual does what it says.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_rust() {
    let world = World::new(json!({"notifications": false}), example::extensions(), None).await;
    let room = world.group().await;
    let send = async |content: &str| {
        world.run(7, "message.send", json!({"room_id": room, "content": content})).await
    };
    assert_eq!(send("a swindle").await.unwrap_err(), ChatError::field("content", "Mind your language."));
    let sent = send("darn it").await.unwrap();
    assert_eq!(data_of(&sent[0])["content"], "**** it");
    let pin = json!({"room_id": room, "message_id": data_of(&sent[0])["id"]});
    let pinned = world.run(8, "message.pin", pin.clone()).await.unwrap();
    assert_eq!(data_of(&pinned[0])["by"], "ben");
    assert!(matches!(world.run(9, "message.pin", pin).await.unwrap_err(), ChatError::Permission { .. }));
}

/// Ends the receiver, whatever becomes of the test.
struct Python(std::process::Child);

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// S2-118, S2-119, S2-120: the receiver of the manual checks the signature, and gives all three answers.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python() {
    use std::io::BufRead;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/chat-extensions/receiver.py");
    let started = std::process::Command::new("python3")
        .args([path, "0"])
        .env("CHAT_HOOK_SECRET", "s3cret")
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut python = Python(started.expect("python3 runs the example"));
    let mut said = std::io::BufReader::new(python.0.stdout.take().unwrap()).lines();
    let port = said.next().unwrap().unwrap();
    let target = format!("http://127.0.0.1:{port}/chat");
    let hooks = |secret: &str| {
        json!({"hooks": [
            {"on": "before", "events": ["message.send", "message.pin"], "target": target, "secret": secret,
             "timeout_ms": 10_000},
            {"on": "notify", "target": target, "secret": secret, "timeout_ms": 10_000},
        ]})
    };
    let (world, room) = hooked(hooks("s3cret"), Extensions::default()).await;
    // The receiver wants fresh timestamps.
    let now = jiff::Timestamp::now().as_microsecond();
    world.now.store(now, std::sync::atomic::Ordering::SeqCst);
    let send = async |content: &str| {
        world.run(7, "message.send", json!({"room_id": room, "content": content})).await
    };
    let refused = send("a swindle").await.unwrap_err();
    assert_eq!(refused, ChatError::Custom { code: 4007, detail: "Mind your language.".into() });
    assert_eq!(data_of(&send("darn it").await.unwrap()[0])["content"], "**** it");
    let pin = json!({"room_id": room, "message_id": "m1"});
    let pinned = world.run(7, "message.pin", pin).await.unwrap();
    assert_eq!(data_of(&pinned[0]), &json!({"message_id": "m1", "by": "ana"}));
    // `notify` says who is there: Ben is, so nothing is pushed to him; Cy is not.
    world.run(7, "room.add_members", json!({"room_id": room, "members": [9]})).await.unwrap();
    send("again").await.unwrap();
    let (front, database) = (Arc::clone(&world.front), Arc::clone(&world.database));
    let runner = tokio::spawn(async move { front.run_deliveries(&*database).await });
    let told = tokio::task::spawn_blocking(move || said.next().unwrap().unwrap()).await.unwrap();
    assert_eq!(told, "push NEW_MESSAGE to cy");
    until(async || world.query("SELECT 1 FROM chat_hook_delivery").await.is_empty()).await;
    runner.abort();
    world.settings.replace(Settings::read(&hooks("another"), &|_| None).unwrap()).unwrap();
    assert!(matches!(send("x").await.unwrap_err(), ChatError::Internal(_)), "a wrong signature is refused");
}
