//! Everything about one connection or user in one answer, for those who are asked to help.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidegate_auth::Role;
use tidegate_control::declarative::{self, Secrets};
use tidegate_core::context::iso_time;
use tidegate_core::journal::{Entry, EntryQuery};
use tidegate_core::port::{Record, RecordKind};
use tidegate_gateway::AttemptRecord;

use super::{COUNT, TEXT, journal};
use crate::api::Inner;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Reply, Route, Verb};
use crate::shape::{Shape, optional, required, text};

/// Entries of a report at most, of each way in which they belong to it.
const MAX_ENTRIES: usize = 5000;

/// Records of a kind that are looked at.
const MAX_RECORDS: usize = 20_000;

/// Characters of a stored hash that are shown: enough to recognise it.
const FINGERPRINT: usize = 16;

const REPORT: Shape = Shape::Record(&[
    required("at", Shape::Time, "The node's clock."),
    required("version", TEXT, "Version of the program."),
    required("uptime", COUNT, "Seconds since the start."),
    required("subject", TEXT, "What was asked for."),
    required("journal", Shape::List { of: &journal::ENTRY, max: usize::MAX }, "Entries, oldest first."),
    required(
        "journalState",
        Shape::Nullable(&journal::STATE),
        "How the journal is; null when it cannot be asked.",
    ),
    optional("journalProblem", TEXT, "Why the journal cannot be asked."),
    required("connections", Shape::List { of: &Shape::Object, max: usize::MAX }, "What is open now."),
    required(
        "attempts",
        Shape::List { of: &Shape::Object, max: usize::MAX },
        "Handshakes at stages with a policy.",
    ),
    required(
        "tokens",
        Shape::List { of: &Shape::Object, max: usize::MAX },
        "Connect tokens, by fingerprint.",
    ),
    required("bans", Shape::List { of: &Shape::Object, max: usize::MAX }, "Bans of the user."),
    required("definitions", Shape::Object, "APIs, stages, domains; secrets are masked."),
    required(
        "certificates",
        Shape::List { of: &Shape::Object, max: usize::MAX },
        "Certificates that the node serves: names and dates.",
    ),
    required(
        "log",
        Shape::List { of: &TEXT, max: usize::MAX },
        "The newest log lines of the process that name the subject or one of its connections and requests, oldest first.",
    ),
    required("settings", Shape::Object, "Settings of the process with their origin; secrets are masked."),
]);

pub(super) const ROUTES: &[Route] = &[Route::new(
    Verb::Get,
    "/api/report",
    "getReport",
    Access::Look(Role::Diagnose),
    "What is known about one connection, request, attempt or user, with the definitions around it. The journal records who asked.",
    REPORT,
    |inner, call| Box::pin(report(inner, call)),
)
.query(&[required("subject", text(255), "Id of a connection, a request or a user, or a client's reference.")])
.refuses(&[503])];

async fn report(inner: &Inner, call: &Call) -> Answer {
    let subject = call.text("subject").unwrap_or_default().to_owned();
    let found = entries(inner, &subject).await;
    let state = inner.journal.state().await;
    let problem = found.as_ref().err().or(state.as_ref().err()).map(|error| journal::refused(error).message);
    let entries = found.unwrap_or_default();
    // Who else it is about: the users of its connections, and the connections of a user.
    let is_subject = |text: Option<&str>| {
        text.is_some_and(|text| {
            text == subject
                || entries.iter().any(|entry| {
                    entry.connection_id.as_deref() == Some(text) || entry.user.as_deref() == Some(text)
                })
        })
    };
    let connections = connections(inner, &is_subject);
    let attempts = records(inner, RecordKind::Attempt, |record| attempt(record, &is_subject)).await?;
    let mut tokens = records(inner, RecordKind::Token, |record| token(record, &is_subject)).await?;
    tokens.extend(records(inner, RecordKind::SpentToken, |record| token(record, &is_subject)).await?);
    let bans = inner.gateway.list_bans();
    let bans: Vec<Value> = bans
        .iter()
        .filter_map(|ban| serde_json::to_value(ban).ok())
        .filter(|ban| is_subject(ban["id"].as_str()) || is_subject(ban["user"].as_str()))
        .collect();
    let export = declarative::export(&inner.control, Secrets::Masked);
    let definitions = serde_json::to_value(&export.document)
        .map_err(|_| Refusal::malformed("The definitions have no form of this type"))?;
    journal::note_access(inner, call);
    let mut body = json!({
        "at": iso_time(call.now),
        "version": inner.version,
        "uptime": inner.started_at.elapsed().as_secs(),
        "subject": subject,
        "journal": entries,
        "journalState": state.ok(),
        "connections": connections,
        "attempts": attempts,
        "tokens": tokens,
        "bans": bans,
        "definitions": definitions,
        "certificates": certificates(inner),
        "log": log(inner, &subject, &entries),
        "settings": inner.configured().settings,
    });
    if let Some(problem) = problem {
        body["journalProblem"] = problem.into();
    }
    Ok(Reply::json(body))
}

/// Entries that name the subject, and all of the connections that these name.
async fn entries(inner: &Inner, subject: &str) -> Result<Vec<Entry>, tidegate_core::port::StoreError> {
    let all = || EntryQuery { limit: MAX_ENTRIES, ..EntryQuery::default() };
    let some = || Some(subject.to_owned());
    let mut found = Vec::new();
    for query in [
        EntryQuery { connection_id: some(), ..all() },
        EntryQuery { request_id: some(), ..all() },
        EntryQuery { client_ref: some(), ..all() },
        EntryQuery { user: some(), ..all() },
    ] {
        found.extend(inner.journal.query(query).await?);
    }
    let mut ids: Vec<String> = found.iter().filter_map(|entry| entry.connection_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    // The newest connections of somebody who has many.
    for id in ids.into_iter().rev().take(100).filter(|id| id != subject) {
        found.extend(inner.journal.query(EntryQuery { connection_id: Some(id), ..all() }).await?);
    }
    found.sort_by(|a, b| (a.ts, a.kind, &a.request_id).cmp(&(b.ts, b.kind, &b.request_id)));
    found.dedup();
    Ok(found)
}

/// Lines that name the subject, or an id of its entries.
fn log(inner: &Inner, subject: &str, entries: &[Entry]) -> Vec<String> {
    let configured = inner.configured();
    let Some(log) = &configured.surroundings.log else { return Vec::new() };
    let ids = entries.iter().flat_map(|entry| [entry.connection_id.as_deref(), entry.request_id.as_deref()]);
    let mut names: BTreeSet<&str> = ids.flatten().collect();
    names.insert(subject);
    let is_name_part = |c: char| c.is_ascii_alphanumeric() || "_-=@.".contains(c);
    let names_it = |line: &String| {
        // `connectionId=abc=` in a line for people: the name may stand behind the first `=`.
        let words = line.split(|c| !is_name_part(c));
        words
            .flat_map(|word| [Some(word), word.split_once('=').map(|(_, rest)| rest)])
            .flatten()
            .any(|word| names.contains(word))
    };
    log.lines().into_iter().filter(names_it).collect()
}

fn certificates(inner: &Inner) -> Vec<Value> {
    let time = |seconds: i64| iso_time(u64::try_from(seconds).unwrap_or_default().saturating_mul(1000));
    let shown = |known: &tidegate_doctor::inspect::certificate::Certificate| {
        json!({
            "names": known.names,
            "notBefore": time(known.not_before),
            "notAfter": time(known.not_after),
        })
    };
    inner.configured().surroundings.certificates.iter().map(shown).collect()
}

fn connections(inner: &Inner, is_subject: &impl Fn(Option<&str>) -> bool) -> Vec<Value> {
    let filter = tidegate_gateway::ConnectionFilter::default();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = inner.gateway.connections(&filter, after, 1000);
        let shown = page.iter().map(super::connection::show);
        found.extend(shown.filter(|connection| {
            is_subject(connection["connection_id"].as_str()) || is_subject(connection["user"].as_str())
        }));
        after = next;
        if after.is_none() {
            return found;
        }
    }
}

/// Records for which `show` gives something, the newest first.
async fn records(
    inner: &Inner,
    kind: RecordKind,
    show: impl Fn(&Record) -> Option<Value> + Send,
) -> Result<Vec<Value>, Refusal> {
    let records = inner.records.list(kind, None, MAX_RECORDS).await;
    let records = records.map_err(|error| Refusal::store(&error))?;
    Ok(records.iter().filter_map(show).collect())
}

fn attempt(record: &Record, is_subject: &impl Fn(Option<&str>) -> bool) -> Option<Value> {
    let line: AttemptRecord = serde_json::from_str(&record.body).ok()?;
    let is_wanted = is_subject(line.user.as_deref()) || is_subject(line.connection_id.as_deref());
    is_wanted.then(|| serde_json::to_value(&line).ok())?
}

/// When and for whom, and enough of the stored hash to tell two apart; nothing that could be presented.
fn token(record: &Record, is_subject: &impl Fn(Option<&str>) -> bool) -> Option<Value> {
    let body: Value = serde_json::from_str(&record.body).ok()?;
    let user = body["identity"]["user"].as_str();
    let connection = body["spent"]["connection_id"].as_str();
    (is_subject(user) || is_subject(connection)).then(|| {
        json!({
            "fingerprint": record.key.chars().take(FINGERPRINT).collect::<String>(),
            "kind": record.kind.as_str(),
            "user": user,
            "issuedAt": iso_time(record.created_at),
            "forgottenAt": iso_time(record.expires_at),
            "connectionId": connection,
            "spentAt": body["spent"]["at"].as_u64().map(iso_time),
        })
    })
}
