//! Pushed messages do not reach the browser.
//!
//! Whether a message was expected only the person knows who asks; so this answers when it is asked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind, OK};

use super::{Asked, Found, Life, SECOND, Verdict, Window, facts, gone, span, time};
use crate::report::Confidence;

/// Posts to old ids that are more than a race with a reconnect.
const MIN_STALE: usize = 2;

/// How long a backend may still use the old id: its `$connect` and `$disconnect` are handled within seconds.
const GRACE: u64 = 10 * SECOND;

/// Posts of one caller that belong to one send to a group.
const ONE_SEND: u64 = 2 * SECOND;

/// Others that got a post before the lack of one says anything.
const MIN_OTHERS: usize = 2;

const IDS: [Diagnosis; 9] = [
    Diagnosis::PUSH_NEVER_SENT,
    Diagnosis::PUSH_WRONG_CHANNEL,
    Diagnosis::PUSH_CHANGED_CHANNEL,
    Diagnosis::PUSH_SESSION_MARKED_CLOSED,
    Diagnosis::PUSH_CLIENT_HANDLER_ERROR,
    Diagnosis::PUSH_NOT_JSON,
    Diagnosis::PUSH_STALE_RECORDS,
    Diagnosis::PUSH_CONNECTION_CLOSED,
    Diagnosis::PUSH_GONE,
];

pub(super) fn check(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    stale_records(window, verdict);
    let is_narrow = !asked.keys.is_empty() || asked.user.is_some();
    if !IDS.iter().any(|id| asked.names(*id)) || !is_narrow {
        return;
    }
    let about = window.attempts().into_iter().filter(|life| asked.is_about(window, life));
    for life in about {
        if let Some(opened) = window.opened_at(life) {
            one(window, &Receiver { life, opened }, verdict);
        }
    }
}

/// Sends to old ids of users who had a newer one for a while.
fn stale_records(window: &Window<'_>, verdict: &mut Verdict) {
    let mut by_user: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut live: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for life in window.attempts() {
        if let (Some(user), Some(opened)) = (window.user(life), window.opened_at(life)) {
            let closed = window.closed_at(life).unwrap_or(u64::MAX);
            live.entry(user).or_default().push((opened, closed));
        }
    }
    for (idx, post) in window.of_kind(Kind::Post).filter(|(_, post)| gone::is_gone(post)) {
        let life = post.connection_id.as_deref().and_then(|id| window.life(id));
        let Some(user) = life.and_then(|life| window.user(life)) else { continue };
        let has_newer = live.get(user).is_some_and(|spans| {
            spans.iter().any(|(opened, closed)| opened.saturating_add(GRACE) <= post.ts && *closed > post.ts)
        });
        if has_newer {
            by_user.entry(user).or_default().push(idx);
        }
    }
    for entries in by_user.into_values().filter(|entries| entries.len() >= MIN_STALE) {
        let text = format!(
            "{} posts went to ids that had ended, while the user had a newer connection.",
            entries.len()
        );
        let facts = facts([("count", json!(entries.len()))]);
        let found =
            Found::new(window, Diagnosis::PUSH_STALE_RECORDS, Confidence::Proven, entries, text, facts);
        verdict.found.push(found);
    }
}

/// A connection that should have got something.
struct Receiver<'w, 'a> {
    life: &'w Life<'a>,
    opened: u64,
}

impl Receiver<'_, '_> {
    fn is_open_at(&self, window: &Window<'_>, at: u64) -> bool {
        self.opened <= at && window.closed_at(self.life).is_none_or(|closed| at < closed)
    }
}

fn channel_of(post: &Entry) -> Option<&str> {
    (post.text("target") == Some("channel")).then(|| post.text("channel")).flatten()
}

fn one(window: &Window<'_>, receiver: &Receiver<'_, '_>, verdict: &mut Verdict) {
    let life = receiver.life;
    // Joined and left, with times.
    let moves: Vec<(u64, &str, bool)> = life
        .entries
        .iter()
        .map(|idx| window.entry(*idx))
        .filter(|entry| entry.kind == Kind::Membership)
        .filter_map(|entry| Some((entry.ts, entry.text("channel")?, entry.text("change")? != "leave")))
        .collect();
    let is_member = |channel: &str, at: u64| {
        let last = moves.iter().rfind(|(ts, name, _)| *ts <= at && *name == channel);
        last.is_some_and(|(_, _, joined)| *joined)
    };
    let posts: Vec<(usize, &Entry)> = window.of_kind(Kind::Post).collect();
    let reaches = |post: &Entry| match post.text("target") {
        Some("channel") => channel_of(post).is_some_and(|channel| is_member(channel, post.ts)),
        Some("user") => post.user.is_some() && post.user.as_deref() == window.user(life),
        Some("broadcast") => post.api_id == window.entry(life.entries[0]).api_id,
        _ => post.connection_id.as_deref() == Some(life.key),
    };
    let (mine, others): (Vec<_>, Vec<_>) = posts.into_iter().partition(|(_, post)| reaches(post));
    let say = |verdict: &mut Verdict, diagnosis, confidence, entries: Vec<usize>, text: String| {
        let facts =
            facts([("channels", json!(moves.iter().map(|(_, name, _)| *name).collect::<BTreeSet<_>>()))]);
        let mut found = Found::new(window, diagnosis, confidence, entries, text, facts);
        // What it is about is the connection, also where posts to others show it.
        found.finding.connection_id = Some(life.key.to_owned());
        verdict.found.push(found);
    };
    let own: Vec<usize> = life.attempt.into_iter().collect();

    let late: Vec<usize> = mine
        .iter()
        .filter(|(_, post)| window.closed_at(life).is_some_and(|closed| post.ts >= closed))
        .map(|(idx, _)| *idx)
        .collect();
    let refused: Vec<usize> =
        mine.iter().filter(|(_, post)| gone::is_gone(post)).map(|(idx, _)| *idx).collect();
    if let Some(newest) = refused.last().map(|idx| window.entry(*idx)) {
        let text = format!("{} posts were answered with 410; why: {}.", refused.len(), newest.outcome);
        say(verdict, Diagnosis::PUSH_GONE, Confidence::Proven, refused, text);
    }
    if !late.is_empty() {
        let text = format!("{} posts came after the connection had ended.", late.len());
        say(verdict, Diagnosis::PUSH_CONNECTION_CLOSED, Confidence::Proven, late, text);
    }
    let delivered: Vec<(usize, &Entry)> = mine
        .iter()
        .copied()
        .filter(|(_, post)| post.outcome == OK && receiver.is_open_at(window, post.ts))
        .collect();
    let not_json: Vec<usize> = delivered
        .iter()
        .filter(|(_, post)| post.fact("isJson") == Some(&json!(false)))
        .map(|(idx, _)| *idx)
        .collect();
    if !not_json.is_empty() {
        let text =
            format!("{} of {} texts that were delivered are not JSON.", not_json.len(), delivered.len());
        say(verdict, Diagnosis::PUSH_NOT_JSON, Confidence::Proven, not_json, text);
    } else if !delivered.is_empty() {
        let text = format!("{} messages were written to the connection, which stayed open.", delivered.len());
        let entries = delivered.iter().map(|(idx, _)| *idx).collect();
        say(verdict, Diagnosis::PUSH_CLIENT_HANDLER_ERROR, Confidence::Possible, entries, text);
    }
    let during: Vec<(usize, &Entry)> =
        others.into_iter().filter(|(_, post)| receiver.is_open_at(window, post.ts)).collect();
    let mut changed: Vec<(usize, String)> = Vec::new();
    let mut wrong: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (idx, post) in &during {
        let Some(channel) = channel_of(post) else { continue };
        match moves.iter().rfind(|(ts, name, joined)| *ts <= post.ts && *name == channel && !*joined) {
            Some((left, ..)) => {
                changed.push((*idx, format!("It left {channel} at {}, before the post.", time(*left))))
            }
            None => wrong.entry(channel).or_default().push(*idx),
        }
    }
    if let Some((_, text)) = changed.last().cloned() {
        let entries = changed.into_iter().map(|(idx, _)| idx).collect();
        say(verdict, Diagnosis::PUSH_CHANGED_CHANNEL, Confidence::Proven, entries, text);
    }
    // Sends to channels of others are ordinary, unless this one got nothing at all.
    if delivered.is_empty() && !wrong.is_empty() && !moves.is_empty() {
        let names = wrong.keys().copied().collect::<Vec<_>>().join(", ");
        let text = format!("Posts went to {names}; this connection was never in there.");
        say(
            verdict,
            Diagnosis::PUSH_WRONG_CHANNEL,
            Confidence::Proven,
            wrong.into_values().flatten().collect(),
            text,
        );
    }
    if mine.is_empty() {
        match marked_closed(&during) {
            Some(entries) => {
                let text =
                    format!("Others got {} posts in one send, this open connection none.", entries.len());
                say(verdict, Diagnosis::PUSH_SESSION_MARKED_CLOSED, Confidence::Likely, entries, text);
            }
            None => {
                let until = window.closed_at(life).unwrap_or(window.now());
                let lasted = span(until.saturating_sub(receiver.opened));
                let text = format!(
                    "Nobody posted to it, its user or its channels in the {lasted} that it was open."
                );
                say(verdict, Diagnosis::PUSH_NEVER_SENT, Confidence::Proven, own, text);
            }
        }
    }
}

/// Posts of one caller to several connections at nearly the same time.
fn marked_closed(posts: &[(usize, &Entry)]) -> Option<Vec<usize>> {
    let single: Vec<_> = posts
        .iter()
        .filter(|(_, post)| post.text("target") == Some("connection") && post.outcome == OK)
        .collect();
    for (start, (_, first)) in single.iter().enumerate() {
        let same = single[start..].iter().take_while(|(_, post)| post.ts - first.ts <= ONE_SEND);
        let same: Vec<_> = same.filter(|(_, post)| post.text("caller") == first.text("caller")).collect();
        let ids: BTreeSet<_> = same.iter().filter_map(|(_, post)| post.connection_id.as_deref()).collect();
        if ids.len() >= MIN_OTHERS {
            return Some(same.iter().map(|(idx, _)| *idx).collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;
    use Confidence::{Likely, Possible, Proven};

    fn story() -> Story {
        let mut story = Story::default();
        story.open(1_000, "a", "ann");
        story.ask(&IDS);
        story.asked.keys.insert("a".to_owned());
        story
    }

    fn join(story: &mut Story, at: u64, channel: &str, change: &str) {
        let told = story.add(at, Kind::Membership, None).set("channel", channel).set("change", change);
        told.edit(|entry| entry.connection_id = Some("a".to_owned()));
    }

    fn publish(story: &mut Story, at: u64, channel: &str) {
        story.add(at, Kind::Post, None).set("target", "channel").set("channel", channel).set("members", 3);
    }

    #[test]
    fn nobody_posted() {
        // DX-19 push.never-sent
        assert_found(&mut story(), &[("push.never-sent", Proven)]);
        let mut nobody_asked = story();
        nobody_asked.asked = Asked::default();
        assert_found(&mut nobody_asked, &[]);
    }

    #[test]
    fn it_was_delivered() {
        // push.client-handler-error push.not-json
        let mut story = story();
        story.post(2_000, "a", None).set("isJson", true);
        assert_found(&mut story, &[("push.client-handler-error", Possible)]);
        story.post(3_000, "a", None).set("isJson", false);
        assert_found(&mut story, &[("push.not-json", Proven)]);
    }

    #[test]
    fn it_came_too_late() {
        // push.connection-closed push.gone
        let mut story = story();
        story.close(2_000, "a", Diagnosis::GONE_NETWORK, "network", 1006);
        story.post(3_000, "a", Some(Diagnosis::GONE_NETWORK));
        assert_found(&mut story, &[("push.gone", Proven), ("push.connection-closed", Proven)]);
        let found = story.found();
        let gone = found.iter().find(|found| found.finding.id == "push.gone").expect("push.gone");
        assert!(gone.finding.evidence[0].text.contains("connections.gone-network"));
    }

    #[test]
    fn channels() {
        // push.wrong-channel push.changed-channel
        let mut wrong = story();
        join(&mut wrong, 1_100, "room-1", "join");
        publish(&mut wrong, 2_000, "room-2");
        assert_found(&mut wrong, &[("push.wrong-channel", Proven), ("push.never-sent", Proven)]);
        let mut changed = story();
        join(&mut changed, 1_100, "room-1", "join");
        join(&mut changed, 1_500, "room-1", "leave");
        publish(&mut changed, 2_000, "room-1");
        assert_found(&mut changed, &[("push.changed-channel", Proven), ("push.never-sent", Proven)]);
        let mut right = story();
        join(&mut right, 1_100, "room-1", "join");
        publish(&mut right, 2_000, "room-1");
        publish(&mut right, 2_000, "room-2");
        assert_found(&mut right, &[("push.client-handler-error", Possible)]);
    }

    #[test]
    fn others_got_it() {
        // push.session-marked-closed DX-2
        let mut story = story();
        story.post(2_000, "b", None);
        assert_found(&mut story, &[("push.never-sent", Proven)]);
        story.post(2_500, "c", None);
        assert_found(&mut story, &[("push.session-marked-closed", Likely)]);
    }

    #[test]
    fn old_ids_of_a_user_with_a_newer_one() {
        // push.stale-records
        for (posts, expected) in [(2, true), (1, false)] {
            let mut story = Story::default();
            story.open(1_000, "old", "ann");
            story.close(2_000, "old", Diagnosis::GONE_NETWORK, "network", 1006);
            story.open(20_000, "new", "ann");
            for n in 0..posts {
                story.post(30_000 + n, "old", Some(Diagnosis::GONE_NETWORK));
            }
            let found = story.found();
            assert_eq!(found.iter().any(|found| found.finding.id == "push.stale-records"), expected);
        }
    }
}
