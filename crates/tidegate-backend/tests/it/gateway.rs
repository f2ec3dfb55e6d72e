//! A gateway that records what it is sent and answers what it is told.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, Response};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

/// What a caller sent.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Method, path and query.
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct FakeGateway {
    pub(crate) url: String,
    pub(crate) authority: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for FakeGateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeGateway {
    /// Answers every request with this status, headers and body; 0 never answers.
    pub(crate) async fn start(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let authority = listener.local_addr().expect("an address").to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (headers, body, kept) = (headers.to_vec(), body.to_owned(), Arc::clone(&seen));
        let answer = async move |request: Request<Body>| {
            let (parts, received) = request.into_parts();
            let received = to_bytes(received, usize::MAX).await.expect("a body").to_vec();
            let line = format!("{} {}", parts.method, parts.uri);
            kept.lock().push(Seen { line, headers: parts.headers, body: received });
            if status == 0 {
                std::future::pending::<()>().await;
            }
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).expect("a response")
        };
        let app = Router::new().fallback(answer);
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("serve") });
        Self { url: format!("http://{authority}/_aws/execute-api/api/dev/"), authority, seen, task }
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen.lock();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().len()
    }
}
