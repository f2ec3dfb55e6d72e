//! What `doctor` finds: probes against real sockets (servers, proxies and name servers that have exactly one fault, and
//! healthy ones), and definitions as they are written.

#![expect(clippy::unwrap_used, reason = "a failure here is the failure of a test")]

mod server;

mod answers;
mod browser;
mod dns;
mod inspect;
mod limits;
mod messages;
mod net;
mod path;
mod publish;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use tidegate_doctor::probe::{self, ProbeOptions};
use tidegate_doctor::report::{Confidence, Finding, Probe, Report, Severity};

/// Options with short times and one trusted authority, if any.
pub(crate) fn options(url: &str) -> ProbeOptions {
    let mut options = ProbeOptions::new(url, Arc::new(RootCertStore::empty()));
    options.timeout = Duration::from_secs(3);
    options.surroundings.second = Duration::from_millis(25);
    options.surroundings.connect_timeout = Duration::from_millis(400);
    options
}

pub(crate) async fn look(options: &ProbeOptions) -> Report {
    let mut report = Report::new("doctor", probe::masked(&options.url), "2026-01-01T00:00:00.000Z");
    probe::run(options, &mut report, &|_| {}).await;
    report.finish(0);
    for finding in &report.findings {
        assert!(!finding.next.is_empty(), "{} names no command", finding.id);
        assert!(!finding.evidence.is_empty(), "{} has no evidence", finding.id);
    }
    report
}

/// Looks with these probes only.
pub(crate) async fn look_with(options: &ProbeOptions, only: &[&str]) -> Report {
    let only = only.iter().map(|name| probe::name_of(name).unwrap()).collect();
    look(&ProbeOptions { only, ..options.clone() }).await
}

pub(crate) fn ids(report: &Report) -> Vec<&str> {
    report.findings.iter().map(|finding| finding.id.as_str()).collect()
}

pub(crate) fn finding<'a>(report: &'a Report, id: &str) -> &'a Finding {
    let found = report.findings.iter().find(|finding| finding.id == id);
    found.unwrap_or_else(|| panic!("{id} was not found, but {:?}: {:#?}", ids(report), report.probes))
}

/// The finding is there, with its proof.
pub(crate) fn proven<'a>(report: &'a Report, id: &str) -> &'a Finding {
    let found = finding(report, id);
    assert_eq!(found.confidence, Confidence::Proven, "{id}: {found:#?}");
    found
}

/// Nothing is wrong, and nothing is said to be.
pub(crate) fn healthy(report: &Report) {
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

pub(crate) fn probe_of<'a>(report: &'a Report, name: &str) -> &'a Probe {
    report.probes.iter().find(|probe| probe.name == name).unwrap_or_else(|| panic!("no probe {name}"))
}

pub(crate) fn is_problem(finding: &Finding) -> bool {
    finding.severity == Severity::Problem
}
