//! axum behind Tidegate. `PORT=8000 cargo run -p tidegate-backend --example axum_backend`, and
//! `tidegate dev --backend http://127.0.0.1:8000/ws/`.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::header::{COOKIE, HeaderName, SET_COOKIE};
use axum::http::request::Parts;
use axum::routing::{get, post};
use axum::{Router, body::Bytes};
use serde::Deserialize;
use serde_json::json;
use tidegate_backend::{
    Accept, AdminClient, Connect, Disconnect, GatewayRouter, Message, PushClient, PushError, PushOptions,
    RawMessage, Refuse, Reply, TokenRequest,
};

#[derive(Clone)]
struct Service {
    push: PushClient,
    admin: AdminClient,
    api: String,
    stage: String,
    posts: Posts,
}

// ANCHOR: events
async fn connect(connect: Connect) -> Result<Accept, Refuse> {
    match connect.query("channel") {
        Some("general") => Ok(Accept::new()),
        _ => Err(Refuse::forbidden("no such channel")),
    }
}

#[derive(Deserialize)]
struct Say {
    text: String,
}

async fn say(State(service): State<Service>, message: Message<Say>) -> Result<Reply, Failed> {
    let said = json!({ "type": "said", "text": message.body.text }).to_string();
    let others = PushOptions::except(message.head.connection_id);
    service.push.push_channel("general", said, &others).await?;
    Ok(Reply::json(&json!({ "type": "ok" })))
}

async fn not_understood(_: RawMessage) -> Reply {
    Reply::json(&json!({ "type": "error", "text": "actions: say" }))
}

async fn disconnect(State(service): State<Service>, disconnect: Disconnect) -> Result<(), Failed> {
    let left = json!({ "type": "left", "id": disconnect.head.connection_id }).to_string();
    service.push.push_channel("general", left, &PushOptions::default()).await?;
    Ok(())
}
// ANCHOR_END: events

// ANCHOR: pages
async fn token(State(service): State<Service>, login: Login) -> Result<Reply, Failed> {
    let mut request = TokenRequest::new(service.api, service.stage, login.user);
    request.session = Some(login.id);
    Ok(Reply::json(&service.admin.issue_token(&request).await?))
}

async fn logout(State(service): State<Service>, login: Login) -> (ForgetLogin, Result<StatusCode, Failed>) {
    let ended = service.admin.end_session(&login.id).await;
    (FORGET_LOGIN, ended.map(|()| StatusCode::NO_CONTENT).map_err(Failed))
}
// ANCHOR_END: pages

// ANCHOR: commit
async fn add_post(State(service): State<Service>, login: Login, text: Bytes) -> Result<StatusCode, Failed> {
    let id = service.posts.insert_and_commit(text);
    let news = json!({ "type": "post", "id": id }).to_string();
    let once = PushOptions { idempotency_key: Some(format!("post-{id}")), ..PushOptions::default() };
    service.push.push_channel("general", news, &once).await?;
    let saved = json!({ "type": "saved", "id": id }).to_string();
    service.push.push_user(&login.user, saved, &PushOptions::default()).await?;
    Ok(StatusCode::CREATED)
}
// ANCHOR_END: commit

/// A push that failed: the page is told to try again, the log is told why.
struct Failed(PushError);

impl From<PushError> for Failed {
    fn from(error: PushError) -> Self {
        Self(error)
    }
}

impl axum::response::IntoResponse for Failed {
    fn into_response(self) -> axum::response::Response {
        eprintln!("call to the gateway: {}", self.0);
        StatusCode::BAD_GATEWAY.into_response()
    }
}

/// Stands for your login: who has the cookie is that user.
struct Login {
    user: String,
    /// Of this login.
    id: String,
}

type ForgetLogin = [(HeaderName, &'static str); 1];

const FORGET_LOGIN: ForgetLogin = [(SET_COOKIE, "demo=; Path=/; Max-Age=0")];

async fn demo_login(Path(user): Path<String>) -> (StatusCode, [(HeaderName, String); 1]) {
    // Random enough to tell logins apart.
    let id = RandomState::new().hash_one(&user);
    (StatusCode::NO_CONTENT, [(SET_COOKIE, format!("demo={user}.{id:016x}; Path=/; HttpOnly"))])
}

impl<S: Sync> FromRequestParts<S> for Login {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, StatusCode> {
        let cookies = parts.headers.get(COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let login = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("demo=")?.split_once('.'));
        let (user, id) = login.ok_or(StatusCode::FORBIDDEN)?;
        Ok(Self { user: user.to_owned(), id: id.to_owned() })
    }
}

/// Stands for your database.
#[derive(Clone, Default)]
struct Posts(Arc<Mutex<Vec<Bytes>>>);

impl Posts {
    fn insert_and_commit(&self, text: Bytes) -> usize {
        let mut posts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        posts.push(text);
        posts.len()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // ANCHOR: main
    let mut gateway = GatewayRouter::new()
        .on_connect(connect)
        .on("say", say)
        .default(not_understood)
        .on_disconnect(disconnect);
    if let Ok(secret) = std::env::var("TIDEGATE_SECRET") {
        gateway = gateway.secret([secret]);
    }
    let app = Router::new()
        .nest("/ws", gateway.into_router())
        .route("/ws-token", post(token))
        .route("/logout", post(logout))
        .route("/posts", post(add_post));
    // ANCHOR_END: main
    let app = app.route("/demo-login/{user}", get(demo_login));
    let endpoint = std::env::var("TIDEGATE_ENDPOINT")?;
    let mut parts = endpoint.trim_end_matches('/').rsplit('/').map(str::to_owned);
    let (stage, api) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (push, admin) = (PushClient::from_env()?, AdminClient::from_env()?);
    let app = app.with_state(Service { push, admin, api, stage, posts: Posts::default() });
    let port: u16 = std::env::var("PORT")?.parse()?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    Ok(axum::serve(listener, app).await?)
}
