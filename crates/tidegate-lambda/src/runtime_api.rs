//! The Runtime API of one instance: how its process gets events and gives answers.
//!
//! Source: *Using the Lambda runtime API for custom runtimes* in the AWS Lambda developer guide, version 2018-06-01.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What every path begins with.
const BASE: &str = "/2018-06-01/runtime/";

/// Largest answer of a function, in bytes. Source: Lambda quotas, synchronous payload, with what the service adds.
const MAX_ANSWER: usize = 6_291_556;

/// One event for the process.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) id: String,
    /// Milliseconds since 1970.
    pub(crate) deadline: u64,
    pub(crate) arn: String,
    pub(crate) trace_id: Option<String>,
    pub(crate) payload: Bytes,
}

/// What the process has said.
#[derive(Debug)]
pub(crate) enum Report {
    /// It waits for an event.
    Ready,
    /// It cannot begin; JSON.
    InitFailed(Bytes),
    /// The answer to an event, or the error that it raised; JSON.
    Done { id: String, payload: Bytes, is_error: bool },
}

/// The side of the Runtime API.
pub(crate) struct Api {
    work: tokio::sync::Mutex<mpsc::Receiver<Work>>,
    reports: mpsc::Sender<Report>,
    /// Which event the process has.
    current: Mutex<Option<String>>,
}

impl Api {
    pub(crate) fn new(work: mpsc::Receiver<Work>, reports: mpsc::Sender<Report>) -> Self {
        Self { work: tokio::sync::Mutex::new(work), reports, current: Mutex::default() }
    }

    /// Answers whoever connects, for as long as it is polled.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let api = Arc::new(self);
        // Connections end with this future.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let api = Arc::clone(&api);
                    connections.spawn(async move {
                        let service = hyper::service::service_fn(|request| {
                            let api = Arc::clone(&api);
                            async move { Ok::<_, Infallible>(api.answer(request).await) }
                        });
                        // A process that breaks off has said what it had to say.
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let Some(rest) = path.strip_prefix(BASE) else { return refuse(404, "NotFound") };
        let is_get = request.method() == Method::GET;
        let is_post = request.method() == Method::POST;
        match rest.split('/').collect::<Vec<_>>().as_slice() {
            ["invocation", "next"] if is_get => self.next().await,
            ["invocation", id, "response"] if is_post => self.done(id, request, false).await,
            ["invocation", id, "error"] if is_post => self.done(id, request, true).await,
            ["init", "error"] if is_post => {
                let Some(payload) = body(request).await else { return refuse(413, "RequestEntityTooLarge") };
                let _ = self.reports.send(Report::InitFailed(payload)).await;
                accepted()
            }
            _ => refuse(404, "NotFound"),
        }
    }

    /// Waits for the next event.
    async fn next(&self) -> Response<Full<Bytes>> {
        let _ = self.reports.send(Report::Ready).await;
        let Some(work) = self.work.lock().await.recv().await else { return refuse(500, "Closed") };
        *self.current.lock() = Some(work.id.clone());
        let mut response = Response::new(Full::new(work.payload));
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        for (name, value) in [
            ("lambda-runtime-aws-request-id", Some(work.id)),
            ("lambda-runtime-deadline-ms", Some(work.deadline.to_string())),
            ("lambda-runtime-invoked-function-arn", Some(work.arn)),
            ("lambda-runtime-trace-id", work.trace_id),
        ] {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        }
        response
    }

    async fn done(&self, id: &str, request: Request<Incoming>, is_error: bool) -> Response<Full<Bytes>> {
        {
            let mut current = self.current.lock();
            if current.as_deref() != Some(id) {
                return refuse(400, "InvalidRequestID");
            }
            *current = None;
        }
        let body = body(request).await;
        let is_too_large = body.is_none();
        let (payload, is_error) = match body {
            Some(payload) => (payload, is_error),
            None => {
                let message = format!(
                    "Response payload size exceeded maximum allowed payload size ({MAX_ANSWER} bytes)."
                );
                let error = serde_json::json!({
                    "errorType": "Function.ResponseSizeTooLarge",
                    "errorMessage": message,
                });
                (Bytes::from(error.to_string()), true)
            }
        };
        let _ = self.reports.send(Report::Done { id: id.to_owned(), payload, is_error }).await;
        if is_too_large { refuse(413, "RequestEntityTooLarge") } else { accepted() }
    }
}

/// A whole body, unless it is too large or breaks off.
async fn body(request: Request<Incoming>) -> Option<Bytes> {
    let collected = Limited::new(request.into_body(), MAX_ANSWER).collect().await.ok()?;
    Some(collected.to_bytes())
}

fn accepted() -> Response<Full<Bytes>> {
    reply(StatusCode::ACCEPTED, r#"{"status":"OK"}"#.to_owned())
}

fn refuse(status: u16, error_type: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "errorMessage": error_type, "errorType": error_type });
    reply(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), body.to_string())
}

fn reply(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
}
