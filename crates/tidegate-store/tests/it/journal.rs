//! The journal: what it finds, what it keeps when space is short, and what is left of somebody who is erased.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::journal::{Draft, Entry, EntryQuery, Erase, Facts, JournalStore, Kind, Retention};
use tidegate_core::notice::Place;
use tidegate_store::{JournalOptions, SqliteJournal};

const START: u64 = 1_800_000_000_000_000;

const KEEP_ALL: Retention =
    Retention { before: 0, max_bytes: u64::MAX, max_entries: u64::MAX, ends_before: 0 };

fn entry(second: u64, kind: Kind, outcome: Option<Diagnosis>) -> Entry {
    Entry::new(START + second * 1_000_000, kind, outcome)
}

fn all() -> EntryQuery {
    EntryQuery { limit: usize::MAX, ..EntryQuery::default() }
}

fn kept(entries: &[Entry]) -> Vec<(u64, &str)> {
    entries.iter().map(|entry| ((entry.ts - START) / 1_000_000, entry.outcome.as_str())).collect()
}

async fn fresh() -> (tempfile::TempDir, SqliteJournal) {
    let folder = tempfile::tempdir().expect("the journal works");
    let journal = SqliteJournal::open(&folder.path().join("journal.db"), JournalOptions::default())
        .expect("the journal works");
    (folder, journal)
}

#[tokio::test]
async fn an_entry_comes_back_as_it_was() {
    // DX-6
    let (folder, journal) = fresh().await;
    let mut full = entry(1, Kind::Handshake, Some(Diagnosis::TOKEN_EXPIRED));
    full.ts += 123_456;
    full.request_id = Some("AYx0".to_owned());
    full.connection_id = Some("Hh2QmdfDIkwCF6w=".to_owned());
    full.client_ref = Some("r1".to_owned());
    full.node = 3;
    full.api_id = Some("a1".to_owned());
    full.stage = Some("prod".to_owned());
    full.route_key = Some("$connect".to_owned());
    full.user = Some("alice \u{1F980}".to_owned());
    full.address = Some("2001:db8::1".to_owned());
    full.duration_ms = Some(1.25);
    full.facts.insert("queryNames".to_owned(), json!(["token", "v"]));
    full.facts.insert("status".to_owned(), json!(403));
    let bare = entry(0, Kind::Control, None);
    journal.append(vec![full.clone(), bare.clone()]).await.expect("the journal works");
    // In the order of time, whatever the order of writing.
    let entries = journal.query(all()).await.expect("the journal works");
    assert_eq!(entries, [bare.clone(), full.clone()]);
    drop(journal);
    let again = SqliteJournal::open(&folder.path().join("journal.db"), JournalOptions::default())
        .expect("the journal works");
    assert_eq!(again.query(all()).await.expect("the journal works"), [bare, full]);
}

fn draft(second: u64, request: u64) -> Draft {
    let ts = START + second * 1_000_000;
    Draft {
        ts,
        kind: Kind::Handshake,
        outcome: None,
        place: Place {
            api_id: "a1".into(),
            connection_id: Some(ConnectionId::new(ts / 62_500, 0, 1, 2)),
            request_id: Some(RequestId::new(ts / 1000, request)),
            user: Some("ada".into()),
            ..Place::default()
        },
        node: 2,
        address: Some("192.0.2.0/24".to_owned()),
        duration_ms: Some(0.5),
        facts: Facts::none().with("status", 1).with("path", "/a \"b\" \u{1F980}").with("status", 101),
    }
}

#[tokio::test]
async fn what_is_written_of_a_draft_is_its_entry() {
    // DX-6
    let (_folder, journal) = fresh().await;
    let bare = Draft { place: Place::default(), address: None, facts: Facts::none(), ..draft(2, 2) };
    let drafts = vec![draft(1, 1), bare];
    let expected: Vec<Entry> = drafts.iter().cloned().map(Draft::into_entry).collect();
    assert_eq!(expected[0].number("status"), Some(101.0));
    assert_eq!((expected[1].stage.as_deref(), expected[0].api_id.as_deref()), (None, Some("a1")));
    journal.write(Arc::new(drafts)).await.expect("the journal works");
    assert_eq!(journal.query(all()).await.expect("the journal works"), expected);
}

#[tokio::test]
async fn a_request_is_found_by_the_time_in_its_id() {
    let (_folder, journal) = fresh().await;
    let mut drafts: Vec<Draft> = (0..100).map(|number| draft(number * 60, number)).collect();
    // Its message took long.
    drafts.push(Draft { ts: START + 900 * 1_000_000, ..draft(0, 0) });
    journal.write(Arc::new(drafts.clone())).await.expect("the journal works");
    let ask = async |request_id: String| {
        let query = EntryQuery { request_id: Some(request_id), ..all() };
        journal.query(query).await.expect("the journal works")
    };
    for number in [1, 50, 99] {
        let draft = &drafts[number];
        let found = ask(draft.place.request_id.expect("an id").to_string()).await;
        assert_eq!(found, [draft.clone().into_entry()]);
    }
    assert_eq!(ask(drafts[0].place.request_id.expect("an id").to_string()).await.len(), 2);
    assert_eq!(ask(RequestId::new(START / 1000, 4711).to_string()).await, []);
}

#[tokio::test]
async fn a_connection_is_found_near_its_begin_and_far_from_it() {
    // DX-6
    let (folder, journal) = fresh().await;
    let of = |slot: u32| ConnectionId::new((START + 600_000_000) / 62_500, 0, slot, 7);
    let mut drafts = Vec::new();
    for second in 0..1200_u64 {
        for slot in 0..3 {
            let mut draft = draft(second, second);
            draft.ts += u64::from(slot);
            // Others know the user; a push does not.
            draft.place.user = (second % 2 == 0).then(|| format!("u{slot}").as_str().into());
            draft.place.connection_id = Some(of(slot));
            drafts.push(draft);
        }
    }
    journal.write(Arc::new(drafts.clone())).await.expect("the journal works");
    let expected: Vec<Entry> = drafts
        .into_iter()
        .filter(|draft| draft.place.connection_id == Some(of(1)))
        .map(Draft::into_entry)
        .collect();
    let query = EntryQuery { connection_id: Some(of(1).to_string()), ..all() };
    assert_eq!(journal.query(query.clone()).await.expect("the journal works"), expected);
    let (since, until) = (START + 605_000_000, START + 620_000_000);
    let narrow = EntryQuery { since: Some(since), until: Some(until), ..query.clone() };
    assert_eq!(journal.query(narrow).await.expect("the journal works"), expected[605..620]);
    // Ten of them around its begin are in no index, and go with their user all the same.
    let path = folder.path().join("journal.db");
    let indexed = || -> i64 {
        let connection = rusqlite::Connection::open(&path).expect("the file can be read");
        let sql = "SELECT count(connection_id) FROM entry";
        connection.query_row(sql, [], |row| row.get(0)).expect("the file can be read")
    };
    assert_eq!(indexed(), 3 * (1200 - 11));
    assert_eq!(journal.erase(Erase::User("u1".to_owned())).await.expect("the journal works"), 1200);
    assert_eq!(journal.query(query).await.expect("the journal works"), []);
    assert_eq!(journal.state().await.expect("the journal works").entries, 2400);
}

#[tokio::test]
async fn everything_that_is_asked_must_hold() {
    let journal = SqliteJournal::open_in_memory().expect("the journal works");
    let mut entries = Vec::new();
    for number in 0..40_u64 {
        let kind = Kind::ALL[(number % 13) as usize];
        let outcome = (number % 4 == 0).then_some(Diagnosis::JWT_EXPIRED);
        let mut entry = entry(number, kind, outcome);
        entry.request_id = Some(format!("r{number}"));
        entry.connection_id = (number % 2 == 0).then(|| format!("c{}", number / 10));
        entry.client_ref = (number == 7).then(|| "ref".to_owned());
        entry.user = (number % 3 == 0).then(|| format!("u{}", number % 2));
        entry.address = Some(format!("192.0.2.{}", number % 5));
        entry.api_id = (number > 5).then(|| format!("a{}", number % 2));
        entry.stage = entry.api_id.is_some().then(|| "prod".to_owned());
        entries.push(entry);
    }
    journal.append(entries.clone()).await.expect("the journal works");
    let text = |text: &str| Some(text.to_owned());
    let queries = [
        EntryQuery { request_id: text("r9"), ..all() },
        EntryQuery { connection_id: text("c1"), ..all() },
        EntryQuery { client_ref: text("ref"), ..all() },
        EntryQuery { user: text("u1"), api_id: text("a1"), ..all() },
        EntryQuery { address: text("192.0.2.3"), stage: text("prod"), ..all() },
        EntryQuery { kinds: vec![Kind::Control], ..all() },
        EntryQuery { kinds: vec![Kind::Close, Kind::Handshake], failures_only: true, ..all() },
        EntryQuery { outcomes: vec!["ok".to_owned()], ..all() },
        EntryQuery { outcomes: vec!["ok".to_owned(), "jwt.expired".to_owned()], ..all() },
        EntryQuery { outcomes: vec!["jwt.expired".to_owned()], user: text("u0"), ..all() },
        EntryQuery { failures_only: true, limit: 3, ..all() },
        EntryQuery {
            since: Some(START + 3_000_000),
            until: Some(START + 6_000_000),
            connection_id: text("c0"),
            ..all()
        },
        EntryQuery { user: text("nobody"), ..all() },
        EntryQuery { limit: 5, ..all() },
    ];
    for query in queries {
        let is = |wanted: &Option<String>, value: &Option<String>| wanted.is_none() || wanted == value;
        let mut expected: Vec<Entry> = entries
            .iter()
            .filter(|entry| {
                query.since.is_none_or(|since| entry.ts >= since)
                    && query.until.is_none_or(|until| entry.ts < until)
                    && (query.kinds.is_empty() || query.kinds.contains(&entry.kind))
                    && (query.outcomes.is_empty() || query.outcomes.contains(&entry.outcome))
                    && (!query.failures_only || entry.outcome != "ok")
                    && is(&query.request_id, &entry.request_id)
                    && is(&query.connection_id, &entry.connection_id)
                    && is(&query.client_ref, &entry.client_ref)
                    && is(&query.user, &entry.user)
                    && is(&query.address, &entry.address)
                    && is(&query.api_id, &entry.api_id)
                    && is(&query.stage, &entry.stage)
            })
            .cloned()
            .collect();
        let n_failures = expected.iter().filter(|entry| entry.outcome != "ok").count() as u64;
        if query.limit == usize::MAX {
            let counted: u64 = journal
                .count_outcomes(query.clone())
                .await
                .expect("the journal works")
                .iter()
                .map(|(_, count)| count)
                .sum();
            assert_eq!(counted, n_failures, "{query:?}");
        }
        expected.drain(..expected.len().saturating_sub(query.limit));
        assert_eq!(journal.query(query.clone()).await.expect("the journal works"), expected, "{query:?}");
    }
}

#[tokio::test]
async fn entries_of_one_moment_are_all_kept_in_their_order() {
    let journal = SqliteJournal::open_in_memory().expect("the journal works");
    for batch in 0..3 {
        let entries = (0..1000_u64).map(|number| {
            let mut entry = entry(1, Kind::Post, None);
            entry.facts.insert("size".to_owned(), json!(batch * 1000 + number));
            entry
        });
        journal.append(entries.collect()).await.expect("the journal works");
    }
    let found = journal.query(all()).await.expect("the journal works");
    let numbers: Vec<u64> =
        found.iter().map(|entry| entry.number("size").unwrap_or_default() as u64).collect();
    assert_eq!(numbers, (0..3000).collect::<Vec<u64>>());
    assert_eq!(journal.state().await.expect("the journal works").entries, 3000);
}

#[tokio::test]
async fn old_entries_go_and_ends_of_connections_stay_longer() {
    // DX-12
    let (_folder, journal) = fresh().await;
    let refused = Some(Diagnosis::TOKEN_EXPIRED);
    journal
        .append(vec![
            entry(1, Kind::Close, None),
            entry(2, Kind::Handshake, None),
            entry(3, Kind::Handshake, refused),
            entry(4, Kind::Post, None),
            entry(5, Kind::Close, Some(Diagnosis::CONN_RESET)),
            entry(6, Kind::Handshake, None),
            entry(7, Kind::Message, refused),
            entry(8, Kind::Post, None),
        ])
        .await
        .expect("the journal works");
    let retention = Retention { before: START + 8_000_000, ends_before: START + 2_000_000, ..KEEP_ALL };
    assert_eq!(journal.retain(retention).await.expect("the journal works"), 4);
    let found = journal.query(all()).await.expect("the journal works");
    assert_eq!(kept(&found), [(2, "ok"), (5, "conn.reset"), (6, "ok"), (8, "ok")]);
    // log.retention-too-short: what is older than this cannot be answered.
    let state = journal.state().await.expect("the journal works");
    assert_eq!((state.entries, state.oldest), (4, Some(START + 2_000_000)));
    assert_eq!(state.newest, Some(START + 8_000_000));
    assert_eq!(journal.retain(retention).await.expect("the journal works"), 0);
}

#[tokio::test]
async fn when_there_are_too_many_successes_go_first_and_ends_last() {
    // DX-12
    let (_folder, journal) = fresh().await;
    let mut entries = Vec::new();
    for number in 0..1000 {
        entries.push(match number % 4 {
            0 => entry(number, Kind::Post, None),
            1 => entry(number, Kind::Message, Some(Diagnosis::ROUTE_NO_MATCH)),
            2 => entry(number, Kind::Handshake, None),
            _ => entry(number, Kind::Membership, None),
        });
    }
    journal.append(entries).await.expect("the journal works");
    let count = async |journal: &SqliteJournal| {
        let found = journal.query(all()).await.expect("the journal works");
        let n = |is: &dyn Fn(&Entry) -> bool| found.iter().filter(|entry| is(entry)).count();
        let is_end = |entry: &Entry| entry.kind == Kind::Handshake;
        (n(&|entry| entry.outcome == "ok" && !is_end(entry)), n(&|entry| entry.outcome != "ok"), n(&is_end))
    };
    for (max_entries, expected) in [
        (1000, (500, 250, 250)),
        // A sixteenth below the bound, so that it is not the next entry that goes beyond it again.
        (800, (250, 250, 250)),
        (400, (0, 125, 250)),
        (160, (0, 0, 150)),
    ] {
        journal.retain(Retention { max_entries, ..KEEP_ALL }).await.expect("the journal works");
        assert_eq!(count(&journal).await, expected, "{max_entries}");
        let total = journal.state().await.expect("the journal works").entries;
        assert_eq!(total as usize, expected.0 + expected.1 + expected.2);
    }
    // The oldest went.
    let found = journal.query(all()).await.expect("the journal works");
    assert!(found.iter().all(|entry| entry.ts >= START + 400_000_000), "{:?}", kept(&found));
}

fn bytes(folder: &Path) -> u64 {
    let files =
        std::fs::read_dir(folder).expect("the journal works").map(|file| file.expect("the journal works"));
    // Memory that is shared with readers is no data.
    let files = files.filter(|file| !file.file_name().to_string_lossy().ends_with("-shm"));
    files.map(|file| file.metadata().expect("the journal works").len()).sum()
}

fn large(second: u64, outcome: Option<Diagnosis>) -> Entry {
    let mut entry = entry(second, Kind::Post, outcome);
    entry.connection_id = Some(format!("connection-{second}"));
    entry.facts.insert("detail".to_owned(), json!("x".repeat(500)));
    entry
}

#[tokio::test]
async fn the_bound_holds_on_the_disk() {
    // DX-12
    let folder = tempfile::tempdir().expect("the journal works");
    let path = folder.path().join("journal.db");
    let max_bytes = 4 << 20;
    let journal = SqliteJournal::open(&path, JournalOptions { max_bytes }).expect("the journal works");
    let retention = Retention { max_bytes, ..KEEP_ALL };
    let (mut n_refused, mut n_written) = (0, 0);
    for batch in 0..200_u64 {
        let outcome = (batch % 4 == 0).then_some(Diagnosis::JWT_EXPIRED);
        let entries: Vec<Entry> = (0..100).map(|number| large(batch * 100 + number, outcome)).collect();
        match journal.append(entries.clone()).await {
            Ok(()) => n_written += 1,
            // Full: what makes room is the clean-up, and then it goes on.
            Err(_) => {
                n_refused += 1;
                assert!(journal.retain(retention).await.expect("the journal works") > 0);
                journal.append(entries).await.expect("the journal works");
            }
        }
        // The lock file's few bytes, and a page of the log of writes that is being written.
        assert!(bytes(folder.path()) <= max_bytes + 8192, "{} bytes", bytes(folder.path()));
    }
    assert!(n_refused > 3 && n_written > 150, "{n_refused} {n_written}");
    let state = journal.state().await.expect("the journal works");
    assert!(state.bytes <= max_bytes && state.bytes > max_bytes / 2, "{state:?}");
    // Failures from long ago are there; successes of then are not.
    let failures = journal
        .query(EntryQuery { failures_only: true, limit: 1, ..all() })
        .await
        .expect("the journal works");
    assert_eq!(failures.len(), 1);
    let oldest = |is_failure: bool| {
        let journal = &journal;
        async move {
            let found = journal.query(all()).await.expect("the journal works");
            found.iter().find(|entry| (entry.outcome != "ok") == is_failure).map(|entry| entry.ts)
        }
    };
    assert!(oldest(true).await < oldest(false).await);
    // A smaller bound makes the file smaller.
    drop(journal);
    let max_bytes = 2 << 20;
    let journal = SqliteJournal::open(&path, JournalOptions { max_bytes }).expect("the journal works");
    journal.retain(Retention { max_bytes, ..KEEP_ALL }).await.expect("the journal works");
    drop(journal);
    assert!(bytes(folder.path()) <= max_bytes, "{} bytes", bytes(folder.path()));
}

fn is_on_disk(folder: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(folder)
        .expect("the journal works")
        .map(|file| file.expect("the journal works").path());
    let has = |path: &Path| {
        let bytes = std::fs::read(path).expect("the journal works");
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    files.into_iter().any(|path| has(&path))
}

#[tokio::test]
async fn nothing_is_left_of_somebody_who_is_erased() {
    // DX-11
    let (folder, journal) = fresh().await;
    let mut entries = Vec::new();
    for number in 0..6000_u64 {
        let mut entry = large(number, None);
        entry.connection_id = Some(format!("connection-{}", number % 100));
        if number % 100 == 7 {
            entry.user = Some("alice-who-goes".to_owned());
            entry.facts.insert("path".to_owned(), json!("/alice-was-here"));
        } else {
            entry.user = Some("bob".to_owned());
        }
        if number % 100 == 9 {
            entry.address = Some("203.0.113.99".to_owned());
        }
        if number % 1000 == 8 {
            // A push to the connection knows no user.
            entry.connection_id = Some("connection-7".to_owned());
            entry.user = None;
        }
        entries.push(entry);
    }
    journal.append(entries).await.expect("the journal works");
    assert!(is_on_disk(folder.path(), "alice-who-goes"));
    assert_eq!(
        journal.erase(Erase::User("alice-who-goes".to_owned())).await.expect("the journal works"),
        60 + 6
    );
    assert_eq!(
        journal.erase(Erase::Address("203.0.113.99".to_owned())).await.expect("the journal works"),
        60
    );
    assert_eq!(journal.state().await.expect("the journal works").entries, 6000 - 126);
    for text in ["alice-who-goes", "alice-was-here", "203.0.113.99"] {
        assert!(!is_on_disk(folder.path(), text), "{text}");
    }
    assert!(is_on_disk(folder.path(), "bob"));
    assert_eq!(journal.erase(Erase::User("alice-who-goes".to_owned())).await.expect("the journal works"), 0);
}

#[tokio::test]
async fn a_file_can_be_read_while_it_is_written_and_afterwards() {
    let (folder, journal) = fresh().await;
    let path = folder.path().join("journal.db");
    journal.append(vec![entry(1, Kind::Close, None)]).await.expect("the journal works");
    let reader = SqliteJournal::open_read_only(&path).expect("the journal works");
    assert_eq!(reader.query(all()).await.expect("the journal works").len(), 1);
    // A reader does not stop the writer.
    journal.append(vec![entry(2, Kind::Close, None)]).await.expect("the journal works");
    assert_eq!(reader.query(all()).await.expect("the journal works").len(), 2);
    assert!(reader.append(vec![entry(3, Kind::Close, None)]).await.is_err());
    assert!(reader.retain(Retention { max_entries: 0, ..KEEP_ALL }).await.is_err());
    drop((journal, reader));
    let reader = SqliteJournal::open_read_only(&path).expect("the journal works");
    assert_eq!(reader.query(all()).await.expect("the journal works").len(), 2);
    assert_eq!(reader.state().await.expect("the journal works").entries, 2);
    drop(reader);
    assert!(SqliteJournal::open_read_only(&folder.path().join("nowhere.db")).is_err());
}

#[tokio::test]
async fn what_is_no_journal_is_refused() {
    // store.unavailable
    let folder = tempfile::tempdir().expect("the journal works");
    let path = folder.path().join("journal.db");
    std::fs::write(&path, "this is no database, and it is long enough to be looked at ".repeat(100))
        .expect("the journal works");
    let error = SqliteJournal::open(&path, JournalOptions::default()).unwrap_err();
    assert!(
        matches!(error, tidegate_core::port::StoreError::Unavailable { operation: "open", .. }),
        "{error:?}"
    );
    assert!(SqliteJournal::open_read_only(&path).is_err());
}
