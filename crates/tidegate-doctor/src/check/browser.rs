//! The browser opens twice, or too many.

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;

use super::{Asked, Found, Life, MILLI, Verdict, Window, facts, is_browser, span};
use crate::report::Confidence;

/// Between the two handshakes. Source: the row.
const TWICE: u64 = 100 * MILLI;

/// Requests that come so close on two sockets are taken up in any order: which was the first cannot be told.
const TOGETHER: u64 = 20 * MILLI;

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
        let mut attempts: Vec<Attempt<'_>> =
            lives.into_iter().filter_map(|life| Attempt::of(window, life)).collect();
        // Entries are in the order in which handshakes ended: the first may end last, because its client has left.
        attempts.sort_by_key(|attempt| attempt.begun);
        let mut entries = Vec::new();
        let mut shortest = u64::MAX;
        for pair in attempts.windows(2) {
            let (first, second) = (&pair[0], &pair[1]);
            let apart = second.begun.abs_diff(first.begun);
            let drops = first.is_dropped || second.is_dropped && apart <= TOGETHER;
            if apart <= TWICE && drops && first.agent == second.agent && is_browser(first.agent) {
                shortest = shortest.min(apart);
                entries.extend([first.entry, second.entry]);
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

/// One handshake, as far as the rule of two looks at it.
struct Attempt<'a> {
    /// Position of its entry.
    entry: usize,
    /// When its request came; microseconds since 1970.
    begun: u64,
    agent: Option<&'a str>,
    /// The page closed it before it opened or just after.
    is_dropped: bool,
}

impl<'a> Attempt<'a> {
    fn of(window: &Window<'a>, life: &Life<'a>) -> Option<Self> {
        let attempt = window.attempt(life)?;
        let duration = attempt.duration_ms.unwrap_or_default();
        let gave_up = attempt.outcome == Diagnosis::HANDSHAKE_CLIENT_GAVE_UP.as_str();
        let left = window.close(life).is_some_and(|close| {
            close.text("by") == Some("client") && close.ts.saturating_sub(attempt.ts) <= JUST_AFTER
        });
        Some(Self {
            entry: life.attempt?,
            // An attempt is written when it is answered; it began by its duration earlier.
            begun: attempt.ts.saturating_sub((duration * 1000.0) as u64),
            agent: window.text(life, "userAgent"),
            is_dropped: gave_up || left,
        })
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
    use tidegate_core::journal::Entry;

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
    fn the_first_is_dropped_before_it_opens() {
        // browser.double-mount: its entry may come after that of the second, which the gateway may even have taken up first.
        for (first_lasted, second_begun, expected) in [
            // The first begins at 1000 and ends at 1090, after the second opened.
            (90, 1_030, vec![("browser.double-mount", Proven)]),
            (90, 999, vec![("browser.double-mount", Proven)]),
            (90, 980, vec![("browser.double-mount", Proven)]),
            // The second is the one that was dropped.
            (90, 979, vec![]),
            // Too far apart.
            (200, 1_101, vec![]),
        ] {
            let mut story = Story::default();
            let gave_up = Diagnosis::HANDSHAKE_CLIENT_GAVE_UP;
            let lasted = |ms: u64| move |entry: &mut Entry| entry.duration_ms = Some(ms as f64);
            let first = story.refuse(1_000 + first_lasted, "a", "ann", gave_up, 499);
            first.set("userAgent", "Mozilla/5.0").edit(lasted(first_lasted));
            let second = story.open(second_begun + 5, "b", "ann");
            second.set("userAgent", "Mozilla/5.0").edit(lasted(5));
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
