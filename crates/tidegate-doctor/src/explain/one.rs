//! Answers about one id: its connections, requests and attempts.

use std::collections::BTreeSet;

use tidegate_core::diagnosis::{Diagnosis, search};
use tidegate_core::id::RequestId;
use tidegate_core::journal::{Entry, EntryQuery, Kind, OK};
use tidegate_core::port::StoreError;

use super::findings::merge;
use super::{AFTERMATH, Answer, MAX_CONNECTIONS, MAX_OF_ONE, Question, in_order};
use crate::check::{self, Asked, Found, Window};

impl Answer<'_> {
    /// Everything about one id.
    pub(super) async fn id(&mut self, id: &str) -> Result<(), StoreError> {
        let base = EntryQuery { limit: MAX_OF_ONE, ..EntryQuery::default() };
        let mut seeds = Vec::new();
        for query in [
            EntryQuery { connection_id: Some(id.to_owned()), ..base.clone() },
            EntryQuery { request_id: Some(id.to_owned()), ..base.clone() },
        ] {
            seeds.extend(self.query(query).await?);
        }
        if seeds.is_empty() {
            // No index leads to a client's own reference: everything is looked through for it.
            let query = EntryQuery { client_ref: Some(id.to_owned()), ..base.clone() };
            seeds.extend(self.query(query).await?);
        }
        if !seeds.is_empty() {
            return self.about(seeds, Some(id)).await;
        }
        // boto3 shows the UUID of an answer as its request id.
        if let Ok(inner) = RequestId::from_uuid(id) {
            let query = EntryQuery { request_id: Some(inner.to_string()), ..base };
            let seeds = self.query(query).await?;
            if !seeds.is_empty() {
                let inner = inner.to_string();
                self.report.notes.push(format!("This is the request {inner}."));
                return self.about(seeds, Some(&inner)).await;
            }
        }
        if self.say_live(id) {
            self.add_payloads(id);
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

    pub(super) async fn session(&mut self, session: &str) -> Result<(), StoreError> {
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
        self.about(seeds, None).await
    }

    /// The connections and requests that these entries belong to. What happened to the request that was asked about comes
    /// before what happened to others of its connection.
    pub(super) async fn about(
        &mut self,
        seeds: Vec<Entry>,
        asked_id: Option<&str>,
    ) -> Result<(), StoreError> {
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
            self.add_payloads(id);
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
        // Before the rules have their say: what they conclude still comes before what they explain.
        let of_request: BTreeSet<&str> = own
            .iter()
            .filter(|entry| {
                entry.outcome != OK && asked_id.is_some() && entry.request_id.as_deref() == asked_id
            })
            .filter_map(|entry| entry.diagnosis().map(Diagnosis::as_str))
            .collect();
        findings.sort_by_key(|finding| !of_request.contains(finding.id.as_str()));
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
}
