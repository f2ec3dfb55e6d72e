//! The client does not come back, or comes back wrongly.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Entry;

use super::random_drop::next_attempt;
use super::{
    Asked, Found, Life, MILLI, MINUTE, SECOND, Verdict, Window, facts, intervals, is_constant, is_open,
    median, span,
};
use crate::report::Confidence;

/// Seconds between the tries of the clients that give up. Source: the row.
const BACKOFF: [u64; 5] = [2, 4, 8, 16, 32];

/// Silence after the last try that shows that there is none to come: twice the longest distance.
const GIVEN_UP: u64 = 64 * SECOND;

/// Silence after an end that shows a client without reconnect: longer than any usual backoff.
const NO_RECONNECT: u64 = 10 * MINUTE;

/// Opens of a loop: four distances, so that one coincidence is not enough.
const MIN_LOOP: usize = 5;

/// Longest life of a connection inside such a loop. Source: the row.
const SHORT: u64 = SECOND;

/// Longest distance inside such a loop: the row says 2 s; some clients wait a little longer.
const LOOP: u64 = 10 * SECOND;

/// Clients of a storm; fewer come back together by chance.
const STORM: usize = 20;

/// Width of the moment in which they come back. Source: without jitter only timers and the network spread them.
const MOMENT: u64 = 2 * SECOND;

/// So many times more attempts than in the moment before: a storm breaks, a busy gateway goes on.
const JUMP: usize = 4;

/// From the ends to the storm.
const AFTER_ENDS: u64 = MINUTE;

/// Attempts with the same expired token that are more than one late one.
const MIN_EXPIRED: usize = 2;

pub(super) fn check(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    for lives in window.by_client().into_values() {
        counter_reset(window, &lives, verdict);
        gave_up(window, &lives, verdict);
    }
    expired_again(window, verdict);
    storm(window, verdict);
    if asked.names(Diagnosis::CLIENT_NO_RECONNECT) {
        no_reconnect(window, asked, verdict);
    }
}

/// Opens and closes at once, again and again at the same distance.
fn counter_reset(window: &Window<'_>, lives: &[&Life<'_>], verdict: &mut Verdict) {
    // A client that ends what it opened, as checks do, has no trouble; the loop needs a server that closes.
    let by_server = |life: &Life<'_>| {
        window.close(life).is_some_and(|close| !matches!(close.text("by"), Some("client" | "network")))
    };
    let is_short = |life: &Life<'_>| match (window.opened_at(life), window.closed_at(life)) {
        (Some(opened), Some(closed)) => closed.saturating_sub(opened) < SHORT && by_server(life),
        _ => false,
    };
    let mut run: Vec<&Life<'_>> = Vec::new();
    for life in lives.iter().copied().map(Some).chain([None]) {
        if let Some(life) = life.filter(|life| is_short(life)) {
            run.push(life);
            continue;
        }
        let times: Vec<u64> = run.iter().filter_map(|life| window.opened_at(life)).collect();
        let intervals = intervals(&times);
        let interval = median(&intervals);
        if run.len() >= MIN_LOOP && interval <= LOOP && is_constant(&intervals) {
            let text = format!(
                "{} connections of one client were opened {} apart; each ended within a second.",
                run.len(),
                span(interval)
            );
            let facts = facts([("count", json!(run.len())), ("intervalMs", json!(interval / MILLI))]);
            let entries = run.iter().flat_map(|life| [life.attempt, life.close]).flatten().collect();
            let diagnosis = Diagnosis::CLIENT_COUNTER_RESET_LOOP;
            let mut found = Found::new(window, diagnosis, Confidence::Proven, entries, text, facts);
            found.finding.count = Some(run.len() as u64);
            verdict.found.push(found);
        }
        run.clear();
    }
}

/// Five failing tries at doubling distances, then none.
fn gave_up(window: &Window<'_>, lives: &[&Life<'_>], verdict: &mut Verdict) {
    let Some(last) = lives.last().and_then(|life| window.attempt(life)) else { return };
    if window.now() < last.ts + GIVEN_UP || is_open(last) || lives.len() < BACKOFF.len() {
        return;
    }
    let tries = &lives[lives.len() - BACKOFF.len()..];
    let attempts: Vec<&Entry> = tries.iter().filter_map(|life| window.attempt(life)).collect();
    if attempts.iter().any(|attempt| is_open(attempt)) {
        return;
    }
    let times: Vec<u64> = attempts.iter().map(|attempt| attempt.ts).collect();
    // The first distance is the one from the drop, which may have been anything.
    let doubles = intervals(&times).iter().zip(&BACKOFF[1..]).all(|(interval, wanted)| {
        let wanted = wanted * SECOND;
        // Three of ten: jitter, and the time of the handshake itself.
        interval.abs_diff(wanted) * 10 <= wanted * 3
    });
    if !doubles {
        return;
    }
    let text = format!(
        "The last {} tries came at doubling distances, all failed, and none has come since.",
        tries.len()
    );
    let facts = facts([("count", json!(tries.len())), ("outcome", json!(last.outcome))]);
    let entries = tries.iter().filter_map(|life| life.attempt).collect();
    verdict.found.push(Found::new(
        window,
        Diagnosis::CLIENT_GAVE_UP,
        Confidence::Likely,
        entries,
        text,
        facts,
    ));
}

/// The same expired JSON Web Token in several attempts.
fn expired_again(window: &Window<'_>, verdict: &mut Verdict) {
    let mut tokens: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for life in window.attempts() {
        let (Some(idx), Some(attempt)) = (life.attempt, window.attempt(life)) else { continue };
        if let Some(fingerprint) = window.text(life, "fingerprint")
            && attempt.outcome == Diagnosis::JWT_EXPIRED.as_str()
        {
            tokens.entry(fingerprint).or_default().push(idx);
        }
    }
    for (fingerprint, entries) in tokens.into_iter().filter(|(_, entries)| entries.len() >= MIN_EXPIRED) {
        let text =
            format!("{} attempts brought the same expired token, fingerprint {fingerprint}.", entries.len());
        let facts = facts([("fingerprint", json!(fingerprint)), ("count", json!(entries.len()))]);
        let diagnosis = Diagnosis::CLIENT_REUSES_EXPIRED_JWT;
        verdict.found.push(Found::new(window, diagnosis, Confidence::Proven, entries, text, facts));
    }
}

/// Many clients lose their connections together and come back in the same moment.
fn storm(window: &Window<'_>, verdict: &mut Verdict) {
    // When each client's latest connection ended.
    let mut ends: Vec<(u64, String)> = window
        .lives()
        .iter()
        .filter_map(|life| Some((window.closed_at(life)?, window.client(life)?)))
        .collect();
    ends.sort();
    let attempts: Vec<(usize, u64, String)> = window
        .attempts()
        .into_iter()
        .filter_map(|life| Some((life.attempt?, window.attempt(life)?.ts, window.client(life)?)))
        .collect();
    let mut start = 0;
    while start < attempts.len() {
        let from = attempts[start].1;
        let len = attempts[start..].iter().take_while(|(_, at, _)| at - from <= MOMENT).count();
        // Fewer attempts, or as many as there were before, are no storm; this keeps the look at the ends rare.
        let before = start - attempts.partition_point(|(_, at, _)| at + MOMENT < from);
        if len < STORM || len < JUMP * before {
            start += 1;
            continue;
        }
        let first = ends.partition_point(|(at, _)| *at < from.saturating_sub(AFTER_ENDS));
        let last = ends.partition_point(|(at, _)| *at <= from);
        let lost: BTreeSet<&str> = ends[first..last].iter().map(|(_, client)| client.as_str()).collect();
        let back: BTreeSet<&str> = attempts[start..start + len]
            .iter()
            .map(|(_, _, client)| client.as_str())
            .filter(|client| lost.contains(client))
            .collect();
        // Most of those who lost theirs: otherwise the coming and going of a busy gateway would do.
        if back.len() < STORM || back.len() * 5 < lost.len() * 4 {
            start += 1;
            continue;
        }
        let text = format!(
            "{} of {} clients that had lost their connection came back within {}.",
            back.len(),
            lost.len(),
            span(attempts[start + len - 1].1 - from)
        );
        let facts = facts([("count", json!(back.len())), ("window", json!(MOMENT / MILLI))]);
        let entries = attempts[start..start + len].iter().map(|(idx, ..)| *idx).collect();
        let found =
            Found::new(window, Diagnosis::CLIENT_RETRY_STORM, Confidence::Proven, entries, text, facts);
        verdict.found.push(found);
        start += len;
    }
}

/// An end after which a client should have come back.
fn no_reconnect(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    for life in window.lives().iter().filter(|life| asked.is_about(window, life)) {
        let (Some(close_idx), Some(close)) = (life.close, window.close(life)) else { continue };
        let code = close.number("closeCode");
        if !matches!(code, Some(1000.0 | 1006.0)) || window.user(life).is_none() {
            continue;
        }
        let until = close.ts + NO_RECONNECT;
        if window.now() < until || next_attempt(window, life, close.ts).is_some_and(|next| next.at < until) {
            continue;
        }
        let text = format!(
            "After the end with {} no attempt came within {}.",
            code.unwrap_or_default(),
            span(NO_RECONNECT)
        );
        let facts = facts([("closeCode", json!(code))]);
        // A user who goes away does the same.
        let found = Found::new(
            window,
            Diagnosis::CLIENT_NO_RECONNECT,
            Confidence::Possible,
            vec![close_idx],
            text,
            facts,
        );
        verdict.found.push(found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;
    use Confidence::{Likely, Possible, Proven};

    #[test]
    fn opened_and_closed_again_and_again() {
        // client.counter-reset-loop
        for (n, age, every, expected) in [
            (5, 300, 2_000, vec![("client.counter-reset-loop", Proven)]),
            (4, 300, 2_000, vec![]),
            (5, 1_000, 2_000, vec![]),
            (5, 300, 11_000, vec![]),
        ] {
            let mut story = Story::default();
            for k in 0..n {
                let (at, id) = (1_000 + k * every, format!("c{k}"));
                story.open(at, &id, "ann");
                story.close(at + age, &id, Diagnosis::CLOSE_BACKEND_REQUESTED, "backend", 1000);
            }
            assert_found(&mut story, &expected);
            for entry in
                story.entries.iter_mut().filter(|entry| entry.kind == tidegate_core::journal::Kind::Close)
            {
                entry.facts.insert("by".to_owned(), json!("client"));
            }
            assert_found(&mut story, &[]);
        }
    }

    #[test]
    fn five_tries_and_no_more() {
        // client.gave-up DX-2
        let mut story = Story::default();
        for (n, at) in [0, 4, 12, 28, 60].into_iter().enumerate() {
            story.refuse(1_000 + at * 1_000, &format!("c{n}"), "ann", Diagnosis::INTEGRATION_REFUSED, 502);
        }
        story.now = 125_000;
        assert_found(&mut story, &[("client.gave-up", Likely)]);
        story.now = 124_000;
        assert_found(&mut story, &[]);
        story.now = 300_000;
        story.entries[2].ts += 6 * SECOND;
        assert_found(&mut story, &[]);
    }

    #[test]
    fn the_same_expired_token() {
        // client.reuses-expired-jwt
        let mut story = Story::default();
        story.refuse(1_000, "a", "", Diagnosis::JWT_EXPIRED, 403).set("fingerprint", "f");
        story.refuse(9_000, "b", "", Diagnosis::JWT_EXPIRED, 403).set("fingerprint", "g");
        assert_found(&mut story, &[]);
        story.refuse(30_000, "c", "", Diagnosis::JWT_EXPIRED, 403).set("fingerprint", "f");
        assert_found(&mut story, &[("client.reuses-expired-jwt", Proven)]);
    }

    #[test]
    fn all_come_back_in_one_moment() {
        // client.retry-storm
        for (n, spread, expected) in
            [(25, 40, vec![("client.retry-storm", Proven)]), (25, 1_000, vec![]), (19, 40, vec![])]
        {
            let mut story = Story::default();
            for k in 0..n {
                let (id, user) = (format!("a{k}"), format!("user{k}"));
                story.open(1_000 + k * 400, &id, &user);
                story.close(60_000, &id, Diagnosis::NODE_RESTART, "gateway", 1012);
                story.open(61_000 + k * spread, &format!("b{k}"), &user);
            }
            assert_found(&mut story, &expected);
        }
    }

    #[test]
    fn nobody_comes_back() {
        // client.no-reconnect
        let mut story = Story::default();
        story.open(1_000, "a", "ann");
        story.close(2_000, "a", Diagnosis::CONN_RESET, "network", 1006);
        story.now = 700_000;
        assert_found(&mut story, &[]);
        story.ask(&[Diagnosis::CLIENT_NO_RECONNECT]);
        assert_found(&mut story, &[("client.no-reconnect", Possible)]);
        story.open(5_000, "b", "ann");
        assert_found(&mut story, &[]);
    }
}
