//! [`Database`] on one SQLite file, and [`Tx`] on a connection to SQLite.
//!
//! Works that wait are run one after the other in one transaction, each in a savepoint, and share its flush of the disk;
//! those that read run beside them on connections of their own and see what is committed. What is in the log of writes goes
//! into the file beside them too, so that nobody waits for that as long as it keeps up.

mod checkpointer;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql, params_from_iter};
use tidegate_core::port::{BoxFuture, StoreError};
use tokio::sync::Semaphore;

use self::checkpointer::Checkpointer;
use super::{After, Database, Outcome, SqlError, SqlRow, SqlValue, Tx, Work, failed_work, run_after};
use crate::engine::{Engine, LOCK_WAIT, Options, Write, migrate, unavailable};

/// Statements that stay prepared. An application has more texts than the cache of a connection holds by itself.
const MAX_PREPARED: usize = 256;

/// Works that wait to write at most; one more is refused with [`StoreError::Busy`].
const QUEUE: usize = 8192;

/// Works that read at the same time, each on a connection of its own.
const READERS: usize = 4;

/// Works that wait to read at most; one more is refused with [`StoreError::Busy`].
const READ_QUEUE: usize = 8192;

/// An application's tables in one SQLite file.
///
/// Dropping it waits until the works that were taken are done.
#[derive(Debug)]
pub struct SqliteDatabase {
    /// `None` in memory. Before the engine, which closes the file.
    checkpointer: Option<Checkpointer>,
    engine: Engine<SqlWrite>,
    /// `None` in memory, where only the writer's connection sees the data.
    readers: Option<Arc<Readers>>,
}

#[derive(Debug)]
struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    n_waiting: AtomicUsize,
}

impl SqliteDatabase {
    /// Opens the file at `path`, creates it and its folder where they are missing, and makes its tables: one step of
    /// `migrations` for each version; steps are never edited, only added. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with [`crate::InUse`] as its cause's cause when another process has it open, with
    /// what the system says otherwise; [`StoreError::TooNew`] when a later version has written it.
    pub fn open(path: &Path, migrations: &[&str]) -> Result<Self, StoreError> {
        Self::open_with(path, migrations, &Options { queue: QUEUE, ..Options::default() })
    }

    /// [`Self::open`] with settings of a test.
    #[doc(hidden)]
    pub fn open_with(path: &Path, migrations: &[&str], options: &Options) -> Result<Self, StoreError> {
        let engine = Engine::open_migrated(path, options, migrations)?;
        let idle = (0..READERS).map(|_| open_reader(path)).collect::<Result<_, _>>()?;
        let readers = Readers {
            idle: Mutex::new(idle),
            permits: Arc::new(Semaphore::new(READERS)),
            n_waiting: AtomicUsize::new(0),
        };
        let checkpointer = Some(Checkpointer::start(path)?);
        Ok(Self { checkpointer, engine, readers: Some(Arc::new(readers)) })
    }

    /// A database that forgets everything when it is dropped. Its reads run between its writes.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_in_memory(migrations: &[&str]) -> Result<Self, StoreError> {
        Ok(Self { checkpointer: None, engine: Engine::open_in_memory_migrated(migrations)?, readers: None })
    }
}

fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let failed = |error: rusqlite::Error| unavailable("open", error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(LOCK_WAIT).map_err(failed)?;
    prepare(&connection)?;
    Ok(connection)
}

impl Database for SqliteDatabase {
    fn write(&self, _locks: Vec<u64>, work: Work) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let result = self.engine.write(SqlWrite { work: RefCell::new(work) }).await.map(drop);
            if let Some(checkpointer) = &self.checkpointer {
                checkpointer.written();
            }
            result
        })
    }

    fn is_serial(&self) -> bool {
        true
    }

    fn read(&self, work: Work) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            match &self.readers {
                None => self.engine.on_writer(move |connection| read(connection, work)).await,
                Some(readers) => {
                    let waiting = Waiting::begin(Arc::clone(readers))?;
                    let permit = Arc::clone(&readers.permits).acquire_owned().await;
                    let permit = permit.map_err(|error| unavailable("read", error))?;
                    // The permit goes with the work, which runs also when nobody waits for it any more.
                    let job = move || {
                        let result = waiting.0.run(work);
                        drop(permit);
                        result
                    };
                    tokio::task::spawn_blocking(job).await.map_err(|error| unavailable("read", error))?
                }
            }
        })
    }
}

/// Somebody else's SQLite file, which is read and never written: no table is made in it and nothing is locked for long.
///
/// It is opened for each work, so that a file which its owner replaces is found.
#[derive(Debug)]
pub struct SqliteFile {
    path: PathBuf,
    readers: Arc<Readers>,
}

impl SqliteFile {
    /// Looks whether the file at `path` can be read. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = open_reader(path)?;
        // SQLite reads nothing before the first statement.
        let read = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        read.map_err(|error| unavailable("open", error))?;
        let readers = Readers {
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(READERS)),
            n_waiting: AtomicUsize::new(0),
        };
        Ok(Self { path: path.to_owned(), readers: Arc::new(readers) })
    }
}

impl Database for SqliteFile {
    fn write(&self, _locks: Vec<u64>, _work: Work) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Err(unavailable("write", "the file is open for reading only")) })
    }

    fn read(&self, work: Work) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let waiting = Waiting::begin(Arc::clone(&self.readers))?;
            let permit = Arc::clone(&self.readers.permits).acquire_owned().await;
            let permit = permit.map_err(|error| unavailable("read", error))?;
            let path = self.path.clone();
            let job = move || {
                let result = open_reader(&path).and_then(|connection| read(&connection, work));
                drop((permit, waiting));
                result
            };
            tokio::task::spawn_blocking(job).await.map_err(|error| unavailable("read", error))?
        })
    }
}

/// A work that waits to read, or reads.
struct Waiting(Arc<Readers>);

impl Waiting {
    fn begin(readers: Arc<Readers>) -> Result<Self, StoreError> {
        if readers.n_waiting.fetch_add(1, Ordering::Relaxed) >= READ_QUEUE {
            readers.n_waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(StoreError::Busy);
        }
        Ok(Self(readers))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.n_waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Readers {
    fn run(&self, work: Work) -> Result<(), StoreError> {
        let taken = self.idle.lock().pop();
        let none = || unavailable("read", std::io::Error::other("all connections that read are busy"));
        let connection = taken.ok_or_else(none)?;
        let result = read(&connection, work);
        self.idle.lock().push(connection);
        result
    }
}

/// Runs a work and takes back whatever it did.
fn read(connection: &Connection, mut work: Work) -> Result<(), StoreError> {
    let begin = |sql| connection.execute_batch(sql).map_err(|error| unavailable("read", error));
    begin("BEGIN")?;
    let result = run(connection, &mut work, "read");
    if !connection.is_autocommit() {
        begin("ROLLBACK")?;
    }
    let (Outcome::Commit(after) | Outcome::Rollback(after)) = result?;
    run_after(after);
    Ok(())
}

/// Runs a work once; a panic is an error of this work alone.
fn run(connection: &Connection, work: &mut Work, operation: &'static str) -> Result<Outcome, StoreError> {
    let mut tx = SqliteTx::new(connection);
    let result = catch_unwind(AssertUnwindSafe(|| work(&mut tx)));
    let outcome = failed_work(operation, result)?;
    match outcome {
        Outcome::Commit(_) if tx.has_failed => {
            Err(unavailable(operation, "a work wants to keep what a failed statement has left"))
        }
        outcome => Ok(outcome),
    }
}

/// A work in the writer's queue.
struct SqlWrite {
    /// Borrowed by the writing thread only.
    work: RefCell<Work>,
}

impl std::fmt::Debug for SqlWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlWrite").finish_non_exhaustive()
    }
}

/// What has become of a work.
struct Ended {
    is_kept: bool,
    after: Option<After>,
}

impl Write for SqlWrite {
    type Answer = Ended;

    const THREAD: &'static str = "sql-writer";

    /// Each work changes pages at random places, one for each user that it tells something.
    const CACHE_KIB: i64 = 32 * 1024;

    /// 64 MiB: only where the [`Checkpointer`] does not keep up.
    const MAX_LOG_PAGES: Option<u32> = Some(16_384);

    const MIGRATIONS: &'static [&'static str] = &[];

    fn make(&self, connection: &Connection) -> Result<Ended, StoreError> {
        Ok(match run(connection, &mut self.work.borrow_mut(), "write")? {
            Outcome::Commit(after) => Ended { is_kept: true, after: Some(after) },
            Outcome::Rollback(after) => Ended { is_kept: false, after: Some(after) },
        })
    }

    fn is_undone(answer: &Ended) -> bool {
        !answer.is_kept
    }

    fn finish(answer: &mut Ended) {
        if let Some(after) = answer.after.take() {
            run_after(after);
        }
    }

    fn prepare(connection: &Connection) -> Result<(), StoreError> {
        prepare(connection)
    }
}

/// A database in memory for one user of it, without a thread and without a queue: for tests of statements.
#[derive(Debug)]
pub struct MemoryDatabase {
    connection: Connection,
}

/// Opens a [`MemoryDatabase`] and makes its tables.
///
/// # Errors
/// [`StoreError::Unavailable`] when a migration is wrong.
pub fn open_in_memory(migrations: &[&str]) -> Result<MemoryDatabase, StoreError> {
    let connection = Connection::open_in_memory().map_err(|error| unavailable("open", error))?;
    prepare(&connection)?;
    migrate(&connection, migrations)?;
    Ok(MemoryDatabase { connection })
}

impl MemoryDatabase {
    /// Runs `work` in a transaction, which is kept when it gives `Ok` and given up otherwise.
    ///
    /// # Errors
    /// Those of `work`, and [`SqlError`] when the transaction cannot begin or end.
    pub fn transaction<T, E: From<SqlError>>(
        &mut self,
        work: impl FnOnce(&mut dyn Tx) -> Result<T, E>,
    ) -> Result<T, E> {
        // Dropped without a commit it is rolled back.
        let transaction = self.connection.transaction().map_err(|error| E::from(failed(error)))?;
        let answer = work(&mut SqliteTx::new(&transaction))?;
        transaction.commit().map_err(|error| E::from(failed(error)))?;
        Ok(answer)
    }
}

/// What a connection needs before statements of an application run on it.
///
/// # Errors
/// [`StoreError::Unavailable`]
pub(crate) fn prepare(connection: &Connection) -> Result<(), StoreError> {
    connection.set_prepared_statement_cache_capacity(MAX_PREPARED);
    connection.pragma_update(None, "foreign_keys", true).map_err(|error| unavailable("open", error))
}

/// The transaction that is open on a connection.
#[derive(Debug)]
pub(crate) struct SqliteTx<'c> {
    connection: &'c Connection,
    /// As on a server, nothing more can be done after a statement that failed.
    has_failed: bool,
}

impl<'c> SqliteTx<'c> {
    /// The caller begins and ends it.
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Self { connection, has_failed: false }
    }

    fn checked<T>(&mut self, statement: impl FnOnce(&Self) -> Result<T, SqlError>) -> Result<T, SqlError> {
        if self.has_failed {
            return Err(SqlError::Store(unavailable("run a statement", "an earlier one has failed")));
        }
        let result = statement(self);
        self.has_failed = result.is_err();
        result
    }

    fn run(&self, sql: &str, parameters: &[SqlValue]) -> Result<usize, SqlError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        statement.execute(params_from_iter(parameters)).map_err(failed)
    }

    fn rows(&self, sql: &str, parameters: &[SqlValue]) -> Result<Vec<SqlRow>, SqlError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let n_columns = statement.column_count();
        let mut rows = statement.query(params_from_iter(parameters)).map_err(failed)?;
        let mut answer = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let values = (0..n_columns).map(|column| {
                let value = row.get_ref(column).map_err(failed)?;
                value_of(value)
            });
            answer.push(SqlRow(values.collect::<Result<_, SqlError>>()?));
        }
        Ok(answer)
    }
}

impl Tx for SqliteTx<'_> {
    fn execute(&mut self, sql: &str, parameters: &[SqlValue]) -> Result<usize, SqlError> {
        self.checked(|tx| tx.run(sql, parameters))
    }

    fn query(&mut self, sql: &str, parameters: &[SqlValue]) -> Result<Vec<SqlRow>, SqlError> {
        self.checked(|tx| tx.rows(sql, parameters))
    }
}

impl ToSql for SqlValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Int(value) => ToSqlOutput::Owned(Value::Integer(*value)),
            Self::Text(value) => ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes())),
            Self::Bytes(value) => ToSqlOutput::Borrowed(ValueRef::Blob(value)),
        })
    }
}

fn value_of(value: ValueRef<'_>) -> Result<SqlValue, SqlError> {
    let wrong = |text: &'static str| SqlError::Store(unavailable("read", text));
    Ok(match value {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(value) => SqlValue::Int(value),
        ValueRef::Real(_) => return Err(wrong("a column has a fraction")),
        ValueRef::Text(value) => {
            let text = std::str::from_utf8(value).map_err(|_| wrong("a text is not UTF-8"))?;
            SqlValue::Text(text.into())
        }
        ValueRef::Blob(value) => SqlValue::Bytes(value.to_vec()),
    })
}

fn failed(error: rusqlite::Error) -> SqlError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => SqlError::Constraint,
        _ => SqlError::Store(unavailable("run a statement", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &[&str] = &["CREATE TABLE room (id BYTEA PRIMARY KEY, name TEXT, cap BIGINT NOT NULL);
        CREATE TABLE member (room BYTEA NOT NULL REFERENCES room (id) ON DELETE CASCADE);"];

    fn values() -> Vec<SqlValue> {
        vec![SqlValue::from([7; 16]), SqlValue::from("Reef \u{1f30a}"), SqlValue::from(i64::MIN)]
    }

    #[test]
    fn values_come_back_as_they_went_in() {
        let mut database = open_in_memory(TABLES).unwrap();
        let rows = database.transaction(|tx| {
            tx.execute("INSERT INTO room (id, name, cap) VALUES (?1, ?2, ?3)", &values())?;
            tx.query("SELECT id, name, cap, NULL FROM room WHERE id = ?1", &values()[..1])
        });
        let row = &rows.unwrap()[0];
        assert_eq!(row.0[..3], values());
        assert_eq!(row.id(0), Ok([7; 16]));
        assert_eq!(row.optional(3, SqlRow::text), Ok(None));
        assert!(row.int(1).is_err());
    }

    #[test]
    fn a_broken_constraint_is_told_apart_and_nothing_stays() {
        let mut database = open_in_memory(TABLES).unwrap();
        let result: Result<(), SqlError> = database.transaction(|tx| {
            tx.execute("INSERT INTO room (id, name, cap) VALUES (?1, ?2, ?3)", &values())?;
            tx.execute("INSERT INTO member (room) VALUES (?1)", &[SqlValue::from([8; 16])])?;
            Ok(())
        });
        assert!(matches!(result, Err(SqlError::Constraint)));
        let rows = database.transaction(|tx| tx.query("SELECT id FROM room", &[]));
        assert_eq!(rows.unwrap(), vec![]);
        let wrong = database.transaction(|tx| tx.query("SELECT nothing FROM room", &[]));
        assert!(matches!(wrong, Err(SqlError::Store(_))));
    }
}
