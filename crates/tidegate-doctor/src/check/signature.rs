//! The signature of a JSON Web Token is wrong: everybody's, or one client's.

use std::collections::BTreeSet;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Kind, OK};

use super::{Asked, Found, Verdict, Window, facts};
use crate::report::Confidence;

/// Clients that must fail before "all" is said: two may be one developer with two programs.
const MIN_CLIENTS: usize = 3;

pub(super) fn check(window: &Window<'_>, _: &Asked, verdict: &mut Verdict) {
    let wrong = Diagnosis::JWT_SIGNATURE.as_str();
    let apis: BTreeSet<Option<&str>> = window
        .entries()
        .iter()
        .filter(|entry| entry.outcome == wrong)
        .map(|entry| entry.api_id.as_deref())
        .collect();
    for api in apis {
        let (mut failed, mut clients, mut passed) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for life in window.attempts() {
            let Some(attempt_idx) = life.attempt else { continue };
            let attempt = window.entry(attempt_idx);
            if attempt.api_id.as_deref() != api {
                continue;
            }
            // Without a verified token there is no user; the address is what remains.
            let address = window.address(life).unwrap_or_default();
            let has_good_token = || {
                let mut entries = life.entries.iter().map(|idx| window.entry(*idx));
                entries.any(|entry| entry.kind == Kind::Jwt && entry.outcome == OK)
            };
            if attempt.outcome == wrong {
                failed.push(attempt_idx);
                clients.insert(address);
            } else if has_good_token() {
                passed.insert(address);
            }
        }
        let (text, fix) = match (clients.len(), passed.len()) {
            (n, 0) if n >= MIN_CLIENTS => (
                format!("All {n} clients that sent a token failed, none passed: the secrets differ."),
                "Compare the secret of the issuer with the gateway's, a newline at the end included.",
            ),
            (1, n) if n >= MIN_CLIENTS => (
                format!(
                    "One client fails while {n} others pass: its token was forged or comes from another issuer."
                ),
                "Find out where this client has its token from.",
            ),
            _ => continue,
        };
        let facts = facts([("failing", json!(clients.len())), ("passing", json!(passed.len()))]);
        let mut found = Found::new(window, Diagnosis::JWT_SIGNATURE, Confidence::Proven, failed, text, facts);
        found.finding = found.finding.fix_first(fix);
        verdict.found.push(found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, ids};
    use super::*;

    fn story(failing: u64, passing: u64) -> Story {
        let mut story = Story::default();
        for n in 0..failing {
            let told = story.refuse(1_000 + n, &format!("f{n}"), "", Diagnosis::JWT_SIGNATURE, 403);
            told.edit(|entry| entry.address = Some(format!("192.0.2.{n}")));
        }
        for n in 0..passing {
            let id = format!("p{n}");
            story.add(2_000 + n, Kind::Jwt, None).edit(|entry| entry.connection_id = Some(id.clone()));
            story.open(2_000 + n, &id, "ann").edit(|entry| entry.address = Some(format!("198.51.100.{n}")));
        }
        story
    }

    #[test]
    fn everybody_or_one() {
        // DX-19 jwt.signature
        let text = |mut story: Story| {
            story.found().first().map(|found| found.finding.evidence[0].text.clone()).unwrap_or_default()
        };
        assert!(text(story(3, 0)).contains("none passed"));
        assert!(text(story(1, 3)).contains("forged"));
        // Neither all nor one: the entries speak for themselves.
        for (failing, passing) in [(2, 0), (3, 1), (1, 2), (0, 5)] {
            assert_eq!(ids(&story(failing, passing).found()), Vec::<&str>::new(), "{failing} {passing}");
        }
    }
}
