//! Calls of servers, with what connected users see of them.

use std::collections::HashMap;

use bytes::Bytes;
use http::HeaderMap;
use tidegate_core::app::{App, Host, Sent};
use tidegate_core::context::ConnectionFacts;
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::identity::Identity;
use tidegate_core::journal::Facts;
use tidegate_core::notice::Notice;
use tidegate_core::port::BoxFuture;
use tidegate_core::push::{Publish, PushResult};
use tidegate_store::sql::SqliteDatabase;

use super::*;
use crate::settings::live::LiveSettings;
use crate::store::MIGRATIONS;

/// Takes what is sent, and lets in whoever has the key.
#[derive(Debug, Default)]
struct Gateway(Mutex<HashMap<ConnectionId, Vec<Value>>>);

impl Host for Gateway {
    fn send(&self, to: &[ConnectionId], text: Bytes) -> Sent {
        for connection in to {
            let frame = serde_json::from_slice(&text).unwrap();
            self.0.lock().entry(*connection).or_default().push(frame);
        }
        Sent { delivered: to.len(), ..Sent::default() }
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

    fn close(&self, _: ConnectionId, _: u16, _: &str, _: Diagnosis) -> bool {
        false
    }

    fn identify(&self, _: &str, _: &str, _: &HeaderMap) -> Result<Arc<Identity>, Box<Refusal>> {
        Err(Box::new(Refusal::new(403, "Forbidden", Diagnosis::CHAT_AUTH_FAILED)))
    }

    fn authorize(&self, api_id: &str, stage: &str, request: &Request) -> Result<String, Box<Refusal>> {
        assert_eq!((api_id, stage), (API_ID, STAGE));
        match request.headers.get("authorization").is_some_and(|value| value == "Bearer key") {
            true => Ok("key".to_owned()),
            false => Err(Box::new(Refusal::new(403, "Forbidden", Diagnosis::CHAT_AUTH_FAILED))),
        }
    }

    fn notice(&self, _: Notice) {}

    fn keeps_facts(&self) -> bool {
        false
    }

    fn now(&self) -> u64 {
        1_767_225_600_000
    }

    fn request_id(&self) -> RequestId {
        RequestId::new(1, 1)
    }

    fn random(&self) -> u64 {
        4
    }
}

struct World {
    chat: Chat,
    gateway: Arc<Gateway>,
}

impl World {
    fn new() -> Self {
        let database = Arc::new(SqliteDatabase::open_in_memory(MIGRATIONS).unwrap());
        let settings = Arc::new(LiveSettings::new(Settings { notifications: false, ..Settings::default() }));
        let chat = Chat::new(settings, database);
        let gateway = Arc::new(Gateway::default());
        chat.start(Arc::clone(&gateway) as _);
        Self { chat, gateway }
    }

    async fn raw(&self, method: &str, path: &str, body: &str, key: &'static str) -> (u16, Value) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut headers = HeaderMap::new();
        headers.insert("authorization", http::HeaderValue::from_static(key));
        let request = Request {
            method: method.parse().unwrap(),
            path: format!("/api/chat/{path}"),
            query: query.to_owned(),
            headers,
            body: body.to_owned().into(),
            address: [127, 0, 0, 1].into(),
            request_id: RequestId::new(1, 1),
        };
        let answer = self.chat.request(request).await;
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.raw(method, path, &body.to_string(), "Bearer key").await
    }

    /// Ana is 7, Ben is 8, Cy is 9; a group of Ana and Ben.
    async fn group(&self) -> String {
        let users =
            json!([{"id": 7, "username": "ana"}, {"id": 8, "username": "ben"}, {"id": 9, "username": "cy"}]);
        assert_eq!(self.call("POST", "users", json!({"users": users})).await.0, 201);
        let room = json!({"creator": 7, "type": "GroupChat", "name": "Reef", "participants": [8]});
        let (status, room) = self.call("POST", "rooms", room).await;
        assert_eq!((status, &room["creator"]["id"]), (201, &json!(7)));
        room["id"].as_str().unwrap().to_owned()
    }

    fn connect(&self, user: i64) -> ConnectionId {
        let number = u64::try_from(user).unwrap();
        let facts = Arc::new(ConnectionFacts {
            connection_id: ConnectionId::new(number, 0, u32::try_from(number).unwrap(), 0),
            api_id: "chat".into(),
            stage: "live".into(),
            domain_name: "chat.test".into(),
            source_ip: [127, 0, 0, 1].into(),
            user_agent: None,
            is_secure: false,
            client_port: 443,
            connected_at: 1,
        });
        let id = UserId(user.to_string().into());
        let connections = &self.chat.dispatcher().connections;
        connections.begin(&id, &facts, 1_767_225_600_000, 0).unwrap();
        connections.open(facts.connection_id);
        facts.connection_id
    }

    fn frames(&self, connection: ConnectionId) -> Vec<Value> {
        self.gateway.0.lock().remove(&connection).unwrap_or_default()
    }
}

// S2-127: only callers with a signature or a key.
#[tokio::test]
async fn strangers_are_refused() {
    let world = World::new();
    let (status, body) = world.raw("GET", "rooms", "", "Bearer other").await;
    assert_eq!((status, body["error"]["id"].as_str()), (403, Some("chat.auth-failed")));
    let (status, body) = world.call("GET", "nothing", json!({})).await;
    assert_eq!(status, 404, "{body}");
    assert_eq!(world.raw("POST", "users", "[", "Bearer key").await.0, 400);
}

// S2-127: rooms and members are listed, read, made and deleted, and their members are told.
#[tokio::test]
async fn rooms_and_members() {
    let world = World::new();
    let room = world.group().await;
    let (ana, cy) = (world.connect(7), world.connect(9));
    let (status, shown) = world.call("GET", &format!("rooms/{room}"), json!({})).await;
    assert_eq!((status, &shown["name"]), (200, &json!("Reef")));
    // S2-123: what a hook does once somebody has approved.
    let members = format!("rooms/{room}/members");
    assert_eq!(world.call("POST", &members, json!({"members": [9]})).await.0, 201);
    let told = world.frames(cy);
    assert_eq!(told[0]["eventType"], "roomaddmembers.dispatch");
    assert_eq!(
        (&told[0]["data"]["new_members"], &told[0]["data"]["added_by"]),
        (&json!(["cy"]), &json!("system"))
    );
    let (_, listed) = world.call("GET", &members, json!({})).await;
    let names: Vec<&Value> =
        listed["members"].as_array().unwrap().iter().map(|member| &member["user"]["username"]).collect();
    assert_eq!(names, ["ana", "ben", "cy"]);
    assert_eq!(world.call("DELETE", &format!("{members}/9"), json!({})).await.0, 200);
    assert_eq!(world.frames(cy)[0]["eventType"], "roomexit.dispatch");
    let other = json!({"creator": 8, "type": "Channel", "name": "News"});
    assert_eq!(world.call("POST", "rooms", other).await.0, 201);
    let (_, first) = world.call("GET", "rooms?limit=1", json!({})).await;
    assert_eq!(first["rooms"].as_array().unwrap().len(), 1);
    let token = first["nextToken"].as_str().unwrap();
    let (_, second) = world.call("GET", &format!("rooms?limit=1&nextToken={token}"), json!({})).await;
    assert_eq!(second["rooms"].as_array().unwrap().len(), 1);
    assert!(second.get("nextToken").is_none());
    assert_ne!(first["rooms"][0]["id"], second["rooms"][0]["id"]);
    world.frames(ana);
    assert_eq!(world.call("DELETE", &format!("rooms/{room}"), json!({})).await.0, 200);
    assert_eq!(world.frames(ana)[0]["eventType"], "roomdelete.dispatch");
    let (status, body) = world.call("GET", &format!("rooms/{room}"), json!({})).await;
    assert_eq!((status, body["error"]["id"].as_str()), (404, Some("chat.room-not-found")));
}

// S2-127: a message of a user, of the system, and the end of any message.
#[tokio::test]
async fn messages() {
    let world = World::new();
    let room = world.group().await;
    let ben = world.connect(8);
    let path = format!("rooms/{room}/messages");
    // Cy is no member: a server may all the same.
    let (status, sent) = world.call("POST", &path, json!({"sender": 9, "content": "Hi"})).await;
    assert_eq!((status, &sent["sender"]["username"]), (201, &json!("cy")));
    let (status, sent) = world.call("POST", &path, json!({"content": "Closed at six"})).await;
    assert_eq!((status, &sent["sender"], &sent["content"]), (201, &Value::Null, &json!("Closed at six")));
    let told = world.frames(ben);
    assert_eq!(told.len(), 2);
    assert_eq!((&told[1]["eventType"], &told[1]["data"]), (&json!("message.dispatch"), &sent));
    let (status, gone) =
        world.call("DELETE", &format!("messages/{}", sent["id"].as_str().unwrap()), json!({})).await;
    assert_eq!((status, &gone["message_ids"]), (200, &json!([sent["id"]])));
    assert_eq!(world.frames(ben)[0]["data"]["action"], "delete");
    let nowhere = format!("rooms/{}/messages", Uuid::nil());
    assert_eq!(world.call("POST", &nowhere, json!({"content": "x"})).await.0, 404);
    assert_eq!(world.call("POST", &path, json!({"sender": 10, "content": "x"})).await.0, 404);
    assert_eq!(world.call("POST", &path, json!({"content": ""})).await.0, 400);
}

// S2-127: sessions, and frames to a room, a user, everyone.
#[tokio::test]
async fn sessions_and_frames() {
    let world = World::new();
    let room = world.group().await;
    let (ana, ben, cy) = (world.connect(7), world.connect(8), world.connect(9));
    let (_, listed) = world.call("GET", "sessions", json!({})).await;
    let sessions = listed["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 3);
    assert!(sessions.iter().any(|session| session["user"] == 7 && session["idle"] == false));
    let frame = json!({"eventType": "app.notice", "data": {"n": 1}});
    let get = |connection| world.frames(connection).iter().filter(|told| told["data"]["n"] == 1).count();
    world.call("POST", &format!("rooms/{room}/push"), frame.clone()).await;
    assert_eq!((get(ana), get(ben), get(cy)), (1, 1, 0));
    world.call("POST", "users/9/push", frame.clone()).await;
    assert_eq!((get(ana), get(ben), get(cy)), (0, 0, 1));
    world.call("POST", "push", frame).await;
    assert_eq!((get(ana), get(ben), get(cy)), (1, 1, 1));
    assert_eq!(world.call("POST", "push", json!({})).await.0, 400);
}

// S2-113: users are entered ahead, listed, changed and deleted.
#[tokio::test]
async fn users_of_operators() {
    let world = World::new();
    world.group().await;
    let (status, dee) = world.call("PUT", "users/10", json!({"username": "dee", "email": "d@e.test"})).await;
    assert_eq!((status, &dee["email"], &dee["disabled"]), (200, &json!("d@e.test"), &json!(false)));
    let (_, dee) = world.call("PUT", "users/10", json!({"disabled": true})).await;
    assert_eq!((&dee["username"], &dee["disabled"]), (&json!("dee"), &json!(true)), "the rest is left");
    assert_eq!(world.call("PUT", "users/x", json!({})).await.0, 404);
    assert_eq!(world.call("PUT", "users/10", json!({"disabled": "yes"})).await.0, 400);
    let (_, listed) = world.call("GET", "users?limit=3", json!({})).await;
    assert_eq!(listed["users"].as_array().unwrap().len(), 3);
    let (_, rest) = world
        .call("GET", &format!("users?nextToken={}", listed["nextToken"].as_str().unwrap()), json!({}))
        .await;
    assert_eq!(rest["users"].as_array().unwrap().len(), 1);
    assert_eq!(world.call("DELETE", "users/10", json!({})).await.0, 204);
    assert_eq!(world.call("DELETE", "users/10", json!({})).await.0, 404);
}
