//! Answers about what somebody saw: a close code, a status, a text.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_core::diagnosis::{Cause, Diagnosis, search};
use tidegate_core::id::RequestId;
use tidegate_core::journal::{Entry, EntryQuery, Kind};
use tidegate_core::port::StoreError;

use super::findings::merge;
use super::{Answer, MAX_CONNECTIONS, MAX_ENTRIES, MAX_NAMED, MAX_OF_ONE, MAX_POSSIBLE, next};
use crate::check::{self, Asked, Found, Window, facts, is_open, severity};
use crate::report::{Confidence, Finding};

/// What the person saw, which entries must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
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

impl Answer<'_> {
    /// Causes that something that was seen leads to.
    pub(super) async fn candidates(
        &mut self,
        candidates: Vec<Diagnosis>,
        seen: Seen,
    ) -> Result<(), StoreError> {
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
            self.sources.journal.count_outcomes(self.scale.query(query)).await?.into_iter().collect();
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

    pub(super) async fn text(&mut self, text: &str) -> Result<(), StoreError> {
        // A pasted log line names what it is about better than its words do.
        let mut seeds = Vec::new();
        // boto3 and the AWS CLI show the UUID of an answer as its request id.
        let is_uuid_part = |c: char| c.is_ascii_hexdigit() || c == '-';
        let uuids = text.split(|c| !is_uuid_part(c)).filter_map(|word| RequestId::from_uuid(word).ok());
        let ids = search::ids_in(text).into_iter().map(str::to_owned);
        let ids: Vec<String> = ids.chain(uuids.map(|id| id.to_string())).take(MAX_CONNECTIONS).collect();
        for id in ids {
            let base = EntryQuery { limit: MAX_OF_ONE, ..EntryQuery::default() };
            seeds.extend(self.query(EntryQuery { request_id: Some(id.clone()), ..base.clone() }).await?);
            seeds.extend(self.query(EntryQuery { connection_id: Some(id), ..base }).await?);
        }
        if !seeds.is_empty() {
            return self.about(seeds, None).await;
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

    pub(super) async fn text_matches(&mut self, matches: Vec<search::TextMatch>) -> Result<(), StoreError> {
        let patterns: Vec<String> = matches.iter().map(|found| format!("\"{}\"", found.pattern)).collect();
        self.report.notes.push(format!("Recognized: {}.", patterns.join(", ")));
        let causes = matches.into_iter().flat_map(|found| found.causes).collect();
        self.candidates(causes, Seen::Anything).await
    }
}
