//! Probe 4: TLS as a client meets it: chain, names, dates, versions, application protocols, server name.
//!
//! The certificate is recorded first and judged afterwards, so that all its defects are found at once. Nothing but a
//! question for the server's time is sent on a connection whose certificate was not verified.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, Error};
use sha2::{Digest as _, Sha256};
use tidegate_core::diagnosis::Diagnosis;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::client::TlsStream;

use self::chain::{judge_chain, read};
use self::shake::{Failed, OFFER, ONLY_12, ONLY_13, Offer, Tap, shake};
use crate::probe::wire::{Endpoint, Request, Trouble};
use crate::probe::{Outcome, Run, facts, likely};
use crate::report::{Confidence, Finding, Severity};

mod chain;
mod shake;

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
