//! Reloading the configuration of the process.

use http::StatusCode;
use serde_json::{Value, json};

use super::TEXT;
use super::definition::PROBLEMS;
use crate::api::Inner;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::reload::{ROLE, ReloadFailure, Reloaded, SettingChange};
use crate::route::{Access, Answer, Body, Reply, Route, Verb};
use crate::shape::{Member, Shape, optional, required};

const REQUEST: &[Member] = &[optional("dry_run", Shape::Boolean, "Only says what would change.")];

const CHANGE: Shape = Shape::Record(&[
    required("path", TEXT, "The setting: `chat.max_history`."),
    required(
        "before",
        Shape::Nullable(&TEXT),
        "Its value; `****` for a secret, `null` where there was none.",
    ),
    required("after", Shape::Nullable(&TEXT), "The value that is written."),
    required("needs_restart", Shape::Boolean, "It keeps its value until the process starts again."),
]);

const RELOADED: Shape = Shape::Record(&[
    required("dry_run", Shape::Boolean, "Nothing was changed."),
    required("changes", Shape::List { of: &CHANGE, max: usize::MAX }, "By path; empty: nothing is new."),
    required(
        "needs_restart",
        Shape::List { of: &TEXT, max: usize::MAX },
        "Paths of the settings that wait for a restart.",
    ),
    required("warnings", PROBLEMS, "What works and is probably not meant."),
]);

pub(super) const ROUTES: &[Route] = &[Route::new(
    Verb::Post,
    "/api/reload",
    "reload",
    Access::Change(ROLE),
    "Reads the configuration again and takes over what can change without a restart, all of it or nothing.",
    RELOADED,
    |inner, call| Box::pin(reload(inner, call)),
)
.body(Body::Json(REQUEST))
.refuses(&[409, 503])];

async fn reload(inner: &Inner, call: &Call) -> Answer {
    let is_dry_run = call.json()["dry_run"].as_bool().unwrap_or(false);
    let actor = call.caller.as_ref().map_or("", |caller| caller.name.as_str());
    let reloaded = inner.reload.reload(is_dry_run, actor).await.map_err(refused)?;
    let body = shown(&reloaded, is_dry_run);
    Ok(Reply::json(body.clone()).with_note(body))
}

fn refused(failure: ReloadFailure) -> Refusal {
    let diagnosis = failure.diagnosis();
    match failure {
        ReloadFailure::Invalid(problems) => {
            let message = "The configuration has problems; nothing was changed";
            Refusal { problems, ..Refusal::new(StatusCode::CONFLICT, diagnosis, message) }
        }
        ReloadFailure::Unavailable(message) => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, diagnosis, message)
        }
    }
}

fn shown(reloaded: &Reloaded, is_dry_run: bool) -> Value {
    let change = |change: &SettingChange| {
        json!({
            "path": change.path,
            "before": change.before,
            "after": change.after,
            "needs_restart": change.needs_restart,
        })
    };
    let waits = reloaded.changes.iter().filter(|change| change.needs_restart);
    json!({
        "dry_run": is_dry_run,
        "changes": reloaded.changes.iter().map(change).collect::<Vec<_>>(),
        "needs_restart": waits.map(|change| change.path.as_str()).collect::<Vec<_>>(),
        "warnings": super::definition::warnings(&reloaded.warnings),
    })
}
