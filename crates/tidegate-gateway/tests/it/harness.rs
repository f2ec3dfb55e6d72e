//! A gateway with its listener, its timers, a recording backend and recorded notices.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_auth::{ApiKey, Credential, Secret};
use tidegate_core::definition::{
    Api, ApiDefinition, ApiMapping, DomainName, Integration, Live, LiveApi, LiveStage, Route, RouteResponse,
    Stage,
};
use tidegate_core::log::{LogSink, NoLogs};
use tidegate_core::network::Network;
use tidegate_core::notice::{Notice, NoticeSink, Place};
use tidegate_core::policy::Policy;
use tidegate_core::port::{DefinitionSink as _, RecordStore};
use tidegate_core::settings::Settings;
use tidegate_gateway::{
    Gateway, GatewayConfig, NodeSettings, Publish, PushResult, ReadFile, SettingsOf, Target, edge,
};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

use crate::backend::{Backend, Request};
use crate::client::{Client, PATH, Reply, TAG, request};
use crate::record::{Record, eventually};

pub(crate) const API_ID: &str = "tide000001";
pub(crate) const STAGE: &str = "prod";

/// How long a drain may take.
const DRAIN: Duration = Duration::from_secs(20);

/// Keeps all notices. Can be told to panic on one, because whatever runs inside a connection may have a fault.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    pub(crate) record: Record<Notice>,
    /// Size of the message whose handling panics; 0 = none.
    pub(crate) panics_at_size: std::sync::atomic::AtomicUsize,
    /// A limit that is only reported panics, which is in the middle of a handshake.
    pub(crate) panics_when_limited: std::sync::atomic::AtomicBool,
    /// A handshake panics whose subprotocol the backend does not confirm: after `$connect` has said yes.
    pub(crate) panics_after_connect: std::sync::atomic::AtomicBool,
}

impl NoticeSink for Notices {
    fn take(&self, notice: Notice) {
        let panics_at_size = self.panics_at_size.load(std::sync::atomic::Ordering::Relaxed);
        let is_fatal = matches!(&notice, Notice::MessageHandled { size, .. } if *size == panics_at_size);
        assert!(panics_at_size == 0 || !is_fatal, "a planned fault");
        let panics_when_limited = self.panics_when_limited.load(std::sync::atomic::Ordering::Relaxed);
        let is_limited = matches!(&notice, Notice::WouldBeLimited { .. });
        assert!(!panics_when_limited || !is_limited, "a planned fault");
        let panics_after_connect = self.panics_after_connect.load(std::sync::atomic::Ordering::Relaxed);
        let is_after_connect = matches!(&notice, Notice::SubprotocolTrouble { .. });
        assert!(!panics_after_connect || !is_after_connect, "a planned fault");
        self.record.push(notice);
    }

    fn keeps_facts(&self) -> bool {
        true
    }
}

/// What a test wants otherwise than it is.
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) trusted_proxies: Vec<Network>,
    /// In memory unless it has to outlive the gateway.
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) max_connections: usize,
    pub(crate) debug_clients: Vec<Network>,
    pub(crate) functions: Option<Arc<dyn tidegate_core::function::FunctionRunner>>,
    pub(crate) aws: tidegate_gateway::AwsConfig,
    pub(crate) usage_plans: tidegate_gateway::UsagePlans,
    pub(crate) signature_clock: tidegate_gateway::SignatureClock,
    pub(crate) logs: Arc<dyn LogSink>,
    pub(crate) mounts: Vec<tidegate_core::app::Mount>,
    pub(crate) drain_spread: Duration,
    pub(crate) shown_query_values: Vec<Box<str>>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            credentials: Vec::new(),
            trusted_proxies: Vec::new(),
            records: Arc::new(tidegate_store::SqliteRecords::open_in_memory().unwrap()),
            max_connections: 10_000,
            debug_clients: Vec::new(),
            functions: None,
            aws: tidegate_gateway::AwsConfig::default(),
            usage_plans: tidegate_gateway::UsagePlans::default(),
            signature_clock: tidegate_gateway::SignatureClock::default(),
            logs: Arc::new(NoLogs),
            mounts: Vec::new(),
            drain_spread: Duration::from_secs(5),
            shown_query_values: Vec::new(),
        }
    }
}

/// What is deployed, and the policy of the stage.
#[derive(Debug, Clone)]
pub(crate) struct Deployed {
    /// Path and query of the backend that every route calls.
    pub(crate) target: String,
    /// Routes beside `$connect`, `$disconnect` and `$default`; they have no reply.
    pub(crate) routes: Vec<String>,
    /// Mapped headers beside those that all tests need: name and expression.
    pub(crate) headers: Vec<(String, String)>,
    /// Custom domains whose root is the stage.
    pub(crate) domains: Vec<String>,
    /// None unless a test is about one.
    pub(crate) policy: Option<Arc<Policy>>,
    /// A backend that outlives the data plane.
    pub(crate) backend: Option<SocketAddr>,
    /// What the definition has otherwise.
    pub(crate) change: Option<Change>,
    /// Live settings of the stage.
    pub(crate) stage: Stage,
}

/// A change of the definition that is deployed.
#[derive(Clone)]
pub(crate) struct Change(pub(crate) Arc<dyn Fn(&mut ApiDefinition) + Send + Sync>);

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Change")
    }
}

impl Default for Deployed {
    fn default() -> Self {
        Self {
            target: "/events?own=1".to_owned(),
            routes: Vec::new(),
            headers: Vec::new(),
            domains: Vec::new(),
            policy: None,
            backend: None,
            change: None,
            stage: Stage::default(),
        }
    }
}

impl Deployed {
    /// With another definition.
    pub(crate) fn changed(change: impl Fn(&mut ApiDefinition) + Send + Sync + 'static) -> Self {
        Self { change: Some(Change(Arc::new(change))), ..Self::default() }
    }

    /// With a policy, as it is written in JSON. It must be one without problems.
    pub(crate) fn with_policy(policy: serde_json::Value) -> Self {
        Self { policy: Some(self::policy(policy)), ..Self::default() }
    }
}

/// A policy out of its JSON form, which must be without faults (warnings are fine).
pub(crate) fn policy(policy: serde_json::Value) -> Arc<Policy> {
    let policy: Policy = serde_json::from_value(policy).unwrap();
    let problems = policy.problems();
    let mistakes: Vec<_> = problems.iter().filter(|problem| problem.is_error).collect();
    assert!(mistakes.is_empty(), "{mistakes:?}");
    Arc::new(policy)
}

/// A whole data plane.
pub(crate) struct Plane {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) backend: Arc<Backend>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Plane {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With other settings than the defaults.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut setup = Setup::default();
        change(&mut setup.settings);
        Self::start_from(setup).await
    }

    /// With a policy for the stage, in JSON.
    pub(crate) async fn start_with_policy(policy: serde_json::Value) -> Self {
        let plane = Self::start().await;
        plane.deploy(&Deployed::with_policy(policy));
        plane
    }

    /// With anything that can be otherwise.
    pub(crate) async fn start_from(setup: Setup) -> Self {
        let Setup {
            settings,
            credentials,
            trusted_proxies,
            records,
            max_connections,
            debug_clients,
            functions,
            aws,
            usage_plans,
            signature_clock,
            logs,
            mounts,
            drain_spread,
            shown_query_values,
        } = setup;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = GatewayConfig {
            node: 0,
            region: "us-east-1".to_owned(),
            account_id: "123456789012".to_owned(),
            node_settings: NodeSettings {
                credentials,
                api_keys: vec![ApiKey::of(&Secret::new("test-key"))],
                trusted_proxies,
                settings: SettingsOf { all: Arc::new(settings), by_api: HashMap::new() },
                explain_mismatch: false,
                clock_skew: Duration::from_secs(300),
                signature_hosts: Vec::new(),
                max_connections,
                debug_clients,
                probe: true,
                aws,
                shown_query_values: shown_query_values.into(),
                drain_spread,
            },
            backend_tls: rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
            records,
            token_keys: tidegate_auth::TokenKeys::new(&[[7; 32]]).unwrap(),
            read_file: ReadFile(Arc::new(|path| std::fs::read(path))),
            logs,
            functions,
            usage_plans,
            signature_clock,
            mounts,
        };
        let notices = Arc::new(Notices::default());
        let gateway = Gateway::new(config, Arc::clone(&notices) as Arc<dyn NoticeSink>).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        // Small, so that the bounds of the gateway show and not those of the system.
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = vec![
            tokio::spawn(edge::listener::serve(Arc::clone(&gateway), listener, None)),
            tokio::spawn(Arc::clone(&gateway).run_timers()),
        ];
        let backend = Backend::start().await;
        let plane = Self { gateway, backend, notices, address, tasks };
        plane.publish("/events?own=1");
        plane
    }

    /// Deploys anew; the backend is called with this target.
    pub(crate) fn publish(&self, target: &str) {
        self.publish_at(self.backend.address, target);
    }

    /// Deploys anew, with a backend elsewhere.
    pub(crate) fn publish_at(&self, backend: SocketAddr, target: &str) {
        self.deploy_at(backend, &Deployed { target: target.to_owned(), ..Deployed::default() });
    }

    /// Deploys anew.
    pub(crate) fn deploy(&self, deployed: &Deployed) {
        self.deploy_at(deployed.backend.unwrap_or(self.backend.address), deployed);
    }

    fn deploy_at(&self, backend: SocketAddr, deployed: &Deployed) {
        let mut definition = definition(backend, deployed);
        if let Some(Change(change)) = &deployed.change {
            change(&mut definition);
        }
        let definition = Arc::new(definition);
        let stage = Stage { stage_name: STAGE.to_owned(), ..deployed.stage.clone() };
        let policy = deployed.policy.clone();
        let stages = vec![LiveStage { stage, deployment: Some(definition), policy }];
        let domains = deployed.domains.iter().map(|name| {
            let mapping =
                ApiMapping { api_id: API_ID.to_owned(), stage: STAGE.to_owned(), ..ApiMapping::default() };
            (DomainName { domain_name: name.clone(), ..DomainName::default() }, vec![mapping])
        });
        self.publish_live(stages, domains.collect());
    }

    /// Pushes to everyone of the stage.
    pub(crate) async fn push_to_all(&self, payload: bytes::Bytes) -> PushResult {
        let stage = self.gateway.find_stage(API_ID, STAGE).unwrap();
        let publish = Publish { targets: vec![Target::Everyone], payload, except: HashSet::new() };
        self.gateway.push_to_many(&stage, publish, &Place::default()).await
    }

    /// Deletes the stage.
    pub(crate) fn delete_stage(&self) {
        self.publish_live(Vec::new(), Vec::new());
    }

    /// Deploys anew, with a definition that is otherwise.
    pub(crate) fn deploy_changed(&self, change: impl FnOnce(&mut ApiDefinition)) {
        let mut definition = definition(self.backend.address, &Deployed::default());
        change(&mut definition);
        let stage = Stage { stage_name: STAGE.to_owned(), ..Stage::default() };
        let deployment = Some(Arc::new(definition));
        self.publish_live(vec![LiveStage { stage, deployment, policy: None }], Vec::new());
    }

    /// A stage that nothing was deployed to.
    pub(crate) fn undeploy(&self) {
        let stage = Stage { stage_name: STAGE.to_owned(), ..Stage::default() };
        self.publish_live(vec![LiveStage { stage, deployment: None, policy: None }], Vec::new());
    }

    /// Deploys anew, with custom domains and the keys of their mappings.
    pub(crate) fn deploy_domains(&self, domains: &[(&str, &[&str])]) {
        let definition = Arc::new(definition(self.backend.address, &Deployed::default()));
        let stage = Stage { stage_name: STAGE.to_owned(), ..Stage::default() };
        let mapping = |key: &&str| ApiMapping {
            api_id: API_ID.to_owned(),
            stage: STAGE.to_owned(),
            api_mapping_key: (*key).to_owned(),
            ..ApiMapping::default()
        };
        let domains = domains.iter().map(|(name, keys)| {
            let domain = DomainName { domain_name: (*name).to_owned(), ..DomainName::default() };
            (domain, keys.iter().map(mapping).collect())
        });
        let stages = vec![LiveStage { stage, deployment: Some(definition), policy: None }];
        self.publish_live(stages, domains.collect());
    }

    /// A second listener, with TLS of these versions.
    pub(crate) async fn listen_tls(
        &mut self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> (SocketAddr, rustls::pki_types::CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed(["ws.example.com".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = edge::listener::serve(Arc::clone(&self.gateway), listener, Some(acceptor));
        self.tasks.push(tokio::spawn(serving));
        (address, certificate)
    }

    fn publish_live(&self, stages: Vec<LiveStage>, domains: Vec<(DomainName, Vec<ApiMapping>)>) {
        let api = Api { api_id: API_ID.to_owned(), ..Api::default() };
        self.gateway.publish(Live { apis: vec![Arc::new(LiveApi { api, stages })], domains });
    }

    /// A client whose handshake was accepted.
    pub(crate) async fn connect(&self) -> Client {
        self.connect_with(None).await
    }

    /// A client with socket buffers of this size.
    pub(crate) async fn connect_with(&self, buffer: Option<u32>) -> Client {
        let mut client = Client::dial(self.address, buffer).await;
        client.write(&client.handshake("", "")).await;
        assert_eq!(client.status().await, 101);
        client
    }

    /// A client with a query (`?a=b`) and header lines of its own, whose handshake was accepted.
    pub(crate) async fn connect_as(&self, query: &str, headers: &str) -> Client {
        let mut client = Client::dial(self.address, None).await;
        client.write(&client.handshake(query, headers)).await;
        assert_eq!(client.status().await, 101);
        client
    }

    /// The status of a handshake with a query and header lines of its own.
    pub(crate) async fn knock(&self, query: &str, headers: &str) -> u16 {
        let mut client = Client::dial(self.address, None).await;
        client.write(&client.handshake(query, headers)).await;
        client.status().await
    }

    /// A management call below the stage, with the key that may do everything. `path` begins with `@`.
    pub(crate) async fn manage(&self, method: &str, path: &str, body: &str) -> Reply {
        self.manage_with(method, path, "Authorization: Bearer test-key\r\n", body).await
    }

    /// A call below the stage with header lines of its own, and no key but those.
    pub(crate) async fn manage_with(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        request(self.address, method, &format!("{PATH}/{path}"), headers, body).await
    }

    /// The id that the backend was told for a client.
    pub(crate) async fn id_of(&self, client: &Client) -> String {
        let is_its = |request: &Request| request.is_event("CONNECT") && request.value(TAG) == client.tag;
        self.backend.requests.until("$connect", 1, is_its).await[0].id().to_owned()
    }

    /// The one `$disconnect` of a connection: code and reason.
    pub(crate) async fn disconnect_of(&self, id: &str) -> (u16, String) {
        let is_its = |request: &Request| request.is_event("DISCONNECT") && request.id() == id;
        let request = &self.backend.requests.until("$disconnect", 1, is_its).await[0];
        (request.value("x-code").parse().unwrap(), request.value("x-reason").to_owned())
    }

    /// Waits until nobody is connected.
    pub(crate) async fn nobody_is_left(&self) {
        eventually("an empty registry", || self.gateway.n_connections() == 0).await;
    }

    /// Drains the gateway and checks what must hold after every test.
    pub(crate) async fn end(self) {
        self.end_with(0).await;
    }

    /// As [`Self::end`], after a test that made so many connections panic.
    pub(crate) async fn end_with(self, n_panics: usize) {
        assert_eq!(self.gateway.drain(DRAIN).await, 0, "unfinished tasks");
        assert_eq!(self.gateway.n_connections(), 0);
        let mut expected: HashMap<String, (usize, usize)> = HashMap::new();
        for request in self.backend.requests.all() {
            let counts = expected.entry(request.id().to_owned()).or_default();
            if request.is_event("CONNECT") && (200..300).contains(&request.status) {
                counts.0 += 1;
            } else if request.is_event("DISCONNECT") {
                counts.1 += 1;
            }
        }
        for (id, (accepted, disconnected)) in expected {
            // S0-39, S0-55
            assert_eq!(accepted, disconnected, "$connect and $disconnect of {id}");
        }
        let notices = &self.notices.record;
        let opened = notices.count(|notice| matches!(notice, Notice::ConnectionOpened { .. }));
        let closed = notices.count(|notice| matches!(notice, Notice::ConnectionClosed { .. }));
        assert_eq!(opened, closed, "notices of opened and closed connections");
        let panicked = notices.count(|notice| matches!(notice, Notice::ConnectionPanicked { .. }));
        assert_eq!(panicked, n_panics, "notices of panics");
        let lost = notices.count(|notice| matches!(notice, Notice::DisconnectLost { .. }));
        assert_eq!(lost, 0, "lost ends");
    }
}

fn definition(backend: SocketAddr, deployed: &Deployed) -> ApiDefinition {
    let Deployed { target, routes: more_routes, headers: more_headers, .. } = deployed;
    let mapped = [
        ("connectionId", "context.connectionId"),
        ("x-event", "context.eventType"),
        ("x-code", "context.disconnectStatusCode"),
        ("x-reason", "context.disconnectReason"),
    ];
    let route = |key: &str| Route {
        route_id: key.trim_start_matches('$').to_owned(),
        route_key: key.to_owned(),
        target: Some("integrations/backend".to_owned()),
        ..Route::default()
    };
    // Messages are answered with the body of the backend, where it sends one.
    let mut routes = ["$connect", "$disconnect", "$default"].map(route).to_vec();
    routes[2].route_response_selection_expression = Some("$default".to_owned());
    routes.extend(more_routes.iter().map(|key| route(key)));
    let response = RouteResponse { route_response_key: "$default".to_owned(), ..RouteResponse::default() };
    let name = |name: &str| format!("integration.request.header.{name}");
    ApiDefinition {
        api: Api {
            api_id: API_ID.to_owned(),
            route_selection_expression: "$request.body.action".to_owned(),
            ..Api::default()
        },
        route_responses: [(routes[2].route_id.clone(), vec![response])].into_iter().collect(),
        routes,
        integrations: vec![Integration {
            integration_id: "backend".to_owned(),
            integration_type: "HTTP_PROXY".to_owned(),
            integration_uri: Some(format!("http://{backend}{target}")),
            request_parameters: Some(
                mapped
                    .into_iter()
                    .chain(more_headers.iter().map(|(target, source)| (target.as_str(), source.as_str())))
                    .map(|(target, source)| (name(target), source.to_owned()))
                    .collect(),
            ),
            ..Integration::default()
        }],
        ..ApiDefinition::default()
    }
}

/// A policy under which users come with JSON Web Tokens and clients may talk to the gateway; `more` is merged into it.
pub(crate) fn users_policy(more: serde_json::Value) -> serde_json::Value {
    let mut policy = serde_json::json!({
        "admission": { "checks": ["jwt"], "required": false },
        "jwt": {
            "keys": [{ "secret": "0123456789abcdef-0123456789abcdef", "algorithms": ["HS256"] }],
        },
        "attempts": { "per_address": 0, "per_user": 0 },
        "control": { "key": "tidegate" },
    });
    for (name, value) in more.as_object().unwrap() {
        policy[name] = value.clone();
    }
    policy
}

impl Plane {
    /// A client with a JSON Web Token of these claims; `query` begins with `&`.
    pub(crate) async fn connect_user(&self, claims: serde_json::Value, query: &str) -> Client {
        let stage = self.gateway.find_stage(API_ID, STAGE).unwrap();
        let token = self.gateway.sign_jwt(&stage, claims.as_object().unwrap()).unwrap();
        self.connect_as(&format!("?token={}{query}", token.expose()), "").await
    }

    /// The channels of a client, as the gateway says.
    pub(crate) async fn channels_of(&self, client: &Client) -> Vec<String> {
        let id = self.id_of(client).await;
        self.gateway.connection(&id).unwrap().channels
    }
}
