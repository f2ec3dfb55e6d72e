//! What of `[logs]` is the process's: where lines go.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::Checker;

/// What of `[logs]` is the process's: where lines go.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// By name, as `destinationArn` names them.
    pub(crate) targets: BTreeMap<String, LogTarget>,
    /// Target for execution logs, beside the process's own log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) execution: Option<String>,
}

/// `[logs.targets.NAME]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogTarget {
    /// Unset: `logs/NAME.log` in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
    /// Standard output, in place of a file.
    pub(crate) stdout: bool,
    /// Size at which a file is put aside.
    pub(crate) max_bytes: u64,
    /// Files that are kept beside it.
    pub(crate) max_files: u32,
}

impl Default for LogTarget {
    fn default() -> Self {
        Self { file: None, stdout: false, max_bytes: 64 << 20, max_files: 5 }
    }
}

/// Keys of `[logs]` that are the process's.
const LOG_KEYS: [&str; 2] = ["targets", "execution"];

/// Whether a key of `[logs]` is the process's.
pub(super) fn is_of_process(key: &str) -> bool {
    LOG_KEYS.contains(&key)
}

impl Checker<'_> {
    /// Targets of access and execution logs.
    pub(super) fn logs(&mut self) -> LogSettings {
        let Some(Value::Table(section)) = self.table.get("logs") else { return LogSettings::default() };
        let of_process: Table = section
            .iter()
            .filter(|(key, _)| is_of_process(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let settings: LogSettings = self.table_of("logs", &of_process).unwrap_or_default();
        for (name, target) in &settings.targets {
            let path = format!("logs.targets.{name}");
            if target.stdout && target.file.is_some() {
                self.problem(&path, "either file or stdout = true expected");
            }
            if !(64 << 10..=1 << 40).contains(&target.max_bytes) {
                let message = format!("{} is not between 65536 and 1099511627776", target.max_bytes);
                self.problem(&format!("{path}.max_bytes"), &message);
            }
            if target.max_files > 1000 {
                let message = format!("{} is not between 0 and 1000", target.max_files);
                self.problem(&format!("{path}.max_files"), &message);
            }
        }
        settings
    }
}
