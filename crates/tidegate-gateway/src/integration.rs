//! Calling what a route names: an HTTP backend, a function, the gateway's own echo, with templates or without.
//!
//! A call that has begun runs to its end or to its timeout, whatever the client does. Nothing is repeated, unless
//! `integration.retries` asks for it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_core::app::{self, Connected};
use tidegate_core::context::{Authorized, ConnectionFacts, Event, EventKind, SessionFacts};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::RequestId;
use tidegate_core::journal::{FactValue, Facts, Kind};
use tidegate_core::lambda_event::Spelling;
use tidegate_core::mapping::Inputs;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::snapshot::{Integration, IntegrationKind, Stage};

use crate::clock::now_millis;
use crate::connection::handle::Handle;
use crate::gateway::Gateway;
use crate::logs::{self, EventLog};

use self::http::Trace;

mod answer;
pub(crate) mod aws;
pub(crate) mod http;
mod lambda;
mod transformed;

/// One call.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) event: &'a Event,
    pub(crate) stage: &'a Stage,
    /// Handshake headers: all of them on `$connect`, those kept by a setting later.
    pub(crate) headers: Option<&'a ::http::HeaderMap>,
    /// How the client wrote the names of the headers; `$connect` only.
    pub(crate) spelling: Option<&'a Spelling>,
    /// Raw query string of the handshake; `$connect` only.
    pub(crate) query: &'a str,
    /// The message.
    pub(crate) body: &'a str,
    /// `body` is a binary message as base64.
    pub(crate) is_base64: bool,
    /// What goes to the backend in place of `body`: made by a template. Then the client's handshake does not go along.
    pub(crate) payload: Option<&'a [u8]>,
    /// Somebody looks at the headers of the backend's answer to a message.
    pub(crate) reads_headers: bool,
    /// `body` is JSON, as far as the route selection knows.
    pub(crate) is_json: bool,
    /// `X-Forwarded-For` when a trusted proxy stood before the client.
    pub(crate) forwarded_for: Option<&'a str>,
    /// The reference that the client made for its attempt.
    pub(crate) client_ref: Option<&'a Arc<str>>,
    /// What is logged of the event, where its stage logs.
    pub(crate) log: Option<&'a EventLog>,
}

impl<'a> Call<'a> {
    /// What mappings and identity sources may read. Headers are those of the handshake on `$connect`, and `none`, which is
    /// empty, on other events.
    pub(crate) fn inputs(&self, none: &'a ::http::HeaderMap) -> Inputs<'a> {
        let headers = self.headers.filter(|_| self.event.kind == EventKind::Connect);
        Inputs {
            event: self.event,
            headers: headers.unwrap_or(none),
            query: self.query,
            body: self.body,
            stage_variables: &self.stage.variables,
        }
    }
}

/// What an application said to `$connect`.
#[derive(Debug)]
pub(crate) enum AppAnswer {
    /// Yes.
    Connected(Connected),
    /// No.
    Refused(app::Refusal),
}

/// What an integration answered; any status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ::http::HeaderMap,
    pub(crate) body: Bytes,
    /// What the answer says about its cause, for statuses of 300 and more.
    pub(crate) diagnosis: Option<Diagnosis>,
    /// What else was found in it; of an ordinary success nothing.
    pub(crate) judged: Option<Box<Judged>>,
    /// An application's, in place of headers and body.
    pub(crate) app: Option<Box<AppAnswer>>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: Bytes) -> Self {
        Self { status, headers: ::http::HeaderMap::new(), body, diagnosis: None, judged: None, app: None }
    }

    /// What was found in it, as facts.
    pub(crate) fn facts(&self) -> Facts {
        self.judged.as_ref().map_or_else(Facts::none, |judged| judged.facts.clone())
    }

    /// Whether it shows clients what only developers should see.
    pub(crate) fn leaks(&self) -> bool {
        self.judged.as_ref().is_some_and(|judged| judged.leak.is_some())
    }
}

/// What was found in an answer.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// What the catalogue names as proof.
    pub(crate) facts: Facts,
    /// `debug.exposed` or `error.detail-leak`, beside the cause.
    pub(crate) leak: Option<Diagnosis>,
    /// The cause is worth an entry although the status is a success.
    pub(crate) is_remarkable: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) diagnosis: Diagnosis,
    /// For the operator: names and numbers, no payload.
    pub(crate) detail: Cow<'static, str>,
    /// What the catalogue names as proof.
    pub(crate) facts: Facts,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, diagnosis: Diagnosis, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, diagnosis, detail: detail.into(), facts: Facts::none() }
    }

    /// With one more fact.
    pub(crate) fn with(mut self, name: &'static str, value: impl FactValue) -> Self {
        self.facts.add(name, value);
        self
    }
}

/// The answer of an integration that asks nobody; nothing for those that do.
pub(crate) fn answer_at_once(
    gateway: &Gateway,
    integration: &Integration,
    call: &Call<'_>,
) -> Option<Result<Answer, Failure>> {
    let result = match &integration.kind {
        IntegrationKind::Echo => Ok(Answer::new(200, Bytes::from(call.body.to_owned()))),
        IntegrationKind::Transformed(integration) => transformed::at_once(integration, call)?,
        IntegrationKind::Broken(reason) => {
            Err(Failure::new(ErrorCode::Misconfigured, Diagnosis::INTEGRATION_MISSING, reason.clone()))
        }
        IntegrationKind::Http(_) | IntegrationKind::Lambda(_) | IntegrationKind::App(_) => return None,
    };
    note(gateway, call, &result, Duration::ZERO, None);
    Some(result)
}

/// Calls an integration.
pub(crate) async fn call(
    gateway: &Gateway,
    integration: &Integration,
    call: &Call<'_>,
) -> Result<Answer, Failure> {
    let started = Instant::now();
    let backend = match &integration.kind {
        IntegrationKind::Http(backend) => backend,
        IntegrationKind::Transformed(transformed) => {
            let mut trace = Trace::default();
            // Boxed: larger than the others.
            let answering = Box::pin(transformed::call(
                gateway,
                transformed,
                integration.timeout,
                call,
                started,
                &mut trace,
            ));
            let result = tokio::time::timeout(integration.timeout, answering).await;
            let result = result.unwrap_or_else(|_| Err(trace.timed_out(integration.timeout)));
            note(gateway, call, &result, started.elapsed(), Some(&trace));
            return result;
        }
        IntegrationKind::App(name) => {
            let result = call_app(gateway, name, call).await;
            note(gateway, call, &result, started.elapsed(), None);
            return result;
        }
        IntegrationKind::Lambda(function) => {
            let result = lambda::call(gateway, function, integration.timeout, call).await;
            note(gateway, call, &result, started.elapsed(), None);
            return result;
        }
        _ => {
            let answer = answer_at_once(gateway, integration, call);
            return answer.expect("whatever is not a backend answers at once");
        }
    };
    let mut trace = Trace::default();
    // The timeout drops the request and its connection: the answer would be nobody's.
    let answering = http::call_again(gateway, backend, call, started, &mut trace);
    let result = tokio::time::timeout(integration.timeout, answering).await;
    let result = result.unwrap_or_else(|_| Err(trace.timed_out(integration.timeout)));
    note(gateway, call, &result, started.elapsed(), Some(&trace));
    result
}

/// The failure of a call that has not ended within its limit.
pub(crate) fn timed_out(limit: Duration) -> Failure {
    Trace::default().timed_out(limit)
}

/// The failure of a route whose application is not switched on.
pub(crate) fn no_app(name: &str) -> Failure {
    let detail = format!("the application {name} is not switched on");
    Failure::new(ErrorCode::Misconfigured, Diagnosis::INTEGRATION_MISSING, detail)
}

/// Tells an application of a connection's begin or end. Messages go another way, see `connection/message.rs`.
async fn call_app(gateway: &Gateway, name: &str, call: &Call<'_>) -> Result<Answer, Failure> {
    let Some(app) = gateway.apps.find(name) else { return Err(no_app(name)) };
    let event = call.event;
    match &event.kind {
        EventKind::Connect => {
            let no_headers = ::http::HeaderMap::new();
            let headers = call.headers.unwrap_or(&no_headers);
            let nobody = Arc::default();
            let connect = app::Connect {
                connection: &event.connection,
                request_id: event.request_id,
                identity: event.session.as_ref().map_or(&nobody, |session| &session.identity),
                channels: event.session.as_ref().map_or("", |session| &session.channels),
                query: call.query,
                headers,
                is_dry_run: false,
            };
            Ok(match app.connect(connect).await {
                Ok(connected) => {
                    let mut answer = Answer::new(200, Bytes::new());
                    answer.app = Some(Box::new(AppAnswer::Connected(connected)));
                    answer
                }
                Err(refusal) => {
                    let mut answer = Answer::new(refusal.status, Bytes::new());
                    answer.diagnosis = Some(refusal.diagnosis);
                    answer.app = Some(Box::new(AppAnswer::Refused(*refusal)));
                    answer
                }
            })
        }
        EventKind::Disconnect { status_code, reason } => {
            app.disconnect(&event.connection, app::End { code: *status_code, reason }).await;
            Ok(Answer::new(200, Bytes::new()))
        }
        EventKind::Message { .. } => {
            let message = app::Message {
                connection: &event.connection,
                request_id: event.request_id,
                identity: event.session.as_ref().map(|session| &session.identity),
                text: call.body,
                is_binary: false,
                now: event.request_time,
            };
            Ok(Answer::new(200, app.message(message).await.text.unwrap_or_default()))
        }
    }
}

/// `trace`: how far the call of a backend came.
fn note(
    gateway: &Gateway,
    call: &Call<'_>,
    result: &Result<Answer, Failure>,
    duration: Duration,
    trace: Option<&Trace>,
) {
    logs::called(gateway, call, result, duration);
    let event = call.event;
    // Ordinary successes are too many to gather facts about: nobody keeps an entry of theirs.
    let is_ordinary =
        result.as_ref().is_ok_and(|answer| (200..300).contains(&answer.status) && answer.judged.is_none());
    let facts = match is_ordinary {
        true => Facts::none(),
        false => gateway.facts(|| facts_of(call, result, trace)),
    };
    let place = Place {
        api_id: Arc::clone(&event.connection.api_id),
        stage: Arc::clone(&event.connection.stage),
        connection_id: Some(event.connection.connection_id),
        request_id: Some(event.request_id),
        route_key: Some(Arc::clone(&event.route_key)),
        client_ref: call.client_ref.cloned(),
        user: event.session.as_ref().and_then(|session| session.identity.user.clone()),
        address: Some(event.connection.source_ip),
    };
    let remarks = match result {
        Ok(Answer { judged: Some(judged), diagnosis, .. }) => {
            [judged.leak, diagnosis.filter(|_| judged.is_remarkable)]
        }
        _ => [None, None],
    };
    let beside = remarks.into_iter().flatten().map(|remark| Notice::Decided {
        place: place.clone(),
        kind: Kind::Integration,
        remark: Some(remark),
        facts: facts.clone(),
    });
    let beside: Vec<Notice> = beside.collect();
    // The cause first: what the answer shows beside it comes of it.
    gateway.notice(Notice::IntegrationCalled {
        facts,
        place,
        event_type: event.event_type(),
        status: result.as_ref().ok().map(|answer| answer.status),
        duration,
    });
    for notice in beside {
        gateway.notice(notice);
    }
}

fn facts_of(call: &Call<'_>, result: &Result<Answer, Failure>, trace: Option<&Trace>) -> Facts {
    let mut facts = Facts::none().with("eventType", call.event.event_type());
    if let Some(trace) = trace {
        trace.tell(&mut facts);
    }
    let (told, cause) = match result {
        Ok(answer) => {
            facts.add("status", answer.status);
            facts.add("length", answer.body.len());
            (answer.facts(), answer.diagnosis)
        }
        Err(failure) => (failure.facts.clone(), Some(failure.diagnosis)),
    };
    facts.extend_with_new(&told);
    facts.add_some("causeId", cause.map(Diagnosis::as_str));
    facts
}

/// A connection that has ended, and how.
pub(crate) struct Ended<'a> {
    pub(crate) facts: &'a Arc<ConnectionFacts>,
    pub(crate) session: Option<SessionFacts>,
    pub(crate) authorized: Option<Arc<Authorized>>,
    pub(crate) kept_headers: Option<&'a ::http::HeaderMap>,
    pub(crate) client_ref: Option<&'a Arc<str>>,
    /// A deleted API takes its routes with it; the stage of the handshake still knows them.
    pub(crate) stage_of_handshake: Option<&'a Arc<Stage>>,
    /// The same for all attempts, so that a backend can tell a repetition.
    pub(crate) request_id: RequestId,
    pub(crate) code: u16,
    pub(crate) reason: &'a str,
}

/// Runs `$disconnect`, if the API has it: the last thing that happens to a connection.
pub(crate) async fn disconnect(gateway: &Arc<Gateway>, handle: &Arc<Handle>, code: u16, reason: &str) {
    let ended = Ended {
        facts: &handle.facts,
        session: handle.session_facts(),
        authorized: handle.authorized(),
        kept_headers: handle.kept_headers.as_deref(),
        client_ref: handle.client_ref.as_ref(),
        stage_of_handshake: Some(&handle.stage),
        request_id: gateway.request_id(now_millis()),
        code,
        reason,
    };
    let mut lost = None;
    for attempt in 0..=handle.stage.settings.data_plane.disconnect_retries {
        if attempt > 0 {
            tokio::time::sleep(std::time::Duration::from_secs(1 << attempt.min(6))).await;
        }
        match try_disconnect(gateway, &ended).await {
            Ok(()) => {
                gateway.disconnects.strike_out(handle.facts.connection_id);
                return;
            }
            Err(failed) => lost = Some(failed),
        }
    }
    if let Some((diagnosis, detail)) = lost
        && !gateway.deliver_later(handle, code, reason)
    {
        let mut place = gateway.place(handle);
        place.request_id = Some(ended.request_id);
        place.route_key = Some("$disconnect".into());
        let attempts = handle.stage.settings.data_plane.disconnect_retries + 1;
        gateway.disconnect_lost(place, diagnosis, detail, attempts);
    }
}

impl Gateway {
    /// Tells the operator of a `$disconnect` that its backend never got.
    pub(crate) fn disconnect_lost(&self, place: Place, cause: Diagnosis, detail: String, attempts: u32) {
        let facts = self.facts(|| Facts::none().with("causeId", cause.as_str()).with("attempts", attempts));
        self.notice(Notice::DisconnectLost {
            facts,
            place,
            diagnosis: Diagnosis::CLEANUP_DISCONNECT_LOST,
            detail,
        });
    }
}

/// One attempt. An answer below 500 is one, whatever it says.
pub(crate) async fn try_disconnect(gateway: &Gateway, ended: &Ended<'_>) -> Result<(), (Diagnosis, String)> {
    let facts = ended.facts;
    let live = gateway.stage(&facts.api_id, &facts.stage);
    let Some(stage) = live.or_else(|| ended.stage_of_handshake.map(Arc::clone)) else { return Ok(()) };
    let Some(route) = stage.deployment.as_ref().and_then(|deployment| deployment.routes.get("$disconnect"))
    else {
        logs::ended(gateway, &stage, ended);
        return Ok(());
    };
    let event = Event {
        connection: Arc::clone(facts),
        request_id: ended.request_id,
        route_key: Arc::clone(&route.key),
        request_time: now_millis(),
        kind: EventKind::Disconnect { status_code: ended.code, reason: ended.reason.to_owned() },
        session: ended.session.clone(),
        authorized: ended.authorized.clone(),
    };
    let log = logs::begin(&stage);
    let one_call = Call {
        reads_headers: false,
        event: &event,
        stage: &stage,
        headers: ended.kept_headers,
        spelling: None,
        query: "",
        body: "",
        is_base64: false,
        payload: None,
        is_json: false,
        forwarded_for: None,
        client_ref: ended.client_ref,
        log: log.as_deref(),
    };
    let result = call(gateway, &route.integration, &one_call).await;
    logs::disconnected(gateway, &log, &event, &result);
    match result {
        Ok(answer) if answer.status < 500 => Ok(()),
        Ok(answer) => Err((Diagnosis::INTEGRATION_ERROR_STATUS, format!("status {}", answer.status))),
        Err(failure) => Err((failure.diagnosis, failure.detail.into_owned())),
    }
}
