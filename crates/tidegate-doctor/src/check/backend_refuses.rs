//! The backend is reached and refuses, or fails now and then.

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind};
use tidegate_core::signature::drops_forwarded;

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

/// Calls that went well are told by the handshake alone.
fn is_accepted(entry: &Entry) -> bool {
    let status = match entry.kind {
        Kind::Integration => entry.number("status"),
        Kind::Handshake => entry.number("integrationStatus"),
        _ => None,
    };
    status.is_some_and(|status| status < 400.0)
}

/// All headers were sent and the backend says that some are missing: who took them away, or is the API's id unknown there?
fn headers(window: &Window<'_>, verdict: &mut Verdict) {
    let mut apis: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    for (idx, entry) in window.entries().iter().enumerate() {
        // When a header was not sent, the gateway knows, and says so itself.
        let is_own = entry.outcome == Diagnosis::BACKEND_HEADERS_MISSING.as_str();
        if entry.text("signature") == Some(HEADERS) && !is_own && entry.kind == Kind::Integration {
            apis.entry(entry.api_id.as_deref()).or_default().push(idx);
        }
    }
    for (api, entries) in apis {
        let accepted =
            window.entries().iter().rfind(|entry| is_accepted(entry) && entry.api_id.as_deref() == api);
        let sent = "The backend says \"Invalid request headers\" although all were sent";
        let server =
            entries.iter().rev().find_map(|idx| window.entry(*idx).text("server").and_then(drops_forwarded));
        let mut say = |diagnosis, more: &str| {
            let mut facts = facts([("signature", json!(HEADERS)), ("count", json!(entries.len()))]);
            let (mut confidence, mut text) = (Confidence::Possible, format!("{sent}{more}."));
            // S0-104
            if let Some(server) = server.filter(|_| diagnosis == Diagnosis::BACKEND_SERVER_DROPS_FORWARDED) {
                confidence = Confidence::Likely;
                text = format!(
                    "{sent}{more}. By its answers the backend's web server is {server}, which drops X-Forwarded-* of \
                     peers that it was not told to trust."
                );
                facts.insert("server".to_owned(), server.into());
            }
            let mut found = Found::new(window, diagnosis, confidence, entries.clone(), text, facts);
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

/// A call for a handshake.
struct Call {
    begun: u64,
    ended: u64,
    is_failure: bool,
    idx: usize,
}

/// Calls for handshakes, by API: those that failed have an entry of their own, the others stand in the handshake's.
fn calls<'a>(window: &Window<'a>) -> BTreeMap<&'a str, Vec<Call>> {
    let mut apis: BTreeMap<&str, Vec<Call>> = BTreeMap::new();
    for (idx, entry) in window.entries().iter().enumerate() {
        let millis = match entry.kind {
            Kind::Integration if entry.text("eventType") == Some("CONNECT") => entry.duration_ms,
            Kind::Handshake if is_accepted(entry) => entry.number("integrationMs"),
            _ => None,
        };
        let (Some(millis), Some(api)) = (millis, entry.api_id.as_deref()) else { continue };
        let begun = entry.ts.saturating_sub((millis * 1000.0) as u64);
        let is_failure = entry.number("status").is_some_and(|status| (500.0..600.0).contains(&status));
        apis.entry(api).or_default().push(Call { begun, ended: entry.ts, is_failure, idx });
    }
    apis
}

/// 5xx only while several calls are under way.
fn under_load(window: &Window<'_>, verdict: &mut Verdict) {
    for mut calls in calls(window).into_values() {
        calls.sort_unstable_by_key(|call| (call.begun, call.idx));
        let (mut failed, mut n_alone, mut n_parallel, mut n_alone_failed) = (Vec::new(), 0, 0, 0);
        for (call_idx, call) in calls.iter().enumerate() {
            let overlaps = |other: &Call| other.begun < call.ended && other.ended > call.begun;
            // Calls are sorted by their begin; those near this one are enough to know whether it was alone.
            let near = &calls[call_idx.saturating_sub(16)..(call_idx + 17).min(calls.len())];
            let is_alone = near.iter().filter(|other| other.idx != call.idx).all(|other| !overlaps(other));
            match (is_alone, call.is_failure) {
                (true, false) => n_alone += 1,
                (true, true) => n_alone_failed += 1,
                (false, failure) => {
                    n_parallel += 1;
                    failed.extend(failure.then_some(call.idx));
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
        let target = failed.last().and_then(|idx| window.entry(*idx).text("target"));
        let facts = facts([("target", json!(target)), ("count", json!(failed.len()))]);
        let found =
            Found::new(window, Diagnosis::BACKEND_FAILS_UNDER_LOAD, Confidence::Likely, failed, text, facts);
        verdict.found.push(found);
    }
}

/// An API whose backend once answered and whose name or tunnel is gone now.
fn old_target(window: &Window<'_>, verdict: &mut Verdict) {
    let mut apis: BTreeMap<&str, (Option<u64>, Vec<usize>)> = BTreeMap::new();
    let gone = [Diagnosis::INTEGRATION_DNS.as_str(), Diagnosis::LOCAL_TUNNEL_CHANGED.as_str()];
    for (idx, entry) in window.entries().iter().enumerate() {
        let Some(api) = entry.api_id.as_deref() else { continue };
        let (last_success, failures) = apis.entry(api).or_default();
        if is_accepted(entry) {
            *last_success = Some(entry.ts);
            failures.clear();
        } else if entry.kind == Kind::Integration && gone.contains(&entry.outcome.as_str()) {
            failures.push(idx);
        }
    }
    for (api, (last_success, failures)) in apis {
        let (Some(last_success), Some(newest)) = (last_success, failures.last()) else { continue };
        if failures.len() < MIN_SINCE {
            continue;
        }
        let newest = window.entry(*newest);
        let target = newest.text("target").unwrap_or("the backend");
        let ago = span(newest.ts.saturating_sub(last_success));
        let text = format!(
            "{target} is gone; the backend of this API last answered at {}, {ago} before the newest failure.",
            time(last_success)
        );
        let facts = facts([("target", json!(target)), ("lastSuccess", json!(time(last_success)))]);
        // That the address was replaced by another one nobody has seen.
        let mut found =
            Found::new(window, Diagnosis::LOCAL_OLD_TARGET, Confidence::Likely, failures, text, facts);
        found.finding = found.finding.next(format!("tidegate doctor --api {api}"));
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
        let refuse = |story: &mut Story, why: Diagnosis| {
            let told = story.call(1_000, "a", "", "$connect", 400).set("signature", HEADERS);
            told.edit(|entry| entry.outcome = why.as_str().to_owned());
        };
        refuse(&mut story, Diagnosis::BACKEND_API_ID_UNKNOWN);
        assert_found(
            &mut story,
            &[
                ("backend.api-id-unknown", Possible),
                ("backend.headers-stripped", Possible),
                ("backend.server-drops-forwarded", Possible),
            ],
        );
        story.open(500, "b", "").set("integrationStatus", 200);
        assert_found(
            &mut story,
            &[("backend.headers-stripped", Possible), ("backend.server-drops-forwarded", Possible)],
        );
        assert!(story.verdict().excluded.contains(&Diagnosis::BACKEND_API_ID_UNKNOWN));
        // S0-104: a server that is known to do it, by the header of its answers.
        let told =
            story.call(2_000, "c", "", "$connect", 400).set("signature", HEADERS).set("server", "waitress");
        told.edit(|entry| entry.outcome = Diagnosis::BACKEND_SERVER_DROPS_FORWARDED.as_str().to_owned());
        assert_found(
            &mut story,
            &[("backend.headers-stripped", Possible), ("backend.server-drops-forwarded", Likely)],
        );
        // The gateway itself knows when it did not send one.
        let mut story = Story::default();
        refuse(&mut story, Diagnosis::BACKEND_HEADERS_MISSING);
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
            // As the gateway tells them: a call of its own where it failed, else within the handshake.
            let mut call = |at: u64, status: u16| {
                let id = format!("c{at}");
                if status < 300 {
                    story.open(at, &id, "").set("integrationStatus", status).set("integrationMs", 100);
                } else {
                    let told = story.call(at, &id, "", "$connect", status).set("eventType", "CONNECT");
                    told.set("target", "http://app:80/").edit(|entry| entry.duration_ms = Some(100.0));
                }
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
                story.open(1_000, "a", "").set("integrationStatus", 200);
            }
            for n in 0..failures {
                let told = story.add(9_000_000 + n, Kind::Integration, Some(Diagnosis::INTEGRATION_DNS));
                told.set("target", "https://x.tunnel.example:443/");
            }
            assert_found(&mut story, &expected);
        }
    }
}
