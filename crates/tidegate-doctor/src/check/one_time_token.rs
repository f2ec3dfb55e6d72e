//! The token was issued, but the connection is refused.

use std::collections::HashMap;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind};

use super::{Asked, Found, Life, Verdict, Window, facts, is_open, span, time};
use crate::report::Confidence;

/// The answer of a Django backend that says no more than that the token is of no use.
const BACKEND_SAYS_NO: &str = "dj-token";

/// Who refused a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The gateway, whose token it is: it knows whether it was used.
    Own { is_used: bool },
    /// A backend, which keeps its reason to itself.
    Backends,
}

/// Is the attempt refused because of its token? A second use that is let in is no one-time token's.
fn refusal(window: &Window<'_>, life: &Life<'_>, attempt: &Entry) -> Option<Refusal> {
    if is_open(attempt) {
        return None;
    }
    if window.text(life, "signature") == Some(BACKEND_SAYS_NO) {
        return Some(Refusal::Backends);
    }
    let of_token = attempt.diagnosis().filter(|diagnosis| diagnosis.as_str().starts_with("token."))?;
    let is_used = matches!(of_token, Diagnosis::TOKEN_REUSED | Diagnosis::TOKEN_REUSED_ON_RECONNECT);
    Some(Refusal::Own { is_used })
}

/// Refusals of a backend that come after the token was spent.
const AFTER_THE_TOKEN: [Diagnosis; 3] =
    [Diagnosis::CHANNEL_FORBIDDEN, Diagnosis::BACKEND_REFUSED, Diagnosis::HANDSHAKE_CLIENT_GAVE_UP];

/// Was the token used up by this attempt? The gateway's own checks spend none when they refuse.
fn is_use(window: &Window<'_>, life: &Life<'_>, attempt: &Entry) -> bool {
    let is_backends = attempt.text("check").is_none();
    // A backend looks at the token late: what it refused for another reason before has spent none.
    let after = attempt.diagnosis().is_some_and(|diagnosis| AFTER_THE_TOKEN.contains(&diagnosis));
    let says_no = window.text(life, "signature") == Some(BACKEND_SAYS_NO);
    is_open(attempt) || (is_backends && (after || says_no))
}

/// The fingerprint of a one-time token; that of a JWT may come as often as it likes.
fn fingerprint<'a>(window: &Window<'a>, life: &Life<'_>) -> Option<&'a str> {
    let entries = life.entries.iter().map(|idx| window.entry(*idx));
    entries.filter(|entry| entry.kind != Kind::Jwt).find_map(|entry| entry.text("fingerprint"))
}

pub(super) fn check(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    // Of those that are asked about: was one used before, and was one not?
    let (mut has_used, mut has_unused) = (false, false);
    let attempts: Vec<_> = window.attempts();
    // Tokens that were issued: entries that belong to no attempt.
    let issued: HashMap<&str, usize> = window
        .of_kind(Kind::Token)
        .filter(|(_, entry)| entry.connection_id.is_none())
        .filter_map(|(idx, entry)| Some((entry.text("fingerprint")?, idx)))
        .collect();
    // The position among the attempts, by fingerprint, of all uses so far.
    let mut uses: HashMap<&str, Vec<&Life<'_>>> = HashMap::new();
    for life in attempts {
        let (Some(attempt_idx), Some(attempt)) = (life.attempt, window.attempt(life)) else { continue };
        let Some(fingerprint) = fingerprint(window, life) else {
            continue;
        };
        let earlier = uses.entry(fingerprint).or_default();
        if let Some(refusal) = refusal(window, life, attempt) {
            let is_asked = asked.keys.is_empty() || asked.keys.contains(life.key);
            match earlier.first().filter(|_| refusal != Refusal::Own { is_used: false }) {
                Some(first) => {
                    has_used |= is_asked;
                    reused(window, fingerprint, earlier, first, (attempt_idx, attempt), verdict);
                }
                None => {
                    has_unused |= is_asked;
                    let issue = issued.get(fingerprint).copied();
                    unused(window, (fingerprint, issue), life, (attempt_idx, attempt), verdict);
                }
            }
        }
        if is_use(window, life, attempt) {
            earlier.push(life);
        }
    }
    // What a backend's short answer could mean otherwise.
    if has_used && !has_unused {
        let others = [Diagnosis::TOKEN_EXPIRED, Diagnosis::TOKEN_SESSION_CHANGED, Diagnosis::TOKEN_UNKNOWN];
        verdict.excluded.extend(others);
    }
}

/// The same fingerprint twice.
fn reused(
    window: &Window<'_>,
    fingerprint: &str,
    earlier: &[&Life<'_>],
    first: &Life<'_>,
    (attempt_idx, attempt): (usize, &Entry),
    verdict: &mut Verdict,
) {
    let was_connection = earlier.iter().find(|life| {
        window.opened_at(life).is_some() && window.closed_at(life).is_some_and(|closed| closed <= attempt.ts)
    });
    let Some(first_attempt) = window.attempt(first) else { return };
    let mut text = format!(
        "The token with fingerprint {fingerprint} came at {} ({}) and again at {}.",
        time(first_attempt.ts),
        if is_open(first_attempt) { "it opened the connection" } else { first_attempt.outcome.as_str() },
        time(attempt.ts),
    );
    let diagnosis = match was_connection {
        Some(life) => {
            let closed = window.closed_at(life).unwrap_or_default();
            text.push_str(&format!(" That connection had ended at {}.", time(closed)));
            Diagnosis::TOKEN_REUSED_ON_RECONNECT
        }
        None => Diagnosis::TOKEN_REUSED,
    };
    let facts = facts([
        ("fingerprint", json!(fingerprint)),
        ("firstUsedAt", json!(time(first_attempt.ts))),
        ("firstUsedFrom", json!(window.address(first))),
    ]);
    let mut entries: Vec<usize> = earlier.iter().filter_map(|life| life.attempt).collect();
    entries.push(attempt_idx);
    let mut found = Found::new(window, diagnosis, Confidence::Proven, entries, text, facts);
    // The first use was none too many.
    found.finding.count = Some(1);
    verdict.found.push(found);
}

/// A fingerprint that was never seen before.
fn unused(
    window: &Window<'_>,
    (fingerprint, issue): (&str, Option<usize>),
    life: &Life<'_>,
    (attempt_idx, attempt): (usize, &Entry),
    verdict: &mut Verdict,
) {
    if window.text(life, "signature") == Some(BACKEND_SAYS_NO) {
        // The backend keeps to itself which of these it is.
        let fresh = "The backend says \"Invalid or expired token\"; this token was not used before";
        let mut say = |diagnosis, more: &str| {
            let facts = facts([("fingerprint", json!(fingerprint)), ("signature", json!(BACKEND_SAYS_NO))]);
            let text = format!("{fresh}{more}.");
            let found = Found::new(window, diagnosis, Confidence::Likely, vec![attempt_idx], text, facts);
            verdict.found.push(found);
        };
        say(Diagnosis::TOKEN_EXPIRED, "; compare its age with the backend's limit");
        if !window.names(life, "cookieNames").is_empty() {
            say(
                Diagnosis::TOKEN_SESSION_CHANGED,
                ", and a cookie came with it that may belong to another session",
            );
        }
        say(Diagnosis::TOKEN_UNKNOWN, "; check that issuing and checking use one store");
    }
    let Some(issue_idx) = issue.filter(|idx| window.entry(*idx).ts <= attempt.ts) else { return };
    let issue = window.entry(issue_idx);
    let agents = (issue.text("userAgent"), window.text(life, "userAgent"));
    let addresses = (issue.address.as_deref(), window.address(life));
    let differ = |pair: (Option<&str>, Option<&str>)| matches!(pair, (Some(a), Some(b)) if a != b);
    if attempt.outcome != Diagnosis::TOKEN_EXPIRED.as_str() && differ(agents) {
        let text = format!(
            "The token was issued at {} to another program than the one that presents it {} later{}.",
            time(issue.ts),
            span(attempt.ts - issue.ts),
            if differ(addresses) { ", from another address" } else { "" },
        );
        let facts = facts([("fingerprint", json!(fingerprint)), ("userAgent", json!(agents.1))]);
        let entries = vec![issue_idx, attempt_idx];
        let found =
            Found::new(window, Diagnosis::TOKEN_OTHER_BROWSER, Confidence::Likely, entries, text, facts);
        verdict.found.push(found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, ids};
    use super::*;

    #[test]
    fn the_same_fingerprint_twice() {
        // DX-19 token.reused token.reused-on-reconnect
        let mut story = Story::default();
        story.open(1_000, "a", "ann").set("fingerprint", "f1");
        story.refuse(1_200, "b", "ann", Diagnosis::TOKEN_REUSED, 403).set("fingerprint", "f1");
        let found = story.found();
        assert_eq!(ids(&found), ["token.reused"]);
        assert_eq!(found[0].finding.confidence, Confidence::Proven);
        assert_eq!(found[0].finding.evidence[0].facts["fingerprint"], "f1");

        let mut story = Story::default();
        story.open(1_000, "a", "ann").set("fingerprint", "f1");
        story.close(5_000, "a", Diagnosis::GONE_NETWORK, "network", 1006);
        story
            .refuse(6_000, "b", "ann", Diagnosis::BACKEND_REFUSED, 400)
            .set("fingerprint", "f1")
            .set("signature", "dj-token");
        let verdict = story.verdict();
        assert_eq!(ids(&verdict.found), ["token.reused-on-reconnect"]);
        assert!(verdict.excluded.contains(&Diagnosis::TOKEN_EXPIRED));
    }

    #[test]
    fn a_token_that_may_come_twice_is_no_reuse() {
        // DX-19: only where the second use was refused for the token.
        let mut story = Story::default();
        story.open(1_000, "a", "ann").set("fingerprint", "f1");
        story.open(1_500, "b", "ann").set("fingerprint", "f1");
        story.refuse(2_000, "c", "ann", Diagnosis::INTEGRATION_REFUSED, 502).set("fingerprint", "f1");
        story.refuse(3_000, "d", "bob", Diagnosis::TOKEN_EXPIRED, 403).set("fingerprint", "f2");
        assert_eq!(ids(&story.found()), Vec::<&str>::new());
    }

    #[test]
    fn a_token_that_was_only_refused_is_not_used() {
        // token.reused token.session-changed: the gateway spends a token when it has nothing else against it.
        let mut story = Story::default();
        for (at, id) in [(1_000, "a"), (2_000, "b")] {
            let refused = story.refuse(at, id, "", Diagnosis::TOKEN_SESSION_CHANGED, 403);
            refused.set("fingerprint", "f1").set("check", "token");
        }
        assert_eq!(ids(&story.found()), Vec::<&str>::new());
        story.refuse(3_000, "c", "ann", Diagnosis::BACKEND_REFUSED, 403).set("fingerprint", "f1");
        let refused = story.refuse(4_000, "d", "", Diagnosis::TOKEN_REUSED, 403);
        refused.set("fingerprint", "f1").set("check", "token");
        let found = story.found();
        assert_eq!(ids(&found), ["token.reused"]);
        assert!(found[0].finding.evidence[0].text.contains("backend.refused"), "{found:?}");
        // Somebody else's used token excludes nothing about one that nobody has seen.
        story.asked.keys.insert("x".to_owned());
        story
            .refuse(5_000, "x", "", Diagnosis::TOKEN_EXPIRED, 400)
            .set("signature", "dj-token")
            .set("fingerprint", "f2");
        assert!(story.verdict().excluded.is_empty());
    }

    #[test]
    fn a_backend_that_refuses_a_fresh_token_leaves_three_causes() {
        // DX-2 token.expired token.session-changed token.unknown
        let mut story = Story::default();
        let refused = story.refuse(1_000, "a", "", Diagnosis::TOKEN_EXPIRED, 400);
        refused.set("fingerprint", "f").set("signature", "dj-token").set("cookieNames", json!(["sessionid"]));
        let found = story.found();
        assert_eq!(ids(&found), ["token.expired", "token.session-changed", "token.unknown"]);
        assert!(found.iter().all(|found| found.finding.confidence == Confidence::Likely));
    }

    #[test]
    fn a_token_of_another_browser() {
        // token.other-browser
        for (agent, expected) in [("Mozilla/5.0 B", vec!["token.other-browser"]), ("Mozilla/5.0 A", vec![])] {
            let mut story = Story::default();
            story.add(500, Kind::Token, None).set("fingerprint", "f").set("userAgent", "Mozilla/5.0 A");
            let refused = story.refuse(1_000, "a", "", Diagnosis::TOKEN_SESSION_CHANGED, 403);
            refused.set("fingerprint", "f").set("userAgent", agent);
            assert_eq!(ids(&story.found()), expected);
        }
    }
}
