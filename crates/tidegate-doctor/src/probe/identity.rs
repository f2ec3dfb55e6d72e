//! Probe 6: is this Tidegate, which one, and what of a request arrives there?

use serde_json::{Map, Value};
use tidegate_core::diagnosis::Diagnosis;

use super::wire::{Answer, Trouble};
use super::{Identity, Outcome, Run, facts};
use crate::report::Finding;

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let answer = match learn(run).await {
        Ok(answer) => answer,
        Err(trouble) => {
            outcome.inconclusive(format!("no answer: {trouble}"));
            return outcome;
        }
    };
    outcome.measure("status", answer.status);
    outcome.measure("server", answer.header("server").map(super::signature::shown));
    let wants_tidegate = run.options.admin.is_some();
    let has_ticket = run.options.admin.as_ref().is_some_and(|admin| admin.ticket.is_some());
    match run.identity.clone() {
        Identity::Full(members) if is_other_installation(run, &members) => {
            run.add(
                Finding::problem(Diagnosis::DNS_WRONG_TARGET)
                    .seen(
                        format!(
                            "{} is a Tidegate, but of another installation than {}.",
                            address_of(run),
                            admin_url(run)
                        ),
                        facts([
                            ("installation", members.get("installation").cloned().unwrap_or_default()),
                            (
                                "expected",
                                run.options
                                    .admin
                                    .as_ref()
                                    .and_then(|admin| admin.installation.clone())
                                    .into(),
                            ),
                        ]),
                    )
                    .next(run.again("dns,identity")),
            );
        }
        Identity::Full(members) => {
            outcome.measure("installation", members.get("installation").cloned());
            outcome.measure("arrived", arrived(&members));
            outcome.summary("a Tidegate, with its probe endpoint");
            judge_arrival(run, &members, answer.local.map(|local| local.ip().to_string()));
        }
        Identity::Named if has_ticket => {
            let installation = answer.json().and_then(|body| body.get("installation").cloned());
            outcome.measure("installation", installation.clone());
            run.add(
                Finding::problem(Diagnosis::DNS_WRONG_TARGET)
                    .seen(
                        format!(
                            "{} is a Tidegate, but not the one of {}: it does not know the ticket.",
                            address_of(run),
                            admin_url(run)
                        ),
                        facts([
                            ("installation", installation.unwrap_or_default()),
                            ("address", address_of(run).into()),
                        ]),
                    )
                    .next(run.again("dns,identity")),
            );
        }
        Identity::Named => {
            outcome.measure("installation", answer.json().and_then(|body| body.get("installation").cloned()));
            outcome.summary("a Tidegate; with --admin it tells what arrives");
        }
        Identity::Foreign | Identity::Unknown if wants_tidegate && !answer.is_tidegate() => {
            let evidence = format!(
                "{} answers {} to the probe path, without a header of Tidegate; {} is the gateway that was meant.",
                address_of(run),
                answer.status,
                admin_url(run)
            );
            let evidence_facts = facts([
                ("status", answer.status.into()),
                ("address", address_of(run).into()),
                ("server", answer.header("server").map(super::signature::shown).into()),
            ]);
            // A name that leads elsewhere is the record's fault, an address was chosen.
            let diagnosis =
                match run.target().is_some_and(|target| target.is_address() || target.is_loopback()) {
                    true => Diagnosis::BYPASS_NOT_THE_GATEWAY,
                    false => Diagnosis::DNS_WRONG_TARGET,
                };
            run.add(
                Finding::problem(diagnosis).seen(evidence, evidence_facts).next(run.again("dns,identity")),
            );
        }
        Identity::Foreign | Identity::Unknown => {
            outcome.summary(match answer.is_tidegate() {
                true => "a Tidegate without its probe endpoint",
                false => "no Tidegate, or one whose probe endpoint is switched off",
            });
        }
    }
    outcome
}

/// Asks the probe path and remembers what the answer says.
pub(super) async fn learn(run: &mut Run<'_>) -> Result<Answer, Trouble> {
    let answer = run.base().await;
    run.identity = match &answer {
        Ok(answer) => read(answer.status, &answer.json()),
        Err(_) => Identity::Foreign,
    };
    answer
}

fn address_of(run: &Run<'_>) -> String {
    run.address.map(|address| address.to_string()).unwrap_or_default()
}

fn is_other_installation(run: &Run<'_>, members: &Map<String, Value>) -> bool {
    let expected = run.options.admin.as_ref().and_then(|admin| admin.installation.as_deref());
    let given = members.get("installation").and_then(Value::as_str);
    expected.is_some_and(|expected| given.is_some_and(|given| given != expected))
}

fn admin_url(run: &Run<'_>) -> String {
    run.options.admin.as_ref().map(|admin| super::masked(&admin.url)).unwrap_or_default()
}

/// What an answer to the probe path says.
fn read(status: u16, body: &Option<Value>) -> Identity {
    let members = body.as_ref().and_then(Value::as_object).filter(|_| status == 200);
    match members {
        Some(members) if members.get("installation").is_some_and(Value::is_string) => {
            match arrival(&Value::Object(members.clone())) {
                Value::Object(members) if members.contains_key("method") => Identity::Full(members),
                _ => Identity::Named,
            }
        }
        _ => Identity::Foreign,
    }
}

/// The answer of a probe endpoint with the members that the probes read: what stands in `headers` beside the others,
/// `forwarded` for all of `x-forwarded-*`, and the peer as one text.
pub(super) fn arrival(body: &Value) -> Value {
    let mut body = body.clone();
    let Some(members) = body.as_object_mut() else { return body };
    if let Some(Value::Object(headers)) = members.remove("headers") {
        let (forwarded, others): (Map<_, _>, Map<_, _>) =
            headers.into_iter().partition(|(name, _)| name.starts_with("x-forwarded-"));
        members.insert("forwarded".to_owned(), Value::Object(forwarded));
        members.extend(others);
    }
    let peer = members.get("peer").and_then(Value::as_object).and_then(|peer| {
        let address: std::net::IpAddr = peer.get("address")?.as_str()?.parse().ok()?;
        let port = u16::try_from(peer.get("port")?.as_u64()?).ok()?;
        Some(std::net::SocketAddr::new(address, port).to_string())
    });
    if let Some(peer) = peer {
        members.insert("peer".to_owned(), peer.into());
    }
    body
}

/// The members that say what arrived, without names of headers that the client sent itself.
fn arrived(members: &Map<String, Value>) -> Value {
    let wanted =
        ["method", "version", "host", "origin", "upgrade", "connection", "via", "forwarded", "peer", "tls"];
    let kept = members.iter().filter(|(name, _)| wanted.contains(&name.as_str()));
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn judge_arrival(run: &mut Run<'_>, members: &Map<String, Value>, local: Option<String>) {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let sent = run.target().map(|target| target.authority.clone()).unwrap_or_default();
    let forwarded = members.get("forwarded").and_then(Value::as_object);
    let forwarded_host = forwarded.and_then(|forwarded| {
        forwarded.iter().find(|(name, _)| name.to_ascii_lowercase().contains("host")).map(|(_, value)| value)
    });
    if let Some(host) = text("host").filter(|host| !host.eq_ignore_ascii_case(&sent)) {
        run.add(
            Finding::warning(Diagnosis::PROXY_HOST_REWRITTEN)
                .seen(
                    format!("Sent `Host: {sent}`, arrived `Host: {}`.", super::signature::shown(host)),
                    facts([
                        ("host", super::signature::shown(host).into()),
                        ("expected", sent.into()),
                        ("forwardedHost", forwarded_host.cloned().unwrap_or_default()),
                    ]),
                )
                .next(run.again("identity")),
        );
    }
    let peer = text("peer").unwrap_or_default();
    let peer_ip = peer.parse::<std::net::SocketAddr>().map(|peer| peer.ip()).or_else(|_| peer.parse());
    // Only what a direct connection cannot show proves a proxy: another peer, `Via`, an older version.
    let version = text("version").unwrap_or_default();
    let has_via = text("via").is_some_and(|via| !via.is_empty());
    let other_peer = peer_ip.as_ref().is_ok_and(|peer| Some(peer.to_string()) != local);
    let is_private = peer_ip.is_ok_and(|peer| match peer {
        std::net::IpAddr::V4(peer) => peer.is_private() || peer.is_loopback(),
        std::net::IpAddr::V6(peer) => peer.is_loopback() || peer.is_unique_local(),
    });
    let has_proxy = has_via || version.ends_with("1.0") || (other_peer && is_private);
    if has_proxy && is_private && forwarded.is_none_or(Map::is_empty) {
        run.add(
            Finding::warning(Diagnosis::PROXY_FORWARDED_MISSING)
                .seen(
                    format!("The gateway's peer is {peer}, a proxy, and no X-Forwarded header arrives."),
                    facts([("peer", peer.into()), ("via", text("via").into())]),
                )
                .next(run.again("identity")),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_answer_of_the_probe_endpoint_is_read() {
        // DX-35
        let body = json!({
            "installation": "0123456789abcdef", "method": "GET", "version": "1.0",
            "peer": { "address": "10.0.0.7", "port": 4000 },
            "headers": { "host": "a", "upgrade": null, "x-forwarded-for": "192.0.2.1" },
        });
        let read = arrival(&body);
        assert_eq!((&read["peer"], &read["host"]), (&json!("10.0.0.7:4000"), &json!("a")));
        assert_eq!(read["forwarded"], json!({ "x-forwarded-for": "192.0.2.1" }));
        assert!(matches!(super::read(200, &Some(body)), Identity::Full(_)));
        assert_eq!(super::read(200, &Some(json!({ "installation": "x" }))), Identity::Named);
        assert_eq!(super::read(404, &Some(json!({ "installation": "x" }))), Identity::Foreign);
    }
}
