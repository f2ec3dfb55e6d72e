//! Payloads of one route, for a short time.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_auth::Role;
use tidegate_core::context::iso_time;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::notice::{Notice, Place};
use tidegate_gateway::{CaptureError, CaptureOrder, CaptureState, Captured};

use super::{COUNT, ID, TEXT, journal};
use crate::api::Inner;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Body, Reply, Route, Verb};
use crate::shape::{Member, Shape, optional, required, text};

const ORDER: &[Member] = &[
    required("route", text(128), "Key of the route."),
    required("seconds", Shape::Integer { min: 1, max: tidegate_gateway::MAX_SECONDS }, "For how long."),
    required(
        "bytes",
        Shape::Integer { min: 1, max: tidegate_gateway::MAX_BYTES as u64 },
        "Most payload that is kept; with it the capture ends.",
    ),
    optional("api", ID, "Id of an API: only there."),
    optional("stage", ID, "Name of a stage: only there."),
];

/// How a capture is; also a part of the node's status.
pub(super) const STATE: Shape = Shape::Record(&[
    required("route", TEXT, "Key of the route."),
    optional("api", TEXT, "Only this API."),
    optional("stage", TEXT, "Only this stage."),
    required("active", Shape::Boolean, "Whether messages are still captured."),
    required("started_at", Shape::Time, "When it began."),
    required("ends_at", Shape::Time, "When it ends, or when it ended."),
    required("payloads", COUNT, "How many are kept."),
    required("bytes", COUNT, "Their bytes."),
    required("max_bytes", COUNT, "Most bytes that are kept."),
]);

const PAYLOAD: Shape = Shape::Record(&[
    required("at", Shape::Time, "When it passed."),
    required("connectionId", TEXT, "Of the connection."),
    required("requestId", TEXT, "Of the event."),
    required("way", Shape::OneOf(&["in", "out"]), "From the client, or the answer of the route."),
    required("size", COUNT, "Bytes of the whole payload."),
    optional("text", TEXT, "The payload without what looks like a secret; none of what is no text."),
    required("cut", Shape::Boolean, "There was no room for all of it."),
]);

const SHOWN: Shape = Shape::Record(&[
    required(
        "capture",
        Shape::Nullable(&STATE),
        "Null where there is none, or it ended more than 15 minutes ago.",
    ),
    required("payloads", Shape::List { of: &PAYLOAD, max: usize::MAX }, "In the order of time."),
]);

const ENDED: Shape = Shape::Record(&[required("ended", Shape::Boolean, "Whether there was one.")]);

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        Verb::Post,
        "/api/capture",
        "startCapture",
        Access::Change(Role::Administer),
        "Keeps the messages of one route and their answers for a limited time, in memory only. What an earlier capture kept is \
         forgotten. One at a time.",
        STATE,
        |inner, call| Box::pin(async { start(inner, call) }),
    )
    .body(Body::Json(ORDER))
    .refuses(&[409]),
    Route::new(
        Verb::Get,
        "/api/capture",
        "getCapture",
        Access::Look(Role::Diagnose),
        "What was captured. The journal records who asked.",
        SHOWN,
        |inner, call| Box::pin(async { Ok(show(inner, call)) }),
    )
    .query(&[optional("connection", ID, "Only of this connection.")]),
    Route::new(
        Verb::Delete,
        "/api/capture",
        "endCapture",
        Access::Change(Role::Administer),
        "Ends the capture and forgets what it kept.",
        ENDED,
        |inner, _| Box::pin(async { Ok(end(inner)) }),
    ),
];

#[derive(Deserialize)]
struct Ordered {
    route: String,
    seconds: u64,
    bytes: u64,
    api: Option<String>,
    stage: Option<String>,
}

fn start(inner: &Inner, call: &Call) -> Answer {
    let Ordered { route, seconds, bytes, api, stage } = call.body()?;
    if matches!(route.as_str(), "$connect" | "$disconnect") {
        return Err(Refusal::problem(
            "route",
            "has no messages: `$default` or the key of a route of your own expected",
        ));
    }
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let order = CaptureOrder { route_key: route, api_id: api, stage, seconds, bytes };
    let state = inner.gateway.start_capture(order, call.now).map_err(|error| match error {
        CaptureError::Active => Refusal::new(
            StatusCode::CONFLICT,
            Diagnosis::ADMIN_NOT_POSSIBLE,
            "A capture is active; end it first: DELETE /api/capture",
        ),
        CaptureError::OutOfRange => Refusal::problem("", error.to_string()),
    })?;
    let actor = call.caller.as_ref().map(|caller| caller.name.clone()).unwrap_or_default();
    let facts = Facts::none()
        .with("object", state.order.route_key.clone())
        .with("seconds", seconds)
        .with("limit", state.order.bytes);
    inner.gateway.notice(Notice::Controlled {
        place: Place::default(),
        what: "capture",
        actor,
        refused: None,
        facts,
    });
    let shown = shown(&state);
    Ok(Reply::json(shown.clone()).with_note(shown))
}

fn show(inner: &Inner, call: &Call) -> Reply {
    journal::note_access(inner, call);
    let payloads: Vec<Value> =
        inner.gateway.captured(call.text("connection")).iter().map(shown_payload).collect();
    Reply::json(json!({ "capture": inner.gateway.capture().as_ref().map(shown), "payloads": payloads }))
}

fn end(inner: &Inner) -> Reply {
    let ended = inner.gateway.end_capture();
    let note = ended.as_ref().map(shown);
    Reply::json(json!({ "ended": ended.is_some() })).with_note(json!({ "capture": note }))
}

/// How a capture is, without what it kept.
pub(super) fn shown(state: &CaptureState) -> Value {
    let mut shown = json!({
        "route": state.order.route_key,
        "active": state.is_active,
        "started_at": iso_time(state.started_at),
        "ends_at": iso_time(state.ends_at),
        "payloads": state.n_payloads,
        "bytes": state.n_bytes,
        "max_bytes": state.order.bytes,
    });
    for (name, value) in [("api", &state.order.api_id), ("stage", &state.order.stage)] {
        if let Some(value) = value {
            shown[name] = value.as_str().into();
        }
    }
    shown
}

fn shown_payload(payload: &Captured) -> Value {
    let mut shown = json!({
        "at": iso_time(payload.at),
        "connectionId": payload.connection_id,
        "requestId": payload.request_id,
        "way": payload.way.as_str(),
        "size": payload.size,
        "cut": payload.is_cut,
    });
    if let Some(text) = &payload.text {
        shown["text"] = text.as_str().into();
    }
    shown
}
