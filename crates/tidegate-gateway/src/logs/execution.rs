//! The lines of execution logs, in the words of the real service.
//!
//! Payloads and headers stand in lines only where the owner of the API has set `dataTraceEnabled`; credentials are masked
//! even then.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::context::{Event, EventKind};
use tidegate_core::error::ErrorCode;
use tidegate_core::function::Invoked;
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::log::{
    Execution, ExecutionLine, Level, StageLogs, execution_line, is_credential, masked, masked_event,
    masked_query,
};

use super::EventLog;
use crate::gateway::Gateway;

/// Writes the lines of one event.
pub(super) struct Writer<'a> {
    gateway: &'a Gateway,
    log: &'a EventLog,
    route_key: Option<&'a str>,
    connection_id: Option<ConnectionId>,
    request_id: RequestId,
    execution: Execution,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        gateway: &'a Gateway,
        log: &'a EventLog,
        route_key: Option<&'a str>,
        connection_id: Option<ConnectionId>,
        request_id: RequestId,
    ) -> Self {
        let execution = log.logs.execution(route_key);
        Self { gateway, log, route_key, connection_id, request_id, execution }
    }

    pub(super) fn of_event(gateway: &'a Gateway, log: &'a EventLog, event: &'a Event) -> Self {
        let route_key = Some(&*event.route_key).filter(|key| !key.is_empty());
        Self::new(gateway, log, route_key, Some(event.connection.connection_id), event.request_id)
    }

    /// Whether lines of a route have headers and payloads.
    pub(super) fn shows_payloads(logs: &StageLogs, route_key: &str) -> bool {
        let execution = logs.execution(Some(route_key));
        execution.level >= Level::Info && execution.has_trace
    }

    fn writes(&self, level: Level) -> bool {
        self.execution.level >= level
    }

    fn has_trace(&self) -> bool {
        self.writes(Level::Info) && self.execution.has_trace
    }

    fn line(&self, level: Level, text: fmt::Arguments<'_>) {
        if self.writes(level) {
            self.write(level, false, &text.to_string());
        }
    }

    fn info(&self, text: fmt::Arguments<'_>) {
        self.line(Level::Info, text);
    }

    fn trace(&self, text: impl FnOnce() -> String) {
        if self.has_trace() {
            self.write(Level::Info, true, &text());
        }
    }

    fn write(&self, level: Level, is_trace: bool, text: &str) {
        let request_id = self.request_id.to_string();
        let line = execution_line(&request_id, text, self.log.settings.logs.line_bytes);
        self.gateway.config.logs.execution(&ExecutionLine {
            api_id: &self.log.api_id,
            stage: &self.log.stage,
            route_key: self.route_key,
            connection_id: self.connection_id,
            request_id: &request_id,
            level,
            is_trace,
            line: &line,
        });
    }

    fn is_first(&self) -> bool {
        !self.log.is_begun.swap(true, Ordering::Relaxed)
    }

    /// The first lines of an event, once.
    pub(super) fn begin(&self, event: &Event) {
        if !self.is_first() || !self.writes(Level::Info) {
            return;
        }
        let connection = &event.connection;
        self.started(self.route_key);
        match &event.kind {
            EventKind::Connect => {
                self.connecting(Some(connection.source_ip), connection.user_agent.as_deref());
            }
            EventKind::Message { .. } => self.info(format_args!(
                "WebSocket API [{}] received message from client [Connection Id: {}].",
                connection.api_id, connection.connection_id
            )),
            EventKind::Disconnect { .. } => {}
        }
    }

    /// The first lines of a handshake that is refused, unless they have been written.
    pub(super) fn begin_handshake(&self, address: Option<IpAddr>, user_agent: Option<&str>) {
        if self.is_first() {
            self.started(self.route_key);
            self.connecting(address, user_agent);
        }
    }

    /// The first lines of a management call.
    pub(super) fn begin_request(&self) {
        if self.is_first() {
            self.started(None);
        }
    }

    fn started(&self, route_key: Option<&str>) {
        self.info(format_args!("Extended Request Id: {}", self.request_id));
        self.info(format_args!("Starting execution for request: {}", self.request_id));
        if let Some(route_key) = route_key {
            self.info(format_args!("WebSocket Request Route: [{route_key}]"));
        }
    }

    fn connecting(&self, address: Option<IpAddr>, user_agent: Option<&str>) {
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        self.info(format_args!(
            "Client [UserAgent: {}, SourceIp: {address}] is connecting to WebSocket API [{}].",
            user_agent.unwrap_or_default(),
            self.log.api_id
        ));
    }

    /// A backend is about to be asked.
    pub(super) fn sending(&self, uri: &str, head: &[u8], body: &str) {
        if !self.writes(Level::Info) {
            return;
        }
        // The query of a handshake goes to the backend, and may hold anything.
        let (bare, query) = uri.split_once('?').map_or((uri, None), |(bare, query)| (bare, Some(query)));
        let shown = match query {
            Some(query) if self.has_trace() => format!("{bare}?{}", masked_query(query)),
            _ => bare.to_owned(),
        };
        self.info(format_args!("Endpoint request URI: {shown}"));
        self.trace(|| format!("Endpoint request headers: {{{}}}", headers_of_head(head)));
        self.trace(|| format!("Endpoint request body after transformations: {}", masked_event(body)));
        self.info(format_args!("Sending request to {shown}"));
    }

    /// A backend has answered.
    pub(super) fn received(&self, status: u16, known: &http::HeaderMap, body: &[u8], duration: Duration) {
        self.info(format_args!(
            "Received response. Status: {status}, Integration latency: {} ms",
            duration.as_millis()
        ));
        self.trace(|| format!("Endpoint response headers: {{{}}}", headers(known)));
        self.trace(|| {
            format!("Endpoint response body before transformations: {}", String::from_utf8_lossy(body))
        });
    }

    /// What the Invoke API says of a function's call. Of an error only its kind, unless payloads are wanted: what a function
    /// throws may hold what it was given.
    pub(super) fn invoked(&self, invoked: &Invoked) {
        let request_id = invoked.request_id.as_deref().unwrap_or("-");
        if invoked.request_id.is_some() {
            self.info(format_args!("AWS Integration Endpoint RequestId : {request_id}"));
        }
        let Some(kind) = &invoked.function_error else { return };
        let error: serde_json::Value = serde_json::from_slice(&invoked.payload).unwrap_or_default();
        let member = if self.execution.has_trace { "errorMessage" } else { "errorType" };
        self.line(
            Level::Error,
            format_args!(
                "Lambda execution failed with status {} due to customer function error: {}. Lambda request id: {request_id}",
                invoked.status,
                error.get(member).and_then(|text| text.as_str()).unwrap_or(kind)
            ),
        );
    }

    /// The gateway has an answer.
    pub(super) fn completed(&self, status: u16, body: Option<&Bytes>) {
        if let Some(body) = body {
            self.trace(|| {
                format!("Method response body after transformations: {}", String::from_utf8_lossy(body))
            });
        }
        self.info(format_args!("Method completed with status: {status}"));
    }

    /// What went wrong. `detail` is for operators: names and numbers.
    pub(super) fn failed(&self, code: ErrorCode, detail: &str) {
        if !self.writes(Level::Error) {
            return;
        }
        let row = code.row();
        let is_configuration = row.response_type.ends_with("CONFIGURATION_ERROR");
        match (is_configuration, detail.is_empty()) {
            (true, _) => self.line(
                Level::Error,
                format_args!(
                    "Execution failed due to configuration error: {}",
                    super::detail_or(detail, row.message)
                ),
            ),
            (false, true) => self.line(Level::Error, format_args!("Execution failed: {}", row.message)),
            (false, false) => {
                self.line(Level::Error, format_args!("Execution failed: {}: {detail}", row.message));
            }
        }
    }

    /// What the client is told in place of an answer.
    pub(super) fn gateway_response(&self, code: ErrorCode, status: u16, body: impl FnOnce() -> String) {
        if !self.writes(Level::Error) {
            return;
        }
        self.line(
            Level::Error,
            format_args!("Gateway response type: {} with status code: {status}", code.row().response_type),
        );
        self.line(Level::Error, format_args!("Gateway response body: {}", body()));
    }

    pub(super) fn connected(&self, event: &Event) {
        self.info(format_args!(
            "Client [Connection Id: {}] connected to API [{}] successfully.",
            event.connection.connection_id, event.connection.api_id
        ));
    }

    pub(super) fn message_sent(&self, event: &Event, status: u16) {
        self.info(format_args!(
            "Message from client [Connection Id: {}] sent to API [{}] with response status code [{status}].",
            event.connection.connection_id, event.connection.api_id
        ));
    }

    pub(super) fn disconnected(&self, event: &Event, status: u16) {
        let EventKind::Disconnect { status_code, reason } = &event.kind else { return };
        self.info(format_args!(
            "Client [Connection Id: {}] disconnected from API [{}] with integration response status code [{status}]. Close reason: [{status_code}: {reason}]",
            event.connection.connection_id, event.connection.api_id
        ));
    }
}

/// `k=v, k=v` of the head of an HTTP/1.1 request.
fn headers_of_head(head: &[u8]) -> String {
    let head = String::from_utf8_lossy(head);
    let pairs = head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
    joined(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
}

fn headers(headers: &http::HeaderMap) -> String {
    let value = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    joined(headers.iter().map(|(name, known)| (name.as_str().to_owned(), value(known))))
}

fn joined(pairs: impl Iterator<Item = (String, String)>) -> String {
    let shown = |(name, value): (String, String)| match is_credential(&name) {
        true => format!("{name}={}", masked(&value)),
        false => format!("{name}={value}"),
    };
    pairs.map(shown).collect::<Vec<_>>().join(", ")
}
