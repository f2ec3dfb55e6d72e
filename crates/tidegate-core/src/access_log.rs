//! Access logs: one line for each event, made of a template with `$context` variables.
//!
//! Names and forms are those of *Setting up CloudWatch logging for WebSocket APIs* in the API Gateway developer guide.
//! A value never starts a line of its own, because clients choose user agents and close reasons.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::context::{Authorized, ClfTime, SessionFacts, authorizer_variable, identity_variable};
use crate::error::ErrorCode;
use crate::id::{ConnectionId, RequestId};
use crate::json;

/// What stands for a variable that an event does not have.
const UNDEFINED: &str = "-";

/// A template, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    parts: Vec<Part>,
    /// The template starts with `{`.
    is_json: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// A name behind `$context.`.
    Variable(Box<str>),
}

/// The template, or what belongs to it, cannot be used. Texts are those of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Destination or format is missing.
    #[error("Access Log value missing. Expected destinationArn and format.")]
    Missing,
    /// A line break within it.
    #[error("Invalid access log format: it must be a single line")]
    SeveralLines,
    /// Nobody could find the line of a request.
    #[error("Invalid access log format: it must contain $context.requestId or $context.extendedRequestId")]
    NoRequestId,
}

impl Format {
    /// Checks and compiles a template.
    ///
    /// # Errors
    /// [`FormatError`] when a line of it could not be told from another, or not be found.
    pub fn parse(template: &str) -> Result<Self, FormatError> {
        let line = template.trim_end_matches(['\r', '\n']);
        if line.contains(['\r', '\n']) {
            return Err(FormatError::SeveralLines);
        }
        let format = Self::compile(line);
        let names = |part: &Part| matches!(part, Part::Variable(name) if matches!(&**name, "requestId" | "extendedRequestId"));
        match format.parts.iter().any(names) {
            true => Ok(format),
            false => Err(FormatError::NoRequestId),
        }
    }

    fn compile(line: &str) -> Self {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = line;
        while let Some(at) = rest.find('$') {
            text.push_str(&rest[..at]);
            let from_dollar = &rest[at..];
            match variable(from_dollar) {
                Some((name, length)) => {
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text).into()));
                    }
                    parts.push(Part::Variable(name.into()));
                    rest = &from_dollar[length..];
                }
                None => {
                    text.push('$');
                    rest = &from_dollar[1..];
                }
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        Self { parts, is_json: line.trim_start().starts_with('{') }
    }

    /// The line of one event, without a line break. `escapes`: `logs.escape`. Then quotes, backslashes and control
    /// characters of values are escaped as JSON has it where the template starts with `{`, and control characters in every
    /// other. Line breaks never get out as such.
    pub fn render(&self, record: &Record<'_>, escapes: bool) -> String {
        let escaping = match (escapes, self.is_json) {
            (true, true) => Escaping::Json,
            (true, false) => Escaping::Controls,
            (false, _) => Escaping::LineBreaks,
        };
        // A usual line is about so long; growing would copy it several times.
        let mut line = String::with_capacity(512);
        for part in &self.parts {
            match part {
                Part::Text(text) => line.push_str(text),
                // The one value that is quoted already.
                Part::Variable(name) if &**name == "error.messageString" => match record.variable(name) {
                    Some(Variable::Text(message)) => json::quote(&message, &mut line),
                    _ => json::quote(UNDEFINED, &mut line),
                },
                Part::Variable(name) => {
                    let from = line.len();
                    if let Some(value) = record.variable(name) {
                        value.write(&mut line, escaping);
                    }
                    if line.len() == from {
                        line.push_str(UNDEFINED);
                    }
                }
            }
        }
        line
    }
}

/// The variable at the begin of a text: its name and the bytes that it takes.
fn variable(text: &str) -> Option<(&str, usize)> {
    if let Some(inner) = text.strip_prefix("${context.") {
        let (name, _) = inner.split_once('}')?;
        let is_name = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        return is_name.then_some((name, "${context.}".len() + name.len()));
    }
    let inner = text.strip_prefix("$context.")?;
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut length = inner.bytes().take_while(|b| is_word(*b)).count();
    if length == 0 {
        return None;
    }
    // A dot belongs to the name only where the name goes on behind it: `$context.status.` ends a sentence.
    while let Some(more) = inner[length..].strip_prefix('.') {
        match more.bytes().take_while(|b| is_word(*b)).count() {
            0 => break,
            n => length += 1 + n,
        }
    }
    Some((&inner[..length], "$context.".len() + length))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escaping {
    /// Quotes, backslashes and control characters.
    Json,
    /// Control characters.
    Controls,
    /// What would start another line.
    LineBreaks,
}

/// Value of a variable. Only texts can hold what has to be escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable<'a> {
    /// A name, or what somebody else has said.
    Text(Cow<'a, str>),
    /// A status, milliseconds.
    Number(u64),
    /// The client's.
    Address(IpAddr),
    /// As in access logs of web servers; milliseconds since 1970.
    Time(u64),
    /// Of a connection.
    Connection(ConnectionId),
    /// Of a request, or of a message.
    Request(RequestId),
}

impl Variable<'_> {
    fn write(&self, line: &mut String, escaping: Escaping) {
        // Writing into a string cannot fail.
        let _ = match self {
            Self::Text(text) => {
                push_escaped(line, text, escaping);
                Ok(())
            }
            Self::Number(number) => write!(line, "{number}"),
            Self::Address(address) => write!(line, "{address}"),
            Self::Time(millis) => write!(line, "{}", ClfTime(*millis)),
            Self::Connection(id) => write!(line, "{id}"),
            Self::Request(id) => write!(line, "{id}"),
        };
    }
}

fn push_escaped(line: &mut String, value: &str, escaping: Escaping) {
    let is_plain = |b: u8| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\');
    if value.bytes().all(is_plain) {
        line.push_str(value);
        return;
    }
    // Readers of lines end them at these, too.
    let breaks = |c: char| matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    for c in value.chars() {
        match c {
            '"' | '\\' if escaping == Escaping::Json => {
                line.push('\\');
                line.push(c);
            }
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' if escaping != Escaping::LineBreaks => line.push_str("\\t"),
            c if breaks(c) || (escaping != Escaping::LineBreaks && c.is_control()) => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
}

/// The target that a `destinationArn` names: what follows `:log-group:`, or the last part of another ARN.
pub fn target_name(destination_arn: &str) -> &str {
    match destination_arn.split_once(":log-group:") {
        Some((_, name)) => name.split(':').next().unwrap_or_default(),
        None => destination_arn.rsplit([':', '/']).next().unwrap_or_default(),
    }
}

/// How one phase of an authorization ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Phase {
    /// Status that it came to.
    pub status: Option<u16>,
    /// Milliseconds.
    pub latency_ms: Option<u64>,
    /// Why not; for operators, without values that a client sent.
    pub error: Option<String>,
}

/// A call of an integration, or of an authorizer's function.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Called {
    /// What backend or function answered.
    pub status: Option<u16>,
    /// What the Invoke API answered; functions only.
    pub service_status: Option<u16>,
    /// Milliseconds from the decision to call to the last byte of the answer.
    pub latency_ms: Option<u64>,
    /// The runtime's id of the call.
    pub request_id: Option<String>,
    /// Why there is no answer; for operators.
    pub error: Option<String>,
}

/// A call of an authorizer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthorizerCall {
    /// What it came to, and how long that took.
    pub phase: Phase,
    /// The call of its function.
    pub called: Called,
}

/// What the gateway told the client in place of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed<'a> {
    /// As the client read it.
    pub message: &'a str,
    /// Of the response types of the service.
    pub response_type: &'a str,
    /// What a model found wrong with a message.
    pub validation: Option<&'a str>,
}

impl Failed<'_> {
    /// The row of a failure; none where an integration's refusal was passed on, which is its answer and no error of the
    /// gateway.
    pub fn of(code: ErrorCode) -> Option<Failed<'static>> {
        let row = code.row();
        (code != ErrorCode::BackendRefused).then_some(Failed {
            message: row.message,
            response_type: row.response_type,
            validation: None,
        })
    }
}

/// All that log variables need of one event. What an event does not have is absent and prints as `-`.
#[derive(Debug, Clone, Default)]
pub struct Record<'a> {
    /// Empty before an API was found.
    pub api_id: &'a str,
    /// Empty before a stage was found.
    pub stage: &'a str,
    /// Host that the client used.
    pub domain_name: Option<&'a str>,
    /// Once it exists.
    pub connection_id: Option<ConnectionId>,
    /// Milliseconds since 1970.
    pub connected_at: Option<u64>,
    /// `CONNECT`, `MESSAGE`, `DISCONNECT` or `CONNECTION_API`.
    pub event_type: &'static str,
    /// Once a route is chosen.
    pub route_key: Option<&'a str>,
    /// MESSAGE only.
    pub message_id: Option<RequestId>,
    /// Also `extendedRequestId`.
    pub request_id: Option<RequestId>,
    /// Milliseconds since 1970.
    pub request_time: u64,
    /// What was answered.
    pub status: Option<u16>,
    /// DISCONNECT only: code and reason.
    pub disconnect: Option<(u16, &'a str)>,
    /// Address of the client.
    pub source_ip: Option<IpAddr>,
    /// The client's own.
    pub user_agent: Option<&'a str>,
    /// What the handshake's authorization established.
    pub authorized: Option<&'a Authorized>,
    /// What the gateway itself knows of the client.
    pub session: Option<&'a SessionFacts>,
    /// What the gateway told in place of an answer.
    pub failed: Option<Failed<'a>>,
    /// The call of the integration.
    pub integration: Option<&'a Called>,
    /// The call of the authorizer.
    pub authorizer: Option<&'a AuthorizerCall>,
    /// Whether who was known may: policies of signatures and keys.
    pub authorize: Option<&'a Phase>,
    /// Who it is: signatures, tokens.
    pub authenticate: Option<&'a Phase>,
}

impl Record<'_> {
    /// Value of `$context.{name}`; nothing for what this event does not have. Of an API key only the id.
    pub fn variable(&self, name: &str) -> Option<Variable<'_>> {
        match name {
            "apiId" => Some(text(self.api_id)),
            "stage" => Some(text(self.stage)),
            "domainName" => Some(text(self.domain_name?)),
            "connectionId" => self.connection_id.map(Variable::Connection),
            "connectedAt" => Some(number(self.connected_at?)),
            "eventType" => Some(text(self.event_type)),
            "routeKey" => Some(text(self.route_key?)),
            "messageId" => self.message_id.map(Variable::Request),
            "messageDirection" => Some(text("IN")),
            "requestId" | "extendedRequestId" => self.request_id.map(Variable::Request),
            "requestTime" => Some(Variable::Time(self.request_time)),
            "requestTimeEpoch" => Some(number(self.request_time)),
            "status" => Some(number(self.status?)),
            "disconnectStatusCode" => Some(number(self.disconnect?.0)),
            "disconnectReason" => Some(text(self.disconnect?.1)),
            "error.message" | "error.messageString" => Some(text(self.failed?.message)),
            "error.responseType" => Some(text(self.failed?.response_type)),
            "error.validationErrorString" => Some(text(self.failed?.validation?)),
            "integrationErrorMessage" => self.of_integration("error"),
            "integrationStatus" => self.of_integration("integrationStatus"),
            "integrationLatency" => self.of_integration("latency"),
            "awsEndpointRequestId" => self.of_integration("requestId"),
            "identity.sourceIp" => self.source_ip.map(Variable::Address),
            "identity.userAgent" => Some(text(self.user_agent?)),
            // The key itself is a secret of its owner.
            "identity.apiKey" => identity_variable(self.authorized?, "apiKeyId").map(owned),
            _ => {
                let (group, name) = name.split_once('.')?;
                match group {
                    "integration" => self.of_integration(name),
                    "identity" => identity_variable(self.authorized?, name).map(owned),
                    "authorizer" => self.of_authorizer(name),
                    "authorize" => of_phase(self.authorize?, name),
                    "authenticate" => of_phase(self.authenticate?, name),
                    _ => None,
                }
            }
        }
    }

    fn of_integration(&self, name: &str) -> Option<Variable<'_>> {
        of_call(self.integration?, name)
    }

    fn of_authorizer(&self, name: &str) -> Option<Variable<'_>> {
        let of_its_call = self.authorizer.and_then(|call| match name {
            "error" => call.phase.error.as_deref().or(call.called.error.as_deref()).map(text),
            "latency" => of_phase(&call.phase, name),
            "status" => of_phase(&call.phase, name),
            "integrationLatency" => of_call(&call.called, "latency"),
            "integrationStatus" | "requestId" => of_call(&call.called, name),
            _ => None,
        });
        of_its_call.or_else(|| authorizer_variable(self.authorized, self.session, name).map(owned))
    }
}

fn text(value: &str) -> Variable<'_> {
    Variable::Text(Cow::Borrowed(value))
}

fn owned(value: String) -> Variable<'static> {
    Variable::Text(Cow::Owned(value))
}

fn number(value: impl Into<u64>) -> Variable<'static> {
    Variable::Number(value.into())
}

fn of_phase<'a>(phase: &'a Phase, name: &str) -> Option<Variable<'a>> {
    match name {
        "error" => phase.error.as_deref().map(text),
        "latency" => phase.latency_ms.map(number),
        "status" => phase.status.map(number),
        _ => None,
    }
}

fn of_call<'a>(call: &'a Called, name: &str) -> Option<Variable<'a>> {
    match name {
        "error" => call.error.as_deref().map(text),
        "latency" => call.latency_ms.map(number),
        "requestId" => call.request_id.as_deref().map(text),
        "status" => call.status.map(number),
        // Without a service in between the backend's own.
        "integrationStatus" => call.service_status.or(call.status).map(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
