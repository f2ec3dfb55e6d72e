//! The user is anonymous unexpectedly.
//!
//! Guests are ordinary, so this only answers when somebody asks about an identity.

use std::collections::BTreeMap;

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Entry;

use super::{Asked, Found, Life, Verdict, Window, facts, is_open};
use crate::report::Confidence;

/// Known users whose cookies show which one is the session's: with fewer any cookie looks common.
const MIN_KNOWN: usize = 3;

const IDS: [Diagnosis; 6] = [
    Diagnosis::IDENTITY_COOKIE_NOT_AVAILABLE,
    Diagnosis::IDENTITY_TOKEN_PROTECTION_OFF,
    Diagnosis::IDENTITY_SESSION_EXPIRED,
    Diagnosis::IDENTITY_LOGGED_OUT,
    Diagnosis::COOKIE_SAMESITE,
    Diagnosis::COOKIE_THIRD_PARTY_BLOCKED,
];

/// The registrable part of a host as far as it can be told without a list: its last two labels.
fn site(host: &str) -> String {
    let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let labels: Vec<&str> = host.rsplit('.').take(2).collect();
    labels.into_iter().rev().collect::<Vec<_>>().join(".")
}

pub(super) fn check(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    if !IDS.iter().any(|id| asked.names(*id)) {
        return;
    }
    let mut apis: BTreeMap<&str, (Vec<&Life<'_>>, Vec<&Life<'_>>)> = BTreeMap::new();
    for life in window.attempts() {
        let Some(attempt) = window.attempt(life).filter(|attempt| is_open(attempt)) else { continue };
        let (known, unknown) = apis.entry(attempt.api_id.as_deref().unwrap_or_default()).or_default();
        match window.user(life) {
            Some(_) => known.push(life),
            None => unknown.push(life),
        }
    }
    for (known, unknown) in apis.into_values() {
        let session_cookie = (known.len() >= MIN_KNOWN).then(|| common_cookie(window, &known)).flatten();
        for life in unknown.into_iter().filter(|life| asked.is_about(window, life)) {
            one(window, life, session_cookie, &known, verdict);
        }
    }
}

/// The cookie that nine of ten known users sent.
fn common_cookie<'a>(window: &Window<'a>, known: &[&Life<'_>]) -> Option<&'a str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for life in known {
        for name in window.names(life, "cookieNames") {
            *counts.entry(name).or_default() += 1;
        }
    }
    // Where several are that common, the one that is named after its purpose.
    let common = counts.into_iter().filter(|(_, count)| count * 10 >= known.len() * 9);
    common.map(|(name, _)| name).max_by_key(|name| (name.to_lowercase().contains("sess"), name.len()))
}

fn one(
    window: &Window<'_>,
    life: &Life<'_>,
    session_cookie: Option<&str>,
    known: &[&Life<'_>],
    verdict: &mut Verdict,
) {
    let (Some(attempt_idx), Some(attempt)) = (life.attempt, window.attempt(life)) else { return };
    let mut say = |diagnosis, confidence, text: String| {
        let facts = facts([
            ("cookieNames", attempt.fact("cookieNames").cloned().unwrap_or_default()),
            ("queryNames", attempt.fact("queryNames").cloned().unwrap_or_default()),
        ]);
        verdict.found.push(Found::new(window, diagnosis, confidence, vec![attempt_idx], text, facts));
    };
    if let Some(cookie) = session_cookie {
        if window.names(life, "cookieNames").contains(&cookie) {
            let text = format!("The cookie {cookie} came with the handshake, and yet no user is known.");
            say(Diagnosis::IDENTITY_SESSION_EXPIRED, Confidence::Possible, text.clone());
            say(Diagnosis::IDENTITY_LOGGED_OUT, Confidence::Possible, text);
        } else {
            let text =
                format!("The cookie {cookie}, which known users send, did not come with this handshake.");
            say(Diagnosis::IDENTITY_COOKIE_NOT_AVAILABLE, Confidence::Proven, text);
            if let Some(text) = is_cross_site(attempt) {
                say(Diagnosis::COOKIE_SAMESITE, Confidence::Possible, text.clone());
                say(Diagnosis::COOKIE_THIRD_PARTY_BLOCKED, Confidence::Possible, text);
            }
        }
    }
    let has_token = |life: &Life<'_>| window.text(life, "fingerprint").is_some();
    if !has_token(life) && !known.iter().any(|life| has_token(life)) {
        let text = "It opened without a token, and no connection of this API has brought one.".to_owned();
        say(Diagnosis::IDENTITY_TOKEN_PROTECTION_OFF, Confidence::Possible, text);
    }
}

fn is_cross_site(attempt: &Entry) -> Option<String> {
    let (origin, host) = (attempt.text("origin")?, attempt.text("host")?);
    let page = origin.split_once("://").map_or(origin, |(_, host)| host);
    (site(page) != site(host))
        .then(|| format!("The page is at {page}, the handshake went to {host}: another site."))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{Story, assert_found, ids};
    use super::*;
    use Confidence::{Possible, Proven};

    fn story(cookies: serde_json::Value) -> Story {
        let mut story = Story::default();
        for n in 0..3_u64 {
            let told = story.open(1_000 + n, &format!("k{n}"), "ann").set("fingerprint", format!("f{n}"));
            told.set("cookieNames", json!(["theme", "sessionid"]));
        }
        let told = story.open(2_000, "x", "").set("cookieNames", cookies).set("fingerprint", "f9");
        told.set("host", "ws.example.com").set("origin", "https://www.example.com");
        story
    }

    #[test]
    fn the_session_cookie_is_missing_or_of_no_use() {
        // identity.cookie-not-available identity.session-expired identity.logged-out
        let mut missing = story(json!(["theme"]));
        missing.ask(&[Diagnosis::IDENTITY_COOKIE_NOT_AVAILABLE]);
        assert_found(&mut missing, &[("identity.cookie-not-available", Proven)]);
        let mut there = story(json!(["sessionid"]));
        there.ask(&[Diagnosis::IDENTITY_COOKIE_NOT_AVAILABLE]);
        assert_found(
            &mut there,
            &[("identity.session-expired", Possible), ("identity.logged-out", Possible)],
        );
    }

    #[test]
    fn another_site_is_named() {
        // cookie.samesite cookie.third-party-blocked DX-2
        let mut story = story(json!([]));
        story.ask(&[Diagnosis::COOKIE_SAMESITE]);
        story.entries[3].facts.insert("origin".to_owned(), json!("https://example.org"));
        let found = story.found();
        assert_eq!(
            ids(&found),
            ["identity.cookie-not-available", "cookie.samesite", "cookie.third-party-blocked"]
        );
    }

    #[test]
    fn no_token_at_all() {
        // identity.token-protection-off
        let mut story = Story::default();
        story.open(1_000, "x", "");
        story.ask(&[Diagnosis::IDENTITY_TOKEN_PROTECTION_OFF]);
        assert_found(&mut story, &[("identity.token-protection-off", Possible)]);
    }

    #[test]
    fn guests_are_ordinary() {
        // DX-2
        assert_found(&mut story(json!([])), &[]);
    }
}
