//! The node itself: how it is, its document, cleaning up.

use serde_json::json;
use tidegate_auth::Role;
use tidegate_doctor::journal::NoJournal;
use tidegate_gateway::{CleanUp, ConnectionFilter};

use super::{COUNT, TEXT};
use crate::api::Inner;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Body, Reply, Route, Verb};
use crate::shape::{Member, Shape, optional, required};

const STATUS: Shape = Shape::Record(&[
    required("version", TEXT, "Version of the program."),
    required("uptime", COUNT, "Seconds since the start."),
    required("state", Shape::OneOf(&["ready", "draining"]), "Whether connections are accepted."),
    required("connections", COUNT, "Connections of this node, those under way included."),
    required("unspent_tokens", COUNT, "Connect tokens that may still be presented."),
    required("apis", COUNT, "APIs."),
    required("stages", COUNT, "Stages of all APIs."),
    required("channels", COUNT, "Channels with members or history."),
    required("users", COUNT, "Users that are connected, counted for each stage."),
    required("sessions", COUNT, "Sessions that are connected, counted for each stage."),
    required("bans", COUNT, "Bans that hold."),
    required("journal", Shape::OneOf(&["on", "off", "unavailable"]), "Whether it is kept what happens."),
    optional("capture", super::capture::STATE, "What is being captured of a route's payloads, while it is."),
    optional("journal_id", TEXT, "Diagnosis id of a journal that is unavailable."),
    optional("journal_problem", TEXT, "Why the journal is unavailable."),
]);

/// Ten years: longer than anything is kept, and far from where numbers end.
const CLEAN_UP: &[Member] = &[
    optional(
        "token_age",
        Shape::Integer { min: 0, max: 315_360_000 },
        "Seconds: spent and expired tokens older than this go, otherwise those whose time has come.",
    ),
    optional(
        "attempt_age",
        Shape::Integer { min: 0, max: 3650 },
        "Days: attempts older than this go, otherwise those whose time has come.",
    ),
    optional("dry_run", Shape::Boolean, "Only counts."),
];

const CLEANED_UP: Shape = Shape::Record(&[
    required("tokens", COUNT, "Connect tokens, spent ones included."),
    required("attempts", COUNT, "Lines of the log of attempts."),
    required("bans", COUNT, "Bans that have ended."),
    required("audit", COUNT, "Records of changes."),
]);

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        Verb::Get,
        "/api/openapi.json",
        "getDocument",
        Access::Open,
        "This document.",
        Shape::Object,
        |inner, _| Box::pin(async { Ok(Reply::json(crate::document::document(inner.version))) }),
    ),
    Route::new(
        Verb::Get,
        "/api/status",
        "getStatus",
        Access::Look(Role::Read),
        "How the node is.",
        STATUS,
        |inner, _| Box::pin(async { Ok(status(inner).await) }),
    ),
    Route::new(
        Verb::Post,
        "/api/cleanup",
        "cleanUp",
        Access::Change(Role::Operate),
        "Removes what is old at once; it happens by itself too.",
        CLEANED_UP,
        |inner, call| Box::pin(clean_up(inner, call)),
    )
    .body(Body::Json(CLEAN_UP))
    .refuses(&[503]),
];

async fn status(inner: &Inner) -> Reply {
    let gateway = &inner.gateway;
    let live = inner.control.live();
    let mut body = json!({
        "version": inner.version,
        "uptime": inner.started_at.elapsed().as_secs(),
        "state": if gateway.is_draining() { "draining" } else { "ready" },
        "connections": gateway.count_connections(&ConnectionFilter::default()),
        "unspent_tokens": gateway.n_unspent_tokens(),
        "apis": live.apis.len(),
        "stages": live.apis.iter().map(|api| api.stages.len()).sum::<usize>(),
        "channels": gateway.list_channels(None, None).len(),
        "users": gateway.list_users(None, None).len(),
        "sessions": gateway.list_sessions(None, None).len(),
        "bans": gateway.list_bans().len(),
        "journal": "on",
    });
    if let Some(capture) = gateway.capture().filter(|capture| capture.is_active) {
        body["capture"] = super::capture::shown(&capture);
    }
    if let Err(error) = inner.journal.state().await {
        if NoJournal::is_off(&error) {
            body["journal"] = "off".into();
        } else {
            let refusal = super::journal::refused(&error);
            body["journal"] = "unavailable".into();
            body["journal_id"] = refusal.id.into();
            body["journal_problem"] = refusal.message.into();
        }
    }
    Reply::json(body)
}

async fn clean_up(inner: &Inner, call: &Call) -> Answer {
    let request: CleanUp = call.body()?;
    let done = inner.gateway.clean_up(&request).await.map_err(|error| Refusal::store(&error))?;
    let body = json!({
        "tokens": done.tokens,
        "attempts": done.attempts,
        "bans": done.bans,
        "audit": done.audit,
    });
    Ok(Reply::json(body.clone()).with_note(json!({ "dry_run": request.dry_run, "removed": body })))
}
