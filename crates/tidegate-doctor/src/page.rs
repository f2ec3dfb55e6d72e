//! The catalogue for readers: the help page of an id, the manual's chapter on failures, and a form for programs.
//!
//! Nothing is said here that is not in `tidegate_core::diagnosis`: pages only arrange it.

use serde_json::{Value, json};
use tidegate_core::diagnosis::{Cause, Diagnosis, search};

use crate::report::Style;
use crate::report::text::paragraph;

mod manual;

pub use manual::{Page, close_code_section, manual_pages, summary_section, with_section};

/// The schema of [`catalogue_json`].
pub const CATALOGUE_SCHEMA: &str = "tidegate.catalogue/1";

/// What `tidegate explain <id>` prints about an id: finding, cause, proof, where it can be seen, what clients get and
/// are told, what to do, and the other causes of the same symptom.
pub fn help_page(diagnosis: Diagnosis) -> String {
    let cause = diagnosis.describe();
    let style = Style::default();
    let mut out = format!("{diagnosis}  {}\n", cause.title);
    paragraph(&mut out, "cause", cause.cause, style);
    paragraph(&mut out, "proof", cause.proof, style);
    paragraph(&mut out, "seen", &seen_in_words(cause), style);
    if let Some(statement) = cause.what_was_seen() {
        paragraph(&mut out, "limits", &statement, style);
    }
    paragraph(&mut out, "client", cause.client, style);
    paragraph(&mut out, "told", &format!("Clients are told: \"{}\"", cause.said_to_client()), style);
    paragraph(&mut out, "fix", cause.fix, style);
    for command in commands(cause) {
        // Commands are copied: they stay on one line.
        out.push_str(&format!("  {:<10}{command}\n", "next"));
    }
    let aliases: Vec<_> = search::aliases_of(diagnosis).collect();
    if !aliases.is_empty() {
        paragraph(&mut out, "aliases", &aliases.join(", "), style);
    }
    let related = related(cause);
    if !related.is_empty() {
        let ids: Vec<_> = related.iter().map(|id| id.as_str()).collect();
        paragraph(&mut out, "related", &ids.join(", "), style);
    }
    out
}

/// Where a cause can be established, in words.
pub fn seen_in_words(cause: &Cause) -> String {
    if cause.is_undetectable() {
        return "Nowhere: no part of Tidegate can see it.".to_owned();
    }
    let place = |letter: &str| match letter {
        "G" => "the gateway, at the moment it happens",
        "G*" => "the gateway, where tokens, sessions, channels or permissions are its own",
        "B" => "the backend's answer",
        "D+" => "a probe that runs on the machine in question (`tidegate doctor URL` there)",
        "D" => "a probe from outside (`tidegate doctor URL`)",
        "C" => {
            "a check of configuration and backends (`tidegate doctor --config FILE`, `--api ID`, `--system`)"
        }
        "L" => "the client library",
        _ => "an unknown place",
    };
    let (mut proves, mut suggests) = (Vec::new(), Vec::new());
    for letter in cause.seen.replace("D (run there)", "D+").split(' ') {
        match letter.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            // Sometimes nothing arrives at all; the proof says so.
            Some("-") => {}
            Some(inner) => suggests.push(place(inner)),
            None => proves.push(place(letter)),
        }
    }
    let mut sentences = Vec::new();
    if !proves.is_empty() {
        sentences.push(format!("Proven by {}.", proves.join("; ")));
    }
    if !suggests.is_empty() {
        sentences.push(format!("Suggested by {}.", suggests.join("; ")));
    }
    sentences.join(" ")
}

/// Commands that show more about a cause, the most direct one first.
pub fn commands(cause: &Cause) -> Vec<&'static str> {
    let id = cause.diagnosis.as_str();
    let (family, _) = id.split_once('.').unwrap_or((id, ""));
    let special = match (id, family, cause.symptom) {
        ("log.token-in-query" | "log.secret-printed", ..) => Some("tidegate doctor --check-log FILE"),
        (
            "backend.headers-stripped"
            | "backend.server-drops-forwarded"
            | "backend.api-id-unknown"
            | "cookie.not-forwarded"
            | "local.tunnel-strips-headers",
            ..,
        ) => Some("tidegate doctor reflect --listen 127.0.0.1:8000"),
        (_, "tokenreq", _) => Some("tidegate doctor URL --page PAGE --token-url TOKEN_URL"),
        (_, "browser" | "cookie", _) => Some("tidegate doctor URL --page PAGE"),
        (_, "config", _) => Some("tidegate doctor --config FILE"),
        (_, "limit" | "store" | "cluster", _) => Some("tidegate doctor --system"),
        (_, _, 19 | 20) | ("route.no-match", ..) => Some("tidegate route test API MESSAGE"),
        (_, "proxy" | "idle", 28) | ("close.idle-timeout", ..) => Some("tidegate doctor URL --idle"),
        _ => None,
    };
    let mut commands: Vec<_> = special.into_iter().collect();
    let mut add = |command: &'static str| {
        if !commands.contains(&command) {
            commands.push(command);
        }
    };
    for letter in cause.seen.split(' ') {
        match letter.trim_matches(['(', ')', '*']) {
            "G" | "B" => add("tidegate explain REQUEST_ID"),
            "D" if special.is_none() => add("tidegate doctor URL"),
            "C" if special.is_none() => add("tidegate doctor --api ID"),
            _ => {}
        }
    }
    commands.truncate(2);
    commands
}

/// Other causes of the same symptom.
fn related(cause: &Cause) -> Vec<Diagnosis> {
    let mut causes = search::causes_of(cause.symptom);
    causes.retain(|other| *other != cause.diagnosis);
    causes
}

/// The catalogue for the console and for client libraries: id, symptom, title, what clients may be told, action.
///
/// Shape: `{"schema": "tidegate.catalogue/1", "causes": [{"id", "symptom", "title", "saidToClient", "fix"}]}`; members
/// are only added. `symptom` is 0 for causes that belong to none.
pub fn catalogue_json() -> Value {
    let causes = Diagnosis::all().map(|cause| {
        json!({
            "id": cause.diagnosis.as_str(),
            "symptom": cause.symptom,
            "title": cause.title,
            "saidToClient": cause.said_to_client(),
            "fix": cause.fix,
        })
    });
    json!({ "schema": CATALOGUE_SCHEMA, "causes": causes.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests;
