//! A gateway that keeps what it is given.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_core::app::{
    App, Connect, Connected, End, Host, Message, Refusal, Refused, Reply, Request, Response, Sent,
};
use tidegate_core::context::ConnectionFacts;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::identity::{AuthKind, Identity};
use tidegate_core::journal::Facts;
use tidegate_core::notice::Notice;
use tidegate_core::port::BoxFuture;
use tidegate_core::push::{Publish, PushResult};
use tidegate_store::sql::Database;

use crate::Alerts;
use crate::settings::Settings;
use crate::user_check::Directory;

/// 2025-01-15T12:00:00Z.
pub const START: u64 = 1_736_942_400_000;

#[derive(Debug, Default)]
pub struct FakeHost {
    pub sent: Mutex<Vec<(ConnectionId, Bytes)>>,
    pub closed: Mutex<Vec<(ConnectionId, u16, String)>>,
    pub notices: Mutex<Vec<Notice>>,
    pub gone: Mutex<HashSet<ConnectionId>>,
    pub slow: Mutex<HashSet<ConnectionId>>,
    pub now: AtomicU64,
    pub randoms: AtomicU64,
    pub same_random: AtomicBool,
}

/// `role:user` in the place of a token: `Bearer jwt.authority.7`.
fn identity_of(headers: &HeaderMap) -> Result<Arc<Identity>, Box<Refusal>> {
    let text = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parts: Vec<&str> = text.trim_start_matches("Bearer ").split('.').collect();
    match parts[..] {
        ["jwt", role, user] => Ok(Arc::new(identity(user, &[role]))),
        ["bad", ..] => Err(Box::new(Refusal::new(403, "Invalid token", Diagnosis::JWT_SIGNATURE))),
        _ => Err(Box::new(Refusal::new(503, "Service unavailable", Diagnosis::JWT_JWKS_UNREACHABLE))),
    }
}

pub fn identity(user: &str, roles: &[&str]) -> Identity {
    Identity {
        user: Some(user.into()),
        auth: AuthKind::Jwt,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        claims: BTreeMap::from([("email".to_owned(), json!(format!("{user}@example.com")))]),
        ..Identity::default()
    }
}

impl Host for FakeHost {
    fn send(&self, to: &[ConnectionId], text: Bytes) -> Sent {
        let mut result = Sent::default();
        for id in to {
            if self.gone.lock().contains(id) {
                result.gone += 1;
            } else if self.slow.lock().contains(id) {
                result.slow += 1;
            } else {
                self.sent.lock().push((*id, text.clone()));
                result.delivered += 1;
            }
        }
        result
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

    fn close(&self, connection: ConnectionId, code: u16, reason: &str, _: Diagnosis) -> bool {
        self.closed.lock().push((connection, code, reason.to_owned()));
        true
    }

    fn identify(
        &self,
        api_id: &str,
        stage: &str,
        headers: &HeaderMap,
    ) -> Result<Arc<Identity>, Box<Refusal>> {
        assert_eq!((api_id, stage), ("alerts", "live"));
        identity_of(headers)
    }

    fn authorize(&self, api_id: &str, stage: &str, request: &Request) -> Result<String, Box<Refusal>> {
        assert_eq!((api_id, stage), ("alerts", "live"));
        let text =
            request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match text.strip_prefix("Bearer key-") {
            Some(name) => Ok(name.to_owned()),
            None => Err(Box::new(Refusal::new(403, "Forbidden", Diagnosis::MANAGEMENT_DENIED))),
        }
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
        RequestId::new(self.now(), self.random())
    }

    fn random(&self) -> u64 {
        // Two in a row are equal when the test wants that.
        let n = self.randoms.fetch_add(1, Ordering::Relaxed);
        let n = if self.same_random.load(Ordering::Relaxed) { n / 2 } else { n };
        (n + 1) << 20
    }
}

pub struct Node {
    pub host: Arc<FakeHost>,
    pub app: Arc<Alerts>,
    next: AtomicU64,
}

/// A handshake that was let in.
#[derive(Clone)]
pub struct Client {
    pub facts: Arc<ConnectionFacts>,
    pub first: Vec<String>,
    pub channels: Vec<String>,
}

impl Client {
    pub fn id(&self) -> ConnectionId {
        self.facts.connection_id
    }
}

pub fn node(settings: Settings) -> Node {
    node_with(settings, None)
}

pub fn node_with(settings: Settings, directory: Option<Directory>) -> Node {
    node_of(settings, directory, None)
}

pub fn node_of(
    settings: Settings,
    directory: Option<Directory>,
    database: Option<Arc<dyn Database>>,
) -> Node {
    assert_eq!(settings.problems(), []);
    let host = Arc::new(FakeHost::default());
    host.now.store(START, Ordering::Relaxed);
    let app = Arc::new(Alerts::new(settings, directory, database));
    app.start(Arc::clone(&host) as _);
    Node { host, app, next: AtomicU64::new(0) }
}

impl Node {
    pub fn later(&self, millis: u64) {
        self.host.now.fetch_add(millis, Ordering::Relaxed);
    }

    pub fn facts(&self, address: &str) -> Arc<ConnectionFacts> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        Arc::new(ConnectionFacts {
            connection_id: ConnectionId::new(n + 1, 0, u32::try_from(n).unwrap(), 7),
            api_id: "alerts".into(),
            stage: "live".into(),
            domain_name: "localhost".into(),
            source_ip: address.parse().unwrap(),
            user_agent: None,
            is_secure: false,
            client_port: 80,
            connected_at: START,
        })
    }

    pub async fn connect(&self, identity: Identity, query: &str) -> Result<Client, Refusal> {
        self.handshake(identity, query, "192.0.2.1", false).await
    }

    pub async fn handshake(
        &self,
        identity: Identity,
        query: &str,
        address: &str,
        is_dry_run: bool,
    ) -> Result<Client, Refusal> {
        let facts = self.facts(address);
        let connect = Connect {
            connection: &facts,
            request_id: self.host.request_id(),
            identity: &Arc::new(identity),
            channels: "",
            query,
            headers: &HeaderMap::new(),
            is_dry_run,
        };
        let Connected { channels, first } = self.app.connect(connect).await.map_err(|refusal| *refusal)?;
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let channels = channels.iter().map(|name| name.as_str().to_owned()).collect();
        Ok(Client { facts, first: first.iter().map(text).collect(), channels })
    }

    /// Let in and ready to be pushed to.
    pub async fn open(&self, user: &str, role: &str) -> Client {
        let client = self.connect(identity(user, &[role]), "").await.unwrap();
        self.app.opened(&client.facts);
        client
    }

    pub async fn close(&self, client: &Client, code: u16) {
        self.app.disconnect(&client.facts, End { code, reason: "" }).await;
    }

    pub async fn say(&self, client: &Client, text: &str, is_binary: bool) -> Reply {
        let message = Message {
            connection: &client.facts,
            request_id: self.host.request_id(),
            identity: None,
            text,
            is_binary,
            now: self.host.now(),
        };
        self.app.message(message).await
    }

    pub fn refused(
        &self,
        diagnosis: Diagnosis,
        status: u16,
        facts: &Facts,
        address: &str,
        is_dry_run: bool,
    ) -> Option<Refusal> {
        let address: IpAddr = address.parse().unwrap();
        self.app.refusal(&Refused { diagnosis, status, address, now: self.host.now(), is_dry_run, facts })
    }

    /// Texts that a connection was sent, oldest first; they are taken away.
    pub fn received(&self, client: &Client) -> Vec<String> {
        let mut sent = self.host.sent.lock();
        let (own, others) = sent.drain(..).partition(|(id, _)| *id == client.id());
        *sent = others;
        let own: Vec<(ConnectionId, Bytes)> = own;
        own.into_iter().map(|(_, text)| String::from_utf8(text.to_vec()).unwrap()).collect()
    }

    pub async fn call(&self, caller: &str, method: Method, path: &str, body: &str) -> (u16, Value) {
        let response = self.send(caller, method, path, body, &[]).await;
        (response.status, serde_json::from_slice(&response.body).unwrap())
    }

    pub async fn send(
        &self,
        caller: &str,
        method: Method,
        path: &str,
        body: &str,
        headers: &[(&'static str, &str)],
    ) -> Response {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        if !caller.is_empty() {
            map.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {caller}")).unwrap());
        }
        let request = Request {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers: map,
            body: Bytes::from(body.to_owned()),
            address: "192.0.2.9".parse().unwrap(),
            request_id: self.host.request_id(),
        };
        self.app.request(request).await
    }

    pub async fn publish(&self, caller: &str, body: Value) -> (u16, Value) {
        self.call(caller, Method::POST, "/api/alerts/publish", &body.to_string()).await
    }

    /// Diagnoses of calls that were refused, and remarks.
    pub fn told(&self) -> Vec<Diagnosis> {
        let notices = self.host.notices.lock();
        let diagnosis = |notice: &Notice| match notice {
            Notice::PushRefused { diagnosis, .. } => Some(*diagnosis),
            Notice::Decided { remark, .. } => *remark,
            _ => None,
        };
        notices.iter().filter_map(diagnosis).collect()
    }
}
