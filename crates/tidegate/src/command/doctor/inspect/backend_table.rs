//! `doctor --api ID --backend-connections FILE`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use tidegate_doctor::inspect::backend_table::{self, Known};
use tidegate_doctor::report::Report;

use crate::admin_client::{ClientError, path};
use crate::command::journal;
use crate::command::node::Node;

/// Longest list that is read, in bytes: a million ids with something beside each.
const MAX_LIST: u64 = 64 << 20;

/// Connections of a page.
const PAGE: u64 = 1000;

/// Entries of a page of the journal, and pages that are read at most: every entry of a journal of the usual size.
const ENTRIES: usize = 5000;
const MAX_PAGES: usize = 1000;

/// Compares the list of a file with what is open; `-` is the standard input. `grace`: seconds.
pub(super) async fn check(
    node: &mut Node,
    api_id: &str,
    file: &Path,
    grace: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let text = read(file)?;
    let ids = backend_table::read(&text)
        .map_err(|error| ClientError::Usage(format!("--backend-connections {}: {error}", file.display())))?;
    let open = open(node, api_id).await?;
    let missing: BTreeSet<&str> =
        ids.iter().filter(|id| !open.contains_key(*id)).map(String::as_str).collect();
    // A node without a journal can still say what is open.
    let (ended, since) = match ended(node, api_id, missing).await {
        Ok(found) => found,
        Err(error) => {
            report.notes.push(format!("when connections ended is not known: {error:#}"));
            (BTreeMap::new(), None)
        }
    };
    let now = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default();
    let known = Known { open, ended, since, now, grace: grace.saturating_mul(1_000_000) };
    let (probe, mut findings) = backend_table::check(&ids, &known);
    for finding in &mut findings {
        finding.api_id = Some(api_id.to_owned());
    }
    report.probes.push(probe);
    report.findings.extend(findings);
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    let source: Box<dyn std::io::Read> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => {
            let opened = std::fs::File::open(file);
            Box::new(opened.map_err(|error| ClientError::Usage(format!("{}: {error}", file.display())))?)
        }
    };
    let mut text = String::new();
    source
        .take(MAX_LIST + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("read {}", file.display()))?;
    if text.len() as u64 > MAX_LIST {
        let message = format!("--backend-connections {}: more than {MAX_LIST} bytes", file.display());
        return Err(ClientError::Usage(message).into());
    }
    Ok(text)
}

/// What is open, and since when, in microseconds since 1970.
async fn open(node: &mut Node, api_id: &str) -> Result<BTreeMap<String, u64>, ClientError> {
    let (mut open, mut next) = (BTreeMap::new(), None::<String>);
    loop {
        let mut query = vec![("api", api_id.to_owned()), ("limit", PAGE.to_string())];
        query.extend(next.take().map(|token| ("next_token", token)));
        let page = node.client.get(&path(&["connections"]), &query).await?;
        for connection in page["connections"].as_array().into_iter().flatten() {
            // One whose handshake is under way is in no list yet, and may never be.
            if let (Some(id), Some(at), Some("open")) = (
                connection["connection_id"].as_str(),
                connection["connected_at"].as_str().and_then(micros),
                connection["state"].as_str(),
            ) {
                open.insert(id.to_owned(), at);
            }
        }
        next = page["next_token"].as_str().map(str::to_owned);
        if next.is_none() {
            return Ok(open);
        }
    }
}

fn micros(time: &str) -> Option<u64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    u64::try_from(time.as_microsecond()).ok()
}

/// When these ended, and from when on the journal would know; the newest entries first, until all are found.
async fn ended(
    node: &mut Node,
    api_id: &str,
    mut wanted: BTreeSet<&str>,
) -> anyhow::Result<(BTreeMap<String, u64>, Option<u64>)> {
    let state = node.client.get(&path(&["journal", "state"]), &[]).await?;
    let since = state["oldest"].as_u64();
    let (mut ended, mut until) = (BTreeMap::new(), None::<u64>);
    for _ in 0..MAX_PAGES {
        if wanted.is_empty() {
            break;
        }
        let mut query =
            vec![("kind", "close".to_owned()), ("apiId", api_id.to_owned()), ("limit", ENTRIES.to_string())];
        query.extend(until.map(|until| ("until", journal::time(until))));
        let entries = journal::entries(node, &query).await?;
        for entry in &entries {
            if let Some(id) = entry.connection_id.as_deref()
                && wanted.remove(id)
            {
                ended.insert(id.to_owned(), entry.ts);
            }
        }
        // Those of the moment in which the page begins come again with the next one; a page that is not full is the last.
        let next = entries.first().map(|entry| entry.ts + 1);
        if entries.len() < ENTRIES || next == until {
            break;
        }
        until = next;
    }
    Ok((ended, since))
}
