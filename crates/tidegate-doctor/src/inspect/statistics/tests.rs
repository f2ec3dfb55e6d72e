use super::*;
use crate::check::tests::{API, START, Story};
use crate::check::{DAY, MILLI};

const DAY_MS: u64 = 86_400_000;

fn judged(story: &mut Story) -> (Probe, Vec<Finding>) {
    story.entries.sort_by_key(|entry| entry.ts);
    let covered_since = Some(START - DAY);
    let view = JournalView { api_id: API, entries: &story.entries, now: story.now(), covered_since };
    let (mut probes, findings) = of_journal(&view);
    (probes.remove(0), findings)
}

fn ids(findings: &[Finding]) -> Vec<(&str, Confidence)> {
    findings.iter().map(|finding| (finding.id.as_str(), finding.confidence)).collect()
}

#[test]
fn a_few_posts_to_ids_that_have_just_ended_are_no_finding() {
    // DX-2 DX-50
    let mut story = Story::default();
    for n in 0..100_u64 {
        let id = format!("c{n}");
        story.open(n * 1_000, &id, &format!("u{n}"));
        story.post(n * 1_000 + 10, &id, None);
        story.close(n * 1_000 + 500, &id, Diagnosis::CLIENT_PAGE_LEFT, "client", 1001);
        if n % 3 == 0 {
            // One that was on its way.
            story.post(n * 1_000 + 510, &id, Some(Diagnosis::GONE_CLIENT_CLOSED));
        }
        if n % 40 == 0 {
            story.message(n * 1_000 + 20, &id, "u", "send", Some(Diagnosis::INTEGRATION_TIMEOUT));
        }
    }
    story
        .add(200_000, Kind::Message, None)
        .set("handled", 400)
        .edit(|entry| entry.route_key = Some("send".into()));
    let (probe, findings) = judged(&mut story);
    assert_eq!(probe.measurements["posts"], json!({ "all": 134, "gone": 34, "share": 25 }));
    assert_eq!(ids(&findings), [("connections.stale-record", Confidence::Likely)]);
    // One less than what is worth a word.
    let mut kept = 0;
    story.entries.retain(|entry| {
        let is_gone = entry.outcome == Diagnosis::GONE_CLIENT_CLOSED.as_str() && entry.kind == Kind::Post;
        kept += u32::from(is_gone);
        !is_gone || kept <= 19
    });
    let (probe, findings) = judged(&mut story);
    assert_eq!(ids(&findings), []);
    assert_eq!(probe.measurements["routes"][0]["handled"], 400);
    assert_eq!(probe.measurements["routes"][0]["failed"], json!({ "integration.timeout": 3 }));
    assert_eq!(probe.measurements["disconnects"]["ends"], 100);
}

#[test]
fn a_success_that_stands_for_many_counts_as_many() {
    // DX-50
    let mut story = Story::default();
    story.post(1_000, "a", None).set("sampledOneIn", 64);
    let (probe, _) = judged(&mut story);
    assert_eq!(probe.measurements["posts"]["all"], 64);
}

#[test]
fn posts_to_old_ids() {
    // DX-50 cleanup.not-scheduled
    let mut story = Story::default();
    for n in 0..6 {
        let told = story.post(3 * DAY_MS + n, &format!("old{n}"), Some(Diagnosis::GONE_CLIENT_CLOSED));
        told.set("closedAt", time(START + n * MILLI));
    }
    let (_, findings) = judged(&mut story);
    let scheduled: Vec<&Finding> =
        findings.iter().filter(|finding| finding.id == "cleanup.not-scheduled").collect();
    assert_eq!(scheduled.len(), 1, "{findings:?}");
    assert_eq!((scheduled[0].confidence, scheduled[0].api_id.as_deref()), (Confidence::Proven, Some(API)));
}

#[test]
fn a_route_that_refuses() {
    // DX-50 perm.view-too-strict
    let denied = |story: &mut Story, users: &[&str]| {
        for (n, user) in users.iter().enumerate() {
            let why = Some(Diagnosis::PERM_USER_LACKS);
            story.message(1_000 + n as u64, user, user, "edit", why).set("signature", "dj-perm");
        }
    };
    let mut story = Story::default();
    denied(&mut story, &["ann", "bob", "cyd"]);
    let (_, findings) = judged(&mut story);
    assert_eq!(ids(&findings), [("perm.view-too-strict", Confidence::Likely)]);
    // One user's lack is not the API's.
    let mut story = Story::default();
    denied(&mut story, &["ann"]);
    assert_eq!(ids(&judged(&mut story).1), []);
    // Another answer has no rule; its share is told.
    for (handled, expected) in [(20, vec![("integration.timeout", Confidence::Proven)]), (21, vec![])] {
        let mut story = Story::default();
        for n in 0..5 {
            story.message(1_000 + n, "a", "ann", "slow", Some(Diagnosis::INTEGRATION_TIMEOUT));
        }
        let told = story.add(60_000, Kind::Message, None).set("handled", handled);
        told.edit(|entry| entry.route_key = Some("slow".to_owned()));
        assert_eq!(ids(&judged(&mut story).1), expected);
    }
}

#[test]
fn ends_that_the_backend_never_heard_of() {
    // DX-50 cleanup.disconnect-lost
    let mut story = Story::default();
    for n in 0..10_u64 {
        let id = format!("c{n}");
        story.close(n * 1_000, &id, Diagnosis::CLIENT_PAGE_LEFT, "client", 1001);
        let status = if n < 2 { None } else { Some(404) };
        let outcome = status.map_or(Diagnosis::CLEANUP_DISCONNECT_LOST, |_| Diagnosis::BACKEND_REFUSED);
        let told = story.add(n * 1_000 + 5, Kind::Integration, Some(outcome)).set("eventType", "DISCONNECT");
        match status {
            Some(status) => told.set("status", status),
            None => told.set("lost", true).set("causeId", "integration.refused"),
        };
    }
    let (probe, findings) = judged(&mut story);
    assert_eq!(
        probe.measurements["disconnects"],
        json!({ "ends": 10, "lost": 2, "failedCalls": 8, "refused": 8 })
    );
    assert_eq!(
        ids(&findings),
        [("cleanup.disconnect-lost", Confidence::Proven), ("backend.refused", Confidence::Proven)]
    );
    assert_eq!(findings[0].evidence[0].facts["causeId"], "integration.refused");
}

#[test]
fn a_journal_that_is_full_too_early() {
    // DX-48 log.retention-too-short
    let limits = JournalLimits { days: Some(7), bytes: Some(1000), entries: Some(100) };
    let now = START + 10 * DAY;
    for (entries, bytes, age, expected) in [
        (90, 10, HOUR, Some("journal.max_entries")),
        (10, 900, HOUR, Some("journal.max_bytes")),
        (89, 899, HOUR, None),
        // Full, and yet a day is there.
        (100, 1000, DAY + HOUR, None),
    ] {
        let state = JournalState { entries, bytes, oldest: Some(now - age), ..JournalState::default() };
        let (_, findings) = of_reach(&state, &limits, now);
        let setting = findings.first().map(|finding| finding.evidence[0].facts["setting"].clone());
        assert_eq!(setting, expected.map(Value::from), "{entries} {bytes}");
    }
}

#[test]
fn a_clean_up_that_does_not_run() {
    // DX-50 cleanup.not-scheduled
    let now = START + 10 * DAY;
    let stored = |n_overdue| [Stored { kind: RecordKind::Token, oldest: Some(START / MILLI), n_overdue }];
    let is_found =
        |stored: &[Stored], last_run, up_for| !of_records(stored, last_run, up_for, now).1.is_empty();
    assert!(!is_found(&stored(0), Some(now - HOUR), DAY));
    assert!(!is_found(&stored(0), None, HOUR));
    assert!(is_found(&stored(1), Some(now - HOUR), HOUR));
    assert!(is_found(&stored(0), Some(now - 3 * HOUR), DAY));
    assert!(is_found(&stored(0), None, DAY));
}
