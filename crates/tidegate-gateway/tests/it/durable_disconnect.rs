//! `$disconnect` events that outlive backends and processes (S0-57).

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_core::port::{RecordKind, RecordStore as _};
use tidegate_store::SqliteRecords;

use crate::backend::{Answer, Backend, Request};
use crate::client::Client;
use crate::harness::{Deployed, Plane, Setup, users_policy};
use crate::record::DEADLINE;

fn durable() -> Value {
    users_policy(json!({
        "channels": { "unlisted": "allow" },
        "backend": { "durable_disconnect": true },
    }))
}

fn open(path: &Path) -> Arc<SqliteRecords> {
    Arc::new(SqliteRecords::open(path).unwrap())
}

async fn n_noted(records: &SqliteRecords) -> usize {
    records.load(RecordKind::Disconnect).await.unwrap().len()
}

async fn until_noted(records: &SqliteRecords, wanted: usize) {
    let looks = async {
        while n_noted(records).await != wanted {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looks).await.expect("as many notes as wanted");
}

async fn start(records: &Arc<SqliteRecords>, deployed: &Deployed) -> Plane {
    let records = Arc::clone(records) as Arc<dyn tidegate_core::port::RecordStore>;
    let plane = Plane::start_from(Setup { records, ..Setup::default() }).await;
    plane.deploy(deployed);
    plane
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_was_down_hears_of_it_once() {
    let directory = tempfile::tempdir().unwrap();
    let records = open(&directory.path().join("records.db"));
    let plane = start(&records, &Deployed::with_policy(durable())).await;
    let mut client = plane.connect_user(json!({ "sub": "ann", "sid": "s" }), "&channel=a").await;
    client.told().await;
    let id = plane.id_of(&client).await;
    assert_eq!(n_noted(&records).await, 1, "noted before the 101");
    // S0-57: reset, 500, and then an answer.
    let n_before = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&n_before);
    plane.backend.plan(move |_| match counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Answer::Reset,
        1 => Answer::Status(500),
        _ => Answer::Status(400),
    });
    client.close(4000, "bye").await;
    let is_event = |request: &Request| request.is_event("DISCONNECT") && request.id() == id;
    let events = plane.backend.requests.until("$disconnect", 3, is_event).await;
    for event in &events {
        // The same event each time, so that a backend can tell that it is a repetition.
        assert_eq!((event.value("x-code"), event.value("x-reason")), ("4000", "bye"));
        assert_eq!((event.value("tidegate-user"), event.value("tidegate-channels")), ("ann", "a"));
    }
    // A 400 is an answer: the note goes, and nothing comes after.
    until_noted(&records, 0).await;
    assert_eq!(plane.backend.requests.count(is_event), 3);
    assert_eq!(plane.gateway.drain(DEADLINE).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_handshake_leaves_no_note() {
    let directory = tempfile::tempdir().unwrap();
    let records = open(&directory.path().join("records.db"));
    let plane = start(&records, &Deployed::with_policy(durable())).await;
    plane.backend.plan(|_| Answer::Status(403));
    assert_eq!(plane.knock("", "").await, 403);
    until_noted(&records, 0).await;
    plane.backend.plan(|_| Answer::Status(200));
    let mut client = plane.connect().await;
    assert_eq!(n_noted(&records).await, 1);
    client.close(1000, "").await;
    until_noted(&records, 0).await;
    // S0-57: off by default.
    plane.deploy(&Deployed::with_policy(json!({})));
    let mut client = plane.connect().await;
    assert_eq!(n_noted(&records).await, 0);
    client.close(1000, "").await;
    plane.end().await;
}

/// S0-57: as after the loss of the process: nothing of the first gateway runs any more, a second one opens its file.
#[test]
fn a_gateway_that_died_is_spoken_for_by_the_next() {
    const CONNECTIONS: usize = 200;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records.db");
    let backend = tokio::runtime::Runtime::new().unwrap();
    let recorder = backend.block_on(Backend::start());
    let deployed = Deployed { backend: Some(recorder.address), ..Deployed::with_policy(durable()) };

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut ids = runtime.block_on(async {
        let records = open(&path);
        let plane = start(&records, &deployed).await;
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(plane.connect_user(json!({ "sub": "ann" }), "").await);
        }
        // Some end as they should, and are nobody's business later.
        for client in clients.iter_mut().take(20) {
            client.close(1000, "").await;
        }
        recorder.events("DISCONNECT", 20).await;
        until_noted(&records, CONNECTIONS - 20).await;
        let open: Vec<String> = plane
            .gateway
            .connections(&Default::default(), None, CONNECTIONS)
            .0
            .into_iter()
            .map(|connection| connection.connection_id)
            .collect();
        // Neither drained nor closed.
        std::mem::forget(clients);
        open
    });
    runtime.shutdown_background();
    assert_eq!(ids.len(), CONNECTIONS - 20);
    let before = recorder.requests.all().len();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let records = runtime.block_on(async {
        let opened = async {
            loop {
                // The file is locked for as long as the first gateway is being taken down.
                match SqliteRecords::open(&path) {
                    Ok(records) => return Arc::new(records),
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                }
            }
        };
        let records = tokio::time::timeout(DEADLINE, opened).await.expect("the file is free");
        let plane = start(&records, &deployed).await;
        assert_eq!(plane.gateway.deliver_left_over().await.unwrap(), CONNECTIONS - 20);
        // A second look finds nothing that is not in hand.
        assert_eq!(plane.gateway.deliver_left_over().await.unwrap(), 0);
        until_noted(&records, 0).await;
        assert_eq!(plane.gateway.drain(DEADLINE).await, 0);
        records
    });
    let events = recorder.requests.all().split_off(before);
    let mut told: Vec<String> = events.iter().map(|request| request.id().to_owned()).collect();
    told.sort();
    ids.sort();
    assert_eq!(told, ids, "exactly one for each");
    for event in &events {
        assert!(event.is_event("DISCONNECT"));
        assert_eq!((event.value("x-code"), event.value("tidegate-user")), ("1006", "ann"));
    }
    drop(records);
}

/// Scenario: more connections end at once than the queue of the store holds. Fault: the notes of those that found no
/// room stayed, and the next start sent a second `$disconnect` for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_note_is_left_when_everybody_leaves_at_once() {
    let records = Arc::new(crate::full_store::FullStore::default());
    let setup = Setup { records: Arc::clone(&records) as _, ..Setup::default() };
    let plane = Plane::start_from(setup).await;
    plane.deploy(&Deployed::with_policy(durable()));
    let client = plane.connect().await;
    assert_eq!(records.n_notes(), 1);
    client.reset();
    plane.end().await;
    // S0-57
    assert!(records.n_refused() > 0);
    assert_eq!(records.n_notes(), 0);
}
