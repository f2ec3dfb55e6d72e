//! A record store that can be told to fail.

use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_core::port::{
    BoxFuture, Record, RecordChange, RecordCursor, RecordKind, RecordStore, StoreError,
};
use tidegate_store::SqliteRecords;

/// SQLite in memory, while [`Self::fails`] is not set.
#[derive(Debug)]
pub(crate) struct Records {
    inner: SqliteRecords,
    pub(crate) fails: AtomicBool,
}

impl Records {
    pub(crate) fn new() -> Self {
        Self { inner: SqliteRecords::open_in_memory().unwrap(), fails: AtomicBool::new(false) }
    }

    fn check(&self, operation: &'static str) -> Result<(), StoreError> {
        match self.fails.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable { operation, source: "the disk is full".into() }),
            false => Ok(()),
        }
    }
}

impl RecordStore for Records {
    fn write(&self, changes: Vec<RecordChange>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            self.check("write")?;
            self.inner.write(changes).await
        })
    }

    fn write_later(&self, changes: Vec<RecordChange>) -> bool {
        self.check("write").is_ok() && self.inner.write_later(changes)
    }

    fn take(
        &self,
        kind: RecordKind,
        key: String,
        instead: Option<Record>,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            self.check("write")?;
            self.inner.take(kind, key, instead).await
        })
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
        Box::pin(async move {
            self.check("read")?;
            self.inner.list(kind, after, limit).await
        })
    }

    fn expire(
        &self,
        kind: RecordKind,
        now: u64,
        limit: usize,
        is_dry_run: bool,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            self.check("write")?;
            self.inner.expire(kind, now, limit, is_dry_run).await
        })
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
