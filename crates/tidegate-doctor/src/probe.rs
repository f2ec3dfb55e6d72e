//! `doctor <url>`: looks at a WebSocket address from outside, step by step.
//!
//! The probes run in a fixed order, one file each. Each says what it measured and what that proves; one whose problem
//! makes the rest meaningless stops them. Any WebSocket server can be looked at; a Tidegate says more, through its
//! probe endpoint. Nothing is changed, nothing secret is repeated, and the number of requests is limited
//! ([`MAX_REQUESTS`], [`MAX_CONNECTIONS`]). `wire.rs` speaks, `signature.rs` recognizes who answered.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value};
use tidegate_auth::Secret;
use tidegate_core::diagnosis::Diagnosis;
use tokio::time::Instant;

use crate::report::{Confidence, Finding, Probe, ProbeResult, Report, Severity};

mod auth;
mod browser;
mod chat;
pub(crate) mod clock;
mod cookie;
mod dns;
mod dns_message;
mod echo;
mod handshake;
mod identity;
mod idle;
mod publish;
mod signature;
mod stability;
mod subprotocol;
mod tcp;
mod tls;
mod token;
mod upgrade_path;
mod url;
mod wire;

pub use cookie::{Cookie, CookieError};
pub use publish::PublishRequest;
pub use url::masked;
pub use wire::{MAX_CONNECTIONS, MAX_IDLE_CONNECTIONS, MAX_REQUESTS};

use wire::{Answer, Ask, Endpoint, Net, Request, Socket, Trouble};

/// The probes in their order; the number of one is its place, from 1.
pub const NAMES: [&str; 16] = [
    "url",
    "dns",
    "tcp",
    "tls",
    "clock",
    "identity",
    "upgrade-path",
    "handshake",
    "auth",
    "subprotocol",
    "echo",
    "stability",
    "idle",
    "browser",
    "chat",
    "publish",
];

/// Path of the probe endpoint of a Tidegate.
const PROBE_PATH: &str = "/_tidegate/probe";

/// An address to use for a host and port instead of what DNS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolve {
    /// Host name as in the URL.
    pub host: String,
    /// Port as in the URL.
    pub port: u16,
    /// Where to connect to.
    pub address: IpAddr,
}

/// What was learned with `--admin`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Ticket for the probe endpoint; none: the node gave none.
    pub ticket: Option<Secret>,
    /// Id of its installation, as far as it tells.
    pub installation: Option<String>,
    /// Did the admin listener answer at all?
    pub answers: bool,
    /// Its address, for the report.
    pub url: String,
}

/// What surrounds a run; only tests have reasons to change it.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Added to this machine's clock, in milliseconds.
    pub clock_offset_ms: i64,
    /// Length of what the stability and idle probes call a second.
    pub second: Duration,
    /// Port of name servers that the DNS itself names.
    pub dns_port: u16,
    /// Port of `ws://` without a port.
    pub plain_port: u16,
    /// Port of `wss://` without a port.
    pub tls_port: u16,
    /// Until the answer to the first packet of a connection. Source: catalogue, `net.timeout`.
    pub connect_timeout: Duration,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            clock_offset_ms: 0,
            second: Duration::from_secs(1),
            dns_port: 53,
            plain_port: 80,
            tls_port: 443,
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// What to look at, and how.
#[derive(Clone)]
pub struct ProbeOptions {
    /// The WebSocket URL as the client has it.
    pub url: String,
    /// Token that is put into the URL, as parameter [`ProbeOptions::token_name`].
    pub token: Option<Secret>,
    /// Name of the parameter of the token.
    pub token_name: String,
    /// May a token that is good for one connection be used up?
    pub spend_token: bool,
    /// `Origin` of the page.
    pub origin: Option<String>,
    /// Cookies of the browser.
    pub cookies: Vec<Cookie>,
    /// Subprotocols that the client offers.
    pub subprotocols: Vec<String>,
    /// Further headers of the handshake.
    pub headers: Vec<(String, String)>,
    /// The page that opens the WebSocket.
    pub page: Option<String>,
    /// Where the page gets its connect token.
    pub token_url: Option<String>,
    /// Headers of the page's token request, as the browser shows them; empty: those of a correct page.
    pub token_headers: Vec<(String, String)>,
    /// Fixed addresses.
    pub resolve: Vec<Resolve>,
    /// Name servers instead of those of the system.
    pub resolvers: Vec<SocketAddr>,
    /// Trusted authorities.
    pub roots: Arc<RootCertStore>,
    /// How long the idle probe watches at most; none: no idle probe.
    pub idle: Option<Duration>,
    /// Interval of the client's own heartbeat, for the idle probe.
    pub heartbeat: Option<Duration>,
    /// Message for the echo probe.
    pub send: Option<String>,
    /// Text that an answer to it contains.
    pub expect: Option<String>,
    /// The address is that of a chat: say wrong things to it.
    pub chat: bool,
    /// What makes the server send a message to all connections; none: no publish probe.
    pub publish: Option<PublishRequest>,
    /// For each step: an answer, a handshake.
    pub timeout: Duration,
    /// Names of [`NAMES`]; empty: all.
    pub only: Vec<&'static str>,
    /// What was learned with `--admin`.
    pub admin: Option<Admin>,
    /// What tests replace.
    pub surroundings: Surroundings,
}

impl std::fmt::Debug for ProbeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // URL, headers and cookies carry secrets.
        f.debug_struct("ProbeOptions")
            .field("url", &masked(&self.url))
            .field("only", &self.only)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl ProbeOptions {
    /// Everything as it is without options.
    pub fn new(url: impl Into<String>, roots: Arc<RootCertStore>) -> Self {
        Self {
            url: url.into(),
            token: None,
            token_name: "token".to_owned(),
            spend_token: false,
            origin: None,
            cookies: Vec::new(),
            subprotocols: Vec::new(),
            headers: Vec::new(),
            page: None,
            token_url: None,
            token_headers: Vec::new(),
            resolve: Vec::new(),
            resolvers: Vec::new(),
            roots,
            idle: None,
            heartbeat: None,
            send: None,
            expect: None,
            chat: false,
            publish: None,
            timeout: Duration::from_secs(10),
            only: Vec::new(),
            admin: None,
            surroundings: Surroundings::default(),
        }
    }

    fn wants(&self, name: &str) -> bool {
        match name {
            "idle" if self.idle.is_none() => false,
            "chat" if !self.chat => false,
            "publish" if self.publish.is_none() => false,
            "browser" if self.page.is_none() && self.token_url.is_none() => false,
            name => self.only.is_empty() || self.only.contains(&name),
        }
    }
}

/// Why the trusted authorities cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the certificates {path}")]
pub struct RootsError {
    path: String,
    #[source]
    source: rustls_pki_types::pem::Error,
}

/// The system's authorities and those of `extra`, a PEM file.
///
/// # Errors
/// `extra` cannot be read.
pub fn roots(extra: Option<&Path>) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = extra {
        let failed = |source| RootsError { path: path.display().to_string(), source };
        let certificates: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
        roots.add_parsable_certificates(certificates.map_err(failed)?);
    }
    Ok(roots)
}

/// The name of a probe that was given by name or by number.
pub fn name_of(text: &str) -> Option<&'static str> {
    match text.parse::<usize>() {
        Ok(number) => number.checked_sub(1).and_then(|idx| NAMES.get(idx)).copied(),
        Err(_) => NAMES.into_iter().find(|name| *name == text || name.replace('-', " ") == text),
    }
}

/// What the `User-Agent` of every probe begins with, so that a gateway can tell its requests from those of clients.
pub(crate) const PROGRAM: &str = "tidegate-doctor/";

/// The `User-Agent` of every request.
pub fn user_agent() -> String {
    format!("{PROGRAM}{}", env!("CARGO_PKG_VERSION"))
}

/// How a probe went, beside its findings.
#[derive(Debug, Default)]
struct Outcome {
    measurements: Map<String, Value>,
    /// Instead of what follows from the findings.
    result: Option<ProbeResult>,
    /// Why the later probes make no sense.
    stop: Option<String>,
}

impl Outcome {
    fn measure(&mut self, name: &str, value: impl Into<Value>) {
        self.measurements.insert(name.to_owned(), value.into());
    }

    fn summary(&mut self, text: impl Into<String>) {
        self.measure("summary", text.into());
    }

    fn inconclusive(&mut self, reason: impl Into<String>) {
        self.result = Some(ProbeResult::Inconclusive);
        self.measure("reason", reason.into());
    }

    fn skipped(reason: impl Into<String>) -> Self {
        let mut outcome = Self { result: Some(ProbeResult::Skipped), ..Self::default() };
        outcome.measure("reason", reason.into());
        outcome
    }

    fn stop(&mut self, reason: impl Into<String>) {
        self.stop = Some(reason.into());
    }
}

/// What the answer to `GET /_tidegate/probe` said.
#[derive(Debug, Clone, PartialEq)]
enum Identity {
    /// Not asked yet.
    Unknown,
    /// Something else, or a Tidegate whose probe endpoint is switched off.
    Foreign,
    /// A Tidegate that tells its installation only.
    Named,
    /// A Tidegate that told everything.
    Full(Map<String, Value>),
}

/// What the handshake of the real URL came to.
#[derive(Debug, Clone, Default)]
struct Opening {
    status: Option<u16>,
    is_tidegate: bool,
    /// Was the token left out, because it would be used up?
    without_token: bool,
    /// The `check` of a Tidegate's refusal.
    check: Option<String>,
    is_empty: bool,
    /// Status of the same server for a path that nobody has.
    random_status: Option<u16>,
}

/// What the probes share.
struct Run<'a> {
    options: &'a ProbeOptions,
    net: Arc<Net>,
    target: Option<url::Target>,
    findings: Vec<Finding>,
    notes: Vec<String>,
    /// What names resolve to, with where that comes from.
    resolved: Vec<IpAddr>,
    /// What DNS says although `--resolve` says something else.
    public_addresses: Vec<IpAddr>,
    address: Option<SocketAddr>,
    tcp_round_trip: Option<Duration>,
    base: Option<(Result<Answer, Trouble>, Instant)>,
    /// Did an upgrade of the probe path succeed?
    probe_path_opens: Option<bool>,
    identity: Identity,
    opening: Option<Opening>,
    /// A connection that a token was spent for: there is no second one.
    open: Option<Box<Socket>>,
    /// Requests and WebSocket connections of probes that count their own.
    further: (usize, usize),
    progress: &'a dyn Fn(&str),
}

impl Run<'_> {
    /// Is it known that a Tidegate answers at the address?
    fn is_at_tidegate(&self) -> bool {
        matches!(self.identity, Identity::Named | Identity::Full(_))
            || self.opening.as_ref().is_some_and(|opening| opening.is_tidegate)
    }

    fn add(&mut self, finding: Finding) {
        if !self.findings.iter().any(|known| known.id == finding.id) {
            self.findings.push(finding);
        }
    }

    fn has(&self, diagnosis: Diagnosis) -> bool {
        self.findings.iter().any(|finding| finding.id == diagnosis.as_str())
    }

    /// The command that looks at the same thing again.
    fn again(&self, probes: &str) -> String {
        format!("tidegate doctor {} --only {probes}", quoted(&masked(&self.options.url)))
    }

    /// The same command with further options.
    fn again_with(&self, options: &str) -> String {
        format!("tidegate doctor {} {options}", quoted(&masked(&self.options.url)))
    }

    fn target(&self) -> Option<&url::Target> {
        self.target.as_ref()
    }

    /// Where the real URL leads.
    fn endpoint(&self) -> Option<Endpoint> {
        let target = self.target()?;
        Some(Endpoint {
            address: self.address?,
            tls: target.is_tls.then(|| target.host.clone()),
            host: target.authority.clone(),
        })
    }

    /// Now, as this machine has it, in milliseconds since 1970.
    fn now_ms(&self) -> i64 {
        now_ms(&self.options.surroundings)
    }

    /// The answer to `GET /_tidegate/probe`; asked once.
    async fn base(&mut self) -> Result<Answer, Trouble> {
        if let Some((base, _)) = &self.base {
            return base.clone();
        }
        let Some(endpoint) = self.endpoint() else { return Err(Trouble::Network("no address".to_owned())) };
        let request = Request::get(self.probe_target());
        let answer = self.net.send(&endpoint, &request).await;
        self.base = Some((answer.clone(), Instant::now()));
        answer
    }

    /// How long ago that answer came, in milliseconds.
    fn base_age_ms(&self) -> u64 {
        self.base.as_ref().map_or(0, |(_, at)| ms_since(*at))
    }

    /// Where another URL of the same run leads: the page, the token endpoint.
    async fn other_endpoint(&self, url: &::url::Url) -> Option<Endpoint> {
        let is_tls = url.scheme() == "https";
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default()?;
        let fixed = self.options.resolve.iter().find(|resolve| resolve.host == host && resolve.port == port);
        let address = match fixed {
            Some(resolve) => SocketAddr::new(resolve.address, port),
            None => SocketAddr::new(dns::address_of(self, &host).await?, port),
        };
        let authority = &url[::url::Position::BeforeHost..::url::Position::AfterPort];
        Some(Endpoint { address, tls: is_tls.then_some(host), host: authority.to_owned() })
    }

    /// The probe path, with the ticket if there is one.
    fn probe_target(&self) -> String {
        match self.options.admin.as_ref().and_then(|admin| admin.ticket.as_ref()) {
            Some(ticket) => {
                let encoded: String =
                    ::url::form_urlencoded::byte_serialize(ticket.expose().as_bytes()).collect();
                format!("{PROBE_PATH}?ticket={encoded}")
            }
            None => PROBE_PATH.to_owned(),
        }
    }

    /// Headers of every handshake of the real URL: what the client sends.
    fn client_headers(&self, origin: Option<&str>) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        if let Some(origin) = origin {
            headers.push(("Origin".to_owned(), origin.to_owned()));
        }
        let cookies = self.target().map(|target| cookie::header(&self.options.cookies, target));
        if let Some(cookies) = cookies.filter(|cookies| !cookies.is_empty()) {
            headers.push(("Cookie".to_owned(), cookies));
        }
        headers.extend(self.options.headers.iter().cloned());
        headers
    }

    /// The page's origin, as far as it was told.
    fn origin(&self) -> Option<String> {
        let of_page = || {
            let page = ::url::Url::parse(self.options.page.as_deref()?).ok()?;
            Some(page.origin().ascii_serialization())
        };
        self.options.origin.clone().or_else(of_page)
    }

    /// How the real URL is opened: with its token, unless that would use it up.
    fn ask(&self) -> Option<Ask> {
        let target = self.target()?;
        let target = match self.spares_token() {
            true => target.without_token(),
            false => target.request_target(),
        };
        Some(Ask {
            target,
            headers: self.client_headers(self.origin().as_deref()),
            subprotocols: self.options.subprotocols.clone(),
            deflate: true,
            idle: false,
        })
    }

    /// Is there a token that is good for one connection and may not be used up?
    fn spares_token(&self) -> bool {
        self.is_single_use() && !self.options.spend_token
    }

    fn is_single_use(&self) -> bool {
        self.target().and_then(|target| target.token.as_ref()).is_some_and(|token| !token.is_jwt())
    }
}

fn now_ms(surroundings: &Surroundings) -> i64 {
    jiff::Timestamp::now().as_millisecond() + surroundings.clock_offset_ms
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Facts for evidence.
fn facts<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Looks at the address and writes probes, findings and notes into `report`; what has counts is for the caller
/// ([`Report::finish`]). `progress` gets lines for people while something takes long.
///
/// # Cancel safety
/// Dropping the future ends all connections; the report then has the probes that were finished.
pub async fn run(options: &ProbeOptions, report: &mut Report, progress: &dyn Fn(&str)) {
    let surroundings = &options.surroundings;
    let net = Net::new(options.roots.clone(), user_agent(), options.timeout, surroundings.connect_timeout);
    let mut run = Run {
        options,
        net: Arc::new(net),
        target: None,
        findings: Vec::new(),
        notes: Vec::new(),
        resolved: Vec::new(),
        public_addresses: Vec::new(),
        address: None,
        tcp_round_trip: None,
        base: None,
        probe_path_opens: None,
        identity: Identity::Unknown,
        opening: None,
        open: None,
        further: (0, 0),
        progress,
    };
    let mut stopped: Option<String> = None;
    for name in NAMES {
        // The page and the token endpoint are other addresses: they can be looked at all the same.
        let is_stopped = stopped.clone().filter(|_| name != "browser");
        // The first three find the address; without their report when nobody asked for it.
        let is_needed = match name {
            "url" => true,
            "dns" => NAMES[2..].iter().any(|later| *later != "browser" && options.wants(later)),
            "tcp" => NAMES[3..].iter().any(|later| *later != "browser" && options.wants(later)),
            _ => false,
        };
        let is_wanted = options.wants(name);
        let is_run = is_wanted || (is_needed && stopped.is_none());
        if !is_run {
            continue;
        }
        let n_findings = run.findings.len();
        let mut outcome = match is_stopped {
            Some(reason) => Outcome::skipped(reason),
            None => {
                let limit = limit_of(name, options);
                // Boxed: a future of all probes at once would be large.
                let probe = Box::pin(run_probe(name, &mut run));
                match tokio::time::timeout(limit, probe).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        let mut outcome = Outcome::default();
                        outcome.inconclusive(format!("not done within {} s", limit.as_secs()));
                        outcome
                    }
                }
            }
        };
        let added = &run.findings[n_findings.min(run.findings.len())..];
        let worst = added.iter().map(|finding| finding.severity).min();
        let result = match (worst, outcome.result) {
            (Some(Severity::Problem), _) => ProbeResult::Problem,
            (_, Some(result)) => result,
            (Some(Severity::Warning), None) => ProbeResult::Warning,
            _ => ProbeResult::Ok,
        };
        if let Some(reason) = outcome.stop.take() {
            stopped = Some(format!("{name}: {reason}"));
        }
        match is_wanted {
            true => report.probes.push(Probe {
                name: name.to_owned(),
                result,
                measurements: outcome.measurements,
            }),
            // What stops the others is said, even if nobody asked for it.
            false if stopped.is_none() => run.findings.truncate(n_findings),
            false => {}
        }
    }
    for finding in &mut run.findings {
        if finding.next.is_empty() {
            finding.next.push(format!("tidegate explain {}", finding.id));
        }
    }
    let (requests, connections) = run.net.spent();
    let (requests, connections) = (requests + run.further.0, connections + run.further.1);
    report.findings.append(&mut run.findings);
    report.notes.append(&mut run.notes);
    report.notes.push(format!("{requests} requests were sent, {connections} WebSocket connections opened"));
}

/// How long a probe may take as a whole: its steps have [`ProbeOptions::timeout`] each.
fn limit_of(name: &str, options: &ProbeOptions) -> Duration {
    let second = options.surroundings.second;
    let steps = match name {
        "tls" | "handshake" | "auth" | "upgrade-path" | "echo" | "browser" | "subprotocol" => 6,
        _ => 3,
    };
    let held = match name {
        "stability" => second * stability::HOLD_SECONDS,
        "idle" => options.idle.unwrap_or_default(),
        "publish" => second * publish::HELD_SECONDS,
        _ => Duration::ZERO,
    };
    options.timeout * steps + options.surroundings.connect_timeout * 2 + held
}

async fn run_probe(name: &str, run: &mut Run<'_>) -> Outcome {
    match name {
        "url" => url::run(run),
        "dns" => dns::run(run).await,
        "tcp" => tcp::run(run).await,
        "tls" => tls::run(run).await,
        "clock" => clock::run(run).await,
        "identity" => identity::run(run).await,
        "upgrade-path" => upgrade_path::run(run).await,
        "handshake" => handshake::run(run).await,
        "auth" => auth::run(run).await,
        "subprotocol" => subprotocol::run(run).await,
        "echo" => echo::run(run).await,
        "stability" => stability::run(run).await,
        "idle" => idle::run(run).await,
        "chat" => chat::run(run).await,
        "publish" => publish::run(run).await,
        _ => browser::run(run).await,
    }
}

/// A likely problem.
fn likely(diagnosis: Diagnosis) -> Finding {
    Finding::new(diagnosis, Severity::Problem, Confidence::Likely)
}

/// A possible problem.
fn possible(diagnosis: Diagnosis) -> Finding {
    Finding::new(diagnosis, Severity::Problem, Confidence::Possible)
}

/// Milliseconds since `instant`, for measurements.
fn ms_since(instant: Instant) -> u64 {
    u64::try_from(instant.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds of a duration, for measurements.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
