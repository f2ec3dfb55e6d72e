//! `doctor --domain`: what the node says of a name, and what answers there.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tidegate_auth::Secret;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_doctor::inspect::{certificate, facts};
use tidegate_doctor::probe::{self, Admin, ProbeOptions};
use tidegate_doctor::report::{Confidence, Finding, Probe, ProbeResult, Report, Severity};

use crate::admin_client::{Body, path};
use crate::cli::doctor::probe::ProbeArgs;
use crate::command::node::Node;

/// Port of `wss://` where none is named.
const PORT: u16 = 443;

/// What is tried from here. Without `tcp` the others have no address.
const PROBES: [&str; 5] = ["url", "dns", "tcp", "tls", "identity"];

/// Looks at `NAME` or `NAME:PORT`.
pub(super) async fn check(
    node: &mut Node,
    given: &str,
    outside: &ProbeArgs,
    timeout: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (name, port) = match given.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
        Some((name, Ok(port))) => (name, port),
        _ => (given, PORT),
    };
    let answer = node.change(Method::POST, &["domains", name, "doctor"], &[], Body::Nothing).await?;
    super::merge(report, answer["report"].clone())?;
    if name.starts_with("*.") {
        report.probes.push(skipped("a wildcard is no name that could be asked"));
        return Ok(());
    }
    let is_known = |finding: &Finding| finding.id == Diagnosis::DNS_NO_RECORD.as_str();
    let has_no_address = report.findings.iter().any(is_known) && outside.resolve.is_empty();
    if has_no_address {
        report.probes.push(skipped("the name has no address"));
        return Ok(());
    }
    let found = from_outside(node, name, port, outside, timeout).await?;
    add(report, name, found);
    Ok(())
}

fn skipped(reason: &str) -> Probe {
    let measurements = facts([("reason", reason.into())]);
    Probe { name: "served".to_owned(), result: ProbeResult::Skipped, measurements }
}

/// What this machine sees under the name: address, certificate, whose answer it is.
async fn from_outside(
    node: &mut Node,
    name: &str,
    port: u16,
    outside: &ProbeArgs,
    timeout: Duration,
) -> anyhow::Result<Report> {
    let roots = probe::roots(outside.cafile.as_deref())?;
    let authority = if port == PORT { name.to_owned() } else { format!("{name}:{port}") };
    let mut options = ProbeOptions::new(format!("wss://{authority}/"), Arc::new(roots));
    options.resolve.clone_from(&outside.resolve);
    options.resolvers.clone_from(&outside.resolver);
    options.timeout = timeout;
    options.only = PROBES.to_vec();
    let ticket = node.client.call(Method::POST, &path(&["probe-tickets"]), &[], Body::Json(json!({}))).await;
    // Whoever may not have a ticket still learns whose installation it is not.
    options.admin = ticket.ok().map(|ticket| Admin {
        ticket: ticket["ticket"].as_str().map(Secret::new),
        installation: ticket["installation"].as_str().map(str::to_owned),
        answers: true,
        url: node.client.base().to_owned(),
    });
    let mut found = Report::new("doctor", "", "");
    probe::run(&options, &mut found, &|_| ()).await;
    Ok(found)
}

/// What was seen from here, beside what the node said.
fn add(report: &mut Report, name: &str, found: Report) {
    let result =
        |wanted: &str| found.probes.iter().find(|probe| probe.name == wanted).map(|probe| probe.result);
    // Where nothing can be reached, a firewall between here and there may be the reason: that says nothing of the domain.
    if result("tcp") == Some(ProbeResult::Problem) {
        let reason = format!(
            "{name} cannot be reached from this machine; run `tidegate doctor wss://{name}/` where clients are"
        );
        let measurements = facts([("reason", reason.into())]);
        report.probes.push(Probe {
            name: "served".to_owned(),
            result: ProbeResult::Inconclusive,
            measurements,
        });
        return;
    }
    let tls = found.probes.iter().find(|probe| probe.name == "tls").map(|probe| &probe.measurements);
    let names = |value: Option<&Value>| -> Vec<String> {
        let list = value.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let served = names(tls.and_then(|measured| measured.get("names")));
    let configured = report.probes.iter().find(|probe| probe.name == "certificate");
    let configured = names(configured.and_then(|probe| probe.measurements.get("certificateNames")));
    let covers = |names: &[String]| names.iter().any(|pattern| certificate::covers(pattern, name));
    let is_default = !served.is_empty() && !covers(&served) && covers(&configured);
    // The node's guess by addresses alone gives way to what answered.
    let is_ours = result("identity") == Some(ProbeResult::Ok);
    if is_ours {
        report.findings.retain(|finding| {
            finding.id != Diagnosis::DNS_WRONG_TARGET.as_str() || finding.confidence == Confidence::Proven
        });
    }
    for finding in found.findings {
        let is_known = report
            .findings
            .iter()
            .any(|known| known.id == finding.id && known.confidence == Confidence::Proven);
        if !is_known {
            report.findings.retain(|known| known.id != finding.id);
            report.findings.push(finding);
        }
    }
    if is_default {
        let text = format!(
            "The node has a certificate for {}; under {name} one for {} is served.",
            configured.join(", "),
            served.join(", ")
        );
        let known = facts([("certificateNames", json!(served)), ("expected", json!(configured))]);
        let finding = Finding::new(Diagnosis::TLS_NOT_ISSUED, Severity::Problem, Confidence::Proven);
        report.findings.retain(|known| known.id != Diagnosis::TLS_NOT_ISSUED.as_str());
        report.findings.push(finding.seen(text, known));
    }
    report
        .probes
        .extend(found.probes.into_iter().filter(|probe| ["tls", "identity"].contains(&probe.name.as_str())));
}
