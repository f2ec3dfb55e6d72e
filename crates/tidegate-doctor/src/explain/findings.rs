//! From entries and rules to findings.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Entry, Kind, OK};

use super::{Answer, Live, MAX_EVIDENCE, MAX_PAYLOADS, MAX_TIMELINE, describe, next};
use crate::check::{Found, Window, facts, set_example, severity, time};
use crate::report::{Confidence, Finding, Moment};

impl Answer<'_> {
    /// Failures among the entries, grouped by their cause, in the order in which they first happened.
    pub(super) fn of_entries(
        &self,
        window: &Window<'_>,
        is_meant: impl Fn(&Entry) -> bool,
        is_wanted: impl Fn(Diagnosis) -> bool,
    ) -> Vec<Finding> {
        let mut groups: Vec<(Diagnosis, Vec<&Entry>)> = Vec::new();
        // None: not wanted. Asked once for each, because the answer may need a look at all entries.
        let mut place: BTreeMap<Diagnosis, Option<usize>> = BTreeMap::new();
        for entry in window.entries().iter().filter(|entry| entry.outcome != OK && is_meant(entry)) {
            let Some(diagnosis) = entry.diagnosis() else { continue };
            let group_idx = *place.entry(diagnosis).or_insert_with(|| {
                is_wanted(diagnosis).then(|| {
                    groups.push((diagnosis, Vec::new()));
                    groups.len() - 1
                })
            });
            if let Some(group_idx) = group_idx {
                groups[group_idx].1.push(entry);
            }
        }
        groups.into_iter().map(|(diagnosis, entries)| self.finding(diagnosis, &entries)).collect()
    }

    /// A finding from the entries that name it, in the order of time; at least one.
    pub(super) fn finding(&self, diagnosis: Diagnosis, entries: &[&Entry]) -> Finding {
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

    /// Findings, and what the difference between deployment and definition says about them.
    pub(super) fn add(&mut self, findings: Vec<Finding>) {
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

    pub(super) fn timeline(&mut self, entries: &[Entry]) {
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

    /// Puts what was captured of a connection into the timeline.
    pub(super) fn add_payloads(&mut self, id: &str) {
        let Some(live) = self.sources.live.filter(|_| self.options.payloads) else { return };
        let payloads = live.payloads(id);
        let newest = payloads.len().saturating_sub(MAX_PAYLOADS);
        self.add_moments(payloads[newest..].iter().map(describe::payload).collect());
    }

    /// Puts further lines where their time is.
    pub(super) fn add_moments(&mut self, moments: Vec<Moment>) {
        if moments.is_empty() {
            return;
        }
        self.report.timeline.extend(moments);
        // Times of one length and zone: their order is that of their letters. What happened at one moment stays as it was.
        self.report.timeline.sort_by(|a, b| a.at.cmp(&b.at));
    }
}

/// Is it about the address that a client used?
fn is_of_address(diagnosis: Diagnosis) -> bool {
    let (family, _) = diagnosis.as_str().split_once('.').unwrap_or_default();
    ["handshake", "path", "api", "stage", "domain"].contains(&family)
}

/// Adds what rules found. Where entries say the same, the rule knows more; what a rule excludes goes, unless it is proven.
pub(super) fn merge(
    findings: &mut Vec<Finding>,
    found: impl Iterator<Item = Found>,
    excluded: &BTreeSet<Diagnosis>,
) {
    findings.retain(|finding| {
        let is_excluded = excluded.iter().any(|id| id.as_str() == finding.id);
        !is_excluded || finding.confidence == Confidence::Proven
    });
    let mut added = 0;
    for Found { finding, .. } in found {
        if finding.id == Diagnosis::NODE_RESTART.as_str() {
            take_restarted(findings, &finding);
        }
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

/// A drain that a start followed is said once, as what it was.
fn take_restarted(findings: &mut Vec<Finding>, restart: &Finding) {
    let is_draining = |finding: &Finding| finding.id == Diagnosis::NODE_DRAINING.as_str();
    let Some(place) = findings.iter().position(is_draining) else { return };
    let left = findings[place].count.unwrap_or(1).saturating_sub(restart.count.unwrap_or(1));
    match left {
        0 => {
            findings.remove(place);
        }
        left => findings[place].count = Some(left),
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
