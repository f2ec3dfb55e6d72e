//! The cheap checks that a node repeats, and what they found last.

use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_doctor::inspect::definitions::ApiView;
use tidegate_doctor::inspect::{certificate, definitions, facts};
use tidegate_doctor::report::Finding;

use super::backends::Run;
use super::{begin, key_sets};
use crate::api::Inner;

/// How long an overload is shown after it was found, in milliseconds.
const OVERLOAD_SHOWN: u64 = 10 * 60 * 1000;

/// What the repeated checks found last.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    at: Option<String>,
    findings: Vec<Finding>,
}

/// Findings that the repeated checks keep.
const MAX_WATCHED: usize = 1000;

impl Watched {
    pub(crate) fn shown(&self) -> Value {
        let problems = self
            .findings
            .iter()
            .filter(|finding| finding.severity == tidegate_doctor::report::Severity::Problem)
            .count();
        json!({ "at": self.at, "problems": problems, "findings": self.findings })
    }

    pub(crate) fn counts(&self) -> Vec<(Diagnosis, u64)> {
        let mut counts: Vec<(Diagnosis, u64)> = Vec::new();
        for finding in
            self.findings.iter().filter(|finding| finding.severity != tidegate_doctor::report::Severity::Info)
        {
            let Some(diagnosis) = Diagnosis::find(&finding.id) else { continue };
            match counts.iter_mut().find(|(known, _)| *known == diagnosis) {
                Some((_, count)) => *count += 1,
                None => counts.push((diagnosis, 1)),
            }
        }
        counts
    }
}

/// The cheap checks of all APIs: definitions, and whether backends take connections. Sends nothing to them.
pub(crate) async fn watch(inner: &Inner) {
    let _turn = inner.inspecting.acquire().await;
    let live = inner.control.live();
    let mut findings = Vec::new();
    for api in &live.apis {
        let Some(definition) = inner.control.definition(&api.api.api_id) else { continue };
        let settings = inner.gateway.settings_of(&api.api.api_id);
        let region = &inner.control.settings().region.clone();
        let view = ApiView {
            current: &definition,
            stages: &api.stages,
            domains: &live.domains,
            settings: &settings,
            region,
        };
        findings.extend(definitions::check(&view).1);
        let (mut report, started) = begin(&api.api.api_id);
        let mut run =
            Run { inner, no_post: true, started, n_requests: 0, package: None, is_https_or_local: None };
        run.backends(api, &mut report).await;
        key_sets(inner, api, &mut report).await;
        findings.extend(report.findings);
        findings.truncate(MAX_WATCHED);
    }
    let now = jiff::Timestamp::now();
    let configured = inner.configured();
    for known in &configured.surroundings.certificates {
        findings.extend(certificate::check(known, None, now.as_second()));
    }
    if let Some(problem) = &configured.surroundings.unusable_certificate {
        let text =
            format!("The files of the TLS certificate cannot be used, so an older one is shown: {problem}");
        findings.push(
            Finding::problem(Diagnosis::PROVISION_INVALID_CERTIFICATE)
                .seen(text, facts([("object", "tls".into())])),
        );
    }
    let since = u64::try_from(now.as_millisecond()).unwrap_or_default().saturating_sub(OVERLOAD_SHOWN);
    if let Some(delay) = inner.gateway.overload_since(since) {
        let text = format!("Tasks ran up to {delay} ms late, again and again, in the last ten minutes.");
        let known = facts([("delayMs", delay.into())]);
        findings.push(
            Finding::warning(Diagnosis::LIMIT_OVERLOAD).seen(text, known).next("tidegate doctor --system"),
        );
    }
    findings.truncate(MAX_WATCHED);
    *inner.watched.lock() =
        Watched { at: Some(now.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()), findings };
}
