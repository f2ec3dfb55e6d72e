//! Something between client and gateway answers first, limits connections, or hides who the client is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Entry;

use super::{Asked, Found, SECOND, Verdict, Window, facts, span};
use crate::report::Confidence;

/// Attempts that were given up after the same time.
const MIN_GIVEN_UP: usize = 3;

/// Half the width of "the same time".
const SAME: u64 = SECOND;

/// Nobody's proxy gives up sooner; people do.
const SHORTEST: u64 = 5 * SECOND;

/// Users behind one address before it is a proxy's.
const MIN_USERS: usize = 10;

/// Times that the count of open connections must reach the same figure.
const MIN_PLATEAU: usize = 5;

pub(super) fn check(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    gateway_timeout(window, verdict);
    collapsed(window, verdict);
    if asked.names(Diagnosis::PROXY_CAPACITY) {
        capacity(window, verdict);
    }
}

/// Handshakes that end unanswered after the same waiting time.
fn gateway_timeout(window: &Window<'_>, verdict: &mut Verdict) {
    let mut waits: Vec<(u64, usize)> = window
        .entries()
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.outcome == Diagnosis::HANDSHAKE_CLIENT_GAVE_UP.as_str())
        .filter_map(|(idx, entry)| Some(((entry.duration_ms? * 1000.0) as u64, idx)))
        .filter(|(wait, _)| *wait >= SHORTEST)
        .collect();
    waits.sort_unstable();
    let mut start = 0;
    while start < waits.len() {
        let len = waits[start..].iter().take_while(|(wait, _)| wait - waits[start].0 <= 2 * SAME).count();
        if len < MIN_GIVEN_UP || len * 2 < waits.len() {
            start += 1;
            continue;
        }
        let wait = waits[start + len / 2].0;
        let text = format!("{len} handshakes were given up after the same time, {}.", span(wait));
        let facts = facts([("count", json!(len)), ("waitedMs", json!(wait / 1000))]);
        let entries = waits[start..start + len].iter().map(|(_, idx)| *idx).collect();
        // The other half of the proof is the proxy's own answer.
        let mut found =
            Found::new(window, Diagnosis::PROXY_GATEWAY_TIMEOUT, Confidence::Likely, entries, text, facts);
        found.finding = found.finding.next("tidegate doctor wss://HOST/PATH --only 8");
        verdict.found.push(found);
        start += len;
    }
}

fn is_private(address: &str) -> bool {
    match address.parse() {
        Ok(IpAddr::V4(address)) => address.is_private() || address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
        Err(_) => false,
    }
}

/// Every client has one private address, although a proxy says whose it is.
fn collapsed(window: &Window<'_>, verdict: &mut Verdict) {
    let mut addresses: BTreeMap<&str, (BTreeSet<&str>, Vec<usize>, usize)> = BTreeMap::new();
    let attempts = window.attempts();
    for life in &attempts {
        let (Some(address), Some(idx)) = (window.address(life), life.attempt) else { continue };
        let (users, entries, n_forwarded) = addresses.entry(address).or_default();
        users.extend(window.user(life));
        entries.push(idx);
        let names = window.names(life, "headerNames");
        *n_forwarded += usize::from(names.iter().any(|name| {
            name.eq_ignore_ascii_case("x-forwarded-for") || name.eq_ignore_ascii_case("forwarded")
        }));
    }
    for (address, (users, entries, n_forwarded)) in addresses {
        let is_most = entries.len() * 10 >= attempts.len() * 9;
        // A shared address on the internet is an office; a shared private one with a forwarding header is a proxy.
        if users.len() < MIN_USERS || !is_most || !is_private(address) || n_forwarded * 10 < entries.len() * 9
        {
            continue;
        }
        let text = format!(
            "{} users came from {address} alone; the proxy there names the client in a header that is not trusted.",
            users.len()
        );
        let facts = facts([
            ("address", json!(address)),
            ("users", json!(users.len())),
            ("count", json!(entries.len())),
        ]);
        let mut found = Found::new(
            window,
            Diagnosis::PROXY_CLIENT_IP_COLLAPSED,
            Confidence::Proven,
            entries,
            text,
            facts,
        );
        found.finding = found.finding.next("tidegate doctor --config FILE");
        verdict.found.push(found);
    }
}

/// Is it a figure that a limit has? Worker connections and file limits are powers of two or end in two zeros; one less
/// or two less are used by the proxy itself.
fn is_round(count: usize) -> bool {
    (count..=count + 2).any(|count| count >= 100 && (count % 100 == 0 || count.is_power_of_two()))
}

/// The count of open connections through one proxy stops at a round figure, again and again.
fn capacity(window: &Window<'_>, verdict: &mut Verdict) {
    let mut peers: BTreeMap<&str, Vec<(u64, i64, &Entry, usize)>> = BTreeMap::new();
    for life in window.attempts() {
        let (Some(peer), Some(opened)) = (window.text(life, "peer"), window.opened_at(life)) else {
            continue;
        };
        let (Some(idx), Some(attempt)) = (life.attempt, window.attempt(life)) else { continue };
        let changes = peers.entry(peer).or_default();
        changes.push((opened, 1, attempt, idx));
        if let Some(closed) = window.closed_at(life) {
            changes.push((closed, -1, attempt, idx));
        }
    }
    for (peer, mut changes) in peers {
        changes.sort_by_key(|(at, change, ..)| (*at, *change));
        let (mut open, mut most) = (0_i64, 0_i64);
        let mut reached = Vec::new();
        for (_, change, _, idx) in changes {
            open += change;
            if open > most {
                (most, reached) = (open, Vec::new());
            }
            if open == most && change == 1 {
                reached.push(idx);
            }
        }
        let most = usize::try_from(most).unwrap_or_default();
        if reached.len() < MIN_PLATEAU || !is_round(most) {
            continue;
        }
        let text = format!(
            "Through {peer} never more than {most} connections were open, a figure reached {} times.",
            reached.len()
        );
        let facts = facts([("peer", json!(peer)), ("count", json!(most))]);
        let mut found =
            Found::new(window, Diagnosis::PROXY_CAPACITY, Confidence::Likely, reached, text, facts);
        found.finding = found.finding.next("tidegate doctor wss://HOST/PATH --only 8,12");
        verdict.found.push(found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;
    use Confidence::{Likely, Proven};

    #[test]
    fn handshakes_given_up_after_the_same_time() {
        // proxy.gateway-timeout
        for (waits, expected) in [
            (vec![30_000.0, 30_100.0, 30_900.0], vec![("proxy.gateway-timeout", Likely)]),
            (vec![30_000.0, 30_100.0, 45_000.0], vec![]),
            (vec![1_000.0, 1_100.0, 1_050.0], vec![]),
        ] {
            let mut story = Story::default();
            for (n, wait) in waits.into_iter().enumerate() {
                let told = story.refuse(
                    n as u64 * 40_000,
                    &format!("c{n}"),
                    "",
                    Diagnosis::HANDSHAKE_CLIENT_GAVE_UP,
                    499,
                );
                told.edit(|entry| entry.duration_ms = Some(wait));
            }
            assert_found(&mut story, &expected);
        }
    }

    #[test]
    fn every_client_has_the_address_of_the_proxy() {
        // proxy.client-ip-collapsed
        for (users, address, header, expected) in [
            (10, "10.0.0.5", "X-Forwarded-For", vec![("proxy.client-ip-collapsed", Proven)]),
            (9, "10.0.0.5", "X-Forwarded-For", vec![]),
            (10, "203.0.113.5", "X-Forwarded-For", vec![]),
            (10, "10.0.0.5", "Host", vec![]),
        ] {
            let mut story = Story::default();
            for n in 0..users {
                let told = story.open(1_000 + n * 7_000, &format!("c{n}"), &format!("user{n}"));
                told.set("headerNames", json!([header]))
                    .edit(|entry| entry.address = Some(address.to_owned()));
            }
            assert_found(&mut story, &expected);
        }
    }

    #[test]
    fn a_round_figure_is_only_suggested() {
        // proxy.capacity DX-2
        for (limit, expected) in [(128, vec![("proxy.capacity", Likely)]), (117, vec![])] {
            let mut story = Story::default();
            for n in 0..limit + 6_u64 {
                let at = 1_000 + n * 1_000;
                if n >= limit {
                    story.close(at - 500, &format!("c{}", n - limit), Diagnosis::CONN_RESET, "network", 1006);
                }
                story.open(at, &format!("c{n}"), &format!("user{n}")).set("peer", "10.0.0.5");
            }
            assert_found(&mut story, &[]);
            story.ask(&[Diagnosis::PROXY_CAPACITY]);
            assert_found(&mut story, &expected);
        }
    }
}
