//! 410 when posting: what became of the id, and who still uses it.

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind};

use super::{Asked, Found, HOUR, Life, SECOND, Verdict, Window, facts, span, time};
use crate::report::Confidence;

/// Between the close and the next connection of a client that changes rooms. Source: the row.
const ROOM_CHANGE: u64 = 10 * SECOND;

/// A client may open its next connection before the end of the former one is known.
const OVERLAP: u64 = 2 * SECOND;

/// From then on a post shows a record that was not cleaned up. Source: the row.
const STALE: u64 = HOUR;

/// Posts that were answered with 410 after which the next shows it too. Source: the row.
const IGNORED: usize = 2;

pub(super) fn check(window: &Window<'_>, _: &Asked, verdict: &mut Verdict) {
    let mut gone: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (idx, entry) in window.of_kind(Kind::Post).filter(|(_, entry)| is_gone(entry)) {
        if let Some(id) = entry.connection_id.as_deref() {
            gone.entry(id).or_default().push(idx);
        }
    }
    for (id, posts) in gone {
        let Some(life) = window.life(id) else { continue };
        newer_id(window, life, &posts, verdict);
        stale(window, life, &posts, verdict);
        restart(window, life, &posts, verdict);
    }
}

/// Was the post answered with 410 for an id that once was a connection?
pub(super) fn is_gone(entry: &Entry) -> bool {
    entry.outcome.starts_with("connections.gone-")
        && entry.outcome != Diagnosis::GONE_NEVER_ESTABLISHED.as_str()
        || entry.outcome == Diagnosis::CONNECTIONS_STALE_RECORD.as_str()
}

/// When the connection that a post names had ended: by its own end, else as the post says.
pub(super) fn closed_at(window: &Window<'_>, post: &Entry) -> Option<u64> {
    let life = window.life(post.connection_id.as_deref()?);
    let told = || match post.fact("closedAt")? {
        serde_json::Value::String(text) => super::parse_time(text),
        // Milliseconds or microseconds: no connection is from before 1973 or after the year 5000.
        value => {
            value.as_u64().map(|number| if number < 100_000_000_000_000 { number * 1000 } else { number })
        }
    };
    life.and_then(|life| window.closed_at(life)).or_else(told)
}

/// The same user had another connection by then.
fn newer_id(window: &Window<'_>, life: &Life<'_>, posts: &[usize], verdict: &mut Verdict) {
    let (Some(user), Some(closed)) = (window.user(life), window.closed_at(life)) else { return };
    let newer = window.attempts_of(user).filter(|other| other.key != life.key);
    let newer: Vec<(u64, &Life<'_>)> = newer
        .filter_map(|other| Some((window.opened_at(other)?, other)))
        // A second tab that was there before is no return.
        .filter(|(opened, _)| opened.saturating_add(OVERLAP) >= closed)
        .collect();
    let is_live_at = |other: &Life<'_>, at: u64| window.closed_at(other).is_none_or(|closed| closed > at);
    let mut by_cause: BTreeMap<Diagnosis, (Vec<usize>, u64)> = BTreeMap::new();
    for post_idx in posts {
        let at = window.entry(*post_idx).ts;
        let Some((opened, other)) =
            newer.iter().rev().find(|(opened, other)| *opened <= at && is_live_at(other, at))
        else {
            continue;
        };
        // A reconnect may overlap the old connection by a moment.
        let diagnosis = match opened.abs_diff(closed) <= ROOM_CHANGE {
            true => Diagnosis::GONE_ROOM_CHANGE,
            false => Diagnosis::GONE_REUSED_ID,
        };
        let entries = by_cause.entry(diagnosis).or_insert_with(|| (Vec::new(), *opened));
        entries.0.extend(other.attempt);
        entries.0.push(*post_idx);
    }
    for (diagnosis, (entries, opened)) in by_cause {
        let (confidence, how) = match diagnosis {
            Diagnosis::GONE_ROOM_CHANGE => {
                (Confidence::Proven, format!("{} after", span(opened.abs_diff(closed))))
            }
            // The row's second half, a client that presents the old id, is not seen here.
            _ => (Confidence::Likely, format!("{} after", span(opened.saturating_sub(closed)))),
        };
        let text = format!(
            "This id ended at {}; the same user had a newer connection, opened {how}, when the post came for the old one.",
            time(closed)
        );
        let facts = facts([("closedAt", json!(time(closed))), ("openedAt", json!(time(opened)))]);
        let posts: Vec<usize> =
            entries.into_iter().filter(|idx| window.entry(*idx).kind == Kind::Post).collect();
        verdict.found.push(Found::new(window, diagnosis, confidence, posts, text, facts));
    }
}

/// Posts that come long after the end, or again and again after a 410.
fn stale(window: &Window<'_>, life: &Life<'_>, posts: &[usize], verdict: &mut Verdict) {
    let Some(last) = posts.last().map(|idx| window.entry(*idx)) else { return };
    let age = closed_at(window, last).map(|closed| last.ts.saturating_sub(closed));
    let is_old = age.is_some_and(|age| age > STALE);
    if !is_old && posts.len() <= IGNORED {
        return;
    }
    let text = match age {
        Some(age) => {
            format!("The id ended {} before the newest of {} posts that got 410.", span(age), posts.len())
        }
        None => format!("{} posts to {} got 410.", posts.len(), life.key),
    };
    let facts = facts([("count", json!(posts.len())), ("caller", json!(last.text("caller")))]);
    let found = Found::new(
        window,
        Diagnosis::CONNECTIONS_STALE_RECORD,
        Confidence::Proven,
        posts.to_vec(),
        text,
        facts,
    );
    verdict.found.push(found);
}

/// The node that held it ended while it was open.
fn restart(window: &Window<'_>, life: &Life<'_>, posts: &[usize], verdict: &mut Verdict) {
    let (Some(opened), Some(first)) = (window.opened_at(life), posts.first().map(|idx| window.entry(*idx)))
    else {
        return;
    };
    // An end of its own says more than the node's.
    if window.close(life).is_some_and(|close| close.outcome != Diagnosis::NODE_RESTART.as_str()) {
        return;
    }
    let node = window.attempt(life).map(|attempt| attempt.node);
    let end = window.of_kind(Kind::Control).find(|(_, entry)| {
        matches!(entry.text("what"), Some("start" | "stop"))
            && Some(entry.node) == node
            && entry.ts > opened
            && entry.ts <= first.ts
    });
    let Some((_, end)) = end else { return };
    let text = format!(
        "It was opened at {}; its node {} at {}.",
        time(opened),
        if end.text("what") == Some("stop") { "stopped" } else { "was started again" },
        time(end.ts)
    );
    let facts = facts([("openedAt", json!(time(opened))), ("node", json!(end.node))]);
    verdict.found.push(Found::new(
        window,
        Diagnosis::GONE_RESTART,
        Confidence::Proven,
        posts.to_vec(),
        text,
        facts,
    ));
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;
    use Confidence::{Likely, Proven};

    fn story(reopened: Option<u64>, posts: &[u64]) -> Story {
        let mut story = Story::default();
        story.open(1_000, "old", "ann");
        story.close(60_000, "old", Diagnosis::CLIENT_PAGE_LEFT, "client", 1001);
        if let Some(at) = reopened {
            story.open(at, "new", "ann");
        }
        for at in posts {
            story.post(*at, "old", Some(Diagnosis::GONE_CLIENT_CLOSED));
        }
        story
    }

    #[test]
    fn a_newer_id_of_the_same_user() {
        // DX-19 connections.gone-room-change connections.gone-reused-id
        assert_found(&mut story(Some(70_000), &[80_000]), &[("connections.gone-room-change", Proven)]);
        assert_found(&mut story(Some(70_001), &[80_000]), &[("connections.gone-reused-id", Likely)]);
        // The post came before the newer connection: nobody could know.
        assert_found(&mut story(Some(70_000), &[65_000]), &[]);
        let mut other = story(None, &[80_000]);
        other.open(70_000, "new", "bob");
        assert_found(&mut other, &[]);
    }

    #[test]
    fn records_that_nobody_cleans_up() {
        // connections.stale-record
        let hour = 3_600_000;
        assert_found(&mut story(None, &[60_000 + hour]), &[]);
        assert_found(&mut story(None, &[60_001 + hour]), &[("connections.stale-record", Proven)]);
        assert_found(&mut story(None, &[61_000, 62_000]), &[]);
        assert_found(&mut story(None, &[61_000, 62_000, 63_000]), &[("connections.stale-record", Proven)]);
    }

    #[test]
    fn the_node_ended_first() {
        // connections.gone-restart
        let mut story = Story::default();
        story.open(1_000, "a", "ann");
        story.control(5_000, "stop", None);
        story.control(6_000, "start", None);
        story.post(7_000, "a", Some(Diagnosis::GONE_RESTART));
        assert_found(&mut story, &[("connections.gone-restart", Proven)]);
        story.close(4_000, "a", Diagnosis::CLIENT_PAGE_LEFT, "client", 1001);
        assert_found(&mut story, &[]);
    }
}
