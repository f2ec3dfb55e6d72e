//! The backends of an API, asked as events would ask them.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_core::definition::LiveApi;
use tidegate_core::snapshot::{IntegrationKind, Stage};
use tidegate_doctor::inspect::backend::{Answered, Attempt, Backend, Outcome, PackageFacts, Purpose};
use tidegate_doctor::inspect::target::{Reach, Target};
use tidegate_doctor::inspect::{backend, definitions, facts, reflect};
use tidegate_doctor::report::{Finding, Probe, ProbeResult, Report};
use tidegate_gateway::BackendProbe;

use super::{MAX_BACKENDS, TIMEOUT};
use crate::api::Inner;

/// Requests of one run, whatever an API has.
const MAX_REQUESTS: usize = 60;

/// Means nothing to anybody.
const PROBE_COOKIE: &str = "tidegate-probe=1";

/// One run; what comes later is skipped.
const MAX_RUN: Duration = Duration::from_secs(60);

/// One look at the backends of an API.
pub(super) struct Run<'a> {
    pub(super) inner: &'a Inner,
    pub(super) no_post: bool,
    pub(super) started: Instant,
    pub(super) n_requests: usize,
    pub(super) package: Option<PackageFacts>,
    pub(super) is_https_or_local: Option<bool>,
}

impl Run<'_> {
    /// Every distinct address of every stage.
    pub(super) async fn backends(&mut self, live: &LiveApi, report: &mut Report) {
        let mut seen: Vec<String> = Vec::new();
        for stage in &live.stages {
            let name = &stage.stage.stage_name;
            let Some(stage) = self.inner.gateway.find_stage(&live.api.api_id, name) else { continue };
            for backend in backends_of(&stage) {
                let key = backend.target.shown();
                if seen.contains(&key) {
                    continue;
                }
                let is_over = seen.len() >= MAX_BACKENDS
                    || self.started.elapsed() > MAX_RUN
                    || self.n_requests >= MAX_REQUESTS;
                seen.push(key);
                if is_over {
                    let reason = "a run asks at most 20 addresses, by 60 requests, within 60 s";
                    report.probes.push(skipped("backend", &backend.target.shown(), reason));
                    continue;
                }
                let (probe, findings, package) = Box::pin(self.backend(&stage, &backend)).await;
                report.probes.push(probe);
                for mut finding in findings {
                    finding.api_id = Some(live.api.api_id.clone());
                    finding.stage = Some(name.clone());
                    // One server that is down is one finding, however many routes lead to it.
                    let host = |finding: &Finding| {
                        finding.evidence.first().and_then(|seen| host_of(seen.facts.get("target")?.as_str()?))
                    };
                    let is_known = |known: &&mut Finding| {
                        known.id == finding.id
                            && known.stage == finding.stage
                            && host(known).is_some()
                            && host(known) == host(&finding)
                    };
                    match report.findings.iter_mut().find(is_known) {
                        Some(known)
                            if finding
                                .evidence
                                .first()
                                .is_some_and(|seen| seen.facts.contains_key("connectMs")) =>
                        {
                            known.evidence.append(&mut finding.evidence);
                        }
                        _ => report.findings.push(finding),
                    }
                }
                if backend.route_keys.iter().any(|key| key == "$connect") && self.package.is_none() {
                    self.is_https_or_local =
                        Some(backend.target.is_https() || backend.target.reach() != Reach::Public);
                    self.package = package;
                }
            }
        }
    }

    async fn backend(
        &mut self,
        stage: &Stage,
        backend: &Backend,
    ) -> (Probe, Vec<Finding>, Option<PackageFacts>) {
        let nonce = self.inner.nonce();
        let (first, sent) = self.attempt(stage, backend, &backend.first(), &nonce).await;
        let Some(first) = first else {
            let measurements =
                facts([("target", backend.target.shown().into()), ("connectsOnly", true.into())]);
            return (
                Probe { name: "backend".to_owned(), result: ProbeResult::Ok, measurements },
                Vec::new(),
                None,
            );
        };
        if let Outcome::Answered(answer) = &first
            && let Some(mut arrived) = reflect::read(&answer.body)
        {
            let mut sent = sent;
            // Nobody but the reflector reads it, so it may carry a cookie, as handshakes do.
            let first = backend.first();
            if first.is_connect {
                let attempt = Attempt { purpose: Purpose::Cookie, ..first };
                let (outcome, with_cookie) = self.attempt(stage, backend, &attempt, &nonce).await;
                if let Some(Outcome::Answered(answer)) = outcome
                    && let Some(its_arrival) = reflect::read(&answer.body)
                {
                    (arrived, sent) = (its_arrival, with_cookie);
                }
            }
            let findings = reflect::compare(&sent, &arrived.headers, backend.target.is_tunnel());
            let mut measurements = facts([
                ("target", backend.target.shown().into()),
                ("reflected", arrived.headers.len().into()),
            ]);
            if findings.is_empty() {
                let text = "every header arrived as it was sent; if the backend refuses headers, it does not know the API's id (backend.api-id-unknown) or its own server drops them (backend.server-drops-forwarded)";
                measurements.insert("meaning".to_owned(), text.into());
            }
            return (
                Probe { name: "reflect".to_owned(), result: definitions::worst(&findings), measurements },
                findings,
                None,
            );
        }
        let mut further = Vec::new();
        for attempt in backend.further(&first) {
            if self.n_requests >= MAX_REQUESTS || self.started.elapsed() > MAX_RUN {
                break;
            }
            if let (Some(outcome), _) = self.attempt(stage, backend, &attempt, &nonce).await {
                further.push((attempt, outcome));
            }
        }
        let (probe, findings, package) = backend.judge(&first, &further);
        (probe, findings, Some(package))
    }

    /// One request; no outcome when only a connection was wanted and there was one.
    async fn attempt(
        &mut self,
        stage: &Stage,
        backend: &Backend,
        attempt: &Attempt,
        nonce: &str,
    ) -> (Option<Outcome>, Vec<reflect::Header>) {
        self.n_requests += 1;
        let headers = match attempt.purpose {
            Purpose::HostCheck => browser_headers(),
            Purpose::Cookie => {
                let cookie = HeaderValue::from_static(PROBE_COOKIE);
                HeaderMap::from_iter([(http::header::COOKIE, cookie)])
            }
            _ => HeaderMap::new(),
        };
        let marks = [("Tidegate-Probe", "1".to_owned()), ("Tidegate-Probe-Nonce", nonce.to_owned())];
        let route_key = backend.route_keys.first().map_or("", String::as_str);
        let probe = BackendProbe {
            stage,
            route_key,
            url: &attempt.url,
            is_connect: attempt.is_connect,
            headers: &headers,
            marks: &marks,
            connects_only: self.no_post,
            timeout: TIMEOUT,
        };
        match self.inner.gateway.probe_backend(probe).await {
            Ok(None) => (None, Vec::new()),
            Ok(Some(answer)) => {
                let text = |name: &str| {
                    answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
                };
                let host = answer.sent.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
                let answered = Answered {
                    status: answer.status,
                    location: text("location"),
                    allow: text("allow"),
                    content_type: text("content-type"),
                    server: text("server"),
                    body: answer.body[..answer.body.len().min(body_limit(&answer.headers))].to_vec(),
                    sent: answer.sent.iter().map(|(name, _)| name.to_ascii_lowercase()).collect(),
                    host: host
                        .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
                        .unwrap_or_default(),
                    millis: u64::try_from(answer.duration.as_millis()).unwrap_or(u64::MAX),
                };
                let sent = reflect::hashed(
                    nonce,
                    answer.sent.iter().map(|(name, value)| (name.as_str(), value.as_slice())),
                );
                (Some(Outcome::Answered(Box::new(answered))), sent)
            }
            Err(failure) => {
                let outcome = Outcome::Failed {
                    diagnosis: failure.diagnosis,
                    detail: failure.detail,
                    speaks_no_tls: failure.speaks_no_tls,
                    millis: u64::try_from(failure.duration.as_millis()).unwrap_or(u64::MAX),
                };
                (Some(outcome), Vec::new())
            }
        }
    }
}

/// The answer of the reflect mode has to be read whole.
fn body_limit(headers: &HeaderMap) -> usize {
    if headers.contains_key("tidegate-reflect") { 64 * 1024 } else { backend::LOOKED_AT }
}

fn host_of(target: &str) -> Option<String> {
    Target::parse(target).map(|target| target.authority().to_owned())
}

/// What a browser sends with a handshake. Nobody accepts this origin, and the cookie means nothing.
fn browser_headers() -> HeaderMap {
    const HEADERS: [(&str, &str); 5] = [
        ("cookie", PROBE_COOKIE),
        ("origin", "http://tidegate-probe.invalid"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("sec-websocket-version", "13"),
    ];
    HEADERS
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

/// HTTP backends of a stage, each address once, that of `$connect` first.
fn backends_of(stage: &Stage) -> Vec<Backend> {
    let Some(deployment) = &stage.deployment else { return Vec::new() };
    let mut keys: Vec<&String> = deployment.routes.keys().collect();
    keys.sort_by_key(|key| (*key != "$connect", *key));
    let mut backends: Vec<Backend> = Vec::new();
    for key in keys {
        let IntegrationKind::Http(http) = &deployment.routes[key].integration.kind else { continue };
        let uri = http.uri.resolve(&stage.variables, &|_| Some("x".to_owned()));
        let Some(target) = uri.ok().and_then(|uri| Target::parse(&uri.to_string())) else { continue };
        match backends.iter_mut().find(|known| known.target == target) {
            Some(known) => known.route_keys.push(key.clone()),
            None => backends.push(Backend { target, route_keys: vec![key.clone()] }),
        }
    }
    backends
}

fn skipped(name: &str, target: &str, reason: &str) -> Probe {
    let measurements = facts([("target", target.into()), ("reason", reason.into())]);
    Probe { name: name.to_owned(), result: ProbeResult::Skipped, measurements }
}
