//! What an entry of the journal costs: `cargo run --release -p tidegate-store --example journal_rate [entries]`.
//!
//! Entries as the gateway makes them, in batches as they are drained, into a file. Told are the time of the thread that
//! waits for the answer, so that JSON, indexes and log of writes are in it, and the processor time of all threads.

use std::sync::Arc;
use std::time::Instant;

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::journal::{Draft, EntryQuery, Erase, Facts, JournalStore as _, Kind, Retention};
use tidegate_core::notice::Place;
use tidegate_store::{JournalOptions, SqliteJournal};

/// Entries of a batch.
const BATCH: u64 = 1000;

fn draft(number: u64) -> Draft {
    let ts = 1_800_000_000_000_000 + number * 50;
    let (kind, outcome) = match number % 10 {
        0..4 => (Kind::Handshake, None),
        4..8 => (Kind::Close, None),
        8 => (Kind::Post, Some(Diagnosis::GONE_CLIENT_CLOSED)),
        _ => (Kind::Handshake, Some(Diagnosis::TOKEN_EXPIRED)),
    };
    let place = Place {
        api_id: "a1b2c3d4e5".into(),
        stage: "prod".into(),
        connection_id: Some(ConnectionId::new(ts / 62_500, 0, (number % 9000) as u32, 7)),
        request_id: Some(RequestId::new(ts / 1000, number.wrapping_mul(0x9E37_79B9_7F4A_7C15))),
        user: Some(format!("user-{}", number % 5000).into()),
        ..Place::default()
    };
    let facts = match kind {
        Kind::Handshake => Facts::none()
            .with("peer", "198.51.100.7")
            .with("peerPort", 51234)
            .with("listener", "tls")
            .with("tlsVersion", "1.3")
            .with("httpVersion", "1.1")
            .with("method", "GET")
            .with("host", "a1b2c3d4e5.execute-api.us-east-1.example.com")
            .with("path", "/prod")
            .with("queryNames", vec!["token", "channel"])
            .with("headerNames", vec!["host", "upgrade", "connection", "user-agent", "origin"])
            .with("cookieNames", vec!["sessionid"])
            .with("origin", "https://www.example.com")
            .with("userAgent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
            .with("status", 101)
            .with("headBytes", 612)
            .with("urlLength", 98)
            .with("tokenMs", 0.4)
            .with("integrationMs", 3.1),
        _ => Facts::none()
            .with("queueBytes", 0)
            .with("by", "client")
            .with("closeCode", 1000)
            .with("ageMs", 30_000)
            .with("idleMs", 12)
            .with("queueHighWater", 128)
            .with("messagesIn", 7)
            .with("bytesIn", 700),
    };
    let address = Some(format!("198.51.{}.{}", number / 250 % 250, number % 250));
    Draft { ts, kind, outcome, place, node: 0, address, duration_ms: Some(3.2), facts }
}

/// Processor time of this process so far, in seconds.
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let n_entries: u64 = std::env::args().nth(1).map_or(Ok(300_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal.db");
    let journal = SqliteJournal::open(&path, JournalOptions::default())?;
    let mut spent = std::time::Duration::ZERO;
    let mut spent_processor = 0.0;
    for batch in 0..n_entries / BATCH {
        let drafts = Arc::new((batch * BATCH..(batch + 1) * BATCH).map(draft).collect());
        let (started, processor) = (Instant::now(), processor_time());
        journal.write(drafts).await?;
        spent += started.elapsed();
        spent_processor += processor_time() - processor;
    }
    let state = journal.state().await?;
    println!(
        "{} entries: {:.2} us each, {:.2} us of processor time, {} bytes each on the disk",
        state.entries,
        spent.as_secs_f64() * 1e6 / state.entries.max(1) as f64,
        spent_processor * 1e6 / state.entries.max(1) as f64,
        state.bytes / state.entries.max(1)
    );
    let ask = |query: EntryQuery| async {
        let started = Instant::now();
        let found = journal.query(query).await;
        found.map(|found| (found.len(), started.elapsed()))
    };
    let some = draft(n_entries / 2).into_entry();
    let by_id = EntryQuery { connection_id: some.connection_id, limit: 100, ..EntryQuery::default() };
    let by_request = EntryQuery { request_id: some.request_id, limit: 100, ..EntryQuery::default() };
    println!("by request: {:?}", ask(by_request).await?);
    let nobody = EntryQuery { user: Some("nobody".to_owned()), limit: 100, ..EntryQuery::default() };
    println!("by a user that has none: {:?}", ask(nobody).await?);
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
    let started = Instant::now();
    let n_erased = journal.erase(Erase::User("user-8".to_owned())).await?;
    println!("a user: {n_erased} erased in {:?}", started.elapsed());
    Ok(())
}
