//! One message: choose the route, call its integration, answer.

use std::borrow::Cow;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use bytes::Bytes;
use tidegate_core::app;
use tidegate_core::context::{Event, EventKind, error_body};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::RequestId;
use tidegate_core::journal::{Facts, Kind};
use tidegate_core::model::{Misfit, Unfit};
use tidegate_core::notice::{Notice, Place};
use tidegate_core::policy::Excess;
use tidegate_core::settings::{ErrorFrames, TwoWayErrors};
use tidegate_core::snapshot::{IntegrationKind, Route, RouteChoice, Stage, StagePolicy};
use tidegate_core::throttle::Bucket;
use tidegate_ws::OutboundMessage;

use super::close_reason;
use super::control;
use super::handle::{CloseCause, Handle};
use super::intake::Queued;
use super::remark::{self, Remark};
use crate::capture::Way;
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::integration::{self, Answer, Failure};
use crate::logs::{self, Log};

/// Key of the route that takes what no other does.
const DEFAULT: &str = "$default";

/// A message whose answer is awaited.
pub(crate) type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Handles one message from its route to its reply, which is over at once unless somebody has to be asked; then
/// the rest is returned. Never fails: whatever goes wrong is told to the client as a frame and to the operator
/// as a notice. To be called and polled by the connection's own task.
pub(crate) fn begin(gateway: &Arc<Gateway>, handle: &Arc<Handle>, queued: Queued, now: u64) -> Option<Call> {
    let request_id = gateway.request_id(now);
    let mut place = gateway.place(handle);
    place.request_id = Some(request_id);
    let size = queued.text.len();

    // One load: this message sees one deployment from its route to its reply.
    let stage = gateway.stage(&handle.facts.api_id, &handle.facts.stage)?;
    if let Some(policy) = &stage.policy {
        if let Err(failure) = count(handle, policy, now) {
            logs::unrouted(gateway, handle, &stage, request_id, &failure);
            refuse(gateway, handle, &stage, None, place, size, failure, request_id, now);
            return None;
        }
        if !queued.is_base64 && control::find(policy, &queued.text).is_some() {
            let (gateway, handle, policy) = (Arc::clone(gateway), Arc::clone(handle), Arc::clone(policy));
            return Some(Box::pin(async move {
                if let Some(raw) = control::find(&policy, &queued.text) {
                    control::handle(&gateway, &handle, &stage, &policy, raw).await;
                }
            }));
        }
    }
    let chosen = match admit_to_account(gateway, now) {
        Err(failure) => Err(failure),
        Ok(()) => match before_route(gateway, handle, &queued) {
            None => choose(gateway, handle, &stage, &queued, now),
            Some(reply) => match admit_to_route(gateway, &stage, DEFAULT, now) {
                Err(failure) => Err(failure),
                Ok(()) => {
                    take(gateway, handle, &stage, &queued, reply, place, now);
                    return None;
                }
            },
        },
    };
    let Chosen { route, is_json, remark } = match chosen {
        Ok(chosen) => chosen,
        Err(failure) => {
            logs::unrouted(gateway, handle, &stage, request_id, &failure);
            refuse(gateway, handle, &stage, None, place, size, failure, request_id, now);
            return None;
        }
    };
    place.route_key = Some(Arc::clone(&route.key));
    gateway.capture_payload(&place, Way::In, queued.text.as_bytes(), queued.is_base64, now);
    let message_id = gateway.request_id(now);
    let event = Event {
        connection: Arc::clone(&handle.facts),
        request_id,
        route_key: Arc::clone(&route.key),
        request_time: now,
        kind: EventKind::Message { message_id },
        session: handle.session_facts(),
        authorized: handle.authorized(),
    };
    let log = logs::begin(&stage);
    if let Some(models) = &route.models
        && let Err(unfit) = models.check(&plain_text(&queued))
    {
        let failure = invalid(&unfit);
        logs::failed(gateway, &log, &event, &failure);
        // The frame of a message that does not fit names the message.
        let id = if failure.code == ErrorCode::InvalidBody { message_id } else { request_id };
        refuse(gateway, handle, &stage, Some(&route), place, size, failure, id, now);
        return None;
    }
    if let IntegrationKind::App(name) = &route.integration.kind {
        let Some(app) = gateway.apps.find(name) else {
            let failure = integration::no_app(name);
            logs::failed(gateway, &log, &event, &failure);
            refuse(gateway, handle, &stage, Some(&route), place, size, failure, request_id, now);
            return None;
        };
        let (gateway, handle, app) = (Arc::clone(gateway), Arc::clone(handle), Arc::clone(app));
        return Some(Box::pin(async move {
            let message = app::Message {
                connection: &event.connection,
                request_id,
                identity: event.session.as_ref().map(|session| &session.identity),
                text: &queued.text,
                is_binary: queued.is_base64,
                now,
            };
            let reply = app.message(message).await;
            logs::taken_by_app(
                &gateway,
                &log,
                &event,
                reply.problem.as_ref().map(|problem| problem.diagnosis),
            );
            conclude_app(&gateway, &handle, reply, place, size);
        }));
    }
    let Queued { text, is_base64, .. } = queued;
    let message = Message { stage, route, place, event, is_json, remark, text, is_base64, log };
    if let Some(result) =
        integration::answer_at_once(gateway, &message.route.integration, &message.call(handle))
    {
        message.conclude(gateway, handle, result, now);
        return None;
    }
    let (gateway, handle) = (Arc::clone(gateway), Arc::clone(handle));
    Some(Box::pin(async move {
        let result = integration::call(&gateway, &message.route.integration, &message.call(&handle)).await;
        message.conclude(&gateway, &handle, result, now_millis());
    }))
}

/// What the application says that has let the connection in, if it wants to.
fn before_route(gateway: &Gateway, handle: &Handle, queued: &Queued) -> Option<app::Reply> {
    // The stage of the handshake: who let it in does not change with a later deployment.
    let app = gateway.apps.of_stage(&handle.stage)?;
    if queued.is_base64 { None } else { app.before_route(&queued.text) }
}

/// A text that the connection's application has dealt with: told and logged like one of `$default`.
fn take(
    gateway: &Gateway,
    handle: &Handle,
    stage: &Stage,
    queued: &Queued,
    reply: app::Reply,
    mut place: Place,
    now: u64,
) {
    place.route_key = Some(DEFAULT.into());
    gateway.capture_payload(&place, Way::In, queued.text.as_bytes(), false, now);
    let log = logs::begin(stage);
    if let (Some(_), Some(request_id)) = (&log, place.request_id) {
        let event = Event {
            connection: Arc::clone(&handle.facts),
            request_id,
            route_key: DEFAULT.into(),
            request_time: now,
            kind: EventKind::Message { message_id: gateway.request_id(now) },
            session: handle.session_facts(),
            authorized: handle.authorized(),
        };
        let problem = reply.problem.as_ref().map(|problem| problem.diagnosis);
        logs::taken_by_app(gateway, &log, &event, problem);
    }
    conclude_app(gateway, handle, reply, place, queued.text.len());
}

/// Gives an application's answer to the client, and to operators what was wrong with the message.
fn conclude_app(gateway: &Gateway, handle: &Handle, reply: app::Reply, place: Place, size: usize) {
    let now = now_millis();
    if let Some(text) = reply.text {
        gateway.capture_payload(&place, Way::Out, &text, false, now);
        let message = OutboundMessage::text(text);
        if reply.is_urgent {
            handle.push_first(&message, now);
        } else {
            // A client that reads too slowly misses it as it misses everything else.
            let _ = handle.push_reply(&message, now);
        }
    }
    gateway.notice(match reply.problem {
        None => Notice::MessageHandled {
            facts: Facts::none(),
            remark: None,
            place,
            size,
            status: 200,
            dropped_reply: false,
        },
        Some(app::Problem { diagnosis, facts }) => Notice::MessageFailed {
            facts: gateway.facts(|| facts.with("size", size)),
            place,
            size,
            code: match diagnosis {
                Diagnosis::CHAT_INTERNAL | Diagnosis::INTERNAL => ErrorCode::Internal,
                _ => ErrorCode::BadRequest,
            },
            diagnosis,
            detail: "the application refused it".to_owned(),
        },
    });
}

/// A message on its way from its route to its reply.
struct Message {
    stage: Arc<Stage>,
    route: Arc<Route>,
    place: Place,
    event: Event,
    is_json: bool,
    remark: Option<Box<Remark>>,
    text: String,
    /// `text` is a binary message.
    is_base64: bool,
    log: Log,
}

/// Where a message goes.
struct Chosen {
    route: Arc<Route>,
    is_json: bool,
    remark: Option<Box<Remark>>,
}

impl Message {
    fn call<'a>(&'a self, handle: &'a Handle) -> integration::Call<'a> {
        integration::Call {
            reads_headers: false,
            event: &self.event,
            stage: &self.stage,
            headers: handle.kept_headers.as_deref(),
            spelling: None,
            query: "",
            body: &self.text,
            is_base64: self.is_base64,
            payload: None,
            is_json: self.is_json,
            forwarded_for: None,
            client_ref: handle.client_ref.as_ref(),
            log: self.log.as_deref(),
        }
    }

    fn conclude(self, gateway: &Gateway, handle: &Arc<Handle>, result: Result<Answer, Failure>, now: u64) {
        match result {
            Ok(answer) => self.reply(gateway, handle, answer, now),
            Err(failure) => {
                let Self { stage, route, place, event, text, log, .. } = self;
                let failure = of_message(failure);
                logs::failed(gateway, &log, &event, &failure);
                let size = text.len();
                refuse(gateway, handle, &stage, Some(&route), place, size, failure, event.request_id, now);
            }
        }
    }

    fn reply(self, gateway: &Gateway, handle: &Arc<Handle>, answer: Answer, now: u64) {
        let Self { stage, route, place, event, remark, text, log, .. } = self;
        let size = text.len();
        let request_id = event.request_id;
        let is_error = answer.status >= 400;
        gateway.capture_payload(&place, Way::Out, &answer.body, false, now);
        if is_error {
            note_refusal(
                gateway,
                place.clone(),
                size,
                &answer,
                denial_facts(&stage, &route, &event, &answer),
            );
        } else {
            note_pass(gateway, &place, &route, &event, answer.status);
        }
        let settings = &stage.settings;
        let is_wanted = !(is_error && settings.integration.two_way_errors == TwoWayErrors::Drop);
        let has_body = !answer.body.is_empty();
        let length = answer.body.len();
        let is_empty = !is_error && matches!(answer.body.trim_ascii(), b"" | b"{}");
        let is_sent = route.is_two_way && has_body && is_wanted;
        if is_sent && length > settings.data_plane.max_message_bytes {
            let detail = format!("the answer has {length} bytes");
            let failure = Failure::new(ErrorCode::ReplyTooLarge, Diagnosis::MESSAGE_TOO_LARGE_OUT, detail)
                .with("replyLength", length)
                .with("limit", settings.data_plane.max_message_bytes);
            logs::failed(gateway, &log, &event, &failure);
            refuse(gateway, handle, &stage, Some(&route), place, size, failure, request_id, now);
            return;
        }
        let status = answer.status;
        logs::answered(gateway, &log, &event, &answer);
        if is_sent && answer.leaks() && settings.integration.hide_backend_errors {
            // What a developer should see is not for clients; the operator has the cause.
            let told = developer(gateway, handle, Diagnosis::ERROR_DETAIL_LEAK);
            if let Some(frame) =
                error_frame(handle, &stage, Some(&route), ErrorCode::Internal, request_id, told)
            {
                let _ = handle.push_reply(&OutboundMessage::text(frame), now);
            }
        } else if is_sent {
            let _ = handle.push_reply(&OutboundMessage::text(answer.body), now);
        }
        let dropped_reply = !route.is_two_way && has_body && route.lacks_route_response;
        let mut remark = remark.map(|remark| *remark);
        if remark.is_none() && gateway.keeps_facts() && !is_error {
            let told = |diagnosis| Remark {
                diagnosis,
                facts: Facts::none()
                    .with("size", size)
                    .with("replyStatus", status)
                    .with("replyLength", length)
                    .with("routeResponse", route.is_two_way),
            };
            if is_sent && is_empty && handle.remark_once(remark::kind::EMPTY) {
                remark = Some(told(Diagnosis::REPLY_EMPTY_MESSAGE));
            } else if !is_sent && remark::is_heartbeat(&text) && remark::is_unanswered(handle, now) {
                remark = Some(told(Diagnosis::CONN_APP_HEARTBEAT_UNANSWERED));
            } else if dropped_reply && is_hourly(&route.seen.told_unanswered_at, now) {
                remark = Some(told(Diagnosis::REPLY_NO_ROUTE_RESPONSE));
            }
        }
        let (remark, facts) = match remark {
            Some(Remark { diagnosis, facts }) => (Some(diagnosis), facts),
            None => (None, Facts::none()),
        };
        gateway.notice(Notice::MessageHandled { facts, remark, place, size, status, dropped_reply });
    }
}

/// Counts a message against the limit of its connection. Over it the connection ends, or the message does.
fn count(handle: &Handle, policy: &StagePolicy, now: u64) -> Result<(), Failure> {
    let messages = &policy.policy.messages;
    let Some(throttle) = messages.throttle() else { return Ok(()) };
    let is_within = {
        let mut bucket = handle.membership().messages.lock();
        bucket.get_or_insert_with(|| Bucket::full(throttle, now)).take(throttle, now)
    };
    if is_within {
        return Ok(());
    }
    if messages.excess == Excess::Close {
        let cause =
            CloseCause::policy_violation(close_reason::TOO_MANY_MESSAGES, Diagnosis::RATELIMIT_MESSAGES);
        handle.close(cause.with("limit", throttle.rate).with("burst", throttle.burst));
    }
    let detail = format!("over {} messages a second, {} at once", throttle.rate, throttle.burst);
    Err(Failure::new(ErrorCode::MessagesExceeded, Diagnosis::RATELIMIT_MESSAGES, detail)
        .with("limit", throttle.rate)
        .with("burst", throttle.burst)
        .with("count", handle.traffic().messages_in))
}

/// Calls a route for something that the gateway itself has to say. Its answer is for nobody.
pub(super) async fn tell(
    gateway: &Gateway,
    handle: &Arc<Handle>,
    stage: &Arc<Stage>,
    route: &Arc<Route>,
    body: &str,
) {
    let now = now_millis();
    let event = Event {
        connection: Arc::clone(&handle.facts),
        request_id: gateway.request_id(now),
        route_key: Arc::clone(&route.key),
        request_time: now,
        kind: EventKind::Message { message_id: gateway.request_id(now) },
        session: handle.session_facts(),
        authorized: handle.authorized(),
    };
    let call = integration::Call {
        reads_headers: false,
        event: &event,
        stage,
        headers: handle.kept_headers.as_deref(),
        spelling: None,
        query: "",
        body,
        is_base64: false,
        payload: None,
        is_json: true,
        forwarded_for: None,
        client_ref: handle.client_ref.as_ref(),
        log: None,
    };
    let mut place = gateway.place(handle);
    place.request_id = Some(event.request_id);
    place.route_key = Some(Arc::clone(&route.key));
    let size = body.len();
    match integration::call(gateway, &route.integration, &call).await {
        Ok(answer) if answer.status < 400 => {}
        Ok(answer) => note_refusal(gateway, place, size, &answer, Facts::none()),
        Err(failure) => {
            let Failure { code, diagnosis, detail, facts } = of_message(failure);
            let facts = gateway.facts(|| facts.with("size", size));
            let detail = detail.into_owned();
            gateway.notice(Notice::MessageFailed { facts, place, size, code, diagnosis, detail });
        }
    }
}

/// Counts a message against the limit of all APIs together.
fn admit_to_account(gateway: &Gateway, now: u64) -> Result<(), Failure> {
    gateway.account.admit_request(now).map_err(|reached| {
        let detail = "the limit of the account is reached";
        Failure::new(ErrorCode::Throttled, Diagnosis::RATELIMIT_ACCOUNT, detail)
            .with("of", "account")
            .with("limit", reached.rate)
            .with("burst", reached.burst)
    })
}

/// Counts a message against the throttle of its route.
fn admit_to_route(gateway: &Gateway, stage: &Stage, route_key: &str, now: u64) -> Result<(), Failure> {
    if gateway.throttles.admit(stage, route_key, now) {
        return Ok(());
    }
    let failure = Failure::new(ErrorCode::Throttled, Diagnosis::RATELIMIT_STAGE, "the throttle is exhausted");
    Err(match stage.throttle(route_key) {
        Some(throttle) => {
            failure.with("routeKey", route_key).with("limit", throttle.rate).with("burst", throttle.burst)
        }
        None => failure,
    })
}

/// The route of a message, or why there is none.
fn choose(
    gateway: &Gateway,
    handle: &Handle,
    stage: &Stage,
    queued: &Queued,
    now: u64,
) -> Result<Chosen, Failure> {
    let Some(deployment) = &stage.deployment else {
        return Err(Failure::new(
            ErrorCode::NoRoute,
            Diagnosis::STAGE_NOT_DEPLOYED,
            "the stage has no deployment",
        ));
    };
    let text = plain_text(queued);
    let text = &*text;
    let policy = stage.policy.as_deref();
    let opcode = if queued.is_base64 { "binary" } else { "text" };
    let RouteChoice { route, mut selected, diagnosis } = deployment.select_route_with(policy, text);
    if let (Some(Diagnosis::HANDLER_NOT_ALLOWED), Some(policy)) = (diagnosis, policy) {
        let handler: String = selected.value.chars().take(128).collect();
        // Once for each name: a client could fill the log otherwise.
        if gateway.unlisted_handlers.is_new(stage, &handler) {
            let nearest = deployment.nearest_handler(policy, &handler).map(str::to_owned);
            let facts = gateway.facts(|| remark::facts_of(stage, deployment, &selected, text, opcode));
            gateway.notice(Notice::HandlerNotAllowed {
                facts,
                place: gateway.place(handle),
                handler,
                nearest,
            });
        }
    }
    let Some(route) = route else {
        let diagnosis =
            if deployment.routes.is_empty() { Diagnosis::ROUTE_NONE } else { Diagnosis::ROUTE_NO_MATCH };
        // The value may hold anything the client sent, so only its length is told.
        let detail =
            format!("the selection gave {} characters that name no route", selected.value.chars().count());
        let mut failure = Failure::new(ErrorCode::NoRoute, diagnosis, detail);
        if gateway.keeps_facts() {
            failure.facts = remark::facts_of(stage, deployment, &selected, text, opcode)
                .with("causeId", remark::explain(deployment, &selected, text).as_str());
        }
        return Err(failure);
    };
    let is_default = &*route.key == "$default" && diagnosis.is_none();
    let is_app = matches!(route.integration.kind, IntegrationKind::App(_));
    let remark = match is_default && !is_app && gateway.keeps_facts() {
        true => remark::on_default(handle, stage, deployment, &selected, text, opcode),
        false => None,
    };
    selected.is_json &= !queued.is_base64;
    admit_to_route(gateway, stage, &route.key, now)?;
    Ok(Chosen { route: Arc::clone(route), is_json: selected.is_json, remark })
}

/// True once an hour.
fn is_hourly(told_at: &AtomicU64, now: u64) -> bool {
    const HOUR: u64 = 3600 * 1000;
    let before = told_at.load(Ordering::Relaxed);
    (before == 0 || now.saturating_sub(before) >= HOUR)
        && told_at.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// What a message says. A binary one travels as base64, but is read as what it is, when that is text.
fn plain_text(queued: &Queued) -> Cow<'_, str> {
    let decoded =
        queued.is_base64.then(|| base64::engine::general_purpose::STANDARD.decode(&queued.text).ok());
    let decoded = decoded.flatten().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.map_or(Cow::Borrowed(queued.text.as_str()), Cow::Owned)
}

/// The failure of a message that does not fit its route's model. The detail is what the service calls
/// `validationErrorString`.
fn invalid(unfit: &Unfit) -> Failure {
    let code = match unfit {
        Unfit::Broken(_) => ErrorCode::Misconfigured,
        Unfit::NoModel | Unfit::Misfit(_) => ErrorCode::InvalidBody,
    };
    let failure = Failure::new(code, Diagnosis::MESSAGE_INVALID_MODEL, unfit.to_string());
    match unfit {
        Unfit::Misfit(Misfit::Violations(violations)) => failure.with("violations", violations.clone()),
        _ => failure,
    }
}

/// A failure of the integration as the failure of a message; the cause goes along.
fn of_message(failure: Failure) -> Failure {
    let is_unreachable = matches!(
        failure.code,
        ErrorCode::IntegrationTimeout | ErrorCode::IntegrationFailure | ErrorCode::BackendBusy
    );
    if !is_unreachable {
        return failure;
    }
    let cause = failure.diagnosis;
    let diagnosis = match cause {
        Diagnosis::INTEGRATION_TIMEOUT => Diagnosis::REPLY_TIMEOUT,
        _ => Diagnosis::REPLY_BACKEND_FAILED,
    };
    let detail = format!("{cause}: {}", failure.detail);
    Failure { diagnosis, detail: detail.into(), ..failure }.with("causeId", cause.as_str())
}

/// The channel of a message, where there is only one that it can be about.
fn only_channel(event: &Event) -> Option<&str> {
    let channels = event.session.as_ref().map(|session| session.channels.as_str())?;
    (!channels.is_empty() && !channels.contains(',')).then_some(channels)
}

/// What tells apart why a backend denies permission, which answers it with one text: who else passes. From the first denial on
/// the routes of the deployment remember it.
fn denial_facts(stage: &Stage, route: &Route, event: &Event, answer: &Answer) -> Facts {
    if answer.diagnosis != Some(Diagnosis::PERM_USER_LACKS) {
        return Facts::none();
    }
    let had_denials = route.seen.has_denials.swap(true, Ordering::Relaxed);
    if let (false, Some(deployment)) = (had_denials, &stage.deployment) {
        deployment.routes.values().for_each(|other| other.seen.has_denials.store(true, Ordering::Relaxed));
    }
    let mut facts = Facts::none().with("hasPassed", route.seen.has_worked.load(Ordering::Relaxed));
    facts.add_some("channel", only_channel(event));
    facts
}

/// The route works. Where somebody was denied, who passes is worth an entry, once.
fn note_pass(gateway: &Gateway, place: &Place, route: &Route, event: &Event, status: u16) {
    if !route.seen.has_worked.load(Ordering::Relaxed) {
        route.seen.has_worked.store(true, Ordering::Relaxed);
    }
    if !route.seen.has_denials.load(Ordering::Relaxed) || !gateway.keeps_facts() {
        return;
    }
    let channel = only_channel(event);
    let mut hasher = DefaultHasher::new();
    place.user.hash(&mut hasher);
    channel.hash(&mut hasher);
    if place.user.is_none() {
        place.connection_id.hash(&mut hasher);
    }
    if route.seen.is_first_pass(hasher.finish()) {
        let mut facts = Facts::none().with("replyStatus", status);
        facts.add_some("channel", channel);
        let (place, kind) = (place.clone(), Kind::Message);
        gateway.notice(Notice::Decided { place, kind, remark: None, facts });
    }
}

/// Tells the operator that a backend answered a message with 4xx or 5xx.
fn note_refusal(gateway: &Gateway, place: Place, size: usize, answer: &Answer, more: Facts) {
    let cause = answer.diagnosis;
    let diagnosis = match cause {
        None | Some(Diagnosis::INTEGRATION_ERROR_STATUS) => Diagnosis::REPLY_BACKEND_FAILED,
        Some(cause) => cause,
    };
    let facts = gateway.facts(|| {
        let mut facts = answer.facts();
        facts.add("size", size);
        facts.add("replyStatus", answer.status);
        facts.add("replyLength", answer.body.len());
        facts.add_some("causeId", cause.filter(|cause| *cause != diagnosis).map(Diagnosis::as_str));
        facts.extend(more);
        facts
    });
    gateway.notice(Notice::BackendRefusedMessage { facts, place, status: answer.status, diagnosis });
}

/// What a client is told of a failure, if anything.
fn error_frame(
    handle: &Handle,
    stage: &Stage,
    route: Option<&Route>,
    code: ErrorCode,
    request_id: RequestId,
    told: Option<Diagnosis>,
) -> Option<Bytes> {
    let row = code.row();
    let message = code.message_text();
    let id = handle.facts.connection_id;
    let id_name = if code == ErrorCode::InvalidBody { "messageId" } else { "requestId" };
    let mut body = match stage.settings.data_plane.error_frames {
        ErrorFrames::None => return None,
        ErrorFrames::Aws => error_body(message, id, id_name, request_id),
        ErrorFrames::Detailed => {
            let mut body = error_body(message, id, id_name, request_id);
            body.pop();
            let key = serde_json::Value::from(route.map_or("", |route| &route.key));
            format!(r#"{body}, "responseType":"{}", "routeKey":{key}}}"#, row.response_type)
        }
    };
    if let Some(told) = told {
        let told = serde_json::json!({ "id": told.as_str(), "sentence": told.describe().title });
        body.pop();
        body = format!(r#"{body}, "tidegate": {told}}}"#);
    }
    Some(Bytes::from(body))
}

/// The diagnosis, where the client is one that is told it.
fn developer(gateway: &Gateway, handle: &Handle, diagnosis: Diagnosis) -> Option<Diagnosis> {
    gateway.is_debugged(handle.facts.source_ip).then_some(diagnosis)
}

/// Tells client and operator what went wrong. The connection stays open.
#[expect(clippy::too_many_arguments, reason = "everything that an error frame and its notice say")]
fn refuse(
    gateway: &Gateway,
    handle: &Handle,
    stage: &Stage,
    route: Option<&Route>,
    place: Place,
    size: usize,
    failure: Failure,
    request_id: RequestId,
    now: u64,
) {
    let told = developer(gateway, handle, failure.diagnosis);
    let frame = error_frame(handle, stage, route, failure.code, request_id, told);
    if let Some(frame) = frame {
        // A client that reads too slowly misses the frame as it misses everything else.
        let _ = handle.push_reply(&OutboundMessage::text(frame), now);
    }
    let Failure { code, diagnosis, detail, mut facts } = failure;
    let facts = gateway.facts(|| {
        if !facts.has("size") {
            facts.add("size", size);
        }
        facts
    });
    gateway.notice(Notice::MessageFailed {
        facts,
        place,
        size,
        code,
        diagnosis,
        detail: detail.into_owned(),
    });
}
