//! The handshake, from a resolved address to the 101.
//!
//! The order is the type: an [`UpgradeRequest`] is admitted, [`Admitted`] is accepted, and only
//! [`OpenConnection`] can be run. Each step consumes the one before, so nothing is answered 101 before
//! `$connect` has said yes, and nothing is accepted twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::Map;
use tidegate_auth::{BEARER_SUBPROTOCOL, offered_subprotocols};
use tidegate_core::app;
use tidegate_core::context::{ConnectionFacts, Event, EventKind, error_body};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::journal::{self, Facts};
use tidegate_core::mapping::query_values;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::settings::{PendingPosts, Switch};
use tidegate_core::snapshot::{Authorization, Deployment, Route, Stage, StagePolicy};
use tidegate_ws::{CloseCode, CloseFrame, DeflateParams, extension, handshake};

use super::address::Address;
use super::attempt::{Attempt, is_token_shaped, offered, short, without_token};
use super::client_address::ClientAddress;
use super::client_reference::{self, Ended as EndedAttempt};
use super::refusal::{self, refuse, set_retry_after};
use super::remark;
use super::service::{Opened, Opening};
use super::{Reply, json};
use crate::admission::{self, Decision, Established, Handshake, Outcome as AttemptOutcome, Refused};
use crate::apps;
use crate::channels::By;
use crate::clock::now_millis;
use crate::connection::close_reason;
use crate::connection::handle::Handle;
use crate::connection::socket::Socket;
use crate::connection::task;
use crate::gateway::{Gateway, going_away};
use crate::integration::http::is_hop_by_hop;
use crate::integration::{self, Answer, AppAnswer, Failure};
use crate::timer_wheel::Kind;

/// Seconds after which somebody may try again whom a node refuses that is going down: longer than most restarts take.
const RETRY_SECONDS: u64 = 5;

/// A well-formed handshake for a deployed stage. Nobody has been asked yet.
struct UpgradeRequest {
    stage: Arc<Stage>,
    deployment: Arc<Deployment>,
    headers: HeaderMap,
    query: String,
    client: ClientAddress,
    domain_name: Arc<str>,
    accept_key: String,
    /// Subprotocols that may be answered: without the pair that carries a token, where somebody looks for one.
    offered: Vec<String>,
    has_bearer: bool,
    attempt: Attempt,
    progress: Arc<Progress>,
}

/// How far a handshake has come, for whoever is left when its task or its client is gone.
#[derive(Debug, Default)]
struct Progress {
    /// Milliseconds after which the client left, plus one; 0 = it is there.
    left_after: AtomicU64,
    /// Its identity is being established.
    is_authenticating: AtomicBool,
}

impl Progress {
    /// Milliseconds that the client waited before it left.
    fn left_after(&self) -> Option<u64> {
        self.left_after.load(Ordering::Relaxed).checked_sub(1)
    }
}

/// Notes when the client leaves: the HTTP library then drops the future that waits for the answer.
struct Waiting {
    progress: Arc<Progress>,
    started: Instant,
    is_answered: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_answered {
            let waited = self.started.elapsed().as_millis() as u64;
            self.progress.left_after.store(waited + 1, Ordering::Relaxed);
        }
    }
}

/// A handshake that limits and identity allow; it has its connection id.
struct Admitted {
    request: UpgradeRequest,
    handle: Arc<Handle>,
    request_id: RequestId,
}

/// A handshake of which is known whose it is.
struct Identified {
    admitted: Admitted,
    established: Established,
}

/// `$connect` has said yes. Dropping it without running it ends the connection with 1006, so that the backend
/// hears of every connection that it has accepted.
pub(crate) struct OpenConnection {
    inner: Option<(Arc<Gateway>, Arc<Handle>)>,
    /// Set when the connection exists only to tell a page why it was refused.
    refusal: Option<CloseFrame>,
    deflate: Option<DeflateParams>,
    attempt: Attempt,
    progress: Arc<Progress>,
}

/// The answer and, when it is a 101, the connection.
type Outcome = Result<(Reply, OpenConnection), Reply>;

/// Answers a handshake. The accepted connection is left in `opened` for the owner of the socket.
pub(crate) async fn serve(
    gateway: &Arc<Gateway>,
    opened: &Opened,
    address: Address,
    client: ClientAddress,
    request: Request<Incoming>,
    attempt: Attempt,
) -> Reply {
    let upgrade = match UpgradeRequest::parse(gateway, address, client, request, attempt) {
        Ok(upgrade) => upgrade,
        Err(reply) => return reply,
    };
    let admitted = match upgrade.admit(gateway) {
        Ok(admitted) => admitted,
        Err(refused) => return deliver(opened, *refused),
    };
    let attempt = admitted.request.attempt.without_facts();
    let progress = Arc::clone(&admitted.request.progress);
    // A task of its own: when the client leaves, the HTTP library drops this future, but a `$connect` that has
    // begun runs to its end. What it opened is then dropped, and the backend hears of that.
    let run = {
        let gateway = Arc::clone(gateway);
        let unfinished = Unfinished { gateway: Arc::clone(&gateway), handle: Arc::clone(&admitted.handle) };
        async move {
            let _unfinished = unfinished;
            match admitted.establish(&gateway).await {
                Ok(identified) => identified.accept(gateway).await,
                Err(refused) => *refused,
            }
        }
    };
    let mut waiting =
        Waiting { progress: Arc::clone(&progress), started: attempt.started, is_answered: false };
    let accept = gateway.tasks.spawn(run);
    let ended = accept.await;
    waiting.is_answered = true;
    match ended {
        Ok(outcome) => deliver(opened, outcome),
        Err(_) => {
            let detail = match progress.is_authenticating.load(Ordering::Relaxed) {
                true => "the handshake task failed while the identity was established",
                false => "the handshake task failed",
            };
            refuse(gateway, attempt, ErrorCode::Internal, None, detail)
        }
    }
}

/// Says what a handshake like this would come to, without one: the same checks with the same limits, but no token is
/// spent, no backend is asked to connect, and nothing opens.
pub(crate) async fn check(
    gateway: &Arc<Gateway>,
    address: Address,
    client: ClientAddress,
    request: Request<Incoming>,
    attempt: Attempt,
) -> Reply {
    let admitted = match UpgradeRequest::parse(gateway, address, client, request, attempt) {
        Ok(upgrade) => upgrade.admit(gateway),
        Err(reply) => return reply,
    };
    let refused = match admitted {
        Ok(admitted) => {
            let _unfinished =
                Unfinished { gateway: Arc::clone(gateway), handle: Arc::clone(&admitted.handle) };
            match admitted.establish(gateway).await {
                Ok(identified) => match identified.pass(gateway).await {
                    Ok(reply) => return reply,
                    Err(refused) => refused,
                },
                Err(refused) => refused,
            }
        }
        Err(refused) => refused,
    };
    match *refused {
        Err(reply) => reply,
        // A refusal of a check is never told as a close.
        Ok((reply, _)) => reply,
    }
}

/// Leaves what was opened to the owner of the socket.
fn deliver(opened: &Opened, outcome: Outcome) -> Reply {
    match outcome {
        Ok((reply, connection)) => {
            *opened.lock() = Some(Opening::Connection(Box::new(connection)));
            reply
        }
        Err(reply) => reply,
    }
}

/// Frees the place of a handshake whose task ended without an outcome, because something in it panicked.
struct Unfinished {
    gateway: Arc<Gateway>,
    handle: Arc<Handle>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.handle.is_pending() {
            release(&self.gateway, &self.handle);
        }
    }
}

/// Frees the id of a handshake that does not become a connection, and everything it has joined.
fn release(gateway: &Gateway, handle: &Arc<Handle>) {
    let id = handle.facts.connection_id;
    handle.finish();
    gateway.leave_all(handle);
    gateway.disconnects.strike_out(id);
    gateway.registry.remove(id, Diagnosis::GONE_REFUSED, 0, now_millis());
    gateway.handshake_over.notify_waiters();
}

impl UpgradeRequest {
    fn parse(
        gateway: &Gateway,
        address: Address,
        client: ClientAddress,
        request: Request<Incoming>,
        mut attempt: Attempt,
    ) -> Result<Self, Reply> {
        let (head, _) = request.into_parts();
        if gateway.is_draining() {
            let told = reword(gateway, &address.stage, &client, &attempt, ErrorCode::Draining);
            let request_id = attempt.request_id();
            let mut reply = refuse(gateway, attempt, ErrorCode::Draining, None, "");
            set_retry_after(reply.headers_mut(), Some(RETRY_SECONDS));
            return Err(with_words(reply, told.as_ref(), None, request_id));
        }
        let Some(deployment) = address.stage.deployment.clone() else {
            let diagnosis = Some(Diagnosis::STAGE_NOT_DEPLOYED);
            return Err(refuse(gateway, attempt, ErrorCode::Forbidden, diagnosis, ""));
        };
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let mut accept_key = String::new();
        if !attempt.is_dry_run {
            if text("sec-websocket-version") != Some("13") {
                attempt.note("check", "version");
                let diagnosis = Some(Diagnosis::HANDSHAKE_MALFORMED);
                let mut reply = refuse(gateway, attempt, ErrorCode::UpgradeRequired, diagnosis, "version");
                reply.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
                reply.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
                return Err(reply);
            }
            let keys = head.headers.get_all("sec-websocket-key").iter().count();
            let Some(key) = text("sec-websocket-key").filter(|key| keys == 1 && handshake::is_valid_key(key))
            else {
                attempt.note("check", "key");
                return Err(refuse(gateway, attempt, ErrorCode::BadHandshake, None, "Sec-WebSocket-Key"));
            };
            accept_key = handshake::accept_key(key);
        }
        remark::on_deployment(gateway, &attempt, &deployment);
        let (offered, has_bearer) = match &address.stage.policy {
            // Nobody looks for a token: the names are the client's and the backend's own.
            None => (list(&head.headers, "sec-websocket-protocol"), false),
            Some(_) => {
                let offered = offered_subprotocols(&head.headers);
                (offered.others.into_iter().map(str::to_owned).collect(), offered.has_bearer)
            }
        };
        Ok(Self {
            offered,
            has_bearer,
            accept_key,
            stage: address.stage,
            deployment,
            query: client_reference::strip(head.uri.query().unwrap_or_default()),
            headers: head.headers,
            client,
            domain_name: address.domain_name,
            attempt,
            progress: Arc::default(),
        })
    }

    /// What the checks of the stage's policy look at.
    fn handshake<'a>(&'a self, policy: &'a Arc<StagePolicy>, now: u64) -> Handshake<'a> {
        Handshake {
            stage: &self.stage,
            policy,
            headers: &self.headers,
            query: &self.query,
            domain: &self.domain_name,
            address: self.client.ip,
            now,
            keeps_facts: self.attempt.keeps_facts,
            is_dry_run: self.attempt.is_dry_run,
        }
    }

    /// Limits that need no identity. No byte has been answered yet.
    fn admit(mut self, gateway: &Arc<Gateway>) -> Result<Admitted, Box<Outcome>> {
        let now = now_millis();
        let n_connections = gateway.n_connections();
        if n_connections >= gateway.config.max_connections {
            self.attempt.note("limit", gateway.config.max_connections);
            self.attempt.note("count", n_connections);
            self.attempt.note("of", "node");
            let code = ErrorCode::ConnectionsExhausted;
            let told = reword(gateway, &self.stage, &self.client, &self.attempt, code);
            let request_id = self.attempt.request_id();
            let reply = refuse(gateway, self.attempt, code, None, "");
            return Err(Box::new(Err(with_words(reply, told.as_ref(), None, request_id))));
        }
        if let Err(limit) = gateway.account.admit_connect(now) {
            self.attempt.note("of", "account");
            self.attempt.note("limit", limit.rate);
            self.attempt.note("burst", limit.burst);
            self.attempt.note("windowSeconds", 1);
            let diagnosis = Some(Diagnosis::RATELIMIT_ACCOUNT);
            let reply = refuse(gateway, self.attempt, ErrorCode::Throttled, diagnosis, "");
            return Err(Box::new(Err(reply)));
        }
        if !gateway.throttles.admit(&self.stage, "$connect", now) {
            if let Some(throttle) = self.stage.throttle("$connect") {
                self.attempt.note("limit", throttle.rate);
                self.attempt.note("burst", throttle.burst);
                self.attempt.note("windowSeconds", 1);
            }
            return Err(Box::new(Err(refuse(gateway, self.attempt, ErrorCode::Throttled, None, ""))));
        }
        if let Some(policy) = &self.stage.policy {
            let handshake = self.handshake(policy, now);
            if let Err(refused) = admission::check_arrival(gateway, &handshake) {
                let row = refused.code.row();
                gateway.attempts.on_end(&handshake, &refused.outcome(row.status), gateway.next_random());
                self.attempt.note("check", refused.check);
                self.attempt.note_all(refused.facts);
                self.note_close_code(row.status);
                let told = apps::reword(
                    gateway,
                    &self.stage,
                    &app::Refused {
                        diagnosis: refused.diagnosis,
                        status: row.status,
                        address: self.client.ip,
                        now,
                        is_dry_run: self.attempt.is_dry_run,
                        facts: &Facts::none(),
                    },
                );
                let light = self.attempt.without_facts();
                let attempt = std::mem::replace(&mut self.attempt, light);
                let more = Map::from_iter([("check".to_owned(), refused.check.into())]);
                let diagnosis = Some(refused.diagnosis);
                let mut reply =
                    refusal::refuse_as(gateway, attempt, refused.code, diagnosis, &refused.detail, more);
                set_retry_after(reply.headers_mut(), refused.retry_after);
                let place = self.attempt.place.clone();
                let reply = with_words(reply, told.as_ref(), None, self.attempt.request_id());
                let close = self.closing(told.as_ref(), reply.status().as_u16());
                self.note_refused_after_open(gateway, &place, refused.diagnosis, close.as_ref());
                return Err(Box::new(self.refused(reply, close)));
            }
        }
        let Some(reservation) = gateway.registry.reserve(now) else {
            self.attempt.note("of", "node");
            let code = ErrorCode::ConnectionsExhausted;
            return Err(Box::new(Err(refuse(gateway, self.attempt, code, None, "no slot is free"))));
        };
        let settings = &self.stage.settings;
        let facts = Arc::new(ConnectionFacts {
            connection_id: reservation.connection_id,
            api_id: Arc::clone(&self.stage.api_id),
            stage: Arc::clone(&self.stage.name),
            domain_name: match &settings.context.domain_name {
                Some(told) => told.as_str().into(),
                None => Arc::clone(&self.domain_name),
            },
            source_ip: self.client.ip,
            user_agent: self
                .headers
                .get(http::header::USER_AGENT)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned().into_boxed_str()),
            is_secure: self.client.is_secure,
            client_port: self.client.port,
            connected_at: now,
        });
        let jitter = match settings.data_plane.jitter() {
            None => 0,
            Some(longest) => gateway.next_random() % (longest.as_millis() as u64).max(1),
        };
        let age_deadline = settings
            .data_plane
            .age()
            .map_or(u64::MAX, |age| now + (age.as_millis() as u64).saturating_sub(jitter).max(1));
        let accepts_pending =
            !self.attempt.is_dry_run && settings.management.pending_posts == PendingPosts::Queue;
        let mut kept = kept_headers(&self.headers, &settings.integration.forward_handshake);
        if self.has_bearer
            && let Some(kept) = &mut kept
        {
            self.strip_token(kept);
        }
        let handle =
            Arc::new(Handle::new(facts, Arc::clone(&self.stage), kept, accepts_pending, age_deadline));
        // Recorded before any backend hears of the id, so that an early post to it can be told apart.
        gateway.registry.insert(&handle);
        // The stage may have been deleted since its look-up, after whoever deleted it had visited the registry.
        if gateway.stage(&self.stage.api_id, &self.stage.name).is_none() {
            handle.close(going_away(close_reason::GOING_AWAY, Diagnosis::API_BEING_DELETED));
        }
        self.attempt.place.connection_id = Some(handle.facts.connection_id);
        let request_id = self.attempt.request_id();
        Ok(Admitted { request: self, handle, request_id })
    }

    /// Leaves the offered subprotocols without the token that came among them: nobody behind the gateway needs it.
    fn strip_token(&self, headers: &mut HeaderMap) {
        if headers.remove(SEC_WEBSOCKET_PROTOCOL).is_none() || self.offered.is_empty() {
            return;
        }
        if let Ok(others) = HeaderValue::from_str(&self.offered.join(", ")) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
        }
    }

    /// The stage's own choice of a subprotocol, where no backend chooses.
    fn own_subprotocol(&self) -> Option<&str> {
        let known = &self.stage.settings.api.subprotocols;
        known.iter().find(|known| self.offered.contains(known)).map(String::as_str)
    }

    /// The 101, with the headers that the backend adds to it.
    fn switching_protocols(
        &self,
        request_id: RequestId,
        answered: Option<&HeaderMap>,
        subprotocol: Option<&str>,
    ) -> (Reply, Option<DeflateParams>) {
        let mut reply = super::empty(101);
        let headers = reply.headers_mut();
        for (name, value) in answered.into_iter().flatten().filter(|(name, _)| is_passed_on(name)) {
            headers.append(name.clone(), value.clone());
        }
        if let Some(value) = subprotocol.and_then(|name| HeaderValue::from_str(name).ok()) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
        let mut deflate = None;
        if self.stage.settings.data_plane.compression == Switch::On
            && let offers = list(&self.headers, "sec-websocket-extensions").join(", ")
            && let Some((params, response)) = extension::negotiate(&offers)
            && let Ok(value) = HeaderValue::from_str(&response)
        {
            headers.insert("sec-websocket-extensions", value);
            deflate = Some(params);
        }
        headers.insert("upgrade", HeaderValue::from_static("websocket"));
        headers.insert("connection", HeaderValue::from_static("Upgrade"));
        if let Ok(value) = HeaderValue::from_str(&self.accept_key) {
            headers.insert("sec-websocket-accept", value);
        }
        set_ids(headers, &request_id.to_string());
        (reply, deflate)
    }

    /// With which code a refusal is told as an end; nothing where it is told by its status.
    fn refusal_close_code(&self, status: u16) -> Option<u16> {
        let is_close = self.stage.settings.connect.reject_as_close && !self.attempt.is_dry_run;
        is_close.then(|| 4000 + status.min(999))
    }

    fn note_close_code(&mut self, status: u16) {
        if let Some(close_code) = self.refusal_close_code(status) {
            self.attempt.note("closeCode", close_code);
        }
    }

    /// A refusal that the client sees as an end has an entry as such.
    fn note_refused_after_open(
        &self,
        gateway: &Gateway,
        place: &Place,
        cause: Diagnosis,
        close: Option<&CloseFrame>,
    ) {
        let Some(close_code) = close.map(|close| close.code.as_u16()) else { return };
        let facts =
            gateway.facts(|| Facts::none().with("closeCode", close_code).with("causeId", cause.as_str()));
        gateway.notice(Notice::Decided {
            place: place.clone(),
            kind: journal::Kind::Close,
            remark: Some(Diagnosis::CLOSE_REFUSED_AFTER_OPEN),
            facts,
        });
    }

    /// The frame by which a refusal is told as an end: the application's, or one made of the status.
    fn closing(&self, told: Option<&app::Refusal>, status: u16) -> Option<CloseFrame> {
        if self.attempt.is_dry_run {
            return None;
        }
        if let Some(code) = told.and_then(|told| told.close_code) {
            let code = CloseCode::new(code).unwrap_or(CloseCode::POLICY_VIOLATION);
            return Some(CloseFrame::new(code, told.map_or("", |told| &told.message)));
        }
        let code = CloseCode::new(self.refusal_close_code(status)?).unwrap_or(CloseCode::POLICY_VIOLATION);
        let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        Some(CloseFrame::new(code, reason.unwrap_or("Refused")))
    }

    /// The answer to a refused handshake: `reply`, or a connection that ends with `close`.
    fn refused(&self, reply: Reply, close: Option<CloseFrame>) -> Outcome {
        let Some(close) = close else { return Err(reply) };
        // Browsers hide status and body of a refused handshake; a close code they show. But they end a connection
        // themselves when nothing of what they offered is confirmed.
        let subprotocol = self
            .own_subprotocol()
            .or(self.has_bearer.then_some(BEARER_SUBPROTOCOL))
            .or(self.offered.first().map(String::as_str));
        let (reply, _) = self.switching_protocols(self.attempt.request_id(), None, subprotocol);
        let refusal = Some(close);
        let (attempt, progress) = (self.attempt.without_facts(), Arc::clone(&self.progress));
        Ok((reply, OpenConnection { inner: None, refusal, deflate: None, attempt, progress }))
    }
}

impl Admitted {
    /// Whose handshake it is, and whether they may. Without a policy nobody is asked.
    async fn establish(mut self, gateway: &Gateway) -> Result<Identified, Box<Outcome>> {
        let Some(policy) = self.request.stage.policy.clone() else {
            return Ok(Identified { admitted: self, established: Established::default() });
        };
        let started = Instant::now();
        self.request.progress.is_authenticating.store(true, Ordering::Relaxed);
        let handshake = self.request.handshake(&policy, now_millis());
        let established = admission::establish(gateway, &handshake, &self.handle).await;
        self.request.progress.is_authenticating.store(false, Ordering::Relaxed);
        self.request.attempt.note("tokenMs", milliseconds(started));
        match established {
            Ok(mut established) => {
                let attempt = &mut self.request.attempt;
                attempt.place.user = established.identity.user.clone();
                for Decision { kind, remark, facts } in std::mem::take(&mut established.decisions) {
                    gateway.notice(Notice::Decided { place: attempt.place.clone(), kind, remark, facts });
                }
                Ok(Identified { admitted: self, established })
            }
            Err(refused) => Err(Box::new(self.reject(gateway, Rejection::Native(refused)))),
        }
    }
}

impl Identified {
    /// Nothing refuses: the answer to a check. Whatever was joined for it is left.
    async fn pass(self, gateway: &Gateway) -> Result<Reply, Box<Outcome>> {
        let Self { admitted, established } = self;
        if let Some(app) = gateway.apps.of_stage(&admitted.request.stage) {
            let connect = app::Connect {
                connection: &admitted.handle.facts,
                request_id: admitted.request_id,
                identity: &established.identity,
                channels: &established.facts().channels,
                query: &admitted.request.query,
                headers: &admitted.request.headers,
                is_dry_run: true,
            };
            if let Err(refusal) = app.connect(connect).await {
                return Err(Box::new(admitted.reject(gateway, Rejection::App(*refusal))));
            }
        }
        release(gateway, &admitted.handle);
        let attempt = admitted.request.attempt;
        let mut reply = json(200, &serde_json::json!({ "ok": true }));
        refusal::set_request_id(gateway, &attempt, &mut reply);
        let (place, facts) = attempt.into_told();
        gateway.notice(Notice::Decided { place, kind: journal::Kind::Handshake, remark: None, facts });
        Ok(reply)
    }

    /// Asks `$connect` and prepares the answer.
    async fn accept(self, gateway: Arc<Gateway>) -> Outcome {
        let Self { mut admitted, established } = self;
        if admitted.request.has_bearer {
            let mut headers = std::mem::take(&mut admitted.request.headers);
            admitted.request.strip_token(&mut headers);
            admitted.request.headers = headers;
        }
        admitted.accept(gateway, established).await
    }
}

impl Admitted {
    async fn accept(mut self, gateway: Arc<Gateway>, established: Established) -> Outcome {
        let connect = self.request.deployment.routes.get("$connect").cloned();
        let mut of_app = None;
        if let Err(diagnosis) = gateway.note_for_disconnect(&self.handle).await {
            let failure =
                Failure::new(ErrorCode::IdentityUnavailable, diagnosis, "the connection cannot be noted");
            return self.reject(&gateway, route_failure(failure, None));
        }
        let answer = match &connect {
            None => None,
            Some(route) => {
                if let Err((code, detail)) = check_route(route, &self.request) {
                    let failure = Failure::new(code, code.row().diagnosis, detail.clone());
                    let message = (code == ErrorCode::MissingParameters).then_some(detail);
                    return self.reject(&gateway, route_failure(failure, message));
                }
                let event = Event {
                    connection: Arc::clone(&self.handle.facts),
                    request_id: self.request_id,
                    route_key: Arc::clone(&route.key),
                    request_time: now_millis(),
                    kind: EventKind::Connect,
                    session: self.request.stage.policy.as_ref().map(|_| established.facts()),
                    authorized: self.handle.authorized(),
                };
                let call = integration::Call {
                    event: &event,
                    stage: &self.request.stage,
                    headers: Some(&self.request.headers),
                    query: &self.request.query,
                    body: "",
                    is_json: false,
                    forwarded_for: self.request.client.forwarded_for.as_deref(),
                    client_ref: self.handle.client_ref.as_ref(),
                };
                let called = Instant::now();
                let answer = integration::call(&gateway, &route.integration, &call).await;
                self.request.attempt.note("integrationMs", milliseconds(called));
                if let Ok(answer) = &answer {
                    self.request.attempt.note("integrationStatus", answer.status);
                }
                match answer {
                    Ok(Answer { app: Some(said), .. }) => match *said {
                        AppAnswer::Connected(connected) => {
                            of_app = Some(connected);
                            None
                        }
                        AppAnswer::Refused(refusal) => {
                            return self.reject(&gateway, Rejection::App(refusal));
                        }
                    },
                    Ok(answer) if (200..300).contains(&answer.status) => Some(answer),
                    Ok(answer) => return self.reject(&gateway, Rejection::Backend(answer)),
                    Err(failure) => return self.reject(&gateway, route_failure(failure, None)),
                }
            }
        };
        // The backend has said yes, so from here on it hears of the end, whatever happens.
        let inner = Some((Arc::clone(&gateway), Arc::clone(&self.handle)));
        let light = self.request.attempt.without_facts();
        let attempt = std::mem::replace(&mut self.request.attempt, light);
        let progress = Arc::clone(&self.request.progress);
        let mut connection = OpenConnection { inner, refusal: None, deflate: None, attempt, progress };
        let chosen = match &answer {
            Some(answer) => self.backend_subprotocol(&gateway, answer, established.subprotocol),
            None => {
                let chosen = self.request.own_subprotocol();
                if chosen.is_none() && established.subprotocol.is_none() {
                    self.note_subprotocol(&gateway, &[], None);
                }
                chosen
            }
        };
        // The one that carried the proof of identity is confirmed when nobody has chosen another.
        let chosen = chosen.or(established.subprotocol);
        let answered = answer.as_ref().map(|answer| &answer.headers);
        let (reply, deflate) = self.request.switching_protocols(self.request_id, answered, chosen);
        if let Some(chosen) = chosen {
            connection.attempt.note("chosenSubprotocol", without_token(chosen));
        }
        // Addressable before the 101 is visible: whoever has seen the 101 may push. Until the socket is handed
        // over, pushes wait in the outbox.
        self.handle.open(deflate);
        let connected = of_app.as_ref();
        for text in connected.into_iter().flat_map(|connected| &connected.first) {
            let _ = self.handle.push(&tidegate_ws::OutboundMessage::text(text.clone()), now_millis());
        }
        for channel in connected.into_iter().flat_map(|connected| &connected.channels) {
            let joined = gateway.put_into_channel(&self.handle, channel, By::Handshake);
            if let Err(refusal) = joined {
                gateway.note_refusal(&self.handle, channel, refusal.diagnosis, refusal.text);
            }
        }
        for channel in &established.channels {
            gateway.join_at_handshake(&self.handle, channel, &self.request.query).await;
        }
        if let Some(policy) = &self.request.stage.policy {
            let outcome = AttemptOutcome {
                status: 101,
                diagnosis: None,
                user: established.identity.user.as_deref(),
                connection_id: Some(self.handle.facts.connection_id),
            };
            let handshake = self.request.handshake(policy, self.handle.facts.connected_at);
            gateway.attempts.on_end(&handshake, &outcome, gateway.next_random());
        }
        if connected.is_some()
            && let Some(app) = gateway.apps.of_stage(&self.request.stage)
        {
            app.opened(&self.handle.facts);
        }
        gateway.handshake_over.notify_waiters();
        connection.deflate = deflate;
        Ok((reply, connection))
    }

    /// The subprotocol that the backend names, if the client offered it: browsers drop the connection otherwise.
    fn backend_subprotocol(
        &self,
        gateway: &Gateway,
        answer: &Answer,
        of_proof: Option<&'static str>,
    ) -> Option<&str> {
        let offered = &self.request.offered;
        let mut named = list(&answer.headers, "sec-websocket-protocol");
        named.retain(|name| Some(name.as_str()) != of_proof);
        let chosen = named.iter().find_map(|name| offered.iter().find(|offered| *offered == name));
        let chosen = chosen.map(String::as_str);
        if named.is_empty() && of_proof.is_some() {
            return chosen;
        }
        self.note_subprotocol(gateway, &named, chosen);
        chosen
    }

    /// Tells operators of a choice that will not please the client. `named` is what the backend wants.
    fn note_subprotocol(&self, gateway: &Gateway, named: &[String], chosen: Option<&str>) {
        let offered_names = &self.request.offered;
        let diagnosis = match (named.len(), chosen) {
            (0, _) if offered_names.is_empty() => return,
            (0, _) => match offered_names.as_slice() {
                // What a script makes of a value that is not there.
                [only] if ["null", "undefined", "[object Object]"].contains(&only.as_str()) => {
                    Diagnosis::SUBPROTOCOL_NULL
                }
                names if names.iter().any(|name| is_token_shaped(name)) => Diagnosis::SUBPROTOCOL_TOKEN,
                _ => Diagnosis::SUBPROTOCOL_NOT_CONFIRMED,
            },
            (1.., None) => Diagnosis::SUBPROTOCOL_NOT_OFFERED,
            (2.., Some(_)) => Diagnosis::SUBPROTOCOL_SEVERAL,
            (1, Some(_)) => return,
        };
        let mut place = self.request.attempt.place.clone();
        place.route_key = Some("$connect".into());
        let mut facts = Facts::none();
        if self.request.attempt.keeps_facts {
            facts.add("offeredSubprotocols", offered(&self.request.headers));
            let program = self.request.headers.get(http::header::USER_AGENT);
            facts.add_some(
                "userAgent",
                program.map(|value| short(&String::from_utf8_lossy(value.as_bytes()), 256)),
            );
            let named: Vec<String> = named.iter().take(10).map(|name| without_token(name)).collect();
            facts.add("answeredSubprotocols", named);
            facts.add_some("chosenSubprotocol", chosen.map(without_token));
        }
        gateway.notice(Notice::SubprotocolTrouble { facts, place, diagnosis });
    }

    /// Frees the id and words the refusal.
    fn reject(mut self, gateway: &Gateway, rejection: Rejection) -> Outcome {
        let facts = &self.handle.facts;
        release(gateway, &self.handle);
        let light = self.request.attempt.without_facts();
        let mut attempt = std::mem::replace(&mut self.request.attempt, light);
        attempt.place.route_key = Some("$connect".into());
        attempt.place.user =
            self.handle.membership_if_any().and_then(|membership| membership.identity().user.clone());
        if let Some(waited) = self.request.progress.left_after() {
            // Nobody hears the answer any more.
            attempt.note("clientLeftMs", waited);
        }
        let told = match &rejection {
            Rejection::App(refusal) => Some(refusal.clone()),
            Rejection::Backend(_) => None,
            Rejection::Gateway { failure: Failure { code, diagnosis, facts, .. }, .. }
            | Rejection::Native(Refused { code, diagnosis, facts, .. }) => {
                let refused = app::Refused {
                    diagnosis: *diagnosis,
                    status: code.row().status,
                    address: self.request.client.ip,
                    now: now_millis(),
                    is_dry_run: attempt.is_dry_run,
                    facts,
                };
                apps::reword(gateway, &self.request.stage, &refused)
            }
        };
        let (reply, code, diagnosis, detail) = match rejection {
            Rejection::App(refusal) => {
                let code = code_of(refusal.status);
                attempt.note_all(refusal.facts);
                (super::empty(refusal.status), code, refusal.diagnosis, refusal.detail)
            }
            Rejection::Backend(answer) => {
                let detail = format!("the backend answered {}", answer.status);
                let diagnosis = answer.diagnosis.unwrap_or(Diagnosis::BACKEND_REFUSED);
                attempt.note_all(answer.facts());
                // What only developers should see stays here; anything else is the client's, as at AWS.
                let hides = self.request.stage.settings.integration.hide_backend_errors;
                let body = (hides && answer.leaks()).then(|| {
                    let text = generic_text(answer.status);
                    error_body(text, facts.connection_id, "requestId", self.request_id)
                });
                (pass_on(answer, body), ErrorCode::BackendRefused, diagnosis, detail)
            }
            Rejection::Gateway { failure, message } => {
                let row = failure.code.row();
                let message = message.as_deref().unwrap_or(row.message);
                let body = error_body(message, facts.connection_id, "requestId", self.request_id);
                let mut reply = super::empty(row.status);
                *reply.body_mut() = Full::new(Bytes::from(body));
                let json = HeaderValue::from_static("application/json; charset=UTF-8");
                reply.headers_mut().insert(CONTENT_TYPE, json);
                attempt.note_all(failure.facts);
                (reply, failure.code, failure.diagnosis, failure.detail.into_owned())
            }
            Rejection::Native(refused) => {
                let row = refused.code.row();
                let message = refused.text.unwrap_or(row.message);
                let mut body = error_body(message, facts.connection_id, "requestId", self.request_id);
                // Which check it was, for the client; why, for the operator only.
                body.pop();
                let body = format!(r#"{body}, "check":"{}"}}"#, refused.check);
                let mut reply = super::empty(row.status);
                *reply.body_mut() = Full::new(Bytes::from(body));
                let json = HeaderValue::from_static("application/json; charset=UTF-8");
                reply.headers_mut().insert(CONTENT_TYPE, json);
                set_retry_after(reply.headers_mut(), refused.retry_after);
                attempt.note("check", refused.check);
                attempt.note_all(refused.facts);
                (reply, refused.code, refused.diagnosis, refused.detail)
            }
        };
        gateway.registry.refused_because(facts.connection_id, diagnosis);
        let mut reply = with_words(reply, told.as_ref(), Some(facts.connection_id), self.request_id);
        set_ids(reply.headers_mut(), &self.request_id.to_string());
        let status = reply.status().as_u16();
        if let Some(policy) = &self.request.stage.policy {
            let identity = self.handle.membership_if_any().map(|membership| membership.identity());
            let outcome = AttemptOutcome {
                status,
                diagnosis: Some(diagnosis),
                user: identity.as_ref().and_then(|identity| identity.user.as_deref()),
                connection_id: Some(self.handle.facts.connection_id),
            };
            let handshake = self.request.handshake(policy, self.handle.facts.connected_at);
            gateway.attempts.on_end(&handshake, &outcome, gateway.next_random());
        }
        let place = attempt.place.clone();
        let close = self.request.closing(told.as_ref(), status);
        if let Some(close) = &close {
            attempt.note("closeCode", close.code.as_u16());
        }
        refusal::report(gateway, attempt, &mut reply, code, diagnosis, detail);
        self.request.note_refused_after_open(gateway, &place, diagnosis, close.as_ref());
        self.request.refused(reply, close)
    }
}

/// Why a handshake ends without a connection.
enum Rejection {
    /// The backend said no; its status is the client's.
    Backend(Answer),
    /// The gateway says why; `message` replaces the text of the table.
    Gateway { failure: Failure, message: Option<String> },
    /// A check of the stage's policy says no.
    Native(Refused),
    /// An application says no.
    App(app::Refusal),
}

/// The row of the error table for an application's status.
fn code_of(status: u16) -> ErrorCode {
    match status {
        401 | 403 => ErrorCode::IdentityRejected,
        429 => ErrorCode::AttemptsExceeded,
        503 => ErrorCode::IdentityUnavailable,
        500.. => ErrorCode::Internal,
        _ => ErrorCode::BackendRefused,
    }
}

/// How the stage's application words a refusal that depends on nothing but its code.
fn reword(
    gateway: &Gateway,
    stage: &Stage,
    client: &ClientAddress,
    attempt: &Attempt,
    code: ErrorCode,
) -> Option<app::Refusal> {
    let row = code.row();
    let refused = app::Refused {
        diagnosis: row.diagnosis,
        status: row.status,
        address: client.ip,
        now: now_millis(),
        is_dry_run: attempt.is_dry_run,
        facts: &Facts::none(),
    };
    apps::reword(gateway, stage, &refused)
}

/// The answer in the application's words, where it has any; ids of the gateway stay.
fn with_words(
    reply: Reply,
    told: Option<&app::Refusal>,
    connection_id: Option<ConnectionId>,
    request_id: RequestId,
) -> Reply {
    let Some(told) = told else { return reply };
    let mut worded = apps::reply_of(told, connection_id, request_id);
    for (name, value) in reply.headers() {
        if !worded.headers().contains_key(name) {
            worded.headers_mut().append(name.clone(), value.clone());
        }
    }
    worded
}

fn milliseconds(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

fn route_failure(failure: Failure, message: Option<String>) -> Rejection {
    Rejection::Gateway { failure, message }
}

/// What the route demands before its integration is asked.
fn check_route(route: &Route, request: &UpgradeRequest) -> Result<(), (ErrorCode, String)> {
    match route.authorization {
        Authorization::None => {}
        Authorization::ApiKey => {
            return Err((ErrorCode::ApiKeyRejected, "API keys are not configured".to_owned()));
        }
        Authorization::Unsupported => {
            return Err((ErrorCode::AuthorizerFailed, "authorizers are not supported yet".to_owned()));
        }
    }
    let header = route.required_headers.iter().find(|name| !request.headers.contains_key(name.as_str()));
    let query = route.required_query.iter().find(|name| query_values(&request.query, name).next().is_none());
    match header.or(query) {
        Some(name) => {
            Err((ErrorCode::MissingParameters, format!("Missing required request parameters: [{name}]")))
        }
        None => Ok(()),
    }
}

impl OpenConnection {
    /// Runs the connection to its end. The 101 has been written.
    pub(crate) async fn run(mut self: Box<Self>, socket: Socket, early: Bytes) {
        if let Some(refusal) = self.refusal.take() {
            return Box::pin(task::say_goodbye(socket, refusal)).await;
        }
        let Some((gateway, handle)) = self.inner.take() else { return };
        gateway.wheel.schedule(handle.facts.connection_id, Kind::Limits, gateway.first_deadline(&handle));
        let light = self.attempt.without_facts();
        let mut attempt = std::mem::replace(&mut self.attempt, light);
        attempt.note("status", 101);
        let roles = handle.membership_if_any().map(|membership| membership.identity().roles.join(","));
        if let Some(roles) = roles.filter(|roles| !roles.is_empty() && attempt.keeps_facts) {
            attempt.note("role", roles);
        }
        if let Some(reference) = &attempt.place.client_ref {
            let ended = EndedAttempt { request_id: attempt.place.request_id, diagnosis: None, status: 101 };
            gateway.client_references.note(reference, ended, now_millis());
        }
        let duration = attempt.started.elapsed();
        let (place, facts) = attempt.into_opened(&gateway);
        gateway.notice(Notice::ConnectionOpened { facts, place, duration });
        if handle.stage.settings.connect.announce_id {
            let text = format!(r#"{{"connectionId": "{}"}}"#, handle.facts.connection_id);
            let _ = handle.push(&tidegate_ws::OutboundMessage::text(Bytes::from(text)), now_millis());
        }
        let deflate = self.deflate;
        drop(self);
        task::run(gateway, handle, socket, deflate, early).await;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let Some((gateway, handle)) = self.inner.take() else { return };
        let now = now_millis();
        handle.finish();
        gateway.leave_all(&handle);
        gateway.registry.remove(handle.facts.connection_id, Diagnosis::GONE_NEVER_ESTABLISHED, 1006, now);
        gateway.handshake_over.notify_waiters();
        let light = self.attempt.without_facts();
        let mut attempt = std::mem::replace(&mut self.attempt, light);
        attempt.place.route_key = Some("$connect".into());
        let left_after = self.progress.left_after();
        attempt.note("waitedMs", left_after.unwrap_or_else(|| milliseconds(attempt.started)));
        // A fault of ours is told by whoever answers the client with 500, unless nobody is left to be answered.
        let told = match (std::thread::panicking(), left_after) {
            (false, _) => Some((ErrorCode::Gone, Diagnosis::HANDSHAKE_CLIENT_GAVE_UP)),
            (true, Some(_)) => Some((ErrorCode::Internal, Diagnosis::INTERNAL)),
            (true, None) => None,
        };
        if let Some((code, diagnosis)) = told {
            let detail = "the client left before the 101, or the handshake failed";
            refusal::tell(&gateway, attempt, code, diagnosis, detail, 499);
        }
        let tasks = gateway.tasks.clone();
        tasks.spawn(async move {
            integration::disconnect(&gateway, &handle, 1006, close_reason::ABNORMALLY).await;
        });
    }
}

/// What clients read of a refusal of this status, whoever refused.
fn generic_text(status: u16) -> &'static str {
    match status {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        413 | 414 | 431 => "Request too large",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        500.. => "Internal server error",
        _ => "Bad Request",
    }
}

/// The backend's refusal as the client sees it: its status, and its body unless another takes its place.
fn pass_on(answer: Answer, body: Option<String>) -> Reply {
    let is_own = body.is_none();
    let mut reply = Response::new(Full::new(body.map_or(answer.body, Bytes::from)));
    if !is_own {
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    }
    *reply.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let is_of_body = |name: &HeaderName| matches!(name.as_str(), "content-type" | "content-encoding");
    let passed =
        answer.headers.iter().filter(|(name, _)| is_passed_on(name) && (is_own || !is_of_body(name)));
    for (name, value) in passed {
        reply.headers_mut().append(name.clone(), value.clone());
    }
    reply
}

/// Headers of the `$connect` answer that a client may see.
fn is_passed_on(name: &HeaderName) -> bool {
    !is_hop_by_hop(name.as_str())
        && !name.as_str().starts_with("sec-websocket-")
        && !matches!(name.as_str(), "content-length" | "date" | "server" | "location")
}

fn set_ids(headers: &mut HeaderMap, request_id: &str) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert("x-amz-apigw-id", value.clone());
        headers.insert("x-amzn-requestid", value.clone());
        headers.insert("tidegate-request-id", value);
    }
}

/// All items of a header that holds comma-separated lists.
fn list(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

/// The handshake headers that a setting keeps for later events.
fn kept_headers(headers: &HeaderMap, names: &[String]) -> Option<Box<HeaderMap>> {
    let mut kept = HeaderMap::new();
    for name in names.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()) {
        for value in headers.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    (!kept.is_empty()).then(|| Box::new(kept))
}
