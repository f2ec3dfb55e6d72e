//! Old sessions pile up in the backend: its posts to ids that ended long ago show it.

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind};

use super::{Asked, DAY, Found, Verdict, Window, facts, gone, span};
use crate::report::Confidence;

/// Age of an end from which a clean-up should have seen it. Source: the row.
const OLD: u64 = DAY;

/// Posts to old ids, and their share in hundredths, before one speaks of a missing clean-up.
const MIN_STALE: usize = 5;
const MIN_SHARE: usize = 10;

pub(super) fn check(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    let mut callers: BTreeMap<&str, Vec<(usize, &Entry)>> = BTreeMap::new();
    for (idx, post) in window.of_kind(Kind::Post) {
        callers.entry(post.text("caller").unwrap_or("somebody")).or_default().push((idx, post));
    }
    for (caller, posts) in callers {
        shares(window, asked, caller, &posts, verdict);
    }
    disconnect_lost(window, verdict);
}

fn is_stale(window: &Window<'_>, post: &Entry) -> bool {
    gone::is_gone(post)
        && gone::closed_at(window, post).is_some_and(|closed| post.ts.saturating_sub(closed) > OLD)
}

fn shares(
    window: &Window<'_>,
    asked: &Asked,
    caller: &str,
    posts: &[(usize, &Entry)],
    verdict: &mut Verdict,
) {
    let share = |posts: &[(usize, &Entry)]| match posts.len() {
        0 => 0,
        n => posts.iter().filter(|(_, post)| is_stale(window, post)).count() * 100 / n,
    };
    let stale: Vec<usize> =
        posts.iter().filter(|(_, post)| is_stale(window, post)).map(|(idx, _)| *idx).collect();
    let all = share(posts);
    if stale.len() < MIN_STALE || all < MIN_SHARE {
        return;
    }
    let facts = facts([("caller", json!(caller)), ("count", json!(stale.len())), ("share", json!(all))]);
    let text = format!("{all} of 100 posts of {caller} go to ids that ended more than a day before.");
    let found = Found::new(
        window,
        Diagnosis::CLEANUP_NOT_SCHEDULED,
        Confidence::Proven,
        stale.clone(),
        text,
        facts.clone(),
    );
    verdict.found.push(found);
    let middle = window.now() - window.now().saturating_sub(window.covered_since()) / 2;
    let split = posts.partition_point(|(_, post)| post.ts < middle);
    let (before, after) = (share(&posts[..split]), share(&posts[split..]));
    // A clean-up that runs would bring the share down from one half to the next.
    if split == 0 || before < MIN_SHARE || after * 10 < before * 8 {
        return;
    }
    let text = format!("The share does not fall: {before} of 100 in the first half, {after} in the second.");
    for diagnosis in [Diagnosis::CLEANUP_NOT_PRUNING, Diagnosis::CLEANUP_WRONG_ENVIRONMENT] {
        if asked.names(diagnosis) {
            let found = Found::new(
                window,
                diagnosis,
                Confidence::Possible,
                stale.clone(),
                text.as_str(),
                facts.clone(),
            );
            verdict.found.push(found);
        }
    }
}

/// Posts to ids whose `$disconnect` the backend never got.
fn disconnect_lost(window: &Window<'_>, verdict: &mut Verdict) {
    let mut lost: BTreeMap<&str, usize> = BTreeMap::new();
    for (idx, entry) in window.entries().iter().enumerate() {
        if let (true, Some(id)) =
            (entry.outcome == Diagnosis::CLEANUP_DISCONNECT_LOST.as_str(), entry.connection_id.as_deref())
        {
            lost.insert(id, idx);
        }
    }
    for (id, lost_idx) in lost {
        let event = window.entry(lost_idx);
        let Some(life) = window.life(id) else { continue };
        let later = life.entries.iter().copied().filter(|idx| {
            let post = window.entry(*idx);
            post.kind == Kind::Post && post.ts > event.ts && gone::is_gone(post)
        });
        let posts: Vec<usize> = later.collect();
        let Some(newest) = posts.last() else { continue };
        let text = format!(
            "The $disconnect of this id did not reach the backend, which still posted to it {} later, {} times in all.",
            span(window.entry(*newest).ts.saturating_sub(event.ts)),
            posts.len()
        );
        let facts = facts([("count", json!(posts.len())), ("errorClass", json!(event.text("errorClass")))]);
        let mut entries = posts;
        entries.push(lost_idx);
        let found =
            Found::new(window, Diagnosis::CLEANUP_DISCONNECT_LOST, Confidence::Proven, entries, text, facts);
        verdict.found.push(found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{START, Story, ids};
    use super::super::{MILLI, time};
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn story(stale: u64, fresh: u64) -> Story {
        let mut story = Story::default();
        for n in 0..stale {
            let told = story.post(3 * DAY_MS + n, &format!("old{n}"), Some(Diagnosis::GONE_CLIENT_CLOSED));
            told.set("closedAt", time(START + n * MILLI));
        }
        for n in 0..fresh {
            story.post(3 * DAY_MS + n, &format!("new{n}"), None);
        }
        story
    }

    #[test]
    fn the_share_of_old_ids() {
        // cleanup.not-scheduled
        let is_found =
            |mut story: Story| story.found().iter().any(|found| found.finding.id == "cleanup.not-scheduled");
        assert!(is_found(story(5, 45)));
        assert!(!is_found(story(5, 46)));
        assert!(!is_found(story(4, 0)));
    }

    #[test]
    fn a_share_that_does_not_fall() {
        // cleanup.not-pruning cleanup.wrong-environment DX-2
        let mut story = story(10, 10);
        for n in 0..10_u64 {
            let told = story.post(8 * DAY_MS + n, &format!("old{n}"), Some(Diagnosis::GONE_CLIENT_CLOSED));
            told.set("closedAt", time(START + n * MILLI));
        }
        story.now = 9 * DAY_MS;
        story.ask(&[Diagnosis::CLEANUP_NOT_PRUNING, Diagnosis::CLEANUP_WRONG_ENVIRONMENT]);
        let found = story.found();
        let possible: Vec<_> =
            found.iter().filter(|found| found.finding.confidence == Confidence::Possible).collect();
        assert_eq!(possible.len(), 2, "{:?}", ids(&found));
        story.entries.retain(|entry| entry.ts < START + 4 * DAY);
        for n in 0..100 {
            story.post(8 * DAY_MS + n, &format!("new{n}"), None);
        }
        assert!(story.found().iter().all(|found| found.finding.confidence != Confidence::Possible));
    }

    #[test]
    fn a_lost_disconnect_and_what_follows() {
        // cleanup.disconnect-lost
        let mut story = Story::default();
        let told = story.add(1_000, Kind::Integration, Some(Diagnosis::CLEANUP_DISCONNECT_LOST));
        told.edit(|entry| entry.connection_id = Some("a".to_owned()));
        assert_eq!(ids(&story.found()), Vec::<&str>::new());
        story.post(2_000, "a", Some(Diagnosis::GONE_NETWORK));
        assert_eq!(ids(&story.found()), ["cleanup.disconnect-lost"]);
    }
}
