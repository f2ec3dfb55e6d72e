//! A small chat: users, rooms, pushes. It keeps its own table of rooms, so it runs behind Amazon's gateway too; with
//! Tidegate's channels `PushClient::push_channel` replaces the table.
//!
//! ```text
//! TIDEGATE_API_KEY=dev-key tidegate dev --backend http://127.0.0.1:3000/ws/
//!
//! export TIDEGATE_ENDPOINT=http://127.0.0.1:8080/_aws/execute-api/dev0000000/dev TIDEGATE_KEY=dev-key
//! cargo run -p tidegate-backend --example axum_chat
//!
//! tidegate connect 'ws://127.0.0.1:8080/_aws/execute-api/dev0000000/dev?user=ann&room=general'
//! {"action":"say","text":"hello"}
//! {"action":"who"}
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use tidegate_backend::{
    Accept, Connect, Disconnect, GatewayRouter, Message, PushClient, PushError, RawMessage, Refuse, Reply,
};

/// Who is in which room, by connection id. It grows with the open connections, which the gateway limits.
type Members = HashMap<String, Member>;

#[derive(Clone)]
struct Member {
    user: String,
    room: String,
}

#[derive(Clone)]
struct Chat {
    members: Arc<Mutex<Members>>,
    push: PushClient,
}

impl Chat {
    /// No lock is held while a push is under way: `work` is short and does not wait.
    fn with_members<T>(&self, work: impl FnOnce(&mut Members) -> T) -> T {
        work(&mut self.members.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn send_to_room(&self, room: &str, text: &str) {
        let in_room = |(id, member): (&String, &Member)| (member.room == room).then(|| id.clone());
        let ids: Vec<String> = self.with_members(|members| members.iter().filter_map(in_room).collect());
        for id in ids {
            match self.push.post(&id, text.to_owned()).await {
                // Between its end and its disconnect event a connection is gone already.
                Ok(()) | Err(PushError::Gone { .. }) => {}
                Err(error) => eprintln!("push to {id}: {error}"),
            }
        }
    }
}

/// A real service learns the user from its cookie or a connect token, and compares `connect.origin` with its own pages.
async fn connect(State(chat): State<Chat>, connect: Connect) -> Result<Accept, Refuse> {
    let user = connect.query("user").ok_or(Refuse::unauthorized("who are you?"))?.to_owned();
    let room = connect.query("room").unwrap_or("general").to_owned();
    chat.with_members(|members| members.insert(connect.head.connection_id, Member { user, room }));
    Ok(Accept::new())
}

#[derive(Deserialize)]
struct Say {
    text: String,
}

/// Everybody in the room gets it, the sender too.
async fn say(State(chat): State<Chat>, message: Message<Say>) -> Result<(), Refuse> {
    let sender = chat.with_members(|members| members.get(&message.head.connection_id).cloned());
    let Member { user, room } = sender.ok_or(Refuse::forbidden("not connected"))?;
    let text = json!({ "type": "said", "user": user, "text": message.body.text });
    chat.send_to_room(&room, &text.to_string()).await;
    Ok(())
}

async fn who(State(chat): State<Chat>, message: RawMessage) -> Reply {
    let users: Vec<String> = chat.with_members(|members| {
        let room = members.get(&message.head.connection_id).map(|member| member.room.clone());
        let in_room = |member: &&Member| Some(&member.room) == room.as_ref();
        members.values().filter(in_room).map(|member| member.user.clone()).collect()
    });
    Reply::json(&json!({ "type": "who", "users": users }))
}

async fn not_understood(_: RawMessage) -> Reply {
    Reply::json(&json!({ "type": "error", "text": "actions: say, who" }))
}

async fn disconnect(State(chat): State<Chat>, disconnect: Disconnect) {
    if let Some(left) = chat.with_members(|members| members.remove(&disconnect.head.connection_id)) {
        let text = json!({ "type": "left", "user": left.user });
        chat.send_to_room(&left.room, &text.to_string()).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let chat = Chat { members: Arc::default(), push: PushClient::from_env()? };
    let gateway = GatewayRouter::new()
        .on_connect(connect)
        .on("say", say)
        .on("who", who)
        .default(not_understood)
        .on_disconnect(disconnect);
    let app = Router::new().nest("/ws", gateway.into_router()).with_state(chat);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app).await?)
}
