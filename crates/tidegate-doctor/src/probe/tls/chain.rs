//! The chain of certificates: names, dates, and who signed it.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use tidegate_core::diagnosis::Diagnosis;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::client::TlsStream;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::shake::{Shaken, Tap};
use crate::probe::wire::{Answer, Endpoint, Request};
use crate::probe::{Outcome, Run, clock, facts};
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

/// What is shown of a certificate.
pub(super) struct Facts {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) names: Vec<String>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// Where its issuer's certificate can be fetched.
    pub(super) issuer_url: Option<String>,
}

pub(super) fn read(certificate: &CertificateDer<'_>) -> Option<Facts> {
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
    crate::probe::signature::printable(text, 200)
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

pub(super) async fn judge_chain(
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
