//! The journal: what happened to connections, and why.

use serde_json::{Value, json};
use tidegate_auth::Role;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{EntryQuery, Erase, Facts, Kind};
use tidegate_core::notice::{Notice, Place};
use tidegate_core::port::StoreError;
use tidegate_doctor::journal::NoJournal;

use super::{COUNT, TEXT};
use crate::api::Inner;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Body, Reply, Route, Verb};
use crate::shape::{Member, Shape, optional, required, text};

/// Entries of an answer unless the caller says otherwise.
const ENTRIES: u64 = 100;

/// Most entries of an answer.
const MAX_ENTRIES: u64 = 10_000;

/// Names of kinds, in the order of `Kind::ALL`.
const KINDS: &[&str] = &[
    "handshake",
    "authorizer",
    "token",
    "jwt",
    "usercheck",
    "ratelimit",
    "origin",
    "integration",
    "message",
    "post",
    "membership",
    "close",
    "control",
];

/// One event.
pub(super) const ENTRY: Shape = Shape::Record(&[
    required("ts", COUNT, "When it happened or ended, in microseconds since 1970."),
    required("kind", Shape::OneOf(KINDS), "What it is about."),
    required("outcome", TEXT, "`ok`, or a diagnosis id."),
    optional("requestId", TEXT, "Of the event or the HTTP request."),
    optional("connectionId", TEXT, "Of the connection, as it was presented."),
    optional("clientRef", TEXT, "What the client called its attempt."),
    required("node", COUNT, "The node that wrote it."),
    optional("apiId", TEXT, "Id of the API, once it was found."),
    optional("stage", TEXT, "Name of the stage, once it was found."),
    optional("routeKey", TEXT, "The route, once it was chosen."),
    optional("user", TEXT, "Whose connection it is, once that was known."),
    optional("address", TEXT, "The client's address, as far as it is kept."),
    optional("durationMs", Shape::Any, "Milliseconds that it took."),
    optional("facts", Shape::Object, "What proves the outcome: names, numbers, ids."),
]);

const QUERY: &[Member] = &[
    optional("kind", text(200), "Kinds, separated by commas."),
    optional("outcome", text(1000), "Outcomes, separated by commas: `ok` or diagnosis ids."),
    optional("failures", Shape::Boolean, "Only what did not go well."),
    optional("requestId", text(255), "Of this event or request."),
    optional("connectionId", text(255), "Of this connection."),
    optional("clientRef", text(255), "Of this attempt."),
    optional("user", text(255), "Of this user."),
    optional("address", text(64), "Of this client address, as it is or as it is kept."),
    optional("apiId", text(255), "Only of this API."),
    optional("stage", text(255), "Only of this stage."),
    optional("since", Shape::Time, "At this time or later."),
    optional("until", Shape::Time, "Before this time."),
    optional("limit", Shape::Integer { min: 1, max: MAX_ENTRIES }, "The newest so many; 100 unless given."),
];

/// How the journal is.
pub(super) const STATE: Shape = Shape::Record(&[
    required("entries", COUNT, "Entries that are kept."),
    required("bytes", COUNT, "Bytes on the disk."),
    required("oldest", Shape::Nullable(&COUNT), "Time of the oldest entry, in microseconds since 1970."),
    required("newest", Shape::Nullable(&COUNT), "Time of the newest entry, in microseconds since 1970."),
    required("dropped", COUNT, "Events that were lost since the start."),
    required("sampled", COUNT, "Successes that were counted and not written since the start."),
]);

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        Verb::Get,
        "/api/journal",
        "listJournal",
        Access::Look(Role::Diagnose),
        "The newest entries of the journal that fit, in the order of time. The journal records who asked.",
        Shape::Record(&[required("entries", Shape::List { of: &ENTRY, max: usize::MAX }, "Oldest first.")]),
        |inner, call| Box::pin(list(inner, call)),
    )
    .query(QUERY)
    .refuses(&[503]),
    Route::new(
        Verb::Get,
        "/api/journal/state",
        "getJournalState",
        Access::Look(Role::Diagnose),
        "How much the journal holds, and how much it lost.",
        STATE,
        |inner, call| Box::pin(state(inner, call)),
    )
    .refuses(&[503]),
    Route::new(
        Verb::Post,
        "/api/journal/erase",
        "eraseJournal",
        Access::Change(Role::Administer),
        "Removes a person's entries: those of a user and their connections, or those of an address.",
        Shape::Record(&[required("erased", COUNT, "Entries that are gone.")]),
        |inner, call| Box::pin(erase(inner, call)),
    )
    .body(Body::Json(&[
        optional("user", text(255), "Id of the user; either this or an address."),
        optional("address", text(64), "Client address, as it is or as it is kept."),
    ])),
];

/// 503 that says why nobody can be asked.
pub(super) fn refused(error: &StoreError) -> Refusal {
    let reason = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let diagnosis = match NoJournal::is_off(error) {
        true => Diagnosis::LOG_DISABLED,
        false => Diagnosis::STORE_UNAVAILABLE,
    };
    let message = format!("The journal cannot be asked: {reason}");
    Refusal::new(http::StatusCode::SERVICE_UNAVAILABLE, diagnosis, message)
}

/// Whoever looks is recorded: what they asked by, not what for.
pub(super) fn note_access(inner: &Inner, call: &Call) {
    let actor = call.caller.as_ref().map(|caller| caller.name.clone()).unwrap_or_default();
    let parameters: Vec<&str> = call.query().keys().map(String::as_str).collect();
    let facts = Facts::none().with("object", call.route.operation).with("parameters", parameters);
    let place = Place::default();
    inner.gateway.notice(Notice::Controlled { place, what: "access", actor, refused: None, facts });
}

/// Microseconds since 1970.
fn time(call: &Call, name: &str) -> Option<u64> {
    let time: jiff::Timestamp = call.text(name)?.parse().ok()?;
    u64::try_from(time.as_microsecond()).ok()
}

async fn list(inner: &Inner, call: &Call) -> Answer {
    let split = |name: &str| {
        let all = call.text(name).unwrap_or_default().split(',').map(str::trim);
        all.filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<String>>()
    };
    let mut kinds = Vec::new();
    for name in split("kind") {
        let unknown = || Refusal::problem("kind", format!("one of {} expected", KINDS.join(", ")));
        kinds.push(Kind::find(&name).ok_or_else(unknown)?);
    }
    let text = |name: &str| call.text(name).map(str::to_owned);
    let query = EntryQuery {
        since: time(call, "since"),
        until: time(call, "until"),
        kinds,
        outcomes: split("outcome"),
        failures_only: call.is_set("failures"),
        request_id: text("requestId"),
        connection_id: text("connectionId"),
        client_ref: text("clientRef"),
        user: text("user"),
        address: text("address"),
        api_id: text("apiId"),
        stage: text("stage"),
        limit: usize::try_from(call.number("limit").unwrap_or(ENTRIES)).unwrap_or(usize::MAX),
    };
    let entries = inner.journal.query(query).await.map_err(|error| refused(&error))?;
    note_access(inner, call);
    Ok(Reply::json(json!({ "entries": entries })))
}

async fn state(inner: &Inner, call: &Call) -> Answer {
    let state = inner.journal.state().await.map_err(|error| refused(&error))?;
    note_access(inner, call);
    Ok(Reply::json(json!(state)))
}

async fn erase(inner: &Inner, call: &Call) -> Answer {
    let member = |name: &str| call.json().get(name).and_then(Value::as_str).map(str::to_owned);
    let (whose, by) = match (member("user"), member("address")) {
        (Some(user), None) => (Erase::User(user), "user"),
        (None, Some(address)) => (Erase::Address(address), "address"),
        _ => return Err(Refusal::problem("", "one of user and address expected")),
    };
    let erased = inner.journal.erase(whose).await.map_err(|error| refused(&error))?;
    // The record of the change does not keep the name either.
    Ok(Reply::json(json!({ "erased": erased })).with_note(json!({ "by": by, "erased": erased })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_names_every_kind() {
        assert_eq!(KINDS, Kind::ALL.map(Kind::as_str));
    }
}
