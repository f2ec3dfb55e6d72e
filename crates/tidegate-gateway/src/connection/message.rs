//! One message: choose the route, call its integration, answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use tidegate_core::context::{Event, EventKind, error_body};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::RequestId;
use tidegate_core::journal::Facts;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::policy::Excess;
use tidegate_core::settings::{ErrorFrames, TwoWayErrors};
use tidegate_core::snapshot::{Route, RouteChoice, Stage, StagePolicy};
use tidegate_core::throttle::Bucket;
use tidegate_ws::OutboundMessage;

use super::control;
use super::handle::{CloseCause, Handle};
use super::intake::Queued;
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::integration::{self, Answer, Failure};

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
    let (route, is_json) = match choose(gateway, handle, &stage, &queued, now) {
        Ok(chosen) => chosen,
        Err(failure) => {
            refuse(gateway, handle, &stage, None, place, size, failure, request_id, now);
            return None;
        }
    };
    place.route_key = Some(Arc::clone(&route.key));
    let event = Event {
        connection: Arc::clone(&handle.facts),
        request_id,
        route_key: Arc::clone(&route.key),
        request_time: now,
        kind: EventKind::Message { message_id: gateway.request_id(now) },
        session: handle.session_facts(),
    };
    let message = Message { stage, route, place, event, is_json, text: queued.text };
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

/// A message on its way from its route to its reply.
struct Message {
    stage: Arc<Stage>,
    route: Arc<Route>,
    place: Place,
    event: Event,
    is_json: bool,
    text: String,
}

impl Message {
    fn call<'a>(&'a self, handle: &'a Handle) -> integration::Call<'a> {
        integration::Call {
            event: &self.event,
            stage: &self.stage,
            headers: handle.kept_headers.as_deref(),
            query: "",
            body: &self.text,
            is_json: self.is_json,
            forwarded_for: None,
        }
    }

    fn conclude(self, gateway: &Gateway, handle: &Handle, result: Result<Answer, Failure>, now: u64) {
        let Self { stage, route, place, event, text, .. } = self;
        let size = text.len();
        match result {
            Ok(answer) => reply(gateway, handle, &stage, &route, place, size, answer, now),
            Err(failure) => {
                refuse(gateway, handle, &stage, Some(&route), place, size, failure, event.request_id, now);
            }
        }
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
        let reason = "Too many messages";
        handle.close(CloseCause::policy_violation(reason, Diagnosis::RATELIMIT_MESSAGES));
    }
    let detail = format!("over {} messages a second, {} at once", throttle.rate, throttle.burst);
    Err(Failure::new(ErrorCode::MessagesExceeded, Diagnosis::RATELIMIT_MESSAGES, detail))
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
    };
    let call = integration::Call {
        event: &event,
        stage,
        headers: handle.kept_headers.as_deref(),
        query: "",
        body,
        is_json: true,
        forwarded_for: None,
    };
    let mut place = gateway.place(handle);
    place.request_id = Some(event.request_id);
    place.route_key = Some(Arc::clone(&route.key));
    let size = body.len();
    match integration::call(gateway, &route.integration, &call).await {
        Ok(answer) if answer.status < 400 => {}
        Ok(answer) => gateway.notice(Notice::BackendRefusedMessage {
            facts: Facts::none(),
            place,
            status: answer.status,
            diagnosis: answer.diagnosis.unwrap_or(Diagnosis::REPLY_BACKEND_FAILED),
        }),
        Err(Failure { code, diagnosis, detail }) => {
            gateway.notice(Notice::MessageFailed {
                facts: Facts::none(),
                place,
                size,
                code,
                diagnosis,
                detail: detail.into_owned(),
            });
        }
    }
}

/// The route of a message, or why there is none. The second value says whether the message is JSON.
fn choose(
    gateway: &Gateway,
    handle: &Handle,
    stage: &Stage,
    queued: &Queued,
    now: u64,
) -> Result<(Arc<Route>, bool), Failure> {
    let Some(deployment) = &stage.deployment else {
        return Err(Failure::new(
            ErrorCode::NoRoute,
            Diagnosis::STAGE_NOT_DEPLOYED,
            "the stage has no deployment",
        ));
    };
    // A binary message travels as base64, but is routed by what it says, when that is text.
    let decoded =
        queued.is_base64.then(|| base64::engine::general_purpose::STANDARD.decode(&queued.text).ok());
    let decoded = decoded.flatten().and_then(|bytes| String::from_utf8(bytes).ok());
    let policy = stage.policy.as_deref();
    let RouteChoice { route, mut selected, diagnosis } =
        deployment.select_route_with(policy, decoded.as_deref().unwrap_or(&queued.text));
    if let (Some(Diagnosis::HANDLER_NOT_ALLOWED), Some(policy)) = (diagnosis, policy) {
        let handler: String = selected.value.chars().take(128).collect();
        // Once for each name: a client could fill the log otherwise.
        if gateway.unlisted_handlers.is_new(stage, &handler) {
            let nearest = deployment.nearest_handler(policy, &handler).map(str::to_owned);
            gateway.notice(Notice::HandlerNotAllowed {
                facts: Facts::none(),
                place: gateway.place(handle),
                handler,
                nearest,
            });
        }
    }
    selected.is_json &= !queued.is_base64;
    let Some(route) = route else {
        let diagnosis =
            if deployment.routes.is_empty() { Diagnosis::ROUTE_NONE } else { Diagnosis::ROUTE_NO_MATCH };
        // The value may hold anything the client sent, so only its length is told.
        let detail =
            format!("the selection gave {} characters that name no route", selected.value.chars().count());
        return Err(Failure::new(ErrorCode::NoRoute, diagnosis, detail));
    };
    if !gateway.throttles.admit(stage, &route.key, now) {
        return Err(Failure::new(
            ErrorCode::Throttled,
            Diagnosis::RATELIMIT_STAGE,
            "the throttle is exhausted",
        ));
    }
    Ok((Arc::clone(route), selected.is_json))
}

#[expect(clippy::too_many_arguments, reason = "everything that a reply and its notice say")]
fn reply(
    gateway: &Gateway,
    handle: &Handle,
    stage: &Stage,
    route: &Route,
    place: Place,
    size: usize,
    answer: Answer,
    now: u64,
) {
    let is_error = answer.status >= 400;
    let is_wanted = !(is_error && stage.settings.integration.two_way_errors == TwoWayErrors::Drop);
    let has_body = !answer.body.is_empty();
    if is_error {
        let diagnosis = answer.diagnosis.unwrap_or(Diagnosis::REPLY_BACKEND_FAILED);
        gateway.notice(Notice::BackendRefusedMessage {
            facts: Facts::none(),
            place: place.clone(),
            status: answer.status,
            diagnosis,
        });
    }
    if route.is_two_way && has_body && is_wanted {
        if answer.body.len() > stage.settings.data_plane.max_message_bytes {
            let detail = format!("the answer has {} bytes", answer.body.len());
            let failure = Failure::new(ErrorCode::ReplyTooLarge, Diagnosis::MESSAGE_TOO_LARGE_OUT, detail);
            let request_id = place.request_id;
            if let Some(request_id) = request_id {
                refuse(gateway, handle, stage, Some(route), place, size, failure, request_id, now);
            }
            return;
        }
        let _ = handle.push_reply(&OutboundMessage::text(answer.body), now);
    }
    let dropped_reply = !route.is_two_way && has_body && route.lacks_route_response;
    gateway.notice(Notice::MessageHandled {
        facts: Facts::none(),
        remark: None,
        place,
        size,
        status: answer.status,
        dropped_reply,
    });
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
    let row = failure.code.row();
    // Backends' troubles are one text to clients, as the real service words them for messages.
    let message = match failure.code {
        ErrorCode::IntegrationFailure | ErrorCode::ReplyTooLarge => "Internal server error",
        _ => row.message,
    };
    let frame = match stage.settings.data_plane.error_frames {
        ErrorFrames::None => None,
        ErrorFrames::Aws => Some(error_body(message, handle.facts.connection_id, "requestId", request_id)),
        ErrorFrames::Detailed => {
            let mut body = error_body(message, handle.facts.connection_id, "requestId", request_id);
            body.pop();
            let key = serde_json::Value::from(route.map_or("", |route| &route.key));
            Some(format!(r#"{body}, "responseType":"{}", "routeKey":{key}}}"#, row.response_type))
        }
    };
    if let Some(frame) = frame {
        // A client that reads too slowly misses the frame as it misses everything else.
        let _ = handle.push_reply(&OutboundMessage::text(Bytes::from(frame)), now);
    }
    let Failure { code, diagnosis, detail } = failure;
    gateway.notice(Notice::MessageFailed {
        facts: Facts::none(),
        place,
        size,
        code,
        diagnosis,
        detail: detail.into_owned(),
    });
}
