//! What SQLite has to prove beyond the suite: files, locks, full disks, full queues.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_core::port::{Change, StoreError};
use tidegate_store::{InUse, Options, SqliteStore};

use crate::suite::{self, Store, ids, put};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("data/definitions.db")
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path).expect("open")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_holds_in_a_file() {
    let folder = folder();
    let n = std::cell::Cell::new(0);
    suite::run(|| {
        n.set(n.get() + 1);
        Arc::new(open(&folder.path().join(format!("{}.db", n.get()))))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_holds_in_memory() {
    suite::run(|| Arc::new(SqliteStore::open_in_memory().expect("open"))).await;
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let folder = folder();
    let store: Store = Arc::new(open(&file(&folder)));
    store.apply(vec![put("api", "", "a", 1, "{}")]).await.expect("write");
    drop(store);
    let store: Store = Arc::new(open(&file(&folder)));
    assert_eq!(ids(&store).await, ["a"]);
}

#[tokio::test]
async fn a_second_process_is_refused_with_a_reason() {
    let folder = folder();
    let first = open(&file(&folder));
    let error = SqliteStore::open(&file(&folder)).expect_err("must be refused");
    let cause = error.source().expect("a cause");
    assert!(cause.to_string().contains("in use by another process (process "), "{cause}");
    let io = cause.downcast_ref::<std::io::Error>().expect("an I/O error");
    assert!(io.get_ref().is_some_and(|e| e.is::<InUse>()), "{io:?}");
    drop(first);
    open(&file(&folder));
}

#[tokio::test]
async fn a_later_schema_is_refused() {
    let folder = folder();
    drop(open(&file(&folder)));
    let connection = rusqlite::Connection::open(file(&folder)).expect("open");
    connection.pragma_update(None, "user_version", 99).expect("set");
    drop(connection);
    let error = SqliteStore::open(&file(&folder)).expect_err("must be refused");
    assert!(matches!(error, StoreError::TooNew { found: 99, supported: 1 }), "{error:?}");
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let folder = folder();
    let path = folder.path().join("x.db");
    std::fs::write(&path, "not a database, but long enough to be looked at ".repeat(100)).expect("write");
    let error = SqliteStore::open(&path).expect_err("must be refused");
    assert!(matches!(error, StoreError::Unavailable { operation: "open", .. }), "{error:?}");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let folder = folder();
    let store: Store = Arc::new(open(&file(&folder)));
    for n in 0..100 {
        store.apply(vec![put("x", "p", &n.to_string(), n + 1, &"x".repeat(1000))]).await.expect("write");
    }
    drop(store);
    let mut bytes = std::fs::read(file(&folder)).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xA5);
    std::fs::write(file(&folder), bytes).expect("write");
    let error = SqliteStore::open(&file(&folder)).expect_err("must be refused");
    assert!(matches!(error, StoreError::Unavailable { operation: "open", .. }), "{error:?}");
    assert!(error.source().is_some_and(|cause| cause.to_string().contains("damaged")), "{error:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let store: Store = Arc::new(open(&file(&folder)));
    store.apply(vec![put("x", "p", "a", 1, "'a secret'")]).await.expect("write");
    for name in ["definitions.db", "definitions.db-wal"] {
        let mode =
            std::fs::metadata(folder.path().join("data").join(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_later_takes_writes_again() {
    let folder = folder();
    let options = Options { max_page_count: Some(40), ..Options::default() };
    let store: Store = Arc::new(SqliteStore::open_with(&file(&folder), &options).expect("open"));
    let body = "x".repeat(10_000);
    let mut stored = 0;
    let error = loop {
        match store.apply(vec![put("x", "p", &stored.to_string(), stored + 1, &body)]).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "the disk is never full");
    };
    assert!(matches!(error, StoreError::Unavailable { operation: "write", .. }), "{error:?}");
    assert!(error.source().is_some_and(|e| e.to_string().contains("full")), "{error:?}");
    assert!(stored > 5);
    assert_eq!(ids(&store).await.len() as u64, stored, "a refused write leaves nothing");

    // A group of writes of which some fit: those that do not must not take the others with them.
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16_u64 {
        let store = Arc::clone(&store);
        let body = if n % 2 == 0 { body.clone() } else { String::new() };
        tasks.spawn(async move {
            let result = store.apply(vec![put("x", "small", &n.to_string(), 1000 + n, &body)]).await;
            assert!(result.is_ok() || n % 2 == 0, "{n} {result:?}");
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a writer");
    }

    store.apply(vec![Change::DeleteTree { parent: "p".into() }]).await.expect("removing makes room");
    store.apply(vec![put("x", "p", "again", 5000, &body)]).await.expect("there is room again");
    drop(store);
    let store: Store = Arc::new(open(&file(&folder)));
    assert!(ids(&store).await.contains(&"again".to_owned()));
}

/// Another connection holds the lock, so the writer waits and its queue fills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once() {
    let folder = folder();
    let options = Options { queue: 4, ..Options::default() };
    let store: Store = Arc::new(SqliteStore::open_with(&file(&folder), &options).expect("open"));
    let blocker = rusqlite::Connection::open(file(&folder)).expect("open");
    blocker.execute_batch("BEGIN IMMEDIATE").expect("lock");

    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..600_u64 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.apply(vec![put("x", "p", &n.to_string(), n + 1, "{}")]).await });
    }
    // More than one group and the queue behind it: the rest is refused while the lock is still held.
    let started = Instant::now();
    let first = tasks.join_next().await.expect("a result").expect("no panic");
    assert!(matches!(first, Err(StoreError::Busy)), "{first:?}");
    assert!(started.elapsed() < Duration::from_secs(4));
    blocker.execute_batch("COMMIT").expect("unlock");

    let mut stored = 0;
    while let Some(result) = tasks.join_next().await {
        match result.expect("no panic") {
            Ok(()) => stored += 1,
            Err(error) => assert!(matches!(error, StoreError::Busy), "{error:?}"),
        }
    }
    assert!(stored >= 4, "{stored}");
    assert_eq!(ids(&store).await.len(), stored);
}

/// The log of the file holds each commit's pages: 64 commits would need two pages each and more.
#[tokio::test]
async fn waiting_writes_share_a_transaction() {
    const FRAME: u64 = 4096 + 24;
    let folder = folder();
    let store: Store = Arc::new(open(&file(&folder)));
    let log = folder.path().join("data/definitions.db-wal");
    let frames = || std::fs::metadata(&log).map_or(0, |log| log.len() / FRAME);
    let blocker = rusqlite::Connection::open(file(&folder)).expect("open");
    blocker.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let before = frames();

    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64_u64 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.apply(vec![put("x", "p", &n.to_string(), n + 1, "{}")]).await });
    }
    // One thread runs everything here: after this each of them has asked once.
    tokio::task::yield_now().await;
    blocker.execute_batch("COMMIT").expect("unlock");
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic").expect("write");
    }
    let used = frames() - before;
    assert!(used < 30, "{used} pages were written");
    assert_eq!(ids(&store).await.len(), 64);
}
