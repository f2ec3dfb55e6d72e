//! Events through traits and hooks, with a real server at the other end of each hook.

mod examples;
mod extensions;
mod hooks;

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

async fn until(condition: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < Duration::from_secs(10), "it has not come to it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
