//! The browser opens twice, or too many.

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;

use super::{Asked, Found, MILLI, Verdict, Window, facts, is_browser, span};
use crate::report::Confidence;

/// Between the two handshakes. Source: the row.
const TWICE: u64 = 100 * MILLI;

/// How long the first may have been open: the page drops it as soon as it can.
const JUST_AFTER: u64 = 500 * MILLI;

/// Connections of one browser before it refuses further ones. Source: the row; browsers stop at 255 or less.
const MANY: usize = 200;

pub(super) fn check(window: &Window<'_>, _: &Asked, verdict: &mut Verdict) {
    double_mount(window, verdict);
    socket_limit(window, verdict);
}

fn double_mount(window: &Window<'_>, verdict: &mut Verdict) {
    for lives in window.by_client().into_values() {
        let mut entries = Vec::new();
        let mut shortest = u64::MAX;
        for pair in lives.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            let (Some(first_attempt), Some(second_attempt)) = (window.attempt(first), window.attempt(second))
            else {
                continue;
            };
            // An attempt is written when it is answered; it began by its duration earlier.
            let begun = |ts: u64, duration: Option<f64>| {
                ts.saturating_sub((duration.unwrap_or_default() * 1000.0) as u64)
            };
            let apart = begun(second_attempt.ts, second_attempt.duration_ms)
                .abs_diff(begun(first_attempt.ts, first_attempt.duration_ms));
            let agent = window.text(first, "userAgent");
            let gave_up = first_attempt.outcome == Diagnosis::HANDSHAKE_CLIENT_GAVE_UP.as_str();
            let left = window.close(first).is_some_and(|close| {
                close.text("by") == Some("client") && close.ts.saturating_sub(first_attempt.ts) <= JUST_AFTER
            });
            if apart <= TWICE
                && is_browser(agent)
                && agent == window.text(second, "userAgent")
                && (gave_up || left)
            {
                shortest = shortest.min(apart);
                entries.extend([first.attempt, second.attempt].into_iter().flatten());
            }
        }
        if entries.is_empty() {
            continue;
        }
        let n_pairs = entries.len() / 2;
        let text = format!(
            "{n_pairs} times two handshakes of one page came {} apart, and the page dropped the first.",
            span(shortest)
        );
        let facts = facts([("count", json!(n_pairs))]);
        let mut found =
            Found::new(window, Diagnosis::BROWSER_DOUBLE_MOUNT, Confidence::Proven, entries, text, facts);
        found.finding.count = Some(n_pairs as u64);
        verdict.found.push(found);
    }
}

/// When a connection opened or closed, which of both, and the position of its handshake.
type Change = (u64, bool, usize);

/// So many open connections of one browser that it will refuse more.
fn socket_limit(window: &Window<'_>, verdict: &mut Verdict) {
    let mut browsers: BTreeMap<(&str, &str), Vec<Change>> = BTreeMap::new();
    for life in window.attempts() {
        let (Some(address), Some(agent)) = (window.address(life), window.text(life, "userAgent")) else {
            continue;
        };
        let (Some(opened), Some(idx)) = (window.opened_at(life), life.attempt) else { continue };
        if is_browser(Some(agent)) {
            let changes = browsers.entry((address, agent)).or_default();
            changes.push((opened, true, idx));
            changes.extend(window.closed_at(life).map(|closed| (closed, false, idx)));
        }
    }
    for ((address, agent), mut changes) in browsers {
        changes.sort_unstable();
        let (mut open, mut most) = (0_usize, 0_usize);
        for (_, opens, _) in &changes {
            open = if *opens { open + 1 } else { open.saturating_sub(1) };
            most = most.max(open);
        }
        // Several users behind one address have several browsers.
        let users = changes.iter().filter_map(|(_, _, idx)| window.entry(*idx).user.as_deref());
        let n_users = users.collect::<std::collections::BTreeSet<_>>().len();
        if most <= MANY || n_users > 1 {
            continue;
        }
        let text = format!("{most} connections of one address and one browser were open at once.");
        let facts = facts([("count", json!(most)), ("address", json!(address)), ("userAgent", json!(agent))]);
        let entries = changes.iter().map(|(_, _, idx)| *idx).collect();
        let found =
            Found::new(window, Diagnosis::BROWSER_SOCKET_LIMIT, Confidence::Likely, entries, text, facts);
        verdict.found.push(found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;
    use Confidence::{Likely, Proven};

    #[test]
    fn two_handshakes_of_one_page() {
        // browser.double-mount
        for (apart, by, expected) in [
            (100, "client", vec![("browser.double-mount", Proven)]),
            (101, "client", vec![]),
            (100, "network", vec![]),
        ] {
            let mut story = Story::default();
            story.open(1_000, "a", "ann").set("userAgent", "Mozilla/5.0");
            story.open(1_000 + apart, "b", "ann").set("userAgent", "Mozilla/5.0");
            story.close(1_200, "a", Diagnosis::GONE_CLIENT_CLOSED, by, 1006);
            assert_found(&mut story, &expected);
        }
    }

    #[test]
    fn more_than_a_browser_permits() {
        // browser.socket-limit
        for (n, agent, expected) in [
            (201, "Mozilla/5.0", vec![("browser.socket-limit", Likely)]),
            (200, "Mozilla/5.0", vec![]),
            (201, "load-test", vec![]),
        ] {
            let mut story = Story::default();
            for k in 0..n {
                story.open(1_000 + k * 3_000, &format!("c{k}"), "ann").set("userAgent", agent);
            }
            assert_found(&mut story, &expected);
        }
    }
}
