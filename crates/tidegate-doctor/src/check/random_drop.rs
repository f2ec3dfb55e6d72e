//! It drops at random, mostly with 1006.

use tidegate_core::diagnosis::Diagnosis;

use super::{Asked, Found, Life, MINUTE, SECOND, Verdict, Window, facts, is_browser, span, time};
use crate::report::Confidence;

/// From the end to the return of a device from another network.
const RETURN: u64 = 5 * MINUTE;

/// Before the end the device may be back already: pings stay unanswered for a minute and a half at most.
const UNNOTICED: u64 = 90 * SECOND;

/// Silence of a client after which it has not noticed the loss.
const UNAWARE: u64 = 2 * MINUTE;

/// Silence of a client after which it does not come back: longer than any usual backoff.
const LONG: u64 = 10 * MINUTE;

/// Text of a Python client that closes by itself.
const KEEPALIVE: &str = "keepalive ping timeout";

pub(super) fn check(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    for life in window.lives() {
        let (Some(close_idx), Some(close)) = (life.close, window.close(life)) else { continue };
        let mut say = |diagnosis, confidence, mut entries: Vec<usize>, text: String| {
            entries.push(close_idx);
            let names = [
                "closeCode",
                "ageMs",
                "pingsUnanswered",
                "lastPongMs",
                "heartbeatUsualMs",
                "heartbeatPauses",
            ];
            let mut proof = facts([]);
            proof.extend(
                names.iter().filter_map(|name| Some(((*name).to_owned(), close.fact(name)?.clone()))),
            );
            verdict.found.push(Found::new(window, diagnosis, confidence, entries, text, proof));
        };
        let code = close.number("clientCode").or_else(|| close.number("closeCode"));
        let says_keepalive = close.text("clientReason").is_some_and(|reason| reason.contains(KEEPALIVE));
        if close.text("by") == Some("client") && code == Some(1011.0) && says_keepalive {
            let text =
                "The client closed with 1011 because its own ping was not answered in time.".to_owned();
            say(Diagnosis::CLIENT_KEEPALIVE_1011, Confidence::Proven, vec![], text);
        }
        if close.outcome == Diagnosis::CONN_PING_TIMEOUT.as_str() {
            let next = next_attempt(window, life, close.ts.saturating_sub(UNNOTICED));
            match next {
                Some(next)
                    if next.at <= close.ts + RETURN
                        && next.address != window.address(life)
                        && !was_there_before(window, life, &next) =>
                {
                    let text = format!("The same user came back at {} from another address.", time(next.at));
                    say(Diagnosis::CONN_NETWORK_CHANGE, Confidence::Likely, vec![next.idx], text);
                }
                next if asked.names(Diagnosis::CONN_HALF_OPEN_CLIENT)
                    && asked.is_about(window, life)
                    && next.as_ref().map_or(window.now(), |next| next.at) >= close.ts + UNAWARE =>
                {
                    let text = match next {
                        Some(next) => {
                            format!("The client came back only {} after the drop.", span(next.at - close.ts))
                        }
                        None => "The client has not come back since the drop.".to_owned(),
                    };
                    say(Diagnosis::CONN_HALF_OPEN_CLIENT, Confidence::Possible, vec![], text);
                }
                _ => {}
            }
        }
        let is_asked = asked.names(Diagnosis::CLIENT_CRASHED) && asked.is_about(window, life);
        if is_asked && close.outcome == Diagnosis::CONN_RESET.as_str() && window.now() >= close.ts + LONG {
            let next = next_attempt(window, life, close.ts);
            if next.is_none_or(|next| next.at >= close.ts + LONG) {
                let text = format!(
                    "The end came without a close frame, and no attempt followed within {}.",
                    span(LONG)
                );
                say(Diagnosis::CLIENT_CRASHED, Confidence::Possible, vec![], text);
            }
        }
        if let Some(text) = throttled(window, life) {
            say(Diagnosis::CLIENT_BACKGROUND_THROTTLE, Confidence::Proven, vec![], text);
        }
    }
}

/// The next attempt of a user.
pub(super) struct Next<'a> {
    pub(super) idx: usize,
    pub(super) at: u64,
    pub(super) address: Option<&'a str>,
}

/// The first attempt of the same client after `after` and after this life's own; none too when nobody knows whose it is.
pub(super) fn next_attempt<'a>(window: &Window<'a>, life: &Life<'_>, after: u64) -> Option<Next<'a>> {
    let user = window.user(life)?;
    let own = life.attempt.map(|idx| window.entry(idx).ts).unwrap_or_default();
    window
        .attempts_of(user)
        .filter(|other| other.key != life.key)
        .filter_map(|other| {
            let idx = other.attempt?;
            Some(Next { idx, at: window.entry(idx).ts, address: window.address(other) })
        })
        .find(|next| next.at > after && next.at > own)
}

/// Did the user come from that address while the connection lived? Then it is another device, not another network.
fn was_there_before(window: &Window<'_>, life: &Life<'_>, next: &Next<'_>) -> bool {
    let of_user = window.user(life).into_iter().flat_map(|user| window.attempts_of(user));
    let others = of_user.filter(|other| other.key != life.key && other.attempt != Some(next.idx));
    others
        .filter(|other| window.address(other) == next.address)
        .any(|other| window.attempt(other).is_some_and(|attempt| attempt.ts < next.at))
}

/// Regular heartbeats of a browser, then one in each minute until the end: timers of a tab in the background. The gateway
/// watches the pauses of each connection and says at its end what it saw.
fn throttled(window: &Window<'_>, life: &Life<'_>) -> Option<String> {
    let close = window.close(life)?;
    if !is_browser(window.text(life, "userAgent")) || close.text("by") == Some("client") {
        return None;
    }
    let (usual, n_pauses) = (close.number("heartbeatUsualMs")?, close.number("heartbeatPauses")?);
    let usual = span((usual * 1000.0) as u64);
    Some(format!(
        "The client sent something every {usual}, then only once a minute, {n_pauses} times in a row, until the end."
    ))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;
    use Confidence::{Likely, Possible, Proven};

    fn dropped(why: Diagnosis) -> Story {
        let mut story = Story::default();
        story.open(1_000, "a", "ann").set("userAgent", "Mozilla/5.0");
        story.close(600_000, "a", why, "network", 1006).set("ageMs", 599_000);
        story
    }

    #[test]
    fn another_network() {
        // conn.network-change DX-2
        for (address, at, expected) in [
            ("192.0.2.9", 660_000, vec![("conn.network-change", Likely)]),
            ("198.51.100.3", 660_000, vec![]),
            ("192.0.2.9", 901_000, vec![]),
        ] {
            let mut story = dropped(Diagnosis::CONN_PING_TIMEOUT);
            story.open(at, "b", "ann").edit(|entry| entry.address = Some(address.to_owned()));
            assert_found(&mut story, &expected);
        }
    }

    #[test]
    fn a_client_that_does_not_notice_or_died() {
        // conn.half-open-client client.crashed
        let mut story = dropped(Diagnosis::CONN_PING_TIMEOUT);
        story.now = 720_000;
        assert_found(&mut story, &[]);
        story.ask(&[Diagnosis::CONN_HALF_OPEN_CLIENT]);
        assert_found(&mut story, &[("conn.half-open-client", Possible)]);
        story.now = 719_000;
        assert_found(&mut story, &[]);
        let mut story = dropped(Diagnosis::CONN_RESET);
        story.ask(&[Diagnosis::CLIENT_CRASHED]);
        story.now = 1_200_000;
        assert_found(&mut story, &[("client.crashed", Possible)]);
        story.open(700_000, "b", "ann");
        assert_found(&mut story, &[]);
    }

    #[test]
    fn the_keepalive_of_a_python_client() {
        // client.keepalive-1011
        for (reason, expected) in [(KEEPALIVE, vec![("client.keepalive-1011", Proven)]), ("bye", vec![])] {
            let mut story = Story::default();
            story.open(1_000, "a", "ann");
            let told = story.close(60_000, "a", Diagnosis::GONE_CLIENT_CLOSED, "client", 1011);
            told.set("clientCode", 1011).set("clientReason", reason);
            assert_found(&mut story, &expected);
        }
    }

    #[test]
    fn timers_of_a_tab_in_the_background() {
        // client.background-throttle
        for (agent, by, pauses, expected) in [
            ("Mozilla/5.0", "network", Some(3), vec![("client.background-throttle", Proven)]),
            ("Mozilla/5.0", "gateway", Some(2), vec![("client.background-throttle", Proven)]),
            ("Mozilla/5.0", "client", Some(3), vec![]),
            ("python-websockets/17", "network", Some(3), vec![]),
            ("Mozilla/5.0", "network", None, vec![]),
        ] {
            let mut story = Story::default();
            story.open(1_000, "a", "ann").set("userAgent", agent);
            let why = if by == "client" { Diagnosis::GONE_CLIENT_CLOSED } else { Diagnosis::CONN_RESET };
            let close = story.close(600_000, "a", why, by, 1006).set("ageMs", 599_000);
            if let Some(pauses) = pauses {
                close.set("heartbeatUsualMs", 25_000).set("heartbeatPauses", pauses);
            }
            assert_found(&mut story, &expected);
        }
    }
}
