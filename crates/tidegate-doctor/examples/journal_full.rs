//! How long `explain` takes with a journal as full as it may be:
//! `cargo run --release -p tidegate-doctor --example journal_full [megabytes]`.
//!
//! Fills a journal in a temporary folder until it takes no more (512 MB, the default of a node, unless told otherwise), as
//! a busy gateway would in some hours, then asks each kind of question three times and prints the slowest answer. All of it
//! is younger than a day, so that the time that a question is about leaves nothing out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::journal::{Draft, EntryQuery, Facts, JournalStore, Kind};
use tidegate_core::notice::Place;
use tidegate_doctor::explain::{self, Behind, Live, LiveConnection, Options, Question, Sources};
use tidegate_store::{JournalOptions, SqliteJournal};

/// Microseconds of the first entry, some time in 2027.
const BEGIN: u64 = 1_800_000_000_000_000;

/// Microseconds between two attempts to connect: twenty in a second.
const STEP: u64 = 50_000;

/// Attempts of a batch.
const BATCH: u64 = 500;

/// A connection ends when so many others have come: after half a minute.
const LIFE: u64 = 600;

/// Users, and addresses of clients.
const USERS: u64 = 5_000;

/// Connections of the session that is asked about.
const OF_SESSION: u64 = 20;

/// Times that each question is asked.
const ROUNDS: usize = 3;

fn connection(n: u64) -> ConnectionId {
    ConnectionId::new((BEGIN + n * STEP) / 62_500, 0, (n % 9_000) as u32, 7)
}

fn request(n: u64, at: u64) -> RequestId {
    RequestId::new(at / 1000, n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn user(n: u64) -> String {
    format!("user-{}", n % USERS)
}

fn client_ref(n: u64) -> String {
    format!("attempt-{n:012}")
}

/// One of connection `n`, at a time.
fn draft(n: u64, at: u64, kind: Kind, outcome: Option<Diagnosis>, facts: Facts) -> Draft {
    let place = Place {
        api_id: "a1b2c3d4e5".into(),
        stage: "prod".into(),
        connection_id: Some(connection(n)),
        request_id: (kind != Kind::Close).then(|| request(n, at)),
        client_ref: (kind == Kind::Handshake).then(|| client_ref(n).into()),
        user: Some(user(n).into()),
        ..Place::default()
    };
    let address = Some(format!("198.51.{}.{}", n % USERS / 250, n % 250));
    Draft { ts: at, kind, outcome, place, node: 0, address, duration_ms: Some(3.2), facts }
}

/// What is written around the `n`th attempt: itself, and what has become of an earlier one.
fn drafts(n: u64, into: &mut Vec<Draft>) {
    let at = BEGIN + n * STEP;
    let (status, outcome) = if n % 5 == 4 { (403, Some(Diagnosis::TOKEN_EXPIRED)) } else { (101, None) };
    let facts = Facts::none()
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
        .with("status", status)
        .with("headBytes", 612)
        .with("urlLength", 98)
        .with("tokenMs", 0.4)
        .with("integrationMs", 3.1);
    into.push(draft(n, at, Kind::Handshake, outcome, facts));
    let Some(ended) = n.checked_sub(LIFE).filter(|ended| ended % 5 != 4) else { return };
    let (why, by, code) = match ended % 8 {
        0 => (Some(Diagnosis::GONE_IDLE), "gateway", 1001),
        1 => (Some(Diagnosis::CLIENT_PAGE_LEFT), "client", 1001),
        2 => (Some(Diagnosis::CONN_RESET), "network", 1006),
        _ => (None, "client", 1000),
    };
    let facts = Facts::none()
        .with("queueBytes", 0)
        .with("by", by)
        .with("closeCode", code)
        .with("ageMs", 30_000)
        .with("idleMs", 12)
        .with("queueHighWater", 128)
        .with("messagesIn", 7)
        .with("bytesIn", 700);
    into.push(draft(ended, at + 10, Kind::Close, why, facts));
    if ended % 10 == 1 {
        let facts = Facts::none().with("status", 410).with("target", "connection").with("bytes", 120);
        into.push(draft(ended, at + 20, Kind::Post, Some(Diagnosis::GONE_CLIENT_CLOSED), facts));
    }
}

/// A node that knows the connections of one session.
struct Node {
    session: Vec<String>,
}

impl Live for Node {
    fn connection(&self, _: &str) -> Option<LiveConnection> {
        None
    }

    fn session(&self, _: &str) -> Vec<String> {
        self.session.clone()
    }

    fn stages_behind(&self) -> Vec<Behind> {
        Vec::new()
    }
}

/// Writes until nothing more is taken; how many attempts that were.
async fn fill(journal: &SqliteJournal) -> Result<u64, Box<dyn std::error::Error>> {
    let mut n_attempts = 0;
    loop {
        let mut batch = Vec::new();
        (n_attempts..n_attempts + BATCH).for_each(|n| drafts(n, &mut batch));
        match journal.write(Arc::new(batch)).await {
            Ok(()) => n_attempts += BATCH,
            // The file may grow no more: this is what a clean-up would make room for.
            Err(error) if n_attempts > 0 => {
                println!("full: {error}");
                return Ok(n_attempts);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let megabytes: u64 = std::env::args().nth(1).map_or(Ok(512), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let options = JournalOptions { max_bytes: megabytes << 20 };
    let journal = SqliteJournal::open(&folder.path().join("journal.db"), options)?;
    let started = Instant::now();
    let n = fill(&journal).await?;
    let state = journal.state().await?;
    println!(
        "{} entries of {n} attempts in {:.1} hours, {} MB, written in {:.0} s",
        state.entries,
        n as f64 * STEP as f64 / 3.6e9,
        state.bytes >> 20,
        started.elapsed().as_secs_f64()
    );

    // In the middle, so that half of the journal lies on either side.
    let some = n / 2 / 40 * 40 + 1;
    let at = BEGIN + some * STEP;
    let node = Node { session: (0..OF_SESSION).map(|k| connection(some + k * USERS).to_string()).collect() };
    let now = BEGIN + n * STEP;
    let day = Options::default();
    let of_user = Options { user: Some(user(some)), ..Options::default() };
    let of_address = Options { address: Some("198.51.0.1".to_owned()), ..Options::default() };
    let of_nobody = Options { user: Some("nobody".to_owned()), ..Options::default() };
    let hour = Options { since: Duration::from_secs(3600), ..Options::default() };
    for (name, question, options) in [
        ("a connection", connection(some).to_string(), &day),
        ("a request", request(some, at).to_string(), &day),
        ("a client's reference", client_ref(some), &day),
        ("an id that nobody has", "zzzzzzzzzzzzzzz=".to_owned(), &day),
        ("a reference that nobody has", "attempt-of-nobody-at-all".to_owned(), &day),
        ("close code 1006", "1006".to_owned(), &day),
        ("close code 1006 of a user", "1006".to_owned(), &of_user),
        ("status 403", "403".to_owned(), &day),
        ("status 403 in the last hour", "403".to_owned(), &hour),
        ("a diagnosis id", "token.expired".to_owned(), &day),
        ("a diagnosis id that is nowhere", "proxy.http10".to_owned(), &day),
        ("a symptom", "Y1".to_owned(), &day),
    ] {
        ask(&journal, now, &node, name, &Question::parse(&question)?, options).await?;
    }
    let session = Question::Session("session".to_owned());
    ask(&journal, now, &node, "a session of 20 connections", &session, &day).await?;
    ask(&journal, now, &node, "the last 100 failures", &Question::Last(100), &day).await?;
    ask(&journal, now, &node, "everything of a user", &Question::Everything, &of_user).await?;
    ask(&journal, now, &node, "everything of an address", &Question::Everything, &of_address).await?;
    ask(&journal, now, &node, "everything of nobody", &Question::Everything, &of_nobody).await?;

    let of = |user: &str| EntryQuery { user: Some(user.to_owned()), limit: 2000, ..EntryQuery::default() };
    for (name, query) in [
        ("query: a user", of(&user(some))),
        ("query: a user that has none", of("nobody")),
        ("query: the newest 50,000", EntryQuery { limit: 50_000, ..EntryQuery::default() }),
    ] {
        let started = Instant::now();
        let n_found = journal.query(query).await?.len();
        println!("{name:<34} {:>7.0} ms  {n_found} entries", started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}

async fn ask(
    journal: &SqliteJournal,
    now: u64,
    node: &Node,
    name: &str,
    question: &Question,
    options: &Options,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut slowest = Duration::ZERO;
    let mut n_findings = 0;
    for _ in 0..ROUNDS {
        let sources = Sources { journal, now, live: Some(node) };
        let started = Instant::now();
        n_findings = explain::explain(question, &sources, options).await?.findings.len();
        slowest = slowest.max(started.elapsed());
    }
    println!("{name:<34} {:>7.0} ms  {n_findings} findings", slowest.as_secs_f64() * 1e3);
    Ok(())
}
