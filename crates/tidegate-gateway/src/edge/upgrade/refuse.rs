//! Refusals of handshakes: how they are worded, and who is told.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use http_body_util::Full;
use tidegate_auth::BEARER_SUBPROTOCOL;
use tidegate_core::app;
use tidegate_core::context::error_body;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::journal::{self, Facts};
use tidegate_core::notice::{Notice, Place};
use tidegate_core::snapshot::Stage;
use tidegate_ws::{CloseCode, CloseFrame};

use super::super::Reply;
use super::super::attempt::Attempt;
use super::super::client_address::ClientAddress;
use super::super::refusal::{self, set_retry_after};
use super::answer::{is_passed_on, set_ids};
use super::{Admitted, OpenConnection, Outcome, UpgradeRequest, release};
use crate::admission::{Outcome as AttemptOutcome, Refused};
use crate::apps;
use crate::authorizer::Refusal;
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::integration::{Answer, Failure};

impl UpgradeRequest {
    /// With which code a refusal is told as an end; nothing where it is told by its status.
    fn refusal_close_code(&self, status: u16) -> Option<u16> {
        let is_close = self.stage.settings.connect.reject_as_close && !self.attempt.is_dry_run;
        is_close.then(|| 4000 + status.min(999))
    }

    pub(super) fn note_close_code(&mut self, status: u16) {
        if let Some(close_code) = self.refusal_close_code(status) {
            self.attempt.note("closeCode", close_code);
        }
    }

    /// A refusal that the client sees as an end has an entry as such.
    pub(super) fn note_refused_after_open(
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
    pub(super) fn closing(&self, told: Option<&app::Refusal>, status: u16) -> Option<CloseFrame> {
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
    pub(super) fn refused(&self, reply: Reply, close: Option<CloseFrame>) -> Outcome {
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
    /// Frees the id and words the refusal.
    pub(super) fn reject(mut self, gateway: &Gateway, rejection: Rejection) -> Outcome {
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
            Rejection::Gateway(Refusal { failure: Failure { code, diagnosis, facts, .. }, .. })
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
                (super::super::empty(refusal.status), code, refusal.diagnosis, refusal.detail)
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
            Rejection::Gateway(Refusal { failure, message, error_type, challenge }) => {
                let row = failure.code.row();
                let message = message.unwrap_or_else(|| row.message.into());
                let body = error_body(message, facts.connection_id, "requestId", self.request_id);
                let mut reply = super::super::empty(row.status);
                *reply.body_mut() = Full::new(Bytes::from(body));
                let json = HeaderValue::from_static("application/json; charset=UTF-8");
                reply.headers_mut().insert(CONTENT_TYPE, json);
                let error_type = HeaderValue::from_static(error_type.unwrap_or(row.aws_name));
                reply.headers_mut().insert("x-amzn-errortype", error_type);
                // One that is no header has a scope in it that no token can have.
                if let Some(challenge) = challenge.and_then(|text| HeaderValue::try_from(text).ok()) {
                    reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                }
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
                let mut reply = super::super::empty(row.status);
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
pub(super) enum Rejection {
    /// The backend said no; its status is the client's.
    Backend(Answer),
    /// The gateway says why.
    Gateway(Refusal),
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
pub(super) fn reword(
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
pub(super) fn with_words(
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
