//! The record of changes: who did what, when, and how it ended.

use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidegate_auth::Role;
use tidegate_core::port::{Record, RecordChange, RecordKind, RecordStore, StoreError};

use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Route};

/// Milliseconds for which a record of a change is kept: 90 days.
pub const AUDIT_KEPT: u64 = 90 * 24 * 3600 * 1000;

/// Longest path in a record, in bytes.
const MAX_PATH: usize = 1024;

/// Longest note in a record, in bytes of JSON; what is longer is left out, and the record says so.
const MAX_NOTE: usize = 64 * 1024;

/// One change, or the attempt at one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Milliseconds since 1970.
    pub at: u64,
    /// Name of a key, or an access key id.
    pub by: String,
    /// `key` or `access_key`.
    pub by_kind: String,
    /// Their role.
    pub role: String,
    /// What was called: `putPolicy`.
    pub operation: String,
    /// HTTP method.
    pub method: String,
    /// Path as it was sent.
    pub path: String,
    /// Parameters of the query.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub query: Map<String, Value>,
    /// `started`: it is under way, or the process ended during it. `done`. `refused`: nothing changed.
    pub outcome: String,
    /// HTTP status; 0 = not answered.
    pub status: u16,
    /// Diagnosis id of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What it was about, and what was before and after. Secrets are `****`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Value>,
}

/// Where records of changes go.
#[derive(Debug)]
pub(crate) struct Audit {
    records: Arc<dyn RecordStore>,
    hasher: RandomState,
    count: AtomicU64,
}

/// The record of a change that is under way.
#[derive(Debug)]
pub(crate) struct Entry {
    key: String,
    record: AuditRecord,
    is_durable: bool,
}

impl Audit {
    pub(crate) fn new(records: Arc<dyn RecordStore>) -> Self {
        Self { records, hasher: RandomState::new(), count: AtomicU64::new(0) }
    }

    /// The record of a change. For changes of definitions it is on the disk when this answers.
    ///
    /// # Errors
    /// It could not be stored; the change must not happen.
    pub(crate) async fn begin(
        &self,
        route: &Route,
        caller: &Caller,
        path: &str,
        query: &Map<String, Value>,
        now: u64,
    ) -> Result<Entry, StoreError> {
        let mut cut = path.len().min(MAX_PATH);
        while !path.is_char_boundary(cut) {
            cut -= 1;
        }
        let record = AuditRecord {
            at: now,
            by: caller.name.clone(),
            by_kind: caller.kind.as_str().to_owned(),
            role: caller.role.as_str().to_owned(),
            operation: route.operation.to_owned(),
            method: route.method.as_str().to_owned(),
            path: path.get(..cut).unwrap_or_default().to_owned(),
            query: query.clone(),
            outcome: "started".to_owned(),
            status: 0,
            id: None,
            note: None,
        };
        // Counted, so that changes of one millisecond keep their order; random behind it, so that two nodes or two runs
        // do not meet.
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let key = format!("{count:016x}{:016x}", self.hasher.hash_one(count));
        let is_durable = route.access == Access::Change(Role::Administer);
        let entry = Entry { key, record, is_durable };
        if is_durable {
            self.records.write(vec![entry.change()]).await?;
        }
        Ok(entry)
    }

    /// How the change ended.
    pub(crate) async fn end(&self, mut entry: Entry, answer: &Answer) {
        let record = &mut entry.record;
        match answer {
            Ok(reply) => {
                record.outcome = "done".to_owned();
                record.status = StatusCode::OK.as_u16();
                record.note = reply.note.clone().map(|note| match note.to_string().len() <= MAX_NOTE {
                    true => note,
                    false => Value::from(format!("left out: over {MAX_NOTE} bytes")),
                });
            }
            Err(refusal) => entry.refuse(refusal),
        }
        let is_kept = match entry.is_durable {
            true => match self.records.write(vec![entry.change()]).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%error, diag = "store.unavailable", "the end of a change was not recorded");
                    return;
                }
            },
            false => self.records.write_later(vec![entry.change()]),
        };
        if !is_kept {
            let operation = &entry.record.operation;
            tracing::warn!(
                operation,
                by = entry.record.by,
                diag = "store.unavailable",
                "a change was not recorded: the store's queue is full"
            );
        }
    }

    /// Somebody tried what they may not.
    pub(crate) async fn refused(
        &self,
        route: &Route,
        caller: &Caller,
        path: &str,
        refusal: &Refusal,
        now: u64,
    ) {
        // Not worth a write that somebody waits for.
        let route = Route { access: Access::Change(Role::Operate), ..*route };
        if let Ok(entry) = self.begin(&route, caller, path, &Map::new(), now).await {
            self.end(entry, &Err(refusal.clone())).await;
        }
    }
}

impl Entry {
    fn refuse(&mut self, refusal: &Refusal) {
        self.record.outcome = "refused".to_owned();
        self.record.status = refusal.status.as_u16();
        self.record.id = Some(refusal.id.to_owned());
    }

    fn change(&self) -> RecordChange {
        RecordChange::Put(Record {
            kind: RecordKind::Audit,
            key: self.key.clone(),
            created_at: self.record.at,
            expires_at: self.record.at.saturating_add(AUDIT_KEPT),
            // Maps with text keys always have a JSON form.
            body: serde_json::to_string(&self.record).unwrap_or_default(),
        })
    }
}
