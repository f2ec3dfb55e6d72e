//! Broadcasts reach only some clients, or nobody.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind, OK};

use super::{Asked, Found, MILLI, SECOND, Verdict, Window, facts, names, span};
use crate::report::Confidence;

/// Connections with a role before "none of them is in the channel" says anything.
const MIN_OF_A_ROLE: usize = 3;

/// Posts one after the other that are a broadcast by hand.
const MIN_SERIES: usize = 10;

/// Longest pause inside such a series while nothing is in the way.
const PAUSE: u64 = 500 * MILLI;

/// Spread of one series that people notice.
const SPREAD: u64 = 5 * SECOND;

pub(super) fn check(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    no_subscribers(window, asked, verdict);
    if asked.names(Diagnosis::PUBLISH_ROLE_NOT_MAPPED) {
        role_not_mapped(window, verdict);
    }
    if asked.names(Diagnosis::PUBLISH_SERIAL_SEND) {
        serial_send(window, verdict);
    }
}

/// An empty channel is ordinary; one whose name looks like that of a full one is not.
fn no_subscribers(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    let is_asked = asked.names(Diagnosis::PUBLISH_NO_SUBSCRIBERS);
    let mut channels: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (idx, post) in window.of_kind(Kind::Post) {
        let is_empty = post.number("members") == Some(0.0);
        let Some(channel) = post.text("channel").filter(|_| is_empty) else { continue };
        if is_asked || !names(post.fact("similar")).is_empty() {
            channels.entry(channel).or_default().push(idx);
        }
    }
    for (channel, entries) in channels {
        let newest = entries.last().map(|idx| window.entry(*idx));
        let similar = newest.map(|post| names(post.fact("similar"))).unwrap_or_default();
        let hint = match similar.is_empty() {
            true => String::new(),
            false => format!(" Channels with members and a similar name: {}.", similar.join(", ")),
        };
        let text = format!("{} publications to {channel} found no member.{hint}", entries.len());
        let facts = facts([("channel", json!(channel)), ("members", json!(0)), ("similar", json!(similar))]);
        let found =
            Found::new(window, Diagnosis::PUBLISH_NO_SUBSCRIBERS, Confidence::Proven, entries, text, facts);
        verdict.found.push(found);
    }
}

/// Nobody of a role has ever joined a channel that others join and that is published to.
fn role_not_mapped(window: &Window<'_>, verdict: &mut Verdict) {
    let mut roles: BTreeMap<&str, (Vec<usize>, BTreeSet<&str>)> = BTreeMap::new();
    for life in window.attempts() {
        let (Some(role), Some(attempt)) = (window.text(life, "role"), life.attempt) else { continue };
        if window.opened_at(life).is_none() {
            continue;
        }
        let (attempts, channels) = roles.entry(role).or_default();
        attempts.push(attempt);
        let entries = life.entries.iter().map(|idx| window.entry(*idx));
        let joined =
            entries.filter(|entry| entry.kind == Kind::Membership && entry.text("change") == Some("join"));
        channels.extend(joined.filter_map(|entry| entry.text("channel")));
    }
    let published: BTreeSet<&str> =
        window.of_kind(Kind::Post).filter_map(|(_, post)| post.text("channel")).collect();
    for (role, (attempts, channels)) in &roles {
        if attempts.len() < MIN_OF_A_ROLE {
            continue;
        }
        let others: BTreeSet<&str> = roles
            .iter()
            .filter(|(other, _)| *other != role)
            .flat_map(|(_, (_, channels))| channels.iter().copied())
            .collect();
        for channel in published.intersection(&others).filter(|channel| !channels.contains(*channel)) {
            let text = format!(
                "None of {} connections with the role {role} is in {channel}; others are.",
                attempts.len()
            );
            let facts = facts([("role", json!(role)), ("channel", json!(channel))]);
            let confidence = Confidence::Likely;
            let found = Found::new(
                window,
                Diagnosis::PUBLISH_ROLE_NOT_MAPPED,
                confidence,
                attempts.clone(),
                text,
                facts,
            );
            verdict.found.push(found);
        }
    }
}

/// Posts with their positions, in the order of time.
type Series<'a> = Vec<(usize, &'a Entry)>;

/// One message to many by one post after the other, with a long pause in between.
fn serial_send(window: &Window<'_>, verdict: &mut Verdict) {
    let mut series: BTreeMap<(Option<&str>, u64), Series<'_>> = BTreeMap::new();
    for (idx, post) in window.of_kind(Kind::Post) {
        let (Some(size), Some("connection")) = (post.number("size"), post.text("target")) else { continue };
        if post.outcome == OK {
            series.entry((post.text("caller"), size as u64)).or_default().push((idx, post));
        }
    }
    for posts in series.into_values() {
        let mut run: Series<'_> = Vec::new();
        let mut ids: BTreeSet<&str> = BTreeSet::new();
        for post in posts.into_iter().map(Some).chain([None]) {
            let continues = match (post, run.last()) {
                // A second message to the same connection begins another broadcast.
                (Some((_, post)), Some((_, last))) => {
                    post.ts - last.ts <= 10 * SPREAD
                        && !ids.contains(post.connection_id.as_deref().unwrap_or_default())
                }
                (Some(_), None) => true,
                (None, _) => false,
            };
            if !continues {
                report_series(window, &run, verdict);
                run.clear();
                ids.clear();
            }
            ids.extend(post.and_then(|(_, post)| post.connection_id.as_deref()));
            run.extend(post);
        }
    }
}

fn report_series(window: &Window<'_>, run: &[(usize, &Entry)], verdict: &mut Verdict) {
    let (Some((_, first)), Some((_, last))) = (run.first(), run.last()) else { return };
    let spread = last.ts - first.ts;
    let times: Vec<u64> = run.iter().map(|(_, post)| post.ts).collect();
    let pauses: Vec<u64> = super::intervals(&times).into_iter().filter(|pause| *pause > PAUSE).collect();
    // Steady slowness is a slow backend, not one client in the way.
    if run.len() < MIN_SERIES || spread < SPREAD || pauses.is_empty() || pauses.len() * 4 > run.len() {
        return;
    }
    let longest = pauses.iter().max().copied().unwrap_or_default();
    let text = format!(
        "{} posts of one size within {}, one after the other; the longest pause was {}.",
        run.len(),
        span(spread),
        span(longest)
    );
    let facts = facts([("count", json!(run.len())), ("spreadMs", json!(spread / MILLI))]);
    let entries = run.iter().map(|(idx, _)| *idx).collect();
    verdict.found.push(Found::new(
        window,
        Diagnosis::PUBLISH_SERIAL_SEND,
        Confidence::Likely,
        entries,
        text,
        facts,
    ));
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;
    use Confidence::{Likely, Proven};

    fn publish(story: &mut Story, members: u64, similar: serde_json::Value) {
        let told = story.add(9_000, Kind::Post, None).set("target", "channel").set("channel", "room1");
        told.set("members", members).set("similar", similar);
    }

    #[test]
    fn an_empty_channel_beside_a_full_one() {
        // publish.no-subscribers
        let mut story = Story::default();
        publish(&mut story, 0, json!([]));
        publish(&mut story, 2, json!(["room-1"]));
        assert_found(&mut story, &[]);
        story.ask(&[Diagnosis::PUBLISH_NO_SUBSCRIBERS]);
        assert_found(&mut story, &[("publish.no-subscribers", Proven)]);
        let mut story = Story::default();
        publish(&mut story, 0, json!(["room-1"]));
        assert_found(&mut story, &[("publish.no-subscribers", Proven)]);
    }

    #[test]
    fn a_role_that_is_in_no_channel() {
        // publish.role-not-mapped
        for (n, expected) in [(3, vec![("publish.role-not-mapped", Likely)]), (2, vec![])] {
            let mut story = Story::default();
            for k in 0..n {
                story.open(1_000 + k, &format!("s{k}"), "ann").set("role", "staff");
            }
            story.open(2_000, "b", "bob").set("role", "user");
            let told = story.add(2_100, Kind::Membership, None).set("channel", "room1").set("change", "join");
            told.edit(|entry| entry.connection_id = Some("b".to_owned()));
            publish(&mut story, 1, json!([]));
            story.ask(&[Diagnosis::PUBLISH_ROLE_NOT_MAPPED]);
            assert_found(&mut story, &expected);
        }
    }

    #[test]
    fn one_slow_client_in_a_series() {
        // publish.serial-send
        for (pause, expected) in [(6_000, vec![("publish.serial-send", Likely)]), (4_000, vec![])] {
            let mut story = Story::default();
            for k in 0..12_u64 {
                let at = 1_000 + k * 20 + if k > 5 { pause } else { 0 };
                story.post(at, &format!("c{k}"), None).set("size", 500);
            }
            assert_found(&mut story, &[]);
            story.ask(&[Diagnosis::PUBLISH_SERIAL_SEND]);
            assert_found(&mut story, &expected);
        }
    }
}
