//! What an import could not take over. Nothing is dropped without being said here.

use serde::Serialize;

/// What something that was left out belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The API itself: without it, Tidegate does not do all that Amazon does.
    Api,
    /// A function, a key or a usage plan: of the configuration, not of the document.
    Configuration,
    /// Something beside it: a table, a role, a bucket.
    Beside,
}

/// One thing that is not in the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// `Resources.ChatApi.CorsConfiguration`; never a value.
    pub what: String,
    /// Line of the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Why it is not in the document.
    pub why: String,
    /// What to do about it; empty: nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub to_do: String,
    /// What it belongs to.
    pub part: Part,
}

/// Most entries of a report; one more says how many there would be.
const MAX_LEFT_OUT: usize = 1000;

/// Entries as they come up.
#[derive(Debug, Default)]
pub(crate) struct Report {
    entries: Vec<LeftOut>,
    n_more: usize,
}

impl Report {
    pub(crate) fn add(&mut self, part: Part, what: &str, line: usize, why: impl Into<String>, to_do: &str) {
        let entry = LeftOut {
            what: what.to_owned(),
            line: Some(line).filter(|line| *line > 0),
            why: why.into(),
            to_do: to_do.to_owned(),
            part,
        };
        if self.entries.contains(&entry) {
            return;
        }
        match self.entries.len() < MAX_LEFT_OUT {
            true => self.entries.push(entry),
            false => self.n_more += 1,
        }
    }

    /// What concerns the API first, otherwise in the order of the template.
    pub(crate) fn into_entries(mut self) -> Vec<LeftOut> {
        self.entries.sort_by_key(|entry| entry.part);
        if self.n_more > 0 {
            let why = format!("{} further entries are not listed", self.n_more);
            let what = String::new();
            self.entries.push(LeftOut { what, line: None, why, to_do: String::new(), part: Part::Api });
        }
        self.entries
    }
}
