//! A client of the admin API of a running node, for the command line.
//!
//! One HTTP connection at a time, which is used again while the node keeps it open. What the node answers is JSON; what it
//! refuses is a [`ClientError::Refused`] that says what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tidegate_auth::{CredentialKeys, Payload, RequestParts, Secret, Signer};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::certs;
use crate::cli::node::NodeArgs;
use crate::cli::{EXIT_FAILURE, EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_USAGE};

/// Until there is a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Until there is a whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest answer, in bytes: an export of everything.
const MAX_ANSWER: usize = 64 << 20;

/// Longest key, in bytes; a longer file is the wrong one.
const MAX_KEY: u64 = 8192;

/// What RFC 3986 calls unreserved stays as it is, which is also how signatures write it.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The credential of `tidegate dev`: known to everybody, and worth nothing elsewhere.
pub(crate) const DEV_ACCESS_KEY_ID: &str = "tidegate";
/// See [`DEV_ACCESS_KEY_ID`].
pub(crate) const DEV_SECRET_ACCESS_KEY: &str = "tidegate-secret";

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The arguments or the environment make no sense.
    #[error("{0}")]
    Usage(String),
    /// What the arguments name is not there.
    #[error("{0}")]
    NotThere(String),
    /// The node would refuse, so nothing was sent.
    #[error("no credential for {0}")]
    NoCredential(String),
    /// Nobody is there.
    #[error("cannot connect to {url}")]
    Unreachable {
        url: String,
        #[source]
        source: std::io::Error,
    },
    /// The conversation broke off.
    #[error("no answer from {url}: {reason}")]
    NoAnswer { url: String, reason: String },
    /// Something answered that is no node of Tidegate, or one of another version.
    #[error("{url} answers with {status}, but not as the admin API of Tidegate")]
    Stranger { url: String, status: StatusCode },
    /// The node refused. The request changed nothing.
    #[error("{message}")]
    Refused {
        status: StatusCode,
        /// The node's words, with its id.
        message: String,
        id: String,
        problems: Vec<String>,
        /// Where the credential came from.
        origin: String,
    },
}

impl ClientError {
    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::NotThere(_) => EXIT_NOT_FOUND,
            Self::NoCredential(_) => EXIT_REFUSED,
            Self::Refused { status: StatusCode::NOT_FOUND | StatusCode::GONE, .. } => EXIT_NOT_FOUND,
            Self::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. } => EXIT_REFUSED,
            Self::Unreachable { .. }
            | Self::NoAnswer { .. }
            | Self::Stranger { .. }
            | Self::Refused { .. } => EXIT_FAILURE,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        const VARIABLES: &str =
            "set TIDEGATE_KEY (or --key-file), or TIDEGATE_ACCESS_KEY_ID and TIDEGATE_SECRET_ACCESS_KEY";
        match self {
            Self::NoCredential(_) => Some(VARIABLES.to_owned()),
            Self::Unreachable { url, source } => {
                let likely = match source.kind() {
                    std::io::ErrorKind::ConnectionRefused => "is `tidegate serve` running there? ",
                    _ => "",
                };
                Some(format!(
                    "{likely}--admin-url or TIDEGATE_ADMIN_URL say where its admin listener is; check with `curl {url}/readyz` (command.cannot-reach)"
                ))
            }
            Self::Stranger { .. } => Some(
                "--admin-url or TIDEGATE_ADMIN_URL want the admin listener, not the public one; and the versions should be the same"
                    .to_owned(),
            ),
            Self::Refused { status: StatusCode::UNAUTHORIZED, .. } => Some(VARIABLES.to_owned()),
            Self::Refused { status: StatusCode::FORBIDDEN, id, origin, .. } => Some(match id.as_str() {
                "management.denied" => {
                    format!("used: {origin}; use one whose role is high enough (Read, Operate, Administer)")
                }
                _ => format!("used: {origin}; {VARIABLES}"),
            }),
            Self::Refused { status: StatusCode::TOO_MANY_REQUESTS, .. } => Some("try again later".to_owned()),
            Self::Usage(_)
            | Self::NotThere(_)
            | Self::NoAnswer { .. }
            | Self::Refused { .. } => None,
        }
    }

    /// Further lines: everything that is wrong.
    pub(crate) fn problems(&self) -> &[String] {
        match self {
            Self::Refused { problems, .. } => problems,
            _ => &[],
        }
    }

    /// Whether the node may be there again in a moment.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NoAnswer { .. })
    }
}

/// How a caller shows who it is.
enum Credential {
    /// The value of the header.
    Bearer(HeaderValue),
    Signature(Box<Signer>),
}

/// What is sent.
pub(crate) enum Body {
    Nothing,
    Json(Value),
    Text(&'static str, String),
}

/// What came.
struct Answer {
    bytes: Bytes,
    url: String,
    status: StatusCode,
}

impl Answer {
    fn json(&self) -> Result<Value, ClientError> {
        serde_json::from_slice(&self.bytes)
            .map_err(|_| ClientError::Stranger { url: self.url.clone(), status: self.status })
    }

    fn text(&self) -> Result<&str, ClientError> {
        std::str::from_utf8(&self.bytes)
            .map_err(|_| ClientError::Stranger { url: self.url.clone(), status: self.status })
    }
}

/// A caller of one node.
pub(crate) struct AdminClient {
    base: Url,
    host: HeaderValue,
    tls: Option<TlsConnector>,
    credential: Credential,
    origin: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminClient").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl AdminClient {
    /// A caller of the node that the arguments name, with the credential of the arguments or the environment.
    pub(crate) fn new(args: &NodeArgs) -> anyhow::Result<Self> {
        let base = base_url(&args.admin_url)?;
        let authority = &base[url::Position::BeforeHost..url::Position::AfterPort];
        let host = HeaderValue::from_str(authority)
            .map_err(|_| ClientError::Usage(format!("--admin-url {}: no host", args.admin_url)))?;
        let (credential, origin) = credential(args.key_file.as_deref(), &base)?;
        let tls = tls_connector(&base, args.cafile.as_deref())?;
        Ok(Self { base, host, tls, credential, origin, sender: None })
    }

    /// A caller of something else that takes signatures: `argument` is the one that has the address.
    pub(crate) fn signing(
        argument: &str,
        url: &str,
        cafile: Option<&Path>,
        signer: Signer,
        origin: String,
    ) -> anyhow::Result<Self> {
        let base = http_url(argument, url)?;
        let authority = &base[url::Position::BeforeHost..url::Position::AfterPort];
        let host = HeaderValue::from_str(authority)
            .map_err(|_| ClientError::Usage(format!("{argument} {url}: no host")))?;
        let tls = tls_connector(&base, cafile)?;
        Ok(Self {
            base,
            host,
            tls,
            credential: Credential::Signature(Box::new(signer)),
            origin,
            sender: None,
        })
    }

    /// A `GET` whose answer is JSON, whatever its status; `path` is encoded already.
    pub(crate) async fn ask(
        &mut self,
        path: &str,
        query: &[(&'static str, String)],
    ) -> Result<(StatusCode, Value), ClientError> {
        let request = self.request(Method::GET, path, query, Body::Nothing, "application/json")?;
        let answer = self.send(request).await?;
        Ok((answer.status, serde_json::from_slice(&answer.bytes).unwrap_or_default()))
    }

    /// The address of the node.
    pub(crate) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A `GET`; `path` comes from [`path`].
    pub(crate) async fn get(
        &mut self,
        path: &str,
        query: &[(&'static str, String)],
    ) -> Result<Value, ClientError> {
        self.call(Method::GET, path, query, Body::Nothing).await
    }

    /// Any call that answers JSON.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&'static str, String)],
        body: Body,
    ) -> Result<Value, ClientError> {
        self.exchange(self.request(method, path, query, body, "application/json")?).await?.json()
    }

    /// A `GET` that answers TOML.
    pub(crate) async fn get_toml(&mut self, path: &str) -> Result<String, ClientError> {
        let request = self.request(Method::GET, path, &[], Body::Nothing, "application/toml")?;
        self.exchange(request).await?.text().map(str::to_owned)
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let answer = self.send(request).await?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(self.refusal(&answer)),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let url = self.base().to_owned();
        let no_answer = |reason: String| ClientError::NoAnswer { url: url.clone(), reason };
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        if sender.ready().await.is_err() {
            // The node closed it while nothing was under way.
            sender = self.connect().await?;
        }
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| no_answer(chain(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let bytes = body.map_err(|error| no_answer(chain(error.as_ref())))?.to_bytes();
            Ok(Answer { bytes, url: url.clone(), status })
        };
        let answer = match tokio::time::timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Err(no_answer(format!("nothing within {} s", ANSWER_TIMEOUT.as_secs()))),
        };
        self.sender = Some(sender);
        Ok(answer)
    }

    fn refusal(&self, answer: &Answer) -> ClientError {
        let status = answer.status;
        let stranger = || ClientError::Stranger { url: answer.url.clone(), status };
        let Ok(body) = answer.json() else { return stranger() };
        let text = |value: &Value, name: &str| value[name].as_str().map(str::to_owned);
        let id = text(&body, "id");
        let said = text(&body, "message").or_else(|| text(&body, "Message"));
        let Some(said) = said.filter(|_| id.is_some()) else { return stranger() };
        let id = id.unwrap_or_default();
        if matches!(id.as_str(), "admin.unknown-path" | "admin.wrong-method" | "management.wrong-listener") {
            return stranger();
        }
        let problems = body["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
        let problems = problems.iter().map(problem).collect();
        ClientError::Refused {
            status,
            message: format!("{said} ({id})"),
            id,
            problems,
            origin: self.origin.clone(),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&'static str, String)],
        body: Body,
        accept: &'static str,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut target = format!("{}{path}", self.base.path().trim_end_matches('/'));
        for (query_idx, (name, value)) in query.iter().enumerate() {
            target.push(if query_idx == 0 { '?' } else { '&' });
            target.push_str(&format!("{name}={}", utf8_percent_encode(value, ENCODED)));
        }
        let unusable =
            |error: &dyn std::error::Error| ClientError::Usage(format!("the request is unusable: {error}"));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, self.host.clone());
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let bytes = match body {
            Body::Nothing => Bytes::new(),
            Body::Json(value) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Bytes::from(value.to_string())
            }
            Body::Text(media_type, text) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
                Bytes::from(text)
            }
        };
        match &self.credential {
            Credential::Bearer(value) => {
                headers.insert(AUTHORIZATION, value.clone());
            }
            Credential::Signature(signer) => {
                let (path, query) = match target.split_once('?') {
                    Some((path, query)) => (path, Some(query)),
                    None => (target.as_str(), None),
                };
                let parts = RequestParts { method: method.as_str(), path, query, headers: &headers };
                let added = signer
                    .sign(&parts, Payload::BodyWithHash(&bytes), SystemTime::now())
                    .map_err(|error| unusable(&error))?;
                let added: Vec<(HeaderName, HeaderValue)> =
                    added.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                headers.extend(added);
            }
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION"))));
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .body(Full::new(bytes))
            .map_err(|error| unusable(&error))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let url = self.base().to_owned();
        let connect = async {
            let host = self.base.host_str().unwrap_or_default().trim_matches(['[', ']']);
            // Browsers resolve these to loopback; not every system resolver does.
            let dial = if host.ends_with(".localhost") { "localhost" } else { host };
            let port = self.base.port_or_known_default().unwrap_or(80);
            let tcp = TcpStream::connect((dial, port)).await?;
            tcp.set_nodelay(true)?;
            match &self.tls {
                None => shake_hands(TokioIo::new(tcp)).await,
                Some(tls) => {
                    let name = rustls::pki_types::ServerName::try_from(host.to_owned())
                        .map_err(std::io::Error::other)?;
                    shake_hands(TokioIo::new(tls.connect(name, tcp).await?)).await
                }
            }
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
        let connected = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        connected.map_err(|source| ClientError::Unreachable { url, source })
    }
}

async fn shake_hands<S>(stream: TokioIo<S>) -> std::io::Result<SendRequest<Full<Bytes>>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(stream).await.map_err(std::io::Error::other)?;
    // What becomes of the connection is told to whoever waits for an answer on it.
    tokio::spawn(connection);
    Ok(sender)
}

/// TLS for `https://`; a warning where others can read along.
fn tls_connector(base: &Url, cafile: Option<&Path>) -> anyhow::Result<Option<TlsConnector>> {
    if base.scheme() == "https" {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        return Ok(Some(TlsConnector::from(Arc::new(certs::client_config(cafile)?))));
    }
    if !is_loopback(base) {
        eprintln!("tidegate: warning: {base} is not encrypted; others on the way can read what is sent");
    }
    Ok(None)
}

/// `/api` and these segments, each encoded.
pub(crate) fn path(segments: &[&str]) -> String {
    path_below("/api", segments)
}

/// `below` and these segments, each encoded.
pub(crate) fn path_below(below: &str, segments: &[&str]) -> String {
    let mut path = below.to_owned();
    for segment in segments {
        path.push('/');
        path.extend(utf8_percent_encode(segment, ENCODED));
    }
    path
}

/// One problem of a refusal: `apis.chat.name: missing (id)`.
pub(crate) fn problem(problem: &Value) -> String {
    let text = |name: &str| problem[name].as_str().unwrap_or_default();
    let place = match text("path") {
        "" => String::new(),
        path => format!("{path}: "),
    };
    let id = match problem["id"].as_str().or(problem["diagnosis"].as_str()) {
        Some(id) => format!(" ({id})"),
        None => String::new(),
    };
    format!("{place}{}{id}", text("message"))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn base_url(text: &str) -> Result<Url, ClientError> {
    http_url("--admin-url", text)
}

fn http_url(argument: &str, text: &str) -> Result<Url, ClientError> {
    let usage = |message: &str| ClientError::Usage(format!("{argument} {text}: {message}"));
    let url = Url::parse(text).map_err(|error| usage(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        // Not shown again: it has a password in it.
        return Err(ClientError::Usage(format!("{argument}: a user or a password is not permitted in it")));
    }
    match url.scheme() {
        "http" | "https" if url.has_host() && url.query().is_none() && url.fragment().is_none() => Ok(url),
        _ => Err(usage("http:// or https:// and a host expected, without a query")),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The credential, and where it came from.
fn credential(key_file: Option<&Path>, base: &Url) -> anyhow::Result<(Credential, String)> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(path) = key_file {
        let origin = format!("the key of {}", path.display());
        return Ok((bearer(&read_secret("--key-file", path)?, &origin)?, origin));
    }
    if let Some(key) = variable("TIDEGATE_KEY") {
        let origin = "the key of TIDEGATE_KEY".to_owned();
        return Ok((bearer(&Secret::new(key), &origin)?, origin));
    }
    let (access_key_id, secret, origin) = match variable("TIDEGATE_ACCESS_KEY_ID") {
        Some(id) => {
            let secret = match variable("TIDEGATE_SECRET_ACCESS_KEY") {
                Some(secret) => Secret::new(secret),
                None => match variable("TIDEGATE_SECRET_ACCESS_KEY_FILE") {
                    Some(path) => read_secret("TIDEGATE_SECRET_ACCESS_KEY_FILE", &PathBuf::from(path))?,
                    None => {
                        let message = "TIDEGATE_ACCESS_KEY_ID is set, TIDEGATE_SECRET_ACCESS_KEY is not";
                        return Err(ClientError::Usage(message.to_owned()).into());
                    }
                },
            };
            let origin = format!("the access key {id} of TIDEGATE_ACCESS_KEY_ID");
            (id, secret, origin)
        }
        // Everybody may know it, so nothing is given away.
        None if is_loopback(base) => (
            DEV_ACCESS_KEY_ID.to_owned(),
            Secret::new(DEV_SECRET_ACCESS_KEY),
            "the access key of `tidegate dev`, because no other is set".to_owned(),
        ),
        None => return Err(ClientError::NoCredential(base.to_string()).into()),
    };
    let region = variable("TIDEGATE_REGION").unwrap_or_else(|| "us-east-1".to_owned());
    let signer = Signer::new(access_key_id, CredentialKeys::permanent(secret), region, "apigateway");
    Ok((Credential::Signature(Box::new(signer)), origin))
}

fn bearer(key: &Secret, origin: &str) -> Result<Credential, ClientError> {
    let value = HeaderValue::from_str(&format!("Bearer {}", key.expose()));
    let mut value =
        value.map_err(|_| ClientError::Usage(format!("{origin} has characters that no key has")))?;
    value.set_sensitive(true);
    Ok(Credential::Bearer(value))
}

fn read_secret(name: &str, path: &Path) -> Result<Secret, ClientError> {
    let usage = |message: String| ClientError::Usage(format!("{name} {}: {message}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| usage(error.to_string()))?.len();
    if length > MAX_KEY {
        return Err(usage(format!("more than {MAX_KEY} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| usage(error.to_string()))?;
    // Editors put a newline at the end that is no part of a secret.
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(usage("is empty".to_owned())),
        secret => Ok(Secret::new(secret)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded() {
        assert_eq!(path(&["users", "a/b c@é", "end"]), "/api/users/a%2Fb%20c%40%C3%A9/end");
        assert_eq!(path(&["connections", "R0oXAdfD0kwCH6w="]), "/api/connections/R0oXAdfD0kwCH6w%3D");
    }

    #[test]
    fn addresses_are_checked_and_passwords_not_repeated() {
        for good in ["http://127.0.0.1:8081", "https://gw.example/base/", "http://[::1]:1"] {
            assert!(base_url(good).is_ok(), "{good}");
        }
        for bad in ["127.0.0.1:8081", "ws://127.0.0.1", "http://a/?x=1", "", "/api"] {
            assert_eq!(base_url(bad).unwrap_err().exit_code(), EXIT_USAGE, "{bad}");
        }
        let error = base_url("http://root:hunter2@a/").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, expected) in [
            ("http://localhost:1", true),
            ("http://dev.localhost", true),
            ("http://127.0.0.9", true),
            ("http://[::1]/", true),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn problems_are_one_line_each() {
        let shown = |value: Value| problem(&value);
        assert_eq!(
            shown(serde_json::json!({ "path": "a.b", "message": "missing", "id": "x.y" })),
            "a.b: missing (x.y)"
        );
        assert_eq!(shown(serde_json::json!({ "path": "", "message": "is empty" })), "is empty");
    }
}
