//! What was written down: attempts to connect, and changes by administrators.

use std::net::IpAddr;

use serde_json::{Value, json};
use tidegate_auth::Role;
use tidegate_core::context::iso_time;
use tidegate_core::port::{Record, RecordCursor, RecordKind};
use tidegate_gateway::AttemptRecord;

use super::{API, COUNT, ID, STAGE, TEXT};
use crate::api::Inner;
use crate::audit::AuditRecord;
use crate::call::Call;
use crate::paging;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Reply, Route, Verb};
use crate::shape::{Member, Shape, optional, parse_time, required, text};

/// Records that are read from the store at a time.
const STEP: usize = 500;

/// Records that one request looks at; a page may come out short by that, or empty, and still have a next one.
const MAX_LOOKED_AT: usize = 20_000;

const SINCE: Member = optional("since", Shape::Time, "Not older than this.");

const ATTEMPT: Shape = Shape::Record(&[
    required("at", Shape::Time, "When."),
    required("api", TEXT, "Id of the API."),
    required("stage", TEXT, "Name of the stage."),
    required("address", TEXT, "Client address."),
    optional("user", TEXT, "Id of the user, when it was known."),
    required("outcome", Shape::OneOf(&["accepted", "refused"]), "How it ended."),
    required("status", COUNT, "101, or the status of the refusal."),
    optional("reason", TEXT, "Diagnosis id of a refusal."),
    optional("connection_id", TEXT, "The connection, when it got an id."),
]);

const CHANGE: Shape = Shape::Record(&[
    required("at", Shape::Time, "When."),
    required("by", TEXT, "Name of a key, or an access key id."),
    required("by_kind", Shape::OneOf(&["key", "access_key"]), "Which of both."),
    required("role", Shape::OneOf(&["read", "diagnose", "operate", "administer"]), "Their role."),
    required("operation", TEXT, "Operation id of this document."),
    required("method", TEXT, "HTTP method."),
    required("path", TEXT, "Path as it was sent."),
    optional("query", Shape::Object, "Parameters of the query."),
    required(
        "outcome",
        Shape::OneOf(&["started", "done", "refused"]),
        "`started`: under way, or the process ended during it. `refused`: nothing changed.",
    ),
    required("status", COUNT, "HTTP status; 0 = not answered."),
    optional("id", TEXT, "Diagnosis id of a refusal."),
    optional("note", Shape::Any, "What it was about, before and after. Secrets are `****`."),
]);

const ATTEMPTS: &[Member] = &[
    API,
    STAGE,
    optional("address", text(45), "Client address."),
    optional("user", ID, "Id of a user."),
    optional("outcome", Shape::OneOf(&["accepted", "refused"]), "How it ended."),
    optional("reason", text(100), "Diagnosis id, or its part before the dot: `token`."),
    SINCE,
    paging::LIMIT,
    paging::NEXT_TOKEN,
];

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        Verb::Get,
        "/api/attempts",
        "listAttempts",
        Access::Look(Role::Read),
        "Attempts to connect, the newest first. A page may be short and still have a next one.",
        Shape::Record(&[
            required("attempts", Shape::List { of: &ATTEMPT, max: usize::MAX }, "The newest first."),
            paging::NEXT,
        ]),
        |inner, call| Box::pin(attempts(inner, call)),
    )
    .query(ATTEMPTS)
    .refuses(&[503]),
    Route::new(
        Verb::Get,
        "/api/audit",
        "listAudit",
        Access::Look(Role::Read),
        "Changes by administrators, the newest first. A page may be short and still have a next one.",
        Shape::Record(&[
            required("audit", Shape::List { of: &CHANGE, max: usize::MAX }, "The newest first."),
            paging::NEXT,
        ]),
        |inner, call| Box::pin(audit(inner, call)),
    )
    .query(&[
        optional("by", ID, "Name of a key, or an access key id."),
        optional("operation", text(100), "Operation id of this document."),
        SINCE,
        paging::LIMIT,
        paging::NEXT_TOKEN,
    ])
    .refuses(&[503]),
];

fn cursor(call: &Call) -> Result<Option<RecordCursor>, Refusal> {
    let Some(place) = paging::after(call)? else { return Ok(None) };
    let (created_at, key) = place.split_once('.').ok_or_else(paging::bad_token)?;
    let created_at = created_at.parse().map_err(|_| paging::bad_token())?;
    // Stores count in signed numbers; no record of ours is from then.
    if i64::try_from(created_at).is_err() {
        return Err(paging::bad_token());
    }
    Ok(Some(RecordCursor { created_at, key: key.to_owned() }))
}

/// A page of records for which `show` gives something.
async fn page(
    inner: &Inner,
    call: &Call,
    kind: RecordKind,
    name: &str,
    show: impl Fn(&Record) -> Option<Value> + Send,
) -> Answer {
    let since = call.text("since").and_then(parse_time).unwrap_or_default();
    let limit = paging::limit(call);
    let mut after = cursor(call)?;
    let mut items = Vec::new();
    for _ in 0..MAX_LOOKED_AT / STEP {
        let records =
            inner.records.list(kind, after.clone(), STEP).await.map_err(|error| Refusal::store(&error))?;
        let is_last = records.len() < STEP;
        for record in records {
            if record.created_at < since {
                return Ok(Reply::json(paging::list(name, items, None)));
            }
            if items.len() == limit {
                return Ok(Reply::json(paging::list(name, items, next(after.as_ref()))));
            }
            items.extend(show(&record));
            after = Some(RecordCursor { created_at: record.created_at, key: record.key });
        }
        if is_last {
            return Ok(Reply::json(paging::list(name, items, None)));
        }
    }
    Ok(Reply::json(paging::list(name, items, next(after.as_ref()))))
}

fn next(after: Option<&RecordCursor>) -> Option<Value> {
    after.map(|after| paging::token(&format!("{}.{}", after.created_at, after.key)))
}

async fn attempts(inner: &Inner, call: &Call) -> Answer {
    let address = match call.text("address").map(str::parse::<IpAddr>) {
        None => None,
        Some(Ok(address)) => Some(address),
        Some(Err(_)) => return Err(Refusal::problem("address", "an IP address expected")),
    };
    let is = |name: &str, value: Option<&str>| call.text(name).is_none_or(|wanted| value == Some(wanted));
    page(inner, call, RecordKind::Attempt, "attempts", |record| {
        // A line of a later version that cannot be read is left out.
        let line: AttemptRecord = serde_json::from_str(&record.body).ok()?;
        let outcome = if line.status == 101 { "accepted" } else { "refused" };
        let is_reason = call.text("reason").is_none_or(|wanted| {
            let reason = line.reason.as_deref().unwrap_or_default();
            reason == wanted || reason.split_once('.').is_some_and(|(symptom, _)| symptom == wanted)
        });
        let fits = address.is_none_or(|wanted| wanted == line.address)
            && is("api", Some(&line.api))
            && is("stage", Some(&line.stage))
            && is("user", line.user.as_deref())
            && is("outcome", Some(outcome))
            && is_reason;
        if !fits {
            return None;
        }
        let mut shown = json!({
            "at": iso_time(line.at),
            "api": line.api,
            "stage": line.stage,
            "address": line.address,
            "outcome": outcome,
            "status": line.status,
        });
        for (name, value) in
            [("user", line.user), ("reason", line.reason), ("connection_id", line.connection_id)]
        {
            if let Some(value) = value {
                shown[name] = value.into();
            }
        }
        Some(shown)
    })
    .await
}

async fn audit(inner: &Inner, call: &Call) -> Answer {
    page(inner, call, RecordKind::Audit, "audit", |record| {
        let change: AuditRecord = serde_json::from_str(&record.body).ok()?;
        let is = |name: &str, value: &str| call.text(name).is_none_or(|wanted| value == wanted);
        if !is("by", &change.by) || !is("operation", &change.operation) {
            return None;
        }
        let mut shown = serde_json::to_value(&change).ok()?;
        shown["at"] = iso_time(change.at).into();
        Some(shown)
    })
    .await
}
