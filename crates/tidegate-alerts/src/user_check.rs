//! Whether the user of a token exists: asked elsewhere, with a time limit, and no is what a failure means.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tidegate_core::port::BoxFuture;
use tidegate_store::sql::{Database, Outcome, SqlValue};
use tokio::sync::Semaphore;

use crate::settings::{UserCheck, UserSource};

/// Users whose yes is remembered; when it is full the old ones go, and then nothing is remembered.
const MAX_REMEMBERED: usize = 10_000;

/// Look-ups at a time; a further one waits within its time limit.
const MAX_PARALLEL: usize = 64;

/// Largest answer to a GET that is looked into, in bytes.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What an HTTP client of the process does for the check.
pub trait HttpGet: Send + Sync + Debug {
    /// Fetches an address: status, and at most [`MAX_ANSWER_BYTES`] of the body. Follows no redirect.
    ///
    /// # Errors
    /// The class of the failure: `refused`, `dns`, `tls`, `timeout`. Never the address.
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<(u16, Bytes), &'static str>>;
}

/// Who answers.
#[derive(Debug, Clone)]
pub enum Directory {
    /// By [`UserSource::Http`].
    Http(Arc<dyn HttpGet>),
    /// By [`UserSource::Sqlite`] or [`UserSource::Postgres`].
    Sql(Arc<dyn Database>),
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// May connect.
    Active,
    /// Exists and is switched off.
    Inactive,
    /// Does not exist.
    Absent,
}

/// A look-up that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// `timeout`, `status`, `database`, ...
    pub class: &'static str,
    /// Status of the answer, if there was one that says neither yes nor no.
    pub status: Option<u16>,
    /// Milliseconds that it took.
    pub elapsed_ms: u64,
}

/// The check of one configuration.
#[derive(Debug)]
pub struct Checker {
    settings: UserCheck,
    directory: Directory,
    remembered: Mutex<HashMap<Arc<str>, u64>>,
    permits: Semaphore,
}

impl Checker {
    /// `directory` has to be of the kind that `settings` name; otherwise every look-up fails.
    pub fn new(settings: UserCheck, directory: Directory) -> Self {
        Self { settings, directory, remembered: Mutex::default(), permits: Semaphore::new(MAX_PARALLEL) }
    }

    /// Whether somebody with these roles is looked up.
    pub fn applies_to(&self, roles: &[String]) -> bool {
        roles.iter().any(|role| self.settings.roles.contains(role))
    }

    /// `sqlite`, `postgres` or `http`.
    pub fn kind(&self) -> &'static str {
        self.settings.source.kind()
    }

    /// Scheme, host and port that are asked; nothing for files and databases, whose addresses hold passwords.
    pub fn target(&self) -> Option<&str> {
        let UserSource::Http { url, .. } = &self.settings.source else { return None };
        let authority = url.find("://")? + 3;
        let end = url[authority..].find(['/', '?']).map_or(url.len(), |at| authority + at);
        (!url[..end].contains('@')).then(|| &url[..end])
    }

    /// Looks a user up. `now` in milliseconds since 1970; only a yes is remembered, and not with `is_dry_run`.
    ///
    /// # Errors
    /// [`Failed`]: nobody may be let in for it.
    pub async fn check(&self, user: &str, now: u64, is_dry_run: bool) -> Result<Standing, Failed> {
        let keep_ms = self.settings.cache_seconds * 1000;
        let known_at = self.remembered.lock().get(user).copied();
        if known_at.is_some_and(|at| now.saturating_sub(at) < keep_ms) {
            return Ok(Standing::Active);
        }
        let limit = Duration::from_millis(self.settings.timeout_ms);
        let begun = tokio::time::Instant::now();
        let asked = tokio::time::timeout(limit, async {
            let _permit = self.permits.acquire().await;
            self.ask(user).await
        });
        let standing = asked.await.unwrap_or(Err(("timeout", None))).map_err(|(class, status)| Failed {
            class,
            status,
            elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        })?;
        if standing == Standing::Active && keep_ms > 0 && !is_dry_run {
            let mut remembered = self.remembered.lock();
            if remembered.len() >= MAX_REMEMBERED {
                remembered.retain(|_, at| now.saturating_sub(*at) < keep_ms);
            }
            if remembered.len() < MAX_REMEMBERED {
                remembered.insert(user.into(), now);
            }
        }
        Ok(standing)
    }

    async fn ask(&self, user: &str) -> Result<Standing, (&'static str, Option<u16>)> {
        match (&self.settings.source, &self.directory) {
            (UserSource::Http { url, active }, Directory::Http(client)) => {
                let encoded = utf8_percent_encode(user, NON_ALPHANUMERIC).to_string();
                let (status, body) =
                    client.get(&url.replace("{user}", &encoded)).await.map_err(|class| (class, None))?;
                match (status, active) {
                    (200, None) => Ok(Standing::Active),
                    (200, Some(member)) => match serde_json::from_slice::<Value>(&body) {
                        Ok(Value::Object(answer)) if answer.get(member) == Some(&Value::Bool(true)) => {
                            Ok(Standing::Active)
                        }
                        Ok(Value::Object(_)) => Ok(Standing::Inactive),
                        _ => Err(("answer", Some(status))),
                    },
                    (404, _) => Ok(Standing::Absent),
                    (status, _) => Err(("status", Some(status))),
                }
            }
            (
                UserSource::Sqlite { query, .. } | UserSource::Postgres { query, .. },
                Directory::Sql(database),
            ) => query_one(database.as_ref(), query.clone(), user).await,
            _ => Err(("configuration", None)),
        }
    }
}

async fn query_one(
    database: &dyn Database,
    query: String,
    user: &str,
) -> Result<Standing, (&'static str, Option<u16>)> {
    let found = Arc::new(Mutex::new(Standing::Absent));
    let parameter = SqlValue::from(user);
    let result = Arc::clone(&found);
    let work = Box::new(move |tx: &mut dyn tidegate_store::sql::Tx| {
        let rows = tx.query(&query, std::slice::from_ref(&parameter))?;
        *result.lock() = match rows.first().map(|row| row.0.first()) {
            None => Standing::Absent,
            Some(None | Some(SqlValue::Null | SqlValue::Int(0))) => Standing::Inactive,
            Some(Some(_)) => Standing::Active,
        };
        Ok(Outcome::Rollback(Box::new(|| {})))
    });
    database.read(work).await.map_err(|_| ("database", None))?;
    let standing = *found.lock();
    Ok(standing)
}
