//! Durability against `kill -9`: what was answered is there afterwards.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tidegate_core::port::{Record, RecordChange, RecordKind, RecordStore};
use tidegate_store::sql::{Database, Outcome, SqliteDatabase, Tx};
use tidegate_store::{InUse, SqliteRecords, SqliteStore};

use crate::suite::{Store, ids, put};

const FOLDER: &str = "TIDEGATE_TEST_CRASH_FILE";

/// Not a test: the process that is killed. It says each write that was answered.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child() {
    let Some(path) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let store: Store = Arc::new(SqliteStore::open(&path).expect("open"));
        for n in 0_u64.. {
            let pair = vec![
                put("x", "p", &format!("{n}-a"), 2 * n + 1, &"x".repeat(500)),
                put("x", "p", &format!("{n}-b"), 2 * n + 2, &"x".repeat(500)),
            ];
            store.apply(pair).await.expect("write");
            println!("stored {n}");
        }
    });
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_answered() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("definitions.db");
    for wanted in [3_u64, 40, 150] {
        let mut child = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "crash::child", "--ignored", "--nocapture"])
            .env(FOLDER, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut answered = None;
        for line in lines.map_while(Result::ok) {
            if let Some((_, number)) = line.split_once("stored ") {
                answered = number.trim().parse::<u64>().ok();
                if answered >= Some(wanted) {
                    break;
                }
            }
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
        let answered = answered.expect("some writes");
        assert!(answered >= wanted);

        let store: Store = Arc::new(SqliteStore::open(&path).expect("the lock died with the process"));
        let ids = ids(&store).await;
        for n in 0..=answered {
            assert!(ids.contains(&format!("{n}-a")), "{n} of {answered} is lost");
        }
        assert_eq!(ids.len() % 2, 0, "half a batch was stored");
        drop(store);
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", path.display()));
        }
    }
}

/// Not a test: the process that is killed while eight callers write and take.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child_with_records() {
    let Some(path) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        let store = Arc::new(SqliteRecords::open(&path).expect("open"));
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..8 {
            let store = Arc::clone(&store);
            callers.spawn(async move {
                for n in 0_u64.. {
                    let key = format!("{caller}-{n}");
                    let record = |kind| Record {
                        kind,
                        key: key.clone(),
                        created_at: n,
                        expires_at: u64::MAX,
                        body: "x".repeat(300),
                    };
                    store.write(vec![RecordChange::Put(record(RecordKind::Token))]).await.expect("write");
                    println!("issued {key}");
                    // Every second token is used.
                    if n % 2 == 0 {
                        let spent = record(RecordKind::SpentToken);
                        let is_mine = store.take(RecordKind::Token, key.clone(), Some(spent)).await;
                        assert!(is_mine.expect("take"));
                        println!("spent {key}");
                    }
                }
            });
        }
        callers.join_all().await;
    });
}

// S0-63, S0-73: neither does a used token come back, nor an unused one get lost.
#[tokio::test]
async fn a_killed_process_loses_no_record_that_it_answered() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for n_wanted in [5_usize, 100, 600] {
        let path = folder.path().join(format!("{n_wanted}.db"));
        let mut child = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "crash::child_with_records", "--ignored", "--nocapture"])
            .env(FOLDER, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start");
        let (mut issued, mut spent) = (Vec::new(), Vec::new());
        let mut note = |line: String| {
            // The test harness writes its own words before the first line.
            if let Some((_, key)) = line.split_once("issued ") {
                issued.push(key.to_owned());
            } else if let Some((_, key)) = line.split_once("spent ") {
                spent.push(key.to_owned());
            }
        };
        let mut lines =
            BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok);
        lines.by_ref().take(n_wanted).for_each(&mut note);
        let error = SqliteRecords::open(&path).expect_err("another process has it");
        let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
        let in_use = cause.and_then(|cause| cause.get_ref()).and_then(|cause| cause.downcast_ref::<InUse>());
        assert_eq!(in_use.expect("the reason").process, Some(child.id()));
        child.kill().expect("kill");
        child.wait().expect("wait");
        lines.for_each(note);
        assert!(issued.len() + spent.len() >= n_wanted / 2, "{issued:?} {spent:?}");

        let store = SqliteRecords::open(&path).expect("the lock died with the process");
        let mut found = Vec::new();
        for kind in [RecordKind::Token, RecordKind::SpentToken] {
            let records = store.load(kind).await.expect("load");
            found.push(records.into_iter().map(|record| record.key).collect::<Vec<_>>());
        }
        for key in &issued {
            let n_found = found.iter().filter(|keys| keys.contains(key)).count();
            assert_eq!(n_found, 1, "{key} is lost, or there twice");
        }
        for key in &spent {
            assert!(found[1].contains(key) && !found[0].contains(key), "{key} can be used again");
        }
    }
}

/// Not a test: the process that ends between the commit of an event and what follows it.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child_that_ends_after_its_commit() {
    let Some(path) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let database = SqliteDatabase::open(&path, NOTES).expect("open");
    let work = |tx: &mut dyn Tx| {
        tx.execute("INSERT INTO note (id) VALUES (?1)", &[7.into()])?;
        Ok(Outcome::Commit(Box::new(|| std::process::abort())))
    };
    runtime.block_on(database.write(Vec::new(), Box::new(work))).expect("never answered");
}

const NOTES: &[&str] = &["CREATE TABLE note (id BIGINT PRIMARY KEY);"];

/// S2-37: what was committed is stored, although nothing of it was dispatched.
#[tokio::test]
async fn a_process_that_ends_between_commit_and_dispatch_has_stored_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("chat.db");
    let ended = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "crash::child_that_ends_after_its_commit", "--ignored"])
        .env(FOLDER, &path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("start");
    assert!(!ended.success());
    let database = SqliteDatabase::open(&path, NOTES).expect("the lock died with the process");
    let (answer, answered) = std::sync::mpsc::channel();
    let work = move |tx: &mut dyn Tx| {
        let found = tx.query("SELECT id FROM note", &[])?.first().map(|row| row.int(0)).transpose()?;
        let _ = answer.send(found);
        Ok(Outcome::Commit(Box::new(|| {})))
    };
    database.read(Box::new(work)).await.expect("read");
    assert_eq!(answered.recv().expect("its answer"), Some(7));
}
