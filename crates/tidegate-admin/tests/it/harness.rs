//! A node with one API, and calls of its admin API.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tidegate_admin::{AdminApi, Callers, Configured, Parts, Reload, Surroundings};
use tidegate_auth::{AdminKey, AdminKeys, ApiKey, Credential, Role, Secret, Verifier};
use tidegate_control::{ControlPlane, ControlSettings};
use tidegate_core::journal::JournalStore;
use tidegate_core::notice::NoticeSink;
use tidegate_core::port::{DefinitionSink, RecordStore};
use tidegate_core::settings::Settings;
use tidegate_doctor::journal::{Journal, JournalConfig};
use tidegate_gateway::{Gateway, GatewayConfig, NodeSettings, ReadFile, SettingsOf, edge};
use tidegate_store::{SqliteJournal, SqliteStore};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::client::{Client, DEADLINE};
use crate::records::Records;
use crate::reload::FakeReload;
use crate::schema::assert_fits;

pub(crate) const API: &str = "tide000001";
pub(crate) const STAGE: &str = "prod";

/// Of `[jwt]` in the policy.
pub(crate) const JWT_SECRET: &str = "a-secret-of-jwt-with-32-or-more-characters";

/// Of `[backend]` in the policy.
pub(crate) const BACKEND_SECRET: &str = "a-secret-of-the-backend-with-32-or-more";

/// A whole node.
pub(crate) struct Node {
    pub(crate) api: AdminApi,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) control: ControlPlane,
    pub(crate) records: Arc<Records>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) reload: Arc<FakeReload>,
    pub(crate) public: SocketAddr,
    document: Value,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Of JSON.
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    /// The body of a 200.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.body
    }

    /// Status and diagnosis id of a refusal.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        (self.status, self.body["id"].as_str().unwrap_or_default())
    }
}

/// The policy that the stage has.
pub(crate) fn policy() -> Value {
    json!({
        "admission": { "checks": ["token", "jwt"], "required": false },
        "connect_tokens": { "cookie": "sessionid" },
        "jwt": { "keys": [{ "secret": JWT_SECRET, "algorithms": ["HS256"] }] },
        "attempts": { "per_address": 0, "per_user": 0 },
        "channels": {
            "rules": [
                { "match": "lobby", "join": "allow", "history": { "count": 10, "age": 60 } },
                { "match": "staff-*", "join": { "any": [["role:staff"]] } },
                { "match": "asked", "join": { "ask": "http://127.0.0.1:9/may", "cache": 7 } },
            ],
        },
        "backend": { "secrets": [BACKEND_SECRET] },
    })
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        let records = Arc::new(Records::new());
        let reload = Arc::new(FakeReload::default());
        let journal = Arc::new(Journal::new(
            Arc::new(SqliteJournal::open_in_memory().unwrap()),
            JournalConfig::default(),
            || u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap(),
        ));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = GatewayConfig {
            node: 0,
            region: "us-east-1".to_owned(),
            account_id: "123456789012".to_owned(),
            node_settings: NodeSettings {
                clock_skew: Duration::from_secs(300),
                max_connections: 10_000,
                probe: true,
                settings: SettingsOf { all: Arc::new(settings), by_api: HashMap::new() },
                ..NodeSettings::default()
            },
            backend_tls: rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
            records: Arc::clone(&records) as Arc<dyn RecordStore>,
            token_keys: tidegate_auth::TokenKeys::new(&[[7; 32]]).unwrap(),
            read_file: ReadFile(Arc::new(|path| std::fs::read(path))),
            logs: Arc::new(tidegate_core::log::NoLogs),
            functions: None,
            usage_plans: tidegate_gateway::UsagePlans::default(),
            signature_clock: tidegate_gateway::SignatureClock::default(),
            mounts: Vec::new(),
        };
        let gateway = Gateway::new(config, Arc::clone(&journal) as Arc<dyn NoticeSink>).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let public = listener.local_addr().unwrap();
        let settings =
            ControlSettings { public_base: format!("ws://{public}"), ..ControlSettings::default() };
        let control = ControlPlane::load(
            Arc::new(SqliteStore::open_in_memory().unwrap()),
            Arc::clone(&gateway) as Arc<dyn DefinitionSink>,
            settings,
            Arc::new(jiff::Timestamp::now),
        )
        .await
        .unwrap();
        let tasks = vec![
            tokio::spawn(edge::listener::serve(Arc::clone(&gateway), listener, None)),
            tokio::spawn(Arc::clone(&gateway).run_timers()),
        ];
        let key = |role: Role| AdminKey {
            name: format!("{role}-key"),
            role,
            hash: ApiKey::of(&Secret::new(role.as_str())),
        };
        let credential = |id: &str, allow: &[&str]| Credential {
            access_key_id: id.to_owned(),
            secret: Secret::new("secret"),
            allow: allow.iter().map(|&rule| rule.to_owned()).collect(),
        };
        let api = AdminApi::new(Parts {
            gateway: Arc::clone(&gateway),
            control: control.clone(),
            records: Arc::clone(&records) as Arc<dyn RecordStore>,
            journal: Arc::clone(&journal) as Arc<dyn JournalStore>,
            configured: Arc::new(ArcSwap::from_pointee(Configured {
                settings: json!({ "listen": { "value": "127.0.0.1:0", "origin": "flag" } }),
                callers: Callers {
                    keys: AdminKeys::new(Role::ALL.map(key).to_vec()).unwrap(),
                    credentials: vec![
                        credential("AKIDROOT", &[]),
                        credential("AKIDOPERATE", &["tidegate:Operate *"]),
                        credential("AKIDPUSH", &["arn:*"]),
                    ],
                    verifier: Verifier::new("us-east-1", "apigateway"),
                },
                surroundings: Surroundings::default(),
            })),
            reload: Arc::clone(&reload) as Arc<dyn Reload>,
            version: "1.2.3",
        });
        let document = AdminApi::document("1.2.3");
        let node = Self { api, gateway, control, records, journal, reload, public, document, tasks };
        node.create_api().await;
        let path = format!("/api/apis/{API}/stages/{STAGE}/policy");
        node.put(&path, policy()).await.ok();
        node
    }

    async fn create_api(&self) {
        let api = json!({
            "name": "tide",
            "protocolType": "WEBSOCKET",
            "routeSelectionExpression": "$request.body.action",
        });
        self.control.create_api_with_id(API, api).await.unwrap();
        let post = |path: &str, body: Value| {
            let target = format!("/v2/apis/{API}/{path}");
            async move { self.control.request(&Method::POST, &target, body).await.unwrap() }
        };
        let integration = json!({
            "integrationType": "HTTP_PROXY",
            "integrationMethod": "POST",
            "integrationUri": tidegate_core::compile::ECHO_URI,
        });
        let integration = post("integrations", integration).await;
        let target = format!("integrations/{}", integration["integrationId"].as_str().unwrap());
        post("routes", json!({ "routeKey": "$default", "target": target })).await;
        post("stages", json!({ "stageName": STAGE })).await;
        post("deployments", json!({ "stageName": STAGE })).await;
    }

    /// A request with everything as it is given.
    pub(crate) async fn request(&self, request: Request<Bytes>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let reply = self.api.handle(request.map(Full::new)).await;
        let (head, bytes) = reply.into_parts();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or_default();
        let answer = Answer { status: head.status.as_u16(), headers: head.headers, body, text };
        self.compare_with_document(&method, &path, &answer);
        answer
    }

    fn compare_with_document(&self, method: &Method, path: &str, answer: &Answer) {
        assert_ne!(answer.status, 500, "{answer:?}");
        let fits = |pattern: &str| {
            let (pattern, path) = (pattern.split('/'), path.split('/'));
            pattern.clone().count() == path.clone().count()
                && pattern.zip(path).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
        };
        let paths = self.document["paths"].as_object().unwrap();
        let method = method.as_str().to_ascii_lowercase();
        let items = paths.iter().filter(|(pattern, _)| fits(pattern));
        let Some(operation) = items.filter_map(|(_, item)| item.get(&method)).next() else {
            assert!([403, 404, 405].contains(&answer.status), "{answer:?}");
            return;
        };
        let response = &operation["responses"][answer.status.to_string()];
        assert!(
            response.is_object(),
            "{} of {} is not documented: {answer:?}",
            answer.status,
            operation["operationId"]
        );
        let media_type = answer.headers["content-type"].to_str().unwrap();
        let schema = &response["content"][media_type]["schema"];
        assert!(schema.is_object(), "{media_type} is not documented");
        if media_type == "application/json" {
            assert_fits(schema, &answer.body, &self.document);
        }
    }

    /// A request with the key of a role.
    pub(crate) async fn call_as(
        &self,
        role: Role,
        method: &str,
        target: &str,
        body: Option<Value>,
    ) -> Answer {
        let mut request =
            Request::builder().method(method).uri(target).header("authorization", format!("Bearer {role}"));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        self.request(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.call_as(Role::Read, "GET", target, None).await
    }

    pub(crate) async fn post(&self, target: &str, body: Value) -> Answer {
        self.call_as(Role::Operate, "POST", target, Some(body)).await
    }

    pub(crate) async fn put(&self, target: &str, body: Value) -> Answer {
        self.call_as(Role::Administer, "PUT", target, Some(body)).await
    }

    pub(crate) async fn delete(&self, target: &str) -> Answer {
        self.call_as(Role::Operate, "DELETE", target, None).await
    }

    /// A token for somebody; the answer to the request.
    pub(crate) async fn token(&self, more: Value) -> Answer {
        let mut body = json!({ "api": API, "stage": STAGE });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("/api/tokens", body).await
    }

    /// A connection of a user, with their further members of a token and their channels; and its id.
    pub(crate) async fn connect(&self, more: Value, channels: &[&str], headers: &str) -> (Client, String) {
        let url = self.token(more).await.ok()["url"].as_str().unwrap().to_owned();
        let target = url.strip_prefix(&format!("ws://{}", self.public)).unwrap().to_owned();
        let channels: String = channels.iter().map(|channel| format!("&channel={channel}")).collect();
        let known = self.ids().await;
        let client = Client::connect(self.public, &format!("{target}{channels}"), headers).await.unwrap();
        let mut new = self.ids().await;
        new.retain(|id| !known.contains(id));
        assert_eq!(new.len(), 1);
        (client, new.remove(0))
    }

    /// A connection of a user in the channels.
    pub(crate) async fn connect_user(&self, user: &str, channels: &[&str]) -> (Client, String) {
        self.connect(json!({ "user": user }), channels, "").await
    }

    /// Ids of all connections.
    pub(crate) async fn ids(&self) -> Vec<String> {
        let body = self.get("/api/connections?limit=1000").await.ok();
        let connections = body["connections"].as_array().unwrap().iter();
        connections.map(|connection| connection["connection_id"].as_str().unwrap().to_owned()).collect()
    }

    /// Path and query of the stage's WebSocket address.
    pub(crate) fn target(&self, query: &str) -> String {
        format!("/_aws/execute-api/{API}/{STAGE}{query}")
    }

    /// Asks again and again until the answer to a GET is as wanted.
    pub(crate) async fn until(&self, target: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let body = self.get(target).await.ok();
            if is_wanted(&body) {
                return body;
            }
            assert!(tokio::time::Instant::now() < deadline, "{target} stays {body}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
