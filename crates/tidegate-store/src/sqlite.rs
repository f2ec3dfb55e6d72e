//! The SQLite store: one file in WAL mode, one thread that writes, one connection that reads.
//!
//! An answered write is on the disk (`synchronous=FULL`): it survives the process and the machine. Writes wait in a
//! bounded queue; all that wait share one transaction and so one flush of the disk.

mod schema;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tidegate_core::port::{BoxFuture, Change, DefinitionStore, Document, StoreError};
use tokio::sync::oneshot;

use self::writer::Job;
use crate::lock::Lock;

/// Writes that wait at most; one more is refused with [`StoreError::Busy`].
const QUEUE: usize = 1024;

/// How long a statement waits for another connection's lock before it fails.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Settings that only tests change.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct Options {
    /// Writes that wait at most.
    pub queue: usize,
    /// Largest size of the file, in pages of 4096 bytes: a disk that is full at will.
    pub max_page_count: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { queue: QUEUE, max_page_count: None }
    }
}

/// Documents in one SQLite file.
///
/// Dropping it waits until the writes that were taken are done.
#[derive(Debug)]
pub struct SqliteStore {
    /// `None` only while it is dropped.
    queue: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    /// `None` in memory, where only the writer's connection sees the data.
    reader: Option<Arc<Mutex<Connection>>>,
    _lock: Option<Lock>,
}

impl SqliteStore {
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
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| unavailable("open", error))?;
        }
        create_private(path).map_err(|error| unavailable("open", error))?;
        let lock = Lock::take(path).map_err(|error| unavailable("open", error))?;
        let connection = Connection::open(path).map_err(|error| unavailable("open", error))?;
        prepare(&connection, options, true)?;
        schema::check(&connection)?;
        schema::migrate(&connection)?;
        let reader = Connection::open(path).map_err(|error| unavailable("open", error))?;
        reader.busy_timeout(LOCK_WAIT).map_err(|error| unavailable("open", error))?;
        let mut store = Self::start(connection, options)?;
        store.reader = Some(Arc::new(Mutex::new(reader)));
        store._lock = Some(lock);
        Ok(store)
    }

    /// A store that forgets everything when it is dropped.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_in_memory() -> Result<Self, StoreError> {
        let connection = Connection::open_in_memory().map_err(|error| unavailable("open", error))?;
        let options = Options::default();
        prepare(&connection, &options, false)?;
        schema::migrate(&connection)?;
        Self::start(connection, &options)
    }

    fn start(connection: Connection, options: &Options) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel(options.queue);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(connection, &jobs))
            .map_err(|error| unavailable("open", error))?;
        Ok(Self { queue: Some(queue), writer: Some(writer), reader: None, _lock: None })
    }

    fn enqueue(&self, operation: &'static str, job: Job) -> Result<(), StoreError> {
        let ended = || unavailable(operation, std::io::Error::other("the writer thread has ended"));
        self.queue.as_ref().ok_or_else(ended)?.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => ended(),
        })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer thread has panicked");
        }
    }
}

impl DefinitionStore for SqliteStore {
    fn load(&self) -> BoxFuture<'_, Result<Vec<Document>, StoreError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            match &self.reader {
                Some(reader) => {
                    let reader = Arc::clone(reader);
                    let read = move || schema::read_all(&reader.lock());
                    tokio::task::spawn_blocking(read).await.map_err(|error| unavailable("read", error))?
                }
                None => {
                    self.enqueue("read", Job::Read { answer })?;
                    answered.await.map_err(|error| unavailable("read", error))?
                }
            }
        })
    }

    /// The write happens also when the future is dropped after its first poll.
    fn apply(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if changes.is_empty() {
                return Ok(());
            }
            let (answer, answered) = oneshot::channel();
            self.enqueue("write", Job::Write { changes, answer })?;
            answered.await.map_err(|error| unavailable("write", error))?
        })
    }
}

/// Creates the file for its owner only, if it is missing: definitions hold secrets of backends. The engine gives its
/// other files the same rights.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn prepare(connection: &Connection, options: &Options, is_file: bool) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| unavailable("open", error);
    connection.busy_timeout(LOCK_WAIT).map_err(failed)?;
    if is_file {
        let mode: String =
            connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).map_err(failed)?;
        if mode != "wal" {
            let text = format!("the journal mode stays {mode}: the file system does not support WAL");
            return Err(unavailable("open", std::io::Error::other(text)));
        }
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    if let Some(pages) = options.max_page_count {
        connection.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(())).map_err(failed)?;
    }
    Ok(())
}

fn unavailable(
    operation: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::Unavailable { operation, source: source.into() }
}
