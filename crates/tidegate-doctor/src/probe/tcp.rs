//! Probe 3: can a connection be made, to every address of the host?

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tokio::time::Instant;

use super::wire::Trouble;
use super::{Outcome, Run, facts, likely, millis};
use crate::report::{Confidence, Finding, Severity};

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(target) = run.target().cloned() else { return outcome };
    let mut tried: Vec<(IpAddr, Result<Duration, Trouble>)> = Vec::new();
    for address in run.resolved.clone() {
        let started = Instant::now();
        let result = run.net.tcp(SocketAddr::new(address, target.port)).await.map(|_| started.elapsed());
        tried.push((address, result));
    }
    let measured: Vec<_> = tried
        .iter()
        .map(|(address, result)| match result {
            Ok(time) => json!({ "address": address.to_string(), "result": "ok", "ms": millis(*time) }),
            Err(trouble) => json!({ "address": address.to_string(), "result": trouble.to_string() }),
        })
        .collect();
    outcome.measure("addresses", measured);
    outcome.measure("port", target.port);

    let good = tried.iter().find_map(|(address, result)| Some((*address, *result.as_ref().ok()?)));
    let with = |wanted: &Trouble| -> Vec<IpAddr> {
        tried
            .iter()
            .filter(|(_, result)| result.as_ref() == Err(wanted))
            .map(|(address, _)| *address)
            .collect()
    };
    let (refused, silent) = (with(&Trouble::Refused), with(&Trouble::NoConnection));
    let list = |addresses: &[IpAddr]| {
        let texts: Vec<String> = addresses
            .iter()
            .map(|address| format!("{address} ({})", if address.is_ipv6() { "IPv6" } else { "IPv4" }))
            .collect();
        texts.join(", ")
    };
    let facts_of = |addresses: &[IpAddr]| {
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        facts([("addresses", texts.into()), ("port", target.port.into())])
    };
    if let Some((address, time)) = good {
        run.address = Some(SocketAddr::new(address, target.port));
        run.tcp_round_trip = Some(time);
        outcome.summary(format!("{address} port {} in {} ms", target.port, millis(time)));
        let refused_six = refused.iter().any(|address| address.is_ipv6());
        if target.is_loopback() && refused_six && address.is_ipv4() {
            let evidence = format!(
                "{} resolves to ::1 as well; port {} refuses there and accepts on {address}.",
                target.host, target.port
            );
            run.add(
                Finding::warning(Diagnosis::NET_LOCALHOST_IPV6)
                    .seen(evidence, facts_of(&refused))
                    .next(run.again("tcp")),
            );
        } else if !refused.is_empty() {
            run.add(
                Finding::warning(Diagnosis::NET_REFUSED)
                    .seen(
                        format!(
                            "Port {} is refused at {}, and open at {address}: clients that get the other address fail.",
                            target.port,
                            list(&refused)
                        ),
                        facts_of(&refused),
                    )
                    .next(run.again("tcp")),
            );
        }
        if !silent.is_empty() {
            run.add(
                Finding::new(Diagnosis::NET_TIMEOUT, Severity::Warning, Confidence::Likely)
                    .seen(format!("No answer from {}; {address} answers.", list(&silent)), facts_of(&silent))
                    .next(run.again("tcp")),
            );
        }
        return outcome;
    }

    let waited = millis(run.options.surroundings.connect_timeout);
    if !refused.is_empty() {
        let others = other_ports(run, refused[0]).await;
        let evidence = match others.as_slice() {
            [] => format!("Port {} is refused at {}.", target.port, list(&refused)),
            open => format!(
                "Port {} is refused at {}; open there: {}.",
                target.port,
                list(&refused),
                open.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
        };
        outcome.measure("openPorts", others.clone());
        run.add(
            Finding::problem(Diagnosis::NET_REFUSED)
                .seen(evidence, facts_of(&refused))
                .next(run.again("tcp")),
        );
        let admin = run.options.admin.as_ref();
        let server_down = match admin {
            Some(admin) if !admin.answers => Some(Finding::problem(Diagnosis::HANDSHAKE_SERVER_DOWN).seen(
                format!("The port refuses, and the admin listener {} does not answer either.", admin.url),
                facts_of(&refused),
            )),
            None if target.is_loopback() && others.is_empty() => Some(
                likely(Diagnosis::HANDSHAKE_SERVER_DOWN)
                    .seen("The port of this machine refuses.", facts_of(&refused)),
            ),
            _ => None,
        };
        if let Some(finding) = server_down {
            run.add(finding.next("tidegate status").next(run.again("tcp")));
        }
        outcome.stop("no connection: refused");
    } else if !silent.is_empty() && silent.len() == tried.len() {
        run.add(
            Finding::problem(Diagnosis::NET_TIMEOUT)
                .seen(
                    format!(
                        "Nothing came back within {waited} ms from {}, port {}.",
                        list(&silent),
                        target.port
                    ),
                    facts_of(&silent),
                )
                .next(run.again("tcp")),
        );
        outcome.stop("no connection: no answer");
    } else {
        let texts: Vec<String> = tried
            .iter()
            .filter_map(|(address, result)| Some(format!("{address}: {}", result.as_ref().err()?)))
            .collect();
        outcome.inconclusive(format!("no address can be reached from here ({})", texts.join("; ")));
        outcome.stop("no connection");
    }
    outcome
}

/// Which of the usual ports is open instead.
async fn other_ports(run: &Run<'_>, address: IpAddr) -> Vec<u16> {
    let surroundings = &run.options.surroundings;
    let used = run.target().map(|target| target.port);
    let mut open = Vec::new();
    for port in [surroundings.plain_port, surroundings.tls_port] {
        if Some(port) != used && run.net.tcp(SocketAddr::new(address, port)).await.is_ok() {
            open.push(port);
        }
    }
    open
}
