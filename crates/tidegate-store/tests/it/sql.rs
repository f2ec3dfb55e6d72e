//! What a database for an application promises, in one suite for SQLite and PostgreSQL; the latter runs where
//! `TIDEGATE_TEST_POSTGRES` has the address of a server, in schemas that go at the end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::port::StoreError;
use tidegate_store::Options;
use tidegate_store::sql::{
    Database, Outcome, PostgresDatabase, PostgresOptions, SqlError, SqlValue, SqliteDatabase, Tx,
};

const TABLES: &[&str] = &["CREATE TABLE note (
    id BIGINT PRIMARY KEY, room BIGINT NOT NULL, seq BIGINT NOT NULL, body TEXT, raw BYTEA, UNIQUE (room, seq)
) WITHOUT ROWID;
CREATE TABLE part (note BIGINT NOT NULL REFERENCES note (id) ON DELETE CASCADE);"];

const INSERT: &str = "INSERT INTO note (id, room, seq, body, raw) VALUES (?1, ?2, ?3, ?4, ?5)";

/// A database and what it needs as long as it is used.
struct Opened {
    database: Arc<dyn Database>,
    name: &'static str,
    folder: Option<tempfile::TempDir>,
    schema: Option<String>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let Some(schema) = self.schema.take() else { return };
        let url = server().unwrap_or_default();
        let drop_schema = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (client, connection) =
                    tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connect");
                tokio::spawn(connection);
                client.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.expect("drop");
            });
        });
        let _ = drop_schema.join();
    }
}

/// Address of the server for tests.
fn server() -> Option<String> {
    std::env::var("TIDEGATE_TEST_POSTGRES").ok().filter(|url| !url.is_empty())
}

/// An address that leads into a schema of its own.
async fn new_schema(url: &str) -> (String, String) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let schema = format!("tidegate_{}_{number}", std::process::id());
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    client.batch_execute(&format!("CREATE SCHEMA {schema}")).await.expect("a schema");
    let separator = if url.contains('?') { '&' } else { '?' };
    (format!("{url}{separator}options=-csearch_path%3D{schema}"), schema)
}

fn options(url: String, connections: usize) -> PostgresOptions {
    PostgresOptions::new(url, connections)
}

async fn opened() -> Vec<Opened> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = SqliteDatabase::open(&folder.path().join("chat.db"), TABLES).expect("open");
    let memory = SqliteDatabase::open_in_memory(TABLES).expect("open");
    let mut all = vec![
        Opened { database: Arc::new(file), name: "file", folder: Some(folder), schema: None },
        Opened { database: Arc::new(memory), name: "memory", folder: None, schema: None },
    ];
    if let Some(url) = server() {
        let (url, schema) = new_schema(&url).await;
        let server = PostgresDatabase::open(options(url, 4), TABLES).await.expect("open");
        let schema = Some(schema);
        all.push(Opened { database: Arc::new(server), name: "postgres", folder: None, schema });
    }
    all
}

fn insert(tx: &mut dyn Tx, id: i64, room: i64, seq: i64) -> Result<usize, SqlError> {
    tx.execute(INSERT, &[id.into(), room.into(), seq.into(), SqlValue::Null, SqlValue::Null])
}

fn kept() -> Outcome {
    Outcome::Commit(Box::new(|| {}))
}

async fn ids(database: &Arc<dyn Database>) -> Vec<i64> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let answer = Arc::clone(&found);
    let work = move |tx: &mut dyn Tx| {
        let rows = tx.query("SELECT id FROM note ORDER BY id", &[])?;
        *answer.lock() = rows.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
        Ok(kept())
    };
    database.read(Box::new(work)).await.expect("read");
    let found = found.lock();
    found.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_and_constraints_are_the_same_everywhere() {
    for opened in opened().await {
        let name = opened.name;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let rows = Arc::clone(&seen);
        let work = move |tx: &mut dyn Tx| {
            let values = [
                1.into(),
                i64::MAX.into(),
                (-5).into(),
                "Reef \u{1f30a} '?1'".into(),
                SqlValue::from([0xff; 16]),
            ];
            assert_eq!(tx.execute(INSERT, &values)?, 1);
            let row = tx.query(
                "SELECT id, room, seq, body, raw, NULL FROM note WHERE id = ?1 LIMIT ?2",
                &[1.into(), 1.into()],
            )?;
            assert_eq!(row[0].0[..5], values);
            assert_eq!(row[0].0[5], SqlValue::Null);
            rows.lock().extend(tx.query("DELETE FROM note WHERE id = ?1 RETURNING id", &[1.into()])?);
            assert_eq!(tx.query("SELECT count(*) FROM note WHERE body = '?1'", &[])?[0].int(0)?, 0);
            insert(tx, 2, 1, 1)?;
            tx.execute("INSERT INTO part (note) VALUES (?1)", &[2.into()])?;
            Ok(kept())
        };
        opened.database.write(vec![3, 1, 3], Box::new(work)).await.expect(name);
        assert_eq!(seen.lock()[0].int(0), Ok(1), "{name}");
        for (id, seq) in [(2, 9), (9, 1)] {
            let told = Arc::new(AtomicUsize::new(0));
            let tell = Arc::clone(&told);
            let work = move |tx: &mut dyn Tx| {
                let broken = insert(tx, id, 1, seq);
                assert!(matches!(broken, Err(SqlError::Constraint)), "{broken:?}");
                // Nothing can be done after it, not even something that is right.
                assert!(insert(tx, 77, 7, 7).is_err());
                let tell = Arc::clone(&tell);
                Ok(Outcome::Rollback(Box::new(move || {
                    tell.fetch_add(1, Ordering::Relaxed);
                })))
            };
            opened.database.write(vec![1], Box::new(work)).await.expect(name);
            assert_eq!(told.load(Ordering::Relaxed), 1, "{name}");
        }
        let orphan = |tx: &mut dyn Tx| {
            let broken = tx.execute("INSERT INTO part (note) VALUES (?1)", &[404.into()]);
            assert!(matches!(broken, Err(SqlError::Constraint)), "{broken:?}");
            // Not to be kept, although the work asks for it.
            Ok(kept())
        };
        assert!(opened.database.write(vec![1], Box::new(orphan)).await.is_err(), "{name}");
        assert_eq!(ids(&opened.database).await, [2], "{name}");
    }
}

/// I-19, S2-37
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_works_of_a_group_take_no_other_with_them_and_what_follows_comes_in_order() {
    for opened in opened().await {
        let name = opened.name;
        let order: Arc<Mutex<Vec<(i64, i64)>>> = Arc::default();
        let mut tasks = Vec::new();
        for id in 0..400_i64 {
            let database = Arc::clone(&opened.database);
            let order = Arc::clone(&order);
            tasks.push(tokio::spawn(async move {
                let room = id % 4;
                let work = move |tx: &mut dyn Tx| {
                    // Taken and given up again, or stored: check, then insert.
                    let sql = "SELECT coalesce(max(seq), 0) + 1 FROM note WHERE room = ?1";
                    let seq = tx.query(sql, &[room.into()])?[0].int(0)?;
                    insert(tx, id, room, seq)?;
                    match id % 8 {
                        6 => panic!("a work that panics"),
                        7 => return Err(SqlError::Constraint),
                        5 => return Ok(Outcome::Rollback(Box::new(|| {}))),
                        _ => {}
                    }
                    let order = Arc::clone(&order);
                    Ok(Outcome::Commit(Box::new(move || order.lock().push((room, seq)))))
                };
                // Every work has a lock that all of its room have.
                let room = room.unsigned_abs();
                let result = database.write(vec![room + 1000, room], Box::new(work)).await;
                assert_eq!(result.is_err(), id % 8 >= 6, "{id}: {result:?}");
            }));
        }
        for task in tasks {
            task.await.expect(name);
        }
        let order = order.lock().clone();
        assert_eq!(order.len(), 250, "{name}");
        for room in 0..4 {
            let seqs: Vec<i64> = order.iter().filter(|(of, _)| *of == room).map(|(_, seq)| *seq).collect();
            let n = i64::try_from(seqs.len()).expect("few");
            assert_eq!(seqs, (1..=n).collect::<Vec<_>>(), "{name}, room {room}");
        }
        let stored = ids(&opened.database).await;
        assert_eq!(stored, (0..400).filter(|id| id % 8 < 5).collect::<Vec<_>>(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_change_nothing_and_do_not_wait_for_writes() {
    for opened in opened().await {
        let name = opened.name;
        if name == "memory" {
            continue;
        }
        let (started, has_started) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let writer = Arc::clone(&opened.database);
        let write = tokio::spawn(async move {
            let work = move |tx: &mut dyn Tx| {
                insert(tx, 1, 1, 1)?;
                let _ = started.send(());
                let _ = released.recv_timeout(Duration::from_secs(20));
                Ok(kept())
            };
            writer.write(vec![1], Box::new(work)).await
        });
        tokio::task::spawn_blocking(move || has_started.recv().expect("the write began")).await.expect(name);
        assert_eq!(ids(&opened.database).await, Vec::<i64>::new(), "{name}: what is not durable is not seen");
        let forbidden = |tx: &mut dyn Tx| {
            assert!(insert(tx, 5, 5, 5).is_err());
            Ok(Outcome::Rollback(Box::new(|| {})))
        };
        opened.database.read(Box::new(forbidden)).await.expect(name);
        release.send(()).expect("the write waits");
        write.await.expect(name).expect(name);
        assert_eq!(ids(&opened.database).await, [1], "{name}");
        let panics = |_: &mut dyn Tx| -> Result<Outcome, SqlError> { panic!("a read that panics") };
        for _ in 0..10 {
            assert!(opened.database.read(Box::new(panics)).await.is_err(), "{name}");
        }
        assert_eq!(ids(&opened.database).await, [1], "{name}: and the connections are whole");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_happens_although_its_caller_has_left() {
    for opened in opened().await {
        let work = |tx: &mut dyn Tx| insert(tx, 1, 1, 1).map(|_| kept());
        let mut write = opened.database.write(vec![1], Box::new(work));
        std::future::poll_fn(|context| {
            let _ = write.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
        drop(write);
        while ids(&opened.database).await.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

/// What was committed is there when the file is opened again, by this version and not by an earlier one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_made_once_and_kept() {
    for mut opened in opened().await {
        if opened.name == "memory" {
            continue;
        }
        let work = |tx: &mut dyn Tx| insert(tx, 1, 1, 1).map(|_| kept());
        opened.database.write(Vec::new(), Box::new(work)).await.expect("write");
        let more = [TABLES[0], "CREATE TABLE later (id BIGINT);"];
        let wrong = [TABLES[0], more[1], "CREATE TABLE another (id BIGINT); CREATE NONSENSE;"];
        match opened.folder.take() {
            Some(folder) => {
                let path = folder.path().join("chat.db");
                opened.database = Arc::new(SqliteDatabase::open_in_memory(&[]).expect("open"));
                let database = SqliteDatabase::open(&path, &more).expect("open");
                assert_eq!(ids(&(Arc::new(database) as Arc<dyn Database>)).await, [1]);
                assert!(SqliteDatabase::open(&path, &wrong).is_err());
                let error = SqliteDatabase::open(&path, TABLES).expect_err("too new");
                assert!(matches!(error, StoreError::TooNew { found: 2, supported: 1 }), "{error}");
            }
            None => {
                let schema = opened.schema.clone().expect("a schema");
                let url = server().expect("a server");
                let separator = if url.contains('?') { '&' } else { '?' };
                let url = format!("{url}{separator}options=-csearch_path%3D{schema}");
                let open = |steps: Vec<&'static str>| {
                    let options = options(url.clone(), 1);
                    async move { PostgresDatabase::open(options, &steps).await }
                };
                let again = tokio::join!(open(more.to_vec()), open(more.to_vec()), open(more.to_vec()));
                let database: Arc<dyn Database> = Arc::new(again.0.expect("open"));
                assert!(again.1.is_ok() && again.2.is_ok());
                assert_eq!(ids(&database).await, [1]);
                assert!(open(wrong.to_vec()).await.is_err());
                let error = open(TABLES.to_vec()).await.expect_err("too new");
                assert!(matches!(error, StoreError::TooNew { found: 2, supported: 1 }), "{error}");
            }
        }
    }
}

/// S2-37: a full disk refuses an event and changes nothing; small ones go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = Options { max_page_count: Some(40), ..Options::default() };
    let path: &Path = &folder.path().join("chat.db");
    let database: Arc<dyn Database> =
        Arc::new(SqliteDatabase::open_with(path, TABLES, &settings).expect("open"));
    let n_after = Arc::new(AtomicUsize::new(0));
    let store = |id: i64, size: usize| {
        let n_after = Arc::clone(&n_after);
        let work = move |tx: &mut dyn Tx| {
            insert(tx, 1000 + id, 2, id)?;
            let body = SqlValue::from("x".repeat(size));
            tx.execute(INSERT, &[id.into(), 1.into(), id.into(), body, SqlValue::Null])?;
            let n_after = Arc::clone(&n_after);
            Ok(Outcome::Commit(Box::new(move || {
                n_after.fetch_add(1, Ordering::Relaxed);
            })))
        };
        database.write(Vec::new(), Box::new(work))
    };
    let results = tokio::join!(store(1, 100), store(2, 1 << 20), store(3, 100));
    assert!(results.0.is_ok() && results.2.is_ok(), "{results:?}");
    assert!(matches!(results.1, Err(StoreError::Unavailable { .. })), "{results:?}");
    assert_eq!(n_after.load(Ordering::Relaxed), 2);
    assert_eq!(ids(&database).await, [1, 3, 1001, 1003]);
}

/// More waits than the queue holds: refused at once, nothing lost of what was taken.
/// Rows of the file itself, as it is without its log of writes.
fn rows_of_file(path: &Path) -> Result<i64, rusqlite::Error> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file:{}?immutable=1", path.display());
    let connection = rusqlite::Connection::open_with_flags(uri, flags)?;
    connection.query_row("SELECT count(*) FROM note", [], |row| row.get(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_writes_goes_into_the_file_beside_the_writer() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.db");
    let database = SqliteDatabase::open(&path, TABLES).expect("open");
    // Far fewer pages than the writer itself would wait for.
    for id in 0..300 {
        let work = move |tx: &mut dyn Tx| insert(tx, id, 1, id).map(|_| kept());
        database.write(Vec::new(), Box::new(work)).await.expect("write");
    }
    let begun = std::time::Instant::now();
    // While it is being written it may be in between.
    while !rows_of_file(&path).is_ok_and(|rows| rows >= 256) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the file has {:?}", rows_of_file(&path));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = Options { queue: 4, ..Options::default() };
    let path = folder.path().join("chat.db");
    let database: Arc<dyn Database> =
        Arc::new(SqliteDatabase::open_with(&path, TABLES, &settings).expect("open"));
    let (started, has_started) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let slow = move |_: &mut dyn Tx| {
        let _ = started.send(());
        let _ = released.recv_timeout(Duration::from_secs(20));
        Ok(kept())
    };
    let writer = Arc::clone(&database);
    let first = tokio::spawn(async move { writer.write(Vec::new(), Box::new(slow)).await });
    tokio::task::spawn_blocking(move || has_started.recv().expect("began")).await.expect("began");
    let tasks: Vec<_> = (0..20)
        .map(|id| {
            let database = Arc::clone(&database);
            let work = move |tx: &mut dyn Tx| insert(tx, id, 1, id).map(|_| kept());
            tokio::spawn(async move { (id, database.write(Vec::new(), Box::new(work)).await) })
        })
        .collect();
    // The refused ones end while the slow one runs.
    while tasks.iter().filter(|task| task.is_finished()).count() < 16 {
        tokio::task::yield_now().await;
    }
    release.send(()).expect("it waits");
    first.await.expect("its task").expect("written");
    let mut stored = Vec::new();
    for task in tasks {
        let (id, result) = task.await.expect("its task");
        match result {
            Ok(()) => stored.push(id),
            Err(error) => assert!(matches!(error, StoreError::Busy), "{error}"),
        }
    }
    assert_eq!(stored.len(), 4);
    assert_eq!(ids(&database).await, stored);
}

/// S2-37: a connection that is lost in the middle of a transaction is replaced, and the work is done once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_replaced() {
    let Some(url) = server() else { return };
    let (own, schema) = new_schema(&url).await;
    let database = PostgresDatabase::open(options(own, 2), TABLES).await.expect("open");
    let opened =
        Opened { database: Arc::new(database), name: "postgres", folder: None, schema: Some(schema) };
    let n_runs = Arc::new(AtomicUsize::new(0));
    let runs = Arc::clone(&n_runs);
    let work = move |tx: &mut dyn Tx| {
        insert(tx, 1, 1, 1)?;
        if runs.fetch_add(1, Ordering::Relaxed) < 2 {
            let sql = "SELECT CASE WHEN pg_terminate_backend(pg_backend_pid()) THEN 1 ELSE 0 END";
            assert!(tx.query(sql, &[]).is_err());
            // The work may make of it what it wants: it is done again.
            return Ok(Outcome::Rollback(Box::new(|| panic!("nobody asked for this one"))));
        }
        Ok(kept())
    };
    opened.database.write(vec![1], Box::new(work)).await.expect("written");
    assert_eq!(n_runs.load(Ordering::Relaxed), 3);
    assert_eq!(ids(&opened.database).await, [1]);
}

/// S2-37, I-19: two nodes that take the same rows in different orders; the server gives up one of them, and it is repeated.
/// With a lock in common they wait for each other, and none is given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deadlocks_between_nodes_are_repeated_and_locks_hold_between_them() {
    let Some(url) = server() else { return };
    let (own, schema) = new_schema(&url).await;
    let one = PostgresDatabase::open(options(own.clone(), 2), TABLES).await.expect("open");
    let two = PostgresDatabase::open(options(own, 2), TABLES).await.expect("open");
    let opened = Opened { database: Arc::new(one), name: "postgres", folder: None, schema: Some(schema) };
    let two: Arc<dyn Database> = Arc::new(two);
    let seed = |tx: &mut dyn Tx| {
        insert(tx, 1, 1, 0)?;
        insert(tx, 2, 2, 0)?;
        Ok(kept())
    };
    opened.database.write(Vec::new(), Box::new(seed)).await.expect("written");
    for locks in [vec![], vec![42]] {
        let has_locks = !locks.is_empty();
        let n_runs = Arc::new(AtomicUsize::new(0));
        let barrier = Arc::new(std::sync::Barrier::new(2));
        let work = |first: i64, second: i64| {
            let n_runs = Arc::clone(&n_runs);
            let barrier = Arc::clone(&barrier);
            let sql = "UPDATE note SET seq = seq + 1 WHERE id = ?1";
            move |tx: &mut dyn Tx| {
                tx.execute(sql, &[first.into()])?;
                if n_runs.fetch_add(1, Ordering::Relaxed) < 2 && !has_locks {
                    barrier.wait();
                }
                tx.execute(sql, &[second.into()])?;
                Ok(kept())
            }
        };
        let both = tokio::join!(
            opened.database.write(locks.clone(), Box::new(work(1, 2))),
            two.write(locks, Box::new(work(2, 1))),
        );
        both.0.expect("written");
        both.1.expect("written");
        assert_eq!(n_runs.load(Ordering::Relaxed), if has_locks { 2 } else { 3 });
    }
    let found = Arc::new(Mutex::new(Vec::new()));
    let answer = Arc::clone(&found);
    let work = move |tx: &mut dyn Tx| {
        *answer.lock() = tx.query("SELECT seq FROM note ORDER BY id", &[])?;
        Ok(kept())
    };
    opened.database.read(Box::new(work)).await.expect("read");
    let seqs: Vec<i64> = found.lock().iter().map(|row| row.int(0).expect("a number")).collect();
    assert_eq!(seqs, [4, 4]);
}
