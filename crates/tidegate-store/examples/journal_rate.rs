//! What an entry of the journal costs: `cargo run --release -p tidegate-store --example journal_rate [entries]`.
//!
//! Entries as the gateway makes them, in batches as they are drained, into a file; the time is that of the thread that
//! waits for the answer, so JSON, indexes and log of writes are in it.

use std::time::Instant;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::journal::{Entry, EntryQuery, JournalStore as _, Kind, Retention};
use tidegate_store::{JournalOptions, SqliteJournal};

/// Entries of a batch.
const BATCH: u64 = 1000;

fn entry(number: u64) -> Entry {
    let ts = 1_800_000_000_000_000 + number * 50;
    let (kind, outcome) = match number % 10 {
        0..4 => (Kind::Handshake, None),
        4..8 => (Kind::Close, None),
        8 => (Kind::Post, Some(Diagnosis::GONE_CLIENT_CLOSED)),
        _ => (Kind::Handshake, Some(Diagnosis::TOKEN_EXPIRED)),
    };
    let mut entry = Entry::new(ts, kind, outcome);
    entry.connection_id = Some(ConnectionId::new(ts / 62_500, 0, (number % 9000) as u32, 7).to_string());
    entry.request_id =
        Some(RequestId::new(ts / 1000, number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_string());
    entry.api_id = Some("a1b2c3d4e5".to_owned());
    entry.stage = Some("prod".to_owned());
    entry.user = Some(format!("user-{}", number % 5000));
    entry.address = Some(format!("198.51.{}.{}", number / 250 % 250, number % 250));
    let facts = json!({
        "peer": "198.51.100.7", "peerPort": 51234, "listener": "tls", "tlsVersion": "1.3", "httpVersion": "1.1",
        "method": "GET", "host": "a1b2c3d4e5.execute-api.us-east-1.example.com", "path": "/prod",
        "queryNames": ["token", "channel"], "headerNames": ["host", "upgrade", "connection", "user-agent", "origin"],
        "cookieNames": ["sessionid"], "origin": "https://www.example.com",
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "status": 101, "headBytes": 612, "urlLength": 98, "tokenMs": 0.4, "integrationMs": 3.1
    });
    if let serde_json::Value::Object(facts) = facts {
        entry.facts = facts;
    }
    entry
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let n_entries: u64 = std::env::args().nth(1).map_or(Ok(300_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal.db");
    let journal = SqliteJournal::open(&path, JournalOptions::default())?;
    let mut spent = std::time::Duration::ZERO;
    for batch in 0..n_entries / BATCH {
        let entries = (batch * BATCH..(batch + 1) * BATCH).map(entry).collect();
        let started = Instant::now();
        journal.append(entries).await?;
        spent += started.elapsed();
    }
    let state = journal.state().await?;
    println!(
        "{} entries: {:.2} us each, {} bytes each on the disk",
        state.entries,
        spent.as_secs_f64() * 1e6 / state.entries.max(1) as f64,
        state.bytes / state.entries.max(1)
    );
    let ask = |query: EntryQuery| async {
        let started = Instant::now();
        let found = journal.query(query).await;
        found.map(|found| (found.len(), started.elapsed()))
    };
    let some = entry(n_entries / 2);
    let by_id = EntryQuery { connection_id: some.connection_id, limit: 100, ..EntryQuery::default() };
    println!("by connection: {:?}", ask(by_id).await?);
    let failures = EntryQuery { failures_only: true, limit: 100, ..EntryQuery::default() };
    println!("newest failures: {:?}", ask(failures).await?);
    let newest = EntryQuery { limit: 1000, ..EntryQuery::default() };
    println!("newest 1000: {:?}", ask(newest).await?);
    let started = Instant::now();
    let max_entries = n_entries / 2;
    let all = Retention { before: 0, max_bytes: u64::MAX, max_entries, ends_before: 0 };
    let n_removed = journal.retain(all).await?;
    println!("retention: {n_removed} removed in {:?}", started.elapsed());
    Ok(())
}
