//! An answered call is stored, a call that is not stored has not happened: S0-14.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_control::{ControlPlane, ControlSettings, LoadError};
use tidegate_core::port::{BoxFuture, Change, DefinitionStore, Document, StoreError};
use tidegate_store::SqliteStore;
use tokio::sync::Semaphore;

use crate::harness::{Harness, NOW, Sink, api_body};

/// A store that can be broken and held up.
#[derive(Debug)]
struct Fragile {
    inner: SqliteStore,
    is_broken: AtomicBool,
    /// A write takes one permit; it waits until there is one.
    gate: Semaphore,
    waiting: AtomicBool,
}

impl Fragile {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: SqliteStore::open_in_memory().expect("open"),
            is_broken: AtomicBool::new(false),
            gate: Semaphore::new(1000),
            waiting: AtomicBool::new(false),
        })
    }
}

impl DefinitionStore for Fragile {
    fn load(&self) -> BoxFuture<'_, Result<Vec<Document>, StoreError>> {
        self.inner.load()
    }

    fn apply(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if self.is_broken.load(Ordering::Relaxed) {
                let source = std::io::Error::other("the disk is full").into();
                return Err(StoreError::Unavailable { operation: "write", source });
            }
            self.waiting.store(true, Ordering::Relaxed);
            self.gate.acquire().await.expect("open").forget();
            self.inner.apply(changes).await
        })
    }
}

/// Creates one of everything; answers what every address shows.
async fn everything(h: &Harness) -> Vec<(String, Value)> {
    let api = h.api().await;
    let base = format!("/apis/{api}");
    let integration = h.integration(&api).await;
    let (integrations, routes) = (format!("{base}/integrations"), format!("{base}/routes"));
    let body = json!({"integrationResponseKey": "$default"});
    h.post(&format!("{integrations}/{integration}/integrationresponses"), body).await;
    let body = json!({"routeKey": "a", "target": format!("integrations/{integration}")});
    let route = h.create(&routes, "routeId", body).await;
    h.post(&format!("{routes}/{route}/routeresponses"), json!({"routeResponseKey": "$default"})).await;
    h.post(&format!("{base}/models"), json!({"name": "m", "schema": "{}"})).await;
    let body =
        json!({"name": "a", "authorizerType": "REQUEST", "authorizerUri": "arn:x", "identitySource": []});
    h.post(&format!("{base}/authorizers"), body).await;
    h.post(&format!("{base}/stages"), json!({"stageName": "prod"})).await;
    h.deploy(&api, json!({"stageName": "prod"})).await;
    h.post("/domainnames", json!({"domainName": "ws.example.com"})).await;
    h.post("/domainnames/ws.example.com/apimappings", json!({"apiId": api, "stage": "prod"})).await;
    h.post("/vpclinks", json!({"name": "l", "subnetIds": []})).await;
    let mut shown = Vec::new();
    for address in [
        "/apis".to_owned(),
        integrations.clone(),
        format!("{integrations}/{integration}/integrationresponses"),
        routes.clone(),
        format!("{routes}/{route}/routeresponses"),
        format!("{base}/models"),
        format!("{base}/authorizers"),
        format!("{base}/stages"),
        format!("{base}/deployments"),
        "/domainnames".to_owned(),
        "/domainnames/ws.example.com/apimappings".to_owned(),
        "/vpclinks".to_owned(),
    ] {
        let items = h.get(&address).await;
        assert!(items["items"].as_array().is_some_and(|items| !items.is_empty()), "{address}");
        shown.push((address, items));
    }
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("definitions.db");
    let open = || Arc::new(SqliteStore::open(&path).expect("open"));
    let h = Harness::over(open(), ControlSettings::default()).await;
    let shown = everything(&h).await;
    let live = h.sink.last();
    drop(h);

    let h = Harness::over(open(), ControlSettings::default()).await;
    for (address, items) in &shown {
        assert_eq!(&h.get(address).await, items, "{address}");
    }
    let again = h.sink.last();
    assert_eq!(again.domains, live.domains);
    let (old, new) = (&live.apis[0].stages[0], &again.apis[0].stages[0]);
    assert_eq!((&old.stage, &old.deployment), (&new.stage, &new.deployment));
    assert!(new.deployment.as_ref().is_some_and(|d| d.routes.len() == 1 && d.route_responses.len() == 1));

    // What is new comes after what was there, and replaces nothing.
    let apis = h.get("/apis").await["items"].clone();
    let newest = h.api().await;
    let items = h.get("/apis").await["items"].clone();
    assert_eq!((&items[0], &items[1]["apiId"]), (&apis[0], &json!(newest)));
    h.delete(&format!("/apis/{newest}")).await;

    // Deleting is durable, too, and leaves no document behind.
    let api = again.apis[0].api.api_id.clone();
    h.delete(&format!("/apis/{api}")).await;
    h.delete("/domainnames/ws.example.com").await;
    let link = h.get("/vpclinks").await["items"][0]["vpcLinkId"].as_str().expect("an id").to_owned();
    h.call("DELETE", &format!("/vpclinks/{link}"), Value::Null).await;
    drop(h);
    let left = open().load().await.expect("load");
    assert_eq!(left, []);
}

#[tokio::test]
async fn addresses_follow_the_settings_after_a_restart() {
    let store = Fragile::new();
    let h = Harness::over(Arc::clone(&store) as _, ControlSettings::default()).await;
    let api = h.api().await;
    h.post("/domainnames", json!({"domainName": "ws.example.com"})).await;
    drop(h);
    let settings = ControlSettings {
        wildcard_base: Some("wss://{apiId}.execute-api.example.com".to_owned()),
        public_hostname: "gateway.example.com".to_owned(),
        ..ControlSettings::default()
    };
    let h = Harness::over(store, settings).await;
    let shown = h.get(&format!("/apis/{api}")).await;
    assert_eq!(shown["apiEndpoint"], format!("wss://{api}.execute-api.example.com"));
    let domain = h.get("/domainnames/ws.example.com").await;
    assert_eq!(domain["domainNameConfigurations"][0]["apiGatewayDomainName"], "gateway.example.com");
}

#[tokio::test]
async fn what_the_store_refuses_has_not_happened() {
    let store = Fragile::new();
    let h = Harness::over(Arc::clone(&store) as _, ControlSettings::default()).await;
    let api = h.api().await;
    let published = h.sink.count();
    store.is_broken.store(true, Ordering::Relaxed);
    let answer = h.call("POST", &format!("/apis/{api}/stages"), json!({"stageName": "s"})).await;
    assert_eq!((answer.status, answer.error_type.as_str()), (503, "ServiceUnavailableException"));
    assert_eq!(answer.text("diagnosis"), "store.unavailable");
    let answer = h.call("PATCH", &format!("/apis/{api}"), json!({"name": "other"})).await;
    assert_eq!(answer.status, 503);
    assert_eq!(h.get(&format!("/apis/{api}")).await["name"], "n");
    assert_eq!(h.get(&format!("/apis/{api}/stages")).await, json!({"items": []}));
    assert_eq!(h.sink.count(), published);

    store.is_broken.store(false, Ordering::Relaxed);
    h.post(&format!("/apis/{api}/stages"), json!({"stageName": "s"})).await;
    assert_eq!(h.sink.count(), published + 1);
}

/// A caller who leaves while the store is writing: memory and store still agree afterwards.
#[tokio::test]
async fn a_caller_who_leaves_does_not_split_memory_from_store() {
    let store = Fragile::new();
    let h = Harness::over(Arc::clone(&store) as _, ControlSettings::default()).await;
    store.gate.forget_permits(1000);
    store.waiting.store(false, Ordering::Relaxed);
    let plane = h.plane.clone();
    let call = tokio::spawn(async move { plane.create_api_with_id("left", api_body()).await.map(drop) });
    while !store.waiting.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
    }
    call.abort();
    assert!(call.await.is_err());
    assert_eq!(h.call("GET", "/apis/left", Value::Null).await.status, 404, "not before it is durable");
    store.gate.add_permits(1);
    tokio::time::timeout(Duration::from_secs(5), h.plane.close()).await.expect("the write ends");
    h.get("/apis/left").await;
    assert_eq!(h.sink.last().apis.len(), 1);
    assert_eq!(store.inner.load().await.expect("load").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_at_the_same_time_are_all_kept() {
    let h = Arc::new(Harness::new().await);
    let api = h.api().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let (h, api) = (Arc::clone(&h), api.clone());
        tasks.spawn(async move {
            // Half of them want the same key: one of these may have it.
            let key = if n % 2 == 0 { "same".to_owned() } else { format!("r{n}") };
            h.call("POST", &format!("/apis/{api}/routes"), json!({"routeKey": key})).await.status
        });
    }
    let mut created = 0;
    while let Some(status) = tasks.join_next().await {
        match status.expect("no panic") {
            201 => created += 1,
            status => assert_eq!(status, 409),
        }
    }
    assert_eq!(created, 21);
    let routes = h.get(&format!("/apis/{api}/routes")).await;
    assert_eq!(routes["items"].as_array().map(Vec::len), Some(21));
}

#[tokio::test]
async fn documents_that_make_no_sense_are_named() {
    let document = |kind: &str, parent: &str, body: &str| {
        Change::Put(Document {
            kind: kind.to_owned(),
            parent: parent.to_owned(),
            id: "x".to_owned(),
            sequence: 1,
            body: body.to_owned(),
        })
    };
    for (change, wanted) in [
        (document("api", "", "{"), "read the stored api x"),
        (document("route", "gone", "{}"), "the stored route x belongs to gone, which is missing"),
        (
            document("api-mapping", "domain:gone", "{}"),
            "the stored api-mapping x belongs to domain:gone, which",
        ),
    ] {
        let store = Arc::new(SqliteStore::open_in_memory().expect("open"));
        store.apply(vec![change]).await.expect("write");
        let clock = Arc::new(|| NOW.parse().expect("a time"));
        let sink = Arc::new(Sink::default());
        let loaded =
            ControlPlane::load(store, Arc::clone(&sink) as _, ControlSettings::default(), clock).await;
        let error: LoadError = loaded.expect_err("must be refused");
        assert!(error.to_string().starts_with(wanted), "{error}");
        assert_eq!(sink.count(), 0);
    }
}

#[tokio::test]
async fn other_settings_show_at_once_and_are_stored_nowhere() {
    let store = Fragile::new();
    let sink = Arc::new(Sink::default());
    let clock: tidegate_control::Clock = Arc::new(|| NOW.parse().expect("a time"));
    let load = async |settings: ControlSettings| {
        let store = Arc::clone(&store) as Arc<dyn DefinitionStore>;
        ControlPlane::load(store, Arc::clone(&sink) as _, settings, Arc::clone(&clock)).await.expect("load")
    };
    let plane = load(ControlSettings::default()).await;
    plane.create_api_with_id("first00000", api_body()).await.expect("an API");
    let endpoint = async || {
        let api =
            plane.request(&http::Method::GET, "/v2/apis/first00000", Value::Null).await.expect("the API");
        api["apiEndpoint"].as_str().expect("an address").to_owned()
    };
    assert!(endpoint().await.starts_with("ws://127.0.0.1:8080/"));
    // A store that takes nothing does not matter: nothing is written.
    store.is_broken.store(true, Ordering::SeqCst);
    let published = sink.count();
    let other =
        ControlSettings { public_base: "wss://ws.example.com".to_owned(), ..ControlSettings::default() };
    plane.change_settings(other).await;
    assert!(endpoint().await.starts_with("wss://ws.example.com/"));
    // The data plane looks at settings of its own then.
    assert_eq!(sink.count(), published + 1);
    assert_eq!(sink.last().apis[0].api.api_endpoint, endpoint().await);
}
