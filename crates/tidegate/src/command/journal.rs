//! `tidegate journal`: what happened to connections, and why.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};
use tidegate_core::journal::{Entry, EntryQuery, JournalState, JournalStore as _, Kind};
use tidegate_store::SqliteJournal;

use super::node::{self, Node};
use crate::admin_client::{Body, ClientError, path};
use crate::cli::node::{JournalAction, JournalArgs, JournalFilterArgs};
use crate::output::{self, Column, Shown, Table, column};
use crate::stores::JOURNAL_FILE;

/// Between two looks of `watch`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Entries of a look of `watch`.
const WATCHED: u64 = 10_000;

const COLUMNS: &[Column] = &[
    column("AGO", "at", Shown::Age),
    column("KIND", "kind", Shown::Text),
    column("OUTCOME", "outcome", Shown::Text),
    column("CONNECTION", "connectionId", Shown::Text),
    column("REQUEST", "requestId", Shown::Text),
    column("USER", "user", Shown::Text),
    column("ADDRESS", "address", Shown::Text),
    column("API", "apiId", Shown::Text),
    column("STAGE", "stage", Shown::Text),
    column("ROUTE", "routeKey", Shown::Text),
    column("ABOUT", "about", Shown::Text),
];

pub(crate) async fn run(args: JournalArgs) -> anyhow::Result<ExitCode> {
    let is_json = args.node.json;
    match args.action {
        JournalAction::Ls { filter, limit, data_dir: Some(folder) } => {
            let query = offline_query(&filter, limit)?;
            let entries = open(&folder)?.query(query).await.context("read the journal")?;
            show(&entries, is_json)
        }
        JournalAction::State { data_dir: Some(folder) } => {
            let state = open(&folder)?.state().await.context("read the journal")?;
            show_state(&state, is_json)
        }
        JournalAction::Ls { filter, limit, data_dir: None } => {
            let mut query = query(&filter);
            query.push(("limit", limit.to_string()));
            let entries = entries(&mut Node::new(&args.node)?, &query).await?;
            show(&entries, is_json)
        }
        JournalAction::State { data_dir: None } => {
            let answer = Node::new(&args.node)?.client.get(&path(&["journal", "state"]), &[]).await?;
            let state = serde_json::from_value(answer).context("the node answers in another form")?;
            show_state(&state, is_json)
        }
        JournalAction::Watch(filter) => {
            let mut node = Node::new(&args.node)?;
            tokio::select! {
                result = watch(&mut node, &filter) => result,
                _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
            }
        }
        JournalAction::Erase { user, address } => {
            let mut node = Node::new(&args.node)?;
            let body = node::members([("user", json!(user)), ("address", json!(address))]);
            let answer = node.change(Method::POST, &["journal", "erase"], &[], Body::Json(body)).await?;
            Ok(node.say(&answer, |answer| {
                let erased = answer["erased"].as_u64().unwrap_or_default();
                format!("erased {}", output::count(erased, "entry", "entries"))
            })?)
        }
    }
}

fn open(folder: &Path) -> anyhow::Result<SqliteJournal> {
    let path = folder.join(JOURNAL_FILE);
    if !path.exists() {
        return Err(ClientError::NotThere(format!("{}: there is no journal", path.display())).into());
    }
    SqliteJournal::open_read_only(&path).with_context(|| path.display().to_string())
}

/// A time in microseconds as people and the admin API write it.
pub(crate) fn time(micros: u64) -> String {
    let time = i64::try_from(micros).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    time.map(|time| time.to_string()).unwrap_or_default()
}

/// The time so many seconds ago.
pub(crate) fn time_ago(seconds: u64) -> String {
    time(micros_ago(seconds))
}

fn micros_ago(seconds: u64) -> u64 {
    output::now().saturating_sub(seconds.saturating_mul(1000)).saturating_mul(1000)
}

fn query(filter: &JournalFilterArgs) -> Vec<(&'static str, String)> {
    let mut query = Vec::new();
    for (name, value) in [
        ("kind", &filter.kind),
        ("outcome", &filter.outcome),
        ("connectionId", &filter.connection),
        ("requestId", &filter.request),
        ("clientRef", &filter.client_ref),
        ("user", &filter.user),
        ("address", &filter.address),
        ("apiId", &filter.api),
        ("stage", &filter.stage),
    ] {
        query.extend(value.clone().map(|value| (name, value)));
    }
    query.extend(filter.failures.then(|| ("failures", "true".to_owned())));
    query.extend(filter.since.map(|since| ("since", time_ago(since))));
    query
}

/// Without a node; an address has to be given as it is kept.
fn offline_query(filter: &JournalFilterArgs, limit: u64) -> anyhow::Result<EntryQuery> {
    let split = |text: &Option<String>| -> Vec<String> {
        let parts = text.as_deref().unwrap_or_default().split(',').map(str::trim);
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let mut kinds = Vec::new();
    for name in split(&filter.kind) {
        let unknown = || {
            let known = Kind::ALL.map(Kind::as_str).join(", ");
            ClientError::Usage(format!("--kind {name}: one of {known} expected"))
        };
        kinds.push(Kind::find(&name).ok_or_else(unknown)?);
    }
    Ok(EntryQuery {
        since: filter.since.map(micros_ago),
        until: None,
        kinds,
        outcomes: split(&filter.outcome),
        failures_only: filter.failures,
        request_id: filter.request.clone(),
        connection_id: filter.connection.clone(),
        client_ref: filter.client_ref.clone(),
        user: filter.user.clone(),
        address: filter.address.clone(),
        api_id: filter.api.clone(),
        stage: filter.stage.clone(),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
    })
}

/// Entries of a running node, the oldest first.
pub(crate) async fn entries(node: &mut Node, query: &[(&'static str, String)]) -> anyhow::Result<Vec<Entry>> {
    let mut answer = node.client.get(&path(&["journal"]), query).await?;
    serde_json::from_value(answer["entries"].take()).context("the node answers in another form")
}

fn show(entries: &[Entry], is_json: bool) -> anyhow::Result<ExitCode> {
    if is_json {
        output::print(&format!("{}\n", serde_json::to_string(entries)?))?;
    } else if entries.is_empty() {
        eprintln!("nothing in the journal fits; `tidegate journal state` says how far back it goes");
    } else {
        let rows: Vec<Value> = entries.iter().map(row).collect();
        output::print(&Table::new(COLUMNS).lines(&rows, output::now()))?;
        eprintln!("{}", output::count(entries.len() as u64, "entry", "entries"));
    }
    Ok(ExitCode::SUCCESS)
}

fn row(entry: &Entry) -> Value {
    let mut row = json!(entry);
    row["at"] = time(entry.ts).into();
    row["about"] = about(entry).into();
    row
}

/// The facts that say most, in one line.
fn about(entry: &Entry) -> String {
    const TELLING: [&str; 12] = [
        "what",
        "status",
        "closeCode",
        "closeReason",
        "target",
        "channel",
        "change",
        "handled",
        "size",
        "origin",
        "object",
        "actor",
    ];
    let shown = TELLING.iter().filter_map(|name| {
        let value = entry.fact(name)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // It stands in the column of the outcome.
        (text != entry.outcome).then(|| format!("{name}={text}"))
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn show_state(state: &JournalState, is_json: bool) -> anyhow::Result<ExitCode> {
    if is_json {
        output::print(&format!("{}\n", serde_json::to_string(state)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let shown = json!({
        "entries": state.entries,
        "bytes": state.bytes,
        "oldest": state.oldest.map(time),
        "newest": state.newest.map(time),
        "dropped": state.dropped,
        "sampled": state.sampled,
    });
    output::print(&format!("{}\n", output::record(&shown, output::now()).trim_end()))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what comes, a line each. Looks of this kind are in the journal too; they are left out here.
async fn watch(node: &mut Node, filter: &JournalFilterArgs) -> anyhow::Result<ExitCode> {
    let mut query = query(filter);
    query.retain(|(name, _)| *name != "since");
    query.push(("limit", WATCHED.to_string()));
    let mut from = micros_ago(filter.since.unwrap_or(0));
    let mut table = Table::new(COLUMNS);
    loop {
        let mut page_query = query.clone();
        page_query.push(("since", time(from)));
        match entries(node, &page_query).await {
            Ok(entries) => {
                from = entries.last().map_or(from, |entry| entry.ts + 1);
                let new: Vec<&Entry> =
                    entries.iter().filter(|entry| entry.text("what") != Some("access")).collect();
                if node.is_json {
                    for entry in new {
                        output::print(&format!("{}\n", serde_json::to_string(entry)?))?;
                    }
                } else if !new.is_empty() {
                    let rows: Vec<Value> = new.into_iter().map(row).collect();
                    output::print(&table.lines(&rows, output::now()))?;
                }
            }
            Err(error) if error.downcast_ref::<ClientError>().is_some_and(ClientError::is_passing) => {
                // The node may be restarting; whoever watches wants to see it come back.
                eprintln!("{}", output::plain(&format!("{error:#}")));
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
