//! Requests of the gateway's own: key sets, permission questions, token requests.

use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Uri};
use serde_json::Value;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::limits;

use super::super::Failure;
use super::answer_reader::AnswerReader;
use super::dial::Origin;
use super::pool::{Backends, Broken, exchange};
use super::{no_answer, no_connection, overloaded};

/// How long a request may take from its begin to the end of its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Backends {
    /// Status and body of a GET.
    pub(crate) async fn get(&self, url: &str) -> Result<(u16, Bytes), Failure> {
        self.request("GET", url, "application/json", &[], &[], TIMEOUT).await
    }

    /// Status, headers and body of a GET.
    pub(super) async fn get_whole(&self, url: &str) -> Result<(u16, HeaderMap, Bytes), Failure> {
        let (uri, request) = write("GET", url, "application/json", &[], &[])?;
        self.exchange_within(TIMEOUT, &uri, &request, true).await
    }

    /// Status and body of a POST with a JSON body; `Null` is no body.
    pub(crate) async fn post_json(
        &self,
        url: &str,
        body: &Value,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<(u16, Bytes), Failure> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.request("POST", url, "application/json", headers, &body, TIMEOUT).await
    }

    /// Status and body of any request.
    pub(crate) async fn request(
        &self,
        method: &str,
        url: &str,
        content_type: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: &[u8],
        timeout: Duration,
    ) -> Result<(u16, Bytes), Failure> {
        let (uri, request) = write(method, url, content_type, headers, body)?;
        let (status, _, body) = self.exchange_within(timeout, &uri, &request, false).await?;
        Ok((status, body))
    }

    async fn exchange_within(
        &self,
        timeout: Duration,
        uri: &Uri,
        request: &[u8],
        wants_headers: bool,
    ) -> Result<(u16, HeaderMap, Bytes), Failure> {
        // Boxed: rare and large.
        let sent = Box::pin(self.exchange(uri, request, false, wants_headers));
        match tokio::time::timeout(timeout, sent).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(
                ErrorCode::IntegrationTimeout,
                Diagnosis::INTEGRATION_TIMEOUT,
                format!("no answer within {} s", timeout.as_secs_f64()),
            )),
        }
    }

    /// Status, headers and body of a request that is ready to leave, in its backend's turn. The caller sets the time
    /// limit.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection that it uses.
    pub(crate) async fn send(
        &self,
        uri: &Uri,
        request: &[u8],
        method: &Method,
        max_parallel: usize,
    ) -> Result<(u16, HeaderMap, Bytes), Failure> {
        let turn = self.lanes.enter(Origin::of(uri), max_parallel, limits::OVERLOAD_WAIT).await;
        let _turn = turn.map_err(|busy| overloaded(busy, max_parallel))?;
        self.exchange(uri, request, method == Method::HEAD, true).await
    }

    async fn exchange(
        &self,
        uri: &Uri,
        request: &[u8],
        is_head: bool,
        wants_headers: bool,
    ) -> Result<(u16, HeaderMap, Bytes), Failure> {
        let origin = Origin::of(uri);
        loop {
            let pooled = self.take(origin, Instant::now());
            let is_reused = pooled.is_some();
            let mut stream = match pooled {
                Some(stream) => stream,
                None => self.dial(origin).await.map_err(|error| no_connection(&error))?,
            };
            let mut reader = AnswerReader::new(is_head, wants_headers);
            match exchange(&mut stream, request, &mut reader).await {
                Ok(is_reusable) => {
                    if is_reusable {
                        self.put(origin, stream, Instant::now());
                    }
                    let received = reader.into_received();
                    return Ok((received.status, received.headers, Bytes::from(received.body)));
                }
                // The backend had closed it, and no byte of the request has left.
                Err(Broken::Unsent(_)) if is_reused => {}
                Err(error) => return Err(no_answer(&error, &reader, is_reused)),
            }
        }
    }
}

/// A request without anything of a stage in it, and where it goes.
fn write(
    method: &str,
    url: &str,
    content_type: &str,
    headers: &[(HeaderName, HeaderValue)],
    body: &[u8],
) -> Result<(Uri, Vec<u8>), Failure> {
    let invalid = || {
        Failure::new(
            ErrorCode::Misconfigured,
            Diagnosis::INTEGRATION_MISSING,
            "the address is not a valid one",
        )
    };
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let authority = uri.authority().ok_or_else(invalid)?;
    let mut request = Vec::with_capacity(512 + body.len());
    // An address without a path has one in the request line: `/`.
    let _ = write!(request, "{method} {}", uri.path());
    if let Some(query) = uri.query() {
        let _ = write!(request, "?{query}");
    }
    let _ = write!(request, " HTTP/1.1\r\nHost: {authority}\r\nAccept: application/json\r\n");
    if !headers.iter().any(|(name, _)| *name == USER_AGENT) {
        request.extend_from_slice(b"User-Agent: Tidegate\r\n");
    }
    for (name, value) in headers {
        let _ = write!(request, "{name}: ");
        // Checked when it was made: no line end is in it.
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    if !body.is_empty() {
        let _ = write!(request, "Content-Type: {content_type}\r\n");
    }
    if method != "GET" {
        let _ = write!(request, "Content-Length: {}\r\n", body.len());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    Ok((uri, request))
}
