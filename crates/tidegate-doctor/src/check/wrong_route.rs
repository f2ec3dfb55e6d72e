//! A custom route is not called: which values clients send, and how they differ from the route keys.

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind};

use super::{Asked, Found, Verdict, Window, facts, names};
use crate::report::Confidence;

pub(super) fn check(window: &Window<'_>, _: &Asked, verdict: &mut Verdict) {
    let mut groups: BTreeMap<(&str, &str, &'static str), Vec<usize>> = BTreeMap::new();
    for (idx, entry) in window.of_kind(Kind::Message) {
        // Only where the message failed or ended in the default route because of it.
        let is_about =
            ["route.key-mismatch", "route.not-created", "route.no-match"].contains(&entry.outcome.as_str());
        let Some(value) = entry.text("selectedValue").filter(|_| is_about) else { continue };
        if let Some((route, difference)) = difference(value, entry) {
            groups.entry((value, route, difference)).or_default().push(idx);
        }
    }
    for ((value, route, difference), entries) in groups {
        let text = format!("Messages say {value:?}, the route key is {route:?}: {difference}.");
        let facts = facts([("selectedValue", json!(value)), ("nearest", json!(route))]);
        verdict.found.push(Found::new(
            window,
            Diagnosis::ROUTE_KEY_MISMATCH,
            Confidence::Proven,
            entries,
            text,
            facts,
        ));
        verdict.excluded.insert(Diagnosis::ROUTE_NOT_CREATED);
    }
}

/// The route key that differs from the value in nothing but its form, and in what.
fn difference<'a>(value: &str, entry: &'a Entry) -> Option<(&'a str, &'static str)> {
    let routes = names(entry.fact("routeKeys"));
    let find =
        |same: &dyn Fn(&str) -> bool| routes.iter().copied().find(|route| *route != value && same(route));
    let letters = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    if let Some(route) = find(&|route| route.trim() == value.trim()) {
        return Some((route, "blanks at an end"));
    }
    if let Some(route) = find(&|route| route.to_lowercase() == value.to_lowercase()) {
        return Some((route, "letter case"));
    }
    let form = find(&|route| !letters(value).is_empty() && letters(route) == letters(value))?;
    Some((form, "another way of writing the same words"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, ids};
    use super::*;

    #[test]
    fn equal_but_for_their_form() {
        // route.key-mismatch
        for (value, expected) in [
            ("SendMessage", Some("letter case")),
            ("sendmessage ", Some("letter case")),
            ("sendMessage ", Some("blanks")),
            ("send_message", Some("another way")),
            ("receive", None),
            ("", None),
        ] {
            let mut story = Story::default();
            for at in [1_000, 2_000] {
                let told = story.message(at, "a", "ann", "$default", Some(Diagnosis::ROUTE_KEY_MISMATCH));
                told.set("selectedValue", value).set("routeKeys", json!(["sendMessage", "join"]));
            }
            let found = story.found();
            match expected {
                Some(words) if value != "sendmessage " => {
                    assert_eq!(ids(&found), ["route.key-mismatch"], "{value}");
                    assert!(found[0].finding.evidence[0].text.contains(words), "{value}");
                    assert_eq!(found[0].finding.count, Some(2));
                }
                Some(_) => assert_eq!(ids(&found), ["route.key-mismatch"], "{value}"),
                None => assert_eq!(ids(&found), Vec::<&str>::new(), "{value}"),
            }
        }
    }
}
