//! A control plane with its surroundings, and short ways to call it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_control::{ControlPlane, ControlSettings, RestApi};
use tidegate_core::definition::Live;
use tidegate_core::port::{DefinitionSink, DefinitionStore};
use tidegate_store::SqliteStore;

/// What the clock says.
pub const NOW: &str = "2025-01-15T12:00:00Z";

/// Remembers what was published.
#[derive(Debug, Default)]
pub struct Sink(pub Mutex<Vec<Live>>);

impl DefinitionSink for Sink {
    fn publish(&self, live: Live) {
        self.0.lock().push(live);
    }
}

impl Sink {
    pub fn last(&self) -> Live {
        self.0.lock().last().cloned().expect("something was published")
    }

    pub fn count(&self) -> usize {
        self.0.lock().len()
    }
}

pub struct Harness {
    pub plane: ControlPlane,
    pub rest: RestApi,
    pub sink: Arc<Sink>,
    /// Milliseconds after [`NOW`].
    passed: Arc<AtomicI64>,
}

/// One answer: status, error type, body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub error_type: String,
    pub body: Value,
}

impl Answer {
    pub fn text(&self, member: &str) -> String {
        self.body[member].as_str().unwrap_or_else(|| panic!("no {member} in {self:?}")).to_owned()
    }

    #[track_caller]
    pub fn is_refused(&self, status: u16, error_type: &str, message: &str) {
        assert_eq!((self.status, self.error_type.as_str()), (status, error_type), "{self:?}");
        assert_eq!(self.body, json!({"message": message}));
    }

    #[track_caller]
    pub fn is_bad_request(&self) {
        assert_eq!((self.status, self.error_type.as_str()), (400, "BadRequestException"), "{self:?}");
    }
}

impl Harness {
    pub async fn new() -> Self {
        Self::over(Arc::new(SqliteStore::open_in_memory().expect("open")), ControlSettings::default()).await
    }

    pub async fn over(store: Arc<dyn DefinitionStore>, settings: ControlSettings) -> Self {
        let sink = Arc::new(Sink::default());
        let passed = Arc::new(AtomicI64::new(0));
        let shown = Arc::clone(&passed);
        let clock = Arc::new(move || {
            let now: jiff::Timestamp = NOW.parse().expect("a time");
            now + jiff::SignedDuration::from_millis(shown.load(Ordering::Relaxed))
        });
        let shared: Arc<dyn DefinitionSink> = Arc::clone(&sink) as _;
        let plane = ControlPlane::load(store, shared, settings, clock).await.expect("load");
        let rest = RestApi::new(plane.clone(), Arc::new(|_, _| Ok(())));
        Self { plane, rest, sink, passed }
    }

    /// Moves the clock.
    pub fn later(&self, millis: i64) {
        self.passed.fetch_add(millis, Ordering::Relaxed);
    }

    pub async fn raw(&self, method: &str, target: &str, body: &str) -> Response<Bytes> {
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).expect("a method"))
            .uri(target)
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .expect("a request");
        self.rest.handle(request).await
    }

    pub async fn call(&self, method: &str, target: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = self.raw(method, &format!("/v2{target}"), &body).await;
        let header = |name: &str| {
            response.headers().get(name).map(|v| v.to_str().expect("text").to_owned()).unwrap_or_default()
        };
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("x-amzn-requestid").len(), 36);
        let body = match response.body().as_ref() {
            b"" => Value::Null,
            bytes => serde_json::from_slice(bytes).expect("JSON"),
        };
        Answer { status: response.status().as_u16(), error_type: header("x-amzn-errortype"), body }
    }

    #[track_caller]
    fn expect(answer: Answer, status: u16) -> Value {
        assert_eq!(answer.status, status, "{answer:?}");
        answer.body
    }

    pub async fn get(&self, target: &str) -> Value {
        Self::expect(self.call("GET", target, Value::Null).await, 200)
    }

    pub async fn post(&self, target: &str, body: Value) -> Value {
        Self::expect(self.call("POST", target, body).await, 201)
    }

    pub async fn patch(&self, target: &str, body: Value) -> Value {
        Self::expect(self.call("PATCH", target, body).await, 200)
    }

    pub async fn delete(&self, target: &str) {
        let answer = self.call("DELETE", target, Value::Null).await;
        assert_eq!(Self::expect(answer, 204), Value::Null);
    }

    /// An API without anything below it; answers its id.
    pub async fn api(&self) -> String {
        let api = self.post("/apis", api_body()).await;
        api["apiId"].as_str().expect("an id").to_owned()
    }

    /// Creates below `target` and answers the member `id`.
    pub async fn create(&self, target: &str, id: &str, body: Value) -> String {
        let created = self.post(target, body).await;
        created[id].as_str().unwrap_or_else(|| panic!("no {id} in {created}")).to_owned()
    }

    pub async fn integration(&self, api: &str) -> String {
        let body = json!({"integrationType": "HTTP_PROXY", "integrationUri": "http://127.0.0.1:8000/ws/"});
        self.create(&format!("/apis/{api}/integrations"), "integrationId", body).await
    }

    pub async fn route(&self, api: &str, key: &str) -> String {
        self.create(&format!("/apis/{api}/routes"), "routeId", json!({"routeKey": key})).await
    }

    pub async fn deploy(&self, api: &str, body: Value) -> String {
        self.create(&format!("/apis/{api}/deployments"), "deploymentId", body).await
    }
}

pub fn api_body() -> Value {
    json!({"name": "n", "protocolType": "WEBSOCKET", "routeSelectionExpression": "$request.body.action"})
}
