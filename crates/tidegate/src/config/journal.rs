//! `[journal]`.

use serde::{Deserialize, Serialize};
use tidegate_core::log::is_credential;
use tidegate_doctor::journal::ClientAddress;

use super::Checker;

/// Most names in `journal.query_values`. Source: our choice; every handshake that is written looks for each.
const MAX_QUERY_VALUES: usize = 16;

/// `[journal]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JournalSettings {
    pub(crate) enabled: bool,
    /// `full`, `truncated` or `hashed`.
    pub(crate) client_address: String,
    pub(crate) retention_days: u64,
    pub(crate) max_bytes: u64,
    pub(crate) max_entries: u64,
    /// In a second.
    pub(crate) sample_handshakes: u32,
    /// In a second.
    pub(crate) sample_posts: u32,
    /// Names of query parameters whose values are kept, beside `channel` and `v`.
    pub(crate) query_values: Vec<String>,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            client_address: "full".to_owned(),
            retention_days: 7,
            max_bytes: 512 << 20,
            max_entries: 5_000_000,
            sample_handshakes: 5000,
            sample_posts: 1000,
            query_values: Vec::new(),
        }
    }
}

impl Checker<'_> {
    /// All of it.
    pub(super) fn journal(&mut self) -> JournalSettings {
        let settings: JournalSettings = self.section("journal").unwrap_or_default();
        let ranges: [(&str, u64, std::ops::RangeInclusive<u64>); 5] = [
            ("retention_days", settings.retention_days, 1..=3650),
            ("max_bytes", settings.max_bytes, 1 << 20..=1 << 40),
            ("max_entries", settings.max_entries, 1000..=1_000_000_000),
            ("sample_handshakes", settings.sample_handshakes.into(), 1..=1_000_000),
            ("sample_posts", settings.sample_posts.into(), 1..=1_000_000),
        ];
        for (key, value, range) in ranges {
            if !range.contains(&value) {
                let message = format!("{value} is not between {} and {}", range.start(), range.end());
                self.problem(&format!("journal.{key}"), &message);
            }
        }
        if ClientAddress::find(&settings.client_address).is_none() {
            let message = format!("`{}`: one of full, truncated, hashed expected", settings.client_address);
            self.problem("journal.client_address", &message);
        }
        if settings.query_values.len() > MAX_QUERY_VALUES {
            let message =
                format!("{} names, at most {MAX_QUERY_VALUES} expected", settings.query_values.len());
            self.problem("journal.query_values", &message);
        }
        // A name that says of itself that it is a secret is a mistake, whoever wrote it.
        for name in settings.query_values.iter().filter(|name| name.is_empty() || is_credential(name)) {
            let message = format!("`{name}` is the name of a secret; its values are never kept");
            self.problem("journal.query_values", &message);
        }
        settings
    }
}
