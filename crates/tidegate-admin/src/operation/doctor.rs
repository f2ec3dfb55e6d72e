//! `doctor` from inside: an API with its backends, a domain name, the way of a message, and what the watch found last.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tidegate_auth::Role;
use tidegate_core::definition::{ApiDefinition, LiveApi};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::policy::Policy;
use tidegate_doctor::inspect::checklist::Known;
use tidegate_doctor::inspect::definitions::ApiView;
use tidegate_doctor::inspect::domain::DomainView;
use tidegate_doctor::inspect::key_set::KeySetView;
use tidegate_doctor::inspect::{certificate, definitions, domain, facts, key_set, route_test, shown_url};
use tidegate_doctor::report::{Finding, Probe, Report};

use self::backends::Run;
use self::history::statistics;
use crate::api::Inner;
use crate::call::Call;
use crate::operation::{COUNT, TEXT};
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Body, Reply, Route, Verb};
use crate::shape::{Shape, optional, required};

mod backends;
mod history;
mod watch;

pub(crate) use self::watch::{Watched, watch};

/// Different addresses of one run that are asked.
const MAX_BACKENDS: usize = 20;

/// One request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Domain names of one run that are resolved.
const MAX_DOMAINS: usize = 10;

/// Microseconds of a millisecond.
const MILLI: u64 = 1000;

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
