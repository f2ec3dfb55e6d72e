//! The backend is reached and refuses, or fails now and then.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind, OK};

use super::{Asked, Found, Verdict, Window, facts, span, time};
use crate::report::Confidence;

/// The backend's answer when a header that it wants is absent or wrong.
const HEADERS: &str = "dj-headers";

/// Failures under load, and calls alone that passed, before load is the reason.
const MIN_UNDER_LOAD: usize = 5;
const MIN_ALONE: usize = 10;

/// Failures in a row after successes before a target is called old.
const MIN_SINCE: usize = 3;

pub(super) fn check(window: &Window<'_>, _: &Asked, verdict: &mut Verdict) {
    headers(window, verdict);
    under_load(window, verdict);
    old_target(window, verdict);
}

fn is_accepted(entry: &Entry) -> bool {
    entry.kind == Kind::Integration && entry.number("status").is_some_and(|status| status < 400.0)
}

/// All headers were sent and the backend says that some are missing: who took them away, or is the API's id unknown there?
fn headers(window: &Window<'_>, verdict: &mut Verdict) {
    let mut apis: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    for (idx, entry) in window.entries().iter().enumerate() {
        // When a header was not sent, the gateway knows, and says so itself.
        let is_own = entry.outcome == Diagnosis::BACKEND_HEADERS_MISSING.as_str();
        if entry.text("signature") == Some(HEADERS) && !is_own && entry.kind != Kind::Integration {
            apis.entry(entry.api_id.as_deref()).or_default().push(idx);
        }
    }
    for (api, entries) in apis {
        let accepted =
            window.entries().iter().rfind(|entry| is_accepted(entry) && entry.api_id.as_deref() == api);
        let sent = "The backend says \"Invalid request headers\" although all were sent";
        let mut say = |diagnosis, more: &str| {
            let facts = facts([("signature", json!(HEADERS)), ("count", json!(entries.len()))]);
            let text = format!("{sent}{more}.");
            let mut found = Found::new(window, diagnosis, Confidence::Possible, entries.clone(), text, facts);
            found.finding = found.finding.next("tidegate doctor reflect --listen 127.0.0.1:8000");
            verdict.found.push(found);
        };
        match accepted {
            None => say(Diagnosis::BACKEND_API_ID_UNKNOWN, "; no call of this API was ever accepted"),
            Some(accepted) => {
                let when = format!(
                    "; a call of this API was accepted at {}, so its id is known there",
                    time(accepted.ts)
                );
                say(Diagnosis::BACKEND_HEADERS_STRIPPED, &when);
                say(Diagnosis::BACKEND_SERVER_DROPS_FORWARDED, &when);
                verdict.excluded.insert(Diagnosis::BACKEND_API_ID_UNKNOWN);
                continue;
            }
        }
        say(Diagnosis::BACKEND_HEADERS_STRIPPED, "; something on the way may have removed them");
        say(
            Diagnosis::BACKEND_SERVER_DROPS_FORWARDED,
            "; the backend's own server may not trust the gateway",
        );
    }
}

/// 5xx only while several calls are under way.
fn under_load(window: &Window<'_>, verdict: &mut Verdict) {
    let mut targets: BTreeMap<&str, Vec<(u64, u64, bool, usize)>> = BTreeMap::new();
    for (idx, entry) in window.of_kind(Kind::Integration) {
        let (Some(target), Some(duration)) = (entry.text("target"), entry.duration_ms) else { continue };
        let begun = entry.ts.saturating_sub((duration * 1000.0) as u64);
        let is_failure = entry.number("status").is_some_and(|status| status >= 500.0);
        targets.entry(target).or_default().push((begun, entry.ts, is_failure, idx));
    }
    for (target, mut calls) in targets {
        calls.sort_unstable();
        let (mut failed, mut n_alone, mut n_parallel, mut n_alone_failed) = (Vec::new(), 0, 0, 0);
        for (call_idx, (begun, ended, is_failure, idx)) in calls.iter().enumerate() {
            let overlaps = |other: &(u64, u64, bool, usize)| other.0 < *ended && other.1 > *begun;
            // Calls are sorted by their begin; those near this one are enough to know whether it was alone.
            let near = &calls[call_idx.saturating_sub(16)..(call_idx + 17).min(calls.len())];
            let is_alone = near.iter().filter(|other| other.3 != *idx).all(|other| !overlaps(other));
            match (is_alone, is_failure) {
                (true, false) => n_alone += 1,
                (true, true) => n_alone_failed += 1,
                (false, failure) => {
                    n_parallel += 1;
                    failed.extend(failure.then_some(*idx));
                }
            }
        }
        if failed.len() < MIN_UNDER_LOAD || n_alone < MIN_ALONE || n_alone_failed > 0 {
            continue;
        }
        let text = format!(
            "{} of {n_parallel} calls that overlapped others ended with 5xx, none of {n_alone} that were alone.",
            failed.len()
        );
        let facts = facts([("target", json!(target)), ("count", json!(failed.len()))]);
        let found =
            Found::new(window, Diagnosis::BACKEND_FAILS_UNDER_LOAD, Confidence::Likely, failed, text, facts);
        verdict.found.push(found);
    }
}

/// A target that once answered and whose name or tunnel is gone now.
fn old_target(window: &Window<'_>, verdict: &mut Verdict) {
    let mut targets: BTreeMap<&str, (Option<u64>, Vec<usize>)> = BTreeMap::new();
    let gone: BTreeSet<&str> =
        BTreeSet::from([Diagnosis::INTEGRATION_DNS.as_str(), Diagnosis::LOCAL_TUNNEL_CHANGED.as_str()]);
    for (idx, entry) in window.entries().iter().enumerate() {
        let Some(target) = entry.text("target").or_else(|| entry.text("integrationTarget")) else { continue };
        let (last_success, failures) = targets.entry(target).or_default();
        if entry.outcome == OK && entry.kind == Kind::Integration {
            *last_success = Some(entry.ts);
            failures.clear();
        } else if gone.contains(entry.outcome.as_str()) {
            failures.push(idx);
        }
    }
    for (target, (last_success, failures)) in targets {
        let (Some(last_success), Some(newest)) = (last_success, failures.last()) else { continue };
        if failures.len() < MIN_SINCE {
            continue;
        }
        let ago = span(window.entry(*newest).ts.saturating_sub(last_success));
        let text =
            format!("{target} last answered at {}, {ago} before the newest failure.", time(last_success));
        let facts = facts([("target", json!(target)), ("lastSuccess", json!(time(last_success)))]);
        // That the address was replaced by another one nobody has seen.
        let mut found =
            Found::new(window, Diagnosis::LOCAL_OLD_TARGET, Confidence::Likely, failures, text, facts);
        found.finding = found.finding.next("tidegate doctor --api API_ID");
        verdict.found.push(found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;
    use Confidence::{Likely, Possible};

    #[test]
    fn an_accepted_call_excludes_an_unknown_api() {
        // DX-2 backend.api-id-unknown backend.headers-stripped backend.server-drops-forwarded
        let mut story = Story::default();
        let refused = story.refuse(1_000, "a", "", Diagnosis::BACKEND_API_ID_UNKNOWN, 400);
        refused.set("signature", HEADERS);
        assert_found(
            &mut story,
            &[
                ("backend.api-id-unknown", Possible),
                ("backend.headers-stripped", Possible),
                ("backend.server-drops-forwarded", Possible),
            ],
        );
        story.call(500, "b", "", "$connect", 200);
        assert_found(
            &mut story,
            &[("backend.headers-stripped", Possible), ("backend.server-drops-forwarded", Possible)],
        );
        assert!(story.verdict().excluded.contains(&Diagnosis::BACKEND_API_ID_UNKNOWN));
        // The gateway itself knows when it did not send one.
        let mut story = Story::default();
        story.refuse(1_000, "a", "", Diagnosis::BACKEND_HEADERS_MISSING, 400).set("signature", HEADERS);
        assert_found(&mut story, &[]);
    }

    #[test]
    fn it_fails_only_when_calls_overlap() {
        // backend.fails-under-load
        for (n_parallel, n_alone, alone_fails, expected) in [
            (5, 10, false, vec![("backend.fails-under-load", Likely)]),
            (4, 10, false, vec![]),
            (5, 9, false, vec![]),
            (5, 11, true, vec![]),
        ] {
            let mut story = Story::default();
            let mut call = |at: u64, status: u16| {
                let told =
                    story.call(at, &format!("c{at}"), "", "$connect", status).set("target", "http://app:80/");
                told.edit(|entry| entry.duration_ms = Some(100.0));
            };
            for k in 0..n_alone {
                call(1_000 + k * 1_000, if alone_fails && k == 0 { 500 } else { 200 });
            }
            for k in 0..n_parallel {
                call(60_000 + k * 10, 500);
            }
            assert_found(&mut story, &expected);
        }
    }

    #[test]
    fn a_target_that_answered_once() {
        // local.old-target
        for (failures, success, expected) in
            [(3, true, vec![("local.old-target", Likely)]), (2, true, vec![]), (3, false, vec![])]
        {
            let mut story = Story::default();
            if success {
                story.call(1_000, "a", "", "$connect", 200).set("target", "https://x.tunnel.example:443/");
            }
            for n in 0..failures {
                let told = story.refuse(9_000_000 + n, &format!("b{n}"), "", Diagnosis::INTEGRATION_DNS, 502);
                told.set("integrationTarget", "https://x.tunnel.example:443/");
            }
            assert_found(&mut story, &expected);
        }
    }
}
