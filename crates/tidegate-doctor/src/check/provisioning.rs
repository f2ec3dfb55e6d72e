//! Creating or changing the gateway fails, or a management command does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind, OK};

use super::{Asked, Found, HOUR, Verdict, Window, facts, time};
use crate::report::Confidence;

/// How near a success of another key must be to say that the other one was meant.
const SAME_WORK: u64 = HOUR;

/// Ids of the control plane, and what a command calls the same thing.
const AS_COMMAND: &[(&str, Diagnosis)] = &[
    ("provision.no-credentials", Diagnosis::COMMAND_NO_CREDENTIALS),
    ("management.unsigned", Diagnosis::COMMAND_NO_CREDENTIALS),
    ("provision.denied", Diagnosis::COMMAND_DENIED),
    ("management.denied", Diagnosis::COMMAND_DENIED),
];

/// Commands that fail before any request.
const UNSEEN: [Diagnosis; 2] = [Diagnosis::COMMAND_NO_ENVIRONMENT, Diagnosis::COMMAND_NO_SETTINGS];

pub(super) fn check(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    wrong_profile(window, verdict);
    bad_arguments(window, asked, verdict);
    as_command(window, asked, verdict);
    for diagnosis in UNSEEN.into_iter().filter(|diagnosis| asked.names(*diagnosis)) {
        let n_calls = window.of_kind(Kind::Control).filter(|(_, entry)| is_call(entry)).count();
        let text = match n_calls {
            0 => "The gateway cannot see this. No control call came in this time, which fits.".to_owned(),
            n => format!("The gateway cannot see this. {n} control calls came in this time."),
        };
        let facts = facts([("count", json!(n_calls))]);
        verdict.found.push(Found::new(window, diagnosis, Confidence::Possible, Vec::new(), text, facts));
    }
}

/// By somebody, not by the gateway itself.
fn is_call(entry: &Entry) -> bool {
    // Whoever looks into the journal changes nothing.
    let is_look = entry.text("what") == Some("access");
    !is_look && entry.text("actor").is_some_and(|actor| !actor.is_empty() && actor != "gateway")
}

/// One key is refused while another one does the same work.
fn wrong_profile(window: &Window<'_>, verdict: &mut Verdict) {
    let calls: Vec<_> = window.of_kind(Kind::Control).filter(|(_, entry)| is_call(entry)).collect();
    let mut refused: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut accepted: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (idx, entry) in &calls {
        let Some(actor) = entry.text("actor") else { continue };
        match entry.outcome.as_str() {
            OK => accepted.entry(actor).or_default().push(entry.ts),
            "provision.denied"
            | "management.denied"
            | "management.unknown-key"
            | "management.bad-signature" => {
                refused.entry(actor).or_default().push(*idx);
            }
            _ => {}
        }
    }
    for (actor, entries) in refused.into_iter().filter(|(actor, _)| !accepted.contains_key(actor)) {
        let Some(newest) = entries.last().map(|idx| window.entry(*idx)) else { continue };
        let other =
            accepted.iter().find(|(_, times)| times.iter().any(|at| at.abs_diff(newest.ts) <= SAME_WORK));
        let Some((other, _)) = other else { continue };
        let text = format!(
            "The key {actor} was refused {} times; {other} did such calls within an hour.",
            entries.len()
        );
        let facts = facts([("actor", json!(actor)), ("expected", json!(other))]);
        // Which key was meant only its owner knows.
        let found =
            Found::new(window, Diagnosis::COMMAND_WRONG_PROFILE, Confidence::Likely, entries, text, facts);
        verdict.found.push(found);
    }
}

/// A call about an API that is not there, by a key that works on another one.
fn bad_arguments(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    if !asked.names(Diagnosis::COMMAND_BAD_ARGUMENTS) {
        return;
    }
    let mut groups: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    let known: BTreeSet<&str> = window
        .entries()
        .iter()
        .filter(|entry| entry.outcome == OK)
        .filter_map(|entry| entry.api_id.as_deref())
        .collect();
    for (idx, entry) in window.of_kind(Kind::Control).filter(|(_, entry)| is_call(entry)) {
        let is_missing =
            entry.number("status") == Some(404.0) || entry.outcome == Diagnosis::API_UNKNOWN.as_str();
        let api = entry.api_id.as_deref().or_else(|| entry.text("object"));
        if let (true, Some(api), Some(actor)) = (is_missing, api, entry.text("actor")) {
            groups.entry((actor, api)).or_default().push(idx);
        }
    }
    for ((actor, api), entries) in groups {
        let nearest = tidegate_core::nearest::nearest(api, known.iter().copied());
        let hint = nearest.map(|near| format!("; {near} exists")).unwrap_or_default();
        let text = format!("{actor} named {api}, which is not there{hint}.");
        let facts = facts([("actor", json!(actor)), ("object", json!(api)), ("nearest", json!(nearest))]);
        let found =
            Found::new(window, Diagnosis::COMMAND_BAD_ARGUMENTS, Confidence::Likely, entries, text, facts);
        verdict.found.push(found);
    }
}

/// What the control plane refused, in the words of a command.
fn as_command(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    let mut groups: BTreeMap<Diagnosis, Vec<usize>> = BTreeMap::new();
    for (idx, entry) in window.of_kind(Kind::Control) {
        let same = AS_COMMAND.iter().find(|(outcome, _)| *outcome == entry.outcome);
        if let Some((_, diagnosis)) = same.filter(|(_, diagnosis)| asked.names(*diagnosis)) {
            groups.entry(*diagnosis).or_default().push(idx);
        }
    }
    for (diagnosis, entries) in groups {
        let Some(newest) = entries.last().map(|idx| window.entry(*idx)) else { continue };
        let actor = newest.text("actor").unwrap_or("nobody");
        let text = format!(
            "{} calls were refused with {}, the newest by {actor} at {}.",
            entries.len(),
            newest.outcome,
            time(newest.ts)
        );
        let facts = facts([("actor", json!(actor)), ("count", json!(entries.len()))]);
        verdict.found.push(Found::new(window, diagnosis, Confidence::Proven, entries, text, facts));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;
    use Confidence::{Likely, Possible, Proven};

    #[test]
    fn another_key_does_the_same_work() {
        // command.wrong-profile
        for (at, expected) in [(2_000, vec![("command.wrong-profile", Likely)]), (3_602_000, vec![])] {
            let mut story = Story::default();
            story.control(1_000, "change", Some(Diagnosis::PROVISION_DENIED)).set("actor", "AKIA1");
            story.control(at, "change", None).set("actor", "AKIA2");
            assert_found(&mut story, &expected);
        }
        // The same key may do one thing and not another.
        let mut story = Story::default();
        story.control(1_000, "change", Some(Diagnosis::PROVISION_DENIED)).set("actor", "AKIA1");
        story.control(2_000, "change", None).set("actor", "AKIA1");
        assert_found(&mut story, &[]);
    }

    #[test]
    fn a_call_about_another_api() {
        // command.bad-arguments DX-2
        let mut story = Story::default();
        story.open(500, "a", "ann");
        let told = story.control(1_000, "change", Some(Diagnosis::API_UNKNOWN)).set("actor", "AKIA1");
        told.edit(|entry| entry.api_id = Some("chat00000".to_owned()));
        assert_found(&mut story, &[]);
        story.ask(&[Diagnosis::COMMAND_BAD_ARGUMENTS]);
        assert_found(&mut story, &[("command.bad-arguments", Likely)]);
        assert!(story.found()[0].finding.evidence[0].text.contains("chat000000 exists"));
    }

    #[test]
    fn what_was_refused_in_words_of_a_command() {
        // command.no-credentials command.denied command.no-environment command.no-settings
        let mut story = Story::default();
        story.control(1_000, "change", Some(Diagnosis::PROVISION_NO_CREDENTIALS)).set("actor", "");
        story.control(2_000, "change", Some(Diagnosis::PROVISION_DENIED)).set("actor", "AKIA1");
        assert_found(&mut story, &[]);
        story.ask(&[Diagnosis::COMMAND_NO_CREDENTIALS, Diagnosis::COMMAND_DENIED]);
        let expected = [("command.no-credentials", Proven), ("command.denied", Proven)];
        let mut found: Vec<_> = story.found().iter().map(|found| found.finding.id.clone()).collect();
        found.sort();
        let mut ids = expected.map(|(id, _)| id.to_owned());
        ids.sort();
        assert_eq!(found, ids);
        let mut story = Story::default();
        story.ask(&[Diagnosis::COMMAND_NO_SETTINGS]);
        assert_found(&mut story, &[("command.no-settings", Possible)]);
        assert!(story.found()[0].finding.evidence[0].text.contains("No control call"));
    }
}
