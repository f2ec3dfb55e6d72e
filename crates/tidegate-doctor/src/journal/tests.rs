use std::cell::Cell;
use std::net::IpAddr;

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::journal::{Facts, Kind};
use tidegate_core::notice::{ClosedBy, Place};

use super::*;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1_800_000_000_000_000) };
}

fn clock() -> u64 {
    NOW.get()
}

fn pass(micros: u64) {
    NOW.set(NOW.get() + micros);
}

/// A store in memory that can be told to refuse.
#[derive(Debug, Default)]
struct Memory {
    entries: Mutex<Vec<Entry>>,
    refuses: AtomicBool,
    retained: Mutex<Vec<Retention>>,
    erased: Mutex<Vec<Erase>>,
    /// A clean-up makes room.
    has_room_after_retain: AtomicBool,
    n_appends: AtomicU64,
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<'static, T> {
    Box::pin(std::future::ready(value))
}

impl JournalStore for Memory {
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.n_appends.fetch_add(1, Ordering::Relaxed);
        if self.refuses.load(Ordering::Relaxed) {
            return ready(Err(StoreError::Unavailable { operation: "write", source: "disk full".into() }));
        }
        self.entries.lock().extend(entries);
        ready(Ok(()))
    }

    fn query(&self, query: EntryQuery) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        let entries = self.entries.lock();
        let fits = |entry: &&Entry| query.address.is_none() || query.address == entry.address;
        ready(Ok(entries.iter().filter(fits).cloned().collect()))
    }

    fn count_outcomes(&self, _: EntryQuery) -> BoxFuture<'_, Result<Vec<(String, u64)>, StoreError>> {
        ready(Ok(Vec::new()))
    }

    fn retain(&self, retention: Retention) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.retained.lock().push(retention);
        if self.has_room_after_retain.load(Ordering::Relaxed) {
            self.refuses.store(false, Ordering::Relaxed);
            return ready(Ok(1));
        }
        ready(Ok(0))
    }

    fn erase(&self, whose: Erase) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.erased.lock().push(whose);
        ready(Ok(0))
    }

    fn state(&self) -> BoxFuture<'_, Result<JournalState, StoreError>> {
        let entries = self.entries.lock().len() as u64;
        ready(Ok(JournalState { entries, ..JournalState::default() }))
    }
}

fn place() -> Place {
    Place {
        api_id: "a1".into(),
        stage: "prod".into(),
        connection_id: Some(ConnectionId::new(1, 0, 7, 9)),
        request_id: Some(RequestId::new(1, 2)),
        route_key: Some("$connect".into()),
        client_ref: Some("ref-1".into()),
        user: Some("alice".into()),
        address: Some("203.0.113.77".parse::<IpAddr>().expect("an address")),
    }
}

fn opened(slot: u32) -> Notice {
    let place = Place { connection_id: Some(ConnectionId::new(1, 0, slot, 9)), ..place() };
    Notice::ConnectionOpened { place, duration: Duration::from_micros(1500), facts: Facts::none() }
}

fn refused() -> Notice {
    Notice::HandshakeRefused {
        place: place(),
        status: 403,
        code: ErrorCode::IdentityRejected,
        diagnosis: Diagnosis::TOKEN_EXPIRED,
        detail: "lived 60 s".to_owned(),
        duration: Duration::from_millis(2),
        facts: Facts::none().with("tokenAgeMs", 61_000),
    }
}

fn closed(diagnosis: Diagnosis) -> Notice {
    Notice::ConnectionClosed {
        place: place(),
        by: ClosedBy::Client,
        close_code: 1000,
        diagnosis,
        age: Duration::from_secs(3),
        messages_in: 1,
        messages_out: 2,
        bytes_in: 3,
        bytes_out: 4,
        facts: Facts::none(),
    }
}

fn handled(place: &Place, remark: Option<Diagnosis>) -> Notice {
    let facts = Facts::none();
    Notice::MessageHandled {
        place: place.clone(),
        size: 10,
        status: 200,
        dropped_reply: false,
        facts,
        remark,
    }
}

fn journal(config: JournalConfig) -> (Arc<Memory>, Arc<Journal>) {
    let store = Arc::new(Memory::default());
    let journal = Journal::new(Arc::clone(&store) as Arc<dyn JournalStore>, config, clock);
    (store, Arc::new(journal))
}

async fn all(journal: &Journal) -> Vec<Entry> {
    journal.query(EntryQuery { limit: usize::MAX, ..EntryQuery::default() }).await.expect("entries")
}

#[tokio::test]
async fn whoever_asks_sees_what_happened_before() {
    // DX-5, DX-6
    let (_, journal) = journal(JournalConfig { node: 3, ..JournalConfig::default() });
    journal.take(refused());
    let found = all(&journal).await;
    let [entry] = &found[..] else { panic!("{found:?}") };
    assert_eq!((entry.kind, entry.outcome.as_str(), entry.node), (Kind::Handshake, "token.expired", 3));
    assert_eq!(entry.ts, clock());
    assert_eq!((entry.api_id.as_deref(), entry.stage.as_deref()), (Some("a1"), Some("prod")));
    assert_eq!((entry.user.as_deref(), entry.client_ref.as_deref()), (Some("alice"), Some("ref-1")));
    assert_eq!(entry.connection_id, Some(ConnectionId::new(1, 0, 7, 9).to_string()));
    assert_eq!(entry.request_id, Some(RequestId::new(1, 2).to_string()));
    assert_eq!((entry.address.as_deref(), entry.duration_ms), (Some("203.0.113.77"), Some(2.0)));
    let number = |name: &str| entry.number(name);
    assert_eq!((number("status"), number("tokenAgeMs")), (Some(403.0), Some(61_000.0)));
    assert_eq!(entry.text("detail"), Some("lived 60 s"));
}

#[tokio::test]
async fn every_kind_has_its_entry() {
    // DX-7
    let facts = Facts::none;
    let detail = || "why".to_owned();
    let diagnosis = Diagnosis::INTEGRATION_TIMEOUT;
    let event_type = "MESSAGE";
    let duration = Duration::from_millis(4);
    let control = Notice::Controlled {
        place: Place::default(),
        what: "deploy",
        actor: "AKID".to_owned(),
        refused: None,
        facts: facts().with("snapshotHash", "0123456789abcdef"),
    };
    let cases: Vec<(Notice, Kind, &str, &[&str])> = vec![
        (opened(1), Kind::Handshake, "ok", &["status"]),
        (
            closed(Diagnosis::GONE_CLIENT_CLOSED),
            Kind::Close,
            "ok",
            &["by", "closeCode", "closeReason", "ageMs", "bytesOut"],
        ),
        (closed(Diagnosis::CONN_PING_TIMEOUT), Kind::Close, "conn.ping-timeout", &["closeReason"]),
        (
            Notice::IntegrationCalled {
                place: place(),
                event_type,
                status: None,
                duration,
                facts: facts().with("causeId", "integration.timeout"),
            },
            Kind::Integration,
            "integration.timeout",
            &["eventType", "causeId"],
        ),
        (
            Notice::IntegrationCalled {
                place: place(),
                event_type,
                status: Some(500),
                duration,
                facts: facts(),
            },
            Kind::Integration,
            "integration.error-status",
            &["status"],
        ),
        (
            Notice::DisconnectLost { place: place(), diagnosis, detail: detail(), facts: facts() },
            Kind::Integration,
            "integration.timeout",
            &["lost", "detail"],
        ),
        (
            Notice::Published {
                place: place(),
                target: "channel",
                size: 1,
                delivered: 2,
                gone: 3,
                slow: 4,
                facts: facts(),
            },
            Kind::Post,
            "ok",
            &["target", "delivered", "gone", "slow"],
        ),
        (
            Notice::PushRefused {
                place: place(),
                status: 410,
                code: ErrorCode::Gone,
                diagnosis: Diagnosis::GONE_IDLE,
                facts: facts(),
            },
            Kind::Post,
            "connections.gone-idle",
            &["status", "result"],
        ),
        (
            Notice::MembershipChanged {
                place: place(),
                channel: "room-1".into(),
                change: "join",
                by: "client",
            },
            Kind::Membership,
            "ok",
            &["channel", "change", "by"],
        ),
        (
            Notice::ChannelRefused {
                place: place(),
                channel: "room-1".into(),
                diagnosis: Diagnosis::CHANNEL_FORBIDDEN,
                detail: detail(),
                facts: facts(),
            },
            Kind::Membership,
            "channel.forbidden",
            &["channel", "rule"],
        ),
        (
            Notice::WouldBeLimited {
                place: place(),
                diagnosis: Diagnosis::RATELIMIT_CONNECT,
                detail: detail(),
                facts: facts(),
            },
            Kind::RateLimit,
            "ratelimit.connect",
            &["dryRun"],
        ),
        (
            Notice::KeySetNotFetched {
                place: place(),
                diagnosis: Diagnosis::JWT_JWKS_UNREACHABLE,
                detail: detail(),
                facts: facts(),
            },
            Kind::Jwt,
            "jwt.jwks-unreachable",
            &["detail"],
        ),
        (
            Notice::TokenRequested {
                place: place(),
                refused: Some(Diagnosis::TOKENREQ_ANONYMOUS),
                facts: facts(),
            },
            Kind::Token,
            "tokenreq.anonymous",
            &[],
        ),
        (
            Notice::Decided {
                place: place(),
                kind: Kind::Origin,
                remark: None,
                facts: facts().with("origin", "https://x"),
            },
            Kind::Origin,
            "ok",
            &["origin"],
        ),
        (
            Notice::HandlerNotAllowed {
                place: place(),
                handler: "x".repeat(100),
                nearest: Some("xy".to_owned()),
                facts: facts(),
            },
            Kind::Message,
            "handler.not-allowed",
            &["selectedValue", "nearest"],
        ),
        (control, Kind::Control, "ok", &["what", "actor", "snapshotHash"]),
    ];
    for (notice, kind, outcome, facts) in cases {
        let (_, journal) = journal(JournalConfig::default());
        journal.take(notice.clone());
        let found = all(&journal).await;
        let [entry] = &found[..] else { panic!("{notice:?}: {found:?}") };
        assert_eq!((entry.kind, entry.outcome.as_str()), (kind, outcome), "{notice:?}");
        for fact in facts {
            assert!(entry.fact(fact).is_some(), "{fact} in {entry:?}");
        }
    }
}

#[tokio::test]
async fn what_a_handshake_asked_its_backend_is_no_entry_of_its_own() {
    let (_, journal) = journal(JournalConfig::default());
    let (event_type, duration) = ("CONNECT", Duration::from_millis(1));
    let called = Notice::IntegrationCalled {
        place: place(),
        event_type,
        status: Some(200),
        duration,
        facts: Facts::none(),
    };
    journal.take(called);
    assert_eq!(all(&journal).await, []);
}

#[tokio::test(start_paused = true)]
async fn the_task_writes_soon_and_together() {
    // DX-5
    let (store, journal) = journal(JournalConfig::default());
    let task = tokio::spawn(Arc::clone(&journal).run());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(store.n_appends.load(Ordering::Relaxed), 0, "an idle journal writes nothing");
    for number in 0..500 {
        journal.take(opened(number));
    }
    tokio::time::sleep(DELAY * 2).await;
    assert_eq!((store.entries.lock().len(), store.n_appends.load(Ordering::Relaxed)), (500, 1));
    // Half a buffer does not wait.
    for number in 0..u32::try_from(CAPACITY / 2).expect("a number") {
        journal.take(opened(number));
        pass(10_000);
    }
    tokio::time::sleep(DELAY / 20).await;
    assert_eq!(store.entries.lock().len(), 500 + CAPACITY / 2);
    assert_eq!(journal.counts(), Counts { written: 500 + CAPACITY as u64 / 2, dropped: 0, sampled: 0 });
    task.abort();
}

#[tokio::test]
async fn a_full_buffer_drops_successes_before_failures_and_says_how_many() {
    // DX-5
    let (_, journal) = journal(JournalConfig::default());
    for number in 0..CAPACITY {
        journal.take(opened(u32::try_from(number).expect("a number")));
        pass(1000);
    }
    journal.take(opened(1));
    for _ in 0..10 {
        journal.take(refused());
    }
    assert_eq!(journal.counts().dropped, 11);
    let found = all(&journal).await;
    assert_eq!(found.len(), CAPACITY);
    assert_eq!(found.iter().filter(|entry| entry.outcome != "ok").count(), 10);
    for _ in 0..CAPACITY + 5 {
        journal.take(refused());
    }
    let state = journal.state().await.expect("a state");
    assert_eq!((state.dropped, state.entries), (11 + 5, 2 * CAPACITY as u64));
}

#[tokio::test]
async fn a_store_that_refuses_is_reported_and_nothing_else_happens() {
    // store.unavailable, DX-5
    let (store, journal) = journal(JournalConfig::default());
    store.refuses.store(true, Ordering::Relaxed);
    journal.take(refused());
    let error = journal.state().await.expect_err("an error");
    assert!(cause(&error).contains("disk full"), "{error:?}");
    assert_eq!(journal.counts(), Counts { written: 0, dropped: 1, sampled: 0 });
    assert!(journal.state().await.is_err(), "until something was written");
    // A clean-up was tried, because it makes room; here it does so the next time.
    assert_eq!(store.retained.lock().len(), 1);
    store.has_room_after_retain.store(true, Ordering::Relaxed);
    journal.take(refused());
    assert_eq!(journal.state().await.expect("a state").entries, 1);
    assert_eq!(journal.counts(), Counts { written: 1, dropped: 1, sampled: 0 });
}

#[tokio::test]
async fn handled_messages_are_counted_by_the_minute() {
    // DX-7
    let (_, journal) = journal(JournalConfig::default());
    let other = Place { route_key: Some("other".into()), ..place() };
    for _ in 0..1000 {
        journal.take(handled(&other, None));
    }
    let remarkable = place();
    for _ in 0..50 {
        journal.take(handled(&remarkable, Some(Diagnosis::HANDLER_NOT_JSON)));
    }
    // The first remarkable one is an example.
    let found = all(&journal).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].outcome, "handler.not-json");
    assert!(found[0].connection_id.is_some());
    journal.close().await.expect("written");
    let found = all(&journal).await;
    let counts: Vec<_> = found[1..]
        .iter()
        .map(|entry| (entry.kind, entry.outcome.as_str(), entry.number("handled"), entry.number("bytes")))
        .collect();
    assert_eq!(
        counts,
        [
            (Kind::Message, "handler.not-json", Some(50.0), Some(500.0)),
            (Kind::Message, "ok", Some(1000.0), Some(10_000.0)),
        ]
    );
    assert_eq!(found[2].route_key.as_deref(), Some("other"));
}

#[tokio::test]
async fn messages_of_several_threads_are_one_count() {
    // DX-7
    let (_, journal) = journal(JournalConfig::default());
    let (journal, place) = (&journal, &place());
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(move || (0..100).for_each(|_| journal.take(handled(place, None))));
        }
    });
    journal.close().await.expect("written");
    let found = all(journal).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].number("handled"), Some(1200.0));
}

#[tokio::test]
async fn above_a_rate_successes_are_sampled_and_failures_never() {
    // DX-12
    let (_, journal) = journal(JournalConfig { sample_handshakes: 100, ..JournalConfig::default() });
    for second in 0..3_u32 {
        for number in 0..1000 {
            journal.take(opened(second * 1000 + number));
            journal.take(refused());
            pass(1000);
        }
    }
    let found = all(&journal).await;
    let (failures, successes): (Vec<&Entry>, Vec<&Entry>) =
        found.iter().partition(|entry| entry.outcome != "ok");
    assert_eq!(failures.len(), 3000);
    assert!(failures.iter().all(|entry| entry.fact("sampledOneIn").is_none()));
    // 100 in full, then fewer and fewer; in the later seconds one in sixteen from the start.
    assert!((150..800).contains(&successes.len()), "{}", successes.len());
    assert!(successes[..100].iter().all(|entry| entry.fact("sampledOneIn").is_none()));
    let later: Vec<_> = successes.iter().filter_map(|entry| entry.number("sampledOneIn")).collect();
    assert_eq!(later.last(), Some(&16.0));
    assert_eq!(journal.counts().sampled + successes.len() as u64, 3000);
    // A quiet second is written in full again.
    pass(5_000_000);
    journal.take(opened(9));
    let found = all(&journal).await;
    assert!(found.last().is_some_and(|entry| entry.fact("sampledOneIn").is_none()));
}

#[tokio::test]
async fn addresses_are_kept_as_the_setting_says_and_found_by_what_they_are() {
    // DX-11
    for (client_address, kept) in [
        (ClientAddress::Full, "203.0.113.77"),
        (ClientAddress::Truncated, "203.0.113.0/24"),
        (ClientAddress::Hashed, "hmac:"),
    ] {
        let (store, journal) = journal(JournalConfig { client_address, ..JournalConfig::default() });
        let facts = Facts::none().with("peer", "203.0.113.77").with("detail", "10 attempts of 203.0.113.77");
        journal.take(Notice::ConnectionOpened { place: place(), duration: Duration::ZERO, facts });
        let query = EntryQuery { address: Some("203.0.113.77".to_owned()), ..EntryQuery::default() };
        let found = journal.query(query).await.expect("entries");
        let [entry] = &found[..] else { panic!("{found:?}") };
        let address = entry.address.as_deref().expect("an address");
        assert!(address.starts_with(kept), "{address}");
        assert_eq!(entry.text("peer"), Some(address));
        let text = serde_json::to_string(&entry).expect("JSON");
        assert_eq!(text.contains("203.0.113.77"), client_address == ClientAddress::Full, "{text}");
        journal.erase(Erase::Address("203.0.113.77".to_owned())).await.expect("erased");
        assert_eq!(*store.erased.lock(), [Erase::Address(address.to_owned())]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_clean_up_runs_every_minute_with_the_limits_of_the_settings() {
    // DX-12
    let hours = |n: u64| Duration::from_secs(n * 3600);
    let config = JournalConfig {
        kept: hours(24),
        longest_connection: hours(48),
        max_bytes: 9,
        max_entries: 8,
        ..JournalConfig::default()
    };
    let (store, journal) = journal(config);
    let task = tokio::spawn(Arc::clone(&journal).run());
    tokio::time::sleep(MINUTE * 2 + Duration::from_secs(1)).await;
    let hour = 3_600_000_000;
    // A day longer than the longest connection, which is longer than anything else is kept.
    let expected = Retention {
        before: clock() - 24 * hour,
        max_bytes: 9,
        max_entries: 8,
        ends_before: clock() - 72 * hour,
    };
    assert_eq!(*store.retained.lock(), [expected; 3]);
    task.abort();
}

#[tokio::test]
async fn no_journal_says_why() {
    for is_off in [true, false] {
        let journal = NoJournal { reason: "the file is damaged".to_owned(), is_off };
        let error = journal.state().await.expect_err("no state");
        assert_eq!(NoJournal::is_off(&error), is_off);
        assert!(cause(&error).contains("the file is damaged"));
    }
}

#[tokio::test]
async fn what_is_not_written_is_not_gathered() {
    // DX-12
    let (_, journal) = journal(JournalConfig { sample_handshakes: 10, ..JournalConfig::default() });
    let id = |slot| ConnectionId::new(1, 0, slot, 9);
    assert!((0..100).all(|slot| journal.wants_success(id(slot))));
    // One in eight now, and for the next ones still.
    for slot in 0..70 {
        journal.take(opened(slot));
    }
    // Far over the threshold: a part of the ids, and what is taken of them is written.
    let wanted: Vec<u32> = (100..1100).filter(|slot| journal.wants_success(id(*slot))).collect();
    assert!((20..400).contains(&wanted.len()), "{}", wanted.len());
    let before = all(&journal).await.len();
    let (slot, other) = (wanted[0], (100..1100).find(|slot| !wanted.contains(slot)).expect("one"));
    journal.take(opened(slot));
    journal.take(opened(other));
    let found = all(&journal).await;
    assert_eq!(found.len(), before + 1);
    assert_eq!(found.last().and_then(|entry| entry.connection_id.clone()), Some(id(slot).to_string()));
    // After a pause everything is written again.
    pass(2_000_000);
    assert!((0..100).all(|slot| journal.wants_success(id(slot))));
}
