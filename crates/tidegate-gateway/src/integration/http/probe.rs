//! A probe of a backend: a request as an event would send it, marked, over a connection of its own.
//!
//! It carries the id of a connection that never existed, and nobody's cookie or token, so that a backend which checks who
//! calls refuses it before it writes anything. What it means is for others to say.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use tidegate_core::context::{ConnectionFacts, Event, EventKind};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::settings::Settings;
use tidegate_core::snapshot::{HttpIntegration, IntegrationKind, Stage, UriTemplate};

use super::answer_reader::AnswerReader;
use super::dial::{DialError, Origin};
use super::key_set::FetchedKeySet;
use super::pool::{Broken, exchange};
use super::{build, no_answer, no_connection};
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::integration::Call;

/// What to send, and where.
#[derive(Debug, Clone, Copy)]
pub struct BackendProbe<'a> {
    /// The stage whose settings and secrets count.
    pub stage: &'a Stage,
    /// The route whose integration counts.
    pub route_key: &'a str,
    /// Scheme, host, port and path to use; the query is that of the integration.
    pub url: &'a str,
    /// As a handshake is asked about; otherwise as a message is sent.
    pub is_connect: bool,
    /// Headers that a client would have sent.
    pub headers: &'a HeaderMap,
    /// Marks of the probe, written as they are.
    pub marks: &'a [(&'static str, String)],
    /// Only connect, send nothing.
    pub connects_only: bool,
    /// Limit of the whole.
    pub timeout: Duration,
}

/// What a backend answered to a probe.
#[derive(Clone)]
pub struct BackendAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Headers that were sent, with their values. Secrets of the policy are among them.
    pub sent: Vec<(String, Vec<u8>)>,
    /// From the first step to the end.
    pub duration: Duration,
}

impl fmt::Debug for BackendAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Why a probe got no answer.
#[derive(Debug, Clone)]
pub struct BackendFailure {
    /// Why.
    pub diagnosis: Diagnosis,
    /// For the operator; no address, no payload.
    pub detail: String,
    /// TLS was expected, and something else came.
    pub speaks_no_tls: bool,
    /// From the first step to the failure.
    pub duration: Duration,
}

/// The id of a connection that no gateway ever issues: it is from 1970.
pub fn reserved_connection_id() -> ConnectionId {
    ConnectionId::new(0, 0, 0, 0)
}

impl Gateway {
    /// Sends a probe. Answers nothing when only a connection was wanted.
    ///
    /// # Errors
    /// [`BackendFailure`], also when the route has no HTTP integration or the address is none.
    ///
    /// # Cancel safety
    /// Dropping the future drops its connection.
    pub async fn probe_backend(
        &self,
        probe: BackendProbe<'_>,
    ) -> Result<Option<BackendAnswer>, BackendFailure> {
        let started = Instant::now();
        let failure = |diagnosis, detail: &str, speaks_no_tls| BackendFailure {
            diagnosis,
            detail: detail.to_owned(),
            speaks_no_tls,
            duration: started.elapsed(),
        };
        let probing = Box::pin(self.send_probe(probe, started, &failure));
        tokio::time::timeout(probe.timeout, probing).await.unwrap_or_else(|_| {
            Err(failure(
                Diagnosis::INTEGRATION_TIMEOUT,
                &format!("no answer within {} ms", probe.timeout.as_millis()),
                false,
            ))
        })
    }

    /// Fetches a key set, and leaves those in use as they are.
    ///
    /// # Errors
    /// Why there is none, for the operator.
    pub async fn probe_key_set(&self, url: &str) -> Result<FetchedKeySet, String> {
        self.backends.key_set(url).await
    }

    /// Settings of an API, or of all where it has none of its own.
    pub fn settings_of(&self, api_id: &str) -> Arc<Settings> {
        self.in_force().node.settings.get(api_id)
    }

    /// 32 hexadecimal digits unlike those of every other call; not secret.
    pub fn nonce(&self) -> String {
        format!("{:016x}{:016x}", self.next_random(), self.next_random())
    }

    async fn send_probe(
        &self,
        probe: BackendProbe<'_>,
        started: Instant,
        failure: &(impl Fn(Diagnosis, &str, bool) -> BackendFailure + Sync),
    ) -> Result<Option<BackendAnswer>, BackendFailure> {
        let misconfigured = |detail: &str| failure(Diagnosis::INTEGRATION_MISSING, detail, false);
        let route =
            probe.stage.deployment.as_ref().and_then(|deployment| deployment.routes.get(probe.route_key));
        let Some(IntegrationKind::Http(backend)) = route.map(|route| &route.integration.kind) else {
            return Err(misconfigured("the route has no HTTP integration"));
        };
        let own = backend.uri.resolve(&probe.stage.variables, &|_| Some("x".to_owned()));
        let query =
            own.ok().and_then(|uri: Uri| uri.query().map(|query| format!("?{query}"))).unwrap_or_default();
        let uri = UriTemplate::parse(&format!("{}{query}", probe.url))
            .map_err(|error| misconfigured(&error.to_string()))?;
        let backend = HttpIntegration {
            uri,
            method: backend.method.clone(),
            mappings: backend.mappings.clone(),
            server_name: backend.server_name.clone(),
        };
        let event = self.probe_event(&probe);
        let call = Call {
            reads_headers: false,
            event: &event,
            stage: probe.stage,
            headers: probe.is_connect.then_some(probe.headers),
            spelling: None,
            query: "",
            body: if probe.is_connect { "" } else { "{}" },
            is_base64: false,
            payload: None,
            is_json: true,
            forwarded_for: None,
            client_ref: None,
            log: None,
        };
        let mut request = build(self, &backend, &call).map_err(|error| misconfigured(&error.detail))?;
        mark(&mut request.bytes, probe.marks);
        let sent = headers_of(&request.bytes);
        let origin = Origin::of(&request.uri);
        let mut stream = self.backends.dial(origin).await.map_err(|error| {
            let DialError::Connect(cause) = &error else {
                return told(failure, &no_connection(&error), false);
            };
            let is_plain = is_no_tls(cause);
            told(failure, &no_connection(&error), is_plain)
        })?;
        if probe.connects_only {
            return Ok(None);
        }
        let mut reader = AnswerReader::new(backend.method == Method::HEAD, true);
        if let Err(error) = exchange(&mut stream, &request.bytes, &mut reader).await {
            let is_plain = matches!(&error, Broken::Unsent(cause) | Broken::Lost(cause) if is_no_tls(cause));
            return Err(told(failure, &no_answer(&error, &reader, false), is_plain));
        }
        let received = reader.into_received();
        Ok(Some(BackendAnswer {
            status: received.status,
            headers: received.headers,
            body: Bytes::from(received.body),
            sent,
            duration: started.elapsed(),
        }))
    }

    fn probe_event(&self, probe: &BackendProbe<'_>) -> Event {
        let now = now_millis();
        let connection = ConnectionFacts {
            connection_id: reserved_connection_id(),
            api_id: Arc::clone(&probe.stage.api_id),
            stage: Arc::clone(&probe.stage.name),
            domain_name: "localhost".into(),
            source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            user_agent: None,
            is_secure: true,
            client_port: 443,
            connected_at: now,
        };
        let request_id = self.request_id(now);
        let kind = match probe.is_connect {
            true => EventKind::Connect,
            false => EventKind::Message { message_id: request_id },
        };
        Event {
            connection: Arc::new(connection),
            request_id,
            route_key: probe.route_key.into(),
            request_time: now,
            kind,
            session: None,
            authorized: None,
        }
    }
}

fn told(
    failure: &impl Fn(Diagnosis, &str, bool) -> BackendFailure,
    cause: &crate::integration::Failure,
    speaks_no_tls: bool,
) -> BackendFailure {
    failure(cause.diagnosis, &cause.detail, speaks_no_tls)
}

/// TLS was expected, and bytes came that are none.
fn is_no_tls(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(_)))
}

/// Writes the marks behind the request line.
fn mark(request: &mut Vec<u8>, marks: &[(&'static str, String)]) {
    let Some(end) = request.windows(2).position(|window| window == b"\r\n") else { return };
    let lines: String = marks.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    request.splice(end + 2..end + 2, lines.into_bytes());
}

/// The headers of a request as it is written.
fn headers_of(request: &[u8]) -> Vec<(String, Vec<u8>)> {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(request.len());
    let lines = request[..end].split(|byte| *byte == b'\n').skip(1);
    let header = |line: &[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&line[..colon]).ok()?.to_owned();
        Some((name, line[colon + 1..].trim_ascii().to_vec()))
    };
    lines.filter_map(header).collect()
}
