//! `tidegate report`: one archive with everything that helps somebody else to say why.
//!
//! The node answers with everything that it knows about the subject, secrets left out; here it becomes one file for each
//! part, together with what this machine sees: names in the DNS, and the clock.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::node::Node;
use crate::admin_client::{Body, path};
use crate::cli::node::ReportArgs;
use crate::output;

/// How long a name may take to resolve.
const DNS_TIMEOUT: Duration = Duration::from_secs(5);

/// Names that are resolved at most.
const MAX_NAMES: usize = 50;

/// APIs of a report that are looked at.
const MAX_APIS: usize = 5;

/// In front of the log lines.
const ABOUT_LOG: &str =
    "# Of the newest 1000 log lines of the node, those that name the subject, its connections or its requests.
# Older ones are where the service manager keeps its standard error, for example `journalctl -u tidegate`.
# Every line of the level WARN or ERROR has `diag`, the id that `tidegate explain` explains.
";

/// A file of the archive, and what is in it.
struct Part {
    name: &'static str,
    text: &'static str,
    bytes: Vec<u8>,
}

pub(crate) async fn run(args: ReportArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    let before = jiff::Timestamp::now();
    let mut report = node.client.get(&path(&["report"]), &[("subject", args.subject.clone())]).await?;
    let after = jiff::Timestamp::now();
    let names = domains(&report["definitions"]);
    let explained = explained(&mut node, &args.subject, &report["journal"]).await;
    let looked_at = looked_at(&mut node, &report).await;
    let parts = vec![
        lines("journal.jsonl", "entries of the journal, oldest first", report["journal"].take()),
        part(
            "journal-state.json",
            "how much the journal holds and lost",
            &json!({
                "state": report["journalState"],
                "problem": report["journalProblem"],
            }),
        ),
        part("connections.json", "connections that are open now", &report["connections"]),
        part("attempts.json", "handshakes at stages with a policy", &report["attempts"]),
        part("tokens.json", "connect tokens, by fingerprint", &report["tokens"]),
        part("bans.json", "bans of the user", &report["bans"]),
        part(
            "definitions.json",
            "APIs, stages, domains; secrets left out",
            &without_variables(report["definitions"].take()),
        ),
        part("explain.json", "what `tidegate explain` says about the subject", &explained),
        part(
            "doctor.json",
            "what `tidegate doctor --api` says about its APIs, without requests to backends",
            &looked_at,
        ),
        part(
            "certificates.json",
            "names and dates of the certificates that the node serves",
            &report["certificates"],
        ),
        Part { name: "log.txt", text: "log lines of the node about the subject", bytes: log(&report["log"]) },
        part("settings.json", "settings of the node and their origin; secrets masked", &report["settings"]),
        part(
            "versions.json",
            "versions",
            &json!({
                "node": report["version"],
                "tidegate": env!("CARGO_PKG_VERSION"),
                "system": std::env::consts::OS,
                "machine": std::env::consts::ARCH,
                "uptime": report["uptime"],
            }),
        ),
        part("clock.json", "clock of the node against this machine", &clock(&report["at"], before, after)),
        part("dns.json", "what this machine resolves the domains to", &dns(names).await),
    ];
    let output = args.output.unwrap_or_else(|| file_name(&args.subject));
    write(&output, &parts, before).with_context(|| format!("write {}", output.display()))?;
    if node.is_json {
        let contents: Vec<Value> = parts
            .iter()
            .map(|part| json!({ "name": part.name, "bytes": part.bytes.len(), "about": part.text }))
            .collect();
        output::print(&format!("{}\n", json!({ "file": output, "contents": contents })))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("{}\n", output.display());
    for part in &parts {
        text.push_str(&format!("  {:<20} {:>9} bytes  {}\n", part.name, part.bytes.len(), part.text));
    }
    text.push_str("It has ids, addresses and names of users, and no tokens, cookies, payloads or keys.\n");
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The answer to the question that somebody who gets the archive would ask first; an error is said in its place.
async fn explained(node: &mut Node, subject: &str, journal: &Value) -> Value {
    let is_user =
        journal.as_array().into_iter().flatten().any(|entry| entry["user"].as_str() == Some(subject));
    let name = if is_user { "user" } else { "q" };
    match node.client.get(&path(&["explain"]), &[(name, subject.to_owned())]).await {
        Ok(report) => report,
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// The APIs of the entries, or all where no entry names one, as `doctor` sees them. Backends get no request: a report
/// changes nothing.
async fn looked_at(node: &mut Node, report: &Value) -> Value {
    let entries = report["journal"].as_array().into_iter().flatten();
    let mut ids: Vec<String> =
        entries.filter_map(|entry| entry["apiId"].as_str()).map(str::to_owned).collect();
    if ids.is_empty() {
        let page = node.client.get(&path(&["apis"]), &[("limit", MAX_APIS.to_string())]).await;
        let apis = page.ok().and_then(|page| page["apis"].as_array().cloned()).unwrap_or_default();
        ids.extend(apis.iter().filter_map(|api| api["id"].as_str()).map(str::to_owned));
    }
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(MAX_APIS);
    let mut answers = serde_json::Map::new();
    for id in ids {
        let body = Body::Json(json!({ "no_post": true }));
        let answer = match node.change(http::Method::POST, &["apis", &id, "doctor"], &[], body).await {
            Ok(mut answer) => answer["report"].take(),
            Err(error) => json!({ "error": error.to_string() }),
        };
        answers.insert(id, answer);
    }
    Value::Object(answers)
}

/// The log lines, one a line.
fn log(lines: &Value) -> Vec<u8> {
    let mut text = ABOUT_LOG.to_owned();
    for line in lines.as_array().into_iter().flatten().filter_map(Value::as_str) {
        text.push_str(line);
        text.push('\n');
    }
    text.into_bytes()
}

fn part(name: &'static str, text: &'static str, value: &Value) -> Part {
    // A value always has a text.
    let bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    Part { name, text, bytes }
}

/// A line for each item.
fn lines(name: &'static str, text: &'static str, value: Value) -> Part {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let bytes = items.iter().flat_map(|item| format!("{item}\n").into_bytes()).collect();
    Part { name, text, bytes }
}

/// `tidegate-report-alice-20300102T030405Z.tar.gz`
fn file_name(subject: &str) -> PathBuf {
    let name: String =
        subject.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(64).collect();
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    format!("tidegate-report-{}-{time}.tar.gz", name.trim_start_matches('.')).into()
}

/// Values of stage variables may be anything, and some people put secrets there.
fn without_variables(mut definitions: Value) -> Value {
    for api in definitions["apis"].as_array_mut().into_iter().flatten() {
        for stage in api["stages"].as_object_mut().into_iter().flat_map(|stages| stages.values_mut()) {
            for value in stage["variables"].as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
                *value = "****".into();
            }
        }
    }
    definitions
}

/// Names of the custom domains.
fn domains(definitions: &Value) -> Vec<String> {
    let domains = definitions["domains"].as_array().into_iter().flatten();
    domains.filter_map(|domain| domain["name"].as_str()).map(str::to_owned).take(MAX_NAMES).collect()
}

async fn dns(names: Vec<String>) -> Value {
    let mut answers = serde_json::Map::new();
    for name in names {
        // A wildcard is asked for by a name that it covers.
        let asked = name.replacen('*', "tidegate-report", 1);
        let looked_up =
            tokio::time::timeout(DNS_TIMEOUT, tokio::net::lookup_host((asked.as_str(), 443))).await;
        let answer = match looked_up {
            Ok(Ok(addresses)) => {
                let mut addresses: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
                addresses.sort_unstable();
                addresses.dedup();
                json!({ "addresses": addresses })
            }
            Ok(Err(error)) => json!({ "error": error.to_string() }),
            Err(_) => json!({ "error": format!("no answer within {} s", DNS_TIMEOUT.as_secs()) }),
        };
        answers.insert(name, answer);
    }
    Value::Object(answers)
}

/// The node's clock was read about in the middle of the call.
fn clock(at: &Value, before: jiff::Timestamp, after: jiff::Timestamp) -> Value {
    let round_trip = after.as_millisecond() - before.as_millisecond();
    let node = at.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let offset = node.map(|node| node.as_millisecond() - before.as_millisecond() - round_trip / 2);
    json!({ "node": at, "here": before.to_string(), "roundTripMs": round_trip, "offsetMs": offset })
}

/// For its owner only; it must not be there yet.
fn write(path: &Path, parts: &[Part], time: jiff::Timestamp) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file: File = options.open(path)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for part in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(part.bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(time.as_second()).unwrap_or_default());
        archive.append_data(
            &mut header,
            Path::new("tidegate-report").join(part.name),
            part.bytes.as_slice(),
        )?;
    }
    archive.into_inner()?.finish()?.sync_all()?;
    Ok(())
}
