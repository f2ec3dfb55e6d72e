//! One request from its head to its answer.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use parking_lot::Mutex;
use tidegate_auth::Role;
use tidegate_control::ControlPlane;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::journal::{Facts, JournalStore};
use tidegate_core::notice::{Notice, Place};
use tidegate_core::port::RecordStore;
use tidegate_doctor::inspect::certificate::Certificate;
use tidegate_gateway::Gateway;
use tokio::sync::Semaphore;

use crate::audit::Audit;
use crate::call::Call;
use crate::caller::Presented;
use crate::operation::doctor::Watched;
use crate::refusal::Refusal;
use crate::reload::{Configured, Reload};
use crate::route::{self, Access, Answer, Content, Route, Verb};

/// How long a caller may take for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// What the admin API acts on.
#[derive(Debug)]
pub struct Parts {
    /// The data plane of this node.
    pub gateway: Arc<Gateway>,
    /// The definitions.
    pub control: ControlPlane,
    /// Attempts and the record of changes.
    pub records: Arc<dyn RecordStore>,
    /// What happened to connections.
    pub journal: Arc<dyn JournalStore>,
    /// Version of the program.
    pub version: &'static str,
    /// Settings, callers and surroundings, which whoever made the API may replace.
    pub configured: Arc<ArcSwap<Configured>>,
    /// Reads the configuration again.
    pub reload: Arc<dyn Reload>,
}

/// What stands around the node, for `doctor`; addresses and names only.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Clients reach the node by TLS: at a listener of its own, or, `None`, perhaps at a proxy that is trusted.
    pub has_tls: Option<bool>,
    /// A listener of the node itself ends TLS.
    pub has_own_tls: bool,
    /// Certificates of the TLS listener; the first is the server's.
    pub certificates: Vec<Certificate>,
    /// Why the files of the certificate are not in use, and an older one is.
    pub unusable_certificate: Option<String>,
    /// Addresses at which the node can be reached.
    pub addresses: Vec<IpAddr>,
    /// File with the CA that clients of pushes must trust.
    pub ca: Option<String>,
    /// Address of the CONNECT proxy.
    pub proxy: Option<String>,
    /// Base URL of the admin listener.
    pub admin: String,
    /// The newest log lines, where somebody keeps them.
    pub log: Option<Arc<dyn LogLines>>,
}

/// The newest log lines of the process; few enough to be read whole.
pub trait LogLines: Send + Sync + fmt::Debug {
    /// Oldest first, without line feeds.
    fn lines(&self) -> Vec<String>;
}

/// The HTTP surface below `/api`. Cheap to clone.
#[derive(Clone)]
pub struct AdminApi {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) control: ControlPlane,
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) journal: Arc<dyn JournalStore>,
    pub(crate) version: &'static str,
    pub(crate) started_at: Instant,
    configured: Arc<ArcSwap<Configured>>,
    pub(crate) reload: Arc<dyn Reload>,
    audit: Audit,
    pub(crate) inspecting: Semaphore,
    pub(crate) watched: Mutex<Watched>,
}

impl fmt::Debug for AdminApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminApi").finish_non_exhaustive()
    }
}

impl AdminApi {
    /// The API over these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { gateway, control, records, journal, version, configured, reload } = parts;
        let audit = Audit::new(Arc::clone(&records));
        let started_at = Instant::now();
        let inspecting = Semaphore::new(1);
        let watched = Mutex::default();
        let inner = Inner {
            gateway,
            control,
            records,
            journal,
            version,
            started_at,
            configured,
            reload,
            audit,
            inspecting,
            watched,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The OpenAPI 3.1 document, as `/api/openapi.json` answers it.
    pub fn document(version: &str) -> serde_json::Value {
        crate::document::document(version)
    }

    /// Runs the cheap checks of all APIs once: definitions, connections to backends, key sets, certificates.
    ///
    /// # Cancel safety
    /// When the future is dropped, what was found before stays.
    pub async fn watch(&self) {
        crate::operation::doctor::watch(&self.inner).await;
    }

    /// What [`Self::watch`] found last, as `GET /api/doctor` answers it.
    pub fn watched(&self) -> serde_json::Value {
        self.inner.watched.lock().shown()
    }

    /// Problems and warnings that [`Self::watch`] found last, by their ids.
    pub fn watched_counts(&self) -> Vec<(Diagnosis, u64)> {
        self.inner.watched.lock().counts()
    }

    /// Answers one request; its path begins with `/api/`. At most as much of the body is read as the route may have.
    ///
    /// # Cancel safety
    /// When the future is dropped, a change has either happened completely or not at all.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Bytes>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (parts, body) = request.into_parts();
        respond(self.answer(parts, body).await)
    }

    async fn answer<B>(&self, parts: http::request::Parts, body: B) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let inner = &self.inner;
        check_origin(&parts)?;
        let (route, path_values) = route::find(&parts.method, parts.uri.path())?;
        let needed = route.access.role();
        let configured = inner.configured();
        let presented = needed.map(|needed| configured.callers.look(&parts, needed)).transpose();
        let presented = presented.inspect_err(|refusal| inner.note_stranger(route, refusal))?;
        let now = millis();
        if let (Some(Presented::Key(caller)), Some(needed)) = (&presented, needed)
            && let Err(refusal) = caller.demand(needed)
        {
            inner.note_refusal(route, caller, &parts, &refusal, now).await;
            return Err(refusal);
        }
        let bytes = read_body(route, body).await?;
        let caller = match (presented, needed) {
            (Some(Presented::Key(caller)), _) => Some(caller),
            (Some(Presented::Signature), Some(needed)) => {
                let verified = configured.callers.verify(&parts, &bytes, needed);
                let caller = verified.inspect_err(|refusal| inner.note_stranger(route, refusal))?;
                if let Err(refusal) = caller.demand(needed) {
                    inner.note_refusal(route, &caller, &parts, &refusal, now).await;
                    return Err(refusal);
                }
                Some(caller)
            }
            _ => None,
        };
        let call = Call::read(route, path_values, &parts, bytes, caller, now)?;
        if !matches!(route.access, Access::Change(_)) {
            return (route.handler)(inner, &call).await;
        }
        // In a task of its own: a caller who leaves must not leave half a change, or one without its record.
        let inner = Arc::clone(inner);
        let change = tokio::spawn(async move { inner.change(&call).await });
        change.await.unwrap_or_else(|error| {
            let diag = Diagnosis::INTERNAL.as_str();
            tracing::error!(%error, operation = route.operation, diag, "an admin request panicked");
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, Diagnosis::INTERNAL, "Internal error"))
        })
    }
}

impl Inner {
    /// Settings, callers and surroundings as they are now.
    pub(crate) fn configured(&self) -> Arc<Configured> {
        self.configured.load_full()
    }

    /// Unlike every other one, and not secret: it keys the hashes of one run of `doctor`.
    pub(crate) fn nonce(&self) -> String {
        self.gateway.nonce()
    }

    async fn note_refusal(
        &self,
        route: &Route,
        caller: &crate::caller::Caller,
        parts: &http::request::Parts,
        refusal: &Refusal,
        now: u64,
    ) {
        self.note_call(route, caller.name.clone(), refusal);
        if matches!(route.access, Access::Change(_)) {
            self.audit.refused(route, caller, parts.uri.path(), refusal, now).await;
        }
    }

    /// Somebody who could not prove to be anybody.
    fn note_stranger(&self, route: &Route, refusal: &Refusal) {
        self.note_call(route, String::new(), refusal);
    }

    /// A call that was refused for who made it, for the journal.
    fn note_call(&self, route: &Route, actor: String, refusal: &Refusal) {
        let facts = Facts::none()
            .with("object", route.operation)
            .with("method", route.method.as_str())
            .with("status", refusal.status.as_u16());
        let (place, refused) = (Place::default(), Diagnosis::find(refusal.id));
        self.gateway.notice(Notice::Controlled { place, what: "call", actor, refused, facts });
    }

    async fn change(&self, call: &Call) -> Answer {
        // Every route that changes something demands a role, so there is somebody who has it.
        let Some(caller) = &call.caller else {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                Diagnosis::MANAGEMENT_UNSIGNED,
                "Who are you?",
            ));
        };
        let entry = self
            .audit
            .begin(call.route, caller, &call.path, call.query(), call.now)
            .await
            .map_err(|error| Refusal::store(&error))?;
        let answer = (call.route.handler)(self, call).await;
        self.audit.end(entry, &answer).await;
        self.note_change(call, caller, &answer);
        answer
    }
}

impl Inner {
    /// A change for the journal: what explains later why connections ended or behave otherwise. Pushes and tokens have
    /// notices of their own.
    fn note_change(&self, call: &Call, caller: &crate::caller::Caller, answer: &Answer) {
        let route = call.route;
        let is_told =
            ["/api/users/{id}", "/api/sessions", "/api/connections/{id}", "/api/cleanup", "/api/revocations"]
                .iter()
                .any(|prefix| route.path.starts_with(prefix))
                && !route.path.ends_with("/send");
        if !is_told && route.access != Access::Change(Role::Administer) {
            return;
        }
        let what = match route.method {
            Verb::Delete => "delete",
            _ if route.operation == "cleanUp" => "clean-up",
            _ => "change",
        };
        let id = call.path("id");
        let user = route.path.starts_with("/api/users/").then(|| id.into());
        let place = Place {
            api_id: call.path("api").into(),
            stage: call.path("stage").into(),
            connection_id: ConnectionId::parse(id).ok(),
            user,
            ..Place::default()
        };
        let facts = Facts::none().with("object", route.operation).with("method", route.method.as_str());
        let refused = answer.as_ref().err().and_then(|refusal| Diagnosis::find(refusal.id));
        let actor = caller.name.clone();
        self.gateway.notice(Notice::Controlled { place, what, actor, refused, facts });
    }
}

fn millis() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default()
}

/// Pages of other origins have no business here. There are no cookies, so this is a second wall.
fn check_origin(parts: &http::request::Parts) -> Result<(), Refusal> {
    let Some(origin) = parts.headers.get(ORIGIN) else { return Ok(()) };
    let host = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = host.or_else(|| parts.headers.get(HOST).map(HeaderValue::as_bytes));
    let origin = origin.as_bytes();
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    match (authority, host) {
        (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            Diagnosis::ORIGIN_NOT_ALLOWED,
            "Pages of other origins may not use the admin API",
        )),
    }
}

async fn read_body<B>(route: &Route, body: B) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let limit = route.max_body;
    let too_large = || {
        let message = format!("The body has more than {limit} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Diagnosis::ADMIN_TOO_LARGE, message)
    };
    // An announced length is enough to refuse.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::malformed("The body broke off")),
        Err(_) => Err(Refusal::malformed("The body did not come in time")),
    }
}

fn respond(answer: Answer) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match answer {
        Ok(reply) => {
            let bytes = match reply.body {
                Content::Json(body) => body.to_string(),
                Content::Toml(text) => {
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/toml"));
                    text
                }
            };
            *response.body_mut() = Bytes::from(bytes);
        }
        Err(refusal) => {
            if refusal.status == StatusCode::UNAUTHORIZED {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\""));
            }
            if let Some(seconds) = refusal.retry_after {
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            if let Some(allow) = refusal.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok())
            {
                headers.insert(ALLOW, allow);
            }
            *response.body_mut() = Bytes::from(refusal.body().to_string());
            *response.status_mut() = refusal.status;
        }
    }
    response
}
