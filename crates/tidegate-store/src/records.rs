//! The records: what outlives a connection or the process, in a SQLite file of its own.

mod schema;

use std::path::Path;

use rusqlite::Connection;
use tidegate_core::port::{
    BoxFuture, Record, RecordChange, RecordCursor, RecordKind, RecordStore, StoreError,
};

use crate::engine::{Engine, Options, Write};

/// Records in one SQLite file, apart from the definitions: neither waits for the other's disk flush.
///
/// Times beyond `i64::MAX` milliseconds are stored as that: `u64::MAX` is a fine "never". Dropping it waits until the
/// writes that were taken are done.
#[derive(Debug)]
pub struct SqliteRecords {
    engine: Engine<Step>,
}

impl SqliteRecords {
    /// Opens the file at `path`, and creates it and its folder where they are missing.
    ///
    /// Blocks: for a start, not for a request.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with [`crate::InUse`] as its cause's cause when another process has it open, with
    /// what the system says otherwise; [`StoreError::TooNew`] when a later version has written it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, &Options::default())
    }

    /// [`Self::open`] with settings of a test.
    #[doc(hidden)]
    pub fn open_with(path: &Path, options: &Options) -> Result<Self, StoreError> {
        Ok(Self { engine: Engine::open(path, options)? })
    }

    /// A store that forgets everything when it is dropped.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_in_memory() -> Result<Self, StoreError> {
        Ok(Self { engine: Engine::open_in_memory()? })
    }
}

/// Writes happen also when their future is dropped after its first poll.
impl RecordStore for SqliteRecords {
    fn write(&self, changes: Vec<RecordChange>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if changes.is_empty() {
                return Ok(());
            }
            self.engine.write(Step::Change(changes)).await.map(drop)
        })
    }

    /// The last quarter of the queue is kept for writes that somebody waits for. Changes that the disk refuses later
    /// are lost, and the log says how many.
    fn write_later(&self, changes: Vec<RecordChange>) -> bool {
        changes.is_empty() || self.engine.write_later(Step::Change(changes))
    }

    fn take(
        &self,
        kind: RecordKind,
        key: String,
        instead: Option<Record>,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let n_taken = self.engine.write(Step::Take { kind, key, instead }).await?;
            Ok(n_taken == 1)
        })
    }

    fn load(&self, kind: RecordKind) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(self.engine.read(move |connection| schema::load(connection, kind)))
    }

    fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(self.engine.read(move |connection| schema::list(connection, kind, after.as_ref(), limit)))
    }

    fn oldest(&self, kind: RecordKind) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        Box::pin(self.engine.read(move |connection| schema::oldest(connection, kind)))
    }

    fn expire(
        &self,
        kind: RecordKind,
        now: u64,
        limit: usize,
        is_dry_run: bool,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            if is_dry_run {
                self.engine.read(move |connection| schema::count_expired(connection, kind, now)).await
            } else {
                self.engine.write(Step::Expire { kind, now, limit }).await
            }
        })
    }

    fn shrink(
        &self,
        kind: RecordKind,
        max_bytes: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            // Nearly always there is nothing to remove: then no transaction of the writer is needed.
            if self.engine.read(move |connection| schema::bytes(connection, kind)).await? <= max_bytes {
                return Ok(0);
            }
            self.engine.write(Step::Shrink { kind, max_bytes, limit }).await
        })
    }
}

/// One write of the records. It answers how many records it removed, where the caller asks for that.
#[derive(Debug)]
enum Step {
    Change(Vec<RecordChange>),
    Take { kind: RecordKind, key: String, instead: Option<Record> },
    Expire { kind: RecordKind, now: u64, limit: usize },
    Shrink { kind: RecordKind, max_bytes: u64, limit: usize },
}

impl Write for Step {
    type Answer = usize;

    const THREAD: &'static str = "records-writer";

    const MIGRATIONS: &'static [&'static str] = &schema::MIGRATIONS;

    fn make(&self, connection: &Connection) -> Result<usize, StoreError> {
        match self {
            Self::Change(changes) => {
                for change in changes {
                    match change {
                        RecordChange::Put(record) => schema::put(connection, record)?,
                        RecordChange::Delete(kind, key) => {
                            schema::delete(connection, *kind, key)?;
                        }
                    }
                }
                Ok(0)
            }
            Self::Take { kind, key, instead } => {
                let n_taken = schema::delete(connection, *kind, key)?;
                if n_taken == 1
                    && let Some(record) = instead
                {
                    schema::put(connection, record)?;
                }
                Ok(n_taken)
            }
            Self::Expire { kind, now, limit } => schema::expire(connection, *kind, *now, *limit),
            Self::Shrink { kind, max_bytes, limit } => schema::shrink(connection, *kind, *max_bytes, *limit),
        }
    }
}
