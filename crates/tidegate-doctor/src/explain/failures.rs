//! Answers about the newest failures, whoever's they are.

use tidegate_core::journal::{Entry, EntryQuery, Kind};
use tidegate_core::port::StoreError;

use super::findings::merge;
use super::{Answer, MAX_ENTRIES, MAX_LAST, MAX_OF_ONE, in_order};
use crate::check::{self, Asked, Found, Window, severity, time};
use crate::report::Severity;

impl Answer<'_> {
    /// The newest failures, whoever's they are.
    pub(super) async fn last(&mut self, n: usize) -> Result<(), StoreError> {
        let entries = self.failures(n).await?;
        if entries.is_empty() {
            self.report.notes.push("Nothing has failed in this time.".to_owned());
            self.note_reach();
            return Ok(());
        }
        self.timeline(&entries);
        self.failed(entries).await
    }

    pub(super) async fn everything(&mut self) -> Result<(), StoreError> {
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
}
