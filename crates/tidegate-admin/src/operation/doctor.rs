//! `doctor` from inside: an API with its backends, a domain name, the way of a message, and what the watch found last.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use tidegate_auth::Role;
use tidegate_core::definition::{ApiDefinition, LiveApi};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{EntryQuery, Kind};
use tidegate_core::policy::Policy;
use tidegate_core::port::{RecordKind, StoreError};
use tidegate_core::snapshot::{IntegrationKind, Stage};
use tidegate_doctor::explain::Scale;
use tidegate_doctor::inspect::backend::{self, Answered, Attempt, Backend, Outcome, PackageFacts, Purpose};
use tidegate_doctor::inspect::checklist::Known;
use tidegate_doctor::inspect::definitions::{self, ApiView};
use tidegate_doctor::inspect::domain::{self, DomainView};
use tidegate_doctor::inspect::key_set::{self, KeySetView};
use tidegate_doctor::inspect::target::{Reach, Target};
use tidegate_doctor::inspect::{certificate, facts, reflect, route_test, shown_url, statistics};
use tidegate_doctor::journal::NoJournal;
use tidegate_doctor::report::{Confidence, Finding, Probe, ProbeResult, Report, Severity};
use tidegate_gateway::BackendProbe;

use super::{COUNT, TEXT};
use crate::api::Inner;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Body, Reply, Route, Verb};
use crate::shape::{Shape, optional, required};

/// Requests of one run, whatever an API has.
const MAX_REQUESTS: usize = 60;

/// Means nothing to anybody.
const PROBE_COOKIE: &str = "tidegate-probe=1";

/// Different addresses of one run that are asked.
const MAX_BACKENDS: usize = 20;

/// One request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One run; what comes later is skipped.
const MAX_RUN: Duration = Duration::from_secs(60);

/// Domain names of one run that are resolved.
const MAX_DOMAINS: usize = 10;

/// How long an overload is shown after it was found, in milliseconds.
const OVERLOAD_SHOWN: u64 = 10 * 60 * 1000;

/// Microseconds of a millisecond.
const MILLI: u64 = 1000;

/// Control entries in which the last run of the clean-up is looked for.
const MAX_CONTROLS: usize = 5000;

/// Kinds of records that the clean-up removes.
const CLEANED: [RecordKind; 5] =
    [RecordKind::Token, RecordKind::SpentToken, RecordKind::Ban, RecordKind::Attempt, RecordKind::Audit];

/// Resolving one name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

const REPORT: Shape = Shape::Object;

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        Verb::Post,
        "/api/apis/{api}/doctor",
        "inspectApi",
        Access::Look(Role::Operate),
        "Looks at an API and asks its backends by marked requests; changes nothing.",
        Shape::Record(&[
            required("report", REPORT, "Probes and findings, in the schema of `tidegate doctor --json`."),
            required("region", TEXT, "Region of the installation."),
            required("stages", Shape::List { of: &TEXT, max: usize::MAX }, "Names of the stages."),
            required("known", Shape::Object, "What the checklist is made of."),
            required(
                "environment",
                Shape::List { of: &TEXT, max: usize::MAX },
                "What backends need in their environment.",
            ),
        ]),
        |inner, call| Box::pin(inspect_api(inner, call)),
    )
    .body(Body::Json(&[optional("no_post", Shape::Boolean, "Only connect to backends, send nothing.")]))
    .refuses(&[404]),
    Route::new(
        Verb::Post,
        "/api/apis/{api}/route-test",
        "testRoute",
        Access::Look(Role::Read),
        "Says where a message goes and why: by the deployment of each stage, and by the definition of now.",
        Shape::Record(&[
            required("deployed", Shape::List { of: &Shape::Object, max: usize::MAX }, "By stage."),
            required("defined", Shape::Nullable(&Shape::Object), "Where it would go after a deployment."),
            required("is_behind", Shape::Boolean, "The definition differs from a deployment."),
        ]),
        |inner, call| Box::pin(async { test_route(inner, call) }),
    )
    .body(Body::Json(&[
        required("message", TEXT, "The message."),
        optional("stage", TEXT, "Only this stage."),
    ]))
    .refuses(&[404]),
    Route::new(
        Verb::Post,
        "/api/domains/{domain}/doctor",
        "inspectDomain",
        Access::Look(Role::Read),
        "Looks at a domain name: mappings, region, certificate, addresses.",
        Shape::Record(&[required(
            "report",
            REPORT,
            "Probes and findings, in the schema of `tidegate doctor --json`.",
        )]),
        |inner, call| Box::pin(inspect_domain(inner, call)),
    ),
    Route::new(
        Verb::Get,
        "/api/doctor",
        "watched",
        Access::Look(Role::Read),
        "What the repeated checks found last.",
        Shape::Record(&[
            required("at", Shape::Nullable(&Shape::Time), "When they ran; `null`: not yet."),
            required("problems", COUNT, "Problems."),
            required("findings", Shape::List { of: &Shape::Object, max: usize::MAX }, "All of them."),
        ]),
        |inner, _| Box::pin(async { Ok(Reply::json(inner.watched.lock().shown())) }),
    ),
];

fn find_api(inner: &Inner, api_id: &str) -> Result<(Arc<LiveApi>, ApiDefinition), Refusal> {
    let live = inner.control.live().apis.into_iter().find(|api| api.api.api_id == api_id);
    match (live, inner.control.definition(api_id)) {
        (Some(live), Some(definition)) => Ok((live, definition)),
        _ => Err(Refusal::not_found(Diagnosis::API_UNKNOWN, format!("There is no API {api_id}"))),
    }
}

/// A report that begins now.
fn begin(target: &str) -> (Report, Instant) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
    (Report::new("doctor", target, now), Instant::now())
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

async fn inspect_api(inner: &Inner, call: &Call) -> Answer {
    // Whoever asks many times waits: backends get the requests of one run at a time.
    let _turn = inner.inspecting.acquire().await;
    let api_id = call.path("api");
    let (live, definition) = find_api(inner, api_id)?;
    let no_post = call.json()["no_post"].as_bool().unwrap_or(false);
    let (mut report, started) = begin(&format!("API {api_id} ({})", definition.api.name));
    let settings = inner.gateway.settings_of(api_id);
    let all = inner.control.live();
    let (control, configured) = (inner.control.settings(), inner.configured());
    let surroundings = &configured.surroundings;
    let view = ApiView {
        current: &definition,
        stages: &live.stages,
        domains: &all.domains,
        settings: &settings,
        region: &control.region,
    };
    let (probes, findings) = definitions::check(&view);
    report.probes = probes;
    report.findings = findings;
    let mut run = Run { inner, no_post, started, n_requests: 0, package: None, is_https_or_local: None };
    run.backends(&live, &mut report).await;
    key_sets(inner, &live, &mut report).await;
    let domains = own_domains(inner, api_id, &mut report).await;
    statistics(inner, call.now * MILLI, api_id, &mut report).await;
    let is_deployed = !live.stages.is_empty() && live.stages.iter().all(|stage| stage.deployment.is_some());
    let has = |id: Diagnosis| report.findings.iter().any(|finding| finding.id == id.as_str());
    let is_packaged = definitions::is_package(&definition);
    let has_own_tokens =
        live.stages.iter().any(|stage| stage.policy.as_ref().is_some_and(|policy| wants_tokens(policy)));
    let known = Known {
        package: run.package.filter(|_| is_packaged),
        is_https_or_local: run.is_https_or_local,
        is_deployed,
        is_current: !has(Diagnosis::STAGE_REDEPLOY_NEEDED),
        is_signature_accepted: None,
        is_permitted: None,
        domains,
        has_tls: surroundings.has_tls,
        own_tokens: has_own_tokens
            .then(|| !has(Diagnosis::AUTH_NOT_CONFIGURED) && !has(Diagnosis::CONFIG_INVALID_VALUE)),
    };
    report.finish(millis(started));
    let environment = tidegate_doctor::inspect::management::environment(
        &control.region,
        Some(api_id),
        surroundings.ca.as_deref().unwrap_or("(a CA that signs this gateway's certificate)"),
        surroundings.proxy.as_deref(),
        &surroundings.admin,
    );
    let stages: Vec<&str> = live.stages.iter().map(|stage| stage.stage.stage_name.as_str()).collect();
    let region = &control.region;
    Ok(Reply::json(json!({
        "report": report,
        "known": known,
        "environment": environment,
        "stages": stages,
        "region": region,
    })))
}

fn wants_tokens(policy: &Policy) -> bool {
    policy.admission.checks.contains(&tidegate_core::policy::IdentityCheck::Token)
}

/// One look at the backends of an API.
struct Run<'a> {
    inner: &'a Inner,
    no_post: bool,
    started: Instant,
    n_requests: usize,
    package: Option<PackageFacts>,
    is_https_or_local: Option<bool>,
}

impl Run<'_> {
    /// Every distinct address of every stage.
    async fn backends(&mut self, live: &LiveApi, report: &mut Report) {
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

/// Key sets of the stages' policies.
async fn key_sets(inner: &Inner, live: &LiveApi, report: &mut Report) {
    let mut seen: Vec<(&str, &[String])> = Vec::new();
    let policies = live.stages.iter().filter_map(|stage| Some((stage, stage.policy.as_ref()?.jwt.as_ref()?)));
    for (stage, jwt) in policies {
        for (position, key) in jwt.keys.iter().enumerate() {
            let Some(url) = key.jwks_url.as_deref() else { continue };
            if seen.len() >= MAX_BACKENDS || seen.contains(&(url, key.algorithms.as_slice())) {
                continue;
            }
            seen.push((url, &key.algorithms));
            let fetched = tokio::time::timeout(TIMEOUT, inner.gateway.probe_key_set(url)).await;
            let fetched = fetched.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            let fetched = fetched.as_ref();
            let (probe, mut findings) = key_set::check(&KeySetView {
                position,
                target: &shown_url(url),
                is_file: false,
                algorithms: &key.algorithms,
                allow_weak_secret: jwt.allow_weak_secret,
                leeway: jwt.leeway,
                set: fetched.map(|fetched| &fetched.jwks).map_err(String::as_str),
                date: fetched.ok().and_then(|fetched| Some((fetched.date.as_deref()?, fetched.received_at))),
            });
            for finding in &mut findings {
                finding.api_id = Some(live.api.api_id.clone());
                finding.stage = Some(stage.stage.stage_name.clone());
            }
            report.probes.push(probe);
            report.findings.append(&mut findings);
        }
    }
}

/// Domain names that lead to an API, and whether their addresses are this installation's.
async fn own_domains(inner: &Inner, api_id: &str, report: &mut Report) -> Vec<(String, Option<bool>)> {
    let live = inner.control.live();
    let names =
        live.domains.iter().filter(|(_, mappings)| mappings.iter().any(|mapping| mapping.api_id == api_id));
    let mut domains = Vec::new();
    for (name, _) in names.take(MAX_DOMAINS) {
        let name = &name.domain_name;
        if name.starts_with("*.") {
            domains.push((name.clone(), None));
            continue;
        }
        let addresses = resolve(name).await;
        let own = &inner.configured().surroundings.addresses;
        let finding = domain::check_addresses(name, &addresses, own, None);
        let is_ours = match &finding {
            None => Some(true),
            Some(finding) if finding.id == Diagnosis::DNS_NO_RECORD.as_str() => Some(false),
            Some(_) => None,
        };
        let found: Vec<Finding> = finding.into_iter().collect();
        report.probes.push(Probe {
            name: "dns".to_owned(),
            result: definitions::worst(&found),
            measurements: facts([("host", name.as_str().into())]),
        });
        report.findings.extend(found);
        domains.push((name.clone(), is_ours));
    }
    domains
}

/// What the journal and the records say of the last day.
async fn statistics(inner: &Inner, now: u64, api_id: &str, report: &mut Report) {
    let skipped = |name: &str, error: &StoreError| Probe {
        name: name.to_owned(),
        result: ProbeResult::Skipped,
        measurements: facts([("reason", super::journal::refused(error).message.into())]),
    };
    let scale = Scale { from: now, factor: inner.gateway.time_scale() };
    let query = scale.query(EntryQuery {
        since: Some(now.saturating_sub(statistics::LOOK_BACK)),
        api_id: Some(api_id.to_owned()),
        limit: statistics::MAX_ENTRIES,
        ..EntryQuery::default()
    });
    let read = async { Ok((inner.journal.query(query).await?, inner.journal.state().await?)) };
    match read.await {
        // An operator who keeps no journal has said so.
        Err(error) if NoJournal::is_off(&error) => {
            let finding = Finding::new(Diagnosis::LOG_DISABLED, Severity::Info, Confidence::Proven);
            let text = "The journal is off: what became of messages, posts and connections is not known.";
            report.findings.push(finding.seen(text, facts([("setting", "journal".into())])));
        }
        Err(error) => report.probes.push(skipped("statistics", &error)),
        Ok((entries, state)) => {
            // Only what rules look at is stretched: how far the journal reaches is a matter of this world.
            report.notes.extend(scale.note());
            let entries = scale.entries(entries);
            let covered_since = state.oldest.map(|oldest| scale.stretched(oldest));
            let view = statistics::JournalView { api_id, entries: &entries, now, covered_since };
            let (probes, findings) = statistics::of_journal(&view);
            report.probes.extend(probes);
            report.findings.extend(findings);
            let (probe, findings) = statistics::of_reach(&state, &journal_limits(inner), now);
            report.probes.push(probe);
            report.findings.extend(findings);
        }
    }
    match stored(inner, now / MILLI).await {
        Err(error) => report.probes.push(skipped("records", &error)),
        Ok(stored) => {
            let up_for = u64::try_from(inner.started_at.elapsed().as_micros()).unwrap_or(u64::MAX);
            let last_run = last_clean_up(inner, now).await;
            let (probe, findings) = statistics::of_records(&stored, last_run, up_for, now);
            report.probes.push(probe);
            report.findings.extend(findings);
        }
    }
}

/// What the clean-up has to look after. `now`: milliseconds since 1970.
async fn stored(inner: &Inner, now: u64) -> Result<Vec<statistics::Stored>, StoreError> {
    let mut all = Vec::new();
    for kind in CLEANED {
        let oldest = inner.records.oldest(kind).await?.map(|record| record.created_at);
        let due = now.saturating_sub(statistics::OVERDUE);
        let n_overdue = inner.records.expire(kind, due, 0, true).await?;
        all.push(statistics::Stored { kind, oldest, n_overdue });
    }
    Ok(all)
}

/// When the clean-up last said that it runs; microseconds since 1970.
async fn last_clean_up(inner: &Inner, now: u64) -> Option<u64> {
    let query = EntryQuery {
        since: Some(now.saturating_sub(statistics::LOOK_BACK)),
        kinds: vec![Kind::Control],
        limit: MAX_CONTROLS,
        ..EntryQuery::default()
    };
    let controls = inner.journal.query(query).await.unwrap_or_default();
    controls.iter().rev().find(|entry| entry.text("what") == Some("clean-up")).map(|entry| entry.ts)
}

/// The journal's limits, as they are set.
fn journal_limits(inner: &Inner) -> statistics::JournalLimits {
    let configured = inner.configured();
    let number = |name: &str| {
        let value = &configured.settings[format!("journal.{name}")]["value"];
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    statistics::JournalLimits {
        days: number("retention_days"),
        bytes: number("max_bytes"),
        entries: number("max_entries"),
    }
}

async fn resolve(host: &str) -> Vec<IpAddr> {
    let lookup = tokio::net::lookup_host((host, 443));
    match tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await {
        Ok(Ok(addresses)) => addresses.map(|address| address.ip()).take(16).collect(),
        _ => Vec::new(),
    }
}

async fn inspect_domain(inner: &Inner, call: &Call) -> Answer {
    let name = call.path("domain");
    let (mut report, started) = begin(name);
    let live = inner.control.live();
    let (control, configured) = (inner.control.settings(), inner.configured());
    let surroundings = &configured.surroundings;
    let names: Vec<String> =
        surroundings.certificates.iter().flat_map(|certificate| certificate.names.clone()).collect();
    let view = DomainView {
        name,
        domains: &live.domains,
        apis: &live.apis,
        region: &control.region,
        certificate_names: surroundings.has_own_tls.then_some(names.as_slice()),
    };
    let findings = domain::check(&view);
    let mut add = |name: &str, findings: Vec<Finding>, measurements: Map<String, Value>| {
        report.probes.push(Probe {
            name: name.to_owned(),
            result: definitions::worst(&findings),
            measurements,
        });
        report.findings.extend(findings);
    };
    add("definition", findings, Map::new());
    let now = jiff::Timestamp::now().as_second();
    let dated = surroundings.certificates.iter().flat_map(|known| certificate::check(known, None, now));
    add("certificate", dated.collect(), facts([("certificateNames", json!(names))]));
    let addresses = resolve(name).await;
    let shown: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let found = domain::check_addresses(name, &addresses, &surroundings.addresses, None);
    add("dns", found.into_iter().collect(), facts([("addresses", json!(shown))]));
    report.finish(millis(started));
    Ok(Reply::json(json!({ "report": report })))
}

fn test_route(inner: &Inner, call: &Call) -> Answer {
    let (live, definition) = find_api(inner, call.path("api"))?;
    let message = call.json()["message"].as_str().unwrap_or_default();
    let wanted = call.json()["stage"].as_str();
    if let Some(stage) = wanted {
        crate::call::find_stage(inner, call.path("api"), stage)?;
    }
    let mut deployed = Vec::new();
    let mut is_behind = false;
    let stages =
        live.stages.iter().filter(|stage| wanted.is_none_or(|wanted| stage.stage.stage_name == wanted));
    for stage in stages.clone() {
        let Some(content) = &stage.deployment else { continue };
        is_behind |= tidegate_doctor::inspect::differences::between(content, &definition).1 > 0;
        let version = format!("stage {}", stage.stage.stage_name);
        deployed.extend(route_test::test(&version, content, stage.policy.as_ref(), message));
    }
    let policy = stages.clone().find_map(|stage| stage.policy.as_ref());
    let defined = route_test::test("after a deployment", &definition, policy, message);
    Ok(Reply::json(
        json!({ "deployed": deployed, "defined": defined, "is_behind": is_behind || deployed.is_empty() }),
    ))
}

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
