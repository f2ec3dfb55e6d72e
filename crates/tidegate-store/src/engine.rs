//! What every store here is made of: one SQLite file in WAL mode, one thread that writes, one connection that reads.
//!
//! An answered write is on the disk (`synchronous=FULL`): it survives the process and the machine. Writes wait in a
//! bounded queue; all that wait share one transaction and so one flush of the disk. What is written, and into which
//! tables, is not known here.

mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tidegate_core::port::StoreError;
use tokio::sync::oneshot;

use self::writer::Job;
use crate::lock::Lock;

/// Writes that wait at most; one more is refused with [`StoreError::Busy`].
const QUEUE: usize = 1024;

/// How long a statement waits for another connection's lock before it fails.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Pages that the writing connection keeps in memory at most, in KiB. A group of writes at random places dirties a page
/// for each and more; what does not fit is written in the middle of the transaction and read again.
const CACHE_KIB: i64 = 8192;

/// Settings that only tests change.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct Options {
    /// Writes that wait at most.
    pub queue: usize,
    /// Largest size of the file, in pages of 4096 bytes; what would make it larger fails.
    pub max_page_count: Option<u32>,
    /// Pages of the log of writes after which it goes into the file; the engine's own number otherwise.
    pub max_log_pages: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { queue: QUEUE, max_page_count: None, max_log_pages: None }
    }
}

/// What a store writes as a whole or not at all.
pub(crate) trait Write: Send + 'static {
    /// What the caller is told after it is durable.
    type Answer: Send + 'static;

    /// Name of the thread that writes.
    const THREAD: &'static str;

    /// How the tables came about: one step per version; `user_version` counts the steps that were made. Steps are
    /// never edited, only added.
    const MIGRATIONS: &'static [&'static str];

    /// Whether an answered write survives the machine (`FULL`), or the process alone (`NORMAL`), without a flush of
    /// the disk for each group.
    const SYNCHRONOUS: &'static str = "FULL";

    /// Whether the whole file is read when it is opened, to find damage before a write does.
    const CHECKS_WHOLE_FILE: bool = true;

    /// Pages that the writing connection keeps in memory at most, in KiB.
    const CACHE_KIB: i64 = CACHE_KIB;

    /// Pages of the log of writes after which it goes into the file; the engine's own number otherwise.
    const MAX_LOG_PAGES: Option<u32> = None;

    /// Whether pages that became free can be given back to the file system.
    const GIVES_BACK: bool = false;

    /// Makes it; the caller has opened a transaction. Called again after the transaction was given up.
    fn make(&self, connection: &Connection) -> Result<Self::Answer, StoreError>;

    /// Whether what was made is undone, although nothing failed.
    fn is_undone(_answer: &Self::Answer) -> bool {
        false
    }

    /// What is to happen once it is durable or undone, on the writing thread and in the order of the writes, before any
    /// of the group is answered.
    fn finish(_answer: &mut Self::Answer) {}

    /// Statements on a connection that was just opened, the reading ones too.
    fn prepare(_connection: &Connection) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A database and the thread that writes it.
///
/// Dropping it waits until the writes that were taken are done.
#[derive(Debug)]
pub(crate) struct Engine<W: Write> {
    /// `None` only while it is dropped.
    queue: Option<SyncSender<Job<W>>>,
    /// Jobs in the queue; a job that is being put in or taken out counts.
    n_waiting: Arc<AtomicUsize>,
    /// Of these many waiting jobs on, those that nobody waits for are refused.
    later_limit: usize,
    writer: Option<JoinHandle<()>>,
    /// `None` in memory, where only the writer's connection sees the data.
    reader: Option<Arc<Mutex<Connection>>>,
    _lock: Option<Lock>,
}

impl<W: Write> Engine<W> {
    /// Opens the file at `path`, and creates it and its folder where they are missing. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with [`crate::InUse`] as its cause's cause when another process has it open, with
    /// what the system says otherwise; [`StoreError::TooNew`] when a later version has written it.
    pub(crate) fn open(path: &Path, options: &Options) -> Result<Self, StoreError> {
        Self::open_migrated(path, options, W::MIGRATIONS)
    }

    /// [`Self::open`] with steps that are known only when it runs.
    pub(crate) fn open_migrated(
        path: &Path,
        options: &Options,
        migrations: &[&str],
    ) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| unavailable("open", error))?;
        }
        create_private(path).map_err(|error| unavailable("open", error))?;
        let lock = Lock::take(path).map_err(|error| unavailable("open", error))?;
        let connection = Connection::open(path).map_err(|error| unavailable("open", error))?;
        prepare::<W>(&connection, options, true)?;
        W::prepare(&connection)?;
        if W::CHECKS_WHOLE_FILE {
            check(&connection)?;
        }
        migrate(&connection, migrations)?;
        let reader = Connection::open(path).map_err(|error| unavailable("open", error))?;
        reader.busy_timeout(LOCK_WAIT).map_err(|error| unavailable("open", error))?;
        W::prepare(&reader)?;
        let mut engine = Self::start(connection, options)?;
        engine.reader = Some(Arc::new(Mutex::new(reader)));
        engine._lock = Some(lock);
        Ok(engine)
    }

    /// A database that forgets everything when it is dropped.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_in_memory() -> Result<Self, StoreError> {
        Self::open_in_memory_migrated(W::MIGRATIONS)
    }

    /// [`Self::open_in_memory`] with steps that are known only when it runs.
    pub(crate) fn open_in_memory_migrated(migrations: &[&str]) -> Result<Self, StoreError> {
        let connection = Connection::open_in_memory().map_err(|error| unavailable("open", error))?;
        let options = Options::default();
        prepare::<W>(&connection, &options, false)?;
        W::prepare(&connection)?;
        migrate(&connection, migrations)?;
        Self::start(connection, &options)
    }

    fn start(connection: Connection, options: &Options) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel(options.queue);
        let n_waiting = Arc::new(AtomicUsize::new(0));
        let n_taken = Arc::clone(&n_waiting);
        let writer = std::thread::Builder::new()
            .name(W::THREAD.to_owned())
            .spawn(move || writer::run(connection, &jobs, &n_taken))
            .map_err(|error| unavailable("open", error))?;
        Ok(Self {
            queue: Some(queue),
            n_waiting,
            later_limit: options.queue - options.queue / 4,
            writer: Some(writer),
            reader: None,
            _lock: None,
        })
    }

    /// Writes, and answers after it is durable. It happens also when the future is dropped after its first poll.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when the queue is full; [`StoreError::Unavailable`] when the disk refuses.
    pub(crate) async fn write(&self, write: W) -> Result<W::Answer, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.enqueue("write", Job::Write { write, answer: Some(answer) }, usize::MAX)?;
        answered.await.map_err(|error| unavailable("write", error))?
    }

    /// Puts a write into the queue that nobody waits for. False when it was dropped because less than a quarter of the
    /// queue is free: that is kept for [`Self::write`]. A failure of the disk is logged by the writer.
    pub(crate) fn write_later(&self, write: W) -> bool {
        self.enqueue("write", Job::Write { write, answer: None }, self.later_limit).is_ok()
    }

    /// Reads what is durable; in memory, after every write that was asked for before.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.reader {
            Some(reader) => {
                let reader = Arc::clone(reader);
                let read = move || read(&reader.lock());
                tokio::task::spawn_blocking(read).await.map_err(|error| unavailable("read", error))?
            }
            None => self.on_writer(read).await,
        }
    }

    /// Runs something on the writing connection, after every write that was asked for before, outside of a transaction.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) async fn on_writer<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move |connection: &Connection| {
            let _ = answer.send(job(connection));
        });
        self.enqueue("read", Job::Read(job), usize::MAX)?;
        answered.await.map_err(|error| unavailable("read", error))?
    }

    /// Refuses when `limit` jobs wait already, and when the queue is full.
    fn enqueue(&self, operation: &'static str, job: Job<W>, limit: usize) -> Result<(), StoreError> {
        let ended = || unavailable(operation, std::io::Error::other("the writer thread has ended"));
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        // Counted before it is put in, so that the count is never below the queue's length.
        let n_before = self.n_waiting.fetch_add(1, Ordering::Relaxed);
        let result = if n_before >= limit {
            Err(StoreError::Busy)
        } else {
            queue.try_send(job).map_err(|error| match error {
                TrySendError::Full(_) => StoreError::Busy,
                TrySendError::Disconnected(_) => ended(),
            })
        };
        if result.is_err() {
            self.n_waiting.fetch_sub(1, Ordering::Relaxed);
        }
        result
    }
}

impl<W: Write> Drop for Engine<W> {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(
                thread = W::THREAD,
                diag = "store.unavailable",
                "a store's writer thread has panicked"
            );
        }
    }
}

/// Creates the file for its owner only, if it is missing: definitions hold secrets of backends, records hold addresses
/// of users. The engine gives its other files the same rights.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn prepare<W: Write>(connection: &Connection, options: &Options, is_file: bool) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| unavailable("open", error);
    connection.busy_timeout(LOCK_WAIT).map_err(failed)?;
    if W::GIVES_BACK {
        // Only before the first page is written.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    }
    if is_file {
        let mode: String =
            connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).map_err(failed)?;
        if mode != "wal" {
            let text = format!("the journal mode stays {mode}: the file system does not support WAL");
            return Err(unavailable("open", std::io::Error::other(text)));
        }
    }
    connection.pragma_update(None, "synchronous", W::SYNCHRONOUS).map_err(failed)?;
    connection.pragma_update(None, "cache_size", -W::CACHE_KIB).map_err(failed)?;
    if let Some(pages) = options.max_page_count {
        connection.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(())).map_err(failed)?;
    }
    if let Some(pages) = options.max_log_pages.or(W::MAX_LOG_PAGES) {
        connection.pragma_update(None, "wal_autocheckpoint", pages).map_err(failed)?;
    }
    if W::GIVES_BACK {
        // What is removed on purpose must not stay in pages that were split earlier.
        connection.query_row("PRAGMA secure_delete=FAST", [], |_| Ok(())).map_err(failed)?;
    }
    Ok(())
}

/// Refuses a file whose structure is damaged: better at the start than at some write.
fn check(connection: &Connection) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| unavailable("open", error);
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict == "ok" { Ok(()) } else { Err(unavailable("open", format!("the file is damaged: {verdict}"))) }
}

/// Brings the file to the latest version.
pub(crate) fn migrate(connection: &Connection, migrations: &[&str]) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| unavailable("open", error);
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let supported = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    if found > supported {
        return Err(StoreError::TooNew { found, supported });
    }
    for (version, step) in (1_u32..).zip(migrations).skip(found as usize) {
        let sql = format!("BEGIN IMMEDIATE; {step} PRAGMA user_version = {version}; COMMIT;");
        if let Err(error) = connection.execute_batch(&sql) {
            // Without a transaction, because the step failed before it began one, this fails too, and may.
            let _ = connection.execute_batch("ROLLBACK");
            return Err(failed(error));
        }
    }
    Ok(())
}

/// What the engine or the system said, as an error of the store.
pub(crate) fn unavailable(
    operation: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::Unavailable { operation, source: source.into() }
}
