//! "Rate limit exceeded": why so many attempts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind, OK};

use super::{
    Asked, Found, Life, MINUTE, SECOND, Verdict, Window, facts, intervals, is_browser, is_constant, is_open,
    median, span,
};
use crate::report::Confidence;

/// Attempts before a refusal that belong to it: the longest window that policies usually have.
const LOOK_BACK: u64 = 10 * MINUTE;

/// Longest interval of a loop. Source: the row; a client that waits 2 s and more makes 30 attempts in a minute at most.
const LOOP: u64 = 2 * SECOND;

/// Attempts that make a loop: four intervals, so that one coincidence is not enough.
const MIN_LOOP: usize = 5;

/// Failures for another reason that make it the reason.
const MIN_FAILING: usize = 3;

/// Tabs of one user that are many: page, second page and a reload that has not ended yet are ordinary.
const MIN_TABS: usize = 4;

/// Tokens that were issued before their use is compared.
const MIN_TOKENS: usize = 10;

/// Clients that make "many distinct users".
const MIN_USERS: usize = 5;

/// Attempts without any success that look automated: no person presses reload so often in ten minutes.
const MIN_AUTOMATED: usize = 50;

/// Refusals of one more token.
const LIMITED: [Diagnosis; 2] = [Diagnosis::TOKENREQ_RATE_LIMITED, Diagnosis::RATELIMIT_TOKEN_REQUESTS];

/// A client, and API and stage that it came to.
type ClientOfStage<'a> = (String, Option<&'a str>, Option<&'a str>);

/// Was it refused because there were too many attempts?
fn is_limited(window: &Window<'_>, life: &Life<'_>, attempt: &Entry) -> bool {
    let is_429 = attempt.number("status") == Some(429.0);
    // A node or stage that is full says nothing about its clients; it answers otherwise.
    let by_gateway = attempt.outcome == Diagnosis::RATELIMIT_CONNECT.as_str()
        || (is_429 && attempt.outcome == Diagnosis::LIMIT_CONNECTIONS.as_str())
        || (is_429 && attempt.outcome.starts_with("ratelimit."));
    !is_open(attempt) && (by_gateway || window.text(life, "signature") == Some("dj-rate"))
}

pub(super) fn check(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    let mut n_reasons = 0;
    let mut limited_clients: BTreeMap<String, bool> = BTreeMap::new();
    // Limits are a stage's own.
    let mut clients: BTreeMap<ClientOfStage<'_>, Vec<&Life<'_>>> = BTreeMap::new();
    for (client, lives) in window.by_client() {
        for life in lives {
            let Some(attempt) = window.attempt(life) else { continue };
            let stage = (attempt.api_id.as_deref(), attempt.stage.as_deref());
            clients.entry((client.clone(), stage.0, stage.1)).or_default().push(life);
        }
    }
    for ((client, ..), lives) in clients {
        let limited: Vec<_> = lives
            .iter()
            .filter(|life| window.attempt(life).is_some_and(|a| is_limited(window, life, a)))
            .collect();
        let (Some(first), Some(last)) = (limited.first(), limited.last()) else { continue };
        let (Some(first), Some(last)) = (window.attempt(first), window.attempt(last)) else { continue };
        let from = first.ts.saturating_sub(LOOK_BACK);
        let recent: Vec<&Life<'_>> = lives
            .iter()
            .copied()
            .filter(|life| window.attempt(life).is_some_and(|attempt| (from..=last.ts).contains(&attempt.ts)))
            .collect();
        let group = Group { window, client: &client, recent, limited_at: first.ts };
        let before = verdict.found.len();
        group.failing_retries(verdict);
        group.reconnect_loop(verdict);
        group.many_tabs(verdict);
        group.abuse(verdict.found.len() > before, verdict);
        n_reasons += verdict.found.len() - before;
        let is_good = group.success_share_is_high();
        // Whoever is good at one stage and not at another is not good.
        limited_clients.entry(client).and_modify(|known| *known &= is_good).or_insert(is_good);
    }
    token_requests(window, asked, verdict);
    if n_reasons == 0 {
        let before = verdict.found.len();
        too_low(window, &limited_clients, verdict);
        if verdict.found.len() == before {
            too_low_for_an_address(window, verdict);
        }
    }
}

/// The attempts of one client around its refusals.
struct Group<'w, 'a> {
    window: &'w Window<'a>,
    client: &'w str,
    recent: Vec<&'w Life<'a>>,
    limited_at: u64,
}

impl Group<'_, '_> {
    fn attempts(&self) -> impl Iterator<Item = (usize, &Life<'_>, &Entry)> {
        let attempts = self.recent.iter().copied();
        attempts.filter_map(|life| Some((life.attempt?, life, self.window.attempt(life)?)))
    }

    fn entries(&self) -> Vec<usize> {
        self.recent.iter().filter_map(|life| life.attempt).collect()
    }

    /// Attempts that were not refused for being too many.
    fn others(&self) -> Vec<(usize, &Entry)> {
        let attempts = self.attempts().filter(|(_, life, attempt)| !is_limited(self.window, life, attempt));
        attempts.map(|(idx, _, attempt)| (idx, attempt)).collect()
    }

    fn success_share_is_high(&self) -> bool {
        let others = self.others();
        let n_open = others.iter().filter(|(_, attempt)| is_open(attempt)).count();
        !others.is_empty() && n_open * 5 >= others.len() * 4
    }

    /// The client fails for another reason, again and again; that reason comes first.
    fn failing_retries(&self, verdict: &mut Verdict) {
        let others = self.others();
        let mut by_outcome: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (idx, attempt) in others.iter().filter(|(_, attempt)| !is_open(attempt)) {
            by_outcome.entry(&attempt.outcome).or_default().push(*idx);
        }
        let Some((outcome, failed)) = by_outcome.into_iter().max_by_key(|(_, failed)| failed.len()) else {
            return;
        };
        let Some(reason) = Diagnosis::find(outcome) else { return };
        if failed.len() < MIN_FAILING || failed.len() * 2 <= others.len() {
            return;
        }
        let text =
            format!("{} of {} attempts before the limit ended with {outcome}.", failed.len(), others.len());
        let facts = facts([("count", json!(failed.len())), ("outcome", json!(outcome))]);
        let reason_text = format!("{} attempts of one client ended so, until it was limited.", failed.len());
        let mut first =
            Found::new(self.window, reason, Confidence::Proven, failed, reason_text, facts.clone());
        // It is the reason of the refusals, too, and belongs to the answer about one of them.
        first.entries = self.entries();
        verdict.found.push(first);
        let mut second = Found::new(
            self.window,
            Diagnosis::RATELIMIT_FAILING_RETRIES,
            Confidence::Proven,
            self.entries(),
            text,
            facts,
        );
        second.finding =
            second.finding.fix_first(format!("First remove {outcome}: the limit is only its consequence."));
        verdict.found.push(second);
    }

    fn reconnect_loop(&self, verdict: &mut Verdict) {
        let times: Vec<u64> = self.attempts().map(|(_, _, attempt)| attempt.ts).collect();
        let intervals = intervals(&times);
        let interval = median(&intervals);
        if times.len() < MIN_LOOP || interval >= LOOP || !is_constant(&intervals) || !self.is_one_at_a_time()
        {
            return;
        }
        let text =
            format!("{} attempts of one client, {} apart, without any backoff.", times.len(), span(interval));
        let facts = facts([("count", json!(times.len())), ("intervalMs", json!(interval / 1000))]);
        let found = Found::new(
            self.window,
            Diagnosis::RATELIMIT_RECONNECT_LOOP,
            Confidence::Proven,
            self.entries(),
            text,
            facts,
        );
        verdict.found.push(found);
    }

    /// Does most of what was tried come after the end of what was tried before? Several tabs that open together are no loop.
    fn is_one_at_a_time(&self) -> bool {
        let is_over = |pair: &[&Life<'_>]| {
            let (Some(before), Some(after)) = (self.window.attempt(pair[0]), self.window.attempt(pair[1]))
            else {
                return false;
            };
            !is_open(before) || self.window.closed_at(pair[0]).is_some_and(|closed| closed <= after.ts)
        };
        let n_over = self.recent.windows(2).filter(|pair| is_over(pair)).count();
        n_over * 5 >= self.recent.len().saturating_sub(1) * 4
    }

    fn many_tabs(&self, verdict: &mut Verdict) {
        if !self.client.starts_with("user ") {
            return;
        }
        let mut by_agent: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (idx, life, _) in self.attempts() {
            let opened = self.window.opened_at(life).is_some_and(|opened| opened <= self.limited_at);
            let still = self.window.closed_at(life).is_none_or(|closed| closed > self.limited_at);
            if let (true, Some(agent)) = (opened && still, self.window.text(life, "userAgent")) {
                by_agent.entry(agent).or_default().push(idx);
            }
        }
        let Some(mut open) = by_agent.into_values().find(|open| open.len() >= MIN_TABS) else { return };
        let n_open = open.len();
        let text =
            format!("{n_open} connections of one user and one program were open when the limit was reached.");
        let facts = facts([("count", json!(n_open))]);
        // It is the reason of the refusals, which are what somebody asks about.
        let limited = self.attempts().filter(|(_, life, attempt)| is_limited(self.window, life, attempt));
        open.extend(limited.map(|(idx, ..)| idx));
        verdict.found.push(Found::new(
            self.window,
            Diagnosis::RATELIMIT_MANY_TABS,
            Confidence::Proven,
            open,
            text,
            facts,
        ));
    }

    fn abuse(&self, has_other_reason: bool, verdict: &mut Verdict) {
        let n_open = self.attempts().filter(|(_, _, attempt)| is_open(attempt)).count();
        let agent = self.recent.first().and_then(|life| self.window.text(life, "userAgent"));
        if self.recent.len() < MIN_AUTOMATED
            || n_open > 0
            || is_browser(agent)
            || self.client.starts_with("user ")
        {
            return;
        }
        let text =
            format!("{} attempts from one address, none successful, by no browser.", self.recent.len());
        let facts = facts([("count", json!(self.recent.len())), ("userAgent", json!(agent))]);
        let confidence = if has_other_reason { Confidence::Possible } else { Confidence::Likely };
        verdict.found.push(Found::new(
            self.window,
            Diagnosis::RATELIMIT_ABUSE,
            confidence,
            self.entries(),
            text,
            facts,
        ));
    }
}

/// Many clients at the limit, all of them well-behaved.
fn too_low(window: &Window<'_>, clients: &BTreeMap<String, bool>, verdict: &mut Verdict) {
    let n_good = clients.values().filter(|is_high| **is_high).count();
    if n_good < MIN_USERS || n_good * 5 < clients.len() * 4 {
        return;
    }
    let limited = window
        .attempts()
        .into_iter()
        .filter(|life| window.attempt(life).is_some_and(|a| is_limited(window, life, a)));
    let limited: Vec<usize> = limited.filter_map(|life| life.attempt).collect();
    let text =
        format!("{} clients reached the limit; four of five of their other attempts succeed.", clients.len());
    let facts = facts([("clients", json!(clients.len()))]);
    verdict.found.push(Found::new(
        window,
        Diagnosis::RATELIMIT_TOO_LOW,
        Confidence::Proven,
        limited,
        text,
        facts,
    ));
}

/// Many users behind one address, all of them well-behaved, and together over the limit of one address.
fn too_low_for_an_address(window: &Window<'_>, verdict: &mut Verdict) {
    #[derive(Default)]
    struct Shared<'a> {
        users: BTreeSet<&'a str>,
        limited: Vec<usize>,
        n_open: usize,
        n_others: usize,
    }
    let mut addresses: BTreeMap<&str, Shared<'_>> = BTreeMap::new();
    for life in window.attempts() {
        let (Some(address), Some(idx), Some(attempt)) =
            (window.address(life), life.attempt, window.attempt(life))
        else {
            continue;
        };
        let shared = addresses.entry(address).or_default();
        let of_address = attempt.text("of").is_some_and(|of| of.contains("address"));
        if is_limited(window, life, attempt) && of_address {
            shared.limited.push(idx);
            continue;
        }
        shared.n_others += 1;
        if is_open(attempt) {
            shared.n_open += 1;
            shared.users.extend(window.user(life));
        }
    }
    for (address, shared) in addresses {
        let is_good = shared.n_open * 5 >= shared.n_others * 4;
        if shared.limited.is_empty() || shared.users.len() < MIN_USERS || !is_good {
            continue;
        }
        let text = format!(
            "{} users share the address {address}; four of five of their other attempts succeed, and together they reach the limit of one address.",
            shared.users.len()
        );
        let facts = facts([("address", json!(address)), ("users", json!(shared.users.len()))]);
        let diagnosis = Diagnosis::RATELIMIT_TOO_LOW;
        verdict.found.push(Found::new(window, diagnosis, Confidence::Proven, shared.limited, text, facts));
    }
}

/// What one user asked for.
#[derive(Debug, Default)]
struct Requests {
    entries: Vec<usize>,
    n_issued: usize,
    n_used: usize,
    is_limited: bool,
}

/// Tokens that are requested and not used.
fn token_requests(window: &Window<'_>, asked: &Asked, verdict: &mut Verdict) {
    let used: BTreeSet<&str> =
        window.attempts().iter().filter_map(|life| window.text(life, "fingerprint")).collect();
    let mut requests: BTreeMap<(Option<&str>, &str), Requests> = BTreeMap::new();
    for (idx, entry) in window.of_kind(Kind::Token) {
        let of_attempt = entry.connection_id.is_some();
        let Some(who) = entry.user.as_deref().or(entry.address.as_deref()).filter(|_| !of_attempt) else {
            continue;
        };
        let requests = requests.entry((entry.api_id.as_deref(), who)).or_default();
        let is_limited = LIMITED.iter().any(|diagnosis| entry.outcome == diagnosis.as_str());
        // What was refused for another reason is no token that anybody could use.
        if !is_limited && entry.outcome != OK {
            continue;
        }
        requests.entries.push(idx);
        requests.is_limited |= is_limited;
        requests.n_issued += usize::from(!is_limited);
        requests.n_used +=
            usize::from(entry.text("fingerprint").is_some_and(|fingerprint| used.contains(fingerprint)));
    }
    for Requests { entries, n_issued, n_used, is_limited } in requests.into_values() {
        let is_waste = n_issued >= MIN_TOKENS && n_used * 2 < n_issued;
        if !is_waste || !(is_limited || asked.names(Diagnosis::RATELIMIT_TOKEN_REQUESTS)) {
            continue;
        }
        let text = format!("{n_issued} tokens were issued to one user, {n_used} of them used.");
        let facts = facts([("count", json!(n_issued)), ("used", json!(n_used))]);
        let found =
            Found::new(window, Diagnosis::RATELIMIT_TOKEN_REQUESTS, Confidence::Proven, entries, text, facts);
        verdict.found.push(found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Story, assert_found};
    use super::*;
    use Confidence::{Likely, Possible, Proven};

    /// Attempts at a fixed distance, the last `limited` of them over the limit.
    fn attempts(story: &mut Story, n: u64, every: u64, limited: u64, why: Option<Diagnosis>, user: &str) {
        for k in 0..n {
            let (at, id) = (1_000 + k * every, format!("{user}{k}"));
            match why {
                _ if k >= n - limited => story.refuse(at, &id, user, Diagnosis::RATELIMIT_CONNECT, 429),
                Some(why) => story.refuse(at, &id, user, why, 403),
                None => story.open(at, &id, user),
            };
        }
    }

    #[test]
    fn the_reason_of_failing_retries_comes_first() {
        // DX-19 ratelimit.failing-retries ratelimit.connect
        let mut story = Story::default();
        attempts(&mut story, 6, 5_000, 2, Some(Diagnosis::ROLE_INSUFFICIENT), "ann");
        assert_found(&mut story, &[("role.insufficient", Proven), ("ratelimit.failing-retries", Proven)]);
        // Two failures are not yet a series.
        let mut story = Story::default();
        attempts(&mut story, 3, 5_000, 1, Some(Diagnosis::ROLE_INSUFFICIENT), "ann");
        assert_found(&mut story, &[]);
    }

    #[test]
    fn a_loop_has_constant_intervals_under_two_seconds() {
        // ratelimit.reconnect-loop
        for (every, n, expected) in
            [(1_000, 6, vec![("ratelimit.reconnect-loop", Proven)]), (2_000, 6, vec![]), (1_000, 4, vec![])]
        {
            let mut story = Story::default();
            attempts(&mut story, n, every, 2, None, "ann");
            // What stays open side by side is no loop.
            assert_found(&mut story, &[]);
            for k in 0..n - 2 {
                story.close(
                    1_300 + k * every,
                    &format!("ann{k}"),
                    Diagnosis::GONE_CLIENT_CLOSED,
                    "client",
                    1000,
                );
            }
            assert_found(&mut story, &expected);
        }
    }

    #[test]
    fn tabs_of_one_user() {
        // ratelimit.many-tabs
        for (n, expected) in [(5, vec![("ratelimit.many-tabs", Proven)]), (4, vec![])] {
            let mut story = Story::default();
            attempts(&mut story, n, 9_000, 1, None, "ann");
            for entry in &mut story.entries {
                entry.facts.insert("userAgent".to_owned(), json!("Mozilla/5.0"));
            }
            assert_found(&mut story, &expected);
        }
    }

    #[test]
    fn a_limit_that_many_good_clients_reach_is_too_low() {
        // ratelimit.too-low
        for (n, expected) in [(5, vec![("ratelimit.too-low", Proven)]), (4, vec![])] {
            let mut story = Story::default();
            for user in 0..n {
                attempts(&mut story, 3, 20_000, 1, None, &format!("user{user}"));
            }
            assert_found(&mut story, &expected);
        }
    }

    #[test]
    fn a_limit_of_one_address_that_an_office_reaches_is_too_low() {
        // ratelimit.too-low: whoever is refused by address has no name yet.
        for (n, expected) in [(5, vec![("ratelimit.too-low", Proven)]), (4, vec![])] {
            let mut story = Story::default();
            for user in 0..n {
                let told = story.open(1_000 + user * 7_000, &format!("u{user}"), &format!("user{user}"));
                told.edit(|entry| entry.address = Some("192.0.2.1".to_owned()));
            }
            let refused = story.refuse(90_000, "x", "", Diagnosis::RATELIMIT_CONNECT, 429);
            refused
                .set("of", "attempts of the address")
                .edit(|entry| entry.address = Some("192.0.2.1".to_owned()));
            assert_found(&mut story, &expected);
        }
    }

    #[test]
    fn a_refusal_without_a_name_belongs_to_the_user_at_that_address() {
        // ratelimit.reconnect-loop: opened as ann, then limited by address before anybody knows who it is.
        for (agent, expected) in [("tool/1", vec![("ratelimit.reconnect-loop", Proven)]), ("tool/2", vec![])]
        {
            let mut story = Story::default();
            for k in 0..6_u64 {
                let (at, id) = (1_000 + k * 1_000, format!("c{k}"));
                let told = match k < 3 {
                    true => {
                        story.close(at + 100, &id, Diagnosis::GONE_CLIENT_CLOSED, "client", 1000);
                        story.open(at, &id, "ann").set("userAgent", "tool/1")
                    }
                    false => {
                        story.refuse(at, &id, "", Diagnosis::RATELIMIT_CONNECT, 429).set("userAgent", agent)
                    }
                };
                told.edit(|entry| entry.address = Some("192.0.2.1".to_owned()));
            }
            assert_found(&mut story, &expected);
        }
    }

    #[test]
    fn automated_traffic_is_only_suggested() {
        // ratelimit.abuse DX-2
        let mut story = Story::default();
        for k in 0..60_u64 {
            let why = if k < 20 { Diagnosis::TOKEN_MISSING } else { Diagnosis::RATELIMIT_CONNECT };
            let told = story.refuse(1_000 + k * k * 100, &format!("x{k}"), "", why, 403);
            told.set("userAgent", "curl/8");
        }
        let found = story.found();
        let abuse = found.iter().find(|found| found.finding.id == "ratelimit.abuse").expect("abuse");
        assert_eq!(abuse.finding.confidence, Possible);
        for entry in story.entries.iter_mut() {
            entry.outcome = Diagnosis::RATELIMIT_CONNECT.as_str().to_owned();
        }
        assert_found(&mut story, &[("ratelimit.abuse", Likely)]);
        story.entries.truncate(49);
        assert_found(&mut story, &[]);
    }

    #[test]
    fn tokens_that_nobody_uses() {
        // ratelimit.token-requests
        let mut story = Story::default();
        for k in 0..12_u64 {
            let why = (k == 11).then_some(Diagnosis::TOKENREQ_RATE_LIMITED);
            let told = story.add(1_000 + k * 1_000, Kind::Token, why).set("fingerprint", format!("f{k}"));
            told.edit(|entry| entry.user = Some("ann".to_owned()));
        }
        story.open(20_000, "a", "ann").set("fingerprint", "f3");
        assert_found(&mut story, &[("ratelimit.token-requests", Proven)]);
        // Requests that were refused for another reason are no tokens.
        for entry in story.entries.iter_mut().filter(|entry| entry.kind == Kind::Token && entry.outcome == OK)
        {
            entry.outcome = Diagnosis::TOKENREQ_ANONYMOUS.as_str().to_owned();
        }
        assert_found(&mut story, &[]);
        for entry in story.entries.iter_mut().filter(|entry| entry.outcome.starts_with("tokenreq.anonymous"))
        {
            entry.outcome = OK.to_owned();
        }
        for k in 4..11_u64 {
            story.open(21_000 + k * 30_000, &format!("a{k}"), "ann").set("fingerprint", format!("f{k}"));
        }
        assert_found(&mut story, &[]);
    }
}
