//! Everything ends in the default handler.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind};

use super::{Asked, Found, Verdict, Window, facts, names};
use crate::report::Confidence;

/// The backend found no handler's name in the message.
const NO_HANDLER: &str = "dj-format";

/// Groups of spellings that are listed.
const MAX_NAMES: usize = 10;

pub(super) fn check(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    backend_key(window, verdict);
    if asked.names(Diagnosis::HANDLER_NOT_ALLOWED) || asked.names(Diagnosis::HANDLER_NAME_MISMATCH) {
        names_seen(window, asked, verdict);
    }
}

/// The gateway found the route by its key, the view found no name by its own.
fn backend_key(window: &Window<'_>, verdict: &mut Verdict) {
    let mut routes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (idx, entry) in window.of_kind(Kind::Message) {
        let Some(route) = entry.route_key.as_deref().filter(|route| !route.starts_with('$')) else {
            continue;
        };
        if entry.text("signature") == Some(NO_HANDLER) {
            routes.entry(route).or_default().push(idx);
        }
    }
    for (route, entries) in routes {
        let newest = entries.last().map(|idx| window.entry(*idx));
        let selection =
            newest.and_then(|entry| entry.text("selection")).unwrap_or("the selection expression");
        let text = format!(
            "The gateway chose {route} by {selection}; the view says that the message has no name for it."
        );
        let facts = facts([("selection", json!(selection)), ("signature", json!(NO_HANDLER))]);
        let found = Found::new(
            window,
            Diagnosis::HANDLER_BACKEND_KEY_DIFFERS,
            Confidence::Likely,
            entries,
            text,
            facts,
        );
        verdict.found.push(found);
    }
}

/// A name that a method may have.
fn is_identifier(value: &str) -> bool {
    let mut bytes = value.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Letters and digits only: what spellings of one name have in common.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// What comes closest to a look into the backend: the names that clients send and that no route has.
fn names_seen(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    let mut spellings: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut entries = Vec::new();
    for (idx, entry) in window.of_kind(Kind::Message) {
        let is_default = entry.route_key.as_deref().is_none_or(|route| route == "$default");
        let Some(value) = entry.text("selectedValue").filter(|value| is_default && is_identifier(value))
        else {
            continue;
        };
        spellings.entry(plain(value)).or_default().insert(value);
        for route in known_routes(entry).filter(|route| plain(route) == plain(value)) {
            spellings.entry(plain(value)).or_default().insert(route);
        }
        entries.push(idx);
    }
    if entries.is_empty() {
        return;
    }
    let several = spellings.values().filter(|names| names.len() > 1).map(|names| join(names.iter().copied()));
    let several: Vec<String> = several.take(MAX_NAMES).collect();
    let all = join(spellings.values().flatten().copied().take(MAX_NAMES));
    let facts = facts([("selectedValues", json!(spellings.values().flatten().collect::<BTreeSet<_>>()))]);
    if asked.names(Diagnosis::HANDLER_NOT_ALLOWED) {
        let text = format!(
            "The gateway cannot see the list of handlers. Names that reached the default route: {all}."
        );
        let found = Found::new(
            window,
            Diagnosis::HANDLER_NOT_ALLOWED,
            Confidence::Possible,
            entries.clone(),
            text,
            facts.clone(),
        );
        verdict.found.push(found);
    }
    if asked.names(Diagnosis::HANDLER_NAME_MISMATCH) {
        let text = match several.is_empty() {
            true => format!(
                "The gateway cannot see names of methods. Names that reached the default route: {all}."
            ),
            false => format!(
                "The gateway cannot see names of methods. Spelled in several ways: {}.",
                several.join("; ")
            ),
        };
        let found =
            Found::new(window, Diagnosis::HANDLER_NAME_MISMATCH, Confidence::Possible, entries, text, facts);
        verdict.found.push(found);
    }
}

fn known_routes(entry: &Entry) -> impl Iterator<Item = &str> {
    names(entry.fact("routeKeys")).into_iter()
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;
    use Confidence::{Likely, Possible};

    #[test]
    fn the_view_reads_another_key() {
        // handler.backend-key-differs DX-2
        let mut story = Story::default();
        let why = Some(Diagnosis::HANDLER_KEY_MISSING);
        story.message(1_000, "a", "ann", "$default", why).set("signature", NO_HANDLER);
        assert_found(&mut story, &[]);
        story
            .message(2_000, "a", "ann", "send", why)
            .set("signature", NO_HANDLER)
            .set("selection", "$request.body.action");
        assert_found(&mut story, &[("handler.backend-key-differs", Likely)]);
    }

    #[test]
    fn names_are_grouped_by_spelling_when_asked() {
        // handler.not-allowed handler.name-mismatch
        let mut story = Story::default();
        for (n, value) in ["sendMessage", "send_message", "send-message"].into_iter().enumerate() {
            story.message(1_000 + n as u64, "a", "ann", "$default", None).set("selectedValue", value);
        }
        assert_found(&mut story, &[]);
        story.ask(&[Diagnosis::HANDLER_NOT_ALLOWED, Diagnosis::HANDLER_NAME_MISMATCH]);
        assert_found(&mut story, &[("handler.not-allowed", Possible), ("handler.name-mismatch", Possible)]);
        let text = story.found()[1].finding.evidence[0].text.clone();
        assert!(text.contains("sendMessage, send_message") && !text.contains("send-message"), "{text}");
    }
}
