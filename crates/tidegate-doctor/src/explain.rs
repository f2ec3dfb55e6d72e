//! Answers "why did it fail": from an id, a code, a diagnosis id or a pasted text to causes with their proof.
//!
//! [`explain`] reads bounded parts of the journal, runs the rules of [`crate::check`] over them and says what is proven, what is
//! likely, what nothing excludes, and what the journal excludes. It changes nothing. What is open at this moment it learns from
//! [`Live`], where there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_core::diagnosis::{Cause, Diagnosis, search};
use tidegate_core::journal::{Entry, EntryQuery, JournalState, JournalStore, Kind, OK};
use tidegate_core::port::StoreError;

use crate::check::{self, Asked, Found, Window, facts, is_open, set_example, severity, span, time};
use crate::report::{Confidence, Finding, Report, Severity};

mod describe;
mod next;
mod question;

pub use question::{MAX_QUESTION, Question, QuestionError};

/// Time that a question looks back, unless it says otherwise.
pub const DEFAULT_SINCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Failures that `--last` without a number takes.
pub const DEFAULT_LAST: usize = 10;

/// Most failures that `--last` takes.
pub const MAX_LAST: usize = 500;

/// Entries that one question reads at most from a query; the newest count.
const MAX_ENTRIES: usize = 50_000;

/// Entries of one connection that are looked at.
const MAX_OF_ONE: usize = 2000;

/// Connections that one question may be about.
const MAX_CONNECTIONS: usize = 20;

/// Lines of a timeline; the middle of a longer one is left out.
const MAX_TIMELINE: usize = 200;

/// Causes without any proof that are printed in full; the others are named.
const MAX_POSSIBLE: usize = 8;

/// Pieces of evidence for one cause; a hundred connections prove it no better than the newest few.
const MAX_EVIDENCE: usize = 5;

/// Of those, how many are named: nobody reads a hundred ids.
const MAX_NAMED: usize = 16;

/// After its end a connection still matters: posts to its id, the return of its user.
const AFTERMATH: u64 = 2 * check::HOUR;

/// Symptoms of requests that never arrive.
const NEVER_ARRIVED: [u8; 4] = [2, 4, 5, 6];

/// How a question is narrowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How far back.
    pub since: Duration,
    /// Only of this user.
    pub user: Option<String>,
    /// Only of this address, spelled as the journal keeps it.
    pub address: Option<String>,
    /// Only of this API.
    pub api: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { since: DEFAULT_SINCE, user: None, address: None, api: None }
    }
}

impl Options {
    /// Is an entry of the user and address that were named?
    fn covers(&self, window: &Window<'_>, entry: &Entry) -> bool {
        let life = || window.life(entry.connection_id.as_deref()?);
        let is_user = self.user.as_deref().is_none_or(|user| {
            entry.user.as_deref() == Some(user) || life().is_some_and(|life| window.user(life) == Some(user))
        });
        let is_address = self.address.as_deref().is_none_or(|address| {
            entry.address.as_deref() == Some(address)
                || life().is_some_and(|life| window.address(life) == Some(address))
        });
        is_user && is_address
    }

    /// Is it of the API that was named, or of none?
    fn is_of_api(&self, entry: &Entry) -> bool {
        self.api.is_none() || entry.api_id.is_none() || entry.api_id == self.api
    }

    fn is_narrow(&self) -> bool {
        self.user.is_some() || self.address.is_some()
    }

    /// ` of user ann`.
    fn words(&self) -> String {
        let mut words = String::new();
        for (name, value) in [("user", &self.user), ("address", &self.address), ("API", &self.api)] {
            if let Some(value) = value {
                words.push_str(&format!(" of {name} {value}"));
            }
        }
        words
    }
}

/// What is true at this moment, from a running gateway.
pub trait Live: Send + Sync {
    /// The connection of this id, if it is there.
    fn connection(&self, id: &str) -> Option<LiveConnection>;

    /// Ids of the open connections of a session; at most 20 are looked at.
    fn session(&self, session: &str) -> Vec<String>;

    /// Stages whose API has changed since their deployment.
    fn stages_behind(&self) -> Vec<Behind>;

    /// What a push to the id would be told, where it is not open; none where nobody knows.
    fn why_gone(&self, id: &str) -> Option<Diagnosis> {
        let _ = id;
        None
    }

    /// Entries that were lost, and successes that were only counted, since the start.
    fn journal_losses(&self) -> (u64, u64) {
        (0, 0)
    }
}

/// A connection that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveConnection {
    /// `open`, `pending`, `closing`.
    pub state: String,
    /// Its API.
    pub api_id: String,
    /// Its stage.
    pub stage: String,
    /// Whose it is.
    pub user: Option<String>,
    /// Its channels.
    pub channels: Vec<String>,
    /// When it connected; microseconds since 1970.
    pub connected_at: u64,
    /// Last message in either direction; microseconds since 1970.
    pub last_active_at: u64,
    /// Messages from the client.
    pub messages_in: u64,
    /// Messages to the client.
    pub messages_out: u64,
}

/// A stage that does not serve what is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// Its API.
    pub api_id: String,
    /// Its name.
    pub stage: String,
    /// What differs, as names; empty where only the fact is known.
    pub differences: Vec<String>,
}

/// Where answers come from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// What happened.
    pub journal: &'a dyn JournalStore,
    /// The time of the question; microseconds since 1970.
    pub now: u64,
    /// What is true now; none for the data of a stopped gateway.
    pub live: Option<&'a dyn Live>,
}

/// Answers a question.
///
/// # Errors
/// The journal cannot be read.
pub async fn explain(
    question: &Question,
    sources: &Sources<'_>,
    options: &Options,
) -> Result<Report, StoreError> {
    let begun = Instant::now();
    let state = sources.journal.state().await?;
    let target = format!("{}{}", question.target(), options.words());
    let options = &as_kept(sources.journal, options).await?;
    let mut answer = Answer {
        report: Report::new("explain", target, time(sources.now)),
        sources: *sources,
        options,
        state,
        ordered_by_count: false,
    };
    match question {
        Question::Id(id) => answer.id(id).await?,
        Question::Session(session) => answer.session(session).await?,
        Question::CloseCode(code) => {
            let causes = search::close_code(*code).map(search::CloseCode::all_causes).unwrap_or_default();
            // 4400 to 4599 are refusals that were sent as closes.
            let status = search::refused_with(*code).and_then(search::status);
            let causes = if causes.is_empty() {
                status.map(search::Status::causes).unwrap_or_default()
            } else {
                causes
            };
            answer.candidates(causes, Seen::CloseCode(*code)).await?;
        }
        Question::Status(status) => {
            let row = search::status(*status);
            let mut causes = row.map(search::Status::causes).unwrap_or_default();
            causes.extend(row.map(search::Status::management_causes).unwrap_or_default());
            answer.candidates(causes, Seen::Status(*status)).await?;
        }
        Question::Causes { causes, .. } => answer.candidates(causes.clone(), Seen::Anything).await?,
        Question::Symptom(symptom) => answer.candidates(search::causes_of(*symptom), Seen::Anything).await?,
        Question::Text(text) => answer.text(text).await?,
        Question::Last(n) => answer.last((*n).clamp(1, MAX_LAST)).await?,
        Question::Everything => answer.everything().await?,
    }
    Ok(answer.finish(begun.elapsed()))
}

/// The options with the address as the journal spells it, which may be shortened or hashed.
async fn as_kept(journal: &dyn JournalStore, options: &Options) -> Result<Options, StoreError> {
    let Some(address) = &options.address else { return Ok(options.clone()) };
    let query = EntryQuery { address: Some(address.clone()), limit: 1, ..EntryQuery::default() };
    let kept = journal.query(query).await?.pop().and_then(|entry| entry.address);
    Ok(Options { address: kept.or_else(|| Some(address.clone())), ..options.clone() })
}

/// What the person saw, which entries must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Anything,
    CloseCode(u16),
    Status(u16),
}

impl Seen {
    /// Could this entry have shown itself so?
    fn fits(self, entry: &Entry) -> bool {
        let number = |name: &str| entry.number(name).map(|number| number as u16);
        match (self, entry.kind) {
            (Self::Anything, _) => true,
            // A browser shows every refused handshake and every lost connection as 1006.
            (Self::CloseCode(1006), Kind::Handshake) => !is_open(entry),
            (Self::CloseCode(code), Kind::Handshake) => {
                number("status").is_some_and(|status| code == 4000 + status)
            }
            (Self::CloseCode(1006), Kind::Close) => {
                entry.text("by") == Some("network") || number("closeCode") == Some(1006)
            }
            (Self::CloseCode(code), Kind::Close) => {
                number("closeCode").is_none_or(|own| own == code) || number("clientCode") == Some(code)
            }
            (Self::CloseCode(_), _) => true,
            (Self::Status(status), Kind::Handshake | Kind::Post | Kind::Token | Kind::Control) => {
                number("status").is_none_or(|own| own == status)
            }
            (Self::Status(status), Kind::Message) => number("replyStatus").is_none_or(|own| own == status),
            (Self::Status(_), _) => true,
        }
    }

    /// Does the entry say by itself that this was seen? Then its cause counts although no list leads to it.
    fn is_exactly(self, entry: &Entry) -> bool {
        let is = |name: &str, code: u16| entry.number(name) == Some(f64::from(code));
        match (self, entry.kind) {
            (Self::Status(status), Kind::Handshake | Kind::Post) => is("status", status),
            (Self::CloseCode(code), Kind::Close) => is("closeCode", code),
            _ => false,
        }
    }
}

/// An answer that is being put together.
struct Answer<'a> {
    report: Report,
    sources: Sources<'a>,
    options: &'a Options,
    state: JournalState,
    /// Findings in the order of their counts, not of their certainty.
    ordered_by_count: bool,
}

impl Answer<'_> {
    fn now(&self) -> u64 {
        self.sources.now
    }

    /// Begin of the time that is asked about.
    fn since(&self) -> u64 {
        self.now().saturating_sub(u64::try_from(self.options.since.as_micros()).unwrap_or(u64::MAX))
    }

    /// From when on the journal has everything.
    fn covered_since(&self) -> u64 {
        self.state.oldest.unwrap_or(self.now())
    }

    fn losses(&self) -> (u64, u64) {
        let (dropped, sampled) = self.sources.live.map(Live::journal_losses).unwrap_or_default();
        (dropped.max(self.state.dropped), sampled.max(self.state.sampled))
    }

    /// Does the absence of an entry say anything?
    fn absence_is_proof(&self) -> bool {
        let (dropped, _) = self.losses();
        dropped == 0 && self.state.oldest.is_none_or(|oldest| oldest <= self.since())
    }

    async fn query(&self, query: EntryQuery) -> Result<Vec<Entry>, StoreError> {
        self.sources.journal.query(query).await
    }

    /// The entries around something, for rules: everybody's of the API, and all of its users and addresses.
    async fn load(
        &self,
        since: u64,
        until: Option<u64>,
        api_id: Option<&str>,
        users: &BTreeSet<String>,
        addresses: &BTreeSet<String>,
    ) -> Result<Vec<Entry>, StoreError> {
        let base = EntryQuery { since: Some(since), until, limit: MAX_ENTRIES, ..EntryQuery::default() };
        let all = EntryQuery { api_id: api_id.map(str::to_owned), ..base.clone() };
        let mut entries = self.query(all).await?;
        let is_cut = entries.len() >= MAX_ENTRIES;
        if api_id.is_some() {
            // What has no API yet may be the reason: starts and stops, refusals before an API was found.
            let control = EntryQuery { kinds: vec![Kind::Control], ..base.clone() };
            entries.extend(self.query(control).await?);
        }
        // Where everything did not fit, those that it is about are read by themselves.
        if is_cut || api_id.is_some() {
            for user in users.iter().take(MAX_CONNECTIONS) {
                let query = EntryQuery { user: Some(user.clone()), limit: MAX_OF_ONE, ..base.clone() };
                entries.extend(self.query(query).await?);
            }
            for address in addresses.iter().take(MAX_CONNECTIONS) {
                let query = EntryQuery { address: Some(address.clone()), limit: MAX_OF_ONE, ..base.clone() };
                entries.extend(self.query(query).await?);
            }
        }
        Ok(in_order(entries))
    }

    /// Everything about one id.
    async fn id(&mut self, id: &str) -> Result<(), StoreError> {
        let base = EntryQuery { limit: MAX_OF_ONE, ..EntryQuery::default() };
        let mut seeds = Vec::new();
        for query in [
            EntryQuery { connection_id: Some(id.to_owned()), ..base.clone() },
            EntryQuery { request_id: Some(id.to_owned()), ..base.clone() },
            EntryQuery { client_ref: Some(id.to_owned()), ..base.clone() },
        ] {
            seeds.extend(self.query(query).await?);
        }
        if !seeds.is_empty() {
            return self.about(seeds).await;
        }
        if self.say_live(id) {
            self.report
                .notes
                .push("The journal has no entry about it: its entries were removed or lost.".to_owned());
            return Ok(());
        }
        if self.say_gone(id) {
            return Ok(());
        }
        // One word may be an error text, too.
        let matches = search::match_text(id);
        if !matches.is_empty() {
            return self.text_matches(matches).await;
        }
        self.report
            .notes
            .push(format!("Nothing in the journal has the id {}.", Question::Id(id.to_owned()).target()));
        if self.absence_is_proof() || self.state.entries == 0 {
            self.never_arrived(Some(id));
        } else {
            self.note_reach();
            self.never_arrived(None);
        }
        Ok(())
    }

    async fn session(&mut self, session: &str) -> Result<(), StoreError> {
        let Some(live) = self.sources.live else {
            let note =
                "Sessions are known to a running gateway only; ask by user (--user) or by connection id.";
            self.report.notes.push(note.to_owned());
            return Ok(());
        };
        let ids = live.session(session);
        if ids.is_empty() {
            let note = "The session has no open connection; ask by user (--user) for those that have ended.";
            self.report.notes.push(note.to_owned());
            return Ok(());
        }
        let mut seeds = Vec::new();
        for id in ids.into_iter().take(MAX_CONNECTIONS) {
            let query = EntryQuery { connection_id: Some(id), limit: MAX_OF_ONE, ..EntryQuery::default() };
            seeds.extend(self.query(query).await?);
        }
        self.about(seeds).await
    }

    /// The connections and requests that these entries belong to.
    async fn about(&mut self, seeds: Vec<Entry>) -> Result<(), StoreError> {
        let ids = |of: fn(&Entry) -> &Option<String>, entries: &[Entry]| -> BTreeSet<String> {
            entries.iter().filter_map(|entry| of(entry).clone()).collect()
        };
        let connections = ids(|entry| &entry.connection_id, &seeds);
        let mut own = seeds;
        for id in connections.iter().take(MAX_CONNECTIONS) {
            let query =
                EntryQuery { connection_id: Some(id.clone()), limit: MAX_OF_ONE, ..EntryQuery::default() };
            own.extend(self.query(query).await?);
        }
        // Decisions before the connection had its id carry that of the handshake's request.
        let handshakes: Vec<String> = own
            .iter()
            .filter(|entry| entry.kind == Kind::Handshake)
            .filter_map(|entry| entry.request_id.clone())
            .collect();
        for id in handshakes.into_iter().take(MAX_CONNECTIONS) {
            let query = EntryQuery { request_id: Some(id), limit: MAX_OF_ONE, ..EntryQuery::default() };
            own.extend(self.query(query).await?);
        }
        let own = in_order(own);
        let (Some(first), Some(last)) = (own.first(), own.last()) else { return Ok(()) };
        self.timeline(&own);
        for id in connections.iter().take(MAX_CONNECTIONS) {
            self.say_live(id);
        }
        let api_id = own.iter().find_map(|entry| entry.api_id.as_deref()).map(str::to_owned);
        let users = ids(|entry| &entry.user, &own);
        let addresses = ids(|entry| &entry.address, &own);
        let look_back = self.now().saturating_sub(self.since());
        // What happened while the question was on its way belongs to it, so there is no end where that would be now.
        let until = Some(last.ts + AFTERMATH).filter(|until| *until < self.now());
        let mut entries = self
            .load(first.ts.saturating_sub(look_back), until, api_id.as_deref(), &users, &addresses)
            .await?;
        entries.extend(own.iter().cloned());
        let entries = in_order(entries);
        let requests = ids(|entry| &entry.request_id, &own);
        let is_own = |entry: &Entry| {
            let has =
                |id: &Option<String>, set: &BTreeSet<String>| id.as_ref().is_some_and(|id| set.contains(id));
            has(&entry.connection_id, &connections) || has(&entry.request_id, &requests)
        };
        let window = Window::new(&entries, self.now(), self.covered_since());
        let mut asked = Asked { keys: connections.union(&requests).cloned().collect(), ..Asked::default() };
        // After an end that nobody wanted, what the client did next is a part of the question.
        if own.iter().any(|entry| entry.kind == Kind::Close && entry.text("by") == Some("network")) {
            let next =
                [Diagnosis::CLIENT_NO_RECONNECT, Diagnosis::CLIENT_CRASHED, Diagnosis::CONN_HALF_OPEN_CLIENT];
            asked.causes.extend(next);
        }
        let verdict = check::run(&window, &asked);
        let mut findings = self.of_entries(&window, |entry| is_own(entry), |_| true);
        let concerns = |found: &Found| {
            found.entries.iter().any(|idx| is_own(window.entry(*idx)))
                || found.finding.connection_id.as_ref().is_some_and(|id| connections.contains(id))
        };
        // A rule that found nothing about this excludes nothing of it.
        let excluded = match verdict.found.iter().any(concerns) {
            true => verdict.excluded,
            false => BTreeSet::new(),
        };
        merge(&mut findings, verdict.found.into_iter().filter(concerns), &excluded);
        self.report.excluded.extend(excluded.iter().map(|id| id.as_str().to_owned()));
        self.add(findings);
        Ok(())
    }

    /// Failures among the entries, grouped by their cause, in the order in which they first happened.
    fn of_entries(
        &self,
        window: &Window<'_>,
        is_meant: impl Fn(&Entry) -> bool,
        is_wanted: impl Fn(Diagnosis) -> bool,
    ) -> Vec<Finding> {
        let mut groups: Vec<(Diagnosis, Vec<&Entry>)> = Vec::new();
        let mut place: BTreeMap<Diagnosis, usize> = BTreeMap::new();
        for entry in window.entries().iter().filter(|entry| entry.outcome != OK && is_meant(entry)) {
            if let Some(diagnosis) = entry.diagnosis().filter(|diagnosis| is_wanted(*diagnosis)) {
                let group_idx = *place.entry(diagnosis).or_insert_with(|| {
                    groups.push((diagnosis, Vec::new()));
                    groups.len() - 1
                });
                groups[group_idx].1.push(entry);
            }
        }
        groups.into_iter().map(|(diagnosis, entries)| self.finding(diagnosis, &entries)).collect()
    }

    /// A finding from the entries that name it, in the order of time; at least one.
    fn finding(&self, diagnosis: Diagnosis, entries: &[&Entry]) -> Finding {
        let cause = diagnosis.describe();
        let covered = self.covered_since();
        // Where a backend's answer is the reason, only the entry of the call has its signature.
        let judged: BTreeSet<&str> = entries
            .iter()
            .filter(|entry| entry.text("signature").is_some())
            .filter_map(|entry| entry.request_id.as_deref())
            .collect();
        let tells = |entry: &&&Entry| {
            entry.text("signature").is_some()
                || entry.request_id.as_deref().is_none_or(|id| !judged.contains(id))
        };
        let confidence =
            entries.iter().filter(tells).map(|entry| describe::confidence(entry, cause, covered)).min();
        let confidence = confidence.unwrap_or(Confidence::Possible);
        let mut finding = Finding::new(diagnosis, severity(diagnosis), confidence);
        // One failure is told more than once: the call, the handshake. It is counted once.
        let distinct: BTreeSet<_> = entries
            .iter()
            .map(|entry| {
                (&entry.request_id, &entry.connection_id, entry.request_id.is_none().then_some(entry.ts))
            })
            .collect();
        finding.count = Some(distinct.len() as u64);
        // The handshake tells most of all that belong to one request.
        let newest = entries.last().map(|last| {
            let same = entries.iter().rev().take_while(|entry| entry.request_id == last.request_id);
            same.into_iter().find(|entry| entry.kind == Kind::Handshake).unwrap_or(last)
        });
        if let Some(newest) = newest {
            let id = newest.request_id.as_deref().map_or_else(String::new, |id| format!("requestId {id} "));
            let text = format!("{id}at {}: {}.", time(newest.ts), describe::line(newest));
            // What was asked and answered stands in the entry of the call.
            let call = entries.iter().rev().find(|entry| {
                entry.kind == Kind::Integration
                    && newest.kind != Kind::Integration
                    && entry.request_id.is_some()
                    && entry.request_id == newest.request_id
            });
            if let Some(call) = call {
                finding = finding.seen(format!("The call: {}.", describe::line(call)), call.facts.clone());
            }
            finding = finding.seen(text, newest.facts.clone());
            set_example(&mut finding, newest);
            if let Some(nearest) = newest.text("nearest").filter(|_| is_of_address(diagnosis)) {
                finding = finding.fix_first(format!("Perhaps `{nearest}` is meant: correct the address."));
            }
            if confidence != Confidence::Proven {
                finding.next = next::commands(cause, Some(newest), self.options.api.as_deref());
            }
        }
        finding
    }

    /// Causes that something that was seen leads to.
    async fn candidates(&mut self, candidates: Vec<Diagnosis>, seen: Seen) -> Result<(), StoreError> {
        self.ordered_by_count = true;
        let mut causes = Vec::new();
        for diagnosis in candidates {
            if !causes.contains(&diagnosis) {
                causes.push(diagnosis);
            }
        }
        let (users, addresses) = self.narrow();
        let mut entries =
            self.load(self.since(), None, self.options.api.as_deref(), &users, &addresses).await?;
        entries.retain(|entry| self.options.is_of_api(entry));
        let window = Window::new(&entries, self.now(), self.covered_since());
        let options = self.options;
        let is_meant = |entry: &Entry| options.covers(&window, entry) && seen.fits(entry);
        let mut asked = Asked {
            causes: causes.iter().copied().collect(),
            user: options.user.clone(),
            ..Asked::default()
        };
        if let Some(address) = &options.address {
            let of_address = window.lives().iter().filter(|life| window.address(life) == Some(address));
            asked.keys.extend(of_address.map(|life| life.key.to_owned()));
        }
        let verdict = check::run(&window, &asked);
        let mut findings = self.of_entries(&window, is_meant, |diagnosis| {
            let leads_to = causes.contains(&diagnosis);
            // What is not on the list and shows itself exactly so is a cause all the same.
            leads_to
                || window
                    .entries()
                    .iter()
                    .any(|entry| entry.diagnosis() == Some(diagnosis) && seen.is_exactly(entry))
        });
        if self.is_cut(&entries) {
            self.count_exactly(&mut findings).await?;
        }
        let is_named = |found: &Found| {
            // What a rule says about ends with this code is about the code, whatever its name is.
            let is_end = |idx: &usize| {
                let entry = window.entry(*idx);
                entry.kind == Kind::Close && matches!(seen, Seen::CloseCode(_)) && seen.fits(entry)
            };
            let named = causes.iter().any(|cause| cause.as_str() == found.finding.id)
                || found.entries.iter().any(is_end);
            // Posts to others may be what shows it.
            let own = found.finding.connection_id.as_deref().and_then(|id| window.life(id));
            let mut of_life = own.into_iter().flat_map(|life| &life.entries);
            let covers = found.entries.is_empty()
                || of_life.any(|idx| options.covers(&window, window.entry(*idx)))
                || found.entries.iter().any(|idx| options.covers(&window, window.entry(*idx)));
            named && covers
        };
        merge(&mut findings, verdict.found.into_iter().filter(is_named), &verdict.excluded);
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.count));
        let is_found: BTreeSet<String> = findings.iter().map(|finding| finding.id.clone()).collect();
        let has_proof = findings.iter().any(|finding| finding.confidence == Confidence::Proven);
        self.add(findings);
        let n_attempts =
            window.of_kind(Kind::Handshake).filter(|(_, entry)| options.covers(&window, entry)).count();
        if n_attempts == 0 && self.is_about_attempts(&causes) {
            self.note_never_arrived();
        }
        let open: Vec<Diagnosis> =
            causes.into_iter().filter(|cause| !is_found.contains(cause.as_str())).collect();
        self.not_found(&window, open, &verdict.excluded, has_proof);
        self.note_reach();
        Ok(())
    }

    /// Is any of the causes one of the opening of a connection?
    fn is_about_attempts(&self, causes: &[Diagnosis]) -> bool {
        causes.iter().any(|diagnosis| (1..=16).contains(&diagnosis.describe().symptom))
    }

    fn narrow(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        (self.options.user.iter().cloned().collect(), self.options.address.iter().cloned().collect())
    }

    fn is_cut(&self, entries: &[Entry]) -> bool {
        entries.len() >= MAX_ENTRIES
    }

    /// Counts of all entries, where only the newest were read.
    async fn count_exactly(&mut self, findings: &mut [Finding]) -> Result<(), StoreError> {
        if self.options.is_narrow() {
            return Ok(());
        }
        let query = EntryQuery {
            since: Some(self.since()),
            api_id: self.options.api.clone(),
            ..EntryQuery::default()
        };
        let counts: BTreeMap<String, u64> =
            self.sources.journal.count_outcomes(query).await?.into_iter().collect();
        for finding in findings {
            if let Some(count) = counts.get(&finding.id) {
                finding.count = finding.count.max(Some(*count));
            }
        }
        let note = format!(
            "There are more entries than one question reads: the newest {MAX_ENTRIES} were looked at; counts are of all."
        );
        self.report.notes.push(note);
        Ok(())
    }

    /// Candidates of which nothing was seen: excluded where the journal would have them, else possible.
    fn not_found(
        &mut self,
        window: &Window<'_>,
        open: Vec<Diagnosis>,
        excluded: &BTreeSet<Diagnosis>,
        has_proof: bool,
    ) {
        let absence_is_proof = self.absence_is_proof();
        let mut possible = Vec::new();
        for diagnosis in open {
            let cause = diagnosis.describe();
            let is_recorded = cause.seen.split(' ').any(|seen| matches!(seen, "G" | "G*" | "B"));
            if excluded.contains(&diagnosis) || (is_recorded && absence_is_proof) {
                self.report.excluded.push(diagnosis.as_str().to_owned());
            } else {
                possible.push(cause);
            }
        }
        let n_shown = if has_proof { 0 } else { MAX_POSSIBLE };
        let shown = possible.len().min(n_shown);
        // What the journal could never show is the better guess than what it only might have lost.
        let is_recorded = |cause: &Cause| cause.seen.split(' ').any(|seen| matches!(seen, "G" | "G*" | "B"));
        possible[shown..].sort_by_key(|cause| is_recorded(cause));
        for cause in &possible[..shown] {
            let finding = self.possible(window, cause);
            self.report.findings.push(finding);
        }
        let rest: Vec<&str> = possible[shown..].iter().map(|cause| cause.diagnosis.as_str()).collect();
        if !rest.is_empty() {
            let more = match rest.len().saturating_sub(MAX_NAMED) {
                0 => String::new(),
                more => format!(" and {more} others"),
            };
            self.report.notes.push(format!(
                "Also possible, because nothing here could show it: {}{more}. `tidegate explain ID` says what would prove one.",
                rest[..rest.len().min(MAX_NAMED)].join(", ")
            ));
        }
    }

    /// A cause that nothing excludes.
    fn possible(&self, window: &Window<'_>, cause: &'static Cause) -> Finding {
        let diagnosis = cause.diagnosis;
        let mut finding = Finding::new(diagnosis, severity(diagnosis), Confidence::Possible);
        let text = match cause.is_undetectable() {
            true => format!(
                "The gateway cannot see this. {} Closest: {}",
                self.what_was_seen(window),
                cause.proof
            ),
            false => format!("Not seen, not excluded. What would prove it: {}", cause.proof),
        };
        finding = finding.seen(text, facts([]));
        let newest = window
            .of_kind(Kind::Handshake)
            .map(|(_, entry)| entry)
            .filter(|entry| self.options.covers(window, entry))
            .last();
        finding.next = next::commands(cause, newest, self.options.api.as_deref());
        finding
    }

    /// What there is beside something that cannot be seen.
    fn what_was_seen(&self, window: &Window<'_>) -> String {
        let count =
            |kind| window.of_kind(kind).filter(|(_, entry)| self.options.covers(window, entry)).count();
        format!(
            "In this time it saw {} attempts to connect, {} messages that failed or were counted, {} posts and {} control events{}.",
            count(Kind::Handshake),
            count(Kind::Message),
            count(Kind::Post),
            count(Kind::Control),
            self.options.words(),
        )
    }

    async fn text(&mut self, text: &str) -> Result<(), StoreError> {
        // A pasted log line names what it is about better than its words do.
        let mut seeds = Vec::new();
        for id in search::ids_in(text).into_iter().take(MAX_CONNECTIONS) {
            let base = EntryQuery { limit: MAX_OF_ONE, ..EntryQuery::default() };
            seeds.extend(self.query(EntryQuery { request_id: Some(id.to_owned()), ..base.clone() }).await?);
            seeds.extend(self.query(EntryQuery { connection_id: Some(id.to_owned()), ..base }).await?);
        }
        if !seeds.is_empty() {
            return self.about(seeds).await;
        }
        let matches = search::match_text(text);
        if matches.is_empty() {
            let note = "No known text was recognized; try the close code, the status or the id from the log.";
            self.report.notes.push(note.to_owned());
            self.note_reach();
            return Ok(());
        }
        self.text_matches(matches).await
    }

    async fn text_matches(&mut self, matches: Vec<search::TextMatch>) -> Result<(), StoreError> {
        let patterns: Vec<String> = matches.iter().map(|found| format!("\"{}\"", found.pattern)).collect();
        self.report.notes.push(format!("Recognized: {}.", patterns.join(", ")));
        let causes = matches.into_iter().flat_map(|found| found.causes).collect();
        self.candidates(causes, Seen::Anything).await
    }

    /// The newest failures, whoever's they are.
    async fn last(&mut self, n: usize) -> Result<(), StoreError> {
        let entries = self.failures(n).await?;
        if entries.is_empty() {
            self.report.notes.push("Nothing has failed in this time.".to_owned());
            self.note_reach();
            return Ok(());
        }
        self.timeline(&entries);
        self.failed(entries).await
    }

    async fn everything(&mut self) -> Result<(), StoreError> {
        let entries = self.failures(MAX_LAST).await?;
        if !entries.is_empty() {
            self.timeline(&entries);
            return self.failed(entries).await;
        }
        let query = EntryQuery {
            since: Some(self.since()),
            kinds: vec![Kind::Handshake],
            user: self.options.user.clone(),
            address: self.options.address.clone(),
            api_id: self.options.api.clone(),
            limit: MAX_OF_ONE,
            ..EntryQuery::default()
        };
        let attempts = self.query(query).await?;
        match attempts.last() {
            Some(newest) => {
                let note = format!(
                    "Nothing has failed in this time; the newest attempt opened at {}.",
                    time(newest.ts)
                );
                self.report.notes.push(note);
                self.note_reach();
            }
            None => {
                self.never_arrived(None);
                self.note_reach();
            }
        }
        Ok(())
    }

    /// The newest entries that are failures to somebody.
    async fn failures(&self, n: usize) -> Result<Vec<Entry>, StoreError> {
        let query = EntryQuery {
            since: Some(self.since()),
            failures_only: true,
            user: self.options.user.clone(),
            address: self.options.address.clone(),
            api_id: self.options.api.clone(),
            limit: MAX_ENTRIES,
            ..EntryQuery::default()
        };
        let mut entries = self.query(query).await?;
        // Ends as they should be are kept with their reason, too.
        entries
            .retain(|entry| entry.diagnosis().is_some_and(|diagnosis| severity(diagnosis) != Severity::Info));
        // What doctor tries on purpose has failed nobody.
        let is_doctors = |entry: &Entry| {
            entry.text("userAgent").is_some_and(|program| program.starts_with(crate::probe::PROGRAM))
        };
        entries.retain(|entry| !is_doctors(entry));
        let surplus = entries.len().saturating_sub(n);
        Ok(entries.split_off(surplus))
    }

    /// Causes of these failures.
    async fn failed(&mut self, failures: Vec<Entry>) -> Result<(), StoreError> {
        let (users, addresses) = self.narrow();
        let loaded = self.load(self.since(), None, self.options.api.as_deref(), &users, &addresses).await?;
        let loaded = loaded.into_iter().filter(|entry| self.options.is_of_api(entry));
        let entries = in_order(loaded.chain(failures.iter().cloned()).collect());
        let window = Window::new(&entries, self.now(), self.covered_since());
        let asked = Asked { user: self.options.user.clone(), ..Asked::default() };
        let verdict = check::run(&window, &asked);
        // Entries have no number of their own: they are the same when everything about them is.
        let is_own = |entry: &Entry| {
            let start = failures.partition_point(|failure| failure.ts < entry.ts);
            failures[start..]
                .iter()
                .take_while(|failure| failure.ts == entry.ts)
                .any(|failure| failure == entry)
        };
        let mut findings = self.of_entries(&window, is_own, |_| true);
        // The newest is what somebody has just seen.
        findings.sort_by(|a, b| b.at.cmp(&a.at));
        let concerns = |found: &Found| found.entries.iter().any(|idx| is_own(window.entry(*idx)));
        merge(&mut findings, verdict.found.into_iter().filter(concerns), &verdict.excluded);
        self.add(findings);
        self.note_reach();
        Ok(())
    }

    /// Findings, and what the difference between deployment and definition says about them.
    fn add(&mut self, findings: Vec<Finding>) {
        let behind = self.sources.live.map(Live::stages_behind).unwrap_or_default();
        for behind in behind {
            let is_about = |finding: &Finding| {
                let family = finding.id.split_once('.').map_or("", |(family, _)| family);
                let can_come_of_it =
                    ["route", "handler", "integration", "backend", "reply", "authorizer"].contains(&family);
                can_come_of_it && finding.api_id.as_deref() == Some(&behind.api_id)
            };
            let is_asked = self.report.target.starts_with(Diagnosis::STAGE_REDEPLOY_NEEDED.as_str());
            if !is_asked && !findings.iter().any(is_about) {
                continue;
            }
            let differences = match behind.differences.is_empty() {
                true => String::new(),
                false => format!(": {}", behind.differences.join(", ")),
            };
            let text = format!(
                "Stage {} of API {} does not serve what is defined now{differences}.",
                behind.stage, behind.api_id
            );
            let facts = facts([("differences", json!(behind.differences))]);
            let mut finding = Finding::warning(Diagnosis::STAGE_REDEPLOY_NEEDED).seen(text, facts);
            finding.next.push(format!("tidegate doctor --api {}", behind.api_id));
            (finding.api_id, finding.stage) = (Some(behind.api_id), Some(behind.stage));
            self.report.findings.push(finding);
        }
        self.report.findings.extend(findings);
    }

    fn timeline(&mut self, entries: &[Entry]) {
        let n_left_out = entries.len().saturating_sub(MAX_TIMELINE);
        let head = if n_left_out > 0 { MAX_TIMELINE / 2 } else { entries.len() };
        let shown = entries[..head].iter().chain(&entries[head + n_left_out..]);
        self.report.timeline = shown.map(describe::moment).collect();
        if n_left_out > 0 {
            self.report
                .notes
                .push(format!("{n_left_out} lines in the middle of the timeline were left out."));
        }
    }

    /// Says how an open connection is; answers whether it is there.
    fn say_live(&mut self, id: &str) -> bool {
        let Some(connection) = self.sources.live.and_then(|live| live.connection(id)) else { return false };
        let ago = |at: u64| span(self.now().saturating_sub(at));
        let channels = match connection.channels.is_empty() {
            true => "in no channel".to_owned(),
            false => format!("in {}", connection.channels.join(", ")),
        };
        let note = format!(
            "{id} is {} now: for {}, last message {} ago, {} messages in and {} out, {channels}.",
            connection.state,
            ago(connection.connected_at),
            ago(connection.last_active_at),
            connection.messages_in,
            connection.messages_out,
        );
        self.report.notes.push(note);
        true
    }

    /// Says what the gateway itself remembers of an id that is not open; answers whether it does.
    fn say_gone(&mut self, id: &str) -> bool {
        let why = self.sources.live.and_then(|live| live.why_gone(id));
        // Those two are said of everything that is no id of a connection, such as one of a request.
        let unknown = [Diagnosis::GONE_UNKNOWN_ID, Diagnosis::GONE_MALFORMED_ID];
        let Some(why) = why.filter(|why| !unknown.contains(why)) else { return false };
        let text = "The journal has no entry about this id; the gateway itself remembers how it ended.";
        let finding = Finding::new(why, severity(why), Confidence::Proven).seen(text, facts([]));
        self.report.findings.push(Finding { connection_id: Some(id.to_owned()), ..finding });
        true
    }

    fn note_never_arrived(&mut self) {
        self.report.notes.push(format!(
            "No attempt to connect{} is in the journal since {}: the request never arrived. Run: tidegate doctor wss://HOST/PATH",
            self.options.words(),
            time(self.since())
        ));
    }

    /// The causes of a request that never arrived. With the id of a request that is not known, the backend may have it from
    /// somebody else than the gateway.
    fn never_arrived(&mut self, request_id: Option<&str>) {
        if request_id.is_some() {
            let diagnosis = Diagnosis::BACKEND_NOT_FROM_GATEWAY;
            let text =
                "If the backend's log names this id as a request id: the gateway made no such request.";
            let mut finding =
                Finding::new(diagnosis, severity(diagnosis), Confidence::Possible).seen(text, facts([]));
            finding.next = next::commands(diagnosis.describe(), None, self.options.api.as_deref());
            self.report.findings.push(finding);
        } else {
            self.note_never_arrived();
        }
        let candidates = NEVER_ARRIVED.iter().flat_map(|symptom| search::causes_of(*symptom));
        let outside: Vec<&'static Cause> = candidates
            .map(Diagnosis::describe)
            .filter(|cause| {
                cause.seen.split(' ').any(|seen| seen == "D")
                    && !cause.seen.split(' ').any(|seen| seen == "G")
            })
            .collect();
        // One run of doctor tells them apart, so they are one line and not a page each.
        let ids: Vec<&str> = outside.iter().map(|cause| cause.diagnosis.as_str()).collect();
        if let Some(first) = outside.first() {
            let text = format!("Nothing arrived. doctor tells these apart: {}.", ids.join(", "));
            let mut finding = Finding::new(first.diagnosis, severity(first.diagnosis), Confidence::Possible)
                .seen(text, facts([]));
            finding.next.push("tidegate doctor wss://HOST/PATH".to_owned());
            self.report.findings.push(finding);
        }
    }

    /// What limits the journal's word.
    fn note_reach(&mut self) {
        let (dropped, sampled) = self.losses();
        if dropped > 0 {
            self.report.notes.push(format!(
                "{dropped} entries were lost since the gateway's start: that something is not here proves nothing."
            ));
        }
        if sampled > 0 {
            self.report
                .notes
                .push(format!("{sampled} successes were counted and not written: there were too many."));
        }
        match self.state.oldest {
            None => self.report.notes.push("The journal is empty.".to_owned()),
            Some(oldest) if oldest > self.since() => {
                self.report.notes.push(format!(
                    "The journal begins at {}, later than what was asked about.",
                    time(oldest)
                ));
            }
            Some(_) => {}
        }
    }

    fn finish(mut self, took: Duration) -> Report {
        self.report.excluded.sort_unstable();
        self.report.excluded.dedup();
        let found: BTreeSet<&str> = self.report.findings.iter().map(|finding| finding.id.as_str()).collect();
        let excluded: Vec<String> =
            self.report.excluded.iter().filter(|id| !found.contains(id.as_str())).cloned().collect();
        self.report.excluded = excluded;
        self.report.notes.dedup();
        for finding in &mut self.report.findings {
            let is_open_question = finding.confidence != Confidence::Proven && finding.next.is_empty();
            if let (true, Some(diagnosis)) = (is_open_question, Diagnosis::find(&finding.id)) {
                finding.next = next::commands(diagnosis.describe(), None, finding.api_id.as_deref());
            }
        }
        self.report.finish(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        if self.ordered_by_count {
            self.report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.count.unwrap_or_default()));
        }
        clean(&mut self.report);
        self.report
    }
}

/// Is it about the address that a client used?
fn is_of_address(diagnosis: Diagnosis) -> bool {
    let (family, _) = diagnosis.as_str().split_once('.').unwrap_or_default();
    ["handshake", "path", "api", "stage", "domain"].contains(&family)
}

/// In the order of time, each once.
fn in_order(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| {
        let key = |entry: &Entry| (entry.ts, entry.node, entry.kind);
        key(a)
            .cmp(&key(b))
            .then_with(|| a.outcome.cmp(&b.outcome))
            .then_with(|| a.request_id.cmp(&b.request_id))
            .then_with(|| a.connection_id.cmp(&b.connection_id))
    });
    entries.dedup();
    entries
}

/// Adds what rules found. Where entries say the same, the rule knows more; what a rule excludes goes, unless it is proven.
fn merge(findings: &mut Vec<Finding>, found: impl Iterator<Item = Found>, excluded: &BTreeSet<Diagnosis>) {
    findings.retain(|finding| {
        let is_excluded = excluded.iter().any(|id| id.as_str() == finding.id);
        !is_excluded || finding.confidence == Confidence::Proven
    });
    let mut added = 0;
    for Found { finding, .. } in found {
        // In the order of the rules and before the bare facts: a rule says why there are so many of them, and names first what is
        // to be removed first.
        let place = findings.iter().position(|known| known.id == finding.id);
        let finding = match place.map(|place| findings.remove(place)) {
            Some(known) => both(known, finding),
            None => finding,
        };
        match place.filter(|place| *place < added) {
            // Another rule, or the same once more, has said it before.
            Some(place) => findings.insert(place, finding),
            None => {
                findings.insert(added, finding);
                added += 1;
            }
        }
    }
}

/// What entries say and what a rule says about the same cause.
fn both(mut known: Finding, rule: Finding) -> Finding {
    // What an entry proves a rule does not take back; a rule that weighs several readings of one answer makes them possible only.
    let is_weighed = rule.confidence == Confidence::Possible && known.confidence != Confidence::Proven;
    known.confidence = if is_weighed { rule.confidence } else { known.confidence.min(rule.confidence) };
    known.count = known.count.max(rule.count);
    known.evidence = rule.evidence.into_iter().chain(known.evidence).take(MAX_EVIDENCE).collect();
    // The newest is the example: whoever asks has seen it.
    if rule.connection_id.is_some() && rule.at > known.at {
        (known.request_id, known.connection_id) = (rule.request_id, rule.connection_id);
        (known.client_ref, known.api_id, known.stage) = (rule.client_ref, rule.api_id, rule.stage);
        (known.route_key, known.at) = (rule.route_key, rule.at);
        known.client_saw = rule.client_saw.or(known.client_saw);
    }
    for action in rule.fix.into_iter().rev() {
        if !known.fix.contains(&action) {
            known.fix.insert(0, action);
        }
    }
    for command in rule.next {
        if !known.next.contains(&command) {
            known.next.push(command);
        }
    }
    known
}

/// Takes away what a terminal would obey: some words come from clients.
fn clean(report: &mut Report) {
    fn text(text: &mut String) {
        if text.chars().any(|c| c.is_control() || is_direction_mark(c)) {
            *text = text
                .chars()
                .map(|c| if c.is_control() || is_direction_mark(c) { '\u{fffd}' } else { c })
                .collect();
        }
    }
    fn is_direction_mark(c: char) -> bool {
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    }
    fn value(inner: &mut Value) {
        match inner {
            Value::String(words) => text(words),
            Value::Array(items) => items.iter_mut().for_each(value),
            Value::Object(members) => members.values_mut().for_each(value),
            _ => {}
        }
    }
    text(&mut report.target);
    report.notes.iter_mut().for_each(text);
    for moment in &mut report.timeline {
        text(&mut moment.text);
    }
    for finding in &mut report.findings {
        for evidence in &mut finding.evidence {
            text(&mut evidence.text);
            evidence.facts.values_mut().for_each(value);
        }
        finding.next.iter_mut().for_each(text);
        finding.fix.iter_mut().for_each(text);
    }
}

#[cfg(test)]
mod tests;
