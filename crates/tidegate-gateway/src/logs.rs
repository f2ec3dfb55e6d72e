//! Access and execution logs of stages: what happened, in the words of the real service.
//!
//! Everything else in the data plane calls one function of this module where something begins or ends. Where a stage logs
//! nothing, which is the default, there is no [`EventLog`] and each of them returns at once.

mod execution;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::Request;
use parking_lot::Mutex;
use tidegate_core::access_log::{AuthorizerCall, Called, Failed, Phase, Record};
use tidegate_core::context::{Authorized, Caller, Event, EventKind, SessionFacts, error_body};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::function::Invoked;
use tidegate_core::id::RequestId;
use tidegate_core::log::{StageLogs, masked};
use tidegate_core::notice::Place;
use tidegate_core::settings::Settings;
use tidegate_core::snapshot::{FunctionName, Stage};

use self::execution::Writer;
use crate::clock::now_millis;
use crate::connection::handle::Handle;
use crate::edge::Reply;
use crate::edge::address::{Address, Endpoint};
use crate::edge::attempt::Attempt;
use crate::gateway::Gateway;
use crate::integration::{Answer, Call, Ended, Failure};

/// Event type of management calls.
const CONNECTION_API: &str = "CONNECTION_API";

/// What is logged of one event, from its begin to its end. There is one only where somebody logs.
pub(crate) struct EventLog {
    logs: Arc<StageLogs>,
    settings: Arc<Settings>,
    api_id: Arc<str>,
    stage: Arc<str>,
    /// Milliseconds since 1970.
    began: u64,
    /// Of requests: later events have the connection's.
    asked: Asked,
    /// The first lines have been written.
    is_begun: AtomicBool,
    called: Mutex<Option<Called>>,
    /// The call of the authorizer's function or address.
    authorizer: Mutex<Option<Called>>,
    authorized: Mutex<Option<Arc<Authorized>>>,
    session: Mutex<Option<SessionFacts>>,
}

/// Nothing of what clients sent.
impl std::fmt::Debug for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLog")
            .field("api_id", &self.api_id)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

/// What a request says of whoever sent it.
#[derive(Default)]
struct Asked {
    user_agent: Option<Box<str>>,
    domain_name: Option<Arc<str>>,
    /// Of a management call.
    route_key: Option<String>,
    address: Option<IpAddr>,
}

/// An event's log, where there is one.
pub(crate) type Log = Option<Arc<EventLog>>;

impl EventLog {
    fn new(logs: Arc<StageLogs>, stage: &Stage, asked: Asked) -> Arc<Self> {
        let (api_id, name) = (Arc::clone(&stage.api_id), Arc::clone(&stage.name));
        Self::of(logs, Arc::clone(&stage.settings), api_id, name, asked)
    }

    fn of(
        logs: Arc<StageLogs>,
        settings: Arc<Settings>,
        api_id: Arc<str>,
        stage: Arc<str>,
        asked: Asked,
    ) -> Arc<Self> {
        Arc::new(Self {
            logs,
            settings,
            api_id,
            stage,
            began: now_millis(),
            asked,
            is_begun: AtomicBool::new(false),
            called: Mutex::new(None),
            authorizer: Mutex::new(None),
            authorized: Mutex::new(None),
            session: Mutex::new(None),
        })
    }

    /// What is known from the begin on.
    fn record(&self) -> Record<'_> {
        Record {
            api_id: &self.api_id,
            stage: &self.stage,
            domain_name: self.asked.domain_name.as_deref(),
            user_agent: self.asked.user_agent.as_deref(),
            source_ip: self.asked.address,
            request_time: self.began,
            ..Record::default()
        }
    }

    fn write(&self, gateway: &Gateway, record: &Record<'_>) {
        if let Some(access) = &self.logs.access {
            let line = access.format.render(record, self.settings.logs.escape);
            gateway.config.logs.access(&access.target, line);
        }
    }
}

/// The log of an event of a connection.
pub(crate) fn begin(stage: &Stage) -> Log {
    let logs = stage.logs.as_ref()?;
    Some(EventLog::new(Arc::clone(logs), stage, Asked::default()))
}

/// The log of a handshake.
pub(crate) fn of_handshake<B>(address: &Address, request: &Request<B>) -> Log {
    let logs = address.stage.logs.as_ref()?;
    let domain_name = Some(Arc::clone(&address.domain_name));
    let asked = Asked { domain_name, user_agent: user_agent(request), ..Asked::default() };
    Some(EventLog::new(Arc::clone(logs), &address.stage, asked))
}

/// The log of a request whose address leads nowhere: the operator's, where there is one.
pub(crate) fn of_nowhere<B>(gateway: &Gateway, host: &str, request: &Request<B>) -> Log {
    let in_force = gateway.in_force();
    let logs = in_force.unmatched.as_ref()?;
    let asked = Asked { domain_name: Some(host.into()), user_agent: user_agent(request), ..Asked::default() };
    Some(nowhere(gateway, logs, asked))
}

fn nowhere(gateway: &Gateway, logs: &Arc<StageLogs>, asked: Asked) -> Arc<EventLog> {
    let settings = Arc::clone(&gateway.in_force().node.settings.all);
    EventLog::of(Arc::clone(logs), settings, Arc::default(), Arc::default(), asked)
}

/// The log of a management call.
pub(crate) fn of_management<B>(
    stage: &Stage,
    endpoint: &Endpoint,
    address: IpAddr,
    request: &Request<B>,
) -> Log {
    let logs = stage.logs.as_ref()?;
    let asked = Asked {
        user_agent: user_agent(request),
        route_key: Some(route_key_of(request.method(), endpoint)),
        address: Some(address),
        domain_name: host(request),
    };
    Some(EventLog::new(Arc::clone(logs), stage, asked))
}

fn user_agent<B>(request: &Request<B>) -> Option<Box<str>> {
    let value = request.headers().get(http::header::USER_AGENT)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into())
}

fn host<B>(request: &Request<B>) -> Option<Arc<str>> {
    Some(request.headers().get(http::header::HOST)?.to_str().ok()?.into())
}

/// The route of a management call, with the names of its parts in place of their values.
fn route_key_of(method: &http::Method, endpoint: &Endpoint) -> String {
    let path = match endpoint {
        Endpoint::Connection(_) => "/@connections/{connectionId}",
        Endpoint::Channel(_) => "/@channels/{channel}",
        Endpoint::ChannelMember(..) => "/@channels/{channel}/connections/{connectionId}",
        Endpoint::User(_) => "/@users/{userId}",
        Endpoint::Broadcast => "/@broadcast",
        Endpoint::Connections | Endpoint::Token | Endpoint::WebSocket => "/@connections",
    };
    format!("{method} {path}")
}

/// A backend is about to be asked by HTTP: head and body as they go out.
pub(crate) fn sending_http(gateway: &Gateway, call: &Call<'_>, uri: &http::Uri, bytes: &[u8]) {
    let Some(log) = call.log else { return };
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
    let body = bytes.get(end + 4..).unwrap_or_default();
    // The head's target has the query that the client sent.
    let target = bytes.split(|byte| *byte == b' ').nth(1).map(String::from_utf8_lossy).unwrap_or_default();
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let uri = format!("{scheme}://{authority}{target}");
    sending(gateway, log, call.event, &uri, &bytes[..end], &String::from_utf8_lossy(body));
}

fn sending(gateway: &Gateway, log: &EventLog, event: &Event, uri: &str, head: &[u8], body: &str) {
    let writer = Writer::of_event(gateway, log, event);
    writer.begin(event);
    writer.sending(uri, head, body);
}

/// An integration has answered, or failed to.
pub(crate) fn called(
    gateway: &Gateway,
    call: &Call<'_>,
    result: &Result<Answer, Failure>,
    duration: Duration,
) {
    let Some(log) = call.log else { return };
    let latency_ms = Some(duration.as_millis() as u64);
    // What the service in between has said, where there is one.
    let of_service =
        log.called.lock().take().filter(|called| called.latency_ms.is_none()).unwrap_or_default();
    let called = match result {
        Ok(answer) => Called { status: Some(answer.status), latency_ms, ..of_service },
        Err(failure) => {
            let error = Some(failure.detail.clone().into_owned()).filter(|detail| !detail.is_empty());
            Called { latency_ms, error, ..of_service }
        }
    };
    *log.called.lock() = Some(called);
    log.authorized.lock().clone_from(&call.event.authorized);
    log.session.lock().clone_from(&call.event.session);
    Writer::of_event(gateway, log, call.event).begin(call.event);
}

/// Whether the lines of an event have the headers of the backend's answer.
pub(crate) fn shows_headers(call: &Call<'_>) -> bool {
    call.log.is_some_and(|log| Writer::shows_payloads(&log.logs, &call.event.route_key))
}

/// A backend has answered; templates have not been asked yet.
pub(crate) fn received(gateway: &Gateway, call: &Call<'_>, answer: &Answer, duration: Duration) {
    let Some(log) = call.log else { return };
    Writer::of_event(gateway, log, call.event).received(
        answer.status,
        &answer.headers,
        &answer.body,
        duration,
    );
}

/// A function is about to be called.
pub(crate) fn sending_function(gateway: &Gateway, call: &Call<'_>, function: &FunctionName, payload: &[u8]) {
    let Some(log) = call.log else { return };
    sending(gateway, log, call.event, &function.arn, b"", &String::from_utf8_lossy(payload));
}

/// A function has answered, or failed on its own.
pub(crate) fn invoked(gateway: &Gateway, call: &Call<'_>, invoked: &Invoked, duration: Duration) {
    let Some(log) = call.log else { return };
    *log.called.lock() = Some(Called {
        service_status: Some(invoked.status),
        request_id: invoked.request_id.clone(),
        ..Called::default()
    });
    let writer = Writer::of_event(gateway, log, call.event);
    writer.received(invoked.status, &http::HeaderMap::new(), &invoked.payload, duration);
    writer.invoked(invoked);
}

/// A service is about to be called: method and headers as they are before they are signed.
pub(crate) fn sending_service(
    gateway: &Gateway,
    call: &Call<'_>,
    uri: &str,
    headers: &http::HeaderMap,
    body: &[u8],
) {
    let Some(log) = call.log else { return };
    let mut head = Vec::new();
    for (name, value) in headers {
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
    }
    sending(gateway, log, call.event, uri, &head, &String::from_utf8_lossy(body));
}

/// The function of an authorizer has answered. `is_fault`: it failed, and not to say something.
pub(crate) fn authorizer_invoked(
    gateway: &Gateway,
    call: &Call<'_>,
    invoked: &Invoked,
    duration: Duration,
    is_fault: bool,
) {
    let Some(log) = call.log else { return };
    *log.authorizer.lock() = Some(Called {
        service_status: Some(invoked.status),
        latency_ms: Some(duration.as_millis() as u64),
        request_id: invoked.request_id.clone(),
        ..Called::default()
    });
    let writer = Writer::of_event(gateway, log, call.event);
    let shown = masked_answer(&invoked.payload);
    writer.received(invoked.status, &http::HeaderMap::new(), shown.as_bytes(), duration);
    match is_fault {
        true => writer.invoked(invoked),
        false => writer.invoked(&Invoked { function_error: None, ..invoked.clone() }),
    }
}

/// The address of an authorizer has answered.
pub(crate) fn authorizer_answered(
    gateway: &Gateway,
    call: &Call<'_>,
    (status, body): (u16, &[u8]),
    duration: Duration,
) {
    let Some(log) = call.log else { return };
    let latency_ms = Some(duration.as_millis() as u64);
    *log.authorizer.lock() = Some(Called { service_status: Some(status), latency_ms, ..Called::default() });
    let shown = masked_answer(body);
    let writer = Writer::of_event(gateway, log, call.event);
    writer.received(status, &http::HeaderMap::new(), shown.as_bytes(), duration);
}

/// An authorizer's answer without the API key in it.
fn masked_answer(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let Ok(mut answer) = serde_json::from_slice::<serde_json::Value>(body) else { return text.into_owned() };
    let Some(key) = answer.get_mut("usageIdentifierKey") else { return text.into_owned() };
    if let Some(known) = key.as_str() {
        *key = masked(known).into();
    }
    answer.to_string()
}

/// A message was handled, whatever its integration answered.
pub(crate) fn answered(gateway: &Gateway, log: &Log, event: &Event, answer: &Answer) {
    let Some(log) = log else { return };
    let writer = Writer::of_event(gateway, log, event);
    writer.begin(event);
    writer.completed(answer.status, Some(&answer.body));
    writer.message_sent(event, answer.status);
    end_of_event(gateway, log, event, answer.status, None);
}

/// A message failed after its route was chosen.
pub(crate) fn failed(gateway: &Gateway, log: &Log, event: &Event, failure: &Failure) {
    let Some(log) = log else { return };
    let status = failure.code.row().status;
    let message = failure.code.message_text();
    let writer = Writer::of_event(gateway, log, event);
    writer.begin(event);
    writer.failed(failure.code, &failure.detail);
    writer.gateway_response(failure.code, status, || {
        // The frame of a message that does not fit its model names the message.
        let (name, id) = match (&event.kind, failure.code) {
            (EventKind::Message { message_id }, ErrorCode::InvalidBody) => ("messageId", *message_id),
            _ => ("requestId", event.request_id),
        };
        error_body(message, event.connection.connection_id, name, id)
    });
    writer.message_sent(event, status);
    // What a message lacks to fit its model; of the message itself only lengths and kinds are in it.
    let validation = (failure.code == ErrorCode::InvalidBody).then_some(&*failure.detail);
    let told = Failed::of(failure.code).map(|failed| Failed { message, validation, ..failed });
    end_of_event(gateway, log, event, status, told);
}

/// A message failed for which there is no event: it went over a limit, or no route fits.
pub(crate) fn unrouted(
    gateway: &Gateway,
    handle: &Handle,
    stage: &Stage,
    request_id: RequestId,
    failure: &Failure,
) {
    if stage.logs.is_none() {
        return;
    }
    let event = Event {
        connection: Arc::clone(&handle.facts),
        request_id,
        // A throttle is that of a route, which was chosen then.
        route_key: failure.facts.text("routeKey").unwrap_or_default().into(),
        request_time: now_millis(),
        kind: EventKind::Message { message_id: request_id },
        session: handle.session_facts(),
        authorized: handle.authorized(),
    };
    failed(gateway, &begin(stage), &event, failure);
}

/// The application of a route has taken a message.
pub(crate) fn taken_by_app(gateway: &Gateway, log: &Log, event: &Event, problem: Option<Diagnosis>) {
    let Some(log) = log else { return };
    let code = match problem {
        None => None,
        Some(Diagnosis::CHAT_INTERNAL | Diagnosis::INTERNAL) => Some(ErrorCode::Internal),
        Some(_) => Some(ErrorCode::BadRequest),
    };
    let status = code.map_or(200, |code| code.row().status);
    let writer = Writer::of_event(gateway, log, event);
    writer.begin(event);
    writer.message_sent(event, status);
    end_of_event(gateway, log, event, status, code.and_then(Failed::of));
}

/// A connection has ended, and its backend has been told or not.
pub(crate) fn disconnected(gateway: &Gateway, log: &Log, event: &Event, result: &Result<Answer, Failure>) {
    let Some(log) = log else { return };
    let writer = Writer::of_event(gateway, log, event);
    writer.begin(event);
    let (status, told) = match result {
        Ok(answer) => (answer.status, None),
        Err(failure) => {
            writer.failed(failure.code, &failure.detail);
            (failure.code.row().status, Failed::of(failure.code))
        }
    };
    writer.disconnected(event, status);
    end_of_event(gateway, log, event, status, told);
}

/// A connection has ended whose API has no `$disconnect`.
pub(crate) fn ended(gateway: &Gateway, stage: &Stage, ended: &Ended<'_>) {
    if stage.logs.is_none() {
        return;
    }
    let event = Event {
        connection: Arc::clone(ended.facts),
        request_id: ended.request_id,
        route_key: "$disconnect".into(),
        request_time: now_millis(),
        kind: EventKind::Disconnect { status_code: ended.code, reason: ended.reason.to_owned() },
        session: ended.session.clone(),
        authorized: ended.authorized.clone(),
    };
    disconnected(gateway, &begin(stage), &event, &Ok(Answer::new(200, bytes::Bytes::new())));
}

/// The access line of an event.
fn end_of_event(gateway: &Gateway, log: &EventLog, event: &Event, status: u16, failed: Option<Failed<'_>>) {
    let connection = &event.connection;
    let called = log.called.lock().clone();
    let (message_id, disconnect) = match &event.kind {
        EventKind::Connect => (None, None),
        EventKind::Message { message_id } => (Some(*message_id), None),
        EventKind::Disconnect { status_code, reason } => (None, Some((*status_code, reason.as_str()))),
    };
    let record = Record {
        domain_name: Some(&connection.domain_name),
        connection_id: Some(connection.connection_id),
        connected_at: Some(connection.connected_at),
        event_type: event.event_type(),
        route_key: Some(&*event.route_key).filter(|key| !key.is_empty()),
        message_id,
        request_id: Some(event.request_id),
        request_time: event.request_time,
        status: Some(status),
        disconnect,
        source_ip: Some(connection.source_ip),
        user_agent: connection.user_agent.as_deref(),
        authorized: event.authorized.as_deref(),
        session: event.session.as_ref(),
        failed,
        integration: called.as_ref(),
        ..log.record()
    };
    log.write(gateway, &record);
}

/// A handshake was accepted and its 101 written.
pub(crate) fn opened(gateway: &Gateway, handle: &Handle, attempt: &Attempt) {
    let Some(log) = &attempt.log else { return };
    let facts = &handle.facts;
    let event = Event {
        connection: Arc::clone(facts),
        request_id: attempt.request_id(),
        route_key: "$connect".into(),
        request_time: log.began,
        kind: EventKind::Connect,
        session: handle.session_facts(),
        authorized: handle.authorized(),
    };
    let called = log.called.lock().clone();
    let status = called.as_ref().and_then(|called| called.status).unwrap_or(200);
    let writer = Writer::of_event(gateway, log, &event);
    writer.begin(&event);
    writer.completed(status, None);
    writer.connected(&event);
    let answer = event.authorized.as_ref().and_then(|authorized| authorized.authorizer.as_ref());
    let authorizer = answer.map(|answer| {
        let (status, latency_ms) = (Some(200), Some(answer.latency_ms));
        AuthorizerCall {
            phase: Phase { status, latency_ms, error: None },
            called: of_authorizer(log).unwrap_or(Called {
                status,
                service_status: status,
                latency_ms,
                ..Called::default()
            }),
        }
    });
    let record = Record {
        connection_id: Some(facts.connection_id),
        connected_at: Some(facts.connected_at),
        event_type: "CONNECT",
        route_key: Some("$connect"),
        request_id: Some(event.request_id),
        status: Some(status),
        source_ip: Some(facts.source_ip),
        authorized: event.authorized.as_deref(),
        session: event.session.as_ref(),
        integration: called.as_ref(),
        authorizer: authorizer.as_ref(),
        ..log.record()
    };
    log.write(gateway, &record);
}

/// The call of an authorizer that has answered.
fn of_authorizer(log: &EventLog) -> Option<Called> {
    log.authorizer.lock().clone()
}

/// Which phase of an authorization a diagnosis belongs to.
enum PhaseName {
    Authorizer,
    Authorize,
    Authenticate,
}

fn area_of(diagnosis: Diagnosis) -> &'static str {
    diagnosis.as_str().split('.').next().unwrap_or_default()
}

fn phase_of(code: ErrorCode, diagnosis: Diagnosis) -> Option<PhaseName> {
    match area_of(diagnosis) {
        "authorizer" => Some(PhaseName::Authorizer),
        "apikey" | "management" | "iam" => Some(PhaseName::Authorize),
        "jwt" | "token" | "session" | "cookie" => Some(PhaseName::Authenticate),
        _ if code == ErrorCode::IdentityRejected => Some(PhaseName::Authenticate),
        _ => None,
    }
}

/// A handshake was refused. `reply` is what the client reads, if anything; `status` its status, 499 when it had left, 0 when
/// there was nobody to tell.
pub(crate) fn handshake_refused(
    gateway: &Gateway,
    attempt: &Attempt,
    code: ErrorCode,
    diagnosis: Diagnosis,
    detail: &str,
    (reply, status): (Option<&Reply>, u16),
) {
    let of_operator = || {
        let in_force = gateway.in_force();
        let logs = in_force.unmatched.as_ref().filter(|_| attempt.place.api_id.is_empty())?;
        Some(nowhere(gateway, logs, Asked::default()))
    };
    let Some(log) = attempt.log.clone().or_else(of_operator) else { return };
    if attempt.is_dry_run {
        return;
    }
    let Place { connection_id, address, .. } = attempt.place;
    let request_id = attempt.request_id();
    let called = log.called.lock().clone();
    let (authorized, session) = (log.authorized.lock().clone(), log.session.lock().clone());
    let row = code.row();
    // The texts of other refusals may repeat what the client sent: signatures, for one.
    let area = area_of(diagnosis);
    let is_own = code == ErrorCode::MissingParameters || matches!(area, "authorizer" | "apikey");
    let told = reply.filter(|_| is_own).and_then(message_of);
    let message = told.as_deref().unwrap_or(row.message);

    let writer = Writer::new(gateway, &log, Some("$connect"), connection_id, request_id);
    writer.begin_handshake(address, log.asked.user_agent.as_deref());
    match code {
        // An answer of the backend's own, and no failure of the gateway.
        ErrorCode::BackendRefused => writer.completed(status, reply.and_then(body_of).as_ref()),
        _ => {
            writer.failed(code, detail);
            writer.gateway_response(code, status, || match connection_id {
                Some(id) => error_body(message, id, "requestId", request_id),
                None => body_with(message),
            });
        }
    }
    let phase = Phase { status: Some(status), latency_ms: None, error: Some(detail_or(detail, row.message)) };
    // An authorizer that has answered and did not refuse has let the client in, whatever came then.
    let mut authorizer = of_authorizer(&log).map(|called| {
        let phase = Phase { status: Some(200), latency_ms: called.latency_ms, error: None };
        AuthorizerCall { phase, called }
    });
    let (mut authorize, mut authenticate) = (None, None);
    match phase_of(code, diagnosis) {
        Some(PhaseName::Authorizer) => {
            let called = of_authorizer(&log).unwrap_or_default();
            let phase = Phase { latency_ms: called.latency_ms, ..phase };
            authorizer = Some(AuthorizerCall { phase, called });
        }
        Some(PhaseName::Authorize) => authorize = Some(phase),
        Some(PhaseName::Authenticate) => authenticate = Some(phase),
        None => {}
    }
    let record = Record {
        connection_id,
        event_type: "CONNECT",
        route_key: Some("$connect").filter(|_| !log.api_id.is_empty()),
        request_id: Some(request_id),
        status: Some(status),
        source_ip: address,
        authorized: authorized.as_deref(),
        session: session.as_ref(),
        failed: Failed::of(code).map(|failed| Failed { message, ..failed }),
        integration: called.as_ref(),
        authorizer: authorizer.as_ref(),
        authorize: authorize.as_ref(),
        authenticate: authenticate.as_ref(),
        ..log.record()
    };
    log.write(gateway, &record);
}

fn detail_or(detail: &str, text: &str) -> String {
    if detail.is_empty() { text.to_owned() } else { detail.to_owned() }
}

/// A management call has been answered.
pub(crate) struct Management<'a> {
    /// Where, as far as it was found.
    pub(crate) place: &'a Place,
    /// Access key id or name of the key, once proven.
    pub(crate) caller: Option<&'a str>,
    /// What the caller reads.
    pub(crate) reply: &'a Reply,
    /// Why it was refused.
    pub(crate) refused: Option<(ErrorCode, Diagnosis)>,
}

/// A management call has been answered.
pub(crate) fn managed(gateway: &Gateway, log: &Log, call: &Management<'_>) {
    let Some(log) = log else { return };
    let Management { place, caller, reply, refused } = call;
    let Some(request_id) = place.request_id else { return };
    let status = reply.status().as_u16();
    let route_key = log.asked.route_key.as_deref();
    let writer = Writer::new(gateway, log, route_key, place.connection_id, request_id);
    writer.begin_request();
    match refused {
        None => writer.completed(status, None),
        Some((code, diagnosis)) => {
            writer.failed(*code, diagnosis.as_str());
            // The text of the table: that of the answer may repeat headers and what should have been signed.
            writer.gateway_response(*code, status, || body_with(code.row().message));
        }
    }
    let account = &gateway.config.account_id;
    let authorized = caller.filter(|name| !name.contains(' ')).map(|name| Authorized {
        caller: Some(Caller {
            account_id: account.clone(),
            caller: name.to_owned(),
            user: name.to_owned(),
            user_arn: format!("arn:aws:iam::{account}:user/{name}"),
            access_key: name.to_owned(),
        }),
        ..Authorized::default()
    });
    let record = Record {
        connection_id: place.connection_id,
        event_type: CONNECTION_API,
        route_key,
        request_id: Some(request_id),
        status: Some(status),
        authorized: authorized.as_ref(),
        failed: refused.and_then(|(code, _)| Failed::of(code)),
        ..log.record()
    };
    log.write(gateway, &record);
}

/// A management call whose address leads nowhere has been refused.
pub(crate) fn management_nowhere(
    gateway: &Gateway,
    address: IpAddr,
    method: &http::Method,
    code: ErrorCode,
    diagnosis: Diagnosis,
    reply: &Reply,
) {
    let in_force = gateway.in_force();
    let Some(logs) = &in_force.unmatched else { return };
    let asked = Asked {
        address: Some(address),
        route_key: Some(route_key_of(method, &Endpoint::Connection(String::new()))),
        ..Asked::default()
    };
    let log = Some(nowhere(gateway, logs, asked));
    let id = reply.headers().get("x-amz-apigw-id").and_then(|id| id.to_str().ok());
    let request_id = id.and_then(|id| RequestId::parse(id).ok());
    let place = Place { request_id, ..Place::default() };
    let refused = Some((code, diagnosis));
    managed(gateway, &log, &Management { place: &place, caller: None, reply, refused });
}

/// The bytes of a body that is there as a whole.
fn body_of(reply: &Reply) -> Option<bytes::Bytes> {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;
    Some(reply.body().clone().collect().now_or_never()?.ok()?.to_bytes())
}

/// The text that the client reads.
fn message_of(reply: &Reply) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&body_of(reply)?).ok()?;
    Some(body.get("message")?.as_str()?.to_owned())
}

/// The body of an answer with this text; empty ones have none.
fn body_with(message: &str) -> String {
    match message {
        "" => String::new(),
        message => format!(r#"{{"message":{}}}"#, serde_json::Value::from(message)),
    }
}
