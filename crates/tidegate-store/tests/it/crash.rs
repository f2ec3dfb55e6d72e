//! Durability against `kill -9`: what was answered is there afterwards.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tidegate_store::SqliteStore;

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
