//! What the journal and the records say of an API.

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{EntryQuery, Kind};
use tidegate_core::port::{RecordKind, StoreError};
use tidegate_doctor::explain::Scale;
use tidegate_doctor::inspect::{facts, statistics};
use tidegate_doctor::journal::NoJournal;
use tidegate_doctor::report::{Confidence, Finding, Probe, ProbeResult, Report, Severity};

use super::MILLI;
use crate::api::Inner;

/// Control entries in which the last run of the clean-up is looked for.
const MAX_CONTROLS: usize = 5000;

/// Kinds of records that the clean-up removes.
const CLEANED: [RecordKind; 5] =
    [RecordKind::Token, RecordKind::SpentToken, RecordKind::Ban, RecordKind::Attempt, RecordKind::Audit];

/// What the journal and the records say of the last day.
pub(super) async fn statistics(inner: &Inner, now: u64, api_id: &str, report: &mut Report) {
    let skipped = |name: &str, error: &StoreError| Probe {
        name: name.to_owned(),
        result: ProbeResult::Skipped,
        measurements: facts([("reason", crate::operation::journal::refused(error).message.into())]),
    };
    let scale = Scale { from: now, factor: inner.gateway.time_scale() };
    let query = scale.query(EntryQuery {
        since: Some(now.saturating_sub(statistics::LOOK_BACK)),
        api_id: Some(api_id.to_owned()),
        limit: statistics::MAX_ENTRIES,
        ..EntryQuery::default()
    });
    let read = async { Ok((inner.journal.query(query).await?, inner.journal.state().await?)) };
    match read.await {
        // An operator who keeps no journal has said so.
        Err(error) if NoJournal::is_off(&error) => {
            let finding = Finding::new(Diagnosis::LOG_DISABLED, Severity::Info, Confidence::Proven);
            let text = "The journal is off: what became of messages, posts and connections is not known.";
            report.findings.push(finding.seen(text, facts([("setting", "journal".into())])));
        }
        Err(error) => report.probes.push(skipped("statistics", &error)),
        Ok((entries, state)) => {
            // Only what rules look at is stretched: how far the journal reaches is a matter of this world.
            report.notes.extend(scale.note());
            let entries = scale.entries(entries);
            let covered_since = state.oldest.map(|oldest| scale.stretched(oldest));
            let view = statistics::JournalView { api_id, entries: &entries, now, covered_since };
            let (probes, findings) = statistics::of_journal(&view);
            report.probes.extend(probes);
            report.findings.extend(findings);
            let (probe, findings) = statistics::of_reach(&state, &journal_limits(inner), now);
            report.probes.push(probe);
            report.findings.extend(findings);
        }
    }
    match stored(inner, now / MILLI).await {
        Err(error) => report.probes.push(skipped("records", &error)),
        Ok(stored) => {
            let up_for = u64::try_from(inner.started_at.elapsed().as_micros()).unwrap_or(u64::MAX);
            let last_run = last_clean_up(inner, now).await;
            let (probe, findings) = statistics::of_records(&stored, last_run, up_for, now);
            report.probes.push(probe);
            report.findings.extend(findings);
        }
    }
}

/// What the clean-up has to look after. `now`: milliseconds since 1970.
async fn stored(inner: &Inner, now: u64) -> Result<Vec<statistics::Stored>, StoreError> {
    let mut all = Vec::new();
    for kind in CLEANED {
        let oldest = inner.records.oldest(kind).await?.map(|record| record.created_at);
        let due = now.saturating_sub(statistics::OVERDUE);
        let n_overdue = inner.records.expire(kind, due, 0, true).await?;
        all.push(statistics::Stored { kind, oldest, n_overdue });
    }
    Ok(all)
}

/// When the clean-up last said that it runs; microseconds since 1970.
async fn last_clean_up(inner: &Inner, now: u64) -> Option<u64> {
    let query = EntryQuery {
        since: Some(now.saturating_sub(statistics::LOOK_BACK)),
        kinds: vec![Kind::Control],
        limit: MAX_CONTROLS,
        ..EntryQuery::default()
    };
    let controls = inner.journal.query(query).await.unwrap_or_default();
    controls.iter().rev().find(|entry| entry.text("what") == Some("clean-up")).map(|entry| entry.ts)
}

/// The journal's limits, as they are set.
fn journal_limits(inner: &Inner) -> statistics::JournalLimits {
    let configured = inner.configured();
    let number = |name: &str| {
        let value = &configured.settings[format!("journal.{name}")]["value"];
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    statistics::JournalLimits {
        days: number("retention_days"),
        bytes: number("max_bytes"),
        entries: number("max_entries"),
    }
}
