//! A store that never has room for what nobody waits for.

use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_core::port::{
    BoxFuture, Record, RecordChange, RecordCursor, RecordKind, RecordStore, StoreError,
};
use tidegate_store::SqliteRecords;

/// Counts what it refuses.
#[derive(Debug)]
pub(crate) struct FullStore {
    inner: SqliteRecords,
    n_refused: AtomicUsize,
    n_notes: AtomicUsize,
}

impl Default for FullStore {
    fn default() -> Self {
        Self {
            inner: SqliteRecords::open_in_memory().unwrap(),
            n_refused: AtomicUsize::new(0),
            n_notes: AtomicUsize::new(0),
        }
    }
}

impl FullStore {
    pub(crate) fn n_refused(&self) -> usize {
        self.n_refused.load(Ordering::SeqCst)
    }

    /// Notes of connections that were written and not removed.
    pub(crate) fn n_notes(&self) -> usize {
        self.n_notes.load(Ordering::SeqCst)
    }
}

impl RecordStore for FullStore {
    fn write(&self, changes: Vec<RecordChange>) -> BoxFuture<'_, Result<(), StoreError>> {
        for change in &changes {
            match change {
                RecordChange::Put(record) if record.kind == RecordKind::Disconnect => {
                    self.n_notes.fetch_add(1, Ordering::SeqCst);
                }
                RecordChange::Delete(RecordKind::Disconnect, key) if !key.is_empty() => {
                    self.n_notes.fetch_sub(1, Ordering::SeqCst);
                }
                _ => {}
            }
        }
        self.inner.write(changes)
    }

    fn write_later(&self, _: Vec<RecordChange>) -> bool {
        self.n_refused.fetch_add(1, Ordering::SeqCst);
        false
    }

    fn take(
        &self,
        kind: RecordKind,
        key: String,
        instead: Option<Record>,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.inner.take(kind, key, instead)
    }

    fn load(&self, kind: RecordKind) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.inner.load(kind)
    }

    fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.inner.list(kind, after, limit)
    }

    fn expire(
        &self,
        kind: RecordKind,
        now: u64,
        limit: usize,
        is_dry_run: bool,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.inner.expire(kind, now, limit, is_dry_run)
    }

    fn shrink(
        &self,
        kind: RecordKind,
        max_bytes: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.inner.shrink(kind, max_bytes, limit)
    }
}
