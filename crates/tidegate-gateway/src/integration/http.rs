//! `HTTP_PROXY`: one event is one HTTP request.
//!
//! What is sent and why is in the header tables of the documentation. Redirects are not followed, bodies are
//! not touched, and no request is repeated after its first byte has left, except messages with `integration.retries`.

use std::borrow::Cow;
use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HeaderName;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use tidegate_auth::{Secret, SignedRequest, sign_backend_request};
use tidegate_core::context::{Event, EventKind, SessionFacts};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::journal::Facts;
use tidegate_core::limits;
use tidegate_core::mapping::{Inputs, Mapping, Target};
use tidegate_core::policy;
use tidegate_core::settings::UserAgent;
use tidegate_core::snapshot::{HttpIntegration, Stage};

use self::answer_reader::{AnswerReader, BadAnswer};
use self::dial::{DialError, Origin};
use self::lane::Busy;
pub(crate) use self::pool::Backends;
use self::pool::{Broken, exchange};
use super::{Answer, Call, Failure, answer};
use crate::gateway::Gateway;
use crate::logs;

mod answer_reader;
pub(super) mod dial;
pub(crate) mod key_set;
mod lane;
mod pool;
pub(crate) mod probe;
mod request;
pub(crate) mod retry;

pub(super) use self::retry::call_again;

/// Room for the head of a usual request, in bytes.
const USUAL_HEAD: usize = 768;

/// A request as it goes out.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Scheme and authority say where to.
    pub(super) uri: Uri,
    /// Head and body.
    pub(super) bytes: Vec<u8>,
}

/// How far a call has come, for whoever has to say why it failed.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Where to.
    uri: Option<Uri>,
    stage: Progress,
    is_reused: bool,
    connecting: Option<Duration>,
    first_byte: Option<Duration>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// No connection was wanted yet.
    #[default]
    Begun,
    /// The backend has as many calls as it may have.
    Queued,
    /// Name, TCP and TLS.
    Connecting,
    /// The request leaves, or the answer is awaited.
    Asking,
}

impl Trace {
    /// The limit of the whole call has passed.
    pub(super) fn timed_out(&self, limit: Duration) -> Failure {
        let diagnosis = match self.stage {
            Progress::Queued => Diagnosis::INTEGRATION_OVERLOAD,
            Progress::Connecting => Diagnosis::INTEGRATION_CONNECT_TIMEOUT,
            Progress::Begun | Progress::Asking => Diagnosis::INTEGRATION_TIMEOUT,
        };
        let limit = limit.as_millis() as u64;
        let detail = format!("no answer within {limit} ms");
        Failure::new(ErrorCode::IntegrationTimeout, diagnosis, detail)
            .with("limit", limit)
            .with("errorClass", "timeout")
    }

    /// Adds what is known.
    pub(super) fn tell(&self, facts: &mut Facts) {
        if let Some(uri) = &self.uri {
            facts.add("target", target(uri));
        }
        facts.add("reused", self.is_reused);
        facts.add_some("connectMs", self.connecting.map(millis));
        facts.add_some("firstByteMs", self.first_byte.map(millis));
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Scheme, host, port and path: what is behind them may be a client's.
pub(super) fn target(uri: &Uri) -> String {
    let origin = Origin::of(uri);
    let scheme = if origin.is_https { "https" } else { "http" };
    let brackets = if origin.host.contains(':') { ("[", "]") } else { ("", "") };
    format!("{scheme}://{}{}{}:{}{}", brackets.0, origin.host, brackets.1, origin.port, uri.path())
}

/// Calls the backend. The caller sets the time limit. `now`: when the call began.
///
/// # Cancel safety
/// Dropping the future drops the connection that it uses; nothing is put back half-read.
pub(super) async fn call(
    gateway: &Gateway,
    backend: &HttpIntegration,
    call: &Call<'_>,
    now: Instant,
    trace: &mut Trace,
) -> Result<Answer, Failure> {
    let is_connect = call.event.kind == EventKind::Connect;
    let request = build(gateway, backend, call)?;
    logs::sending_http(gateway, call, &request.uri, &request.bytes);
    let origin = Origin::of(&request.uri);
    trace.uri = Some(request.uri.clone());
    check_host(&gateway.in_force().node.settings.all.integration.allowed_hosts, origin.host)?;
    trace.stage = Progress::Queued;
    let limit = call.stage.settings.integration.max_parallel;
    let lanes = &gateway.backends.lanes;
    let _turn =
        lanes.enter(origin, limit, limits::OVERLOAD_WAIT).await.map_err(|busy| overloaded(busy, limit))?;
    let received = loop {
        let pooled = gateway.backends.take(origin, now);
        let is_reused = pooled.is_some();
        let mut stream = match pooled {
            Some(stream) => stream,
            None => {
                trace.stage = Progress::Connecting;
                let began = Instant::now();
                // Boxed: rare and large.
                let dialed = Box::pin(gateway.backends.dial(origin)).await;
                trace.connecting = Some(began.elapsed());
                dialed.map_err(|error| answer::explain_no_connection(no_connection(&error), origin))?
            }
        };
        trace.stage = Progress::Asking;
        trace.is_reused = is_reused;
        let wants_headers = is_connect || call.reads_headers || logs::shows_headers(call);
        let mut reader = AnswerReader::new(backend.method == Method::HEAD, wants_headers);
        let exchanged = exchange(&mut stream, &request.bytes, &mut reader).await;
        trace.first_byte = reader.first_taken_at().map(|at| at.saturating_duration_since(now));
        match exchanged {
            Ok(is_reusable) => {
                if is_reusable {
                    gateway.backends.put(origin, stream, Instant::now());
                }
                break reader.into_received();
            }
            // The backend had closed it, and no byte of the request has left.
            Err(Broken::Unsent(_)) if is_reused => {}
            Err(error) => return Err(no_answer(&error, &reader, is_reused)),
        }
    };
    let mut answer = Answer::new(received.status, Bytes::from(received.body));
    answer.headers = received.headers;
    logs::received(gateway, call, &answer, now.elapsed());
    if is_connect && answer.status < 300 {
        answer::note_accepted(call);
    }
    answer::judge(gateway, call, &request, &mut answer);
    Ok(answer)
}

/// Hosts may have been forbidden after an integration was made.
pub(crate) fn check_host(allowed: &[String], host: &str) -> Result<(), Failure> {
    let is_allowed = |known: &String| match known.strip_prefix("*.") {
        Some(parent) => {
            let at = host.len().saturating_sub(parent.len());
            host.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(parent)) && host[..at].ends_with('.')
        }
        None => known.eq_ignore_ascii_case(host),
    };
    if allowed.is_empty() || allowed.iter().any(is_allowed) {
        return Ok(());
    }
    let detail = "the host is not on the operator's list";
    Err(Failure::new(ErrorCode::IntegrationFailure, Diagnosis::INTEGRATION_HOST_NOT_ALLOWED, detail)
        .with("host", host)
        .with("allowedHosts", allowed.to_vec()))
}

fn overloaded(busy: Busy, limit: usize) -> Failure {
    let detail = format!("the backend has {limit} calls already, {} wait", busy.n_waiting);
    Failure::new(ErrorCode::BackendBusy, Diagnosis::INTEGRATION_OVERLOAD, detail)
        .with("limit", limit)
        .with("queue", busy.n_waiting)
        .with("waitMs", limits::OVERLOAD_WAIT.as_millis() as u64)
        .with("errorClass", "busy")
}

/// The request of one event. A client's header gives way to the gateway's of the same name, and both to a mapped
/// one; under some names only the gateway speaks.
fn build(gateway: &Gateway, backend: &HttpIntegration, call: &Call<'_>) -> Result<Outgoing, Failure> {
    let event = call.event;
    let facts = &event.connection;
    let settings = &call.stage.settings.integration;
    let is_connect = event.kind == EventKind::Connect;
    let is_message = matches!(event.kind, EventKind::Message { .. });
    let has_id = settings.default_headers.iter().any(|name| name.eq_ignore_ascii_case("connectionId"));

    let none = HeaderMap::new();
    let inputs = call.inputs(&none);
    let (uri, composed) = address(backend, call, &inputs)?;
    let (path, query) = match &composed {
        Some(target) => (target.path(), target.query()),
        None => (uri.path(), uri.query()),
    };

    let payload = call.payload.unwrap_or(call.body.as_bytes());
    let mut head = Head::new(&backend.mappings, USUAL_HEAD + payload.len());
    let _ = write!(head.bytes, "{} {path}", backend.method);
    if let Some(query) = query {
        let _ = write!(head.bytes, "?{query}");
    }
    head.bytes.extend_from_slice(b" HTTP/1.1\r\n");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    head.own("Host", settings.host_header.as_deref().unwrap_or(authority));

    head.overridable("User-Agent", |value| {
        let client_agent = facts.user_agent.as_deref();
        let _ = match (settings.user_agent, client_agent) {
            (UserAgent::Client, Some(agent)) => write!(value, "{agent}"),
            (UserAgent::Both, Some(agent)) if is_connect => write!(value, "{agent}"),
            (UserAgent::Both, agent) if !is_connect => {
                write!(value, "{}, AmazonAPIGateway_{}", agent.unwrap_or("Tidegate"), facts.api_id)
            }
            _ => write!(value, "AmazonAPIGateway_{}", facts.api_id),
        };
    });
    head.overridable("X-Forwarded-For", |value| match call.forwarded_for {
        Some(forwarded_for) => value.extend_from_slice(forwarded_for.as_bytes()),
        None => drop(write!(value, "{}", facts.source_ip)),
    });
    head.overridable("X-Real-Ip", |value| drop(write!(value, "{}", facts.source_ip)));
    let (scheme, port) = match (settings.forwarded_https, facts.is_secure) {
        (true, _) => ("https", 443),
        (false, true) => ("https", facts.client_port),
        (false, false) => ("http", facts.client_port),
    };
    head.overridable("X-Forwarded-Proto", |value| value.extend_from_slice(scheme.as_bytes()));
    head.overridable("X-Forwarded-Port", |value| drop(write!(value, "{port}")));
    head.own("Connection", "keep-alive");
    if is_message || call.payload.is_some() {
        let content_type = match call.payload.is_some()
            || call.is_json
            || serde_json::from_str::<serde::de::IgnoredAny>(call.body).is_ok()
        {
            true => "application/json",
            false => "text/plain; charset=utf-8",
        };
        head.overridable("Content-Type", |value| value.extend_from_slice(content_type.as_bytes()));
    }
    if has_id {
        head.overridable("Connectionid", |value| drop(write!(value, "{}", facts.connection_id)));
    }
    let backend_policy = call.stage.policy.as_ref().map(|policy| &policy.policy.backend);
    // A client's value beside it would spoil the gateway's own, or pass for it.
    let secret_header = backend_policy
        .filter(|policy| !policy.secrets.is_empty())
        .map(|policy| policy.secret_header.as_str());
    for (name, value) in call.headers.filter(|_| call.payload.is_none()).into_iter().flatten() {
        let is_said = name == http::header::USER_AGENT
            || (is_message && name == http::header::CONTENT_TYPE)
            || (has_id && name == "connectionid")
            || secret_header.is_some_and(|known| known.eq_ignore_ascii_case(name.as_str()));
        if is_forwarded(name) && !is_said && !head.is_mapped(name.as_str()) {
            head.title_cased(name.as_str());
            head.value(value.as_bytes());
        }
    }
    head.mapped(&inputs);
    if let Some(policy) = backend_policy {
        head.session(event, policy);
    }
    // Neither a client nor a mapping may speak for the gateway.
    head.own("X-Amzn-Apigateway-Api-Id", &facts.api_id);
    head.bytes.extend_from_slice(b"X-Amzn-Trace-Id: ");
    let _ = write!(head.bytes, "{}", gateway.trace_id(event.request_time));
    head.bytes.extend_from_slice(b"\r\n");
    if let Some(secret) = signing_secret(call.stage) {
        let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let id = facts.connection_id.to_string();
        let seconds = event.request_time / 1000;
        let method = backend.method.as_str();
        let request = SignedRequest { method, path_and_query: &target, connection_id: &id, body: payload };
        let signature = sign_backend_request(&Secret::new(secret), seconds, request);
        head.own("Tidegate-Signature", &signature);
    }
    let _ = write!(head.bytes, "Content-Length: {}\r\n\r\n", payload.len());
    let mut bytes = head.bytes;
    bytes.extend_from_slice(payload);
    Ok(Outgoing { uri, bytes })
}

/// The backend's address, and the target of the request where it is not that of the address: client query and
/// mapped parameters stand behind the address's own query.
pub(super) fn address(
    backend: &HttpIntegration,
    call: &Call<'_>,
    inputs: &Inputs<'_>,
) -> Result<(Uri, Option<PathAndQuery>), Failure> {
    let misconfigured =
        |detail: String| Failure::new(ErrorCode::Misconfigured, Diagnosis::INTEGRATION_MISSING, detail);
    // The last mapping of a name counts, as for headers.
    let path = |name: &str| {
        let is_its = |mapping: &&Mapping| matches!(&mapping.target, Target::Path(known) if known == name);
        let mapping = backend.mappings.iter().rev().find(is_its)?;
        mapping.source.evaluate(inputs)
    };
    let uri = backend
        .uri
        .resolve(&call.stage.variables, &path)
        .map_err(|error| misconfigured(error.to_string()))?;
    let mut mapped = String::new();
    for mapping in &backend.mappings {
        if let Target::Query(name) = &mapping.target
            && let Some(value) = mapping.source.evaluate(inputs)
        {
            let encode =
                |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
            let separator = if mapped.is_empty() { "" } else { "&" };
            mapped.extend([separator]);
            mapped.extend(encode(name));
            mapped.push('=');
            mapped.extend(encode(&value));
        }
    }
    // What a template makes is the whole request: the client's query string goes along only as it is mapped.
    let query = if call.payload.is_some() { "" } else { call.query };
    if query.is_empty() && mapped.is_empty() {
        return Ok((uri, None));
    }
    let mut target = uri.path().to_owned();
    let own = uri.query().unwrap_or_default();
    let parts = [own, query, &mapped].into_iter().filter(|part| !part.is_empty());
    for (n_before, part) in parts.enumerate() {
        target.push(if n_before == 0 { '?' } else { '&' });
        target.push_str(part);
    }
    // Also what keeps blanks and line ends out of the request line.
    let target = target.parse().map_err(|error: http::uri::InvalidUri| misconfigured(error.to_string()))?;
    Ok((uri, Some(target)))
}

/// The lines of a request as they are written.
struct Head<'a> {
    bytes: Vec<u8>,
    mappings: &'a [Mapping],
}

impl<'a> Head<'a> {
    fn new(mappings: &'a [Mapping], capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), mappings }
    }

    /// Whether a mapping speaks for this name: then nobody else does, even when its source is absent, because
    /// what a client sent under that name must not pass for it.
    fn is_mapped(&self, name: &str) -> bool {
        is_mappable(name) && self.mappings.iter().any(|mapping| sets_header(mapping, name))
    }

    /// A line that no mapping replaces; left out when the value is none of a header.
    fn own(&mut self, name: &str, value: &str) {
        self.line(name, |bytes| bytes.extend_from_slice(value.as_bytes()));
    }

    /// A line that a mapping may replace.
    fn overridable(&mut self, name: &str, write_value: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_mapped(name) {
            self.line(name, write_value);
        }
    }

    /// Values of the gateway's own are visible ASCII, or the line is left out.
    fn line(&mut self, name: &str, write_value: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b": ");
        let value_start = self.bytes.len();
        write_value(&mut self.bytes);
        let is_visible = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
        match self.bytes[value_start..].iter().all(is_visible) {
            true => self.bytes.extend_from_slice(b"\r\n"),
            false => self.bytes.truncate(start),
        }
    }

    /// A name as HTTP/1.1 programs are used to see it: `X-Request-Id`.
    fn title_cased(&mut self, name: &str) {
        let mut is_first = true;
        self.bytes.extend(name.bytes().map(|byte| {
            let byte = if is_first { byte.to_ascii_uppercase() } else { byte };
            is_first = byte == b'-';
            byte
        }));
    }

    /// What follows a name. The value has been checked.
    fn value(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Who the client is, and the secret by which the backend knows the gateway.
    fn session(&mut self, event: &Event, backend: &policy::Backend) {
        if let Some(SessionFacts { identity, channels }) = &event.session {
            for (name, value) in [("Tidegate-User", &identity.user), ("Tidegate-Session", &identity.session)]
            {
                if let Some(value) = value {
                    self.own(name, &visible(value));
                }
            }
            if !channels.is_empty() {
                self.own("Tidegate-Channels", channels);
            }
            self.own("Tidegate-Auth", identity.auth.as_str());
        }
        if let Some(secret) = backend.secrets.first() {
            self.overridable(&backend.secret_header, |value| value.extend_from_slice(secret.as_bytes()));
        }
    }

    /// The lines of the mappings, their names spelled as the mappings spell them. The last mapping of a name
    /// counts, however the others spell it.
    fn mapped(&mut self, inputs: &Inputs<'_>) {
        for (mapping_idx, mapping) in self.mappings.iter().enumerate() {
            let Target::Header(name) = &mapping.target else { continue };
            let mut later = self.mappings[mapping_idx + 1..].iter();
            if !is_mappable(name) || later.any(|mapping| sets_header(mapping, name)) {
                continue;
            }
            let is_text = |byte: u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
            if let Some(value) = mapping.source.evaluate(inputs)
                && value.bytes().all(is_text)
            {
                self.bytes.extend_from_slice(name.as_bytes());
                self.value(value.as_bytes());
            }
        }
    }
}

/// The secret that requests of a stage are signed with, where the policy wants that.
fn signing_secret(stage: &Stage) -> Option<&str> {
    let backend = &stage.policy.as_ref()?.policy.backend;
    backend.secrets.first().filter(|_| backend.sign).map(String::as_str)
}

/// An id as a header can carry it: what is not visible ASCII, and `%`, is percent-encoded.
fn visible(id: &str) -> std::borrow::Cow<'_, str> {
    const HIDDEN: percent_encoding::AsciiSet = percent_encoding::CONTROLS.add(b' ').add(b'%').add(b',');
    percent_encoding::utf8_percent_encode(id, &HIDDEN).into()
}

/// Whether a mapping speaks for this header, however both spell it.
fn sets_header(mapping: &Mapping, name: &str) -> bool {
    matches!(&mapping.target, Target::Header(known) if known.eq_ignore_ascii_case(name))
}

/// Hop-by-hop headers, which end at a gateway. Source: RFC 9110, section 7.6.1.
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// How all headers begin by which the gateway tells backends what it knows, in lower case.
const OWN_PREFIX: &str = "tidegate-";

/// Whether a client's handshake header goes to the backend. Names that the gateway itself speaks under do not,
/// whoever sent them.
fn is_forwarded(name: &HeaderName) -> bool {
    let name = name.as_str();
    !is_hop_by_hop(name)
        && !matches!(name, "host" | "content-length" | "x-real-ip" | "forwarded" | "expect")
        && !["x-forwarded-", "x-amzn-", OWN_PREFIX].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a mapping may set this header, however it is spelled.
pub(super) fn is_mappable(name: &str) -> bool {
    const RESERVED: [&str; 4] = ["host", "content-length", "x-amzn-trace-id", "x-amzn-apigateway-api-id"];
    let is_own = name.get(..OWN_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX));
    !is_own && !is_hop_by_hop(name) && !RESERVED.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Why there was no connection to send the request over.
fn no_connection(error: &DialError) -> Failure {
    use std::io::ErrorKind;
    let failure = |code, diagnosis, class: &'static str, detail: &'static str| {
        Failure::new(code, diagnosis, detail).with("errorClass", class)
    };
    let error = match error {
        DialError::Resolve => {
            return failure(
                ErrorCode::IntegrationFailure,
                Diagnosis::INTEGRATION_DNS,
                "dns",
                "the host does not resolve",
            );
        }
        DialError::Connect(error) => error,
    };
    match error.kind() {
        _ if is_tls(error) => untrusted(error),
        ErrorKind::TimedOut => failure(
            ErrorCode::IntegrationTimeout,
            Diagnosis::INTEGRATION_CONNECT_TIMEOUT,
            "timeout",
            "the address does not answer",
        ),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => failure(
            ErrorCode::IntegrationFailure,
            Diagnosis::INTEGRATION_CONNECT_TIMEOUT,
            "unreachable",
            "no way leads to the address",
        ),
        ErrorKind::AddrNotAvailable => failure(
            ErrorCode::IntegrationFailure,
            Diagnosis::LIMIT_EPHEMERAL_PORTS,
            "no-ports",
            "no source port is free",
        ),
        _ => failure(
            ErrorCode::IntegrationFailure,
            Diagnosis::INTEGRATION_REFUSED,
            "refused",
            "the connection was refused",
        ),
    }
}

/// Why there is no answer to a request that was sent. `is_reused`: over a connection that had been idle.
fn no_answer(error: &Broken, reader: &AnswerReader, is_reused: bool) -> Failure {
    use std::io::ErrorKind;
    let n_read = reader.n_taken();
    let failure = |class: &'static str, detail: Cow<'static, str>| {
        let diagnosis = match is_reused && n_read == 0 {
            true => Diagnosis::INTEGRATION_RESET_ON_REUSE,
            false => Diagnosis::INTEGRATION_BAD_ANSWER,
        };
        Failure::new(ErrorCode::IntegrationFailure, diagnosis, detail)
            .with("errorClass", class)
            .with("bytesRead", n_read)
    };
    match error {
        Broken::Bad(BadAnswer::TooLarge) => {
            let detail = format!("the answer has more than {} bytes", limits::MAX_BACKEND_BODY_BYTES);
            failure("too-large", detail.into()).with("limit", limits::MAX_BACKEND_BODY_BYTES)
        }
        _ if reader.has_head() => failure("cut-off", "the answer broke off".into()),
        Broken::Lost(error) | Broken::Unsent(error) if is_tls(error) => untrusted(error),
        Broken::Lost(error) | Broken::Unsent(error)
            if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) =>
        {
            failure("reset", "the connection was reset before an answer".into())
        }
        _ if n_read == 0 => failure("closed", "no valid HTTP answer came".into()),
        _ => failure("not-http", "no valid HTTP answer came".into()),
    }
}

fn is_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

fn untrusted(error: &std::io::Error) -> Failure {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    use rustls::Error;
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let class = match cause {
        Some(Error::InvalidCertificate(_)) => "certificate",
        Some(Error::InvalidMessage(_)) => "tls-not-spoken",
        _ => "tls",
    };
    let detail = match (class, cause) {
        ("tls-not-spoken", _) => "what answers there does not speak TLS",
        ("tls", _) => "TLS could not be agreed on",
        (_, Some(Error::InvalidCertificate(Expired | ExpiredContext { .. }))) => {
            "the certificate is not accepted: it has expired"
        }
        (_, Some(Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }))) => {
            "the certificate is not accepted: it is not valid yet"
        }
        _ => "the certificate is not accepted",
    };
    Failure::new(ErrorCode::IntegrationFailure, Diagnosis::INTEGRATION_TLS, detail).with("errorClass", class)
}
