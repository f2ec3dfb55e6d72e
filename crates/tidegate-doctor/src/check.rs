//! Causes that no single entry of the journal proves: one file for each symptom, each with its rules.
//!
//! A rule looks at a [`Window`] of entries and says what it found, with the entries that prove it. It asks nobody and
//! writes nothing. Rules are silent about what is ordinary: most of them speak only where a number of entries agree, and
//! those about things that are normal in themselves (a client that does not come back) only when they were asked.
//! Thresholds stand at the top of each file, with their reason.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::journal::{Entry, Kind, OK};

use crate::report::{ClientSaw, Confidence, Finding, Severity};

mod anonymous;
mod at_once;
mod backend_refuses;
mod broadcast;
mod browser;
mod burst;
mod cleanup;
mod default_handler;
mod gone;
mod idle;
mod one_time_token;
mod permission;
mod provisioning;
mod proxy;
mod push_not_received;
mod random_drop;
mod rate_limit;
mod reconnect;
mod signature;
mod wrong_route;

/// Microseconds of a millisecond.
pub(crate) const MILLI: u64 = 1000;
/// Microseconds of a second.
pub(crate) const SECOND: u64 = 1_000_000;
/// Microseconds of a minute.
pub(crate) const MINUTE: u64 = 60 * SECOND;
/// Microseconds of an hour.
pub(crate) const HOUR: u64 = 60 * MINUTE;
/// Microseconds of a day.
pub(crate) const DAY: u64 = 24 * HOUR;

/// Entries in the order of time, with the connections and attempts that they tell of.
#[derive(Debug)]
pub struct Window<'a> {
    entries: &'a [Entry],
    now: u64,
    /// From when on the journal has everything; microseconds since 1970.
    covered_since: u64,
    lives: Vec<Life<'a>>,
    life_of: HashMap<&'a str, usize>,
    /// Positions of lives with a handshake, in the order of the handshakes.
    attempts: Vec<usize>,
    /// The same, by user.
    attempts_of: HashMap<&'a str, Vec<usize>>,
    /// Users by address and program; none where several were seen there.
    user_at: HashMap<(&'a str, &'a str), Option<&'a str>>,
}

/// An attempt to connect and what became of it; or an id that calls named.
#[derive(Debug)]
pub(crate) struct Life<'a> {
    /// Connection id, else request id.
    pub(crate) key: &'a str,
    /// Positions of its entries.
    pub(crate) entries: Vec<usize>,
    /// Position of its handshake.
    pub(crate) attempt: Option<usize>,
    /// Position of its end.
    pub(crate) close: Option<usize>,
}

/// What a question is about, for rules that only answer when they are asked.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Causes that the question leads to.
    pub causes: BTreeSet<Diagnosis>,
    /// Connection or request ids that the question is about.
    pub keys: BTreeSet<String>,
    /// Whose connections it is about.
    pub user: Option<String>,
}

impl Asked {
    /// Is it about this cause?
    pub(crate) fn names(&self, diagnosis: Diagnosis) -> bool {
        self.causes.contains(&diagnosis)
    }

    /// Is it about this connection?
    pub(crate) fn is_about(&self, window: &Window<'_>, life: &Life<'_>) -> bool {
        self.keys.contains(life.key)
            || (self.user.is_some() && window.user(life) == self.user.as_deref())
            || (self.keys.is_empty() && self.user.is_none())
    }
}

/// A finding, and the entries that it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What is said.
    pub finding: Finding,
    /// Positions in the window, in the order of time.
    pub entries: Vec<usize>,
}

/// What a rule says.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What it found.
    pub found: Vec<Found>,
    /// What the entries exclude.
    pub excluded: BTreeSet<Diagnosis>,
}

type Rule = fn(&Window<'_>, &Asked, &mut Verdict);

/// Every rule, in the order of the catalogue.
const RULES: &[Rule] = &[
    proxy::check,
    browser::check,
    signature::check,
    one_time_token::check,
    backend_refuses::check,
    rate_limit::check,
    at_once::check,
    anonymous::check,
    permission::check,
    default_handler::check,
    wrong_route::check,
    push_not_received::check,
    broadcast::check,
    gone::check,
    idle::check,
    burst::check,
    random_drop::check,
    reconnect::check,
    provisioning::check,
    cleanup::check,
];

/// Runs every rule.
pub fn run(window: &Window<'_>, asked: &Asked) -> Verdict {
    let mut verdict = Verdict::default();
    for rule in RULES {
        rule(window, asked, &mut verdict);
    }
    verdict
}

/// Kinds whose entries belong to an attempt or its connection by their request id.
const OF_AN_ATTEMPT: [Kind; 9] = [
    Kind::Handshake,
    Kind::Authorizer,
    Kind::Token,
    Kind::Jwt,
    Kind::UserCheck,
    Kind::RateLimit,
    Kind::Origin,
    Kind::Integration,
    Kind::Message,
];

impl<'a> Window<'a> {
    /// A window over `entries`, which are in the order of time. The journal has everything from `covered_since` on; times are
    /// microseconds since 1970.
    pub fn new(entries: &'a [Entry], now: u64, covered_since: u64) -> Self {
        let mut connection_of: HashMap<&str, &str> = HashMap::new();
        for entry in entries.iter().filter(|entry| OF_AN_ATTEMPT.contains(&entry.kind)) {
            if let (Some(request_id), Some(connection_id)) = (&entry.request_id, &entry.connection_id) {
                connection_of.insert(request_id, connection_id);
            }
        }
        let mut window = Self {
            entries,
            now,
            covered_since,
            lives: Vec::new(),
            life_of: HashMap::new(),
            attempts: Vec::new(),
            attempts_of: HashMap::new(),
            user_at: HashMap::new(),
        };
        for (entry_idx, entry) in entries.iter().enumerate() {
            let of_attempt = OF_AN_ATTEMPT.contains(&entry.kind);
            let request_id = entry.request_id.as_deref().filter(|_| of_attempt);
            let by_request = request_id.map(|id| connection_of.get(id).copied().unwrap_or(id));
            let Some(key) = entry.connection_id.as_deref().or(by_request) else { continue };
            let life_idx = *window.life_of.entry(key).or_insert_with(|| {
                window.lives.push(Life { key, entries: Vec::new(), attempt: None, close: None });
                window.lives.len() - 1
            });
            let life = &mut window.lives[life_idx];
            life.entries.push(entry_idx);
            match entry.kind {
                Kind::Handshake if is_answered(entry) => life.attempt = Some(entry_idx),
                Kind::Close => life.close = Some(entry_idx),
                _ => {}
            }
        }
        window.attempts =
            (0..window.lives.len()).filter(|idx| window.lives[*idx].attempt.is_some()).collect();
        window.attempts.sort_by_key(|idx| window.lives[*idx].attempt);
        for life_idx in &window.attempts {
            let life = &window.lives[*life_idx];
            let Some(user) = window.user(life) else { continue };
            window.attempts_of.entry(user).or_default().push(*life_idx);
            if let Some(place) = window.place(life) {
                let known = window.user_at.entry(place).or_insert(Some(user));
                *known = known.filter(|known| *known == user);
            }
        }
        window
    }

    /// The entries.
    pub fn entries(&self) -> &'a [Entry] {
        self.entries
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn covered_since(&self) -> u64 {
        self.covered_since
    }

    pub(crate) fn entry(&self, idx: usize) -> &'a Entry {
        &self.entries[idx]
    }

    /// Entries of a kind, with their positions.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (usize, &'a Entry)> + use<'a> {
        self.entries.iter().enumerate().filter(move |(_, entry)| entry.kind == kind)
    }

    pub(crate) fn lives(&self) -> &[Life<'a>] {
        &self.lives
    }

    pub(crate) fn life(&self, key: &str) -> Option<&Life<'a>> {
        self.life_of.get(key).map(|life_idx| &self.lives[*life_idx])
    }

    /// The handshake of a life.
    pub(crate) fn attempt(&self, life: &Life<'_>) -> Option<&'a Entry> {
        life.attempt.map(|idx| &self.entries[idx])
    }

    /// The end of a life.
    pub(crate) fn close(&self, life: &Life<'_>) -> Option<&'a Entry> {
        life.close.map(|idx| &self.entries[idx])
    }

    /// Lives that have a handshake, in the order of the handshakes.
    pub(crate) fn attempts(&self) -> Vec<&Life<'a>> {
        self.attempts.iter().map(|life_idx| &self.lives[*life_idx]).collect()
    }

    /// The same of one user.
    pub(crate) fn attempts_of(&self, user: &str) -> impl DoubleEndedIterator<Item = &Life<'a>> {
        let positions = self.attempts_of.get(user).map(Vec::as_slice).unwrap_or_default();
        positions.iter().map(|life_idx| &self.lives[*life_idx])
    }

    /// When it opened; none when it did not, or when that is not known.
    pub(crate) fn opened_at(&self, life: &Life<'_>) -> Option<u64> {
        match (self.attempt(life), self.close(life)) {
            (Some(attempt), _) => is_open(attempt).then_some(attempt.ts),
            (None, Some(close)) => {
                close.number("ageMs").map(|age| close.ts.saturating_sub((age * 1000.0) as u64))
            }
            (None, None) => None,
        }
    }

    /// When it ended; none while it is open.
    pub(crate) fn closed_at(&self, life: &Life<'_>) -> Option<u64> {
        self.close(life).map(|close| close.ts)
    }

    /// A fact of the handshake or of any other entry of the life.
    pub(crate) fn fact(&self, life: &Life<'_>, name: &str) -> Option<&'a Value> {
        let of_attempt = self.attempt(life).and_then(|attempt| attempt.fact(name));
        of_attempt.or_else(|| life.entries.iter().find_map(|idx| self.entries[*idx].fact(name)))
    }

    /// As [`Self::fact`], text only.
    pub(crate) fn text(&self, life: &Life<'_>, name: &str) -> Option<&'a str> {
        self.fact(life, name).and_then(Value::as_str)
    }

    /// Whose it is.
    pub(crate) fn user(&self, life: &Life<'_>) -> Option<&'a str> {
        // A post is made by somebody else, whoever it names.
        let own = life.entries.iter().map(|idx| &self.entries[*idx]).filter(|entry| entry.kind != Kind::Post);
        own.filter_map(|entry| entry.user.as_deref()).find(|user| !user.is_empty())
    }

    /// The client's address.
    pub(crate) fn address(&self, life: &Life<'_>) -> Option<&'a str> {
        let attempt = self.attempt(life).or_else(|| self.close(life))?;
        attempt.address.as_deref().or_else(|| attempt.text("clientAddress")).or_else(|| attempt.text("peer"))
    }

    /// The same client, as far as one can tell: its user, else address and program.
    pub(crate) fn client(&self, life: &Life<'_>) -> Option<String> {
        match self.user(life) {
            Some(user) => Some(format!("user {user}")),
            None => {
                let address = self.address(life)?;
                Some(format!("{address} {}", self.text(life, "userAgent").unwrap_or_default()))
            }
        }
    }

    /// Address and program of a client.
    fn place(&self, life: &Life<'_>) -> Option<(&'a str, &'a str)> {
        Some((self.address(life)?, self.text(life, "userAgent").unwrap_or_default()))
    }

    /// Lives with a handshake, by client, each in the order of time. Whoever is refused before it is known who they are counts
    /// as the one user that was seen at the same address with the same program.
    pub(crate) fn by_client(&self) -> BTreeMap<String, Vec<&Life<'a>>> {
        let mut clients: BTreeMap<String, Vec<&Life<'a>>> = BTreeMap::new();
        for life in self.attempts() {
            let known = || self.place(life).and_then(|place| *self.user_at.get(&place)?);
            let user = self.user(life).or_else(known);
            let client = user.map_or_else(|| self.client(life), |user| Some(format!("user {user}")));
            if let Some(client) = client {
                // Whoever uses two APIs has two clients.
                let api =
                    self.attempt(life).and_then(|attempt| attempt.api_id.as_deref()).unwrap_or_default();
                clients.entry(format!("{client} {api}")).or_default().push(life);
            }
        }
        clients
    }

    /// Names of a list fact.
    pub(crate) fn names(&self, life: &Life<'_>, fact: &str) -> Vec<&'a str> {
        names(self.fact(life, fact))
    }
}

/// The texts of a list.
pub(crate) fn names(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Is it the end of a handshake, and not a remark on the way or a question what one would come to?
pub(crate) fn is_answered(entry: &Entry) -> bool {
    let is_end = entry.outcome == OK || entry.number("status").is_some();
    entry.kind == Kind::Handshake && is_end && entry.fact("dryRun").is_none()
}

/// Was the handshake answered with 101?
pub(crate) fn is_open(attempt: &Entry) -> bool {
    match attempt.number("status") {
        Some(status) => status == 101.0,
        None => attempt.outcome == OK,
    }
}

/// Was the post answered with 410 for an id that once was a connection?
pub(crate) fn is_gone_post(entry: &Entry) -> bool {
    gone::is_gone(entry)
}

/// Facts for a piece of evidence.
pub(crate) fn facts<const N: usize>(facts: [(&str, Value); N]) -> Map<String, Value> {
    facts
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// A time as people read it: RFC 3339 in UTC, with milliseconds.
pub(crate) fn time(micros: u64) -> String {
    tidegate_core::context::iso_time(micros / MILLI)
}

/// Microseconds since 1970 of a time in RFC 3339.
pub(crate) fn parse_time(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_microsecond()).ok()
}

/// A number of seconds as people read it.
pub(crate) fn span(micros: u64) -> String {
    match micros {
        0..SECOND => format!("{} ms", micros / MILLI),
        SECOND..10_000_000 => format!("{:.1} s", micros as f64 / SECOND as f64),
        10_000_000..7_200_000_000 if micros < 2 * MINUTE => format!("{} s", micros / SECOND),
        _ if micros < 2 * HOUR => format!("{} min", micros / MINUTE),
        _ if micros < 2 * DAY => format!("{} h", micros / HOUR),
        _ => format!("{} days", micros / DAY),
    }
}

/// The middle one of some numbers; 0 of none.
pub(crate) fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Times between neighbors.
pub(crate) fn intervals(times: &[u64]) -> Vec<u64> {
    times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect()
}

/// Are four of five of them within a quarter, or 300 ms, of the middle one? Timers of clients are late by tens of milliseconds,
/// and the handshake's own time comes on top.
pub(crate) fn is_constant(values: &[u64]) -> bool {
    let middle = median(values);
    let slack = (middle / 4).max(300 * MILLI);
    let near = values.iter().filter(|value| value.abs_diff(middle) <= slack).count();
    !values.is_empty() && near * 5 >= values.len() * 4
}

/// Is it a browser, by its own words?
pub(crate) fn is_browser(agent: Option<&str>) -> bool {
    agent.is_some_and(|agent| agent.starts_with("Mozilla/"))
}

/// How much a cause matters when it is found in the journal.
pub(crate) fn severity(diagnosis: Diagnosis) -> Severity {
    match diagnosis {
        // Ends as they should be, and what others did on purpose.
        Diagnosis::GONE_CLIENT_CLOSED
        | Diagnosis::CLIENT_PAGE_LEFT
        | Diagnosis::CLOSE_ACCESS_REVOKED
        | Diagnosis::CLOSE_BACKEND_REQUESTED
        | Diagnosis::CLOSE_SESSION_ENDED
        | Diagnosis::API_BEING_DELETED
        | Diagnosis::HANDSHAKE_NOT_WEBSOCKET
        // Choices that an operator may have made.
        | Diagnosis::ROUTE_CONNECT_MISSING
        | Diagnosis::TLS_NO_SNI => Severity::Info,
        // Works, with a loss.
        Diagnosis::CLOSE_MAX_DURATION
        | Diagnosis::CLOSE_IDLE_TIMEOUT
        | Diagnosis::CLOSE_TOKEN_EXPIRED
        | Diagnosis::NODE_RESTART
        | Diagnosis::NODE_DRAINING
        | Diagnosis::CONN_RESET
        | Diagnosis::CONN_PING_TIMEOUT
        | Diagnosis::HANDSHAKE_CLIENT_GAVE_UP
        | Diagnosis::STAGE_REDEPLOY_NEEDED
        | Diagnosis::REPLY_NO_ROUTE_RESPONSE
        | Diagnosis::REPLY_EMPTY_MESSAGE
        | Diagnosis::PROXY_FORWARDED_MISSING
        | Diagnosis::PROXY_FORWARDED_SPOOFED
        | Diagnosis::PUBLISH_NO_SUBSCRIBERS
        | Diagnosis::CLEANUP_NOT_SCHEDULED
        | Diagnosis::CLEANUP_NOT_PRUNING
        | Diagnosis::JWT_NO_EXPIRY => Severity::Warning,
        _ => Severity::Problem,
    }
}

impl Found {
    /// A finding that rests on these entries, which are in the order of time; the newest is its example.
    pub(crate) fn new(
        window: &Window<'_>,
        diagnosis: Diagnosis,
        confidence: Confidence,
        mut entries: Vec<usize>,
        text: impl Into<String>,
        facts: Map<String, Value>,
    ) -> Self {
        entries.sort_unstable();
        entries.dedup();
        let mut finding = Finding::new(diagnosis, severity(diagnosis), confidence).seen(text, facts);
        finding.count = Some(entries.len() as u64);
        if let Some(newest) = entries.last() {
            set_example(&mut finding, window.entry(*newest));
        }
        Self { finding, entries }
    }
}

/// Makes an entry the newest example of a finding.
pub(crate) fn set_example(finding: &mut Finding, entry: &Entry) {
    finding.request_id.clone_from(&entry.request_id);
    finding.connection_id.clone_from(&entry.connection_id);
    finding.client_ref.clone_from(&entry.client_ref);
    finding.api_id.clone_from(&entry.api_id);
    finding.stage.clone_from(&entry.stage);
    finding.route_key.clone_from(&entry.route_key);
    finding.at = Some(time(entry.ts));
    finding.client_saw = client_saw(entry);
}

/// What the client could see of an entry.
fn client_saw(entry: &Entry) -> Option<ClientSaw> {
    let number =
        |name: &str| entry.number(name).filter(|number| (100.0..5000.0).contains(number)).map(|n| n as u16);
    match entry.kind {
        Kind::Handshake if !is_open(entry) => {
            let status = Some(number("status")?);
            Some(match number("closeCode") {
                // A refusal that was sent as a close: the client saw that and no status.
                Some(code) => ClientSaw { close_code: Some(code), ..ClientSaw::default() },
                None => ClientSaw { status, close_code: Some(1006), text: None },
            })
        }
        // A page can read the answer to a token request.
        Kind::Token => Some(ClientSaw { status: Some(number("status")?), ..ClientSaw::default() }),
        // A client that closed itself, or that vanished, was sent nothing.
        Kind::Close if matches!(entry.text("by"), Some("client" | "network")) => None,
        Kind::Close => Some(ClientSaw { close_code: Some(number("closeCode")?), ..ClientSaw::default() }),
        // What its backend answered no client of an open connection sees; what the gateway says instead it does.
        Kind::Message => {
            let code = entry.text("code")?;
            let known = ErrorCode::ALL.iter().find(|known| known.as_str() == code)?;
            Some(ClientSaw { text: Some(known.message_text().to_owned()), ..ClientSaw::default() })
        }
        // Here the client is the caller.
        Kind::Post => Some(ClientSaw { status: Some(number("status")?), ..ClientSaw::default() }),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
