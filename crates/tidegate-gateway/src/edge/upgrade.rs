//! The handshake, from a resolved address to the 101.
//!
//! The order is the type: an [`UpgradeRequest`] is admitted, [`Admitted`] is accepted, and only
//! [`OpenConnection`] can be run. Each step consumes the one before, so nothing is answered 101 before
//! `$connect` has said yes, and nothing is accepted twice.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tidegate_auth::{BEARER_SUBPROTOCOL, offered_subprotocols};
use tidegate_core::context::{ConnectionFacts, Event, EventKind, error_body};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::RequestId;
use tidegate_core::journal::{self, Facts};
use tidegate_core::mapping::query_values;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::settings::{PendingPosts, Switch};
use tidegate_core::snapshot::{Authorization, Deployment, Route, Stage, StagePolicy};
use tidegate_ws::{CloseCode, CloseFrame, DeflateParams, extension, handshake};

use super::Reply;
use super::address::Address;
use super::client_address::ClientAddress;
use super::service::{Opened, Peer, refuse};
use crate::admission::{self, Established, Handshake, Outcome as AttemptOutcome, Refused};
use crate::clock::now_millis;
use crate::connection::close_reason;
use crate::connection::handle::Handle;
use crate::connection::socket::Socket;
use crate::connection::task;
use crate::gateway::{Gateway, going_away};
use crate::integration::http::is_hop_by_hop;
use crate::integration::{self, Answer, Failure};
use crate::timer_wheel::Kind;

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
    started: Instant,
}

/// The answer and, when it is a 101, the connection.
type Outcome = Result<(Reply, OpenConnection), Reply>;

/// Answers a handshake. The accepted connection is left in `opened` for the owner of the socket.
pub(crate) async fn serve(
    gateway: &Arc<Gateway>,
    peer: &Peer,
    opened: &Opened,
    address: Address,
    request: Request<Incoming>,
    started: Instant,
) -> Reply {
    let upgrade = match UpgradeRequest::parse(gateway, peer, address, request, started) {
        Ok(upgrade) => upgrade,
        Err(reply) => return reply,
    };
    let admitted = match upgrade.admit(gateway, started) {
        Ok(admitted) => admitted,
        Err(refused) => return deliver(opened, *refused),
    };
    // A task of its own: when the client leaves, the HTTP library drops this future, but a `$connect` that has
    // begun runs to its end. What it opened is then dropped, and the backend hears of that.
    let run = {
        let gateway = Arc::clone(gateway);
        let unfinished = Unfinished { gateway: Arc::clone(&gateway), handle: Arc::clone(&admitted.handle) };
        async move {
            let _unfinished = unfinished;
            match admitted.establish(&gateway, started).await {
                Ok(identified) => identified.accept(gateway, started).await,
                Err(refused) => *refused,
            }
        }
    };
    let accept = gateway.tasks.spawn(run);
    match accept.await {
        Ok(outcome) => deliver(opened, outcome),
        Err(_) => refuse(
            gateway,
            &Default::default(),
            ErrorCode::Internal,
            None,
            "the handshake task failed",
            started,
        ),
    }
}

/// Leaves what was opened to the owner of the socket.
fn deliver(opened: &Opened, outcome: Outcome) -> Reply {
    match outcome {
        Ok((reply, connection)) => {
            *opened.lock() = Some(connection);
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
        peer: &Peer,
        address: Address,
        request: Request<Incoming>,
        started: Instant,
    ) -> Result<Self, Reply> {
        let (head, _) = request.into_parts();
        let place = place_of(&address.stage);
        let refuse =
            |code, diagnosis, detail: &str| Err(refuse(gateway, &place, code, diagnosis, detail, started));
        if gateway.is_draining() {
            return refuse(ErrorCode::Draining, None, "");
        }
        let Some(deployment) = address.stage.deployment.clone() else {
            return refuse(ErrorCode::Forbidden, Some(Diagnosis::STAGE_NOT_DEPLOYED), "");
        };
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        if text("sec-websocket-version") != Some("13") {
            let mut reply =
                match refuse(ErrorCode::UpgradeRequired, Some(Diagnosis::HANDSHAKE_MALFORMED), "version") {
                    Err(reply) => reply,
                    Ok(never) => return Ok(never),
                };
            reply.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
            reply.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
            return Err(reply);
        }
        let keys = head.headers.get_all("sec-websocket-key").iter().count();
        let Some(key) = text("sec-websocket-key").filter(|key| keys == 1 && handshake::is_valid_key(key))
        else {
            return refuse(ErrorCode::BadHandshake, None, "Sec-WebSocket-Key");
        };
        let client = ClientAddress::new(
            peer.address.ip(),
            peer.is_tls,
            peer.listener_port,
            &head.headers,
            |address| gateway.is_trusted(address),
        );
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
            accept_key: handshake::accept_key(key),
            stage: address.stage,
            deployment,
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers,
            client,
            domain_name: address.domain_name,
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
        }
    }

    /// Limits that need no identity. No byte has been answered yet.
    fn admit(self, gateway: &Arc<Gateway>, started: Instant) -> Result<Admitted, Box<Outcome>> {
        let now = now_millis();
        let place = place_of(&self.stage);
        let refuse_early =
            |code, detail: &str| Err(Box::new(Err(refuse(gateway, &place, code, None, detail, started))));
        if gateway.n_connections() >= gateway.config.max_connections {
            return refuse_early(ErrorCode::ConnectionsExhausted, "");
        }
        if !gateway.throttles.admit(&self.stage, "$connect", now) {
            return refuse_early(ErrorCode::Throttled, "");
        }
        if let Some(policy) = &self.stage.policy {
            let handshake = self.handshake(policy, now);
            if let Err(refused) = admission::check_arrival(gateway, &handshake) {
                let row = refused.code.row();
                gateway.attempts.on_end(&handshake, &refused.outcome(row.status), gateway.next_random());
                let detail = refused.detail.as_str();
                let mut reply =
                    refuse(gateway, &place, refused.code, Some(refused.diagnosis), detail, started);
                let text = serde_json::json!({ "message": row.message, "check": refused.check });
                *reply.body_mut() = Full::new(Bytes::from(text.to_string()));
                set_retry_after(reply.headers_mut(), refused.retry_after);
                self.note_refused_after_open(gateway, &place, refused.diagnosis, row.status);
                return Err(Box::new(self.refused(gateway.request_id(now), reply, started)));
            }
        }
        let Some(reservation) = gateway.registry.reserve(now) else {
            return refuse_early(ErrorCode::ConnectionsExhausted, "no slot is free");
        };
        let settings = &self.stage.settings;
        let facts = Arc::new(ConnectionFacts {
            connection_id: reservation.connection_id,
            api_id: Arc::clone(&self.stage.api_id),
            stage: Arc::clone(&self.stage.name),
            domain_name: Arc::clone(&self.domain_name),
            source_ip: self.client.ip,
            user_agent: self
                .headers
                .get(http::header::USER_AGENT)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned().into_boxed_str()),
            is_secure: self.client.is_secure,
            client_port: self.client.port,
            connected_at: now,
        });
        let jitter = match settings.data_plane.duration_jitter {
            0 => 0,
            seconds => gateway.next_random() % (seconds * 1000),
        };
        let age_deadline = settings
            .data_plane
            .age()
            .map_or(u64::MAX, |age| now + (age.as_millis() as u64).saturating_sub(jitter).max(1));
        let accepts_pending = settings.management.pending_posts == PendingPosts::Queue;
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
        Ok(Admitted { request: self, handle, request_id: gateway.request_id(now) })
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

    /// A refusal that the client sees as an end has an entry as such.
    fn note_refused_after_open(&self, gateway: &Gateway, place: &Place, cause: Diagnosis, status: u16) {
        if !self.stage.settings.connect.reject_as_close {
            return;
        }
        let facts = gateway.facts(|| {
            Facts::none().with("closeCode", 4000 + status.min(999)).with("causeId", cause.as_str())
        });
        gateway.notice(Notice::Decided {
            place: place.clone(),
            kind: journal::Kind::Close,
            remark: Some(Diagnosis::CLOSE_REFUSED_AFTER_OPEN),
            facts,
        });
    }

    /// The answer to a refused handshake: `reply`, or a connection that ends with its status.
    fn refused(&self, request_id: RequestId, reply: Reply, started: Instant) -> Outcome {
        if !self.stage.settings.connect.reject_as_close {
            return Err(reply);
        }
        // Browsers hide status and body of a refused handshake; a close code they show. But they end a connection
        // themselves when nothing of what they offered is confirmed.
        let status = reply.status();
        let close = CloseCode::new(4000 + status.as_u16().min(999)).unwrap_or(CloseCode::POLICY_VIOLATION);
        let subprotocol = self
            .own_subprotocol()
            .or(self.has_bearer.then_some(BEARER_SUBPROTOCOL))
            .or(self.offered.first().map(String::as_str));
        let (reply, _) = self.switching_protocols(request_id, None, subprotocol);
        let refusal = Some(CloseFrame::new(close, status.canonical_reason().unwrap_or("Refused")));
        Ok((reply, OpenConnection { inner: None, refusal, deflate: None, started }))
    }
}

impl Admitted {
    /// Whose handshake it is, and whether they may. Without a policy nobody is asked.
    async fn establish(self, gateway: &Gateway, started: Instant) -> Result<Identified, Box<Outcome>> {
        let Some(policy) = self.request.stage.policy.clone() else {
            return Ok(Identified { admitted: self, established: Established::default() });
        };
        let handshake = self.request.handshake(&policy, now_millis());
        match admission::establish(gateway, &handshake, &self.handle).await {
            Ok(established) => Ok(Identified { admitted: self, established }),
            Err(refused) => Err(Box::new(self.reject(gateway, Rejection::Native(refused), started))),
        }
    }
}

impl Identified {
    /// Asks `$connect` and prepares the answer.
    async fn accept(self, gateway: Arc<Gateway>, started: Instant) -> Outcome {
        let Self { mut admitted, established } = self;
        if admitted.request.has_bearer {
            let mut headers = std::mem::take(&mut admitted.request.headers);
            admitted.request.strip_token(&mut headers);
            admitted.request.headers = headers;
        }
        admitted.accept(gateway, established, started).await
    }
}

impl Admitted {
    async fn accept(self, gateway: Arc<Gateway>, established: Established, started: Instant) -> Outcome {
        let connect = self.request.deployment.routes.get("$connect").cloned();
        if let Err(diagnosis) = gateway.note_for_disconnect(&self.handle).await {
            let failure =
                Failure::new(ErrorCode::IdentityUnavailable, diagnosis, "the connection cannot be noted");
            return self.reject(&gateway, route_failure(failure, None), started);
        }
        let answer = match &connect {
            None => None,
            Some(route) => {
                if let Err((code, detail)) = check_route(route, &self.request) {
                    let failure = Failure::new(code, code.row().diagnosis, detail.clone());
                    let message = (code == ErrorCode::MissingParameters).then_some(detail);
                    return self.reject(&gateway, route_failure(failure, message), started);
                }
                let event = Event {
                    connection: Arc::clone(&self.handle.facts),
                    request_id: self.request_id,
                    route_key: Arc::clone(&route.key),
                    request_time: now_millis(),
                    kind: EventKind::Connect,
                    session: self.request.stage.policy.as_ref().map(|_| established.facts()),
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
                match integration::call(&gateway, &route.integration, &call).await {
                    Ok(answer) if (200..300).contains(&answer.status) => Some(answer),
                    Ok(answer) => return self.reject(&gateway, Rejection::Backend(answer), started),
                    Err(failure) => return self.reject(&gateway, route_failure(failure, None), started),
                }
            }
        };
        // The backend has said yes, so from here on it hears of the end, whatever happens.
        let inner = Some((Arc::clone(&gateway), Arc::clone(&self.handle)));
        let mut connection = OpenConnection { inner, refusal: None, deflate: None, started };
        let chosen = match &answer {
            Some(answer) => self.backend_subprotocol(&gateway, answer, established.subprotocol),
            None => self.request.own_subprotocol(),
        };
        // The one that carried the proof of identity is confirmed when nobody has chosen another.
        let chosen = chosen.or(established.subprotocol);
        let answered = answer.as_ref().map(|answer| &answer.headers);
        let (reply, deflate) = self.request.switching_protocols(self.request_id, answered, chosen);
        // Addressable before the 101 is visible: whoever has seen the 101 may push. Until the socket is handed
        // over, pushes wait in the outbox.
        self.handle.open(deflate);
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
        let diagnosis = match (named.len(), chosen, offered.is_empty()) {
            (0, _, false) if of_proof.is_none() => Diagnosis::SUBPROTOCOL_NOT_CONFIRMED,
            (1.., None, _) => Diagnosis::SUBPROTOCOL_NOT_OFFERED,
            (2.., Some(_), _) => Diagnosis::SUBPROTOCOL_SEVERAL,
            _ => return chosen,
        };
        let mut place = gateway.place(&self.handle);
        place.request_id = Some(self.request_id);
        gateway.notice(Notice::SubprotocolTrouble { facts: Facts::none(), place, diagnosis });
        chosen
    }

    /// Frees the id and words the refusal.
    fn reject(self, gateway: &Gateway, rejection: Rejection, started: Instant) -> Outcome {
        let facts = &self.handle.facts;
        release(gateway, &self.handle);
        let mut place = gateway.place(&self.handle);
        place.request_id = Some(self.request_id);
        place.route_key = Some("$connect".into());
        let (reply, code, diagnosis, detail) = match rejection {
            Rejection::Backend(answer) => {
                let detail = format!("the backend answered {}", answer.status);
                let diagnosis = answer.diagnosis.unwrap_or(Diagnosis::BACKEND_REFUSED);
                let hidden = self.request.stage.settings.integration.hide_backend_errors;
                let body = hidden.then(|| {
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
                (reply, refused.code, refused.diagnosis, refused.detail)
            }
        };
        gateway.registry.refused_because(facts.connection_id, diagnosis);
        let mut reply = reply;
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
        self.request.note_refused_after_open(gateway, &place, diagnosis, status);
        gateway.notice(Notice::HandshakeRefused {
            facts: Facts::none(),
            place,
            status,
            code,
            diagnosis,
            detail,
            duration: started.elapsed(),
        });
        self.request.refused(self.request_id, reply, started)
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
}

fn place_of(stage: &Stage) -> Place {
    Place { api_id: Arc::clone(&stage.api_id), stage: Arc::clone(&stage.name), ..Place::default() }
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
    pub(crate) async fn run(mut self, socket: Socket, early: Bytes) {
        if let Some(refusal) = self.refusal.take() {
            return Box::pin(task::say_goodbye(socket, refusal)).await;
        }
        let Some((gateway, handle)) = self.inner.take() else { return };
        gateway.wheel.schedule(handle.facts.connection_id, Kind::Limits, gateway.first_deadline(&handle));
        gateway.notice(Notice::ConnectionOpened {
            facts: Facts::none(),
            place: gateway.place(&handle),
            duration: self.started.elapsed(),
        });
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
        let mut place = gateway.place(&handle);
        place.route_key = Some("$connect".into());
        gateway.notice(Notice::HandshakeRefused {
            facts: Facts::none(),
            place,
            status: 499,
            code: ErrorCode::Gone,
            diagnosis: Diagnosis::HANDSHAKE_CLIENT_GAVE_UP,
            detail: "the client left before the 101, or the handshake failed".to_owned(),
            duration: self.started.elapsed(),
        });
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

fn set_retry_after(headers: &mut HeaderMap, seconds: Option<u64>) {
    if let Some(seconds) = seconds {
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
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
