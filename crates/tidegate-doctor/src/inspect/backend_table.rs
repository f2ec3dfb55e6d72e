//! The list of connections that a backend keeps, against what is really open.
//!
//! Backends have no way to ask the package or its like for their tables, so the operator gives the list: one id a line, or
//! JSON. What is in it and ended is stale; what is open and not in it gets no messages.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;

use super::facts;
use crate::check::{DAY, span, time};
use crate::report::{Confidence, Finding, Probe, ProbeResult, Severity};

/// Most ids of a list. Source: our choice, the most connections that a node holds unless it is told otherwise.
pub const MAX_IDS: usize = 1_000_000;

/// Longest id that can be one; those of API Gateway have 16 characters or fewer.
const MAX_ID: usize = 128;

/// Ids that a finding names.
const MAX_NAMED: usize = 5;

/// Rows whose connection ended more than a day ago before one speaks of a missing clean-up.
const MIN_OLD: usize = 5;

/// Members of an object that have the id.
const NAMES: [&str; 4] = ["connection_id", "connectionId", "ConnectionId", "id"];

/// What cannot be read as a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A line that is no id.
    #[error("line {line} is no connection id: one id a line, or JSON, expected")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// JSON that is no list of ids.
    #[error("{0}")]
    Json(String),
    /// Over [`MAX_IDS`].
    #[error("more than {MAX_IDS} ids")]
    TooMany,
}

/// What is known of connections at the moment of the comparison; times in microseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// What is open, and since when.
    pub open: BTreeMap<String, u64>,
    /// What ended, and when, as far as the journal reaches.
    pub ended: BTreeMap<String, u64>,
    /// From when on the journal has ends; none where it cannot be asked.
    pub since: Option<u64>,
    /// The time of the comparison.
    pub now: u64,
    /// What opened or ended so recently does not count, in microseconds: the list is from another moment.
    pub grace: u64,
}

/// Reads a list: one id a line (what stands behind a comma or blank is ignored, as are empty lines, lines with `#` and a
/// title `connection_id`), a JSON array of ids, or one of objects that have the id as `connection_id` or `connectionId`.
///
/// # Errors
/// [`TableError`].
pub fn read(text: &str) -> Result<BTreeSet<String>, TableError> {
    let ids = match text.trim_start().starts_with(['[', '{']) {
        true => of_json(text)?,
        false => of_lines(text)?,
    };
    if ids.len() > MAX_IDS { Err(TableError::TooMany) } else { Ok(ids) }
}

fn of_lines(text: &str) -> Result<BTreeSet<String>, TableError> {
    let mut ids = BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        let word =
            line.split([',', ';', ' ', '\t']).next().unwrap_or_default().trim_matches(['"', '\'', '\r']);
        if word.is_empty() || word.starts_with('#') || (ids.is_empty() && NAMES.contains(&word)) {
            continue;
        }
        if !is_id(word) {
            return Err(TableError::Line { line: at + 1 });
        }
        ids.insert(word.to_owned());
    }
    Ok(ids)
}

fn of_json(text: &str) -> Result<BTreeSet<String>, TableError> {
    let value: Value = serde_json::from_str(text).map_err(|error| TableError::Json(error.to_string()))?;
    let items = match &value {
        Value::Array(items) => items,
        Value::Object(members) => members
            .values()
            .find_map(Value::as_array)
            .ok_or_else(|| TableError::Json("an array of ids expected".to_owned()))?,
        _ => return Err(TableError::Json("an array of ids expected".to_owned())),
    };
    let mut ids = BTreeSet::new();
    for (at, item) in items.iter().enumerate() {
        let id = item.as_str().or_else(|| NAMES.iter().find_map(|name| item[*name].as_str()));
        let id = id.filter(|id| is_id(id));
        let id = id.ok_or_else(|| {
            TableError::Json(format!(
                "item {} has no connection id: a text, or `connection_id`, expected",
                at + 1
            ))
        })?;
        ids.insert(id.to_owned());
    }
    Ok(ids)
}

fn is_id(word: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'=' | b'+' | b'/');
    (4..=MAX_ID).contains(&word.len()) && word.bytes().all(is_part)
}

/// Compares a list with what is open.
pub fn check(ids: &BTreeSet<String>, known: &Known) -> (Probe, Vec<Finding>) {
    let Known { open, ended, since, now, grace } = known;
    let is_past = |at: u64| now.saturating_sub(at) >= *grace;
    let mut stale: Vec<(&str, u64)> = Vec::new();
    let mut unknown: Vec<&str> = Vec::new();
    for id in ids.iter().filter(|id| !open.contains_key(*id)) {
        match ended.get(id) {
            Some(at) if is_past(*at) => stale.push((id, *at)),
            Some(_) => {}
            None => unknown.push(id),
        }
    }
    stale.sort_by_key(|(_, at)| *at);
    let lacking: Vec<(&str, u64)> = open
        .iter()
        .filter(|(id, at)| is_past(**at) && !ids.contains(*id))
        .map(|(id, at)| (id.as_str(), *at))
        .collect();
    let n_open = ids.iter().filter(|id| open.contains_key(*id)).count();
    let mut findings = Vec::new();
    findings.extend(of_stale(ids.len(), &stale, *now));
    findings.extend(of_old(ids.len(), &stale, *now));
    findings.extend(of_unknown(ids.len(), &unknown, *since));
    findings.extend(of_lacking(&lacking, open.len()));
    let measurements = facts([
        ("rows", json!(ids.len())),
        ("open", json!(n_open)),
        ("ended", json!(stale.len())),
        ("unknown", json!(unknown.len())),
        ("openAndNotListed", json!(lacking.len())),
        ("journalSince", json!(since.map(time))),
    ]);
    let result = match (findings.is_empty(), findings.iter().any(|found| found.severity == Severity::Problem))
    {
        (true, _) => ProbeResult::Ok,
        (false, true) => ProbeResult::Problem,
        (false, false) => ProbeResult::Warning,
    };
    (Probe { name: "backend connections".to_owned(), result, measurements }, findings)
}

/// How stale the list is.
fn of_stale(n_rows: usize, stale: &[(&str, u64)], now: u64) -> Option<Finding> {
    let (_, oldest) = stale.first()?;
    let (_, median) = stale.get(stale.len() / 2)?;
    let text = format!(
        "{} of {n_rows} connections in the backend's list have ended: half of them more than {} ago, the first {} ago",
        stale.len(),
        span(now.saturating_sub(*median)),
        span(now.saturating_sub(*oldest)),
    );
    let mut proof = facts([
        ("count", json!(stale.len())),
        ("rows", json!(n_rows)),
        ("oldestEndedAt", json!(time(*oldest))),
    ]);
    name(&mut proof, stale.iter().map(|(id, _)| *id));
    let finding = Finding::problem(Diagnosis::CONNECTIONS_STALE_RECORD).seen(text, proof);
    Some(finding.next("tidegate connections closed --since 7d"))
}

/// Whether anything ever cleans up.
fn of_old(n_rows: usize, stale: &[(&str, u64)], now: u64) -> Option<Finding> {
    let old: Vec<&str> =
        stale.iter().filter(|(_, at)| now.saturating_sub(*at) > DAY).map(|(id, _)| *id).collect();
    if old.len() < MIN_OLD || old.len() * 10 < n_rows {
        return None;
    }
    let text =
        format!("{} of {n_rows} connections in the backend's list ended more than a day ago", old.len());
    let mut proof = facts([("count", json!(old.len())), ("rows", json!(n_rows))]);
    name(&mut proof, old.into_iter());
    Some(
        Finding::new(Diagnosis::CLEANUP_NOT_SCHEDULED, Severity::Problem, Confidence::Likely)
            .seen(text, proof),
    )
}

/// Ids that nobody here has issued, or of which the journal knows nothing any more.
fn of_unknown(n_rows: usize, unknown: &[&str], since: Option<u64>) -> Option<Finding> {
    if unknown.is_empty() {
        return None;
    }
    let (of_here, foreign): (Vec<&str>, Vec<&str>) =
        unknown.iter().copied().partition(|id| ConnectionId::parse(id).is_ok());
    let reach =
        since.map_or("which cannot be asked".to_owned(), |since| format!("which begins at {}", time(since)));
    let mut text = format!(
        "{} of {n_rows} connections in the backend's list are neither open nor among the ends in the journal, {reach}",
        unknown.len()
    );
    if !foreign.is_empty() {
        text.push_str(&format!("; {} of them do not have the form of ids of this program", foreign.len()));
    }
    let mut proof = facts([
        ("count", json!(unknown.len())),
        ("otherForm", json!(foreign.len())),
        ("rows", json!(n_rows)),
    ]);
    name(&mut proof, foreign.into_iter().chain(of_here));
    Some(Finding::new(Diagnosis::GONE_UNKNOWN_ID, Severity::Warning, Confidence::Possible).seen(text, proof))
}

/// What is open and gets nothing, because the backend does not know it.
fn of_lacking(lacking: &[(&str, u64)], n_open: usize) -> Option<Finding> {
    if lacking.is_empty() {
        return None;
    }
    let text = format!(
        "{} of {n_open} open connections are not in the backend's list: it sends them nothing",
        lacking.len()
    );
    let mut proof = facts([("count", json!(lacking.len())), ("open", json!(n_open))]);
    name(&mut proof, lacking.iter().map(|(id, _)| *id));
    let diagnosis = Diagnosis::PUSH_SESSION_MARKED_CLOSED;
    Some(Finding::new(diagnosis, Severity::Problem, Confidence::Likely).seen(text, proof))
}

fn name<'a>(proof: &mut Map<String, Value>, ids: impl Iterator<Item = &'a str>) {
    proof.insert("connections".to_owned(), ids.take(MAX_NAMED).collect());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{HOUR, SECOND};

    const NOW: u64 = 1_800_000_000_000_000;

    fn list(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn known(open: &[(&str, u64)], ended: &[(&str, u64)]) -> Known {
        let ago =
            |pairs: &[(&str, u64)]| pairs.iter().map(|(id, ago)| ((*id).to_owned(), NOW - ago)).collect();
        Known { open: ago(open), ended: ago(ended), since: Some(NOW - 7 * DAY), now: NOW, grace: 30 * SECOND }
    }

    fn found(ids: &[&str], known: &Known) -> Vec<(String, Confidence)> {
        let (_, findings) = check(&list(ids), known);
        findings.into_iter().map(|found| (found.id, found.confidence)).collect()
    }

    #[test]
    fn lists_are_lines_or_json() {
        // S0-95
        let ids = list(&["aaaa", "bb+/_-b="]);
        for text in [
            "aaaa\nbb+/_-b=\n",
            "connection_id,user\r\n\"aaaa\",ann\r\n\"bb+/_-b=\",ben\r\n",
            "# open\n\naaaa\tann\nbb+/_-b= ben\naaaa",
            r#"["aaaa", "bb+/_-b="]"#,
            r#" [{"connection_id": "aaaa"}, {"connectionId": "bb+/_-b=", "user": 1}]"#,
            r#"{"count": 2, "connections": [{"ConnectionId": "aaaa"}, "bb+/_-b="]}"#,
        ] {
            assert_eq!(read(text), Ok(ids.clone()), "{text}");
        }
        assert_eq!(read(""), Ok(BTreeSet::new()));
        assert_eq!(read("aaaa\n<html>\n"), Err(TableError::Line { line: 2 }));
        for text in ["[1]", "{}", "[{}]", "[", r#"["<html>"]"#] {
            assert!(matches!(read(text), Err(TableError::Json(_))), "{text}");
        }
    }

    #[test]
    fn a_list_that_is_right_has_no_finding() {
        // S0-95
        let known = known(&[("aaaa", HOUR), ("new0", SECOND)], &[("end0", SECOND), ("end1", HOUR)]);
        // What opened or ended a moment ago may or may not be in it.
        assert_eq!(found(&["aaaa"], &known), []);
        assert_eq!(found(&["aaaa", "new0", "end0"], &known), []);
        let (probe, _) = check(&list(&["aaaa", "end0"]), &known);
        assert_eq!((probe.result, &probe.measurements["open"]), (ProbeResult::Ok, &json!(1)));
    }

    #[test]
    fn ends_that_are_still_listed_and_connections_that_are_not() {
        // S0-95 connections.stale-record cleanup.not-scheduled push.session-marked-closed connections.unknown-id
        let ended: Vec<String> = (0..6).map(|n| format!("old{n}")).collect();
        let pairs: Vec<(&str, u64)> = ended.iter().map(|id| (id.as_str(), 2 * DAY)).collect();
        let rows: Vec<&str> = ended.iter().map(String::as_str).collect();
        let all = known(&[("aaaa", HOUR), ("bbbb", HOUR)], &pairs);
        let mut listed = vec!["aaaa", "bbbb"];
        listed.extend(&rows);
        assert_eq!(
            found(&listed, &all),
            [
                ("connections.stale-record".to_owned(), Confidence::Proven),
                ("cleanup.not-scheduled".to_owned(), Confidence::Likely)
            ]
        );
        // Four are chance; so are five of a hundred.
        assert_eq!(found(&listed[..6], &all).len(), 1);
        let (_, findings) = check(&list(&listed), &all);
        assert!(findings[0].evidence[0].text.starts_with("6 of 8 connections"), "{findings:?}");
        assert_eq!(findings[0].evidence[0].facts["connections"].as_array().map(Vec::len), Some(MAX_NAMED));
        let lacks = known(&[("aaaa", HOUR), ("bbbb", HOUR)], &[]);
        assert_eq!(found(&["aaaa"], &lacks), [("push.session-marked-closed".to_owned(), Confidence::Likely)]);
        assert_eq!(
            found(&["aaaa", "bbbb", "from-elsewhere"], &lacks),
            [("connections.unknown-id".to_owned(), Confidence::Possible)]
        );
    }
}
