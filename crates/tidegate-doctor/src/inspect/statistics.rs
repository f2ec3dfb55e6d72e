//! What a day of the journal and the stored records say of an API: posts to ids that are gone, refused messages of each route,
//! `$disconnect` events that nobody got, clean-up that does not run.
//!
//! Counts stand in the probes whatever they are; a finding needs a number and a share that no healthy backend reaches.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, JournalState, Kind, OK};
use tidegate_core::port::RecordKind;

use super::definitions::worst;
use super::facts;
use crate::check::{self, Asked, HOUR, MINUTE, Window, set_example, severity, span, time};
use crate::explain::confidence;
use crate::report::{Confidence, Finding, Probe, Severity};

/// How far the statistics look back, in microseconds: a day.
pub const LOOK_BACK: u64 = check::DAY;

/// Entries that are looked at; the newest count.
pub const MAX_ENTRIES: usize = 50_000;

/// Rules whose findings are about an API as a whole and not about one connection.
const OF_AN_API: [Diagnosis; 6] = [
    Diagnosis::CLEANUP_NOT_SCHEDULED,
    Diagnosis::CLEANUP_DISCONNECT_LOST,
    Diagnosis::CONNECTIONS_STALE_RECORD,
    Diagnosis::PUSH_STALE_RECORDS,
    Diagnosis::PERM_VIEW_TOO_STRICT,
    Diagnosis::PERM_HANDLER_CHECK,
];

/// Posts to ids that are gone, and their share in hundredths, before one speaks of records that nobody removes. Each end of a
/// connection may be met by a post or two that were on their way.
const MIN_GONE: usize = 20;
const MIN_GONE_SHARE: usize = 20;

/// Refused messages of a route, or refused `$disconnect` events, and their share in hundredths, before they are a finding.
const MIN_REFUSED: u64 = 5;
const MIN_REFUSED_SHARE: u64 = 20;

/// Pieces of evidence that one finding keeps.
const MAX_EVIDENCE: usize = 5;

/// After its time a record may stay for so long, in milliseconds: the clean-up comes every few seconds.
pub const OVERDUE: u64 = 10 * 60 * 1000;

/// The clean-up says every hour that it runs; a node that is up for longer than this must have said so.
const CLEAN_UP_SAID: u64 = 2 * HOUR + 10 * MINUTE;

/// Hundredths of its limit from which on the journal counts as full.
const FULL: u64 = 90;

/// What the journal has of an API.
#[derive(Debug, Clone, Copy)]
pub struct JournalView<'a> {
    /// The API.
    pub api_id: &'a str,
    /// Its entries since [`LOOK_BACK`], in the order of time, the newest [`MAX_ENTRIES`].
    pub entries: &'a [Entry],
    /// The time; microseconds since 1970.
    pub now: u64,
    /// From when on the journal has everything; microseconds since 1970, none while it is empty.
    pub covered_since: Option<u64>,
}

/// How much the journal may hold; none where nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalLimits {
    /// Days.
    pub days: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
    /// Entries.
    pub entries: Option<u64>,
}

/// Stored records of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Which.
    pub kind: RecordKind,
    /// When the oldest was made; milliseconds since 1970.
    pub oldest: Option<u64>,
    /// How many should have gone more than [`OVERDUE`] ago.
    pub n_overdue: usize,
}

/// What a day of the journal says of an API.
pub fn of_journal(view: &JournalView<'_>) -> (Vec<Probe>, Vec<Finding>) {
    let covered_since = view.covered_since.unwrap_or(view.now);
    let window = Window::new(view.entries, view.now, covered_since);
    let mut findings = by_rules(&window);
    let posts = posts(&window, &mut findings);
    let (routes, refused) = routes(&window, covered_since);
    for finding in refused {
        // A rule that looks at users knows more about the same route.
        let is_known = |known: &Finding| {
            let both_permission = known.id.starts_with("perm.") && finding.id.starts_with("perm.");
            (known.id == finding.id || both_permission) && known.route_key == finding.route_key
        };
        if !findings.iter().any(is_known) {
            findings.push(finding);
        }
    }
    let ends = disconnects(&window, &mut findings);
    for finding in &mut findings {
        finding.api_id = Some(view.api_id.to_owned());
    }
    let measurements = facts([
        ("since", time(view.now.saturating_sub(LOOK_BACK).max(covered_since)).into()),
        ("entries", view.entries.len().into()),
        ("posts", posts),
        ("routes", Value::Array(routes)),
        ("disconnects", ends),
    ]);
    (vec![Probe { name: "statistics".to_owned(), result: worst(&findings), measurements }], findings)
}

/// What the rules of `explain` find, each cause once.
fn by_rules(window: &Window<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for found in check::run(window, &Asked::default()).found {
        let finding = found.finding;
        let is_meant = OF_AN_API.iter().any(|diagnosis| diagnosis.as_str() == finding.id);
        // What nothing excludes is for those who ask why, not for those who ask whether.
        if !is_meant || finding.confidence == Confidence::Possible {
            continue;
        }
        // Routes are apart; connections and callers are not.
        let is_same = |known: &&mut Finding| known.id == finding.id && known.route_key == finding.route_key;
        match findings.iter_mut().find(is_same) {
            Some(known) => {
                known.count = Some(known.count.unwrap_or(1) + finding.count.unwrap_or(1));
                known.confidence = known.confidence.min(finding.confidence);
                let room = MAX_EVIDENCE.saturating_sub(known.evidence.len());
                known.evidence.extend(finding.evidence.into_iter().take(room));
            }
            None => findings.push(finding),
        }
    }
    findings
}

/// How many an entry stands for.
fn weight(entry: &Entry) -> u64 {
    entry.fact("sampledOneIn").and_then(Value::as_u64).unwrap_or(1).max(1)
}

fn share(part: u64, all: u64) -> u64 {
    (part * 100).checked_div(all).unwrap_or(0)
}

fn posts(window: &Window<'_>, findings: &mut Vec<Finding>) -> Value {
    let of_one = || window.of_kind(Kind::Post).filter(|(_, post)| post.text("target") != Some("channel"));
    let all: u64 = of_one().map(|(_, post)| weight(post)).sum();
    let gone: Vec<&Entry> = of_one().map(|(_, post)| post).filter(|post| check::is_gone_post(post)).collect();
    let gone_share = share(gone.len() as u64, all);
    let is_told = findings.iter().any(|finding| {
        [Diagnosis::CONNECTIONS_STALE_RECORD, Diagnosis::CLEANUP_NOT_SCHEDULED]
            .iter()
            .any(|diagnosis| diagnosis.as_str() == finding.id)
    });
    let is_much = gone.len() >= MIN_GONE && gone_share >= MIN_GONE_SHARE as u64;
    if let (true, false, Some(newest)) = (is_much, is_told, gone.last()) {
        let text = format!(
            "{gone_share} of 100 posts of this API go to ids that are gone: {} of {all}.",
            gone.len()
        );
        let known = facts([("count", gone.len().into()), ("share", gone_share.into())]);
        let mut finding =
            Finding::new(Diagnosis::CONNECTIONS_STALE_RECORD, Severity::Warning, Confidence::Likely)
                .seen(text, known);
        finding.count = Some(gone.len() as u64);
        set_example(&mut finding, newest);
        findings.push(finding);
    }
    json!({ "all": all, "gone": gone.len(), "share": gone_share })
}

#[derive(Default)]
struct Route<'a> {
    handled: u64,
    failed: BTreeMap<&'a str, Vec<&'a Entry>>,
}

impl Route<'_> {
    fn n_failed(&self) -> u64 {
        self.failed.values().map(|entries| entries.len() as u64).sum()
    }
}

/// What became of messages, by stage and route.
fn routes<'a>(window: &Window<'a>, covered_since: u64) -> (Vec<Value>, Vec<Finding>) {
    let mut routes: BTreeMap<(&str, &str), Route<'a>> = BTreeMap::new();
    for (_, entry) in window.of_kind(Kind::Message) {
        let key =
            (entry.stage.as_deref().unwrap_or_default(), entry.route_key.as_deref().unwrap_or_default());
        let route = routes.entry(key).or_default();
        match entry.fact("handled").and_then(Value::as_u64) {
            // The count of a minute; those with a remark have an example beside it.
            Some(handled) => route.handled += handled,
            None if entry.outcome != OK && entry.fact("replyDropped").is_none() => {
                route.failed.entry(&entry.outcome).or_default().push(entry);
            }
            None => {}
        }
    }
    let mut findings = Vec::new();
    let mut shown = Vec::new();
    for ((stage, key), route) in &routes {
        let all = route.handled + route.n_failed();
        let name = if key.is_empty() { "no route" } else { key };
        for (outcome, entries) in &route.failed {
            let (n_failed, part) = (entries.len() as u64, share(entries.len() as u64, all));
            let (Some(diagnosis), Some(newest)) = (Diagnosis::find(outcome), entries.last()) else {
                continue;
            };
            if n_failed < MIN_REFUSED || part < MIN_REFUSED_SHARE || severity(diagnosis) == Severity::Info {
                continue;
            }
            let text =
                format!("{part} of 100 messages on {name} of stage {stage} end so: {n_failed} of {all}.");
            let known = facts([
                ("count", n_failed.into()),
                ("handled", route.handled.into()),
                ("share", part.into()),
            ]);
            let confidence = confidence(newest, diagnosis.describe(), covered_since);
            let mut finding = Finding::new(diagnosis, Severity::Warning, confidence).seen(text, known);
            finding.count = Some(n_failed);
            set_example(&mut finding, newest);
            findings.push(finding);
        }
        let failed: BTreeMap<&str, usize> =
            route.failed.iter().map(|(outcome, entries)| (*outcome, entries.len())).collect();
        shown.push(json!({
            "stage": stage,
            "routeKey": key,
            "handled": route.handled,
            "failed": failed,
            "share": share(route.n_failed(), all),
        }));
    }
    (shown, findings)
}

/// Ends, and what became of their `$disconnect`.
fn disconnects(window: &Window<'_>, findings: &mut Vec<Finding>) -> Value {
    let ends: u64 = window.of_kind(Kind::Close).map(|(_, end)| weight(end)).sum();
    let calls = || {
        let calls = window.of_kind(Kind::Integration).map(|(_, call)| call);
        calls.filter(|call| call.text("eventType") == Some("DISCONNECT"))
    };
    let lost: Vec<&Entry> = calls().filter(|call| call.fact("lost") == Some(&json!(true))).collect();
    let failed = calls().filter(|call| call.fact("lost").is_none()).count();
    // An answer below 500 is one, whatever it says; but a backend that refuses each of them has kept its record.
    let mut refused: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for call in
        calls().filter(|call| call.number("status").is_some_and(|status| (400.0..500.0).contains(&status)))
    {
        refused.entry(&call.outcome).or_default().push(call);
    }
    if let Some(newest) = lost.last() {
        let part = share(lost.len() as u64, ends);
        let text = format!("{} $disconnect events of {ends} ends never reached the backend.", lost.len());
        let known = facts([
            ("count", lost.len().into()),
            ("share", part.into()),
            ("causeId", json!(newest.text("causeId"))),
        ]);
        let lost_id = Diagnosis::CLEANUP_DISCONNECT_LOST.as_str();
        match findings.iter_mut().find(|finding| finding.id == lost_id) {
            Some(known_finding) => {
                let evidence = crate::report::Evidence { text, facts: known };
                known_finding.evidence.insert(0, evidence);
                known_finding.count = Some(lost.len() as u64);
            }
            None => {
                let mut finding = Finding::warning(Diagnosis::CLEANUP_DISCONNECT_LOST).seen(text, known);
                finding.count = Some(lost.len() as u64);
                set_example(&mut finding, newest);
                findings.push(finding);
            }
        }
    }
    for (outcome, entries) in &refused {
        let (n_refused, part) = (entries.len() as u64, share(entries.len() as u64, ends));
        let (Some(diagnosis), Some(newest)) = (Diagnosis::find(outcome), entries.last()) else { continue };
        if n_refused < MIN_REFUSED || part < MIN_REFUSED_SHARE {
            continue;
        }
        let text = format!(
            "The backend refuses {part} of 100 $disconnect events, {n_refused} of {ends}: its records of these connections may stay."
        );
        let known =
            facts([("count", n_refused.into()), ("share", part.into()), ("eventType", "DISCONNECT".into())]);
        let confidence = confidence(newest, diagnosis.describe(), window.covered_since());
        let mut finding = Finding::new(diagnosis, Severity::Warning, confidence).seen(text, known);
        finding.count = Some(n_refused);
        set_example(&mut finding, newest);
        finding.route_key = Some("$disconnect".to_owned());
        findings.push(finding);
    }
    let n_refused: usize = refused.values().map(Vec::len).sum();
    json!({ "ends": ends, "lost": lost.len(), "failedCalls": failed, "refused": n_refused })
}

/// Does the journal reach as far back as it is meant to?
pub fn of_reach(state: &JournalState, limits: &JournalLimits, now: u64) -> (Probe, Vec<Finding>) {
    let reach = state.oldest.map(|oldest| now.saturating_sub(oldest));
    let is_full = |count: u64, limit: Option<u64>| limit.is_some_and(|limit| share(count, limit) >= FULL);
    let full_of = match (is_full(state.bytes, limits.bytes), is_full(state.entries, limits.entries)) {
        (true, _) => Some("journal.max_bytes"),
        (_, true) => Some("journal.max_entries"),
        _ => None,
    };
    let kept = limits.days.map_or(LOOK_BACK, |days| days.saturating_mul(check::DAY)).min(LOOK_BACK);
    let mut findings = Vec::new();
    if let (Some(setting), Some(reach)) = (full_of, reach)
        && reach < kept
    {
        let text = format!(
            "The journal is full and reaches back {} only; what was before cannot be explained.",
            span(reach)
        );
        let known = facts([
            ("oldest", json!(state.oldest.map(time))),
            ("entries", state.entries.into()),
            ("bytes", state.bytes.into()),
            ("setting", setting.into()),
        ]);
        findings.push(
            Finding::warning(Diagnosis::LOG_RETENTION_TOO_SHORT)
                .seen(text, known)
                .fix_first(format!("Raise `{setting}`.")),
        );
    }
    let measurements = facts([
        ("oldest", json!(state.oldest.map(time))),
        ("entries", state.entries.into()),
        ("bytes", state.bytes.into()),
        ("dropped", state.dropped.into()),
        ("sampled", state.sampled.into()),
    ]);
    (Probe { name: "journal".to_owned(), result: worst(&findings), measurements }, findings)
}

/// Is the node's own clean-up running? `last_run`: when it last said so; `up_for`: since when the node runs; microseconds.
pub fn of_records(stored: &[Stored], last_run: Option<u64>, up_for: u64, now: u64) -> (Probe, Vec<Finding>) {
    let oldest = |stored: &Stored| stored.oldest.map(|at| time(at.saturating_mul(check::MILLI)));
    let mut findings = Vec::new();
    let overdue: Vec<&Stored> = stored.iter().filter(|stored| stored.n_overdue > 0).collect();
    let is_silent =
        up_for > CLEAN_UP_SAID && last_run.is_none_or(|at| now.saturating_sub(at) > CLEAN_UP_SAID);
    if !overdue.is_empty() || is_silent {
        let mut finding = Finding::warning(Diagnosis::CLEANUP_NOT_SCHEDULED);
        for stored in &overdue {
            let text = format!(
                "{} records of kind {} should have been removed more than ten minutes ago; the oldest is of {}.",
                stored.n_overdue,
                stored.kind.as_str(),
                oldest(stored).unwrap_or_default()
            );
            let known = facts([
                ("object", stored.kind.as_str().into()),
                ("count", stored.n_overdue.into()),
                ("oldest", json!(oldest(stored))),
            ]);
            finding = finding.seen(text, known);
        }
        if is_silent {
            let last = last_run.map_or_else(|| "never since the journal begins".to_owned(), time);
            let text = format!("The node's own clean-up last ran {last}; it says so every hour.");
            finding = finding.seen(text, facts([("lastRun", json!(last_run.map(time)))]));
        }
        finding.count = Some(overdue.iter().map(|stored| stored.n_overdue as u64).sum());
        findings.push(
            finding.fix_first("Restart the node: its own clean-up runs without being scheduled, every 5 s."),
        );
    }
    let shown: serde_json::Map<String, Value> = stored
        .iter()
        .map(|stored| {
            let value = json!({ "oldest": oldest(stored), "overdue": stored.n_overdue });
            (stored.kind.as_str().to_owned(), value)
        })
        .collect();
    let measurements = facts([("records", Value::Object(shown)), ("lastCleanUp", json!(last_run.map(time)))]);
    (Probe { name: "records".to_owned(), result: worst(&findings), measurements }, findings)
}

#[cfg(test)]
mod tests;
