//! Answers "why did it fail": from an id, a code, a diagnosis id or a pasted text to causes with their proof.
//!
//! [`explain`] reads bounded parts of the journal, runs the rules of [`crate::check`] over them and says what is proven, what is
//! likely, what nothing excludes, and what the journal excludes. It changes nothing. What is open at this moment it learns from
//! [`Live`], where there is one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tidegate_core::diagnosis::{Diagnosis, search};
use tidegate_core::journal::{Entry, EntryQuery, JournalState, JournalStore, Kind};
use tidegate_core::port::StoreError;

use crate::check::{self, Window, time};
use crate::report::{Confidence, Report};

mod candidates;
mod clean;
mod describe;
mod failures;
mod findings;
mod next;
mod notes;
mod one;
mod question;
mod scaled;

use candidates::Seen;
use clean::clean;
pub(crate) use describe::confidence;
pub use question::{MAX_QUESTION, Question, QuestionError};
pub use scaled::{Scale, TIME_SCALE};

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

/// Payloads in a timeline; the newest count.
const MAX_PAYLOADS: usize = 100;

/// Characters of a payload in a timeline.
const MAX_PAYLOAD: usize = 500;

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
    /// Shows payloads, where an operator has them captured.
    pub payloads: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { since: DEFAULT_SINCE, user: None, address: None, api: None, payloads: false }
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

    /// What was captured of its messages; nothing unless an operator has ordered that.
    fn payloads(&self, id: &str) -> Vec<Payload> {
        let _ = id;
        Vec::new()
    }

    /// How many times faster its times pass than those of the world; 1 but for tests.
    fn time_scale(&self) -> u64 {
        1
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
    /// The newest messages of both ways, in the order of time.
    pub recent: Vec<Passed>,
}

/// A message that passed: nothing of what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Microseconds since 1970.
    pub at: u64,
    /// The client sent it; otherwise it went to the client.
    pub from_client: bool,
    /// Payload in bytes.
    pub size: u64,
}

/// A payload that was captured.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    /// When it passed; microseconds since 1970.
    pub at: u64,
    /// Of the event.
    pub request_id: String,
    /// The client sent it; otherwise its route answered it.
    pub from_client: bool,
    /// Of all of it, in bytes.
    pub size: usize,
    /// Without what looks like a secret; none of what is no text.
    pub text: Option<String>,
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload").field("at", &self.at).field("size", &self.size).finish_non_exhaustive()
    }
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
    let mut state = sources.journal.state().await?;
    let scale = match sources.live {
        Some(live) => Scale { from: sources.now, factor: live.time_scale().max(1) },
        None => scaled::of_journal(sources, &state).await?,
    };
    state.oldest = state.oldest.map(|at| scale.stretched(at));
    let target = format!("{}{}", question.target(), options.words());
    let options = &as_kept(sources.journal, options).await?;
    let mut answer = Answer {
        report: Report::new("explain", target, time(sources.now)),
        sources: *sources,
        options,
        state,
        scale,
        ordered_by_count: false,
    };
    answer.report.notes.extend(scale.note());
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

/// An answer that is being put together.
struct Answer<'a> {
    report: Report,
    sources: Sources<'a>,
    options: &'a Options,
    state: JournalState,
    scale: Scale,
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
        Ok(self.scale.entries(self.sources.journal.query(self.scale.query(query)).await?))
    }

    /// Users and addresses that were named.
    fn narrow(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        (self.options.user.iter().cloned().collect(), self.options.address.iter().cloned().collect())
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

#[cfg(test)]
mod tests;
