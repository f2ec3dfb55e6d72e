//! The connection drops after a fixed idle time.

use std::collections::BTreeSet;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Entry;

use super::{Asked, Found, Life, MILLI, SECOND, Verdict, Window, facts, span};
use crate::report::Confidence;

/// Connections that must end after the same time: with fewer the same time is a coincidence.
const MIN_ENDS: usize = 5;

/// Clients behind them: one client may have a timer of its own.
const MIN_CLIENTS: usize = 3;

/// Ends that say it without them: behind a proxy that forwards no addresses all clients look like one.
const MANY_ENDS: usize = 10;

/// Shorter times are what clients do, not intermediaries.
const SHORTEST: u64 = 1500 * MILLI;

/// Half the width of "the same time". Source: the row, 60 s (+-1); for short times less, as clients are that quick, too.
fn same(idle: u64) -> u64 {
    (idle / 20).clamp(250 * MILLI, SECOND)
}

/// Below this, silence says nothing: a heartbeat comes every 25 to 30 s.
const HEARTBEAT: u64 = 30 * SECOND;

/// Messages from which an interval can be told.
const MIN_MESSAGES: f64 = 2.0;

/// Ends by the same interval before it is called a race.
const MIN_RACES: usize = 3;

/// What is known to end idle connections after a time, in seconds. Sources: the manuals of the products.
const KNOWN: &[(u64, &str)] = &[
    (30, "some reverse proxies and load balancers"),
    (55, "some hosting platforms"),
    (230, "some cloud load balancers"),
    (240, "some cloud load balancers"),
    (270, "some mobile networks"),
    (300, "some firewalls and tunnels"),
    (350, "network balancers and NAT gateways"),
    (400, "some content delivery networks"),
    (600, "proxies with a limit of ten minutes"),
];

/// An end without a close frame: the position, the entry, how long nothing had come or gone.
struct End<'w, 'a> {
    idx: usize,
    life: &'w Life<'a>,
    close: &'a Entry,
    idle: u64,
}

/// Ended by the network, while the peer was there: unanswered pings mean that nobody was.
fn is_eof(close: &Entry) -> bool {
    close.text("by") == Some("network") && close.outcome != Diagnosis::CONN_PING_TIMEOUT.as_str()
}

pub(super) fn check(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    let ends: Vec<End<'_, '_>> = window
        .lives()
        .iter()
        .filter_map(|life| {
            let (idx, close) = (life.close?, window.close(life)?);
            let idle = (close.number("idleMs")? * MILLI as f64) as u64;
            Some(End { idx, life, close, idle })
        })
        .collect();
    let mut dropped: BTreeSet<usize> = intermediary(window, &ends, verdict);
    dropped.extend(
        ends.iter()
            .filter(|end| end.close.outcome == Diagnosis::CLOSE_IDLE_TIMEOUT.as_str())
            .map(|end| end.idx),
    );
    heartbeat_race(window, &ends, &dropped, verdict);
    no_heartbeat(window, asked, &ends, &dropped, verdict);
}

/// Many connections lose their peer after the same idle time.
fn intermediary(window: &Window<'_>, ends: &[End<'_, '_>], verdict: &mut Verdict) -> BTreeSet<usize> {
    let mut eofs: Vec<&End<'_, '_>> =
        ends.iter().filter(|end| is_eof(end.close) && end.idle >= SHORTEST).collect();
    eofs.sort_by_key(|end| end.idle);
    let mut seen = BTreeSet::new();
    let mut start = 0;
    while start < eofs.len() {
        let width = same(eofs[start].idle);
        // The widest set that fits into the width, from each beginning.
        let len = eofs[start..].iter().take_while(|end| end.idle - eofs[start].idle <= 2 * width).count();
        let group = &eofs[start..start + len];
        let clients: BTreeSet<_> = group.iter().filter_map(|end| window.client(end.life)).collect();
        // In a wide spread of times any two seconds hold some; only a crowd stands out.
        let (least, most) = (group[0].idle.saturating_sub(20 * width), group[0].idle + 20 * width);
        let n_around =
            eofs.partition_point(|end| end.idle <= most) - eofs.partition_point(|end| end.idle < least);
        let is_enough = len >= MANY_ENDS || (len >= MIN_ENDS && clients.len() >= MIN_CLIENTS);
        if !is_enough || len * 2 < n_around {
            start += 1;
            continue;
        }
        let idle = group[len / 2].idle;
        let seconds = (idle + SECOND / 2) / SECOND;
        let (diagnosis, known) = match seconds {
            59..=61 => {
                (Diagnosis::PROXY_IDLE_60, "60 s is the default of common reverse proxies and load balancers")
            }
            99..=101 => {
                (Diagnosis::PROXY_IDLE_100, "100 s is the limit of a content delivery network's edge")
            }
            _ => {
                let known = KNOWN.iter().find(|(known, _)| known.abs_diff(seconds) <= 1);
                (
                    Diagnosis::PROXY_IDLE_OTHER,
                    known.map_or("no product with this limit is known here", |(_, who)| who),
                )
            }
        };
        let text = format!(
            "{len} connections of {} clients ended without a close frame {} after the last frame: {known}.",
            clients.len(),
            span(idle)
        );
        let facts = facts([
            ("count", json!(len)),
            ("idleMs", json!(idle / MILLI)),
            ("clients", json!(clients.len())),
        ]);
        let entries: Vec<usize> = group.iter().map(|end| end.idx).collect();
        seen.extend(&entries);
        let mut found = Found::new(window, diagnosis, Confidence::Proven, entries, text, facts);
        found.finding = found.finding.next("tidegate doctor wss://HOST/PATH --idle");
        verdict.found.push(found);
        start += len;
    }
    seen
}

/// Heartbeats come, but exactly as rarely as the limit.
fn heartbeat_race(
    window: &Window<'_>,
    ends: &[End<'_, '_>],
    dropped: &BTreeSet<usize>,
    verdict: &mut Verdict,
) {
    let races: Vec<&End<'_, '_>> = ends
        .iter()
        .filter(|end| dropped.contains(&end.idx))
        .filter(|end| {
            let (Some(age), Some(messages)) = (end.close.number("ageMs"), end.close.number("messagesIn"))
            else {
                return false;
            };
            if messages < MIN_MESSAGES {
                return false;
            }
            let interval = (age * MILLI as f64 - end.idle as f64) / messages;
            // Five of a hundred: what a timer and the way of a frame take.
            (interval - end.idle as f64).abs() <= end.idle as f64 * 0.05
        })
        .collect();
    if races.len() < MIN_RACES {
        return;
    }
    let idle = races[races.len() / 2].idle;
    let text = format!(
        "{} connections sent a message every {} and ended {} after the last one: the next came too late.",
        races.len(),
        span(idle),
        span(idle)
    );
    let facts = facts([("count", json!(races.len())), ("intervalMs", json!(idle / MILLI))]);
    let entries = races.iter().map(|end| end.idx).collect();
    let found = Found::new(window, Diagnosis::IDLE_HEARTBEAT_RACE, Confidence::Proven, entries, text, facts);
    verdict.found.push(found);
}

/// Nothing was sent at all until the drop.
fn no_heartbeat(
    window: &Window<'_>,
    asked: &Asked,
    ends: &[End<'_, '_>],
    dropped: &BTreeSet<usize>,
    verdict: &mut Verdict,
) {
    let silent: Vec<&End<'_, '_>> = ends
        .iter()
        .filter(|end| dropped.contains(&end.idx) || (is_eof(end.close) && asked.keys.contains(end.life.key)))
        .filter(|end| {
            let none = |name: &str| end.close.number(name) == Some(0.0);
            none("messagesIn") && none("messagesOut") && end.idle >= HEARTBEAT
        })
        .collect();
    let Some(last) = silent.last() else { return };
    let text = format!(
        "{} connections had no frame between opening and the drop {} later.",
        silent.len(),
        span(last.idle)
    );
    let facts = facts([("count", json!(silent.len())), ("messagesIn", json!(0)), ("messagesOut", json!(0))]);
    let entries = silent.iter().map(|end| end.idx).collect();
    verdict.found.push(Found::new(
        window,
        Diagnosis::IDLE_NO_HEARTBEAT,
        Confidence::Proven,
        entries,
        text,
        facts,
    ));
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;
    use Confidence::Proven;

    fn story(ends: &[(u64, u64)], clients: usize, messages: u64) -> Story {
        let mut story = Story::default();
        for (n, (age, idle)) in ends.iter().enumerate() {
            let (at, id) = (1_000 + n as u64 * 777, format!("c{n}"));
            story.open(at, &id, &format!("user{}", n % clients));
            let told = story.close(at + age, &id, Diagnosis::CONN_RESET, "network", 1006);
            told.set("ageMs", *age).set("idleMs", *idle).set("messagesIn", messages).set("messagesOut", 1);
        }
        story
    }

    #[test]
    fn the_same_idle_time_over_many_connections() {
        // DX-19 proxy.idle-60 proxy.idle-100 proxy.idle-other
        for (idle, id) in
            [(60_200, "proxy.idle-60"), (99_600, "proxy.idle-100"), (350_000, "proxy.idle-other")]
        {
            let ends: Vec<_> = (0..5).map(|n| (400_000 + n * 50_000, idle + n * 100)).collect();
            assert_found(&mut story(&ends, 5, 1), &[(id, Proven)]);
            assert_found(&mut story(&ends[..4], 4, 1), &[]);
            assert_found(&mut story(&ends, 2, 1), &[]);
        }
    }

    #[test]
    fn times_that_differ_are_no_limit() {
        // DX-2
        let ends: Vec<_> = (0..40).map(|n| (400_000, 20_000 + n * 900)).collect();
        assert_found(&mut story(&ends, 40, 1), &[]);
    }

    #[test]
    fn heartbeats_as_rare_as_the_limit() {
        // idle.heartbeat-race
        let ends: Vec<_> = (0..5).map(|_| (240_000, 60_000)).collect();
        assert_found(&mut story(&ends, 5, 3), &[("proxy.idle-60", Proven), ("idle.heartbeat-race", Proven)]);
        assert_found(&mut story(&ends, 5, 9), &[("proxy.idle-60", Proven)]);
    }

    #[test]
    fn neither_side_sends_anything() {
        // idle.no-heartbeat
        let mut story = Story::default();
        story.open(1_000, "a", "ann");
        let close = |story: &mut Story, n: u64| {
            let told = story.close(601_000, "a", Diagnosis::CLOSE_IDLE_TIMEOUT, "gateway", 1001);
            told.set("ageMs", 600_000).set("idleMs", 600_000).set("messagesIn", n).set("messagesOut", 0);
        };
        close(&mut story, 0);
        assert_found(&mut story, &[("idle.no-heartbeat", Proven)]);
        story.entries.pop();
        close(&mut story, 1);
        assert_found(&mut story, &[]);
    }
}
