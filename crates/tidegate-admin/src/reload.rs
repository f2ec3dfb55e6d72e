//! What a reload of the configuration is to the admin API: a port, since files are the binary's.

use std::fmt;

use serde_json::Value;
use tidegate_auth::Role;
use tidegate_control::declarative::Problem;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::port::BoxFuture;

use crate::api::Surroundings;
use crate::caller::Callers;

/// What of the process's configuration the admin API runs on. Replaced as a whole; a request keeps what it began with.
#[derive(Debug)]
pub struct Configured {
    /// Settings of the process with their origin, secrets masked: `{"listen": {"value": ..., "origin": ...}}`.
    pub settings: Value,
    /// Who may call.
    pub callers: Callers,
    /// What else `doctor` may know.
    pub surroundings: Surroundings,
}

/// Reads the configuration again.
pub trait Reload: Send + Sync + fmt::Debug {
    /// Makes the configuration the one that is written now, or, with `is_dry_run`, only says what would change. `actor`
    /// is who asked for it.
    ///
    /// # Errors
    /// Nothing has changed.
    fn reload<'a>(
        &'a self,
        is_dry_run: bool,
        actor: &'a str,
    ) -> BoxFuture<'a, Result<Reloaded, ReloadFailure>>;
}

/// What a reload has changed, or would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// By path.
    pub changes: Vec<SettingChange>,
    /// What works and is probably not meant, after the change.
    pub warnings: Vec<Problem>,
}

/// One setting that is written differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    /// `chat.max_history`.
    pub path: String,
    /// Its value until now; `****` for a secret, `None` where there was none.
    pub before: Option<String>,
    /// Its value as it is written.
    pub after: Option<String>,
    /// It keeps its value until the process starts again.
    pub needs_restart: bool,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadFailure {
    /// The configuration cannot be used.
    Invalid(Vec<Problem>),
    /// Something that is needed for the change does not answer.
    Unavailable(String),
}

/// The role that a reload needs: who may change definitions may do it.
pub(crate) const ROLE: Role = Role::Administer;

impl ReloadFailure {
    /// The cause for logs and the journal: that of the first problem.
    pub fn diagnosis(&self) -> Diagnosis {
        match self {
            Self::Invalid(problems) => {
                let first = problems.first().and_then(|problem| problem.diagnosis.as_deref());
                first.and_then(Diagnosis::find).unwrap_or(Diagnosis::CONFIG_INVALID_VALUE)
            }
            Self::Unavailable(_) => Diagnosis::STORE_UNAVAILABLE,
        }
    }
}
