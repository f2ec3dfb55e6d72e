//! `tidegate connections`: what is really open.

use std::collections::HashSet;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::journal;
use super::node::{self, List, Node};
use crate::admin_client::{Body, path};
use crate::cli::node::{ConnectionFilterArgs, ConnectionsAction, ConnectionsArgs, FilterArgs};
use crate::output::{self, Column, Shown, Table, column};

/// Between two looks of `watch`.
const INTERVAL: Duration = Duration::from_secs(2);

/// Connections that a line of `watch` has where the output is no terminal.
const WATCHED: u64 = 100;

const COLUMNS: &[Column] = &[
    column("CONNECTION", "connection_id", Shown::Text),
    column("API", "api", Shown::Text),
    column("STAGE", "stage", Shown::Text),
    column("USER", "user", Shown::Text),
    column("SESSION", "session", Shown::Text),
    column("ADDRESS", "source_ip", Shown::Text),
    column("SINCE", "connected_at", Shown::Age),
    column("IDLE", "last_active_at", Shown::Age),
    column("IN", "messages_in", Shown::Number),
    column("OUT", "messages_out", Shown::Number),
    column("STATE", "state", Shown::Text),
    column("CHANNELS", "channels", Shown::List),
];

pub(crate) async fn run(args: ConnectionsArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    match args.action {
        ConnectionsAction::Ls { filter, count: is_count } => {
            let query = query(&mut node, &filter).await?;
            if is_count {
                let answer = count(&mut node, query).await?;
                return Ok(node.say(&answer, |answer| answer["count"].to_string())?);
            }
            let list = List {
                path: &["connections"],
                query,
                member: "connections",
                columns: COLUMNS,
                names: ("connection", "connections"),
                empty: "no connections; `tidegate token create --connect` or `tidegate connect URL` opens one",
                rows: node::one_row,
                max: u64::MAX,
            };
            node.list(list).await
        }
        ConnectionsAction::Get { id } => {
            let answer = node.client.get(&path(&["connections", &id]), &[]).await?;
            Ok(node.say(&answer, |answer| output::connection(answer, output::now()))?)
        }
        ConnectionsAction::Send { id, data } => {
            let body = Body::Text("text/plain; charset=utf-8", node::data(data.as_deref())?);
            let answer = node.change(Method::POST, &["connections", &id, "send"], &[], body).await?;
            Ok(node.say(&answer, |_| "sent".to_owned())?)
        }
        ConnectionsAction::Kick { id, code, reason } => {
            let mut query = Vec::new();
            query.extend(code.map(|code| ("code", code.to_string())));
            query.extend(reason.map(|reason| ("reason", reason)));
            let answer = node.change(Method::DELETE, &["connections", &id], &query, Body::Nothing).await?;
            Ok(node.say(&answer, |_| format!("closing {}", output::plain(&id)))?)
        }
        ConnectionsAction::Closed { since, filter } => closed(&mut node, since, &filter).await,
        ConnectionsAction::Watch(filter) => {
            let query = query(&mut node, &filter).await?;
            tokio::select! {
                result = watch(&mut node, query) => result,
                _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
            }
        }
    }
}

/// Entries of a page of the journal.
const PAGE: usize = 5000;

/// Everything that ended since so many seconds, the newest first.
async fn closed(node: &mut Node, since: u64, filter: &FilterArgs) -> anyhow::Result<ExitCode> {
    let mut query = vec![("kind", "close".to_owned()), ("limit", PAGE.to_string())];
    query.push(("since", journal::time_ago(since)));
    query.extend(node.api_id(filter.api.as_deref()).await?.map(|id| ("apiId", id)));
    query.extend(filter.stage.clone().map(|stage| ("stage", stage)));
    let (mut until, mut seen) = (None, HashSet::new());
    let mut rows = Vec::new();
    loop {
        let mut page_query = query.clone();
        page_query.extend(until.take().map(|time| ("until", time)));
        let entries = journal::entries(node, &page_query).await?;
        // Those of the moment in which the page begins come again with the next one.
        let oldest = entries.first().map(|entry| entry.ts);
        let n_entries = entries.len();
        let n_before = rows.len();
        for entry in entries.iter().rev() {
            if entry.connection_id.as_ref().is_some_and(|id| seen.insert(id.clone())) {
                rows.push(json!({
                    "connection_id": entry.connection_id,
                    "closed_at": journal::time(entry.ts),
                    "close_code": entry.fact("closeCode"),
                    "reason": entry.text("closeReason").unwrap_or(&entry.outcome),
                    "user": entry.user,
                    "api": entry.api_id,
                    "stage": entry.stage,
                }));
            }
        }
        if n_entries < PAGE || rows.len() == n_before {
            break;
        }
        until = oldest.map(|ts| journal::time(ts + 1));
    }
    if node.is_json {
        output::print(&format!("{}\n", Value::from(rows)))?;
        return Ok(ExitCode::SUCCESS);
    }
    if rows.is_empty() {
        eprintln!(
            "no connection has ended since; see `tidegate journal state` for how far back the journal goes"
        );
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&Table::new(CLOSED).lines(&rows, output::now()))?;
    eprintln!("{}", output::count(rows.len() as u64, "connection", "connections"));
    Ok(ExitCode::SUCCESS)
}

const CLOSED: &[Column] = &[
    column("CONNECTION", "connection_id", Shown::Text),
    column("AGO", "closed_at", Shown::Age),
    column("CODE", "close_code", Shown::Number),
    column("REASON", "reason", Shown::Text),
    column("USER", "user", Shown::Text),
    column("API", "api", Shown::Text),
    column("STAGE", "stage", Shown::Text),
];

async fn query(node: &mut Node, args: &ConnectionFilterArgs) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut query = node.filter(&args.filter).await?;
    for (name, value) in [
        ("user", &args.user),
        ("session", &args.session),
        ("channel", &args.channel),
        ("address", &args.address),
    ] {
        query.extend(value.clone().map(|value| (name, value)));
    }
    query.extend(args.min_age.map(|age| ("min_age", age.to_string())));
    query.extend(args.max_age.map(|age| ("max_age", age.to_string())));
    Ok(query)
}

async fn count(node: &mut Node, mut query: Vec<(&'static str, String)>) -> anyhow::Result<Value> {
    query.push(("count", "true".to_owned()));
    Ok(node.client.get(&path(&["connections"]), &query).await?)
}

/// Repaints a terminal; elsewhere a JSON object a line: `{"at", "count", "connections"}` with the first of them.
async fn watch(node: &mut Node, query: Vec<(&'static str, String)>) -> anyhow::Result<ExitCode> {
    let is_terminal = std::io::stdout().is_terminal() && !node.is_json;
    loop {
        let size = is_terminal.then(window).flatten();
        // Title, column titles and a line for what does not fit.
        let n_rows = size.map_or(WATCHED, |(rows, _)| u64::from(rows.saturating_sub(4)).clamp(1, 1000));
        match look(node, &query, n_rows).await {
            Ok((n_all, items)) if is_terminal => output::print(&screen(node, n_all, &items, size))?,
            Ok((n_all, items)) => {
                let line =
                    json!({ "at": jiff::Timestamp::now().to_string(), "count": n_all, "connections": items });
                output::print(&format!("{line}\n"))?;
            }
            Err(error) => {
                let failure = error.downcast_ref::<crate::admin_client::ClientError>();
                if !is_terminal || !failure.is_some_and(|failure| failure.is_passing()) {
                    return Err(error);
                }
                // The node may be restarting; whoever watches wants to see it come back.
                output::print(&format!("\x1b[H\x1b[J{}\n", output::plain(&format!("{error:#}"))))?;
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn look(
    node: &mut Node,
    query: &[(&'static str, String)],
    n_rows: u64,
) -> anyhow::Result<(u64, Vec<Value>)> {
    let n_all = count(node, query.to_vec()).await?["count"].as_u64().unwrap_or_default();
    let mut query = query.to_vec();
    query.push(("limit", n_rows.to_string()));
    let mut page = node.client.get(&path(&["connections"]), &query).await?;
    match page["connections"].take() {
        Value::Array(items) => Ok((n_all, items)),
        _ => Ok((n_all, Vec::new())),
    }
}

fn screen(node: &Node, n_all: u64, items: &[Value], size: Option<(u16, u16)>) -> String {
    let width = size.map_or(usize::MAX, |(_, columns)| usize::from(columns));
    let mut text = format!(
        "{} at {}; Ctrl-C ends\n",
        output::count(n_all, "connection", "connections"),
        node.client.base()
    );
    if !items.is_empty() {
        text.push_str(&Table::without_color(COLUMNS).lines(items, output::now()));
    }
    if n_all > items.len() as u64 {
        text.push_str(&format!("... and {} more\n", n_all - items.len() as u64));
    }
    // Painted over what is there, and the rest of each line cleared: a cleared screen would flicker.
    let mut screen = "\x1b[H".to_owned();
    for line in text.lines() {
        screen.extend(line.chars().take(width));
        screen.push_str("\x1b[K\n");
    }
    screen.push_str("\x1b[J");
    screen
}

/// Rows and columns of the terminal.
fn window() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
