//! Probe 4: TLS as a client meets it: chain, names, dates, versions, application protocols, server name.
//!
//! The certificate is recorded first and judged afterwards, so that all its defects are found at once. Nothing but a
//! question for the server's time is sent on a connection whose certificate was not verified.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use tidegate_core::diagnosis::Diagnosis;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::wire::{Answer, Endpoint, Request, Trouble};
use super::{Outcome, Run, clock, facts, likely};
use crate::report::{Confidence, Finding, Severity};

/// A certificate that ends sooner than this is worth a warning, in seconds. Source: catalogue, `tls.expired`.
const WARN_BEFORE: i64 = 21 * 24 * 3600;

/// Names in certificates that programs make for themselves and serve until they are given a real one.
const FALLBACKS: [&str; 9] = [
    "Kubernetes Ingress Controller Fake Certificate",
    "TRAEFIK DEFAULT CERT",
    "localhost.localdomain",
    "Plesk",
    "Parallels Panel",
    "cPanel, Inc.",
    "SnakeOil",
    "default.invalid",
    "Acme Co",
];

/// Names in issuers of programs that read other people's TLS.
const INSPECTORS: [&str; 19] = [
    "Avast",
    "AVG ",
    "Kaspersky",
    "ESET SSL Filter",
    "Bitdefender",
    "Zscaler",
    "Fortinet",
    "FortiGate",
    "Sophos",
    "Palo Alto",
    "Blue Coat",
    "Cisco Umbrella",
    "Netskope",
    "mitmproxy",
    "Charles Proxy",
    "Fiddler",
    "NetFilterSDK",
    "Check Point",
    "Trend Micro",
];

/// Records what a server shows and lets it pass; see the module.
#[derive(Debug)]
struct Recorder {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        *self.chain.lock() = chain.map(|certificate| certificate.clone().into_owned()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A TCP stream that keeps the first bytes that came.
struct Tap {
    stream: TcpStream,
    first: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let mut first = self.first.lock();
        let left = 16 - first.len().min(16);
        first.extend(buf.filled()[before..].iter().take(left));
        result
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What a TLS handshake is tried with.
struct Offer {
    versions: &'static [&'static SupportedProtocolVersion],
    alpn: &'static [&'static [u8]],
    sni: bool,
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const ONLY_12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const ONLY_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
const OFFER: Offer = Offer { versions: BOTH, alpn: &[b"h2", b"http/1.1"], sni: true };

struct Shaken {
    version: &'static str,
    alpn: Option<String>,
    chain: Vec<CertificateDer<'static>>,
    stream: TlsStream<Tap>,
}

struct Failed {
    /// Nothing: it was no matter of TLS.
    error: Option<Error>,
    trouble: String,
    /// First bytes that came.
    first: Vec<u8>,
    is_silent: bool,
}

async fn shake(run: &Run<'_>, endpoint: &Endpoint, offer: &Offer) -> Result<Box<Shaken>, Failed> {
    let network = |trouble: String, is_silent| Failed { error: None, trouble, first: Vec::new(), is_silent };
    let stream =
        run.net.tcp(endpoint.address).await.map_err(|trouble| network(trouble.to_string(), false))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let recorder = Arc::new(Recorder { provider: provider.clone(), chain: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(offer.versions)
        .map_err(|error| network(error.to_string(), false))?;
    let mut config =
        config.dangerous().with_custom_certificate_verifier(recorder.clone()).with_no_client_auth();
    config.alpn_protocols = offer.alpn.iter().map(|name| name.to_vec()).collect();
    config.enable_sni = offer.sni;
    let name = endpoint.tls.clone().unwrap_or_default();
    let name = ServerName::try_from(name).map_err(|error| network(error.to_string(), false))?;
    let first = Arc::new(Mutex::new(Vec::new()));
    let tap = Tap { stream, first: first.clone() };
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    match tokio::time::timeout(run.net.timeout, connector.connect(name, tap)).await {
        Err(_) => {
            let first = first.lock().clone();
            Err(Failed { error: None, trouble: "no answer".to_owned(), first, is_silent: true })
        }
        Ok(Ok(stream)) => {
            let (_, session) = stream.get_ref();
            let version = match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
                Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
                _ => "unknown",
            };
            let alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
            let chain = recorder.chain.lock().clone();
            Ok(Box::new(Shaken { version, alpn, chain, stream }))
        }
        Ok(Err(error)) => {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).cloned();
            let first = first.lock().clone();
            Err(Failed { error: tls, trouble: error.to_string(), first, is_silent: false })
        }
    }
}

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let Some(target) = run.target().cloned() else { return Outcome::default() };
    match target.is_tls {
        true => encrypted(run).await,
        false => plain(run).await,
    }
}

/// `ws://`: is there TLS where none is expected?
async fn plain(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.summary("plain connection");
    let base = run.base().await;
    let is_suspicious = match &base {
        Ok(answer) => answer.status == 400 && !answer.is_tidegate(),
        Err(trouble) => matches!(trouble, Trouble::Ended | Trouble::NotHttp(_) | Trouble::Network(_)),
    };
    let Some(mut endpoint) = run.endpoint().filter(|_| is_suspicious) else { return outcome };
    endpoint.tls = run.target().map(|target| target.host.clone());
    let shaken = shake(run, &endpoint, &OFFER).await;
    outcome.measure("tls", shaken.is_ok());
    let observed = match base {
        Ok(answer) => format!("A plain request is answered with {}", answer.status),
        Err(Trouble::NotHttp(first)) if first.starts_with(&[0x15, 3]) => {
            "A plain request is answered with a TLS alert".to_owned()
        }
        Err(trouble) => format!("A plain request gets no HTTP answer ({trouble})"),
    };
    if shaken.is_ok() {
        let encrypted = super::masked(&run.options.url).replacen("ws:", "wss:", 1);
        run.add(
            Finding::problem(Diagnosis::HANDSHAKE_PLAIN_ON_TLS)
                .seen(
                    format!("{observed}, a TLS handshake on the same port succeeds."),
                    facts([("listener", "tls".into())]),
                )
                .next(format!("tidegate doctor {}", super::quoted(&encrypted))),
        );
        outcome.stop("the port speaks TLS");
    }
    outcome
}

async fn encrypted(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(endpoint) = run.endpoint() else { return outcome };
    let mut shaken = match shake(run, &endpoint, &OFFER).await {
        Ok(shaken) => shaken,
        Err(failed) => {
            no_handshake(run, &mut outcome, &endpoint, failed).await;
            return outcome;
        }
    };
    outcome.measure("version", shaken.version);
    outcome.measure("alpn", shaken.alpn.clone());

    let chain = std::mem::take(&mut shaken.chain);
    let is_h2 = shaken.alpn.as_deref() == Some("h2");
    judge_chain(run, &mut outcome, &endpoint, &chain, &mut shaken, is_h2).await;

    let alone = shake(run, &endpoint, &Offer { alpn: &[b"http/1.1"], ..OFFER }).await;
    outcome.measure("http11", alone.is_ok());
    if let (true, Err(failed)) = (is_h2, &alone) {
        let settings = connect_protocol(&mut shaken.stream, run.net.timeout).await;
        if settings == Some(false) {
            run.add(
                Finding::problem(Diagnosis::PROXY_H2_ONLY)
                    .seen(
                        format!(
                            "The server chooses h2, does not announce extended CONNECT, and refuses http/1.1 alone ({}).",
                            failed.trouble
                        ),
                        facts([("alpn", "h2".into()), ("extensions", false.into())]),
                    )
                    .next(run.again("tls")),
            );
            outcome.stop("the server has no HTTP/1.1 and no WebSockets over HTTP/2");
        }
        outcome.measure("extendedConnect", settings);
    }
    for (name, versions) in [("tls12", ONLY_12), ("tls13", ONLY_13)] {
        let result = shake(run, &endpoint, &Offer { versions, ..OFFER }).await;
        outcome.measure(name, result.is_ok());
    }
    without_name(run, &mut outcome, &endpoint, &chain).await;
    if run.findings.iter().any(|finding| {
        finding.severity == Severity::Problem
            && (finding.id.starts_with("tls.") || finding.id == "clock.client")
    }) {
        outcome.stop("a client does not get beyond TLS");
    }
    outcome
}

async fn no_handshake(run: &mut Run<'_>, outcome: &mut Outcome, endpoint: &Endpoint, failed: Failed) {
    outcome.measure("error", failed.trouble.clone());
    let plain_answer = match failed.first.starts_with(b"HTTP/") {
        true => Some("the answer to a TLS handshake begins with `HTTP/`".to_owned()),
        // A TLS server that dislikes the offer sends an alert; anything else may be no TLS server at all.
        false if !failed.first.starts_with(&[0x15, 3]) => {
            let plain = Endpoint { tls: None, ..endpoint.clone() };
            match run.net.send(&plain, &Request::get("/")).await {
                Ok(answer) if answer.status != 400 || !failed.is_silent => Some(format!(
                    "a plain request is answered with {}, a TLS handshake is not",
                    answer.status
                )),
                _ => None,
            }
        }
        false => None,
    };
    if let Some(observed) = plain_answer {
        let plain = super::masked(&run.options.url).replacen("wss:", "ws:", 1);
        run.add(
            Finding::problem(Diagnosis::HANDSHAKE_TLS_ON_PLAIN)
                .seen(
                    format!("On port {}, {observed}.", endpoint.address.port()),
                    facts([("listener", "plain".into()), ("port", endpoint.address.port().into())]),
                )
                .next(format!("tidegate doctor {}", super::quoted(&plain))),
        );
        outcome.stop("the port does not speak TLS");
        return;
    }
    let error_text = failed.trouble.clone();
    let no_version = |confidence| {
        Finding::new(Diagnosis::TLS_NO_COMMON_VERSION, Severity::Problem, confidence).seen(
            format!("Offered: TLS 1.3 and 1.2. The server: {error_text}."),
            facts([("tlsVersion", vec!["1.3", "1.2"].into()), ("detail", error_text.clone().into())]),
        )
    };
    let is_named = run.target().is_some_and(|target| !target.is_address());
    let finding = match &failed.error {
        Some(Error::AlertReceived(
            AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity,
        ))
        | Some(Error::PeerIncompatible(_)) => Some(no_version(Confidence::Proven)),
        Some(Error::AlertReceived(AlertDescription::UnrecognisedName)) if !is_named => {
            Some(Finding::problem(Diagnosis::TLS_NO_SNI).seen(
                "The URL has an address, so no server name is sent, and the server refuses such a handshake.",
                facts([("detail", error_text.clone().into())]),
            ))
        }
        Some(Error::AlertReceived(AlertDescription::UnrecognisedName)) => {
            Some(likely(Diagnosis::TLS_NOT_ISSUED).seen(
                "The server knows no certificate for this name and says so.",
                facts([("sni", endpoint.tls.clone().into())]),
            ))
        }
        Some(Error::AlertReceived(AlertDescription::HandshakeFailure)) => {
            Some(no_version(Confidence::Likely))
        }
        _ => None,
    };
    match finding {
        Some(finding) => run.add(finding.next(run.again("tls"))),
        None => outcome.inconclusive(format!("TLS handshake: {}", failed.trouble)),
    }
    outcome.stop("a client does not get beyond TLS");
}

/// What is shown of a certificate.
struct Facts {
    subject: String,
    issuer: String,
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
    /// Where its issuer's certificate can be fetched.
    issuer_url: Option<String>,
}

fn read(certificate: &CertificateDer<'_>) -> Option<Facts> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut names = Vec::new();
    let mut issuer_url = None;
    for extension in parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(list) => {
                names.extend(list.general_names.iter().filter_map(|name| {
                    match name {
                        GeneralName::DNSName(name) => Some(printable(name)),
                        GeneralName::IPAddress(octets) => match octets.len() {
                            4 => <[u8; 4]>::try_from(*octets)
                                .ok()
                                .map(|octets| std::net::IpAddr::from(octets).to_string()),
                            _ => <[u8; 16]>::try_from(*octets)
                                .ok()
                                .map(|octets| std::net::IpAddr::from(octets).to_string()),
                        },
                        _ => None,
                    }
                }));
            }
            ParsedExtension::AuthorityInfoAccess(access) => {
                issuer_url = access.accessdescs.iter().find_map(|description| {
                    // id-ad-caIssuers. Source: RFC 5280, section 4.2.2.1.
                    let is_issuer = description.access_method.to_id_string() == "1.3.6.1.5.5.7.48.2";
                    match &description.access_location {
                        GeneralName::URI(url) if is_issuer => Some((*url).to_owned()),
                        _ => None,
                    }
                });
            }
            _ => {}
        }
    }
    names.truncate(20);
    Some(Facts {
        subject: printable(&parsed.subject().to_string()),
        issuer: printable(&parsed.issuer().to_string()),
        names,
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        issuer_url,
    })
}

fn printable(text: &str) -> String {
    super::signature::printable(text, 200)
}

fn verify(
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    at: i64,
) -> Result<(), Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    // Without any authority nobody can be trusted.
    let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider)
        .build()
        .map_err(|_| unknown())?;
    let (leaf, others) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or_default()));
    verifier.verify_server_cert(leaf, others, name, &[], at).map(|_| ())
}

fn day(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

async fn judge_chain(
    run: &mut Run<'_>,
    outcome: &mut Outcome,
    endpoint: &Endpoint,
    chain: &[CertificateDer<'static>],
    shaken: &mut Shaken,
    is_h2: bool,
) {
    let Some(leaf) = chain.first().and_then(read) else {
        outcome.inconclusive("the certificate cannot be read");
        return;
    };
    let host = endpoint.tls.clone().unwrap_or_default();
    let Ok(name) = ServerName::try_from(host.clone()) else { return };
    outcome.measure("subject", leaf.subject.clone());
    outcome.measure("issuer", leaf.issuer.clone());
    outcome.measure("names", leaf.names.clone());
    outcome.measure("notBefore", day(leaf.not_before));
    outcome.measure("notAfter", day(leaf.not_after));
    outcome.measure("chainLength", chain.len());
    outcome.summary(format!("TLS {}, certificate until {}", shaken.version, day(leaf.not_after)));

    let parsed = chain.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
    let covers = parsed.is_some_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok());
    let fallback = FALLBACKS
        .iter()
        .find(|known| leaf.subject.contains(**known) || leaf.names.iter().any(|name| name.contains(**known)));
    if let (false, Some(fallback)) = (covers, fallback) {
        run.add(
            Finding::problem(Diagnosis::TLS_NOT_ISSUED)
                .seen(
                    format!("The served certificate is the fallback of the server ({fallback}), not one for {host}."),
                    facts([("sni", host.clone().into()), ("subject", leaf.subject.clone().into())]),
                )
                .next(run.again("tls")),
        );
        return;
    }
    judge_times(run, outcome, chain, shaken, is_h2).await;
    if !covers {
        let names = match leaf.names.is_empty() {
            true => format!("no names (subject {})", leaf.subject),
            false => leaf.names.join(", "),
        };
        run.add(
            Finding::problem(Diagnosis::TLS_HOSTNAME_MISMATCH)
                .seen(
                    format!("The certificate is for {names}; the URL's host is {host}."),
                    facts([("names", leaf.names.clone().into()), ("sni", host.clone().into())]),
                )
                .next(run.again("tls")),
        );
    }
    judge_trust(run, chain, &leaf, &name).await;
    if let Some(inspector) = INSPECTORS.iter().find(|known| leaf.issuer.contains(**known)) {
        run.add(
            Finding::new(Diagnosis::PROXY_INSPECTION, Severity::Warning, Confidence::Likely)
                .seen(
                    format!(
                        "The certificate was issued by {}: a program of that kind ({}) reads the traffic.",
                        leaf.issuer,
                        inspector.trim()
                    ),
                    facts([("issuer", leaf.issuer.clone().into())]),
                )
                .next(run.again("tls,echo")),
        );
    }
}

async fn judge_times(
    run: &mut Run<'_>,
    outcome: &mut Outcome,
    chain: &[CertificateDer<'static>],
    shaken: &mut Shaken,
    is_h2: bool,
) {
    let now = run.now_ms() / 1000;
    for facts_of in chain.iter().filter_map(read) {
        let expired = facts_of.not_after < now;
        let future = facts_of.not_before > now;
        let both = || {
            facts([
                ("subject", facts_of.subject.clone().into()),
                ("notBefore", day(facts_of.not_before).into()),
                ("notAfter", day(facts_of.not_after).into()),
                ("now", day(now).into()),
            ])
        };
        if (expired || future) && !is_h2 {
            // Perhaps it is this clock that is wrong: the server's time decides.
            let theirs = server_time(&mut shaken.stream, &run.net.user_agent, run.net.timeout).await;
            if let Some(theirs) =
                theirs.filter(|theirs| (facts_of.not_before..=facts_of.not_after).contains(theirs))
            {
                outcome.measure("serverTime", day(theirs));
                run.add(clock::finding(
                    run,
                    theirs - now,
                    "The certificate is valid by the server's clock and not by this one.",
                ));
                continue;
            }
        }
        let text = |word: &str, at: i64| {
            format!("The certificate of {} {word} {}; it is {} now.", facts_of.subject, day(at), day(now))
        };
        let finding = if expired {
            Finding::problem(Diagnosis::TLS_EXPIRED).seen(text("ended", facts_of.not_after), both())
        } else if future {
            Finding::problem(Diagnosis::TLS_NOT_YET_VALID).seen(text("begins", facts_of.not_before), both())
        } else if facts_of.not_after - now < WARN_BEFORE {
            Finding::warning(Diagnosis::TLS_EXPIRED).seen(text("ends", facts_of.not_after), both())
        } else {
            continue;
        };
        run.add(finding.next(run.again("tls")));
    }
}

/// The `Date` of an answer on a connection that nothing else is sent on, in seconds since 1970.
async fn server_time(stream: &mut TlsStream<Tap>, user_agent: &str, limit: Duration) -> Option<i64> {
    let request = format!(
        "GET /_tidegate/probe HTTP/1.1\r\nHost: tidegate-doctor.invalid\r\nUser-Agent: {user_agent}\r\nConnection: close\r\n\r\n"
    );
    let read = async {
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut received = Vec::new();
        while received.len() < 8192 && !received.windows(4).any(|window| window == b"\r\n\r\n") {
            if stream.read_buf(&mut received).await.ok()? == 0 {
                break;
            }
        }
        let text = String::from_utf8_lossy(&received).into_owned();
        let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with("date:"))?;
        clock::http_date(line.split_once(':')?.1)
    };
    tokio::time::timeout(limit, read).await.ok()?
}

async fn judge_trust(
    run: &mut Run<'_>,
    chain: &[CertificateDer<'static>],
    leaf: &Facts,
    name: &ServerName<'_>,
) {
    // Times and names were judged: a time at which the leaf is valid shows the rest.
    let at = (run.now_ms() / 1000).clamp(leaf.not_before + 1, (leaf.not_after - 1).max(leaf.not_before + 1));
    let Err(error) = verify(&run.options.roots, chain, name, at) else { return };
    let is_trust = !matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. }
                | CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    );
    if !is_trust {
        return;
    }
    let last = chain.last().and_then(read);
    let ends_in_itself = last.as_ref().is_none_or(|last| last.subject == last.issuer);
    let shown = || {
        facts([
            ("issuer", leaf.issuer.clone().into()),
            ("chainLength", chain.len().into()),
            ("detail", error.to_string().into()),
        ])
    };
    if !ends_in_itself {
        let url = last.as_ref().and_then(|last| last.issuer_url.clone());
        if let Some(fetched) = fetch_issuer(run, url.as_deref()).await {
            let mut completed = chain.to_vec();
            completed.push(fetched);
            if verify(&run.options.roots, &completed, name, at).is_ok() {
                run.add(
                    Finding::problem(Diagnosis::TLS_INCOMPLETE_CHAIN)
                        .seen(
                            format!(
                                "The server sends {} certificate(s); with the one of {}, fetched from its address in the certificate, the chain is complete.",
                                chain.len(),
                                last.as_ref().map(|last| last.issuer.clone()).unwrap_or_default(),
                            ),
                            shown(),
                        )
                        .next(run.again("tls")),
                );
                return;
            }
        }
    }
    let evidence = match ends_in_itself {
        true if chain.len() == 1 => {
            format!("The only certificate of the server signed itself ({}).", leaf.issuer)
        }
        true => format!(
            "The chain ends in {}, which is not trusted here.",
            last.map(|last| last.issuer).unwrap_or_default()
        ),
        false => format!(
            "The chain ends in {}, which is not trusted here and cannot be completed.",
            last.map(|last| last.issuer).unwrap_or_default()
        ),
    };
    // A chain whose end was not sent may end anywhere.
    let confidence = if ends_in_itself { Confidence::Proven } else { Confidence::Likely };
    run.add(
        Finding::new(Diagnosis::TLS_SELF_SIGNED, Severity::Problem, confidence)
            .seen(evidence, shown())
            .next(run.again_with("--cafile FILE --only tls")),
    );
    if !ends_in_itself {
        run.add(
            Finding::new(Diagnosis::TLS_INCOMPLETE_CHAIN, Severity::Problem, Confidence::Possible)
                .seen(
                    "The last certificate that the server sends was signed by one that it does not send.",
                    shown(),
                )
                .next(run.again("tls")),
        );
    }
}

/// Fetches the certificate of an issuer; only from `http://` addresses, as they are there.
async fn fetch_issuer(run: &Run<'_>, url: Option<&str>) -> Option<CertificateDer<'static>> {
    let url = url::Url::parse(url?).ok().filter(|url| url.scheme() == "http")?;
    let host = url.host_str()?;
    let port = url.port().unwrap_or(80);
    let fixed = run.options.resolve.iter().find(|resolve| resolve.host == host && resolve.port == port);
    let address = match fixed {
        Some(resolve) => (resolve.address, port).into(),
        None => tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await.ok()?.next()?,
    };
    let endpoint = Endpoint { address, tls: None, host: host.to_owned() };
    let answer: Answer = run.net.send(&endpoint, &Request::get(url.path())).await.ok()?;
    if answer.status != 200 {
        return None;
    }
    match answer.body.starts_with(b"-----") {
        true => CertificateDer::from_pem_slice(&answer.body).ok(),
        false => Some(CertificateDer::from(answer.body)),
    }
}

/// What clients without a server name get; a URL with an address has none to send.
async fn without_name(
    run: &mut Run<'_>,
    outcome: &mut Outcome,
    endpoint: &Endpoint,
    chain: &[CertificateDer<'static>],
) {
    let Some(target) = run.target().cloned() else { return };
    if target.is_address() {
        let leaf = chain.first().and_then(read);
        let names = leaf.map(|leaf| leaf.names).unwrap_or_default();
        if run.has(Diagnosis::TLS_HOSTNAME_MISMATCH) && !names.is_empty() {
            run.add(
                Finding::problem(Diagnosis::TLS_NO_SNI)
                    .seen(
                        format!(
                            "The URL has an address, so the client names no server and gets the default certificate, for {}.",
                            names.join(", ")
                        ),
                        facts([("names", names.into())]),
                    )
                    .next(run.again("tls")),
            );
        }
        return;
    }
    let shaken = shake(run, endpoint, &Offer { sni: false, ..OFFER }).await;
    let print =
        |chain: &[CertificateDer<'static>]| chain.first().map(|leaf| hex::encode(Sha256::digest(leaf)));
    let seen = match shaken {
        Err(_) => "refused",
        Ok(shaken) if print(&shaken.chain) == print(chain) => "the same certificate",
        Ok(_) => "another certificate",
    };
    outcome.measure("withoutServerName", seen);
}

/// Does the server's HTTP/2 announce extended CONNECT? Nothing: no settings came. Source: RFC 8441, section 3;
/// RFC 9113, section 6.5.
async fn connect_protocol(stream: &mut TlsStream<Tap>, limit: Duration) -> Option<bool> {
    let exchange = async {
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            .await
            .ok()?;
        stream.flush().await.ok()?;
        // The first frame of a server is its settings.
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
        if head[3] != 4 || head[0] != 0 {
            return None;
        }
        let mut settings = vec![0; length];
        stream.read_exact(&mut settings).await.ok()?;
        Some(settings.chunks_exact(6).any(|setting| setting[..2] == [0, 8] && setting[2..] == [0, 0, 0, 1]))
    };
    tokio::time::timeout(limit, exchange).await.ok()?
}
