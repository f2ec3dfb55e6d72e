//! It opens and closes at once.

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;

use super::{Asked, Found, SECOND, Verdict, Window, facts, span, time};
use crate::report::Confidence;

/// Longest life of a connection that "closes at once": what a backend does later is an end as it should be.
const AT_ONCE: u64 = 5 * SECOND;

pub(super) fn check(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    // Backends may end what they like, so this only answers when somebody asks.
    let is_asked = asked.names(Diagnosis::CLOSE_BACKEND_REQUESTED) || !asked.keys.is_empty();
    for life in window.lives().iter().filter(|life| is_asked && asked.is_about(window, life)) {
        let (Some(close_idx), Some(close), Some(opened)) =
            (life.close, window.close(life), window.opened_at(life))
        else {
            continue;
        };
        let age = close.ts.saturating_sub(opened);
        if close.text("closeReason") != Some(Diagnosis::CLOSE_BACKEND_REQUESTED.as_str()) || age > AT_ONCE {
            continue;
        }
        let caller = close.text("caller");
        let text = format!(
            "{}The connection was closed through the management API at {}{}, {} after it had opened.",
            close.request_id.as_deref().map_or_else(String::new, |id| format!("requestId {id}: ")),
            time(close.ts),
            caller.map_or_else(String::new, |caller| format!(" by {caller}")),
            span(age),
        );
        let facts = facts([
            ("caller", json!(caller)),
            ("sourceAddress", json!(close.text("sourceAddress"))),
            ("closeCode", json!(close.number("closeCode"))),
            ("ageMs", json!(age / super::MILLI)),
        ]);
        let entries = life.attempt.into_iter().chain([close_idx]).collect();
        let diagnosis = Diagnosis::CLOSE_BACKEND_REQUESTED;
        verdict.found.push(Found::new(window, diagnosis, Confidence::Proven, entries, text, facts));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;

    #[test]
    fn the_backend_ends_what_it_has_just_accepted() {
        // close.backend-requested
        for (age, reason, expected) in [
            (4_900, "close.backend-requested", vec![("close.backend-requested", Confidence::Proven)]),
            (5_100, "close.backend-requested", vec![]),
            (100, "client.page-left", vec![]),
        ] {
            let mut story = Story::default();
            story.open(1_000, "a", "ann");
            story
                .close(1_000 + age, "a", Diagnosis::CLOSE_BACKEND_REQUESTED, "backend", 1000)
                .set("closeReason", reason)
                .set("caller", "AKIA");
            // Nobody asks.
            assert_found(&mut story, &[]);
            story.asked.keys.insert("a".to_owned());
            assert_found(&mut story, &expected);
            if let Some(found) = story.found().first() {
                assert!(found.finding.evidence[0].text.contains("by AKIA"), "{found:?}");
            }
        }
    }
}
