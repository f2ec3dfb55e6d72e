//! Many connections end together: a proxy reloads, an orchestrator moves something, a node dies.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind};

use super::{Asked, Found, Life, MILLI, MINUTE, SECOND, Verdict, Window, facts, span, time};
use crate::report::Confidence;

/// Connections that must end together: mobile networks alone make some ends in any half minute.
const MIN_ENDS: usize = 10;

/// How long old workers of a proxy may take to end. Source: usual drain times of reverse proxies.
const DRAIN: u64 = 30 * SECOND;

/// The burst must hold this share of all ends within ten times as long, else it is a busy gateway.
const SHARE: usize = 2;

/// Node events around a burst that make it a rollout.
const ROLLOUT: u64 = 5 * MINUTE;

/// Between the stop of a node and its next start, if that is a restart: a deployment replaces the program, a machine that is
/// updated takes longer.
const RESTART: u64 = 2 * MINUTE;

/// Headers that content delivery networks add.
const CDN_HEADERS: &[&str] =
    &["cf-ray", "x-amz-cf-id", "fastly-client-ip", "x-akamai-edgescape", "x-azure-ref", "cdn-loop"];

pub(super) fn check(window: &Window<'_>, _: &Asked, verdict: &mut Verdict) {
    bursts(window, verdict);
    crashes(window, verdict);
    restarts(window, verdict);
}

fn bursts(window: &Window<'_>, verdict: &mut Verdict) {
    let mut ends: Vec<(usize, &Entry, &Life<'_>)> = window
        .lives()
        .iter()
        .filter_map(|life| Some((life.close?, window.close(life)?, life)))
        .filter(|(_, close, _)| {
            close.text("by") == Some("network") && close.outcome != Diagnosis::CONN_PING_TIMEOUT.as_str()
        })
        .collect();
    ends.sort_by_key(|(_, close, _)| close.ts);
    let mut start = 0;
    while start < ends.len() {
        let from = ends[start].1.ts;
        let len = ends[start..].iter().take_while(|(_, close, _)| close.ts - from <= DRAIN).count();
        let first = ends.partition_point(|(_, close, _)| close.ts + 10 * DRAIN < from);
        let n_around = ends.partition_point(|(_, close, _)| close.ts <= from + 10 * DRAIN) - first;
        if len < MIN_ENDS || len * SHARE < n_around {
            start += 1;
            continue;
        }
        burst(window, &ends[start..start + len], verdict);
        start += len;
    }
}

fn burst(window: &Window<'_>, ends: &[(usize, &Entry, &Life<'_>)], verdict: &mut Verdict) {
    let ages: Vec<u64> =
        ends.iter().filter_map(|(_, close, _)| close.number("ageMs")).map(|age| age as u64).collect();
    let idle: Vec<u64> =
        ends.iter().filter_map(|(_, close, _)| close.number("idleMs")).map(|idle| idle as u64).collect();
    // The same idle time is a limit, not an event.
    let spread = |values: &[u64]| values.iter().max().unwrap_or(&0) - values.iter().min().unwrap_or(&0);
    if ages.len() < ends.len()
        || spread(&ages) < 60_000
        || (idle.len() == ends.len() && spread(&idle) < 2_000)
    {
        return;
    }
    let (Some((_, first, _)), Some((_, last, _))) = (ends.first(), ends.last()) else { return };
    let peers: BTreeSet<&str> = ends.iter().filter_map(|(_, _, life)| window.text(life, "peer")).collect();
    let has_cdn = |life: &Life<'_>| {
        window
            .names(life, "headerNames")
            .iter()
            .any(|name| CDN_HEADERS.contains(&name.to_lowercase().as_str()))
    };
    let n_cdn = ends.iter().filter(|(_, _, life)| has_cdn(life)).count();
    let node_event = window.of_kind(Kind::Control).find(|(_, entry)| {
        matches!(entry.text("what"), Some("drain" | "stop" | "start"))
            && entry.ts.abs_diff(first.ts).min(entry.ts.abs_diff(last.ts)) <= ROLLOUT
    });
    let what = format!(
        "{} connections of any age ended without a close frame within {}",
        ends.len(),
        span(last.ts - first.ts)
    );
    let (diagnosis, text) = match (node_event, n_cdn * 10 >= ends.len() * 9, peers.len()) {
        (Some((_, event)), ..) => (
            Diagnosis::PROXY_ROLLOUT,
            format!(
                "{what}, beside `{}` of node {} at {}.",
                event.text("what").unwrap_or("?"),
                event.node,
                time(event.ts)
            ),
        ),
        (None, true, _) => {
            (Diagnosis::PROXY_CDN_RESTART, format!("{what}; all came through a content delivery network."))
        }
        (None, false, 1) => (Diagnosis::PROXY_RELOAD, format!("{what}; all came through one proxy.")),
        _ => return,
    };
    let facts = facts([
        ("count", json!(ends.len())),
        ("window", json!((last.ts - first.ts) / MILLI)),
        ("peers", json!(peers)),
    ]);
    let entries = ends.iter().map(|(idx, ..)| *idx).collect();
    verdict.found.push(Found::new(window, diagnosis, Confidence::Likely, entries, text, facts));
}

/// Drains that were followed by a start of the same node. Entries say `node.draining` of each: whether the node comes back, nobody
/// knows before.
fn restarts(window: &Window<'_>, verdict: &mut Verdict) {
    let controls: Vec<(usize, &Entry)> = window.of_kind(Kind::Control).collect();
    for (place, (start_idx, start)) in controls.iter().enumerate() {
        if start.text("what") != Some("start") {
            continue;
        }
        let before = |what: &str, until: usize| {
            let mut own =
                controls[..until].iter().enumerate().rev().filter(|(_, (_, entry))| entry.node == start.node);
            own.find(|(_, (_, entry))| entry.text("what") == Some(what))
        };
        let Some((stop_place, (_, stop))) = before("stop", place) else { continue };
        let Some((_, (_, drain))) = before("drain", stop_place) else { continue };
        let gap = start.ts.saturating_sub(stop.ts);
        if gap > RESTART {
            continue;
        }
        let is_of_it = |entry: &Entry| {
            entry.node == start.node
                && entry.outcome == Diagnosis::NODE_DRAINING.as_str()
                && (drain.ts..=start.ts).contains(&entry.ts)
        };
        let own = window.entries().iter().enumerate().filter(|(_, entry)| is_of_it(entry));
        let mut entries: Vec<usize> = own.map(|(idx, _)| idx).collect();
        if entries.is_empty() {
            continue;
        }
        let n_ended = entries.iter().filter(|idx| window.entry(**idx).kind == Kind::Close).count();
        let text = format!(
            "Node {} was told to stop at {}, stopped at {} and was started again {} later; it ended {n_ended} connections.",
            start.node,
            time(drain.ts),
            time(stop.ts),
            span(gap)
        );
        let facts = facts([
            ("node", json!(start.node)),
            ("connections", json!(n_ended)),
            ("gapMs", json!(gap / MILLI)),
        ]);
        let count = entries.len() as u64;
        entries.push(*start_idx);
        let mut found =
            Found::new(window, Diagnosis::NODE_RESTART, Confidence::Proven, entries.clone(), text, facts);
        // A connection that ended is the better example than the start.
        if let Some(example) = entries.first() {
            super::set_example(&mut found.finding, window.entry(*example));
        }
        found.finding.count = Some(count);
        verdict.found.push(found);
    }
}

/// Two starts of a node without a stop between them.
fn crashes(window: &Window<'_>, verdict: &mut Verdict) {
    let mut last_start: BTreeMap<u32, (usize, bool)> = BTreeMap::new();
    let mut crashes: Vec<(usize, usize)> = Vec::new();
    for (idx, entry) in window.of_kind(Kind::Control) {
        match entry.text("what") {
            Some("start") => {
                if let Some((start, false)) = last_start.insert(entry.node, (idx, false)) {
                    crashes.push((start, idx));
                }
            }
            Some("stop") => {
                last_start.entry(entry.node).and_modify(|(_, is_stopped)| *is_stopped = true);
            }
            _ => {}
        }
    }
    for (before, after) in crashes {
        let (before, start) = (window.entry(before), window.entry(after));
        let last_sign = window.entries()[..after].iter().rfind(|entry| entry.node == start.node);
        let text = format!(
            "Node {} was started at {} and again at {}, without a stop between; its last entry is from {}.",
            start.node,
            time(before.ts),
            time(start.ts),
            time(last_sign.map_or(before.ts, |entry| entry.ts))
        );
        // The connections that it took with it: opened by it in its life, without an end.
        let lost = window.attempts().into_iter().filter(|life| {
            window.opened_at(life).is_some_and(|opened| (before.ts..start.ts).contains(&opened))
                && window.attempt(life).is_some_and(|attempt| attempt.node == start.node)
                && window.closed_at(life).is_none()
        });
        let mut entries: Vec<usize> = lost.filter_map(|life| life.attempt).collect();
        let n_lost = entries.len();
        entries.push(after);
        let facts = facts([("node", json!(start.node)), ("connections", json!(n_lost))]);
        let mut found = Found::new(window, Diagnosis::NODE_CRASH, Confidence::Proven, entries, text, facts);
        found.finding.count = Some(1);
        verdict.found.push(found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found, ids};
    use super::*;
    use Confidence::{Likely, Proven};

    fn story(n: u64, headers: serde_json::Value, peers: u64) -> Story {
        let mut story = Story::default();
        for k in 0..n {
            let (id, age) = (format!("c{k}"), 100_000 + k * 40_000);
            let told =
                story.open(900_000 - age, &id, &format!("user{k}")).set("headerNames", headers.clone());
            told.set("peer", format!("10.0.0.{}", k % peers));
            let told = story.close(900_000 + k * 1_500, &id, Diagnosis::CONN_RESET, "network", 1006);
            told.set("ageMs", age).set("idleMs", 3_000 * k);
        }
        story
    }

    #[test]
    fn a_proxy_reloads() {
        // proxy.reload DX-2
        assert_found(&mut story(12, json!([]), 1), &[("proxy.reload", Likely)]);
        assert_found(&mut story(9, json!([]), 1), &[]);
        assert_found(&mut story(12, json!([]), 3), &[]);
    }

    #[test]
    fn a_content_delivery_network_restarts() {
        // proxy.cdn-restart
        assert_found(&mut story(12, json!(["CF-Ray"]), 4), &[("proxy.cdn-restart", Likely)]);
    }

    #[test]
    fn an_orchestrator_moves_something() {
        // proxy.rollout
        let mut story = story(12, json!([]), 1);
        story.control(850_000, "drain", None);
        assert_found(&mut story, &[("proxy.rollout", Likely)]);
    }

    #[test]
    fn a_drain_that_a_start_follows() {
        // node.restart DX-2
        let told = |gap: u64| {
            let mut story = Story::default();
            story.control(0, "start", None);
            story.open(1_000, "a", "ann");
            story.control(5_000, "drain", None);
            story.close(5_100, "a", Diagnosis::NODE_DRAINING, "gateway", 1001);
            story.control(6_000, "stop", None);
            story.control(6_000 + gap, "start", None);
            story
        };
        assert_found(&mut told(3_000), &[("node.restart", Proven)]);
        assert_found(&mut told(120_001), &[]);
        let mut other = told(3_000);
        other.entries.last_mut().expect("a start").node = 2;
        assert_found(&mut other, &[]);
        // Nobody was there.
        let mut empty = told(3_000);
        empty.entries.retain(|entry| entry.kind == Kind::Control);
        assert_found(&mut empty, &[]);
        let found = told(3_000).found();
        assert_eq!(found[0].finding.connection_id.as_deref(), Some("a"));
        assert_eq!(found[0].finding.evidence[0].facts["gapMs"], 3_000);
    }

    #[test]
    fn a_start_without_a_stop() {
        // node.crash
        let mut story = Story::default();
        story.control(0, "start", None);
        story.open(1_000, "a", "ann");
        story.control(2_000, "start", None);
        assert_found(&mut story, &[("node.crash", Proven)]);
        assert_eq!(story.found()[0].entries.len(), 2);
        story.control(1_500, "stop", None);
        assert_eq!(ids(&story.found()), Vec::<&str>::new());
        // Another node's start is not this one's.
        let mut story = Story::default();
        story.control(0, "start", None);
        story.control(1_000, "start", None).edit(|entry| entry.node = 2);
        assert_found(&mut story, &[]);
    }
}
