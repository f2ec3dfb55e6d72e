//! The journal: what happened, in a SQLite file of its own.
//!
//! Nothing waits for it, and its last second may be lost with the machine: `synchronous=NORMAL`. It has a bound on the
//! disk: the engine refuses to let the file grow beyond it, and [`SqliteJournal::retain`] makes room before. Ids of
//! connections and requests begin with their time, so that the indexes over them grow at their right edge and an entry
//! costs a few microseconds however many there are.

mod query;
mod retention;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tidegate_core::journal::{Draft, Entry, EntryQuery, Erase, JournalState, JournalStore, Retention};
use tidegate_core::port::{BoxFuture, StoreError};

use crate::engine::{Engine, Options, Write, unavailable};

/// Bytes of a page.
const PAGE_SIZE: u64 = 4096;

/// Largest share of the bound that the log of writes beside the file may take, in bytes.
const MAX_LOG: u64 = 16 << 20;

/// Entries that one transaction of a clean-up removes at most: a few milliseconds, then those that wait are written.
const STEP: usize = 500;

/// Entries of somebody that are looked for at a time.
const PASS: usize = 50_000;

/// How a journal is opened.
#[derive(Debug, Clone, Copy)]
pub struct JournalOptions {
    /// Largest size on the disk, in bytes, of the file and the log of writes beside it; at least 1 MiB.
    pub max_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { max_bytes: 512 << 20 }
    }
}

/// Smallest [`JournalOptions::max_bytes`].
const MIN_BYTES: u64 = 1 << 20;

impl JournalOptions {
    /// Bytes of the log of writes.
    fn log(self) -> u64 {
        (self.max_bytes.max(MIN_BYTES) / 8).min(MAX_LOG)
    }

    /// Pages of the file.
    fn pages(self) -> u64 {
        (self.max_bytes.max(MIN_BYTES) - self.log()) / PAGE_SIZE
    }
}

/// Entries in one SQLite file.
///
/// Dropping it waits until the entries that were taken are written.
#[derive(Debug)]
pub struct SqliteJournal {
    source: Source,
    path: Option<PathBuf>,
    options: JournalOptions,
    progress: Arc<Mutex<retention::Progress>>,
}

#[derive(Debug)]
enum Source {
    Engine(Engine<Step>),
    ReadOnly(Arc<Mutex<Connection>>),
}

impl SqliteJournal {
    /// Opens the file at `path`, and creates it and its folder where they are missing. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with [`crate::InUse`] as its cause's cause when another process writes it, with what
    /// the system says otherwise; [`StoreError::TooNew`] when a later version has written it.
    pub fn open(path: &Path, options: JournalOptions) -> Result<Self, StoreError> {
        let pages = u32::try_from(options.pages()).unwrap_or(u32::MAX - 1);
        // It goes on growing while what is in it is brought into the file, and by one transaction.
        let log_pages = u32::try_from(options.log() / PAGE_SIZE / 4).unwrap_or(u32::MAX);
        let engine_options =
            Options { max_page_count: Some(pages), max_log_pages: Some(log_pages), ..Options::default() };
        let engine = Engine::open(path, &engine_options)?;
        Ok(Self::new(Source::Engine(engine), Some(path), options))
    }

    /// A journal that is forgotten with the process.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_in_memory() -> Result<Self, StoreError> {
        Ok(Self::new(Source::Engine(Engine::open_in_memory()?), None, JournalOptions::default()))
    }

    /// Opens a file that somebody else writes, or nobody; what would change it fails. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with what the system says; [`StoreError::TooNew`].
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        let failed = |error: rusqlite::Error| unavailable("open", error);
        let open = |path: &Path, flags| {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(std::time::Duration::from_secs(5))?;
            let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            Ok((connection, version))
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let (connection, found) = match open(path, flags) {
            Ok(opened) => opened,
            // In a folder that cannot be written the engine cannot share memory with a writer. Where no log of
            // writes is, there is none.
            Err(_) if path.exists() && !beside(path, "-wal").exists() => {
                let uri = format!("file:{}?immutable=1", encode(path));
                open(Path::new(&uri), flags | OpenFlags::SQLITE_OPEN_URI).map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        let supported = u32::try_from(schema::MIGRATIONS.len()).unwrap_or(u32::MAX);
        if found > supported {
            return Err(StoreError::TooNew { found, supported });
        }
        if found == 0 {
            return Err(unavailable("open", "the file is no journal"));
        }
        schema::fill_up(&connection, found).map_err(failed)?;
        let source = Source::ReadOnly(Arc::new(Mutex::new(connection)));
        Ok(Self::new(source, Some(path), JournalOptions::default()))
    }

    fn new(source: Source, path: Option<&Path>, options: JournalOptions) -> Self {
        Self { source, path: path.map(Path::to_owned), options, progress: Arc::default() }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.source {
            Source::Engine(engine) => engine.read(read).await,
            Source::ReadOnly(connection) => {
                let connection = Arc::clone(connection);
                let read = move || read(&connection.lock());
                tokio::task::spawn_blocking(read).await.map_err(|error| unavailable("read", error))?
            }
        }
    }

    fn engine(&self) -> Result<&Engine<Step>, StoreError> {
        match &self.source {
            Source::Engine(engine) => Ok(engine),
            Source::ReadOnly(_) => Err(unavailable("write", "the journal was opened for reading")),
        }
    }

    /// Bytes of the file and of the log of writes beside it.
    fn bytes_on_disk(&self) -> Option<u64> {
        let path = self.path.as_ref()?;
        let length = |path: &Path| std::fs::metadata(path).map(|found| found.len());
        Some(length(path).ok()? + length(&beside(path, "-wal")).unwrap_or(0))
    }

    /// Repeats a step of a clean-up until it removes nothing more; entries that wait are written in between.
    async fn repeat(&self, step: impl Fn() -> Step) -> Result<u64, StoreError> {
        let engine = self.engine()?;
        let mut n_all = 0;
        loop {
            let n_removed = engine.write(step()).await?;
            n_all += n_removed;
            if n_removed == 0 {
                return Ok(n_all);
            }
        }
    }
}

/// `journal.db-wal` and so on.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// A path in the engine's form of an address.
fn encode(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

impl JournalStore for SqliteJournal {
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if entries.is_empty() {
                return Ok(());
            }
            self.engine()?.write(Step::Append(entries)).await.map(drop)
        })
    }

    fn write(&self, drafts: Arc<Vec<Draft>>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if drafts.is_empty() {
                return Ok(());
            }
            self.engine()?.write(Step::Write(drafts)).await.map(drop)
        })
    }

    fn query(&self, query: EntryQuery) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        Box::pin(self.read(move |connection| query::entries(connection, &query)))
    }

    fn count_outcomes(&self, query: EntryQuery) -> BoxFuture<'_, Result<Vec<(String, u64)>, StoreError>> {
        Box::pin(self.read(move |connection| query::count_outcomes(connection, &query)))
    }

    /// Removes in steps, so that entries that wait are written in between. A file that is larger than its bound, because
    /// the bound became smaller, is made smaller too.
    fn retain(&self, retention: Retention) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let options = self.options;
            let max_bytes = retention.max_bytes.min(options.pages() * PAGE_SIZE);
            // An eighth is for what comes until the next time.
            let max_bytes = max_bytes - max_bytes / 8;
            let limits = retention::Limits { retention, max_bytes };
            let step = || Step::Retain { limits, progress: Arc::clone(&self.progress) };
            let n_removed = self.repeat(step).await?;
            let max_pages = options.pages();
            self.engine()?.on_writer(move |connection| retention::give_back(connection, max_pages)).await?;
            Ok(n_removed)
        })
    }

    /// What is erased is overwritten on the disk too. A user's entries are those that name the user, and those of their
    /// connections.
    fn erase(&self, whose: Erase) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let engine = self.engine()?;
            let mut n_removed = 0;
            loop {
                // Looking through everything takes a second; those who write do not wait for it.
                let whose = whose.clone();
                let found = self.read(move |connection| retention::find(connection, &whose, PASS)).await?;
                if found.is_empty() {
                    break;
                }
                for ids in found.chunks(STEP) {
                    n_removed += engine.write(Step::Erase(ids.to_vec())).await?;
                }
            }
            engine.on_writer(retention::forget_log).await?;
            Ok(n_removed)
        })
    }

    fn state(&self) -> BoxFuture<'_, Result<JournalState, StoreError>> {
        Box::pin(async move {
            let mut state = self.read(query::state).await?;
            state.bytes = self.bytes_on_disk().unwrap_or(state.bytes);
            Ok(state)
        })
    }
}

/// One write of the journal; it answers how many entries it removed.
#[derive(Debug)]
enum Step {
    Append(Vec<Entry>),
    Write(Arc<Vec<Draft>>),
    Retain { limits: retention::Limits, progress: Arc<Mutex<retention::Progress>> },
    Erase(Vec<i64>),
}

impl Write for Step {
    type Answer = u64;

    const THREAD: &'static str = "journal-writer";

    const MIGRATIONS: &'static [&'static str] = &schema::MIGRATIONS;

    const SYNCHRONOUS: &'static str = "NORMAL";

    // Half a gigabyte would be read at each start; a journal that breaks later stops being one, and nothing else.
    const CHECKS_WHOLE_FILE: bool = false;

    const GIVES_BACK: bool = true;

    fn make(&self, connection: &Connection) -> Result<u64, StoreError> {
        match self {
            Self::Append(entries) => schema::append(connection, entries).map(|()| 0),
            Self::Write(drafts) => schema::append_drafts(connection, drafts).map(|()| 0),
            Self::Retain { limits, progress } => {
                retention::step(connection, limits, &mut progress.lock(), STEP)
            }
            Self::Erase(ids) => retention::erase(connection, ids),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_not_looked_for_everywhere() {
        let connection = Connection::open_in_memory().unwrap();
        schema::MIGRATIONS.iter().for_each(|step| connection.execute_batch(step).unwrap());
        let of_connection = schema::is_of_connection("awIf_YAAAACqFOg=", 1);
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT {} FROM entry WHERE {of_connection} ORDER BY id DESC LIMIT ?2",
            schema::COLUMNS
        );
        let mut statement = connection.prepare(&sql).unwrap();
        let steps = statement.query_map(["x", "1"], |row| row.get(3)).unwrap();
        let steps: Vec<String> = steps.collect::<Result<_, _>>().unwrap();
        assert!(steps.iter().all(|step| !step.starts_with("SCAN")), "{steps:?}");
        assert!(steps.iter().any(|step| step.contains("entry_connection")), "{steps:?}");
    }

    #[tokio::test]
    async fn a_file_of_an_earlier_version_is_read_and_brought_up() {
        // DX-6: facts as JSON, before they were packed.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let connection = Connection::open(&path).unwrap();
        for step in &schema::MIGRATIONS[..2] {
            connection.execute_batch(step).unwrap();
        }
        connection
            .execute_batch(
                r#"INSERT INTO entry (id, kind, node, connection_id, facts)
                   VALUES (2048000, 0, 0, 'awIf_YAAAACqFOg=', '{"status":101,"host":"a.example"}');
                   UPDATE total SET entries = 1;
                   PRAGMA user_version = 2"#,
            )
            .unwrap();
        drop(connection);
        let asked = EntryQuery {
            connection_id: Some("awIf_YAAAACqFOg=".to_owned()),
            limit: 10,
            ..EntryQuery::default()
        };
        let facts = serde_json::json!({ "status": 101, "host": "a.example" });
        let before = SqliteJournal::open_read_only(&path).unwrap();
        let found = before.query(asked.clone()).await.unwrap();
        assert_eq!((found.len(), found[0].ts), (1, 1000));
        assert_eq!(serde_json::Value::Object(found[0].facts.clone()), facts);
        assert_eq!(before.state().await.unwrap().entries, 1);
        drop(before);
        let journal = SqliteJournal::open(&path, JournalOptions::default()).unwrap();
        assert_eq!(journal.query(asked.clone()).await.unwrap(), found);
        drop(journal);
        assert_eq!(SqliteJournal::open_read_only(&path).unwrap().query(asked).await.unwrap(), found);
    }
}
