//! SQL that runs on SQLite and PostgreSQL alike, for applications with tables of their own.
//!
//! Parameters are written `?1`, `?2`; columns are `BIGINT`, `TEXT` and `BYTEA` (SQLite takes these names as they are), with
//! truth values as 0 and 1 and times as microseconds since 1970. A table of a migration may be ` WITHOUT ROWID`, which PostgreSQL is
//! not told. Work runs on a thread that may block and gets its
//! transaction as [`Tx`].

mod postgres;
mod sqlite;

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tidegate_core::port::{BoxFuture, StoreError};

use crate::engine::unavailable;

pub use self::postgres::{PostgresDatabase, PostgresOptions};
pub use self::sqlite::{MemoryDatabase, SqliteDatabase, SqliteFile, open_in_memory};

/// A value that is bound or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlValue {
    /// `NULL`.
    Null,
    /// `BIGINT`.
    Int(i64),
    /// `TEXT`.
    Text(Arc<str>),
    /// `BYTEA`, at most what the caller bounds.
    Bytes(Vec<u8>),
}

impl From<i64> for SqlValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for SqlValue {
    fn from(value: bool) -> Self {
        Self::Int(value.into())
    }
}

impl From<&str> for SqlValue {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for SqlValue {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

impl From<Arc<str>> for SqlValue {
    fn from(value: Arc<str>) -> Self {
        Self::Text(value)
    }
}

impl From<[u8; 16]> for SqlValue {
    fn from(value: [u8; 16]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl<T: Into<Self>> From<Option<T>> for SqlValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row of an answer, its columns in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlRow(pub Vec<SqlValue>);

/// A column that is not what was asked for: a fault of the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("column {column} is not {expected}")]
pub struct ColumnError {
    /// From 0.
    pub column: usize,
    /// `an integer`, `text`, `bytes`.
    pub expected: &'static str,
}

impl SqlRow {
    /// A `BIGINT`.
    ///
    /// # Errors
    /// [`ColumnError`]
    pub fn int(&self, column: usize) -> Result<i64, ColumnError> {
        match self.0.get(column) {
            Some(SqlValue::Int(value)) => Ok(*value),
            _ => Err(ColumnError { column, expected: "an integer" }),
        }
    }

    /// A `BIGINT` as a truth value.
    ///
    /// # Errors
    /// [`ColumnError`]
    pub fn bool(&self, column: usize) -> Result<bool, ColumnError> {
        self.int(column).map(|value| value != 0)
    }

    /// A `TEXT`.
    ///
    /// # Errors
    /// [`ColumnError`]
    pub fn text(&self, column: usize) -> Result<Arc<str>, ColumnError> {
        match self.0.get(column) {
            Some(SqlValue::Text(value)) => Ok(Arc::clone(value)),
            _ => Err(ColumnError { column, expected: "text" }),
        }
    }

    /// A `BYTEA` of 16 bytes.
    ///
    /// # Errors
    /// [`ColumnError`]
    pub fn id(&self, column: usize) -> Result<[u8; 16], ColumnError> {
        match self.0.get(column) {
            Some(SqlValue::Bytes(value)) => {
                value.as_slice().try_into().map_err(|_| ColumnError { column, expected: "16 bytes" })
            }
            _ => Err(ColumnError { column, expected: "bytes" }),
        }
    }

    /// What `read` reads, unless the column is `NULL`.
    ///
    /// # Errors
    /// [`ColumnError`]
    pub fn optional<T>(
        &self,
        column: usize,
        read: impl FnOnce(&Self, usize) -> Result<T, ColumnError>,
    ) -> Result<Option<T>, ColumnError> {
        match self.0.get(column) {
            Some(SqlValue::Null) => Ok(None),
            _ => read(self, column).map(Some),
        }
    }
}

/// Why a statement failed. The transaction can only be given up after it.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// A `UNIQUE`, `CHECK`, `NOT NULL` or foreign-key constraint.
    #[error("a constraint was violated")]
    Constraint,
    /// The answer has other columns than the statement's reader thinks.
    #[error(transparent)]
    Column(#[from] ColumnError),
    /// Everything else.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One transaction. Statements are prepared once for each text and connection, so texts should be few.
pub trait Tx {
    /// Runs a statement; gives the number of rows that it changed.
    ///
    /// # Errors
    /// [`SqlError`]
    fn execute(&mut self, sql: &str, parameters: &[SqlValue]) -> Result<usize, SqlError>;

    /// Runs a query, or a statement with `RETURNING`.
    ///
    /// # Errors
    /// [`SqlError`]
    fn query(&mut self, sql: &str, parameters: &[SqlValue]) -> Result<Vec<SqlRow>, SqlError>;
}

/// What happens after the transaction has ended: after the commit, or after it was given up. Must not block for long.
pub type After = Box<dyn FnOnce() + Send>;

/// How a unit of work wants its transaction to end.
pub enum Outcome {
    /// Kept. `After` runs when it is durable.
    Commit(After),
    /// Nothing has happened. `After` runs at once.
    Rollback(After),
}

/// A unit of work. It is called again, from the start, when its transaction was given up for somebody else's fault.
pub type Work = Box<dyn FnMut(&mut dyn Tx) -> Result<Outcome, SqlError> + Send>;

/// A database for one application.
pub trait Database: Send + Sync + Debug {
    /// Runs `work` in a transaction, durable before the future ends with `Ok`. Of works with a lock in common each sees
    /// what those before it did, and their `After` run in the order of their commits; `locks` are hashes, in any order. The work
    /// runs also when the future is dropped after its first poll.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when too much waits; otherwise the disk or the server refuses. `After` did not run then.
    fn write(&self, locks: Vec<u64>, work: Work) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether one work runs after the other anyway, so that nobody need say which locks one takes.
    fn is_serial(&self) -> bool {
        false
    }

    /// Whether other processes can have it open at the same time.
    fn is_shared(&self) -> bool {
        false
    }

    /// Runs `work` on what is durable; it changes nothing, whatever it does.
    ///
    /// # Errors
    /// As [`Self::write`].
    fn read(&self, work: Work) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// What a work gave, or why it gave nothing: an error that it did not handle, or a panic, which is its own alone.
fn failed_work(
    operation: &'static str,
    result: std::thread::Result<Result<Outcome, SqlError>>,
) -> Result<Outcome, StoreError> {
    match result {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(SqlError::Store(error))) => Err(error),
        Ok(Err(error)) => Err(unavailable(operation, error)),
        Err(_) => Err(unavailable(operation, "the work has panicked")),
    }
}

/// Runs what follows a transaction. It has ended already, so that a panic can only be told to operators.
fn run_after(after: After) {
    if catch_unwind(AssertUnwindSafe(after)).is_err() {
        tracing::error!(diag = "store.unavailable", "what follows a transaction has panicked");
    }
}
