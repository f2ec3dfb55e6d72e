//! How many records a second the store takes: writes, and takes of one-time tokens, by callers that wait for each.
//!
//! `cargo run --release -p tidegate-store --example records_rate -- [folder] [records that are there before]`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate_core::port::{Record, RecordChange, RecordKind, RecordStore};
use tidegate_store::SqliteRecords;

const RUN: Duration = Duration::from_secs(3);

fn record(kind: RecordKind, n: u64) -> Record {
    // A multiplication spreads the keys, as the hashes and ids of production are spread.
    let key = format!("{:016x}{n:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let body =
        format!("{{\"user\":\"user-{n}\",\"address\":\"192.0.2.1\",\"detail\":\"{}\"}}", "x".repeat(150));
    Record { kind, key, created_at: 1_700_000_000_000 + n, expires_at: 1_700_000_060_000 + n, body }
}

/// Calls `write` from `n_callers` tasks with numbers that rise; answers the calls in a second.
async fn rate<F: Future<Output = ()> + Send>(
    n_callers: usize,
    n_most: u64,
    write: impl Fn(u64) -> F + Send + Sync + 'static,
) -> f64 {
    let write = Arc::new(write);
    let next = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..n_callers {
        let (write, next, is_over) = (Arc::clone(&write), Arc::clone(&next), Arc::clone(&is_over));
        callers.spawn(async move {
            let mut n_done = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= n_most {
                    break;
                }
                write(n).await;
                n_done += 1;
                if started.elapsed() > RUN {
                    is_over.store(true, Ordering::Relaxed);
                }
            }
            n_done
        });
    }
    let n_done: u64 = callers.join_all().await.into_iter().sum();
    n_done as f64 / started.elapsed().as_secs_f64()
}

async fn fill(store: &SqliteRecords, kind: RecordKind, n_records: u64, first: u64) {
    for start in (0..n_records).step_by(5000) {
        let end = n_records.min(start + 5000);
        let changes = (start..end).map(|n| RecordChange::Put(record(kind, first + n))).collect();
        store.write(changes).await.expect("write");
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let n_before: u64 = arguments.next().map_or(0, |text| text.parse().expect("a number of records"));
    let folder = tempfile::tempdir_in(folder).expect("a temporary folder");
    let path = folder.path().join("sessions.db");
    let store = Arc::new(SqliteRecords::open(&path).expect("open"));
    fill(&store, RecordKind::Attempt, n_before, 1 << 40).await;

    for (round, n_callers) in [1_usize, 64, 512].into_iter().enumerate() {
        let writer = Arc::clone(&store);
        let first = (round as u64) << 32;
        let rate = rate(n_callers, u64::MAX, move |n| {
            let store = Arc::clone(&writer);
            let change = RecordChange::Put(record(RecordKind::Attempt, first + n));
            async move { store.write(vec![change]).await.expect("write") }
        });
        println!("{n_callers:4} callers: {:8.0} writes/s", rate.await);
    }

    let n_tokens = 60_000;
    fill(&store, RecordKind::Token, n_tokens, 0).await;
    let taker = Arc::clone(&store);
    let rate = rate(512, n_tokens, move |n| {
        let store = Arc::clone(&taker);
        async move {
            let spent = record(RecordKind::SpentToken, n);
            let is_mine = store.take(RecordKind::Token, spent.key.clone(), Some(spent)).await.expect("take");
            assert!(is_mine, "a token was there");
        }
    });
    println!(" 512 callers: {:8.0} takes/s, each leaving a spent token", rate.await);

    let started = Instant::now();
    let n_removed = store.expire(RecordKind::Attempt, u64::MAX, 1000, false).await.expect("expire");
    println!("expiry of {n_removed} records: {:?}", started.elapsed());
    let started = Instant::now();
    let n_removed = store.shrink(RecordKind::Attempt, 0, 1000).await.expect("shrink");
    println!("shrinking by {n_removed} records: {:?}", started.elapsed());
    drop(store);
    let length = std::fs::metadata(&path).expect("the file").len();
    let started = Instant::now();
    drop(SqliteRecords::open(&path).expect("open"));
    println!("opening {:.1} MB: {:?}", length as f64 / 1e6, started.elapsed());
}
