//! Promises of the records, in a file and in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;
use tidegate_core::port::{Record, RecordChange, RecordCursor, RecordKind, RecordStore, StoreError};
use tidegate_store::{Options, SqliteRecords};

type Records = Arc<SqliteRecords>;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("data/sessions.db")
}

fn open(folder: &TempDir) -> Records {
    Arc::new(SqliteRecords::open(&file(folder)).expect("open"))
}

fn open_with(folder: &TempDir, options: &Options) -> Records {
    Arc::new(SqliteRecords::open_with(&file(folder), options).expect("open"))
}

fn record(kind: RecordKind, key: &str, created_at: u64, expires_at: u64, body: &str) -> Record {
    Record { kind, key: key.to_owned(), created_at, expires_at, body: body.to_owned() }
}

fn put(kind: RecordKind, key: &str, created_at: u64, expires_at: u64, body: &str) -> RecordChange {
    RecordChange::Put(record(kind, key, created_at, expires_at, body))
}

async fn keys(store: &SqliteRecords, kind: RecordKind) -> Vec<String> {
    store.load(kind).await.expect("load").into_iter().map(|record| record.key).collect()
}

/// Runs `check` on a store in a file and on one in memory.
async fn in_both<F: Future<Output = ()>>(check: impl Fn(Records) -> F) {
    let folder = folder();
    check(open(&folder)).await;
    check(Arc::new(SqliteRecords::open_in_memory().expect("open"))).await;
}

// S0-63
#[tokio::test]
async fn every_kind_is_there_after_reopening_byte_for_byte() {
    let folder = folder();
    let body = "{\"a\":\"\u{0}é\u{1F600}\\u0000 '\\\" \"}";
    let store = open(&folder);
    let records = RecordKind::ALL.map(|kind| record(kind, "same key", 7, 9, body));
    store.write(records.iter().cloned().map(RecordChange::Put).collect()).await.expect("write");
    assert!(store.write_later(vec![put(RecordKind::Attempt, "later", 8, 9, "{}")]));
    drop(store);
    let store = open(&folder);
    for wanted in records {
        let found = store.load(wanted.kind).await.expect("load");
        assert_eq!(found[0], wanted);
        let n_wanted = if wanted.kind == RecordKind::Attempt { 2 } else { 1 };
        assert_eq!(found.len(), n_wanted, "{:?}", wanted.kind);
    }
}

#[tokio::test]
async fn a_put_replaces_and_a_delete_ignores_absent() {
    in_both(|store| async move {
        let kind = RecordKind::Ban;
        store.write(Vec::new()).await.expect("nothing to do");
        store.write(vec![put(kind, "a", 1, 2, "1"), put(kind, "b", 2, 3, "2")]).await.expect("write");
        let changes = vec![
            put(kind, "a", 5, u64::MAX, "changed"),
            RecordChange::Delete(kind, "b".into()),
            RecordChange::Delete(kind, "absent".into()),
            RecordChange::Delete(RecordKind::Token, "a".into()),
        ];
        store.write(changes).await.expect("write");
        assert_eq!(store.oldest(kind).await.expect("oldest").expect("a record").key, "a");
        assert_eq!(store.oldest(RecordKind::Token).await.expect("oldest"), None);
        // A ban for ever stays one.
        assert_eq!(store.load(kind).await.expect("load"), [record(kind, "a", 5, i64::MAX as u64, "changed")]);
        let now = 4_000_000_000_000;
        assert_eq!(store.expire(kind, now, 10, false).await.expect("expire"), 0);
    })
    .await;
}

// S0-73
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_200_simultaneous_takes_exactly_one_wins() {
    in_both(|store| async move {
        for round in 0..5 {
            let key = format!("token {round}");
            let others = put(RecordKind::Token, "of someone else", 1, 9, "{}");
            store.write(vec![put(RecordKind::Token, &key, 1, 9, "{}"), others]).await.expect("write");
            let mut callers = tokio::task::JoinSet::new();
            for caller in 0..200 {
                let (store, key) = (Arc::clone(&store), key.clone());
                callers.spawn(async move {
                    let spent = record(RecordKind::SpentToken, &key, 1, 9, &caller.to_string());
                    (caller, store.take(RecordKind::Token, key, Some(spent)).await.expect("take"))
                });
            }
            let answers = callers.join_all().await;
            let winners: Vec<_> = answers.iter().filter(|(_, is_mine)| *is_mine).collect();
            assert_eq!(winners.len(), 1, "{winners:?}");
            let spent = store.load(RecordKind::SpentToken).await.expect("load");
            assert_eq!(spent.len(), round + 1);
            let left_behind = spent.iter().find(|record| record.key == key).expect("the spent token");
            assert_eq!(left_behind.body, winners[0].0.to_string(), "a loser left its mark");
            assert_eq!(keys(&store, RecordKind::Token).await, ["of someone else"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_take_without_instead_only_removes() {
    in_both(|store| async move {
        let kind = RecordKind::Disconnect;
        store.write(vec![put(kind, "a", 1, 9, "{}")]).await.expect("write");
        assert!(store.take(kind, "a".into(), None).await.expect("take"));
        assert!(!store.take(kind, "a".into(), None).await.expect("take"));
        for kind in RecordKind::ALL {
            assert!(keys(&store, kind).await.is_empty());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_one_of_64_concurrent_writers_is_answered() {
    in_both(|store| async move {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..64_u64 {
            let store = Arc::clone(&store);
            writers.spawn(async move {
                for n in 0..10_u64 {
                    let key = format!("{writer}-{n}");
                    store.write(vec![put(RecordKind::Audit, &key, n, n + 1, "{}")]).await.expect("write");
                    let page = RecordCursor { created_at: n, key: format!("{key}\0") };
                    let found = store.list(RecordKind::Audit, Some(page), 1).await.expect("list");
                    assert_eq!(found[0].key, key, "an answered write cannot be read");
                }
            });
        }
        writers.join_all().await;
        assert_eq!(keys(&store, RecordKind::Audit).await.len(), 640);
    })
    .await;
}

/// The log of the file holds each commit's pages: 64 commits would need several pages each.
#[tokio::test]
async fn waiting_writes_share_a_transaction() {
    const FRAME: u64 = 4096 + 24;
    let folder = folder();
    let store = open(&folder);
    let log = folder.path().join("data/sessions.db-wal");
    let n_frames = || std::fs::metadata(&log).map_or(0, |log| log.len() / FRAME);
    let blocker = rusqlite::Connection::open(file(&folder)).expect("open");
    blocker.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let n_before = n_frames();
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..64_u64 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            store.write(vec![put(RecordKind::Attempt, &n.to_string(), n, n, "{}")]).await
        });
    }
    // One thread runs everything here: after this each of them has asked once.
    tokio::task::yield_now().await;
    blocker.execute_batch("COMMIT").expect("unlock");
    for result in writers.join_all().await {
        result.expect("write");
    }
    let n_used = n_frames() - n_before;
    assert!(n_used < 40, "{n_used} pages were written");
    assert_eq!(keys(&store, RecordKind::Attempt).await.len(), 64);
}

/// Another connection holds the lock, so the writer waits and its queue fills.
#[tokio::test]
async fn the_last_quarter_of_the_queue_is_for_those_who_wait() {
    let folder = folder();
    let store = open_with(&folder, &Options { queue: 8, ..Options::default() });
    let blocker = rusqlite::Connection::open(file(&folder)).expect("open");
    blocker.execute_batch("BEGIN IMMEDIATE").expect("lock");

    // The writer takes some out of the queue before it meets the lock, at most one group of them.
    let mut n_later = 0;
    while store.write_later(vec![put(RecordKind::Attempt, &format!("{n_later}"), 1, 1, "{}")]) {
        n_later += 1;
        assert!(n_later < 1000, "the queue is never full");
    }
    assert!(n_later >= 6, "{n_later}");
    let mut waiting = Vec::new();
    loop {
        let key = waiting.len().to_string();
        let mut write = store.write(vec![put(RecordKind::Token, &key, 1, 9, "{}")]);
        match write.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => waiting.push(write),
            Poll::Ready(Err(StoreError::Busy)) => break,
            Poll::Ready(result) => panic!("the lock is held, but {result:?}"),
        }
        assert!(waiting.len() < 1000, "the queue is never full");
    }
    assert!(waiting.len() >= 2, "no room was kept for who waits");
    blocker.execute_batch("COMMIT").expect("unlock");

    let n_waiting = waiting.len();
    for write in waiting {
        write.await.expect("write");
    }
    assert_eq!(keys(&store, RecordKind::Token).await.len(), n_waiting);
    assert_eq!(keys(&store, RecordKind::Attempt).await.len(), n_later, "a write that was taken is lost");
    assert!(store.write_later(vec![put(RecordKind::Attempt, "room again", 1, 1, "{}")]));
}

#[tokio::test]
async fn a_full_disk_refuses_loses_nothing_and_later_takes_writes_again() {
    let folder = folder();
    let store = open_with(&folder, &Options { max_page_count: Some(60), ..Options::default() });
    let (kind, body) = (RecordKind::Attempt, "x".repeat(10_000));
    let mut n_stored = 0_u64;
    let error = loop {
        match store.write(vec![put(kind, &n_stored.to_string(), n_stored, 5, &body)]).await {
            Ok(()) => n_stored += 1,
            Err(error) => break error,
        }
        assert!(n_stored < 100, "the disk is never full");
    };
    assert!(matches!(error, StoreError::Unavailable { operation: "write", .. }), "{error:?}");
    assert!(n_stored > 5);
    assert_eq!(keys(&store, kind).await.len() as u64, n_stored, "a refused write leaves nothing");

    // Half a batch fits, and nothing of it may stay; a take whose mark does not fit must not take.
    let batch = vec![put(RecordKind::Ban, "small", 1, 9, "{}"), put(RecordKind::Ban, "large", 1, 9, &body)];
    store.write(batch).await.expect_err("must fail");
    assert!(keys(&store, RecordKind::Ban).await.is_empty());
    store.write(vec![put(RecordKind::Token, "t", 1, 9, "{}")]).await.expect("small ones fit");
    let mark = record(RecordKind::SpentToken, "t", 1, 9, &body);
    store.take(RecordKind::Token, "t".into(), Some(mark)).await.expect_err("must fail");
    assert_eq!(keys(&store, RecordKind::Token).await, ["t"]);

    // A group of writes of which some fit: those that do not must not take the others with them.
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..16_u64 {
        let store = Arc::clone(&store);
        let body = if n % 2 == 0 { body.clone() } else { String::new() };
        writers.spawn(async move {
            let result = store.write(vec![put(RecordKind::Audit, &n.to_string(), n, 9, &body)]).await;
            assert_eq!(result.is_ok(), n % 2 == 1, "{n} {result:?}");
        });
    }
    writers.join_all().await;
    assert!(store.write_later(vec![put(RecordKind::Audit, "lost", 1, 9, &body)]));

    assert_eq!(store.expire(kind, 5, 3, false).await.expect("removing makes room"), 3);
    store.write(vec![put(kind, "again", 1000, 1000, &body)]).await.expect("there is room again");
    drop(store);
    let store = open(&folder);
    let found = store.load(kind).await.expect("load");
    assert_eq!(found.len() as u64, n_stored - 3 + 1);
    assert_eq!(found.last().map(|record| record.key.as_str()), Some("again"));
    assert_eq!(keys(&store, RecordKind::Audit).await.len(), 8);
    // What was given up was not counted either.
    let n_bytes = 10_000 * found.len() as u64;
    assert_eq!(store.shrink(kind, n_bytes, 100).await.expect("shrink"), 0);
    assert_eq!(store.shrink(kind, n_bytes - 1, 100).await.expect("shrink"), 1);
}

// S0-93
#[tokio::test]
async fn expiry_goes_in_bounded_steps() {
    in_both(|store| async move {
        let kind = RecordKind::Attempt;
        let mut changes: Vec<_> =
            (0..250).map(|n| put(kind, &format!("{n:03}"), n, 1000 + n % 7, "{}")).collect();
        changes.push(put(kind, "just not", 300, 1008, "{}"));
        changes.push(put(RecordKind::Ban, "other", 1, 1, "{}"));
        store.write(changes).await.expect("write");

        assert_eq!(store.expire(kind, 1006, 10, true).await.expect("count"), 250, "the count has no limit");
        assert_eq!(store.expire(kind, 1007, 0, false).await.expect("expire"), 0);
        let mut steps = Vec::new();
        while steps.last() != Some(&0) {
            steps.push(store.expire(kind, 1007, 100, false).await.expect("expire"));
            assert!(steps.len() < 10, "{steps:?}");
        }
        assert_eq!(steps, [100, 100, 50, 0]);
        assert_eq!(keys(&store, kind).await, ["just not"]);
        assert_eq!(keys(&store, RecordKind::Ban).await, ["other"]);
        assert_eq!(store.expire(kind, 1008, 100, true).await.expect("count"), 1);
        assert_eq!(store.expire(kind, 1008, 100, false).await.expect("expire"), 1);
    })
    .await;
}

// S0-93
#[tokio::test]
async fn shrinking_removes_the_oldest_in_bounded_steps() {
    in_both(|store| async move {
        let kind = RecordKind::Attempt;
        // 100 records of 10 bytes each; a letter of two bytes counts as two.
        let body = "é".repeat(5);
        let changes = (0..100).map(|n| put(kind, &format!("{:02}", 99 - n), n, 9999, &body));
        store.write(changes.collect()).await.expect("write");
        store.write(vec![put(RecordKind::Audit, "other", 0, 9, "0123456789")]).await.expect("write");
        assert_eq!(store.shrink(kind, 1000, 10).await.expect("shrink"), 0);
        assert_eq!(store.shrink(kind, 495, 30).await.expect("shrink"), 30);
        assert_eq!(store.shrink(kind, 495, 30).await.expect("shrink"), 21);
        assert_eq!(store.shrink(kind, 495, 30).await.expect("shrink"), 0);
        let left = keys(&store, kind).await;
        assert_eq!((left.len(), left[0].as_str()), (49, "48"), "the newest stay");
        assert_eq!(store.shrink(kind, 0, usize::MAX).await.expect("shrink"), 49);
        assert_eq!(keys(&store, RecordKind::Audit).await, ["other"]);
    })
    .await;
}

/// Pages while others insert and remove: what was there all the time comes once, and nothing comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paging_is_complete_while_others_write() {
    in_both(|store| async move {
        let kind = RecordKind::Attempt;
        // Many share a creation time, so that the key must decide.
        let steady: Vec<String> = (0..300).map(|n| format!("steady {n:03}")).collect();
        let changes = steady.iter().enumerate().map(|(n, key)| put(kind, key, 1000 + n as u64 / 40, 9, "{}"));
        store.write(changes.collect()).await.expect("write");

        for limit in [5, 64, 1000] {
            let mut seen: Vec<Record> = Vec::new();
            let mut n_pages = 0;
            loop {
                let place = seen.last().map(|record| (record.created_at, record.key.clone()));
                let time = place.as_ref().map_or(1004, |(created_at, _)| *created_at);
                // While the page is read: before it, behind it, and on both sides of it at the same time.
                let mut changes = vec![
                    put(kind, &format!("new {limit} {n_pages}"), time + 1, 9, "{}"),
                    put(kind, &format!("old {limit} {n_pages}"), time - 1, 9, "{}"),
                    put(kind, &format!("a {limit} {n_pages}"), time, 9, "{}"),
                    put(kind, &format!("z {limit} {n_pages}"), time, 9, "{}"),
                    RecordChange::Delete(kind, format!("a {limit} {}", n_pages / 2)),
                    RecordChange::Delete(kind, format!("old {limit} {}", n_pages / 2)),
                ];
                if time < 1000 {
                    // Or each page would have another behind it.
                    changes.clear();
                }
                let after = place.map(|(created_at, key)| RecordCursor { created_at, key });
                let (page, written) = tokio::join!(store.list(kind, after, limit), store.write(changes));
                written.expect("write");
                let page = page.expect("list");
                assert!(page.len() <= limit);
                if page.is_empty() {
                    break;
                }
                seen.extend(page);
                n_pages += 1;
                assert!(n_pages < 1000, "the listing has no end");
            }
            let places: Vec<_> = seen.iter().map(|r| (r.created_at, r.key.as_str())).collect();
            assert!(places.is_sorted_by(|newer, older| newer > older), "out of order or twice");
            let mut found: Vec<_> =
                seen.iter().filter(|r| r.key.starts_with("steady")).map(|r| r.key.clone()).collect();
            found.sort();
            assert_eq!(found, steady, "with pages of {limit}");
        }
    })
    .await;
}

#[derive(Debug, Clone)]
enum Call {
    Put(bool, Record),
    Delete(RecordKind, String),
    Take(RecordKind, String, Option<Record>),
    Expire(RecordKind, u64, usize),
    Shrink(RecordKind, u64, usize),
    List(RecordKind, Option<(u64, String)>, usize),
}

/// Few kinds, keys and times, so that calls meet.
fn call() -> impl Strategy<Value = Call> {
    let kind = || prop::sample::select(vec![RecordKind::Token, RecordKind::SpentToken, RecordKind::Attempt]);
    let key = || "[a-f]";
    let any_record = move || {
        (kind(), key(), 0..8_u64, 0..8_u64, "[xé]{0,9}").prop_map(
            |(kind, key, created_at, expires_at, body)| Record { kind, key, created_at, expires_at, body },
        )
    };
    prop_oneof![
        5 => (any::<bool>(), any_record()).prop_map(|(is_later, record)| Call::Put(is_later, record)),
        1 => (kind(), key()).prop_map(|(kind, key)| Call::Delete(kind, key)),
        2 => (kind(), key(), prop::option::of(any_record()))
            .prop_map(|(kind, key, instead)| Call::Take(kind, key, instead)),
        1 => (kind(), 0..9_u64, 0..5_usize).prop_map(|(kind, now, limit)| Call::Expire(kind, now, limit)),
        1 => (kind(), 0..40_u64, 0..5_usize).prop_map(|(kind, most, limit)| Call::Shrink(kind, most, limit)),
        2 => (kind(), prop::option::of((0..9_u64, key())), 0..9_usize)
            .prop_map(|(kind, after, limit)| Call::List(kind, after, limit)),
    ]
}

/// The same store, as plainly as possible.
#[derive(Default)]
struct Model(BTreeMap<(RecordKind, String), Record>);

impl Model {
    fn put(&mut self, record: Record) {
        self.0.insert((record.kind, record.key.clone()), record);
    }

    /// Of one kind, oldest first.
    fn of(&self, kind: RecordKind) -> Vec<Record> {
        let mut records: Vec<_> = self.0.values().filter(|record| record.kind == kind).cloned().collect();
        records.sort_by(|a, b| (a.created_at, &a.key).cmp(&(b.created_at, &b.key)));
        records
    }

    fn bytes(&self, kind: RecordKind) -> u64 {
        self.of(kind).iter().map(|record| record.body.len() as u64).sum()
    }
}

async fn compare(store: &SqliteRecords, calls: Vec<Call>) {
    let mut model = Model::default();
    for call in calls {
        match call {
            Call::Put(is_later, record) => {
                let changes = vec![RecordChange::Put(record.clone())];
                if is_later {
                    assert!(store.write_later(changes));
                    // Nobody is told when it is done, but it is done before what comes behind it.
                    let behind = vec![RecordChange::Delete(RecordKind::Audit, "-".into())];
                    store.write(behind).await.expect("write");
                } else {
                    store.write(changes).await.expect("write");
                }
                model.put(record);
            }
            Call::Delete(kind, key) => {
                store.write(vec![RecordChange::Delete(kind, key.clone())]).await.expect("write");
                model.0.remove(&(kind, key));
            }
            Call::Take(kind, key, instead) => {
                let is_mine = store.take(kind, key.clone(), instead.clone()).await.expect("take");
                assert_eq!(is_mine, model.0.remove(&(kind, key)).is_some());
                if is_mine && let Some(record) = instead {
                    model.put(record);
                }
            }
            Call::Expire(kind, now, limit) => {
                let expired: Vec<_> =
                    model.of(kind).into_iter().filter(|record| record.expires_at <= now).collect();
                assert_eq!(store.expire(kind, now, limit, true).await.expect("count"), expired.len());
                let n_removed = store.expire(kind, now, limit, false).await.expect("expire");
                assert_eq!(n_removed, expired.len().min(limit));
                // Which of them is the store's choice.
                let left = keys(store, kind).await;
                model.0.retain(|(its_kind, key), record| {
                    *its_kind != kind || record.expires_at > now || left.contains(key)
                });
            }
            Call::Shrink(kind, most, limit) => {
                let mut wanted = 0;
                for oldest in model.of(kind).into_iter().take(limit) {
                    if model.bytes(kind) <= most {
                        break;
                    }
                    model.0.remove(&(kind, oldest.key));
                    wanted += 1;
                }
                assert_eq!(store.shrink(kind, most, limit).await.expect("shrink"), wanted);
            }
            Call::List(kind, after, limit) => {
                let mut wanted = model.of(kind);
                wanted.reverse();
                if let Some(after) = &after {
                    wanted.retain(|record| (record.created_at, &record.key) < (after.0, &after.1));
                }
                wanted.truncate(limit);
                let after = after.map(|(created_at, key)| RecordCursor { created_at, key });
                assert_eq!(store.list(kind, after, limit).await.expect("list"), wanted);
            }
        }
        for kind in RecordKind::ALL {
            assert_eq!(store.load(kind).await.expect("load"), model.of(kind));
        }
    }
}

#[test]
fn does_what_a_plain_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut runner = TestRunner::new(ProptestConfig { cases: 200, ..ProptestConfig::default() });
    runner
        .run(&prop::collection::vec(call(), 1..40), |calls| {
            let store = SqliteRecords::open_in_memory().expect("open");
            runtime.block_on(compare(&store, calls));
            Ok(())
        })
        .expect("the model agrees");
}

#[tokio::test]
async fn a_later_schema_is_refused() {
    let folder = folder();
    drop(open(&folder));
    let connection = rusqlite::Connection::open(file(&folder)).expect("open");
    connection.pragma_update(None, "user_version", 99).expect("set");
    drop(connection);
    let error = SqliteRecords::open(&file(&folder)).expect_err("must be refused");
    assert!(matches!(error, StoreError::TooNew { found: 99, supported: 1 }), "{error:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let store = open(&folder);
    store.write(vec![put(RecordKind::Attempt, "a", 1, 9, "'an address'")]).await.expect("write");
    for name in ["sessions.db", "sessions.db-wal"] {
        let mode =
            std::fs::metadata(folder.path().join("data").join(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
