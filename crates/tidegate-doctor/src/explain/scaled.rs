//! Time on a node whose times pass faster, for tests (`--time-scale`): there a second counts as many.
//!
//! Rules know how long things take in the world. What a node with a scale has written is stretched before rules see it,
//! backwards from the question or, for a journal that nobody writes any more, from its last entry, so that a minute is a minute for them; what they ask for is shrunk in return.

use serde_json::Value;
use tidegate_core::journal::{Entry, EntryQuery, JournalState, Kind};
use tidegate_core::port::StoreError;

use super::Sources;

/// Facts that are durations in milliseconds.
const DURATIONS: &[&str] = &["ageMs", "idleMs", "lastPongMs", "heartbeatUsualMs"];

/// Facts that are times, in milliseconds since 1970.
const TIMES: &[&str] = &["closedAt", "requestedAt", "firstUsedAt"];

/// The fact of starts and stops that says how many times faster the node's times pass; without it they pass as usual.
pub const TIME_SCALE: &str = "timeScale";

/// Control entries in which the last start or stop is looked for.
const MAX_CONTROLS: usize = 5000;

/// How many times faster the times passed of the node that wrote a journal last. Since its last entry they pass as usual.
///
/// # Errors
/// The journal cannot be read.
pub(super) async fn of_journal(sources: &Sources<'_>, state: &JournalState) -> Result<Scale, StoreError> {
    let query = EntryQuery { kinds: vec![Kind::Control], limit: MAX_CONTROLS, ..EntryQuery::default() };
    let controls = sources.journal.query(query).await?;
    let last = controls.iter().rev().find(|entry| matches!(entry.text("what"), Some("start" | "stop")));
    let factor = last.and_then(|entry| entry.fact(TIME_SCALE)?.as_u64()).unwrap_or(1).max(1);
    Ok(Scale { from: state.newest.map_or(sources.now, |newest| newest.min(sources.now)), factor })
}

/// So many times faster, seen backwards from a time.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// The time of the question, or the last of the journal where no node writes it; microseconds since 1970.
    pub from: u64,
    /// 1 on every node that is not a test.
    pub factor: u64,
}

impl Scale {
    /// What whoever reads stretched times has to know; nothing where they are as usual.
    pub fn note(self) -> Option<String> {
        (self.factor > 1).then(|| {
            format!("The node's times pass {} times faster; times here are stretched likewise.", self.factor)
        })
    }

    /// As rules see a time of the journal, in microseconds since 1970.
    pub fn stretched(self, at: u64) -> u64 {
        match self.from.checked_sub(at) {
            Some(ago) => self.from.saturating_sub(ago.saturating_mul(self.factor)),
            None => at,
        }
    }

    /// As the journal has a time that rules know.
    fn shrunk(self, at: u64) -> u64 {
        match self.from.checked_sub(at) {
            Some(ago) => self.from - ago / self.factor.max(1),
            None => at,
        }
    }

    /// What to ask the journal for.
    pub fn query(self, mut query: EntryQuery) -> EntryQuery {
        query.since = query.since.map(|at| self.shrunk(at));
        query.until = query.until.map(|at| self.shrunk(at));
        query
    }

    /// What the journal answered, as rules see it.
    pub fn entries(self, mut entries: Vec<Entry>) -> Vec<Entry> {
        if self.factor > 1 {
            entries.iter_mut().for_each(|entry| self.stretch(entry));
        }
        entries
    }

    fn stretch(self, entry: &mut Entry) {
        entry.ts = self.stretched(entry.ts);
        for (name, value) in &mut entry.facts {
            let Some(millis) = value.as_u64() else { continue };
            if DURATIONS.contains(&name.as_str()) {
                *value = Value::from(millis.saturating_mul(self.factor));
            } else if TIMES.contains(&name.as_str()) {
                *value = Value::from(self.stretched(millis.saturating_mul(1000)) / 1000);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_core::journal::Kind;

    use super::*;

    #[test]
    fn times_stretch_backwards_from_the_question() {
        let scale = Scale { from: 100_000_000, factor: 20 };
        let mut entry = Entry::new(99_000_000, Kind::Close, None);
        let facts = json!({ "idleMs": 50, "closedAt": 99_500, "connectMs": 3, "by": "network" });
        entry.facts = facts.as_object().cloned().unwrap();
        let entries = scale.entries(vec![entry.clone()]);
        assert_eq!(entries[0].ts, 80_000_000);
        let expected = json!({ "idleMs": 1000, "closedAt": 90_000, "connectMs": 3, "by": "network" });
        assert_eq!(json!(entries[0].facts), expected);
        let query = EntryQuery { since: Some(80_000_000), until: Some(90_000_000), ..EntryQuery::default() };
        let query = scale.query(query);
        assert_eq!((query.since, query.until), (Some(99_000_000), Some(99_500_000)));
        // What comes after the question, and what is longer ago than there was time.
        assert_eq!((scale.stretched(100_000_001), scale.stretched(0)), (100_000_001, 0));
        // On every other node nothing changes.
        let scale = Scale { from: 100_000_000, factor: 1 };
        assert_eq!(scale.entries(vec![entry.clone()]), [entry]);
        assert_eq!(scale.shrunk(7), 7);
    }
}
