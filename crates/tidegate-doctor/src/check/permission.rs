//! "Permission denied" on a message: everybody on this route, one user, some channels, or some objects.
//!
//! From outside the backend the causes look alike; only the statistics tell them apart, so nothing here is ever more than likely.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind, OK};

use super::{Asked, Found, Verdict, Window, facts};
use crate::report::Confidence;

/// Users who must be refused before "everybody" is said, and who must pass before "the others" is said.
const MIN_USERS: usize = 3;
const MIN_OTHERS: usize = 2;

/// The backend's answer for every one of the causes.
const DENIED: &str = "dj-perm";

#[derive(Default)]
struct Route<'a> {
    /// Positions of refused messages, by user.
    refused: BTreeMap<&'a str, Vec<usize>>,
    /// Positions of messages that passed, by user.
    passed: BTreeMap<&'a str, Vec<usize>>,
    /// Somebody had passed before the first refusal; who, nobody wrote down.
    has_passed: bool,
}

pub(super) fn check(window: &Window<'_>, _: &Asked, verdict: &mut Verdict) {
    let mut routes: BTreeMap<(&str, &str), Route<'_>> = BTreeMap::new();
    for (idx, entry) in window.entries().iter().enumerate() {
        let (Some(api), Some(route)) = (entry.api_id.as_deref(), entry.route_key.as_deref()) else {
            continue;
        };
        if matches!(route, "$connect" | "$disconnect")
            || !matches!(entry.kind, Kind::Integration | Kind::Message)
        {
            continue;
        }
        let Some(user) = user_of(window, entry) else { continue };
        let is_refusal = entry.text("signature") == Some(DENIED) || entry.outcome.starts_with("perm.");
        let is_pass = entry.outcome == OK && entry.number("status").is_none_or(|status| status < 400.0);
        let route = routes.entry((api, route)).or_default();
        route.has_passed |= entry.fact("hasPassed") == Some(&json!(true));
        match (is_refusal, is_pass) {
            // The refusal is told twice, by the call and by the message; the message counts.
            (true, _) if entry.kind == Kind::Message => route.refused.entry(user).or_default().push(idx),
            (false, true) => route.passed.entry(user).or_default().push(idx),
            _ => {}
        }
    }
    let passes_elsewhere = |api: &str, name: &str, user: &str| {
        routes.iter().any(|((other_api, other), route)| {
            *other_api == api && *other != name && route.passed.contains_key(user)
        })
    };
    for ((api, name), route) in &routes {
        if route.refused.is_empty() {
            continue;
        }
        let users: BTreeSet<&str> = route.refused.keys().copied().collect();
        let all: Vec<usize> = route.refused.values().flatten().copied().collect();
        let n_others = route.passed.keys().filter(|user| !users.contains(*user)).count();
        let mut say = |diagnosis, confidence, entries: Vec<usize>, text: String| {
            let facts =
                facts([("refusedUsers", json!(users.len())), ("passedUsers", json!(route.passed.len()))]);
            verdict.found.push(Found::new(window, diagnosis, confidence, entries, text, facts));
        };
        if route.passed.is_empty() && route.has_passed {
            let text = format!("{} users are refused on {name}; others passed before.", users.len());
            say(Diagnosis::PERM_USER_LACKS, Confidence::Possible, all, text);
            continue;
        }
        if route.passed.is_empty() {
            let handler = users.iter().all(|user| passes_elsewhere(api, name, user));
            if users.len() >= MIN_USERS {
                // Each refusal by itself looks like one user's lack.
                verdict.excluded.insert(Diagnosis::PERM_USER_LACKS);
            }
            match (users.len() >= MIN_USERS, handler) {
                (true, true) => say(
                    Diagnosis::PERM_HANDLER_CHECK,
                    Confidence::Likely,
                    all,
                    format!(
                        "Every one of {} users is refused on {name}, and passes on other routes.",
                        users.len()
                    ),
                ),
                (true, false) => say(
                    Diagnosis::PERM_VIEW_TOO_STRICT,
                    Confidence::Likely,
                    all,
                    format!("Every one of {} users is refused on {name}; nobody has passed.", users.len()),
                ),
                (false, _) => {
                    let few = format!(
                        "Nobody else has used {name} yet, so the view and the user cannot be told apart."
                    );
                    for diagnosis in [Diagnosis::PERM_USER_LACKS, Diagnosis::PERM_VIEW_TOO_STRICT] {
                        say(diagnosis, Confidence::Possible, all.clone(), few.clone());
                    }
                }
            }
            continue;
        }
        if route.refused.keys().all(|user| route.passed.contains_key(user)) {
            verdict.excluded.insert(Diagnosis::PERM_USER_LACKS);
        }
        for (user, refused) in &route.refused {
            match route.passed.get(user) {
                Some(passed) => {
                    let channels = |entries: &[usize]| -> Option<BTreeSet<&str>> {
                        entries.iter().map(|idx| window.entry(*idx).text("channel")).collect()
                    };
                    let split = match (channels(refused), channels(passed)) {
                        (Some(refused), Some(passed)) => refused.is_disjoint(&passed),
                        _ => false,
                    };
                    let (diagnosis, with) = match split {
                        true => (Diagnosis::PERM_CHANNEL, "other channels"),
                        false => (Diagnosis::PERM_OBJECT, "other payloads"),
                    };
                    let text = format!(
                        "The same user passes on {name} with {with}: {} messages, against {} that were refused.",
                        passed.len(),
                        refused.len()
                    );
                    say(diagnosis, Confidence::Likely, refused.clone(), text);
                }
                None if n_others >= MIN_OTHERS => {
                    let text = format!("This user is refused on {name} while {n_others} others pass.");
                    say(Diagnosis::PERM_USER_LACKS, Confidence::Likely, refused.clone(), text);
                }
                None => {
                    let text = format!("This user is refused on {name}; only {n_others} other has passed.");
                    say(Diagnosis::PERM_USER_LACKS, Confidence::Possible, refused.clone(), text);
                }
            }
        }
    }
}

fn user_of<'a>(window: &Window<'a>, entry: &'a Entry) -> Option<&'a str> {
    let of_life = || window.user(window.life(entry.connection_id.as_deref()?)?);
    entry.user.as_deref().or_else(of_life)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;
    use Confidence::{Likely, Possible};

    fn refuse(story: &mut Story, user: &str, route: &str, channel: &str) {
        let why = Some(Diagnosis::PERM_USER_LACKS);
        story.message(1_000, user, user, route, why).set("signature", DENIED).set("channel", channel);
    }

    fn pass(story: &mut Story, user: &str, route: &str, channel: &str) {
        story.call(1_100, user, user, route, 200).set("channel", channel);
    }

    #[test]
    fn every_user_is_the_view() {
        // DX-19 perm.view-too-strict perm.handler-check
        let mut story = Story::default();
        ["ann", "bob", "cyd"].iter().for_each(|user| refuse(&mut story, user, "edit", ""));
        assert_found(&mut story, &[("perm.view-too-strict", Likely)]);
        ["ann", "bob", "cyd"].iter().for_each(|user| pass(&mut story, user, "read", ""));
        assert_found(&mut story, &[("perm.handler-check", Likely)]);
        let mut story = Story::default();
        refuse(&mut story, "ann", "edit", "");
        assert_found(&mut story, &[("perm.user-lacks", Possible), ("perm.view-too-strict", Possible)]);
    }

    #[test]
    fn one_user_is_the_user() {
        // perm.user-lacks
        let mut story = Story::default();
        refuse(&mut story, "ann", "edit", "");
        pass(&mut story, "bob", "edit", "");
        assert_found(&mut story, &[("perm.user-lacks", Possible)]);
        pass(&mut story, "cyd", "edit", "");
        assert_found(&mut story, &[("perm.user-lacks", Likely)]);
    }

    #[test]
    fn some_channels_or_some_payloads() {
        // perm.channel perm.object
        let mut story = Story::default();
        refuse(&mut story, "ann", "edit", "staff");
        pass(&mut story, "ann", "edit", "lobby");
        assert_found(&mut story, &[("perm.channel", Likely)]);
        pass(&mut story, "ann", "edit", "staff");
        assert_found(&mut story, &[("perm.object", Likely)]);
    }

    #[test]
    fn somebody_passed_before() {
        // DX-2 perm.user-lacks perm.view-too-strict: the route has worked, so its view is not too strict for everybody.
        for (has_passed, expected) in
            [(true, ("perm.user-lacks", Possible)), (false, ("perm.view-too-strict", Likely))]
        {
            let mut story = Story::default();
            for n in 0..3 {
                let (id, user) = (format!("c{n}"), format!("u{n}"));
                let told = story.message(1_000 + n, &id, &user, "send", Some(Diagnosis::PERM_USER_LACKS));
                told.set("signature", DENIED).set("hasPassed", has_passed);
            }
            assert_found(&mut story, &[expected]);
        }
    }
}
