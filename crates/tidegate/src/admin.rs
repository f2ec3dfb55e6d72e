//! The admin listener: the control plane under `/v2`, Tidegate's own API under `/api`, metrics, health, and the page of
//! `tidegate dev`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use serde_json::{Map, Value, json};
use tidegate_admin::AdminApi;
use tidegate_control::{Because, ControlPlane, RestApi};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::notice::{Notice, Place};
use tidegate_doctor::journal::Journal;
use tidegate_gateway::Gateway;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::apps::Counted;
use crate::certificates::Certificates;
use crate::demo::{self, Demo};
use crate::invoke_api::{self, InvokeApi};
use crate::log_targets::LogTargets;
use crate::metrics::{self, Metrics};

/// Largest body of an admin request, in bytes: a definition with its templates.
const MAX_BODY: usize = 1024 * 1024;

/// How long an admin client may take for its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Open admin connections; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 512;

/// Longest path of a refused call that is kept, in characters.
const MAX_SHOWN: usize = 200;

/// Longest access key id, in bytes. Source: AWS.
const MAX_ACCESS_KEY: usize = 128;

const PAGE: &str = include_str!("../assets/dev.html");
const SCRIPT: &str = include_str!("../assets/dev.js");
const STYLE: &str = include_str!("../assets/dev.css");

/// The page may load its own script and style, connect to WebSockets, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// As [`PAGE_POLICY`]; where it may connect to is added.
const EXAMPLE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

pub(crate) struct Admin {
    rest: RestApi,
    api: AdminApi,
    control: ControlPlane,
    gateway: Arc<Gateway>,
    observed: Observed,
    is_dev: bool,
    demo: RwLock<Value>,
    /// Example pages, and the public listener's address. Set once, by `dev --app`.
    examples: OnceLock<(Arc<Demo>, SocketAddr)>,
    /// Where functions run on this machine.
    invoke: Option<InvokeApi>,
}

/// What is counted and kept of what happens.
pub(crate) struct Observed {
    pub(crate) metrics: Arc<Metrics>,
    /// None where nothing is kept.
    pub(crate) journal: Option<Arc<Journal>>,
    pub(crate) logs: Arc<LogTargets>,
    pub(crate) apps: Counted,
    pub(crate) certificates: Option<Arc<Certificates>>,
}

impl Admin {
    pub(crate) fn new(
        rest: RestApi,
        api: AdminApi,
        control: ControlPlane,
        gateway: Arc<Gateway>,
        observed: Observed,
        is_dev: bool,
        invoke: Option<InvokeApi>,
    ) -> Self {
        Self {
            rest,
            api,
            control,
            gateway,
            observed,
            is_dev,
            demo: RwLock::new(Value::Null),
            examples: OnceLock::new(),
            invoke,
        }
    }

    pub(crate) fn set_demo(&self, demo: Value) {
        *self.demo.write() = demo;
    }

    pub(crate) fn set_examples(&self, demo: Arc<Demo>, public: SocketAddr) {
        // Set once, before anybody knows the address.
        let _ = self.examples.set((demo, public));
    }

    /// A file of an example page, or what it needs to know.
    fn example(&self, request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        let (demo, public) = self.examples.get()?;
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let public = demo::public_as_seen(*public, host);
        let mut reply = match demo.find(request.uri().path())? {
            demo::Asked::File(file) => {
                let mut reply = text(file.content_type, file.text.to_owned());
                let policy = format!("{EXAMPLE_POLICY}; connect-src 'self' http://{public} ws://{public}");
                if let Ok(policy) = HeaderValue::from_str(&policy) {
                    reply.headers_mut().insert("content-security-policy", policy);
                }
                reply
            }
            demo::Asked::Data if demo::is_own_host(host) => {
                let mut data = self.demo.read().clone();
                if let (Some(data), Value::Object(more)) = (data.as_object_mut(), demo.data(public)) {
                    data.extend(more);
                }
                json_reply(StatusCode::OK, &data)
            }
            demo::Asked::Data => json_reply(
                StatusCode::FORBIDDEN,
                &json!({ "message": "Tokens are only for pages under an IP address or localhost" }),
            ),
        };
        reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(reply)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if path.starts_with("/v2/") || path == "/v2" {
            let (head, body) = request.into_parts();
            return match Limited::new(body, MAX_BODY).collect().await {
                Ok(body) => {
                    let asked = Asked::of(&head);
                    let answer = self.rest.handle(Request::from_parts(head, body.to_bytes())).await;
                    match answer.extensions().get::<Because>() {
                        Some(because) => self.note_refusal(asked, answer.status(), because.clone()),
                        None => self.note_change(asked, answer.status()),
                    }
                    answer.map(Full::new)
                }
                Err(_) => {
                    json_reply(StatusCode::PAYLOAD_TOO_LARGE, &json!({ "message": "Request too large" }))
                }
            };
        }
        if let Some(invoke) = self.invoke.as_ref().filter(|_| InvokeApi::is_its(path)) {
            let (head, body) = request.into_parts();
            let asked = Asked::of(&head);
            return match Limited::new(body, invoke_api::MAX_BODY).collect().await {
                Ok(body) => {
                    let answer = invoke.handle(Request::from_parts(head, body.to_bytes())).await;
                    if let Some(because) = answer.extensions().get::<Because>() {
                        self.note_refusal(asked, answer.status(), because.clone());
                    }
                    answer
                }
                Err(_) => {
                    json_reply(StatusCode::PAYLOAD_TOO_LARGE, &json!({ "message": "Request too large" }))
                }
            };
        }
        if path.starts_with("/api/") {
            return self.api.handle(request).await.map(Full::new);
        }
        if let Some(reply) = self.example(&request) {
            return reply;
        }
        match path {
            "/healthz" | "/livez" => json_reply(StatusCode::OK, &json!({ "status": "ok" })),
            "/readyz" if self.gateway.is_draining() => json_reply(
                StatusCode::SERVICE_UNAVAILABLE,
                &json!({ "status": "draining", "id": "node.draining" }),
            ),
            "/readyz" => {
                let mut body = json!({ "status": "ready" });
                if request.uri().query().is_some_and(|query| query.split('&').any(|name| name == "verbose")) {
                    // Ids and counts only: whoever may ask for the findings asks `/api/doctor`.
                    let counts = self.api.watched_counts();
                    let counts: serde_json::Map<String, Value> = counts
                        .into_iter()
                        .map(|(id, count)| (id.as_str().to_owned(), count.into()))
                        .collect();
                    body["doctor"] = json!({ "at": self.api.watched()["at"], "findings": counts });
                }
                // Nobody should have to be told that payloads are being kept.
                if self.gateway.capture().is_some_and(|capture| capture.is_active) {
                    body["capture"] = "active".into();
                }
                // It serves, and will not any more when the old certificate ends.
                let certificates = self.observed.certificates.as_ref();
                if certificates.is_some_and(|certificates| certificates.problem().is_some()) {
                    body["certificate"] = "not renewed".into();
                }
                json_reply(StatusCode::OK, &body)
            }
            "/metrics" => {
                text("application/openmetrics-text; version=1.0.0; charset=utf-8", self.metrics_page())
            }
            "/" if self.is_dev => {
                let mut reply = text("text/html; charset=utf-8", PAGE.to_owned());
                reply.headers_mut().insert("content-security-policy", HeaderValue::from_static(PAGE_POLICY));
                reply
            }
            "/dev.js" if self.is_dev => text("text/javascript; charset=utf-8", SCRIPT.to_owned()),
            "/dev.css" if self.is_dev => text("text/css; charset=utf-8", STYLE.to_owned()),
            "/dev.json" if self.is_dev => json_reply(StatusCode::OK, &self.demo.read()),
            _ if path.contains("connections") => {
                let (head, _) = request.into_parts();
                let asked = Asked::of(&head);
                let diagnosis = Diagnosis::MANAGEMENT_WRONG_LISTENER;
                let facts = Facts::none().with("listener", "admin");
                self.note_refusal(asked, StatusCode::NOT_FOUND, Because { diagnosis, facts });
                let message = "Not found here: @connections is on the public listener";
                json_reply(
                    StatusCode::NOT_FOUND,
                    &json!({ "message": message, "id": "management.wrong-listener" }),
                )
            }
            _ => json_reply(StatusCode::NOT_FOUND, &json!({ "message": "Not Found" })),
        }
    }
}

impl Admin {
    fn metrics_page(&self) -> String {
        let counts = self.observed.journal.as_ref().map(|journal| journal.counts()).unwrap_or_default();
        let Counted { chat, alerts } = &self.observed.apps;
        let mut of_apps = String::new();
        if let Some(alerts) = alerts {
            of_apps.push_str(&metrics::alerts(&alerts.metrics()));
        }
        if let Some(chat) = chat {
            of_apps.push_str(&metrics::chat(&chat.numbers()));
        }
        self.observed.metrics.page(
            self.gateway.n_connections(),
            counts,
            self.observed.logs.counts(),
            &of_apps,
        )
    }

    /// A call that was refused for a known cause, for the journal. Who made it may be anybody.
    fn note_refusal(&self, asked: Asked, status: StatusCode, because: Because) {
        let Because { diagnosis, mut facts } = because;
        facts.add("object", asked.path.chars().take(MAX_SHOWN).collect::<String>());
        facts.add("method", asked.method.as_str().chars().take(16).collect::<String>());
        facts.add("status", status.as_u16());
        let known = self.control.live();
        let known = known.apis.iter().find(|api| Some(api.api.api_id.as_str()) == asked.api_id());
        let api_id = known.map(|api| api.api.api_id.as_str()).unwrap_or_default();
        let place = Place { api_id: api_id.into(), ..Place::default() };
        let (what, actor) = (asked.what(), asked.known_actor());
        self.gateway.notice(Notice::Controlled { place, what, actor, refused: Some(diagnosis), facts });
    }

    /// A change of definitions, for the journal. Only of callers whose signature was accepted.
    fn note_change(&self, asked: Asked, status: StatusCode) {
        if !status.is_success() || asked.method == Method::GET {
            return;
        }
        let what = asked.what();
        let api_id = asked.api_id().unwrap_or("");
        let mut facts = Facts::none()
            .with("object", asked.path.as_str())
            .with("method", asked.method.as_str())
            .with("status", status.as_u16());
        let hashes = snapshot_hashes(&self.control, api_id);
        if !hashes.is_empty() {
            facts.add("snapshotHash", Value::Object(hashes));
        }
        let place = Place { api_id: api_id.into(), ..Place::default() };
        self.gateway.notice(Notice::Controlled { place, what, actor: asked.actor, refused: None, facts });
    }
}

/// What is left of a request after it was answered.
struct Asked {
    method: Method,
    path: String,
    /// Access key id, as presented.
    actor: String,
}

impl Asked {
    fn what(&self) -> &'static str {
        match self.method {
            _ if !self.path.starts_with("/v2") => "call",
            Method::GET => "read",
            Method::DELETE => "delete",
            Method::POST if self.path.ends_with("/deployments") => "deploy",
            _ => "change",
        }
    }

    fn api_id(&self) -> Option<&str> {
        self.path.strip_prefix("/v2/apis/")?.split('/').next()
    }

    /// The presented access key id, if it has the form of one: a caller who was refused may have written anything there.
    fn known_actor(&self) -> String {
        let is_id =
            self.actor.len() <= MAX_ACCESS_KEY && self.actor.bytes().all(|b| b.is_ascii_alphanumeric());
        if is_id { self.actor.clone() } else { String::new() }
    }

    fn of(head: &http::request::Parts) -> Self {
        let scope = credential_scope(head);
        let id = scope.as_deref().and_then(|scope| scope.split('/').next());
        Self {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            actor: id.unwrap_or_default().to_owned(),
        }
    }
}

/// `AKID/20300102/us-east-1/...` of a signature, in the header or, with another name and encoded, in the query.
pub(crate) fn credential_scope(head: &http::request::Parts) -> Option<String> {
    let header = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let query = head.uri.query().unwrap_or_default();
    let (_, rest) = header.split_once("Credential=").or_else(|| query.split_once("X-Amz-Credential="))?;
    Some(rest.split([',', '&', ' ']).next()?.replace("%2F", "/").replace("%2f", "/"))
}

/// For each stage of an API the first half of the SHA-256 of what is deployed there: equal contents have equal hashes.
fn snapshot_hashes(control: &ControlPlane, api_id: &str) -> Map<String, Value> {
    let live = control.live();
    let Some(api) = live.apis.iter().find(|api| api.api.api_id == api_id) else { return Map::new() };
    let hash = |stage: &tidegate_core::definition::LiveStage| {
        let bytes = serde_json::to_vec(stage.deployment.as_deref()?).ok()?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        Some((stage.stage.stage_name.clone(), hex::encode(digest.as_ref().get(..16)?).into()))
    };
    api.stages.iter().filter_map(hash).collect()
}

/// Serves until it is dropped.
pub(crate) async fn serve(admin: Arc<Admin>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let admin = Arc::clone(&admin);
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let admin = Arc::clone(&admin);
                async move { Ok::<_, Infallible>(admin.answer(request).await) }
            });
            // A caller who breaks off is its own trouble.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn text(content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    reply
}

fn json_reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut reply = text("application/json", body.to_string());
    *reply.status_mut() = status;
    reply
}
