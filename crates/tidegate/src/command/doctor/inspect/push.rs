//! S0-34: how this environment would push, tried with a connection that does not exist.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tidegate_auth::{CredentialKeys, Payload, RequestParts, Secret, Signer};
use tidegate_doctor::inspect::management::{self, Seen};
use tidegate_doctor::report::Finding;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::certs;

/// What was tried.
pub(super) struct Checked {
    /// The host that was called.
    pub(super) host: String,
    /// Absent: the gateway answered as it should.
    pub(super) finding: Option<Finding>,
}

/// A call as it would be made.
struct Push {
    url: Url,
    signer: Signer,
    /// Host and port of the proxy.
    proxy: Option<(String, u16)>,
    ca: Option<PathBuf>,
}

fn variable(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// Tries a push as the SDK of this environment would make it. `stage`: of the API. Nothing without credentials.
pub(super) async fn from_environment(
    api_id: &str,
    stage: &str,
    region: &str,
    timeout: Duration,
) -> Option<Checked> {
    let key_id = variable(&["AWS_ACCESS_KEY_ID"])?;
    let secret = variable(&["AWS_SECRET_ACCESS_KEY"])?;
    let region = variable(&["AWS_DEFAULT_REGION", "AWS_REGION"]).unwrap_or_else(|| region.to_owned());
    let base = variable(&["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"])
        .unwrap_or_else(|| format!("https://{api_id}.execute-api.{region}.amazonaws.com/{stage}"));
    let unknown = tidegate_gateway::reserved_connection_id().to_string().replace('=', "%3D");
    let url: Url = format!("{}/@connections/{unknown}", base.trim_end_matches('/')).parse().ok()?;
    let host = url.host_str()?.to_owned();
    let mut keys = CredentialKeys::permanent(Secret::new(secret));
    keys.session_token = variable(&["AWS_SESSION_TOKEN"]).map(Secret::new);
    let proxy = match url.scheme() {
        "https" => variable(&["HTTPS_PROXY", "https_proxy"]),
        _ => variable(&["http_proxy"]),
    };
    let excluded = variable(&["NO_PROXY", "no_proxy"]).unwrap_or_default();
    let proxy = proxy.filter(|_| !is_excluded(&host, &excluded)).and_then(|proxy| proxy_address(&proxy));
    let ca = variable(&["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"]).map(PathBuf::from);
    let push = Push { url, signer: Signer::new(key_id, keys, region, "execute-api"), proxy, ca };
    let seen = tokio::time::timeout(timeout, Box::pin(push.call()));
    let (seen, addresses) =
        seen.await.unwrap_or_else(|_| (Seen::NoConnection { is_timeout: true }, Vec::new()));
    let mut finding = management::judge(&seen, &host, &addresses);
    if let (Some((proxy, port)), Some(found)) = (&push.proxy, finding.take()) {
        finding = Some(
            found.seen(format!("the call went through the proxy {proxy}:{port}"), serde_json::Map::new()),
        );
    }
    Some(Checked { host, finding })
}

/// Hosts of `NO_PROXY`: names, which count for everything below them too, and `*`.
fn is_excluded(host: &str, excluded: &str) -> bool {
    excluded.split(',').map(|entry| entry.trim().trim_start_matches('.')).any(|entry| {
        let is_below = host.strip_suffix(entry).is_some_and(|head| head.is_empty() || head.ends_with('.'));
        entry == "*" || (!entry.is_empty() && is_below)
    })
}

fn proxy_address(text: &str) -> Option<(String, u16)> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url: Url = text.parse().ok()?;
    Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Push {
    /// What happened, and the addresses of the host that was asked for.
    async fn call(&self) -> (Seen, Vec<String>) {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = self.url.port_or_known_default().unwrap_or(443);
        let (dial_host, dial_port) = self.proxy.clone().unwrap_or((host.clone(), port));
        let addresses: Vec<SocketAddr> = match tokio::net::lookup_host((dial_host.as_str(), dial_port)).await
        {
            Ok(found) => found.collect(),
            Err(_) => return (Seen::NoAddress, Vec::new()),
        };
        let shown = addresses.iter().map(|address| address.ip().to_string()).collect();
        let no_connection = |error: &std::io::Error| Seen::NoConnection {
            is_timeout: error.kind() == std::io::ErrorKind::TimedOut,
        };
        let seen = async {
            let mut tcp = TcpStream::connect(&*addresses).await.map_err(|error| no_connection(&error))?;
            if self.proxy.is_some() {
                tunnel(&mut tcp, &host, port).await.map_err(|error| no_connection(&error))?;
            }
            let stream: Box<dyn Stream> = match self.url.scheme() {
                "https" => {
                    let untrusted = |reason: String| Seen::Untrusted { reason };
                    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
                    let tls = certs::client_config(self.ca.as_deref())
                        .map_err(|error| untrusted(format!("{error:#}")))?;
                    let name =
                        ServerName::try_from(host.clone()).map_err(|error| untrusted(error.to_string()))?;
                    let connected = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await;
                    Box::new(connected.map_err(|error| untrusted(error.to_string()))?)
                }
                _ => Box::new(tcp),
            };
            self.post(stream).await.ok_or(Seen::NoConnection { is_timeout: false })
        };
        (seen.await.unwrap_or_else(|seen| seen), shown)
    }

    async fn post(&self, stream: Box<dyn Stream>) -> Option<Seen> {
        let body = Bytes::from_static(b"{}");
        let mut headers = HeaderMap::new();
        let authority = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        headers.insert(HOST, HeaderValue::from_str(authority).ok()?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let parts = RequestParts { method: "POST", path: self.url.path(), query: None, headers: &headers };
        let added = self.signer.sign(&parts, Payload::Body(&body), SystemTime::now()).ok()?;
        for (name, value) in &added {
            headers.insert(name, value.clone());
        }
        let mut request = Request::post(self.url.path()).body(Full::new(body)).ok()?;
        *request.headers_mut() = headers;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await;
        connection.abort();
        let answer = answer.ok()?;
        let error_type = answer.headers().get("x-amzn-errortype").and_then(|value| value.to_str().ok());
        let error_type = error_type.unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
        Some(Seen::Answered { status: answer.status().as_u16(), error_type })
    }
}

/// Asks a proxy for a way to the host. Source: RFC 9110, section 9.3.6.
async fn tunnel(tcp: &mut TcpStream, host: &str, port: u16) -> std::io::Result<()> {
    /// Longest answer, in bytes.
    const MAX_HEAD: u64 = 16 * 1024;
    tcp.write_all(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n").as_bytes())
        .await?;
    // Byte by byte would do; a reader that keeps what follows the head would lose it.
    let mut reader = BufReader::with_capacity(1, tokio::io::AsyncReadExt::take(tcp, MAX_HEAD));
    let mut status = String::new();
    reader.read_line(&mut status).await?;
    let code = status.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim().is_empty() {
            break;
        }
    }
    match code {
        Some(code) if code == StatusCode::OK.as_u16() => Ok(()),
        _ => Err(std::io::ErrorKind::ConnectionRefused.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_from_the_environment() {
        // S0-34
        assert_eq!(proxy_address("http://127.0.0.1:3128"), Some(("127.0.0.1".to_owned(), 3128)));
        assert_eq!(proxy_address("p.example:8080"), Some(("p.example".to_owned(), 8080)));
        for (excluded, expected) in [
            ("localhost,amazonaws.com", true),
            (".amazonaws.com", true),
            ("*", true),
            ("aws.com", false),
            ("", false),
        ] {
            assert_eq!(
                is_excluded("a.execute-api.us-east-1.amazonaws.com", excluded),
                expected,
                "{excluded}"
            );
        }
    }
}
